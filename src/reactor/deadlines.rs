//! Judges deadlines that have passed. Each tries the operation first, then judges by its progress.
//!
//! Events may lag behind the state of a socket: a batch of events may have been full, a signal may have interrupted the
//! wait, or the process may have been suspended. Linux reports room in a send buffer only when a third of it is free.
//! So before a connection is ended by a deadline, it is served once as if events had reported everything.

use std::time::{Duration, Instant};

use super::Reactor;
use crate::connection::{Clock, Phase};
use crate::connection_id::ConnectionId;
use crate::handler::Handler;
use crate::net::Deadline;
use crate::reason::DisconnectCause;

/// The number of deadlines judged per turn. The rest is due immediately, in the next turn.
const DEADLINES_PER_TURN: usize = 1024;

/// The time after which a connection is judged again if its callback panics meanwhile.
const AFTER_A_PANIC: Duration = Duration::from_secs(1);

impl Reactor {
    pub(super) fn judge_deadlines<H: Handler + ?Sized>(&mut self, handler: &mut H) {
        for _ in 0..DEADLINES_PER_TURN {
            let Some(deadline) = self.net.next_expired() else {
                return;
            };
            match deadline {
                Deadline::Connect(id, after) => self.judge_attempt(handler, id, after),
                #[cfg(feature = "proxy")]
                Deadline::Header(id, after) => self.judge_arrival(handler, id, after),
                Deadline::Check(id) => self.judge_open(handler, id),
                Deadline::Drain(id, until) => self.judge_closing(handler, id, until),
                Deadline::Shutdown(after) => self.cut_short(after),
                Deadline::AcceptRetry => self.net.resume_accepting(),
                Deadline::Report(warning) => self.net.report_warnings(warning),
                Deadline::Trim => self.net.trim(),
            }
        }
    }

    /// Judges a connection attempt whose timeout has passed.
    fn judge_attempt<H: Handler + ?Sized>(
        &mut self,
        handler: &mut H,
        id: ConnectionId,
        after: Duration,
    ) {
        self.serve_now(handler, id);
        if self.net.phase(id) == Some(Phase::Connecting) {
            let cause = self.net.attempt_timed_out(id, after);
            self.net.end(id, Some(cause));
        }
    }

    /// Judges an open connection that may be idle or stalled, or that was throttled.
    fn judge_open<H: Handler + ?Sized>(&mut self, handler: &mut H, id: ConnectionId) {
        self.net.end_throttling(id);
        if let Clock::Over(_) = self.net.look_at_clock(id)
            && !mutated!("stall judged without trying")
        {
            self.net.watch(id, Some(AFTER_A_PANIC));
            self.serve_now(handler, id);
        }
        if self.net.phase(id) != Some(Phase::Open) {
            return;
        }
        match self.net.look_at_clock(id) {
            Clock::Over(cause) => self.net.end(id, Some(cause)),
            Clock::Ahead(left) => self.net.watch_anew(id, Some(left)),
            Clock::Nothing => self.net.watch_anew(id, None),
        }
    }

    /// Judges a closing connection: its timeout has passed since its peer last took a byte, or `until` has, the end of
    /// all extensions.
    fn judge_closing<H: Handler + ?Sized>(
        &mut self,
        handler: &mut H,
        id: ConnectionId,
        until: Instant,
    ) {
        let Some(after) = self.net.disconnect_timeout(id) else {
            return;
        };
        self.net.set_deadline(id, after, Deadline::Drain(id, until));
        self.serve_now(handler, id);
        match self.net.time_to_close(id, until) {
            None => {}
            Some(Duration::ZERO) => {
                self.net.drain_at_last(id, self.read_buffer.room());
                self.net
                    .end(id, Some(DisconnectCause::DrainTimedOut { after }));
            }
            Some(left) => self.net.set_deadline(id, left, Deadline::Drain(id, until)),
        }
    }

    /// Ends all connections when the timeout of a shutdown has passed, after a last attempt to close each gracefully.
    fn cut_short(&mut self, after: Duration) {
        if mutated!("shutdown without a deadline") {
            return;
        }
        self.net.postpone_shutdown(after);
        for id in self.net.in_phase(|phase| phase != Phase::Closed) {
            match self.net.phase(id) {
                Some(Phase::Closing | Phase::Draining) => {
                    self.net.drain_at_last(id, self.read_buffer.room());
                }
                Some(Phase::Releasing) => {
                    self.net.pretend_ready(id);
                    self.net.flush(id);
                }
                _ => {}
            }
            self.net
                .end(id, Some(DisconnectCause::DrainTimedOut { after }));
        }
    }

    /// Serves a connection as if events had reported everything.
    #[cold]
    #[inline(never)]
    fn serve_now<H: Handler + ?Sized>(&mut self, handler: &mut H, id: ConnectionId) {
        // If a callback panics, the next turn serves it again.
        self.net.list(id);
        self.net.pretend_ready(id);
        self.serve_again(handler, id, self.whole_share());
    }
}
