//! Headers to be sent.

use std::net::{IpAddr, SocketAddr};

use proxy_header::{ProxiedAddress, ProxyHeader as Header};

/// A PROXY header with which an outbound connection begins, for
/// [`ConnectOptions::proxy_header`](crate::ConnectOptions::proxy_header). With it, a program that is a proxy itself
/// passes on the address of its client.
///
/// ```
/// use std::net::SocketAddr;
/// use throng::{OpenError, ConnectOptions, ConnectionId, Net, ProxyHeader};
///
/// /// Connects to a server behind this program, on behalf of a client.
/// fn connect_for(net: &mut Net, client: ConnectionId, server: SocketAddr) -> Option<Result<ConnectionId, OpenError>> {
///     let client = net.connection(client)?;
///     let header = ProxyHeader::v2(client.peer_addr()?, client.local_addr()?);
///     Some(net.connect_with(server, ConnectOptions::default().proxy_header(header)))
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyHeader {
    bytes: Vec<u8>,
}

impl ProxyHeader {
    /// Creates a header of version 1, a line of text. `source` is the address of the client, `destination` the address
    /// that it has connected to. If only one of them is an IPv4 address, it is mapped to IPv6.
    pub fn v1(source: SocketAddr, destination: SocketAddr) -> Self {
        let header = Header::with_address(stream(source, destination));
        let mut bytes = Vec::new();
        let encoded = header.encode_v1(&mut bytes);
        debug_assert_eq!(encoded, Ok(()), "the addresses are of one family");
        Self { bytes }
    }

    /// Creates a header of version 2, which is binary. Otherwise like [`v1`](Self::v1).
    pub fn v2(source: SocketAddr, destination: SocketAddr) -> Self {
        Self::encoded_v2(&Header::with_address(stream(source, destination)))
    }

    /// Creates a header of version 2 which says that no client is involved, for example to check whether the server is
    /// reachable. A throng server closes the connection without a callback.
    pub fn local() -> Self {
        Self::encoded_v2(&Header::with_local())
    }

    fn encoded_v2(header: &Header<'_>) -> Self {
        let mut bytes = Vec::new();
        let encoded = header.encode_v2(&mut bytes);
        debug_assert_eq!(encoded, Ok(()), "the addresses are of one family");
        Self { bytes }
    }

    /// Returns the bytes of the header.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

fn stream(source: SocketAddr, destination: SocketAddr) -> ProxiedAddress {
    let canonical = |addr: SocketAddr| SocketAddr::new(addr.ip().to_canonical(), addr.port());
    let mapped = |addr: SocketAddr| match addr.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), addr.port()),
        IpAddr::V6(_) => addr,
    };
    let (source, destination) = (canonical(source), canonical(destination));
    match source.is_ipv4() == destination.is_ipv4() {
        true => ProxiedAddress::stream(source, destination),
        false => ProxiedAddress::stream(mapped(source), mapped(destination)),
    }
}
