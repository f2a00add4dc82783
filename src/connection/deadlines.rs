//! The clock of an open connection.
//!
//! A connection has one timer, which is not moved when bytes are read or written. These only note the time, and when
//! the timer fires, it is set again according to the note. So a deadline costs a busy connection one store per read and
//! write, and one timer per period.

use std::time::Duration;

use super::{Connection, HeldBack, WriteHalf};
use crate::reason::DisconnectCause;
use crate::tick::Tick;

/// When the clock is checked again if it could not be judged: the resolution of timers.
const SOON: Duration = Duration::from_millis(1);

/// The result of checking the clock.
#[derive(Debug)]
pub(crate) enum Clock {
    /// A deadline has passed.
    Over(DisconnectCause),
    /// No deadline has passed; the next may pass after this time.
    Ahead(Duration),
    /// There is no deadline.
    Nothing,
}

impl Connection {
    pub(crate) fn look_at_clock(&mut self, now: Tick) -> Clock {
        let mut ahead: Option<Duration> = None;
        self.trim_meter(now);
        let checks = [
            Self::check_throttling,
            Self::check_idle,
            Self::check_frame,
            Self::check_write,
            Self::check_failed_write,
        ];
        for check in checks {
            match check(self, now) {
                Clock::Over(cause) => return Clock::Over(cause),
                Clock::Ahead(left) => ahead = Some(ahead.map_or(left, |other| other.min(left))),
                Clock::Nothing => {}
            }
        }
        ahead.map_or(Clock::Nothing, Clock::Ahead)
    }

    /// Returns when a throttled connection may be read again. Ticks are whole milliseconds and the loop's time is not, so
    /// one is added.
    fn check_throttling(&mut self, now: Tick) -> Clock {
        let left = self.throttled_for(now);
        left.map_or(Clock::Nothing, |left| Clock::Ahead(left + SOON))
    }

    /// Checks the idle timeout. It does not apply while the connection is held back.
    fn check_idle(&mut self, now: Tick) -> Clock {
        let Some(after) = self.terms.options.idle_timeout else {
            return Clock::Nothing;
        };
        if self.held_back != HeldBack::NOT {
            return Clock::Ahead(after);
        }
        match after.checked_sub(now.since(self.active_at)) {
            Some(left) if !left.is_zero() => Clock::Ahead(left),
            // More has arrived than a turn may read or deliver.
            _ if self.wants_delivery() => Clock::Ahead(after),
            _ => Clock::Over(DisconnectCause::Idle { after }),
        }
    }

    /// Checks an unfinished frame. In each period it has to grow by a minimum, or to be completed.
    fn check_frame(&mut self, now: Tick) -> Clock {
        let Some(within) = self.terms.options.frame_stall_timeout else {
            return Clock::Nothing;
        };
        if !self.inside_frame || self.held_back != HeldBack::NOT {
            return Clock::Nothing;
        }
        match within.checked_sub(now.since(self.period_began)) {
            Some(left) if !left.is_zero() => Clock::Ahead(left),
            _ => {
                let (received, min) = (self.period_bytes, self.terms.options.frame_stall_bytes);
                if u64::from(received) < min {
                    if self.wants_delivery() {
                        // The rest of what has arrived counts, too.
                        return Clock::Ahead(SOON);
                    }
                    let received = u64::from(received);
                    return Clock::Over(DisconnectCause::FrameStalled {
                        received,
                        min,
                        within,
                    });
                }
                self.begin_period(now);
                Clock::Ahead(within)
            }
        }
    }

    /// Checks a blocked write. Any byte that the socket takes restarts the time.
    fn check_write(&mut self, now: Tick) -> Clock {
        let (Some(after), Some(queue)) = (self.terms.options.write_stall_timeout, &self.queue)
        else {
            return Clock::Nothing;
        };
        if self.write_half != WriteHalf::Blocked {
            return Clock::Nothing;
        }
        match after.checked_sub(now.since(queue.progress_at)) {
            Some(left) if !left.is_zero() => Clock::Ahead(left),
            _ => {
                let queued = queue.bytes();
                Clock::Over(DisconnectCause::WriteStalled { after, queued })
            }
        }
    }

    /// Returns whether the peer has taken nothing from the queue for `after`.
    pub(crate) fn is_stalled(&self, after: Duration, now: Tick) -> bool {
        let queue = self.queue.as_ref();
        self.write_half == WriteHalf::Blocked
            && queue.is_some_and(|queue| now.since(queue.progress_at) >= after)
    }

    /// Checks a connection with a failed write, whose peer neither sends nor closes.
    fn check_failed_write(&mut self, now: Tick) -> Clock {
        let after = self.terms.options.disconnect_timeout;
        if !self.has_failed_write() {
            return Clock::Nothing;
        }
        if self.held_back != HeldBack::NOT {
            return Clock::Ahead(after.max(SOON));
        }
        match after.checked_sub(now.since(self.active_at)) {
            Some(left) if !left.is_zero() => Clock::Ahead(left),
            _ if self.wants_delivery() => Clock::Ahead(after.max(SOON)),
            _ => Clock::Over(DisconnectCause::DrainTimedOut { after }),
        }
    }

    /// Returns the time since a byte was last written or, on an open connection, read.
    pub(crate) fn inactive_for(&self, now: Tick) -> Duration {
        now.since(self.active_at)
    }

    /// Notes that a read has left a frame unfinished, or has made one grow by `read` bytes. Returns when the clock has
    /// to be checked.
    pub(crate) fn note_unfinished(&mut self, read: usize, now: Tick) -> Option<Duration> {
        let within = self.terms.options.frame_stall_timeout;
        if !self.inside_frame {
            self.inside_frame = true;
            self.begin_period(now);
            return within.filter(|_| !mutated!("unfinished frame not watched"));
        }
        let read = u32::try_from(read).unwrap_or(u32::MAX);
        self.period_bytes = self.period_bytes.saturating_add(read);
        None
    }

    /// Returns whether a frame is noted that was begun in an earlier read.
    pub(crate) fn has_begun_frame(&self) -> bool {
        self.inside_frame
    }

    /// Notes that a frame is complete.
    #[inline]
    pub(crate) fn note_finished(&mut self) {
        self.inside_frame = false;
    }

    fn begin_period(&mut self, now: Tick) {
        self.period_began = now;
        self.period_bytes = 0;
    }

    /// Restarts the clocks of a connection that was held back: the peer is not responsible for that time.
    pub(super) fn restart_clocks(&mut self, now: Tick) {
        self.active_at = now;
        self.begin_period(now);
    }

    /// Returns when the clock of a new connection has to be checked.
    pub(crate) fn first_look(&self) -> Option<Duration> {
        self.terms.options.idle_timeout
    }

    /// Returns when the clock of a connection has to be checked whose socket takes no more bytes.
    pub(crate) fn look_when_blocked(&self) -> Option<Duration> {
        self.terms.options.write_stall_timeout
    }

    /// Returns when the clock of a connection has to be checked that is read again.
    pub(crate) fn look_when_read(&self) -> Option<Duration> {
        self.terms
            .options
            .frame_stall_timeout
            .filter(|_| self.inside_frame)
    }
}
