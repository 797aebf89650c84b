//! The UART: what is said while nothing else works.
//!
//! Every access leaves the guest, which takes tens of microseconds, so it is
//! for a panic and for a boot that fails, not for the log.

use arca_shared::protocol::register::Register;
use core::fmt;
use core::num::NonZeroUsize;
use uart_16550::backend::MmioBackend;
use uart_16550::{Config, Uart16550};

/// The UART, ready to be written to.
pub(crate) struct Uart(Option<Uart16550<MmioBackend>>);

impl Uart {
    /// Sets the UART up. One that does not answer as it should is left alone,
    /// and what is written is lost: there is nowhere else to say so.
    pub(crate) fn open() -> Uart {
        let address = NonZeroUsize::new(Register::Uart(0).address() as usize);
        let uart = address.and_then(|address| {
            // SAFETY: the VMM maps the UART's eight byte-wide registers at this
            // address for the whole life of the guest. Two vCPUs that use it at
            // once can mix their text up but nothing else; the panic handler
            // lets only one of them in.
            unsafe { Uart16550::new_mmio_from_address(address, 1) }.ok()
        });
        Uart(uart.and_then(|mut uart| uart.init(Config::default()).ok().map(|()| uart)))
    }
}

impl fmt::Write for Uart {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if let Some(uart) = &mut self.0 {
            uart.send_bytes_exact(text.as_bytes());
        }
        Ok(())
    }
}
