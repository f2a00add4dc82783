//! What the link, the net and the reactor do for a connection, without a socket.

use std::io;

use super::pipe::End;
use super::{Pair, Side};
use crate::connection::{EndOfStream, Failure, Fill, Flush, Phase, Pressure, Written};
use crate::frame::Cut;
use crate::reason::DisconnectCause;
use crate::socket::Readiness;

impl Pair {
    pub(super) fn serve(&mut self, i: usize) {
        match self.sides[i].connection.phase {
            Phase::Open => {
                self.receive(i);
                self.flush(i);
            }
            _ => self.drain(i),
        }
        self.update_interest(i);
    }

    fn receive(&mut self, i: usize) {
        let most = self.budget.read;
        let (side, mut ends, common, buffer) = self.parts(i);
        let connection = &mut side.connection;
        if !connection.wants_delivery() || connection.read_ended() {
            return self.look_at_error(i);
        }
        match connection.fill(&mut ends, buffer, most, common) {
            Fill::Bytes { len, read } => {
                side.heard += read;
                self.deliver(i, len, read);
            }
            Fill::Blocked => {}
            Fill::Ended => match connection.at_end_of_stream() {
                EndOfStream::HalfOpen => {}
                EndOfStream::Closes(cause) => self.close(i, cause),
            },
            Fill::Failed(error) => self.end(i, Some(DisconnectCause::of_socket(error))),
            Fill::NoMemory(_) => unreachable!("frames are small"),
        }
    }

    fn deliver(&mut self, i: usize, len: usize, read: usize) {
        let Self {
            sides,
            common,
            buffer,
            budget,
            ..
        } = self;
        let Side {
            connection, got, ..
        } = &mut sides[i];
        let (mut input, mut left, mut exhausted) = (&buffer[..len], budget.frames, false);
        while left > 0 && !exhausted && connection.may_deliver() {
            match connection
                .cut(&mut input, &mut common.memory)
                .expect("well formed")
            {
                Some(Cut::Borrowed(payload)) => got.push(payload.to_vec()),
                Some(Cut::Assembled(payload, len)) => {
                    got.push(payload[..len].to_vec());
                    common.buffers.put_input(payload);
                }
                Some(Cut::Chunk(..) | Cut::HeldChunk(..)) => unreachable!("none is streamed"),
                None => {
                    exhausted = true;
                    if !input.is_empty() || connection.is_inside_frame() {
                        connection.note_unfinished(read, common.now);
                    }
                    break;
                }
            }
            connection.note_finished();
            left -= 1;
        }
        connection.keep(input, exhausted, common).expect("memory");
    }

    fn look_at_error(&mut self, i: usize) {
        let incoming = &mut self.pipes[1 - i];
        let connection = &mut self.sides[i].connection;
        let is_reset = incoming.end().is_some_and(|(_, end)| end == End::Reset);
        if connection.begin_error_check() && incoming.end_arrived && is_reset {
            self.fail_write(i, io::ErrorKind::ConnectionReset.into());
        }
    }

    fn flush(&mut self, i: usize) {
        let budget = self.budget.write;
        let (side, mut ends, common, _) = self.parts(i);
        let connection = &mut side.connection;
        if connection.has_queued() || connection.pressure() != Pressure::NONE {
            match connection.flush(&mut ends, budget, common) {
                Flush::Done => {}
                Flush::Blocked | Flush::Waiting | Flush::Budget => return,
                Flush::Failed(failure) => match *failure {
                    Failure::Write(error) => return self.fail_write(i, error),
                    Failure::Connection(cause) => unreachable!("{cause}"),
                },
            }
        }
        match connection.when_written() {
            Written::Stays => {}
            Written::Drains => {
                connection.note_draining();
                self.pipes[i].end = Some(End::Eof);
            }
            Written::Ends => self.end(i, None),
            Written::HalfCloses => unreachable!("neither side is half-closed"),
        }
    }

    fn drain(&mut self, i: usize) {
        self.flush(i);
        let (side, mut ends, common, buffer) = self.parts(i);
        let connection = &mut side.connection;
        if connection.phase == Phase::Closed || !connection.readiness.has(Readiness::READABLE) {
            return;
        }
        let waits_for_flush = connection.phase == Phase::Closing;
        match connection.discard(&mut ends, buffer, common.now) {
            Fill::Ended if !waits_for_flush => self.end(i, None),
            Fill::Failed(error) => self.end(i, Some(DisconnectCause::of_socket(error))),
            _ => {}
        }
    }

    fn fail_write(&mut self, i: usize, error: io::Error) {
        let connection = &mut self.sides[i].connection;
        if connection.outlives_failed_write() {
            connection.fail_write(error, &mut self.common);
        } else {
            self.end(i, Some(DisconnectCause::of_socket(error)));
        }
    }

    pub(super) fn close(&mut self, i: usize, cause: DisconnectCause) {
        let connection = &mut self.sides[i].connection;
        if connection.has_failed_write() {
            self.end(i, None);
        } else if connection.is_open() {
            connection.close(cause, &mut self.common);
            self.update_interest(i);
        }
    }

    fn end(&mut self, i: usize, cause: Option<DisconnectCause>) {
        let connection = &mut self.sides[i].connection;
        if connection.phase == Phase::Closed {
            return;
        }
        let is_reset = connection.finish(cause, &mut self.common);
        let reason = connection
            .aside
            .as_ref()
            .and_then(|aside| aside.ending.as_ref());
        assert_eq!(
            is_reset,
            reason.is_some_and(|reason| reason.unsent_bytes > 0),
            "cut off"
        );
        let end = if is_reset { End::Reset } else { End::Eof };
        self.pipes[i].end.get_or_insert(end);
        self.pipes[1 - i].has_reader = false;
    }
}
