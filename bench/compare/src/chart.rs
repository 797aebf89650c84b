//! Results as pictures.

use crate::plan::Workload;
use crate::row::{Place, Row};
use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use std::path::Path;

/// Size of a panel, in pixels.
const PANEL: (u32, u32) = (720, 300);
/// Height of the caption, in pixels.
const CAPTION: u32 = 40;
const NATIVE: RGBColor = RGBColor(0x8a, 0x8f, 0x98);
const GUEST: RGBColor = RGBColor(0x1f, 0x6f, 0xd6);

/// One part of a picture: both sides over something.
struct Panel<'a> {
    title: String,
    /// What is on the horizontal axis; numbers of connections and sizes of
    /// messages go up by factors.
    ticks: Vec<f64>,
    sides: [&'static str; 2],
    native: Vec<f64>,
    guest: Vec<f64>,
    rows: Vec<&'a Row>,
}

/// Draws a workload's picture into a folder: `WORKLOAD.svg`.
///
/// # Errors
///
/// If it cannot be written.
pub fn draw(folder: &Path, workload: Workload, rows: &[Row], host: &str) -> Result<()> {
    let panels = panels(rows);
    let path = folder.join(workload.name()).with_extension("svg");
    let size = (PANEL.0, CAPTION + PANEL.1 * panels.len().max(1) as u32);
    let area = SVGBackend::new(&path, size).into_drawing_area();
    draw_all(&area, workload, &panels, host)
        .and_then(|()| area.present().map_err(|error| error.to_string()))
        .map_err(|error| anyhow!("{}: {error}", path.display()))
}

fn panels(rows: &[Row]) -> Vec<Panel<'_>> {
    let mut panels: Vec<Panel<'_>> = Vec::new();
    for row in rows {
        let sides = row.sides.unwrap_or(["native", "guest"]);
        match &row.place {
            Place::None => {}
            Place::Own => panels.push(Panel {
                title: format!("{} ({}), by sample", row.metric, row.unit),
                ticks: (1..=row.samples).map(|number| number as f64).collect(),
                sides,
                native: row.native_samples.clone(),
                guest: row.guest_samples.clone(),
                rows: vec![row],
            }),
            Place::At(title, x) => {
                let known = panels.iter().position(|panel| panel.title == *title);
                let panel = match known {
                    Some(index) => &mut panels[index],
                    None => {
                        panels.push(Panel {
                            title: title.clone(),
                            ticks: Vec::new(),
                            sides,
                            native: Vec::new(),
                            guest: Vec::new(),
                            rows: Vec::new(),
                        });
                        let last = panels.len() - 1;
                        &mut panels[last]
                    }
                };
                panel.ticks.push(*x);
                panel.native.push(row.native.unwrap_or(f64::NAN));
                panel.guest.push(row.guest.unwrap_or(f64::NAN));
                panel.rows.push(row);
            }
        }
    }
    panels
}

type Drawn = Result<(), String>;

fn draw_all(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    workload: Workload,
    panels: &[Panel<'_>],
    host: &str,
) -> Drawn {
    let text = |error: DrawingAreaErrorKind<_>| error.to_string();
    area.fill(&WHITE).map_err(text)?;
    let (caption, rest) = area.split_vertically(CAPTION);
    let big = ("sans-serif", 18).into_text_style(&caption);
    let small = ("sans-serif", 11).into_text_style(&caption);
    caption
        .draw_text(workload.name(), &big, (10, 4))
        .map_err(text)?;
    caption.draw_text(host, &small, (10, 25)).map_err(text)?;
    for (panel, area) in panels.iter().zip(rest.split_evenly((panels.len(), 1))) {
        draw_panel(&area, panel)?;
    }
    Ok(())
}

fn draw_panel(area: &DrawingArea<SVGBackend<'_>, Shift>, panel: &Panel<'_>) -> Drawn {
    let text = |error: DrawingAreaErrorKind<_>| error.to_string();
    let all = panel.native.iter().chain(&panel.guest);
    let highest = all.copied().filter(|y| y.is_finite()).fold(0.0, f64::max);
    let top = if highest > 0.0 { highest * 1.15 } else { 1.0 };
    let ratio = match panel.rows.as_slice() {
        [row] => row
            .ratio
            .map_or_else(String::new, |ratio| format!(", ratio {ratio:.3}")),
        _ => String::new(),
    };
    // Places at equal distances: factors look like steps. The legend has the room
    // of another at the end.
    let last = panel.ticks.len() as f64 * 1.15 - 0.4;
    let mut chart = ChartBuilder::on(area)
        .caption(format!("{}{ratio}", panel.title), ("sans-serif", 14))
        .margin(8)
        .x_label_area_size(24)
        .y_label_area_size(56)
        .build_cartesian_2d(-0.5..last, 0.0..top)
        .map_err(text)?;
    let tick = |x: &f64| match (x.fract().abs() < 1e-6, panel.ticks.get(x.round() as usize)) {
        (true, Some(tick)) if *x > -0.5 => tick.to_string(),
        _ => String::new(),
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .x_labels(2 * panel.ticks.len() + 1)
        .x_label_formatter(&tick)
        .draw()
        .map_err(text)?;
    let series = [(&panel.native, NATIVE), (&panel.guest, GUEST)];
    for ((values, colour), name) in series.into_iter().zip(panel.sides) {
        let points = values.iter().enumerate();
        let points: Vec<_> = points
            .filter(|(_, y)| y.is_finite())
            .map(|(x, &y)| (x as f64, y))
            .collect();
        chart
            .draw_series(LineSeries::new(points, colour.stroke_width(2)).point_size(3))
            .map_err(text)?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.8))
        .draw()
        .map_err(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_of_one_panel_come_together() {
        let row = |metric: &str, x: f64| {
            Row::new(Workload::Fan, metric, "GiB/s", vec![1.0], vec![2.0]).drawn_at("up", x)
        };
        let own = Row::new(Workload::Fan, "own", "us", vec![1.0, 2.0], vec![3.0, 4.0]).drawn();
        let rows = [row("a", 1.0), own, row("b", 16.0), row("c", 256.0)];
        let panels = panels(&rows);
        assert_eq!(panels.len(), 2);
        assert_eq!(panels[0].ticks, [1.0, 16.0, 256.0]);
        assert_eq!(panels[1].ticks, [1.0, 2.0]);
    }
}
