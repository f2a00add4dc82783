//! `Tick`: a point in time that is small enough to be stored in each connection.

use std::time::Duration;

/// A point in time in milliseconds, small enough to be stored in each connection. It wraps after 49 days, which is
/// harmless if it is checked more often.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Tick(u32);

impl Tick {
    /// Returns the tick that is so many milliseconds after the start of the loop.
    pub(crate) fn from_millis(millis: u64) -> Self {
        // Keep only the low bits.
        Self(millis as u32)
    }

    /// Returns how much later this is than `earlier`.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::from(self.0.wrapping_sub(earlier.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_measures_across_the_wrap() {
        let before = Tick::from_millis((1 << 32) - 5);
        let after = Tick::from_millis((1 << 32) + 7);
        assert_eq!(after.since(before), Duration::from_millis(12));
        assert_eq!(after.since(after), Duration::ZERO);
    }
}
