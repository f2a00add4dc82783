//! Deadlines: a hierarchical timing wheel. Pure: the time is passed in.
//!
//! Six wheels of 64 slots. A slot of the first wheel is one tick (a millisecond) wide; a slot of each further wheel is
//! as wide as the whole wheel before it. A timer is in the wheel of the highest digit (base 64) in which its tick
//! differs from the current tick; when the current tick reaches its slot, it moves to a finer wheel. So insert and
//! cancel cost the same with ten timers and with a million, and a timer moves at most five times. (Varghese and Lauck,
//! "Hashed and Hierarchical Timing Wheels", 1987, scheme 7.)
//!
//! A timer never fires early. It may fire up to one tick late.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use slab::Slab;

const LEVELS: usize = 6;
const SLOT_BITS: usize = 6;
const SLOTS: usize = 1 << SLOT_BITS;
/// The longest distance of a timer: one slot of the coarsest wheel less than its whole round. A timer beyond that is
/// put there, and moves on from there.
const MAX_AHEAD: u64 = (1 << (LEVELS * SLOT_BITS)) - (1 << ((LEVELS - 1) * SLOT_BITS)) - 1;
/// A tick, in nanoseconds.
const NANOS: u64 = 1_000_000;
/// The number of timers for which memory is always kept.
const KEPT: usize = 1024;
/// The index that refers to no timer.
pub(crate) const NO_TIMER: u32 = u32::MAX;
const NONE: u32 = NO_TIMER;

/// The deadline used if the clock cannot represent a later one: 136 years ahead.
const FOREVER: Duration = Duration::from_secs(u32::MAX as u64);

/// Returns the instant `after` another. Accepts any duration: [`Duration::MAX`] means never.
pub(crate) fn later(at: Instant, after: Duration) -> Instant {
    at.checked_add(after.min(FOREVER)).unwrap_or(at)
}

/// Returns the last tick that is not after a time in nanoseconds.
pub(crate) fn tick_before(nanos: u64) -> u64 {
    nanos / NANOS
}

/// Identifies a timer until it has fired or was cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct TimerKey {
    index: u32,
    serial: NonZeroU32,
}

impl TimerKey {
    /// The key that refers to no timer.
    pub(crate) const NONE: Self = Self {
        index: NO_TIMER,
        serial: NonZeroU32::MIN,
    };

    /// Returns the index, by which [`at_mut`](Timers::at_mut) finds the timer as long as it is set.
    pub(crate) fn index(self) -> u32 {
        self.index
    }
}

#[derive(Debug)]
pub(crate) struct Timers<T> {
    start: Instant,
    /// The tick up to which all timers have fired.
    now: u64,
    /// The first tick of the next occupied slot; `u64::MAX` without timers.
    next: u64,
    wheels: [Wheel; LEVELS],
    entries: Slab<Entry<T>>,
    serial: NonZeroU32,
    /// The capacity after the last trim, below which an existing timer prevents shrinking, as far as is known.
    trimmed_to: usize,
}

#[derive(Debug, Clone, Copy)]
struct Wheel {
    /// A bit for each slot that contains a timer.
    occupied: u64,
    /// The first entry of each slot's list.
    heads: [u32; SLOTS],
}

/// An entry of a circular, doubly linked list: the predecessor of the head is the last entry.
#[derive(Debug)]
struct Entry<T> {
    value: T,
    tick: u64,
    serial: NonZeroU32,
    previous: u32,
    next: u32,
    level: u8,
    slot: u8,
}

impl<T> Timers<T> {
    pub(crate) fn new(start: Instant) -> Self {
        Self {
            start,
            now: 0,
            next: u64::MAX,
            wheels: [Wheel {
                occupied: 0,
                heads: [NONE; SLOTS],
            }; LEVELS],
            entries: Slab::new(),
            serial: NonZeroU32::MIN,
            trimmed_to: 0,
        }
    }

    /// Sets a timer. O(1).
    pub(crate) fn insert(&mut self, deadline: Instant, value: T) -> TimerKey {
        let tick = self.tick(deadline);
        self.serial = self.serial.checked_add(1).unwrap_or(NonZeroU32::MIN);
        let serial = self.serial;
        if self.entries.len() == self.entries.capacity() {
            // Grow by a quarter: doubling would leave up to half of the memory unused.
            self.entries.reserve_exact(self.entries.len() / 4 + 16);
        }
        let index = self.entries.insert(Entry {
            value,
            tick,
            serial,
            previous: NONE,
            next: NONE,
            level: 0,
            slot: 0,
        }) as u32;
        self.link(index);
        TimerKey { index, serial }
    }

    /// Moves a timer to another deadline. O(1).
    pub(crate) fn rearm(&mut self, key: TimerKey, deadline: Instant) {
        let tick = self.tick(deadline);
        let entry = self.entries.get_mut(key.index as usize);
        if let Some(entry) = entry.filter(|entry| entry.serial == key.serial) {
            entry.tick = tick;
            self.unlink(key.index);
            self.link(key.index);
        }
    }

    /// Returns the tick of a deadline, rounded so that no timer fires early.
    fn tick(&self, deadline: Instant) -> u64 {
        let ahead = deadline.saturating_duration_since(self.start);
        let millis = match mutated!("timer rounded down") {
            true => ahead.subsec_millis(),
            false => ahead.subsec_nanos().div_ceil(1_000_000),
        };
        ahead
            .as_secs()
            .saturating_mul(1000)
            .saturating_add(millis.into())
    }

    /// Returns the deadline of a timer, to the millisecond.
    pub(crate) fn deadline(&self, key: TimerKey) -> Option<Instant> {
        let entry = self.entries.get(key.index as usize)?;
        let tick = Some(entry.tick).filter(|_| entry.serial == key.serial)?;
        self.start.checked_add(Duration::from_millis(tick))
    }

    /// Returns the value of a timer that is set.
    pub(crate) fn get_mut(&mut self, key: TimerKey) -> Option<&mut T> {
        let entry = self.entries.get_mut(key.index as usize)?;
        (entry.serial == key.serial).then_some(&mut entry.value)
    }

    /// Returns the timer with this index, if there is one.
    pub(crate) fn at_mut(&mut self, index: u32) -> Option<(TimerKey, &mut T)> {
        let entry = self.entries.get_mut(index as usize)?;
        let serial = entry.serial;
        Some((TimerKey { index, serial }, &mut entry.value))
    }

    /// Returns the number of timers that are set.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns `true` if no timer is set.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns `true` if there is much more memory than timers, so that some could be released.
    pub(crate) fn is_retaining(&self) -> bool {
        let capacity = self.entries.capacity();
        capacity > KEPT && capacity / 4 > self.entries.len() && capacity != self.trimmed_to
    }

    /// Releases the memory behind the last timer.
    pub(crate) fn trim(&mut self) {
        if self.is_retaining() {
            self.entries.shrink_to_fit();
            self.trimmed_to = self.entries.capacity();
        }
    }

    /// Returns the time from the start to an instant, in nanoseconds.
    pub(crate) fn nanos(&self, at: Instant) -> u64 {
        let elapsed = at.saturating_duration_since(self.start);
        let nanos = elapsed.as_secs().saturating_mul(1_000_000_000);
        nanos.saturating_add(elapsed.subsec_nanos().into())
    }

    /// Cancels a timer and returns its value, if it has not fired. O(1).
    pub(crate) fn cancel(&mut self, key: TimerKey) -> Option<T> {
        let entry = self.entries.get(key.index as usize)?;
        if entry.serial != key.serial {
            return None;
        }
        self.unlink(key.index);
        let entry = self.entries.remove(key.index as usize);
        if self.entries.is_empty() {
            self.trimmed_to = 0;
        }
        Some(entry.value)
    }

    /// Returns when [`expire`](Self::expire) should be called next; not later than the first deadline.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let tick = Some(self.next).filter(|next| *next < u64::MAX)?;
        self.start.checked_add(Duration::from_millis(tick))
    }

    /// The same, in nanoseconds since the start; `u64::MAX` without timers.
    pub(crate) fn next_nanos(&self) -> u64 {
        self.next.saturating_mul(NANOS)
    }

    /// Takes the next timer that is due at a tick, earliest first. Call it until it returns `None`.
    #[inline]
    pub(crate) fn expire(&mut self, now: u64) -> Option<T> {
        let key = self.due(now)?;
        self.cancel(key)
    }

    /// Returns the next timer that is due at a tick, earliest first; it stays set.
    #[inline]
    pub(crate) fn due(&mut self, now: u64) -> Option<TimerKey> {
        let now = now.max(self.now);
        if now < self.next {
            self.now = now;
            return None;
        }
        self.due_by(now)
    }

    #[inline(never)]
    fn due_by(&mut self, now: u64) -> Option<TimerKey> {
        while let Some((level, slot, tick)) = self.next_slot() {
            if tick > now {
                break;
            }
            self.now = tick;
            let index = self.wheels[level].heads[slot];
            if level == 0 {
                let serial = self.entries[index as usize].serial;
                return Some(TimerKey { index, serial });
            }
            self.cascade(level, slot);
        }
        self.now = now;
        None
    }

    /// Looks for the next occupied slot.
    fn note_next(&mut self) {
        self.next = self.next_slot().map_or(u64::MAX, |(_, _, tick)| tick);
    }

    /// Returns level, slot and first tick of the next occupied slot. A finer wheel comes before a coarser one.
    fn next_slot(&self) -> Option<(usize, usize, u64)> {
        self.wheels.iter().enumerate().find_map(|(level, wheel)| {
            if wheel.occupied == 0 {
                return None;
            }
            let shift = level * SLOT_BITS;
            let here = (self.now >> shift) as usize % SLOTS;
            let ahead = wheel.occupied.rotate_right(here as u32).trailing_zeros() as usize;
            let slot = (here + ahead) % SLOTS;
            let round = SLOT_BITS + shift;
            let mut tick = (self.now >> round << round) + ((slot as u64) << shift);
            if slot < here {
                tick += 1 << round;
            }
            Some((level, slot, tick.max(self.now)))
        })
    }

    /// Moves the timers of a slot that the current tick has reached to finer wheels.
    fn cascade(&mut self, level: usize, slot: usize) {
        loop {
            let index = self.wheels[level].heads[slot];
            if index == NONE {
                return;
            }
            self.unlink(index);
            self.link(index);
        }
    }

    fn link(&mut self, index: u32) {
        let entry = &self.entries[index as usize];
        let tick = entry.tick.clamp(self.now, self.now + MAX_AHEAD);
        let differs = (tick ^ self.now) | (SLOTS as u64 - 1);
        let level = ((differs.ilog2() as usize) / SLOT_BITS).min(LEVELS - 1);
        let slot = (tick >> (level * SLOT_BITS)) as usize % SLOTS;
        let shift = level * SLOT_BITS;
        self.next = self.next.min((tick >> shift << shift).max(self.now));
        let wheel = &mut self.wheels[level];
        let head = wheel.heads[slot];
        let (previous, next) = if head == NONE {
            wheel.heads[slot] = index;
            wheel.occupied |= 1 << slot;
            (index, index)
        } else {
            let last = self.entries[head as usize].previous;
            self.entries[last as usize].next = index;
            self.entries[head as usize].previous = index;
            (last, head)
        };
        let entry = &mut self.entries[index as usize];
        entry.previous = previous;
        entry.next = next;
        entry.level = level as u8;
        entry.slot = slot as u8;
    }

    fn unlink(&mut self, index: u32) {
        let entry = &self.entries[index as usize];
        let (previous, next) = (entry.previous, entry.next);
        let slot = usize::from(entry.slot);
        let wheel = &mut self.wheels[usize::from(entry.level)];
        if next == index {
            wheel.heads[slot] = NONE;
            wheel.occupied &= !(1 << slot);
            self.note_next();
            return;
        }
        if wheel.heads[slot] == index {
            wheel.heads[slot] = next;
        }
        self.entries[previous as usize].next = next;
        self.entries[next as usize].previous = previous;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    fn expire_at(timers: &mut Timers<char>, now: Instant) -> Option<char> {
        timers.expire(tick_before(timers.nanos(now)))
    }

    #[test]
    fn a_timer_fires_at_its_deadline_and_not_before() {
        let start = Instant::now();
        let mut timers = Timers::new(start);
        timers.insert(start + Duration::from_micros(1_500), 'a');
        assert_eq!(
            expire_at(&mut timers, start + Duration::from_micros(1_499)),
            None
        );
        assert_eq!(
            expire_at(&mut timers, start + Duration::from_micros(1_999)),
            None
        );
        assert_eq!(timers.expire(2), Some('a'));
        assert_eq!(timers.expire(9), None);
        assert_eq!(timers.next_deadline(), None);
    }

    #[test]
    fn a_cancelled_timer_is_given_back_once() {
        let start = Instant::now();
        let mut timers = Timers::new(start);
        let key = timers.insert(at(start, 5), 'a');
        assert_eq!(timers.cancel(key), Some('a'));
        assert_eq!(timers.cancel(key), None);
        let other = timers.insert(at(start, 6), 'b');
        assert_eq!(timers.cancel(key), None, "an old key meets a new timer");
        assert_eq!(timers.cancel(other), Some('b'));
        assert_eq!(timers.expire(100), None);
    }

    #[test]
    fn timers_have_room_for_at_most_a_quarter_more() {
        let start = Instant::now();
        let mut timers = Timers::new(start);
        for number in 1..=10_000 {
            timers.insert(start, ());
            assert!(timers.entries.capacity() <= number + number / 4 + 16);
        }
    }

    #[test]
    fn a_timer_beyond_the_last_wheel_still_fires() {
        let start = Instant::now();
        let mut timers = Timers::new(start);
        let far = 3 * MAX_AHEAD + 5;
        timers.insert(at(start, far), 'a');
        let mut now = 0;
        while now < far {
            assert_eq!(timers.expire(now), None);
            now += MAX_AHEAD / 3;
        }
        assert_eq!(timers.expire(far), Some('a'));
    }

    proptest! {
        /// Compares with a sorted list. For any sequence of sets, cancels and steps of any size: each timer fires in
        /// the first call at or after its deadline, in order of deadlines, and the next deadline is never too late.
        #[test]
        fn agrees_with_a_sorted_list(
            steps in prop::collection::vec((0_u64..300_000, 0_u64..300_000, any::<bool>()), 1..80)
        ) {
            let start = Instant::now();
            let mut timers = Timers::new(start);
            let mut model: Vec<(u64, usize, TimerKey)> = Vec::new();
            let mut now = 0;
            for (number, (step, ahead, cancel)) in steps.into_iter().enumerate() {
                let deadline = now + ahead;
                let key = timers.insert(at(start, deadline), number);
                model.push((deadline, number, key));
                if cancel {
                    let (_, value, key) = model.remove(number * 7 % model.len());
                    prop_assert_eq!(timers.cancel(key), Some(value));
                }
                if let Some(first) = model.iter().map(|timer| timer.0).min() {
                    prop_assert!(timers.next_deadline().is_some_and(|next| next <= at(start, first)));
                }
                now += step;
                let mut last = 0;
                while let Some(value) = timers.expire(now) {
                    let position = model.iter().position(|timer| timer.1 == value);
                    prop_assert!(position.is_some(), "fired twice");
                    let (deadline, ..) = model.remove(position.unwrap_or(0));
                    prop_assert!(last <= deadline && deadline <= now);
                    last = deadline;
                }
                prop_assert!(model.iter().all(|timer| timer.0 > now), "a timer is late");
            }
        }
    }
}
