//! What an event says, in a form that can be merged, kept, and made without a selector.

use std::ops::{BitOr, BitOrAssign};

use mio::event::Event;

/// What an event told of a source. It is a hint: what is not there any more shows as `WouldBlock`.
///
/// (A set of conditions that stay until they are found to be gone: an edge is told only once.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Readiness(u8);

impl Readiness {
    /// A read will bring something: bytes, the end of the stream, or an error.
    pub fn is_readable(self) -> bool {
        self.has(Self::READABLE)
    }

    /// A write will be taken, or bring an error.
    pub fn is_writable(self) -> bool {
        self.has(Self::WRITABLE)
    }

    /// The peer has closed its sending side; what it sent before may still be there.
    pub fn is_read_closed(self) -> bool {
        self.has(Self::READ_CLOSED)
    }

    /// The source has an error, which a read or write will bring.
    pub fn is_error(self) -> bool {
        self.has(Self::ERROR)
    }

    /// Urgent data is there, where the platform tells of it.
    pub fn is_priority(self) -> bool {
        self.has(Self::PRIORITY)
    }

    pub(crate) const READABLE: Self = Self(1);
    pub(crate) const WRITABLE: Self = Self(1 << 1);
    /// The peer's end of stream is there, behind what can be read.
    pub(crate) const READ_CLOSED: Self = Self(1 << 2);
    pub(crate) const ERROR: Self = Self(1 << 3);
    /// Urgent data arrived: reads may stop short at it.
    pub(crate) const PRIORITY: Self = Self(1 << 4);
    /// All that a read looks at.
    pub(crate) const READ: Self = Self(Self::READABLE.0 | Self::READ_CLOSED.0 | Self::PRIORITY.0);
    /// Bytes are there that come before those of the socket. No event tells of them.
    pub(crate) const AHEAD: Self = Self(1 << 5);

    pub(crate) fn of(event: &Event) -> Self {
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
