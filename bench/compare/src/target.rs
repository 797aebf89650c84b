//! What a result must reach.

use std::fmt;

/// A bound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// The guest, as a multiple of native, is at least this.
    RatioAtLeast(f64),
    /// The guest, as a multiple of native, is at most this.
    RatioAtMost(f64),
    /// The guest's median is below this.
    Below(f64),
    /// The guest's median is at most this.
    AtMost(f64),
}

impl Target {
    /// Whether a ratio and a median are good enough. What could not be measured
    /// is not.
    pub fn is_met(self, ratio: Option<f64>, guest: Option<f64>) -> bool {
        match self {
            Self::RatioAtLeast(bound) => ratio.is_some_and(|ratio| ratio >= bound),
            Self::RatioAtMost(bound) => ratio.is_some_and(|ratio| ratio <= bound),
            Self::Below(bound) => guest.is_some_and(|guest| guest < bound),
            Self::AtMost(bound) => guest.is_some_and(|guest| guest <= bound),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RatioAtLeast(bound) => write!(f, "ratio >= {bound}"),
            Self::RatioAtMost(bound) => write!(f, "ratio <= {bound}"),
            Self::Below(bound) => write!(f, "< {bound}"),
            Self::AtMost(bound) => write!(f, "<= {bound}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Target;

    #[test]
    fn bounds() {
        assert!(Target::RatioAtLeast(0.9).is_met(Some(0.9), None));
        assert!(!Target::RatioAtLeast(0.9).is_met(Some(0.89), None));
        assert!(Target::RatioAtMost(1.5).is_met(Some(1.5), None));
        assert!(!Target::RatioAtMost(1.5).is_met(Some(1.51), None));
        assert!(Target::Below(5.0).is_met(None, Some(4.9)));
        assert!(!Target::Below(5.0).is_met(None, Some(5.0)));
        assert!(Target::AtMost(16.0).is_met(None, Some(16.0)));
        for target in [
            Target::RatioAtLeast(0.0),
            Target::RatioAtMost(9.0),
            Target::Below(9.0),
            Target::AtMost(9.0),
        ] {
            assert!(!target.is_met(None, None));
            assert!(!target.is_met(Some(f64::NAN), Some(f64::NAN)));
        }
    }
}
