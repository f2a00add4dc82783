//! The frames of an open loop: when each is due, and what became of them.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::report::{self, grouped};

/// A generator that is later than this by its own fault is the limit of what it measures. It goes on sending for as long
/// after the end, to catch up.
const LATE: Duration = Duration::from_millis(100);
/// So is one that could not send all and waited for less than this part of its time.
const IDLE: f64 = 0.05;

/// So many frames a second, from the start on.
#[derive(Debug)]
pub(super) struct Schedule {
    start: Instant,
    end: Instant,
    /// Frames a second.
    rate: f64,
    /// How many are due from the start to the end.
    total: u64,
    /// The number of the next one, from 0.
    next: u64,
    sent: u64,
    no_room: u64,
    behind: Duration,
}

impl Schedule {
    pub(super) fn new(rate: u32, start: Instant, length: Duration) -> Self {
        let rate = f64::from(rate);
        Self {
            start,
            end: start + length,
            rate,
            total: (length.as_secs_f64() * rate).ceil() as u64,
            next: 0,
            sent: 0,
            no_room: 0,
            behind: Duration::ZERO,
        }
    }

    /// How many frames are due, and not counted as sent or refused yet.
    pub(super) fn due(&mut self, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.start).as_secs_f64();
        let due = ((elapsed * self.rate) as u64 + 1).min(self.total);
        let due = due.saturating_sub(self.next);
        if due > 0 {
            let behind = now.saturating_duration_since(self.next_at());
            self.behind = self.behind.max(behind);
        }
        due
    }

    /// When the next frame is due.
    pub(super) fn next_at(&self) -> Instant {
        self.start + Duration::from_secs_f64(self.next as f64 / self.rate)
    }

    /// Which frame is next, counted from 0.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Counts the next frame: as sent, or as one for which there was no room.
    pub(super) fn count(&mut self, is_sent: bool) {
        self.next += 1;
        if is_sent {
            self.sent += 1;
        } else {
            self.no_room += 1;
        }
    }

    /// Whether nothing is to be sent any more: all frames are counted, or those that are not are too late.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.next == self.total || now > self.end + LATE
    }

    /// What became of all frames. For a part of its time, from 0 to 1, the generator had nothing to do.
    pub(super) fn outcome(&self, idle: f64, unanswered: u64) -> Outcome {
        let not_reached = self.total - self.next;
        let is_incomplete = not_reached + self.no_room > 0;
        Outcome {
            due: self.total,
            sent: self.sent,
            no_room: self.no_room,
            not_reached,
            unanswered,
            behind: self.behind,
            is_the_limit: self.behind > LATE || (is_incomplete && idle < IDLE),
        }
    }
}

/// What became of the frames that were due.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outcome {
    due: u64,
    sent: u64,
    /// Not sent, because too much was on its way already.
    no_room: u64,
    /// Not sent, because the generator did not get to them in time.
    not_reached: u64,
    /// Sent, and not waited for any longer.
    pub(crate) unanswered: u64,
    /// How late the generator was at most.
    behind: Duration,
    /// Whether the figures show what the generator can do, rather than the server.
    is_the_limit: bool,
}

impl Outcome {
    pub(super) fn as_json(&self) -> Value {
        json!({
            "due": self.due,
            "sent": self.sent,
            "errors": {
                "no_room": self.no_room,
                "not_reached": self.not_reached,
                "unanswered": self.unanswered,
            },
            "generator_behind_ns": self.behind.as_nanos() as u64,
            "generator_was_the_limit": self.is_the_limit,
        })
    }

    pub(super) fn say(&self) {
        report::say(format_args!(
            "due           {} frames, {} sent",
            grouped(self.due),
            grouped(self.sent)
        ));
        for (count, why) in [
            (self.no_room, "not sent: too much was on its way already"),
            (
                self.not_reached,
                "not sent: the load generator did not get to them",
            ),
            (
                self.unanswered,
                "not answered soon enough after the last was sent",
            ),
        ] {
            if count > 0 {
                report::say(format_args!("errors        {} {why}", grouped(count)));
            }
        }
        if self.is_the_limit {
            report::say(format_args!(
                "warning       the load generator was the limit: it was up to {:.0} ms behind",
                self.behind.as_secs_f64() * 1e3
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn schedule() -> (Schedule, Instant) {
        let start = Instant::now();
        (Schedule::new(100, start, SECOND), start)
    }

    fn send_due(schedule: &mut Schedule, now: Instant) -> u64 {
        let due = schedule.due(now);
        (0..due).for_each(|_| schedule.count(true));
        due
    }

    #[test]
    fn frames_are_due_at_the_rate_until_the_end() {
        let (mut schedule, start) = schedule();
        assert_eq!(send_due(&mut schedule, start), 1);
        assert_eq!(schedule.next_at(), start + Duration::from_millis(10));
        assert_eq!(send_due(&mut schedule, start + SECOND / 2), 50);
        assert!(!schedule.is_over(start + SECOND / 2));
        assert_eq!(send_due(&mut schedule, start + 2 * SECOND), 49);
        assert!(schedule.is_over(start + SECOND));
    }

    #[test]
    fn generator_that_cannot_keep_up_is_reported_as_the_limit() {
        let (mut schedule, start) = schedule();
        schedule.count(true);
        assert_eq!(schedule.due(start + SECOND), 99);
        assert!(!schedule.is_over(start + SECOND));
        assert!(schedule.is_over(start + SECOND + 2 * LATE));
        let outcome = schedule.outcome(0.0, 0);
        assert_eq!((outcome.sent, outcome.not_reached), (1, 99));
        assert_eq!(outcome.behind, SECOND - Duration::from_millis(10));
        assert!(outcome.is_the_limit);
    }

    #[test]
    fn slow_server_is_reported_as_the_limit_if_the_generator_was_idle() {
        let (mut schedule, start) = schedule();
        for number in 0..100 {
            let now = start + SECOND / 100 * number + SECOND / 1000;
            assert_eq!(schedule.due(now), 1);
            schedule.count(number % 2 == 0);
        }
        let outcome = schedule.outcome(0.9, 0);
        assert_eq!((outcome.sent, outcome.no_room), (50, 50));
        assert!(!outcome.is_the_limit);
        assert!(schedule.outcome(0.0, 0).is_the_limit);
    }
}
