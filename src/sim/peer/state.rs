//! What a scripted peer does by itself: it writes its outbox, reads, and closes.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

use super::End;
use crate::frame::{FrameDecoder, FrameEncoder, Framing};
use crate::socket::sim::{Id, Stream};

/// What a world stores about a peer.
pub(in crate::sim) struct State {
    pub(super) id: Id,
    pub(super) addr: SocketAddr,
    pub(super) stream: Option<Stream>,
    is_connecting: bool,
    pub(super) encoder: FrameEncoder,
    pub(super) decoder: FrameDecoder,
    /// Bytes to be sent.
    pub(super) outbox: VecDeque<u8>,
    pub(super) close: Close,
    has_closed: bool,
    /// A write has returned the error that a read would have returned.
    was_reset: bool,
    pub(super) keeps_open: bool,
    /// How many bytes it may read; `None` means all.
    pub(super) allowance: Option<usize>,
    pub(super) received: Vec<Vec<u8>>,
    /// How many of them were taken.
    pub(super) taken: usize,
    pub(super) bytes_received: u64,
    pub(super) end: Option<End>,
}

/// What it does once the outbox is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Close {
    Not,
    Half,
    Whole,
}

impl State {
    pub(in crate::sim) fn new(stream: Stream, is_connecting: bool) -> Self {
        Self {
            id: stream.id(),
            addr: stream.local_addr().expect("an open stream"),
            stream: Some(stream),
            is_connecting,
            encoder: FrameEncoder::new(Framing::default()),
            decoder: FrameDecoder::new(Framing::default()),
            outbox: VecDeque::new(),
            close: Close::Not,
            has_closed: false,
            was_reset: false,
            keeps_open: false,
            allowance: None,
            received: Vec::new(),
            taken: 0,
            bytes_received: 0,
            end: None,
        }
    }

    pub(in crate::sim) fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    /// Does what can be done now.
    pub(in crate::sim) fn advance(&mut self) {
        let stream = self.stream.as_ref();
        self.is_connecting &= stream.is_none_or(|stream| stream.peer_addr().is_err());
        self.send();
        self.receive();
    }

    pub(super) fn end(&mut self, end: End) {
        let end = if self.is_connecting {
            End::Refused
        } else {
            end
        };
        self.end.get_or_insert(end);
        self.stream = None;
    }

    fn send(&mut self) {
        let Some(stream) = &mut self.stream else {
            return;
        };
        while !self.outbox.is_empty() {
            match stream.write(self.outbox.make_contiguous()) {
                Ok(written) => {
                    self.is_connecting = false;
                    self.outbox.drain(..written);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // What has arrived can still be read.
                Err(_) => {
                    self.was_reset = true;
                    self.outbox.clear();
                    return;
                }
            }
        }
        match self.close {
            Close::Not => {}
            Close::Half if self.has_closed => {}
            Close::Half => self.has_closed = stream.shutdown_write().is_ok(),
            Close::Whole => self.end(End::Left),
        }
    }

    fn receive(&mut self) {
        let mut buffer = [0; 16 * 1024];
        while let Some(stream) = &mut self.stream {
            let most = self.allowance.unwrap_or(usize::MAX).min(buffer.len());
            if most == 0 {
                return;
            }
            match stream.read(&mut buffer[..most]) {
                Ok(0) => return self.end_of_stream(),
                Ok(len) => {
                    self.is_connecting = false;
                    if let Some(allowance) = &mut self.allowance {
                        *allowance -= len;
                    }
                    self.take(&buffer[..len]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => return self.end(End::Reset),
            }
        }
    }

    fn end_of_stream(&mut self) {
        let end = if self.was_reset {
            End::Reset
        } else if self.decoder.is_inside_frame() {
            End::ClosedInsideFrame
        } else {
            End::Closed
        };
        self.is_connecting = false;
        if self.keeps_open && !self.has_closed {
            self.end.get_or_insert(end);
            self.allowance = Some(0);
        } else {
            self.end(end);
        }
    }

    fn take(&mut self, mut bytes: &[u8]) {
        self.bytes_received += bytes.len() as u64;
        loop {
            match self.decoder.decode(&mut bytes) {
                Ok(Some(frame)) => self.received.push(frame.to_vec()),
                Ok(None) => return,
                Err(error) => panic!("the peer has received an invalid frame: {error}"),
            }
        }
    }
}
