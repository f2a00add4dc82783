//! `Network`: all sockets, listeners and segments of a simulated world, and its clock.
//!
//! It implements the system calls of a loop on its sockets. What takes time is put on the [agenda](super::agenda).

use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use slab::Slab;

use super::agenda::{Due, Event};
use super::faults::{Faults, Link};
use super::poll::Host;
use super::random::Random;
use super::socket::{Id, Mask, Party, Registration, Socket};
use super::trace::{Trace, What};
use crate::config::ConnectionOptions;

/// The first port that is chosen for a socket.
const FIRST_PORT: u16 = 49152;

#[derive(Debug)]
pub(super) struct Listener {
    pub(super) serial: u64,
    pub(super) addr: SocketAddr,
    pub(super) host: usize,
    pub(super) backlog: VecDeque<Id>,
    pub(super) most: usize,
    pub(super) sizes: Sizes,
    pub(super) registration: Option<Registration>,
}

/// The sizes of buffers that options override.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sizes {
    send: Option<u64>,
    receive: Option<u64>,
}

impl From<&ConnectionOptions> for Sizes {
    fn from(options: &ConnectionOptions) -> Self {
        Self {
            send: options.send_buffer,
            receive: options.receive_buffer,
        }
    }
}

/// What was written through a stream that is closed.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Written {
    pub(crate) bytes: u64,
    /// Frames that count both as written and as unsent: those of which a TLS session has encrypted all and written a
    /// part.
    pub(crate) twice: u64,
}

#[derive(Debug)]
pub(crate) struct Network {
    /// The time since the world began.
    pub(crate) now: Duration,
    pub(crate) random: Random,
    pub(crate) faults: Faults,
    pub(crate) link: Link,
    pub(crate) trace: Trace,
    /// Whether a short read or write proves that one more would block.
    pub(crate) is_linux: bool,
    /// Counts the operations on sockets that had an effect.
    pub(crate) progress: u64,
    pub(super) sockets: Slab<Socket>,
    pub(super) listeners: Slab<Listener>,
    pub(super) by_addr: BTreeMap<SocketAddr, usize>,
    pub(super) hosts: Vec<Host>,
    pub(super) agenda: BinaryHeap<Due>,
    pub(super) serial: u64,
    /// The bytes that were written through streams that are closed.
    written: BTreeMap<u64, Written>,
    partitions: Vec<(Party, Party)>,
    /// Sockets whose connections were ended by the network.
    disturbed: BTreeSet<u64>,
    next_port: u16,
}

impl Network {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let is_linux = random.one_in(2);
        Self {
            now: Duration::ZERO,
            random,
            faults: Faults::none(),
            link: Link::default(),
            trace: Trace::default(),
            is_linux,
            progress: 0,
            sockets: Slab::new(),
            listeners: Slab::new(),
            by_addr: BTreeMap::new(),
            hosts: Vec::new(),
            agenda: BinaryHeap::new(),
            serial: 0,
            written: BTreeMap::new(),
            partitions: Vec::new(),
            disturbed: BTreeSet::new(),
            next_port: FIRST_PORT,
        }
    }

    pub(crate) fn note(&mut self, what: What) {
        self.trace.note(self.now, what);
    }

    fn note_bytes(&mut self, id: Id, text: &'static str, count: usize) {
        self.progress += 1;
        self.note(What::Bytes(id.serial, text, count));
    }

    pub(super) fn note_socket(&mut self, id: Id, text: &'static str) {
        self.note(What::Socket(id.serial, text));
    }

    pub(super) fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// Returns a socket, unless it no longer exists.
    pub(super) fn socket(&mut self, id: Id) -> Option<&mut Socket> {
        let socket = self.sockets.get_mut(id.index)?;
        (socket.serial == id.serial).then_some(socket)
    }

    /// Returns the socket of a stream; it exists as long as the stream.
    fn of_stream(&mut self, id: Id) -> io::Result<&mut Socket> {
        self.socket(id)
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    pub(super) fn id_of(&self, index: usize) -> Option<Id> {
        let serial = self.sockets.get(index)?.serial;
        Some(Id { index, serial })
    }

    fn next_port(&mut self) -> u16 {
        loop {
            let port = self.next_port;
            self.next_port = port.checked_add(1).unwrap_or(FIRST_PORT);
            if !self.by_addr.keys().any(|addr| addr.port() == port) {
                return port;
            }
        }
    }

    fn sized(&mut self, most: usize) -> usize {
        if self.faults.small_buffers {
            let least = most.min(256);
            least + self.random.length(most) - 1
        } else {
            most
        }
    }

    pub(super) fn open(
        &mut self,
        owner: Party,
        local: SocketAddr,
        peer: SocketAddr,
        sizes: Sizes,
    ) -> Id {
        let serial = self.next_serial();
        let link = self.link;
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX).max(1);
        let send_buffer = match sizes.send {
            Some(bytes) => size(bytes),
            None => self.sized(link.send_buffer),
        };
        let receive_buffer = match sizes.receive {
            Some(bytes) => size(bytes),
            None => self.sized(link.receive_buffer),
        };
        let socket = Socket {
            serial,
            owner,
            local,
            peer,
            other: None,
            registration: None,
            is_connecting: true,
            input: VecDeque::new(),
            receive_buffer,
            fin_received: false,
            end_was_read: false,
            output: VecDeque::new(),
            in_flight: 0,
            send_buffer,
            is_choked: false,
            lacks_room: false,
            write_closed: false,
            fin_left: false,
            fin_arrived: false,
            latency: link.latency,
            bandwidth: link.bandwidth,
            busy_until: Duration::ZERO,
            last_arrival: Duration::ZERO,
            stalled_until: Duration::ZERO,
            is_reset: false,
            error: None,
            resets_on_close: false,
            has_file: false,
            is_closed: false,
            is_doomed: false,
        };
        let index = self.sockets.insert(socket);
        Id { index, serial }
    }

    /// Notes whether a socket takes a file descriptor of its host.
    pub(super) fn count_file(&mut self, id: Id, has_file: bool) {
        let Some(socket) = self.socket(id) else {
            return;
        };
        let before = std::mem::replace(&mut socket.has_file, has_file);
        if let Party::Host(host) = socket.owner {
            let files = &mut self.hosts[host].open_files;
            *files = *files + usize::from(has_file) - usize::from(before);
        }
    }

    /// Returns the address of a host's own end.
    fn address_of(&mut self, owner: Party) -> SocketAddr {
        let ip = match owner {
            Party::Host(host) => Ipv4Addr::from(0x0A00_0001 + host as u32),
            Party::Peer(peer) => Ipv4Addr::from(0x0A80_0001 + peer as u32),
        };
        SocketAddr::new(IpAddr::V4(ip), self.next_port())
    }

    /// Starts to connect.
    pub(crate) fn connect(
        &mut self,
        owner: Party,
        from: Option<IpAddr>,
        addr: SocketAddr,
        sizes: Sizes,
    ) -> io::Result<Id> {
        let mut outcome: fn(Id, SocketAddr) -> Event = Event::Syn;
        if let Party::Host(host) = owner {
            self.check_files(host)?;
            if self.random.one_in(self.faults.failed_connects) {
                let serial = self.next_serial();
                self.disturbed.insert(serial);
                match self.random.below(3) {
                    0 => return Err(io::ErrorKind::NetworkUnreachable.into()),
                    1 => outcome = |id, _| Event::Refused(id),
                    _ => outcome = |id, _| Event::Lost(id),
                }
            }
        }
        let mut local = self.address_of(owner);
        if let Some(ip) = from {
            local.set_ip(ip);
        }
        let id = self.open(owner, local, addr, sizes);
        self.count_file(id, true);
        self.note_socket(id, "connecting");
        let at = self.now + self.link.latency;
        self.schedule(at, outcome(id, addr));
        Ok(id)
    }

    fn check_files(&mut self, host: usize) -> io::Result<()> {
        let host = &self.hosts[host];
        if host.open_files >= host.max_files {
            return Err(no_file());
        }
        Ok(())
    }

    pub(crate) fn listen(
        &mut self,
        host: usize,
        mut addr: SocketAddr,
        most: usize,
        sizes: Sizes,
    ) -> io::Result<Id> {
        if addr.port() == 0 {
            addr.set_port(self.next_port());
        }
        if self.by_addr.contains_key(&addr) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let serial = self.next_serial();
        let index = self.listeners.insert(Listener {
            serial,
            addr,
            host,
            backlog: VecDeque::new(),
            most: most.max(1),
            sizes,
            registration: None,
        });
        self.by_addr.insert(addr, index);
        Ok(Id { index, serial })
    }

    pub(crate) fn listener_addr(&self, id: Id) -> Option<SocketAddr> {
        Some(self.listeners.get(id.index)?.addr)
    }

    /// Accepts a peer.
    pub(crate) fn accept(&mut self, id: Id) -> io::Result<(Id, SocketAddr)> {
        let Some(listener) = self.listeners.get(id.index) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let host = listener.host;
        self.check_files(host)?;
        if host > 0 && self.random.one_in(self.faults.failed_accepts) {
            match self.random.below(3) {
                0 => return Err(no_file()),
                1 => return Err(io::ErrorKind::OutOfMemory.into()),
                _ => {
                    if let Some(peer) = self.listeners[id.index].backlog.pop_front() {
                        self.disturbed_both(peer);
                        self.doom_other(peer);
                        self.free(peer);
                        self.note_socket(peer, "left before it was accepted");
                        return Err(io::ErrorKind::ConnectionAborted.into());
                    }
                }
            }
        }
        let Some(peer) = self.listeners[id.index].backlog.pop_front() else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        self.progress += 1;
        self.count_file(peer, true);
        self.note_socket(peer, "accepted");
        let addr = self.of_stream(peer)?.peer;
        Ok((peer, addr))
    }

    pub(crate) fn close_listener(&mut self, id: Id) {
        let Some(listener) = self.listeners.try_remove(id.index) else {
            return;
        };
        self.by_addr.remove(&listener.addr);
        for peer in listener.backlog {
            self.doom_other(peer);
            self.free(peer);
        }
    }

    pub(crate) fn read(&mut self, id: Id, buffer: &mut [u8]) -> io::Result<usize> {
        let (is_linux, faults) = (self.is_linux, self.faults.short_reads);
        let cut = !is_linux && self.random.one_in(faults);
        let mut most = buffer.len();
        if cut {
            most = self.random.length(most);
        }
        let socket = self.of_stream(id)?;
        if socket.is_connecting {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let len = most.min(socket.input.len());
        if len > 0 {
            for (to, from) in buffer.iter_mut().zip(socket.input.drain(..len)) {
                *to = from;
            }
            let other = socket.other;
            self.trace.mix_bytes(buffer[..len].iter().copied());
            self.note_bytes(id, "read", len);
            if let Some(other) = other {
                self.pump(other);
            }
            return Ok(len);
        }
        if buffer.is_empty() {
            return Ok(0);
        }
        if socket.fin_received {
            socket.end_was_read = true;
            self.note_bytes(id, "read the end", 0);
            return Ok(0);
        }
        if let Some(error) = socket.take_error() {
            socket.end_was_read = true;
            self.note_bytes(id, "read an error", 0);
            return Err(error);
        }
        if socket.is_reset {
            socket.end_was_read = true;
            return Ok(0);
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// Returns whether bytes have arrived and were not read.
    pub(super) fn has_input(&mut self, id: Id) -> bool {
        self.socket(id)
            .is_some_and(|socket| !socket.input.is_empty())
    }

    pub(crate) fn write(&mut self, id: Id, pieces: &[&[u8]]) -> io::Result<usize> {
        let is_cut = self.random.one_in(self.faults.short_writes);
        let is_linux = self.is_linux;
        let asked = pieces.iter().map(|piece| piece.len()).sum::<usize>();
        let cut = if is_cut {
            self.random.length(asked.max(1))
        } else {
            asked
        };
        let socket = self.of_stream(id)?;
        if let Some(error) = socket.take_error() {
            self.note_bytes(id, "a write failed", 0);
            return Err(error);
        }
        if socket.is_reset || socket.write_closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let room = socket.room();
        if socket.is_connecting || room == 0 {
            socket.lacks_room = true;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let len = cut.min(room);
        let mut left = len;
        for piece in pieces {
            let taken = left.min(piece.len());
            socket.output.extend(&piece[..taken]);
            left -= taken;
        }
        if len < asked {
            socket.lacks_room = true;
            // Room that is left after a cut write is only reported once something has arrived.
            socket.is_choked = len < room && is_linux;
        }
        let written = pieces.iter().flat_map(|piece| piece.iter().copied());
        self.trace.mix_bytes(written.take(len));
        self.note_bytes(id, "wrote", len);
        self.pump(id);
        if self.random.one_in(self.faults.sudden_resets) {
            self.disturbed_both(id);
            let other = self.socket(id).and_then(|socket| socket.other);
            for end in [Some(id), other].into_iter().flatten() {
                self.reset(end);
            }
        }
        Ok(len)
    }

    pub(crate) fn shutdown_write(&mut self, id: Id) -> io::Result<()> {
        let socket = self.of_stream(id)?;
        if socket.is_reset || socket.is_connecting {
            return Err(io::ErrorKind::NotConnected.into());
        }
        socket.write_closed = true;
        self.note_bytes(id, "closed its sending side", 0);
        self.pump(id);
        Ok(())
    }

    /// Closes the socket of a stream. Bytes that were written are still sent, unless unread bytes make the close a reset.
    pub(crate) fn close(&mut self, id: Id) {
        self.deregister(id);
        let Some(socket) = self.socket(id) else {
            return;
        };
        socket.is_closed = true;
        let is_reset = socket.resets_on_close || !socket.input.is_empty();
        let (is_over, other) = (socket.is_reset || socket.fin_arrived, socket.other);
        self.count_file(id, false);
        self.progress += 1;
        let socket = &mut self.sockets[id.index];
        if socket.is_connecting || (is_over && !is_reset) || (is_reset && socket.is_reset) {
            if other.is_some() && socket.is_connecting {
                self.doom_other(id);
            }
            self.note_socket(id, "closed");
            self.free(id);
        } else if is_reset {
            socket.output.truncate(socket.in_flight);
            let (last, latency) = (socket.last_arrival, socket.latency);
            self.note_socket(id, "closed with a reset");
            let at = last.max(self.now + latency);
            if other.is_some_and(|other| self.are_apart(id, other)) {
                // The reset is lost.
                self.free(id);
            } else {
                self.schedule(at, Event::ResetFrom(id));
            }
        } else {
            socket.write_closed = true;
            self.note_socket(id, "closed");
            self.pump(id);
        }
    }

    /// Notes what was written through a stream that is dropped.
    pub(super) fn note_written(&mut self, id: Id, written: Written) {
        self.written.insert(id.serial, written);
    }

    /// Returns what was written through a stream that was dropped, once.
    pub(crate) fn take_written(&mut self, id: Id) -> Option<Written> {
        self.written.remove(&id.serial)
    }

    pub(crate) fn reset_on_close(&mut self, id: Id) {
        if let Some(socket) = self.socket(id) {
            socket.resets_on_close = true;
        }
    }

    pub(crate) fn take_error(&mut self, id: Id) -> io::Result<Option<io::Error>> {
        Ok(self.of_stream(id)?.take_error())
    }

    pub(crate) fn peer_addr(&mut self, id: Id) -> io::Result<SocketAddr> {
        let socket = self.of_stream(id)?;
        if socket.is_connecting || socket.is_reset {
            return Err(io::ErrorKind::NotConnected.into());
        }
        Ok(socket.peer)
    }

    pub(crate) fn local_addr(&mut self, id: Id) -> io::Result<SocketAddr> {
        Ok(self.of_stream(id)?.local)
    }

    pub(crate) fn peer_has_closed(&mut self, id: Id) -> bool {
        let socket = self.socket(id);
        socket.is_none_or(|socket| socket.fin_received || socket.is_reset)
    }

    /// Moves a socket to another owner.
    pub(super) fn hand_over(&mut self, id: Id, owner: Party) {
        let Some(socket) = self.socket(id) else {
            return;
        };
        let has_file = socket.has_file;
        self.count_file(id, false);
        if let Some(socket) = self.socket(id) {
            socket.owner = owner;
        }
        self.count_file(id, has_file);
    }

    /// Interrupts or restores all traffic between two owners.
    pub(crate) fn partition(&mut self, one: Party, two: Party) {
        self.note(What::Happened("a partition begins"));
        self.partitions.push((one, two));
    }

    /// Ends all partitions.
    pub(crate) fn heal(&mut self) {
        self.note(What::Happened("partitions end"));
        self.partitions.clear();
        self.pump_all();
    }

    pub(super) fn pump_all(&mut self) {
        for index in 0..self.sockets.capacity() {
            if let Some(id) = self.id_of(index) {
                self.pump(id);
            }
        }
    }

    pub(super) fn is_partitioned(&self, one: Party, two: Party) -> bool {
        let mut partitions = self.partitions.iter();
        partitions.any(|apart| *apart == (one, two) || *apart == (two, one))
    }

    pub(super) fn are_apart(&self, one: Id, two: Id) -> bool {
        if self.partitions.is_empty() {
            return false;
        }
        match (self.sockets.get(one.index), self.sockets.get(two.index)) {
            (Some(one), Some(two)) => self.is_partitioned(one.owner, two.owner),
            _ => false,
        }
    }

    /// Interrupts a direction for a time.
    pub(crate) fn stall(&mut self, id: Id, until: Duration) {
        if let Some(socket) = self.socket(id) {
            socket.stalled_until = until;
            self.note_socket(id, "is stalled");
            self.schedule(until, Event::Resume(id));
        }
    }

    /// Notes that the network ends a connection.
    pub(super) fn disturbed_both(&mut self, id: Id) {
        self.disturbed.insert(id.serial);
        if let Some(other) = self.socket(id).and_then(|socket| socket.other) {
            self.disturbed.insert(other.serial);
        }
    }

    /// Returns whether the network has ended the connection of a socket.
    pub(crate) fn was_disturbed(&self, id: Id) -> bool {
        self.disturbed.contains(&id.serial)
    }

    /// Returns the number of sockets whose connections the network has ended or prevented.
    pub(crate) fn disturbances(&self) -> usize {
        self.disturbed.len()
    }

    /// Interrupts both directions of a connection for a time.
    pub(crate) fn stall_both(&mut self, id: Id, until: Duration) {
        let other = self.socket(id).and_then(|socket| socket.other);
        self.stall(id, until);
        if let Some(other) = other {
            self.stall(other, until);
        }
    }

    /// Turns off all faults from now on, and ends all interruptions.
    pub(crate) fn calm(&mut self) {
        self.faults = Faults::none();
        self.partitions.clear();
        for (_, socket) in &mut self.sockets {
            socket.stalled_until = Duration::ZERO;
        }
        self.pump_all();
    }

    /// Returns whether a socket has input or room that its selector has reported before, and will not report again.
    pub(crate) fn reported(&self, id: Id) -> [bool; 2] {
        let socket = self.sockets.get(id.index);
        let registered = socket.and_then(|socket| Some((socket, socket.registration.as_ref()?)));
        let Some((socket, it)) = registered.filter(|(_, it)| !it.queued) else {
            return [false; 2];
        };
        let mask = socket.mask().reported(it.interest);
        let is_open = !socket.is_reset && !socket.is_connecting;
        [
            mask.has(Mask::IN) && !socket.end_was_read,
            mask.has(Mask::OUT) && is_open,
        ]
    }
}

pub(super) fn no_file() -> io::Error {
    io::Error::other("no file descriptor left")
}
