//! What a guest's process needs of the kernel, looked at before it is wanted: what is
//! lacking has a line of its own, with the command that mends it.

use super::machine::ProcessMachine;
use crate::error::{StartError, StartError::ProcessLacks};
use crate::memory::GuestMemory;
use crate::memory::file::memory_file;
use crate::memory::map::AddressMap;
use crate::platform::machine::Machine;
use crate::platform::vcpu::Start;
use arca_shared::protocol::layout::{
    ARENA_SIZE_MIN, BOOT_INFO_BASE, IMAGE_BASE, LOW_MEMORY_MIN, PAGE_SIZE,
};
use arca_stub::area::AREA_SIZE;
use nix::errno::Errno;
use nix::libc;
use nix::sys::eventfd::EventFd;
use nix::unistd::{AccessFlags, access};
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

/// Allows what a container's own list of system calls forbids.
const ALLOW_CALLS: &str = "have this container allow it: `docker run --security-opt \
    seccomp=unconfined`";

/// Looks at each; microseconds in all.
pub fn look() -> Result<(), StartError> {
    program()?;
    filters()?;
    addresses(Errno::result(map_nothing_at(BOOT_INFO_BASE)).map(drop))
}

/// Starts a process as a guest's, and gives it no guest; a millisecond or two.
pub fn try_out() -> Result<(), StartError> {
    look()?;
    let (low, arena) = (LOW_MEMORY_MIN, ARENA_SIZE_MIN);
    let memory = GuestMemory::shared(AREA_SIZE as u64, low, arena)?;
    let map = AddressMap::new(&[], 1, low, arena)?;
    let doorbell = EventFd::new().map_err(|errno| StartError::Host {
        action: "make an eventfd",
        source: errno.into(),
    })?;
    let mut machine = ProcessMachine::new(&memory, &map)?;
    machine.connect_doorbell(doorbell.as_fd())?;
    machine.make_vcpus(&[Start {
        entry: IMAGE_BASE,
        stack_top: map.stack_top(0),
        boot_info: BOOT_INFO_BASE,
    }])?;
    machine.wait_ready()
}

/// The stub is a file in memory, executed by its name in /proc.
fn program() -> Result<(), StartError> {
    let file = memory_file("arca-probe", 0).map_err(|error| match error.raw_os_error() {
        Some(libc::EACCES) => not_executable(),
        _ => lacks(
            format!("there are no files in memory ({error})"),
            ALLOW_CALLS,
        ),
    })?;
    let name = format!("/proc/self/fd/{}", file.as_raw_fd());
    if !Path::new(&name).exists() {
        return Err(lacks(
            "there is no /proc, by which its program is started",
            "mount it: `sudo mount -t proc proc /proc`",
        ));
    }
    access(&*name, AccessFlags::X_OK).map_err(|_| not_executable())
}

fn not_executable() -> StartError {
    lacks(
        "files in memory may not be executed",
        "allow it: `sudo sysctl -w vm.memfd_noexec=0`, or where that is refused, in the \
         namespace of processes that this one belongs to",
    )
}

/// Filters of system calls, for all threads of a process at once.
fn filters() -> Result<(), StartError> {
    let none = std::ptr::null::<libc::c_void>();
    let flags = libc::SECCOMP_FILTER_FLAG_TSYNC | libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    // SAFETY: there is no filter at this address; whoever knows the request says so.
    let result = unsafe {
        let request = libc::SECCOMP_SET_MODE_FILTER;
        libc::syscall(libc::SYS_seccomp, request, flags, none)
    };
    match Errno::result(result) {
        Err(Errno::EFAULT) => Ok(()),
        Err(Errno::EPERM) => Err(lacks("seccomp(2) is forbidden", ALLOW_CALLS)),
        _ => Err(lacks(
            "the kernel has no seccomp filters",
            "boot Linux 4.17 or later with CONFIG_SECCOMP_FILTER: `zgrep SECCOMP_FILTER \
             /proc/config.gz` shows whether this one has it",
        )),
    }
}

/// Low addresses: a guest's memory is at them. `mapped`: whether the lowest can be.
fn addresses(mapped: Result<(), Errno>) -> Result<(), StartError> {
    match mapped {
        Err(Errno::EPERM | Errno::EACCES) => Err(lacks(
            format!("a process may not map {BOOT_INFO_BASE:#x}, where a guest's memory begins"),
            "allow it: `sudo sysctl -w vm.mmap_min_addr=65536`",
        )),
        // Whatever this process has there, the guest's has not.
        _ => Ok(()),
    }
}

/// Maps a page, unless there is one, and gives it back.
fn map_nothing_at(address: u64) -> libc::c_int {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
    let at = std::ptr::without_provenance_mut(address as usize);
    let len = PAGE_SIZE as usize;
    // SAFETY: replaces no mapping, and the page may not be accessed.
    let page = unsafe { libc::mmap(at, len, libc::PROT_NONE, flags, -1, 0) };
    if page == libc::MAP_FAILED {
        return -1;
    }
    // SAFETY: the page has just been mapped, and nobody has it.
    unsafe { libc::munmap(page, len) }
}

fn lacks(what: impl Into<String>, mend: &'static str) -> StartError {
    ProcessLacks {
        what: what.into(),
        mend,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_process() {
        try_out().expect("the tests need one");
    }

    #[test]
    fn a_lowest_address_above_the_guests_is_named() {
        for errno in [Errno::EEXIST, Errno::ENOMEM] {
            addresses(Err(errno)).expect("this process's own affair");
        }
        let text = addresses(Err(Errno::EPERM))
            .expect_err("it may not")
            .to_string();
        assert!(
            text.contains("0x180000") && text.contains("`sudo sysctl -w vm.mmap"),
            "{text}"
        );
    }
}
