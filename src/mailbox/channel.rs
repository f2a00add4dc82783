//! A bounded channel that wakes its reader once per burst. It does not depend on loops or commands.
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
//! *No wake-up is lost.* A writer pushes and then sets the signal; the reader clears the signal and then looks again.
//! Both are read-modify-writes of one atomic, so one of them comes first: either the reader sees the pushed item, or
//! the writer sees that the signal is clear and wakes the reader. Blocking for room works the same way: a waiter signs
//! up and then looks for room; the reader makes room and then looks for waiters that have signed up.
//!
//! *Waiters are not overtaken, and tries do not starve.* While a thread is blocked, a try takes none of the regular
//! room: a thread that tries repeatedly could take each place as soon as it is free. Instead, tries then use a small
//! separate room, *aside*, which waiters never use. All items are in one queue, so room aside is free again at the
//! latest when the reader has processed what was in the channel before.
//!
//! There is no lock: only `std::sync::mpsc` and atomics. (The reader of the `mpsc` channel may spin briefly if a writer
//! was interrupted while it filled a place.) `tests/mailbox_model.rs` checks a model of this file, and substitutes
//! `sync`.

use super::room::{Limits, Room};
use super::sync::mpsc::{self, TryRecvError};
use super::sync::thread::{self, Thread};
use super::sync::{Arc, AtomicBool, AtomicU64, Ordering};

/// Why an item was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    Full { count: u64, bytes: u64 },
    Closed,
}

/// The load that an item adds to a room. The top bit, which no item can reach, marks the room aside.
type Weight = u64;
const ASIDE: Weight = 1 << 63;

struct Shared {
    room: Room,
    /// The room for tries while other threads are blocked.
    aside: Room,
    /// Set if the reader was woken, or is awake and will look.
    signal: AtomicBool,
    /// The reader was dropped.
    closed: AtomicBool,
    /// The number of blocked threads.
    waiting: AtomicU64,
    /// How many of them have signed up since the reader last looked.
    signed_up: AtomicU64,
    /// The number of times the reader was woken.
    wake_ups: AtomicU64,
    wake: Box<dyn Fn() + Send + Sync>,
}

/// A blocked thread.
struct Waiter {
    thread: Thread,
    /// The waiter is still in the list, and will be woken.
    listed: AtomicBool,
}

pub(super) struct Sender<T> {
    shared: Arc<Shared>,
    items: mpsc::Sender<(T, Weight)>,
    waiters: mpsc::Sender<Arc<Waiter>>,
}

pub(super) struct Receiver<T> {
    shared: Arc<Shared>,
    items: mpsc::Receiver<(T, Weight)>,
    waiters: mpsc::Receiver<Arc<Waiter>>,
    /// The load taken out of the regular room since the last [`release`](Self::release).
    taken: u64,
    taken_aside: u64,
}

/// Creates a channel. Writers call `wake`, on their own thread, to wake the reader.
pub(super) fn channel<T>(
    limits: Limits,
    wake: Box<dyn Fn() + Send + Sync>,
) -> (Sender<T>, Receiver<T>) {
    let limits = limits.countable();
    let shared = Arc::new(Shared {
        room: Room::new(limits),
        aside: Room::new(limits.small_part()),
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
        taken_aside: 0,
    };
    (sender, receiver)
}

impl Shared {
    /// Reserves room for one item of `bytes` bytes within these limits.
    fn reserve(&self, limits: Limits, bytes: u64) -> Result<Weight, Refusal> {
        self.check_open()?;
        self.room.take(limits, bytes).map_err(full)
    }

    /// Reserves room without blocking: aside, if other threads are blocked.
    fn try_reserve(&self, bytes: u64) -> Result<Weight, Refusal> {
        if !self.others_wait() {
            return self.reserve(self.room.limits, bytes);
        }
        self.check_open()?;
        let taken = self.aside.take(self.aside.limits, bytes);
        taken
            .map(|weight| weight | ASIDE)
            .map_err(|_| full(self.load()))
    }

    /// Returns `true` if threads are blocked.
    fn others_wait(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    fn check_open(&self) -> Result<(), Refusal> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Refusal::Closed);
        }
        Ok(())
    }

    /// Returns the number of items in the channel, and their bytes.
    fn load(&self) -> (u64, u64) {
        let (room, aside) = (self.room.load(), self.aside.load());
        (room.0 + aside.0, room.1 + aside.1)
    }
}

fn full((count, bytes): (u64, u64)) -> Refusal {
    Refusal::Full { count, bytes }
}

impl<T> Sender<T> {
    /// Queues an item of `bytes` bytes if there is room now.
    pub(super) fn try_send(&self, item: T, bytes: u64) -> Result<(), (Refusal, T)> {
        let reserved = self.shared.try_reserve(bytes);
        self.push(reserved, item)
    }

    /// Queues an item regardless of the limits, as long as the load can be counted.
    pub(super) fn send_always(&self, item: T) -> Result<(), (Refusal, T)> {
        self.push(self.shared.reserve(Limits::COUNTABLE, 0), item)
    }

    /// Blocks until there is room, then queues an item.
    pub(super) fn send(&self, item: T, bytes: u64) -> Result<(), (Refusal, T)> {
        let reserved = match self.shared.reserve(self.shared.room.limits, bytes) {
            Err(Refusal::Full { .. }) => self.wait_for_room(bytes),
            outcome => outcome,
        };
        self.push(reserved, item)
    }

    #[cold]
    fn wait_for_room(&self, bytes: u64) -> Result<Weight, Refusal> {
        let shared = &*self.shared;
        shared.waiting.fetch_add(1, Ordering::Relaxed);
        let mut waiter: Option<Arc<Waiter>> = None;
        let outcome = loop {
            match &waiter {
                // `park` may return spuriously, which the loop tolerates.
                Some(waiter) if waiter.listed.load(Ordering::Acquire) => thread::park(),
                _ => match self.sign_up() {
                    Some(signed_up) => waiter = Some(signed_up),
                    None => break Err(Refusal::Closed),
                },
            }
            // Sees room that was made before the reader could see this waiter.
            match shared.reserve(shared.room.limits, bytes) {
                Err(Refusal::Full { .. }) => {}
                outcome => break outcome,
            }
        };
        shared.waiting.fetch_sub(1, Ordering::Relaxed);
        outcome
    }

    /// Enters the list of waiters. Returns `None` if the reader was dropped.
    fn sign_up(&self) -> Option<Arc<Waiter>> {
        let waiter = Arc::new(Waiter {
            thread: thread::current(),
            listed: AtomicBool::new(true),
        });
        self.waiters.send(Arc::clone(&waiter)).ok()?;
        self.shared.signed_up.fetch_add(1, Ordering::AcqRel);
        Some(waiter)
    }

    /// Queues an item if room was reserved for it, otherwise returns it.
    fn push(&self, reserved: Result<Weight, Refusal>, item: T) -> Result<(), (Refusal, T)> {
        let weight = match reserved {
            Ok(weight) => weight,
            Err(refusal) => return Err((refusal, item)),
        };
        if let Err(mpsc::SendError((item, _))) = self.items.send((item, weight)) {
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

    /// Checks whether a non-blocking item would find room now.
    pub(super) fn check_room(&self) -> Result<(), Refusal> {
        let shared = &*self.shared;
        shared.check_open()?;
        let room = if shared.others_wait() {
            &shared.aside
        } else {
            &shared.room
        };
        if room.is_free() {
            Ok(())
        } else {
            Err(full(shared.load()))
        }
    }

    /// Returns `true` if the reader was dropped.
    pub(super) fn is_closed(&self) -> bool {
        self.shared.closed.load(Ordering::Acquire)
    }

    /// Returns the number of queued items, and their bytes.
    pub(super) fn load(&self) -> (u64, u64) {
        self.shared.load()
    }
}

/// Clears the signal if waking the reader panics, so that the next writer tries again.
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
    /// Returns `true` if a writer has signalled; otherwise there is nothing to take.
    #[inline]
    pub(super) fn is_signalled(&self) -> bool {
        self.shared.signal.load(Ordering::Acquire)
    }

    /// Takes the next item. After `None` the reader may sleep: the next push wakes it.
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
            Ok((item, weight)) => {
                if weight & ASIDE == 0 {
                    self.taken += weight;
                } else {
                    self.taken_aside += weight & !ASIDE;
                }
                Some(item)
            }
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => None,
        }
    }

    /// Releases the room of the items that were taken, and wakes waiters. Has to be called before the reader sleeps.
    pub(super) fn release(&mut self) {
        let taken_aside = std::mem::take(&mut self.taken_aside);
        if taken_aside > 0 {
            // No thread blocks on this room.
            self.shared.aside.give_back(taken_aside);
        }
        let taken = std::mem::take(&mut self.taken);
        if taken == 0 {
            return;
        }
        // Waking waiters for each single place would cost more than the commands themselves.
        if self.shared.room.give_back(taken) {
            // Waiters that sign up later look for room after that, and need not be woken here.
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

    /// Refuses further items, and wakes waiters so that they see it.
    pub(super) fn close(&mut self) {
        self.shared.closed.store(true, Ordering::Release);
        // Waiters that sign up later see that the channel is closed.
        if self.shared.signed_up.swap(0, Ordering::AcqRel) > 0 {
            self.wake_waiters(u64::MAX);
        }
    }

    /// Returns the number of queued items, and of those that were taken and not released.
    pub(super) fn pending(&self) -> u64 {
        self.shared.load().0
    }

    /// Returns the number of times the reader was woken.
    pub(super) fn wake_ups(&self) -> u64 {
        self.shared.wake_ups.load(Ordering::Relaxed)
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.close();
        // Drops the items one by one: if one panics, the others are still dropped.
        while self.pop().is_some() {}
    }
}
