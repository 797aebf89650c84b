//! Why a workload could not be done.

use alloc::string::String;
use core::fmt;

/// Why a workload could not be done, as text: it only ever crosses a pipe to be
/// shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure(String);

impl Failure {
    /// A failure that reads as `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// What turns an error into a failure that says what was being done.
    pub fn of<E: fmt::Display>(action: &str) -> impl FnOnce(E) -> Self {
        move |error| Self(alloc::format!("{action}: {error}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for Failure {}

impl embedded_io::Error for Failure {
    /// The text says what it was.
    fn kind(&self) -> embedded_io::ErrorKind {
        embedded_io::ErrorKind::Other
    }
}

/// A stream that ended in the middle of something.
pub(crate) fn ended() -> Failure {
    Failure::new("the connection ended early")
}
