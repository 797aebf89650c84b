//! What a guest's process needs of the kernel, taken away one by one: a line says what
//! is lacking and which command mends it.

#[path = "../src/testimage.rs"]
#[allow(dead_code)]
mod testimage;

use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};
use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use tempfile::NamedTempFile;
use testimage::ImageBuilder;

/// A filter by which a system call fails: if its first argument is this, or always.
fn without(call: libc::c_long, argument: Option<u64>, errno: libc::c_int) -> BpfProgram {
    let rule = argument.map(|value| rule(0, value));
    filter([(call, rule.into_iter().collect())].into(), errno)
}

/// A rule for calls with this argument.
fn rule(index: u8, value: u64) -> SeccompRule {
    let condition = SeccompCondition::new(index, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, value);
    SeccompRule::new(vec![condition.expect("an argument")]).expect("a rule")
}

fn filter(rules: BTreeMap<i64, Vec<SeccompRule>>, errno: libc::c_int) -> BpfProgram {
    SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(errno as u32),
        std::env::consts::ARCH.try_into().expect("known"),
    )
    .and_then(TryInto::try_into)
    .expect("a filter")
}

/// What the command says on that platform where a filter has been set: it does not
/// start.
#[track_caller]
fn refused(filter: &BpfProgram, platform: &str) -> String {
    let mut image = NamedTempFile::new().expect("file");
    let spin = ImageBuilder::new(&[0xeb, 0xfe]).build();
    image.write_all(&spin).expect("written");
    let filter = filter.clone();
    let mut command = Command::new(env!("CARGO_BIN_EXE_arca-vmm"));
    command.args(["--platform", platform, "--timeout", "20s"]);
    command.arg(image.path()).stdin(Stdio::null());
    // SAFETY: between fork and exec it makes system calls and nothing else.
    unsafe {
        command.pre_exec(move || seccompiler::apply_filter(&filter).map_err(std::io::Error::other))
    };
    let output = command.output().expect("runs");
    let said = String::from_utf8(output.stderr).expect("text");
    assert_eq!(
        (output.status.code(), said.lines().count()),
        (Some(125), 1),
        "{said}"
    );
    said
}

/// A process that lacks this says so, and what mends it.
#[track_caller]
fn told_of(filter: &BpfProgram, what: &str, mend: &str) {
    let said = refused(filter, "process");
    assert!(said.contains(what) && said.contains(mend), "{said}");
}

#[test]
fn system_calls_that_cannot_be_given_up() {
    let filter = without(libc::SYS_seccomp, None, libc::ENOSYS);
    told_of(&filter, "no seccomp filters", "`zgrep SECCOMP_FILTER");
    let filter = without(libc::SYS_seccomp, None, libc::EPERM);
    told_of(&filter, "seccomp(2) is forbidden", "`docker run");
}

#[test]
fn addresses_that_may_not_be_mapped() {
    let filter = without(libc::SYS_mmap, Some(0x18_0000), libc::EPERM);
    told_of(
        &filter,
        "may not map 0x180000",
        "`sudo sysctl -w vm.mmap_min_addr=65536`",
    );
}

#[test]
fn files_in_memory_that_may_not_be_or_not_be_executed() {
    let filter = without(libc::SYS_memfd_create, None, libc::EACCES);
    told_of(
        &filter,
        "may not be executed",
        "`sudo sysctl -w vm.memfd_noexec=0`",
    );
    let filter = without(libc::SYS_memfd_create, None, libc::ENOSYS);
    told_of(&filter, "no files in memory", "`docker run");
}

#[test]
fn neither_platform_is_one_line_with_both_reasons() {
    // Without this no machine can be made, nor a filter set for all of a process.
    const KVM_CREATE_VM: u64 = 0xae01;
    let rules = BTreeMap::from([
        (libc::SYS_seccomp, Vec::new()),
        (libc::SYS_ioctl, vec![rule(1, KVM_CREATE_VM)]),
    ]);
    let said = refused(&filter(rules, libc::ENOSYS), "auto");
    assert!(said.contains("/dev/kvm"), "{said}");
    assert!(
        said.contains("in a process here") && said.contains("`zgrep"),
        "{said}"
    );
}
