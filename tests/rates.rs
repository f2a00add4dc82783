//! Rate limits: frames and bytes above the limit are delivered later, or end the connection.

mod support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use support::by_hand::Loop;
use support::scene::Scene;
use support::{Event, Peer, Recorder, framed};
use throng::{Config, ConnectionId, DisconnectCause, Excess, ListenOptions, RateLimit};

const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Small frames, each of which contains its number.
fn numbered(frames: std::ops::Range<u32>) -> Vec<u8> {
    frames.flat_map(|n| framed(&n.to_le_bytes())).collect()
}

fn frames_of(seen: &Recorder, of: ConnectionId) -> usize {
    let frames = seen.events.iter();
    frames
        .filter(|event| matches!(event, Event::Data(id, _) if *id == of))
        .count()
}

/// Checks that the frames received so far are those with the first numbers.
#[track_caller]
fn expect_first(scene: &Scene, count: u32) {
    let frames = scene.seen.frames();
    let expected: Vec<_> = (0..count).map(u32::to_le_bytes).collect();
    assert_eq!(frames, expected);
}

/// Makes turns until there is nothing to do at this time, and the peer's bytes have had time to arrive.
fn settle(scene: &mut Scene) {
    for _ in 0..20 {
        scene.looped.turn(5 * MILLI, &mut scene.seen);
    }
}

#[test]
fn frames_above_the_rate_wait_until_they_are_paid_for() {
    let mut scene = Scene::with(Config::default().max_frames_per_second(100));
    scene.peer.write(&numbered(0..250));
    settle(&mut scene);
    // One second's worth at once.
    expect_first(&scene, 100);
    let id = scene.id;
    let is_throttled = |scene: &mut Scene| scene.net().connection(id).map(|it| it.is_throttled());
    assert_eq!(is_throttled(&mut scene), Some(true));
    // Then one each 10 ms. Nothing is lost, and the order is kept.
    let mut seen = 100;
    for millis in 1..=1600 {
        scene.pass(MILLI);
        scene.turns();
        let frames = scene.seen.frames().len();
        assert!(frames <= 100 + millis / 10, "{frames} after {millis} ms");
        seen = frames;
    }
    assert_eq!(seen, 250);
    expect_first(&scene, 250);
    // The excess is paid for.
    scene.pass(2 * SECOND);
    scene.turns();
    assert_eq!(is_throttled(&mut scene), Some(false));
    assert!(scene.net().stats().throttled >= 100);
}

#[test]
fn bytes_above_the_rate_wait_until_they_are_paid_for() {
    let config = Config::default().max_bytes_per_second(10_000);
    let mut scene = Scene::with(config);
    // Longer than one second's worth.
    let payload = support::pattern(25_000);
    scene.peer.send(&payload);
    settle(&mut scene);
    let first = scene.net().stats().bytes_received;
    assert!((10_000..=10_512).contains(&first), "{first}");
    for millis in 1..=1600 {
        scene.pass(MILLI);
        scene.turns();
        let read = scene.net().stats().bytes_received;
        let most = 10_000 + 10 * millis + 512;
        assert!(read <= most, "{read} bytes after {millis} ms");
    }
    assert_eq!(scene.seen.frames(), [payload]);
}

#[test]
fn peer_within_its_rate_is_never_paused() {
    let config = Config::default()
        .max_frames_per_second(100)
        .max_bytes_per_second(1000);
    let mut scene = Scene::with(config);
    for round in 0..20 {
        // 60 frames and 480 bytes each second; but in one burst.
        scene.arrive(&numbered(60 * round..60 * (round + 1)));
        scene.pass(SECOND);
    }
    expect_first(&scene, 1200);
    assert_eq!(scene.net().stats().throttled, 0);
}

#[test]
fn throttled_connection_causes_no_wake_up_but_the_one_that_ends_the_pause() {
    let mut scene = Scene::with(Config::default().max_frames_per_second(1));
    scene.peer.write(&numbered(0..3));
    settle(&mut scene);
    expect_first(&scene, 1);
    let reads = scene.net().stats().reads;
    // What arrives meanwhile causes no event: the poll waits as long as it may.
    scene.peer.write(&numbered(3..5));
    let began = Instant::now();
    scene.looped.turn(100 * MILLI, &mut scene.seen);
    assert!(began.elapsed() >= 100 * MILLI);
    assert!(scene.looped.is_at_rest());
    scene.pass(998 * MILLI);
    scene.turns();
    assert_eq!(scene.net().stats().reads, reads);
    expect_first(&scene, 1);
    scene.pass(3 * MILLI);
    scene.turns();
    expect_first(&scene, 2);
}

#[test]
fn peer_that_sends_without_end_causes_at_most_a_hundred_pauses_per_second() {
    let mut scene = Scene::with(Config::default().max_bytes_per_second(200_000));
    for _ in 0..4 {
        scene.peer.send(&[7; 100_000]);
    }
    for _ in 0..1100 {
        scene.pass(MILLI);
        scene.turns();
    }
    assert_eq!(scene.seen.frames().len(), 4);
    let throttled = scene.net().stats().throttled;
    assert!((80..=105).contains(&throttled), "{throttled}");
}

#[test]
fn throttled_connection_without_further_input_has_no_deadline() {
    let mut scene = Scene::with(Config::default().max_frames_per_second(2));
    scene.peer.write(&numbered(0..2));
    settle(&mut scene);
    expect_first(&scene, 2);
    scene.pass(SECOND + MILLI);
    scene.turns();
    assert_eq!(scene.looped.reactor.next_deadline(), None);
}

#[test]
fn timeouts_for_silence_do_not_run_while_a_connection_is_throttled() {
    let config = Config::default()
        .max_bytes_per_second(1000)
        .idle_timeout(200 * MILLI)
        .frame_stall_timeout(100 * MILLI)
        .frame_stall_bytes(1024);
    let mut scene = Scene::with(config);
    // The second frame is begun, and arrives at the speed that the limit allows: 500 bytes in half a second.
    let payload = support::pattern(2500);
    scene.peer.send(&[1; 900]);
    scene.peer.send(&payload);
    settle(&mut scene);
    for _ in 0..400 {
        scene.pass(10 * MILLI);
        scene.turns();
        if scene.seen.frames().len() == 2 {
            break;
        }
    }
    assert_eq!(scene.seen.frames()[1], payload);
    assert!(scene.seen.ends().is_empty());
    // Afterwards they run again.
    for _ in 0..200 {
        scene.pass(10 * MILLI);
    }
    assert!(matches!(scene.end().cause, DisconnectCause::Idle { .. }));
}

#[test]
fn end_of_a_throttled_peer_is_reported_after_all_of_its_frames() {
    let mut scene = Scene::with(Config::default().max_frames_per_second(10));
    scene.peer.write(&numbered(0..25));
    scene.peer.half_close();
    settle(&mut scene);
    expect_first(&scene, 10);
    for _ in 0..200 {
        scene.pass(10 * MILLI);
        scene.turns();
    }
    expect_first(&scene, 25);
    assert!(matches!(scene.end().cause, DisconnectCause::PeerClosed));
}

#[test]
fn throttled_connection_can_be_written_to_paused_and_closed() {
    let mut scene = Scene::with(Config::default().max_frames_per_second(10));
    scene.peer.write(&numbered(0..25));
    settle(&mut scene);
    let id = scene.id;
    scene.net().send(id, b"hello").expect("it is open");
    scene.turns();
    assert_eq!(scene.peer.receive(), b"hello");
    // A pause by the user continues after the throttling has ended, and the throttling after the user's pause.
    scene.net().pause(id);
    scene.pass(SECOND);
    scene.turns();
    expect_first(&scene, 10);
    scene.net().resume(id);
    settle(&mut scene);
    expect_first(&scene, 20);
    scene.net().pause(id);
    scene.net().resume(id);
    settle(&mut scene);
    expect_first(&scene, 20);
    scene.net().disconnect(id);
    scene.turns();
    scene.peer.expect_end();
    drop(scene.peer);
}

#[test]
fn excess_disconnect_ends_the_connection_after_the_replies() {
    let config = Config::default().excess(Excess::Disconnect);
    let mut scene = Scene::with(config.max_frames_per_second(100));
    scene.seen.echo = true;
    scene.peer.write(&numbered(0..101));
    scene.until(|seen, _| !seen.ends().is_empty());
    expect_first(&scene, 101);
    for n in 0..101_u32 {
        assert_eq!(scene.peer.receive(), n.to_le_bytes());
    }
    let reason = scene.end();
    let DisconnectCause::RateExceeded { limit } = reason.cause else {
        panic!("{reason}");
    };
    assert_eq!(limit, RateLimit::Frames(100));
}

#[test]
fn peer_that_sends_exactly_its_rate_stays_connected() {
    let config = Config::default().excess(Excess::Disconnect);
    let mut scene = Scene::with(config.max_frames_per_second(100).max_bytes_per_second(800));
    for second in 0..5 {
        scene.arrive(&numbered(100 * second..100 * (second + 1)));
        scene.pass(SECOND);
    }
    expect_first(&scene, 500);
    assert!(scene.seen.ends().is_empty());
}

#[test]
fn peers_of_one_address_are_refused_if_they_connect_too_fast() {
    let mut looped = Loop::new(Config::default().max_accepts_per_second_per_ip(3));
    let addr = looped.listen();
    let mut seen = Recorder::default();
    let mut peers: Vec<Peer> = (0..5).map(|_| Peer::connect(addr)).collect();
    looped.settle(&mut seen, |_, net| {
        net.stats().accepted + net.stats().refused == 5
    });
    assert_eq!(
        (
            looped.net().stats().accepted,
            looped.net().connection_count()
        ),
        (3, 3)
    );
    for peer in &mut peers[3..] {
        peer.expect_end();
    }
    // A place is free each third of a second, whether or not the others have left.
    for (pause, accepted) in [(333 * MILLI, 3), (MILLI, 4), (MILLI, 4), (2 * SECOND, 5)] {
        looped.pass(pause, &mut seen);
        peers.push(Peer::connect(addr));
        let all = peers.len() as u64;
        looped.settle(&mut seen, |_, net| {
            net.stats().accepted + net.stats().refused == all
        });
        assert_eq!(looped.net().stats().accepted, accepted);
    }
}

/// Each listener has its own limits.
#[test]
fn rate_limits_of_a_listener_do_not_apply_to_others() {
    let mut looped = Loop::new(Config::default());
    let mut seen = Recorder::default();
    let limited = looped.listen_with(ListenOptions::default().max_frames_per_second(1));
    let free = looped.listen();
    let mut joined = BTreeMap::new();
    for (name, addr) in [("limited", limited), ("free", free)] {
        let (mut peer, id) = looped.join_at(addr, &mut seen);
        peer.write(&numbered(0..1000));
        joined.insert(name, (peer, id));
    }
    let (limited, free) = (joined["limited"].1, joined["free"].1);
    looped.settle(&mut seen, |seen, _| frames_of(seen, free) == 1000);
    for _ in 0..5 {
        looped.pass(Duration::ZERO, &mut seen);
    }
    assert_eq!(frames_of(&seen, limited), 1);
}
