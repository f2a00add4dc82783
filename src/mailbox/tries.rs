//! The commands of a [`Handle`] that never block.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use super::command::{Command, Post};
use super::handle::Handle;
use crate::config::ConnectOptions;
use crate::connection::Backlog;
use crate::connection_id::ConnectionId;
use crate::error::{MailboxError, OpenError, Rejected};
use crate::net::{Encoded, Net};

/// # Commands that never block
impl<H: ?Sized> Handle<H> {
    /// Like [`send`](Self::send), but never blocks.
    ///
    /// # Errors
    /// Returns [`MailboxError`].
    pub fn try_send(&self, id: ConnectionId, payload: &[u8]) -> Result<(), MailboxError> {
        // Check first, so that a repeated try does not copy the payload each time.
        self.commands.check_room()?;
        let payload = Bytes::copy_from_slice(payload);
        Ok(self.try_send_bytes(id, payload)?)
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
    /// Returns [`MailboxError`]; the payload is given back.
    pub fn try_send_bytes(
        &self,
        id: ConnectionId,
        payload: impl Into<Bytes>,
    ) -> Result<(), Rejected<Bytes, MailboxError>> {
        self.put_payload(Self::try_put, Command::Send(id, payload.into()))
    }

    /// Like [`send_many`](Self::send_many), but never blocks.
    ///
    /// # Errors
    /// Returns [`MailboxError`]; the payload is given back.
    pub fn try_send_many(
        &self,
        ids: impl IntoIterator<Item = ConnectionId>,
        payload: impl Into<Bytes>,
    ) -> Result<(), Rejected<Bytes, MailboxError>> {
        let ids = ids.into_iter().collect();
        self.put_payload(Self::try_put, Command::SendMany(ids, payload.into()))
    }

    /// Like [`broadcast`](Self::broadcast), but never blocks.
    ///
    /// # Errors
    /// Returns [`MailboxError`]; the payload is given back.
    pub fn try_broadcast(
        &self,
        filter: impl FnMut(ConnectionId) -> bool + Send + 'static,
        payload: impl Into<Bytes>,
    ) -> Result<(), Rejected<Bytes, MailboxError>> {
        let command = Command::Broadcast(Box::new(filter), payload.into());
        self.put_payload(Self::try_put, command)
    }

    /// Like [`disconnect`](Self::disconnect), but never blocks.
    ///
    /// # Errors
    /// Returns [`MailboxError`].
    pub fn try_disconnect(&self, id: ConnectionId) -> Result<(), MailboxError> {
        self.try_put_plain(Command::Disconnect(id))
    }

    /// Like [`disconnect_with`](Self::disconnect_with), but never blocks.
    ///
    /// # Errors
    /// Returns [`MailboxError`]; the payload is given back.
    pub fn try_disconnect_with(
        &self,
        id: ConnectionId,
        payload: impl Into<Bytes>,
        backlog: Backlog,
    ) -> Result<(), Rejected<Bytes, MailboxError>> {
        let command = Command::DisconnectWith(id, payload.into(), backlog);
        self.put_payload(Self::try_put, command)
    }

    /// Like [`abort`](Self::abort), but never blocks.
    ///
    /// # Errors
    /// Returns [`MailboxError`].
    pub fn try_abort(&self, id: ConnectionId) -> Result<(), MailboxError> {
        self.try_put_plain(Command::Abort(id))
    }

    /// Like [`connect`](Self::connect), but never blocks.
    ///
    /// # Errors
    /// Returns [`MailboxError`]. In this case `then` is not called, and no attempt is made.
    pub fn try_connect(
        &self,
        addr: SocketAddr,
        options: ConnectOptions,
        then: impl FnOnce(&mut H, &mut Net, Result<ConnectionId, OpenError>) + Send + 'static,
    ) -> Result<(), MailboxError> {
        // Check first, so that a repeated try allocates nothing.
        self.commands.check_room()?;
        self.try_put_plain(Command::Connect(Box::new((addr, options)), Box::new(then)))
    }

    /// Like [`post`](Self::post), but never blocks.
    ///
    /// # Errors
    /// Returns [`MailboxError`]; the closure is given back, for [`try_post_again`](Self::try_post_again).
    pub fn try_post(
        &self,
        closure: impl FnOnce(&mut H, &mut Net) + Send + 'static,
    ) -> Result<(), Rejected<Post<H>, MailboxError>> {
        self.try_post_again(Post::new(closure))
    }

    /// Posts a closure that was given back. Never blocks.
    ///
    /// # Errors
    /// Same as [`try_post`](Self::try_post).
    pub fn try_post_again(&self, post: Post<H>) -> Result<(), Rejected<Post<H>, MailboxError>> {
        match self.try_put(Command::Post(post)) {
            Err((error, Command::Post(post))) => Err(Rejected::new(error, post)),
            _ => Ok(()),
        }
    }

    /// Sends an encoded frame to all connections.
    pub(crate) fn try_broadcast_encoded(&self, frame: Arc<Encoded>) -> Result<(), MailboxError> {
        self.try_put_plain(Command::BroadcastEncoded(frame))
    }

    /// Queues a command if there is room. A command that is refused is dropped.
    fn try_put_plain(&self, command: Command<H>) -> Result<(), MailboxError> {
        self.try_put(command).map_err(|(error, _)| error)
    }
}
