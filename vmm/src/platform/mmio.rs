//! The MMIO page: which register an access means.

use arca_shared::protocol::layout::{MMIO_BASE, mmio};

/// A write that has a meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// Sleep until woken, or until this time of the guest's clock.
    Park(Option<u64>),
    /// Wake the vCPU of this index.
    Kick(u64),
    /// End with this exit code.
    Exit(u8),
    /// End as a crash: a panic was reported.
    Panic,
    /// An exception stub tells its vector.
    Fault(u8),
    /// A byte for a register of the UART.
    Uart(u8, u8),
}

/// A read that has a meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// A register of the UART.
    Uart(u8),
}

/// What a write of these bytes to a guest-physical address means.
///
/// The doorbell is not here: the kernel takes a write to it, and one that still
/// comes this way is no access that a guest should make.
pub fn decode_write(address: u64, bytes: &[u8]) -> Option<Write> {
    let register = address.checked_sub(MMIO_BASE)?;
    if let Some(uart) = uart_register(register, bytes.len()) {
        return Some(Write::Uart(uart, bytes[0]));
    }
    let value = u64::from_le_bytes(bytes.try_into().ok()?);
    match register {
        mmio::PARK => Some(Write::Park((value != mmio::NO_DEADLINE).then_some(value))),
        mmio::KICK => Some(Write::Kick(value)),
        mmio::EXIT => Some(Write::Exit(value as u8)),
        mmio::PANIC => Some(Write::Panic),
        _ => {
            let fault = register.checked_sub(mmio::FAULT)?;
            let vector = fault / 8;
            (fault % 8 == 0 && vector < mmio::FAULT_VECTORS).then_some(Write::Fault(vector as u8))
        }
    }
}

/// What a read of that many bytes from a guest-physical address means.
pub fn decode_read(address: u64, len: usize) -> Option<Read> {
    uart_register(address.checked_sub(MMIO_BASE)?, len).map(Read::Uart)
}

fn uart_register(register: u64, len: usize) -> Option<u8> {
    let offset = register.checked_sub(mmio::UART)?;
    (offset < mmio::UART_LEN && len == 1).then_some(offset as u8)
}

/// The name of a register, for a report.
pub fn register_name(address: u64) -> Option<&'static str> {
    match address.checked_sub(MMIO_BASE)? & !7 {
        mmio::DOORBELL => Some("DOORBELL"),
        mmio::PARK => Some("PARK"),
        mmio::KICK => Some("KICK"),
        mmio::EXIT => Some("EXIT"),
        mmio::PANIC => Some("PANIC"),
        mmio::UART => Some("UART"),
        register if (mmio::FAULT..mmio::FAULT + 8 * mmio::FAULT_VECTORS).contains(&register) => {
            Some("FAULT")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn write(register: u64, value: u64) -> Option<Write> {
        decode_write(MMIO_BASE + register, &value.to_le_bytes())
    }

    #[test]
    fn registers_are_decoded() {
        assert_eq!(write(mmio::PARK, u64::MAX), Some(Write::Park(None)));
        assert_eq!(write(mmio::PARK, 5), Some(Write::Park(Some(5))));
        assert_eq!(write(mmio::KICK, 3), Some(Write::Kick(3)));
        assert_eq!(write(mmio::EXIT, 0x1_07), Some(Write::Exit(7)));
        assert_eq!(write(mmio::PANIC, 1), Some(Write::Panic));
        assert_eq!(write(mmio::FAULT + 8 * 14, 0), Some(Write::Fault(14)));
        let uart = MMIO_BASE + mmio::UART;
        assert_eq!(decode_write(uart + 7, &[0x41]), Some(Write::Uart(7, 0x41)));
        assert_eq!(decode_read(uart + 5, 1), Some(Read::Uart(5)));
    }

    #[test]
    fn other_accesses_mean_nothing() {
        assert_eq!(write(mmio::DOORBELL, 1), None);
        assert_eq!(write(mmio::FAULT + 8 * 32, 0), None);
        assert_eq!(write(mmio::FAULT + 4, 0), None);
        assert_eq!(write(mmio::UART, 0), None);
        assert_eq!(write(0xff8, 0), None);
        assert_eq!(decode_write(MMIO_BASE + mmio::EXIT, &[0; 4]), None);
        assert_eq!(decode_write(0, &[0; 8]), None);
        assert_eq!(decode_read(MMIO_BASE + mmio::UART, 2), None);
        assert_eq!(decode_read(MMIO_BASE + mmio::PARK, 8), None);
    }

    proptest! {
        #[test]
        fn no_access_panics(address: u64, near in 0u64..0x1000, bytes in prop::collection::vec(any::<u8>(), 0..9)) {
            for address in [address, MMIO_BASE + near] {
                let _ = decode_write(address, &bytes);
                let _ = decode_read(address, bytes.len());
                let _ = register_name(address);
            }
        }
    }
}
