//! What clients send and expect: frames whose content follows from a seed.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::PATIENCE;
use crate::problem::Problem;

/// Numbers that follow from a seed (SplitMix64).
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Returns a number below `end`.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// Returns the content of a frame.
    pub(super) fn payload(&mut self, len: usize) -> Vec<u8> {
        let mut payload = Vec::with_capacity(len + 8);
        while payload.len() < len {
            payload.extend_from_slice(&self.next().to_le_bytes());
        }
        payload.truncate(len);
        payload
    }

    /// Returns a frame of a typical size: small, rarely up to `longest`.
    pub(super) fn frame(&mut self, longest: u64) -> Vec<u8> {
        let end = match self.below(100) {
            0 => longest + 1,
            1..10 => 4096,
            _ => 200,
        };
        let len = self.below(end.min(longest + 1));
        self.payload(len as usize)
    }
}

/// A connection to the server, in one of its services.
pub(super) struct Wire(pub(super) TcpStream);

impl Wire {
    pub(super) fn connect(addr: SocketAddr, service: u8, number: u64) -> Result<Self, Problem> {
        let stream = TcpStream::connect(addr)
            .map_err(|error| Problem::failed(format!("cannot connect: {error}")))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut wire = Self(stream);
        let [a, b, c, d, e, f, g, h] = number.to_le_bytes();
        wire.send(&[service, a, b, c, d, e, f, g, h])?;
        Ok(wire)
    }

    /// Sends frames in one write.
    pub(super) fn send_all<'p>(
        &mut self,
        payloads: impl IntoIterator<Item = &'p [u8]>,
    ) -> Result<(), Problem> {
        let mut bytes = Vec::new();
        for payload in payloads {
            bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
            bytes.extend_from_slice(payload);
        }
        let sent = self.0.write_all(&bytes);
        sent.map_err(|error| Problem::failed(format!("cannot send: {error}")))
    }

    pub(super) fn send(&mut self, payload: &[u8]) -> Result<(), Problem> {
        self.send_all([payload])
    }

    /// Receives a frame; `None` if the server has closed between two frames.
    pub(super) fn receive(&mut self) -> Result<Option<Vec<u8>>, Problem> {
        let failed = |error| Problem::failed(format!("cannot receive: {error}"));
        let mut header = [0; 4];
        let read = read_some(&mut self.0, &mut header).map_err(failed)?;
        if read == 0 {
            return Ok(None);
        }
        self.0.read_exact(&mut header[read..]).map_err(failed)?;
        let mut payload = vec![0; u32::from_le_bytes(header) as usize];
        self.0.read_exact(&mut payload).map_err(failed)?;
        Ok(Some(payload))
    }

    /// Fails unless this is the next frame.
    pub(super) fn expect(&mut self, payload: &[u8]) -> Result<(), Problem> {
        match self.receive()? {
            Some(received) if received == payload => Ok(()),
            Some(received) => Err(Problem::failed(format!(
                "a frame of {} bytes came back as one of {}, or changed",
                payload.len(),
                received.len()
            ))),
            None => Err(Problem::failed("the server has closed the connection")),
        }
    }

    /// Fails unless the server closes now.
    pub(super) fn expect_end(&mut self) -> Result<(), Problem> {
        match self.receive()? {
            None => Ok(()),
            Some(more) => Err(Problem::failed(format!(
                "a frame of {} bytes came after the last",
                more.len()
            ))),
        }
    }

    /// Waits until something has arrived, and leaves it unread.
    pub(super) fn await_arrival(&self) -> Result<(), Problem> {
        self.0.peek(&mut [0])?;
        Ok(())
    }
}

/// Reads, and tries again if a signal has come between.
fn read_some(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match stream.read(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}
