//! The host's side of a session's shared memory, before a monitor serves it.

use crate::error::LinkError;
use crate::standard::{StandardPipe, StandardShared};
use crate::wake::notifier::{GuestNotifier, VcpuWaker};
use arca_shared::memory::Arena;
use arca_shared::memory::BuddyAllocator;
use arca_shared::pipe::PipePlace;
use arca_shared::pipe::PipeRegion;
use arca_shared::pipe::{BidirectionalPipe, RingSize, Side};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::io;
use std::sync::Arc;

/// Region of the control pipe, in bytes, where the arena is large enough: room
/// for the replies to some six thousand requests at once.
const CONTROL_REGION: u64 = 1 << 20;

/// Host side of a session's shared memory: the arena and its allocator, the
/// control pipe, the notification area and the doorbell.
pub struct Link {
    pub(crate) allocator: BuddyAllocator,
    pub(crate) control: BidirectionalPipe,
    pub(crate) control_region: PipeRegion,
    pub(crate) notifier: Arc<GuestNotifier>,
    pub(crate) doorbell: EventFd,
    pub(crate) standards: Vec<Arc<StandardShared>>,
}

impl Link {
    /// Lays out a session in `arena`, whose memory must be all zeros. `waker`
    /// wakes the guest's vCPUs, of which there are `vcpus`.
    ///
    /// # Errors
    ///
    /// [`LinkError`]: the arena is too small, or the host out of descriptors.
    pub fn new(arena: Arena, waker: Arc<dyn VcpuWaker>, vcpus: usize) -> Result<Self, LinkError> {
        let allocator = BuddyAllocator::new(arena);
        // At most an eighth of the arena, for small arenas.
        let share = (allocator.capacity() as u64 / 8).max(1);
        let size = CONTROL_REGION.min(1 << share.ilog2());
        let (control, control_region) =
            allocate_pipe(&allocator, RingSize::for_region(size)?, "the control pipe")?;
        let notifier = Arc::new(GuestNotifier::new(&allocator, waker, vcpus)?);
        Ok(Self {
            allocator,
            control,
            control_region,
            notifier,
            doorbell: new_eventfd().map_err(LinkError::Eventfd)?,
            standards: Vec::new(),
        })
    }

    /// What wakes the monitor: an eventfd that KVM signals at the guest's write
    /// to the doorbell, or that a host thread writes.
    #[must_use]
    pub fn doorbell(&self) -> &EventFd {
        &self.doorbell
    }

    /// Where the control pipe is.
    #[must_use]
    pub fn control(&self) -> PipePlace {
        self.control_region.place()
    }

    /// Where the notification area is: its offset in the arena.
    #[must_use]
    pub fn notify_offset(&self) -> u64 {
        self.notifier.offset().0
    }

    /// Allocates a standard pipe (input, output, log), with `ring_size` bytes
    /// in each direction. Its host end is for a thread of its own.
    ///
    /// # Errors
    ///
    /// [`LinkError::NoRoom`] or [`LinkError::Pipe`].
    pub fn standard_pipe(&mut self, ring_size: u64) -> Result<StandardPipe, LinkError> {
        let size = RingSize::new(ring_size)?;
        let (pipe, region) = allocate_pipe(&self.allocator, size, "a standard pipe")?;
        let standard = Arc::new(StandardShared::new(self.allocator.arena(), region)?);
        self.standards.push(Arc::clone(&standard));
        Ok(StandardPipe::new(
            pipe,
            standard,
            Arc::clone(&self.notifier),
        ))
    }
}

fn allocate_pipe(
    allocator: &BuddyAllocator,
    size: RingSize,
    what: &'static str,
) -> Result<(BidirectionalPipe, PipeRegion), LinkError> {
    let region = PipeRegion::allocate(allocator, size).map_err(|_| LinkError::NoRoom {
        what,
        size: size.required_size(),
    })?;
    let pipe = BidirectionalPipe::join(allocator.arena(), region.place(), Side::B)?;
    Ok((pipe, region))
}

/// A non-blocking eventfd.
pub(crate) fn new_eventfd() -> io::Result<EventFd> {
    let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
    EventFd::from_flags(flags).map_err(io::Error::from)
}
