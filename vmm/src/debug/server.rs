//! The thread that gdb is connected to.
//!
//! It may signal the threads of vCPUs and write guest memory, and is not in the sandbox:
//! whoever may connect to its port, which is on loopback, may do with the guest what
//! they like.

use super::target::{GuestTarget, tid_of};
use super::{Debugger, News, Stop};
use crate::crash::Cause;
use crate::crash::exception::{DIVIDE_ERROR, INVALID_OPCODE};
use crate::host::worker::Worker;
use crate::memory::GuestMemory;
use crate::memory::map::AddressMap;
use crate::vm::outcome::{Outcome, RunState};
use gdbstub::common::Signal;
use gdbstub::conn::ConnectionExt;
use gdbstub::stub::run_blocking::{BlockingEventLoop, Event, WaitForStopReasonError};
use gdbstub::stub::{DisconnectReason, GdbStub, MultiThreadStopReason};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::BTreeMap;
use std::io;
use std::marker::PhantomData;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long gdb has to be told of the guest's end.
const LIMIT: Duration = Duration::from_secs(2);
const INTERRUPT_LIMIT: Duration = Duration::from_millis(100);

/// Where gdb connects to.
pub struct GdbListener {
    listener: TcpListener,
    address: SocketAddr,
}

impl GdbListener {
    /// Listens on that port of 127.0.0.1; 0 takes a free one.
    ///
    /// # Errors
    ///
    /// Those of listening.
    pub fn bind(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// Where that is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// The debugger's thread.
pub struct GdbServer {
    debugger: Arc<Debugger>,
    /// gdb, while it is connected.
    connection: Arc<Mutex<Option<TcpStream>>>,
    worker: Worker,
}

impl GdbServer {
    /// Starts it. The guest waits until gdb has connected, and told it to go on.
    pub fn start(
        listener: GdbListener,
        debugger: Arc<Debugger>,
        memory: Arc<GuestMemory>,
        map: AddressMap,
        run_state: Arc<RunState>,
    ) -> io::Result<Self> {
        let connection = Arc::new(Mutex::new(None));
        let (inside, connected) = (Arc::clone(&debugger), Arc::clone(&connection));
        let worker = Worker::spawn("gdb", move || {
            let target = GuestTarget {
                debugger: &inside,
                memory: &memory,
                map: &map,
                actions: BTreeMap::new(),
                locked: false,
            };
            serve(&listener.listener, target, &connected, &run_state);
        })?;
        Ok(Self {
            debugger,
            connection,
            worker,
        })
    }

    /// Tells gdb that the guest has ended, and ends.
    pub fn finish(self, code: u8) {
        self.debugger.guest_ended(code);
        if !self.worker.wait(Instant::now() + LIMIT) {
            let connection = self.connection.lock();
            let connection = connection.unwrap_or_else(PoisonError::into_inner);
            if let Some(connection) = &*connection {
                // It may be gone already.
                let _ = connection.shutdown(Shutdown::Both);
            }
            drop(connection);
            if !self.worker.interrupt(INTERRUPT_LIMIT) {
                return;
            }
        }
        self.worker.join();
    }
}

/// Serves one gdb after the other until the guest has ended.
fn serve(
    listener: &TcpListener,
    mut target: GuestTarget<'_>,
    connected: &Mutex<Option<TcpStream>>,
    run_state: &RunState,
) {
    let debugger = target.debugger;
    let set = |connection| *connected.lock().unwrap_or_else(PoisonError::into_inner) = connection;
    loop {
        // Whatever stops a vCPU while no gdb is there counts when it goes on.
        while !readable(listener.as_fd(), debugger.news.as_fd()) {
            match debugger.take_news() {
                Some(News::Ended(_)) => return,
                Some(News::Stopped { .. }) => debugger.resume(|_| Some(super::Go::Continue)),
                None => {}
            }
        }
        let Ok((stream, peer)) = listener.accept() else {
            continue;
        };
        log::info!("gdb is connected from {peer}, and the guest held");
        set(stream.try_clone().ok());
        debugger.halt();
        let reason = GdbStub::new(stream).run_blocking::<EventLoop<'_>>(&mut target);
        set(None);
        target.remove_breakpoints();
        match reason {
            Ok(DisconnectReason::TargetExited(_) | DisconnectReason::TargetTerminated(_)) => {
                return;
            }
            Ok(DisconnectReason::Kill) => {
                run_state.ask_stop(Outcome::Interrupted(libc::SIGKILL));
            }
            Ok(DisconnectReason::Disconnect) => log::info!("gdb has left, and the guest goes on"),
            Err(error) => log::info!("gdb is gone, and the guest goes on: {error}"),
        }
        debugger.resume(|_| Some(super::Go::Continue));
    }
}

/// Waits until `connection` is readable, or `news` is; whether the former is.
fn readable(connection: BorrowedFd<'_>, news: BorrowedFd<'_>) -> bool {
    let mut fds = [connection, news].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
    // A signal, or a failure, is a look for nothing.
    let _ = poll(&mut fds, PollTimeout::NONE);
    fds[1].any() != Some(true) && fds[0].any() == Some(true)
}

/// Waits for what gdb or the guest does next.
struct EventLoop<'a>(PhantomData<&'a ()>);

impl<'a> BlockingEventLoop for EventLoop<'a> {
    type Target = GuestTarget<'a>;
    type Connection = TcpStream;
    type StopReason = MultiThreadStopReason<u64>;

    fn wait_for_stop_reason(
        target: &mut Self::Target,
        connection: &mut TcpStream,
    ) -> Result<Event<Self::StopReason>, WaitForStopReasonError<std::convert::Infallible, io::Error>>
    {
        loop {
            if readable(connection.as_fd(), target.debugger.news.as_fd()) {
                let byte = ConnectionExt::read(connection);
                let byte = byte.map_err(WaitForStopReasonError::Connection)?;
                return Ok(Event::IncomingData(byte));
            }
            match target.debugger.take_news() {
                Some(News::Ended(code)) => {
                    let reason = MultiThreadStopReason::Exited(code);
                    return Ok(Event::TargetStopped(reason));
                }
                Some(News::Stopped { vcpu, stop }) => {
                    target.debugger.halt();
                    return Ok(Event::TargetStopped(reason(vcpu, &stop)));
                }
                None => {}
            }
        }
    }

    fn on_interrupt(
        target: &mut Self::Target,
    ) -> Result<Option<Self::StopReason>, std::convert::Infallible> {
        target.debugger.halt();
        Ok(Some(MultiThreadStopReason::SignalWithThread {
            tid: tid_of(0),
            signal: Signal::SIGINT,
        }))
    }
}

fn reason(vcpu: usize, stop: &Stop) -> MultiThreadStopReason<u64> {
    let tid = tid_of(vcpu);
    let signal = match stop {
        Stop::Breakpoint => return MultiThreadStopReason::SwBreak(tid),
        Stop::Step => Signal::SIGTRAP,
        Stop::Crash(Cause::Panic) => Signal::SIGABRT,
        Stop::Crash(Cause::Exception { vector, .. }) => match *vector {
            DIVIDE_ERROR => Signal::SIGFPE,
            INVALID_OPCODE => Signal::SIGILL,
            _ => Signal::SIGSEGV,
        },
        Stop::Crash(_) => Signal::SIGBUS,
    };
    MultiThreadStopReason::SignalWithThread { tid, signal }
}
