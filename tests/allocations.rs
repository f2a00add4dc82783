//! Heap memory: a warm loop allocates nothing, an idle connection costs next to nothing, a promise of the peer costs
//! nothing, what is sent to many is held once, and a burst leaves nothing behind.
#![allow(unsafe_code, reason = "an allocator that counts cannot be had without")]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mio::{Events, Poll};
use support::{PATIENCE, Peer, framed, pattern};
use throng::{
    Config, ConnectionId, DecodeError, Decoded, EncodeError, Envelope, EventLoop, Frame,
    FrameEncoder, FrameFormat, Framing, Handler, ListenOptions, Net, Reactor,
};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

// ----- The heap of a thread -----

/// What the present thread has done to the heap. The loop and its peers of a test share one thread: so it is counted
/// apart from all other tests, and the peers, which are plain sockets, add nothing.
#[derive(Debug, Clone, Copy)]
struct Heap {
    /// Calls that asked for memory, or for more of it.
    allocations: u64,
    /// Bytes that are allocated.
    live: isize,
    /// The most they have been.
    peak: isize,
}

thread_local! {
    static HEAP: Cell<Heap> = const { Cell::new(Heap { allocations: 0, live: 0, peak: 0 }) };
}

impl Heap {
    fn now() -> Self {
        HEAP.get()
    }

    /// The heap as it is now, which is its peak from here on.
    fn at_its_peak() -> Self {
        let mut heap = HEAP.get();
        heap.peak = heap.live;
        HEAP.set(heap);
        heap
    }

    /// Bytes that are allocated now and were not then.
    fn growth_since(self, before: Self) -> isize {
        self.live - before.live
    }

    fn note(allocations: u64, bytes: isize) {
        // It has no destructor, so it is there until the thread is gone.
        let _ = HEAP.try_with(|cell| {
            let mut heap = cell.get();
            heap.allocations += allocations;
            heap.live += bytes;
            heap.peak = heap.peak.max(heap.live);
            cell.set(heap);
        });
    }
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call goes to `System` with the arguments it came with, and its result is returned as it is. To count
// touches a thread-local `Cell` that is initialised at compile time and has no destructor: it neither allocates nor
// panics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Heap::note(1, layout.size() as isize);
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Heap::note(1, layout.size() as isize);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Heap::note(1, size as isize - layout.size() as isize);
        // SAFETY: as above.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        Heap::note(0, -(layout.size() as isize));
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }
}

// ----- A loop and its peers on one thread -----

/// A loop with a clock of its own, which stands still until a test lets time pass: so no memory is trimmed because the
/// machine was slow, and no test has to wait until it is.
struct Loop {
    poll: Poll,
    events: Events,
    reactor: Reactor,
    now: Instant,
}

impl Loop {
    fn new() -> Self {
        let poll = Poll::new().expect("a selector");
        let now = Instant::now();
        let reactor = Reactor::attach(poll.registry(), Config::default(), now).expect("a registry");
        Self {
            poll,
            events: Events::with_capacity(1024),
            reactor,
            now,
        }
    }

    fn listen(&mut self, framing: impl Into<Framing>) -> SocketAddr {
        let options = ListenOptions::default()
            .framing(framing)
            .max_queued_bytes(u64::MAX);
        let listened = self.reactor.net().listen_with("127.0.0.1:0", options);
        let addr = self.reactor.net().local_addr(listened.expect("a listener"));
        addr.expect("its address")
    }

    /// Turns once; it waits for events, but not longer than `most`.
    fn turn_within(&mut self, most: Duration, handler: &mut (impl Handler + 'static)) {
        let timeout = self
            .reactor
            .next_timeout(self.now)
            .unwrap_or(most)
            .min(most);
        match self.poll.poll(&mut self.events, Some(timeout)) {
            // A signal came, and the events of the last turn are still there.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => self.events.clear(),
            result => result.expect("it polls"),
        }
        self.reactor.begin_turn(self.now);
        for event in &self.events {
            self.reactor.handle_event(event);
        }
        self.reactor.finish_turn(handler);
    }

    /// Lets time pass, and turns once.
    fn pass(&mut self, time: Duration, handler: &mut (impl Handler + 'static)) {
        self.now += time;
        self.turn(handler);
    }

    /// Lets time pass until all memory is trimmed that is ever going to be.
    fn settle(&mut self, handler: &mut (impl Handler + 'static)) {
        for _ in 0..5 {
            self.pass(Duration::from_millis(1100), handler);
        }
    }

    /// Connects so many peers, which must not be more than the system lets wait.
    fn connect(
        &mut self,
        handler: &mut (impl Handler + 'static),
        addr: SocketAddr,
        count: usize,
    ) -> Vec<TcpStream> {
        let mut peers = Vec::with_capacity(count);
        for number in 1..=count {
            peers.push(Peer::connect(addr).0);
            if number % 50 == 0 || number == count {
                let accepted = self.net().stats().accepted;
                let missing = (number - 1) % 50 + 1;
                self.turn_until(handler, |net| {
                    net.stats().accepted == accepted + missing as u64
                });
            }
        }
        peers
    }
}

/// Something that makes turns.
trait Turns {
    fn net(&mut self) -> &mut Net;

    fn turn(&mut self, handler: &mut (impl Handler + 'static));

    #[track_caller]
    fn turn_until(
        &mut self,
        handler: &mut (impl Handler + 'static),
        mut done: impl FnMut(&Net) -> bool,
    ) {
        let deadline = Instant::now() + PATIENCE;
        while !done(self.net()) {
            assert!(Instant::now() < deadline, "it did not happen in time");
            self.turn(handler);
        }
    }
}

impl Turns for Loop {
    fn net(&mut self) -> &mut Net {
        self.reactor.net()
    }

    fn turn(&mut self, handler: &mut (impl Handler + 'static)) {
        self.turn_within(Duration::from_millis(20), handler);
    }
}

impl Turns for EventLoop {
    fn net(&mut self) -> &mut Net {
        self.net()
    }

    fn turn(&mut self, handler: &mut (impl Handler + 'static)) {
        self.turn(handler, Some(Duration::from_millis(20)))
            .expect("a turn does not fail");
    }
}

/// How a frame is sent back.
#[derive(Debug, Clone, Copy)]
enum Echo {
    Send,
    SendFrame,
    SendWith,
}

impl Handler for Echo {
    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        match self {
            Self::Send => net.send(id, &frame).expect("it is open"),
            Self::SendFrame => net.send_frame(id, frame).expect("it is open"),
            Self::SendWith => net
                .send_with(id, |out| out.write_all(&frame))
                .expect("it is open"),
        }
    }
}

/// Takes what comes.
struct Sink;

impl Handler for Sink {
    fn on_data(&mut self, _: &mut Net, _: ConnectionId, _: Frame<'_>) {}
}

/// Runs a test in a process that may open as many files as the system allows, `wanted` of them at least, and tells it
/// how many those are. The test is to be named as the test runner knows it.
fn with_open_files(test: &str, wanted: usize, body: impl FnOnce(usize)) {
    const KEY: &str = "THRONG_TEST_OPEN_FILES";
    if let Ok(files) = std::env::var(KEY) {
        return body(files.parse().unwrap_or(usize::MAX));
    }
    if cfg!(not(unix)) {
        return body(usize::MAX);
    }
    let script = format!(
        r#"ulimit -S -n {wanted} 2>/dev/null || ulimit -S -n "$(ulimit -H -n)" 2>/dev/null
        export {KEY}="$(ulimit -n)"; exec "$0" "$@""#
    );
    let output = std::process::Command::new("sh")
        .args(["-c", &script])
        .arg(std::env::current_exe().expect("its own path"))
        .args(["--exact", test, "--nocapture", "--include-ignored"])
        .output()
        .expect("a process");
    let said = [&output.stdout[..], &output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    eprintln!("{said}");
    assert!(output.status.success(), "it failed in a process of its own");
    assert!(said.contains(" 1 passed"), "there is no test named {test}");
}

/// So many connections as `files` allow, both ends being in this process.
fn connections_within(files: usize, wanted: usize) -> usize {
    let possible = files.saturating_sub(64) / 2;
    if possible < wanted {
        eprintln!("{possible} connections instead of {wanted}: {files} open files are allowed");
    }
    possible.min(wanted)
}

// ----- A warm loop allocates nothing -----

const CONNECTIONS: usize = 50;

/// How frames come: how many in one go, and where in the middle of it the peer pauses.
#[derive(Debug, Clone, Copy)]
struct Arrival {
    depth: usize,
    cut: Option<usize>,
}

/// Lets peers send frames and read them back, all connections at once.
struct Rounds {
    peers: Vec<TcpStream>,
    wire: Vec<u8>,
    cut: usize,
    received: Vec<u8>,
}

impl Rounds {
    fn new(peers: Vec<TcpStream>, framing: &Framing, arrival: Arrival) -> Self {
        let encoder = FrameEncoder::new(framing.clone());
        let mut wire = Vec::new();
        for number in 0..arrival.depth {
            let payload = [b'A' + number as u8; 64];
            encoder.encode(&payload, &mut wire).expect("it can be sent");
        }
        Self {
            peers,
            cut: arrival.cut.unwrap_or(wire.len()),
            received: vec![0; wire.len()],
            wire,
        }
    }

    /// One round: all frames of all peers, there and back.
    fn go(&mut self, turns: &mut impl Turns, handler: &mut (impl Handler + 'static)) {
        let before = turns.net().stats();
        let mut sent = before.bytes_received;
        let (first, second) = self.wire.split_at(self.cut);
        for piece in [first, second] {
            for peer in &mut self.peers {
                peer.write_all(piece).expect("to write");
                sent += piece.len() as u64;
            }
            turns.turn_until(handler, |net| net.stats().bytes_received == sent);
        }
        let all = before.bytes_sent + (self.peers.len() * self.wire.len()) as u64;
        turns.turn_until(handler, |net| net.stats().bytes_sent == all);
        for peer in &mut self.peers {
            peer.read_exact(&mut self.received).expect("to read");
            assert_eq!(self.received, self.wire);
        }
    }
}

/// Echoes at least so many frames in so much time, and counts the allocations of a loop that has echoed some before.
fn allocations_of_echoes(
    framing: &Framing,
    echo: Echo,
    arrival: Arrival,
    frames: usize,
    time: Duration,
) -> u64 {
    let (mut looped, mut handler) = (Loop::new(), echo);
    let addr = looped.listen(framing.clone());
    let peers = looped.connect(&mut handler, addr, CONNECTIONS);
    let mut rounds = Rounds::new(peers, framing, arrival);
    let mut run = |count: usize| {
        for _ in 0..count {
            rounds.go(&mut looped, &mut handler);
            looped.now += time / count as u32;
        }
        Heap::now().allocations
    };
    let before = run(10);
    run(frames.div_ceil(CONNECTIONS * arrival.depth)) - before
}

#[track_caller]
fn assert_echoes_allocate_nothing(framing: &Framing, echo: Echo, arrival: Arrival, frames: usize) {
    let allocations = allocations_of_echoes(framing, echo, arrival, frames, Duration::ZERO);
    assert_eq!(allocations, 0, "{framing:?} {echo:?} {arrival:?}");
}

#[test]
fn echoing_frames_one_at_a_time_allocates_nothing() {
    let arrival = Arrival {
        depth: 1,
        cut: None,
    };
    for echo in [Echo::Send, Echo::SendFrame, Echo::SendWith] {
        assert_echoes_allocate_nothing(&Framing::default(), echo, arrival, 100_000);
    }
}

#[test]
fn echoing_frames_32_at_a_time_allocates_nothing() {
    let arrival = Arrival {
        depth: 32,
        cut: None,
    };
    for echo in [Echo::Send, Echo::SendFrame, Echo::SendWith] {
        assert_echoes_allocate_nothing(&Framing::default(), echo, arrival, 100_000);
    }
}

#[test]
fn echoing_frames_that_arrive_in_two_allocates_nothing() {
    // In the header, behind it, in the middle of the frame, and before its last byte.
    for cut in [2, 4, 34, 67] {
        for (depth, whole, frames) in [(1, 0, 10_000), (32, 15, 100_000)] {
            let cut = Some(whole * 68 + cut);
            for echo in [Echo::Send, Echo::SendFrame, Echo::SendWith] {
                let arrival = Arrival { depth, cut };
                assert_echoes_allocate_nothing(&Framing::default(), echo, arrival, frames);
            }
        }
    }
}

#[test]
fn echoing_in_other_framings_allocates_nothing() {
    for framing in [Framing::varint(), Framing::delimiter(b'\n')] {
        for echo in [Echo::Send, Echo::SendFrame, Echo::SendWith] {
            for (depth, cut, frames) in [
                (1, None, 10_000),
                (1, Some(1), 10_000),
                (1, Some(32), 10_000),
                (1, Some(64), 10_000),
                (32, None, 100_000),
                (32, Some(15 * 65 + 32), 100_000),
            ] {
                let arrival = Arrival { depth, cut };
                assert_echoes_allocate_nothing(&framing, echo, arrival, frames);
            }
        }
    }
}

/// So long that memory is trimmed twice.
const TWO_TRIMS: Duration = Duration::from_millis(2500);

#[test]
fn memory_that_is_in_use_is_not_trimmed() {
    for depth in [1, 32] {
        let arrival = Arrival { depth, cut: None };
        let (framing, echo) = (Framing::default(), Echo::Send);
        let allocations = allocations_of_echoes(&framing, echo, arrival, 50_000, TWO_TRIMS);
        assert_eq!(allocations, 0, "{arrival:?}");
    }
}

#[test]
fn memory_that_holds_unfinished_frames_is_not_trimmed_while_it_is_in_use() {
    let arrival = Arrival {
        depth: 1,
        cut: Some(34),
    };
    let (framing, echo) = (Framing::default(), Echo::Send);
    let allocations = allocations_of_echoes(&framing, echo, arrival, 20_000, TWO_TRIMS);
    assert_eq!(allocations, 0);
}

#[test]
fn an_event_loop_with_its_own_clock_allocates_nothing_either() {
    let mut event_loop = EventLoop::new(Config::default()).expect("a loop");
    let addr = support::listen(&mut event_loop, ListenOptions::default());
    let peers: Vec<_> = (0..CONNECTIONS).map(|_| Peer::connect(addr).0).collect();
    let mut handler = Echo::Send;
    event_loop.turn_until(&mut handler, |net| net.len() == CONNECTIONS);
    let arrival = Arrival {
        depth: 4,
        cut: None,
    };
    let mut rounds = Rounds::new(peers, &Framing::default(), arrival);
    for _ in 0..10 {
        rounds.go(&mut event_loop, &mut handler);
    }
    // The first trims are part of getting warm.
    let warm = Instant::now() + TWO_TRIMS;
    while Instant::now() < warm {
        rounds.go(&mut event_loop, &mut handler);
    }
    rounds.go(&mut event_loop, &mut handler);
    let before = Heap::now();
    for _ in 0..500 {
        rounds.go(&mut event_loop, &mut handler);
    }
    assert_eq!(Heap::now().allocations, before.allocations);
}

// ----- What connections cost -----

/// The heap that an idle connection may cost.
const MAX_IDLE_BYTES: isize = 256;

#[test]
fn an_idle_connection_costs_256_bytes_at_most() {
    let name = "an_idle_connection_costs_256_bytes_at_most";
    with_open_files(name, 4200, |files| {
        assert_idle_is_cheap(connections_within(files, 2000));
    });
}

#[test]
#[ignore = "takes nearly 20,000 open files"]
fn each_of_10_000_idle_connections_costs_256_bytes_at_most() {
    let name = "each_of_10_000_idle_connections_costs_256_bytes_at_most";
    with_open_files(name, 20_064, |files| {
        assert_idle_is_cheap(connections_within(files, 10_000));
    });
}

fn assert_idle_is_cheap(count: usize) {
    let (mut looped, mut handler) = (Loop::new(), Echo::SendFrame);
    let addr = looped.listen(Framing::default());
    // What the peers' own list takes does not count.
    let before = Heap::now();
    let peers = looped.connect(&mut handler, addr, count);
    let own = (peers.capacity() * size_of::<TcpStream>()) as isize;
    let each = |growth: isize| (growth - own) / count as isize;
    let fresh = each(Heap::now().growth_since(before));
    eprintln!("{count} connections: {fresh} bytes each when they are new");
    assert!(fresh <= MAX_IDLE_BYTES, "{fresh}");

    // All are in the middle of a frame at once, and then busy at once.
    let own = own + 2 * 4 * 68;
    let each = |growth: isize| (growth - own) / count as isize;
    let arrival = Arrival {
        depth: 4,
        cut: Some(100),
    };
    let mut rounds = Rounds::new(peers, &Framing::default(), arrival);
    for _ in 0..3 {
        rounds.go(&mut looped, &mut handler);
    }
    looped.settle(&mut handler);
    let idle = each(Heap::now().growth_since(before));
    eprintln!("{count} connections: {idle} bytes each when they are idle again");
    assert!(idle <= MAX_IDLE_BYTES, "{idle}");
}

#[test]
fn connections_that_come_and_go_leave_nothing_behind() {
    let (mut looped, mut handler) = (Loop::new(), Echo::SendWith);
    let addr = looped.listen(Framing::default());
    let mut generation = |looped: &mut Loop| {
        let mut peers = looped.connect(&mut handler, addr, 20);
        for (number, peer) in peers.iter_mut().enumerate() {
            // Some leave in the middle of a frame, some with a reset.
            peer.write_all(&framed(b"hello")).expect("to write");
            peer.write_all(&framed(&[7; 1000])[..number * 50])
                .expect("to write");
            if number % 3 == 0 {
                let socket = socket2::SockRef::from(&*peer);
                let _ = socket.set_linger(Some(Duration::ZERO));
            }
        }
        drop(peers);
        looped.turn_until(&mut handler, Net::is_empty);
        looped.settle(&mut handler);
        Heap::now()
    };
    let before = generation(&mut looped);
    let mut after = before;
    for _ in 0..20 {
        after = generation(&mut looped);
    }
    // A list of the loop may still have grown; the smallest block for each of the 400 would be more.
    let growth = after.growth_since(before);
    assert!(growth < 2 * KIB as isize, "{growth} bytes");
}

// Where addresses have 32 bits nothing of the kind can be held, and the promise alone ends the connection.
#[cfg(target_pointer_width = "64")]
#[test]
fn a_promise_of_4_gib_costs_what_has_arrived_of_it() {
    let name = "a_promise_of_4_gib_costs_what_has_arrived_of_it";
    with_open_files(name, 1100, |files| {
        let count = connections_within(files, 500);
        let (mut looped, mut handler) = (Loop::new(), Sink);
        let addr = looped.listen(Framing::default());
        let mut peers = looped.connect(&mut handler, addr, count);
        let before = Heap::at_its_peak();
        let mut bytes = [7; 104];
        bytes[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        for peer in &mut peers {
            peer.write_all(&bytes).expect("to write");
        }
        let all = (count * bytes.len()) as u64;
        looped.turn_until(&mut handler, |net| net.stats().bytes_received == all);
        let cost = Heap::now().peak - before.live;
        eprintln!("{count} promises: {cost} bytes");
        assert_eq!(looped.net().len(), count, "all may go on");
        assert!(cost >= all as isize - (count * 4) as isize, "it is held");
        assert!(cost < MIB as isize, "{cost} bytes");

        drop(peers);
        looped.turn_until(&mut handler, Net::is_empty);
        looped.settle(&mut handler);
        let left = Heap::now().growth_since(before);
        assert!(left < 64 * KIB as isize, "{left} bytes are left");
    });
}

// ----- What a burst leaves behind -----

/// A little is kept: lists that have grown, each for all connections.
const SMALL: isize = 16 * KIB as isize;

/// Does what it can of a transfer without waiting. Returns how many bytes that were.
fn some(result: io::Result<usize>) -> usize {
    match result {
        Ok(0) => panic!("the stream has ended"),
        Ok(n) => n,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
        Err(error) => panic!("{error}"),
    }
}

/// A peer that writes and reads whatever is possible, on the thread of the loop.
struct Pump {
    peer: TcpStream,
    buffer: Vec<u8>,
}

impl Pump {
    fn new(peer: TcpStream) -> Self {
        peer.set_nonblocking(true).expect("a live socket");
        Self {
            peer,
            buffer: vec![0; 256 * KIB],
        }
    }

    /// Sends `out`, and reads as many bytes as `expected` has, which they must be.
    fn run(
        &mut self,
        looped: &mut Loop,
        handler: &mut (impl Handler + 'static),
        out: &[u8],
        expected: &[u8],
    ) {
        let (mut written, mut read) = (0, 0);
        let received = looped.net().stats().bytes_received;
        let deadline = Instant::now() + PATIENCE;
        while written < out.len()
            || read < expected.len()
            || looped.net().stats().bytes_received < received + out.len() as u64
        {
            assert!(Instant::now() < deadline, "it did not happen in time");
            let before = written + read;
            if written < out.len() {
                written += some(self.peer.write(&out[written..]));
            }
            let room = self.buffer.len().min(expected.len() - read);
            if room > 0 {
                let n = some(self.peer.read(&mut self.buffer[..room]));
                assert!(
                    self.buffer[..n] == expected[read..read + n],
                    "it came back changed"
                );
                read += n;
            }
            // The loop cannot see that its peer may go on.
            let idle = u64::from(written + read == before);
            looped.turn_within(Duration::from_millis(idle), handler);
        }
    }
}

/// A loop with one connection, settled after some traffic.
fn settled(handler: &mut (impl Handler + 'static)) -> (Loop, ConnectionId, Pump) {
    let mut looped = Loop::new();
    let addr = looped.listen(Framing::default());
    let mut peer = looped.connect(handler, addr, 1).pop().expect("one");
    peer.write_all(&framed(&[7; 64])).expect("to write");
    looped.turn_until(handler, |net| net.stats().frames_received == 1);
    let id = looped.net().connections()[0];
    looped.net().send(id, &[7; 64]).expect("it is open");
    let mut pump = Pump::new(peer);
    let echoed = looped.net().stats().bytes_sent as usize;
    let expected = framed(&[7; 64]).repeat(1 + echoed / 68);
    pump.run(&mut looped, handler, &[], &expected);
    looped.settle(handler);
    (looped, id, pump)
}

/// Queues 32 MiB in frames of these lengths for a peer that reads nothing, and lets it read all then.
fn burst(
    looped: &mut Loop,
    id: ConnectionId,
    pump: &mut Pump,
    lens: &[usize],
    mut send: impl FnMut(&mut Net, ConnectionId, &[u8]),
) {
    let before = Heap::now();
    let mut expected = Vec::with_capacity(40 * MIB);
    while expected.len() < 32 * MIB {
        for &len in lens {
            let payload = &[7; 64 * KIB][..len];
            send(looped.net(), id, payload);
            expected.extend_from_slice(&(len as u32).to_le_bytes());
            expected.extend_from_slice(payload);
        }
    }
    let own = expected.capacity() as isize;
    let queued = Heap::now().growth_since(before) - own;
    assert!(queued > 30 * MIB as isize, "only {queued} bytes are held");
    pump.run(looped, &mut Sink, &[], &expected);
    assert_eq!(
        looped
            .net()
            .connection(id)
            .map_or(0, |it| it.queued_bytes()),
        0
    );
}

#[test]
fn a_queue_that_has_grown_gives_its_memory_back() {
    for lens in [&[60][..], &[3000], &[100, 101, 102], &[10, 5000, 60_000]] {
        let (mut looped, id, mut pump) = settled(&mut Sink);
        let before = Heap::now();
        burst(&mut looped, id, &mut pump, lens, |net, id, payload| {
            net.send(id, payload).expect("it is open");
        });
        burst(&mut looped, id, &mut pump, lens, |net, id, payload| {
            let payload = Bytes::copy_from_slice(payload);
            net.send_bytes(id, payload).expect("it is open");
        });
        looped.settle(&mut Sink);
        let left = Heap::now().growth_since(before);
        assert!(left <= SMALL, "{lens:?}: {left} bytes are left");
    }
}

#[test]
fn a_queue_that_has_grown_gives_its_memory_back_while_light_traffic_goes_on() {
    for lens in [&[60][..], &[3000], &[10, 5000, 60_000]] {
        assert_light_traffic_keeps_no_burst(lens);
    }
}

#[test]
fn a_queue_of_frames_of_many_lengths_gives_its_memory_back_while_light_traffic_goes_on() {
    assert_light_traffic_keeps_no_burst(&[100, 101, 102]);
}

#[track_caller]
fn assert_light_traffic_keeps_no_burst(lens: &[usize]) {
    let (mut looped, id, mut pump) = settled(&mut Sink);
    let before = Heap::now();
    burst(&mut looped, id, &mut pump, lens, |net, id, payload| {
        net.send(id, payload).expect("it is open");
    });
    let frame = framed(&[7; 64]);
    for _ in 0..50 {
        looped.now += Duration::from_millis(100);
        looped.net().send(id, &[7; 64]).expect("it is open");
        pump.run(&mut looped, &mut Sink, &[], &frame);
    }
    let left = Heap::now().growth_since(before) - frame.capacity() as isize;
    // One buffer of moderate size may stay with the traffic.
    assert!(
        left <= 300 * KIB as isize,
        "{lens:?}: {left} bytes are left"
    );
}

#[test]
fn frames_of_64_mib_leave_nothing_behind() {
    let frame = framed(&pattern(64 * MIB));
    for echo in [Echo::SendFrame, Echo::Send, Echo::SendWith] {
        let mut handler = echo;
        let (mut looped, _, mut pump) = settled(&mut handler);
        let before = Heap::now();
        pump.run(&mut looped, &mut handler, &frame, &frame);
        looped.settle(&mut handler);
        let left = Heap::now().growth_since(before);
        assert!(left <= SMALL, "{echo:?}: {left} bytes are left");
    }
    let (mut looped, _, mut pump) = settled(&mut Sink);
    let before = Heap::now();
    pump.run(&mut looped, &mut Sink, &frame, &[]);
    looped.settle(&mut Sink);
    let left = Heap::now().growth_since(before);
    assert!(left <= SMALL, "only received: {left} bytes are left");
}

#[test]
fn frames_that_never_end_leave_nothing_behind() {
    let (mut looped, mut handler) = (Loop::new(), Sink);
    let addr = looped.listen(Framing::default());
    drop(looped.connect(&mut handler, addr, CONNECTIONS));
    looped.turn_until(&mut handler, Net::is_empty);
    looped.settle(&mut handler);
    let before = Heap::now();
    let peers = looped.connect(&mut handler, addr, CONNECTIONS);
    // Some are held behind the read buffer, some in one of their own.
    let frame = framed(&pattern(500 * KIB));
    for (number, peer) in peers.into_iter().enumerate() {
        let part = &frame[..number * 8 * KIB + 10];
        Pump::new(peer).run(&mut looped, &mut handler, part, &[]);
    }
    looped.turn_until(&mut handler, Net::is_empty);
    looped.settle(&mut handler);
    let left = Heap::now().growth_since(before) - frame.capacity() as isize;
    assert!(left <= SMALL, "{left} bytes are left");
}

// ----- What is held once -----

#[test]
fn a_large_frame_that_is_passed_on_is_not_copied() {
    let frame = framed(&pattern(16 * MIB));
    let mut handler = Echo::SendFrame;
    let (mut looped, _, mut pump) = settled(&mut handler);
    for _ in 0..3 {
        let before = Heap::at_its_peak();
        pump.run(&mut looped, &mut handler, &frame, &frame);
        let peak = Heap::now().peak - before.live;
        assert!(peak < 2 * 16 * MIB as isize, "{peak} bytes at most");
    }
}

#[test]
fn a_large_frame_for_many_is_held_once() {
    let name = "a_large_frame_for_many_is_held_once";
    with_open_files(name, 300, |files| {
        let count = connections_within(files, 100);
        let (mut looped, mut handler) = (Loop::new(), Sink);
        let addr = looped.listen(Framing::default());
        let peers = looped.connect(&mut handler, addr, count);
        let payload = pattern(4 * MIB);
        // A queue and a header for each.
        let queues = (count * KIB) as isize;

        let before = Heap::at_its_peak();
        let report = looped.net().broadcast(|_| true, &payload[..]);
        assert_eq!(report.queued, count);
        drop(report);
        looped.turn_until(&mut handler, |net| net.stats().bytes_sent > 0);
        let peak = Heap::now().peak - before.live;
        assert!(peak <= 4 * MIB as isize + queues, "a slice: {peak} bytes");

        let shared = Bytes::from(payload);
        let before = Heap::at_its_peak();
        let ids = looped.net().connections();
        let report = looped.net().send_many(ids, shared.clone());
        assert_eq!(report.queued, count);
        let peak = Heap::now().peak - before.live;
        assert!(peak <= queues, "shared: {peak} bytes");
        drop(peers);
    });
}

#[test]
fn a_large_frame_that_is_passed_on_to_many_is_held_once() {
    struct Relay;
    impl Handler for Relay {
        fn on_data(&mut self, net: &mut Net, from: ConnectionId, frame: Frame<'_>) {
            let others = net.len() - 1;
            assert_eq!(net.broadcast(|id| id != from, frame).queued, others);
        }
    }
    let (mut looped, mut handler) = (Loop::new(), Relay);
    let addr = looped.listen(Framing::default());
    let mut peers = looped.connect(&mut handler, addr, 20);
    let frame = framed(&pattern(4 * MIB));
    let mut pump = Pump::new(peers.swap_remove(0));
    let before = Heap::at_its_peak();
    pump.run(&mut looped, &mut handler, &frame, &[]);
    assert_eq!(looped.net().stats().frames_received, 1);
    let peak = Heap::now().peak - before.live;
    assert!(peak < 2 * 4 * MIB as isize, "{peak} bytes at most");
}

/// One byte of length, and a count of the frames that were encoded.
#[derive(Debug, Default)]
struct Counted {
    encoded: Arc<AtomicU64>,
}

impl FrameFormat for Counted {
    fn decode(&self, input: &[u8], _: usize) -> Result<Decoded, DecodeError> {
        Ok(Decoded::Frame {
            header: 1,
            payload: u64::from(input[0]),
            trailer: 0,
        })
    }

    fn encode(&self, payload_len: u64, envelope: &mut Envelope) -> Result<(), EncodeError> {
        self.encoded.fetch_add(1, Ordering::Relaxed);
        envelope.push_header(&[payload_len as u8]);
        Ok(())
    }

    fn max_payload_len(&self) -> u64 {
        255
    }
}

#[test]
fn a_small_frame_for_many_is_encoded_once_for_each_framing() {
    let (mut looped, mut handler) = (Loop::new(), Sink);
    let formats = [Counted::default(), Counted::default()];
    let encoded = formats.each_ref().map(|format| Arc::clone(&format.encoded));
    let mut peers = Vec::new();
    for format in formats {
        let addr = looped.listen(Framing::custom(format));
        peers.extend(looped.connect(&mut handler, addr, 30));
    }
    let everybody = looped.net().connections();
    for round in 1..=5 {
        let before = Heap::now();
        // Those of one framing do not stand together.
        let ids = everybody.iter().zip(&everybody[30..]);
        let ids = ids.flat_map(|(&one, &other)| [one, other]);
        let report = looped.net().send_many(ids, b"hello");
        assert_eq!((report.queued, report.gone), (60, 0));
        let allocations = Heap::now().allocations - before.allocations;
        let counts = encoded
            .each_ref()
            .map(|count| count.load(Ordering::Relaxed));
        assert_eq!(counts, [round; 2]);
        assert!(
            round == 1 || allocations < 10,
            "{allocations} allocations for 60 connections"
        );
        looped.turn_until(&mut handler, |net| net.stats().frames_sent == 60 * round);
    }
}
