//! Frames of which only the newest matters: a slow reader gets those, in order, and nothing else is lost.

mod support;

use std::io::Read;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use support::notes::Notes;
use support::scene::Scene;
use support::{PATIENCE, Peer, bytes_queued, framed, pattern};
use throng::{
    ConnectionId, DisconnectCause, EncodeError, Framing, ListenOptions, Net, Overflow, SendError,
};

/// More than the sockets hold.
const BULK: usize = 16 << 20;

/// A connection whose peer does not read, and whose sockets are full: what is sent now waits behind the rest of a frame
/// of `BULK` bytes.
fn blocked(options: ListenOptions) -> (Scene<Notes, ()>, Peer, ConnectionId) {
    let (mut scene, peer, id) = Scene::joined(options.max_queued_bytes(1 << 40));
    let bulk = Bytes::from(pattern(BULK));
    scene.net().send_bytes(id, bulk).expect("there is room");
    scene.until_blocked();
    (scene, peer, id)
}

/// Reads the bulk, and then so many frames.
fn read_on(mut peer: Peer, count: usize) -> JoinHandle<(Vec<Vec<u8>>, Peer)> {
    std::thread::spawn(move || {
        assert!(peer.receive() == pattern(BULK), "the first frame is whole");
        let frames = (0..count).map(|_| peer.receive()).collect();
        (frames, peer)
    })
}

/// Lets the peer read, and says what it gets behind the bulk.
fn frames_behind(
    mut scene: Scene<Notes, ()>,
    peer: Peer,
    id: ConnectionId,
    count: usize,
) -> Vec<Vec<u8>> {
    // An open frame keeps the queue from being empty, so that nothing in it is just forgotten.
    scene.net().begin_frame(id, 8).expect("none is open");
    let reading = read_on(peer, count);
    scene.until(|_, net| bytes_queued(net, id) == 0);
    let (frames, mut peer) = reading.join().expect("all arrived");
    let net = scene.net();
    assert_eq!(net.stats().frames_sent, count as u64 + 1);
    net.push_chunk(id, b"the last").expect("it belongs there");
    net.finish_frame(id).expect("it is complete");
    scene.turns();
    assert_eq!(peer.receive(), b"the last", "nothing else was there");
    scene.expect_nothing_held();
    frames
}

/// Bytes that are held but do not wait: those of the bulk that are written.
fn written_of_bulk(net: &Net, id: ConnectionId) -> u64 {
    net.stats().memory_bytes - bytes_queued(net, id)
}

#[test]
fn peer_that_reads_gets_every_frame() {
    let (mut scene, mut peer, id) = Scene::joined(ListenOptions::default());
    for number in 0..300_u32 {
        let payload = number.to_le_bytes();
        let sent = scene.net().send_latest(id, number % 3, &payload);
        sent.expect("there is room");
        scene.turns();
        assert_eq!(peer.receive(), payload);
    }
    let stats = scene.net().stats();
    assert_eq!((stats.frames_sent, stats.frames_replaced), (300, 0));
    scene.expect_nothing_held();
}

#[test]
fn peer_that_does_not_read_gets_the_newest_frame_of_each_slot() {
    let (mut scene, peer, id) = blocked(ListenOptions::default());
    let net = scene.net();
    let (queued, held) = (bytes_queued(net, id), written_of_bulk(net, id));
    let slots = [7, 0, u32::MAX, 3, 4];
    let payload = |round: usize, slot: u32| {
        let mut payload = pattern(round * 5 % 90);
        payload.extend_from_slice(&slot.to_le_bytes());
        payload
    };
    for round in 0..50 {
        for slot in slots {
            let sent = scene.net().send_latest(id, slot, &payload(round, slot));
            sent.expect("there is room");
        }
        let net = scene.net();
        let waiting = slots.map(|slot| framed(&payload(round, slot)).len() as u64);
        let expected = queued + waiting.iter().sum::<u64>();
        assert_eq!(bytes_queued(net, id), expected);
        assert_eq!(net.stats().memory_bytes, expected + held);
        assert_eq!(net.stats().frames_replaced, round as u64 * 5);
        if round % 10 == 3 {
            scene.turns();
        }
    }
    let frames = frames_behind(scene, peer, id, 5);
    assert_eq!(frames, slots.map(|slot| payload(49, slot)));
}

#[test]
fn new_frame_overtakes_no_other() {
    let (mut scene, peer, id) = blocked(ListenOptions::default());
    let shared = Bytes::from(pattern(5000));
    let net = scene.net();
    net.send_latest(id, 1, b"one").expect("room");
    net.send(id, b"x").expect("room");
    net.send_latest(id, 2, b"two").expect("room");
    net.send_bytes(id, shared.clone()).expect("room");
    net.send_latest(id, 3, b"three").expect("room");
    net.send_reader(id, 4, &b"read"[..]).expect("room");
    net.send_latest(id, 1, b"newer one").expect("room");
    net.send(id, b"y").expect("room");
    net.send_latest(id, 2, b"newer two").expect("room");
    assert_eq!(net.stats().frames_replaced, 2);
    net.send_latest(id, 1, b"newest one").expect("room");
    assert_eq!(net.stats().frames_replaced, 3);
    let expected = [&b"x"[..], &shared, b"three", b"read", b"y", b"newer two"];
    let expected: Vec<_> = expected.into_iter().chain([&b"newest one"[..]]).collect();
    assert_eq!(frames_behind(scene, peer, id, 7), expected);
}

#[test]
fn partly_written_frame_is_not_replaced() {
    let options = ListenOptions::default().max_queued_bytes(1 << 40);
    let (mut scene, peer, id) = Scene::joined(options);
    let net = scene.net();
    net.send_latest(id, 1, &pattern(BULK)).expect("room");
    scene.until_blocked();
    let net = scene.net();
    let queued = bytes_queued(net, id);
    assert!(queued > 0 && queued < BULK as u64);
    net.send_latest(id, 1, b"old").expect("room");
    assert_eq!(net.stats().frames_replaced, 0);
    assert_eq!(bytes_queued(net, id), queued + 7);
    net.send_latest(id, 1, b"newer").expect("room");
    assert_eq!(net.stats().frames_replaced, 1);
    assert_eq!(bytes_queued(net, id), queued + 9);
    assert_eq!(frames_behind(scene, peer, id, 1), [b"newer"]);
}

#[test]
fn replaced_frame_makes_room_in_a_full_queue_or_stays() {
    let options = ListenOptions::default().max_queued_bytes(1000);
    let (mut scene, mut peer, id) = Scene::joined(options.max_frame_len(700));
    let is_full = |result| matches!(result, Err(SendError::QueueFull { max: 1000, .. }));
    let net = scene.net();
    net.send(id, &[1; 596]).expect("there is room");
    net.send_latest(id, 1, &[2; 396]).expect("there is room");
    assert_eq!(bytes_queued(net, id), 1000);
    assert!(is_full(net.send(id, b"more")));
    assert!(is_full(net.send_latest(id, 2, b"another")));
    // A longer one finds room, too: what waits may exceed the limit by one frame.
    net.send_latest(id, 1, &[3; 696]).expect("400 bytes go");
    assert_eq!(bytes_queued(net, id), 1300);
    assert_eq!(net.stats().memory_bytes, 1300);
    assert!(matches!(
        net.send_latest(id, 1, &[4; 701]),
        Err(SendError::Encode(EncodeError::PayloadTooLong {
            len: 701,
            max: 700
        }))
    ));
    assert_eq!(
        (bytes_queued(net, id), net.stats().memory_bytes),
        (1300, 1300)
    );
    assert_eq!(net.stats().frames_replaced, 1);
    scene.turns();
    let received = [peer.receive(), peer.receive()];
    assert_eq!(received, [vec![1; 596], vec![3; 696]]);

    // Where what goes is not enough, it stays.
    let net = scene.net();
    net.send_latest(id, 1, b"old").expect("there is room");
    net.send(id, &[5; 696]).expect("there is room");
    net.send(id, &[6; 696]).expect("there is room");
    assert!(is_full(net.send_latest(id, 1, b"new")));
    assert_eq!(bytes_queued(net, id), 1407);
    assert_eq!(net.stats().frames_replaced, 1);
    scene.turns();
    let received = [(); 3].map(|()| peer.receive());
    assert_eq!(received, [b"old".to_vec(), vec![5; 696], vec![6; 696]]);
    scene.expect_nothing_held();
}

#[test]
fn replacing_a_frame_in_a_full_queue_is_no_overflow() {
    let options = ListenOptions::default()
        .max_queued_bytes(1000)
        .overflow(Overflow::Disconnect);
    let (mut scene, _peer, id) = Scene::joined(options);
    for _ in 0..5 {
        while bytes_queued(scene.net(), id) == 0 {
            scene.net().send(id, &[7; 900]).expect("there is room");
            scene.pass(Duration::ZERO);
        }
    }
    let blocked = bytes_queued(scene.net(), id);
    let net = scene.net();
    for _ in 0..10 {
        net.send_latest(id, 1, &[7; 2000]).expect("it replaces");
    }
    assert!(net.is_connected(id));
    let error = net.send_latest(id, 2, b"x").expect_err("it is full");
    assert!(matches!(error, SendError::QueueFull { queued, .. } if queued == blocked + 2004));
    let reason = scene.end();
    assert_cause!(reason, DisconnectCause::SlowConsumer { .. });
    assert_eq!(
        (reason.unsent_frames, reason.unsent_bytes),
        (2, blocked + 2004)
    );
}

#[test]
fn replaced_frames_do_not_count_as_unsent() {
    let (mut scene, _peer, id) = blocked(ListenOptions::default());
    let mut bytes = bytes_queued(scene.net(), id);
    let net = scene.net();
    for round in 0..20_u32 {
        for slot in 0..4 {
            // Neighbours of equal lengths and of different ones.
            let len = if slot < 2 { 100 } else { round * slot };
            let sent = net.send_latest(id, slot, &pattern(len as usize));
            sent.expect("there is room");
        }
        net.send(id, &[7; 96]).expect("there is room");
    }
    bytes += 104 + 104 + (4 + 19 * 2) + (4 + 19 * 3) + 20 * 100;
    assert_eq!(bytes_queued(net, id), bytes);
    assert_eq!(net.stats().frames_replaced, 19 * 4);
    net.abort(id);
    let reason = scene.end();
    assert_eq!(reason.unsent_frames, 1 + 4 + 20);
    assert_eq!(reason.unsent_bytes, bytes);
}

#[test]
fn slot_is_the_same_before_and_behind_an_open_frame() {
    let (mut scene, peer, id) = blocked(ListenOptions::default());
    let net = scene.net();
    let (queued, held) = (bytes_queued(net, id), written_of_bulk(net, id));
    net.send_latest(id, 1, b"before").expect("room");
    net.send_latest(id, 2, b"stays").expect("room");
    net.begin_frame(id, 4).expect("none is open");
    net.push_chunk(id, b"op").expect("it belongs there");
    net.send_latest(id, 1, b"behind").expect("room");
    assert_eq!(net.stats().frames_replaced, 1);
    net.send(id, b"x").expect("room");
    net.send_latest(id, 1, b"again").expect("room");
    net.send_latest(id, 3, &[3; 100]).expect("room");
    assert_eq!(net.stats().frames_replaced, 2);
    scene.turns();
    let net = scene.net();
    let waiting = (9 + 6 + 5 + 9 + 104) as u64;
    assert_eq!(bytes_queued(net, id), queued + waiting);
    assert_eq!(net.stats().memory_bytes, queued + held + waiting);
    net.push_chunk(id, b"en").expect("it belongs there");
    net.finish_frame(id).expect("it is complete");
    net.send_latest(id, 3, b"newer three").expect("room");
    net.send_latest(id, 1, b"newest").expect("room");
    assert_eq!(net.stats().frames_replaced, 4);
    let frames = frames_behind(scene, peer, id, 5);
    let expected = [&b"stays"[..], b"open", b"x", b"newer three", b"newest"];
    assert_eq!(frames, expected);
}

#[test]
fn frames_of_any_length_are_replaced_at_any_place() {
    // From 64 KiB on a frame takes a segment of the queue, alone or with small ones before it.
    let (mut scene, peer, id) = blocked(ListenOptions::default());
    let mut list: Vec<(u32, Vec<u8>)> = Vec::new();
    let order = [0, 1, 2, 3, 4, 5, 6, 2, 0, 6, 1, 4, 4, 3, 5, 0, 1, 6, 2, 5];
    for (round, slot) in (0_u8..).zip(order.into_iter().cycle().take(60)) {
        let len = [70_000, 65_536, 20, 300, 100_000, 5, 80_000][slot as usize];
        let payload = vec![round; len + usize::from(round)];
        let net = scene.net();
        net.send_latest(id, slot, &payload).expect("room");
        list.retain(|(of, _)| *of != slot);
        list.push((slot, payload));
    }
    assert_eq!(scene.net().stats().frames_replaced, 60 - 7);
    let frames = frames_behind(scene, peer, id, 7);
    assert!(frames.iter().eq(list.iter().map(|(_, payload)| payload)));
}

#[test]
fn random_mixture_of_frames_arrives_as_a_model_predicts() {
    let (mut scene, peer, id) = blocked(ListenOptions::default());
    let net = scene.net();
    let (queued, held) = (bytes_queued(net, id), written_of_bulk(net, id));
    let mut list: Vec<(Option<u32>, Vec<u8>)> = Vec::new();
    let (mut replaced, mut random) = (0, 1_u32);
    for number in 0..3000_u32 {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let dice = random >> 16;
        let len = if dice % 50 == 0 { 40_000 } else { dice % 300 };
        let mut payload = pattern(len as usize);
        payload.extend_from_slice(&number.to_le_bytes());
        let slot = Some(dice / 7 % 40).filter(|_| dice % 5 > 1);
        let net = scene.net();
        match slot {
            Some(slot) => net.send_latest(id, slot, &payload).expect("room"),
            None if dice % 5 == 0 => net.send(id, &payload).expect("room"),
            None => net.send_bytes(id, payload.clone().into()).expect("room"),
        }
        if let Some(at) = list.iter().position(|(of, _)| of.is_some() && *of == slot) {
            list.remove(at);
            replaced += 1;
        }
        list.push((slot, payload));
        if number % 100 == 99 {
            let net = scene.net();
            let waiting: usize = list.iter().map(|(_, payload)| 4 + payload.len()).sum();
            assert_eq!(bytes_queued(net, id), queued + waiting as u64);
            assert_eq!(net.stats().memory_bytes, queued + held + waiting as u64);
            assert_eq!(net.stats().frames_replaced, replaced);
        }
    }
    let frames = frames_behind(scene, peer, id, list.len());
    assert!(frames.iter().eq(list.iter().map(|(_, payload)| payload)));
}

#[test]
fn slow_peer_gets_ever_newer_frames_and_the_last_of_each_slot() {
    const SLOTS: u32 = 50;
    let (mut scene, mut peer, id) = Scene::joined(ListenOptions::default());
    let state = |slot: u32, version: u32| {
        let mut state = pattern(500 + slot as usize * 20);
        state[..4].copy_from_slice(&slot.to_le_bytes());
        state[4..8].copy_from_slice(&version.to_le_bytes());
        state
    };
    let (go, gone) = channel();
    let reading = std::thread::spawn(move || {
        gone.recv_timeout(PATIENCE).expect("some were replaced");
        let mut versions = [None; SLOTS as usize];
        let mut received = 0_u64;
        loop {
            let frame = peer.receive();
            if frame == b"the end" {
                return (versions, received, peer);
            }
            let number = |at: usize| frame[at..at + 4].try_into().map(u32::from_le_bytes);
            let (slot, version) = (number(0).expect("four"), number(4).expect("four"));
            assert!(frame == state(slot, version), "it is broken");
            assert!(versions[slot as usize] < Some(version), "an old one");
            versions[slot as usize] = Some(version);
            received += 1;
            std::thread::yield_now();
        }
    });
    let mut version = 0;
    let mut last = None;
    while last.is_none_or(|last| version < last) {
        for slot in 0..SLOTS {
            let sent = scene.net().send_latest(id, slot, &state(slot, version));
            sent.expect("what waits is little");
        }
        scene.turns();
        let net = scene.net();
        if last.is_none() && net.stats().frames_replaced > 1000 {
            go.send(()).expect("it waits");
            last = Some(version + 200);
        }
        version += 1;
    }
    scene.net().send(id, b"the end").expect("there is room");
    scene.until(|_, net| bytes_queued(net, id) == 0);
    let (versions, received, _peer) = reading.join().expect("no panic");
    assert_eq!(versions, [Some(version - 1); SLOTS as usize]);
    let stats = scene.net().stats();
    let sent = u64::from(version * SLOTS);
    assert_eq!(received + stats.frames_replaced, sent);
    assert_eq!(stats.frames_sent, received + 1);
    scene.expect_nothing_held();
}

#[test]
fn send_latest_to_a_closed_connection_is_rejected() {
    let (mut scene, _peer, id) = Scene::joined(ListenOptions::default());
    let addr = scene.addr;
    let net = scene.net();
    let connecting = net.connect(addr).expect("an attempt");
    assert!(matches!(
        net.send_latest(connecting, 1, b"x"),
        Err(SendError::Connecting)
    ));
    net.send_latest(id, 1, b"x").expect("there is room");
    net.abort(id);
    assert!(matches!(
        net.send_latest(id, 1, b"y"),
        Err(SendError::Disconnected)
    ));
    assert_eq!(net.stats().frames_replaced, 0);
    scene.expect_nothing_held();
}

#[test]
fn frame_at_the_end_of_a_write_is_not_replaced() {
    let options = ListenOptions::default().framing(Framing::raw());
    let options = options.max_queued_bytes(1 << 40);
    // Sockets that are like each other hold as much as each other.
    let (mut scene, _peer, id) = Scene::joined(options.clone());
    let bulk = Bytes::from(pattern(BULK));
    scene.net().send_bytes(id, bulk.clone()).expect("room");
    scene.until_blocked();
    let room = scene.net().stats().bytes_sent as usize;

    let (mut scene, mut peer, id) = Scene::joined(options);
    let net = scene.net();
    net.send_bytes(id, bulk.slice(..room - 3)).expect("room");
    net.send_latest(id, 1, b"one").expect("room");
    net.send_latest(id, 2, b"two").expect("room");
    scene.until_blocked();
    let net = scene.net();
    assert_eq!(bytes_queued(net, id), 3, "the write did not end there");
    net.send_latest(id, 2, b"TWO").expect("room");
    net.send_latest(id, 1, b"ONE").expect("room");
    assert_eq!((bytes_queued(net, id), net.stats().frames_replaced), (6, 1));
    let reading = std::thread::spawn(move || {
        let mut received = vec![0; room + 6];
        peer.0.read_exact(&mut received).expect("all of it");
        received
    });
    scene.until(|_, net| bytes_queued(net, id) == 0);
    let received = reading.join().expect("all arrived");
    assert!(received.ends_with(b"oneTWOONE"));
    scene.expect_nothing_held();
}

#[test]
fn frame_replaced_by_an_empty_one_ends_backpressure() {
    let options = ListenOptions::default().framing(Framing::raw());
    let (mut scene, mut peer, id) = Scene::joined(options.high_watermark(1000));
    let net = scene.net();
    net.send_latest(id, 1, &[7; 2000]).expect("there is room");
    assert!(net.connection(id).is_some_and(|it| it.is_congested()));
    net.send_latest(id, 1, b"").expect("nothing is a payload");
    assert_eq!(bytes_queued(net, id), 0);
    peer.write(b"hello?");
    scene.turns();
    assert!(
        !scene
            .net()
            .connection(id)
            .is_some_and(|it| it.is_congested()),
        "nothing waits"
    );
    assert_eq!(scene.seen.drains.len(), 1);
    scene.until(|seen, _| !seen.arrived.is_empty());
}

/// Its socket takes nothing, so no write finds the room.
#[test]
fn frame_replaced_by_a_shorter_one_ends_the_backpressure_of_a_blocked_queue() {
    let watermarks = ListenOptions::default()
        .high_watermark(1 << 25)
        .low_watermark(1 << 24);
    let (mut scene, _peer, id) = blocked(watermarks);
    let net = scene.net();
    net.send_latest(id, 1, &[7; 1 << 25])
        .expect("there is room");
    assert!(net.connection(id).is_some_and(|it| it.is_congested()));
    scene.turns();
    assert!(scene.seen.drains.is_empty());
    let net = scene.net();
    net.send_latest(id, 1, b"short").expect("there is room");
    assert!(net.connection(id).is_some_and(|it| !it.is_congested()));
    scene.turns();
    assert_eq!(scene.seen.drains.len(), 1);
    assert!(bytes_queued(scene.net(), id) > 0);
}

/// How many states a peer gets, of 200 that were sent while it did not read, up to the newest.
#[cfg(any(target_os = "android", target_os = "linux"))]
fn states_after_a_pause(options: ListenOptions) -> usize {
    let (mut scene, mut peer, id) = Scene::joined(options);
    let state = |number: u8| {
        let mut state = pattern(20_000);
        state[0] = number;
        state
    };
    for number in 1..=200 {
        let sent = scene.net().send_latest(id, 0, &state(number));
        sent.expect("there is room");
        scene.turns();
    }
    let reading = std::thread::spawn(move || {
        let mut count = 1;
        while peer.receive()[0] != 200 {
            count += 1;
        }
        count
    });
    scene.until(|_, net| bytes_queued(net, id) == 0);
    reading.join().expect("the newest arrived")
}

#[cfg(any(target_os = "android", target_os = "linux"))]
#[test]
fn peer_that_paused_gets_few_old_frames_with_a_small_send_buffer() {
    let unlimited = states_after_a_pause(ListenOptions::default());
    let limited = ListenOptions::default().max_unsent_in_kernel(4096);
    let limited = states_after_a_pause(limited);
    let small = states_after_a_pause(ListenOptions::default().send_buffer(4096));
    // The receive buffer of the peer holds some in any case.
    assert!(4 * limited < unlimited, "{limited} of {unlimited}");
    assert!(4 * small < unlimited, "{small} of {unlimited}");
}
