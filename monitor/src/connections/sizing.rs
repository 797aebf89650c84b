//! How large the next data pipe is.
//!
//! Large rings let one wake move much. But a ring is touched all over by a
//! connection that moves much, and many large rings do not stay in the caches;
//! and ten thousand connections must fit too. So the more of the arena is used,
//! the smaller the next pipe.

/// Sizes of a data pipe's region, in bytes; powers of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PipeSizes {
    /// What a connection gets while there is plenty of room.
    pub largest: u64,
    /// What it gets when there is little; if not even that is free, it gets an
    /// error.
    pub smallest: u64,
}

impl Default for PipeSizes {
    fn default() -> Self {
        Self {
            largest: 4 << 20,
            smallest: 8 << 10,
        }
    }
}

impl PipeSizes {
    /// The size for the next pipe, where `used` of `capacity` bytes are taken
    /// by data pipes. In an arena of 1 GiB: 4 of the largest, 224 of an eighth of
    /// that, 512 of a sixteenth, then a thirty-second up to seven eighths of the
    /// arena, and then the smallest. No pipe takes more than a thirty-second of a
    /// small arena.
    #[must_use]
    pub fn next(&self, used: u64, capacity: u64) -> u64 {
        let share = (capacity / 32).max(1).ilog2();
        let largest = self.largest.min(1 << share);
        let size = if used < capacity / 64 {
            largest
        } else if used < capacity / 8 {
            largest / 8
        } else if used < capacity / 4 {
            largest / 16
        } else if used < capacity / 8 * 7 {
            largest / 32
        } else {
            self.smallest
        };
        size.max(self.smallest)
    }

    /// What to try if a region of `size` is not free.
    #[must_use]
    pub fn smaller(&self, size: u64) -> Option<u64> {
        (size > self.smallest).then(|| (size / 4).max(self.smallest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fuller_the_smaller() {
        let sizes = PipeSizes::default();
        let kib = |used| sizes.next(used, 1 << 30) >> 10;
        assert_eq!(kib(0), 4096);
        assert_eq!(kib((16 << 20) - 1), 4096);
        assert_eq!(kib(16 << 20), 512);
        assert_eq!(kib(128 << 20), 256);
        assert_eq!(kib(256 << 20), 128);
        assert_eq!(kib(896 << 20), 8);
        assert_eq!(kib(1 << 30), 8);
        let kib = |used| sizes.next(used, 64 << 20) >> 10;
        assert_eq!([0, 1 << 20, 8 << 20].map(kib), [2048, 256, 128]);
        assert_eq!(sizes.next(0, 0), 8 << 10);
        let ladder: Vec<_> =
            std::iter::successors(Some(4096 << 10), |&s| sizes.smaller(s)).collect();
        let kib = [4096, 1024, 256, 64, 16, 8];
        assert_eq!(ladder, kib.map(|kib| kib << 10));
    }

    #[test]
    fn ten_thousand_pipes_fit_a_gibibyte() {
        let (sizes, capacity) = (PipeSizes::default(), (1u64 << 30) - (4 << 20));
        let mut used = 0;
        let mut count = 0;
        while used < capacity {
            used += sizes.next(used, capacity);
            count += 1;
        }
        assert!(count >= 10_000, "{count}");
    }
}
