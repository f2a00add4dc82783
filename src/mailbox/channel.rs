//! A bounded channel that wakes its reader once for a burst. It knows nothing of loops and commands.
//!
//! ```text
//!   writers    reserve room --> push --> signal: was it set? -- no --> wake the reader
//!                 |  ^
//!            none |  | woken when half of it is free again
//!                 v  |
//!                 park
//!   reader     pop ... until it is empty --> clear the signal --> look once more --> sleep
//! ```
//!
//! *No wake-up is lost.* A writer pushes and then sets the signal; the reader clears it and then looks again. Both are
//! read-modify-writes of one atomic, so one comes first: the reader's look sees what was pushed, or the writer sees that
//! the signal is clear and wakes. With those who wait for room it is the same: a waiter signs up and then looks for room,
//! the reader makes room and then looks who has signed up.
//!
//! *Who waits is not overtaken* by those who do not: while somebody waits they are refused, however much room there is, or
//! they could take each place as soon as it is free.
//!
//! There is no lock: `std::sync::mpsc` and atomics. (Its reader may spin for a moment, if a writer was interrupted while it
//! filled a place.) A model of it is checked in `tests/mailbox_model.rs`, with `sync` taken from there.

use super::sync::mpsc::{self, TryRecvError};
use super::sync::thread::{self, Thread};
use super::sync::{Arc, AtomicBool, AtomicU64, Ordering};

/// How many bits of the load count bytes: up to a TiB of them; the others count commands.
const BYTES_BITS: u32 = 40;
const ONE: u64 = 1 << BYTES_BITS;
const BYTES: u64 = ONE - 1;

/// The most commands that can be counted.
pub(super) const MAX_COUNT: u64 = (1 << (64 - BYTES_BITS - 1)) - 1;
/// The most bytes that may be the limit: one command more can be counted.
pub(super) const MAX_BYTES: u64 = 1 << (BYTES_BITS - 1);

/// How much may be in the channel. It takes one more as long as there is less of both.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) count: u64,
    pub(super) bytes: u64,
}

/// Twice what may be the limits, so that there is always something for what is not limited.
const COUNTABLE: Limits = Limits {
    count: 2 * MAX_COUNT,
    bytes: 2 * MAX_BYTES,
};

/// Why something was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    Full { count: u64, bytes: u64 },
    Closed,
}

struct Shared {
    limits: Limits,
    /// What is in the channel or about to be: the count, and below it the bytes.
    load: AtomicU64,
    /// Set: the reader was woken, or is awake, and is going to look.
    signal: AtomicBool,
    /// The reader is gone.
    closed: AtomicBool,
    /// How many wait for room.
    waiting: AtomicU64,
    /// How many of them have come into the list since the reader looked.
    signed_up: AtomicU64,
    /// How often the reader was woken.
    wake_ups: AtomicU64,
    wake: Box<dyn Fn() + Send + Sync>,
}

/// Somebody who waits for room.
struct Waiter {
    thread: Thread,
    /// It stands in the list still, and is going to be woken.
    listed: AtomicBool,
}

pub(super) struct Sender<T> {
    shared: Arc<Shared>,
    items: mpsc::Sender<(T, u64)>,
    waiters: mpsc::Sender<Arc<Waiter>>,
}

pub(super) struct Receiver<T> {
    shared: Arc<Shared>,
    items: mpsc::Receiver<(T, u64)>,
    waiters: mpsc::Receiver<Arc<Waiter>>,
    /// The load of what was taken since the last [`release`](Self::release).
    taken: u64,
}

/// A channel whose reader is woken by `wake`, on the thread of a writer.
pub(super) fn channel<T>(
    limits: Limits,
    wake: Box<dyn Fn() + Send + Sync>,
) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared {
        limits: Limits {
            count: limits.count.clamp(1, MAX_COUNT),
            bytes: limits.bytes.clamp(1, MAX_BYTES),
        },
        load: AtomicU64::new(0),
        signal: AtomicBool::new(false),
        closed: AtomicBool::new(false),
        waiting: AtomicU64::new(0),
        signed_up: AtomicU64::new(0),
        wake_ups: AtomicU64::new(0),
        wake,
    });
    let (item_sender, items) = mpsc::channel();
    let (waiter_sender, waiters) = mpsc::channel();
    let sender = Sender {
        shared: Arc::clone(&shared),
        items: item_sender,
        waiters: waiter_sender,
    };
    let receiver = Receiver {
        shared,
        items,
        waiters,
        taken: 0,
    };
    (sender, receiver)
}

/// The count and the bytes of a load.
fn split(load: u64) -> (u64, u64) {
    (load >> BYTES_BITS, load & BYTES)
}

impl Shared {
    /// Makes room for one item of so many bytes, within these limits.
    fn reserve(&self, limits: Limits, bytes: u64) -> Result<(), Refusal> {
        let mut load = self.load.load(Ordering::Relaxed);
        loop {
            if self.closed.load(Ordering::Acquire) {
                return Err(Refusal::Closed);
            }
            let (count, held) = split(load);
            if count >= limits.count || held >= limits.bytes {
                let bytes = held;
                return Err(Refusal::Full { count, bytes });
            }
            match self.load.compare_exchange_weak(
                load,
                load + ONE + bytes,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return Ok(()),
                Err(now) => load = now,
            }
        }
    }
}

impl<T> Sender<T> {
    /// Puts an item of so many bytes into the channel, if there is room now and nobody waits for it.
    pub(super) fn try_send(&self, item: T, bytes: u64) -> Result<(), (Refusal, T)> {
        let bytes = bytes.min(MAX_BYTES - 1);
        let reserved = self
            .check_room()
            .and_then(|()| self.shared.reserve(self.shared.limits, bytes));
        match reserved {
            Ok(()) => self.push(item, bytes),
            Err(refusal) => Err((refusal, item)),
        }
    }

    /// The same, whether there is room or not: for what is asked for once. Only what can be counted is a limit.
    pub(super) fn send_always(&self, item: T) -> Result<(), (Refusal, T)> {
        match self.shared.reserve(COUNTABLE, 0) {
            Ok(()) => self.push(item, 0),
            Err(refusal) => Err((refusal, item)),
        }
    }

    /// The same, when there is room.
    pub(super) fn send(&self, item: T, bytes: u64) -> Result<(), (Refusal, T)> {
        let bytes = bytes.min(MAX_BYTES - 1);
        let reserved = match self.shared.reserve(self.shared.limits, bytes) {
            Err(Refusal::Full { .. }) => self.wait_for_room(bytes),
            outcome => outcome,
        };
        match reserved {
            Ok(()) => self.push(item, bytes),
            Err(refusal) => Err((refusal, item)),
        }
    }

    #[cold]
    fn wait_for_room(&self, bytes: u64) -> Result<(), Refusal> {
        let shared = &*self.shared;
        shared.waiting.fetch_add(1, Ordering::Relaxed);
        let mut waiter: Option<Arc<Waiter>> = None;
        let outcome = loop {
            match &waiter {
                // It may return at any time, which does no harm.
                Some(waiter) if waiter.listed.load(Ordering::Acquire) => thread::park(),
                _ => match self.sign_up() {
                    Some(signed_up) => waiter = Some(signed_up),
                    None => break Err(Refusal::Closed),
                },
            }
            // Room that was made before the reader could know who waits is seen now.
            match shared.reserve(shared.limits, bytes) {
                Err(Refusal::Full { .. }) => {}
                outcome => break outcome,
            }
        };
        shared.waiting.fetch_sub(1, Ordering::Relaxed);
        outcome
    }

    /// Enters the list of those who wait. `None`: there is nobody who would look at it.
    fn sign_up(&self) -> Option<Arc<Waiter>> {
        let waiter = Arc::new(Waiter {
            thread: thread::current(),
            listed: AtomicBool::new(true),
        });
        self.waiters.send(Arc::clone(&waiter)).ok()?;
        self.shared.signed_up.fetch_add(1, Ordering::AcqRel);
        Some(waiter)
    }

    fn push(&self, item: T, bytes: u64) -> Result<(), (Refusal, T)> {
        if let Err(mpsc::SendError((item, _))) = self.items.send((item, bytes)) {
            return Err((Refusal::Closed, item));
        }
        if !self.shared.signal.swap(true, Ordering::AcqRel) {
            self.shared.wake_ups.fetch_add(1, Ordering::Relaxed);
            let not_woken = NotWoken(&self.shared.signal);
            (self.shared.wake)();
            std::mem::forget(not_woken);
        }
        Ok(())
    }

    /// Whether there is room now for one who does not wait.
    pub(super) fn check_room(&self) -> Result<(), Refusal> {
        let limits = self.shared.limits;
        let (count, bytes) = self.load();
        let others_wait = self.shared.waiting.load(Ordering::Relaxed) > 0;
        if self.is_closed() {
            Err(Refusal::Closed)
        } else if others_wait || count >= limits.count || bytes >= limits.bytes {
            Err(Refusal::Full { count, bytes })
        } else {
            Ok(())
        }
    }

    /// Whether the reader is gone.
    pub(super) fn is_closed(&self) -> bool {
        self.shared.closed.load(Ordering::Acquire)
    }

    /// How many items wait, and their bytes.
    pub(super) fn load(&self) -> (u64, u64) {
        split(self.shared.load.load(Ordering::Relaxed))
    }
}

/// Takes the signal back if to wake the reader panics: the next writer tries again.
struct NotWoken<'s>(&'s AtomicBool);

impl Drop for NotWoken<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            items: self.items.clone(),
            waiters: self.waiters.clone(),
        }
    }
}

impl<T> Receiver<T> {
    /// Whether somebody has signalled: if not, there is nothing to take.
    #[inline]
    pub(super) fn is_signalled(&self) -> bool {
        self.shared.signal.load(Ordering::Acquire)
    }

    /// Takes the next item. After `None` the reader may sleep: whoever pushes from now on wakes it.
    pub(super) fn next(&mut self) -> Option<T> {
        if let Some(item) = self.pop() {
            return Some(item);
        }
        self.shared.signal.swap(false, Ordering::AcqRel);
        let item = self.pop();
        if item.is_some() {
            self.shared.signal.swap(true, Ordering::AcqRel);
        }
        item
    }

    fn pop(&mut self) -> Option<T> {
        match self.items.try_recv() {
            Ok((item, bytes)) => {
                self.taken += ONE + bytes;
                Some(item)
            }
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => None,
        }
    }

    /// Gives the room back of what was taken, and wakes those who wait for it. To be called before the reader sleeps.
    pub(super) fn release(&mut self) {
        let taken = std::mem::take(&mut self.taken);
        if taken == 0 {
            return;
        }
        let left = self.shared.load.fetch_sub(taken, Ordering::AcqRel) - taken;
        // To wake them for every single place would cost more than the work that waits.
        let (count, bytes) = split(left);
        if count <= self.shared.limits.count / 2 && bytes <= self.shared.limits.bytes / 2 {
            // Who comes into the list meanwhile looks for room after that: the reader has other things to do.
            let signed_up = self.shared.signed_up.swap(0, Ordering::AcqRel);
            self.wake_waiters(signed_up);
        }
    }

    fn wake_waiters(&mut self, most: u64) {
        for _ in 0..most {
            let Ok(waiter) = self.waiters.try_recv() else {
                return;
            };
            waiter.listed.store(false, Ordering::Release);
            waiter.thread.unpark();
        }
    }

    /// Takes no more, and says so to those who wait for room.
    pub(super) fn close(&mut self) {
        self.shared.closed.store(true, Ordering::Release);
        // Who comes into the list after that sees that it is closed.
        if self.shared.signed_up.swap(0, Ordering::AcqRel) > 0 {
            self.wake_waiters(u64::MAX);
        }
    }

    /// How often the reader was woken.
    pub(super) fn wake_ups(&self) -> u64 {
        self.shared.wake_ups.load(Ordering::Relaxed)
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.close();
        // One by one: if one panics the others are dropped nevertheless.
        while self.pop().is_some() {}
    }
}
