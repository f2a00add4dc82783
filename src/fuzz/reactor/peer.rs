//! A peer, and the frames that it sends: each contains its number and length.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use crate::ConnectionId;
use crate::frame::{FrameDecoder, FrameEncoder};

/// The frame of a peer with this number.
pub(super) fn payload(number: u32, len: usize) -> Vec<u8> {
    let mut payload = format!("{number}:{len}:").into_bytes();
    payload.resize(payload.len() + len, b'a' + (number % 26) as u8);
    payload
}

/// Reads the number and the length of a frame from itself, and checks its content.
pub(super) fn number_of(frame: &[u8]) -> u32 {
    let text = std::str::from_utf8(frame).expect("text");
    let mut fields = text.split(':').map(str::parse);
    let (Some(Ok(number)), Some(Ok(len))) = (fields.next(), fields.next()) else {
        panic!("a frame without a number");
    };
    assert!(
        payload(number, len as usize) == frame,
        "frame {number} is damaged"
    );
    number
}

/// The other end of a connection.
pub(super) struct Peer {
    pub(super) id: ConnectionId,
    pub(super) stream: UnixStream,
    pub(super) encoder: FrameEncoder,
    pub(super) decoder: FrameDecoder,
    /// Encoded frames that are not written yet.
    pub(super) unwritten: Vec<u8>,
    pub(super) sent: u32,
    pub(super) received: Vec<Vec<u8>>,
    pub(super) has_finished: bool,
    pub(super) has_ended: bool,
}

impl Peer {
    pub(super) fn write(&mut self, most: usize) {
        let most = most.min(self.unwritten.len());
        match self.stream.write(&self.unwritten[..most]) {
            Ok(written) => drop(self.unwritten.drain(..written)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            // The connection was closed or reset.
            Err(_) => self.unwritten.clear(),
        }
    }

    /// Reads once. Returns whether there may be more.
    pub(super) fn read(&mut self, most: usize) -> bool {
        let mut buffer = vec![0; most];
        match self.stream.read(&mut buffer) {
            Ok(0) => {
                self.has_ended |= most > 0;
                false
            }
            Ok(read) => {
                let mut input = &buffer[..read];
                while let Some(frame) = self.decoder.decode(&mut input).expect("valid frames") {
                    self.received.push(frame.to_vec());
                }
                true
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(_) => {
                self.has_ended = true;
                false
            }
        }
    }

    pub(super) fn finish(&mut self) {
        if !std::mem::replace(&mut self.has_finished, true) {
            // It fails if the other side has reset the connection.
            let _ = self.stream.shutdown(Shutdown::Write);
        }
    }
}
