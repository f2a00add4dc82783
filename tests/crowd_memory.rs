//! A crowd that has been busy in every way there is gives back the heap it took: when it is idle again, and when it has
//! left, in good order or in the middle of it.
#![cfg(unix)]

#[path = "support/heap.rs"]
mod heap;
mod support;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::Bytes;
use heap::Heap;
use support::by_hand::Loop;
use support::open_files::with_connections;
use support::scene::Scene;
use support::traffic::some;
use support::{PATIENCE, Peer, framed, pattern};
use throng::{
    Chunk, Config, ConnectionId, Expired, Frame, FrameDecoder, Framing, Handler, Net, SendError,
    Timer,
};

const KIB: isize = 1024;
const CROWD: usize = 1000;
/// Frames that are longer come in chunks.
const STREAMED_FROM: usize = 50_000;
/// Lists of the loop may have grown, by a few places.
const LISTS: isize = 16 * KIB;
/// What a slot costs, which stays for the next connection.
const PLACE: isize = 256;

// ----- A crowd -----

/// Nothing is refused but what is for a peer that has left.
fn expect_room(sent: Result<(), SendError>) {
    assert!(
        matches!(sent, Ok(()) | Err(SendError::WriteFailed)),
        "{sent:?}"
    );
}

/// Sends everything back, frames in the way that costs least and chunks as they come, and pauses every third connection at
/// each frame.
#[derive(Default)]
struct Busy {
    paused: Vec<ConnectionId>,
}

impl Handler for Busy {
    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        expect_room(net.send_frame(id, frame).map_err(|rejected| rejected.error));
        if id.index().is_multiple_of(3) {
            net.pause(id);
            self.paused.push(id);
        }
    }

    fn on_chunk(&mut self, net: &mut Net, id: ConnectionId, chunk: Chunk<'_>) {
        if chunk.is_first() {
            let total = chunk.total().expect("a length");
            expect_room(net.begin_frame(id, total));
        }
        expect_room(net.push_chunk(id, &chunk));
        if chunk.is_last() {
            expect_room(net.finish_frame(id));
        }
    }
}

/// A loop and its peers, on one thread.
struct Crowd {
    looped: Loop,
    busy: Busy,
    addr: SocketAddr,
    /// Each with how much it has sent in this round.
    peers: Vec<(TcpStream, usize)>,
    scratch: Vec<u8>,
    read: u64,
}

impl Crowd {
    fn new() -> Self {
        let config = Config::default()
            .stream_frames_over(STREAMED_FROM as u64)
            .max_queued_bytes(1 << 30);
        let mut looped = Loop::new(config);
        let addr = looped.listen();
        Self {
            looped,
            // The test's own do not count: they have their size from the beginning.
            busy: Busy {
                paused: Vec::with_capacity(CROWD),
            },
            addr,
            peers: Vec::with_capacity(CROWD),
            scratch: vec![0; 64 * 1024],
            read: 0,
        }
    }

    fn enter(&mut self, count: usize) {
        for number in 1..=count {
            let peer = Peer::connect(self.addr).0;
            peer.set_nonblocking(true).expect("a live socket");
            self.peers.push((peer, 0));
            self.looped
                .settle(&mut self.busy, |_, net| net.connection_count() == number);
        }
    }

    /// Queues something for each connection, in all ways.
    fn shower(&mut self) {
        let net = &mut self.looped.net();
        for id in net.connections() {
            net.send(id, &[7; 10_000]).expect("there is room");
            net.send(id, &[7; 100]).expect("there is room");
            net.send_with(id, |out| out.write_all(&[7; 3000]))
                .expect("there is room");
            let own = Bytes::from(vec![7; 70_000]);
            net.send_bytes(id, own).expect("there is room");
            let reader = io::repeat(7).take(100_000);
            assert!(net.send_reader(id, 100_000, reader).is_ok());
            for slot in (0..8).chain(0..8) {
                net.send_latest(id, slot, &[7; 500]).expect("there is room");
            }
        }
        for len in [50, 3000, 20_000] {
            let report = net.broadcast(|_| true, vec![7; len]);
            assert_eq!(report.queued, self.peers.len());
        }
    }

    /// Each peer sends this and reads what comes.
    fn go(&mut self, wire: &[u8]) {
        let all = self.looped.net().stats().bytes_received + (wire.len() * self.peers.len()) as u64;
        self.peers.iter_mut().for_each(|(_, sent)| *sent = 0);
        let deadline = Instant::now() + PATIENCE;
        loop {
            for (peer, sent) in &mut self.peers {
                if *sent < wire.len() {
                    *sent += some(peer.write(&wire[*sent..]));
                }
                self.read += some(peer.read(&mut self.scratch)) as u64;
            }
            self.looped.turn(Duration::ZERO, &mut self.busy);
            let net = self.looped.net();
            for id in self.busy.paused.drain(..) {
                assert!(net.resume(id));
            }
            let stats = net.stats();
            let is_told = net.stats().memory_bytes == 0 && self.read == stats.bytes_sent;
            let (reactor, now) = (&self.looped.reactor, self.looped.now);
            let is_rested = reactor.next_timeout(now) != Some(Duration::ZERO);
            if stats.bytes_received == all && is_told && is_rested {
                return;
            }
            assert!(Instant::now() < deadline, "it did not happen in time");
        }
    }

    /// Lets time pass until all that is ever given back is.
    fn rest(&mut self) -> Heap {
        self.looped.trim(&mut self.busy);
        Heap::now()
    }
}

/// Small frames, large ones, and one that comes in chunks.
fn mixed() -> Vec<u8> {
    let lens = [5, 5000, 0, 30_000, 100_000, 20, 40_000];
    lens.iter().flat_map(|len| framed(&pattern(*len))).collect()
}

#[test]
fn decoder_allocates_for_received_bytes_and_not_for_the_declared_length() {
    let promise = (1_u32 << 30).to_le_bytes();
    let mut decoder = FrameDecoder::new(Framing::length_prefix());
    let before = Heap::reset_peak();
    for piece in [&promise[..]].into_iter().chain([&[7; 100][..]; 1000]) {
        let frame = decoder.decode(&mut &piece[..]).expect("it can be a frame");
        assert!(frame.is_none());
    }
    assert_eq!(decoder.held_bytes(), 100_000);
    // Room grows by doubling.
    let peak = Heap::peak_since(before);
    assert!(peak <= 3 * 100_000, "{peak} bytes");
}

#[test]
fn connection_allocates_for_received_bytes_and_not_for_the_declared_length() {
    let mut scene = Scene::with(Config::default());
    let before = Heap::reset_peak();
    scene.arrive(&(1_u32 << 30).to_le_bytes());
    for arrived in (10_000..=1_000_000).step_by(10_000) {
        scene.arrive(&[7; 10_000]);
        let peak = Heap::peak_since(before);
        // Room grows by doubling, while the old one is still there, and has 256 KiB for the next read.
        let most = 3 * (arrived + 256 * KIB);
        assert!(peak <= most, "{peak} bytes for {arrived}");
    }
}

#[test]
fn connection_with_a_small_read_buffer_allocates_for_received_bytes() {
    let mut scene = Scene::with(Config::default().read_buffer(512));
    let before = Heap::reset_peak();
    scene.arrive(&(1_u32 << 30).to_le_bytes());
    for _ in 0..6 {
        scene.arrive(&[7; 100]);
    }
    let peak = Heap::peak_since(before);
    assert!(peak <= 16 * KIB, "{peak} bytes for 600");
}

#[test]
fn connections_free_all_their_memory_after_a_burst() {
    let name = "connections_free_all_their_memory_after_a_burst";
    with_connections(name, CROWD, |count| {
        let mut crowd = Crowd::new();
        let wire = mixed();
        let hello = framed(b"hello");
        let empty = crowd.rest();
        crowd.enter(count);
        crowd.go(&hello);
        let idle = crowd.rest();
        for _ in 0..2 {
            Heap::reset_peak();
            crowd.shower();
            crowd.go(&wire);
            let peak = Heap::peak_since(idle);
            assert!(peak > 50 * KIB * count as isize, "{peak}: it was no burst");
            let left = crowd.rest().growth_since(idle);
            eprintln!("{left} bytes are left of {peak}");
            assert!(left <= LISTS, "{left} bytes are left of {peak}");
        }
        // All at once. The peers are the test's own.
        crowd.peers.clear();
        let left = {
            let Crowd { looped, busy, .. } = &mut crowd;
            looped.settle(busy, |_, net| net.connection_count() == 0);
            crowd.rest().growth_since(empty)
        };
        eprintln!("{left} bytes are left of {count} connections");
        assert!(left <= LISTS + PLACE * count as isize, "{left}");
    });
}

#[test]
fn connections_that_end_during_a_burst_free_all_their_memory() {
    let name = "connections_that_end_during_a_burst_free_all_their_memory";
    with_connections(name, CROWD, |count| {
        let count = count / 4;
        let mut crowd = Crowd::new();
        let wire = mixed();
        let mut before = None;
        for _ in 0..3 {
            crowd.enter(count);
            crowd.shower();
            // Each peer stops inside a frame.
            for (number, (peer, _)) in crowd.peers.iter_mut().enumerate().skip(1) {
                some(peer.write(&wire[..wire.len() * number / count]));
            }
            crowd.looped.turn(Duration::ZERO, &mut crowd.busy);
            for id in crowd.looped.net().connections() {
                match id.index() % 3 {
                    0 => assert!(crowd.looped.net().abort(id)),
                    1 => assert!(crowd.looped.net().disconnect(id)),
                    _ => {}
                }
            }
            for (peer, _) in crowd.peers.drain(..) {
                Peer(peer).reset();
            }
            let Crowd { looped, busy, .. } = &mut crowd;
            let gone = looped.net().stats().accepted;
            looped.settle(busy, |_, net| net.stats().disconnected == gone);
            crowd.busy.paused.clear();
            let after = crowd.rest();
            assert_eq!(crowd.looped.net().stats().memory_bytes, 0);
            let left = after.growth_since(*before.get_or_insert(after));
            eprintln!("{left} bytes are left of {count} connections");
            assert!(left <= LISTS, "{left} bytes are left");
        }
    });
}

/// But for what stands before a timer that is still set.
#[test]
fn burst_of_timers_frees_its_memory() {
    struct Timers(u64);
    impl Handler for Timers {
        fn on_data(&mut self, _: &mut Net, _: ConnectionId, _: Frame<'_>) {}
        fn on_timer(&mut self, _: &mut Net, _: Expired) {
            self.0 += 1;
        }
    }
    let second = Duration::from_secs(1);
    let mut looped = Loop::new(Config::default().timers_per_turn(usize::MAX));
    let mut timers = Timers(0);
    // The tick of a game goes on.
    let tick = looped.net().set_timer(Timer::interval(second), 0);
    let before = Heap::now();
    for _ in 0..2 {
        for key in 0..100_000 {
            looped.net().set_timer(second / 2, key);
        }
        assert!(Heap::now().growth_since(before) > 4_000 * KIB);
        timers.0 = 0;
        for _ in 0..6 {
            looped.pass(second / 2, &mut timers);
        }
        assert_eq!(timers.0, 100_000 + 3);
        let left = Heap::now().growth_since(before);
        assert!(left < 64 * KIB, "{left} bytes are left");
    }
    assert!(looped.net().cancel_timer(tick));
    looped.pass(2 * second, &mut timers);
    assert_eq!(looped.reactor.next_timeout(looped.now), None, "it rests");
}
