//! The servers that `compare` measures throng against: each does the work it is measured for.
#![cfg(target_os = "linux")]

mod support;

use std::io::Write;

use support::{Serve, finish, receive, send, tool};

/// The words that start each of them, and whether it can broadcast.
#[cfg(not(feature = "peers"))]
const SERVERS: &[(&[&str], bool)] = &[(&["yardstick"], true)];
#[cfg(feature = "peers")]
const SERVERS: &[(&[&str], bool)] = &[
    (&["yardstick"], true),
    (&["peer", "tokio-codec"], false),
    (&["peer", "tokio-batched"], false),
    (&["peer", "tokio-by-hand"], false),
    (&["peer", "mio-by-hand"], true),
    (&["peer", "message-io"], true),
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
    for (server, _) in SERVERS {
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

#[test]
fn peers_echo_mixed_sizes_in_order() {
    const SIZES: [usize; 9] = [1, 5_000, 0, 300_000, 3, 4_092, 70_000, 1_000_000, 2];
    for (server, _) in SERVERS {
        let serve = Serve::start_other(server);
        let mut peer = serve.peer();
        let payload = |i: usize| vec![i as u8; SIZES[i % SIZES.len()]];
        let mut writer = peer.try_clone().expect("a live socket");
        let sending = std::thread::spawn(move || {
            for i in 0..50 {
                send(&mut writer, &payload(i));
            }
        });
        for i in 0..50 {
            assert!(receive(&mut peer) == payload(i), "{server:?}: frame {i}");
        }
        sending.join().expect("all is sent");
    }
}

#[test]
fn peers_echo_a_frame_that_comes_byte_by_byte() {
    for (server, _) in SERVERS {
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
    for (server, can_broadcast) in SERVERS {
        let broadcasting = [server, &["--mode", "broadcast"][..]].concat();
        let loads = [
            (&broadcasting[..], "broadcast", "8", "64"),
            (&broadcasting[..], "broadcast", "3", "100000"),
            (server, "churn", "1", "64"),
        ];
        for (words, traffic, pipeline, size) in loads {
            if traffic == "broadcast" && !can_broadcast {
                continue;
            }
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
