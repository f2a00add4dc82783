//! The place of a TLS session in its connection, which does not look into it.

use super::{Common, Connection, WriteHalf};
use crate::config::Security;
use crate::socket::Readiness;
use crate::tick::Tick;
use crate::tls::Session;

impl Connection {
    pub(crate) fn security(&self) -> &Security {
        &self.terms.security
    }

    pub(crate) fn session(&self) -> Option<&Session> {
        self.aside.as_ref()?.session.as_deref()
    }

    pub(crate) fn session_mut(&mut self) -> Option<&mut Session> {
        self.aside.as_mut()?.session.as_deref_mut()
    }

    pub(crate) fn put_session(&mut self, session: Box<Session>) {
        self.aside.get_or_insert_default().session = Some(session);
    }

    pub(crate) fn take_session(&mut self) -> Option<Box<Session>> {
        self.aside.as_mut()?.session.take()
    }

    /// Keeps the incomplete first message of a peer. It precedes what will be read.
    pub(crate) fn keep_hello(&mut self, bytes: Vec<u8>, common: &mut Common) {
        // Nothing precedes it, so this cannot fail.
        let _ = self.put_ahead(bytes, common);
    }

    pub(crate) fn take_hello(&mut self, common: &mut Common) -> Vec<u8> {
        self.take_ahead(common)
    }

    /// Notes that the stream itself holds bytes, and takes no more until it is writable again.
    pub(crate) fn note_stream_blocked(&mut self) {
        self.write_half = WriteHalf::Blocked;
        self.readiness.remove(Readiness::WRITABLE);
    }

    /// Notes when the stream last took bytes, also of those that are no longer queued.
    pub(crate) fn note_progress(&mut self, at: Tick, is_new: bool) {
        if let Some(queue) = &mut self.queue {
            queue.progress_at = at;
        }
        if is_new {
            self.active_at = at;
        }
    }

    /// Returns whether the stream has to be writable before anything is written.
    pub(crate) fn waits_for_room(&self) -> bool {
        !self.may_write()
    }
}
