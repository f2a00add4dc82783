//! The servers that `compare` measures throng against: each does the work it is measured for.
#![cfg(target_os = "linux")]

mod support;

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use support::{Serve, finish, receive, send, tool};

/// The words that start each of them.
const SERVERS: &[&[&str]] = &[
    &["yardstick"],
    #[cfg(feature = "peers")]
    &["peer", "tokio-codec"],
    #[cfg(feature = "peers")]
    &["peer", "tokio-batched"],
    #[cfg(feature = "peers")]
    &["peer", "tokio-by-hand"],
    #[cfg(feature = "peers")]
    &["peer", "mio-by-hand"],
    #[cfg(feature = "peers")]
    &["peer", "message-io"],
];

/// Sizes around those at which a server may change its ways, and more than the sockets hold.
#[test]
fn peers_echo_frames_of_any_size() {
    let loads = [
        ("50", "32", "64"),
        ("3", "7", "0"),
        ("3", "100", "4091"),
        ("3", "100", "4093"),
        ("9", "9", "65536"),
        ("4", "5", "262139"),
        ("4", "5", "262141"),
        ("3", "3", "1500000"),
        ("2", "1", "20000000"),
    ];
    for server in SERVERS {
        let serve = Serve::start_other(server);
        for (connections, pipeline, size) in loads {
            let output = finish(
                tool(&["load", "--addr", &serve.addr(), "--seconds", "0.2"])
                    .args(["--connections", connections])
                    .args(["--pipeline", pipeline, "--size", size]),
            );
            assert!(output.status.success(), "{server:?}, {size}: {output:?}");
        }
    }
}

/// Nothing is read until the sockets are full in both directions.
#[test]
fn peers_echo_mixed_sizes_in_order() {
    const SIZES: [usize; 9] = [1, 5_000, 0, 300_000, 3, 4_092, 70_000, 1_000_000, 2];
    const FRAMES: usize = 200;
    for server in SERVERS {
        let serve = Serve::start_other(server);
        let mut peer = serve.peer();
        let payload = |i: usize| vec![i as u8; SIZES[i % SIZES.len()]];
        let mut writer = peer.try_clone().expect("a live socket");
        let sent = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&sent);
        let sending = std::thread::spawn(move || {
            for i in 0..FRAMES {
                send(&mut writer, &payload(i));
                counter.fetch_add(1, Ordering::Relaxed);
            }
        });
        let mut before = 0;
        while before == 0 || sent.load(Ordering::Relaxed) > before {
            before = sent.load(Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(100));
        }
        for i in 0..FRAMES {
            assert!(receive(&mut peer) == payload(i), "{server:?}: frame {i}");
        }
        sending.join().expect("all is sent");
    }
}

#[test]
fn peers_echo_a_frame_that_comes_byte_by_byte() {
    for server in SERVERS {
        let serve = Serve::start_other(server);
        let mut peer = serve.peer();
        peer.set_nodelay(true).expect("a live socket");
        for byte in [3, 0, 0, 0, b'a', b'b', b'c'] {
            peer.write_all(&[byte]).expect("to write");
        }
        assert_eq!(receive(&mut peer), b"abc", "{server:?}");
    }
}

#[test]
fn peers_broadcast_and_serve_new_connections() {
    for server in SERVERS {
        let broadcasting = [server, &["--mode", "broadcast"][..]].concat();
        let loads = [
            (&broadcasting[..], "broadcast", "8", "64"),
            (&broadcasting[..], "broadcast", "3", "100000"),
            (server, "churn", "1", "64"),
        ];
        for (words, traffic, pipeline, size) in loads {
            let serve = Serve::start_other(words);
            let output = finish(
                tool(&["load", "--addr", &serve.addr(), "--seconds", "0.2"])
                    .args(["--connections", "20", "--traffic", traffic])
                    .args(["--pipeline", pipeline, "--size", size]),
            );
            assert!(output.status.success(), "{server:?}, {traffic}: {output:?}");
        }
    }
}
