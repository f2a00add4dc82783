//! Settings of the PROXY protocol.

use super::{ConnectOptions, ListenOptions};
use crate::proxy::{ProxyHeader, ProxyProtocol, Proxying};

impl ListenOptions {
    /// Lets peers from trusted networks be proxies, which begin each connection with a header of the PROXY protocol
    /// (version 1 or 2). Default: no peer is a proxy.
    ///
    /// The address in the header becomes the address of the peer: for
    /// [`on_accept`](crate::Handler::on_accept), [`peer_addr`](crate::ConnectionRef::peer_addr), the log, and the limits
    /// [`max_connections_per_ip`](crate::Config::max_connections_per_ip) and
    /// [`max_accepts_per_second_per_ip`](crate::Config::max_accepts_per_second_per_ip), from which the proxy itself is
    /// exempt. [`proxy_addr`](crate::ConnectionRef::proxy_addr) returns the address of the proxy. If the proxy does not
    /// know the address of its client, the peer has no address.
    ///
    /// The order is: accept, header, limits and `on_accept`, `on_connect`. While its header is awaited, a peer counts
    /// for [`max_connections`](crate::Config::max_connections). It is refused, logged and counted in
    /// [`refusals`](crate::Stats::refusals), if its header is invalid, longer than 4 KiB, late, or that of a datagram
    /// protocol. A connection that the proxy makes on its own behalf (`LOCAL`), for example to check the server, is
    /// closed without any callback or log line, and counted in [`proxy_checks`](crate::Stats::proxy_checks).
    pub fn proxy_protocol(mut self, proxies: ProxyProtocol) -> Self {
        self.proxying = Proxying::Expects(proxies);
        self
    }
}

impl ConnectOptions {
    /// Begins the connection with a header of the PROXY protocol, before the first frame. It tells the peer for which
    /// client the connection is made. Default: no header. The peer has to expect it.
    ///
    /// The header is written when the connection is established, before [`on_connect`](crate::Handler::on_connect). If
    /// that fails, the connection ends with the cause [`ConnectFailed`](crate::DisconnectCause::ConnectFailed).
    pub fn proxy_header(mut self, header: ProxyHeader) -> Self {
        self.proxying = Proxying::Sends(header);
        self
    }
}
