//! A pipe that splits, delays, fails and half-closes as its [`Script`] says.

use std::io::{self, IoSlice, IoSliceMut};

use crate::connection::Io;
use crate::socket::Readiness;

/// What the system does to one direction of the pipe once so many bytes were written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The reader sees the end of the stream; what follows is lost.
    Eof,
    ReadFails,
    WriteFails,
}

#[derive(Debug, Clone)]
pub(super) struct Script {
    /// Where writes and arrivals are interrupted, in ascending order.
    pub(super) write_cuts: Vec<usize>,
    pub(super) read_cuts: Vec<usize>,
    /// An interruption lasts until the next event. If not, the next attempt goes on.
    pub(super) short_is_drained: bool,
    /// The end is reported together with the last bytes.
    pub(super) end_rides: bool,
    pub(super) capacity: usize,
    pub(super) fault: Option<(Fault, usize)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Eof,
    Reset,
}

/// One direction.
#[derive(Debug)]
pub(super) struct Pipe {
    script: Script,
    /// All that was ever written.
    pub(super) bytes: Vec<u8>,
    /// How far may be written, has arrived, was read.
    room_to: usize,
    arrived: usize,
    pub(super) read: usize,
    /// How the writer has ended the stream.
    pub(super) end: Option<End>,
    pub(super) end_arrived: bool,
    /// A write did not take all, so there will be an event.
    lacks_room: bool,
    pub(super) has_reader: bool,
}

fn next_cut(cuts: &[usize], from: usize) -> usize {
    let next = cuts.iter().find(|cut| **cut > from);
    next.copied().unwrap_or(usize::MAX)
}

impl Pipe {
    pub(super) fn new(script: Script) -> Self {
        Self {
            room_to: next_cut(&script.write_cuts, 0),
            script,
            bytes: Vec::new(),
            arrived: 0,
            read: 0,
            end: None,
            end_arrived: false,
            lacks_room: false,
            has_reader: true,
        }
    }

    /// The end of the stream as its reader will see it, once that is decided.
    pub(super) fn end(&self) -> Option<(usize, End)> {
        let written = self.bytes.len();
        match self.script.fault {
            Some((Fault::Eof, at)) if at <= written => Some((at, End::Eof)),
            Some((Fault::ReadFails, at)) if at <= written => Some((at, End::Reset)),
            _ => self.end.map(|end| (written, end)),
        }
    }

    pub(super) fn readable_to(&self) -> usize {
        self.end().map_or(self.bytes.len(), |(at, _)| at)
    }

    fn refuses_writes(&self) -> bool {
        !self.has_reader || self.script.fault == Some((Fault::WriteFails, self.bytes.len()))
    }

    fn writable_to(&self) -> usize {
        let room = match self.end() {
            // What follows is lost, and takes no room.
            Some(_) => usize::MAX,
            None => self.read.saturating_add(self.script.capacity),
        };
        match self.script.fault {
            Some((Fault::WriteFails, at)) => room.min(at),
            _ => room,
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.refuses_writes() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let written = self.bytes.len();
        let to = match self.script.short_is_drained {
            true => self.room_to,
            false => next_cut(&self.script.write_cuts, written),
        };
        let taken = bytes.len().min(to.min(self.writable_to()) - written);
        self.bytes.extend_from_slice(&bytes[..taken]);
        self.lacks_room = taken == 0 || (taken < bytes.len() && self.script.short_is_drained);
        match taken {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            _ => Ok(taken),
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let to = match self.script.short_is_drained {
            true => self.arrived,
            false => self
                .arrived
                .min(next_cut(&self.script.read_cuts, self.read)),
        };
        let taken = buffer.len().min(to - self.read);
        buffer[..taken].copy_from_slice(&self.bytes[self.read..self.read + taken]);
        self.read += taken;
        match self.end() {
            _ if taken > 0 => Ok(taken),
            Some((_, End::Eof)) if self.end_arrived => Ok(0),
            Some((_, End::Reset)) if self.end_arrived => Err(io::ErrorKind::ConnectionReset.into()),
            _ => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    pub(super) fn may_make_room(&self) -> bool {
        self.lacks_room && (self.refuses_writes() || self.writable_to() > self.bytes.len())
    }

    pub(super) fn make_room(&mut self) {
        self.lacks_room = false;
        self.room_to = next_cut(&self.script.write_cuts, self.bytes.len());
    }

    pub(super) fn may_arrive(&self) -> bool {
        let has_end = self.end().is_some() && !self.end_arrived;
        self.has_reader && (self.arrived < self.readable_to() || has_end)
    }

    pub(super) fn arrive(&mut self) {
        let (from, to) = (self.arrived, self.readable_to());
        self.arrived = match self.script.short_is_drained {
            true => to.min(next_cut(&self.script.read_cuts, from)),
            false => to,
        };
        let is_all = self.arrived == to && (from == to || self.script.end_rides);
        self.end_arrived = is_all && self.end().is_some();
    }

    /// What a selector reports of the read side.
    pub(super) fn readiness(&self) -> Readiness {
        match self.end() {
            Some((_, End::Eof)) if self.end_arrived => Readiness::READABLE | Readiness::READ_CLOSED,
            Some(_) if self.end_arrived => Readiness::READ | Readiness::ERROR | Readiness::WRITABLE,
            _ if self.arrived > self.read => Readiness::READABLE,
            _ => Readiness::default(),
        }
    }
}

/// Both directions, as one of the connections sees them.
pub(super) struct Ends<'p> {
    pub(super) incoming: &'p mut Pipe,
    pub(super) outgoing: &'p mut Pipe,
}

impl Io for Ends<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.incoming.read(buffer)
    }

    fn read_vectored(&mut self, slices: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let len = slices.iter().map(|slice| slice.len()).sum();
        let mut bytes = vec![0; len];
        let read = self.incoming.read(&mut bytes)?;
        let mut rest = &bytes[..read];
        for slice in slices {
            let (piece, further) = rest.split_at(rest.len().min(slice.len()));
            slice[..piece.len()].copy_from_slice(piece);
            rest = further;
        }
        Ok(read)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.outgoing.write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let slices: Vec<&[u8]> = slices.iter().map(|slice| &**slice).collect();
        self.outgoing.write(&slices.concat())
    }

    fn short_is_drained(&self) -> bool {
        self.incoming.script.short_is_drained
    }
}
