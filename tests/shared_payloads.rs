//! Payloads that are held once: passed on, or queued for many connections.

#[path = "support/heap.rs"]
mod heap;
mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use heap::Heap;
use support::by_hand::Loop;
use support::open_files::with_connections;
use support::toy::Toy;
use support::traffic::{Echo, Pump, Sink, Turns, settled, unbounded};
use support::{framed, pattern};
use throng::{Config, ConnectionId, Frame, Framing, Handler, Net};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

#[test]
fn large_frame_passed_to_send_frame_is_not_copied() {
    let frame = framed(&pattern(16 * MIB));
    let mut handler = Echo::SendFrame;
    let (mut looped, _, mut pump) = settled(&mut handler);
    for _ in 0..3 {
        let before = Heap::reset_peak();
        pump.run(&mut looped, &mut handler, &frame, &frame);
        let peak = Heap::peak_since(before);
        assert!(peak < 2 * 16 * MIB as isize, "{peak} bytes at most");
    }
}

#[test]
fn large_frame_for_many_is_held_once() {
    let name = "large_frame_for_many_is_held_once";
    with_connections(name, 100, |count| {
        let (mut looped, mut handler) = (Loop::new(Config::default()), Sink);
        let addr = looped.listen_with(unbounded(Framing::default()));
        let peers = looped.connect(&mut handler, addr, count);
        let payload = pattern(4 * MIB);
        // A queue and a header for each.
        let queues = (count * KIB) as isize;

        let before = Heap::reset_peak();
        let report = looped.net().broadcast(|_| true, &payload[..]);
        assert_eq!(report.queued, count);
        drop(report);
        looped.turn_until(&mut handler, |net| net.stats().bytes_sent > 0);
        let peak = Heap::peak_since(before);
        assert!(peak <= 4 * MIB as isize + queues, "a slice: {peak} bytes");

        let shared = Bytes::from(payload);
        let before = Heap::reset_peak();
        let ids = looped.net().connections();
        let report = looped.net().send_many(ids, shared.clone());
        assert_eq!(report.queued, count);
        let peak = Heap::peak_since(before);
        assert!(peak <= queues, "shared: {peak} bytes");
        drop(peers);
    });
}

#[test]
fn large_frame_passed_to_broadcast_is_held_once() {
    struct Relay;
    impl Handler for Relay {
        fn on_data(&mut self, net: &mut Net, from: ConnectionId, frame: Frame<'_>) {
            let others = net.connection_count() - 1;
            assert_eq!(net.broadcast(|id| id != from, frame).queued, others);
        }
    }
    let (mut looped, mut handler) = (Loop::new(Config::default()), Relay);
    let addr = looped.listen_with(unbounded(Framing::default()));
    let mut peers = looped.connect(&mut handler, addr, 20);
    let frame = framed(&pattern(4 * MIB));
    let mut pump = Pump::new(peers.swap_remove(0));
    let before = Heap::reset_peak();
    pump.run(&mut looped, &mut handler, &frame, &[]);
    assert_eq!(looped.net().stats().frames_received, 1);
    let peak = Heap::peak_since(before);
    assert!(peak < 2 * 4 * MIB as isize, "{peak} bytes at most");
}

#[test]
fn small_frame_for_many_is_encoded_once_per_framing() {
    let (mut looped, mut handler) = (Loop::new(Config::default()), Sink);
    let formats = [Toy::default(), Toy::default()];
    let encoded = formats.each_ref().map(|format| Arc::clone(&format.encoded));
    let mut peers = Vec::new();
    for format in formats {
        let addr = looped.listen_with(unbounded(Framing::custom(format)));
        peers.extend(looped.connect(&mut handler, addr, 30));
    }
    let all = looped.net().connections();
    for round in 1..=5 {
        let before = Heap::now();
        // Those of one framing do not stand together.
        let ids = all.iter().zip(&all[30..]);
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
