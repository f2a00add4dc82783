//! Rate limit for log lines that peers can cause: the first line in full, the rest as a count per second. Pure: the
//! time is passed in.
//!
//! ```text
//! line    |x  x xxx  xx     x        x    |                    |x
//! logged  |x          7 more|       2 more|                    |x
//!         |<----- 1 s ----->|<--- 1 s --->|<-- 1 s, nothing -->|
//! ```

use std::time::{Duration, Instant};

use crate::timers::later;

/// How long lines are counted before the count is logged.
pub(crate) const PERIOD: Duration = Duration::from_secs(1);

/// The state of one kind of line.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Flood {
    /// When a line or a count of this kind was last logged.
    logged_at: Option<Instant>,
    /// The number of lines since then. A report is due while it is not zero.
    counted: u64,
}

/// What to do with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line {
    /// Log it.
    Log,
    /// The line was counted. For the first counted line, a [`report`](Flood::report) has to follow at this instant.
    Counted { report_at: Option<Instant> },
}

impl Flood {
    /// Decides whether to log or to count a line.
    pub(crate) fn line(&mut self, now: Instant) -> Line {
        let report_at = match self.logged_at.map(|at| later(at, PERIOD)) {
            Some(over) if self.counted > 0 || now < over => over,
            _ => {
                self.logged_at = Some(now);
                return Line::Log;
            }
        };
        self.counted = self.counted.saturating_add(1);
        Line::Counted {
            report_at: (self.counted == 1).then_some(report_at),
        }
    }

    /// Returns the number of lines that were counted and not reported.
    pub(crate) fn counted(&self) -> u64 {
        self.counted
    }

    /// Returns the number of lines counted since the last logged one, and the time since then. `None` if there were
    /// none.
    pub(crate) fn report(&mut self, now: Instant) -> Option<(u64, Duration)> {
        let counted = std::mem::take(&mut self.counted);
        let since = self.logged_at.filter(|_| counted > 0)?;
        self.logged_at = Some(now);
        Some((counted, now.saturating_duration_since(since)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn millis(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn first_line_is_logged_and_the_others_of_its_second_are_counted() {
        let start = Instant::now();
        let mut flood = Flood::default();
        assert_eq!(flood.line(start), Line::Log);
        let report_at = Some(start + PERIOD);
        let counted = |report_at| Line::Counted { report_at };
        assert_eq!(flood.line(start + millis(10)), counted(report_at));
        assert_eq!(flood.line(start + millis(990)), counted(None));
        // The report is late: lines before it still count.
        assert_eq!(flood.line(start + millis(1100)), counted(None));
        let report = flood.report(start + millis(1200));
        assert_eq!(report, Some((3, millis(1200))));
        assert_eq!(flood.report(start + millis(1200)), None);
        // In the second after a report, lines are counted too.
        let next = Some(start + millis(2200));
        assert_eq!(flood.line(start + millis(1300)), counted(next));
    }

    #[test]
    fn line_after_a_quiet_second_is_logged() {
        let start = Instant::now();
        let mut flood = Flood::default();
        assert_eq!(flood.line(start), Line::Log);
        assert_eq!(flood.line(start + PERIOD), Line::Log);
        assert_ne!(flood.line(start + PERIOD + millis(1)), Line::Log);
        flood.report(start + PERIOD * 2);
        assert_eq!(flood.line(start + PERIOD * 3), Line::Log);
    }

    proptest! {
        /// For any sequence: at most one line is logged per second, every line is logged or counted, and a report is
        /// requested exactly while lines are counted.
        #[test]
        fn every_line_is_logged_or_reported_once(
            steps in prop::collection::vec((0_u64..700, 0_u64..30), 0..60)
        ) {
            let mut now = Instant::now();
            let (mut flood, mut due) = (Flood::default(), None);
            let (mut lines, mut told) = (0_u64, 0_u64);
            let mut last: Option<Instant> = None;
            let mut logs = |now: Instant| {
                let apart = last.is_none_or(|last| now - last >= PERIOD);
                last = Some(now);
                apart
            };
            for (step, late) in steps {
                now += millis(step);
                if due.is_some_and(|due: Instant| due + millis(late) <= now) {
                    due = None;
                    let report = flood.report(now);
                    prop_assert!(report.is_some() && logs(now));
                    told += report.map_or(0, |report| report.0);
                }
                lines += 1;
                match flood.line(now) {
                    Line::Log => {
                        prop_assert!(due.is_none() && logs(now));
                        told += 1;
                    }
                    Line::Counted { report_at } => {
                        prop_assert_eq!(report_at.is_some(), due.is_none());
                        due = due.or(report_at);
                    }
                }
            }
            told += flood.report(now).map_or(0, |report| report.0);
            prop_assert_eq!(told, lines);
        }
    }
}
