//! Which peers are proxies.

use std::net::SocketAddr;
use std::time::Duration;

use super::IpNetwork;
use crate::error::OptionsError;

/// How a listener identifies proxies, for
/// [`ListenOptions::proxy_protocol`](crate::ListenOptions::proxy_protocol).
///
/// ```
/// use throng::{Config, EventLoop, IpNetwork, ListenOptions, ProxyProtocol};
///
/// let proxies: IpNetwork = "10.1.0.0/16".parse()?;
/// let behind = ListenOptions::default().proxy_protocol(ProxyProtocol::trusting([proxies]));
/// let mut event_loop: EventLoop = EventLoop::new(Config::hardened())?;
/// event_loop.net().listen_with("127.0.0.1:0", behind)?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ProxyProtocol {
    trusted: Vec<IpNetwork>,
    timeout: Duration,
}

impl ProxyProtocol {
    /// Peers with an address in one of these networks are proxies, and have to send a header. From other peers a header
    /// is never parsed: they are clients that connect directly. All peers of a Unix domain socket are proxies; the
    /// permissions of its file decide which processes can connect.
    ///
    /// Trust only networks in which only proxies can connect to the listener: a header can claim any address.
    pub fn trusting<N: Into<IpNetwork>>(networks: impl IntoIterator<Item = N>) -> Self {
        Self {
            trusted: networks.into_iter().map(N::into).collect(),
            timeout: Duration::from_secs(5),
        }
    }

    /// Sets how long a proxy may take to send its header. After that it is refused. Default: 5 s, so that one or two
    /// retransmissions are possible. [`Duration::MAX`] means no limit; zero is an error.
    pub fn header_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    pub(crate) fn trusts(&self, peer: Option<SocketAddr>) -> bool {
        peer.is_none_or(|peer| self.trusted.iter().any(|it| it.contains(peer.ip())))
    }

    /// Returns an error if a setting is out of range.
    pub(crate) fn check(&self) -> Result<(), OptionsError> {
        match self.timeout.is_zero() {
            true => Err(OptionsError::ZeroTimeout {
                setting: "header_timeout",
            }),
            false => Ok(()),
        }
    }
}
