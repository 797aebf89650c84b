//! The registers of the one MMIO page: the guest's only way out of ring 3.
//!
//! No memory is behind the page: a store either signals an eventfd in the kernel
//! (the doorbell) or leaves the guest for the VMM. Every register is written as an
//! aligned 64-bit value, but the UART's, which are bytes and can be read too.
//!
//! | offset | register | a store of |
//! |---|---|---|
//! | 0x000 | Doorbell | anything wakes the monitor; the vCPU does not leave the kernel |
//! | 0x008 | Park | a deadline in nanoseconds since boot ([`NO_DEADLINE`]: none) puts the vCPU to sleep until then, or until it is woken; a wake that came before is a token, and the park returns at once; 0 ([`YIELD`]) is no sleep and takes no token: others that wait for the core run first |
//! | 0x010 | Kick | an index wakes that vCPU, or leaves it the token |
//! | 0x018 | Exit | a code ends the guest; its low 8 bits count |
//! | 0x020 | Panic | anything ends the guest as a crash, whose message is on the UART already |
//! | 0x100 | Uart | a byte goes to one of the eight registers of a 16550 |
//! | 0x400 | Fault | anything, by the exception stub of a vector: one register for each |

use super::layout::MMIO_BASE;

/// Exception vectors, and so fault registers.
pub const VECTORS: u8 = 32;
/// What is written to Park by one that does not sleep, but lets others run first that wait
/// for its core: a deadline that is past.
pub const YIELD: u64 = 0;
/// The deadline of a park that ends only by a wake.
pub const NO_DEADLINE: u64 = u64::MAX;

/// Registers of the UART, a byte each.
const UART_LEN: u8 = 8;

/// A register of the MMIO page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// Wakes the monitor.
    Doorbell,
    /// Puts this vCPU to sleep.
    Park,
    /// Wakes a vCPU.
    Kick,
    /// Ends the guest with an exit code.
    Exit,
    /// Ends the guest as a crash that was reported on the UART.
    Panic,
    /// The 16550's register of that number, below 8.
    Uart(u8),
    /// The exception stub of that vector, below [`VECTORS`], reports here.
    Fault(u8),
}

impl Register {
    /// The registers that there is one of.
    const SINGLE: [Self; 5] = [
        Self::Doorbell,
        Self::Park,
        Self::Kick,
        Self::Exit,
        Self::Panic,
    ];

    /// Offset from the start of the page, in bytes.
    #[must_use]
    pub const fn offset(self) -> u64 {
        match self {
            Self::Doorbell => 0x000,
            Self::Park => 0x008,
            Self::Kick => 0x010,
            Self::Exit => 0x018,
            Self::Panic => 0x020,
            Self::Uart(number) => 0x100 + number as u64,
            Self::Fault(vector) => 0x400 + 8 * vector as u64,
        }
    }

    /// Guest-physical and guest-virtual address.
    #[must_use]
    pub const fn address(self) -> u64 {
        MMIO_BASE + self.offset()
    }

    /// Bytes of an access to it.
    #[must_use]
    pub const fn width(self) -> usize {
        match self {
            Self::Uart(_) => 1,
            _ => 8,
        }
    }

    /// The register that an access of `len` bytes at a guest-physical address is to;
    /// `None` if there is none, or the access is not of its width.
    #[must_use]
    pub fn from_access(address: u64, len: usize) -> Option<Self> {
        Self::containing(address)
            .filter(|register| register.address() == address && register.width() == len)
    }

    /// The register that holds the byte at a guest-physical address.
    #[must_use]
    pub fn containing(address: u64) -> Option<Self> {
        let offset = address.checked_sub(MMIO_BASE)?;
        let uart = offset.wrapping_sub(Self::Uart(0).offset());
        if uart < u64::from(UART_LEN) {
            return Some(Self::Uart(uart as u8));
        }
        let vector = offset.wrapping_sub(Self::Fault(0).offset()) / 8;
        if vector < u64::from(VECTORS) {
            return Some(Self::Fault(vector as u8));
        }
        let start = offset & !7;
        Self::SINGLE.into_iter().find(|one| one.offset() == start)
    }

    /// Its name, for a report.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Doorbell => "DOORBELL",
            Self::Park => "PARK",
            Self::Kick => "KICK",
            Self::Exit => "EXIT",
            Self::Panic => "PANIC",
            Self::Uart(_) => "UART",
            Self::Fault(_) => "FAULT",
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::protocol::layout::PAGE_SIZE;
    use proptest::prelude::*;

    fn all() -> impl Iterator<Item = Register> {
        let uart = (0..UART_LEN).map(Register::Uart);
        let fault = (0..VECTORS).map(Register::Fault);
        Register::SINGLE.into_iter().chain(uart).chain(fault)
    }

    #[test]
    fn offsets_are_those_of_the_specification() {
        let offsets: alloc::vec::Vec<u64> = all().map(Register::offset).collect();
        let single = [0, 8, 0x10, 0x18, 0x20];
        let rest = (0x100..0x108).chain((0x400..0x500).step_by(8));
        assert!(offsets.into_iter().eq(single.into_iter().chain(rest)));
    }

    #[test]
    fn a_register_is_found_by_its_address_and_width_alone() {
        for register in all() {
            let (address, width) = (register.address(), register.width());
            assert_eq!(Register::from_access(address, width), Some(register));
            for len in (0..=16).filter(|&len| len != width) {
                assert_eq!(Register::from_access(address, len), None, "{register:?}");
            }
            for inside in 1..width as u64 {
                assert_eq!(Register::containing(address + inside), Some(register));
                assert_eq!(Register::from_access(address + inside, width), None);
            }
        }
        for offset in [0x28, 0xff, 0x108, 0x3ff, 0x500, PAGE_SIZE - 8] {
            assert_eq!(
                Register::containing(MMIO_BASE + offset),
                None,
                "{offset:#x}"
            );
        }
        assert_eq!(Register::containing(MMIO_BASE - 8), None);
    }

    proptest! {
        #[test]
        fn no_access_panics(address: u64, near in 0..PAGE_SIZE, len in 0usize..17) {
            for address in [address, MMIO_BASE + near] {
                let _ = Register::from_access(address, len);
            }
        }
    }
}
