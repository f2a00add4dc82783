//! What connections of one origin have in common.

use super::Phase;
use crate::config::ConnectionOptions;
use crate::connection_id::ListenerId;
#[cfg(feature = "proxy")]
use crate::proxy::Proxying;

/// Where a connection comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Origin {
    /// A peer connected to this listener, which may be closed by now.
    Listener(ListenerId),
    /// It was opened by [`connect`](crate::Net::connect).
    Outbound,
    /// It was [adopted](crate::Net::adopt).
    Adopted,
}

/// The origin and the options of connections: one copy for all connections of a listener.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    pub(crate) origin: Origin,
    pub(crate) options: ConnectionOptions,
    #[cfg(feature = "proxy")]
    pub(crate) proxying: Proxying,
    #[cfg(feature = "tls")]
    pub(crate) security: crate::config::Security,
}

impl Terms {
    /// Returns whether the connection is read while it is congested. One of the two peers has to be, or they wait for
    /// each other: by default the side that connected.
    pub(crate) fn reads_under_backpressure(&self) -> bool {
        let told = self.options.read_under_backpressure;
        told.unwrap_or(self.origin == Origin::Outbound)
    }

    /// Returns the phase in which an accepted connection begins: with TLS, the handshake comes first.
    pub(crate) fn first_phase(&self) -> Phase {
        #[cfg(feature = "tls")]
        if self.security.is_on() {
            return Phase::Connecting;
        }
        Phase::Open
    }

    /// Returns the terms of a connection whose bytes are frames and nothing else.
    #[cfg(test)]
    pub(crate) fn plain(origin: Origin, options: ConnectionOptions) -> Self {
        Self {
            origin,
            options,
            #[cfg(feature = "proxy")]
            proxying: Proxying::default(),
            #[cfg(feature = "tls")]
            security: Default::default(),
        }
    }
}
