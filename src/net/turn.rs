//! Begin and end of a turn: time, events, and pending work.

use std::time::{Duration, Instant};

use log::{Level, log_enabled};
use mio::Token;

use super::{Deadline, Net};
#[cfg(feature = "proxy")]
use crate::connection_id::SlotId;
use crate::connection_id::{ConnectionId, Source};
use crate::socket::Readiness;
use crate::tick::Tick;
use crate::timers::{later, tick_before};

/// How long memory stays unused before it is returned to the allocator.
const TRIM_AFTER: Duration = Duration::from_secs(1);

/// When a turn is due, apart from events and pending work, and when turns end.
#[derive(Debug)]
pub(super) struct Schedule {
    /// The time of this turn, in milliseconds since the start of the loop.
    pub(super) tick: u64,
    /// When this turn began, and when the last one ended, if that was reported by `note_turn_end`: in nanoseconds since the
    /// start of the loop, which cost less to compare than instants.
    began: u64,
    ended: u64,
    /// The instant at which the last turn ended.
    ended_at: Instant,
    /// How long all turns took, and the longest, in nanoseconds.
    busy: u64,
    longest: u64,
    pub(super) stopping: bool,
    /// A turn is due although there is no work to do in it, because `stop` or `shutdown` was called.
    pub(super) turn_is_due: bool,
    /// Commands are left in the mailbox: turns before this one are due without an event.
    mail_until: u64,
    /// The timer that returns unused memory is set.
    trims: bool,
    /// The most that is written to a connection at once, if it is less than its budget.
    pub(super) most_written: usize,
    /// The last turn in which all queues were flushed because the memory budget was exceeded.
    pub(super) tried_to_write: u64,
}

impl Schedule {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            tick: 0,
            began: 0,
            ended: 0,
            ended_at: now,
            busy: 0,
            longest: 0,
            stopping: false,
            turn_is_due: false,
            mail_until: 0,
            trims: false,
            most_written: usize::MAX,
            tried_to_write: 0,
        }
    }
}

impl Net {
    /// Sets the time of this turn to `now`. Time never goes back.
    pub(crate) fn set_now(&mut self, now: Instant) {
        let nanos = self.timers.nanos(now);
        if nanos > self.schedule.began {
            self.now = now;
            self.schedule.began = nanos;
        }
        self.schedule.tick = tick_before(self.schedule.began);
        self.common.now = Tick::from_millis(self.schedule.tick);
    }

    /// Notes an event of a connection, listener or arrival.
    #[inline]
    pub(crate) fn note_readiness(&mut self, token: Token, readiness: Readiness) {
        self.work.add_event(token, readiness);
    }

    /// Lists a connection to be served in the next turn, whether or not there is an event.
    pub(crate) fn list(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id)
            && !connection.listed
        {
            connection.listed = true;
            self.work.add_to_next_turn(Source::Connection(id));
        }
    }

    pub(crate) fn count_turn(&mut self) {
        self.stats.turns += 1;
        self.common.is_watched = log_enabled!(Level::Trace) || self.times_callbacks();
        #[cfg(feature = "tls")]
        {
            self.common.handshakes_left = self.config.handshakes_per_turn;
        }
        // A panic in a callback may have left some.
        self.connections.end_replies();
        self.work.begin_turn();
    }

    #[inline]
    pub(crate) fn next_event(&self) -> Option<(Option<Source>, Readiness)> {
        let (token, readiness) = self.work.next_event()?;
        let source = Source::from_token(token, |source| match source {
            Source::Connection(id) => self.connections.generation(id.index()),
            Source::Listener(id) => self.listeners.generation(id.index()),
            #[cfg(feature = "proxy")]
            Source::Arrival(id) => self.arrivals.generation(id.slot()),
        });
        Some((source, readiness))
    }

    #[inline]
    pub(crate) fn event_served(&mut self) {
        self.work.event_served();
    }

    pub(crate) fn finish_events(&mut self) {
        self.work.finish_events();
    }

    pub(crate) fn left_over(&self) -> usize {
        self.work.left_over()
    }

    pub(crate) fn next_left_over(&self) -> Option<Source> {
        self.work.next_left_over()
    }

    /// Removes a left-over source that was served from the front of its list, or moves it to the end if there is more to
    /// do.
    pub(crate) fn left_over_served(&mut self, source: Source) {
        self.work.take_left_over();
        let again = match source {
            Source::Connection(id) => self.connections.get_mut(id).is_some_and(|connection| {
                connection.listed = connection.is_runnable();
                connection.listed
            }),
            Source::Listener(id) => self.listeners.get_mut(id).is_some_and(|listener| {
                listener.listed = listener.is_runnable();
                listener.listed
            }),
            #[cfg(feature = "proxy")]
            Source::Arrival(_) => false,
        };
        if again {
            self.work.add_left_over(source);
        }
    }

    /// Returns the number of turns, with this one.
    pub(crate) fn turns(&self) -> u64 {
        self.stats.turns
    }

    /// Returns the work of the loop since its start, as counted for [`turn_budget`](crate::Config::turn_budget).
    pub(crate) fn work_done(&self) -> u64 {
        /// What a frame that is delivered or written costs, in bytes copied: some tens of nanoseconds.
        const FRAME: u64 = 128;
        let frames = self.stats.frames_received + self.common.written.frames;
        let bytes = self.stats.bytes_received + self.common.written.bytes;
        bytes + frames * FRAME
    }

    /// Limits what is written to a connection at once, below its budget.
    pub(crate) fn limit_writes(&mut self, bytes: usize) {
        self.schedule.most_written = bytes;
    }

    /// Returns the number of connections to be reported as drained.
    pub(crate) fn drained(&self) -> usize {
        self.work.drained()
    }

    pub(crate) fn ended(&self) -> usize {
        self.work.ended()
    }

    pub(crate) fn next_user_event(&mut self) -> Option<(Token, Readiness)> {
        self.work.next_user_event()
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let (own, user) = (
            self.timers.next_deadline(),
            self.user_timers.next_deadline(),
        );
        own.into_iter().chain(user).min()
    }

    /// Returns how long it is from `now` to the next deadline.
    pub(crate) fn time_to_deadline(&self, now: Instant) -> Option<Duration> {
        let next = self.timers.next_nanos().min(self.user_timers.next_nanos());
        if next == u64::MAX {
            return None;
        }
        let now = match now == self.schedule.ended_at {
            true => self.schedule.ended,
            false => self.timers.nanos(now),
        };
        Some(Duration::from_nanos(next.saturating_sub(now)))
    }

    pub(crate) fn note_turn_end(&mut self, now: Instant) {
        let schedule = &mut self.schedule;
        schedule.ended = self.timers.nanos(now).max(schedule.began);
        schedule.ended_at = now;
        let busy = schedule.ended - schedule.began;
        schedule.busy = schedule.busy.saturating_add(busy);
        schedule.longest = schedule.longest.max(busy);
        self.stats.turn_times.add(busy);
    }

    /// Returns how long all turns took.
    pub(super) fn busy(&self) -> Duration {
        Duration::from_nanos(self.schedule.busy)
    }

    pub(super) fn longest_turn(&self) -> Duration {
        Duration::from_nanos(self.schedule.longest)
    }

    /// Returns the time between turns, up to the end of the last one.
    pub(super) fn waited(&self) -> Duration {
        Duration::from_nanos(self.schedule.ended.saturating_sub(self.schedule.busy))
    }

    /// Returns whether there is work that needs no further event.
    pub(crate) fn has_work(&self) -> bool {
        !self.work.is_empty()
            || self.schedule.turn_is_due
            || self.stats.turns < self.schedule.mail_until
    }

    /// Stops the loop: [`run`](crate::EventLoop::run) returns after this turn. Connections and listeners stay, and
    /// `run` may be called again. If you drive turns yourself, [`take_stop`](crate::Reactor::take_stop) reports it.
    pub fn stop(&mut self) {
        self.schedule.stopping = true;
        self.schedule.turn_is_due = true;
    }

    /// Returns whether the loop was stopped by [`stop`](Self::stop) or at the end of a [`shutdown`](Self::shutdown),
    /// and the stop was not [taken](crate::Reactor::take_stop) yet.
    pub fn is_stopping(&self) -> bool {
        self.schedule.stopping
    }

    pub(crate) fn take_stop(&mut self) -> bool {
        std::mem::take(&mut self.schedule.stopping)
    }

    /// Notes that commands are left in the mailbox: the next turn is due immediately.
    pub(crate) fn note_mail(&mut self) {
        // This turn is not counted yet.
        self.schedule.mail_until = self.stats.turns + 2;
    }

    /// Counts commands that were run. Sets the number of those that are pending, and of wake-ups for commands.
    pub(crate) fn count_commands(&mut self, run: u64, pending: u64, wake_ups: u64) {
        self.stats.commands += run;
        self.stats.pending_commands = pending;
        self.stats.wake_ups = wake_ups;
    }

    /// Counts a command if it failed.
    pub(crate) fn count_failed_command(&mut self, failed: bool) {
        self.stats.commands_failed += u64::from(failed);
    }

    /// Returns the next deadline that has passed.
    pub(crate) fn next_expired(&mut self) -> Option<Deadline> {
        self.timers.expire(self.schedule.tick)
    }

    /// Returns unused memory to the allocator.
    pub(crate) fn trim(&mut self) {
        self.schedule.trims = false;
        if let Some(queue) = self.connections.trim() {
            self.common.buffers.put_queue(queue);
        }
        self.common.buffers.trim();
        self.common.fanout.trim();
        self.user_timers.trim();
        self.work.trim();
    }

    pub(crate) fn free_slots(&mut self) {
        if self.work.has_reported() {
            for id in self.work.take_reported() {
                self.connections.free(id);
            }
        }
        self.schedule.turn_is_due = false;
        self.finish_shutdown();
        if !self.schedule.trims && self.is_retaining() {
            self.schedule.trims = true;
            let at = later(self.now, TRIM_AFTER);
            self.timers.insert(at, Deadline::Trim);
        }
    }

    /// Returns whether a later [`trim`](Self::trim) may free anything.
    fn is_retaining(&self) -> bool {
        self.common.buffers.is_retaining()
            || self.common.fanout.is_retaining()
            || self.connections.is_retaining()
            || self.user_timers.is_retaining()
    }
}
