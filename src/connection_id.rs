//! Ids of connections and listeners, and their encoding in a [`mio::Token`].
//!
//! An id consists of a slab index and a generation. The generation makes late events, and ids kept too long by the
//! user, harmless: it never matches the next tenant of the slot.
//!
//! ```text
//! 64-bit token   1 | L | index: 30 | generation: 32
//! 32-bit token   1 | L | index: 30
//!                ^   ^   ^
//!                |   |   among listeners: an arrival, a peer whose PROXY header is awaited
//!                |   a listener, not a connection
//!                reserved for the loop; all other tokens are user tokens
//! ```
//!
//! If a token has no room for the generation, the index alone is sufficient: a socket is deregistered when it closes,
//! and its slot is freed only after the batch of events has been handled.

use std::fmt;
use std::str::FromStr;

use mio::Token;

use crate::error::ParseIdError;

const OURS: usize = 1 << (usize::BITS - 1);
const LISTENER: usize = OURS >> 1;
const INDEX_BITS: u32 = 30;
/// The shift of the index that leaves room for a generation, if tokens have room for one.
const INDEX_SHIFT: u32 = usize::BITS - 2 - INDEX_BITS;
const INDEX_MASK: usize = (1 << INDEX_BITS) - 1;
/// The top bit of the index of a listener.
#[cfg(feature = "proxy")]
const ARRIVAL: usize = 1 << (INDEX_SHIFT + INDEX_BITS - 1);

/// The token of the waker of an event loop: that of a listener or an arrival that cannot exist.
pub(crate) const WAKER: Token = Token(usize::MAX);

/// The maximum number of slots of one kind in a loop: 2^30, less one for the [`WAKER`].
pub(crate) const MAX_SLOTS: usize = INDEX_MASK;

/// The operations on ids that a table of slots needs.
pub(crate) trait SlotId: Copy {
    fn from_parts(slot: u32, serial: u32) -> Self;
    fn slot(self) -> usize;
    fn serial(self) -> u32;
}

/// Parses a number in its canonical form: digits, without a sign or leading zeros.
pub(crate) fn parse_number<N: FromStr>(text: &str) -> Option<N> {
    let is_canonical = text == "0" || !text.starts_with(['0', '+']);
    text.parse().ok().filter(|_| is_canonical)
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(
            /// The index in the upper half, the generation in the lower half: one number is compared faster than two.
            u64,
        );

        impl $name {
            pub(crate) const fn new(index: u32, generation: u32) -> Self {
                Self((index as u64) << 32 | generation as u64)
            }

            /// Returns the index of the slot in the loop's slab: small, dense, and reused after the end of its tenant.
            /// It is suitable as an index into your own `Vec`.
            pub fn index(self) -> usize {
                (self.0 >> 32) as usize
            }

            /// Returns how many times the slot had been used before.
            pub fn generation(self) -> u32 {
                self.0 as u32
            }
        }

        impl SlotId for $name {
            fn from_parts(slot: u32, serial: u32) -> Self {
                Self::new(slot, serial)
            }

            fn slot(self) -> usize {
                self.index()
            }

            fn serial(self) -> u32 {
                self.generation()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}#{}", self.index(), self.generation())
            }
        }

        /// The index in the upper half, the generation in the lower half: for callers in other languages, and for
        /// files.
        impl From<$name> for u64 {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        /// The reverse conversion. A number that was never an id yields an id that refers to nothing.
        impl From<u64> for $name {
            fn from(number: u64) -> Self {
                Self(number)
            }
        }

        /// Parses the output of [`Display`](fmt::Display), and nothing else.
        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let id = text.split_once('#').and_then(|(index, generation)| {
                    Some(Self::new(parse_number(index)?, parse_number(generation)?))
                });
                id.ok_or(ParseIdError { expected: "17#3" })
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    };
}

id! {
    /// Identifies a connection permanently: an id is never reused for another connection of the same loop.
    ///
    /// Displayed as `17#3`: slot 17, which had three tenants before. It can be parsed from that text, and converted to
    /// and from a `u64`:
    ///
    /// ```
    /// use throng::ConnectionId;
    ///
    /// let id: ConnectionId = "17#3".parse()?;
    /// assert_eq!((id.index(), id.generation()), (17, 3));
    /// assert_eq!(ConnectionId::from(u64::from(id)), id);
    /// # Ok::<(), throng::ParseIdError>(())
    /// ```
    ///
    /// Ids are unique within one [`Net`](crate::Net). After its connection has ended, an id can still be passed to any
    /// method, which then reports that the connection is closed.
    ConnectionId
}

id! {
    /// Identifies a listener of a loop. Displayed as `0#0`, like a [`ConnectionId`], but numbered separately.
    ListenerId
}

/// Identifies a peer that was accepted, and whose PROXY header is awaited.
#[cfg(feature = "proxy")]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct ArrivalId {
    index: u32,
    generation: u32,
}

#[cfg(feature = "proxy")]
impl SlotId for ArrivalId {
    fn from_parts(index: u32, generation: u32) -> Self {
        Self { index, generation }
    }

    fn slot(self) -> usize {
        self.index as usize
    }

    fn serial(self) -> u32 {
        self.generation
    }
}

/// The source of an event.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Source {
    Connection(ConnectionId),
    Listener(ListenerId),
    #[cfg(feature = "proxy")]
    Arrival(ArrivalId),
}

impl From<ConnectionId> for Source {
    fn from(id: ConnectionId) -> Self {
        Self::Connection(id)
    }
}

impl Source {
    pub(crate) fn token(self) -> Token {
        let (mark, index, generation) = match self {
            Self::Connection(id) => (OURS, id.index(), id.generation()),
            Self::Listener(id) => (OURS | LISTENER, id.index(), id.generation()),
            #[cfg(feature = "proxy")]
            Self::Arrival(id) => (OURS | LISTENER | ARRIVAL, id.slot(), id.generation),
        };
        let low = if INDEX_SHIFT == 0 {
            0
        } else {
            generation as usize
        };
        Token(mark | index << INDEX_SHIFT | low)
    }

    /// Decodes a token; `None` if it is a user token. If tokens have no room for it, `generation_of` returns the
    /// current generation of a slot.
    pub(crate) fn from_token(token: Token, generation_of: impl Fn(Source) -> u32) -> Option<Self> {
        if token.0 & OURS == 0 {
            return None;
        }
        let index = (token.0 >> INDEX_SHIFT & INDEX_MASK) as u32;
        let source = |generation| {
            if token.0 & LISTENER == 0 {
                return Self::Connection(ConnectionId::new(index, generation));
            }
            #[cfg(feature = "proxy")]
            if token.0 & ARRIVAL != 0 {
                let index = index & ((ARRIVAL >> INDEX_SHIFT) as u32 - 1);
                return Self::Arrival(ArrivalId { index, generation });
            }
            Self::Listener(ListenerId::new(index, generation))
        };
        Some(if INDEX_SHIFT == 0 {
            source(generation_of(source(0)))
        } else {
            source((token.0 & u32::MAX as usize) as u32)
        })
    }
}

/// Returns `true` if a token is reserved for the loop.
pub(crate) fn is_ours(token: Token) -> bool {
    token.0 & OURS != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_bring_the_whole_id_back() {
        let last = MAX_SLOTS as u32 - 1;
        for index in [0, 1, 17, last] {
            for generation in [0, 3, u32::MAX] {
                // Half as many listeners as connections.
                let half = index.min((last >> 1) - 1);
                for source in [
                    Source::Connection(ConnectionId::new(index, generation)),
                    Source::Listener(ListenerId::new(half, generation)),
                    #[cfg(feature = "proxy")]
                    Source::Arrival(ArrivalId::from_parts(half, generation)),
                ] {
                    assert_ne!(source.token(), WAKER);
                    let token = source.token();
                    assert!(is_ours(token));
                    assert_eq!(Source::from_token(token, |_| generation), Some(source));
                }
            }
        }
    }

    #[test]
    fn tokens_without_the_top_bit_are_the_users() {
        for token in [Token(0), Token(7), Token(usize::MAX >> 1)] {
            assert!(!is_ours(token));
            assert_eq!(Source::from_token(token, |_| 0), None);
        }
    }

    #[test]
    fn an_id_prints_slot_and_generation() {
        let id = ConnectionId::new(17, 3);
        assert_eq!(id.to_string(), "17#3");
        assert_eq!(format!("{id:?}"), "ConnectionId(17#3)");
        assert_eq!((id.index(), id.generation()), (17, 3));
    }

    #[test]
    fn ids_survive_the_way_through_text_and_through_a_number() {
        for index in [0, 1, 17, u32::MAX] {
            for generation in [0, 3, u32::MAX] {
                let id = ConnectionId::new(index, generation);
                assert_eq!(id.to_string().parse(), Ok(id));
                assert_eq!(ConnectionId::from(u64::from(id)), id);
                let id = ListenerId::new(index, generation);
                assert_eq!(id.to_string().parse(), Ok(id));
                assert_eq!(ListenerId::from(u64::from(id)), id);
            }
        }
        assert_eq!(u64::from(ConnectionId::new(17, 3)), 17 << 32 | 3);
    }

    #[test]
    fn what_is_no_id_is_refused() {
        let texts = [
            "",
            "#",
            "17",
            "17#",
            "#3",
            "17#3#",
            "1:17#3",
            "+17#3",
            "17#+3",
            "-1#3",
            "017#3",
            "17#00",
            " 17#3",
            "17#3\n",
            "4294967296#0",
            "0#4294967296",
            "ConnectionId(17#3)",
        ];
        for text in texts {
            let error = text.parse::<ConnectionId>().expect_err(text);
            assert_eq!(error.to_string(), "expected an id in the form 17#3");
            assert!(text.parse::<ListenerId>().is_err(), "{text}");
        }
    }
}
