//! `serve`, and how it ends.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use support::{PATIENCE, Serve, json, output, receive, scratch, send, wait};

#[test]
fn serve_echoes_small_and_large_frames() {
    let server = Serve::start(&["--mode", "echo"]);
    let mut peer = server.peer();
    for len in [0, 1, 64, 4096, 65_532, 65_533, 3 << 20] {
        let payload: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
        send(&mut peer, &payload);
        assert!(
            receive(&mut peer) == payload,
            "{len} bytes came back changed"
        );
    }
}

#[test]
fn serve_broadcasts_to_all_including_the_sender() {
    let server = Serve::start(&["--mode", "broadcast"]);
    let mut peers: Vec<_> = (0..3).map(|_| server.peer()).collect();
    // A frame of each shows that all three are connected.
    for peer in &mut peers {
        send(peer, b"here");
        receive(peer);
    }
    for peer in &mut peers {
        send(peer, b"last");
    }
    for peer in &mut peers {
        let mut last = 0;
        while last < 3 {
            if receive(peer) == b"last" {
                last += 1;
            }
        }
    }
}

#[test]
fn serve_behind_a_proxy_needs_its_header() {
    let server = Serve::start(&[
        "--proxy-protocol",
        "10.0.0.0/8",
        "--proxy-protocol",
        "127.0.0.1",
    ]);
    let mut peer = server.peer();
    peer.write_all(b"PROXY TCP4 192.0.2.1 192.0.2.2 1234 80\r\n")
        .expect("to write");
    send(&mut peer, b"hello");
    assert_eq!(receive(&mut peer), b"hello");
    let mut peer = server.peer();
    send(&mut peer, b"hello");
    assert!(!matches!(peer.read(&mut [0]), Ok(1)), "it is not served");
}

#[test]
fn serve_discards_frames_in_sink_mode() {
    let mut server = Serve::start(&["--mode", "sink"]);
    let mut peer = server.peer();
    send(&mut peer, b"gone");
    peer.shutdown(std::net::Shutdown::Write)
        .expect("a live socket");
    let mut rest = Vec::new();
    peer.read_to_end(&mut rest).expect("a clean end");
    assert_eq!(rest, b"");
    assert!(server.child.try_wait().expect("a child").is_none());
}

#[cfg(unix)]
#[test]
fn signal_ends_serve_with_a_summary() {
    for signal in ["-INT", "-TERM"] {
        let path = scratch(&format!("serve{signal}.json"));
        let mut server = Serve::start(&["--json", path.to_str().expect("a plain path")]);
        let mut peer = server.peer();
        send(&mut peer, b"hello");
        assert_eq!(receive(&mut peer), b"hello");
        support::kill(signal, server.child.id());
        assert_eq!(peer.read(&mut [0]).expect("a clean end"), 0);
        drop(peer);
        assert!(wait(&mut server.child).success());
        let mut said = String::new();
        server.stdout.read_to_string(&mut said).expect("text");
        assert!(said.starts_with("served 1 connections"), "{said}");
        let figures = json(&path);
        assert_eq!(
            (&figures["accepted"], &figures["frames_sent"]),
            (&1.into(), &1.into())
        );
    }
}

#[cfg(unix)]
#[test]
fn signal_lets_peers_read_queued_frames_until_a_second_signal() {
    let start = || {
        let server = Serve::start(&["--shutdown-timeout", "3600"]);
        let mut peer = server.peer();
        // More than the sockets hold, so that it waits in the server.
        let mut writer = peer.try_clone().expect("a live socket");
        let sender = std::thread::spawn(move || send(&mut writer, &vec![7; 12 << 20]));
        // Its header comes back when all of it has arrived.
        let mut header = [0; 4];
        peer.read_exact(&mut header).expect("a header");
        sender.join().expect("it is sent");
        (server, peer)
    };
    let (mut server, mut peer) = start();
    support::kill("-TERM", server.child.id());
    let mut payload = Vec::new();
    peer.read_to_end(&mut payload).expect("a clean end");
    assert!(payload == vec![7; 12 << 20], "all of it");
    drop(peer);
    assert!(wait(&mut server.child).success());

    let (mut server, peer) = start();
    support::kill("-TERM", server.child.id());
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(server.addr).is_ok() {
        assert!(Instant::now() < deadline, "it still listens");
    }
    support::kill("-TERM", server.child.id());
    assert!(wait(&mut server.child).success());
    drop(peer);
}

#[test]
fn serve_applies_limits_from_options() {
    let server = Serve::start(&["--max-connections", "1", "--max-frame-len", "4"]);
    let mut first = server.peer();
    send(&mut first, b"four");
    assert_eq!(receive(&mut first), b"four");
    let mut second = server.peer();
    assert_eq!(second.read(&mut [0]).expect("a clean end"), 0);
    send(&mut first, b"fives");
    assert_eq!(first.read(&mut [0]).unwrap_or(0), 0);
}

#[test]
fn serve_relays_whole_and_streamed_frames() {
    let server = Serve::start(&["--mode", "relay", "--stream-frames-over", "1KiB"]);
    let mut first = server.peer();
    // It waits for a partner.
    send(&mut first, b"anybody there?");
    let mut second = server.peer();
    assert_eq!(receive(&mut second), b"anybody there?");
    let large: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
    let expected = large.clone();
    let mut writer = second.try_clone().expect("a live socket");
    let sender = std::thread::spawn(move || send(&mut writer, &large));
    assert!(receive(&mut first) == expected, "it arrives as it was sent");
    sender.join().expect("it is sent");
    // The relay disconnects a client whose partner has left.
    drop(second);
    assert_eq!(first.read(&mut [0]).expect("a clean end"), 0);
}

#[test]
fn relay_pairs_no_client_with_a_closed_peer() {
    let server = Serve::start(&["--mode", "relay"]);
    for words in [None, Some(b"anybody there?")] {
        let mut left = server.peer();
        if let Some(words) = words {
            send(&mut left, words);
        }
        left.shutdown(std::net::Shutdown::Write)
            .expect("a live socket");
        let mut pair = [server.peer(), server.peer()];
        for (from, to) in [(0, 1), (1, 0)] {
            send(&mut pair[from], b"hello");
            assert_eq!(receive(&mut pair[to]), b"hello");
        }
        assert_eq!(left.read(&mut [0]).expect("a clean end"), 0);
    }
}

#[cfg(unix)]
#[test]
fn serve_works_with_every_driver() {
    for driver in ["turn", "run", "outer", "attached"] {
        let mut server = Serve::start(&["--driver", driver]);
        let addr = server.addr();
        let load = [
            "load",
            "--addr",
            &addr,
            "--connections",
            "5",
            "--seconds",
            "0.1",
        ];
        let output = output(&load);
        assert!(output.status.success(), "{driver}: {output:?}");
        support::kill("-TERM", server.child.id());
        assert!(wait(&mut server.child).success(), "{driver}");
    }
}

/// Time passes while a server is suspended, and its clients go on: when it continues, they have not been silent.
#[cfg(unix)]
#[test]
fn suspended_server_ends_no_busy_client() {
    const CLIENTS: usize = 10;
    let servers: Vec<(&str, Serve)> = ["turn", "run", "outer", "attached"]
        .into_iter()
        .map(|driver| {
            let limits = ["--idle-timeout", "1", "--frame-stall-timeout", "1"];
            let server = Serve::start(&[&["--driver", driver], &limits[..]].concat());
            (driver, server)
        })
        .collect();
    let mut clients: Vec<(&str, TcpStream)> = Vec::new();
    for (driver, server) in &servers {
        for _ in 0..CLIENTS {
            clients.push((driver, server.peer()));
        }
    }
    for (_, client) in &mut clients {
        send(client, b"before");
        // The beginning of a frame.
        client.write_all(&[5, 0]).expect("it is connected");
    }
    for (_, client) in &mut clients {
        assert_eq!(receive(client), b"before");
    }
    for (_, server) in &servers {
        support::kill("-STOP", server.child.id());
    }
    // What is tested is that this time does not count.
    std::thread::sleep(Duration::from_millis(1500));
    for (_, client) in &mut clients {
        // In one piece, so that nothing is held back until the first part is acknowledged.
        client.write_all(b"\0\0after").expect("its kernel takes it");
    }
    for (_, server) in &servers {
        support::kill("-CONT", server.child.id());
    }
    for (driver, client) in &mut clients {
        let mut answer = [0; 9];
        let answered = client.read_exact(&mut answer);
        assert!(answered.is_ok(), "{driver}: {answered:?}");
        assert_eq!(&answer, b"\x05\0\0\0after");
    }
}
