//! No callback reports that the peer of a paused connection has closed; `peer_has_closed` finds out.

mod support;

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use support::{Event, PATIENCE, Peer, Recorder, framed, refusing, turn_until};
use throng::{Config, ConnectOptions, ConnectionId, EventLoop, Stream};

/// A connected pair: one end for the loop, one for the test.
trait Pair: Write {
    fn new() -> (Stream, Self);
    fn half_close(&self);
}

impl Pair for TcpStream {
    fn new() -> (Stream, Self) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("its address");
        let peer = Self::connect(addr).expect("it listens");
        let (ours, _) = listener.accept().expect("the peer");
        (ours.into(), peer)
    }

    fn half_close(&self) {
        self.shutdown(Shutdown::Write).expect("a live socket");
    }
}

#[cfg(unix)]
impl Pair for std::os::unix::net::UnixStream {
    fn new() -> (Stream, Self) {
        let (ours, peer) = Self::pair().expect("a pair");
        (ours.into(), peer)
    }

    fn half_close(&self) {
        self.shutdown(Shutdown::Write).expect("a live socket");
    }
}

/// A loop with one connection, which was reported.
fn joined<P: Pair>(options: ConnectOptions) -> (EventLoop, Recorder, ConnectionId, P) {
    let (ours, peer) = P::new();
    let mut event_loop = EventLoop::new(Config::default()).expect("a loop");
    let mut seen = Recorder::default();
    let id = event_loop.net().adopt(ours, options).expect("a live one");
    turn_until(&mut event_loop, &mut seen, |seen, _| {
        !seen.connected().is_empty()
    });
    (event_loop, seen, id, peer)
}

fn has_closed(event_loop: &mut EventLoop, id: ConnectionId) -> bool {
    let connection = event_loop.net().connection(id);
    connection.is_some_and(|it| it.peer_has_closed())
}

/// Waits until the peer has closed, without a turn in which it could be read.
#[track_caller]
fn await_closed(event_loop: &mut EventLoop, id: ConnectionId) {
    let deadline = Instant::now() + PATIENCE;
    while !has_closed(event_loop, id) {
        assert!(Instant::now() < deadline, "the end is not seen");
        std::thread::yield_now();
    }
}

fn turns(event_loop: &mut EventLoop, seen: &mut Recorder) {
    for _ in 0..5 {
        let turn = event_loop.turn(seen, Some(Duration::ZERO));
        turn.expect("a turn does not fail");
    }
}

fn closing_is_seen<P: Pair>() {
    for paused in [false, true] {
        for frames in [0, 1, 1000] {
            let (mut event_loop, mut seen, id, mut peer) = joined::<P>(ConnectOptions::default());
            if paused {
                event_loop.net().pause(id);
            }
            assert!(!has_closed(&mut event_loop, id), "it is alive");
            // At once: a Unix socket has room for few writes that were not read.
            let words = framed(b"last words").repeat(frames);
            peer.write_all(&words).expect("room");
            assert!(!has_closed(&mut event_loop, id), "it is alive");
            peer.half_close();
            if paused {
                turns(&mut event_loop, &mut seen);
                assert!(event_loop.net().is_connected(id));
            }
            await_closed(&mut event_loop, id);
            assert!(seen.frames().is_empty(), "it takes nothing");

            event_loop.net().resume(id);
            turn_until(&mut event_loop, &mut seen, |seen, _| {
                seen.ends().len() == 1 && seen.frames().len() == frames
            });
            assert!(!has_closed(&mut event_loop, id), "it is gone");
        }
    }
}

#[test]
fn closed_tcp_peer_is_reported_behind_unread_bytes_and_while_paused() {
    closing_is_seen::<TcpStream>();
}

#[cfg(unix)]
#[test]
fn closed_unix_peer_is_reported_behind_unread_bytes_and_while_paused() {
    closing_is_seen::<std::os::unix::net::UnixStream>();
}

#[test]
fn reset_peer_has_closed() {
    for paused in [false, true] {
        let (mut event_loop, _, id, peer) = joined::<TcpStream>(ConnectOptions::default());
        if paused {
            event_loop.net().pause(id);
        }
        Peer(peer).reset();
        await_closed(&mut event_loop, id);
    }
}

#[test]
fn peer_that_was_read_to_eof_has_closed() {
    let options = ConnectOptions::default().allow_half_open(true);
    let (mut event_loop, mut seen, id, peer) = joined::<TcpStream>(options);
    peer.half_close();
    turn_until(&mut event_loop, &mut seen, |seen, _| {
        matches!(seen.events.last(), Some(Event::HalfClose(_)))
    });
    assert!(has_closed(&mut event_loop, id));
}

#[test]
fn closed_peer_of_a_congested_connection_is_reported() {
    let options = ConnectOptions::default()
        .max_queued_bytes(64)
        .read_under_backpressure(false);
    let (mut event_loop, mut seen, id, mut peer) = joined::<TcpStream>(options);
    let payload = vec![7; 16 << 20];
    event_loop.net().send(id, &payload).expect("it is open");
    turns(&mut event_loop, &mut seen);
    assert!(
        event_loop
            .net()
            .connection(id)
            .is_some_and(|it| it.is_congested())
    );
    peer.write_all(&framed(b"last words")).expect("room");
    peer.half_close();
    await_closed(&mut event_loop, id);
    assert!(seen.frames().is_empty(), "it is not read");
}

#[test]
fn connecting_connection_has_no_closed_peer() {
    let (_refusing, addr): (_, SocketAddr) = refusing();
    let mut event_loop = EventLoop::new(Config::default()).expect("a loop");
    let mut seen = Recorder::default();
    let id = event_loop.net().connect(addr).expect("an attempt");
    assert!(!has_closed(&mut event_loop, id));
    turn_until(&mut event_loop, &mut seen, |seen, _| {
        !seen.ends().is_empty()
    });
    assert!(!has_closed(&mut event_loop, id));
}
