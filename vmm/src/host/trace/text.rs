//! A line for each event.

use super::{TraceFilter, left_out};
use crate::host::logs::escape;
use arca_monitor::trace::{Direction, TraceEvent, TraceKind};
use arca_shared::protocol::frame::Frame;
use arca_shared::protocol::message::{Reply, Request};
use std::collections::HashMap;
use std::io::Write;
use std::time::Duration;

/// Makes lines of events.
pub struct Lines {
    filter: TraceFilter,
    /// The connections there are, and whether they are written.
    wanted: HashMap<u32, bool>,
}

impl Lines {
    pub fn new(filter: TraceFilter) -> Self {
        Self {
            filter,
            wanted: HashMap::new(),
        }
    }

    /// Appends the lines of an event.
    pub fn write(&mut self, event: &TraceEvent, payload: &[u8], out: &mut Vec<u8>) {
        let time = Duration::from_nanos(event.nanos).as_secs_f64();
        if let Some(left_out) = left_out(event) {
            let _ = writeln!(out, "{time:12.6} {left_out}");
        }
        if self.wants(&event.kind)
            && let Some(line) = line(&event.kind, payload)
        {
            let _ = writeln!(out, "{time:12.6} {line}");
        }
    }

    fn wants(&mut self, kind: &TraceKind) -> bool {
        let wanted = match kind {
            TraceKind::Frame(_) | TraceKind::End => true,
            TraceKind::Opened {
                id, local, peer, ..
            } => {
                let ports = [local, peer].into_iter().flatten();
                let wanted = self.filter.wants_ports(ports.map(|address| address.port()));
                self.wanted.insert(*id, wanted);
                wanted
            }
            TraceKind::Freed { id } => self.wanted.remove(id).unwrap_or(true),
            // One whose beginning was left out.
            other => {
                let id = other.connection().unwrap_or(0);
                self.wanted.get(&id).copied().unwrap_or(true)
            }
        };
        wanted && self.filter.wants_kind(kind)
    }
}

fn arrow(direction: Direction) -> &'static str {
    match direction {
        Direction::Up => "->",
        Direction::Down => "<-",
    }
}

fn line(kind: &TraceKind, payload: &[u8]) -> Option<String> {
    Some(match *kind {
        TraceKind::Frame(direction) => format!("control {}", frame(direction, payload)),
        TraceKind::Opened {
            id,
            listener,
            local,
            peer,
            pipe,
        } => {
            let address = |address: Option<std::net::SocketAddr>| {
                address.map_or_else(|| "unknown".to_owned(), |address| address.to_string())
            };
            let how = match listener {
                0 => "connected".to_owned(),
                listener => format!("accepted on listener {listener}"),
            };
            format!(
                "#{id} opened: {} with {}, {how}; pipe at offset {:#x}, {} B each way",
                address(local),
                address(peer),
                pipe.shm_offset,
                pipe.ring_size
            )
        }
        TraceKind::Data {
            id,
            direction,
            before,
            len,
        } => {
            let all = before.saturating_add(len as u64);
            format!("#{id} {} {len} B, {all} in all", arrow(direction))
        }
        TraceKind::HalfClosed {
            id,
            direction,
            bytes,
        } => format!("#{id} {} end, after {bytes} B", arrow(direction)),
        TraceKind::ReaderClosed { id } => format!("#{id} the guest reads no more"),
        TraceKind::Reset { id, by, errno } => {
            let who = match by {
                Direction::Up => "the guest",
                Direction::Down => "the host's side",
            };
            match errno {
                Some(errno) => format!("#{id} reset by {who}: {} ({errno})", errno.name()),
                None => format!("#{id} reset by {who}"),
            }
        }
        TraceKind::Freed { id } => format!("#{id} freed"),
        TraceKind::End => return None,
    })
}

/// A frame in one line: its number and what it says.
pub fn frame(direction: Direction, bytes: &[u8]) -> String {
    let arrow = arrow(direction);
    let Ok(Some(frame)) = Frame::decode(bytes) else {
        return format!("{arrow} a malformed frame of {} bytes", bytes.len());
    };
    let says = match direction {
        Direction::Up => Request::from_frame(&frame).map(|request| format!("{request:?}")),
        Direction::Down => Reply::from_frame(&frame).map(|reply| format!("{reply:?}")),
    };
    let says = says.unwrap_or_else(|error| format!("{error}"));
    format!("{arrow} {} {}", frame.request_id, escape(says.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: TraceKind) -> TraceEvent {
        TraceEvent {
            nanos: 1_500_000,
            left_out: 0,
            payload_len: 0,
            kind,
        }
    }

    fn opened(id: u32, port: u16) -> TraceKind {
        TraceKind::Opened {
            id,
            listener: 0,
            local: Some(([127, 0, 0, 1], 4000).into()),
            peer: Some(([127, 0, 0, 1], port).into()),
            pipe: arca_shared::pipe::PipePlace {
                shm_offset: 0x1000,
                ring_size: 4072,
            },
        }
    }

    #[test]
    fn events_of_a_connection_in_lines() {
        let mut lines = Lines::new("80".parse().expect("a filter"));
        let mut out = Vec::new();
        for (id, port) in [(7, 80), (8, 81)] {
            let (direction, bytes) = (Direction::Up, 5);
            for kind in [
                opened(id, port),
                TraceKind::Data {
                    id,
                    direction,
                    before: 2,
                    len: 3,
                },
                TraceKind::HalfClosed {
                    id,
                    direction,
                    bytes,
                },
                TraceKind::Reset {
                    id,
                    by: Direction::Down,
                    errno: Some(arca_shared::errno::Errno(104)),
                },
                TraceKind::Freed { id },
            ] {
                lines.write(&event(kind), &[], &mut out);
            }
        }
        let text = String::from_utf8(out).expect("text");
        let wanted = "    0.001500 #7 opened: 127.0.0.1:4000 with 127.0.0.1:80, connected; pipe at \
                      offset 0x1000, 4072 B each way\n    0.001500 #7 -> 3 B, 5 in all\n    \
                      0.001500 #7 -> end, after 5 B\n    0.001500 #7 reset by the host's side: ECONNRESET (";
        assert!(text.starts_with(wanted), "{text}");
        assert!(text.ends_with("    0.001500 #7 freed\n"), "{text}");
        assert!(!text.contains("#8"), "{text}");
    }

    #[test]
    fn frames_are_decoded_whatever_they_are() {
        let request = Request::Connect(arca_shared::protocol::message::Endpoint {
            ip: [127, 0, 0, 1].into(),
            port: 80,
        });
        let mut bytes = [0; 64];
        let len = request.to_frame(9).encode(&mut bytes).expect("room");
        let said = frame(Direction::Up, &bytes[..len]);
        assert!(said.starts_with("-> 9 Connect("), "{said}");
        for garbage in [
            &[][..],
            &[200, 0, 0, 1, 0, 0, 0],
            &[1, 255, 255, 0, 0, 0, 0],
        ] {
            for direction in [Direction::Up, Direction::Down] {
                assert!(!frame(direction, garbage).is_empty());
            }
        }
    }
}
