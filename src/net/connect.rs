//! Outbound connections: connection attempts and their outcome.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use log::info;
use mio::Interest;

use super::{Deadline, Net, Warning};
use crate::config::ConnectOptions;
use crate::connection::{Connection, Origin, Phase, Terms};
use crate::connection_id::{ConnectionId, Source};
use crate::error::{OpenError, Rejected};
use crate::link::Link;
use crate::reason::DisconnectCause;
use crate::socket::{READ_INTEREST, Shown, Stream};

impl Net {
    /// Connects to a peer, with the default [`ConnectOptions`].
    ///
    /// Does not block. [`on_connect`](crate::Handler::on_connect) is called when the connection is established. If the
    /// attempt fails, only [`on_disconnect`](crate::Handler::on_disconnect) is called. A socket that the system has
    /// connected to itself counts as refused; this can happen for a port of this host on which nothing listens.
    ///
    /// Takes a [`SocketAddr`], not a name: resolving a name blocks, often for seconds, and would delay all other
    /// connections. Resolve it before the loop runs, or on another thread. Try all addresses of a name, because some
    /// may not answer.
    ///
    /// ```no_run
    /// use std::net::{SocketAddr, ToSocketAddrs};
    /// use throng::{Config, ConnectionId, DisconnectReason, EventLoop, Frame, Handler, Net, Stage};
    ///
    /// struct Client {
    ///     untried: std::vec::IntoIter<SocketAddr>,
    /// }
    ///
    /// impl Client {
    ///     /// Starts to connect to the next address. Returns `false` if none is left.
    ///     fn connect_next(&mut self, net: &mut Net) -> bool {
    ///         self.untried.any(|addr| net.connect(addr).is_ok())
    ///     }
    /// }
    ///
    /// impl Handler for Client {
    ///     fn on_data(&mut self, _: &mut Net, _: ConnectionId, frame: Frame<'_>) {
    ///         println!("{frame:?}");
    ///     }
    ///
    ///     fn on_disconnect(&mut self, net: &mut Net, _: ConnectionId, reason: DisconnectReason) {
    ///         if reason.stage != Stage::Connecting || !self.connect_next(net) {
    ///             eprintln!("{reason}");
    ///             net.stop();
    ///         }
    ///     }
    /// }
    ///
    /// let untried = "game.example.org:5000".to_socket_addrs()?;
    /// let mut client = Client { untried };
    /// let mut event_loop = EventLoop::new(Config::default())?;
    /// if client.connect_next(event_loop.net()) {
    ///     event_loop.run(&mut client)?;
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the attempt cannot be started: no file descriptor left, too many connections, no route.
    pub fn connect(&mut self, addr: SocketAddr) -> Result<ConnectionId, OpenError> {
        self.connect_with(addr, ConnectOptions::default())
    }

    /// Connects to a peer with the given options; see [`connect`](Self::connect).
    ///
    /// ```
    /// use std::net::SocketAddr;
    /// use std::time::Duration;
    /// use throng::{OpenError, ConnectOptions, ConnectionId, Framing, Net};
    ///
    /// fn connect_to_relay(net: &mut Net, addr: SocketAddr) -> Result<ConnectionId, OpenError> {
    ///     let options = ConnectOptions::default()
    ///         .framing(Framing::varint())
    ///         .max_frame_len(64 * 1024)
    ///         .timeout(Duration::from_secs(3));
    ///     net.connect_with(addr, options)
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`connect`](Self::connect), and if the options contradict each other.
    pub fn connect_with(
        &mut self,
        addr: SocketAddr,
        options: ConnectOptions,
    ) -> Result<ConnectionId, OpenError> {
        let terms = self.terms_of_one(Origin::Outbound, &options)?;
        let started = self
            .common
            .registry
            .connect(addr, options.bind, &terms.options)
            .and_then(|stream| Ok(self.start(stream, Some(addr), terms, options.timeout)?));
        match started {
            Ok(id) => {
                info!("{id} connecting to {addr}");
                Ok(id)
            }
            Err(error) => {
                self.warn(
                    Warning::ConnectFailed,
                    format_args!("connecting to {addr} failed: {error}"),
                );
                Err(OpenError::Connect { addr, error })
            }
        }
    }

    /// Returns the terms of an outbound or adopted connection, if one more connection is allowed.
    pub(super) fn terms_of_one(
        &self,
        origin: Origin,
        options: &ConnectOptions,
    ) -> Result<Arc<Terms>, OpenError> {
        let connection = options
            .connection(&self.config)
            .map_err(OpenError::Options)?;
        if self.is_shutting_down() {
            return Err(OpenError::ShuttingDown);
        }
        if self.occupied() >= self.config.max_connections {
            return Err(OpenError::TooManyConnections {
                max_connections: self.config.max_connections,
            });
        }
        Ok(Arc::new(Terms {
            origin,
            options: connection,
            #[cfg(feature = "proxy")]
            proxying: options.proxying.clone(),
            #[cfg(feature = "tls")]
            security: options.security.clone(),
        }))
    }

    /// Gives an outbound or adopted stream a slot. It becomes established when the selector reports it.
    pub(super) fn start(
        &mut self,
        stream: Stream,
        peer: Option<SocketAddr>,
        terms: Arc<Terms>,
        timeout: Duration,
    ) -> Result<ConnectionId, Rejected<Stream, io::Error>> {
        if let Err(error) = stream.set_up(&terms.options, false) {
            return Err(Rejected::new(error, stream));
        }
        let id = self.add(stream, peer, Phase::Connecting, terms)?;
        self.set_deadline(id, timeout, Deadline::Connect(id, timeout));
        Ok(id)
    }

    /// Registers a stream and gives it a slot.
    pub(super) fn add(
        &mut self,
        mut stream: Stream,
        peer: Option<SocketAddr>,
        phase: Phase,
        terms: Arc<Terms>,
    ) -> Result<ConnectionId, Rejected<Stream, io::Error>> {
        let interest = if phase == Phase::Open || matches!(terms.origin, Origin::Listener(_)) {
            READ_INTEREST
        } else {
            Interest::WRITABLE
        };
        let token = Source::Connection(self.connections.next_id()).token();
        if let Err(error) = stream.register(&self.common.registry, token, interest) {
            return Err(Rejected::new(error, stream));
        }
        let connection = Connection::new(peer, phase, interest, terms, self.common.now);
        if connection.is_open() {
            self.open += 1;
        } else {
            self.stats.connections.connecting += 1;
        }
        let id = self.connections.insert(Link::new(stream, connection));
        #[cfg(feature = "tls")]
        self.secure(id);
        Ok(id)
    }

    /// Marks a connection as established after its attempt has succeeded.
    pub(crate) fn establish(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        if let Some(timer) = connection.timer.take() {
            self.timers.cancel(timer);
        }
        self.stats.connections.connecting -= 1;
        self.open += 1;
        match connection.establish(Source::Connection(id).token(), &self.common) {
            Ok(()) if matches!(connection.origin(), Origin::Listener(_)) => self.watch_new(id),
            Ok(()) => {
                self.stats.connected += 1;
                info!("{id} connected to {}", Shown(connection.peer()));
                self.watch_new(id);
            }
            Err(error) => self.end(id, Some(DisconnectCause::Network(error))),
        }
    }
}
