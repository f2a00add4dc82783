//! Who may come in: how many there may be at all, and from one address.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::Warning;
use crate::config::Config;

/// Why a peer is turned away.
#[derive(Debug)]
pub(crate) enum Refusal {
    Full {
        max: usize,
    },
    Recovering {
        below: usize,
    },
    TooManyFrom {
        network: IpAddr,
        max: usize,
    },
    /// [`on_accept`](crate::Handler::on_accept) said so.
    NotAdmitted,
    /// It was accepted, but its listener has been closed since.
    ListenerClosed,
}

impl Refusal {
    pub(super) fn warning(&self) -> Warning {
        match self {
            Self::Full { .. } => Warning::Full,
            Self::Recovering { .. } => Warning::Recovering,
            Self::TooManyFrom { .. } => Warning::TooManyFrom,
            Self::NotAdmitted => Warning::NotAdmitted,
            Self::ListenerClosed => Warning::ListenerClosed,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Admissions {
    /// There were as many as there may be, and have not been few enough since.
    recovering: bool,
    /// Inbound connections by the network they come from; empty where that is not limited.
    by_network: HashMap<IpAddr, usize>,
}

impl Admissions {
    /// Whether a peer has to be turned away while there are `connections`.
    pub(super) fn check(
        &mut self,
        config: &Config,
        connections: usize,
        peer: Option<SocketAddr>,
    ) -> Result<(), Refusal> {
        let max = config.max_connections;
        if connections >= max {
            self.recovering = true;
            return Err(Refusal::Full { max });
        }
        if let Some(below) = config.accept_again_below.filter(|below| *below < max) {
            self.recovering &= connections >= below;
            if self.recovering {
                return Err(Refusal::Recovering { below });
            }
        }
        if let (Some(max), Some(peer)) = (config.max_connections_per_ip, peer) {
            let network = network(peer);
            let count = self.by_network.get(&network).copied().unwrap_or(0);
            if count >= max {
                return Err(Refusal::TooManyFrom { network, max });
            }
        }
        Ok(())
    }

    pub(super) fn joined(&mut self, config: &Config, peer: Option<SocketAddr>) {
        if let (Some(_), Some(peer)) = (config.max_connections_per_ip, peer) {
            *self.by_network.entry(network(peer)).or_default() += 1;
        }
    }

    pub(super) fn left(&mut self, peer: Option<SocketAddr>) {
        let Some(peer) = peer.filter(|_| !self.by_network.is_empty()) else {
            return;
        };
        let network = network(peer);
        if let Some(count) = self.by_network.get_mut(&network) {
            *count -= 1;
            if *count == 0 {
                self.by_network.remove(&network);
            }
        }
    }
}

/// What counts as one address: with IPv6 whoever has one has a whole /64, by RFC 6177.
fn network(peer: SocketAddr) -> IpAddr {
    match peer.ip() {
        IpAddr::V4(addr) => addr.into(),
        IpAddr::V6(addr) => Ipv6Addr::from_bits(addr.to_bits() >> 64 << 64).into(),
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { max } => write!(f, "there are {max} connections already"),
            Self::Recovering { below } => {
                write!(f, "peers are accepted again below {below} connections")
            }
            Self::TooManyFrom { network, max } => {
                write!(f, "there are {max} connections from {network} already")
            }
            Self::NotAdmitted => f.write_str("not admitted"),
            Self::ListenerClosed => f.write_str("the listener is closed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_ipv6_a_whole_network_is_one_address() {
        let config = Config::default().max_connections_per_ip(1);
        let mut admissions = Admissions::default();
        let mut comes = |addr: &str| {
            let peer = Some(SocketAddr::new(addr.parse().expect("an address"), 1));
            let admitted = admissions.check(&config, 0, peer).is_ok();
            if admitted {
                admissions.joined(&config, peer);
            }
            admitted
        };
        assert!(comes("2001:db8:0:1::1"));
        assert!(!comes("2001:db8:0:1:ffff::2"));
        assert!(comes("2001:db8:0:2::1"));
        assert!(comes("192.0.2.1"));
        assert!(comes("192.0.2.2"));
        assert!(!comes("192.0.2.1"));
    }

    #[test]
    fn nothing_is_kept_of_those_who_have_left() {
        let config = Config::default().max_connections_per_ip(2);
        let mut admissions = Admissions::default();
        let peer = Some(SocketAddr::from(([192, 0, 2, 1], 1)));
        admissions.joined(&config, peer);
        admissions.joined(&config, peer);
        admissions.left(peer);
        assert!(admissions.check(&config, 0, peer).is_ok());
        admissions.left(peer);
        assert!(admissions.by_network.is_empty());
    }

    #[test]
    fn none_from_an_address_is_none() {
        let config = Config::default().max_connections_per_ip(0);
        let peer = Some(SocketAddr::from(([192, 0, 2, 1], 1)));
        assert!(Admissions::default().check(&config, 0, peer).is_err());
    }
}
