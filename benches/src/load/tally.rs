//! What is counted in every kind of traffic.

use hdrhistogram::Histogram;

use super::spec::Spec;

/// The longest time that the histogram holds, in nanoseconds: an hour.
const LONGEST: u64 = 3_600_000_000_000;

pub(super) struct Tally {
    pub(super) connected: usize,
    /// How many frames have come back.
    pub(super) frames: u64,
    pub(super) in_flight: u64,
    pub(super) is_sending: bool,
    pub(super) latency: Option<Histogram<u64>>,
    /// What went wrong first.
    pub(super) problem: Option<String>,
}

impl Tally {
    pub(super) fn new(spec: &Spec) -> Self {
        // These bounds are valid, so there is a histogram.
        let histogram = |_| Histogram::new_with_bounds(1, LONGEST, 3).ok();
        Self {
            connected: 0,
            frames: 0,
            in_flight: 0,
            is_sending: false,
            latency: spec.time_every.and_then(histogram),
            problem: None,
        }
    }

    /// Counts a frame that has come back, unless it is not the one that was expected. Returns whether it is.
    pub(super) fn count(&mut self, is_expected: bool, what: impl FnOnce() -> String) -> bool {
        if is_expected {
            self.frames += 1;
            self.in_flight -= 1;
        } else {
            let what = what();
            self.problem
                .get_or_insert_with(|| format!("{what}, which is not the frame that was sent"));
        }
        is_expected
    }
}
