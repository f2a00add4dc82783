//! Peers with TLS before their ClientHello is complete: they have no session, and cost next to nothing.
#![cfg(all(feature = "tls", target_os = "linux"))]

#[path = "support/heap.rs"]
mod heap;
mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use heap::Heap;
use support::by_hand::Loop;
use support::secure::{client, secured};
use support::{Event, Peer, Recorder};
use throng::{
    Config, ConnectionId, DisconnectCause, DisconnectReason, Frame, Handler, ListenOptions, Net,
    Stage, rustls,
};

const SECOND: Duration = Duration::from_secs(1);

fn client_hello() -> Vec<u8> {
    let mut hello = Vec::new();
    client().write_tls(&mut hello).expect("to write");
    hello
}

/// Connects a peer, and makes turns until the loop has read what it sends.
fn join(looped: &mut Loop, seen: &mut Recorder, sent: &[u8]) -> Peer {
    let (addr, before) = (looped.listen_with(secured()), looped.net().stats());
    let mut peer = Peer::connect(addr);
    looped.settle(seen, |_, net| net.stats().accepted > before.accepted);
    peer.write(sent);
    let all = before.memory_bytes + sent.len() as u64;
    looped.settle(seen, |_, net| net.stats().memory_bytes == all);
    peer
}

/// Makes turns until the only connection has ended. Returns the cause.
#[track_caller]
fn end(looped: &mut Loop, seen: &mut Recorder) -> DisconnectCause {
    looped.settle(seen, |seen, _| !seen.events.is_empty());
    assert_eq!(looped.net().stats().memory_bytes, 0);
    match seen.events.pop() {
        Some(Event::Disconnect(_, reason)) => {
            assert_eq!((reason.stage, reason.unshown_bytes), (Stage::Connecting, 0));
            reason.cause
        }
        other => panic!("only the end is reported, and not {other:?}"),
    }
}

/// Lengths of parts: around the headers, and some in the middle.
fn parts(hello: &[u8]) -> impl Iterator<Item = usize> {
    (0..12).chain([100, hello.len() - 1])
}

#[test]
fn part_of_a_client_hello_counts_as_its_bytes_and_a_whole_one_as_a_session() {
    let (mut looped, mut seen) = (Loop::new(Config::default()), Recorder::default());
    let hello = client_hello();
    let mut sent = 0;
    let mut peers = Vec::new();
    for part in parts(&hello) {
        peers.push(join(&mut looped, &mut seen, &hello[..part]));
        sent += part as u64;
        assert_eq!(looped.net().stats().memory_bytes, sent);
    }
    let last = peers.last_mut().expect("a peer");
    last.write(&hello[hello.len() - 1..]);
    looped.settle(&mut seen, |_, net| net.stats().memory_bytes > 8192);
    assert!(seen.events.is_empty());
}

#[test]
fn part_of_a_client_hello_then_fin_is_truncated() {
    let (mut looped, mut seen) = (Loop::new(Config::default()), Recorder::default());
    let hello = client_hello();
    for part in parts(&hello) {
        let peer = join(&mut looped, &mut seen, &hello[..part]);
        peer.half_close();
        let cause = end(&mut looped, &mut seen);
        assert!(
            matches!(cause, DisconnectCause::Truncated),
            "{part}: {cause}"
        );
    }
}

#[test]
fn part_of_a_client_hello_then_a_reset_is_reset() {
    let (mut looped, mut seen) = (Loop::new(Config::default()), Recorder::default());
    let hello = client_hello();
    for part in parts(&hello) {
        let peer = join(&mut looped, &mut seen, &hello[..part]);
        peer.reset();
        let cause = end(&mut looped, &mut seen);
        assert!(
            matches!(cause, DisconnectCause::Reset(_)),
            "{part}: {cause}"
        );
    }
}

#[test]
fn part_of_a_client_hello_then_silence_times_out() {
    let (mut looped, mut seen) = (Loop::new(Config::default()), Recorder::default());
    let hello = client_hello();
    for part in parts(&hello) {
        let _peer = join(&mut looped, &mut seen, &hello[..part]);
        looped.pass(11 * SECOND, &mut seen);
        let cause = end(&mut looped, &mut seen);
        let is_late =
            matches!(cause, DisconnectCause::HandshakeTimedOut { after } if after == 10 * SECOND);
        assert!(is_late, "{part}: {cause}");
    }
}

#[test]
fn part_of_a_client_hello_then_something_else_fails_and_gets_an_alert() {
    let (mut looped, mut seen) = (Loop::new(Config::default()), Recorder::default());
    // The header is right up to here, and then wrong.
    for (part, wrong) in [(0, &[0][..]), (1, &[2]), (3, &[0xff, 0xff]), (5, &[2])] {
        let mut peer = join(&mut looped, &mut seen, &client_hello()[..part]);
        peer.write(wrong);
        let cause = end(&mut looped, &mut seen);
        assert!(
            matches!(cause, DisconnectCause::HandshakeFailed(_)),
            "{part}: {cause}"
        );
        let mut alert = Vec::new();
        peer.0.read_to_end(&mut alert).expect("an end");
        assert_eq!((alert.len(), alert[0]), (7, 21), "{part}");
    }
}

#[test]
fn garbled_client_hello_fails_with_the_error_of_rustls() {
    let (mut looped, mut seen) = (Loop::new(Config::default()), Recorder::default());
    let mut hello = client_hello();
    hello[9..].fill(0xa5);
    let addr = looped.listen_with(secured());
    let mut peer = Peer::connect(addr);
    peer.write(&hello);
    let cause = end(&mut looped, &mut seen);
    let is_invalid = matches!(
        cause,
        DisconnectCause::HandshakeFailed(rustls::Error::InvalidMessage(_))
    );
    assert!(is_invalid, "{cause}");
}

/// Counts the ends.
#[derive(Default)]
struct Ends(u64);

impl Handler for Ends {
    fn on_data(&mut self, _: &mut Net, _: ConnectionId, _: Frame<'_>) {}

    fn on_disconnect(&mut self, _: &mut Net, _: ConnectionId, _: DisconnectReason) {
        self.0 += 1;
    }
}

/// Lets peers come, send, and close. Returns the allocations of the loop for each, and the most bytes that it held.
fn cost(options: ListenOptions, sent: &[u8]) -> (u64, isize) {
    const PEERS: u64 = 40;
    let (mut looped, mut ends) = (Loop::new(Config::default()), Ends::default());
    let addr = looped.listen_with(options);
    let mut come = |all: u64| {
        let mut peers: Vec<TcpStream> = (0..PEERS).map(|_| Peer::connect(addr).0).collect();
        for peer in &mut peers {
            peer.write_all(sent).expect("room");
            peer.shutdown(Shutdown::Write).expect("a live socket");
        }
        let before = Heap::reset_peak();
        looped.settle(&mut ends, |ends, _| ends.0 == all);
        let made = Heap::now().allocations - before.allocations;
        (made / PEERS, Heap::peak_since(before) / PEERS as isize)
    };
    // The first ones make lists grow.
    come(PEERS);
    come(2 * PEERS)
}

#[test]
fn peer_without_a_client_hello_allocates_what_a_plain_peer_does_and_part_of_one_little_more() {
    let http = b"GET / HTTP/1.1\r\nHost: game.example\r\n\r\n";
    let hello = client_hello();
    let plain = cost(ListenOptions::default(), b"");
    for sent in [&b""[..], http, b"\x16\x02\0"] {
        let (allocations, held) = cost(secured(), sent);
        assert!(allocations <= plain.0, "{allocations} {plain:?}");
        assert!(held < plain.1 + 100, "{held} {plain:?}");
    }
    let (allocations, held) = cost(secured(), &hello[..hello.len() - 1]);
    assert!(allocations <= plain.0 + 3, "{allocations} {plain:?}");
    assert!(held < plain.1 + 600, "{held} {plain:?}");
}
