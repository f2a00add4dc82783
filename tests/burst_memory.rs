//! The heap that a burst on one connection leaves behind: long queues, large frames, unfinished frames.

#[path = "support/heap.rs"]
mod heap;
mod support;

use std::time::Duration;

use bytes::Bytes;
use heap::Heap;
use support::by_hand::Loop;
use support::traffic::{Echo, Pump, Sink, Turns, settled, unbounded};
use support::{framed, pattern};
use throng::{Config, ConnectionId, Framing, Net};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const CONNECTIONS: usize = 50;

/// A little is kept: lists that have grown, each for all connections.
const SMALL: isize = 16 * KIB as isize;

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
    assert_eq!(looped.queued(id), 0);
}

#[test]
fn drained_queue_frees_its_memory() {
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
        looped.trim(&mut Sink);
        let left = Heap::now().growth_since(before);
        assert!(left <= SMALL, "{lens:?}: {left} bytes are left");
    }
}

#[test]
fn drained_queue_frees_its_memory_during_light_traffic() {
    for lens in [&[60][..], &[3000], &[10, 5000, 60_000]] {
        assert_light_traffic_keeps_no_burst(lens);
    }
}

#[test]
fn mixed_length_queue_frees_its_memory_during_light_traffic() {
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
fn frames_of_64_mib_free_all_their_memory() {
    let frame = framed(&pattern(64 * MIB));
    for echo in [Echo::SendFrame, Echo::Send, Echo::SendWith] {
        let mut handler = echo;
        let (mut looped, _, mut pump) = settled(&mut handler);
        let before = Heap::now();
        pump.run(&mut looped, &mut handler, &frame, &frame);
        looped.trim(&mut handler);
        let left = Heap::now().growth_since(before);
        assert!(left <= SMALL, "{echo:?}: {left} bytes are left");
    }
    let (mut looped, _, mut pump) = settled(&mut Sink);
    let before = Heap::now();
    pump.run(&mut looped, &mut Sink, &frame, &[]);
    looped.trim(&mut Sink);
    let left = Heap::now().growth_since(before);
    assert!(left <= SMALL, "only received: {left} bytes are left");
}

#[test]
fn unfinished_frames_free_all_their_memory() {
    let (mut looped, mut handler) = (Loop::new(Config::default()), Sink);
    let addr = looped.listen_with(unbounded(Framing::default()));
    drop(looped.connect(&mut handler, addr, CONNECTIONS));
    looped.turn_until(&mut handler, |net| net.connection_count() == 0);
    looped.trim(&mut handler);
    let before = Heap::now();
    let peers = looped.connect(&mut handler, addr, CONNECTIONS);
    // Some are held behind the read buffer, some in one of their own.
    let frame = framed(&pattern(500 * KIB));
    for (number, peer) in peers.into_iter().enumerate() {
        let part = &frame[..number * 8 * KIB + 10];
        Pump::new(peer).run(&mut looped, &mut handler, part, &[]);
    }
    looped.turn_until(&mut handler, |net| net.connection_count() == 0);
    looped.trim(&mut handler);
    let left = Heap::now().growth_since(before) - frame.capacity() as isize;
    assert!(left <= SMALL, "{left} bytes are left");
}
