//! The PROXY protocol: headers in which a proxy, such as HAProxy, passes on the addresses of its client. Pure.

mod header;
mod network;
mod parse;
mod protocol;

use std::net::SocketAddr;

use crate::error::OptionsError;

pub use header::ProxyHeader;
pub use network::{IpNetwork, ParseNetworkError};
pub(crate) use parse::{Invalid, Progress, Sender, parse};
pub use protocol::ProxyProtocol;

/// What the PROXY protocol means for connections of the same origin.
#[derive(Debug, Clone, Default)]
pub(crate) enum Proxying {
    #[default]
    None,
    /// Peers of a listener that are proxies begin their connections with a header.
    Expects(ProxyProtocol),
    /// The connection begins with this header.
    Sends(ProxyHeader),
}

impl Proxying {
    /// Returns an error if a setting is out of range.
    pub(crate) fn check(&self) -> Result<(), OptionsError> {
        match self {
            Self::Expects(protocol) => protocol.check(),
            Self::None | Self::Sends(_) => Ok(()),
        }
    }

    /// Returns the protocol that a peer has to follow, if it is a proxy.
    pub(crate) fn expected_from(&self, peer: Option<SocketAddr>) -> Option<&ProxyProtocol> {
        match self {
            Self::Expects(protocol) => Some(protocol).filter(|protocol| protocol.trusts(peer)),
            Self::None | Self::Sends(_) => None,
        }
    }
}
