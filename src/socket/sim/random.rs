//! The source of all decisions of a simulation.

use std::time::Duration;

/// A small pseudo-random generator (SplitMix64 by Sebastiano Vigna). The same seed gives the same numbers on every
/// platform.
///
/// ```
/// use throng::sim::Random;
///
/// let (mut one, mut same) = (Random::new(7), Random::new(7));
/// assert_eq!(one.below(1000), same.below(1000));
/// ```
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Creates a generator.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next number, from the whole range.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Returns a number below `bound`; 0 if `bound` is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        match bound {
            0 => 0,
            bound => (self.next_u64() % bound as u64) as usize,
        }
    }

    /// Returns `true` in one of `n` cases on average; never if `n` is 0.
    pub fn one_in(&mut self, n: u32) -> bool {
        n > 0 && self.next_u64().is_multiple_of(u64::from(n))
    }

    /// Returns a length from 1 to `most`: each power of two is about as likely, so that short ones come often.
    pub fn length(&mut self, most: usize) -> usize {
        let bits = usize::BITS - most.leading_zeros();
        let cap = 1_usize << self.below(bits as usize + 1).min(usize::BITS as usize - 1);
        1 + self.below(cap.min(most).max(1))
    }

    /// Returns a duration from zero to `most`, in whole microseconds.
    pub fn duration(&mut self, most: Duration) -> Duration {
        let most = usize::try_from(most.as_micros()).unwrap_or(usize::MAX);
        Duration::from_micros(self.below(most.saturating_add(1)) as u64)
    }

    /// Returns one of the items.
    ///
    /// # Panics
    /// If there is none.
    pub fn choose<'i, T>(&mut self, items: &'i [T]) -> &'i T {
        &items[self.below(items.len())]
    }

    /// Fills a buffer.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let word = self.next_u64().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }

    /// Puts items into a random order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }

    /// Returns a generator whose numbers are independent of those that follow here.
    pub fn fork(&mut self) -> Self {
        Self(self.next_u64())
    }
}
