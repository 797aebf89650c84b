//! Marking slots for the guest, and waking one of its vCPUs.

use allocator_api2::alloc::{Allocator, Layout};
use arca_shared::memory::BuddyAllocator;
use arca_shared::memory::ShmOffset;
use arca_shared::notify::{NotifyArea, SleeperState, Slot};
use arca_shared::protocol::layout::MAX_VCPUS;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::LinkError;

/// How a sleeping vCPU (in tests: a thread) is woken.
pub trait VcpuWaker: Send + Sync {
    /// Wakes the vCPU of that index, or gives it a token that its next park
    /// consumes. Called from any host thread, and does not block.
    fn wake(&self, vcpu: usize);
}

/// Who has to be woken for a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Nobody: all are awake, or one polls.
    Nobody,
    /// One that sleeps, unless another, which is awake, has taken the mark first.
    SleeperUnlessTaken,
    /// One that sleeps: all do.
    Sleeper,
}

/// Marks slots for the guest and wakes one of its vCPUs if one sleeps. Shared by the
/// monitor's thread and the threads of the standard pipes.
pub(crate) struct GuestNotifier {
    area: NotifyArea,
    waker: Arc<dyn VcpuWaker>,
    vcpus: usize,
    wakes_sent: AtomicU64,
    wakes_suppressed: AtomicU64,
    _memory: AreaMemory,
}

/// The notification area's block of the arena.
struct AreaMemory {
    address: NonNull<u8>,
    layout: Layout,
    allocator: BuddyAllocator,
}

// SAFETY: an owned address range; nothing is read or written through it.
unsafe impl Send for AreaMemory {}
// SAFETY: as above.
unsafe impl Sync for AreaMemory {}

impl Drop for AreaMemory {
    fn drop(&mut self) {
        // SAFETY: allocated in `GuestNotifier::new` from this allocator with
        // this layout, and owned by this value alone; the area that lies in it
        // is dropped together with it.
        unsafe { self.allocator.deallocate(self.address, self.layout) }
    }
}

impl GuestNotifier {
    /// Allocates the notification area.
    pub(crate) fn new(
        allocator: &BuddyAllocator,
        waker: Arc<dyn VcpuWaker>,
        vcpus: usize,
    ) -> Result<Self, LinkError> {
        let arena = allocator.arena();
        let size = NotifyArea::required_size(arena.len());
        let layout = Layout::from_size_align(size, 64).map_err(|_| LinkError::NoRoom {
            what: "the notification area",
            size: size as u64,
        })?;
        let block = allocator.allocate_zeroed(layout);
        let address = block
            .map_err(|_| LinkError::NoRoom {
                what: "the notification area",
                size: size as u64,
            })?
            .cast::<u8>();
        let memory = AreaMemory {
            address,
            layout,
            allocator: allocator.clone(),
        };
        let area = NotifyArea::join(arena, arena.to_offset(address)?)?;
        Ok(Self {
            area,
            waker,
            vcpus: vcpus.min(MAX_VCPUS),
            wakes_sent: AtomicU64::new(0),
            wakes_suppressed: AtomicU64::new(0),
            _memory: memory,
        })
    }

    pub(crate) fn area(&self) -> &NotifyArea {
        &self.area
    }

    pub(crate) fn offset(&self) -> ShmOffset {
        self.area.offset()
    }

    /// Marks a slot, and wakes a vCPU at once if one sleeps and none polls.
    pub(crate) fn mark_and_wake(&self, slot: Slot) {
        if self.mark(slot) != Need::Nobody {
            self.wake();
        }
    }

    /// Marks a slot and leaves the wake to the caller. Whom it needs is as of now: a
    /// vCPU that goes to sleep later finds the mark by itself.
    #[must_use]
    pub(crate) fn mark(&self, slot: Slot) -> Need {
        self.area.to_guest().mark(slot);
        let need = self.need();
        if need == Need::Nobody {
            self.count_saved();
        }
        need
    }

    /// Whether no mark stands, as of now: whoever took them acts on them.
    pub(crate) fn all_taken(&self) -> bool {
        !self.area.to_guest().any()
    }

    /// Whether that slot's mark stands, as of now.
    pub(crate) fn is_marked(&self, slot: Slot) -> bool {
        self.area.to_guest().is_marked(slot)
    }

    /// One of the marks that stand, as of now.
    pub(crate) fn first_mark(&self) -> Option<Slot> {
        self.area.to_guest().first()
    }

    /// Counts a wake that was not needed after all.
    pub(crate) fn count_saved(&self) {
        // Relaxed: a counter.
        self.wakes_suppressed.fetch_add(1, Ordering::Relaxed);
    }

    /// Who is needed for the marks that stand.
    fn need(&self) -> Need {
        let mut need = Need::Nobody;
        let mut awake = false;
        for state in self.area.vcpu_states(self.vcpus) {
            match state {
                SleeperState::Polling => return Need::Nobody,
                SleeperState::Asleep => need = Need::Sleeper,
                SleeperState::Awake => awake = true,
            }
        }
        match need {
            Need::Sleeper if awake => Need::SleeperUnlessTaken,
            need => need,
        }
    }

    /// Wakes a vCPU that sleeps, unless the marks are taken by now or one polls for
    /// them; whether it did.
    pub(crate) fn wake(&self) -> bool {
        let wanted = !self.all_taken() && self.need() != Need::Nobody;
        let sleeper = match wanted {
            true => (0..self.vcpus).find(|&vcpu| self.area.vcpu(vcpu).claim_wake()),
            false => None,
        };
        if let Some(vcpu) = sleeper {
            self.waker.wake(vcpu);
            // Relaxed: a counter.
            self.wakes_sent.fetch_add(1, Ordering::Relaxed);
        } else {
            self.count_saved();
        }
        sleeper.is_some()
    }

    /// Wakes sent, and wakes that were not needed.
    pub(crate) fn wakes(&self) -> (u64, u64) {
        // Relaxed: counters.
        (
            self.wakes_sent.load(Ordering::Relaxed),
            self.wakes_suppressed.load(Ordering::Relaxed),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::test_arena;
    use std::sync::Mutex;

    /// Keeps whom it was to wake.
    #[derive(Default)]
    struct Woken(Mutex<Vec<usize>>);

    impl VcpuWaker for Woken {
        fn wake(&self, vcpu: usize) {
            self.0.lock().expect("no panic").push(vcpu);
        }
    }

    #[test]
    fn a_mark_wakes_one_that_sleeps_unless_one_polls() {
        let woken = Arc::new(Woken::default());
        let allocator = BuddyAllocator::new(test_arena(1 << 20));
        let notifier = GuestNotifier::new(&allocator, woken.clone(), 2).expect("room");
        let [first, second] = [0, 1].map(|vcpu| notifier.area().vcpu(vcpu));
        let woken = || std::mem::take(&mut *woken.0.lock().expect("no panic"));
        notifier.mark_and_wake(Slot(1));
        assert_eq!(woken(), [], "all are awake");
        second.prepare_sleep();
        notifier.mark_and_wake(Slot(1));
        assert_eq!(woken(), [1]);
        first.prepare_poll();
        second.prepare_sleep();
        notifier.mark_and_wake(Slot(1));
        assert_eq!(woken(), []);
        assert_eq!(notifier.wakes(), (1, 2), "sent and saved");
        assert!(notifier.is_marked(Slot(1)) && !notifier.is_marked(Slot(2)));
    }

    #[test]
    fn the_area_goes_back_with_its_owner() {
        let allocator = BuddyAllocator::new(test_arena(1 << 20));
        let free = allocator.largest_free();
        let notifier = GuestNotifier::new(&allocator, Arc::new(Woken::default()), 1).expect("room");
        assert!(allocator.largest_free() < free);
        drop(notifier);
        assert_eq!(allocator.largest_free(), free);
    }
}
