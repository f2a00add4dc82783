//! Connections that come from elsewhere, or go there: streams of others, Unix domain sockets, protocol upgrades.

use std::io;

use log::info;

use super::Net;
use crate::config::ConnectOptions;
use crate::connection::Origin;
use crate::connection_id::ConnectionId;
use crate::error::{ConnectError, Rejected, ReleaseError};
use crate::socket::Stream;

impl Net {
    /// Connects to a Unix domain socket; otherwise as [`connect_with`](Self::connect_with). Keepalive and user timeout do
    /// not apply.
    ///
    /// # Errors
    /// As `connect_with`. A socket that has as many peers waiting as it may gives `WouldBlock`: unlike with TCP, it is
    /// not waited for.
    #[cfg(unix)]
    pub fn connect_unix(
        &mut self,
        path: impl AsRef<std::path::Path>,
        options: ConnectOptions,
    ) -> Result<ConnectionId, ConnectError> {
        let path = path.as_ref();
        let terms = self.terms_of_one(Origin::Outbound, &options)?;
        let started = Stream::connect_unix(path)
            .and_then(|stream| Ok(self.start(stream, None, terms, options.timeout)?));
        let id = started.map_err(|error| {
            self.warn(
                super::Warning::ConnectFailed,
                format_args!("connecting to {} failed: {error}", path.display()),
            );
            let path = path.into();
            ConnectError::OsUnix { path, error }
        })?;
        info!("{id} connecting to {}", path.display());
        Ok(id)
    }

    /// Takes over a stream that is connected: one that was accepted, or made, by somebody else.
    /// [`on_connect`](crate::Handler::on_connect) comes as for one that was made here, in the next turn.
    ///
    /// ```
    /// use throng::{Config, ConnectOptions, EventLoop, Framing};
    ///
    /// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// let stream = std::net::TcpStream::connect(listener.local_addr()?)?;
    /// let mut event_loop: EventLoop = EventLoop::new(Config::default())?;
    /// let lines = ConnectOptions::default().framing(Framing::delimiter(b'\n'));
    /// event_loop.net().adopt(stream, lines)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`connect_with`](Self::connect_with), or if the stream is not connected; it is given back. So it is with one that
    /// its peer has reset meanwhile, which may happen at any time.
    pub fn adopt(
        &mut self,
        stream: impl Into<Stream>,
        options: ConnectOptions,
    ) -> Result<ConnectionId, Rejected<Stream, ConnectError>> {
        self.adopt_with(stream, options, &[])
    }

    /// Takes over a stream of which somebody has read too much already: `received` comes before what is still to be read.
    /// Until it is shown it is held, and counts for the [`memory_budget`](crate::Config::memory_budget).
    ///
    /// # Errors
    /// As [`adopt`](Self::adopt), and if there is no memory to keep `received`.
    pub fn adopt_with(
        &mut self,
        stream: impl Into<Stream>,
        options: ConnectOptions,
        received: &[u8],
    ) -> Result<ConnectionId, Rejected<Stream, ConnectError>> {
        let stream = stream.into();
        let mut ahead = Vec::new();
        if ahead.try_reserve_exact(received.len()).is_err() {
            let error = io::Error::from(io::ErrorKind::OutOfMemory);
            return Err(Rejected::new(ConnectError::Adopt(error), stream));
        }
        ahead.extend_from_slice(received);
        let terms = match self.terms_of_one(Origin::Adopted, &options) {
            Ok(terms) => terms,
            Err(error) => return Err(Rejected::new(error, stream)),
        };
        let peer = stream.set_nonblocking().and_then(|()| stream.peer_addr());
        let started = match peer {
            Ok(peer) => self.start(stream, peer, terms, options.timeout),
            Err(error) => Err(Rejected::new(error, stream)),
        };
        let id = started.map_err(|rejected| rejected.map(ConnectError::Adopt))?;
        if let Some(connection) = self.connections.get_mut(id)
            && let Err(error) = connection.put_ahead(ahead, &mut self.common)
        {
            self.end(id, Some(error.into()));
        }
        info!("{id} adopted");
        Ok(id)
    }

    /// Lets a connection go, with its socket: for a protocol that is spoken elsewhere from here on. Nothing more is
    /// delivered, and sends are refused; what was sent before is written, within
    /// [`disconnect_timeout`](crate::ListenOptions::disconnect_timeout). Then
    /// [`on_disconnect`](crate::Handler::on_disconnect) comes with [`Released`](crate::DisconnectCause::Released), which
    /// has the stream, and the bytes that were read and not shown: those behind the frame that is being delivered.
    ///
    /// A peer that does not read in time ends it as [`DrainTimedOut`](crate::DisconnectCause::DrainTimedOut), and
    /// [`abort`](Self::abort) at once; [`disconnect`](Self::disconnect) comes too late, and a
    /// [`shutdown`](Self::shutdown) lets it go on. Of a frame that is shown in [pieces](crate::Handler::on_chunk) only what was not shown
    /// goes along, without a header, but with its trailer. Options of the socket, TCP_NODELAY among them, stay as they are.
    ///
    /// ```
    /// use throng::{ConnectionId, DisconnectCause, DisconnectReason, Frame, Handler, Net, Stream};
    ///
    /// /// Hands those over who ask for it.
    /// struct Lobby { upgraded: Vec<(Stream, Vec<u8>)> }
    ///
    /// impl Handler for Lobby {
    ///     fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
    ///         if &*frame == b"upgrade" {
    ///             let _ = net.send(id, b"go on");
    ///             if let Err(error) = net.release(id) {
    ///                 eprintln!("{id}: {error}");
    ///             }
    ///         }
    ///     }
    ///     fn on_disconnect(&mut self, _: &mut Net, _: ConnectionId, reason: DisconnectReason) {
    ///         if let DisconnectCause::Released(released) = reason.cause {
    ///             self.upgraded.push((released.stream, released.unread));
    ///         }
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// If the connection is gone, going, or not established, or if a frame is [open](Self::begin_frame), which nobody could
    /// finish any more. Nothing has changed then.
    pub fn release(&mut self, id: ConnectionId) -> Result<(), ReleaseError> {
        let connection = self.connections.get_mut(id);
        let connection = connection.ok_or(ReleaseError::Disconnected)?;
        connection.begin_release()?;
        if let Some(timer) = connection.timer.take() {
            self.timers.cancel(timer);
        }
        self.open -= 1;
        self.upset = true;
        self.end_timers(id);
        self.update_interest(id);
        self.mark_dirty(id);
        Ok(())
    }
}
