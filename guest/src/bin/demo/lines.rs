//! A conversation in lines.

use alloc::format;
use alloc::string::String;
use arca_guest::net::{Shutdown, TcpStream};
use core::fmt;

/// Most bytes of a line.
const MAX_LINE: usize = 1024;

/// A connection on which lines are said and heard.
pub(crate) struct Lines {
    stream: TcpStream,
    /// What was read beyond the last line.
    ahead: String,
}

impl Lines {
    pub(crate) fn new(stream: TcpStream) -> Lines {
        Lines {
            stream,
            ahead: String::new(),
        }
    }

    /// Sends a line; gives its length with its end.
    pub(crate) fn say(&mut self, line: fmt::Arguments<'_>) -> Result<usize, String> {
        let line = format!("{line}\n");
        match self.stream.write_all(line.as_bytes()) {
            Ok(()) => Ok(line.len()),
            Err(error) => Err(format!("send {line:?}: {error}")),
        }
    }

    /// Receives the next line, without its end.
    pub(crate) fn hear(&mut self) -> Result<String, String> {
        loop {
            if let Some(at) = self.ahead.find('\n') {
                let rest = self.ahead.split_off(at + 1);
                let mut line = core::mem::replace(&mut self.ahead, rest);
                line.truncate(at);
                return Ok(line);
            }
            if self.ahead.len() > MAX_LINE {
                return Err(format!("a line is longer than {MAX_LINE} bytes"));
            }
            if self.read()? == 0 {
                return Err(format!(
                    "the stream ended where a line was due, after {:?}",
                    self.ahead
                ));
            }
        }
    }

    fn read(&mut self) -> Result<usize, String> {
        let mut buffer = [0; 256];
        let count = self
            .stream
            .read(&mut buffer)
            .map_err(|error| format!("receive: {error}"))?;
        self.ahead
            .push_str(&String::from_utf8_lossy(&buffer[..count]));
        Ok(count)
    }

    /// Ends this side of the stream and reads to the end of the other.
    pub(crate) fn end(&mut self) -> Result<(), String> {
        self.stream
            .shutdown(Shutdown::Write)
            .map_err(|error| format!("end the stream: {error}"))?;
        while self.read()? > 0 {
            if self.ahead.len() > MAX_LINE {
                return Err(format!("{:?} where the stream's end was due", self.ahead));
            }
        }
        Ok(())
    }
}
