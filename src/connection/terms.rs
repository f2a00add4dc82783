//! What connections of one origin have in common.

use crate::config::ConnectionOptions;
use crate::connection_id::ListenerId;

/// Where a connection comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Origin {
    /// A peer connected to this listener, which may be closed by now.
    Listener(ListenerId),
    /// We connected.
    Outbound,
    /// It was [adopted](crate::Net::adopt).
    Adopted,
}

/// The origin of connections, and their options: one copy for all that come through a listener.
#[derive(Debug)]
pub(crate) struct Terms {
    pub(crate) origin: Origin,
    pub(crate) options: ConnectionOptions,
}

impl Terms {
    /// Whether a connection is read while its peer does not read. Of two peers one has to be, or they wait for each other:
    /// unless told otherwise that is the one that has connected.
    pub(crate) fn reads_under_backpressure(&self) -> bool {
        let told = self.options.read_under_backpressure;
        told.unwrap_or(self.origin == Origin::Outbound)
    }
}
