//! `Handle`: controls a loop from other threads.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use bytes::Bytes;

use super::channel::{Refusal, Sender};
use super::command::{Command, Post};
use crate::config::ConnectOptions;
use crate::connection::Backlog;
use crate::connection_id::{ConnectionId, ListenerId};
use crate::error::{MailboxError, OpenError, Rejected};
use crate::in_loop::InLoop;
use crate::net::{Encoded, Net, Peer};

/// Controls a loop from any thread: queues commands, which the loop runs in its next turn.
///
/// A handle can be cloned and shared. The commands of one handle run in the order in which they were queued. A command
/// looks up its connection by id when it runs. If the connection is closed by then, the command has no effect, even if
/// another connection uses the same slot.
///
/// ```
/// use std::time::Duration;
/// use throng::{Config, ConnectionId, EventLoop, Frame, Handler, Net};
///
/// #[derive(Default)]
/// struct Game { score: u32 }
///
/// impl Handler for Game {
///     fn on_data(&mut self, _: &mut Net, _: ConnectionId, _: Frame<'_>) {}
/// }
///
/// let mut event_loop = EventLoop::<Game>::new(Config::default())?;
/// let handle = event_loop.handle();
/// let other = std::thread::spawn(move || {
///     handle.broadcast(|_| true, "half time")?;
///     handle.post(|game, _| game.score += 1)?;
///     let score = handle.call(|game, _| game.score)?;
///     handle.shutdown(Duration::from_secs(10))?;
///     Ok::<u32, throng::MailboxError>(score)
/// });
/// event_loop.run(&mut Game::default())?;
/// assert_eq!(other.join().unwrap().unwrap(), 1);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # When there is no room
/// The mailbox holds at most [`max_pending_commands`](crate::Config::max_pending_commands) and
/// [`max_pending_bytes`](crate::Config::max_pending_bytes). When it is full, methods block until the loop has made
/// room. Their `try_` forms return [`MailboxError::Full`] and give back the payload or closure. A task of an async
/// runtime waits for room by [`ready`](Self::ready), then uses a `try_` form.
///
/// While threads or tasks wait for room, the `try_` forms do not take it from them, but may use a sixteenth of both
/// limits in addition, at least one command. So neither starves the other: a `try_` form that returned `Full` succeeds
/// once the loop has run what was in the mailbox, unless other `try_` calls were faster.
///
/// In a callback, of this loop or another, no method blocks: all behave like their `try_` forms, because two loops that
/// wait for each other would deadlock. When the loop is dropped, all methods return [`MailboxError::Closed`].
///
/// Only turns make room and answer calls. While nothing drives the loop, for example after a [stop](Self::stop),
/// blocked threads stay blocked until it runs again or is dropped. Drop the loop, or your own
/// [`Mailbox`](super::Mailbox), before you join a thread that may be blocked on it. For the same reason do not block on
/// the loop's own thread between turns, for example in a task of a runtime that embeds the loop: use the `try_` forms
/// there, and [`try_call`](Self::try_call) instead of [`call`](Self::call).
///
/// # Whether a command had an effect
/// A command that was accepted may still fail when it runs: its connection may be closed, or its queue full. Such
/// commands are logged, and counted in [`commands_failed`](crate::Stats::commands_failed). To see the result,
/// [`post`](Self::post) a closure that makes the call itself, or use [`call`](Self::call) and wait for its return
/// value. Commands that are still queued when the loop is dropped are dropped with it.
pub struct Handle<H: ?Sized> {
    pub(super) commands: Sender<Command<H>>,
}

impl<H: ?Sized> Handle<H> {
    pub(super) fn new(commands: Sender<Command<H>>) -> Self {
        Self { commands }
    }

    /// Sends a frame to a connection; see [`Net::send`].
    ///
    /// # Errors
    /// Returns [`MailboxError::Closed`]; in a callback also [`MailboxError::Full`].
    pub fn send(&self, id: ConnectionId, payload: &[u8]) -> Result<(), MailboxError> {
        let payload = Bytes::copy_from_slice(payload);
        Ok(self.send_bytes(id, payload)?)
    }

    /// Sends a frame to a connection without copying the payload first; see [`Net::send_bytes`].
    ///
    /// # Errors
    /// Same as [`send`](Self::send); the payload is given back.
    pub fn send_bytes(
        &self,
        id: ConnectionId,
        payload: impl Into<Bytes>,
    ) -> Result<(), Rejected<Bytes, MailboxError>> {
        self.put_payload(Self::put, Command::Send(id, payload.into()))
    }

    /// Sends a frame to many connections with one command, encoded once; see [`Net::send_many`].
    ///
    /// # Errors
    /// Same as [`send`](Self::send); the payload is given back.
    pub fn send_many(
        &self,
        ids: impl IntoIterator<Item = ConnectionId>,
        payload: impl Into<Bytes>,
    ) -> Result<(), Rejected<Bytes, MailboxError>> {
        let ids = ids.into_iter().collect();
        self.put_payload(Self::put, Command::SendMany(ids, payload.into()))
    }

    /// Sends a frame to every established connection for which `filter` returns `true`; see [`Net::broadcast`].
    ///
    /// # Errors
    /// Same as [`send`](Self::send); the payload is given back.
    pub fn broadcast(
        &self,
        filter: impl FnMut(ConnectionId) -> bool + Send + 'static,
        payload: impl Into<Bytes>,
    ) -> Result<(), Rejected<Bytes, MailboxError>> {
        let command = Command::Broadcast(Box::new(filter), payload.into());
        self.put_payload(Self::put, command)
    }

    /// Closes a connection gracefully, after the frames that this handle has sent to it; see [`Net::disconnect`].
    ///
    /// # Errors
    /// Same as [`send`](Self::send).
    pub fn disconnect(&self, id: ConnectionId) -> Result<(), MailboxError> {
        self.put_plain(Command::Disconnect(id))
    }

    /// Closes a connection gracefully with a last frame, after the frames that this handle has sent to it; see
    /// [`Net::disconnect_with`].
    ///
    /// # Errors
    /// Same as [`send`](Self::send); the payload is given back.
    pub fn disconnect_with(
        &self,
        id: ConnectionId,
        payload: impl Into<Bytes>,
        backlog: Backlog,
    ) -> Result<(), Rejected<Bytes, MailboxError>> {
        let command = Command::DisconnectWith(id, payload.into(), backlog);
        self.put_payload(Self::put, command)
    }

    /// Closes a connection immediately; see [`Net::abort`].
    ///
    /// # Errors
    /// Same as [`send`](Self::send).
    pub fn abort(&self, id: ConnectionId) -> Result<(), MailboxError> {
        self.put_plain(Command::Abort(id))
    }

    /// Connects to a peer; see [`Net::connect_with`]. The loop calls `then` with the id of the connection, or with the
    /// error if the attempt could not be started. Callbacks for the id come after that.
    ///
    /// ```no_run
    /// # use throng::{ConnectOptions, ConnectionId, Frame, Handle, Handler, MailboxError, Net};
    /// # #[derive(Default)]
    /// # struct Proxy { upstream: Option<ConnectionId> }
    /// # fn example(handle: &Handle<Proxy>) -> Result<(), MailboxError> {
    /// let addr = "192.0.2.1:5000".parse().unwrap();
    /// handle.connect(addr, ConnectOptions::default(), |proxy, _, result| match result {
    ///     Ok(id) => proxy.upstream = Some(id),
    ///     Err(error) => eprintln!("{error}"),
    /// })
    /// # }
    /// ```
    ///
    /// # Errors
    /// Same as [`send`](Self::send).
    pub fn connect(
        &self,
        addr: SocketAddr,
        options: ConnectOptions,
        then: impl FnOnce(&mut H, &mut Net, Result<ConnectionId, OpenError>) + Send + 'static,
    ) -> Result<(), MailboxError> {
        self.put_plain(Command::Connect(Box::new((addr, options)), Box::new(then)))
    }

    /// Runs a closure in the loop, with the handler and the [`Net`].
    ///
    /// The size of the closure itself counts against [`max_pending_bytes`](crate::Config::max_pending_bytes), but not
    /// what it owns on the heap.
    ///
    /// # Errors
    /// Same as [`send`](Self::send).
    pub fn post(
        &self,
        closure: impl FnOnce(&mut H, &mut Net) + Send + 'static,
    ) -> Result<(), MailboxError> {
        self.put_plain(Command::Post(Post::new(closure)))
    }

    /// Runs a closure in the loop, and blocks until it has returned.
    ///
    /// # Errors
    /// Returns [`MailboxError::Closed`] if the loop is dropped, or the closure panics, before the closure has returned.
    /// Returns [`MailboxError::InCallback`] in a callback.
    pub fn call<R: Send + 'static>(
        &self,
        closure: impl FnOnce(&mut H, &mut Net) -> R + Send + 'static,
    ) -> Result<R, MailboxError> {
        if InLoop::is_entered() {
            return Err(MailboxError::InCallback);
        }
        let (sender, receiver) = mpsc::sync_channel(1);
        self.post(move |handler, net| {
            // Fails if the caller no longer waits.
            let _ = sender.send(closure(handler, net));
        })?;
        receiver.recv().map_err(|_| MailboxError::Closed)
    }

    /// Makes [`run`](crate::EventLoop::run) return after the commands that were queued before; see [`Net::stop`]. Never
    /// fails because the mailbox is full.
    ///
    /// # Errors
    /// Returns [`MailboxError::Closed`].
    pub fn stop(&self) -> Result<(), MailboxError> {
        self.put_always(Command::Stop)
    }

    /// Shuts the loop down gracefully after the commands that were queued before; see [`Net::shutdown`]. Never fails
    /// because the mailbox is full.
    ///
    /// # Errors
    /// Returns [`MailboxError::Closed`].
    pub fn shutdown(&self, timeout: Duration) -> Result<(), MailboxError> {
        self.put_always(Command::Shutdown(timeout))
    }

    /// Sends an encoded frame to all connections.
    pub(crate) fn broadcast_encoded(&self, frame: Arc<Encoded>) -> Result<(), MailboxError> {
        self.put_plain(Command::BroadcastEncoded(frame))
    }

    /// Passes a peer that was accepted for the loop to it. Returns the peer if there is no room.
    pub(crate) fn hand_in(&self, listener: ListenerId, peer: Peer) -> Result<(), Peer> {
        match self.try_put(Command::HandIn(listener, peer)) {
            Err((_, Command::HandIn(_, peer))) => Err(peer),
            _ => Ok(()),
        }
    }

    /// Returns `true` if the [`Mailbox`](super::Mailbox) was dropped. The mailbox of an [`EventLoop`](crate::EventLoop)
    /// is dropped with it, after its listeners are closed.
    pub fn is_closed(&self) -> bool {
        self.commands.is_closed()
    }

    /// Blocks until there is room, then queues a command.
    fn put(&self, command: Command<H>) -> Result<(), (MailboxError, Command<H>)> {
        if InLoop::is_entered() {
            return self.try_put(command);
        }
        let bytes = command.bytes();
        let result = self.commands.send(command, bytes);
        result.map_err(|(refusal, command)| (refusal.into(), command))
    }

    /// Queues a command if there is room.
    pub(super) fn try_put(&self, command: Command<H>) -> Result<(), (MailboxError, Command<H>)> {
        let bytes = command.bytes();
        let result = self.commands.try_send(command, bytes);
        result.map_err(|(refusal, command)| (refusal.into(), command))
    }

    /// Queues a command regardless of the limits.
    fn put_always(&self, command: Command<H>) -> Result<(), MailboxError> {
        let result = self.commands.send_always(command);
        result.map_err(|(refusal, _)| refusal.into())
    }

    /// Blocks until there is room, then queues a command. A command that is refused is dropped.
    fn put_plain(&self, command: Command<H>) -> Result<(), MailboxError> {
        self.put(command).map_err(|(error, _)| error)
    }

    /// Queues a command with a payload with one of the two functions.
    pub(super) fn put_payload(
        &self,
        put: impl FnOnce(&Self, Command<H>) -> Result<(), (MailboxError, Command<H>)>,
        command: Command<H>,
    ) -> Result<(), Rejected<Bytes, MailboxError>> {
        put(self, command).map_err(|(error, command)| Rejected::new(error, command.into_payload()))
    }
}

impl From<Refusal> for MailboxError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Full { count, bytes } => Self::Full {
                commands: count,
                bytes,
            },
            Refusal::Closed => Self::Closed,
        }
    }
}

impl<H: ?Sized> Clone for Handle<H> {
    fn clone(&self) -> Self {
        Self {
            commands: self.commands.clone(),
        }
    }
}

impl<H: ?Sized> fmt::Debug for Handle<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (commands, bytes) = self.commands.load();
        f.debug_struct("Handle")
            .field("commands", &commands)
            .field("bytes", &bytes)
            .field("is_closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}
