//! Bytes as a source of decisions.

use std::time::Duration;

/// The rest of the input. When it is used up, every decision is the first one.
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl<'a> Input<'a> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((&byte, rest)) => {
                self.0 = rest;
                byte
            }
            None => 0,
        }
    }

    /// Returns a number below `bound`, which is at most 256.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound
    }

    pub(super) fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    pub(super) fn one_of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())].clone()
    }

    /// Takes up to this many bytes.
    pub(super) fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// Returns a length: usually a short one, and sometimes one around the sizes of buffers.
    pub(super) fn len(&mut self) -> usize {
        match self.byte() {
            short @ ..200 => usize::from(short) / 4,
            200..250 => usize::from(self.byte()) * 5,
            _ => usize::from(self.byte()) * 100,
        }
    }

    /// Returns a limit in bytes: none, or a short one.
    pub(super) fn limit(&mut self) -> u64 {
        match self.byte() {
            255 => u64::MAX,
            short => u64::from(short),
        }
    }

    /// Returns any number; extremes and powers of two are likely.
    pub(super) fn number(&mut self) -> u64 {
        match self.byte() {
            0 => 0,
            1 => u64::MAX,
            shift @ 2..66 => 1 << (shift - 2),
            shift @ 66..130 => (1 << (shift - 66)) - 1,
            _ => u64::from(self.byte()) << self.below(56),
        }
    }

    /// Returns any duration; extremes are likely.
    pub(super) fn duration(&mut self) -> Duration {
        match self.byte() {
            0 => Duration::ZERO,
            1 => Duration::from_nanos(1),
            2 => Duration::MAX,
            3 => Duration::from_secs(self.number()),
            _ => Duration::from_micros(self.number()),
        }
    }
}
