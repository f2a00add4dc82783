//! Notices that nothing moves any more, so that no command waits for ever.

use std::time::{Duration, Instant};

use crate::problem::Problem;

/// How long nothing may happen.
const PATIENCE: Duration = Duration::from_secs(20);
/// The longest wait of a turn, so that progress is shown, and a standstill noticed.
pub(crate) const TICK: Duration = Duration::from_millis(20);

/// A count that has to change now and then.
pub(crate) struct Watch {
    last: u64,
    since: Instant,
}

impl Watch {
    pub(crate) fn new() -> Self {
        Self {
            last: 0,
            since: Instant::now(),
        }
    }

    /// Fails with `otherwise` if the count has been the same for too long.
    pub(crate) fn expect(&mut self, count: u64, otherwise: &str) -> Result<(), Problem> {
        if count != self.last {
            self.last = count;
            self.since = Instant::now();
        } else if self.since.elapsed() > PATIENCE {
            return Err(Problem::failed(format!("{otherwise} for {PATIENCE:?}")));
        }
        Ok(())
    }
}
