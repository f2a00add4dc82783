//! A thread or a task that waits for room.

use std::sync::PoisonError;
use std::task::Waker;

use super::sync::thread::{self, Thread};
use super::sync::{AtomicBool, Mutex, Ordering};

/// A waiter is *listed* until the reader wakes it.
pub(super) enum Waiter {
    Thread {
        thread: Thread,
        listed: AtomicBool,
    },
    /// Holds a waker while it is listed. The lock is held only to move the waker.
    Task(Mutex<Option<Waker>>),
}

impl Waiter {
    pub(super) fn this_thread() -> Self {
        Self::Thread {
            thread: thread::current(),
            listed: AtomicBool::new(true),
        }
    }

    pub(super) fn task(waker: &Waker) -> Self {
        Self::Task(Mutex::new(Some(waker.clone())))
    }

    /// Returns `true` if the reader will wake the waiter. A task is then woken by this waker.
    pub(super) fn is_listed(&self, waker: Option<&Waker>) -> bool {
        match self {
            Self::Thread { listed, .. } => listed.load(Ordering::Acquire),
            Self::Task(slot) => {
                // Cloned before the lock is taken, and the old one is dropped after it: both may run arbitrary code.
                let newest = waker.cloned();
                let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
                let is_listed = slot.is_some();
                let older = if is_listed && newest.is_some() {
                    std::mem::replace(&mut *slot, newest)
                } else {
                    None
                };
                drop(slot);
                drop(older);
                is_listed
            }
        }
    }

    /// Wakes the waiter. If it is a task that was listed, calls `counted_out` first. A thread leaves the count of
    /// waiters itself, when it has found room.
    pub(super) fn wake(&self, counted_out: impl FnOnce()) {
        match self {
            Self::Thread { thread, listed } => {
                listed.store(false, Ordering::Release);
                thread.unpark();
            }
            Self::Task(slot) => {
                if let Some(waker) = take(slot) {
                    counted_out();
                    waker.wake();
                }
            }
        }
    }

    /// Ends the wait of a task. Returns `true` if it was listed.
    pub(super) fn cancel(&self) -> bool {
        match self {
            Self::Thread { .. } => false,
            Self::Task(slot) => take(slot).is_some(),
        }
    }
}

fn take(slot: &Mutex<Option<Waker>>) -> Option<Waker> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).take()
}
