//! What a guest in a bare process needs of the kernel.

use super::{Lack, lack};
use arca_shared::protocol::layout::BOOT_INFO_BASE;
use nix::errno::Errno;
use nix::libc;
use nix::sched::{CloneFlags, unshare};
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// Filters of system calls, by which a process is ended for one outside its list.
pub fn seccomp() -> Result<String, Lack> {
    let action = libc::SECCOMP_RET_KILL_PROCESS;
    // SAFETY: the kernel reads the action, which outlives the call.
    let result = unsafe {
        let (call, flags) = (libc::SECCOMP_GET_ACTION_AVAIL, 0);
        libc::syscall(libc::SYS_seccomp, call, flags, &raw const action)
    };
    match Errno::result(result) {
        Ok(_) => Ok("filters of system calls, which can end a process".into()),
        Err(errno) => Err(lack(
            format!("the kernel has no seccomp filters: {}", errno.desc()),
            "boot a kernel with CONFIG_SECCOMP_FILTER",
        )),
    }
}

/// The file system taken away from a process by itself.
pub fn landlock() -> Result<String, Lack> {
    /// Asks for the version instead of making a set of rules.
    const VERSION: libc::c_uint = 1;
    // SAFETY: with this flag the kernel reads no memory.
    let result = unsafe {
        let none = std::ptr::null::<libc::c_void>();
        libc::syscall(libc::SYS_landlock_create_ruleset, none, 0_usize, VERSION)
    };
    match Errno::result(result) {
        Ok(version) => Ok(format!("version {version}")),
        Err(Errno::EOPNOTSUPP) => Err(lack(
            "landlock is turned off; guests have one wall less",
            "add landlock to the kernel's parameter lsm=",
        )),
        Err(errno) => Err(lack(
            format!(
                "the kernel has no landlock: {}; guests have one wall less",
                errno.desc()
            ),
            "boot Linux 5.13 or later with CONFIG_SECURITY_LANDLOCK",
        )),
    }
}

/// Namespaces of a process's own, made by any user.
pub fn namespaces() -> Result<String, Lack> {
    let mut command = Command::new("true");
    let streams = command.stdin(Stdio::null()).stdout(Stdio::null());
    streams.stderr(Stdio::null());
    // SAFETY: between fork and exec it makes a system call and nothing else.
    unsafe {
        let prepare = || unshare(CloneFlags::CLONE_NEWUSER).map_err(Into::into);
        command.pre_exec(prepare);
    }
    match command.status() {
        Ok(_) => Ok("a user's own may be made".into()),
        Err(error) => Err(lack(
            format!("none of a user's own may be made: {error}; guests have one wall less"),
            mend_namespaces(|name| fs::read_to_string(format!("/proc/sys/{name}")).ok()),
        )),
    }
}

/// The setting that forbids them.
fn mend_namespaces(read: impl Fn(&str) -> Option<String>) -> String {
    let settings = [
        ("user/max_user_namespaces", "0", "10000"),
        ("kernel/unprivileged_userns_clone", "0", "1"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
    ];
    let forbids =
        |(name, bad, _): &&(&str, &str, &str)| read(name).is_some_and(|value| value.trim() == *bad);
    match settings.iter().find(forbids) {
        Some((name, _, good)) => {
            format!(
                "allow them: `sudo sysctl -w {}={good}`",
                name.replace('/', ".")
            )
        }
        None => "what runs this container forbids them, and would have to allow them".into(),
    }
}

/// Low addresses: an image is linked to be there.
pub fn addresses() -> Result<String, Lack> {
    let setting = fs::read_to_string("/proc/sys/vm/mmap_min_addr").unwrap_or_default();
    lowest(setting.trim().parse().unwrap_or(0))
}

fn lowest(least: u64) -> Result<String, Lack> {
    match least <= BOOT_INFO_BASE {
        true => Ok(format!(
            "a process may map from {least:#x}, a guest is from {BOOT_INFO_BASE:#x}"
        )),
        false => Err(lack(
            format!(
                "a process may map nothing below {least:#x}, a guest is from {BOOT_INFO_BASE:#x}"
            ),
            "allow it: `sudo sysctl -w vm.mmap_min_addr=65536`",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setting_that_forbids_namespaces_is_named() {
        let with = |name: &'static str, value: &'static str| {
            mend_namespaces(move |asked| (asked == name).then(|| format!("{value}\n")))
        };
        assert!(with("user/max_user_namespaces", "0").contains("user.max_user_namespaces=10000"));
        let mend = with("kernel/apparmor_restrict_unprivileged_userns", "1");
        assert!(mend.contains("unprivileged_userns=0"), "{mend}");
        assert!(with("kernel/unprivileged_userns_clone", "1").contains("container"));
    }

    #[test]
    fn an_image_must_be_mappable() {
        assert!(lowest(0).is_ok() && lowest(65_536).is_ok() && lowest(BOOT_INFO_BASE).is_ok());
        let lack = lowest(BOOT_INFO_BASE + 4096).expect_err("too high");
        assert!(lack.mend.contains("vm.mmap_min_addr"), "{}", lack.mend);
    }
}
