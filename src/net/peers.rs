//! Making connections and ending them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use log::{debug, info, trace, warn};
use mio::Interest;

use super::{Deadline, Net};
use crate::config::ConnectOptions;
use crate::connection::{Connection, Flush, Origin, Phase, Pressure, Terms};
use crate::connection_id::{ConnectionId, Source};
use crate::error::{ConnectError, Rejected};
use crate::frame::{Chunk, Framing};
use crate::reason::DisconnectCause;
use crate::socket::{READ_INTEREST, Shown, Stream};

impl Net {
    /// Connects to a peer, with the default [`ConnectOptions`].
    ///
    /// The call does not wait: [`on_connect`](crate::Handler::on_connect) comes when the connection is established, or
    /// [`on_disconnect`](crate::Handler::on_disconnect) alone if that fails.
    ///
    /// It takes a [`SocketAddr`], not a name, because to resolve a name blocks, often for seconds, and would hold up all
    /// other connections. Resolve it before the loop runs, or on another thread, and try all its addresses: a name often
    /// has several, of which some do not answer.
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
    /// If the attempt cannot even be started: no descriptor left, too many connections, no route.
    pub fn connect(&mut self, addr: SocketAddr) -> Result<ConnectionId, ConnectError> {
        self.connect_with(addr, ConnectOptions::default())
    }

    /// Connects to a peer; see [`connect`](Self::connect).
    ///
    /// # Errors
    /// As `connect`, and if the options contradict each other.
    pub fn connect_with(
        &mut self,
        addr: SocketAddr,
        options: ConnectOptions,
    ) -> Result<ConnectionId, ConnectError> {
        let terms = self.terms_of_one(Origin::Outbound, &options)?;
        let started = Stream::connect(addr)
            .and_then(|stream| Ok(self.start(stream, Some(addr), terms, options.timeout)?));
        match started {
            Ok(id) => {
                info!("{id} connecting to {addr}");
                Ok(id)
            }
            Err(error) => {
                warn!("connecting to {addr} failed: {error}");
                Err(ConnectError::Os { addr, error })
            }
        }
    }

    /// The terms for a connection of this side's own, if there may be one more.
    pub(super) fn terms_of_one(
        &self,
        origin: Origin,
        options: &ConnectOptions,
    ) -> Result<Arc<Terms>, ConnectError> {
        let options = options
            .connection(&self.config)
            .map_err(ConnectError::Options)?;
        if self.is_shutting_down() {
            return Err(ConnectError::ShuttingDown);
        }
        if self.occupied() >= self.config.max_connections {
            return Err(ConnectError::TooManyConnections {
                max_connections: self.config.max_connections,
            });
        }
        Ok(Arc::new(Terms { origin, options }))
    }

    /// Gives a stream of this side's own a slot, in which it becomes established when the selector tells so.
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

    /// Ends a connection in good order: no more callbacks but [`on_disconnect`](crate::Handler::on_disconnect), and
    /// sends are refused from now on; what was sent before is written, then the sending side is closed, then the peer's
    /// close is awaited. All of it within [`disconnect_timeout`](crate::ListenOptions::disconnect_timeout), after which
    /// the connection is dropped. What the peer still sends is read and forgotten.
    ///
    /// A connection that is not established yet is dropped at once.
    ///
    /// Returns whether there was a connection to end: `false` if it is gone or going already.
    pub fn disconnect(&mut self, id: ConnectionId) -> bool {
        match self.connections.get(id).map(|connection| connection.phase) {
            Some(Phase::Connecting) => self.end(id, Some(DisconnectCause::Kicked)),
            Some(Phase::Open) => {
                self.close(id, DisconnectCause::Kicked);
                self.mark_dirty(id);
            }
            _ => {
                debug!("{id}: disconnect: not connected");
                return false;
            }
        }
        true
    }

    /// Ends a connection at once: what is queued is dropped, and the peer sees a reset (RST).
    ///
    /// The only callback that follows is [`on_disconnect`](crate::Handler::on_disconnect).
    ///
    /// Returns whether there was a connection to end: `false` if it is gone already.
    pub fn abort(&mut self, id: ConnectionId) -> bool {
        match self.connections.get(id).map(|connection| connection.phase) {
            None | Some(Phase::Closed) => {
                debug!("{id}: abort: not connected");
                false
            }
            Some(_) => {
                self.end(id, Some(DisconnectCause::Aborted));
                true
            }
        }
    }

    /// Changes the framing of a connection, both ways, as after a handshake: from the next frame sent, and from the byte
    /// after the frame that is being delivered. [`max_frame_len`](crate::ListenOptions::max_frame_len) stays.
    ///
    /// Whenever it is called, what was not shown yet is cut anew, be it the beginning of a frame, and a frame that is shown in
    /// [pieces](crate::Handler::on_chunk) goes on to its end. But only in [`on_data`](crate::Handler::on_data) it is certain
    /// which frame was the last to be shown.
    ///
    /// Returns `false` if the connection is gone or going.
    pub fn set_framing(&mut self, id: ConnectionId, framing: impl Into<Framing>) -> bool {
        match self.connections.get_mut(id) {
            Some(connection) if matches!(connection.phase, Phase::Connecting | Phase::Open) => {
                self.upset = true;
                match connection.set_framing(framing.into(), &mut self.common) {
                    Ok(()) if connection.is_runnable() => self.list(id),
                    Ok(()) => {}
                    Err(error) => self.end(id, Some(error.into())),
                }
                true
            }
            _ => {
                debug!("{id}: set_framing: not connected");
                false
            }
        }
    }

    /// Ends a connection whose handler has no place for a chunk.
    #[cold]
    pub(crate) fn refuse_chunk(&mut self, id: ConnectionId, chunk: &Chunk<'_>) {
        let total = chunk.total();
        self.end(id, Some(DisconnectCause::ChunkNotHandled { total }));
    }

    /// How many connections there are that have not ended, in any phase.
    pub(super) fn occupied(&self) -> usize {
        self.connections.len() - self.ended.len() - self.announced.len()
    }

    /// Registers a stream and gives it a slot.
    pub(super) fn add(
        &mut self,
        mut stream: Stream,
        peer: Option<SocketAddr>,
        phase: Phase,
        terms: Arc<Terms>,
    ) -> Result<ConnectionId, Rejected<Stream, io::Error>> {
        let interest = if phase == Phase::Open {
            READ_INTEREST
        } else {
            Interest::WRITABLE
        };
        let token = Source::Connection(self.connections.next_id()).token();
        if let Err(error) = stream.register(&self.common.registry, token, interest) {
            return Err(Rejected::new(error, stream));
        }
        let connection = Connection::new(stream, peer, phase, interest, terms, self.common.now);
        if connection.is_open() {
            self.open += 1;
        }
        Ok(self.connections.insert(connection))
    }

    /// Makes an attempt to connect an open connection.
    pub(crate) fn establish(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        if let Some(timer) = connection.timer.take() {
            self.timers.cancel(timer);
        }
        self.open += 1;
        match connection.established(&self.common, Source::Connection(id).token()) {
            Ok(()) => {
                self.stats.connected += 1;
                info!("{id} connected to {}", Shown(connection.peer));
                self.watch_new(id);
            }
            Err(error) => self.end(id, Some(DisconnectCause::Network(error))),
        }
    }

    /// Lets an open connection end when its queue is flushed.
    pub(crate) fn close(&mut self, id: ConnectionId, cause: DisconnectCause) {
        if let Some(connection) = self.connections.get_mut(id) {
            if let Some(timer) = connection.timer.take() {
                self.timers.cancel(timer);
            }
            connection.close(cause, &mut self.common);
            self.open -= 1;
            self.end_timers(id);
            self.upset = true;
            self.update_interest(id);
        }
    }

    /// Ends a connection: the socket is closed, the memory given back, the announcement queued. Without a cause of its
    /// own the one given to [`close`](Self::close) stands.
    pub(crate) fn end(&mut self, id: ConnectionId, cause: Option<DisconnectCause>) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        match connection.phase {
            Phase::Closed => return,
            Phase::Open => self.open -= 1,
            Phase::Connecting | Phase::Closing | Phase::Releasing | Phase::Draining => {}
        }
        if let Some(timer) = connection.timer.take() {
            self.timers.cancel(timer);
        }
        if matches!(connection.origin(), Origin::Listener(_)) {
            self.admissions.left(connection.peer);
        }
        connection.finish(cause, &mut self.common);
        self.end_timers(id);
        self.upset = true;
        self.ended.push_back(id);
        self.stats.disconnected += 1;
        self.resume_accepting();
    }

    /// Writes what is queued for a connection, as far as socket and budget allow, and takes a closing one further.
    pub(crate) fn flush(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        connection.dirty = false;
        if connection.has_queued() || connection.pressure() != Pressure::NONE {
            let token = Source::Connection(id).token();
            let (budget, before) = (self.config.write_budget, self.common.written.bytes);
            let pressure = connection.pressure();
            let outcome = connection.flush(budget, token, &mut self.common);
            trace!("{id} wrote {} bytes", self.common.written.bytes - before);
            if connection.pressure().has_eased(pressure) {
                self.relieved(id);
            }
            match outcome {
                Flush::Done => {}
                Flush::Blocked => {
                    self.watch_blocked(id);
                    return self.limit_closing(id);
                }
                // Nobody is going to give what is missing.
                Flush::Waiting if self.is_left_open(id) => {}
                Flush::Waiting => return self.limit_closing(id),
                Flush::Budget => {
                    self.limit_closing(id);
                    return self.list(id);
                }
                Flush::Failed(cause) => return self.end(id, Some(*cause)),
            }
        }
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        match connection.phase {
            Phase::Closing if !connection.read_ended() => {}
            // The peer's end was read, or is somebody else's business from here on.
            Phase::Closing | Phase::Releasing => return self.end(id, None),
            _ => return,
        }
        match connection.half_close() {
            Ok(()) => {
                if connection.is_runnable() {
                    self.list(id);
                }
                self.limit_closing(id);
            }
            Err(error) => self.end(id, Some(DisconnectCause::of_socket(error))),
        }
    }

    fn is_left_open(&self, id: ConnectionId) -> bool {
        let connection = self.connections.get(id);
        connection.is_some_and(|connection| connection.is_left_open())
    }

    /// Sees to it that a closing connection has a deadline, which it has from a shutdown.
    fn limit_closing(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get(id)
            && connection.timer.is_none()
            && !connection.is_open()
            && self.shutdown.is_none()
        {
            let after = connection.options().disconnect_timeout;
            self.set_deadline(id, after, Deadline::Drain(id));
        }
    }

    fn set_deadline(&mut self, id: ConnectionId, after: Duration, deadline: Deadline) {
        let Some(at) = self.now.checked_add(after) else {
            return;
        };
        if let Some(connection) = self.connections.get_mut(id) {
            connection.timer = Some(self.timers.insert(at, deadline));
        }
    }

    /// Tells the selector what a connection waits for, if that has changed.
    pub(super) fn update_interest(&mut self, id: ConnectionId) {
        let token = Source::Connection(id).token();
        if let Some(connection) = self.connections.get_mut(id)
            && let Err(error) = connection.update_interest(&self.common.registry, token)
        {
            self.end(id, Some(DisconnectCause::Network(error)));
        }
    }

    /// Sees to it that a connection is flushed in this turn.
    pub(super) fn mark_dirty(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id)
            && !connection.dirty
        {
            connection.dirty = true;
            self.dirty.push(id);
        }
    }
}
