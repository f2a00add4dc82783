//! Sending what is not there as a whole: frames from a reader, frames in pieces, and frames that replace each other.

use std::io::Read;

use log::debug;

use super::Net;
use crate::connection_id::ConnectionId;
use crate::error::{Rejected, SendError};

impl Net {
    /// Queues a frame of `len` bytes that are read from `reader` when it is their turn, in constant memory: a file of
    /// any size, say.
    ///
    /// The frame keeps its place: what was sent before is written before it, what is sent from now on after it. The
    /// reader is called on the thread of the loop, 64 KiB at a time, as fast as the peer takes the bytes; one that
    /// blocks holds up everybody. If it has nothing yet it says [`WouldBlock`](std::io::ErrorKind::WouldBlock), and is
    /// asked again after [`wake_reader`](Self::wake_reader); meanwhile it costs nothing. `Interrupted` is tried again
    /// at once.
    ///
    /// A reader that ends early, fails, or has more to give leaves a frame that cannot be completed: the connection
    /// ends, as [`ReaderEnded`](crate::DisconnectCause::ReaderEnded),
    /// [`ReaderFailed`](crate::DisconnectCause::ReaderFailed) or
    /// [`ReaderTooLong`](crate::DisconnectCause::ReaderTooLong). Whoever wants a part of a file wraps it in
    /// [`Read::take`]. A reader that panics has failed; the panic passes through the turn.
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
    /// As [`send`](Self::send), [`max_frame_len`](crate::Config::max_frame_len) included; the reader is given back.
    /// While it waits, it counts as 64 KiB against [`max_queued_bytes`](crate::Config::max_queued_bytes), so that
    /// nobody can make a server open files without end.
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

    /// Asks the readers of a connection again that had nothing; see [`send_reader`](Self::send_reader).
    ///
    /// Returns whether there was one.
    pub fn wake_reader(&mut self, id: ConnectionId) -> bool {
        let connection = self.connections.get_mut(id);
        let woken = connection.is_some_and(|connection| connection.wake_readers());
        if woken {
            self.mark_dirty(id);
        } else {
            debug!("{id}: wake_reader: none waits");
        }
        woken
    }

    /// Begins a frame of `len` bytes, which [`push_chunk`](Self::push_chunk) brings and
    /// [`finish_frame`](Self::finish_frame) ends: for a frame that arrives in pieces itself, or is made in pieces.
    ///
    /// While it is open, whatever else is sent to the connection waits behind it, and neither takes the room of its
    /// pieces nor counts for [`is_congested`](crate::ConnectionRef::is_congested). One frame of a connection can be open at a time. If
    /// the connection is [disconnected](Self::disconnect) before the frame is finished, the peer sees a stream that
    /// ends inside a frame.
    ///
    /// ```
    /// use throng::{Chunk, ConnectionId, Frame, Handler, Net, SendError};
    ///
    /// /// Passes frames of any length on from one connection to another, in constant memory.
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
    /// As [`send`](Self::send), and [`FrameOpen`](SendError::FrameOpen) if another one is open.
    pub fn begin_frame(&mut self, id: ConnectionId, len: u64) -> Result<(), SendError> {
        self.enqueue(id, |connection, common| connection.begin_frame(common, len))
    }

    /// Queues the next piece of the frame that is open, copying it; see [`begin_frame`](Self::begin_frame).
    ///
    /// The pieces that wait count against [`max_queued_bytes`](crate::Config::max_queued_bytes), but for the first piece
    /// there is always room: a frame that was accepted can begin. That they are more
    /// than the peer takes shows in [`is_congested`](crate::ConnectionRef::is_congested), and [`on_drain`](crate::Handler::on_drain)
    /// tells when to go on.
    ///
    /// # Errors
    /// As [`send`](Self::send); [`NoFrameOpen`](SendError::NoFrameOpen), and [`ChunkTooLong`](SendError::ChunkTooLong)
    /// if the frame is not that long. The frame stays open, as it was.
    pub fn push_chunk(&mut self, id: ConnectionId, piece: &[u8]) -> Result<(), SendError> {
        self.enqueue(id, |connection, common| {
            connection.push_chunk(common, piece)
        })
    }

    /// Ends the frame that is open. There is always room for that.
    ///
    /// # Errors
    /// [`FrameOpen`](SendError::FrameOpen) if pieces are missing, and the frame stays open;
    /// [`NoFrameOpen`](SendError::NoFrameOpen).
    pub fn finish_frame(&mut self, id: ConnectionId) -> Result<(), SendError> {
        self.enqueue(id, |connection, common| connection.finish_frame(common))
    }

    /// Queues a frame in the place of the one that was queued for the same `slot` and has not begun to be written: who
    /// reads slowly gets the newest state and not all that came before.
    ///
    /// The new frame goes to the end of the queue, so that it never overtakes what was sent before it; the old one is
    /// taken out, and counted in [`frames_replaced`](crate::Stats::frames_replaced). A frame that is partly written is
    /// finished as it is, and so is what the kernel has taken, which may be some MiB:
    /// [`max_unsent_in_kernel`](crate::ListenOptions::max_unsent_in_kernel) and
    /// [`send_buffer`](crate::ListenOptions::send_buffer) limit that. Slots belong to the connection, and are any numbers: one for each object of a game, say. For
    /// a peer that reads as fast as it is sent to, this is [`send`](Self::send).
    ///
    /// To replace a frame costs time in proportion to the slots that wait, so a few hundred of them are well, not a
    /// million.
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
    /// As [`send`](Self::send), where what is replaced makes room. If it fails the old frame stays.
    pub fn send_latest(
        &mut self,
        id: ConnectionId,
        slot: u32,
        payload: &[u8],
    ) -> Result<(), SendError> {
        self.enqueue(id, |connection, common| {
            connection.push_latest(common, slot, payload)
        })
    }
}
