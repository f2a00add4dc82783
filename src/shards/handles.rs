//! Handles of all shards, and ids that are unique over all shards.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::connection_id::{ConnectionId, parse_number};
use crate::error::{MailboxError, ParseIdError, Rejected};
use crate::frame::Framing;
use crate::mailbox::Handle;
use crate::net::Encoded;

/// Identifies a connection of [`Shards`](crate::Shards): a [`ConnectionId`] is unique only within its shard.
///
/// Displayed as `1:17#3`: connection `17#3` of shard 1. It can be parsed from that text:
///
/// ```
/// use throng::ShardedId;
///
/// let id: ShardedId = "1:17#3".parse()?;
/// assert_eq!((id.shard, id.connection.index()), (1, 17));
/// # Ok::<(), throng::ParseIdError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardedId {
    /// The index of the shard, from 0.
    pub shard: usize,
    /// The connection in that shard.
    pub connection: ConnectionId,
}

impl fmt::Display for ShardedId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.shard, self.connection)
    }
}

/// Parses the output of [`Display`](fmt::Display), and nothing else.
impl FromStr for ShardedId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let id = text.split_once(':').and_then(|(shard, connection)| {
            Some(Self {
                shard: parse_number(shard)?,
                connection: connection.parse().ok()?,
            })
        });
        id.ok_or(ParseIdError { expected: "1:17#3" })
    }
}

/// Controls [`Shards`](crate::Shards) from any thread. Contains a [`Handle`] for each shard; the documentation of
/// `Handle` applies here as well.
pub struct ShardHandles<H: ?Sized> {
    handles: Arc<[Handle<H>]>,
    /// The framing and the longest frame of each listener.
    framings: Arc<[(Framing, u64)]>,
}

impl<H: ?Sized> ShardHandles<H> {
    pub(super) fn new(handles: Vec<Handle<H>>, framings: Vec<(Framing, u64)>) -> Self {
        Self {
            handles: handles.into(),
            framings: framings.into(),
        }
    }

    /// Returns the number of shards.
    #[expect(clippy::len_without_is_empty, reason = "there is at least one shard")]
    pub fn len(&self) -> usize {
        self.handles.len()
    }

    /// Returns the handle of one shard.
    pub fn get(&self, shard: usize) -> Option<&Handle<H>> {
        self.handles.get(shard)
    }

    /// Iterates over the handles of all shards, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Handle<H>> {
        self.handles.iter()
    }

    /// Sends a frame to a connection on any shard; see [`Handle::send_bytes`].
    ///
    /// # Errors
    /// Same as there; [`MailboxError::Closed`] also if there is no such shard.
    pub fn send_bytes(
        &self,
        id: ShardedId,
        payload: impl Into<Bytes>,
    ) -> Result<(), Rejected<Bytes, MailboxError>> {
        let payload = payload.into();
        match self.get(id.shard) {
            Some(handle) => handle.send_bytes(id.connection, payload),
            None => Err(Rejected::new(MailboxError::Closed, payload)),
        }
    }

    /// Like [`send_bytes`](Self::send_bytes), but never blocks; see [`Handle::try_send_bytes`].
    ///
    /// A task that waits for room takes a clone of the handle of that shard:
    ///
    /// ```
    /// use throng::{MailboxError, ShardHandles, ShardedId};
    ///
    /// async fn tell<H>(
    ///     handles: &ShardHandles<H>,
    ///     id: ShardedId,
    ///     payload: Vec<u8>,
    /// ) -> Result<(), MailboxError> {
    ///     let mut handle = handles.get(id.shard).ok_or(MailboxError::Closed)?.clone();
    ///     handle.ready().await?;
    ///     Ok(handle.try_send_bytes(id.connection, payload)?)
    /// }
    /// ```
    ///
    /// # Errors
    /// Same as there; [`MailboxError::Closed`] also if there is no such shard.
    pub fn try_send_bytes(
        &self,
        id: ShardedId,
        payload: impl Into<Bytes>,
    ) -> Result<(), Rejected<Bytes, MailboxError>> {
        let payload = payload.into();
        match self.get(id.shard) {
            Some(handle) => handle.try_send_bytes(id.connection, payload),
            None => Err(Rejected::new(MailboxError::Closed, payload)),
        }
    }

    /// Closes a connection on any shard gracefully; see [`Handle::disconnect`].
    ///
    /// # Errors
    /// Same as [`send_bytes`](Self::send_bytes).
    pub fn disconnect(&self, id: ShardedId) -> Result<(), MailboxError> {
        let handle = self.get(id.shard).ok_or(MailboxError::Closed)?;
        handle.disconnect(id.connection)
    }

    /// Like [`disconnect`](Self::disconnect), but never blocks.
    ///
    /// # Errors
    /// Same as [`try_send_bytes`](Self::try_send_bytes).
    pub fn try_disconnect(&self, id: ShardedId) -> Result<(), MailboxError> {
        let handle = self.get(id.shard).ok_or(MailboxError::Closed)?;
        handle.try_disconnect(id.connection)
    }

    /// Sends a frame to every connection of all shards. It is encoded once per framing of the listeners, on this
    /// thread; large payloads are shared by all queues.
    ///
    /// Blocks until there is room. In a callback it does not block, but skips shards whose mailbox is full. Returns the
    /// number of shards that accepted the frame: all except those that were skipped or have ended.
    pub fn broadcast(&self, payload: impl Into<Bytes>) -> usize {
        self.broadcast_by(Handle::broadcast_encoded, payload.into())
    }

    /// Like [`broadcast`](Self::broadcast), but never blocks: skips shards whose mailbox is full.
    pub fn try_broadcast(&self, payload: impl Into<Bytes>) -> usize {
        self.broadcast_by(Handle::try_broadcast_encoded, payload.into())
    }

    /// Broadcasts with one of the two functions.
    fn broadcast_by(
        &self,
        put: impl Fn(&Handle<H>, Arc<Encoded>) -> Result<(), MailboxError>,
        payload: Bytes,
    ) -> usize {
        let encoded = Arc::new(Encoded::new(payload, &self.framings));
        let taken = self
            .iter()
            .filter(|handle| put(handle, Arc::clone(&encoded)).is_ok());
        taken.count()
    }

    /// Shuts all shards down gracefully; see [`Handle::shutdown`]. Shards that have ended are ignored.
    pub fn shutdown(&self, timeout: Duration) {
        for handle in self.iter() {
            // A shard that has ended is already shut down.
            let _ = handle.shutdown(timeout);
        }
    }
}

impl<H: ?Sized> Clone for ShardHandles<H> {
    fn clone(&self) -> Self {
        Self {
            handles: Arc::clone(&self.handles),
            framings: Arc::clone(&self.framings),
        }
    }
}

impl<H: ?Sized> fmt::Debug for ShardHandles<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sharded_ids_survive_the_way_through_text() {
        for shard in [0, 1, usize::MAX] {
            let connection = ConnectionId::from(17 << 32 | 3);
            let id = ShardedId { shard, connection };
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        for text in [
            "", ":", "17#3", "1:", ":17#3", "01:17#3", "+1:17#3", "1:2:17#3", "1:17",
        ] {
            assert!(text.parse::<ShardedId>().is_err(), "{text}");
        }
    }
}
