//! Admission control: limits on the number of connections, in total and per address, and on how fast they come.

use std::collections::HashMap;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::Warning;
use crate::config::Config;
use crate::rate::Bucket;
use crate::stats::RefusalsByReason;
use crate::tick::Tick;
use crate::timers::TimerKey;

/// Why a peer is refused.
#[derive(Debug)]
pub(crate) enum Refusal {
    Full {
        max: usize,
    },
    Recovering {
        below: usize,
    },
    TooManyFrom {
        network: Network,
        max: usize,
    },
    TooFast {
        network: Network,
        max: u64,
    },
    /// [`on_accept`](crate::Handler::on_accept) refused it.
    NotAdmitted,
    /// Its listener was closed after it was accepted.
    ListenerClosed,
    /// It is a proxy, and has not sent a valid PROXY header.
    #[cfg(feature = "proxy")]
    NoHeader(super::NoHeader),
}

impl Refusal {
    pub(super) fn warning(&self) -> Warning {
        match self {
            Self::Full { .. } => Warning::Full,
            Self::Recovering { .. } => Warning::Recovering,
            Self::TooManyFrom { .. } => Warning::TooManyFrom,
            Self::TooFast { .. } => Warning::TooFast,
            Self::NotAdmitted => Warning::NotAdmitted,
            Self::ListenerClosed => Warning::ListenerClosed,
            #[cfg(feature = "proxy")]
            Self::NoHeader(_) => Warning::NoHeader,
        }
    }

    /// Returns where refusals for this reason are counted.
    pub(super) fn counter<'r>(&self, refusals: &'r mut RefusalsByReason) -> &'r mut u64 {
        match self {
            Self::Full { .. } | Self::Recovering { .. } => &mut refusals.full,
            Self::TooManyFrom { .. } => &mut refusals.per_address,
            Self::TooFast { .. } => &mut refusals.rate_per_address,
            Self::NotAdmitted => &mut refusals.on_accept,
            Self::ListenerClosed => &mut refusals.listener_closed,
            #[cfg(feature = "proxy")]
            Self::NoHeader(_) => &mut refusals.proxy,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Admissions {
    /// The limit was reached, and the number has not fallen below `accept_again_below` since.
    recovering: bool,
    /// The number of inbound connections per network; empty if that is not limited.
    by_network: HashMap<Network, usize>,
    rates: Rates,
    /// The timer that resumes paused listeners; set while any listener waits for a file descriptor.
    pub(super) retry: Option<TimerKey>,
}

/// How fast peers of each network come. A bucket that was not used for a second is full, and need not be kept: so there
/// are two maps, and the older one is dropped after a second or more. Memory is limited by the peers of two seconds.
#[derive(Debug, Default)]
struct Rates {
    newer: HashMap<Network, Bucket>,
    older: HashMap<Network, Bucket>,
    /// When the maps were exchanged.
    turned_at: Tick,
}

impl Rates {
    /// Counts a peer. Returns `false` if it comes too fast.
    fn count(&mut self, network: Network, rate: u64, now: Tick) -> bool {
        const KEPT: Duration = Duration::from_secs(1);
        let age = now.since(self.turned_at);
        if age >= KEPT {
            self.older = std::mem::take(&mut self.newer);
            self.turned_at = now;
        }
        if age >= 2 * KEPT {
            // No peer has come in the second second, or the maps would have been exchanged then.
            self.older = HashMap::new();
        }
        let bucket = self.newer.entry(network).or_insert_with(|| {
            let kept = self.older.remove(&network);
            kept.unwrap_or_else(|| Bucket::full(rate, now))
        });
        bucket.refill(rate, now);
        let is_in_time = bucket.tokens() > 0;
        if is_in_time {
            bucket.take(1);
        }
        is_in_time
    }
}

impl Admissions {
    /// Returns an error if there are too many `connections` for one more.
    pub(super) fn check_max(&mut self, config: &Config, connections: usize) -> Result<(), Refusal> {
        let max = config.max_connections;
        if connections >= max {
            self.recovering = true;
            return Err(Refusal::Full { max });
        }
        Ok(())
    }

    /// Returns an error if there are too many `connections` for one more, or not yet few enough again.
    pub(super) fn check_total(
        &mut self,
        config: &Config,
        connections: usize,
    ) -> Result<(), Refusal> {
        self.check_max(config, connections)?;
        let max = config.max_connections;
        if let Some(below) = config.accept_again_below.filter(|below| *below < max) {
            self.recovering &= connections >= below;
            if self.recovering {
                return Err(Refusal::Recovering { below });
            }
        }
        Ok(())
    }

    /// Returns an error if there are too many connections from the address for one more.
    pub(super) fn check_address(
        &self,
        config: &Config,
        peer: Option<SocketAddr>,
    ) -> Result<(), Refusal> {
        if let (Some(max), Some(peer)) = (config.max_connections_per_ip, peer) {
            let network = Network::of(peer);
            let count = self.by_network.get(&network).copied().unwrap_or(0);
            if count >= max {
                return Err(Refusal::TooManyFrom { network, max });
            }
        }
        Ok(())
    }

    /// Counts a peer that the other limits admit. Returns an error if too many have come from its address.
    pub(super) fn check_rate(
        &mut self,
        config: &Config,
        peer: Option<SocketAddr>,
        now: Tick,
    ) -> Result<(), Refusal> {
        if let (Some(max), Some(peer)) = (config.max_accepts_per_second_per_ip, peer) {
            let network = Network::of(peer);
            if !self.rates.count(network, max, now) {
                return Err(Refusal::TooFast { network, max });
            }
        }
        Ok(())
    }

    pub(super) fn joined(&mut self, config: &Config, peer: Option<SocketAddr>) {
        if let (Some(_), Some(peer)) = (config.max_connections_per_ip, peer) {
            *self.by_network.entry(Network::of(peer)).or_default() += 1;
        }
    }

    pub(super) fn left(&mut self, peer: Option<SocketAddr>) {
        let is_kept = mutated!("place of an address not given back");
        let Some(peer) = peer.filter(|_| !is_kept && !self.by_network.is_empty()) else {
            return;
        };
        let network = Network::of(peer);
        if let Some(count) = self.by_network.get_mut(&network) {
            *count -= 1;
            if *count == 0 {
                self.by_network.remove(&network);
            }
        }
    }
}

/// The unit that counts as one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Network {
    V4(Ipv4Addr),
    /// A /64, because its customer has all of it (RFC 6177).
    V6(Ipv6Addr),
    /// An individual link-local address with its scope: all hosts of a link share the same /64, and so do all links.
    LinkLocal {
        addr: Ipv6Addr,
        scope_id: u32,
    },
}

impl Network {
    fn of(peer: SocketAddr) -> Self {
        match peer {
            SocketAddr::V4(peer) => Self::V4(*peer.ip()),
            SocketAddr::V6(peer) if peer.ip().is_unicast_link_local() => Self::LinkLocal {
                addr: *peer.ip(),
                scope_id: peer.scope_id(),
            },
            SocketAddr::V6(peer) => Self::V6(Ipv6Addr::from_bits(peer.ip().to_bits() >> 64 << 64)),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(addr) => addr.fmt(f),
            Self::V6(prefix) => write!(f, "{prefix}/64"),
            Self::LinkLocal { addr, scope_id } => write!(f, "{addr}%{scope_id}"),
        }
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
            Self::TooFast { network, max } => {
                write!(
                    f,
                    "more than {max} connections per second come from {network}"
                )
            }
            Self::NotAdmitted => f.write_str("not admitted"),
            Self::ListenerClosed => f.write_str("the listener is closed"),
            #[cfg(feature = "proxy")]
            Self::NoHeader(why) => why.fmt(f),
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
            let admitted = admissions.check_address(&config, peer).is_ok();
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

    fn address(n: u32) -> Option<SocketAddr> {
        Some((Ipv4Addr::from_bits(n), 1).into())
    }

    #[test]
    fn each_address_has_its_own_rate() {
        let config = Config::default().max_accepts_per_second_per_ip(2);
        let mut admissions = Admissions::default();
        // The rate of both, over half a minute in which one tries ten times as often.
        let mut admitted = [0, 0];
        for millis in (0..30_000).step_by(50) {
            let now = Tick::from_millis(millis);
            for n in [0, 1] {
                if n == 0 || millis % 500 == 0 {
                    let checked = admissions.check_rate(&config, address(n), now);
                    admitted[n as usize] += usize::from(checked.is_ok());
                }
            }
        }
        assert_eq!(admitted, [61, 60]);
    }

    #[test]
    fn addresses_that_come_no_more_are_forgotten() {
        let config = Config::default().max_accepts_per_second_per_ip(1);
        let mut admissions = Admissions::default();
        for second in 0..20 {
            let now = Tick::from_millis(second * 1000);
            for n in 0..100 {
                let peer = address(second as u32 * 100 + n);
                admissions
                    .check_rate(&config, peer, now)
                    .expect("the first");
                admissions
                    .check_rate(&config, peer, now)
                    .expect_err("the second");
            }
            let Rates { newer, older, .. } = &admissions.rates;
            assert!(newer.len() + older.len() <= 200);
        }
    }

    #[test]
    fn link_local_addresses_count_each_for_itself_on_each_link() {
        let config = Config::default().max_connections_per_ip(1);
        let mut admissions = Admissions::default();
        let mut comes = |addr: &str| {
            let peer = Some(addr.parse().expect("an address"));
            let admitted = admissions.check_address(&config, peer).is_ok();
            if admitted {
                admissions.joined(&config, peer);
            }
            admitted
        };
        assert!(comes("[fe80::1%2]:1"));
        assert!(comes("[fe80::2%2]:1"), "another host");
        assert!(comes("[fe80::1%3]:1"), "another link");
        assert!(!comes("[fe80::1%2]:2"));
        assert!(comes("[febf::ffff:1%2]:1"), "the last of fe80::/10");
        assert!(comes("[febf::ffff:2%2]:1"));
    }

    #[test]
    fn refusal_names_a_network_or_an_address_with_its_scope() {
        let refused = |addr: &str| {
            let network = Network::of(addr.parse().expect("an address"));
            Refusal::TooManyFrom { network, max: 1 }.to_string()
        };
        for (addr, named) in [
            ("192.0.2.1:9", "from 192.0.2.1 "),
            ("[2001:db8::1]:9", "from 2001:db8::/64 "),
            ("[fe80::1%7]:9", "from fe80::1%7 "),
        ] {
            assert!(refused(addr).contains(named), "{}", refused(addr));
        }
    }

    #[test]
    fn nothing_is_kept_of_those_who_have_left() {
        let config = Config::default().max_connections_per_ip(2);
        let mut admissions = Admissions::default();
        let peer = Some(SocketAddr::from(([192, 0, 2, 1], 1)));
        admissions.joined(&config, peer);
        admissions.joined(&config, peer);
        admissions.left(peer);
        assert!(admissions.check_address(&config, peer).is_ok());
        admissions.left(peer);
        assert!(admissions.by_network.is_empty());
    }

    #[test]
    fn none_from_an_address_is_none() {
        let config = Config::default().max_connections_per_ip(0);
        let peer = Some(SocketAddr::from(([192, 0, 2, 1], 1)));
        assert!(Admissions::default().check_address(&config, peer).is_err());
    }
}
