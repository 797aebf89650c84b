//! The machine that is measured.

use crate::plan::Workload;
use anyhow::{Context, Result};
use indicatif::ProgressBar;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::utsname::uname;
use nix::time::ClockId;
use nix::unistd::{SysconfVar, sysconf};
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Instant;

/// Percent of a core that other processes may take without a warning.
const NOISE: f64 = 10.0;

/// Processor, cores, kernel, kind of KVM and congestion control, in a line.
pub fn describe() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processor = field(&cpuinfo, "model name").unwrap_or("unknown processor");
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let kernel = uname().map_or_else(
        |_| "unknown kernel".into(),
        |name| name.release().to_string_lossy().into_owned(),
    );
    let flags = field(&cpuinfo, "flags").unwrap_or_default();
    let module = |name: &str| Path::new("/sys/module").join(name).exists();
    let hardware = flags.split(' ').any(|flag| flag == "vmx" || flag == "svm")
        || module("kvm_intel")
        || module("kvm_amd");
    let kvm = match hardware {
        true => "KVM with hardware virtualisation",
        false => "KVM without hardware virtualisation",
    };
    // One that paces, as BBR does, takes half of a native stream's throughput or more.
    let congestion = fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control");
    let congestion = congestion.as_deref().map_or("unknown", str::trim);
    format!("{processor}, {cores} cores, Linux {kernel}, {kvm}, congestion control {congestion}")
}

/// What the machine's processors do from some time on.
pub struct Load {
    start: Instant,
    busy: u64,
    own: u64,
}

impl Load {
    /// Starts to watch.
    ///
    /// # Errors
    ///
    /// If this process has no clock of its CPU time.
    pub fn watch() -> Result<Self> {
        Ok(Self {
            start: Instant::now(),
            busy: busy_ns().unwrap_or(0),
            own: own_ns()?,
        })
    }

    /// Percent of a core that processes other than this one took, and other than
    /// those that took `ours` nanoseconds in that time; none where the system
    /// does not say.
    pub fn of_others(&self, ours: u64) -> Option<f64> {
        let busy = busy_ns()?.saturating_sub(self.busy);
        let own = own_ns().ok()?.saturating_sub(self.own);
        let others = busy.saturating_sub(own + ours);
        Some(others as f64 / self.start.elapsed().as_nanos() as f64 * 100.0)
    }
}

impl Load {
    /// As [`Load::of_others`], with a warning if that is much.
    pub fn warn(&self, workload: Workload, ours: u64, progress: &ProgressBar) -> Option<f64> {
        let others = self.of_others(ours)?;
        if others > NOISE {
            let name = workload.name();
            progress.suspend(|| {
                crate::say(format_args!(
                    "warning: {name}: other processes took {others:.0}% of a core meanwhile"
                ));
            });
        }
        Some(others)
    }
}

/// CPU time of this process, in nanoseconds.
fn own_ns() -> Result<u64> {
    let time = ClockId::CLOCK_PROCESS_CPUTIME_ID
        .now()
        .context("CPU time")?;
    Ok(time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}

/// CPU time of everything since boot, in nanoseconds.
fn busy_ns() -> Option<u64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let line = text.lines().next()?.strip_prefix("cpu ")?;
    let fields: Vec<u64> = line
        .split_whitespace()
        .map_while(|field| field.parse().ok())
        .collect();
    // user nice system idle iowait irq softirq; a guest's time is in user's.
    let ticks: u64 = [0, 1, 2, 5, 6].iter().filter_map(|&i| fields.get(i)).sum();
    let rate = sysconf(SysconfVar::CLK_TCK).ok()??;
    Some(ticks * (1_000_000_000 / u64::try_from(rate).ok()?.max(1)))
}

/// A processor's field in /proc/cpuinfo.
fn field<'a>(cpuinfo: &'a str, name: &str) -> Option<&'a str> {
    cpuinfo.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim())
    })
}

/// Lets this process and those it starts have as many descriptors as they may.
///
/// # Errors
///
/// What setrlimit(2) says.
pub fn raise_descriptor_limit() -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("limit of descriptors")?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("limit of descriptors")
}

/// How many descriptors a process may have.
pub fn descriptor_limit() -> usize {
    // As few as POSIX has every process have.
    getrlimit(Resource::RLIMIT_NOFILE).map_or(20, |(soft, _)| soft as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_cpuinfo() {
        let text = "processor\t: 0\nmodel name\t: A: B\nflags\t\t: fpu vmx\n";
        assert_eq!(field(text, "model name"), Some("A: B"));
        assert_eq!(field(text, "flags"), Some("fpu vmx"));
        assert_eq!(field(text, "bugs"), None);
    }
}
