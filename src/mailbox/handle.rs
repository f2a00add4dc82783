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
use crate::error::{ConnectError, MailboxError, Rejected};
use crate::in_loop::InLoop;
use crate::net::{Encoded, Net, Peer};

/// Controls a loop from any thread: queues commands, which the loop runs in its next turn.
///
/// It can be cloned and shared. The commands of one handle run in the order in which they were queued. Connections are looked
/// up by id when a command runs: a command for a connection that is closed by then has no effect, also if its slot has been
/// taken by another connection.
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
/// [`max_pending_bytes`](crate::Config::max_pending_bytes). When it is full, methods block until the loop has made room, and
/// their `try_` forms return [`MailboxError::Full`] and give back what they were given.
///
/// While other threads wait for room, the `try_` forms leave it to them and may use a sixteenth of both limits in addition,
/// at least one command. So neither starves the other: a `try_` form that returned `Full` succeeds when the loop has run what
/// was in the mailbox, unless other `try_` calls were faster.
///
/// In a callback, of this loop or another, no method blocks: all behave as `try_` forms, since two loops that wait for each
/// other would wait for ever. When the loop is dropped, all return [`MailboxError::Closed`].
///
/// Only turns make room and answer calls. While nothing drives the loop, after a [stop](Self::stop) for example, threads that
/// wait stay blocked until it runs again or is dropped. Drop the loop, or a [`Mailbox`](super::Mailbox) of your own, before
/// you join a thread that may be waiting for it. For the same reason do not block on the loop's own thread between turns, in a
/// task of a runtime that embeds the loop for example: use the `try_` forms there, and no [`call`](Self::call).
///
/// For commands without a `try_` form, [`try_post`](Self::try_post) a closure.
///
/// # Whether a command had an effect
/// A command that was accepted may still fail when it runs: its connection may be closed, or its queue full. Such commands are
/// logged, and counted in [`commands_failed`](crate::Stats::commands_failed). To see the result, [`post`](Self::post) a
/// closure that makes the call itself, or [`call`](Self::call) and wait for what it returns. Commands that are still queued
/// when the loop is dropped are dropped with it.
pub struct Handle<H: ?Sized> {
    commands: Sender<Command<H>>,
}

impl<H: ?Sized> Handle<H> {
    pub(super) fn new(commands: Sender<Command<H>>) -> Self {
        Self { commands }
    }

    /// Sends a frame to a connection, as [`Net::send`].
    ///
    /// # Errors
    /// [`MailboxError::Closed`]; in a callback also [`MailboxError::Full`].
    pub fn send(&self, id: ConnectionId, payload: &[u8]) -> Result<(), MailboxError> {
        let payload = Bytes::copy_from_slice(payload);
        Ok(self.send_bytes(id, payload)?)
    }

    /// Like [`send`](Self::send), but never blocks.
    ///
    /// # Errors
    /// [`MailboxError`].
    pub fn try_send(&self, id: ConnectionId, payload: &[u8]) -> Result<(), MailboxError> {
        // Not copied in vain each time it is tried again.
        self.commands.check_room()?;
        let payload = Bytes::copy_from_slice(payload);
        Ok(self.try_send_bytes(id, payload)?)
    }

    /// Sends a frame to a connection without copying the payload first, as [`Net::send_bytes`].
    ///
    /// # Errors
    /// As [`send`](Self::send); the payload is given back.
    pub fn send_bytes(
        &self,
        id: ConnectionId,
        payload: impl Into<Bytes>,
    ) -> Result<(), Rejected<Bytes, MailboxError>> {
        self.put_payload(Self::put, Command::Send(id, payload.into()))
    }

    /// Like [`send_bytes`](Self::send_bytes), but never blocks.
    ///
    /// ```
    /// use throng::{ConnectionId, Handle, MailboxError};
    ///
    /// /// Sends the newest state if the loop has time for it.
    /// fn tell<H>(handle: &Handle<H>, id: ConnectionId, state: Vec<u8>) -> bool {
    ///     match handle.try_send_bytes(id, state) {
    ///         Ok(()) => true,
    ///         Err(rejected) => {
    ///             println!("{} bytes: {}", rejected.value.len(), rejected.error);
    ///             false
    ///         }
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// [`MailboxError`]; the payload is given back.
    pub fn try_send_bytes(
        &self,
        id: ConnectionId,
        payload: impl Into<Bytes>,
    ) -> Result<(), Rejected<Bytes, MailboxError>> {
        self.put_payload(Self::try_put, Command::Send(id, payload.into()))
    }

    /// Sends a frame to many connections, as [`Net::send_many`]: one command, encoded once.
    ///
    /// # Errors
    /// As [`send`](Self::send); the payload is given back.
    pub fn send_many(
        &self,
        ids: impl IntoIterator<Item = ConnectionId>,
        payload: impl Into<Bytes>,
    ) -> Result<(), Rejected<Bytes, MailboxError>> {
        let ids = ids.into_iter().collect();
        self.put_payload(Self::put, Command::SendMany(ids, payload.into()))
    }

    /// Like [`send_many`](Self::send_many), but never blocks.
    ///
    /// # Errors
    /// [`MailboxError`]; the payload is given back.
    pub fn try_send_many(
        &self,
        ids: impl IntoIterator<Item = ConnectionId>,
        payload: impl Into<Bytes>,
    ) -> Result<(), Rejected<Bytes, MailboxError>> {
        let ids = ids.into_iter().collect();
        self.put_payload(Self::try_put, Command::SendMany(ids, payload.into()))
    }

    /// Sends a frame to every established connection for which `filter` returns `true`, as [`Net::broadcast`].
    ///
    /// # Errors
    /// As [`send`](Self::send); the payload is given back.
    pub fn broadcast(
        &self,
        filter: impl FnMut(ConnectionId) -> bool + Send + 'static,
        payload: impl Into<Bytes>,
    ) -> Result<(), Rejected<Bytes, MailboxError>> {
        let command = Command::Broadcast(Box::new(filter), payload.into());
        self.put_payload(Self::put, command)
    }

    /// Like [`broadcast`](Self::broadcast), but never blocks.
    ///
    /// # Errors
    /// [`MailboxError`]; the payload is given back.
    pub fn try_broadcast(
        &self,
        filter: impl FnMut(ConnectionId) -> bool + Send + 'static,
        payload: impl Into<Bytes>,
    ) -> Result<(), Rejected<Bytes, MailboxError>> {
        let command = Command::Broadcast(Box::new(filter), payload.into());
        self.put_payload(Self::try_put, command)
    }

    /// Closes a connection gracefully, as [`Net::disconnect`], after the frames that this handle has sent to it.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn disconnect(&self, id: ConnectionId) -> Result<(), MailboxError> {
        self.put_plain(Command::Disconnect(id))
    }

    /// Closes a connection gracefully with a last frame, as [`Net::disconnect_with`], after what was sent to it by this
    /// handle.
    ///
    /// # Errors
    /// As [`send`](Self::send); the payload is given back.
    pub fn disconnect_with(
        &self,
        id: ConnectionId,
        payload: impl Into<Bytes>,
        backlog: Backlog,
    ) -> Result<(), Rejected<Bytes, MailboxError>> {
        let command = Command::DisconnectWith(id, payload.into(), backlog);
        self.put_payload(Self::put, command)
    }

    /// Closes a connection at once, as [`Net::abort`].
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn abort(&self, id: ConnectionId) -> Result<(), MailboxError> {
        self.put_plain(Command::Abort(id))
    }

    /// Connects to a peer, as [`Net::connect_with`]. The loop calls `then` with the id of the connection, or with the error
    /// if the attempt could not be started. Callbacks for the id come after that.
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
    /// As [`send`](Self::send).
    pub fn connect(
        &self,
        addr: SocketAddr,
        options: ConnectOptions,
        then: impl FnOnce(&mut H, &mut Net, Result<ConnectionId, ConnectError>) + Send + 'static,
    ) -> Result<(), MailboxError> {
        self.put_plain(Command::Connect(Box::new((addr, options)), Box::new(then)))
    }

    /// Runs a closure in the loop, with the handler and the connections.
    ///
    /// The size of the closure counts against [`max_pending_bytes`](crate::Config::max_pending_bytes), not what it owns on the
    /// heap.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn post(
        &self,
        closure: impl FnOnce(&mut H, &mut Net) + Send + 'static,
    ) -> Result<(), MailboxError> {
        self.put_plain(Command::Post(Post::new(closure)))
    }

    /// Like [`post`](Self::post), but never blocks.
    ///
    /// # Errors
    /// [`MailboxError`]; the closure is given back, for [`try_post_again`](Self::try_post_again).
    pub fn try_post(
        &self,
        closure: impl FnOnce(&mut H, &mut Net) + Send + 'static,
    ) -> Result<(), Rejected<Post<H>, MailboxError>> {
        self.try_post_again(Post::new(closure))
    }

    /// Posts a closure that was given back. Never blocks.
    ///
    /// # Errors
    /// As [`try_post`](Self::try_post).
    pub fn try_post_again(&self, post: Post<H>) -> Result<(), Rejected<Post<H>, MailboxError>> {
        match self.try_put(Command::Post(post)) {
            Err((error, Command::Post(post))) => Err(Rejected::new(error, post)),
            _ => Ok(()),
        }
    }

    /// Runs a closure in the loop, and blocks until it has returned.
    ///
    /// # Errors
    /// [`MailboxError::Closed`], also if the loop is dropped or the closure panics before it has returned;
    /// [`MailboxError::InCallback`] in a callback.
    pub fn call<R: Send + 'static>(
        &self,
        closure: impl FnOnce(&mut H, &mut Net) -> R + Send + 'static,
    ) -> Result<R, MailboxError> {
        if InLoop::is_entered() {
            return Err(MailboxError::InCallback);
        }
        let (sender, receiver) = mpsc::sync_channel(1);
        self.post(move |handler, net| {
            // It fails if nothing is waiting any more.
            let _ = sender.send(closure(handler, net));
        })?;
        receiver.recv().map_err(|_| MailboxError::Closed)
    }

    /// Makes [`run`](crate::EventLoop::run) return, as [`Net::stop`], after the commands that were queued before. Always has
    /// room.
    ///
    /// # Errors
    /// [`MailboxError::Closed`].
    pub fn stop(&self) -> Result<(), MailboxError> {
        self.put_always(Command::Stop)
    }

    /// Shuts the loop down gracefully, as [`Net::shutdown`], after the commands that were queued before. Always has room.
    ///
    /// # Errors
    /// [`MailboxError::Closed`].
    pub fn shutdown(&self, timeout: Duration) -> Result<(), MailboxError> {
        self.put_always(Command::Shutdown(timeout))
    }

    /// Sends an encoded frame to all connections.
    pub(crate) fn broadcast_encoded(&self, frame: Arc<Encoded>) -> Result<(), MailboxError> {
        self.put_plain(Command::BroadcastEncoded(frame))
    }

    /// Hands over a peer that was accepted for the loop. Gives it back if there is no room.
    pub(crate) fn hand_in(&self, listener: ListenerId, peer: Peer) -> Result<(), Peer> {
        match self.try_put(Command::HandIn(listener, peer)) {
            Err((_, Command::HandIn(_, peer))) => Err(peer),
            _ => Ok(()),
        }
    }

    /// Whether the [`Mailbox`](super::Mailbox) was dropped. That of an [`EventLoop`](crate::EventLoop) is dropped with it,
    /// after its listeners are closed.
    pub fn is_closed(&self) -> bool {
        self.commands.is_closed()
    }

    /// Puts a command into the mailbox when there is room.
    fn put(&self, command: Command<H>) -> Result<(), (MailboxError, Command<H>)> {
        if InLoop::is_entered() {
            return self.try_put(command);
        }
        let bytes = command.bytes();
        let result = self.commands.send(command, bytes);
        result.map_err(|(refusal, command)| (refusal.into(), command))
    }

    /// Puts a command into the mailbox if there is room.
    fn try_put(&self, command: Command<H>) -> Result<(), (MailboxError, Command<H>)> {
        let bytes = command.bytes();
        let result = self.commands.try_send(command, bytes);
        result.map_err(|(refusal, command)| (refusal.into(), command))
    }

    /// Puts a command into the mailbox whether there is room or not.
    fn put_always(&self, command: Command<H>) -> Result<(), MailboxError> {
        let result = self.commands.send_always(command);
        result.map_err(|(refusal, _)| refusal.into())
    }

    /// Puts a command into the mailbox when there is room. A command that is refused is dropped.
    fn put_plain(&self, command: Command<H>) -> Result<(), MailboxError> {
        self.put(command).map_err(|(error, _)| error)
    }

    /// Puts a command with a payload into the mailbox, in one of the two ways.
    fn put_payload(
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
