//! One result.

use crate::plan::Workload;
use crate::statistics::{self, Better};
use crate::target::Target;
use serde::Serialize;
use std::fmt;

/// One metric of a workload, on both sides.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The workload's name.
    pub workload: &'static str,
    /// What was measured.
    pub metric: String,
    /// In what.
    pub unit: &'static str,
    /// Medians; none where a side has no such thing.
    pub native: Option<f64>,
    pub guest: Option<f64>,
    /// The median of the pairs' ratios, guest to native.
    pub ratio: Option<f64>,
    /// Number of samples of each side.
    pub samples: usize,
    pub native_p99: Option<f64>,
    pub guest_p99: Option<f64>,
    /// Largest less smallest, in parts of the median.
    pub native_spread: Option<f64>,
    pub guest_spread: Option<f64>,
    /// What it must reach, and whether it does.
    pub target: Option<String>,
    pub met: Option<bool>,
    pub native_samples: Vec<f64>,
    pub guest_samples: Vec<f64>,
    /// What the two sides are, where they are not native and guest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sides: Option<[&'static str; 2]>,
    /// Printed only where all is asked for.
    #[serde(skip)]
    pub detail: bool,
    #[serde(skip)]
    bound: Option<Target>,
    #[serde(skip)]
    pub place: Place,
}

/// Where a row goes in its workload's picture.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Place {
    /// Nowhere.
    #[default]
    None,
    /// A panel of its own: sample by sample.
    Own,
    /// A point of a panel of that title: the medians, at that place.
    At(String, f64),
}

impl Row {
    /// A row of these samples; those of the same number belong together.
    pub fn new(
        workload: Workload,
        metric: impl Into<String>,
        unit: &'static str,
        native: Vec<f64>,
        guest: Vec<f64>,
    ) -> Self {
        let better = Better::of(unit);
        Self {
            workload: workload.name(),
            metric: metric.into(),
            unit,
            native: statistics::median(&native),
            guest: statistics::median(&guest),
            ratio: statistics::pair_ratio(&native, &guest),
            samples: guest.len(),
            native_p99: statistics::p99(&native, better),
            guest_p99: statistics::p99(&guest, better),
            native_spread: statistics::spread(&native),
            guest_spread: statistics::spread(&guest),
            target: None,
            met: None,
            native_samples: native,
            guest_samples: guest,
            sides: None,
            detail: false,
            bound: None,
            place: Place::None,
        }
    }

    /// With what it must reach.
    pub fn must(mut self, target: Target) -> Self {
        self.target = Some(target.to_string());
        self.bound = Some(target);
        self
    }

    /// With other names for the sides.
    pub fn between(mut self, native: &'static str, guest: &'static str) -> Self {
        self.sides = Some([native, guest]);
        self
    }

    /// As one of the finer points.
    pub fn detail(mut self) -> Self {
        self.detail = true;
        self
    }

    /// With a panel of the picture.
    pub fn drawn(mut self) -> Self {
        self.place = Place::Own;
        self
    }

    /// As a point of a panel.
    pub fn drawn_at(mut self, panel: impl Into<String>, x: f64) -> Self {
        self.place = Place::At(panel.into(), x);
        self
    }

    /// Holds it against its target.
    pub fn judge(&mut self) {
        self.met = self.bound.map(|bound| bound.is_met(self.ratio, self.guest));
    }
}

/// The row as a sentence.
impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            workload,
            metric,
            unit,
            ..
        } = self;
        write!(f, "{workload} {metric}: ")?;
        if let Some(ratio) = self.ratio {
            write!(f, "{ratio:.3} times native, ")?;
        }
        write!(f, "{:.3} {unit}", self.guest.unwrap_or(f64::NAN))?;
        match &self.target {
            Some(target) => write!(f, ", must be {target}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_judged_by_its_target() {
        let row = || Row::new(Workload::Sink, "x", "GiB/s", vec![2.0, 2.0], vec![1.9, 1.9]);
        let mut good = row().must(Target::RatioAtLeast(0.9));
        good.judge();
        assert_eq!(good.met, Some(true));
        let mut short = row().must(Target::RatioAtLeast(0.96));
        short.judge();
        assert_eq!(short.met, Some(false));
        assert!(short.to_string().contains("must be ratio >= 0.96"));
        let mut free = row();
        free.judge();
        assert_eq!(free.met, None);
    }

    #[test]
    fn the_worst_of_a_rate_is_the_lowest() {
        let rate = Row::new(Workload::Rr, "x", "1/s", vec![3.0, 2.0], vec![]);
        assert_eq!((rate.native_p99, rate.guest), (Some(2.0), None));
        let time = Row::new(Workload::Rtt, "x", "us", vec![3.0, 2.0], vec![]);
        assert_eq!(time.native_p99, Some(3.0));
    }
}
