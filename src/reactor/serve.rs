//! Serves a connection: reads, delivers, and writes the replies while the connection is in the cache.

use super::Reactor;
use super::share::Share;
use crate::connection::{EndOfStream, Fill, Phase};
use crate::connection_id::ConnectionId;
use crate::error::DecodeError;
use crate::handler::Handler;
use crate::net::{Input, Received};
use crate::reason::DisconnectCause;
use crate::socket::Readiness;

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
        let buffer = self.read_buffer.room();
        match self
            .net
            .receive_event(id, readiness, buffer, self.light.bytes)
        {
            Ok(input) => {
                let frames = self.net.config().frames_per_turn;
                let delivered = self.deliver(handler, id, &input, frames);
                let is_heavy = self.light.is_exceeded(input.read, delivered);
                // The end of a large frame is not read here: its connection is heavy.
                self.activity.note(input.read);
                if is_heavy {
                    self.note_burst();
                }
                self.net.finish_service(id, is_heavy);
            }
            Err(received) => self.serve_otherwise(handler, id, received, false),
        }
    }

    /// Serves a connection that is left over, within its budgets and its share of the turn.
    #[inline(never)]
    pub(super) fn serve_again<H: Handler + ?Sized>(
        &mut self,
        handler: &mut H,
        id: ConnectionId,
        share: Share,
    ) {
        let config = self.net.config();
        let (mut bytes, mut frames) = (config.read_budget, config.frames_per_turn);
        let (all_bytes, all_frames) = (bytes, frames);
        let mut is_heavy = false;
        loop {
            let most = bytes.min(share.at_once);
            match self.net.receive(id, self.read_buffer.room(), most) {
                Ok(input) => {
                    bytes = bytes.saturating_sub(input.read);
                    frames -= self.deliver(handler, id, &input, frames);
                    is_heavy = self
                        .light
                        .is_exceeded(all_bytes - bytes, all_frames - frames);
                    self.net.finish_service(id, is_heavy);
                    let is_spent = bytes == 0 || frames == 0 || self.net.work_done() >= share.end;
                    if is_spent || self.net.has_nothing_to_deliver(id) {
                        return;
                    }
                }
                Err(received) => return self.serve_otherwise(handler, id, received, is_heavy),
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
            Received::Later => return,
            Received::Nothing => self.net.look_at_error(id),
            Received::Fill(Fill::Ended) => self.end_of_stream(handler, id),
            Received::Fill(Fill::Failed(error)) => {
                self.net.end(id, Some(DisconnectCause::of_socket(error)));
            }
            Received::Fill(Fill::NoMemory(error)) => {
                let error = DecodeError::from(error);
                self.net.end(id, Some(error.into()));
            }
            Received::Fill(Fill::Blocked | Fill::Bytes { .. }) => {}
            Received::Metered(input, allowed) => {
                return self.deliver_metered(handler, id, &input, allowed);
            }
            Received::NotOpen(phase) => return self.serve_ending(handler, id, phase),
        }
        self.net.finish_service(id, is_heavy);
    }

    /// Delivers what was read from a connection with a rate limit, as far as the limit and the budget allow. Such a
    /// connection is read once per service.
    fn deliver_metered<H: Handler + ?Sized>(
        &mut self,
        handler: &mut H,
        id: ConnectionId,
        input: &Input,
        allowed: u64,
    ) {
        let frames = self.net.config().frames_per_turn.min(allowed);
        let delivered = self.deliver(handler, id, input, frames);
        self.net.charge(id, input.read, delivered);
        let is_heavy = self.light.is_exceeded(input.read, delivered);
        self.net.finish_service(id, is_heavy);
    }

    /// Serves a connection that is not open.
    fn serve_ending<H: Handler + ?Sized>(
        &mut self,
        handler: &mut H,
        id: ConnectionId,
        phase: Phase,
    ) {
        match phase {
            Phase::Closing | Phase::Draining => self.net.drain(id, self.read_buffer.room()),
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
            Err(cause) => self.net.end(id, Some(cause)),
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
