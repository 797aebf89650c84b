//! Tests of the notification area: its layout, its sets and its flags.

use super::*;
use crate::memory::ShmOffset;
use crate::protocol::layout::MAX_VCPUS;
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crate::testing::test_arena;
use alloc::vec::Vec;
use proptest::prelude::*;

fn taken(set: ReadySet<'_>) -> Vec<u32> {
    let mut slots = Vec::new();
    set.take(|Slot(slot)| slots.push(slot));
    slots
}

proptest! {
    #[test]
    fn what_is_marked_is_taken_once_and_in_its_direction(
        mut slots in proptest::collection::btree_set(0u32..8192, 0..40),
    ) {
        let arena = test_arena(8192);
        let area = NotifyArea::join(&arena, ShmOffset(4096)).expect("fits");
        for &slot in &slots {
            area.to_monitor().mark(Slot(slot));
            area.to_monitor().mark(Slot(slot));
        }
        prop_assert!(!area.to_guest().any());
        prop_assert_eq!(area.to_monitor().any(), !slots.is_empty());
        for slot in taken(area.to_monitor()) {
            prop_assert!(slots.remove(&slot));
        }
        prop_assert!(slots.is_empty());
        prop_assert!(!area.to_monitor().any());
    }
}

#[test]
fn marks_out_of_range_and_stray_bits_are_dropped() {
    let arena = test_arena(256);
    let area = NotifyArea::join(&arena, ShmOffset(0)).expect("fits");
    area.to_guest().mark(Slot(u32::MAX));
    assert!(!area.to_guest().any());
    for word in area.to_guest().summary {
        word.store(u64::MAX, Ordering::Relaxed);
    }
    assert_eq!(taken(area.to_guest()), []);
}

#[test]
fn only_one_sender_takes_a_flag_down() {
    let arena = test_arena(256);
    let area = NotifyArea::join(&arena, ShmOffset(0)).expect("fits");
    assert!(!area.vcpu(3).claim_wake());
    area.vcpu(3).prepare_sleep();
    assert!(!area.vcpu(2).claim_wake() && !area.monitor().claim_wake());
    assert!(area.vcpu(3).claim_wake());
    assert!(!area.vcpu(3).claim_wake());
}

#[test]
fn an_area_must_fit() {
    let arena = test_arena(1);
    assert!(NotifyArea::join(&arena, ShmOffset(0)).is_ok());
    assert!(NotifyArea::join(&arena, ShmOffset(4032)).is_err());
    assert!(NotifyArea::join(&arena, ShmOffset(8)).is_err());
}

#[test]
fn a_slot_is_an_offset_in_smallest_blocks() {
    for (offset, slot) in [(0, 0), (4095, 0), (4096, 1), (3 * 4096 + 1, 3)] {
        assert_eq!(Slot::from(ShmOffset(offset)), Slot(slot));
    }
}

#[test]
fn an_area_takes_whole_cache_lines_for_each_set() {
    for (arena, size) in [
        (1, 1088 + 2 * 8 * (8 + 8)),
        (64 << 20, 1088 + 2 * 8 * (256 + 8)),
        ((256 << 20) + 1, 1088 + 2 * 8 * (1032 + 24)),
    ] {
        assert_eq!(NotifyArea::required_size(arena), size, "{arena}");
    }
}

/// The area is where its layout says, word for word: the peer may be another
/// build.
#[test]
fn an_area_is_laid_out_as_documented() {
    // 264 leaf words and 8 summary words for each direction.
    let arena = test_arena(16_400);
    let area = NotifyArea::join(&arena, ShmOffset(4096)).expect("fits");
    assert_eq!(area.offset(), ShmOffset(4096));
    assert_eq!(area.arena().base(), arena.base());
    let word = |at: u64| {
        let address = arena
            .from_offset(ShmOffset(4096 + at), 8, 8)
            .expect("inside");
        // SAFETY: inside the arena, aligned, atomic.
        let word: &AtomicU64 = unsafe { address.cast().as_ref() };
        word.load(Ordering::Relaxed)
    };
    area.monitor().prepare_sleep();
    assert_eq!(word(0), 1);
    for vcpu in 0..MAX_VCPUS {
        area.vcpu(vcpu).prepare_sleep();
        assert_eq!(word(64 * (1 + vcpu as u64)), 1);
    }
    area.vcpu(MAX_VCPUS - 1).finish_sleep();
    area.vcpu(MAX_VCPUS + 7).prepare_sleep();
    assert_eq!(word(64 * MAX_VCPUS as u64), 1);

    let counters = [Counter::Doorbells, Counter::Suppressed, Counter::Parks];
    for (index, counter) in counters.into_iter().enumerate() {
        for _ in 0..=index {
            area.count(2, counter);
        }
        area.count(MAX_VCPUS + 7, counter);
        assert_eq!(word(64 * 3 + 8 * (1 + index as u64)), 1 + index as u64);
        assert_eq!(word(64 * 16 + 8 * (1 + index as u64)), 1);
        assert_eq!(area.counted(counter), 2 + index as u64);
    }

    let slot = 4096 + 64 + 3;
    area.to_monitor().mark(Slot(slot));
    assert_eq!((word(1088), word(1096)), (0, 1 << 1));
    assert_eq!(word(1088 + 8 * (8 + 65)), 1 << 3);
    area.to_guest().mark(Slot(slot));
    let other = 1088 + 8 * (8 + 264);
    assert_eq!((word(other), word(other + 8)), (0, 1 << 1));
    assert_eq!(word(other + 8 * (8 + 65)), 1 << 3);
    assert_eq!(taken(area.to_monitor()), [slot]);
    assert_eq!((word(1096), word(1088 + 8 * (8 + 65))), (0, 0));
    assert_eq!(taken(area.to_guest()), [slot]);
}

#[test]
fn a_mark_that_stands_is_not_summarised_again() {
    let arena = test_arena(256);
    let area = NotifyArea::join(&arena, ShmOffset(0)).expect("fits");
    let set = area.to_guest();
    set.mark(Slot(5));
    set.summary[0].store(0, Ordering::Relaxed);
    set.mark(Slot(5));
    assert!(!set.any());
    set.mark(Slot(6));
    assert!(set.any());
    assert_eq!(taken(set), [5, 6]);
}

#[test]
fn marks_of_another_word_of_the_summary_are_found() {
    let arena = test_arena(8192);
    let area = NotifyArea::join(&arena, ShmOffset(0)).expect("fits");
    area.to_guest().mark(Slot(64 * 64));
    area.to_guest().mark(Slot(64 * 64 + 64 * 3 + 1));
    assert!(area.to_guest().any());
    assert_eq!(taken(area.to_guest()), [4096, 4289]);
}

#[test]
fn a_mark_is_seen_until_it_is_taken_and_the_lowest_is_the_first() {
    let arena = test_arena(8192);
    let area = NotifyArea::join(&arena, ShmOffset(0)).expect("fits");
    let set = area.to_guest();
    let (low, high, out) = (Slot(70), Slot(64 * 64 + 3), Slot(u32::MAX));
    assert_eq!((set.first(), set.is_marked(low)), (None, false));
    set.mark(high);
    assert_eq!(set.first(), Some(high));
    set.mark(low);
    assert_eq!(set.first(), Some(low));
    let marked = [Slot(69), low, Slot(71), high, out].map(|slot| set.is_marked(slot));
    assert_eq!(marked, [false, true, false, true, false]);
    assert_eq!(taken(set), [70, 4099]);
    assert_eq!((set.first(), set.is_marked(low)), (None, false));
    // Of a summary alone there is no mark.
    set.summary[0].store(u64::MAX, Ordering::Relaxed);
    assert_eq!((set.first(), set.any()), (None, true));
}

#[test]
fn the_states_of_vcpus_are_their_flags() {
    let arena = test_arena(256);
    let area = NotifyArea::join(&arena, ShmOffset(0)).expect("fits");
    area.vcpu(1).prepare_sleep();
    area.vcpu(2).prepare_poll();
    let states: Vec<_> = area.vcpu_states(4).collect();
    use SleeperState::{Asleep, Awake, Polling};
    assert_eq!(states, [Awake, Asleep, Polling, Awake]);
}

#[test]
fn a_flag_is_up_until_it_is_lowered_or_taken() {
    let word = AtomicU32::new(0);
    let sleeper = Sleeper::new(&word);
    assert!(!sleeper.is_asleep());
    sleeper.prepare_sleep();
    assert!(sleeper.is_asleep() && sleeper.is_asleep());
    sleeper.finish_sleep();
    assert!(!sleeper.is_asleep() && !sleeper.claim_wake());
    sleeper.prepare_sleep();
    assert!(sleeper.claim_wake() && !sleeper.is_asleep());
    // Whatever else stands there is not a sleeper.
    word.store(2, Ordering::Relaxed);
    assert!(!sleeper.is_asleep() && !sleeper.claim_wake());
    assert_eq!(word.load(Ordering::Relaxed), 2);
}
