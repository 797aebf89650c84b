//! Log records from the guest, handed to the host's logger.
//!
//! The log pipe carries records one after the other ([`arca_shared::protocol::log_record`]).
//! Whatever a guest writes there is a sequence of such records: the lengths are
//! small by their types, and a record's text is made harmless before it goes
//! anywhere. Text for standard error goes there as it is, as standard output
//! does.

use arca_monitor::StandardPipe;
use arca_shared::protocol::log_record::{HEADER_LEN, RAW, RecordHeader};
use log::{Level, Record};
use std::io;

/// Bytes that are read at once.
const CHUNK: usize = 16 << 10;

/// Reads records until the guest has ended and all are read, or `given_up` says
/// that the rest is not worth a wait. What was not handed on stays in the pipe.
pub fn forward(
    mut pipe: StandardPipe,
    mut emit: impl FnMut(Entry<'_>),
    given_up: impl Fn() -> bool,
) -> io::Result<()> {
    let mut parser = Parser::default();
    let mut chunk = vec![0; CHUNK];
    loop {
        let len = pipe.peek(&mut chunk)?;
        if len == 0 || given_up() {
            return Ok(());
        }
        parser.push(&chunk[..len], &mut emit);
        pipe.consume(len);
    }
}

/// What one record is.
#[derive(Debug)]
pub enum Entry<'a> {
    /// Text for standard error.
    Raw(&'a [u8]),
    /// A log record.
    Log {
        /// How important it is.
        level: Level,
        /// Where in the guest it comes from.
        target: String,
        /// What it says.
        message: String,
    },
}

/// Hands a record to the host's logger.
pub fn to_logger(level: Level, target: &str, message: &str) {
    if level <= log::max_level() {
        log::logger().log(
            &Record::builder()
                .level(level)
                .target(target)
                .args(format_args!("{message}"))
                .build(),
        );
    }
}

/// Cuts a stream of bytes into records.
#[derive(Default)]
struct Parser {
    bytes: Vec<u8>,
}

impl Parser {
    fn push(&mut self, bytes: &[u8], emit: &mut impl FnMut(Entry<'_>)) {
        self.bytes.extend(bytes);
        let mut rest = &self.bytes[..];
        while let Some((header, body)) = rest.split_first_chunk::<HEADER_LEN>() {
            let header = RecordHeader::decode(*header);
            let Some((record, after)) = body.split_at_checked(header.body_len()) else {
                break;
            };
            let (target, message) = record.split_at(usize::from(header.target_len));
            emit(if header.level == RAW {
                Entry::Raw(message)
            } else {
                Entry::Log {
                    level: level(header.level),
                    target: escape(target),
                    message: escape(message),
                }
            });
            rest = after;
        }
        let parsed = self.bytes.len() - rest.len();
        self.bytes.drain(..parsed);
    }
}

/// The level of that number; one that there is not is taken for the nearest.
fn level(number: u8) -> Level {
    match number {
        1 => Level::Error,
        2 => Level::Warn,
        3 => Level::Info,
        4 => Level::Debug,
        _ => Level::Trace,
    }
}

/// Text that does nothing to a terminal: what is not UTF-8 is replaced, control
/// characters other than tabs are escaped.
pub fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for c in String::from_utf8_lossy(bytes).chars() {
        if c.is_control() && c != '\t' {
            text.extend(c.escape_default());
        } else {
            text.push(c);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(level: u8, target: &str, message: &str) -> Vec<u8> {
        let mut bytes = vec![level, target.len() as u8];
        bytes.extend((message.len() as u16).to_le_bytes());
        bytes.extend(target.bytes());
        bytes.extend(message.bytes());
        bytes
    }

    fn parse(chunks: &[&[u8]]) -> Vec<(Level, String, String)> {
        let mut parser = Parser::default();
        let mut records = Vec::new();
        for chunk in chunks {
            parser.push(chunk, &mut |entry| match entry {
                Entry::Log {
                    level,
                    target,
                    message,
                } => records.push((level, target, message)),
                Entry::Raw(text) => {
                    records.push((Level::Error, "raw".into(), text.escape_ascii().to_string()));
                }
            });
        }
        records
    }

    #[test]
    fn records_are_parsed_however_they_are_cut() {
        let mut bytes = record(3, "app", "hello");
        bytes.extend(record(1, "", "a\x1b[2Jb\n"));
        bytes.extend(record(9, "t", ""));
        bytes.extend(record(0, "", "\x1b!"));
        let whole = parse(&[&bytes]);
        assert_eq!(whole.len(), 4);
        assert_eq!(whole[3].2, "\\x1b!");
        assert_eq!(whole[0], (Level::Info, "app".into(), "hello".into()));
        assert_eq!(whole[1].2, "a\\u{1b}[2Jb\\n");
        assert_eq!(whole[2].0, Level::Trace);
        let bytewise: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(parse(&bytewise), whole);
    }

    proptest! {
        #[test]
        fn any_bytes_are_records(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            for (_, target, message) in parse(&[&bytes]) {
                prop_assert!(!target.chars().chain(message.chars()).any(|c| c.is_control() && c != '\t'));
            }
        }
    }
}
