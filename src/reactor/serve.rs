//! Serves a connection: reads, delivers, and writes the replies while the connection is in the cache.

use log::trace;

use super::Reactor;
use super::deliver::Delivery;
use crate::connection::{Fill, Phase};
use crate::connection_id::ConnectionId;
use crate::handler::Handler;
use crate::net::EndOfStream;
use crate::reason::DisconnectCause;

impl Reactor {
    /// Serves a connection according to its phase. Returns whether there is more to do. Inlined into its callers, so
    /// that the path of every event has no call for it.
    #[inline(always)]
    pub(super) fn serve_connection<H: Handler + ?Sized>(
        &mut self,
        handler: &mut H,
        id: ConnectionId,
    ) -> bool {
        let Some((phase, mut is_heavy)) = self.net.phase_and_weight(id) else {
            return false;
        };
        match phase {
            Phase::Open => is_heavy = self.serve(handler, id, is_heavy),
            Phase::Closing | Phase::Draining => self.net.drain(id, &mut self.read_buffer),
            Phase::Releasing => self.net.serve_releasing(id),
            Phase::Connecting => self.finish_connect(handler, id),
            Phase::Closed => {}
        }
        self.net.connection_served(id, is_heavy)
    }

    fn finish_connect<H: Handler + ?Sized>(&mut self, handler: &mut H, id: ConnectionId) {
        match self.net.attempt(id) {
            Ok(false) => {}
            Ok(true) => {
                self.net.establish(id);
                if self.net.is_connected(id) {
                    self.net
                        .call("on_connect", id, |net| handler.on_connect(net, id));
                }
            }
            Err(cause) => self.net.end(id, Some(cause)),
        }
    }

    /// Reads, cuts frames, delivers them, and writes the replies. Returns whether the connection is heavy.
    ///
    /// A light connection may be served before others in this turn and after them in the last. So it has half a budget
    /// each time, and takes no more than one budget between two services of any other.
    #[inline(always)]
    fn serve<H: Handler + ?Sized>(
        &mut self,
        handler: &mut H,
        id: ConnectionId,
        is_heavy: bool,
    ) -> bool {
        let config = self.net.config();
        let whole = Budget {
            bytes: config.read_budget,
            frames: config.frames_per_turn,
        };
        let half = whole.half();
        let all = if is_heavy { whole } else { half };
        let mut left = all;
        loop {
            let read = self.receive(handler, id, &mut left);
            self.net.flush(id);
            if read == 0 || left.is_spent() || self.net.has_nothing_to_deliver(id) {
                return all.bytes - left.bytes >= half.bytes
                    || all.frames - left.frames >= half.frames;
            }
        }
    }

    /// Reads once and delivers frames, as far as the budget allows. Returns the number of bytes read.
    #[inline(always)]
    fn receive<H: Handler + ?Sized>(
        &mut self,
        handler: &mut H,
        id: ConnectionId,
        budget: &mut Budget,
    ) -> usize {
        match self.net.fill(id, &mut self.read_buffer, budget.bytes) {
            Some(Fill::Bytes { len, read }) => {
                trace!("{id} read {read} bytes");
                budget.bytes = budget.bytes.saturating_sub(read);
                let input = &self.read_buffer[..len];
                let delivery = Delivery::new(&mut self.net, id, input, read, budget.frames);
                budget.frames -= delivery.deliver(handler);
                return read;
            }
            None | Some(Fill::Blocked) => {}
            Some(Fill::Ended) => self.end_of_stream(handler, id),
            Some(Fill::Failed(error)) => {
                self.net.end(id, Some(DisconnectCause::of_socket(error)));
            }
            Some(Fill::NoMemory { requested }) => {
                self.net
                    .end(id, Some(DisconnectCause::OutOfMemory { requested }));
            }
        }
        0
    }

    fn end_of_stream<H: Handler + ?Sized>(&mut self, handler: &mut H, id: ConnectionId) {
        match self.net.end_of_stream(id) {
            EndOfStream::HalfOpen => {
                self.net
                    .call("on_half_close", id, |net| handler.on_half_close(net, id));
            }
            EndOfStream::Closes(cause) => self.net.close(id, cause),
        }
    }
}

/// What a connection may still do in this turn.
#[derive(Clone, Copy)]
struct Budget {
    /// Bytes to read.
    bytes: usize,
    /// Frames to deliver.
    frames: u64,
}

impl Budget {
    fn half(self) -> Self {
        Self {
            bytes: self.bytes.div_ceil(2),
            frames: self.frames.div_ceil(2),
        }
    }

    fn is_spent(self) -> bool {
        self.bytes == 0 || self.frames == 0
    }
}
