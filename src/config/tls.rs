//! The settings of TLS.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};

use super::{Config, ConnectOptions, ListenOptions};

/// Amounts to some milliseconds per turn.
pub(super) const HANDSHAKES_PER_TURN: usize = 16;

/// How long a handshake may take by default.
const TIMEOUT: Duration = Duration::from_secs(10);

/// One side of TLS, and the time for its handshake.
#[derive(Clone)]
pub(crate) struct Security {
    role: Option<Role>,
    /// How long a handshake may take.
    pub(crate) timeout: Duration,
}

#[derive(Clone)]
enum Role {
    Server(Arc<ServerConfig>),
    Client(Arc<ClientConfig>, ServerName<'static>),
}

impl Default for Security {
    /// No TLS.
    fn default() -> Self {
        Self {
            role: None,
            timeout: TIMEOUT,
        }
    }
}

impl Security {
    pub(crate) fn serve(&mut self, config: Arc<ServerConfig>) {
        self.role = Some(Role::Server(config));
    }

    pub(crate) fn connect(&mut self, config: Arc<ClientConfig>, name: ServerName<'static>) {
        self.role = Some(Role::Client(config, name));
    }

    pub(crate) fn is_on(&self) -> bool {
        self.role.is_some()
    }

    /// Begins a session. `None`: no TLS.
    pub(crate) fn begin(&self) -> Option<Result<rustls::Connection, rustls::Error>> {
        Some(match self.role.clone()? {
            Role::Server(config) => {
                rustls::ServerConnection::new(config).map(rustls::Connection::from)
            }
            Role::Client(config, name) => {
                rustls::ClientConnection::new(config, name).map(rustls::Connection::from)
            }
        })
    }
}

impl fmt::Debug for Security {
    /// Without the configuration, which may contain keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = match &self.role {
            None => "off",
            Some(Role::Server(_)) => "server",
            Some(Role::Client(..)) => "client",
        };
        f.debug_struct("Security")
            .field("role", &role)
            .field("timeout", &self.timeout)
            .finish()
    }
}

impl ListenOptions {
    /// Secures the connections of the listener with TLS. Default: no TLS.
    ///
    /// Certificates (also several, chosen by the name that the client asks for), client certificates, protocols (ALPN),
    /// versions and session tickets are settings of the [`ServerConfig`].
    /// [`set_listener_tls`](crate::Net::set_listener_tls) replaces it.
    ///
    /// [`on_accept`](crate::Handler::on_accept) is called before the handshake, [`on_connect`](crate::Handler::on_connect)
    /// after it. A peer counts against all limits from the moment it is admitted.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use throng::ListenOptions;
    /// use throng::rustls::ServerConfig;
    /// use throng::rustls::pki_types::{CertificateDer, PrivateKeyDer};
    ///
    /// fn secured(
    ///     chain: Vec<CertificateDer<'static>>,
    ///     key: PrivateKeyDer<'static>,
    /// ) -> Result<ListenOptions, throng::rustls::Error> {
    ///     let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?;
    ///     Ok(ListenOptions::default().tls(Arc::new(config)))
    /// }
    /// ```
    pub fn tls(mut self, config: Arc<ServerConfig>) -> Self {
        self.security.serve(config);
        self
    }

    /// Sets how long a TLS handshake may take, from the moment the peer is admitted. Then the connection ends with the
    /// cause [`HandshakeTimedOut`](crate::DisconnectCause::HandshakeTimedOut). Default: 10 s. [`Duration::MAX`] means no
    /// limit; with zero no handshake succeeds.
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.security.timeout = timeout;
        self
    }
}

impl ConnectOptions {
    /// Secures the connection with TLS, as the client. `name` is the name of the server, which its certificate has to
    /// contain. Default: no TLS. [`on_connect`](crate::Handler::on_connect) is called after the handshake.
    ///
    /// ```
    /// use std::net::SocketAddr;
    /// use std::sync::Arc;
    /// use throng::rustls::ClientConfig;
    /// use throng::{OpenError, ConnectOptions, ConnectionId, Net};
    ///
    /// fn connect(
    ///     net: &mut Net,
    ///     addr: SocketAddr,
    ///     config: &Arc<ClientConfig>,
    /// ) -> Result<ConnectionId, OpenError> {
    ///     let name = "game.example.org".try_into().expect("a valid name");
    ///     net.connect_with(addr, ConnectOptions::default().tls(Arc::clone(config), name))
    /// }
    /// ```
    pub fn tls(mut self, config: Arc<ClientConfig>, name: ServerName<'static>) -> Self {
        self.security.connect(config, name);
        self
    }

    /// Secures an [adopted](crate::Net::adopt) stream with TLS, as the server: for a stream that other code has
    /// accepted, or that was [released](crate::Net::release) to continue with TLS. Default: no TLS.
    pub fn tls_server(mut self, config: Arc<ServerConfig>) -> Self {
        self.security.serve(config);
        self
    }

    /// Sets how long the TLS handshake may take, from the moment the socket is connected. Then the connection ends with the
    /// cause [`HandshakeTimedOut`](crate::DisconnectCause::HandshakeTimedOut). Default: 10 s. [`Duration::MAX`] means no
    /// limit.
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.security.timeout = timeout;
        self
    }
}

impl Config {
    /// Sets the most TLS handshakes that are worked on before the established connections are served; at least 1. Default:
    /// 16. A full handshake takes about 0.2 ms; the rest continue in the next turn, which follows without blocking.
    pub fn handshakes_per_turn(mut self, handshakes: usize) -> Self {
        self.handshakes_per_turn = handshakes.max(1);
        self
    }
}
