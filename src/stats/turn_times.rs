//! How long turns took: a histogram with a bucket for each power of two.

use std::fmt;
use std::time::Duration;

use super::Stats;
use super::openmetrics::{Family, Value};

/// The first bound is 2^10 nanoseconds, a little more than a microsecond.
const FIRST: u32 = 10;
/// The number of bounds. The last is 2^35 nanoseconds, 34 seconds.
const BOUNDS: usize = 26;

/// A histogram of the durations of turns. Each bound of its buckets is twice the one before: 1.024 µs, 2.048 µs, and so
/// on up to 34.4 s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TurnTimes {
    /// The number of turns up to each bound and above the previous one; then the number above the last bound.
    turns: [u64; BOUNDS + 1],
}

impl TurnTimes {
    /// Counts a turn that took so many nanoseconds.
    #[inline]
    pub(crate) fn add(&mut self, nanos: u64) {
        // The exponent of the first power of two that is not smaller.
        let power = u64::BITS - nanos.saturating_sub(1).leading_zeros();
        let bucket = power.saturating_sub(FIRST) as usize;
        self.turns[bucket.min(BOUNDS)] += 1;
    }

    /// Returns the number of turns.
    pub fn count(&self) -> u64 {
        self.turns.iter().sum()
    }

    /// Returns each bucket: its upper bound, and the number of turns up to this bound and above the previous one. The
    /// last bound is [`Duration::MAX`].
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> {
        let bounds = (FIRST..)
            .take(BOUNDS)
            .map(|power| Duration::from_nanos(1 << power));
        bounds.chain([Duration::MAX]).zip(self.turns)
    }

    /// Returns the bound that a fraction of the turns did not exceed, for example 0.99 of them. This is at most twice
    /// the exact duration, [`Duration::MAX`] if it is above the last bound, and zero without turns.
    pub fn quantile(&self, fraction: f64) -> Duration {
        let wanted = fraction * self.count() as f64;
        let mut turns = 0;
        for (bound, more) in self.buckets() {
            turns += more;
            if turns > 0 && turns as f64 >= wanted {
                return bound;
            }
        }
        Duration::ZERO
    }
}

impl Value for TurnTimes {
    const UNIT: &str = "_seconds";

    fn plus(mut self, other: Self) -> Self {
        for (turns, more) in self.turns.iter_mut().zip(other.turns) {
            *turns = turns.plus(more);
        }
        self
    }

    fn minus(mut self, earlier: Self) -> Self {
        for (turns, less) in self.turns.iter_mut().zip(earlier.turns) {
            *turns = turns.minus(less);
        }
        self
    }

    fn write(&self, family: &mut Family<'_>, stats: &Stats) -> fmt::Result {
        let mut turns = 0;
        for (bound, more) in self.buckets() {
            turns += more;
            if bound == Duration::MAX {
                family.labelled("_bucket", "le", "+Inf", turns)?;
            } else {
                family.labelled("_bucket", "le", Seconds(bound), turns)?;
            }
        }
        family.sample("_sum", Seconds(stats.busy))?;
        family.sample("_count", turns)
    }
}

/// A duration in seconds, to the nanosecond.
pub(super) struct Seconds(pub(super) Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}", self.0.as_secs(), self.0.subsec_nanos())
    }
}
