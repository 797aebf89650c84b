//! Round trips over one connection.

use crate::connection::fill;
use crate::failure::Failure;
use crate::net::Net;
use crate::reply::Outcome;
use crate::wire::payload;
use alloc::vec::Vec;
use core::net::SocketAddr;
use embedded_io::Write;

/// Makes `count` round trips of `size` bytes, after a tenth as many that are not
/// counted.
///
/// # Errors
///
/// If the connection fails.
pub fn run<N: Net>(
    net: &N,
    address: SocketAddr,
    size: usize,
    count: usize,
) -> Result<Outcome, Failure> {
    let mut stream = net.connect(address)?;
    let message = payload(size);
    let mut answer = payload(size);
    for _ in 0..count / 10 {
        stream.write_all(&message).map_err(Failure::of("write"))?;
        fill(&mut stream, &mut answer)?;
    }
    let mut times = Vec::with_capacity(count);
    let start = net.now();
    let mut last = start;
    for _ in 0..count {
        stream.write_all(&message).map_err(Failure::of("write"))?;
        fill(&mut stream, &mut answer)?;
        let now = net.now();
        times.push(now - last);
        last = now;
    }
    times.sort_unstable();
    Ok(Outcome::default()
        .with("ns", last - start)
        .with("p50_ns", percentile(&times, 50))
        .with("p99_ns", percentile(&times, 99))
        .with("max_ns", percentile(&times, 100)))
}

/// The smallest of `sorted` that at least `percent` of a hundred are no larger
/// than; 0 of nothing.
fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::percentile;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let sorted: Vec<u64> = (1..=200).collect();
        assert_eq!(percentile(&sorted, 50), 100);
        assert_eq!(percentile(&sorted, 99), 198);
        assert_eq!(percentile(&sorted, 100), 200);
        assert_eq!(percentile(&[7], 50), 7);
        assert_eq!(percentile(&[], 50), 0);
    }
}
