//! The lengths of queued frames, to count how many were not sent.

use std::collections::VecDeque;

/// The lengths of the queued frames, in order, run-length encoded.
#[derive(Debug, Default)]
pub(super) struct FrameLengths {
    frames: u64,
    /// Bytes of the first frame that were written.
    begun: u64,
    /// Frames that were written completely.
    sent: u64,
    /// Lengths before the last run, each with its count.
    runs: VecDeque<(u64, u64)>,
    last: (u64, u64),
}

impl FrameLengths {
    #[inline]
    pub(super) fn push(&mut self, len: u64) {
        if len == self.last.0 {
            self.last.1 += 1;
        } else {
            self.start_run(len);
        }
        self.frames += 1;
    }

    #[cold]
    fn start_run(&mut self, len: u64) {
        if self.last.1 > 0 {
            self.runs.push_back(self.last);
        }
        self.last = (len, 1);
    }

    /// Counts `n` bytes as written; fewer than are queued.
    pub(super) fn advance(&mut self, n: u64) {
        self.begun += n;
        loop {
            let (len, count) = self.runs.front_mut().unwrap_or(&mut self.last);
            let whole = (self.begun / (*len).max(1)).min(*count);
            *count -= whole;
            self.begun -= whole * *len;
            self.frames -= whole;
            self.sent += whole;
            if *count > 0 || self.runs.pop_front().is_none() {
                return;
            }
        }
    }

    /// Removes a frame of which nothing was written, by its ordinal.
    pub(super) fn remove(&mut self, ordinal: u64) {
        let mut before = ordinal - self.sent;
        let mut runs = self.runs.iter_mut().chain(std::iter::once(&mut self.last));
        // Runs may be empty.
        let run = runs.position(|(_, count)| {
            let is_here = before < *count;
            if is_here {
                *count -= 1;
            } else {
                before -= *count;
            }
            is_here
        });
        if run.is_some() {
            self.frames -= 1;
        }
    }

    /// Appends the frames of a queue behind this one.
    pub(super) fn append(&mut self, mut behind: Self) {
        debug_assert_eq!(behind.begun, 0, "it was not its turn");
        let last = std::mem::replace(&mut self.last, behind.last);
        self.runs.push_back(last);
        self.runs.append(&mut behind.runs);
        self.frames += behind.frames;
    }

    /// Returns the missing bytes of the partly written frame; 0 if there is none.
    pub(super) fn begun_left(&self) -> u64 {
        match self.begun {
            0 => 0,
            begun => self.front().saturating_sub(begun),
        }
    }

    /// Returns the length of the first frame.
    fn front(&self) -> u64 {
        let mut runs = self.runs.iter().chain(std::iter::once(&self.last));
        // Runs may be empty.
        runs.find(|(_, count)| *count > 0)
            .map_or(0, |(len, _)| *len)
    }

    /// Removes all frames except a partly written one.
    pub(super) fn keep_begun(&mut self) {
        let (begun, front) = (self.begun, self.front());
        self.clear();
        if begun > 0 {
            self.push(front);
            self.begun = begun;
        }
    }

    /// Checks the invariants.
    ///
    /// # Panics
    /// If an invariant is violated.
    #[cfg(any(debug_assertions, test))]
    pub(super) fn check_invariants(&self) {
        let runs = self.runs.iter().chain(std::iter::once(&self.last));
        let frames = runs.map(|(_, count)| count).sum::<u64>();
        assert_eq!(self.frames, frames, "frames are counted");
        assert!(
            self.begun == 0 || self.begun < self.front(),
            "the first frame is not written whole"
        );
    }

    /// Returns the number of frames that are not completely written.
    #[inline]
    pub(super) fn frames(&self) -> u64 {
        self.frames
    }

    /// Returns the ordinal of the next frame.
    pub(super) fn next_ordinal(&self) -> u64 {
        self.sent + self.frames
    }

    /// Returns the heap memory that is kept.
    pub(super) fn retained(&self) -> usize {
        self.runs.capacity() * size_of::<(u64, u64)>()
    }

    #[inline]
    pub(super) fn clear(&mut self) {
        self.frames = 0;
        self.begun = 0;
        // The next frames are likely to have the same length.
        self.last.1 = 0;
        if !self.runs.is_empty() {
            self.runs.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two frames of three bytes, of which one byte is written.
    fn lengths() -> FrameLengths {
        let mut lengths = FrameLengths::default();
        lengths.push(3);
        lengths.push(3);
        lengths.advance(1);
        lengths.check_invariants();
        lengths
    }

    #[test]
    #[should_panic(expected = "frames are counted")]
    fn invariants_catch_a_frame_that_is_not_counted() {
        let mut lengths = lengths();
        lengths.frames -= 1;
        lengths.check_invariants();
    }

    #[test]
    #[should_panic(expected = "the first frame is not written whole")]
    fn invariants_catch_a_frame_that_is_written_whole() {
        let mut lengths = lengths();
        lengths.begun = 3;
        lengths.check_invariants();
    }
}
