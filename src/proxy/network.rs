//! Networks of IP addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::{error, fmt, io};

/// A network of IP addresses, such as `192.0.2.0/24` or `2001:db8::/32`. Also a single address, such as `192.0.2.1`.
///
/// ```
/// use std::net::{IpAddr, Ipv4Addr};
/// use throng::IpNetwork;
///
/// let network: IpNetwork = "192.0.2.0/24".parse()?;
/// assert!(network.contains(IpAddr::from([192, 0, 2, 77])));
/// assert_eq!(IpNetwork::from(Ipv4Addr::LOCALHOST).to_string(), "127.0.0.1/32");
/// # Ok::<(), throng::ParseNetworkError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IpNetwork {
    addr: IpAddr,
    prefix_len: u8,
}

impl IpNetwork {
    /// Returns whether an address is in the network. An IPv4 address that is mapped to IPv6 counts as the IPv4 address.
    pub fn contains(&self, addr: IpAddr) -> bool {
        let addr = addr.to_canonical();
        let differing = bits(self.addr) ^ bits(addr);
        self.addr.is_ipv4() == addr.is_ipv4() && differing & !self.host_mask() == 0
    }

    /// Returns the bits after the prefix.
    fn host_mask(&self) -> u128 {
        let all = match self.addr {
            IpAddr::V4(_) => u128::from(u32::MAX),
            IpAddr::V6(_) => u128::MAX,
        };
        all.checked_shr(self.prefix_len.into()).unwrap_or(0)
    }
}

fn bits(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(addr) => addr.to_bits().into(),
        IpAddr::V6(addr) => addr.to_bits(),
    }
}

/// The network of this one address.
impl From<IpAddr> for IpNetwork {
    fn from(addr: IpAddr) -> Self {
        let addr = addr.to_canonical();
        let prefix_len = if addr.is_ipv4() { 32 } else { 128 };
        Self { addr, prefix_len }
    }
}

/// The network of this one address.
impl From<Ipv4Addr> for IpNetwork {
    fn from(addr: Ipv4Addr) -> Self {
        IpAddr::from(addr).into()
    }
}

/// The network of this one address.
impl From<Ipv6Addr> for IpNetwork {
    fn from(addr: Ipv6Addr) -> Self {
        IpAddr::from(addr).into()
    }
}

/// Parses an address, or an address and the length of the prefix in bits. The bits after the prefix have to be zero.
impl FromStr for IpNetwork {
    type Err = ParseNetworkError;

    fn from_str(text: &str) -> Result<Self, ParseNetworkError> {
        let parsed = match text.split_once('/') {
            None => text.parse::<IpAddr>().ok().map(Self::from),
            Some((addr, prefix_len)) => addr.parse().ok().and_then(|addr: IpAddr| {
                let prefix_len = parse_prefix_len(prefix_len)?;
                Some(Self { addr, prefix_len }).filter(Self::is_valid)
            }),
        };
        parsed.ok_or(ParseNetworkError)
    }
}

/// Parses digits, without a sign.
fn parse_prefix_len(text: &str) -> Option<u8> {
    text.parse().ok().filter(|_| !text.starts_with('+'))
}

impl IpNetwork {
    fn is_valid(&self) -> bool {
        let longest = if self.addr.is_ipv4() { 32 } else { 128 };
        let is_canonical = self.addr == self.addr.to_canonical();
        let host = bits(self.addr) & self.host_mask();
        self.prefix_len <= longest && is_canonical && host == 0
    }
}

impl fmt::Display for IpNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.prefix_len)
    }
}

/// The error for a string that is not a network.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParseNetworkError;

impl fmt::Display for ParseNetworkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected a network such as 192.0.2.0/24 or 2001:db8::/32, or an address")
    }
}

impl error::Error for ParseNetworkError {}

impl From<ParseNetworkError> for io::Error {
    fn from(error: ParseNetworkError) -> Self {
        Self::new(io::ErrorKind::InvalidInput, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn network(text: &str) -> IpNetwork {
        text.parse().expect("a network")
    }

    fn addr(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn network_contains_what_begins_with_its_prefix() {
        for (text, inside, outside) in [
            ("192.0.2.0/24", "192.0.2.255", "192.0.3.0"),
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("10.128.0.0/9", "10.128.0.0", "10.127.255.255"),
            ("192.0.2.1", "192.0.2.1", "192.0.2.0"),
            ("192.0.2.1/32", "::ffff:192.0.2.1", "::192.0.2.1"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("::/0", "2001:db8::1", "192.0.2.1"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
            ("2001:db8::8/125", "2001:db8::f", "2001:db8::10"),
            ("::1", "::1", "::2"),
        ] {
            assert!(network(text).contains(addr(inside)), "{text} {inside}");
            assert!(!network(text).contains(addr(outside)), "{text} {outside}");
        }
    }

    #[test]
    fn network_is_displayed_as_it_is_parsed() {
        for text in ["192.0.2.0/24", "0.0.0.0/0", "2001:db8::/32", "::1/128"] {
            assert_eq!(network(text).to_string(), text);
        }
        assert_eq!(network("::ffff:192.0.2.1").to_string(), "192.0.2.1/32");
    }

    #[test]
    fn what_is_not_exactly_a_network_is_refused() {
        for text in [
            "",
            "/",
            "192.0.2.0/",
            "192.0.2.0/33",
            "192.0.2.0/+24",
            "192.0.2.0/-1",
            "192.0.2.0/255.255.255.0",
            "192.0.2.0/24/",
            "192.0.2.1/24",
            "192.0.2/24",
            "2001:db8::/129",
            "2001:db8::1/64",
            "::ffff:192.0.2.0/120",
            "[::1]",
            "fe80::1%2",
            "localhost",
        ] {
            assert!(text.parse::<IpNetwork>().is_err(), "{text}");
        }
    }
}
