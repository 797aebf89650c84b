//! A guest in the test's process, for what only the library tells.

use crate::guest::{deadline, image};
use arca_vmm::{ExitStatus, Image, Output, Vm, VmConfig, VmHandle, VmStats};
use socket2::{Domain, Socket, Type};
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// A guest that runs on threads of this process; stopped when dropped.
pub struct LocalGuest {
    handle: VmHandle,
    thread: Option<JoinHandle<ExitStatus>>,
    output: Kept,
}

/// A place to write to that can be read meanwhile.
#[derive(Clone, Default)]
pub struct Kept(Arc<Mutex<Vec<u8>>>);

impl Kept {
    /// What was written so far.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let bytes = self.0.lock();
        bytes.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl LocalGuest {
    /// Starts `program`.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    #[must_use]
    pub fn start(program: &str, args: &[&str]) -> Self {
        Self::start_with(program, args, |_| {})
    }

    /// Starts `program` after `adjust` had its way with the configuration.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    #[must_use]
    pub fn start_with(program: &str, args: &[&str], adjust: impl FnOnce(&mut VmConfig)) -> Self {
        crate::records::keep();
        let kept = Kept::default();
        let mut config = VmConfig::new(Image::Path(image(program)), program);
        config.platform = crate::platform();
        config.args = args.iter().map(ToString::to_string).collect();
        config.stdout = Output::Writer(Box::new(kept.clone()));
        adjust(&mut config);
        let vm = Vm::new(config).expect("the guest starts");
        let handle = vm.handle();
        let thread = Some(thread::spawn(move || vm.run()));
        Self {
            handle,
            thread,
            output: kept,
        }
    }

    /// The running guest's handle.
    #[must_use]
    pub fn handle(&self) -> &VmHandle {
        &self.handle
    }

    /// What the guest did so far.
    #[must_use]
    pub fn stats(&self) -> VmStats {
        self.handle.stats()
    }

    /// What it printed so far.
    #[must_use]
    pub fn output(&self) -> Vec<u8> {
        self.output.bytes()
    }

    /// Waits until the statistics are as `wanted`.
    ///
    /// # Panics
    ///
    /// If they are not by the deadline.
    #[track_caller]
    pub fn wait_until(&self, what: &str, wanted: impl Fn(&VmStats) -> bool) -> VmStats {
        let end = Instant::now() + deadline();
        loop {
            let stats = self.stats();
            if wanted(&stats) {
                return stats;
            }
            assert!(Instant::now() < end, "never {what}: {stats:#?}");
            thread::park_timeout(Duration::from_millis(2));
        }
    }

    /// Waits until the guest listens at `address`.
    ///
    /// # Panics
    ///
    /// If it does not by the deadline.
    #[track_caller]
    pub fn wait_listening(&self, address: SocketAddr) {
        self.wait_until(&format!("listening on {address}"), |stats| {
            stats.monitor.listeners > 0
        });
    }

    /// Waits for the end.
    ///
    /// # Panics
    ///
    /// If it does not come by the deadline.
    #[track_caller]
    pub fn finish(mut self) -> (ExitStatus, Vec<u8>) {
        let thread = self.thread.take().expect("finished once");
        let end = Instant::now() + deadline();
        while !thread.is_finished() {
            assert!(Instant::now() < end, "the guest does not end");
            thread::park_timeout(Duration::from_millis(2));
        }
        let status = thread.join().expect("the VMM does not panic");
        (status, self.output())
    }

    /// Stops the guest and waits for the end.
    ///
    /// # Panics
    ///
    /// If it does not come by the deadline.
    #[track_caller]
    pub fn stop(self) -> ExitStatus {
        self.handle.stop(arca_vmm::StopReason::Request);
        self.finish().0
    }
}

impl Drop for LocalGuest {
    fn drop(&mut self) {
        // One that has ended did so before its test was done with it.
        let ended = self.thread.take_if(|thread| thread.is_finished());
        self.handle.stop(arca_vmm::StopReason::Request);
        if thread::panicking() {
            let mut stderr = io::stderr();
            if let Some(Ok(status)) = ended.map(JoinHandle::join) {
                let _ = writeln!(stderr, "--- the guest has ended: {status}");
            }
            let said = crate::records::lately();
            let _ = writeln!(stderr, "--- logged in this process:\n{said}---");
        }
    }
}

/// A port of loopback that nobody uses at the moment. It lies below those that
/// the kernel gives out by itself: another test's connection does not take it. It
/// refuses connections: it was tried by a socket that never listened, because a child
/// that another test starts has a copy of every socket until it runs its program.
///
/// # Panics
///
/// If there is none.
#[must_use]
pub fn free_port() -> u16 {
    const FIRST: u32 = 20_000;
    const COUNT: u32 = 12_000;
    // Relaxed: each call gets another number, which is all that is wanted.
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Test binaries that run at once start at different places.
    let start = std::process::id().wrapping_mul(97);
    (0..COUNT)
        .map(|_| {
            let step = NEXT.fetch_add(1, Ordering::Relaxed);
            (FIRST + start.wrapping_add(step) % COUNT) as u16
        })
        .find(|&port| is_free(port).is_ok())
        .expect("a free port")
}

/// Binds a socket to a port of every IPv4 address, which fails where one listens.
fn is_free(port: u16) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    // As listeners have it: who listens there next is not held up.
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())
}
