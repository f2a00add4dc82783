//! Callbacks that take too long.

use std::fmt::Display;
use std::time::{Duration, Instant};

use log::warn;

use super::Net;

impl Net {
    /// Returns whether callbacks are timed.
    #[inline]
    pub(crate) fn times_callbacks(&self) -> bool {
        self.config.slow_callback.is_some()
    }

    /// Makes a callback on behalf of `whom`. If `slow_callback` is set and the callback takes longer, it is counted and
    /// logged.
    #[inline]
    pub(crate) fn call<R>(
        &mut self,
        name: &'static str,
        whom: impl Display,
        callback: impl FnOnce(&mut Self) -> R,
    ) -> R {
        match self.config.slow_callback {
            None => callback(self),
            Some(threshold) => self.call_timed(name, whom, threshold, callback),
        }
    }

    fn call_timed<R>(
        &mut self,
        name: &'static str,
        whom: impl Display,
        threshold: Duration,
        callback: impl FnOnce(&mut Self) -> R,
    ) -> R {
        let began = Instant::now();
        let result = callback(self);
        let took = began.elapsed();
        if took > threshold {
            self.stats.slow_callbacks += 1;
            warn!("{whom}: {name} blocked the loop for {took:?}");
        }
        result
    }
}
