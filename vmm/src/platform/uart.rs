//! The 16550 UART: what the guest says before its log works and while it
//! panics.
//!
//! The device is vm-superio's. Its bytes are gathered into lines, and a line is
//! written at once, so that the lines of vCPUs, logs and other guests do not
//! mix. Control characters come out escaped: the other end may be a terminal.
//!
//! A line comes after what the guest had logged before it, although the log takes
//! another way: a panic's message stands below the records that led to it.

use crate::host::logs::escape;
use crate::host::worker::write_unless;
use crate::vm::outcome::RunState;
use arca_monitor::StandardHandle;
use std::convert::Infallible;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use vm_superio::{Serial, Trigger};

/// Longest line that is gathered; a longer one is written in pieces.
const LINE_MAX: usize = 4096;
/// How long a line waits for a log that does not get on.
const LOG_STALL_LIMIT: Duration = Duration::from_millis(500);
/// How often a line that waits for the log looks at it.
const LOG_POLL: Duration = Duration::from_micros(50);

/// The UART of one guest.
pub struct Uart {
    serial: Mutex<Serial<NoInterrupt, vm_superio::serial::NoEvents, Lines>>,
}

impl Uart {
    /// A UART whose lines go to `console`, each after what is in `log` before it. A
    /// write that blocks, and a wait for the log, are given up on once the guest is to
    /// stop.
    pub fn new(
        console: Box<dyn Write + Send>,
        log: Option<StandardHandle>,
        vcpus: usize,
        run_state: Arc<RunState>,
    ) -> Self {
        let lines = Lines {
            console,
            log,
            run_state,
            current: 0,
            pending: vec![Vec::new(); vcpus],
        };
        Self {
            serial: Mutex::new(Serial::new(NoInterrupt, lines)),
        }
    }

    /// A vCPU writes a register.
    pub fn write(&self, vcpu: usize, register: u8, value: u8) {
        let mut serial = self.lock();
        serial.writer_mut().current = vcpu;
        // It fails only if the console does, and there is nobody to tell.
        let _ = serial.write(register, value);
    }

    /// A vCPU reads a register.
    pub fn read(&self, register: u8) -> u8 {
        self.lock().read(register)
    }

    /// Writes what was said without ending the line.
    pub fn finish(&self) {
        let mut serial = self.lock();
        let lines = serial.writer_mut();
        for vcpu in 0..lines.pending.len() {
            if !lines.pending[vcpu].is_empty() {
                lines.emit(vcpu);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Serial<NoInterrupt, vm_superio::serial::NoEvents, Lines>> {
        // A thread that panicked inside leaves registers and lines that are
        // still registers and lines.
        self.serial.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The guest takes no interrupts.
struct NoInterrupt;

impl Trigger for NoInterrupt {
    type E = Infallible;

    fn trigger(&self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// Gathers each vCPU's bytes into lines.
struct Lines {
    console: Box<dyn Write + Send>,
    log: Option<StandardHandle>,
    run_state: Arc<RunState>,
    current: usize,
    pending: Vec<Vec<u8>>,
}

impl Lines {
    fn push(&mut self, byte: u8) {
        let vcpu = self.current;
        let Some(line) = self.pending.get_mut(vcpu) else {
            return;
        };
        match byte {
            b'\n' => self.emit(vcpu),
            // The guest's driver may end lines as a terminal wants it.
            b'\r' => {}
            _ => {
                line.push(byte);
                if line.len() >= LINE_MAX {
                    self.emit(vcpu);
                }
            }
        }
    }

    fn emit(&mut self, vcpu: usize) {
        let line = std::mem::take(&mut self.pending[vcpu]);
        let mut text = escape(&line);
        text.push('\n');
        self.wait_for_log();
        let _ = write_unless(
            &mut self.console,
            text.as_bytes(),
            |_| {},
            || self.run_state.is_stopping(),
        );
    }

    /// Waits until what the guest has logged so far is written, for as long as it gets
    /// on. The log's own thread does that; this one looks now and then, in a place
    /// where nobody is in a hurry.
    fn wait_for_log(&self) {
        let Some(log) = &self.log else {
            return;
        };
        let written = log.written();
        let mut taken = log.taken();
        let mut since = Instant::now();
        while taken < written && since.elapsed() < LOG_STALL_LIMIT && !self.run_state.is_stopping()
        {
            thread::sleep(LOG_POLL);
            let now = log.taken();
            if now != taken {
                taken = now;
                since = Instant::now();
            }
        }
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        bytes.iter().for_each(|byte| self.push(*byte));
        Ok(bytes.len())
    }

    /// The device asks for it after every byte; lines are flushed when they are
    /// whole.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A console that keeps what is written to it.
    #[derive(Clone, Default)]
    pub(crate) struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Kept {
        pub(crate) fn text(&self) -> String {
            String::from_utf8_lossy(&self.0.lock().expect("not poisoned")).into_owned()
        }
    }

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("not poisoned").extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_come_out_whole() {
        let console = Kept::default();
        let uart = Uart::new(Box::new(console.clone()), None, 2, Arc::default());
        for (first, second) in b"one\r\n".iter().zip(b"two\x1b\n") {
            uart.write(0, 0, *first);
            uart.write(1, 0, *second);
        }
        uart.write(1, 0, b'!');
        assert_eq!(console.text(), "one\ntwo\\u{1b}\n");
        uart.finish();
        assert_eq!(console.text(), "one\ntwo\\u{1b}\n!\n");
    }

    #[test]
    fn the_scratch_register_is_kept() {
        let uart = Uart::new(Box::new(io::sink()), None, 1, Arc::default());
        uart.write(0, 7, 0x5a);
        assert_eq!(uart.read(7), 0x5a);
    }
}
