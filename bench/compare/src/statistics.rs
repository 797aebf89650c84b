//! Medians, percentiles, ratios.

/// Which end of a metric is the good one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// More is better: a rate.
    Higher,
    /// Less is better: a time, a cost.
    Lower,
}

impl Better {
    /// That of a metric in this unit.
    pub fn of(unit: &str) -> Self {
        match unit.ends_with("/s") {
            true => Self::Higher,
            false => Self::Lower,
        }
    }
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// The middle value, or the mean of the middle two; none of nothing.
pub fn median(values: &[f64]) -> Option<f64> {
    let sorted = sorted(values);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    match sorted.len() % 2 {
        1 => Some(upper),
        _ => Some((sorted[middle - 1] + upper) / 2.0),
    }
}

/// The value that 99 in a hundred are no worse than: of fewer than a hundred,
/// the worst. None of nothing.
pub fn p99(values: &[f64], better: Better) -> Option<f64> {
    let sorted = sorted(values);
    let rank = (sorted.len() * 99).div_ceil(100);
    match better {
        Better::Lower => sorted.get(rank.saturating_sub(1)).copied(),
        Better::Higher => sorted.get(sorted.len() - rank).copied(),
    }
}

/// How far the values lie apart: largest less smallest, in parts of the median.
pub fn spread(values: &[f64]) -> Option<f64> {
    let sorted = sorted(values);
    let (first, last) = (sorted.first()?, sorted.last()?);
    let median = median(values)?;
    (median != 0.0).then(|| (last - first) / median)
}

/// The median of the ratios guest to native, pair by pair.
pub fn pair_ratio(native: &[f64], guest: &[f64]) -> Option<f64> {
    let pairs = native.iter().zip(guest);
    let ratios: Vec<_> = pairs
        .filter(|&(&native, _)| native != 0.0)
        .map(|(native, guest)| guest / native)
        .collect();
    median(&ratios)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 5.0]), Some(5.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 100.0]), Some(3.0));
    }

    #[test]
    fn the_p99_is_on_the_bad_side() {
        let values: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!(p99(&values, Better::Lower), Some(198.0));
        assert_eq!(p99(&values, Better::Higher), Some(3.0));
        assert_eq!(p99(&[2.0, 1.0, 3.0], Better::Lower), Some(3.0));
        assert_eq!(p99(&[2.0, 1.0, 3.0], Better::Higher), Some(1.0));
        assert_eq!(p99(&[], Better::Lower), None);
        assert_eq!(p99(&[], Better::Higher), None);
    }

    #[test]
    fn spread_is_in_parts_of_the_median() {
        assert_eq!(spread(&[8.0, 10.0, 13.0]), Some(0.5));
        assert_eq!(spread(&[0.0, 0.0]), None);
        assert_eq!(spread(&[]), None);
    }

    #[test]
    fn a_ratio_is_of_pairs_and_not_of_medians() {
        // The machine was three times slower during the second pair.
        let (native, guest) = ([30.0, 10.0, 31.0], [27.0, 9.0, 31.0]);
        assert_eq!(pair_ratio(&native, &guest), Some(0.9));
        assert_eq!(pair_ratio(&[0.0], &[1.0]), None);
        assert_eq!(pair_ratio(&[], &[1.0]), None);
    }
}
