//! The runtime's one reactor and session, and what a vCPU does when it has
//! nothing to do.

use crate::hal::GuestHal;
use crate::{boot, registers};
use alloc::sync::Arc;
use arca_shared::client::ArcaSession;
use arca_shared::client::reactor::Reactor;
use arca_shared::memory::Arena;
use arca_shared::protocol::boot::BootInfo;
use core::future::Future;
use core::ptr::NonNull;
use spin::Once;

/// What exists once in a guest.
struct Runtime {
    reactor: Arc<Reactor>,
    session: ArcaSession,
}

static RUNTIME: Once<Runtime> = Once::new();

fn runtime() -> &'static Runtime {
    RUNTIME.get().expect("the runtime is up before the program")
}

/// Builds the reactor and the session.
///
/// # Safety
///
/// The memory that `info` names as the arena must be mapped writable and stay so
/// for ever.
pub(crate) unsafe fn init(info: &BootInfo) {
    let base = core::ptr::with_exposed_provenance_mut::<u8>(info.arena_base as usize);
    let Some(base) = NonNull::new(base) else {
        panic!("the boot information names no arena");
    };
    // SAFETY: the caller vouches for the memory, which the VMM has mapped; what
    // the monitor writes there is only ever reached through atomics and checked
    // offsets.
    let arena = unsafe { Arena::new(base, info.arena_len as usize) };
    let hal = Arc::new(GuestHal);
    let vcpus = info.vcpus as usize;
    let reactor = match Reactor::new(&arena, info.notify_offset, hal, vcpus) {
        Ok(reactor) => reactor,
        Err(error) => panic!("the notification area: {error}"),
    };
    let session = match ArcaSession::open(&reactor, info.control) {
        Ok(session) => session,
        Err(error) => panic!("the control pipe: {error}"),
    };
    session.make_the_programs();
    RUNTIME.call_once(|| Runtime { reactor, session });
}

/// The reactor, through which everything waits.
#[must_use]
pub fn reactor() -> &'static Arc<Reactor> {
    &runtime().reactor
}

/// The session with the monitor.
#[must_use]
pub fn session() -> &'static ArcaSession {
    &runtime().session
}

/// Runs `future` to its end. Other tasks run on this vCPU while it waits.
///
/// To be called from code that is not a task. From a task it works too, but the
/// task keeps its place on the stack meanwhile, and whatever runs on top of it
/// delays it.
pub fn block_on<F: Future>(future: F) -> F::Output {
    reactor().block_on(future)
}

/// Wakes a vCPU that sleeps and may run tasks, if there is one: a task is in the
/// queue.
pub(crate) fn wake_idle_vcpu() {
    // A lone vCPU is awake, for it is the one that asks.
    if boot::info().vcpus > 1 {
        reactor().wake_worker();
    }
}

/// Wakes that vCPU if it sleeps: a task is in its queue.
pub(crate) fn wake_vcpu(vcpu: usize) {
    // A lone vCPU is awake, for it is the one that asks.
    if boot::info().vcpus > 1 {
        reactor().wake(vcpu);
    }
}

/// Tells the other vCPUs that the runtime is up.
pub(crate) fn start_other_vcpus() {
    for vcpu in 1..boot::info().vcpus as usize {
        registers::kick(vcpu);
    }
}

/// Most tasks that a vCPU runs before it checks whether the monitor has
/// something for others.
const TASKS_PER_TURN: usize = 64;

/// What every vCPU but the first does: runs tasks, and sleeps while there are
/// none.
pub(crate) fn serve_tasks() -> ! {
    // The first vCPU kicks this one after the runtime is up; a kick that comes
    // before the park makes it return at once.
    while RUNTIME.get().is_none() {
        registers::park(None);
    }
    let reactor = reactor();
    loop {
        // First, because nobody else was woken for what came while this one polled.
        let any = reactor.turn();
        let mut ran = 0;
        while ran < TASKS_PER_TURN && reactor.work() {
            ran += 1;
        }
        if !any && ran == 0 {
            reactor.wait(&|| false);
        }
    }
}
