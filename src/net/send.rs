//! Sending: the ways to queue a payload, by cost.

use std::io;

use bytes::Bytes;
use log::debug;

use super::Net;
use super::fanout::{Encoded, Fanout, SendReport};
use crate::connection::{Common, Connection};
use crate::connection_id::ConnectionId;
use crate::error::{Rejected, SendError};
use crate::frame::{Frame, FrameWriter, LengthPrefix};
use crate::reason::DisconnectCause;

impl Net {
    /// Queues a frame, copying the payload. The best choice for small frames.
    ///
    /// The frame is written after the callback has returned, together with everything else that is queued for the
    /// connection: many sends make one write.
    ///
    /// ```
    /// use throng::{ConnectionId, Frame, Handler, Net, SendError};
    ///
    /// struct Uppercase;
    ///
    /// impl Handler for Uppercase {
    ///     fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
    ///         match net.send(id, &frame.to_ascii_uppercase()) {
    ///             Ok(()) => {}
    ///             // The peer reads too slowly. Nothing was queued.
    ///             Err(SendError::QueueFull { .. }) => {
    ///                 net.abort(id);
    ///             }
    ///             Err(error) => eprintln!("{id}: {error}"),
    ///         }
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// If the connection is closed or not established, if the framing cannot encode the payload, or if
    /// [`max_queued_bytes`](crate::Config::max_queued_bytes) are queued already. On error nothing is queued.
    #[inline]
    pub fn send(&mut self, id: ConnectionId, payload: &[u8]) -> Result<(), SendError> {
        if self.reply(id, payload) {
            return Ok(());
        }
        self.send_to(id, payload)
    }

    /// Fast path to the connection that is being served; `false` means: try the other paths.
    #[inline(always)]
    fn reply(&mut self, id: ConnectionId, payload: &[u8]) -> bool {
        let Some(place) = self.connections.reply(id, payload.len()) else {
            return self.connections.replies_to(id) && self.send_back(payload);
        };
        let len = LengthPrefix::DEFAULT_WIDTH + payload.len();
        self.common.memory.add(len);
        // The copy comes last: nothing has to be kept for after it.
        place.copy_from_slice(payload);
        true
    }

    /// The same for the frame that is being delivered from the read buffer.
    #[inline(never)]
    fn send_back(&mut self, payload: &[u8]) -> bool {
        match self.connections.send_back(payload) {
            Some(len) => {
                self.common.memory.add(len);
                true
            }
            None => self.reply_small(payload),
        }
    }

    /// The same for a small frame with any prefix.
    #[inline(never)]
    fn reply_small(&mut self, payload: &[u8]) -> bool {
        match self.connections.reply_small(payload) {
            Some(len) => {
                self.common.memory.add(len);
                true
            }
            None => self.reply_otherwise(payload),
        }
    }

    /// The same for any other frame.
    #[inline(never)]
    fn reply_otherwise(&mut self, payload: &[u8]) -> bool {
        let spare = || self.common.buffers.take_queue();
        let len = self.connections.reply_otherwise(payload, spare);
        self.common.memory.add(len.unwrap_or(0));
        len.is_some()
    }

    #[inline(never)]
    fn send_to(&mut self, id: ConnectionId, payload: &[u8]) -> Result<(), SendError> {
        if self.send_at_once(id, payload) {
            return Ok(());
        }
        self.send_with_care(id, payload)
    }

    /// Fast path to any other connection; `false` means: try the slow path.
    #[inline(always)]
    fn send_at_once(&mut self, id: ConnectionId, payload: &[u8]) -> bool {
        let Some(connection) = self.connections.get_mut(id) else {
            return false;
        };
        let is_sent = connection.push_at_once(payload, &mut self.common);
        if is_sent && !connection.dirty {
            connection.dirty = true;
            self.work.add_dirty(id);
        }
        is_sent
    }

    /// Slow path: handles the remaining cases, and determines the error.
    #[cold]
    fn send_with_care(&mut self, id: ConnectionId, payload: &[u8]) -> Result<(), SendError> {
        self.enqueue(id, |connection, common| {
            connection.with_queue(common, |queue, framing, limit| {
                Ok(queue.push_copied(framing, limit, payload)?)
            })
        })
    }

    /// Queues a frame that `encode` writes directly into the queue, without an intermediate buffer.
    ///
    /// ```
    /// # use throng::{Config, EventLoop};
    /// use std::io::Write;
    /// # let mut event_loop: EventLoop = EventLoop::new(Config::default())?;
    /// # let net = event_loop.net();
    /// # let listener = net.listen("127.0.0.1:0").unwrap();
    /// # let id = net.connect(net.listener(listener).and_then(|it| it.local_addr()).unwrap()).unwrap();
    ///
    /// let (x, y) = (3, 4);
    /// let sent = net.send_with(id, |out| write!(out, "at {x},{y}"));
    /// # assert!(sent.is_err(), "it is not connected yet");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`send`](Self::send), and if the closure fails. If it fails or panics, nothing is queued.
    pub fn send_with(
        &mut self,
        id: ConnectionId,
        encode: impl FnOnce(&mut FrameWriter<'_>) -> io::Result<()>,
    ) -> Result<(), SendError> {
        self.enqueue(id, |connection, common| {
            connection.with_queue(common, |queue, framing, limit| {
                let mut writer = queue.writer(framing)?;
                encode(&mut writer).map_err(SendError::Writer)?;
                let len = writer.finish(framing, limit)?;
                queue.count(len);
                Ok(())
            })
        })
    }

    /// Queues a frame: by reference from 4 KiB on, otherwise by copying, which is faster for small payloads.
    ///
    /// # Errors
    /// As [`send`](Self::send); the payload is returned in the error.
    pub fn send_bytes(&mut self, id: ConnectionId, payload: Bytes) -> Result<(), Rejected<Bytes>> {
        match self.enqueue_shared(id, &payload) {
            Ok(()) => Ok(()),
            Err(error) => Err(Rejected::new(error, payload)),
        }
    }

    /// Forwards a received frame at the lowest cost: a frame that was assembled from several reads is not copied.
    ///
    /// # Errors
    /// As [`send`](Self::send); the frame is returned in the error.
    #[inline]
    pub fn send_frame<'a>(
        &mut self,
        id: ConnectionId,
        frame: Frame<'a>,
    ) -> Result<(), Rejected<Frame<'a>>> {
        if let Some(borrowed) = frame.as_borrowed()
            && self.reply(id, borrowed)
        {
            return Ok(());
        }
        self.send_frame_to(id, frame)
    }

    #[inline(never)]
    fn send_frame_to<'a>(
        &mut self,
        id: ConnectionId,
        frame: Frame<'a>,
    ) -> Result<(), Rejected<Frame<'a>>> {
        match frame.as_borrowed() {
            Some(borrowed) => self
                .send_to(id, borrowed)
                .map_err(|error| Rejected::new(error, borrowed.into())),
            None => self.pass_on(id, frame),
        }
    }

    #[inline(never)]
    fn pass_on<'a>(
        &mut self,
        id: ConnectionId,
        mut frame: Frame<'a>,
    ) -> Result<(), Rejected<Frame<'a>>> {
        let Some((mut buffer, len)) = frame.take_buffer() else {
            let sent = self.send_bytes(id, frame.into_bytes());
            return sent.map_err(|rejected| Rejected::new(rejected.error, rejected.value.into()));
        };
        let spare = || self.common.buffers.take_queue();
        if let Some(len) = self.connections.reply_own(id, &mut buffer, len, spare) {
            self.common.memory.add(len);
            return Ok(());
        }
        let result = self.enqueue(id, |connection, common| {
            connection.push_owned(common, &mut buffer, len)
        });
        match result {
            Ok(()) => {
                self.recycle(buffer);
                Ok(())
            }
            Err(error) => {
                frame.return_buffer(buffer, len);
                Err(Rejected::new(error, frame))
            }
        }
    }

    /// Queues a frame for each of `ids`. It is encoded once per framing; from 4 KiB on all queues share one copy.
    ///
    /// ```
    /// # use throng::{Config, EventLoop};
    /// # let mut event_loop: EventLoop = EventLoop::new(Config::default())?;
    /// # let net = event_loop.net();
    /// # let room = Vec::new();
    /// let report = net.send_many(room.iter().copied(), b"Alice left");
    /// assert_eq!(report.queued, room.len());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// An id that comes twice gets the frame twice. A connection without room does not affect the others; see
    /// [`SendReport`]. The frame takes its place in the order of everything that was sent to a connection.
    pub fn send_many<'a>(
        &mut self,
        ids: impl IntoIterator<Item = ConnectionId>,
        frame: impl Into<Frame<'a>>,
    ) -> SendReport {
        let mut fanout = Fanout::new(frame.into());
        for id in ids {
            self.send_by_fanout(&mut fanout, id);
        }
        fanout.report
    }

    /// Queues a frame for each established connection for which `filter` returns `true`; see
    /// [`send_many`](Self::send_many).
    ///
    /// ```
    /// # use throng::{Config, EventLoop};
    /// # let mut event_loop: EventLoop = EventLoop::new(Config::default())?;
    /// # let net = event_loop.net();
    /// net.broadcast(|_| true, b"the server restarts in five minutes");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn broadcast<'a>(
        &mut self,
        filter: impl FnMut(ConnectionId) -> bool,
        frame: impl Into<Frame<'a>>,
    ) -> SendReport {
        self.fan_out(filter, Fanout::new(frame.into()))
    }

    /// Queues a frame that was encoded elsewhere for each established connection.
    pub(crate) fn broadcast_encoded(&mut self, frame: &Encoded) -> SendReport {
        self.fan_out(|_| true, frame.fanout())
    }

    #[inline]
    fn send_by_fanout(&mut self, fanout: &mut Fanout<'_>, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id)
            && fanout.push_by_reference(connection, &mut self.common)
        {
            if !connection.dirty {
                connection.dirty = true;
                self.work.add_dirty(id);
            }
            return;
        }
        let result = self.enqueue(id, |connection, common| fanout.push(connection, common));
        fanout.note(id, result);
    }

    fn fan_out(
        &mut self,
        mut filter: impl FnMut(ConnectionId) -> bool,
        mut fanout: Fanout<'_>,
    ) -> SendReport {
        for (id, connection) in self.connections.iter_mut() {
            if connection.is_open() && filter(id) {
                if !fanout.push_by_reference(connection, &mut self.common) {
                    let result = fanout.push(connection, &mut self.common);
                    self.upset |= connection.is_congested();
                    let is_queued = result.is_ok();
                    fanout.note(id, result);
                    if !is_queued {
                        continue;
                    }
                }
                if !connection.dirty {
                    connection.dirty = true;
                    self.work.add_dirty(id);
                }
            }
        }
        for id in std::mem::take(&mut fanout.report.refused) {
            if self
                .connections
                .get(id)
                .is_some_and(|it| it.ends_when_full())
            {
                let result = self.enqueue(id, |connection, common| fanout.push(connection, common));
                fanout.note(id, result);
            } else {
                self.note_full(id);
                fanout.report.refused.push(id);
            }
        }
        fanout.report
    }

    fn enqueue_shared(&mut self, id: ConnectionId, payload: &Bytes) -> Result<(), SendError> {
        self.enqueue(id, |connection, common| {
            connection.push_shared(common, payload)
        })
    }

    /// Queues with `push`. The connection is flushed after its own event, or at the end of the turn.
    #[inline]
    pub(super) fn enqueue(
        &mut self,
        id: ConnectionId,
        push: impl FnOnce(&mut Connection, &mut Common) -> Result<(), SendError>,
    ) -> Result<(), SendError> {
        let Some(mut connection) = self.connections.get_mut(id) else {
            return Err(refused(id, SendError::Disconnected));
        };
        if connection.is_full() && connection.ends_when_full() {
            // Bytes that only wait for the end of the turn, or for which the socket has room, end no connection.
            self.write_now(id);
            connection = match self.connections.get_mut(id) {
                Some(connection) => connection,
                None => return Err(refused(id, SendError::Disconnected)),
            };
        }
        let result = push(connection, &mut self.common);
        self.upset |= connection.is_congested();
        match result {
            Ok(()) => {
                if !connection.dirty && !mutated!("dirty mark forgotten") {
                    connection.dirty = true;
                    self.work.add_dirty(id);
                }
                Ok(())
            }
            Err(error) => {
                if let SendError::QueueFull { .. } = error {
                    // What a reader has added counts as congestion only now.
                    if !mutated!("interest kept after a refusal") {
                        self.note_full(id);
                    }
                }
                Err(refused(id, error))
            }
        }
    }

    /// Handles a frame for which there is no room: ends the connection, if that is its overflow policy. Otherwise it may
    /// have become congested just now: a reader can exceed the watermark when it is read.
    #[cold]
    fn note_full(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get(id)
            && connection.ends_when_full()
        {
            let (queued, max) = (
                connection.queued_bytes(),
                connection.options().max_queued_bytes,
            );
            return self.end(id, Some(DisconnectCause::SlowConsumer { queued, max }));
        }
        self.update_interest(id);
    }
}

#[cold]
fn refused(id: ConnectionId, error: SendError) -> SendError {
    debug!("{id}: not sent: {error}");
    error
}
