//! The machine: what is mapped where, and the process.

use super::area::SharedArea;
use super::child::{Child, Descriptors, describe};
use super::frequency::Reading;
use super::vcpu::ProcessVcpu;
use crate::error::StartError;
use crate::memory::GuestMemory;
use crate::memory::map::{AddressMap, Kind, Region};
use crate::platform::clock::GuestClock;
use crate::platform::machine::Machine;
use crate::platform::park::{Parkers, futex_wait_shared};
use crate::platform::vcpu::{Start, Vcpu};
use crate::vm::outcome::RunState;
use arca_shared::protocol::layout::{MAX_VCPUS, MMIO_BASE};
use arca_shared::protocol::register::Register;
use arca_stub::area::{RANGES, SetupStep, Stage, VCPUS};
use nix::libc;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::process::ExitStatus;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

const _: () = assert!(VCPUS == MAX_VCPUS);

/// How long the stub may take until it is ready. It takes a millisecond.
const START_LIMIT: Duration = Duration::from_secs(30);

/// A machine in a process.
pub struct ProcessMachine {
    memory: Arc<GuestMemory>,
    area: Arc<SharedArea>,
    map: Arc<AddressMap>,
    began: Reading,
    doorbell: Option<OwnedFd>,
    ended: Arc<OnceLock<ExitStatus>>,
    child: Option<Child>,
}

impl ProcessMachine {
    /// A machine with this memory, which is shared memory, and no process yet.
    pub fn new(memory: &Arc<GuestMemory>, map: &AddressMap) -> Result<Self, StartError> {
        let area = SharedArea::new(file_of(memory)?).map_err(|source| StartError::Host {
            action: "map the memory that is shared with the guest's process",
            source,
        })?;
        let machine = Self {
            memory: Arc::clone(memory),
            area: Arc::new(area),
            map: Arc::new(map.clone()),
            began: Reading::now(),
            doorbell: None,
            ended: Arc::default(),
            child: None,
        };
        machine.plan()?;
        Ok(machine)
    }

    /// Writes what the stub is to map, and the registers that it serves.
    fn plan(&self) -> Result<(), StartError> {
        let plan = &*self.area;
        let mut ranges = plan.ranges.iter();
        let mut count = 0;
        for (region, protection) in self.map.regions().iter().filter_map(mapped) {
            let Some(range) = ranges.next() else {
                return Err(StartError::TooManySegments { max: RANGES });
            };
            range.start.set(region.range.start);
            range.end.set(region.range.end);
            let offset = self.memory.offset_in_file(region.physical);
            range.offset.set(offset.ok_or_else(missing)?);
            range.protection.set(protection as u64);
            count += 1;
        }
        plan.range_count.set(count);
        plan.parent.set(std::process::id().into());
        plan.registers.page.set(MMIO_BASE);
        plan.registers.doorbell.set(Register::Doorbell.address());
        plan.registers.park.set(Register::Park.address());
        plan.registers.kick.set(Register::Kick.address());
        Ok(())
    }

    /// Waits until the stub has given up what it does not need.
    pub fn wait_ready(&self) -> Result<(), StartError> {
        let failed = |action, source| Err(StartError::Host { action, source });
        const SET_UP: &str = "set up the guest's process";
        let deadline = Instant::now() + START_LIMIT;
        loop {
            match self.area.stage() {
                Some(Stage::Ready) => return Ok(()),
                Some(Stage::Failed) => {
                    let step = self.area.failed_step.get();
                    let known = SetupStep::ALL
                        .into_iter()
                        .find(|(known, _)| *known as u64 == step);
                    let errno = self.area.failed_errno.get() as i32;
                    let error = io::Error::from_raw_os_error(errno);
                    let what = known.map_or("start", |(_, what)| what);
                    return failed(
                        SET_UP,
                        io::Error::other(format!("it could not {what}: {error}")),
                    );
                }
                _ => {}
            }
            if let Some(status) = self.ended.get() {
                return failed(SET_UP, io::Error::other(describe(*status)));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return failed(SET_UP, io::ErrorKind::TimedOut.into());
            }
            let stage = &self.area.stage;
            // Relaxed: `stage` above acquires what is acted on.
            let value = stage.load(Ordering::Relaxed);
            if value == Stage::Starting as u32 {
                // Not for long: a child that dies says nothing, its guardian does, and
                // may do so between the look and the sleep.
                futex_wait_shared(stage, value, Some(left.min(Duration::from_millis(50))));
            }
        }
    }
}

/// A region that the guest has, and what it may do there.
fn mapped(region: &Region) -> Option<(&Region, libc::c_int)> {
    let protection = region.kind.protection()?;
    if !protection.user || region.kind == Kind::Mmio || region.range.is_empty() {
        return None;
    }
    let mut bits = libc::PROT_READ;
    if protection.write {
        bits |= libc::PROT_WRITE;
    }
    if protection.execute {
        bits |= libc::PROT_EXEC;
    }
    Some((region, bits))
}

impl Machine for ProcessMachine {
    fn instead_of_debugging(&self) -> Option<&'static str> {
        Some(
            "here the guest is a process of its own; run it without, and attach gdb to that \
             child of this one: gdb IMAGE -p PID, as root",
        )
    }

    fn parkers(&self, vcpus: usize, run_state: Arc<RunState>) -> Arc<Parkers> {
        Arc::new(Parkers::shared(Arc::clone(&self.area), vcpus, run_state))
    }

    fn connect_doorbell(&mut self, eventfd: BorrowedFd<'_>) -> Result<(), StartError> {
        self.doorbell = Some(duplicate(eventfd)?);
        Ok(())
    }

    fn make_vcpus(&mut self, starts: &[Start]) -> Result<Vec<Box<dyn Vcpu>>, StartError> {
        let plan = &*self.area;
        plan.vcpus.set(starts.len() as u64);
        for (start, stack_pointer) in starts.iter().zip(&plan.start.stack_pointers) {
            plan.start.entry.set(start.entry);
            plan.start.boot_info.set(start.boot_info);
            // As after a call, whose return address would be 0.
            stack_pointer.set(start.stack_top - 8);
        }
        let descriptors = Descriptors {
            memory: duplicate(file_of(&self.memory)?)?,
            doorbell: self.doorbell.take().ok_or_else(missing)?,
        };
        let (area, ended) = (Arc::clone(&self.area), Arc::clone(&self.ended));
        self.child = Some(Child::start(descriptors, area, ended)?);
        let vcpu = |index| -> Box<dyn Vcpu> {
            Box::new(ProcessVcpu::new(
                index,
                Arc::clone(&self.area),
                Arc::clone(&self.map),
                Arc::clone(&self.ended),
            ))
        };
        Ok((0..starts.len()).map(vcpu).collect())
    }

    fn start_clock(&mut self) -> Result<GuestClock, StartError> {
        self.wait_ready()?;
        let khz = self.began.frequency().ok_or_else(|| StartError::Host {
            action: "use the time-stamp counter as a clock",
            source: io::Error::other("it stands still"),
        })?;
        let clock = GuestClock::start(khz, 0);
        self.area.tsc_khz.set(clock.khz());
        self.area.tsc_boot.set(clock.boot());
        Ok(clock)
    }

    fn start(&self) {
        self.area.start();
    }

    fn sample(&self) {
        if let Some(child) = &self.child {
            child.sample(&self.area);
        }
    }

    fn stop(&self) {
        if let Some(child) = &self.child {
            child.kill();
        }
    }
}

/// The file that guest memory is in, behind the area.
fn file_of(memory: &GuestMemory) -> Result<BorrowedFd<'_>, StartError> {
    memory.file().ok_or_else(missing)
}

fn missing() -> StartError {
    StartError::Host {
        action: "give guest memory to the guest's process",
        source: io::ErrorKind::NotFound.into(),
    }
}

fn duplicate(fd: BorrowedFd<'_>) -> Result<OwnedFd, StartError> {
    fd.try_clone_to_owned().map_err(|source| StartError::Host {
        action: "duplicate a descriptor for the guest's process",
        source,
    })
}
