//! A bounded channel that wakes its reader once per burst. It does not depend on loops or commands.
//!
//! ```text
//!   writers    reserve room --> push --> signal: was it set? -- no --> wake the reader
//!                 |  ^
//!            none |  | woken when half of it is free again
//!                 v  |
//!                 park a thread, or leave a waker
//!   reader     pop ... until it is empty --> clear the signal --> look once more --> sleep
//! ```
//!
//! *No wake-up is lost.* A writer pushes and then sets the signal; the reader clears the signal and then looks again.
//! Both are read-modify-writes of one atomic, so one of them comes first: either the reader sees the pushed item, or
//! the writer sees that the signal is clear and wakes the reader. Waiting for room works the same way: a waiter signs
//! up and then looks for room; the reader makes room and then looks for waiters that have signed up.
//!
//! *Waiters are not overtaken, and tries do not starve.* While a thread or a task waits, a try takes none of the regular
//! room: a thread that tries repeatedly could take each place as soon as it is free. Instead, tries then use a small
//! separate room, *aside*, which waiters never use. All items are in one queue, so room aside is free again at the
//! latest when the reader has processed what was in the channel before.
//!
//! *A task that was woken has a turn.* It runs some time after it was woken, and others may have filled the room again
//! by then. So the next try of its sender is accepted whatever is in the channel: at most one item per sender. A turn
//! takes no room, so a task that does not use it keeps no other writer waiting.
//!
//! There is no lock: only `std::sync::mpsc` and atomics. Only a waiting task has one, for its waker. (The reader of the
//! `mpsc` channel may spin briefly if a writer was interrupted while it filled a place.) `tests/mailbox_model.rs` checks
//! a model of this file, and substitutes `sync`.

use std::collections::VecDeque;
use std::task::{Poll, Waker};

use super::room::{Limits, Room};
use super::sync::mpsc::{self, TryRecvError};
use super::sync::{Arc, AtomicBool, AtomicU64, Ordering, thread};
use super::waiter::Waiter;

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
    /// The room for tries while threads or tasks wait.
    aside: Room,
    /// Set if the reader was woken, or is awake and will look.
    signal: AtomicBool,
    /// The reader was dropped.
    closed: AtomicBool,
    /// The number of waiting threads and tasks.
    waiting: AtomicU64,
    /// Some of them have signed up since the reader last looked.
    signed_up: AtomicBool,
    /// The number of times the reader was woken.
    wake_ups: AtomicU64,
    wake: Box<dyn Fn() + Send + Sync>,
}

pub(super) struct Sender<T> {
    shared: Arc<Shared>,
    items: mpsc::Sender<(T, Weight)>,
    waiters: mpsc::Sender<Arc<Waiter>>,
    /// The task that waits for this sender.
    task: Option<Arc<Waiter>>,
    /// The next try is accepted whatever is in the channel.
    has_turn: AtomicBool,
}

pub(super) struct Receiver<T> {
    shared: Arc<Shared>,
    items: mpsc::Receiver<(T, Weight)>,
    waiters: mpsc::Receiver<Arc<Waiter>>,
    /// The load taken out of the regular room since the last [`release`](Self::release).
    taken: u64,
    taken_aside: u64,
    /// Waiters that are being woken; empty otherwise.
    woken: VecDeque<Arc<Waiter>>,
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
        signed_up: AtomicBool::new(false),
        wake_ups: AtomicU64::new(0),
        wake,
    });
    let (item_sender, items) = mpsc::channel();
    let (waiter_sender, waiters) = mpsc::channel();
    let sender = Sender {
        shared: Arc::clone(&shared),
        items: item_sender,
        waiters: waiter_sender,
        task: None,
        has_turn: AtomicBool::new(false),
    };
    let receiver = Receiver {
        shared,
        items,
        waiters,
        taken: 0,
        taken_aside: 0,
        woken: VecDeque::new(),
    };
    (sender, receiver)
}

impl Shared {
    /// Reserves room for one item of `bytes` bytes within these limits.
    fn reserve(&self, limits: Limits, bytes: u64) -> Result<Weight, Refusal> {
        self.check_open()?;
        self.room.take(limits, bytes).map_err(full)
    }

    /// Reserves room without blocking: aside, if others wait. With a turn the limits do not apply.
    fn try_reserve(&self, bytes: u64, has_turn: bool) -> Result<Weight, Refusal> {
        self.check_open()?;
        let (room, mark) = self.room_to_try();
        let limits = if has_turn {
            Limits::COUNTABLE
        } else {
            room.limits
        };
        let taken = room.take(limits, bytes);
        taken
            .map(|weight| weight | mark)
            .map_err(|_| full(self.load()))
    }

    /// Returns the room for tries, and the mark of its items.
    fn room_to_try(&self) -> (&Room, Weight) {
        if self.waiting.load(Ordering::Relaxed) > 0 {
            (&self.aside, ASIDE)
        } else {
            (&self.room, 0)
        }
    }

    /// Counts a task that no longer waits.
    fn count_out(&self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
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
    /// Queues an item of `bytes` bytes if there is room now, or if this sender has a turn.
    pub(super) fn try_send(&self, item: T, bytes: u64) -> Result<(), (Refusal, T)> {
        let has_turn = self.has_turn() && self.has_turn.swap(false, Ordering::Relaxed);
        let reserved = self.shared.try_reserve(bytes, has_turn);
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
                Some(waiter) if waiter.is_listed(None) => thread::park(),
                _ => match self.sign_up(Waiter::this_thread()) {
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

    /// Waits for room without blocking: a task with this waker is woken. Once ready, this sender has a turn, and stays
    /// ready until its next try.
    pub(super) fn poll_ready(&mut self, waker: &Waker) -> Poll<Result<(), Refusal>> {
        let is_ready = self.has_turn() || self.comes_to_turn(waker);
        // Looks last: a reader that closes later wakes the task.
        if let Err(refusal) = self.shared.check_open() {
            return Poll::Ready(Err(refusal));
        }
        if !is_ready {
            return Poll::Pending;
        }
        self.has_turn.store(true, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }

    fn has_turn(&self) -> bool {
        self.has_turn.load(Ordering::Relaxed)
    }

    /// Returns whether there is room, or the task has waited for it. Otherwise the task is listed.
    fn comes_to_turn(&mut self, waker: &Waker) -> bool {
        if let Some(task) = &self.task {
            // It looks for no room while it is listed, or it could take each place before those that wait longer.
            let is_listed = task.is_listed(Some(waker));
            if !is_listed {
                self.task = None;
            }
            return !is_listed;
        }
        if self.check_room().is_ok() {
            return true;
        }
        self.shared.waiting.fetch_add(1, Ordering::Relaxed);
        self.task = self.sign_up(Waiter::task(waker));
        if self.task.is_none() {
            self.shared.count_out();
            return false;
        }
        // The reader may have made this room before it could see the task. If there is less, it will make more.
        let is_ready = self.shared.room.is_half_free();
        if is_ready {
            self.stop_waiting();
        }
        is_ready
    }

    /// Ends the wait of a task.
    fn stop_waiting(&mut self) {
        if self.task.take().is_some_and(|task| task.cancel()) {
            self.shared.count_out();
        }
    }

    /// Enters the list of waiters. Returns `None` if the reader was dropped.
    fn sign_up(&self, waiter: Waiter) -> Option<Arc<Waiter>> {
        let waiter = Arc::new(waiter);
        self.waiters.send(Arc::clone(&waiter)).ok()?;
        self.shared.signed_up.swap(true, Ordering::AcqRel);
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

    /// Checks whether a non-blocking item would be accepted now.
    pub(super) fn check_room(&self) -> Result<(), Refusal> {
        let shared = &*self.shared;
        shared.check_open()?;
        if self.has_turn() || shared.room_to_try().0.is_free() {
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
            task: None,
            has_turn: AtomicBool::new(false),
        }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.stop_waiting();
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
            // Nothing waits for this room.
            self.shared.aside.give_back(taken_aside);
        }
        let taken = std::mem::take(&mut self.taken);
        if taken == 0 {
            return;
        }
        // Waking waiters for each single place would cost more than the commands themselves.
        if self.shared.room.give_back(taken) {
            // Waiters that sign up later look for room after that, and need not be woken here.
            self.wake_waiters();
        }
    }

    /// Wakes all waiters that have signed up. First takes all of them out of the list: one that is woken and signs up
    /// again is not woken twice.
    fn wake_waiters(&mut self) {
        if !self.shared.signed_up.swap(false, Ordering::AcqRel) {
            return;
        }
        while let Ok(waiter) = self.waiters.try_recv() {
            self.woken.push_back(waiter);
        }
        while let Some(waiter) = self.woken.pop_front() {
            waiter.wake(|| self.shared.count_out());
        }
    }

    /// Refuses further items, and wakes waiters so that they see it.
    pub(super) fn close(&mut self) {
        self.shared.closed.store(true, Ordering::Release);
        // Waiters that sign up later see that the channel is closed.
        self.wake_waiters();
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
