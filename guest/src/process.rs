//! How a program ends.

use crate::{eprintln, registers, stdio};
use core::convert::Infallible;
use core::fmt::Display;

/// The exit code of a program, which becomes that of the host's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitCode(pub u8);

impl ExitCode {
    /// All went well.
    pub const SUCCESS: ExitCode = ExitCode(0);
    /// Something went wrong.
    pub const FAILURE: ExitCode = ExitCode(1);
}

/// What a program's `main` may return.
pub trait Termination {
    /// The exit code for this value; an error is reported on standard error.
    fn report(self) -> ExitCode;
}

impl Termination for () {
    fn report(self) -> ExitCode {
        ExitCode::SUCCESS
    }
}

impl Termination for ExitCode {
    fn report(self) -> ExitCode {
        self
    }
}

impl Termination for Infallible {
    fn report(self) -> ExitCode {
        match self {}
    }
}

impl<T: Termination, E: Display> Termination for Result<T, E> {
    fn report(self) -> ExitCode {
        match self {
            Ok(value) => value.report(),
            Err(error) => {
                eprintln!("error: {error}");
                ExitCode::FAILURE
            }
        }
    }
}

/// Ends the program with `code`, whichever vCPU calls this. What was printed
/// before reaches the host; nothing is dropped, and no other task is waited for.
pub fn exit(code: ExitCode) -> ! {
    stdio::flush_at_exit();
    registers::exit(code.0)
}
