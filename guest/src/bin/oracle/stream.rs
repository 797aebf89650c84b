//! A connected socket of the guest, and its halves.

use crate::{Guest, checked};
use alloc::sync::Arc;
use arca_guest::net::{AsyncTcpStream, Errno, Shutdown, SocketAddr, TcpStream};
use arca_guest::time::Duration;
use arca_script::{Failure, How, Seen, Stream};
use arca_shared::client::{OwnedReadHalf, OwnedWriteHalf};
use arca_shared::protocol::message::SocketOption;
use core::future::poll_fn;
use core::sync::atomic::{AtomicBool, Ordering};

/// A stream, and whether its calls are the asynchronous ones.
#[derive(Clone)]
pub(crate) struct GuestStream {
    stream: Arc<TcpStream>,
    tasks: bool,
    /// Calls that do not wait, or not for long, are the blocking ones' own.
    limited: Arc<AtomicBool>,
}

impl GuestStream {
    pub(crate) fn new(stream: TcpStream, tasks: bool) -> Self {
        Self {
            stream: Arc::new(stream),
            tasks,
            limited: Arc::default(),
        }
    }

    /// The stream for tasks, if this call is to be one of a task.
    fn as_task(&self) -> Option<AsyncTcpStream> {
        let task = self.tasks && !self.limited.load(Ordering::Relaxed);
        task.then(|| self.stream.try_clone().into_async())
    }

    fn note_limit(&self, limit: Option<Duration>) {
        self.limited.store(limit.is_some(), Ordering::Relaxed);
    }
}

impl Stream for GuestStream {
    type System = Guest;

    fn for_job(&self) -> Self {
        let tasks = true;
        Self {
            tasks,
            ..self.clone()
        }
    }

    async fn read(&self, buffer: &mut [u8]) -> Result<usize, Failure> {
        checked(match self.as_task() {
            Some(stream) => stream.read(buffer).await,
            None => self.stream.read(buffer),
        })
    }

    async fn peek(&self, buffer: &mut [u8]) -> Result<usize, Failure> {
        checked(match self.as_task() {
            Some(stream) => poll_fn(|context| stream.end().poll_peek(context, buffer)).await,
            None => self.stream.peek(buffer),
        })
    }

    async fn read_exact(&self, buffer: &mut [u8]) -> Result<(), Failure> {
        checked(match self.as_task() {
            Some(stream) => stream.read_exact(buffer).await,
            None => self.stream.read_exact(buffer),
        })
    }

    async fn write(&self, bytes: &[u8]) -> Result<usize, Failure> {
        checked(match self.as_task() {
            Some(stream) => stream.write(bytes).await,
            None => self.stream.write(bytes),
        })
    }

    async fn write_all(&self, bytes: &[u8]) -> Result<(), Failure> {
        checked(match self.as_task() {
            Some(stream) => stream.write_all(bytes).await,
            None => self.stream.write_all(bytes),
        })
    }

    async fn send(&self, bytes: &[u8]) -> Result<(), Failure> {
        checked(match self.as_task() {
            Some(stream) => stream.send(bytes).await,
            None => self.stream.send(bytes),
        })
    }

    async fn recv(&self, buffer: &mut [u8]) -> Result<usize, Failure> {
        checked(match self.as_task() {
            Some(stream) => stream.recv(buffer).await,
            None => self.stream.recv(buffer),
        })
    }

    fn has_seen(&self, seen: Seen) -> bool {
        let stream = self.stream.try_clone().into_async();
        let end = stream.end();
        match seen {
            Seen::Bytes(len) => {
                let mut buffer = alloc::vec![0; len];
                end.try_peek(&mut buffer).is_ok_and(|there| there == len)
            }
            Seen::End => end.is_peer_write_closed(),
            Seen::Failure => end.has_failed(),
            // The host's to look at, not the guest's.
            Seen::Acknowledged => false,
        }
    }

    fn shutdown(&self, how: How) -> Result<(), Failure> {
        checked(self.stream.shutdown(match how {
            How::Read => Shutdown::Read,
            How::Write => Shutdown::Write,
            How::Both => Shutdown::Both,
        }))
    }

    fn abort(self) -> Result<(), Failure> {
        self.stream.abort();
        Ok(())
    }

    fn try_clone(&self) -> Result<Self, Failure> {
        Ok(Self {
            stream: Arc::new(self.stream.try_clone()),
            ..self.clone()
        })
    }

    fn split(self) -> Result<(OwnedReadHalf, OwnedWriteHalf), Failure> {
        let stream = Arc::try_unwrap(self.stream);
        let stream = stream.map_err(|_| Failure::Other("used by a job"))?;
        Ok(stream.into_split())
    }

    fn set_nonblocking(&self, on: bool) -> Result<(), Failure> {
        self.limited.store(on, Ordering::Relaxed);
        self.stream.set_nonblocking(on);
        Ok(())
    }

    fn nodelay(&self, set: Option<bool>) -> Result<bool, Failure> {
        if let Some(on) = set {
            checked(self.stream.set_nodelay(on))?;
        }
        checked(self.stream.nodelay())
    }

    fn ttl(&self, set: Option<u32>) -> Result<u32, Failure> {
        if let Some(hops) = set {
            checked(self.stream.set_ttl(hops))?;
        }
        checked(self.stream.ttl())
    }

    fn keepalive(&self) -> Result<Option<Duration>, Failure> {
        checked(self.stream.keepalive())
    }

    fn set_keepalive(&self, idle: Option<Duration>) -> Result<(), Failure> {
        checked(self.stream.set_keepalive(idle))
    }

    fn read_timeout(&self) -> Result<Option<Duration>, Failure> {
        Ok(self.stream.read_timeout())
    }

    fn set_read_timeout(&self, limit: Option<Duration>) -> Result<(), Failure> {
        checked(self.stream.set_read_timeout(limit))?;
        self.note_limit(limit);
        Ok(())
    }

    fn write_timeout(&self) -> Result<Option<Duration>, Failure> {
        Ok(self.stream.write_timeout())
    }

    fn set_write_timeout(&self, limit: Option<Duration>) -> Result<(), Failure> {
        checked(self.stream.set_write_timeout(limit))?;
        self.note_limit(limit);
        Ok(())
    }

    fn take_error(&self) -> Result<Option<Errno>, Failure> {
        Ok(self.stream.take_error())
    }

    fn option(&self, option: SocketOption) -> Result<u64, Failure> {
        checked(self.stream.option(option))
    }

    fn set_option(&self, option: SocketOption, value: u64) -> Result<(), Failure> {
        checked(self.stream.set_option(option, value))
    }

    fn local(&self) -> Result<SocketAddr, Failure> {
        Ok(self.stream.local_addr())
    }

    fn peer(&self) -> Result<SocketAddr, Failure> {
        Ok(self.stream.peer_addr())
    }
}
