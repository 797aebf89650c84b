//! Standard input of a guest in the machine: what its program asks for is read on
//! the host, then and no more, so that whoever reads next finds the rest.
//!
//! A request is a length of 4 bytes; its answer a number of 4 bytes, and that many
//! bytes, or none and a negative number: an errno.

use super::control::Port;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};

/// As much as is read at once.
const MOST: usize = 64 << 10;

/// The machine's end.
pub struct MachineStdin<P = File> {
    port: P,
    state: State,
}

/// How far a request has come. A signal may interrupt it anywhere.
#[derive(Clone, Copy)]
enum State {
    /// Nothing was asked for.
    Idle,
    /// So many bytes of the answer's number have come.
    Asked([u8; 4], usize),
    /// So many bytes of the answer are still to come.
    Answered(usize),
}

impl MachineStdin {
    /// Opens the port.
    ///
    /// # Errors
    ///
    /// If it is not there.
    pub fn open() -> io::Result<Self> {
        let path = Port::Stdin.device();
        let port = File::options().read(true).write(true).open(path)?;
        Ok(Self::new(port))
    }
}

impl<P> MachineStdin<P> {
    fn new(port: P) -> Self {
        let state = State::Idle;
        Self { port, state }
    }
}

impl<P: Read + Write> Read for MachineStdin<P> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.state {
                State::Idle => {
                    let wanted = buffer.len().min(MOST) as u32;
                    self.port.write_all(&wanted.to_le_bytes())?;
                    self.state = State::Asked([0; 4], 0);
                }
                State::Asked(number, 4) => {
                    let number = i32::from_le_bytes(number);
                    self.state = match number {
                        1.. => State::Answered(number.unsigned_abs() as usize),
                        _ => State::Idle,
                    };
                    match number {
                        0 => return Ok(0),
                        1.. => {}
                        _ => return Err(io::Error::from_raw_os_error(-number)),
                    }
                }
                State::Asked(mut number, len) => {
                    let more = some(self.port.read(&mut number[len..])?)?;
                    self.state = State::Asked(number, len + more);
                }
                State::Answered(len) => {
                    let part = len.min(buffer.len());
                    let more = some(self.port.read(&mut buffer[..part])?)?;
                    self.state = match len - more {
                        0 => State::Idle,
                        left => State::Answered(left),
                    };
                    return Ok(more);
                }
            }
        }
    }
}

/// A port has no end while the host is there.
fn some(len: usize) -> io::Result<usize> {
    match len {
        0 => Err(ErrorKind::UnexpectedEof.into()),
        len => Ok(len),
    }
}

/// Answers the machine's requests from `source`, until the machine is gone.
///
/// # Errors
///
/// Those of the port.
pub fn serve(mut port: impl Read + Write, mut source: impl Read) -> io::Result<()> {
    let mut buffer = vec![0; MOST];
    loop {
        let mut wanted = [0; 4];
        port.read_exact(&mut wanted)?;
        let wanted = (u32::from_le_bytes(wanted) as usize).min(MOST);
        let result = loop {
            match source.read(&mut buffer[..wanted]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        let (number, bytes) = match result {
            Ok(len) => (len as i32, &buffer[..len]),
            Err(error) => (-error.raw_os_error().unwrap_or(nix::libc::EIO), &[][..]),
        };
        port.write_all(&[&number.to_le_bytes(), bytes].concat())?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;
    use std::thread;

    /// Reads with interruptions, a byte or two at a time.
    struct Choppy(UnixStream, u32);

    impl Read for Choppy {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 += 1;
            match self.1 % 3 {
                0 => Err(ErrorKind::Interrupted.into()),
                most => {
                    let most = buffer.len().min(most as usize);
                    self.0.read(&mut buffer[..most])
                }
            }
        }
    }

    impl Write for Choppy {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Both ends, the host's with that source.
    fn pair(source: impl Read + Send + 'static) -> MachineStdin<Choppy> {
        let (host, machine) = UnixStream::pair().expect("a pair");
        thread::spawn(move || serve(host, source));
        MachineStdin::new(Choppy(machine, 0))
    }

    #[test]
    fn no_more_is_read_than_was_asked_for() {
        let (reader, mut writer) = io::pipe().expect("a pipe");
        writer.write_all(b"one two three").expect("room");
        let mut rest = reader.try_clone().expect("a descriptor");
        let mut stdin = pair(reader);
        let mut got = [0; 7];
        stdin.read_exact(&mut got).expect("input");
        assert_eq!(&got, b"one two");
        drop(writer);
        let mut left = String::new();
        rest.read_to_string(&mut left).expect("text");
        assert_eq!(left, " three");
        // The end is seen whenever it is looked for.
        assert_eq!(stdin.read_to_end(&mut Vec::new()).expect("the end"), 0);
        assert_eq!(stdin.read_to_end(&mut Vec::new()).expect("the end"), 0);
    }

    #[test]
    fn an_input_that_cannot_be_read_is_its_error() {
        let folder = File::open("/").expect("a folder");
        let mut stdin = pair(folder);
        let error = loop {
            match stdin.read(&mut [0; 10]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => break result.expect_err("a folder"),
            }
        };
        assert_eq!(error.raw_os_error(), Some(nix::libc::EISDIR));
    }
}
