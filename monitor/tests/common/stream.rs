//! Arca's end of a connection.

use super::{Peer, Session, pattern, until};
use arca_shared::errno::Errno;
use arca_shared::pipe::BidirectionalPipe;
use arca_shared::ring::{Close, RingError};

/// Arca's end of a connection.
pub struct Stream {
    pub pipe: BidirectionalPipe,
    pub id: u32,
}

impl Stream {
    #[track_caller]
    pub fn send(&mut self, mut bytes: &[u8]) {
        until("room in ring A", || {
            match self.pipe.write(bytes) {
                Ok(len) => bytes = &bytes[len..],
                Err(RingError::WouldBlock) => {}
                Err(error) => panic!("{error}"),
            }
            bytes.is_empty().then_some(())
        });
    }

    /// Reads to the end of the stream; bytes and errno.
    #[track_caller]
    pub fn read_to_end(&mut self) -> (Vec<u8>, u32) {
        let mut bytes = Vec::new();
        while self.read_some(&mut bytes) {}
        (bytes, self.pipe.outgoing_errno_of_peer())
    }

    /// Appends what comes next; `false` at the end of the stream.
    #[track_caller]
    pub fn read_some(&mut self, bytes: &mut Vec<u8>) -> bool {
        let mut buffer = [0; 16384];
        until("bytes in ring B", || {
            let over = self.pipe.is_peer_write_closed();
            match self.pipe.read(&mut buffer) {
                Ok(len) => {
                    bytes.extend_from_slice(&buffer[..len]);
                    Some(true)
                }
                Err(RingError::WouldBlock) => over.then_some(false),
                Err(error) => panic!("{error}"),
            }
        })
    }

    #[track_caller]
    pub fn read_exact(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        let mut filled = 0;
        until("bytes in ring B", || {
            match self.pipe.read(&mut bytes[filled..]) {
                Ok(len) => filled += len,
                Err(RingError::WouldBlock) => assert!(
                    !self.pipe.is_peer_write_closed() || self.pipe.incoming().available() != Ok(0),
                    "end of stream after {filled} bytes"
                ),
                Err(error) => panic!("{error}"),
            }
            (filled == bytes.len()).then_some(())
        });
        bytes
    }

    /// Writes until ring and socket are full, with a peer that does not read.
    #[track_caller]
    pub fn fill(&mut self, session: &Session) {
        let chunk = pattern(65536, 11);
        let state = || {
            let stats = session.handle.stats();
            (stats.bytes_to_tcp, stats.epoll_turns)
        };
        let (mut sent, mut turns) = state();
        until("everything to be full", || {
            let wrote = self.pipe.write(&chunk).is_ok();
            let (now_sent, now_turns) = state();
            if wrote || now_sent != sent {
                (sent, turns) = (now_sent, now_turns);
            }
            // The monitor has looked often enough, and found no room.
            (now_turns > turns + 20).then_some(())
        });
    }

    pub fn close(mut self) {
        self.pipe.close_write();
        self.pipe.close_read();
    }

    /// Closes the connection as close(2) does, which a peer can say after a hello.
    pub fn close_connection(mut self, peer: &Peer) {
        self.pipe.incoming().close_by(Close::Connection);
        self.pipe.outgoing().close_by(Close::Connection);
        peer.notify_pipe(&self.pipe);
    }

    /// Closes with a request for a reset.
    pub fn abort(mut self) {
        self.pipe.outgoing().set_errno(Errno::ECONNRESET.0);
        self.pipe.close_write();
        self.pipe.close_read();
    }
}

/// The errno that the monitor left in header B.
pub trait PeerErrno {
    fn outgoing_errno_of_peer(&mut self) -> u32;
}

impl PeerErrno for BidirectionalPipe {
    fn outgoing_errno_of_peer(&mut self) -> u32 {
        self.incoming().errno()
    }
}
