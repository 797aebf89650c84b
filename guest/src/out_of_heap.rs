//! Which panics mean that the heap is full.

use crate::boot;
use core::fmt::{self, Write};
use core::str;

/// That the heap had no room for what the program cannot do without.
pub(crate) struct OutOfHeap {
    /// Bytes that were asked for.
    asked: usize,
}

impl OutOfHeap {
    /// What a panic's message says of it: on stable Rust, the standard library's
    /// message is all that comes of a failed allocation.
    pub(crate) fn in_message(message: impl fmt::Display) -> Option<OutOfHeap> {
        let mut start = Start {
            text: [0; 64],
            len: 0,
        };
        // A longer message is another one.
        write!(start, "{message}").ok()?;
        let text = str::from_utf8(start.text.get(..start.len)?).ok()?;
        let asked = text.strip_prefix("memory allocation of ")?;
        let asked = asked.strip_suffix(" bytes failed")?.parse().ok()?;
        Some(OutOfHeap { asked })
    }
}

impl fmt::Display for OutOfHeap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { asked } = self;
        let size = boot::info().heap_len;
        write!(
            f,
            "out of heap: it has {size} bytes, of which no {asked} in one piece are left; \
             start the guest with a larger --memory"
        )
    }
}

/// A text, if it is short: as long as that message can be, or a little longer.
struct Start {
    text: [u8; 64],
    len: usize,
}

impl Write for Start {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.len + text.len();
        let room = self.text.get_mut(self.len..end).ok_or(fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::OutOfHeap;

    #[test]
    fn a_failed_allocation_is_told_from_other_panics() {
        let asked = |message: &str| OutOfHeap::in_message(message).map(|out| out.asked);
        assert_eq!(
            asked("memory allocation of 65536 bytes failed"),
            Some(65536)
        );
        let largest = std::format!("memory allocation of {} bytes failed", usize::MAX);
        assert_eq!(asked(&largest), Some(usize::MAX));
        for other in [
            "",
            "memory allocation of some bytes failed",
            "memory allocation of 1 bytes failed, as a program may say of itself",
        ] {
            assert_eq!(asked(other), None, "{other}");
        }
    }
}
