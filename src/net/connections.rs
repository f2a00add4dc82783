//! The connections of a loop, and the [replies](super::replies) to the one that is being served.
//!
//! A lookup of that connection must not miss the replies: [`get_mut`](Connections::get_mut) queues them first. Only
//! [`receiving`](Connections::receiving) does not.

use std::sync::Arc;

use super::replies::Replies;
use super::table::Table;
use super::uncopied::Part;
use crate::connection_id::ConnectionId;
use crate::frame::LengthPrefix;
use crate::link::Link;
use crate::write_queue::WriteQueue;

#[derive(Debug)]
pub(super) struct Connections {
    table: Table<Link, ConnectionId>,
    replies: Replies,
    /// A spare queue for replies that cannot be written at once. Present while there may be such replies.
    spare: Option<Box<WriteQueue>>,
}

impl Connections {
    pub(super) fn new() -> Self {
        Self {
            table: Table::new(),
            replies: Replies::new(),
            spare: None,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) fn next_id(&self) -> ConnectionId {
        self.table.next_id()
    }

    pub(super) fn insert(&mut self, link: Link) -> ConnectionId {
        self.table.insert(link)
    }

    pub(super) fn free(&mut self, id: ConnectionId) {
        self.table.free(id);
    }

    pub(super) fn generation(&self, index: usize) -> u32 {
        self.table.generation(index)
    }

    /// Returns a connection; without the replies, if it is being served. See [`replies`](Self::replies).
    #[inline]
    pub(super) fn get(&self, id: ConnectionId) -> Option<&Link> {
        self.table.get(id)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Link> {
        if self.replies.are_to(id) {
            self.queue_replies(id);
        }
        self.table.get_mut(id)
    }

    /// Returns a connection for operations that do not look at its queue.
    #[inline]
    pub(super) fn receiving(&mut self, id: ConnectionId) -> Option<&mut Link> {
        self.table.get_mut(id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (ConnectionId, &Link)> {
        self.table.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (ConnectionId, &mut Link)> {
        self.end_replies();
        self.table.iter_mut()
    }

    /// Begins to collect the replies to a connection that has no queue; see [`Replies::begin`]. `spare` supplies one.
    #[inline(always)]
    pub(super) fn begin_replies(
        &mut self,
        to: ConnectionId,
        prefix: LengthPrefix,
        longest: usize,
        most: usize,
        spare: impl FnOnce() -> Box<WriteQueue>,
    ) {
        if self.spare.is_none() && self.replies.is_retaining() {
            self.spare = Some(spare());
        }
        self.replies.begin(to, prefix, longest, most);
    }

    /// Returns whether replies to this connection are being collected.
    #[inline(always)]
    pub(super) fn replies_to(&self, to: ConnectionId) -> bool {
        self.replies.are_to(to)
    }

    /// Collects a reply with a payload of `len` bytes. Returns the place for the payload, or `None` if it has to be sent in
    /// another way.
    #[inline(always)]
    pub(super) fn reply(&mut self, to: ConnectionId, len: usize) -> Option<&mut [u8]> {
        self.replies.push(to, len)
    }

    /// Collects the frame that is being delivered from the shared read buffer, if it is a reply and follows another one.
    /// Returns its length.
    #[inline(always)]
    pub(super) fn send_back(&mut self, payload: &[u8]) -> Option<usize> {
        self.replies.send_back(payload)
    }

    /// Collects a small reply with any prefix, if there is room. Returns its length.
    #[inline(always)]
    pub(super) fn reply_small(&mut self, payload: &[u8]) -> Option<usize> {
        self.replies.push_small(payload)
    }

    /// Collects any other reply to the connection that is being served. Returns its length, or `None` if it has to be queued.
    pub(super) fn reply_otherwise(
        &mut self,
        payload: &[u8],
        spare: impl FnOnce() -> Box<WriteQueue>,
    ) -> Option<usize> {
        self.spare.get_or_insert_with(spare);
        self.replies.push_otherwise(payload)
    }

    /// The same for a payload that is the first `len` bytes of a buffer, which is taken.
    #[inline(never)]
    pub(super) fn reply_own(
        &mut self,
        to: ConnectionId,
        buffer: &mut Vec<u8>,
        len: usize,
        spare: impl FnOnce() -> Box<WriteQueue>,
    ) -> Option<usize> {
        if !self.replies.are_to(to) {
            return None;
        }
        self.spare.get_or_insert_with(spare);
        self.replies.push_own(buffer, len)
    }

    /// Allows replies to be written from the read buffer.
    pub(super) fn share_input(
        &mut self,
        input: Arc<Vec<u8>>,
        spare: impl FnOnce() -> Box<WriteQueue>,
    ) {
        self.spare.get_or_insert_with(spare);
        self.replies.share(input);
    }

    /// Notes which frame is being delivered from there.
    #[inline(always)]
    pub(super) fn offer(&mut self, payload: &[u8]) {
        self.replies.offer(payload);
    }

    /// Returns the bytes of the replies to a connection.
    pub(super) fn replies(&self, to: ConnectionId) -> u64 {
        let replies = &self.replies;
        if replies.are_to(to) {
            replies.len() as u64
        } else {
            0
        }
    }

    /// Returns the number of replies to a connection.
    #[cfg(feature = "sim")]
    pub(super) fn reply_frames(&self, to: ConnectionId) -> u64 {
        match self.replies.are_to(to) {
            true => self.replies.frames(),
            false => 0,
        }
    }

    /// Stops collecting replies to a connection, and returns the connection and its replies, which are to be cleared or
    /// [queued](Self::queue_taken). `None` if another lookup has queued them before.
    #[inline(always)]
    pub(super) fn take_replies(&mut self, to: ConnectionId) -> Option<(&mut Link, &mut Replies)> {
        if !self.replies.are_to(to) {
            return None;
        }
        self.replies.end();
        self.taken(to)
    }

    /// Returns a connection and its replies, which were taken.
    #[inline(always)]
    pub(super) fn taken(&mut self, to: ConnectionId) -> Option<(&mut Link, &mut Replies)> {
        Some((self.table.get_mut(to)?, &mut self.replies))
    }

    /// Queues replies that were taken.
    #[cold]
    pub(super) fn queue_taken(&mut self, to: ConnectionId) {
        let Self {
            table,
            replies,
            spare,
        } = self;
        if replies.len() > 0
            && let Some(mut queue) = spare.take()
            && let Some(link) = table.get_mut(to)
        {
            let prefix = replies.prefix();
            replies.take_apart(|part| match part {
                Part::Wire(frames) => queue.push_wire(prefix, frames),
                Part::Own(buffer, len) => link.push_reply(&mut queue, buffer, len),
            });
            link.set_queue(queue);
        }
        self.replies.clear_all(drop);
    }

    /// Queues replies that are being collected, if there are any.
    #[inline]
    pub(super) fn end_replies(&mut self) {
        if let Some(to) = self.replies.to() {
            self.queue_replies(to);
        }
    }

    #[cold]
    #[inline(never)]
    fn queue_replies(&mut self, to: ConnectionId) {
        if let Some((link, _)) = self.take_replies(to) {
            // What its own callbacks send is written after it was served.
            link.dirty = true;
            self.queue_taken(to);
        }
    }

    /// Frees the buffer for replies if it was not used since the last call, and returns the spare queue to be pooled.
    pub(super) fn trim(&mut self) -> Option<Box<WriteQueue>> {
        self.end_replies();
        self.replies.trim();
        self.spare.take()
    }

    /// Returns whether a later [`trim`](Self::trim) may free anything.
    pub(super) fn is_retaining(&self) -> bool {
        self.spare.is_some() || self.replies.is_retaining()
    }
}

impl Drop for Connections {
    /// Replies that were not written are unsent bytes of their connection.
    fn drop(&mut self) {
        self.end_replies();
    }
}
