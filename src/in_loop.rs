//! Tracks whether this thread is making callbacks. If so, it must not block on a loop: that might be its own, or one
//! that is blocked on this one.

use std::cell::Cell;

thread_local! {
    static IN_LOOP: Cell<bool> = const { Cell::new(false) };
}

/// While this value lives, callbacks are made on this thread.
#[must_use]
pub(crate) struct InLoop {
    before: bool,
}

impl InLoop {
    #[inline]
    pub(crate) fn enter() -> Self {
        let before = IN_LOOP.replace(true);
        Self { before }
    }

    pub(crate) fn is_entered() -> bool {
        IN_LOOP.get()
    }
}

impl Drop for InLoop {
    #[inline]
    fn drop(&mut self) {
        IN_LOOP.set(self.before);
    }
}
