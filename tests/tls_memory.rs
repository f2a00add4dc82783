//! The heap that TLS sessions take, and how much of it is counted.
#![cfg(all(feature = "tls", target_os = "linux"))]

#[path = "support/heap.rs"]
mod heap;
mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use heap::Heap;
use rustls::server::NoServerSessionStorage;
use support::by_hand::Loop;
use support::secure::{Authority, SecurePeer, client};
use support::{Recorder, pattern};
use throng::{Config, ListenOptions};

const COUNT: usize = 40;

/// How many bytes a session counts as.
const COUNTED: isize = 8192;

/// The slot and the lists of a connection, besides its session.
const CONNECTION: isize = 512;

/// The lists that rustls keeps in a session that was busy.
const LISTS: isize = 2048;

#[test]
fn idle_session_takes_about_as_much_heap_as_is_counted_before_and_after_it_was_busy() {
    let (mut looped, mut seen) = (Loop::new(Config::default()), Recorder::echoing());
    let mut config = Authority::of_all().server();
    // The cache of sessions that can be resumed has a limit, and belongs to the configuration.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    let addr = looped.listen_with(ListenOptions::default().tls(Arc::new(config)));
    // The buffers of the loop do not count.
    let _first = join(&mut looped, &mut seen, addr);
    let before = Heap::now();
    let join_next = |_| join(&mut looped, &mut seen, addr);
    let mut peers: Vec<_> = (0..COUNT).map(join_next).collect();
    let each = |looped: &mut Loop, seen: &mut Recorder| {
        looped.trim(seen);
        seen.events = Vec::new();
        Heap::now().growth_since(before) / COUNT as isize
    };
    let fresh = each(&mut looped, &mut seen);
    for len in [100, 60_000] {
        peers = peers
            .into_iter()
            .map(|peer| {
                let exchange = exchange(peer, len);
                looped.settle(&mut seen, |_, _| exchange.is_finished());
                exchange.join().expect("the frame comes back")
            })
            .collect();
        let idle = each(&mut looped, &mut seen);
        eprintln!("{fresh} bytes each when new, {idle} after a frame of {len}");
        assert!(idle < COUNTED + CONNECTION + LISTS, "{idle}");
    }
    assert!(fresh < COUNTED + CONNECTION, "{fresh}");
    // The count is not far above it, either.
    assert!(fresh > COUNTED / 2, "{fresh}");
    let counted = (COUNT as u64 + 1) * COUNTED as u64;
    assert_eq!(looped.net().stats().memory_bytes, counted);

    drop(peers);
    looped.settle(&mut seen, |_, net| net.connection_count() == 1);
    assert_eq!(looped.net().stats().memory_bytes, COUNTED as u64);
    let left = each(&mut looped, &mut seen);
    assert!(left < CONNECTION, "{left} bytes are left of each");
}

/// Connects a peer, whose memory is that of another thread.
fn join(looped: &mut Loop, seen: &mut Recorder, addr: SocketAddr) -> Box<SecurePeer> {
    let before = looped.net().connection_count();
    let peer = std::thread::spawn(move || {
        let mut peer = Box::new(SecurePeer::new(addr, client()));
        peer.handshake();
        peer
    });
    looped.settle(seen, |_, net| {
        net.connection_count() > before && peer.is_finished()
    });
    peer.join().expect("its handshake succeeds")
}

/// Sends a frame and waits for its echo.
fn exchange(mut peer: Box<SecurePeer>, len: usize) -> JoinHandle<Box<SecurePeer>> {
    std::thread::spawn(move || {
        let frame = pattern(len);
        peer.send(&frame);
        assert!(peer.receive() == frame, "it came back changed");
        peer
    })
}
