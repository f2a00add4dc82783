//! Serves a connection: reads, delivers, and writes the replies while the connection is in the cache.

use super::Reactor;
use crate::connection::{Fill, Origin, Phase};
use crate::connection_id::ConnectionId;
use crate::error::DecodeError;
use crate::handler::Handler;
use crate::net::{EndOfStream, Received};
use crate::reason::DisconnectCause;
use crate::socket::Readiness;

/// A light connection is read once, at most this many bytes, whatever it may be as a heavy one.
const LIGHT: usize = 64 * 1024;

impl Reactor {
    /// Serves a connection that has an event: reads once, delivers, and writes the replies. A heavy connection is listed
    /// instead, to be [served again](Self::serve_again) after the light ones.
    #[inline(always)]
    pub(super) fn serve_event<H: Handler + ?Sized>(
        &mut self,
        handler: &mut H,
        id: ConnectionId,
        readiness: Readiness,
    ) {
        let most = self.net.config().read_budget.min(LIGHT);
        match self
            .net
            .receive_event(id, readiness, &mut self.read_buffer, most)
        {
            Received::Input(input) => {
                let frames = self.net.config().frames_per_turn;
                let delivered = self.deliver(handler, id, &input, frames);
                let is_heavy = input.read >= most / 2 || delivered >= frames.div_ceil(2);
                self.net.finish_service(id, is_heavy);
            }
            received => self.serve_otherwise(handler, id, received, false),
        }
    }

    /// Serves a connection that is left over, within its budgets.
    #[inline(never)]
    pub(super) fn serve_again<H: Handler + ?Sized>(&mut self, handler: &mut H, id: ConnectionId) {
        let config = self.net.config();
        let (mut bytes, mut frames) = (config.read_budget, config.frames_per_turn);
        let (half_of_bytes, half_of_frames) = (bytes.min(LIGHT) / 2, frames / 2);
        let (all_bytes, all_frames) = (bytes, frames);
        let mut is_heavy = false;
        loop {
            match self.net.receive(id, &mut self.read_buffer, bytes) {
                Received::Input(input) => {
                    bytes = bytes.saturating_sub(input.read);
                    frames -= self.deliver(handler, id, &input, frames);
                    is_heavy =
                        all_bytes - bytes >= half_of_bytes || all_frames - frames >= half_of_frames;
                    self.net.finish_service(id, is_heavy);
                    if bytes == 0 || frames == 0 || self.net.has_nothing_to_deliver(id) {
                        return;
                    }
                }
                received => return self.serve_otherwise(handler, id, received, is_heavy),
            }
        }
    }

    /// Serves a connection from which nothing was read.
    #[cold]
    #[inline(never)]
    fn serve_otherwise<H: Handler + ?Sized>(
        &mut self,
        handler: &mut H,
        id: ConnectionId,
        received: Received,
        is_heavy: bool,
    ) {
        match received {
            Received::Later | Received::Input(_) => return,
            Received::Nothing => return self.serve_with_care(handler, id),
            Received::Fill(Fill::Ended) => self.end_of_stream(handler, id),
            Received::Fill(Fill::Failed(error)) => {
                self.net.end(id, Some(DisconnectCause::of_socket(error)));
            }
            Received::Fill(Fill::NoMemory(error)) => {
                let error = DecodeError::from(error);
                self.net.end(id, Some(error.into()));
            }
            Received::Fill(Fill::Blocked | Fill::Bytes { .. }) => {}
            Received::NotOpen(phase) => return self.serve_ending(handler, id, phase),
        }
        self.net.finish_service(id, is_heavy);
    }

    /// Serves a connection that has a rate limit, or is not to be read now. Reads once, within the limit; what is left is
    /// listed.
    fn serve_with_care<H: Handler + ?Sized>(&mut self, handler: &mut H, id: ConnectionId) {
        let config = self.net.config();
        let (bytes, frames) = (config.read_budget.min(LIGHT), config.frames_per_turn);
        match self.net.receive_metered(id, &mut self.read_buffer, bytes) {
            Received::Input(input) => {
                let most = self.net.frames_allowed(id).min(frames);
                let delivered = self.deliver(handler, id, &input, most);
                let excess = self.net.charge(id, input.read, delivered);
                let is_heavy = input.read >= bytes / 2 || delivered >= frames.div_ceil(2);
                self.net.finish_service(id, is_heavy);
                if excess.is_some() {
                    self.net.end(id, excess);
                }
            }
            Received::Nothing => {
                self.net.look_at_error(id);
                self.net.finish_service(id, false);
            }
            received => self.serve_otherwise(handler, id, received, false),
        }
    }

    /// Serves a connection that is not open.
    fn serve_ending<H: Handler + ?Sized>(
        &mut self,
        handler: &mut H,
        id: ConnectionId,
        phase: Phase,
    ) {
        match phase {
            Phase::Closing | Phase::Draining => self.net.drain(id, &mut self.read_buffer),
            Phase::Releasing => self.net.serve_releasing(id),
            Phase::Connecting => self.finish_connect(handler, id),
            Phase::Open | Phase::Closed => {}
        }
        self.net.list_if_runnable(id);
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
            Err((Origin::Adopted, error)) => {
                self.net.end(id, Some(DisconnectCause::of_socket(error)));
            }
            Err((_, error)) => {
                self.net
                    .end(id, Some(DisconnectCause::ConnectFailed(error)));
            }
        }
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
