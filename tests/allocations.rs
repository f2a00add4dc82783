//! A warm loop allocates nothing, in every framing and with every way to send.

#[path = "support/heap.rs"]
mod heap;
mod support;

use std::time::{Duration, Instant};

use heap::Heap;
use support::Peer;
use support::by_hand::Loop;
use support::traffic::{Arrival, Echo, Rounds, Turns, unbounded};
use throng::{Config, EventLoop, Framing, ListenOptions};

const CONNECTIONS: usize = 50;

/// Echoes at least so many frames in so much time, and counts the allocations of a loop that has echoed some before.
fn allocations_of_echoes(
    framing: &Framing,
    echo: Echo,
    arrival: Arrival,
    frames: usize,
    time: Duration,
) -> u64 {
    let (mut looped, mut handler) = (Loop::new(Config::default()), echo);
    let addr = looped.listen_with(unbounded(framing.clone()));
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
fn echoing_frames_that_arrive_in_two_pieces_allocates_nothing() {
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
fn buffers_are_not_trimmed_while_in_use() {
    for depth in [1, 32] {
        let arrival = Arrival { depth, cut: None };
        let (framing, echo) = (Framing::default(), Echo::Send);
        let allocations = allocations_of_echoes(&framing, echo, arrival, 50_000, TWO_TRIMS);
        assert_eq!(allocations, 0, "{arrival:?}");
    }
}

#[test]
fn buffers_of_unfinished_frames_are_not_trimmed_while_in_use() {
    let arrival = Arrival {
        depth: 1,
        cut: Some(34),
    };
    let (framing, echo) = (Framing::default(), Echo::Send);
    let allocations = allocations_of_echoes(&framing, echo, arrival, 20_000, TWO_TRIMS);
    assert_eq!(allocations, 0);
}

#[test]
fn echoing_in_real_time_allocates_nothing() {
    let mut event_loop = EventLoop::new(Config::default()).expect("a loop");
    let addr = support::listen(&mut event_loop, ListenOptions::default());
    let peers: Vec<_> = (0..CONNECTIONS).map(|_| Peer::connect(addr).0).collect();
    let mut handler = Echo::Send;
    event_loop.turn_until(&mut handler, |net| net.connection_count() == CONNECTIONS);
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
