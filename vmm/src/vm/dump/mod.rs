//! The state of a guest: what is open, and what every vCPU and task waits for. It
//! explains a guest that hangs.
//!
//! | file | holds |
//! |---|---|
//! | `mod.rs` | the vCPUs, and the whole as a text |
//! | `tasks.rs` | the guest's task table, read as untrusted data |
//! | `waits.rs` | what is waited for, in words |

mod tasks;
mod waits;

use crate::crash::report::frames;
use crate::crash::symbols::Symbols;
use crate::crash::{At, Backtrace};
use crate::host::worker::Worker;
use crate::memory::image::CheckedImage;
use crate::memory::map::AddressMap;
use crate::platform::inspect::{Activity, VcpuState};
use crate::platform::machine::Machine;
use crate::platform::vcpu::VcpuShared;
use arca_monitor::MonitorHandle;
use std::cell::OnceCell;
use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tasks::{Reader, Tasks};
use waits::Waits;

/// How long a vCPU, and the monitor, have to say what they do. Both take
/// microseconds.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// Whoever describes a running guest.
pub struct Dumper<'a> {
    pub image: &'a CheckedImage,
    pub map: &'a AddressMap,
    pub machine: &'a dyn Machine,
    pub shared: &'a VcpuShared,
    pub monitor: &'a MonitorHandle,
    /// The standard pipes, by where they are in the arena.
    pub standard: [(u64, &'static str); 3],
    /// The image's bytes and symbols, read when they are first needed.
    pub bytes: &'a OnceCell<Option<Arc<[u8]>>>,
    pub symbols: OnceCell<Symbols<'a>>,
}

impl<'a> Dumper<'a> {
    /// Describes the guest, whose vCPUs these threads run. `why`: what it is
    /// described for.
    pub fn dump<T: Send + 'static>(&self, vcpus: &[Worker<T>], why: &str) -> String {
        let now = self.shared.clock.now();
        let mut text = format!("state of the guest {} after boot ({why})", seconds(now));
        let vcpus = self.look_at(vcpus);
        let session = self.monitor.state(Instant::now() + ANSWER_LIMIT);
        let reader = Reader {
            memory: &self.shared.memory,
            map: self.map,
        };
        let tasks = reader.tasks(self.symbols());
        let waits = Waits {
            symbols: self.symbols(),
            reader,
            session: session.as_ref(),
            standard: &self.standard,
            clock: &self.shared.clock,
            now,
        };
        self.vcpus(&vcpus, tasks.as_ref(), &waits, &mut text);
        match tasks {
            Some(tasks) => waits.tasks(&tasks, &mut text),
            None => text.push_str("\n  tasks: the image has no table of them"),
        }
        match session {
            Some(session) => _ = write!(text, "{session}"),
            None => text.push_str("\n  the monitor does not answer"),
        }
        text
    }

    /// Describes what is left of a guest whose vCPUs have stopped: its session.
    pub fn session(&self, why: &str) -> String {
        let now = seconds(self.shared.clock.now());
        match self.monitor.state(Instant::now() + ANSWER_LIMIT) {
            Some(session) => {
                format!("the guest has ended; its session {now} after its boot ({why}){session}")
            }
            None => "the guest has ended, and the monitor does not answer".into(),
        }
    }

    fn symbols(&self) -> &Symbols<'a> {
        self.symbols.get_or_init(|| {
            let bytes = self.bytes.get_or_init(|| self.image.bytes());
            Symbols::new(bytes.as_deref().unwrap_or(&[]))
        })
    }

    fn vcpus(
        &self,
        vcpus: &[Option<VcpuState>],
        tasks: Option<&Tasks>,
        waits: &Waits<'_, '_>,
        text: &mut String,
    ) {
        for (index, state) in vcpus.iter().enumerate() {
            let _ = write!(text, "\n  vCPU {index} ");
            let Some(VcpuState {
                activity,
                registers,
            }) = state
            else {
                text.push_str(
                    "does not answer: its thread gets no processor, or writes to a console that \
                     nobody reads",
                );
                continue;
            };
            let at = match *activity {
                Activity::Runs => {
                    text.push_str("runs");
                    At::Instruction
                }
                Activity::Sleeps { since, deadline } => {
                    let slept = seconds(waits.now.saturating_sub(since));
                    let _ = write!(text, "has slept for {slept}, ");
                    let left = deadline.map(|deadline| deadline.saturating_sub(waits.now));
                    let _ = match left {
                        Some(left) => write!(text, "and wakes in {} at the latest", seconds(left)),
                        None => write!(text, "until it is woken"),
                    };
                    At::Next
                }
            };
            if let Some(record) = tasks.and_then(|tasks| tasks.vcpus.get(index)) {
                waits.write(record, "outside of tasks it ", text);
            }
            let memory = &self.shared.memory;
            let frames = frames(self.symbols(), self.map, memory, registers, at);
            let _ = write!(text, "{}", Backtrace(&frames));
        }
    }

    /// What each vCPU does, all at about the same time.
    fn look_at<T: Send + 'static>(&self, vcpus: &[Worker<T>]) -> Vec<Option<VcpuState>> {
        let inspections = &self.shared.inspections;
        self.machine.sample();
        inspections.iter().for_each(|inspection| inspection.ask());
        let deadline = Instant::now() + ANSWER_LIMIT;
        loop {
            let mut waits = false;
            for (worker, inspection) in vcpus.iter().zip(inspections) {
                if inspection.answered().is_none() && !worker.is_finished() {
                    worker.signal_and_pause();
                    waits |= inspection.answered().is_none();
                }
            }
            if !waits || Instant::now() >= deadline {
                let answers = inspections.iter();
                return answers.map(|inspection| inspection.answered()).collect();
            }
        }
    }
}

/// A time in nanoseconds, for a person.
fn seconds(nanos: u64) -> String {
    format!("{:.3} s", Duration::from_nanos(nanos).as_secs_f64())
}
