//! From the first instruction to `main`.
//!
//! Every vCPU starts at the image's entry point, which the [`entry!`](crate::entry!)
//! macro defines, with the boot information's address and its own index. What
//! the first vCPU does, and what each step needs and leaves:
//!
//! 1. Record the stack, by which the code finds out later on which vCPU it runs.
//! 2. Check the boot information. From here on a failure has a clock and a reason.
//! 3. Claim the heap. From here on there are boxes and vectors.
//! 4. Join the arena: the reactor, then the session with the monitor. From here
//!    on the guest can wait and be woken, and the monitor knows that it rings.
//! 5. Join the log pipe and the standard streams.
//! 6. Kick the other vCPUs, which have waited for step 4.
//! 7. Run `main`, then end the guest with the code that it gave.

use crate::process::{self, ExitCode};
use crate::{boot, heap, logger, runtime, stdio, tasks, vcpu};
use arca_shared::protocol::boot::{BOOT_MAGIC, BootInfo, INTERFACE_VERSION};

/// Starts a vCPU; the first one runs `main`. Called by what
/// [`entry!`](crate::entry!) expands to.
///
/// # Safety
///
/// To be called once on each vCPU, as its first code, with the values that the
/// VMM started it with: `info` must be the address of a [`BootInfo`] that stays
/// readable and unchanged, and the memory it names must be mapped and unused.
#[doc(hidden)]
pub unsafe fn start(info: *const BootInfo, index: usize, main: fn() -> ExitCode) -> ! {
    if let Err(index) = vcpu::enter(index) {
        panic!("vCPU {index} is one more than this image can count");
    }
    if index != 0 {
        runtime::serve_tasks();
    }
    // SAFETY: the caller vouches for the address. Magic and version are the
    // first fields of every version, so that they can be compared before the
    // rest is believed.
    let info: &'static BootInfo = unsafe { &*info };
    assert!(
        info.magic == BOOT_MAGIC,
        "no boot information at {:#x}",
        core::ptr::from_ref(info).addr()
    );
    assert!(
        info.version == INTERFACE_VERSION,
        "the VMM speaks interface version {}, this image {INTERFACE_VERSION}: rebuild the older of them",
        info.version
    );
    boot::set(info);
    // SAFETY: this is the first vCPU, which comes here once, and the caller
    // vouches for the memory that `info` names as heap and arena.
    unsafe {
        heap::init(info);
        runtime::init(info);
    }
    tasks::init();
    logger::init();
    stdio::init();
    runtime::start_other_vcpus();
    process::exit(main())
}

/// Makes a function the program's `main`.
///
/// The function takes nothing and returns what
/// [`Termination`](crate::process::Termination) is implemented for: `()`, an
/// [`ExitCode`], or a `Result` whose error is printed to standard error.
///
/// ```ignore
/// #![no_std]
/// #![no_main]
///
/// arca_guest::entry!(main);
///
/// fn main() {
///     arca_guest::println!("hello");
/// }
/// ```
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        /// The image's entry point.
        ///
        /// # Safety
        ///
        /// Only the VMM may come here, once for each vCPU.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn _start(info: *const $crate::BootInfo, vcpu: usize) -> ! {
            fn run() -> $crate::process::ExitCode {
                $crate::process::Termination::report($main())
            }
            // SAFETY: the VMM starts each vCPU here, once, with the address of
            // the boot information and the vCPU's index.
            unsafe { $crate::entry::start(info, vcpu, run) }
        }
    };
}
