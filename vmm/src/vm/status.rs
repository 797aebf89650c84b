//! How a guest ended.

use crate::crash::CrashReport;
use std::fmt;

/// Exit code of a process whose guest ended with 0, and not all that it had
/// written could be delivered: EX_IOERR.
pub const CODE_OUTPUT_LOST: u8 = 74;
/// Exit code of a process whose guest crashed.
pub const CODE_CRASHED: u8 = 101;
/// Exit code of a process whose guest broke the protocol.
pub const CODE_SESSION_ENDED: u8 = 102;
/// Exit code of a process whose guest ran out of its time.
pub const CODE_TIMED_OUT: u8 = 124;
/// Exit code of a process whose guest could not start, or that the host failed.
pub const CODE_NOT_STARTED: u8 = 125;
/// What a signal's number is added to for the exit code of an interrupted
/// process.
pub const CODE_SIGNAL_BASE: u8 = 128;

/// How a guest ended. [`fmt::Display`] says it in one line, or for a crash in a
/// report of many.
#[derive(Debug)]
pub enum ExitStatus {
    /// The program ended with this exit code.
    Exited(u8),
    /// The program ended with 0, but not all that it had written could be
    /// delivered; the log says what was not.
    OutputLost,
    /// It crashed.
    Crashed(Box<CrashReport>),
    /// It broke the protocol: the rule that it broke.
    SessionEnded(String),
    /// It ran out of its time.
    TimedOut,
    /// It was stopped because of this signal.
    Interrupted(i32),
    /// The host could not go on running it.
    HostFailed(String),
}

impl ExitStatus {
    /// The exit code that a process should end with.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::Exited(code) => *code,
            Self::OutputLost => CODE_OUTPUT_LOST,
            Self::Crashed(_) => CODE_CRASHED,
            Self::SessionEnded(_) => CODE_SESSION_ENDED,
            Self::TimedOut => CODE_TIMED_OUT,
            Self::Interrupted(signal) => {
                CODE_SIGNAL_BASE.saturating_add(u8::try_from(*signal).unwrap_or(u8::MAX))
            }
            Self::HostFailed(_) => CODE_NOT_STARTED,
        }
    }

    /// Whether the program ended by itself with exit code 0.
    #[must_use]
    pub fn success(&self) -> bool {
        matches!(self, Self::Exited(0))
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "the guest exited with code {code}"),
            Self::OutputLost => write!(
                f,
                "the guest ended with code 0, but not all that it wrote could be delivered"
            ),
            Self::Crashed(report) => report.fmt(f),
            Self::SessionEnded(rule) => {
                write!(
                    f,
                    "the guest's session was ended for breaking a rule: {rule}"
                )
            }
            Self::TimedOut => write!(f, "the guest ran out of its time and was stopped"),
            Self::Interrupted(signal) => write!(f, "the guest was stopped by signal {signal}"),
            Self::HostFailed(reason) => write!(f, "the host could not run the guest: {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_command_line() {
        assert_eq!(ExitStatus::Exited(7).code(), 7);
        assert_eq!(ExitStatus::OutputLost.code(), 74);
        assert_eq!(ExitStatus::SessionEnded(String::new()).code(), 102);
        assert_eq!(ExitStatus::TimedOut.code(), 124);
        assert_eq!(ExitStatus::HostFailed(String::new()).code(), 125);
        assert_eq!(ExitStatus::Interrupted(2).code(), 130);
        assert_eq!(ExitStatus::Interrupted(15).code(), 143);
        assert_eq!(ExitStatus::Interrupted(-1).code(), 255);
    }
}
