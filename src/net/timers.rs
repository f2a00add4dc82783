//! The user's timers: one-shot or repeating, of the loop or of a connection.
//!
//! They have a timing wheel of their own. The timers of a connection form a linked list, so that they can be cancelled
//! when it ends; the connection stores the first.

use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use super::Net;
use crate::connection::Phase;
use crate::connection_id::ConnectionId;
use crate::timers::{NO_TIMER, TimerKey, Timers, later};

/// The shortest period of an interval: the resolution of timers.
const SHORTEST: Duration = Duration::from_millis(1);

/// Identifies a timer, until it has fired for the last time or was cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TimerId(TimerKey);

/// A timer that fired, as passed to [`on_timer`](crate::Handler::on_timer).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Expired {
    /// The timer.
    pub timer: TimerId,
    /// The key that was passed to [`set_timer`](Net::set_timer).
    pub key: u64,
    /// The connection it belongs to, if any.
    pub connection: Option<ConnectionId>,
    /// When it was due: exactly for an interval, otherwise to the millisecond. If several ticks of an interval have
    /// passed, this is the first of them.
    pub due: Instant,
    /// The number of further ticks of an interval that passed after [`due`](Self::due), because the loop was late. They
    /// are not fired. A game with fixed steps computes `1 + missed` of them.
    pub missed: u64,
}

/// The timers of the user.
#[derive(Debug)]
pub(super) struct UserTimers {
    wheel: Timers<UserTimer>,
    /// Counts the turns in which timers were fired.
    round: u32,
}

impl UserTimers {
    pub(super) fn new(now: Instant) -> Self {
        let wheel = Timers::new(now);
        Self { wheel, round: 0 }
    }
}

impl Deref for UserTimers {
    type Target = Timers<UserTimer>;

    fn deref(&self) -> &Self::Target {
        &self.wheel
    }
}

impl DerefMut for UserTimers {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.wheel
    }
}

/// A timer that is set.
#[derive(Debug)]
pub(super) struct UserTimer {
    key: u64,
    connection: Option<ConnectionId>,
    /// The neighbours in the list of its connection.
    previous: u32,
    next: u32,
    /// The round in which it was set: a timer set while others fire waits for the next round.
    round: u32,
    interval: Option<Box<Interval>>,
}

#[derive(Debug)]
struct Interval {
    /// When it is due next, counted from the first due time and not from when it fired, so that it does not drift.
    due: Instant,
    period: Duration,
}

impl Interval {
    /// Advances to the first due time after `now`. Returns when it was due, and the number of missed ticks.
    fn advance(&mut self, now: Instant) -> (Instant, u64) {
        let due = self.due;
        let late = now.saturating_duration_since(due).as_nanos();
        let missed = late / self.period.as_nanos();
        let ahead = self.period.as_nanos() * (missed + 1);
        let ahead = Duration::from_nanos(u64::try_from(ahead).unwrap_or(u64::MAX));
        self.due = match mutated!("interval counted from now") {
            true => later(now, self.period),
            false => later(due, ahead),
        };
        (due, u64::try_from(missed).unwrap_or(u64::MAX))
    }
}

/// When a timer fires, and what it belongs to; the argument of [`Net::set_timer`].
///
/// A [`Duration`] converts into a timer that fires once after it, an [`Instant`] into a timer that fires once at it.
///
/// ```
/// use std::time::{Duration, Instant};
/// use throng::{ConnectionId, Net, Timer};
///
/// const LOGIN: u64 = 1;
/// const TICK: u64 = 2;
/// const MIDNIGHT: u64 = 3;
///
/// fn set(net: &mut Net, id: ConnectionId, midnight: Instant) {
///     net.set_timer(Timer::after(Duration::from_secs(10)).on(id), LOGIN);
///     net.set_timer(Timer::interval(Duration::from_secs(1) / 60), TICK);
///     net.set_timer(Timer::at(midnight).every(Duration::from_secs(24 * 60 * 60)), MIDNIGHT);
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timer {
    first: First,
    period: Option<Duration>,
    connection: Option<ConnectionId>,
}

/// When a timer fires for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum First {
    After(Duration),
    At(Instant),
}

impl Timer {
    /// Fires once, `after` the start of this [turn](Net::now): the clock is read once per turn. To count from the
    /// present moment after a long callback, use `Timer::at(Instant::now() + after)`.
    pub fn after(after: Duration) -> Self {
        Self::first(First::After(after))
    }

    /// Fires once, at an instant. If it has passed, the timer fires with the next millisecond.
    pub fn at(at: Instant) -> Self {
        Self::first(First::At(at))
    }

    /// Fires every `period`, for the first time after one period. The minimum is 1 ms.
    pub fn interval(period: Duration) -> Self {
        Self::after(period.max(SHORTEST)).every(period)
    }

    fn first(first: First) -> Self {
        Self {
            first,
            period: None,
            connection: None,
        }
    }

    /// Fires again after each `period` (at least 1 ms), until it is cancelled.
    ///
    /// It does not drift: due times are counted from the first one. If the loop is so late that some have passed,
    /// [`missed`](Expired::missed) is their number. With a period below 3 ms that is frequent, because timers are up to
    /// two milliseconds late.
    pub fn every(mut self, period: Duration) -> Self {
        self.period = Some(period.max(SHORTEST));
        self
    }

    /// Belongs to a connection and ends with it: once either side has disconnected the connection, the timer does not
    /// fire any more. For a closed connection it is not set.
    ///
    /// ```
    /// use std::time::Duration;
    /// use throng::{ConnectionId, Expired, Frame, Handler, Net, Timer};
    ///
    /// const LOGIN: u64 = 1;
    ///
    /// struct Server;
    ///
    /// impl Handler for Server {
    ///     fn on_connect(&mut self, net: &mut Net, id: ConnectionId) {
    ///         net.set_timer(Timer::after(Duration::from_secs(10)).on(id), LOGIN);
    ///     }
    ///     fn on_data(&mut self, _: &mut Net, _: ConnectionId, _: Frame<'_>) {}
    ///     fn on_timer(&mut self, net: &mut Net, expired: Expired) {
    ///         // The connection is open: otherwise its timer would have been cancelled.
    ///         if let (LOGIN, Some(id)) = (expired.key, expired.connection) {
    ///             net.disconnect(id);
    ///         }
    ///     }
    /// }
    /// ```
    pub fn on(mut self, id: ConnectionId) -> Self {
        self.connection = Some(id);
        self
    }
}

impl From<Duration> for Timer {
    fn from(after: Duration) -> Self {
        Self::after(after)
    }
}

impl From<Instant> for Timer {
    fn from(at: Instant) -> Self {
        Self::at(at)
    }
}

impl Net {
    /// Sets a timer. When it fires, [`on_timer`](crate::Handler::on_timer) is called with `key`. A [`Duration`] or an
    /// [`Instant`] is a one-shot timer; see [`Timer`] for all others.
    ///
    /// A timer never fires early. It fires up to two milliseconds late, or as late as the loop is. Timers of the same
    /// millisecond fire in any order. Setting and cancelling cost the same with ten timers and with a million.
    ///
    /// ```
    /// use std::time::Duration;
    /// use throng::{Config, ConnectionId, EventLoop, Expired, Frame, Handler, Net, Timer};
    ///
    /// #[derive(Default)]
    /// struct World { steps: u64 }
    ///
    /// impl Handler for World {
    ///     fn on_data(&mut self, _: &mut Net, _: ConnectionId, _: Frame<'_>) {}
    ///     fn on_timer(&mut self, net: &mut Net, expired: Expired) {
    ///         self.steps += 1 + expired.missed;
    ///         net.broadcast(|_| true, format!("step {}", self.steps));
    ///         if self.steps >= 3 {
    ///             net.cancel_timer(expired.timer);
    ///             net.stop();
    ///         }
    ///     }
    /// }
    ///
    /// let mut event_loop = EventLoop::new(Config::default())?;
    /// event_loop.net().set_timer(Timer::interval(Duration::from_secs(1) / 60), 0);
    /// event_loop.run(&mut World::default())?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_timer(&mut self, timer: impl Into<Timer>, key: u64) -> TimerId {
        let timer = timer.into();
        if timer.connection.is_some_and(|id| !self.may_have_timers(id)) {
            return TimerId(TimerKey::NONE);
        }
        let first = match timer.first {
            First::After(after) => later(self.now, after),
            First::At(at) => at,
        };
        self.add_timer(first, timer.period, key, timer.connection)
    }

    fn may_have_timers(&self, id: ConnectionId) -> bool {
        let connection = self.connections.get(id);
        connection
            .is_some_and(|connection| matches!(connection.phase, Phase::Connecting | Phase::Open))
    }

    /// Cancels a timer. Returns `false` if it is not set: it has fired, was cancelled, or ended with its connection.
    pub fn cancel_timer(&mut self, timer: TimerId) -> bool {
        self.unlink_timer(timer.0);
        self.user_timers.cancel(timer.0).is_some()
    }

    /// Sets a timer, which repeats if it has a period.
    fn add_timer(
        &mut self,
        first: Instant,
        period: Option<Duration>,
        key: u64,
        connection: Option<ConnectionId>,
    ) -> TimerId {
        if self.user_timers.is_empty() {
            // An empty wheel is not advanced, so its time may be behind.
            self.user_timers.due(self.schedule.tick);
        }
        let head = connection.and_then(|id| self.connections.get_mut(id));
        let next = head.as_ref().map_or(NO_TIMER, |head| head.first_timer);
        let timer = UserTimer {
            key,
            connection,
            previous: NO_TIMER,
            next,
            round: self.user_timers.round,
            interval: period.map(|period| Box::new(Interval { due: first, period })),
        };
        let timer = self.user_timers.insert(first.max(self.now), timer);
        if let Some(head) = head {
            head.first_timer = timer.index();
        }
        if let Some((_, next)) = self.user_timers.at_mut(next) {
            next.previous = timer.index();
        }
        TimerId(timer)
    }

    /// Removes a timer from the list of its connection, if it is in one.
    fn unlink_timer(&mut self, timer: TimerKey) {
        let Some(&mut UserTimer {
            connection: Some(id),
            previous,
            next,
            ..
        }) = self.user_timers.get_mut(timer)
        else {
            return;
        };
        if let Some((_, previous)) = self.user_timers.at_mut(previous) {
            previous.next = next;
        } else if let Some(connection) = self.connections.get_mut(id) {
            connection.first_timer = next;
        }
        if let Some((_, next)) = self.user_timers.at_mut(next) {
            next.previous = previous;
        }
    }

    /// Cancels the timers of a connection.
    pub(super) fn end_timers(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        let mut index = std::mem::replace(&mut connection.first_timer, NO_TIMER);
        while let Some((timer, set)) = self.user_timers.at_mut(index) {
            index = set.next;
            self.user_timers.cancel(timer);
        }
    }

    /// Begins a round: timers set from here on wait for the next turn. Returns how many may fire; `None` if none is
    /// set.
    pub(crate) fn begin_round(&mut self) -> Option<usize> {
        self.user_timers.round = self.user_timers.round.wrapping_add(1);
        let is_set = !self.user_timers.is_empty();
        is_set.then_some(self.config.timers_per_turn)
    }

    /// Returns the next user timer that fires in this round.
    pub(crate) fn expire_timer(&mut self) -> Option<Expired> {
        let timer = self.user_timers.due(self.schedule.tick)?;
        let to_the_millisecond = self.user_timers.deadline(timer);
        let round = self.user_timers.round;
        // Timers set in this round are due after all that were set before.
        let set = self
            .user_timers
            .get_mut(timer)
            .filter(|set| set.round != round)?;
        let (key, connection) = (set.key, set.connection);
        let (due, missed) = if let Some(interval) = &mut set.interval {
            let (due, missed) = interval.advance(self.now);
            let next = interval.due;
            self.user_timers.rearm(timer, next);
            (due, missed)
        } else {
            self.cancel_timer(TimerId(timer));
            (to_the_millisecond.unwrap_or(self.now), 0)
        };
        Some(Expired {
            timer: TimerId(timer),
            key,
            connection,
            due,
            missed,
        })
    }
}
