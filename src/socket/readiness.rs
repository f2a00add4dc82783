//! The content of an event, in a form that can be merged, stored, and created without a selector.

use std::ops::{BitOr, BitOrAssign};

use mio::event::Event;

/// The readiness of a source, as reported by events. It is a hint: an operation may still return `WouldBlock`.
///
/// (A set of conditions that persist until a system call refutes them: an edge is reported only once.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Readiness(u8);

impl Readiness {
    /// Returns `true` if a read will return something: bytes, EOF, or an error.
    pub fn is_readable(self) -> bool {
        self.has(Self::READABLE)
    }

    /// Returns `true` if a write will be accepted, or return an error.
    pub fn is_writable(self) -> bool {
        self.has(Self::WRITABLE)
    }

    /// Returns `true` if the peer has half-closed; data that it sent before may still be unread.
    pub fn is_read_closed(self) -> bool {
        self.has(Self::READ_CLOSED)
    }

    /// Returns `true` if the source has an error, which a read or write will return.
    pub fn is_error(self) -> bool {
        self.has(Self::ERROR)
    }

    /// Returns `true` if there is urgent data, on platforms that report it.
    pub fn is_priority(self) -> bool {
        self.has(Self::PRIORITY)
    }

    pub(crate) const READABLE: Self = Self(1);
    pub(crate) const WRITABLE: Self = Self(1 << 1);
    /// The peer has half-closed; unread bytes may precede the EOF.
    pub(crate) const READ_CLOSED: Self = Self(1 << 2);
    pub(crate) const ERROR: Self = Self(1 << 3);
    /// Urgent data arrived: reads may stop short at it.
    pub(crate) const PRIORITY: Self = Self(1 << 4);
    /// All conditions that a read depends on.
    pub(crate) const READ: Self = Self(Self::READABLE.0 | Self::READ_CLOSED.0 | Self::PRIORITY.0);
    /// There are bytes that precede those of the socket. No event reports them.
    pub(crate) const AHEAD: Self = Self(1 << 5);

    #[inline]
    pub(crate) fn of(event: &Event) -> Self {
        let is_plain = !(event.is_error()
            || event.is_priority()
            || event.is_read_closed()
            || event.is_write_closed());
        match (event.is_readable(), event.is_writable()) {
            (true, false) if is_plain => Self::READABLE,
            _ => Self::of_any(event),
        }
    }

    #[inline(never)]
    fn of_any(event: &Event) -> Self {
        let mut readiness = Self::default();
        let mut note = |present, condition| {
            if present {
                readiness |= condition;
            }
        };
        note(event.is_readable(), Self::READABLE);
        note(event.is_writable(), Self::WRITABLE);
        note(event.is_read_closed(), Self::READ_CLOSED | Self::READABLE);
        note(event.is_write_closed(), Self::WRITABLE);
        note(
            event.is_error(),
            Self::ERROR | Self::READABLE | Self::WRITABLE,
        );
        note(event.is_priority(), Self::PRIORITY | Self::READABLE);
        readiness
    }

    pub(crate) fn has(self, conditions: Self) -> bool {
        self.0 & conditions.0 != 0
    }

    pub(crate) fn remove(&mut self, conditions: Self) {
        self.0 &= !conditions.0;
    }
}

impl BitOr for Readiness {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Readiness {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}
