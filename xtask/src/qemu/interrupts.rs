//! Signals while a machine is made and runs.
//!
//! | a signal comes | what it does |
//! |---|---|
//! | SIGINT, SIGTERM, SIGHUP while nothing runs in the machine | ends this process, and with it the machine |
//! | the first SIGINT or SIGTERM, later | goes to the program in the machine, as if it ran here |
//! | another one of these | ends this process, and with it the machine |
//! | SIGHUP, SIGUSR1, later | goes to the program |

use super::machine::Orders;
use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal};
use std::process;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

const SIGNALS: [Signal; 4] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGUSR1,
];

/// These signals, taken over by this process for the rest of its life.
pub struct Interrupts {
    program: Arc<Mutex<Option<Orders>>>,
}

impl Interrupts {
    /// Takes them over. To be called before there is another thread, which would
    /// take them in its own way.
    ///
    /// # Errors
    ///
    /// Those of the kernel.
    pub fn take() -> Result<Self> {
        let mut signals = SigSet::empty();
        for signal in SIGNALS {
            signals.add(signal);
        }
        signals.thread_block().context("taking signals over")?;
        let program = Arc::new(Mutex::new(None));
        let shared = Arc::clone(&program);
        thread::spawn(move || watch(&signals, &shared));
        Ok(Self { program })
    }

    /// From now on a first one goes to the program that runs in a machine.
    pub fn forward(&self, orders: Orders) {
        *self.program.lock().unwrap_or_else(PoisonError::into_inner) = Some(orders);
    }
}

fn watch(signals: &SigSet, program: &Mutex<Option<Orders>>) {
    while let Ok(signal) = signals.wait() {
        let mut program = program.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*program, signal) {
            (Some(orders), Signal::SIGHUP | Signal::SIGUSR1) => orders.signal(signal),
            (Some(orders), _) => {
                orders.signal(signal);
                *program = None;
            }
            // Asks a program how things are: there is none.
            (None, Signal::SIGUSR1) => {}
            // QEMU ends with this process.
            (None, _) => process::exit(128 + signal as i32),
        }
    }
}
