//! `Network`: all sockets, listeners and segments of a simulated world, and its clock.
//!
//! It implements the system calls of a loop on its sockets: those that [open](opening) one, and those on an open
//! [stream](calls). What takes time is put on the [agenda](super::agenda). [Outages] interrupt it.
//!
//! [Outages]: outages

mod calls;
mod opening;
mod outages;

use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use slab::Slab;

use super::agenda::Due;
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

    /// Notes what was written through a stream that is dropped.
    pub(super) fn note_written(&mut self, id: Id, written: Written) {
        self.written.insert(id.serial, written);
    }

    /// Returns what was written through a stream that was dropped.
    pub(crate) fn written(&self, id: Id) -> Option<Written> {
        self.written.get(&id.serial).copied()
    }

    /// Returns what was written through a stream that was dropped, once.
    pub(crate) fn take_written(&mut self, id: Id) -> Option<Written> {
        self.written.remove(&id.serial)
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

    pub(super) fn pump_all(&mut self) {
        for index in 0..self.sockets.capacity() {
            if let Some(id) = self.id_of(index) {
                self.pump(id);
            }
        }
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
