//! [`System`] over std's sockets: what waits blocks its thread.

mod socket;

use crate::op::{How, Seen};
use crate::system::{Failure, Listener, Outcome, Stream, System};
use arca_shared::errno::Errno;
use arca_shared::protocol::message::SocketOption;
use embedded_io_async::ErrorType;
use nix::libc;
use socket::{checked, count, get_option, pending, polled, receive_all, set_option};
use socket2::SockRef;
use std::future::Future;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::pin::pin;
use std::sync::Arc;
use std::sync::OnceLock;
use std::task::{Context, Poll, Waker};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// This process's sockets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Native;

/// A job: a thread, and its number once it runs.
pub struct Job {
    thread: JoinHandle<Outcome<Native>>,
    number: Arc<OnceLock<libc::pid_t>>,
}

/// The output of a future that blocks rather than to wait.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => unreachable!("native calls block"),
    }
}

impl System for Native {
    type Stream = Arc<TcpStream>;
    type Listener = Arc<TcpListener>;
    type Reader = ReadHalf;
    type Writer = WriteHalf;
    type Job = Job;

    async fn connect(
        &self,
        to: SocketAddr,
        within: Option<Duration>,
    ) -> Result<Arc<TcpStream>, Failure> {
        let stream = match within {
            Some(within) => TcpStream::connect_timeout(&to, within),
            None => TcpStream::connect(to),
        };
        checked(stream).map(Arc::new)
    }

    async fn connect_name(&self, host: &str, port: u16) -> Result<Arc<TcpStream>, Failure> {
        let Ok(addresses) = (host, port).to_socket_addrs() else {
            // The resolver has error numbers of its own, which std only shows.
            return Err(Failure::Other("no such host"));
        };
        let addresses: Vec<SocketAddr> = addresses.collect();
        checked(TcpStream::connect(&addresses[..])).map(Arc::new)
    }

    fn bind(&self, at: SocketAddr) -> Result<Arc<TcpListener>, Failure> {
        checked(TcpListener::bind(at)).map(Arc::new)
    }

    fn run(&self, op: impl Future<Output = Outcome<Self>> + Send + 'static) -> Outcome<Self> {
        now(op)
    }

    fn block<T>(&self, future: impl Future<Output = T>) -> T {
        now(future)
    }

    fn start(&self, op: impl Future<Output = Outcome<Self>> + Send + 'static) -> Job {
        let number = Arc::new(OnceLock::new());
        let own = number.clone();
        let thread = thread::spawn(move || {
            own.get_or_init(|| nix::unistd::gettid().as_raw());
            now(op)
        });
        Job { thread, number }
    }

    /// Whether the kernel says that the thread sleeps: it does nothing but its
    /// operation.
    fn waits(&self, job: &Job) -> bool {
        let Some(number) = job.number.get() else {
            return false;
        };
        let Ok(stat) = std::fs::read_to_string(format!("/proc/self/task/{number}/stat")) else {
            return false;
        };
        // The state follows the name, which is in parentheses.
        stat.rsplit_once(')')
            .is_some_and(|(_, rest)| rest.trim_start().starts_with('S'))
    }

    fn is_done(&self, job: &Job) -> bool {
        job.thread.is_finished()
    }

    fn finish(&self, job: Job) -> Outcome<Self> {
        job.thread.join().expect("a job does not panic")
    }

    fn cancel(&self, _job: Job) -> Result<Option<Outcome<Self>>, Failure> {
        Err(Failure::Other("a thread cannot be cancelled"))
    }

    fn pause(&self) {
        thread::park_timeout(Duration::from_micros(100));
    }
}

impl Listener for Arc<TcpListener> {
    type System = Native;

    async fn accept(&self) -> Result<(Arc<TcpStream>, SocketAddr), Failure> {
        let (stream, peer) = checked(TcpListener::accept(self))?;
        Ok((Arc::new(stream), peer))
    }

    fn incoming(&self) -> Result<Arc<TcpStream>, Failure> {
        match TcpListener::incoming(self).next() {
            Some(stream) => checked(stream).map(Arc::new),
            None => unreachable!("connections come without end"),
        }
    }

    fn local(&self) -> Result<SocketAddr, Failure> {
        checked(self.local_addr())
    }

    fn set_nonblocking(&self, on: bool) -> Result<(), Failure> {
        checked(TcpListener::set_nonblocking(self, on))
    }

    fn ttl(&self, set: Option<u32>) -> Result<u32, Failure> {
        if let Some(hops) = set {
            checked(self.set_ttl(hops))?;
        }
        checked(TcpListener::ttl(self))
    }

    fn take_error(&self) -> Result<Option<Errno>, Failure> {
        pending(TcpListener::take_error(self))
    }

    fn set_option(&self, option: SocketOption, value: u64) -> Result<(), Failure> {
        set_option(&SockRef::from(&**self), option, value)
    }
}

impl Stream for Arc<TcpStream> {
    type System = Native;

    async fn read(&self, buffer: &mut [u8]) -> Result<usize, Failure> {
        checked((&**self).read(buffer))
    }

    async fn peek(&self, buffer: &mut [u8]) -> Result<usize, Failure> {
        checked(TcpStream::peek(self, buffer))
    }

    async fn read_exact(&self, buffer: &mut [u8]) -> Result<(), Failure> {
        checked((&**self).read_exact(buffer))
    }

    async fn write(&self, bytes: &[u8]) -> Result<usize, Failure> {
        checked((&**self).write(bytes))
    }

    async fn write_all(&self, bytes: &[u8]) -> Result<(), Failure> {
        checked((&**self).write_all(bytes))
    }

    async fn send(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut rest = bytes;
        let result = loop {
            // Of no bytes as well: the kernel then says whether it would take any.
            match (&**self).write(rest) {
                Ok(len) => rest = &rest[len..],
                Err(error) => break Err(error),
            }
            if rest.is_empty() {
                break Ok(());
            }
        };
        if result.is_err() {
            // Fails only if the connection is gone already.
            let _ = TcpStream::shutdown(self, Shutdown::Write);
        }
        checked(result)
    }

    async fn recv(&self, buffer: &mut [u8]) -> Result<usize, Failure> {
        if buffer.is_empty() {
            // The kernel would wait for what it would not give.
            return Ok(0);
        }
        let len = checked(receive_all(self, buffer))?;
        if len < buffer.len() && polled(self, libc::POLLRDHUP) {
            // The end, and not that the time is over. Fails only if the connection is gone already.
            let _ = TcpStream::shutdown(self, Shutdown::Read);
        }
        Ok(len)
    }

    fn has_seen(&self, seen: Seen) -> bool {
        match seen {
            Seen::Bytes(len) => count(self, libc::FIONREAD) >= len,
            Seen::Acknowledged => count(self, libc::TIOCOUTQ) == 0,
            Seen::End => polled(self, libc::POLLRDHUP),
            // Once the error was taken, what is left is a socket that is closed.
            Seen::Failure => polled(self, libc::POLLERR | libc::POLLHUP),
        }
    }

    fn shutdown(&self, how: How) -> Result<(), Failure> {
        checked(TcpStream::shutdown(
            self,
            match how {
                How::Read => Shutdown::Read,
                How::Write => Shutdown::Write,
                How::Both => Shutdown::Both,
            },
        ))
    }

    fn abort(self) -> Result<(), Failure> {
        checked(SockRef::from(&*self).set_linger(Some(Duration::ZERO)))
    }

    fn try_clone(&self) -> Result<Self, Failure> {
        checked(TcpStream::try_clone(self)).map(Arc::new)
    }

    fn split(self) -> Result<(ReadHalf, WriteHalf), Failure> {
        let reader = checked(TcpStream::try_clone(&self))?;
        Ok((ReadHalf(reader), WriteHalf(self)))
    }

    fn set_nonblocking(&self, on: bool) -> Result<(), Failure> {
        checked(TcpStream::set_nonblocking(self, on))
    }

    fn nodelay(&self, set: Option<bool>) -> Result<bool, Failure> {
        if let Some(on) = set {
            checked(self.set_nodelay(on))?;
        }
        checked(TcpStream::nodelay(self))
    }

    fn ttl(&self, set: Option<u32>) -> Result<u32, Failure> {
        if let Some(hops) = set {
            checked(self.set_ttl(hops))?;
        }
        checked(TcpStream::ttl(self))
    }

    fn keepalive(&self) -> Result<Option<Duration>, Failure> {
        let socket = SockRef::from(&**self);
        match checked(socket.keepalive())? {
            true => checked(socket.tcp_keepalive_time()).map(Some),
            false => Ok(None),
        }
    }

    fn set_keepalive(&self, idle: Option<Duration>) -> Result<(), Failure> {
        let socket = SockRef::from(&**self);
        match idle {
            Some(idle) => {
                let keepalive = socket2::TcpKeepalive::new().with_time(idle);
                checked(socket.set_tcp_keepalive(&keepalive))
            }
            None => checked(socket.set_keepalive(false)),
        }
    }

    fn read_timeout(&self) -> Result<Option<Duration>, Failure> {
        checked(TcpStream::read_timeout(self))
    }

    fn set_read_timeout(&self, limit: Option<Duration>) -> Result<(), Failure> {
        checked(TcpStream::set_read_timeout(self, limit))
    }

    fn write_timeout(&self) -> Result<Option<Duration>, Failure> {
        checked(TcpStream::write_timeout(self))
    }

    fn set_write_timeout(&self, limit: Option<Duration>) -> Result<(), Failure> {
        checked(TcpStream::set_write_timeout(self, limit))
    }

    fn take_error(&self) -> Result<Option<Errno>, Failure> {
        pending(TcpStream::take_error(self))
    }

    fn option(&self, option: SocketOption) -> Result<u64, Failure> {
        get_option(&SockRef::from(&**self), option)
    }

    fn set_option(&self, option: SocketOption, value: u64) -> Result<(), Failure> {
        set_option(&SockRef::from(&**self), option, value)
    }

    fn local(&self) -> Result<SocketAddr, Failure> {
        checked(self.local_addr())
    }

    fn peer(&self) -> Result<SocketAddr, Failure> {
        checked(self.peer_addr())
    }
}

/// The receiving half of a stream.
pub struct ReadHalf(TcpStream);

/// The sending half of a stream, as asynchronous runtimes have it: std has none.
pub struct WriteHalf(Arc<TcpStream>);

impl ErrorType for ReadHalf {
    type Error = Failure;
}

impl ErrorType for WriteHalf {
    type Error = Failure;
}

impl embedded_io_async::Read for ReadHalf {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Failure> {
        checked(self.0.read(buffer))
    }
}

impl embedded_io_async::Write for WriteHalf {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Failure> {
        checked((&*self.0).write(bytes))
    }

    async fn flush(&mut self) -> Result<(), Failure> {
        Ok(())
    }
}

impl Drop for WriteHalf {
    fn drop(&mut self) {
        // Fails only if the connection is gone already.
        let _ = TcpStream::shutdown(&self.0, Shutdown::Write);
    }
}
