//! The heap that connections cost: idle ones, and peers that promise frames they do not send.

#[path = "support/heap.rs"]
mod heap;
mod support;

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use heap::Heap;
use support::by_hand::Loop;
use support::framed;
use support::open_files::with_connections;
use support::traffic::{Arrival, Echo, Rounds, Sink, Turns, unbounded};
use throng::{Config, Framing};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// The heap that an idle connection may cost.
const MAX_IDLE_BYTES: isize = 256;

#[test]
fn idle_connection_takes_at_most_256_bytes() {
    let name = "idle_connection_takes_at_most_256_bytes";
    with_connections(name, 2000, assert_idle_is_cheap);
}

#[test]
#[ignore = "takes nearly 20,000 open files"]
fn each_of_10_000_idle_connections_takes_at_most_256_bytes() {
    let name = "each_of_10_000_idle_connections_takes_at_most_256_bytes";
    with_connections(name, 10_000, assert_idle_is_cheap);
}

fn assert_idle_is_cheap(count: usize) {
    let (mut looped, mut handler) = (Loop::new(Config::default()), Echo::SendFrame);
    let addr = looped.listen_with(unbounded(Framing::default()));
    // What the peers' own list takes does not count.
    let before = Heap::now();
    let peers = looped.connect(&mut handler, addr, count);
    let own = (peers.capacity() * size_of::<TcpStream>()) as isize;
    let each = |growth: isize| (growth - own) / count as isize;
    let fresh = each(Heap::now().growth_since(before));
    eprintln!("{count} connections: {fresh} bytes each when they are new");
    assert!(fresh <= MAX_IDLE_BYTES, "{fresh}");

    // All are in the middle of a frame at once, and then busy at once.
    let own = own + 2 * 4 * 68;
    let each = |growth: isize| (growth - own) / count as isize;
    let arrival = Arrival {
        depth: 4,
        cut: Some(100),
    };
    let mut rounds = Rounds::new(peers, &Framing::default(), arrival);
    for _ in 0..3 {
        rounds.go(&mut looped, &mut handler);
    }
    looped.trim(&mut handler);
    let idle = each(Heap::now().growth_since(before));
    eprintln!("{count} connections: {idle} bytes each when they are idle again");
    assert!(idle <= MAX_IDLE_BYTES, "{idle}");
}

#[test]
fn closed_connections_free_all_their_memory() {
    let (mut looped, mut handler) = (Loop::new(Config::default()), Echo::SendWith);
    let addr = looped.listen_with(unbounded(Framing::default()));
    let mut generation = |looped: &mut Loop| {
        let mut peers = looped.connect(&mut handler, addr, 20);
        for (number, peer) in peers.iter_mut().enumerate() {
            // Some leave in the middle of a frame, some with a reset.
            peer.write_all(&framed(b"hello")).expect("to write");
            peer.write_all(&framed(&[7; 1000])[..number * 50])
                .expect("to write");
            if number % 3 == 0 {
                let socket = socket2::SockRef::from(&*peer);
                let _ = socket.set_linger(Some(Duration::ZERO));
            }
        }
        drop(peers);
        looped.turn_until(&mut handler, |net| net.connection_count() == 0);
        looped.trim(&mut handler);
        Heap::now()
    };
    let before = generation(&mut looped);
    let mut after = before;
    for _ in 0..20 {
        after = generation(&mut looped);
    }
    // A list of the loop may still have grown; the smallest block for each of the 400 would be more.
    let growth = after.growth_since(before);
    assert!(growth < 2 * KIB as isize, "{growth} bytes");
}

// Where addresses have 32 bits nothing of the kind can be held, and the promise alone ends the connection.
#[cfg(target_pointer_width = "64")]
#[test]
fn declared_length_of_4_gib_takes_only_the_memory_of_received_bytes() {
    let name = "declared_length_of_4_gib_takes_only_the_memory_of_received_bytes";
    with_connections(name, 500, |count| {
        let (mut looped, mut handler) = (Loop::new(Config::default()), Sink);
        let addr = looped.listen_with(unbounded(Framing::default()));
        let mut peers = looped.connect(&mut handler, addr, count);
        let before = Heap::reset_peak();
        let mut bytes = [7; 104];
        bytes[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        for peer in &mut peers {
            peer.write_all(&bytes).expect("to write");
        }
        let all = (count * bytes.len()) as u64;
        looped.turn_until(&mut handler, |net| net.stats().bytes_received == all);
        let cost = Heap::peak_since(before);
        eprintln!("{count} promises: {cost} bytes");
        assert_eq!(looped.net().connection_count(), count, "all may go on");
        assert!(cost >= all as isize - (count * 4) as isize, "it is held");
        assert!(cost < MIB as isize, "{cost} bytes");

        drop(peers);
        looped.turn_until(&mut handler, |net| net.connection_count() == 0);
        looped.trim(&mut handler);
        let left = Heap::now().growth_since(before);
        assert!(left < 64 * KIB as isize, "{left} bytes are left");
    });
}
