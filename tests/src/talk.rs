//! A guest that reads lines from its standard input and answers with lines.

use crate::local::LocalGuest;
use arca_vmm::{ExitStatus, Input, Output, VmConfig};
use std::io::{BufRead, BufReader, PipeWriter, Write, pipe};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

/// A guest to talk to.
pub struct Talk {
    lines: PipeWriter,
    answers: Receiver<String>,
    guest: LocalGuest,
}

impl Talk {
    /// Starts `program` after `adjust` had its way with the configuration.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    #[must_use]
    pub fn start(program: &str, args: &[&str], adjust: impl FnOnce(&mut VmConfig)) -> Self {
        let (input, lines) = pipe().expect("a pipe");
        let (output, said) = pipe().expect("a pipe");
        let guest = LocalGuest::start_with(program, args, |config| {
            config.stdin = Input::Reader(Box::new(input));
            config.stdout = Output::Writer(Box::new(said));
            adjust(config);
        });
        let (answer, answers) = channel();
        // Ends with the guest, whose standard output it is.
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if answer.send(line).is_err() {
                    break;
                }
            }
        });
        Self {
            lines,
            answers,
            guest,
        }
    }

    /// The guest.
    #[must_use]
    pub fn guest(&self) -> &LocalGuest {
        &self.guest
    }

    /// Says a line.
    ///
    /// # Errors
    ///
    /// If the guest is gone.
    pub fn say(&mut self, line: &str) -> Result<(), &'static str> {
        let said = self.lines.write_all(format!("{line}\n").as_bytes());
        said.map_err(|_| "the guest is gone")
    }

    /// The next line that the guest says.
    ///
    /// # Errors
    ///
    /// If none comes for `limit`.
    pub fn hear(&mut self, limit: Duration) -> Result<String, &'static str> {
        let answer = self.answers.recv_timeout(limit);
        answer.map_err(|_| "no answer")
    }

    /// Ends the guest's input and waits for its end.
    ///
    /// # Panics
    ///
    /// If it does not come by the deadline.
    #[track_caller]
    pub fn finish(self) -> ExitStatus {
        drop(self.lines);
        self.guest.finish().0
    }
}
