//! How much is in a channel, and how much may be. Count and bytes are one word, so that both limits are taken in one step.

use super::sync::{AtomicU64, Ordering};

/// How many bits of a load count bytes: up to a TiB of them; the others count items.
const BYTES_BITS: u32 = 40;
const ONE: u64 = 1 << BYTES_BITS;
const BYTES: u64 = ONE - 1;

/// The highest limit of the count.
const MAX_COUNT: u64 = (1 << (64 - BYTES_BITS - 1)) - 1;
/// The highest limit of the bytes: one item more can be counted.
const MAX_BYTES: u64 = 1 << (BYTES_BITS - 1);

/// How much may be in a room. It takes one item more as long as there is less of both.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) count: u64,
    pub(super) bytes: u64,
}

impl Limits {
    /// Twice what may be the limits, so that there is always something for what is not limited.
    pub(super) const COUNTABLE: Self = Self {
        count: 2 * MAX_COUNT,
        bytes: 2 * MAX_BYTES,
    };

    /// These, or the nearest that can be counted.
    pub(super) fn countable(self) -> Self {
        Self {
            count: self.count.clamp(1, MAX_COUNT),
            bytes: self.bytes.clamp(1, MAX_BYTES),
        }
    }

    /// A sixteenth of these.
    pub(super) fn small_part(self) -> Self {
        Self {
            count: self.count / 16,
            bytes: self.bytes / 16,
        }
        .countable()
    }

    fn leave_room(self, load: u64) -> bool {
        let (count, bytes) = split(load);
        count < self.count && bytes < self.bytes
    }
}

/// What is in a channel or about to be, and how much it may be.
pub(super) struct Room {
    pub(super) limits: Limits,
    /// The count, and below it the bytes.
    load: AtomicU64,
}

impl Room {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            load: AtomicU64::new(0),
        }
    }

    /// Takes room for one item of so many bytes, if there is less than `limits`. Returns what it takes; if there is no room,
    /// the count and the bytes that are there.
    pub(super) fn take(&self, limits: Limits, bytes: u64) -> Result<u64, (u64, u64)> {
        let taken = ONE + bytes.min(MAX_BYTES - 1);
        let mut load = self.load.load(Ordering::Relaxed);
        loop {
            if !limits.leave_room(load) {
                return Err(split(load));
            }
            match self.load.compare_exchange_weak(
                load,
                load + taken,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return Ok(taken),
                Err(now) => load = now,
            }
        }
    }

    /// Gives back what was taken. Returns whether half of the room or more is free then.
    pub(super) fn give_back(&self, taken: u64) -> bool {
        let (count, bytes) = split(self.load.fetch_sub(taken, Ordering::AcqRel) - taken);
        count <= self.limits.count / 2 && bytes <= self.limits.bytes / 2
    }

    /// Whether one item more would be taken.
    pub(super) fn is_free(&self) -> bool {
        self.limits.leave_room(self.load.load(Ordering::Relaxed))
    }

    /// The count and the bytes of what is there.
    pub(super) fn load(&self) -> (u64, u64) {
        split(self.load.load(Ordering::Relaxed))
    }
}

/// The count and the bytes of a load.
fn split(load: u64) -> (u64, u64) {
    (load >> BYTES_BITS, load & BYTES)
}
