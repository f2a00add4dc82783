//! The load of a channel and its limits. Count and bytes share one word, so that both limits are checked in one step.

use super::sync::{AtomicU64, Ordering};

/// The number of bits of a load that count bytes: up to one TiB. The other bits count items.
const BYTES_BITS: u32 = 40;
const ONE: u64 = 1 << BYTES_BITS;
const BYTES: u64 = ONE - 1;

/// The highest possible limit of the count.
const MAX_COUNT: u64 = (1 << (64 - BYTES_BITS - 1)) - 1;
/// The highest possible limit of the bytes; one more item can still be counted.
const MAX_BYTES: u64 = 1 << (BYTES_BITS - 1);

/// The limits of a room. It accepts an item while both count and bytes are below their limits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) count: u64,
    pub(super) bytes: u64,
}

impl Limits {
    /// Twice the highest limits, so that items without a limit can still be counted.
    pub(super) const COUNTABLE: Self = Self {
        count: 2 * MAX_COUNT,
        bytes: 2 * MAX_BYTES,
    };

    /// Clamps the limits to the nearest that can be counted.
    pub(super) fn countable(self) -> Self {
        Self {
            count: self.count.clamp(1, MAX_COUNT),
            bytes: self.bytes.clamp(1, MAX_BYTES),
        }
    }

    /// Returns a sixteenth of these limits.
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

/// The load of a channel, including reserved items, and its limits.
pub(super) struct Room {
    pub(super) limits: Limits,
    /// The count in the high bits, the bytes in the low bits.
    load: AtomicU64,
}

impl Room {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            load: AtomicU64::new(0),
        }
    }

    /// Reserves room for one item of `bytes` bytes if the load is below `limits`, and returns the added load. If there
    /// is no room, returns the current count and bytes.
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

    /// Releases a load. Returns `true` if at least half of the room is free afterwards.
    pub(super) fn give_back(&self, taken: u64) -> bool {
        self.leaves_half(self.load.fetch_sub(taken, Ordering::AcqRel) - taken)
    }

    /// Returns `true` if at least half of the room is free.
    pub(super) fn is_half_free(&self) -> bool {
        self.leaves_half(self.load.load(Ordering::Relaxed))
    }

    fn leaves_half(&self, load: u64) -> bool {
        let (count, bytes) = split(load);
        count <= self.limits.count / 2 && bytes <= self.limits.bytes / 2
    }

    /// Returns `true` if one more item would be accepted.
    pub(super) fn is_free(&self) -> bool {
        self.limits.leave_room(self.load.load(Ordering::Relaxed))
    }

    /// Returns the current count and bytes.
    pub(super) fn load(&self) -> (u64, u64) {
        split(self.load.load(Ordering::Relaxed))
    }
}

/// Splits a load into count and bytes.
fn split(load: u64) -> (u64, u64) {
    (load >> BYTES_BITS, load & BYTES)
}
