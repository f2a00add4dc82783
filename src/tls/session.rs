//! One session: reading, writing, closing.

use std::fmt;
use std::io::{self, IoSlice, Read, Write};

use super::handshake::Stage;
use super::pending::Pending;
use super::records::Records;
use crate::memory::Memory;
use crate::socket::Stream;
use crate::tick::Tick;

/// The memory of an idle session, in bytes: measured with TLS 1.3, rounded up.
const IDLE: usize = 8 * 1024;

/// The most ciphertext that is read at once.
const CIPHERTEXT: usize = 80 * 1024;

/// The most plaintext that is encrypted at once: five records. The 64 KiB of rustls would leave the last bytes of a frame of
/// 64 KiB, which has a header, to a record and a write of their own.
const AHEAD: usize = 80 * 1024;

/// How much longer than its plaintext ciphertext may be that is read at once: the headers and tags of its records. With
/// them, a frame of 64 KiB is read by one call.
const HEADERS: usize = 256;

/// The least ciphertext that is read at once, even if less plaintext is requested: about one record.
const RECORD: usize = 16 * 1024;

/// How many times a read may read ciphertext that contains no plaintext, such as session tickets. The rest is read in
/// the next turn, so that a peer cannot keep the loop busy.
const MAX_READS: usize = 2;

/// The ciphertext that was read for the session that is being served. All sessions of a loop share this buffer.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    pub(super) input: Vec<u8>,
}

/// The memory of a session, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Held {
    /// The session itself, and bytes that were received and not read yet.
    pub(crate) own: usize,
    /// Ciphertext that the socket has not taken.
    pub(crate) unsent: usize,
}

impl Buffers {
    /// Returns the buffer for the ciphertext of one read.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        self.input.resize(CIPHERTEXT, 0);
        &mut self.input
    }
}

impl Held {
    fn add_to(self, memory: &mut Memory) {
        memory.add_input(self.own);
        memory.add(self.unsent);
    }

    pub(crate) fn sub_from(self, memory: &mut Memory) {
        memory.sub_input(self.own);
        memory.sub(self.unsent);
    }

    pub(crate) fn all(self) -> u64 {
        (self.own + self.unsent) as u64
    }
}

/// A TLS session and its socket.
pub(crate) struct Session {
    pub(super) stream: Stream,
    pub(super) tls: rustls::Connection,
    pub(super) stage: Stage,
    pending: Pending,
    /// Ciphertext that was read, and that rustls has not taken.
    pub(super) unfed: Vec<u8>,
    records: Records,
    /// Plaintext that was decrypted and not read.
    plaintext: usize,
    /// The error that ends the session. Plaintext that precedes it is read first.
    pub(super) failure: Option<rustls::Error>,
    /// An error that a read has found behind plaintext.
    deferred: Option<io::Error>,
    /// The peer's close_notify was read.
    pub(super) has_ended: bool,
    /// The last read has emptied the socket and the session.
    is_drained: bool,
    /// The last read stopped before the socket was empty, and returned nothing.
    is_cut_short: bool,
    /// When the socket last took ciphertext.
    progress_at: Tick,
    /// The number of frames of which a part is in `pending`: an estimate. `None` if there are none.
    unsent_frames: Option<u64>,
    counted: Held,
    #[cfg(feature = "sim")]
    pub(super) passed: super::Passed,
}

impl Session {
    pub(crate) fn new(stream: Stream, mut tls: rustls::Connection, stage: Stage) -> Self {
        tls.set_buffer_limit(Some(AHEAD));
        Self {
            #[cfg(feature = "sim")]
            passed: super::Passed::before(&stream),
            stream,
            tls,
            stage,
            pending: Pending::default(),
            unfed: Vec::new(),
            records: Records::default(),
            plaintext: 0,
            failure: None,
            deferred: None,
            has_ended: false,
            is_drained: false,
            is_cut_short: false,
            progress_at: Tick::default(),
            unsent_frames: None,
            counted: Held::default(),
        }
    }

    pub(crate) fn stream(&self) -> &Stream {
        &self.stream
    }

    pub(crate) fn stream_mut(&mut self) -> &mut Stream {
        &mut self.stream
    }

    pub(crate) fn into_stream(self) -> Stream {
        self.stream
    }

    pub(crate) fn tls(&self) -> &rustls::Connection {
        &self.tls
    }

    /// Returns the bytes of ciphertext that the socket has not taken.
    pub(crate) fn unsent(&self) -> usize {
        self.pending.len()
    }

    /// Returns the bytes of plaintext that were not read.
    pub(crate) fn unread(&self) -> usize {
        self.plaintext
    }

    /// Returns the memory that is counted for the session.
    pub(crate) fn counted(&self) -> Held {
        self.counted
    }

    /// Counts the memory that the session takes now.
    pub(crate) fn count(&mut self, memory: &mut Memory) {
        let now = Held {
            own: IDLE + self.unfed.len() + self.plaintext + self.records.incomplete(),
            unsent: self.unsent(),
        };
        now.add_to(memory);
        std::mem::replace(&mut self.counted, now).sub_from(memory);
    }

    /// Returns whether the last read has shown that one more would return `WouldBlock`.
    pub(crate) fn is_drained(&self) -> bool {
        self.is_drained
    }

    /// Returns whether the last read may be repeated, although it returned `WouldBlock`.
    pub(crate) fn is_cut_short(&self) -> bool {
        self.is_cut_short
    }

    /// Returns when the socket last took ciphertext, or the first was queued.
    pub(crate) fn progress_at(&self) -> Tick {
        self.progress_at
    }

    /// Returns how many frames were encrypted but not completely written: an estimate. `None` if all were written.
    pub(crate) fn unsent_frames(&self) -> Option<u64> {
        self.unsent_frames
    }

    /// Notes how many bytes of the queue were encrypted by a flush, and how many frames they completed.
    pub(crate) fn note_written(&mut self, bytes: u64, frames: u64) {
        match self.unsent() as u64 {
            0 => self.unsent_frames = None,
            unsent if bytes > 0 => {
                // This assumes that all frames have the same length.
                let share = frames.saturating_mul(unsent).div_ceil(bytes);
                self.unsent_frames = Some(share.min(frames));
            }
            _ => {}
        }
    }

    /// Puts ciphertext that other code has already read in front of that of the socket.
    pub(crate) fn put_ahead(&mut self, mut ciphertext: Vec<u8>) {
        ciphertext.append(&mut self.unfed);
        self.unfed = ciphertext;
    }

    /// Reads plaintext. `Ok(0)` is the peer's close_notify; `UnexpectedEof` an EOF without it.
    pub(crate) fn read(&mut self, to: &mut [u8], buffers: &mut Buffers) -> io::Result<usize> {
        (self.is_drained, self.is_cut_short) = (false, false);
        if mutated!("close_notify before plaintext") && self.has_ended {
            return Ok(0);
        }
        let mut filled = self.take_plaintext(to);
        let mut reads = 0;
        while filled < to.len() && (filled == 0 || reads == 0) {
            if reads == MAX_READS {
                self.is_cut_short = true;
                break;
            }
            reads += 1;
            match self.read_ciphertext(&mut to[filled..], buffers) {
                Ok(Some(more)) => filled += more,
                Ok(None) => break,
                // Plaintext that was already decrypted comes first.
                Err(error) if filled > 0 => {
                    self.is_drained = error.kind() == io::ErrorKind::WouldBlock;
                    self.defer(error);
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        if filled > 0 {
            return Ok(filled);
        }
        self.tls.reader().read(to)
    }

    /// Keeps an error for the next read: a socket returns each only once.
    pub(crate) fn defer(&mut self, error: io::Error) {
        if error.kind() != io::ErrorKind::WouldBlock {
            self.deferred = Some(error);
        }
    }

    /// Reads ciphertext once, and returns the length of the plaintext in it. `None`: the stream has ended.
    fn read_ciphertext(
        &mut self,
        to: &mut [u8],
        buffers: &mut Buffers,
    ) -> io::Result<Option<usize>> {
        if let Some(error) = self.deferred.take() {
            return Err(error);
        }
        if let Some(error) = &self.failure {
            return Err(broken(error.clone()));
        }
        if self.has_ended {
            return Ok(None);
        }
        let Some(read) = self.receive((to.len() + HEADERS).clamp(RECORD, CIPHERTEXT), buffers)?
        else {
            return Ok(None);
        };
        let filled = self.feed(&buffers.input[..read], to);
        if self.failure.is_some() {
            // Sends the alert to the peer, if the socket has room.
            let _ = self.send(self.progress_at);
        }
        let is_over = self.has_ended || self.failure.is_some();
        self.is_drained &= self.plaintext == 0 && self.unfed.is_empty() && !is_over;
        match &self.failure {
            Some(error) if filled == 0 => Err(broken(error.clone())),
            _ => Ok(Some(filled)),
        }
    }

    /// Reads at most `most` bytes of ciphertext into the buffer. `None`: EOF.
    pub(super) fn receive(
        &mut self,
        most: usize,
        buffers: &mut Buffers,
    ) -> io::Result<Option<usize>> {
        let room = buffers.room();
        if !self.unfed.is_empty() {
            let len = self.unfed.len().min(most);
            room[..len].copy_from_slice(&self.unfed[..len]);
            self.unfed.drain(..len);
            return Ok(Some(len));
        }
        let read = self.stream.read(&mut room[..most])?;
        self.is_drained = read < most && self.stream.short_is_drained();
        if read == 0 {
            self.is_drained = false;
            let _ = self.tls.read_tls(&mut io::empty());
            return Ok(None);
        }
        Ok(Some(read))
    }

    /// Decrypts, until the end or an error. Returns the length of the plaintext that was read. During a handshake, stops at
    /// its end.
    pub(super) fn feed(&mut self, mut input: &[u8], to: &mut [u8]) -> usize {
        let was_handshaking = self.tls.is_handshaking();
        let mut filled = 0;
        while !input.is_empty() {
            let before = input;
            match self.tls.read_tls(&mut input) {
                // Bytes after a close_notify are ignored.
                Ok(0) => break,
                Ok(taken) => self.records.pass(&before[..taken]),
                Err(error) if self.plaintext == 0 => {
                    self.failure = Some(rustls::Error::General(error.to_string()));
                    break;
                }
                Err(_) => {
                    // The plaintext has to be read first.
                    self.put_ahead(input.to_vec());
                    break;
                }
            }
            match self.tls.process_new_packets() {
                Ok(state) => {
                    self.plaintext = state.plaintext_bytes_to_read();
                    self.has_ended = state.peer_has_closed();
                }
                Err(error) => {
                    self.failure = Some(error);
                    input = &[];
                }
            }
            filled += self.take_plaintext(&mut to[filled..]);
            if was_handshaking && !self.tls.is_handshaking() {
                self.put_ahead(input.to_vec());
                break;
            }
        }
        if self.records.incomplete() == 0 {
            // rustls frees memory when it is about to read.
            let _ = self.tls.read_tls(&mut Nothing);
        }
        filled
    }

    fn take_plaintext(&mut self, to: &mut [u8]) -> usize {
        if to.is_empty() {
            return 0;
        }
        let taken = self.tls.reader().read(to).unwrap_or(0);
        self.plaintext = self.plaintext.saturating_sub(taken);
        taken
    }

    /// Encrypts and writes. Returns how much was taken; a part of its ciphertext may be pending. Takes nothing while
    /// ciphertext is pending.
    pub(crate) fn write(&mut self, slices: &[IoSlice<'_>], now: Tick) -> io::Result<usize> {
        if !self.send(now)? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        #[cfg(feature = "sim")]
        let passed = self.passed;
        let taken = self.tls.writer().write_vectored(slices)?;
        let sent = self.send(now);
        #[cfg(feature = "sim")]
        match &sent {
            Ok(_) => self.passed.plaintext += taken as u64,
            // The caller keeps what was to be written.
            Err(_) => self.passed = passed,
        }
        sent.map(|_| taken)
    }

    /// Queues a close_notify, once.
    pub(crate) fn close(&mut self) {
        self.tls.send_close_notify();
    }

    /// Writes pending ciphertext and the messages of rustls. Returns whether nothing is left.
    pub(crate) fn send(&mut self, now: Tick) -> io::Result<bool> {
        let (written, result) = self.pending.flush(&mut self.stream);
        if written > 0 {
            self.progress_at = now;
        }
        result?;
        if self.unsent() > 0 {
            return Ok(false);
        }
        self.unsent_frames = None;
        if !self.tls.wants_write() {
            return Ok(true);
        }
        let (taken, result) = self.pending.send(&mut self.tls, &mut self.stream);
        if taken > 0 {
            self.progress_at = now;
        }
        #[cfg(feature = "sim")]
        {
            self.passed.ciphertext += taken as u64;
        }
        result.map(|()| self.unsent() == 0)
    }
}

/// An error of the protocol, as an `io::Error`, like the errors of a socket.
fn broken(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// A reader without anything to read.
struct Nothing;

impl Read for Nothing {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("stream", &self.stream)
            .field("stage", &self.stage)
            .field("unsent", &self.unsent())
            .field("unread", &self.unread())
            .finish_non_exhaustive()
    }
}
