//! The shares of a turn: what a light connection may use, and what is for those that are left over, mostly heavy ones.

use std::time::{Duration, Instant};

use super::Reactor;
use crate::config::Config;

/// For how long turns stay short after a light connection has sent.
const SHORT_FOR: Duration = Duration::from_secs(1);

/// A light connection from which less than this was read probably waits for an answer. More may be a part of a large
/// transfer, which is faster if turns are long.
const SMALL: usize = 4 * 1024;

/// The part of the budget that a short turn has, and the most, in bytes.
const PART: u64 = 8;
const SHORT: u64 = 128 * 1024;

/// The least that is read or written at once, whatever the budget.
const LEAST: usize = 4 * 1024;

/// Whether light connections are active.
#[derive(Debug, Default)]
pub(super) struct Activity {
    /// One was active in this turn, or since the last one in which anything was left over.
    is_seen: bool,
    /// Turns are short until then.
    until: Option<Instant>,
}

impl Activity {
    /// Notes that a light connection was read.
    #[inline(always)]
    pub(super) fn note(&mut self, read: usize) {
        self.is_seen |= read < SMALL;
    }

    /// Returns whether a turn at this time is short.
    fn is_recent(&mut self, now: Instant) -> bool {
        if std::mem::take(&mut self.is_seen) {
            self.until = now.checked_add(SHORT_FOR);
        }
        self.until.is_some_and(|until| now < until)
    }
}

/// What a light connection may use, and from what amount on a connection is heavy.
#[derive(Debug, Clone, Copy)]
pub(super) struct Light {
    /// The connection is read once, at most this many bytes.
    pub(super) bytes: usize,
    heavy_from_bytes: usize,
    heavy_from_frames: u64,
}

impl Light {
    /// The limits while no light connection is active. The read returns all that there is: if it left a little, each
    /// pipelined batch of a connection would take two reads.
    pub(super) fn new(config: &Config) -> Self {
        /// A connection that is read as much at once is heavy.
        const HEAVY_FROM: usize = 32 * 1024;
        let bytes = config.read_budget;
        Self {
            bytes,
            heavy_from_bytes: HEAVY_FROM.min(bytes / 2),
            heavy_from_frames: config.frames_per_turn.div_ceil(2),
        }
    }

    /// While light connections are [active](Activity), or if a turn is long, others read less and are heavy sooner.
    pub(super) fn beside_active(config: &Config) -> Self {
        let bytes = config.read_budget.min(2 * SMALL);
        Self {
            bytes,
            heavy_from_bytes: bytes / 2,
            heavy_from_frames: config.frames_per_turn.div_ceil(4),
        }
    }

    /// Returns whether a connection that has used this much is heavy.
    #[inline(always)]
    pub(super) fn is_exceeded(&self, bytes: usize, frames: u64) -> bool {
        bytes >= self.heavy_from_bytes || frames >= self.heavy_from_frames
    }
}

/// The last turn in which light connections became heavy.
#[derive(Debug, Default)]
pub(super) struct Burst {
    turn: u64,
    /// How much work is done when the budget of that turn is used up.
    end: u64,
}

/// What sources that are left over may use of a turn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    /// How much work is done when it is used up.
    pub(super) end: u64,
    /// The most that is read from a connection at once, and the most that is written then.
    pub(super) at_once: usize,
}

impl Reactor {
    /// Returns how much work is done when a budget is used up that begins now.
    fn end_of(&self, budget: u64) -> u64 {
        self.net.work_done().saturating_add(budget)
    }

    /// Returns the budget of a turn, if it begins now.
    pub(super) fn whole_share(&self) -> Share {
        Share {
            end: self.end_of(self.net.config().turn_budget),
            at_once: usize::MAX,
        }
    }

    /// Notes that a light connection became heavy in its own event. If many do in one turn, and use up its budget, the others
    /// read less.
    #[cold]
    #[inline(never)]
    pub(super) fn note_burst(&mut self) {
        let turn = self.net.turns();
        if self.burst.turn != turn {
            let end = self.end_of(self.net.config().turn_budget);
            self.burst = Burst { turn, end };
        } else if self.net.work_done() >= self.burst.end {
            self.light = Light::beside_active(self.net.config());
        }
    }

    /// Returns what sources that are left over may use, from now on. While light connections are active that is a part of
    /// the budget, and no more is read or written at once: they wait for less. Others are heavy sooner, so that they do not
    /// use as much as in their own events.
    pub(super) fn share_of_left_over(&mut self) -> Share {
        if !self.activity.is_recent(self.net.now()) {
            self.light = Light::new(self.net.config());
            return self.whole_share();
        }
        self.light = Light::beside_active(self.net.config());
        let budget = (self.net.config().turn_budget / PART).min(SHORT);
        Share {
            end: self.end_of(budget),
            at_once: usize::try_from(budget).unwrap_or(usize::MAX).max(LEAST),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_short_for_a_second_after_a_small_read() {
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        let mut activity = Activity::default();
        assert!(!activity.is_recent(start));
        activity.note(SMALL);
        assert!(!activity.is_recent(start), "it may be a part of a transfer");
        activity.note(SMALL - 1);
        assert!(activity.is_recent(start));
        assert!(activity.is_recent(after(999)));
        assert!(!activity.is_recent(after(1000)));
        activity.note(4);
        assert!(activity.is_recent(after(5000)));
    }
}
