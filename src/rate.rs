//! A token bucket, which limits a rate. Pure: the time is passed in.
//!
//! ```text
//!   burst +------\      full again after a second at most, without any work meanwhile
//!         |       \    /
//!       0 +--------\--/-----
//!         |         \/       in debt: what was taken at once has to be paid for
//! ```
//!
//! The bucket holds one second's worth. It is refilled when it is used, so it costs nothing in between.

use std::time::Duration;

use crate::tick::Tick;

/// The highest rate, per second; higher ones are clamped to it. With it, the arithmetic below cannot overflow.
const MAX_RATE: u64 = 1 << 40;

/// A token bucket, in thousandths of tokens: the thousandths gained per millisecond equal the tokens gained per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bucket {
    level: i64,
    /// When it was last refilled.
    at: Tick,
}

impl Bucket {
    /// A full bucket.
    pub(crate) fn full(rate: u64, now: Tick) -> Self {
        let level = burst(rate);
        Self { level, at: now }
    }

    /// Adds the tokens gained since the last refill, up to one second's worth.
    pub(crate) fn refill(&mut self, rate: u64, now: Tick) {
        let elapsed = now.since(self.at).as_millis() as i64;
        let more = per_milli(rate).saturating_mul(elapsed);
        self.level = self.level.saturating_add(more).min(burst(rate));
        self.at = now;
    }

    /// Returns the number of whole tokens.
    pub(crate) fn tokens(&self) -> u64 {
        u64::try_from(self.level / 1000).unwrap_or(0)
    }

    /// Takes tokens. Tokens that the bucket does not hold become a debt.
    pub(crate) fn take(&mut self, tokens: u64) {
        let taken = i64::try_from(tokens).unwrap_or(i64::MAX);
        self.level = self.level.saturating_sub(taken.saturating_mul(1000));
    }

    /// Returns whether more was taken than the bucket held.
    pub(crate) fn is_in_debt(&self) -> bool {
        self.level < 0
    }

    pub(crate) fn is_full(&self, rate: u64) -> bool {
        self.level >= burst(rate)
    }

    /// Returns how long it takes, from the last refill, until the bucket holds a whole token.
    pub(crate) fn time_to_token(&self, rate: u64) -> Duration {
        let missing = 1000_i64.saturating_sub(self.level).max(0);
        Duration::from_millis(
            missing
                .unsigned_abs()
                .div_ceil(per_milli(rate).unsigned_abs()),
        )
    }
}

/// The tokens gained per second, which equal the thousandths gained per millisecond; at least one.
fn per_milli(rate: u64) -> i64 {
    rate.clamp(1, MAX_RATE) as i64
}

/// One second's worth, in thousandths.
fn burst(rate: u64) -> i64 {
    per_milli(rate) * 1000
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: u64) -> Tick {
        Tick::from_millis(millis)
    }

    #[test]
    fn full_bucket_has_one_second_of_tokens_and_is_full_again_after_a_second() {
        let mut bucket = Bucket::full(10, at(0));
        bucket.take(10);
        assert_eq!((bucket.tokens(), bucket.is_in_debt()), (0, false));
        assert_eq!(bucket.time_to_token(10), Duration::from_millis(100));
        bucket.refill(10, at(99));
        assert_eq!(bucket.tokens(), 0);
        bucket.refill(10, at(100));
        assert_eq!(bucket.tokens(), 1);
        bucket.refill(10, at(1000));
        assert!(bucket.is_full(10));
        bucket.refill(10, at(100_000));
        assert_eq!(bucket.tokens(), 10);
    }

    #[test]
    fn debt_has_to_be_paid_for() {
        let mut bucket = Bucket::full(1000, at(0));
        bucket.take(3000);
        assert!(bucket.is_in_debt());
        assert_eq!(bucket.time_to_token(1000), Duration::from_millis(2001));
        bucket.refill(1000, at(2000));
        assert_eq!((bucket.tokens(), bucket.is_in_debt()), (0, false));
        bucket.refill(1000, at(2001));
        assert_eq!(bucket.tokens(), 1);
    }

    #[test]
    fn extreme_rates_and_amounts_do_not_overflow() {
        for rate in [0, 1, u64::MAX] {
            let mut bucket = Bucket::full(rate, at(0));
            for _ in 0..3 {
                bucket.take(u64::MAX);
            }
            assert!(bucket.is_in_debt());
            assert!(bucket.time_to_token(rate) > Duration::ZERO);
            bucket.refill(rate, at((1 << 32) - 1));
            assert!(!bucket.is_full(rate));
        }
    }

    proptest! {
        /// The tokens taken in any period are at most the burst, plus the rate times the period, plus the last amount
        /// taken, for which a single token is enough.
        #[test]
        fn no_period_has_more_than_the_burst_and_the_rate(
            rate in 1_u64..5000,
            start in 0_u64..1 << 33,
            steps in prop::collection::vec((0_u64..2000, 1_u64..3000), 1..50),
        ) {
            let mut bucket = Bucket::full(rate, at(start));
            let mut now = start;
            let mut taken: Vec<(u64, u64)> = Vec::new();
            for (pause, amount) in steps {
                now += pause;
                bucket.refill(rate, at(now));
                prop_assert!(bucket.tokens() <= rate);
                let wait = bucket.time_to_token(rate).as_millis() as u64;
                prop_assert_eq!(wait == 0, bucket.tokens() > 0);
                if bucket.tokens() == 0 {
                    // Not a millisecond earlier.
                    let mut early = bucket;
                    early.refill(rate, at(now + wait - 1));
                    prop_assert_eq!(early.tokens(), 0);
                    now += wait;
                    bucket.refill(rate, at(now));
                    prop_assert!(bucket.tokens() > 0);
                }
                bucket.take(amount);
                taken.push((now, amount));
            }
            for first in 0..taken.len() {
                let mut sum = 0;
                for last in first..taken.len() {
                    let period = taken[last].0 - taken[first].0;
                    prop_assert!(sum <= rate + rate * period / 1000);
                    sum += taken[last].1;
                }
            }
        }

        /// The result does not depend on how often the bucket is refilled.
        #[test]
        fn many_refills_are_as_good_as_one(
            rate in 1_u64..1_000_000,
            taken in 0_u64..3_000_000,
            pauses in prop::collection::vec(0_u64..500, 0..20),
        ) {
            let mut often = Bucket::full(rate, at(0));
            often.take(taken);
            let mut once = often;
            let mut now = 0;
            for pause in pauses {
                now += pause;
                often.refill(rate, at(now));
            }
            once.refill(rate, at(now));
            prop_assert_eq!(often, once);
        }
    }
}
