//! The way to the crash, by the chain of frame pointers.
//!
//! Nothing in guest memory is trusted: each step must lead further up a stack
//! of the guest's and to an address in its text, and there is a most number of
//! runs.

use crate::crash::Registers;
use crate::memory::GuestMemory;
use crate::memory::map::{AddressMap, Kind};
use arca_shared::protocol::layout::STACK_SIZE;

/// Most frames that are read: as many as a stack has room for, each with a
/// frame pointer and a return address.
const MAX_FRAMES: usize = STACK_SIZE as usize / 16;
/// Runs of frames that a report shows, from both ends.
const SHOWN: (usize, usize) = (32, 16);

/// Frames of a backtrace, one after the other, with the same return address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameRun {
    /// The address.
    pub address: u64,
    /// How many there are.
    pub times: usize,
    /// How many other runs follow that are left out.
    pub left_out: usize,
}

/// Makes of addresses what a report shows: equal ones that follow one another
/// become one run, and what is too much is left out of the middle.
pub fn condense(addresses: &[u64]) -> Vec<FrameRun> {
    let mut runs: Vec<FrameRun> = addresses
        .chunk_by(|a, b| a == b)
        .map(|run| FrameRun {
            address: run[0],
            times: run.len(),
            left_out: 0,
        })
        .collect();
    let (first, last) = SHOWN;
    if runs.len() > first + last {
        let middle = first..runs.len() - last;
        runs[first - 1].left_out = runs.drain(middle).map(|run| run.times).sum();
    }
    runs
}

/// Return addresses, innermost first, not counting the instruction pointer.
pub fn walk(memory: &GuestMemory, map: &AddressMap, registers: &Registers) -> Vec<u64> {
    let word = |address| read_word(memory, map, address);
    let mut addresses = Vec::new();
    if !map.is_text(registers.rip) {
        // A call to where no code is has pushed its return address, and no
        // frame has been made yet.
        addresses.extend(word(registers.rsp).filter(|address| map.is_text(*address)));
    }
    let mut frame = registers.rbp();
    while addresses.len() < MAX_FRAMES && is_stack(map, frame) {
        let (Some(next), Some(address)) = (word(frame), word(frame.wrapping_add(8))) else {
            break;
        };
        if !map.is_text(address) {
            break;
        }
        addresses.push(address);
        if next <= frame {
            break;
        }
        frame = next;
    }
    addresses
}

fn is_stack(map: &AddressMap, address: u64) -> bool {
    address.is_multiple_of(8)
        && map
            .find(address)
            .is_some_and(|region| matches!(region.kind, Kind::Stack(_)))
}

/// Reads eight bytes that the guest program could read.
fn read_word(memory: &GuestMemory, map: &AddressMap, address: u64) -> Option<u64> {
    let (physical, left) = map.translate(address)?;
    let mut bytes = [0; 8];
    (left >= 8 && memory.read(physical, &mut bytes)).then(|| u64::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::map::tests::sample;

    fn registers(rip: u64, rsp: u64, rbp: u64) -> Registers {
        let mut registers = Registers {
            rsp,
            rip,
            ..Registers::default()
        };
        registers.general[6] = rbp;
        registers
    }

    #[test]
    fn the_chain_is_followed_to_its_end() {
        let map = sample(1);
        let memory = GuestMemory::new(16 << 20, 4 << 20).expect("memory");
        let top = map.stack_top(0);
        for (at, value) in [
            (top - 64, top - 32),
            (top - 56, 0x20_0100),
            (top - 32, 0),
            (top - 24, 0x20_0200),
            (top - 128, 0x20_0300),
        ] {
            memory.write(at, &value.to_le_bytes()).expect("inside");
        }
        let walk = |registers| walk(&memory, &map, &registers);
        let chain = [0x20_0100, 0x20_0200];
        assert_eq!(walk(registers(0x20_0000, top - 128, top - 64)), chain);
        let called_null = walk(registers(0, top - 128, top - 64));
        assert_eq!(called_null, [0x20_0300, 0x20_0100, 0x20_0200]);
    }

    #[test]
    fn long_chains_are_condensed() {
        let frames = |address, times| FrameRun {
            address,
            times,
            left_out: 0,
        };
        assert_eq!(
            condense(&[1, 2, 2, 2, 1]),
            [frames(1, 1), frames(2, 3), frames(1, 1)]
        );
        let long: Vec<u64> = (0..100).collect();
        let runs = condense(&long);
        assert_eq!(runs.len(), 48);
        assert_eq!((runs[31].left_out, runs[32].address), (52, 84));
        assert!(condense(&[]).is_empty());
    }

    #[test]
    fn a_chain_that_leads_astray_ends() {
        let map = sample(1);
        let memory = GuestMemory::new(16 << 20, 4 << 20).expect("memory");
        let top = map.stack_top(0);
        // A loop, and addresses at and beyond every edge.
        memory
            .write(top - 64, &(top - 64).to_le_bytes())
            .expect("inside");
        memory
            .write(top - 56, &0x20_0100u64.to_le_bytes())
            .expect("inside");
        assert_eq!(
            walk(&memory, &map, &registers(0x20_0000, top, top - 64)).len(),
            1
        );
        for rbp in [0, 1, top, top - 8, top - 4, u64::MAX, u64::MAX - 7, 1 << 47] {
            assert!(
                walk(&memory, &map, &registers(0, rbp, rbp)).is_empty(),
                "{rbp:#x}"
            );
        }
    }
}
