//! Building a guest, step by step; [`crate::vm`] numbers the steps.

use crate::debug::{Debugger, GdbListener};
use crate::error::StartError;
use crate::host::descriptor::{Descriptor, Sink};
use crate::host::sandbox::Sandbox;
use crate::host::streams::PIPE_SIZE;
use crate::memory::GuestMemory;
use crate::memory::boot::{self, Arguments};
use crate::memory::image::CheckedImage;
use crate::memory::map::AddressMap;
use crate::platform::clock::GuestClock;
use crate::platform::inspect::Inspection;
use crate::platform::uart::Uart;
use crate::platform::vcpu::{Start, VcpuShared};
use crate::platform::{Chosen, Platform};
use crate::vm::config::{Input, Output, VmConfig};
use crate::vm::outcome::RunState;
use crate::vm::{GuestView, Stdin, Vm, VmHandle};
use arca_monitor::{Link, Monitor, MonitorError, StandardPipe, VcpuWaker, trace};
use arca_shared::pipe::PipePlace;
use arca_shared::protocol::boot::BootInfo;
use arca_shared::protocol::layout::{ARENA_GVA, BOOT_INFO_BASE, MAX_VCPUS, PAGE_SIZE, STACK_SIZE};
use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

/// Bytes at the top of the first vCPU's stack that are surely used.
const STACK_POPULATED: u64 = 32 << 10;
/// Bytes at the bottom of the heap that are surely used.
const HEAP_POPULATED: u64 = 32 << 10;
const _: () = assert!(STACK_POPULATED + HEAP_POPULATED <= STACK_SIZE);

pub fn build(config: VmConfig) -> Result<Vm, StartError> {
    // 1. The configuration.
    GuestMemory::check_sizes(config.low_memory, config.arena_size)?;
    let vcpus = config.vcpus;
    if vcpus == 0 || vcpus > MAX_VCPUS {
        return Err(StartError::VcpuCount { vcpus });
    }
    let arguments = Arguments::new(&config.program, &config.args)?;

    // 2. The image.
    let image = CheckedImage::open(&config.image, config.low_memory)?;

    // 3. The address space.
    let map = AddressMap::new(
        &image.layout().segments,
        vcpus,
        config.low_memory,
        config.arena_size,
    )?;

    // 4. The platform, and guest memory.
    let chosen = Chosen::new(config.platform)?;
    let platform = chosen.platform();
    let memory = chosen.memory(config.low_memory, config.arena_size)?;

    // 5. The image.
    image.load(&memory)?;
    memory.populate(map.stack_top(0) - STACK_POPULATED, STACK_POPULATED);
    let heap = map.heap();
    memory.populate(heap.start, HEAP_POPULATED);
    // But for its last page, which an allocator may use for a note of its own.
    memory.prefer_huge_pages(heap.start..heap.end - PAGE_SIZE);

    // 6. The machine, and what the image must not be able to replace.
    let mut machine = chosen.machine(&memory, &map, vcpus)?;

    // 7. The session.
    let run_state = Arc::new(RunState::default());
    let parkers = machine.parkers(vcpus, Arc::clone(&run_state));
    let waker: Arc<dyn VcpuWaker> = Arc::clone(&parkers) as _;
    let mut link = Link::new(memory.arena(), waker, vcpus).map_err(StartError::Link)?;
    machine.connect_doorbell(link.doorbell().as_fd())?;
    let stdin = link.standard_pipe(PIPE_SIZE).map_err(StartError::Link)?;
    let stdout = link.standard_pipe(PIPE_SIZE).map_err(StartError::Link)?;
    let log = link.standard_pipe(PIPE_SIZE).map_err(StartError::Link)?;
    let places = Places {
        control: link.control(),
        notify_offset: link.notify_offset(),
        stdin: stdin.place(),
        stdout: stdout.place(),
        log: log.place(),
    };
    let mut monitor_config = config.monitor;
    // In a process a page that the host has had costs the guest as much as one that it
    // has not.
    monitor_config.prefault |= platform == Platform::Kvm;
    let mut monitor = Monitor::new(link, monitor_config).map_err(StartError::Monitor)?;
    let trace = config.trace.is_wanted().then(|| {
        let (tracer, reader) = trace::queue(config.trace.file.is_some());
        monitor.set_tracer(tracer);
        (config.trace, reader)
    });
    let sandbox = match config.sandbox {
        true => Some(Arc::new(Sandbox::new(config.gdb.is_some())?)),
        false => None,
    };
    if sandbox.is_some() {
        let failed = |error| StartError::Monitor(MonitorError::Host(error));
        monitor.prepare().map_err(failed)?;
    }

    // 8. The vCPUs.
    let starts: Vec<_> = (0..vcpus)
        .map(|index| Start {
            entry: image.layout().entry,
            stack_top: map.stack_top(index),
            boot_info: BOOT_INFO_BASE,
        })
        .collect();
    let vcpus = machine.make_vcpus(&starts)?;

    // 9. Boot information.
    let clock = machine.start_clock()?;
    boot::write(
        &memory,
        &arguments,
        boot_info(
            &config.log_level,
            &map,
            vcpus.len(),
            config.arena_size,
            &places,
            &clock,
        )?,
    )?;

    let debugger = match config.gdb {
        None => None,
        Some(port) => {
            if let Some(instead) = machine.instead_of_debugging() {
                return Err(StartError::NoDebugger { instead });
            }
            let failed = |source| StartError::Gdb { port, source };
            let listener = GdbListener::bind(port).map_err(failed)?;
            let debugger = Debugger::new(vcpus.len()).map_err(failed)?;
            Some((Arc::new(debugger), listener))
        }
    };

    let handle = VmHandle {
        run_state: Arc::clone(&run_state),
        view: Arc::new(Mutex::new(GuestView::Serving(
            monitor.handle(),
            Arc::downgrade(&parkers),
        ))),
        stdout: Arc::default(),
        platform,
    };
    let shared = Arc::new(VcpuShared {
        memory,
        parkers,
        inspections: (0..vcpus.len()).map(|_| Inspection::default()).collect(),
        uart: Uart::new(
            config.console,
            Some(log.handle()),
            vcpus.len(),
            Arc::clone(&run_state),
        ),
        clock,
        run_state,
        debugger: debugger.as_ref().map(|(debugger, _)| Arc::clone(debugger)),
    });
    Ok(Vm {
        image,
        map,
        vcpus,
        shared,
        monitor_handle: monitor.handle(),
        monitor,
        handle,
        stdin: open_stdin(config.stdin, stdin)?,
        stdout: (stdout, sink(config.stdout, Descriptor::stdout)?),
        log: (log, sink(config.stderr, Descriptor::stderr)?),
        timeout: config.timeout,
        dump_every: config.dump_every,
        notices: config.notices,
        trace,
        debugger,
        sandbox,
        machine,
    })
}

/// Where the session's structures are in the arena.
struct Places {
    control: PipePlace,
    notify_offset: u64,
    stdin: PipePlace,
    stdout: PipePlace,
    log: PipePlace,
}

fn open_stdin(input: Input, mut pipe: StandardPipe) -> Result<Option<Stdin>, StartError> {
    let reader = match input {
        Input::Null => {
            pipe.close_write(0);
            return Ok(None);
        }
        Input::Inherit => Box::new(Descriptor::stdin().map_err(not_inherited)?),
        Input::Reader(reader) => reader,
    };
    Ok(Some((pipe, reader)))
}

/// Where a stream goes; `inherited` is this process's own.
fn sink(
    output: Output,
    inherited: impl FnOnce() -> io::Result<Descriptor>,
) -> Result<Sink, StartError> {
    Ok(match output {
        Output::Null => Sink::from(Box::new(io::sink()) as Box<_>),
        Output::Inherit => inherited().map_err(not_inherited)?.into_sink(),
        Output::Writer(writer) => writer.into(),
    })
}

fn not_inherited(source: io::Error) -> StartError {
    StartError::Host {
        action: "duplicate the descriptor of a standard stream",
        source,
    }
}

fn boot_info(
    log_level: &log::LevelFilter,
    map: &AddressMap,
    vcpus: usize,
    arena_len: u64,
    places: &Places,
    clock: &GuestClock,
) -> Result<BootInfo, StartError> {
    let heap = map.heap();
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Ok(BootInfo {
        magic: 0,
        version: 0,
        vcpus: vcpus as u32,
        arena_base: ARENA_GVA,
        arena_len,
        control: places.control,
        notify_offset: places.notify_offset,
        stdin: places.stdin,
        stdout: places.stdout,
        log: places.log,
        heap_base: heap.start,
        heap_len: heap.end - heap.start,
        args_base: 0,
        args_len: 0,
        args_count: 0,
        log_level: *log_level as u32,
        tsc_khz: clock.khz(),
        tsc_boot: clock.boot(),
        unix_boot_ns: u64::try_from(since_epoch.as_nanos()).unwrap_or(0),
        seed: boot::seed()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::config::Image;
    use crate::vm::outcome::{Event, Outcome, deadline};
    use proptest::prelude::*;
    use std::time::Duration;

    fn number() -> impl Strategy<Value = u64> {
        prop_oneof![
            Just(0),
            Just(u64::MAX),
            any::<u64>(),
            (0..64u32).prop_map(|shift| 1 << shift),
            (0..64u32).prop_map(|shift| (1u64 << shift).wrapping_sub(4096)),
        ]
    }

    proptest! {
        #[test]
        fn any_number_is_taken_or_refused(
            low_memory in number(),
            arena_size in number(),
            vcpus in number(),
            seconds in number(),
            args in proptest::collection::vec(".{0,40}", 0..4),
        ) {
            let mut config = VmConfig::new(Image::Bytes(Arc::from([0; 64])), "none");
            (config.low_memory, config.arena_size) = (low_memory, arena_size);
            (config.vcpus, config.args) = (vcpus as usize, args);
            // There is no image: it fails, and no earlier step panics.
            prop_assert!(build(config).is_err());
            if GuestMemory::check_sizes(low_memory, arena_size).is_ok() {
                let count = vcpus as usize % MAX_VCPUS + 1;
                let _ = AddressMap::new(&[], count, low_memory, arena_size);
            }
            let run_state = RunState::default();
            run_state.end(Outcome::Exited(0));
            let event = run_state.next(deadline(Some(Duration::from_secs(seconds))));
            prop_assert!(matches!(event, Event::Ended(Outcome::Exited(0))));
        }
    }
}
