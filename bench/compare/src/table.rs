//! Results on the terminal.

use crate::plan::Workload;
use crate::row::Row;
use anyhow::Result;

/// Prints a workload's rows, the finer points only if `all` are wanted.
///
/// # Errors
///
/// If nobody takes them.
pub fn print(workload: Workload, rows: &[Row], all: bool) -> Result<()> {
    crate::show(format_args!(
        "\n{:<28} {:>8} {:>9} {:>9} {:>6} {:>9} {:>9} {:>6} {:>7}  target",
        workload.name(),
        "unit",
        "native",
        "p99",
        "spread",
        "guest",
        "p99",
        "spread",
        "ratio",
    ))?;
    for row in rows.iter().filter(|row| all || !row.detail) {
        let verdict = match (&row.target, row.met) {
            (Some(target), Some(true)) => format!("{target}: yes"),
            (Some(target), _) => format!("{target}: NO"),
            (None, _) => match row.sides {
                Some([native, guest]) => format!("{native} | {guest}"),
                None => String::new(),
            },
        };
        let line = format!(
            "  {:<26} {:>8} {:>9} {:>9} {:>6} {:>9} {:>9} {:>6} {:>7}  {verdict}",
            row.metric,
            row.unit,
            number(row.native),
            number(row.native_p99),
            percent(row.native_spread),
            number(row.guest),
            number(row.guest_p99),
            percent(row.guest_spread),
            row.ratio
                .map_or_else(|| "-".into(), |ratio| format!("{ratio:.3}")),
        );
        crate::show(line.trim_end())?;
    }
    Ok(())
}

/// Four digits or so.
pub fn number(value: Option<f64>) -> String {
    match value {
        None => "-".into(),
        Some(value) if value.is_nan() => "?".into(),
        Some(value) if value.abs() >= 1000.0 => format!("{value:.0}"),
        Some(value) if value.abs() >= 100.0 => format!("{value:.1}"),
        Some(value) if value.abs() >= 10.0 => format!("{value:.2}"),
        Some(value) => format!("{value:.3}"),
    }
}

fn percent(value: Option<f64>) -> String {
    value.map_or_else(|| "-".into(), |value| format!("{:.0}%", value * 100.0))
}
