//! The replies of a service: they are collected while a connection is served, and written when it was. Then it is listed if
//! there is more to do.

use std::io;
use std::sync::Arc;

use super::Net;
use crate::connection_id::{ConnectionId, Source};

impl Net {
    /// Begins to collect the replies to a connection in the middle of a frame, if its framing has a fast path.
    #[inline(never)]
    pub(super) fn begin_replies(&mut self, id: ConnectionId, (longest, most): (usize, usize)) {
        let Some(connection) = self.connections.receiving(id) else {
            return;
        };
        // A frame in a buffer of its own may be longer than what may be written at once.
        let most = most.min(self.schedule.most_written);
        match connection.prefix() {
            Some(prefix) => {
                let spare = || self.common.buffers.take_queue();
                self.connections
                    .begin_replies(id, prefix, longest, most, spare);
            }
            None => connection.dirty = true,
        }
    }

    /// Allows large replies to be written from the read buffer.
    pub(crate) fn share_input(&mut self, input: Arc<Vec<u8>>) {
        let spare = || self.common.buffers.take_queue();
        self.connections.share_input(input, spare);
    }

    /// Notes which frame is being delivered from there.
    #[inline(always)]
    pub(crate) fn offer(&mut self, payload: &[u8]) {
        self.connections.offer(payload);
    }

    /// Finishes the service of a connection: writes what its callbacks have sent, and lists it if there is more to do.
    #[inline(always)]
    pub(crate) fn finish_service(&mut self, id: ConnectionId, is_heavy: bool) {
        let Some((connection, replies)) = self.connections.take_replies(id) else {
            return self.finish_with_care(id, is_heavy);
        };
        connection.is_heavy = is_heavy | connection.expects_large();
        connection.dirty = false;
        if !replies.are_copied() {
            return self.finish_uncopied(id);
        }
        match connection.write_replies(replies.wire(), &mut self.common) {
            None => {
                let more = connection.has_input();
                self.common.written.frames += replies.clear();
                if more {
                    self.list(id);
                }
            }
            Some(result) => self.finish_unwritten(id, result),
        }
    }

    /// The same, if some replies were not copied.
    #[inline(never)]
    fn finish_uncopied(&mut self, id: ConnectionId) {
        let Some((connection, replies)) = self.connections.taken(id) else {
            return;
        };
        let len = replies.len();
        let common = &mut self.common;
        match replies.gather(|parts| connection.write_parts(parts, len, common)) {
            None => {
                let more = connection.has_input();
                let buffers = &mut self.common.buffers;
                self.common.written.frames += replies.clear_all(|buffer| buffers.put_input(buffer));
                if more {
                    self.list(id);
                }
            }
            Some(result) => self.finish_unwritten(id, result),
        }
    }

    /// Finishes the service of a connection whose replies were not all written.
    #[cold]
    #[inline(never)]
    fn finish_unwritten(&mut self, id: ConnectionId, result: io::Result<usize>) {
        self.connections.queue_taken(id);
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        let token = Source::Connection(id).token();
        let outcome = connection.replies_left(result, token, &mut self.common);
        self.follow_up(id, outcome);
        self.list_if_runnable(id);
    }

    #[cold]
    #[inline(never)]
    fn finish_with_care(&mut self, id: ConnectionId, is_heavy: bool) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.is_heavy = is_heavy | connection.expects_large();
        }
        self.flush(id);
        self.list_if_runnable(id);
    }

    /// Lists a connection that was served, if there is more to do.
    pub(crate) fn list_if_runnable(&mut self, id: ConnectionId) {
        let connection = self.connections.get(id);
        if connection.is_some_and(|connection| connection.is_runnable()) {
            self.list(id);
        }
    }
}
