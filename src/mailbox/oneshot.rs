//! One value from the loop to a task.

use std::sync::PoisonError;
use std::task::{Poll, Waker};

use super::sync::{Arc, Mutex};

enum State<R> {
    /// Not sent yet. Contains the waker of the task, if it has polled.
    Open(Option<Waker>),
    Told(R),
    /// The value was taken, or will never come.
    Over,
}

type Shared<R> = Arc<Mutex<State<R>>>;

/// Sends the value. If it is dropped before that, the receiver gets `None`.
pub(super) struct Teller<R>(Shared<R>);

pub(super) struct Receiver<R>(Shared<R>);

pub(super) fn oneshot<R>() -> (Teller<R>, Receiver<R>) {
    let shared = Arc::new(Mutex::new(State::Open(None)));
    (Teller(Arc::clone(&shared)), Receiver(shared))
}

/// Replaces the state. The lock is not held while other code runs: dropping a waker or a value may run arbitrary code.
fn replace<R>(shared: &Shared<R>, state: State<R>) -> State<R> {
    let mut held = shared.lock().unwrap_or_else(PoisonError::into_inner);
    std::mem::replace(&mut *held, state)
}

impl<R> Teller<R> {
    pub(super) fn tell(self, value: R) {
        self.become_over(State::Told(value));
    }

    fn become_over(&self, state: State<R>) {
        let before = replace(&self.0, state);
        if let State::Open(Some(waker)) = before {
            waker.wake();
        }
    }
}

impl<R> Drop for Teller<R> {
    fn drop(&mut self) {
        let is_open = {
            let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            matches!(*held, State::Open(_))
        };
        // No other code ends the open state, so it is still open.
        if is_open {
            self.become_over(State::Over);
        }
    }
}

impl<R> Receiver<R> {
    /// Returns the value, or `None` if it will never come.
    pub(super) fn poll(&self, waker: &Waker) -> Poll<Option<R>> {
        let waker = waker.clone();
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let after = match &*held {
            State::Open(_) => State::Open(Some(waker)),
            State::Told(_) | State::Over => State::Over,
        };
        let before = std::mem::replace(&mut *held, after);
        drop(held);
        match before {
            State::Open(_) => Poll::Pending,
            State::Told(value) => Poll::Ready(Some(value)),
            State::Over => Poll::Ready(None),
        }
    }
}
