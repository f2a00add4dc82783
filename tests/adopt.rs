//! Streams and listeners that come from elsewhere, connections that go there, and Unix domain sockets.

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use support::by_hand::Loop;
use support::scene::Scene;
use support::{Peer, Recorder, framed, listening, pattern, turn_until};
use throng::{
    Config, ConnectError, ConnectOptions, ConnectionId, DisconnectCause, DisconnectReason,
    EventLoop, Frame, Framing, Handler, ListenError, ListenOptions, ListenSocket, Net, Origin,
    ReleaseError, Released, SendError, Stage, Stream,
};

/// Two ends of one connection.
fn pair() -> (TcpStream, Peer) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let ours = TcpStream::connect(listener.local_addr().expect("its address")).expect("a peer");
    let (theirs, _) = listener.accept().expect("it is there");
    theirs
        .set_read_timeout(Some(support::PATIENCE))
        .expect("a live socket");
    (ours, Peer(theirs))
}

#[test]
fn a_stream_that_is_connected_becomes_a_connection() {
    let mut event_loop: EventLoop = EventLoop::new(Config::default()).expect("a loop");
    let (ours, mut peer) = pair();
    let addr = ours.peer_addr().expect("it is connected");
    let net = event_loop.net();
    let id = net
        .adopt(ours, ConnectOptions::default())
        .expect("it is taken");
    assert_eq!(net.origin(id), Some(Origin::Adopted));
    assert_eq!(net.peer_addr(id), Some(addr));
    assert!(matches!(net.send(id, b"x"), Err(SendError::Connecting)));
    peer.send(b"hello");
    let mut seen = Recorder::echoing();
    turn_until(&mut event_loop, &mut seen, |seen, _| {
        !seen.frames().is_empty()
    });
    assert_eq!(seen.connected(), [id]);
    assert_eq!(peer.receive(), b"hello");
}

#[test]
fn a_socket_that_is_not_taken_is_given_back() {
    let (ours, mut peer) = pair();
    let full = Config::default().max_connections(0);
    let mut event_loop: EventLoop = EventLoop::new(full).expect("a loop");
    let rejected = event_loop
        .net()
        .adopt(ours, ConnectOptions::default())
        .expect_err("it is full");
    assert!(matches!(
        rejected.error,
        ConnectError::TooManyConnections { max_connections: 0 }
    ));
    let Stream::Tcp(mut stream) = rejected.value else {
        panic!("it was TCP");
    };
    stream
        .write_all(&framed(b"come later"))
        .expect("it is open");
    assert_eq!(peer.receive(), b"come later");

    // Not a stream of anybody's yet.
    let unconnected = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let unconnected = TcpStream::from(unconnected.expect("a socket"));
    let mut event_loop: EventLoop = EventLoop::new(Config::default()).expect("a loop");
    let rejected = event_loop
        .net()
        .adopt(unconnected, ConnectOptions::default())
        .expect_err("it is not connected");
    assert!(matches!(&rejected.error, ConnectError::Adopt(error)
        if error.kind() == std::io::ErrorKind::NotConnected));
    assert_eq!(event_loop.net().len(), 0);

    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("its address");
    let wrong = ListenOptions::default().idle_timeout(Duration::ZERO);
    let rejected = event_loop
        .net()
        .adopt_listener(listener, wrong)
        .expect_err("the options are wrong");
    assert!(matches!(rejected.error, ListenError::Options(_)));
    let ListenSocket::Tcp(listener) = rejected.value else {
        panic!("it was TCP");
    };
    assert_eq!(listener.local_addr().expect("it is open"), addr);

    // Where the system tells. Else it would be tried again and again.
    if cfg!(target_os = "linux") {
        let bound = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let rejected = event_loop
            .net()
            .adopt_listener(
                TcpListener::from(bound.expect("a socket")),
                ListenOptions::default(),
            )
            .expect_err("it does not listen");
        assert!(matches!(&rejected.error, ListenError::Adopt(error)
            if error.kind() == std::io::ErrorKind::InvalidInput));
    }
}

#[test]
fn what_somebody_has_read_already_comes_first() {
    let mut event_loop: EventLoop = EventLoop::new(Config::default()).expect("a loop");
    let (ours, mut peer) = pair();
    let frames: Vec<Vec<u8>> = (0..300).map(|i| pattern(i * 9)).collect();
    let wire: Vec<u8> = frames.iter().flat_map(|frame| framed(frame)).collect();
    // More than the read buffer holds, and the end of it inside a frame.
    let (before, after) = wire.split_at(200_001);
    event_loop
        .net()
        .adopt_with(ours, ConnectOptions::default(), before)
        .expect("it is taken");
    peer.write(after);
    let mut seen = Recorder::default();
    turn_until(&mut event_loop, &mut seen, |seen, _| {
        seen.frames().len() == frames.len()
    });
    assert_eq!(seen.frames(), frames);
}

#[test]
fn a_listener_that_was_bound_elsewhere_serves_those_who_wait_already() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("its address");
    let mut early = Peer::connect(addr);
    early.send(b"early");
    let mut event_loop: EventLoop = EventLoop::new(Config::default()).expect("a loop");
    let net = event_loop.net();
    let id = net
        .adopt_listener(listener, ListenOptions::default())
        .expect("it is taken");
    assert_eq!(net.local_addr(id), Some(addr));
    let mut seen = Recorder::echoing();
    turn_until(&mut event_loop, &mut seen, |seen, _| {
        seen.frames().len() == 1
    });
    assert_eq!(early.receive(), b"early");
    let id = seen.connected()[0];
    assert!(matches!(
        event_loop.net().origin(id),
        Some(Origin::Listener(_))
    ));
}

/// Releases whoever says "upgrade", after a reply; notes the rest.
#[derive(Default)]
struct Lobby {
    frames: Vec<Vec<u8>>,
    released: Vec<Released>,
    ends: Vec<DisconnectReason>,
    reply: usize,
}

impl Handler for Lobby {
    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        self.frames.push(frame.to_vec());
        if &*frame == b"upgrade" {
            net.send(id, &pattern(self.reply)).expect("it is open");
            assert!(net.set_connection_timer(id, Duration::ZERO, 1).is_some());
            net.release(id).expect("it is open");
            assert_eq!(net.release(id), Err(ReleaseError::Disconnected));
            assert!(!net.is_connected(id));
            assert!(matches!(net.send(id, b"x"), Err(SendError::Disconnected)));
        }
    }

    fn on_timer(&mut self, _: &mut Net, _: throng::Expired) {
        panic!("the timers of a connection end with it");
    }

    fn on_disconnect(&mut self, _: &mut Net, _: ConnectionId, mut reason: DisconnectReason) {
        match reason.cause {
            DisconnectCause::Released(released) => {
                assert_eq!((reason.unsent_frames, reason.unshown_bytes), (0, 0));
                assert_eq!(reason.stage, Stage::Open);
                self.released.push(*released);
            }
            other => {
                reason.cause = other;
                self.ends.push(reason);
            }
        }
    }
}

fn std_stream(stream: Stream) -> TcpStream {
    let Stream::Tcp(stream) = stream else {
        panic!("it was TCP");
    };
    let stream = TcpStream::from(stream);
    stream.set_nonblocking(false).expect("a live socket");
    stream
}

#[test]
fn a_release_gives_the_socket_and_every_byte_that_was_not_shown() {
    let (mut event_loop, addr) = listening(ListenOptions::default());
    // Larger than the sockets hold, so that it takes several turns to be written.
    let mut lobby = Lobby {
        reply: 12 << 20,
        ..Lobby::default()
    };
    let mut peer = Peer::connect(addr);
    let rest = [framed(b"not for you"), b"GET / HTTP".to_vec()].concat();
    peer.write(&[framed(b"hello"), framed(b"upgrade"), rest.clone()].concat());
    let reader = std::thread::spawn(move || {
        let reply = peer.receive();
        (peer, reply)
    });
    turn_until(&mut event_loop, &mut lobby, |lobby, _| {
        !lobby.released.is_empty()
    });
    assert_eq!(lobby.frames, [&b"hello"[..], b"upgrade"]);
    let released = lobby.released.remove(0);
    assert_eq!(event_loop.net().memory_in_use(), 0);
    assert_eq!(event_loop.net().len(), 0);
    let (mut peer, reply) = reader.join().expect("no panic");
    assert!(
        reply == pattern(12 << 20),
        "what was sent before is written"
    );
    // What comes after goes to whoever has the socket.
    peer.write(b"/1.1");
    let mut stream = std_stream(released.stream);
    let mut more = [0; 4];
    stream.read_exact(&mut more).expect("it is open");
    assert_eq!(
        [&released.unread[..], &more].concat(),
        [&rest[..], b"/1.1"].concat()
    );
    stream.write_all(&framed(b"200 OK")).expect("it is open");
    assert_eq!(peer.receive(), b"200 OK");
}

#[test]
fn a_frame_that_has_come_in_part_goes_along_with_its_header() {
    let framings = [Framing::from(Framing::length_prefix()), Framing::varint()];
    // Held whole, or to be shown in pieces.
    let ways = framings.iter().flat_map(|one| [(one, u64::MAX), (one, 10)]);
    for (framing, over) in ways {
        let config = Config::default()
            .framing(framing.clone())
            .stream_frames_over(over);
        let mut whole = Vec::new();
        throng::FrameEncoder::new(framing.clone())
            .encode(&pattern(100_000), &mut whole)
            .expect("it can be said");
        let header = whole.len() - 100_000;
        for part in [1, 3, 4, 5, 50_000, 99_999] {
            // What was shown is gone.
            if over < u64::MAX && part > header {
                continue;
            }
            let mut scene = Scene::with(config.clone());
            scene.arrive(&whole[..part]);
            scene.looped.net.release(scene.id).expect("it is open");
            let reason = scene.end();
            let DisconnectCause::Released(released) = reason.cause else {
                panic!("{reason}");
            };
            assert!(released.unread == whole[..part], "{part} bytes");
        }
    }
}

#[test]
fn a_connection_moves_from_one_loop_to_another_in_the_middle_of_a_frame() {
    let mut scene = Scene::with(Config::default());
    let whole = framed(&pattern(300_000));
    scene.arrive(&whole[..123_456]);
    scene.looped.net.release(scene.id).expect("it is open");
    let mut peer = Peer(scene.peer.0.try_clone().expect("a live socket"));
    let DisconnectCause::Released(released) = scene.end().cause else {
        panic!("it was released");
    };
    let mut other = Loop::new(Config::default());
    other
        .net
        .adopt_with(released.stream, ConnectOptions::default(), &released.unread)
        .expect("it is taken");
    peer.write(&whole[123_456..]);
    let mut seen = Recorder::echoing();
    other.settle(&mut seen, |seen, _| !seen.frames().is_empty());
    assert!(seen.frames()[0] == pattern(300_000));
}

/// Nobody could finish it any more, and what was sent behind it could not be written.
#[test]
fn a_connection_with_an_open_frame_is_not_released() {
    let mut scene = Scene::with(Config::default());
    let (net, id) = (&mut scene.looped.net, scene.id);
    net.begin_frame(id, 10).expect("it is open");
    net.push_chunk(id, b"abc").expect("it is open");
    net.send(id, b"behind").expect("it is open");
    assert_eq!(net.release(id), Err(ReleaseError::FrameOpen { missing: 7 }));
    net.push_chunk(id, b"defghij").expect("it is open still");
    net.finish_frame(id).expect("it is whole");
    net.release(id).expect("it is open");
    let mut peer = Peer(scene.peer.0.try_clone().expect("a live socket"));
    let cause = scene.end().cause;
    assert!(matches!(cause, DisconnectCause::Released(_)), "{cause:?}");
    assert_eq!(peer.receive(), b"abcdefghij");
    assert_eq!(peer.receive(), b"behind");
}

#[test]
fn a_release_that_cannot_be_written_ends_in_time() {
    let mut scene = Scene::with(Config::default().disconnect_timeout(Duration::from_secs(5)));
    scene.block();
    scene.looped.net.release(scene.id).expect("it is open");
    scene.pass(Duration::ZERO);
    scene.pass(Duration::from_secs(4));
    assert!(scene.seen.ends().is_empty());
    scene.pass(Duration::from_secs(2));
    let reason = scene.end();
    assert!(
        matches!(reason.cause, DisconnectCause::DrainTimedOut { .. }),
        "{reason}"
    );
    assert_eq!(reason.unsent_frames, 1);
}

/// A reader that never has anything.
struct Never;

impl Read for Never {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::WouldBlock.into())
    }
}

#[test]
fn a_release_that_waits_hears_of_a_reset() {
    for parked in [false, true] {
        let mut scene = Scene::with(Config::default());
        if parked {
            let sent = scene.looped.net.send_reader(scene.id, 10, Never);
            assert!(sent.is_ok());
        } else {
            scene.block();
        }
        scene.looped.rest(&mut scene.seen);
        scene.looped.net.release(scene.id).expect("it is open");
        scene.looped.rest(&mut scene.seen);
        let (mut scene, peer) = scene.apart();
        peer.reset();
        // No time passes.
        scene.until(|seen, _| !seen.ends().is_empty());
        let (_, reason) = scene.seen.ends()[0];
        assert!(
            matches!(reason.cause, DisconnectCause::Reset(_)),
            "{reason}"
        );
    }
}

#[test]
fn a_release_that_waits_is_aborted_and_not_disconnected() {
    let mut scene = Scene::with(Config::default());
    scene.block();
    scene.looped.net.release(scene.id).expect("it is open");
    scene.pass(Duration::ZERO);
    assert!(!scene.looped.net.disconnect(scene.id));
    assert!(scene.looped.net.abort(scene.id));
    let reason = scene.end();
    assert!(matches!(reason.cause, DisconnectCause::Aborted), "{reason}");
    assert_eq!((reason.unsent_frames, reason.stage), (1, Stage::Closing));
}

#[test]
fn a_release_that_waits_has_a_deadline_of_its_own_and_costs_no_turns() {
    let second = Duration::from_secs(1);
    let config = Config::default()
        .idle_timeout(second)
        .disconnect_timeout(60 * second);
    let mut scene = Scene::with(config);
    scene.block();
    scene.looped.net.release(scene.id).expect("it is open");
    scene.pass(Duration::ZERO);
    for _ in 0..50 {
        scene.pass(second);
        let next = scene.looped.net.next_timeout(scene.looped.now);
        assert_ne!(next, Some(Duration::ZERO));
    }
    assert!(scene.seen.ends().is_empty(), "it is not idle");
    scene.pass(11 * second);
    let reason = scene.end();
    assert!(
        matches!(reason.cause, DisconnectCause::DrainTimedOut { .. }),
        "{reason}"
    );
}

#[test]
fn frames_behind_a_release_are_not_shown_though_nothing_is_to_be_written() {
    struct Leaves(Vec<Vec<u8>>, Option<Released>);
    impl Handler for Leaves {
        fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
            self.0.push(frame.to_vec());
            net.release(id).expect("it is open");
        }
        fn on_disconnect(&mut self, _: &mut Net, _: ConnectionId, reason: DisconnectReason) {
            if let DisconnectCause::Released(released) = reason.cause {
                self.1 = Some(*released);
            }
        }
    }
    let mut scene = Scene::with(Config::default());
    let rest = [framed(b"not for you"), framed(b"nor this")].concat();
    scene.peer.write(&[framed(b"bye"), rest.clone()].concat());
    let mut leaves = Leaves(Vec::new(), None);
    scene
        .looped
        .settle(&mut leaves, |leaves, _| leaves.1.is_some());
    assert_eq!(leaves.0, [b"bye"]);
    assert!(
        leaves
            .1
            .is_some_and(|released| rest.starts_with(&released.unread))
    );
}

/// What has arrived of a frame is cut anew, and was not.
#[test]
fn a_framing_changed_inside_a_frame_leaves_the_bytes_as_they_came() {
    let whole = framed(&pattern(1000));
    for over in [u64::MAX, 10] {
        for part in [2, 4, 500] {
            // What was shown is gone.
            if over == 10 && part > 4 {
                continue;
            }
            let mut scene = Scene::with(Config::default().stream_frames_over(over));
            scene.arrive(&whole[..part]);
            scene.looped.net.pause(scene.id);
            let changed = scene.looped.net.set_framing(scene.id, Framing::raw());
            assert!(changed);
            assert_eq!(scene.looped.net.memory_in_use(), part as u64);
            scene.looped.net.release(scene.id).expect("it is open");
            let reason = scene.end();
            let DisconnectCause::Released(released) = reason.cause else {
                panic!("{reason}");
            };
            assert_eq!(released.unread, whole[..part], "{over} {part}");
        }
    }
    let mut scene = Scene::with(Config::default());
    scene.arrive(&whole[..500]);
    assert!(scene.looped.net.set_framing(scene.id, Framing::raw()));
    scene.looped.rest(&mut scene.seen);
    assert_eq!(scene.seen.frames().concat(), whole[..500]);
}

#[test]
fn an_adopted_peer_has_its_ipv4_address() {
    // Where there is no IPv6 there is no dual stack.
    let Ok(listener) = TcpListener::bind("[::]:0") else {
        return;
    };
    let port = listener.local_addr().expect("its address").port();
    let Ok(peer) = TcpStream::connect(("127.0.0.1", port)) else {
        return;
    };
    let (ours, _) = listener.accept().expect("it is there");
    let mut looped = Loop::new(Config::default());
    let id = looped.net.adopt(ours, ConnectOptions::default());
    let addr = looped.net.peer_addr(id.expect("it is taken"));
    assert_eq!(addr, Some(peer.local_addr().expect("its address")));
}

#[test]
fn a_stream_that_was_reset_before_it_was_looked_at_did_not_fail_to_connect() {
    let (ours, peer) = pair();
    let mut looped = Loop::new(Config::default());
    let id = looped.net.adopt(ours, ConnectOptions::default());
    let id = id.expect("it is taken");
    peer.reset();
    let mut seen = Recorder::default();
    looped.settle(&mut seen, |seen, _| !seen.ends().is_empty());
    let (ended, reason) = seen.ends()[0];
    assert_eq!(ended, id);
    assert!(
        matches!(reason.cause, DisconnectCause::Reset(_)),
        "{reason}"
    );
}

#[test]
fn the_end_of_an_adopted_connection_makes_no_room_for_its_address() {
    let mut looped = Loop::new(Config::default().max_connections_per_ip(1));
    let mut seen = Recorder::default();
    let addr = looped.listen();
    let _first = Peer::connect(addr);
    looped.settle(&mut seen, |seen, _| seen.connected().len() == 1);
    let (ours, _theirs) = pair();
    let id = looped.net.adopt(ours, ConnectOptions::default());
    assert!(looped.net.abort(id.expect("it is taken")));
    looped.rest(&mut seen);
    let _second = Peer::connect(addr);
    looped.settle(&mut seen, |_, net| net.stats().refused == 1);
}

#[cfg(unix)]
mod unix {
    use super::support::{Echo, Place};
    use super::*;

    /// Sends frames of many sizes, one when the last has come back.
    struct Sizes(Vec<usize>);

    impl Handler for Sizes {
        fn on_connect(&mut self, net: &mut Net, id: ConnectionId) {
            assert_eq!(net.peer_addr(id), None);
            if net.origin(id) == Some(Origin::Outbound) {
                net.send(id, &pattern(self.0[0])).expect("it is open");
            }
        }

        fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
            if net.origin(id) != Some(Origin::Outbound) {
                return Echo.on_data(net, id, frame);
            }
            assert!(*frame == pattern(self.0.remove(0))[..]);
            match self.0.first() {
                Some(size) => net.send(id, &pattern(*size)).expect("it is open"),
                None => {
                    net.disconnect(id);
                }
            }
        }

        fn on_disconnect(&mut self, net: &mut Net, _: ConnectionId, reason: DisconnectReason) {
            let kicked = matches!(reason.cause, DisconnectCause::Kicked);
            assert!(kicked || matches!(reason.cause, DisconnectCause::PeerClosed));
            if net.is_empty() {
                net.stop();
            }
        }
    }

    #[test]
    fn frames_of_all_sizes_go_over_a_unix_socket() {
        let place = Place::new("sizes");
        let mut event_loop =
            EventLoop::new(Config::hardened().max_frame_len(1 << 30)).expect("a loop");
        let net = event_loop.net();
        let listener = net
            .listen_unix(&place.0, ListenOptions::default())
            .expect("a new path");
        assert_eq!(net.local_addr(listener), None);
        net.connect_unix(&place.0, ConnectOptions::default())
            .expect("somebody listens");
        let mut sizes = Sizes(vec![0, 1, 65_532, 65_533, 300_000, 8 << 20, 3]);
        event_loop.run(&mut sizes).expect("it runs");
        assert!(sizes.0.is_empty());
    }

    #[test]
    fn a_path_in_use_and_a_path_of_nobody_are_errors_that_name_it() {
        let place = Place::new("used");
        let mut event_loop: EventLoop = EventLoop::new(Config::default()).expect("a loop");
        let net = event_loop.net();
        let nobody = net.connect_unix(&place.0, ConnectOptions::default());
        let nobody = nobody.expect_err("nobody listens").to_string();
        net.listen_unix(&place.0, ListenOptions::default())
            .expect("a new path");
        let used = net.listen_unix(&place.0, ListenOptions::default());
        let used = used.expect_err("it is in use").to_string();
        let path = place.0.display().to_string();
        assert!(
            nobody.contains(&path) && used.contains(&path),
            "{nobody}, {used}"
        );
    }

    #[test]
    fn a_unix_stream_is_adopted_and_released() {
        let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().expect("a pair");
        let mut looped = Loop::new(Config::default());
        looped
            .net
            .adopt(ours, ConnectOptions::default())
            .expect("it is taken");
        theirs
            .write_all(&[framed(b"upgrade"), b"rest".to_vec()].concat())
            .expect("it is open");
        let mut lobby = Lobby::default();
        looped.settle(&mut lobby, |lobby, _| !lobby.released.is_empty());
        let released = lobby.released.remove(0);
        assert_eq!(released.unread, b"rest");
        assert!(matches!(released.stream, Stream::Unix(_)));
    }

    /// A burst that is larger than one read: where a short read proves nothing, the rest must not be forgotten.
    #[test]
    fn a_burst_over_a_unix_socket_comes_whole() {
        let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().expect("a pair");
        let mut looped = Loop::new(Config::default());
        looped
            .net
            .adopt(ours, ConnectOptions::default())
            .expect("it is taken");
        let writer = std::thread::spawn(move || {
            for i in 0..2_000_u32 {
                theirs
                    .write_all(&framed(&pattern(i as usize % 700)))
                    .expect("it is open");
            }
            theirs
        });
        let mut seen = Recorder::default();
        looped.settle(&mut seen, |seen, _| seen.frames().len() == 2_000);
        drop(writer.join().expect("no panic"));
        looped.settle(&mut seen, |seen, _| !seen.ends().is_empty());
    }

    /// Descriptors come along with bytes, and reads stop short of them: no edge tells of the rest.
    #[cfg(target_os = "linux")]
    #[test]
    fn bytes_that_come_with_descriptors_all_come() {
        use std::os::fd::AsRawFd;
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("a pair");
        let mut looped = Loop::new(Config::default());
        looped
            .net
            .adopt(ours, ConnectOptions::default())
            .expect("it is taken");
        let mut seen = Recorder::default();
        looped.settle(&mut seen, |seen, _| !seen.connected().is_empty());
        let file = std::fs::File::open("/dev/null").expect("it is there");
        let frame = framed(b"with a descriptor");
        // A cmsghdr: its length, SOL_SOCKET, SCM_RIGHTS; the descriptor; padding.
        let mut control = 20_usize.to_ne_bytes().to_vec();
        let words = [1, 1, file.as_raw_fd(), 0];
        control.extend(words.iter().flat_map(|word: &i32| word.to_ne_bytes()));
        if cfg!(target_pointer_width = "32") {
            return;
        }
        for _ in 0..20 {
            let bytes = [std::io::IoSlice::new(&frame)];
            let message = socket2::MsgHdr::new()
                .with_buffers(&bytes)
                .with_control(&control);
            let sent = socket2::SockRef::from(&theirs).sendmsg(&message, 0);
            assert_eq!(sent.expect("it is open"), frame.len());
        }
        looped.settle(&mut seen, |seen, _| seen.frames().len() == 20);
    }

    /// Interest is dropped as well: what comes is for somebody else.
    #[test]
    fn what_comes_after_a_release_wakes_nobody() {
        for under_backpressure in [false, true] {
            let config = Config::default().read_under_backpressure(under_backpressure);
            let mut poll = mio::Poll::new().expect("a selector");
            let mut events = mio::Events::with_capacity(8);
            let mut now = std::time::Instant::now();
            let mut net = Net::attach(poll.registry(), config, now).expect("a loop");
            let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().expect("a pair");
            let id = net
                .adopt(ours, ConnectOptions::default())
                .expect("it is taken");
            let mut seen = Recorder::default();
            let mut turn = |net: &mut Net| {
                let wait = Some(Duration::from_millis(5));
                poll.poll(&mut events, wait).expect("a poll");
                now += Duration::from_millis(1);
                net.begin_turn(now);
                let count = events.iter().map(|event| net.handle_event(event)).count();
                net.finish_turn(&mut seen);
                count
            };
            while !net.is_connected(id) {
                turn(&mut net);
            }
            if under_backpressure {
                net.send(id, &pattern(4 << 20)).expect("it is open");
            } else {
                assert!(net.send_reader(id, 5, Never).is_ok());
            }
            // Until nothing happens any more.
            while turn(&mut net) > 0 {}
            net.release(id).expect("it is open");
            while turn(&mut net) > 0 {}
            theirs.write_all(b"for somebody else").expect("it is open");
            assert_eq!(turn(&mut net), 0);
        }
    }

    #[test]
    fn a_unix_listener_that_blocks_is_adopted() {
        let place = Place::new("blocks");
        let listener = std::os::unix::net::UnixListener::bind(&place.0).expect("a new path");
        let mut looped = Loop::new(Config::default());
        looped
            .net
            .adopt_listener(listener, ListenOptions::default())
            .expect("it is taken");
        let _peer = std::os::unix::net::UnixStream::connect(&place.0).expect("it listens");
        let mut seen = Recorder::default();
        looped.settle(&mut seen, |seen, _| seen.connected().len() == 1);
    }
}

#[cfg(unix)]
mod descriptors {
    use std::io;
    use std::net::UdpSocket;
    use std::os::fd::{AsRawFd, OwnedFd};
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

    use super::*;

    #[test]
    fn stream_made_of_a_descriptor_knows_its_family() {
        let (ours, mut peer) = pair();
        let stream = Stream::try_from(OwnedFd::from(ours)).expect("it is TCP");
        assert!(matches!(stream, Stream::Tcp(_)));
        let (unix, _other) = UnixStream::pair().expect("two ends");
        let unix = Stream::try_from(OwnedFd::from(unix)).expect("it is of the Unix domain");
        assert!(matches!(unix, Stream::Unix(_)));

        let mut event_loop: EventLoop = EventLoop::new(Config::default()).expect("a loop");
        let net = event_loop.net();
        net.adopt(stream, ConnectOptions::default())
            .expect("it is connected");
        peer.send(b"hello");
        let mut seen = Recorder::echoing();
        turn_until(&mut event_loop, &mut seen, |seen, _| {
            !seen.frames().is_empty()
        });
        assert_eq!(peer.receive(), b"hello");
    }

    #[test]
    fn listener_made_of_a_descriptor_knows_its_family() {
        for addr in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(addr) else {
                continue; // no IPv6 here
            };
            let addr = listener.local_addr().expect("its address");
            let socket = ListenSocket::try_from(OwnedFd::from(listener)).expect("it listens");
            assert!(matches!(socket, ListenSocket::Tcp(_)));
            let mut event_loop = EventLoop::new(Config::default()).expect("a loop");
            let net = event_loop.net();
            net.adopt_listener(socket, ListenOptions::default())
                .expect("it listens");
            let _peer = Peer::connect(addr);
            turn_until(&mut event_loop, &mut Recorder::default(), |_, net| {
                net.len() == 1
            });
        }
        let path = std::env::temp_dir().join(format!("throng-fd-{}", std::process::id()));
        let listener = UnixListener::bind(&path).expect("a free path");
        std::fs::remove_file(&path).expect("it is there");
        let socket = ListenSocket::try_from(OwnedFd::from(listener)).expect("it listens");
        assert!(matches!(socket, ListenSocket::Unix(_)));
    }

    #[test]
    fn descriptor_that_is_no_stream_socket_is_given_back() {
        let file = std::fs::File::open("/dev/null").expect("a file");
        let udp = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let unix = UnixDatagram::unbound().expect("a socket");
        for fd in [OwnedFd::from(file), udp.into(), unix.into()] {
            let number = fd.as_raw_fd();
            let rejected = Stream::try_from(fd).expect_err("it is no stream");
            assert_eq!(rejected.value.as_raw_fd(), number);
            assert_eq!(rejected.error.kind(), io::ErrorKind::InvalidInput);
            let rejected = ListenSocket::try_from(rejected.value).expect_err("nor a listener");
            assert_eq!(rejected.error.kind(), io::ErrorKind::InvalidInput);
        }
    }

    #[cfg(any(target_os = "android", target_os = "freebsd", target_os = "linux"))]
    #[test]
    fn descriptor_of_a_socket_that_does_not_listen_is_no_listener() {
        let (ours, _peer) = pair();
        let rejected = ListenSocket::try_from(OwnedFd::from(ours)).expect_err("it is connected");
        assert_eq!(rejected.error.kind(), io::ErrorKind::InvalidInput);
        Stream::try_from(rejected.value).expect("that is what it is");
    }
}

/// What sockets bring along from a previous owner.
#[cfg(unix)]
mod inherited {
    use std::process::{Child, Command};

    use socket2::SockRef;

    use super::*;

    /// A child process, which has all descriptors that are not closed on exec.
    struct Heir(Child);

    impl Heir {
        fn spawn() -> Self {
            Self(Command::new("sleep").arg("600").spawn().expect("a shell"))
        }
    }

    impl Drop for Heir {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    const LINGER: Option<Duration> = Some(Duration::from_secs(300));

    /// Both in one test, so that no child of another test has them.
    #[test]
    fn adopted_sockets_are_not_inherited_by_child_processes() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("its address");
        let (ours, mut theirs) = pair();
        for socket in [SockRef::from(&listener), SockRef::from(&ours)] {
            socket.set_cloexec(false).expect("an open socket");
        }
        let mut event_loop: EventLoop = EventLoop::new(Config::default()).expect("a loop");
        let net = event_loop.net();
        net.adopt_listener(listener, ListenOptions::default())
            .expect("it is taken");
        let id = net.adopt(ours, ConnectOptions::default());
        let _heir = Heir::spawn();
        assert!(net.abort(id.expect("it is taken")));
        theirs.expect_reset();
        drop(event_loop);
        let error = TcpStream::connect(addr).expect_err("nobody listens");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    }

    /// Whether the one connection of a loop has a socket that lingers: it is released, and looked at.
    fn lingers(event_loop: &mut EventLoop) -> bool {
        let mut releaser = Releaser::default();
        turn_until(event_loop, &mut releaser, |releaser, _| {
            releaser.0.is_some()
        });
        let stream = std_stream(releaser.0.expect("it was released"));
        let linger = SockRef::from(&stream).linger();
        linger.expect("an open socket").is_some()
    }

    #[derive(Default)]
    struct Releaser(Option<Stream>);

    impl Handler for Releaser {
        fn on_connect(&mut self, net: &mut Net, id: ConnectionId) {
            net.release(id).expect("it is open");
        }

        fn on_data(&mut self, _: &mut Net, _: ConnectionId, _: Frame<'_>) {}

        fn on_disconnect(&mut self, _: &mut Net, _: ConnectionId, reason: DisconnectReason) {
            if let DisconnectCause::Released(released) = reason.cause {
                self.0 = Some(released.stream);
            }
        }
    }

    #[test]
    fn adopted_stream_does_not_linger() {
        let mut event_loop: EventLoop = EventLoop::new(Config::default()).expect("a loop");
        let (ours, _theirs) = pair();
        let linger = SockRef::from(&ours).set_linger(LINGER);
        linger.expect("an open socket");
        let adopted = event_loop.net().adopt(ours, ConnectOptions::default());
        adopted.expect("it is taken");
        assert!(!lingers(&mut event_loop));
    }

    #[test]
    fn peers_of_an_adopted_listener_do_not_linger() {
        for waits_already in [true, false] {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            let addr = listener.local_addr().expect("its address");
            let linger = SockRef::from(&listener).set_linger(LINGER);
            linger.expect("an open socket");
            let early = waits_already.then(|| Peer::connect(addr));
            let mut event_loop: EventLoop = EventLoop::new(Config::default()).expect("a loop");
            let net = event_loop.net();
            net.adopt_listener(listener, ListenOptions::default())
                .expect("it is taken");
            let _peer = early.unwrap_or_else(|| Peer::connect(addr));
            assert!(!lingers(&mut event_loop), "waits already: {waits_already}");
        }
    }
}
