//! Connections that come from elsewhere, or go there: streams of others, Unix domain sockets, protocol upgrades.

use log::{debug, info};

use super::Net;
use crate::config::ConnectOptions;
use crate::connection::{Origin, Phase};
use crate::connection_id::ConnectionId;
use crate::error::ConnectError;
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
        let connect = || {
            let stream = Stream::connect_unix(path)?;
            Ok((stream, None))
        };
        let os = |error| ConnectError::OsUnix {
            path: path.into(),
            error,
        };
        let id = self.start(Origin::Outbound, &options, connect, os)?;
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
    /// As [`connect_with`](Self::connect_with); the stream is closed then.
    pub fn adopt(
        &mut self,
        stream: impl Into<Stream>,
        options: ConnectOptions,
    ) -> Result<ConnectionId, ConnectError> {
        self.adopt_with(stream, options, &[])
    }

    /// Takes over a stream of which somebody has read too much already: `received` comes before what is still to be read.
    ///
    /// # Errors
    /// As [`adopt`](Self::adopt), and if there is no memory to keep `received`.
    pub fn adopt_with(
        &mut self,
        stream: impl Into<Stream>,
        options: ConnectOptions,
        received: &[u8],
    ) -> Result<ConnectionId, ConnectError> {
        let stream = stream.into();
        let take = || {
            stream.set_nonblocking()?;
            let peer = stream.peer_addr()?;
            Ok((stream, peer))
        };
        let id = self.start(Origin::Adopted, &options, take, ConnectError::Adopt)?;
        if let Some(connection) = self.connections.get_mut(id)
            && let Err(error) = connection.give_input(received, &mut self.common)
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
    /// Returns `false` if the connection is gone, going, or not established.
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
    ///             net.release(id);
    ///         }
    ///     }
    ///     fn on_disconnect(&mut self, _: &mut Net, _: ConnectionId, reason: DisconnectReason) {
    ///         if let DisconnectCause::Released(released) = reason.cause {
    ///             self.upgraded.push((released.stream, released.unread));
    ///         }
    ///     }
    /// }
    /// ```
    pub fn release(&mut self, id: ConnectionId) -> bool {
        match self.connections.get_mut(id) {
            Some(connection) if connection.phase == Phase::Open => {
                if let Some(timer) = connection.timer.take() {
                    self.timers.cancel(timer);
                }
                connection.begin_release();
                self.open -= 1;
                self.upset = true;
                self.end_timers(id);
                self.update_interest(id);
                self.mark_dirty(id);
                true
            }
            _ => {
                debug!("{id}: release: not connected");
                false
            }
        }
    }
}
