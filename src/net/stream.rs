//! Sending frames that are not complete yet: from a reader or in chunks; and frames that replace each other.

use std::io::Read;

use log::debug;

use super::Net;
use crate::connection_id::ConnectionId;
use crate::error::{Rejected, SendError};

impl Net {
    /// Queues a frame of `len` bytes that are read from `reader` when the frame is written. Uses constant memory, for
    /// example for a file of any size.
    ///
    /// The frame keeps its place in the queue: earlier sends are written before it, later ones after it. The reader is
    /// called on the loop's thread, 64 KiB at a time, as fast as the peer takes the bytes. A reader that blocks delays
    /// all connections. A reader that has no data yet returns [`WouldBlock`](std::io::ErrorKind::WouldBlock), and is
    /// called again after [`wake_reader`](Self::wake_reader); until then it costs nothing. `Interrupted` is retried
    /// immediately.
    ///
    /// If the reader ends early, fails, or has more than `len` bytes, the frame cannot be completed and the connection
    /// ends, as [`ReaderEnded`](crate::DisconnectCause::ReaderEnded),
    /// [`ReaderFailed`](crate::DisconnectCause::ReaderFailed) or
    /// [`ReaderTooLong`](crate::DisconnectCause::ReaderTooLong). To send a part of a file, wrap it in [`Read::take`]. A
    /// reader that panics counts as failed; the panic unwinds through the turn.
    ///
    /// ```no_run
    /// use std::fs::File;
    /// use throng::{ConnectionId, Net};
    ///
    /// fn upload(net: &mut Net, id: ConnectionId) -> std::io::Result<()> {
    ///     let file = File::open("world.dat")?;
    ///     let len = file.metadata()?.len();
    ///     net.send_reader(id, len, file).map_err(|rejected| rejected.error)?;
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`send`](Self::send), including [`max_frame_len`](crate::Config::max_frame_len); the reader is returned in
    /// the error. A queued reader counts as 64 KiB against [`max_queued_bytes`](crate::Config::max_queued_bytes), so
    /// that a peer cannot make a server open an unlimited number of files.
    pub fn send_reader<R: Read + Send + 'static>(
        &mut self,
        id: ConnectionId,
        len: u64,
        reader: R,
    ) -> Result<(), Rejected<R>> {
        let mut reader = Some(reader);
        let result = self.enqueue(id, |connection, common| {
            connection.push_reader(common, len, &mut reader)
        });
        match (result, reader) {
            (Err(error), Some(reader)) => Err(Rejected::new(error, reader)),
            _ => Ok(()),
        }
    }

    /// Calls the readers of a connection again that returned `WouldBlock`; see [`send_reader`](Self::send_reader).
    ///
    /// Returns whether there was such a reader.
    pub fn wake_reader(&mut self, id: ConnectionId) -> bool {
        let connection = self.connections.get_mut(id);
        let woken = connection.is_some_and(|connection| connection.wake_readers());
        if woken {
            self.mark_dirty(id);
        } else {
            debug!("{id}: wake_reader: no reader is waiting");
        }
        woken
    }

    /// Begins a frame of `len` bytes. [`push_chunk`](Self::push_chunk) adds its payload, and
    /// [`finish_frame`](Self::finish_frame) ends it. Use it for a frame that is itself received or produced in chunks.
    ///
    /// While the frame is open, all other frames sent to the connection are queued behind it. They neither take room
    /// from its chunks nor count for [`is_congested`](crate::ConnectionRef::is_congested). A connection can have one
    /// open frame at a time. If the connection is [disconnected](Self::disconnect) before the frame is finished, the
    /// peer sees a stream that ends inside a frame. A frame without a header, such as a line, would look complete: the
    /// connection is reset instead, after what is queued was written.
    ///
    /// ```
    /// use throng::{Chunk, ConnectionId, Frame, Handler, Net, SendError};
    ///
    /// /// Forwards frames of any length from one connection to another, in constant memory.
    /// struct Relay { from: ConnectionId, to: ConnectionId }
    ///
    /// impl Relay {
    ///     fn pass_on(&self, net: &mut Net, chunk: &Chunk<'_>) -> Result<(), SendError> {
    ///         if chunk.is_first() {
    ///             net.begin_frame(self.to, chunk.total().unwrap_or(0))?;
    ///         }
    ///         net.push_chunk(self.to, chunk)?;
    ///         if chunk.is_last() {
    ///             net.finish_frame(self.to)?;
    ///         }
    ///         Ok(())
    ///     }
    /// }
    ///
    /// impl Handler for Relay {
    ///     fn on_data(&mut self, net: &mut Net, _: ConnectionId, frame: Frame<'_>) {
    ///         if net.send_frame(self.to, frame).is_err() {
    ///             net.disconnect(self.from);
    ///         }
    ///     }
    ///     fn on_chunk(&mut self, net: &mut Net, _: ConnectionId, chunk: Chunk<'_>) {
    ///         if self.pass_on(net, &chunk).is_err() {
    ///             net.disconnect(self.from);
    ///         } else if net.connection(self.to).is_some_and(|it| it.is_congested()) {
    ///             net.pause(self.from);
    ///         }
    ///     }
    ///     fn on_drain(&mut self, net: &mut Net, _: ConnectionId) {
    ///         net.resume(self.from);
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`send`](Self::send), and [`FrameOpen`](SendError::FrameOpen) if another frame is open.
    pub fn begin_frame(&mut self, id: ConnectionId, len: u64) -> Result<(), SendError> {
        self.enqueue(id, |connection, common| connection.begin_frame(common, len))
    }

    /// Queues the next chunk of the open frame, copying it; see [`begin_frame`](Self::begin_frame).
    ///
    /// Queued chunks count against [`max_queued_bytes`](crate::Config::max_queued_bytes). The first chunk is always
    /// accepted, because the frame was. If more is queued than the peer takes,
    /// [`is_congested`](crate::ConnectionRef::is_congested) returns `true`; continue on
    /// [`on_drain`](crate::Handler::on_drain).
    ///
    /// # Errors
    /// As [`send`](Self::send); [`NoFrameOpen`](SendError::NoFrameOpen); [`ChunkTooLong`](SendError::ChunkTooLong) if
    /// the chunk exceeds the rest of the frame. The frame stays open, unchanged.
    pub fn push_chunk(&mut self, id: ConnectionId, piece: &[u8]) -> Result<(), SendError> {
        self.enqueue(id, |connection, common| {
            connection.push_chunk(common, piece)
        })
    }

    /// Ends the open frame. Never fails for lack of room.
    ///
    /// # Errors
    /// [`FrameOpen`](SendError::FrameOpen) if the payload is not complete, and the frame stays open;
    /// [`NoFrameOpen`](SendError::NoFrameOpen).
    pub fn finish_frame(&mut self, id: ConnectionId) -> Result<(), SendError> {
        self.enqueue(id, |connection, common| connection.finish_frame(common))
    }

    /// Queues a frame, replacing the one that was queued earlier for the same `slot`, unless a part of it was written.
    /// A slow reader receives the newest state instead of all states before it.
    ///
    /// The new frame goes to the end of the queue, so it never overtakes earlier frames. The old one is removed and
    /// counted in [`frames_replaced`](crate::Stats::frames_replaced). A partly written frame is completed unchanged.
    /// What the kernel has taken, which may be some MiB, is sent too;
    /// [`max_unsent_in_kernel`](crate::ListenOptions::max_unsent_in_kernel) and
    /// [`send_buffer`](crate::ListenOptions::send_buffer) limit that.
    ///
    /// Slots are per connection and can be any numbers, for example one for each object of a game. For a peer that
    /// keeps up, this is the same as [`send`](Self::send).
    ///
    /// Replacing a frame takes time proportional to the number of queued slots: fine for hundreds of slots, not for
    /// millions.
    ///
    /// ```
    /// # use throng::{ConnectionId, Net, SendError};
    /// fn tell_position(net: &mut Net, id: ConnectionId, object: u32, x: f32, y: f32) -> Result<(), SendError> {
    ///     let [a, b, c, d] = x.to_le_bytes();
    ///     let [e, f, g, h] = y.to_le_bytes();
    ///     net.send_latest(id, object, &[a, b, c, d, e, f, g, h])
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`send`](Self::send), but the replaced frame makes room. On error the old frame stays.
    pub fn send_latest(
        &mut self,
        id: ConnectionId,
        slot: u32,
        payload: &[u8],
    ) -> Result<(), SendError> {
        let mut has_eased = false;
        self.enqueue(id, |connection, common| {
            let before = connection.pressure();
            connection.push_latest(common, slot, payload)?;
            has_eased = connection.pressure().has_eased(before);
            Ok(())
        })?;
        if has_eased {
            self.relieved(id);
            self.update_interest(id);
        }
        Ok(())
    }
}
