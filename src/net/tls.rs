//! TLS: new certificates for a listener, the handshakes of new connections, and what they have negotiated.

use std::fmt;
use std::sync::Arc;

use log::debug;
use rustls::pki_types::CertificateDer;
use rustls::{ProtocolVersion, ServerConfig, SupportedCipherSuite};

use super::{ConnectionRef, Deadline, Net};
use crate::connection_id::{ConnectionId, ListenerId, Source};
use crate::reason::DisconnectCause;
use crate::tls::Stage;

impl Net {
    /// Sets the TLS configuration for the peers that a listener accepts from now on, for example with a renewed
    /// certificate. Connections that were accepted keep theirs. A listener without TLS uses TLS from now on.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use throng::rustls::ServerConfig;
    /// use throng::{ListenerId, Net};
    ///
    /// fn renew(net: &mut Net, listener: ListenerId, config: ServerConfig) {
    ///     net.set_listener_tls(listener, Arc::new(config));
    /// }
    /// ```
    ///
    /// Returns `false` if the listener is closed.
    pub fn set_listener_tls(&mut self, id: ListenerId, config: Arc<ServerConfig>) -> bool {
        let Some(listener) = self.listeners.get_mut(id) else {
            debug!("set_listener_tls: no such listener");
            return false;
        };
        // Connections that were accepted share the terms, and keep them.
        Arc::make_mut(&mut listener.terms).security.serve(config);
        true
    }

    /// Prepares a new connection for TLS, if its terms require it. The session of an inbound one is created when its peer
    /// has sent a ClientHello.
    pub(super) fn secure(&mut self, id: ConnectionId) {
        let Some(link) = self.connections.get_mut(id) else {
            return;
        };
        if !link.security().is_on() {
            return;
        }
        // Handshakes are served after connections that are established, in the order in which they became ready.
        link.is_heavy = true;
        if link.awaits_hello() {
            let timeout = link.security().timeout;
            return self.set_deadline(id, timeout, Deadline::Connect(id, timeout));
        }
        match link.security().begin() {
            Some(Ok(tls)) => link.secure(tls, Stage::Connecting, &mut self.common),
            Some(Err(error)) => self.end(id, Some(DisconnectCause::HandshakeFailed(error))),
            None => {}
        }
    }

    pub(crate) fn is_handshaking(&self, id: ConnectionId) -> bool {
        self.connections.get(id).is_some_and(|link| {
            let stage = link.session().map(|session| session.stage());
            stage == Some(Stage::Handshaking) || link.awaits_hello()
        })
    }

    /// Begins the handshake of a connection whose socket is connected. Returns `false` if it has no TLS.
    pub(super) fn begin_handshake(&mut self, id: ConnectionId) -> bool {
        let Some(link) = self.connections.get_mut(id) else {
            return false;
        };
        let timeout = link.security().timeout;
        let Some(session) = link.session_mut() else {
            return false;
        };
        session.begin_handshake();
        self.set_deadline(id, timeout, Deadline::Connect(id, timeout));
        true
    }

    /// Advances a handshake. Returns whether it is done.
    pub(super) fn shake(&mut self, id: ConnectionId) -> Result<bool, DisconnectCause> {
        let Some(link) = self.connections.get_mut(id) else {
            return Ok(false);
        };
        if link.awaits_hello() && !link.open_session(&mut self.common)? {
            return Ok(false);
        }
        let is_done = link.shake(Source::Connection(id).token(), &mut self.common)?;
        self.stats.handshakes += u64::from(is_done);
        Ok(is_done)
    }
}

impl<'n> ConnectionRef<'n> {
    /// Returns what the TLS session has negotiated. `None` without TLS, before
    /// [`on_connect`](crate::Handler::on_connect), and after the connection has ended.
    ///
    /// ```
    /// use throng::{ConnectionId, Net};
    ///
    /// /// Returns whether the client has presented a certificate. The configuration decides which are accepted.
    /// fn is_authenticated(net: &Net, id: ConnectionId) -> bool {
    ///     let tls = net.connection(id).and_then(|connection| connection.tls());
    ///     tls.is_some_and(|tls| !tls.peer_certificates().is_empty())
    /// }
    /// ```
    pub fn tls(&self) -> Option<Tls<'n>> {
        let session = self.link.session()?;
        (session.stage() == Stage::Established).then(|| Tls(session.tls()))
    }
}

/// What a TLS session has negotiated, returned by [`ConnectionRef::tls`].
#[derive(Clone, Copy)]
pub struct Tls<'n>(&'n rustls::Connection);

impl<'n> Tls<'n> {
    /// Returns the protocol chosen by ALPN, such as `b"chat/2"`. `None` if the two sides did not agree on one.
    pub fn alpn_protocol(&self) -> Option<&'n [u8]> {
        self.0.alpn_protocol()
    }

    /// Returns the name by which an inbound peer has addressed this server (SNI). `None` if it sent none, and on outbound
    /// connections.
    pub fn server_name(&self) -> Option<&'n str> {
        match self.0 {
            rustls::Connection::Server(server) => server.server_name(),
            rustls::Connection::Client(_) => None,
        }
    }

    /// Returns the certificates of the peer, its own first. They were checked as configured. Empty if the peer has
    /// presented none.
    pub fn peer_certificates(&self) -> &'n [CertificateDer<'static>] {
        self.0.peer_certificates().unwrap_or_default()
    }

    /// Returns the version of the protocol.
    pub fn version(&self) -> Option<ProtocolVersion> {
        self.0.protocol_version()
    }

    /// Returns the cipher suite.
    pub fn cipher_suite(&self) -> Option<SupportedCipherSuite> {
        self.0.negotiated_cipher_suite()
    }
}

impl fmt::Debug for Tls<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("version", &self.version())
            .field("server_name", &self.server_name())
            .field("alpn_protocol", &self.alpn_protocol())
            .field("peer_certificates", &self.peer_certificates().len())
            .finish()
    }
}
