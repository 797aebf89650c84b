//! The ways in which a connection ends that concern both directions.

use super::{Connection, Downlink, SEND_MAX, Uplink};
use crate::relay::Relay;
use crate::sys;
use crate::trace::{Direction, TraceKind};
use arca_shared::errno::Errno;
use arca_shared::ring::InvalidCursor;

/// SO_LINGER of zero seconds, in the encoding of the wire.
const RESET: u64 = 1;

/// How Arca has closed both of its ends, as soon as the monitor has seen that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaving {
    /// It has not.
    No,
    /// Each direction was shut down, or a draft peer has set both flags, which has
    /// no more to say: what it wrote is delivered, whatever it did not read.
    ShutDown,
    /// The connection was closed, or its program has ended: bytes that nobody has
    /// read, or that still come, make it a reset.
    Closed,
}

impl Connection {
    /// Whether Arca closed an end with a request for an abortive close.
    pub(super) fn wants_abort(&mut self) -> bool {
        // Both flags are read, each before the errno that it publishes.
        let closed = self.from_arca.is_writer_closed() | self.to_arca.is_reader_closed();
        closed && self.socket.is_some() && self.from_arca.errno() != 0
    }

    /// Whether Arca has closed both of its ends while the socket is open.
    pub(super) fn is_left(&mut self) -> bool {
        self.socket.is_some() && self.writer_gone() && self.reader_gone()
    }

    /// How both ends were closed, once they are.
    fn leaving(&mut self, relay: &Relay) -> Leaving {
        if !self.from_arca.is_writer_closed() || !self.to_arca.is_reader_closed() {
            // By the end of its program.
            return Leaving::Closed;
        }
        let closed = match relay.said_hello {
            // Whichever flag was set last says it; both are there by now.
            true => self.from_arca.is_connection_closed() | self.to_arca.is_connection_closed(),
            // A draft peer has no other word for it, but it may have said how its
            // closes are meant.
            false => self.linger == RESET,
        };
        match closed {
            true => Leaving::Closed,
            false => Leaving::ShutDown,
        }
    }

    /// Arca has closed both ends. What it wrote is still sent, unless it closed the
    /// connection and left bytes unread: then that is a reset, as on Linux.
    pub(super) fn leave(&mut self, relay: &mut Relay) -> Result<(), InvalidCursor> {
        if !self.has_left() {
            self.leaving = self.leaving(relay);
            if self.leaving == Leaving::Closed {
                if self.to_arca.free()? < self.to_arca.capacity() {
                    return self.abort(relay);
                }
                // What is still in the kernel is checked, if ring A is not drained
                // in this turn already: then the kernel's own close sees to it.
                self.ready.readable = self.from_arca.available()? > 0;
            }
            self.close_write(relay);
        }
        if self.uplink != Uplink::Open {
            self.close_socket();
        }
        Ok(())
    }

    /// Sends what the socket takes at once and resets the connection.
    pub(super) fn abort(&mut self, relay: &mut Relay) -> Result<(), InvalidCursor> {
        if let Some(socket) = self.socket.take() {
            sys::reset_on_close(&socket);
            relay.stats.reset += 1;
            // No more than was there: an Arca that goes on writing is not waited
            // for.
            let mut left = match self.uplink {
                Uplink::Open => self.from_arca.available()?,
                _ => 0,
            };
            while left > 0 {
                let data = self.from_arca.data_parts(left.min(SEND_MAX))?;
                match sys::send(&socket, &data) {
                    Ok(len) => {
                        if let Some(tracer) = &mut relay.tracer {
                            let before = self.from_arca.taken();
                            tracer.data(self.id, Direction::Up, before, &data, len);
                        }
                        left -= len;
                        relay.stats.bytes_to_tcp += len as u64;
                        self.from_arca.consume(len);
                    }
                    Err(_) => break,
                }
            }
            relay.trace(|| TraceKind::Reset {
                id: self.id,
                by: Direction::Up,
                errno: None,
            });
        }
        if self.uplink == Uplink::Open {
            self.uplink = Uplink::Discarding;
        }
        self.close_read(relay);
        self.close_write(relay);
        Ok(())
    }

    /// A receive failed: the connection is dead in both directions.
    pub(super) fn on_receive_error(&mut self, errno: Errno, relay: &mut Relay) {
        self.store_errno(errno, relay);
        self.socket = None;
        if self.uplink == Uplink::Open {
            self.uplink = Uplink::Discarding;
        }
        self.close_read(relay);
        if self.downlink == Downlink::Open {
            self.downlink = Downlink::Ending;
        }
    }

    /// Checks for an error that no receive will report, because nothing more is
    /// received: an Arca that only writes, and may wait for room, learns of it.
    pub(super) fn check_error(&mut self, relay: &mut Relay) {
        if !self.ready.failed || self.downlink == Downlink::Open || self.uplink != Uplink::Open {
            return;
        }
        self.ready.failed = false;
        if let Some(errno) = self.socket.as_ref().and_then(sys::take_error) {
            self.on_receive_error(sys::wire_errno(errno), relay);
        }
    }

    /// Arca stored a cursor that cannot be true: resets this connection, and
    /// reads nothing but its flags from now on.
    pub(super) fn fail_protocol(&mut self, invalid: InvalidCursor, relay: &mut Relay) {
        self.protocol_error = true;
        self.store_errno(Errno::EPROTO, relay);
        if let Some(socket) = self.socket.take() {
            sys::reset_on_close(&socket);
        }
        self.uplink = Uplink::Done;
        self.close_read(relay);
        self.close_write(relay);
        let id = self.id;
        relay.warn(format_args!(
            "connection {id} is reset: its ring's {invalid}"
        ));
    }

    /// Resets the connection, whatever Arca still wants: the session is over. An
    /// Arca that outlives it finds the flags set, and an errno.
    pub(crate) fn end_session(&mut self, relay: &mut Relay) {
        if let Some(socket) = self.socket.take() {
            sys::reset_on_close(&socket);
        }
        if !self.from_arca.is_closed() || !self.to_arca.is_closed() {
            self.store_errno(Errno::ECONNABORTED, relay);
        }
        self.close_read(relay);
        self.close_write(relay);
    }

    /// Closes the socket as Arca asked for.
    pub(super) fn close_socket(&mut self) {
        let Some(socket) = self.socket.take() else {
            return;
        };
        match self.leaving {
            // Shut down is not closed: neither what is unread nor SO_LINGER makes
            // it a reset. Where nothing is unread, the kernel's own close does that.
            Leaving::ShutDown if self.peer_ended => {}
            Leaving::ShutDown => sys::close_in_order(socket),
            Leaving::No | Leaving::Closed if self.linger == RESET => {
                sys::reset_on_close(&socket);
            }
            Leaving::No | Leaving::Closed => {}
        }
    }
}
