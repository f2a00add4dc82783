//! Peers that read slowly or not at all: what they cost, and how the stream ends.

mod support;

use std::io::Read;
use std::time::Duration;

use support::framed;
use support::scene::Scene;
use throng::{Config, DisconnectCause, Overflow, SendError};

const MIB: u64 = 1 << 20;

#[test]
fn queue_has_a_limit_by_default() {
    let mut scene = Scene::with(Config::default());
    scene.block();
    let frame = vec![7; 100_000];
    let error = loop {
        let sent = scene.looped.net().send(scene.id, &frame);
        scene.pass(Duration::ZERO);
        assert!(scene.queued() <= 16 * MIB + 100_004);
        if let Err(error) = sent {
            break error;
        }
    };
    let queued = scene.queued();
    assert!(
        matches!(error, SendError::QueueFull { queued: told, max } if (told, max) == (queued, 16 * MIB)),
        "{error}"
    );
    assert!(scene.looped.net().is_connected(scene.id), "it is not ended");
}

#[test]
fn stream_that_overflowed_ends_without_a_gap() {
    let config = Config::default()
        .max_queued_bytes(MIB)
        .overflow(Overflow::Disconnect);
    let mut scene = Scene::with(config);
    scene.narrow(16 * 1024);
    let frame = |number: u32| framed(&[&number.to_le_bytes(), &[7; 5000][..]].concat());
    let mut sent = 0;
    while scene.looped.net().send(scene.id, &frame(sent)[4..]).is_ok() {
        scene.pass(Duration::ZERO);
        sent += 1;
    }
    // The peer reads now, and there would be room again.
    let mut stream = scene.peer.0.try_clone().expect("a live socket");
    let reader = std::thread::spawn(move || {
        let mut wire = Vec::new();
        let end = stream.read_to_end(&mut wire);
        (wire, end)
    });
    for _ in 0..100 {
        let later = scene.looped.net().send(scene.id, b"later");
        assert!(matches!(later, Err(SendError::Disconnected)));
        scene.pass(Duration::ZERO);
    }
    let (wire, end) = reader.join().expect("no panic");
    assert!(end.is_err(), "what is cut off does not look like an end");
    let expected: Vec<u8> = (0..sent).flat_map(frame).collect();
    assert!(expected.starts_with(&wire), "it has a gap");
    let written = scene.looped.net().stats().bytes_sent;
    let reason = scene.end();
    assert_cause!(reason, DisconnectCause::SlowConsumer { .. });
    assert_eq!(written + reason.unsent_bytes, expected.len() as u64);
}

/// A loop where a full queue ends a connection.
fn strict(max: u64) -> Scene {
    let config = Config::default()
        .max_queued_bytes(max)
        .overflow(Overflow::Disconnect);
    Scene::with(config)
}

#[test]
fn burst_for_which_the_socket_has_room_ends_no_connection() {
    const FRAMES: usize = 20;
    let payload = vec![7; 10_000];
    for to_all in [false, true] {
        let mut scene = strict(15_000);
        for _ in 0..FRAMES {
            let net = scene.looped.net();
            if to_all {
                assert_eq!(net.broadcast(|_| true, &payload).queued, 1);
            } else {
                net.send(scene.id, &payload).expect("the socket has room");
            }
        }
        scene.pass(Duration::ZERO);
        let mut read = vec![0; FRAMES * 10_004];
        scene.peer.0.read_exact(&mut read).expect("it was written");
        assert_eq!(read, framed(&payload).repeat(FRAMES));
    }
}

#[test]
fn peer_that_made_unreported_room_does_not_overflow() {
    let mut scene = strict(100_000);
    scene.narrow(128 * 1024);
    while scene.queued() < 100_000 {
        let sent = scene.looped.net().send(scene.id, &[7; 13_000]);
        sent.expect("there is room");
        scene.pass(Duration::ZERO);
    }
    // Less than Linux reports.
    let mut read = vec![0; 600_000];
    scene.peer.0.read_exact(&mut read).expect("it was written");
    let sent = scene.looped.net().send(scene.id, b"more");
    sent.expect("there is room now");
}

#[test]
fn peer_that_reads_nothing_takes_no_calls_and_delays_no_other() {
    let mut scene = Scene::with(Config::default());
    scene.block();
    let (mut other, _) = scene.looped.join(&mut scene.seen);
    // Memory of the burst goes back.
    for _ in 0..5 {
        scene.pass(Duration::from_secs(2));
    }
    assert_eq!(scene.looped.reactor.next_timeout(scene.looped.now), None);
    let before = scene.looped.net().stats();
    scene.seen.echo = true;
    for number in 1..=50 {
        other.send(b"ping");
        scene
            .looped
            .settle(&mut scene.seen, |seen, _| seen.frames().len() == number);
        scene.looped.rest(&mut scene.seen);
        assert_eq!(other.receive(), b"ping");
    }
    let after = scene.looped.net().stats();
    assert_eq!(after.writes - before.writes, 50, "one for each answer");
    assert!(scene.queued() > 0, "it has taken nothing");
}
