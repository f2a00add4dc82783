//! The address of a peer, in less memory than `Option<SocketAddr>`: each connection stores one.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// The address of a peer, if it has one.
#[derive(Debug, Clone, Copy)]
pub(crate) enum PeerAddr {
    None,
    V4 {
        port: u16,
        ip: [u8; 4],
    },
    V6 {
        port: u16,
        ip: [u8; 16],
        flowinfo: u32,
        scope_id: u32,
    },
}

impl From<Option<SocketAddr>> for PeerAddr {
    fn from(addr: Option<SocketAddr>) -> Self {
        match addr {
            None => Self::None,
            Some(SocketAddr::V4(addr)) => Self::V4 {
                port: addr.port(),
                ip: addr.ip().octets(),
            },
            Some(SocketAddr::V6(addr)) => Self::V6 {
                port: addr.port(),
                ip: addr.ip().octets(),
                flowinfo: addr.flowinfo(),
                scope_id: addr.scope_id(),
            },
        }
    }
}

impl From<PeerAddr> for Option<SocketAddr> {
    fn from(addr: PeerAddr) -> Self {
        match addr {
            PeerAddr::None => None,
            PeerAddr::V4 { port, ip } => Some(SocketAddrV4::new(Ipv4Addr::from(ip), port).into()),
            PeerAddr::V6 {
                port,
                ip,
                flowinfo,
                scope_id,
            } => Some(SocketAddrV6::new(Ipv6Addr::from(ip), port, flowinfo, scope_id).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_all_kinds_come_back_whole_and_take_28_bytes() {
        let scoped = SocketAddrV6::new(Ipv6Addr::LOCALHOST, 7, 3, 9);
        for addr in [
            None,
            Some(SocketAddr::from(([192, 0, 2, 1], 80))),
            Some(SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 65535))),
            Some(scoped.into()),
        ] {
            assert_eq!(Option::<SocketAddr>::from(PeerAddr::from(addr)), addr);
        }
        assert_eq!(size_of::<PeerAddr>(), 28);
    }
}
