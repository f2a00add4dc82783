//! What the clock says of an open connection.
//!
//! A connection has one timer. It is not moved when bytes come or go: those leave a note of the time, and when the timer
//! fires, it is set anew for what was noted. So a deadline costs a connection that is busy a store for each read and
//! write, and one timer for each time it would have been due.

use std::time::Duration;

use super::{Connection, HeldBack, WriteHalf};
use crate::reason::DisconnectCause;
use crate::tick::Tick;

/// How soon the clock is looked at again if it could not be judged by: what timers can tell apart.
const SOON: Duration = Duration::from_millis(1);

/// The outcome of a look at the clock.
#[derive(Debug)]
pub(crate) enum Clock {
    /// A deadline has passed.
    Over(DisconnectCause),
    /// None has passed; the next one could, after so long.
    Ahead(Duration),
    /// There is none.
    Nothing,
}

impl Connection {
    pub(crate) fn look_at_clock(&mut self, now: Tick) -> Clock {
        let mut ahead: Option<Duration> = None;
        let checks = [
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

    /// Neither side has sent anything. While it is not read, that is our own doing.
    fn check_idle(&mut self, now: Tick) -> Clock {
        let Some(after) = self.terms.options.idle_timeout else {
            return Clock::Nothing;
        };
        if self.held_back != HeldBack::NOT {
            return Clock::Ahead(after);
        }
        match after.checked_sub(now.since(self.active_at)) {
            Some(left) if !left.is_zero() => Clock::Ahead(left),
            // There is more of it than a turn may read or show.
            _ if self.wants_delivery() => Clock::Ahead(after),
            _ => Clock::Over(DisconnectCause::Idle { after }),
        }
    }

    /// A frame was begun. It has to grow by a minimum in each period, or to be complete.
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
                        // The rest of what there is counts, too.
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

    /// The socket takes no more. Any byte it takes begins the time anew.
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

    /// Whether the peer has taken nothing of what is queued for so long.
    pub(crate) fn is_stalled(&self, after: Duration, now: Tick) -> bool {
        let queue = self.queue.as_ref();
        self.write_half == WriteHalf::Blocked
            && queue.is_some_and(|queue| now.since(queue.progress_at) >= after)
    }

    /// A write has failed, and the peer neither sends anything nor closes.
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

    /// How long ago a byte was last written or, of an open connection, read.
    pub(crate) fn inactive_for(&self, now: Tick) -> Duration {
        now.since(self.active_at)
    }

    /// Takes note that a read has left a frame unfinished, or has made one grow by `read` bytes. Returns how soon the
    /// clock has to be looked at.
    pub(crate) fn note_unfinished(&mut self, read: usize, now: Tick) -> Option<Duration> {
        let within = self.terms.options.frame_stall_timeout;
        if !self.inside_frame {
            self.inside_frame = true;
            self.begin_period(now);
            return within;
        }
        let read = u32::try_from(read).unwrap_or(u32::MAX);
        self.period_bytes = self.period_bytes.saturating_add(read);
        None
    }

    /// A frame was begun in an earlier read, as far as is noted.
    pub(crate) fn has_begun_frame(&self) -> bool {
        self.inside_frame
    }

    /// Takes note that a frame is complete.
    #[inline]
    pub(crate) fn note_finished(&mut self) {
        self.inside_frame = false;
    }

    fn begin_period(&mut self, now: Tick) {
        self.period_began = now;
        self.period_bytes = 0;
    }

    /// Starts the clocks of a connection that was not read, for which no peer can be blamed.
    pub(super) fn restart_clocks(&mut self, now: Tick) {
        self.active_at = now;
        self.begin_period(now);
    }

    /// How soon the clock of a new connection has to be looked at.
    pub(crate) fn first_look(&self) -> Option<Duration> {
        self.terms.options.idle_timeout
    }

    /// How soon the clock of a connection has to be looked at whose socket takes no more.
    pub(crate) fn look_when_blocked(&self) -> Option<Duration> {
        self.terms.options.write_stall_timeout
    }

    /// How soon the clock of a connection has to be looked at that is read again.
    pub(crate) fn look_when_read(&self) -> Option<Duration> {
        self.terms
            .options
            .frame_stall_timeout
            .filter(|_| self.inside_frame)
    }
}
