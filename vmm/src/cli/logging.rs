//! Which log records are printed: `--log`, and RUST_LOG by target.
//!
//! RUST_LOG is a list as env_logger has it: `LEVEL`, `TARGET=LEVEL` or `TARGET`, separated
//! by commas. What it does not name has the level of `--log`. The guest's records have
//! targets like the host's.

use crate::host::descriptor::StandardError;
use env_logger::{Builder, Target};
use log::LevelFilter;
use std::env;
use std::io::Write;

/// Targets that are the host's: no record of the guest has one.
const HOST_TARGETS: [&str; 3] = ["arca_monitor", "arca_vmm", "xtask"];

/// What RUST_LOG says, if anything.
fn variable() -> Option<String> {
    env::var(env_logger::DEFAULT_FILTER_ENV)
        .ok()
        .filter(|filters| !filters.trim().is_empty())
}

/// Sends log records of this process to standard error. A logger that is there already
/// stays.
pub fn init(level: LevelFilter) {
    let mut builder = Builder::new();
    builder.filter_level(level);
    // At every packet that it has no use for.
    builder.filter_module("gdbstub", level.min(LevelFilter::Warn));
    if let Some(filters) = variable() {
        builder.parse_filters(&filters);
    }
    let _ = builder
        .target(Target::Pipe(Box::new(StandardError)))
        .format(|out, record| {
            writeln!(
                out,
                "[{:<5} {}] {}",
                record.level(),
                record.target(),
                record.args()
            )
        })
        .try_init();
}

/// The most verbose level that a record of the guest's may have and be printed.
pub fn guest_level(level: LevelFilter) -> LevelFilter {
    match variable() {
        Some(filters) => guest_level_of(&filters, level),
        None => level,
    }
}

fn guest_level_of(filters: &str, level: LevelFilter) -> LevelFilter {
    // What follows a slash filters by text.
    let filters = filters.split_once('/').map_or(filters, |(list, _)| list);
    let (mut others, mut named) = (level, LevelFilter::Off);
    for filter in filters.split(',').map(str::trim) {
        let (target, level) = match filter.split_once('=') {
            Some((target, level)) => (target.trim(), level.trim().parse().ok()),
            None => match filter.parse() {
                Ok(level) => {
                    others = level;
                    continue;
                }
                Err(_) => (filter, Some(LevelFilter::Trace)),
            },
        };
        let hosts = HOST_TARGETS.iter().any(|host| {
            let rest = target.strip_prefix(host);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        });
        if !hosts && !target.is_empty() {
            named = named.max(level.unwrap_or(LevelFilter::Off));
        }
    }
    others.max(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_logs_what_may_be_printed_and_no_more() {
        let level = |filters| guest_level_of(filters, LevelFilter::Info);
        for (filters, wanted) in [
            ("", LevelFilter::Info),
            ("warn", LevelFilter::Warn),
            ("arca_monitor=trace,arca_vmm::host", LevelFilter::Info),
            ("error,echo_server=debug", LevelFilter::Debug),
            ("off,echo_server=warn,arca_monitor", LevelFilter::Warn),
            ("echo_server", LevelFilter::Trace),
            ("echo_server=warn/some text,debug", LevelFilter::Info),
            ("arca_monitors=debug", LevelFilter::Debug),
            (",=,=debug,a=b", LevelFilter::Info),
        ] {
            assert_eq!(level(filters), wanted, "{filters}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_filter(text in "[a-z=,:/ ]{0,30}") {
            let _ = guest_level_of(&text, LevelFilter::Info);
        }
    }
}
