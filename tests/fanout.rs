//! Frames for many connections, stored once per turn: in what order they arrive, and what becomes of them if they
//! cannot be written.

mod support;

use std::time::Duration;

use support::random::{Random, with_seeds};
use support::scene::Scene;
use support::ways::{encoded, join, read};
use support::{Peer, Recorder, bytes_queued, listen, turn_until};
use throng::{Config, ConnectionId, EventLoop, Framing, ListenOptions, Net};

/// What a connection is to receive: its framing, and the payloads in order.
struct Receiver {
    id: ConnectionId,
    peer: Peer,
    framing: Framing,
    payloads: Vec<Vec<u8>>,
}

/// A loop with two connections with a `u32` prefix, one with a `u16` prefix, and one with lines.
fn four() -> (EventLoop, Recorder, Vec<Receiver>) {
    let mut event_loop = EventLoop::new(Config::default()).expect("a loop");
    let mut seen = Recorder::default();
    let framings: [Framing; 4] = [
        Framing::length_prefix().into(),
        Framing::length_prefix().u16().into(),
        Framing::length_prefix().into(),
        Framing::delimiter(b'\n'),
    ];
    let receivers = framings.map(|framing| {
        let options = ListenOptions::default().framing(framing.clone());
        let addr = listen(&mut event_loop, options);
        let peer = join(&mut event_loop, &mut seen, addr);
        let id = *seen.connected().last().expect("it is connected");
        let payloads = Vec::new();
        Receiver {
            id,
            peer,
            framing,
            payloads,
        }
    });
    (event_loop, seen, receivers.into())
}

fn payload(random: &mut Random) -> Vec<u8> {
    let len = match random.below(8) {
        0 => random.below(6000),
        1 => 0,
        _ => random.below(100),
    };
    vec![b'a' + random.below(26) as u8; len]
}

/// Sends frames in one way or another to some or all connections, in one turn.
fn send_some(net: &mut Net, receivers: &mut [Receiver], random: &mut Random) {
    for _ in 0..random.below(60) {
        let payload = payload(random);
        let to: Vec<usize> = match random.below(4) {
            0 | 1 => {
                net.broadcast(|_| true, &payload[..]);
                (0..receivers.len()).collect()
            }
            2 => {
                let chosen: Vec<usize> = (0..6).map(|_| random.below(receivers.len())).collect();
                let ids: Vec<_> = chosen.iter().map(|&place| receivers[place].id).collect();
                net.send_many(ids, &payload[..]);
                chosen
            }
            _ => {
                let place = random.below(receivers.len());
                net.send(receivers[place].id, &payload)
                    .expect("there is room");
                vec![place]
            }
        };
        for place in to {
            receivers[place].payloads.push(payload.clone());
        }
    }
}

#[test]
fn frames_for_one_and_for_many_arrive_in_the_order_in_which_they_were_sent() {
    with_seeds(60, |seed| {
        let mut random = Random(seed);
        let (mut event_loop, mut seen, mut receivers) = four();
        for _ in 0..3 {
            send_some(event_loop.net(), &mut receivers, &mut random);
            let turns = random.below(3);
            for _ in 0..turns {
                event_loop
                    .turn(&mut seen, Some(Duration::ZERO))
                    .expect("a turn");
            }
        }
        turn_until(&mut event_loop, &mut seen, |_, net| {
            net.connections()
                .iter()
                .all(|&id| bytes_queued(net, id) == 0)
        });
        for receiver in &mut receivers {
            let payloads = receiver.payloads.iter().map(|payload| &payload[..]);
            let wire = encoded(&receiver.framing, payloads);
            assert!(read(&mut receiver.peer, wire.len()) == wire);
        }
    });
}

#[test]
fn frames_for_many_count_as_queued_until_they_are_written() {
    let mut scene = Scene::with(Config::default());
    let (net, id) = (scene.looped.net(), scene.id);
    net.broadcast(|_| true, b"12345");
    net.broadcast(|_| true, b"6789");
    assert_eq!(bytes_queued(net, id), 17);
    let stats = net.stats();
    assert_eq!((stats.queued_bytes, stats.memory_bytes), (17, 17));
    net.send(id, b"0").expect("there is room");
    assert_eq!(bytes_queued(net, id), 22);
    scene.until(|_, net| bytes_queued(net, id) == 0);
    assert_eq!(scene.looped.net().stats().frames_sent, 3);
    for frame in [&b"12345"[..], b"6789", b"0"] {
        assert_eq!(scene.peer.receive(), frame);
    }
}

#[test]
fn frames_for_many_that_were_not_written_are_counted_in_the_reason() {
    let mut scene = Scene::with(Config::default());
    let (net, id) = (scene.looped.net(), scene.id);
    net.broadcast(|_| true, b"one");
    net.broadcast(|_| true, b"two");
    assert!(net.abort(id));
    assert_eq!(net.stats().memory_bytes, 0);
    let reason = scene.await_end();
    assert_eq!((reason.unsent_frames, reason.unsent_bytes), (2, 14));
}

#[test]
fn frames_for_many_are_written_before_the_connection_is_closed() {
    let mut scene = Scene::with(Config::default());
    let (net, id) = (scene.looped.net(), scene.id);
    net.broadcast(|_| true, b"the server restarts");
    assert!(net.disconnect(id));
    scene.turns();
    assert_eq!(scene.peer.receive(), b"the server restarts");
}

#[test]
fn frames_for_many_beyond_the_buffer_of_a_turn_arrive_as_well() {
    let mut scene = Scene::with(Config::default());
    let payload = [b'x'; 1000];
    for _ in 0..200 {
        let report = scene.looped.net().broadcast(|_| true, &payload[..]);
        assert_eq!(report.queued, 1);
    }
    let id = scene.id;
    scene.until(|_, net| bytes_queued(net, id) == 0);
    for _ in 0..200 {
        assert!(scene.peer.receive() == payload);
    }
}

#[test]
fn frames_for_many_wait_for_a_peer_that_reads_slowly() {
    let (mut scene, mut peer) = Scene::with(Config::default()).apart();
    let payload = [b'x'; 3000];
    let id = scene.id;
    let mut sent = 0;
    // Until the socket takes no more, and further.
    while bytes_queued(scene.looped.net(), id) < 1 << 20 {
        for _ in 0..20 {
            scene.looped.net().broadcast(|_| true, &payload[..]);
            sent += 1;
        }
        scene.turns();
    }
    let counting = std::thread::spawn(move || {
        for _ in 0..sent {
            assert!(peer.receive() == payload);
        }
    });
    scene.until(|_, net| bytes_queued(net, id) == 0);
    counting.join().expect("all frames arrived");
}
