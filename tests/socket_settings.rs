//! Settings of the sockets: sizes of the kernel's buffers, and how much of them may be unsent.

mod support;

use socket2::{SockRef, Socket};
use support::{Peer, addr_of, pattern, turn_until};
use throng::{
    Config, ConnectOptions, ConnectionId, DisconnectCause, DisconnectReason, EventLoop, Frame,
    Handler, ListenOptions, Net, OpenError, OptionsError, Stream,
};

/// Releases each connection as soon as it is established, and keeps the sockets.
#[derive(Default)]
struct Collector(Vec<Stream>);

impl Handler for Collector {
    fn on_connect(&mut self, net: &mut Net, id: ConnectionId) {
        net.release(id).expect("it is open");
    }

    fn on_data(&mut self, _: &mut Net, _: ConnectionId, _: Frame<'_>) {}

    fn on_disconnect(&mut self, _: &mut Net, _: ConnectionId, reason: DisconnectReason) {
        match reason.cause {
            DisconnectCause::Released(released) => self.0.push(released.stream),
            cause => panic!("not released: {cause:?}"),
        }
    }
}

/// Turns until `count` sockets were released, and lets `look` see each.
fn for_each_socket(event_loop: &mut EventLoop, count: usize, look: impl Fn(&Socket)) {
    let mut collector = Collector::default();
    turn_until(event_loop, &mut collector, |collector, _| {
        collector.0.len() == count
    });
    for stream in &collector.0 {
        match stream {
            Stream::Tcp(stream) => look(&SockRef::from(stream)),
            #[cfg(unix)]
            Stream::Unix(stream) => look(&SockRef::from(stream)),
            _ => panic!("another kind of stream"),
        }
    }
}

/// What a socket reports if it was asked for `bytes`: Linux counts its own bookkeeping as well.
fn reported(bytes: usize) -> usize {
    if cfg!(target_os = "linux") {
        2 * bytes
    } else {
        bytes
    }
}

#[test]
fn accepted_outbound_and_adopted_sockets_have_the_buffer_sizes_of_their_options() {
    let config = Config::default().send_buffer(20_000).receive_buffer(30_000);
    let mut event_loop: EventLoop = EventLoop::new(config).expect("a loop");
    let net = event_loop.net();
    let listener = net.listen("127.0.0.1:0").expect("a free port");
    let addr = addr_of(net, listener);
    net.connect(addr).expect("an attempt");
    let elsewhere = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let stream = std::net::TcpStream::connect(elsewhere.local_addr().expect("an address"));
    net.adopt(stream.expect("a peer"), ConnectOptions::default())
        .expect("it is taken");
    for_each_socket(&mut event_loop, 3, |socket| {
        assert_eq!(socket.send_buffer_size().expect("open"), reported(20_000));
        assert_eq!(socket.recv_buffer_size().expect("open"), reported(30_000));
    });
}

#[test]
fn listen_and_connect_options_override_buffer_sizes_of_the_loop() {
    let config = Config::default().send_buffer(20_000);
    let mut event_loop: EventLoop = EventLoop::new(config).expect("a loop");
    let net = event_loop.net();
    let small = ListenOptions::default().send_buffer(10_000);
    let listener = net.listen_with("127.0.0.1:0", small).expect("a free port");
    let addr = addr_of(net, listener);
    let small = ConnectOptions::default().send_buffer(10_000);
    net.connect_with(addr, small).expect("an attempt");
    for_each_socket(&mut event_loop, 2, |socket| {
        assert_eq!(socket.send_buffer_size().expect("open"), reported(10_000));
    });
}

#[test]
fn connect_with_a_rejected_receive_buffer_fails() {
    let config = Config::default().receive_buffer(30_000);
    let mut event_loop: EventLoop = EventLoop::new(config).expect("a loop");
    let (_socket, addr) = support::refusing();
    let mut seen = support::Recorder::default();
    if event_loop.net().connect(addr).is_err() {
        return; // The system told at once.
    }
    turn_until(&mut event_loop, &mut seen, |seen, _| seen.ends().len() == 1);
    assert!(matches!(
        &seen.ends()[0].1.cause,
        DisconnectCause::ConnectFailed(error)
            if error.kind() == std::io::ErrorKind::ConnectionRefused
    ));
}

#[test]
fn buffer_sizes_beyond_every_system_are_typed_errors() {
    const MAX: u64 = i32::MAX as u64;
    type Set = fn(ListenOptions, u64) -> ListenOptions;
    let settings: [(&str, Set); 3] = [
        ("send_buffer", |options, bytes| options.send_buffer(bytes)),
        ("receive_buffer", |options, bytes| {
            options.receive_buffer(bytes)
        }),
        ("max_unsent_in_kernel", |options, bytes| {
            options.max_unsent_in_kernel(bytes)
        }),
    ];
    let mut event_loop: EventLoop = EventLoop::new(Config::default()).expect("a loop");
    for (name, set) in settings {
        for wrong in [0, MAX + 1, u64::MAX] {
            let options = set(ListenOptions::default(), wrong);
            let error = event_loop
                .net()
                .listen_with("127.0.0.1:0", options)
                .expect_err("out of range");
            let expected = OptionsError::SizeOutOfRange {
                setting: name,
                bytes: wrong,
                min: 1,
                max: MAX,
            };
            assert!(matches!(&error, OpenError::Options(error) if *error == expected));
            let said = error.to_string();
            let words = [name, &wrong.to_string(), &MAX.to_string()];
            assert!(words.iter().all(|word| said.contains(word)), "{said}");
        }
    }
    assert!(EventLoop::<Collector>::new(Config::default().send_buffer(0)).is_err());
    let wrong = ConnectOptions::default().send_buffer(0);
    let attempt = event_loop
        .net()
        .connect_with(([127, 0, 0, 1], 1).into(), wrong);
    assert!(matches!(attempt, Err(OpenError::Options(_))));
}

#[test]
fn frames_pass_the_smallest_buffers() {
    let mut smallest = ListenOptions::default().send_buffer(1).receive_buffer(1);
    if cfg!(target_os = "linux") {
        smallest = smallest.max_unsent_in_kernel(1);
    }
    let server = support::Server::start(support::Echo, smallest);
    let mut peer = Peer::connect(server.addr);
    for len in [0, 1, 5_000, 300_000] {
        let frame = pattern(len);
        std::thread::scope(|scope| {
            let mut writing = Peer(peer.0.try_clone().expect("a live socket"));
            let frame = &frame;
            scope.spawn(move || writing.send(frame));
            assert!(peer.receive() == *frame);
        });
    }
}

#[cfg(any(target_os = "android", target_os = "linux"))]
mod unsent {
    use std::time::Duration;

    use super::*;

    #[test]
    fn smallest_and_largest_sizes_are_accepted() {
        for bytes in [1, i32::MAX as u64] {
            let config = Config::default()
                .send_buffer(bytes)
                .receive_buffer(bytes)
                .max_unsent_in_kernel(bytes);
            let mut event_loop: EventLoop = EventLoop::new(config).expect("a loop");
            let net = event_loop.net();
            let listener = net.listen("127.0.0.1:0").expect("a free port");
            let addr = addr_of(net, listener);
            net.connect(addr).expect("an attempt");
            for_each_socket(&mut event_loop, 2, |socket| {
                let lowat = socket.tcp_notsent_lowat().expect("open");
                assert_eq!(u64::from(lowat), bytes);
            });
        }
    }

    /// How much waits in the queue of a connection whose peer does not read, of `frames` that were sent.
    fn queued_of(options: ListenOptions, frames: usize) -> u64 {
        let (mut event_loop, addr) = support::listening(options);
        let mut seen = support::Recorder::default();
        let peer = Peer::connect(addr);
        turn_until(&mut event_loop, &mut seen, |seen, _| {
            seen.connected().len() == 1
        });
        let id = seen.connected()[0];
        for _ in 0..frames {
            let net = event_loop.net();
            net.send(id, &pattern(1000)).expect("there is room");
            let turn = event_loop.turn(&mut seen, Some(Duration::ZERO));
            turn.expect("a turn does not fail");
        }
        let queued = support::bytes_queued(event_loop.net(), id);
        drop(peer);
        queued
    }

    #[test]
    fn unsent_bytes_in_the_kernel_are_limited() {
        let frames = 2000;
        let unlimited = queued_of(ListenOptions::default(), frames);
        let limited = ListenOptions::default().max_unsent_in_kernel(4096);
        let limited = queued_of(limited, frames);
        // The rest is in the peer's receive buffer, and 4 KiB before it.
        assert!(limited > unlimited + 500_000, "{limited}, {unlimited}");
    }
}

#[cfg(not(any(target_os = "android", target_os = "linux")))]
#[test]
fn max_unsent_in_kernel_is_an_error_where_it_cannot_be_set() {
    let mut event_loop: EventLoop = EventLoop::new(Config::default()).expect("a loop");
    let options = ListenOptions::default().max_unsent_in_kernel(4096);
    let error = event_loop.net().listen_with("127.0.0.1:0", options);
    let error = std::io::Error::from(error.expect_err("it is missing"));
    assert_eq!(error.kind(), std::io::ErrorKind::Unsupported);
}

#[cfg(unix)]
#[test]
fn unix_sockets_have_the_send_buffer_and_ignore_tcp_settings() {
    let path = std::env::temp_dir().join(format!("throng-{}-sizes.sock", std::process::id()));
    let config = Config::default()
        .send_buffer(20_000)
        .receive_buffer(20_000)
        .max_unsent_in_kernel(4096);
    let mut event_loop: EventLoop = EventLoop::new(config).expect("a loop");
    let net = event_loop.net();
    net.listen_unix(&path, ListenOptions::default())
        .expect("a new path");
    net.connect_unix(&path, ConnectOptions::default())
        .expect("the listener is there");
    for_each_socket(&mut event_loop, 2, |socket| {
        assert_eq!(socket.send_buffer_size().expect("open"), reported(20_000));
    });
    let _ = std::fs::remove_file(&path);
}
