//! A log of the events in a network, to understand failures and to compare two runs.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

/// The number of events kept by default.
const KEPT: usize = 400;

/// The last events, and a digest of all events.
#[derive(Debug)]
pub(crate) struct Trace {
    last: VecDeque<Entry>,
    pub(crate) digest: u64,
}

#[derive(Debug)]
struct Entry {
    at: Duration,
    what: What,
}

/// One event.
#[derive(Debug, Clone, Copy)]
pub(crate) enum What {
    Happened(&'static str),
    /// Something happened to a socket.
    Socket(u64, &'static str),
    /// A number of bytes of a socket.
    Bytes(u64, &'static str, usize),
    /// Something happened to a host.
    Host(usize, &'static str, u64),
}

impl Default for Trace {
    fn default() -> Self {
        Self {
            last: VecDeque::with_capacity(KEPT),
            digest: 0xCBF2_9CE4_8422_2325,
        }
    }
}

impl Trace {
    pub(crate) fn note(&mut self, at: Duration, what: What) {
        let (text, a, b) = match what {
            What::Happened(text) => (text, 0, 0),
            What::Socket(socket, text) => (text, socket, 1),
            What::Bytes(socket, text, count) => (text, socket, count as u64),
            What::Host(host, text, number) => (text, host as u64, number),
        };
        self.mix(at.as_nanos() as u64);
        self.mix(text.len() as u64 ^ u64::from(text.as_bytes()[0]) << 8);
        self.mix(a);
        self.mix(b);
        if self.last.len() == KEPT {
            self.last.pop_front();
        }
        self.last.push_back(Entry { at, what });
    }

    /// Adds payload to the digest.
    pub(crate) fn mix_bytes(&mut self, bytes: impl Iterator<Item = u8>) {
        for byte in bytes {
            self.mix(u64::from(byte));
        }
    }

    fn mix(&mut self, word: u64) {
        self.digest = (self.digest ^ word)
            .wrapping_mul(0x0000_0100_0000_01B3)
            .rotate_left(23);
    }

    /// Returns the last events as text, one per line.
    pub(crate) fn tail(&self, count: usize) -> String {
        let skipped = self.last.len().saturating_sub(count);
        let lines = self.last.iter().skip(skipped);
        lines.map(|entry| format!("{entry}\n")).collect()
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>14.6} s  ", self.at.as_secs_f64())?;
        match self.what {
            What::Happened(text) => f.write_str(text),
            What::Socket(socket, text) => write!(f, "socket {socket}: {text}"),
            What::Bytes(socket, text, count) => write!(f, "socket {socket}: {text}, {count} bytes"),
            What::Host(host, text, number) => write!(f, "host {host}: {text} {number}"),
        }
    }
}
