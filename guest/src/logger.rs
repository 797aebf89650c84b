//! Where `log` records and standard error go: the log pipe.
//!
//! The host's logger prints a record with the level and target it was made
//! with. Text for standard error takes the same way, so that it stays in order
//! with the records around it, and comes out as it is.
//!
//! The format of a record is specified at [`arca_shared::protocol::log_record`]; messages
//! longer than a record can be are split over several.

use crate::sync::Lock;
use crate::{boot, runtime};
use alloc::string::ToString;
use alloc::vec::Vec;
use arca_shared::client::StandardWriter;
use arca_shared::protocol::log_record::{HEADER_LEN, RAW, RecordHeader};
use log::{Level, LevelFilter, Log, Metadata, Record};

static PIPE: Lock<Option<StandardWriter>> = Lock::new(None);

struct PipeLogger;

static LOGGER: PipeLogger = PipeLogger;

/// Joins the log pipe and becomes `log`'s logger, at the level that the host
/// asked for.
pub(crate) fn init() {
    let info = boot::info();
    match StandardWriter::join(runtime::reactor(), info.log) {
        Ok(pipe) => PIPE.with(|log| *log = Some(pipe)),
        Err(error) => panic!("the log pipe: {error}"),
    }
    let level = match info.log_level {
        0 => LevelFilter::Off,
        1 => LevelFilter::Error,
        2 => LevelFilter::Warn,
        3 => LevelFilter::Info,
        4 => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    };
    // It fails only if there is a logger already, and there is one init.
    if log::set_logger(&LOGGER).is_ok() {
        log::set_max_level(level);
    }
}

impl Log for PipeLogger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        // What the pipe's own code logs while a record is being written would
        // wait for itself.
        if !self.enabled(record.metadata()) || PIPE.is_held_here() {
            return;
        }
        let level = match record.level() {
            Level::Error => 1,
            Level::Warn => 2,
            Level::Info => 3,
            Level::Debug => 4,
            Level::Trace => 5,
        };
        match record.args().as_str() {
            Some(text) => write(level, record.target(), text),
            None => write(level, record.target(), &record.args().to_string()),
        }
    }

    fn flush(&self) {}
}

/// Writes text for the host's standard error.
pub(crate) fn write_raw(text: &str) {
    if !PIPE.is_held_here() {
        write(RAW, "stderr", text);
    }
}

fn write(level: u8, target: &str, message: &str) {
    let records = encode(level, target, message);
    PIPE.with(|pipe| {
        if let Some(pipe) = pipe {
            // The host takes no more records: nobody reads them.
            let _ = pipe.write_all(&records);
        }
    });
}

/// The longest start of `text`, of at most `limit` bytes, that ends between two
/// characters.
fn boundary(text: &str, limit: usize) -> usize {
    let mut at = text.len().min(limit);
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// The records for a message: one, unless it is longer than a record can be.
fn encode(level: u8, target: &str, message: &str) -> Vec<u8> {
    let target = &target[..boundary(target, u8::MAX.into())];
    let mut records = Vec::with_capacity(HEADER_LEN + target.len() + message.len());
    let mut rest = message;
    loop {
        let (part, after) = rest.split_at(boundary(rest, u16::MAX.into()));
        let header = RecordHeader {
            level,
            target_len: target.len() as u8,
            text_len: part.len() as u16,
        };
        records.extend(header.encode());
        records.extend(target.as_bytes());
        records.extend(part.as_bytes());
        rest = after;
        if rest.is_empty() {
            return records;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::encode;

    #[test]
    fn a_record_byte_by_byte() {
        assert_eq!(encode(3, "net", "up"), b"\x03\x03\x02\x00netup");
        assert_eq!(encode(0, "", ""), b"\x00\x00\x00\x00");
    }

    #[test]
    fn a_long_message_is_split_between_characters() {
        let message = "é".repeat(40_000);
        let records = encode(1, "t", &message);
        let first = usize::from(u16::from_le_bytes([records[2], records[3]]));
        assert_eq!(first, 65_534);
        let second = &records[5 + first..];
        assert_eq!(second[..2], [1, 1]);
        assert_eq!(second[5..].len(), message.len() - first);
    }
}
