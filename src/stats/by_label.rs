//! Groups of values, distinguished by a label.

use std::fmt;

use super::Stats;
use super::openmetrics::{Family, Value};
use crate::error::DecodeError;
use crate::reason::DisconnectCause;

macro_rules! by_label {
    (
        $(#[$attribute:meta])*
        pub struct $name:ident by $label:ident {
            $($(#[doc = $doc:expr])+ $field:ident,)+
        }
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        #[non_exhaustive]
        pub struct $name {
            $($(#[doc = $doc])+ pub $field: u64,)+
        }

        impl $name {
            /// Returns the name and the value of each field.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($field), self.$field)),+].into_iter()
            }

            /// Returns the sum of all fields.
            pub fn total(&self) -> u64 {
                self.iter().map(|(_, value)| value).sum()
            }
        }

        impl Value for $name {
            fn plus(self, other: Self) -> Self {
                Self { $($field: self.$field.plus(other.$field),)+ }
            }

            fn minus(self, earlier: Self) -> Self {
                Self { $($field: self.$field.minus(earlier.$field),)+ }
            }

            fn write(&self, family: &mut Family<'_>, _: &Stats) -> fmt::Result {
                self.iter().try_for_each(|(name, value)| {
                    family.labelled("", stringify!($label), name, value)
                })
            }
        }
    };
}

by_label! {
    /// The refused peers of a loop, by reason.
    pub struct RefusalsByReason by reason {
        /// [`max_connections`](crate::Config::max_connections) was reached, or the number of connections had not fallen
        /// below [`accept_again_below`](crate::Config::accept_again_below) since.
        full,
        /// [`max_connections_per_ip`](crate::Config::max_connections_per_ip) was reached.
        per_address,
        /// [`max_accepts_per_second_per_ip`](crate::Config::max_accepts_per_second_per_ip) was exceeded.
        rate_per_address,
        /// [`on_accept`](crate::Handler::on_accept) refused the peer.
        on_accept,
        /// The listener was closed in [`on_accept`](crate::Handler::on_accept), or while the peer was accepted and not yet
        /// admitted.
        listener_closed,
        /// The peer is a proxy and has not sent a valid PROXY header in time (feature `proxy`).
        proxy,
    }
}

by_label! {
    /// The present connections of a loop, by their [stage](crate::Stage).
    pub struct ConnectionsByStage by stage {
        /// Accepted from a proxy, but the PROXY header is incomplete; not connections yet (feature `proxy`).
        arriving,
        /// Outbound or adopted, and not yet established.
        connecting,
        /// Established.
        open,
        /// Flushing their queue, or waiting for the peer to close.
        closing,
    }
}

/// The pattern of a cause.
macro_rules! cause {
    ($cause:ident) => {
        DisconnectCause::$cause { .. }
    };
    ($cause:ident $error:ident) => {
        DisconnectCause::$cause(DecodeError::$error { .. })
    };
}

/// Declares the fields of [`DisconnectsByCause`], each with its cause. The compiler reports a cause that is missing.
macro_rules! causes {
    ($($(#[$cfg:meta])* $field:ident: $cause:ident $(($error:ident))?,)+) => {
        by_label! {
            /// The ended connections of a loop, by [cause](DisconnectCause).
            pub struct DisconnectsByCause by cause {
                $(
                    #[doc = concat!("Those with the cause [`", stringify!($cause), "`](DisconnectCause::", stringify!($cause), ").")]
                    $(#[doc = concat!("The error is [`", stringify!($error), "`](crate::DecodeError::", stringify!($error), ").")])?
                    $field,
                )+
            }
        }

        impl DisconnectsByCause {
            pub(crate) fn count(&mut self, cause: &DisconnectCause) {
                match cause {
                    $($(#[$cfg])* cause!($cause $($error)?) => self.$field += 1,)+
                }
            }
        }
    };
}

causes! {
    peer_closed: PeerClosed,
    peer_closed_inside_frame: PeerClosedInsideFrame,
    reset: Reset,
    network: Network,
    connect_failed: ConnectFailed,
    connect_timed_out: ConnectTimedOut,
    #[cfg(feature = "tls")]
    handshake_failed: HandshakeFailed,
    #[cfg(feature = "tls")]
    handshake_timed_out: HandshakeTimedOut,
    #[cfg(feature = "tls")]
    tls: Tls,
    #[cfg(feature = "tls")]
    truncated: Truncated,
    frame_too_large: Decode(FrameTooLarge),
    malformed: Decode(Malformed),
    out_of_memory: Decode(OutOfMemory),
    closed_locally: ClosedLocally,
    drain_timed_out: DrainTimedOut,
    shut_down: ShutDown,
    released: Released,
    aborted: Aborted,
    chunk_not_handled: ChunkNotHandled,
    reader_ended: ReaderEnded,
    reader_too_long: ReaderTooLong,
    reader_failed: ReaderFailed,
    idle: Idle,
    frame_stalled: FrameStalled,
    write_stalled: WriteStalled,
    rate_exceeded: RateExceeded,
    memory_budget: MemoryBudget,
    slow_consumer: SlowConsumer,
}
