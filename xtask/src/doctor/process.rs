//! What a guest in a bare process needs of the kernel.

use super::{Lack, lack};
use arca_vmm::{Platform, StartError};
use nix::errno::Errno;
use nix::libc;
use nix::sched::{CloneFlags, unshare};
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// The platform itself: a guest's process is started, without a guest.
pub fn look() -> Result<String, Lack> {
    match Platform::Process.check() {
        Ok(()) => Ok("a guest's process can be started, and gives up its system calls".into()),
        Err(StartError::ProcessLacks { what, mend }) => Err(lack(what, mend)),
        Err(error) => Err(lack(
            format!("{:#}", anyhow::Error::from(error)),
            "look into `sudo dmesg`",
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
            "boot with the parameter `lsm=landlock,$(cat /sys/kernel/security/lsm)`",
        )),
        Err(errno) => Err(lack(
            format!(
                "the kernel has no landlock: {}; guests have one wall less",
                errno.desc()
            ),
            "boot Linux 5.13 or later with CONFIG_SECURITY_LANDLOCK: `zgrep LANDLOCK \
             /proc/config.gz` shows whether this one has it",
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
        None => {
            "have this container allow them: `docker run --security-opt seccomp=unconfined`".into()
        }
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
}
