//! Adopting and releasing connections; Unix domain sockets.

use std::io;

use log::info;

use super::Net;
use crate::config::ConnectOptions;
use crate::connection::Origin;
use crate::connection_id::ConnectionId;
use crate::error::{OpenError, Rejected, SendError};
use crate::socket::Stream;

impl Net {
    /// Connects to a Unix domain socket; otherwise as [`connect_with`](Self::connect_with). Keepalive and user timeout
    /// do not apply. On Linux, a path that begins with a NUL byte is an abstract name, as in
    /// [`listen_unix`](Self::listen_unix).
    ///
    /// # Errors
    /// As [`connect_with`](Self::connect_with). `InvalidInput` if the path is empty, contains a NUL, or is too long.
    /// `WouldBlock` if the backlog of the socket is full: unlike with TCP, the attempt does not wait for room.
    #[cfg(unix)]
    pub fn connect_unix(
        &mut self,
        path: impl AsRef<std::path::Path>,
        options: ConnectOptions,
    ) -> Result<ConnectionId, OpenError> {
        let path = path.as_ref();
        let terms = self.terms_of_one(Origin::Outbound, &options)?;
        let started = Stream::connect_unix(path)
            .and_then(|stream| Ok(self.start(stream, None, terms, options.timeout)?));
        let id = started.map_err(|error| {
            self.warn(
                super::Warning::ConnectFailed,
                format_args!("connecting to {path:?} failed: {error}"),
            );
            let path = path.into();
            OpenError::ConnectUnix { path, error }
        })?;
        info!("{id} connecting to {path:?}");
        Ok(id)
    }

    /// Takes over a connected stream, for example one that was accepted or connected by other code.
    /// [`on_connect`](crate::Handler::on_connect) is called in the next turn.
    ///
    /// The socket is made non-blocking and does not linger (`SO_LINGER`). On Unix it is closed in child processes
    /// (`FD_CLOEXEC`). Other socket options stay unchanged, unless `options` sets them.
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
    /// As [`connect_with`](Self::connect_with), and if the stream is not connected; the stream is returned in the
    /// error. This includes a stream that its peer has reset meanwhile, which can happen at any time.
    pub fn adopt(
        &mut self,
        stream: impl Into<Stream>,
        options: ConnectOptions,
    ) -> Result<ConnectionId, Rejected<Stream, OpenError>> {
        self.adopt_with(stream, options, &[])
    }

    /// Takes over a stream from which other code has already read too much. `received` is delivered before what is read
    /// from the stream. Until it is delivered it is held, and counts towards
    /// [`memory_budget`](crate::Config::memory_budget).
    ///
    /// ```
    /// use std::io::{Read, Write};
    /// use throng::{Config, ConnectOptions, EventLoop, Framing};
    ///
    /// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// let mut client = std::net::TcpStream::connect(listener.local_addr()?)?;
    /// client.write_all(b"UPGRADE\nhello\n")?;
    ///
    /// // A handshake that reads more than its own line.
    /// let (mut stream, _) = listener.accept()?;
    /// let mut buffer = [0; 64];
    /// let len = stream.read(&mut buffer)?;
    /// let end = buffer[..len].iter().position(|byte| *byte == b'\n').expect("a line");
    ///
    /// let mut event_loop: EventLoop = EventLoop::new(Config::default())?;
    /// let lines = ConnectOptions::default().framing(Framing::delimiter(b'\n'));
    /// event_loop.net().adopt_with(stream, lines, &buffer[end + 1..len])?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`adopt`](Self::adopt), and if there is no memory to hold `received`.
    pub fn adopt_with(
        &mut self,
        stream: impl Into<Stream>,
        options: ConnectOptions,
        received: &[u8],
    ) -> Result<ConnectionId, Rejected<Stream, OpenError>> {
        let stream = stream.into();
        let mut ahead = Vec::new();
        if ahead.try_reserve_exact(received.len()).is_err() {
            let error = io::Error::from(io::ErrorKind::OutOfMemory);
            return Err(Rejected::new(OpenError::Adopt(error), stream));
        }
        ahead.extend_from_slice(received);
        let terms = match self.terms_of_one(Origin::Adopted, &options) {
            Ok(terms) => terms,
            Err(error) => return Err(Rejected::new(error, stream)),
        };
        let peer = stream.take_over().and_then(|()| stream.peer_addr());
        let started = match peer {
            Ok(peer) => self.start(stream, peer, terms, options.timeout),
            Err(error) => Err(Rejected::new(error, stream)),
        };
        let id = started.map_err(|rejected| rejected.map(OpenError::Adopt))?;
        if let Some(connection) = self.connections.get_mut(id)
            && let Err(error) = connection.put_ahead(ahead, &mut self.common)
        {
            self.end(id, Some(error.into()));
        }
        info!("{id} adopted");
        Ok(id)
    }

    /// Detaches a connection and returns its socket, for example to continue in another protocol. Nothing more is
    /// delivered, and sends return an error. Everything sent before is written, within
    /// [`disconnect_timeout`](crate::ListenOptions::disconnect_timeout). Then
    /// [`on_disconnect`](crate::Handler::on_disconnect) is called with [`Released`](crate::DisconnectCause::Released),
    /// which contains the stream and the undelivered bytes: those behind the frame that is being delivered.
    ///
    /// If the peer does not read in time, the connection ends as
    /// [`DrainTimedOut`](crate::DisconnectCause::DrainTimedOut). [`abort`](Self::abort) ends it immediately;
    /// [`disconnect`](Self::disconnect) has no effect any more; a [`shutdown`](Self::shutdown) lets it continue. Of a
    /// frame that is being delivered in [chunks](crate::Handler::on_chunk), only the undelivered part is returned,
    /// without its header but with its trailer. Socket options, including `TCP_NODELAY`, stay unchanged.
    ///
    /// ```
    /// use throng::{ConnectionId, DisconnectCause, DisconnectReason, Frame, Handler, Net, Stream};
    ///
    /// /// Releases each connection that asks for it.
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
    /// [`Disconnected`](SendError::Disconnected), [`Connecting`](SendError::Connecting),
    /// [`WriteFailed`](SendError::WriteFailed) or [`HalfClosed`](SendError::HalfClosed): the connection is not open for
    /// sending. [`FrameOpen`](SendError::FrameOpen): a frame was [begun](Self::begin_frame), and could not be finished
    /// any more. On error nothing changes.
    pub fn release(&mut self, id: ConnectionId) -> Result<(), SendError> {
        let connection = self.connections.get_mut(id);
        let connection = connection.ok_or(SendError::Disconnected)?;
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
