//! A link with TLS: its stream is in the session, which the connection keeps aside.
//!
//! What is decrypted is read, and what is to be encrypted is written, by the same code as for a socket. This file adds
//! what a socket does not have: bytes of the session itself that are to be written, the handshake, and the close_notify.

use std::io::{self, IoSlice, IoSliceMut};
use std::time::Duration;

use mio::{Interest, Token};

use super::Link;
use crate::connection::{Clock, Common, Connection, Failure, Fill, Flush, Io, Phase};
use crate::error::DecodeError;
use crate::reason::DisconnectCause;
use crate::socket::{READ_INTEREST, Readiness};
use crate::tick::Tick;
use crate::tls::{self, Buffers, Held, Session, Stage, Step};
use crate::write_queue::Dropped;

/// A session that is read and written like a socket.
struct Secured<'s> {
    session: &'s mut Session,
    buffers: Buffers,
    now: Tick,
    /// A write has blocked.
    is_blocked: bool,
    /// The last call proves that one more would return `WouldBlock`.
    is_drained: bool,
}

impl Secured<'_> {
    /// Lets the last read be repeated if it has stopped before the socket was empty, and has returned nothing.
    fn note_cut_short(&self, connection: &mut Connection) {
        if self.session.is_cut_short() {
            connection.readiness |= Readiness::READABLE;
        }
    }
}

impl Io for Secured<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.session.read(buffer, &mut self.buffers);
        self.is_drained = self.session.is_drained();
        read
    }

    fn read_vectored(&mut self, slices: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let mut read = 0;
        for slice in slices {
            match self.read(slice) {
                Ok(more) => {
                    read += more;
                    if more < slice.len() {
                        break;
                    }
                }
                Err(error) if read > 0 => {
                    self.session.defer(error);
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.is_blocked {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let written = self.session.write(slices, self.now);
        self.is_blocked = self.session.unsent() > 0;
        self.is_drained = self.is_blocked;
        written
    }

    fn short_is_drained(&self) -> bool {
        self.is_drained
    }
}

/// The session of a connection while it is used. It returns even if a reader of the user panics meanwhile.
struct Lent<'l> {
    connection: &'l mut Connection,
    session: Option<Box<Session>>,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            self.connection.put_session(session);
        }
    }
}

impl Link {
    /// Moves the stream into a session. The handshake follows when the stream is connected.
    pub(crate) fn secure(&mut self, tls: rustls::Connection, stage: Stage, common: &mut Common) {
        if let Some(stream) = self.stream.take() {
            let mut session = Session::new(stream, tls, stage);
            session.count(&mut common.memory);
            self.connection.put_session(Box::new(session));
        }
    }

    /// Uses the session as a stream. `None` if there is none.
    fn with_session<R>(
        &mut self,
        common: &mut Common,
        use_it: impl FnOnce(&mut Connection, &mut Secured<'_>, &mut Common) -> R,
    ) -> Option<R> {
        let mut lent = Lent {
            session: self.connection.take_session(),
            connection: &mut self.connection,
        };
        let session = lent.session.as_deref_mut()?;
        let mut secured = Secured {
            session,
            buffers: std::mem::take(&mut common.ciphertext),
            now: common.now,
            is_blocked: false,
            is_drained: false,
        };
        let result = use_it(lent.connection, &mut secured, common);
        common.ciphertext = secured.buffers;
        secured.session.count(&mut common.memory);
        Some(result)
    }

    #[cold]
    pub(super) fn fill_secured(
        &mut self,
        buffer: &mut [u8],
        most: usize,
        common: &mut Common,
    ) -> Fill {
        let fill = self.with_session(common, |connection, secured, common| {
            let fill = connection.fill(secured, buffer, most, common);
            secured.note_cut_short(connection);
            fill
        });
        fill.unwrap_or(Fill::Blocked)
    }

    /// What is discarded cannot be truncated: an EOF without close_notify is an end like any other.
    pub(super) fn discard_secured(&mut self, buffer: &mut [u8], common: &mut Common) -> Fill {
        let fill = self.with_session(common, |connection, secured, common| {
            let fill = connection.discard(secured, buffer, common.now);
            secured.note_cut_short(connection);
            match fill {
                Fill::Failed(error) if error.kind() == io::ErrorKind::UnexpectedEof => Fill::Ended,
                fill => fill,
            }
        });
        fill.unwrap_or(Fill::Blocked)
    }

    /// Writes the queue, then the bytes of the session itself; a close_notify if a FIN follows.
    #[cold]
    pub(super) fn flush_secured(
        &mut self,
        budget: usize,
        token: Token,
        common: &mut Common,
    ) -> Flush {
        let is_written_to = matches!(self.phase, Phase::Open | Phase::Closing);
        if !is_written_to || self.has_failed_write() || self.has_sent_fin() {
            return Flush::Done;
        }
        let closes = self.phase == Phase::Closing || self.is_half_closed();
        let outcome = self.with_session(common, |connection, secured, common| {
            if connection.waits_for_room() {
                return Flush::Blocked;
            }
            let before = (common.written.bytes, common.written.frames);
            let mut outcome = connection.flush(secured, budget, common);
            let is_over = match outcome {
                Flush::Done => true,
                Flush::Waiting => connection.is_left_open() && !connection.misleads(),
                _ => false,
            };
            if is_over && closes && !mutated!("close_notify forgotten") {
                secured.session.close();
            }
            if matches!(outcome, Flush::Done | Flush::Waiting) {
                match secured.session.send(common.now) {
                    Ok(true) => {}
                    Ok(false) if mutated!("ciphertext forgotten behind an empty queue") => {}
                    Ok(false) => {
                        connection.note_stream_blocked();
                        outcome = Flush::Blocked;
                    }
                    Err(error) => outcome = Flush::Failed(Box::new(Failure::Write(error))),
                }
            }
            // After a failed write the queue counts what was to be written.
            if !matches!(outcome, Flush::Failed(_)) {
                let bytes = common.written.bytes - before.0;
                let frames = common.written.frames - before.1;
                secured.session.note_written(bytes, frames);
            }
            let progress_at = secured.session.progress_at();
            connection.note_progress(progress_at, progress_at == common.now);
            outcome
        });
        self.follow_up(outcome.unwrap_or(Flush::Done), token, common)
    }

    /// Advances the handshake, and registers what it waits for. Returns whether it is done.
    pub(crate) fn shake(
        &mut self,
        token: Token,
        common: &mut Common,
    ) -> Result<bool, DisconnectCause> {
        let step = self.with_session(common, |connection, secured, common| {
            connection.readiness.remove(Readiness::WRITABLE);
            let left = &mut common.handshakes_left;
            let step = secured
                .session
                .shake(&mut secured.buffers, left, common.now);
            match step {
                Ok(Step::WantsRead) => connection.readiness.remove(Readiness::READ),
                Ok(Step::Postponed) => connection.readiness |= Readiness::READABLE,
                _ => {}
            }
            step
        });
        match step {
            Some(Ok(Step::Done)) => return Ok(true),
            Some(Ok(_)) | None => {}
            Some(Err(tls::Failure::Tls(error))) => {
                return Err(DisconnectCause::HandshakeFailed(error));
            }
            Some(Err(tls::Failure::Socket(error))) => {
                return Err(DisconnectCause::of_socket(error));
            }
        }
        let mut wanted = READ_INTEREST;
        if self.unsent_ciphertext() > 0 {
            wanted = wanted.add(Interest::WRITABLE);
        }
        if wanted != self.connection.interest() {
            let reregistered = self.reregister(token, wanted, common);
            reregistered.map_err(DisconnectCause::Network)?;
        }
        Ok(false)
    }

    fn reregister(&mut self, token: Token, wanted: Interest, common: &Common) -> io::Result<()> {
        if let Some(stream) = self.stream_mut() {
            stream.reregister(&common.registry, token, wanted)?;
        }
        self.connection.note_interest(wanted);
        Ok(())
    }

    /// Returns the bytes that are encrypted and not written.
    pub(super) fn unsent_ciphertext(&self) -> usize {
        self.session().map_or(0, Session::unsent)
    }

    /// Returns whether it can make progress without a further event.
    #[inline]
    pub(crate) fn is_runnable(&self) -> bool {
        match self.stream {
            Some(_) => self.connection.is_runnable(),
            None => self.is_secured_runnable(),
        }
    }

    fn is_secured_runnable(&self) -> bool {
        let Some(session) = self.session() else {
            return self.connection.is_runnable();
        };
        if self.phase == Phase::Connecting && session.stage() == Stage::Handshaking {
            let awaited = match session.unsent() {
                0 => Readiness::READABLE,
                _ => Readiness::WRITABLE,
            };
            return self.readiness.has(awaited);
        }
        self.connection.is_runnable()
    }

    /// Returns how many replies may be collected before they are written. A session encrypts from the queue.
    #[inline]
    pub(crate) fn room_for_replies(&self) -> Option<(usize, usize)> {
        match self.stream {
            Some(_) => self.connection.room_for_replies(),
            None => None,
        }
    }

    /// Returns the bytes that are queued, or encrypted and not written.
    pub(crate) fn queued_bytes(&self) -> u64 {
        self.connection.queued_bytes() + self.unsent_ciphertext() as u64
    }

    /// Returns the bytes that this connection holds, with its session.
    pub(crate) fn held(&self) -> u64 {
        self.connection.held() + self.held_by_session().all()
    }

    /// Returns the held bytes that no other connection can hold as well.
    pub(crate) fn held_alone(&self) -> u64 {
        self.connection.held_alone() + self.held_by_session().all()
    }

    /// Returns the held bytes that are not to be sent.
    #[cfg(debug_assertions)]
    pub(crate) fn unshown(&self) -> u64 {
        self.connection.unshown() + self.held_by_session().own as u64
    }

    fn held_by_session(&self) -> Held {
        self.session().map(Session::counted).unwrap_or_default()
    }

    /// Checks the deadlines of an open connection, and of ciphertext that blocks while nothing is queued.
    pub(crate) fn look_at_clock(&mut self, now: Tick) -> Clock {
        match (self.check_session(now), self.connection.look_at_clock(now)) {
            (Clock::Nothing, clock) | (clock, Clock::Nothing) => clock,
            (Clock::Ahead(one), Clock::Ahead(other)) => Clock::Ahead(one.min(other)),
            (over @ Clock::Over(_), _) | (_, over) => over,
        }
    }

    /// Lets a read be tried when the handshake is done: plaintext may have come with its end, and no event reports it.
    pub(super) fn expect_plaintext(&mut self) {
        if self.session().is_some() && !mutated!("plaintext behind a handshake forgotten") {
            self.connection.readiness |= Readiness::READABLE;
        }
    }

    /// Checks a session whose ciphertext blocks while nothing is queued.
    pub(super) fn check_session(&self, now: Tick) -> Clock {
        let is_left = |session: &&Session| session.unsent() > 0 && !self.has_failed_write();
        let session = self.session().filter(is_left);
        let (Some(session), Some(after)) = (session, self.look_when_blocked()) else {
            return Clock::Nothing;
        };
        if self.connection.has_queued() {
            return Clock::Nothing;
        }
        match after.checked_sub(now.since(session.progress_at())) {
            Some(left) if left > Duration::ZERO => Clock::Ahead(left),
            _ => Clock::Over(DisconnectCause::WriteStalled {
                after,
                queued: session.unsent() as u64,
            }),
        }
    }

    /// Takes the stream out of the session of a finished connection, and counts what was not sent and not read. Returns
    /// whether a part of a frame was encrypted and not sent.
    pub(super) fn end_session(&mut self, common: &mut Common) -> bool {
        let Some(session) = self.connection.take_session() else {
            return false;
        };
        #[cfg(feature = "sim")]
        let session = {
            let mut session = session;
            session.settle();
            self.connection
                .note_encrypted(session.unsent_frames().unwrap_or(0));
            session
        };
        session.counted().sub_from(&mut common.memory);
        self.connection.note_unread(session.unread() as u64);
        let unsent = session.unsent_frames().map(|frames| Dropped {
            frames,
            bytes: session.unsent() as u64,
        });
        self.stream = Some(session.into_stream());
        if let Some(unsent) = &unsent {
            self.connection.note_dropped(unsent);
        }
        unsent.is_some()
    }

    /// Puts bytes that other code has read before those of the stream: ciphertext, if there is a session.
    pub(crate) fn put_ahead(
        &mut self,
        bytes: Vec<u8>,
        common: &mut Common,
    ) -> Result<(), DecodeError> {
        match self.connection.session_mut() {
            Some(session) => {
                session.put_ahead(bytes);
                session.count(&mut common.memory);
                Ok(())
            }
            None => self.connection.put_ahead(bytes, common),
        }
    }
}
