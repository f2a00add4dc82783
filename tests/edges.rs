//! An edge is told once. Whatever stops before a socket is empty, or full, has to go on without another one.

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind};

use socket2::SockRef;
use support::{
    Event, Peer, Recorder, bytes_queued, framed, listening, listening_with, pattern, turn_until,
};
use throng::{
    Admission, Config, ConnectionId, DisconnectCause, DisconnectReason, EventLoop, Frame, Handler,
    ListenOptions, ListenerId, Net,
};

fn starved() -> Config {
    Config::default()
        .read_buffer(512)
        .read_budget(1)
        .write_budget(1)
        .events_per_poll(1)
}

/// Numbered frames of all sizes up to some, as they go over the wire.
fn burst(frames: usize, most: usize) -> (Vec<Vec<u8>>, Vec<u8>) {
    let payloads: Vec<_> = (0..frames).map(|i| pattern(i * most / frames)).collect();
    let wire = payloads
        .iter()
        .flat_map(|payload| framed(payload))
        .collect();
    (payloads, wire)
}

#[test]
fn burst_above_the_read_budget_arrives_whole() {
    let (mut event_loop, addr) = listening_with(starved());
    let mut seen = Recorder::default();
    let (payloads, wire) = burst(200, 1_000);
    let mut peer = Peer::connect(addr);
    let writer = std::thread::spawn(move || {
        peer.write(&wire);
        peer
    });
    turn_until(&mut event_loop, &mut seen, |seen, _| {
        seen.frames().len() == payloads.len()
    });
    assert_eq!(seen.frames(), payloads);
    drop(writer.join());
}

#[test]
fn queue_above_the_write_budget_is_flushed_whole() {
    let (mut event_loop, addr) = listening_with(starved());
    let mut seen = Recorder::default();
    let mut peer = Peer::connect(addr);
    SockRef::from(&peer.0)
        .set_recv_buffer_size(64 * 1024)
        .expect("a live socket");
    turn_until(&mut event_loop, &mut seen, |seen, _| {
        !seen.connected().is_empty()
    });
    let id = seen.connected()[0];
    let (payloads, wire) = burst(300, 60_000);
    for payload in &payloads {
        event_loop.net().send(id, payload).expect("it is open");
    }
    let reader = std::thread::spawn(move || {
        let mut read = vec![0; wire.len()];
        peer.0.read_exact(&mut read).expect("all of it");
        read == wire
    });
    turn_until(&mut event_loop, &mut seen, |_, net| {
        bytes_queued(net, id) == 0
    });
    assert!(reader.join().expect("no panic"));
}

#[test]
fn flush_continues_after_its_budget_without_an_event() {
    let (mut event_loop, addr) = listening_with(starved());
    let mut seen = Recorder::default();
    let mut peer = Peer::connect(addr);
    turn_until(&mut event_loop, &mut seen, |seen, _| {
        !seen.connected().is_empty()
    });
    let id = seen.connected()[0];
    // Headers and payloads lie apart: more pieces than one write takes. The socket takes them all.
    let payload = bytes::Bytes::from(pattern(4096));
    for _ in 0..40 {
        event_loop
            .net()
            .send_bytes(id, payload.clone())
            .expect("it is open");
    }
    turn_until(&mut event_loop, &mut seen, |_, net| {
        bytes_queued(net, id) == 0
    });
    assert!(event_loop.net().stats().writes > 1);
    for _ in 0..40 {
        assert_eq!(peer.receive(), payload);
    }
}

#[test]
fn echo_with_full_sockets_continues_when_the_peer_reads() {
    let config = Config::default().max_queued_bytes(u64::MAX);
    let (mut event_loop, addr) = listening_with(config.read_under_backpressure(true));
    let mut seen = Recorder::echoing();
    let peer = Peer::connect(addr);
    let mut writer = peer.0.try_clone().expect("a live socket");
    let (payloads, wire) = burst(400, 100_000);
    let (len, expected) = (wire.len(), wire.clone());
    let writing = std::thread::spawn(move || writer.write_all(&wire).expect("to write"));
    let mut reader = peer.0;
    // The peer reads nothing until the server has got it all.
    turn_until(&mut event_loop, &mut seen, |seen, _| {
        seen.frames().len() == payloads.len()
    });
    let reading = std::thread::spawn(move || {
        let mut read = vec![0; len];
        reader.read_exact(&mut read).expect("all of it");
        read
    });
    let id = seen.connected()[0];
    turn_until(&mut event_loop, &mut seen, |_, net| {
        bytes_queued(net, id) == 0
    });
    assert!(reading.join().expect("no panic") == expected);
    writing.join().expect("no panic");
}

#[test]
fn fifty_peers_are_served_with_one_event_per_poll() {
    let (mut event_loop, addr) = listening_with(starved());
    let mut seen = Recorder::echoing();
    let mut peers: Vec<_> = (0..50).map(|_| Peer::connect(addr)).collect();
    for peer in &mut peers {
        peer.send(b"me, too");
    }
    turn_until(&mut event_loop, &mut seen, |seen, _| {
        seen.frames().len() == 50
    });
    for peer in &mut peers {
        assert_eq!(peer.receive(), b"me, too");
    }
}

#[test]
fn eof_that_arrives_with_the_last_data_is_reported() {
    for config in [Config::default(), starved()] {
        let (mut event_loop, addr) = listening_with(config);
        let mut seen = Recorder::default();
        // Around the size of the read buffers, too: a read that fills one does not prove that more is there.
        for len in [0, 1, 507, 508, 509, 1_020, 65_531, 65_532, 65_533, 131_072] {
            let mut peer = Peer::connect(addr);
            let before = seen.ends().len();
            peer.write(&[framed(b"first"), framed(&pattern(len))].concat());
            drop(peer);
            turn_until(&mut event_loop, &mut seen, |seen, _| {
                seen.ends().len() > before
            });
            assert_eq!(seen.frames().last(), Some(&&pattern(len)[..]));
            let (_, reason) = seen.ends()[before];
            assert!(
                matches!(reason.cause, DisconnectCause::PeerClosed),
                "{len}: {reason}"
            );
        }
    }
}

#[test]
fn frames_that_fill_the_read_buffer_are_delivered_without_more_data() {
    let config = Config::default().read_buffer(512);
    let (mut event_loop, addr) = listening_with(config);
    let mut seen = Recorder::echoing();
    let mut peer = Peer::connect(addr);
    for len in (500..520).chain(1_000..1_040).chain(2_040..2_060) {
        peer.send(&pattern(len));
        turn_until(&mut event_loop, &mut seen, |seen, _| {
            seen.frames().last().is_some_and(|frame| frame.len() == len)
        });
        assert_eq!(peer.receive(), pattern(len));
    }
}

#[test]
fn data_received_before_accept_is_delivered() {
    let (mut event_loop, addr) = listening(ListenOptions::default());
    let mut peer = Peer::connect(addr);
    peer.send(b"early");
    peer.half_close();
    let mut seen = Recorder::echoing();
    turn_until(&mut event_loop, &mut seen, |seen, _| {
        !seen.ends().is_empty()
    });
    assert_eq!(seen.frames(), [b"early"]);
    assert_eq!(peer.receive(), b"early");
}

#[test]
fn server_can_send_first() {
    let server = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut event_loop = EventLoop::new(Config::default()).expect("a loop");
    let addr = server.local_addr().expect("its address");
    event_loop.net().connect(addr).expect("it starts");
    // The greeting is there before the loop has learnt that it is connected.
    let (mut socket, _) = server.accept().expect("the connection");
    socket.write_all(&framed(b"welcome")).expect("to write");
    socket.shutdown(Shutdown::Write).expect("a live socket");
    let mut seen = Recorder::default();
    turn_until(&mut event_loop, &mut seen, |seen, _| {
        !seen.ends().is_empty()
    });
    assert!(matches!(
        &seen.events[..],
        [Event::Connect(_), Event::Data(_, frame), Event::Disconnect(..)] if frame == b"welcome"
    ));
}

/// A read stops in front of an urgent byte, with data left behind it and no edge to come. (One urgent byte at a time: the
/// next would make it an ordinary one.)
#[test]
fn data_after_urgent_data_is_delivered() {
    let (mut event_loop, addr) = listening(ListenOptions::default());
    let mut seen = Recorder::default();
    let mut peer = Peer::connect(addr);
    let shout = |peer: &mut Peer, rounds: usize| {
        peer.write(&framed(b"before").repeat(rounds));
        let sent = SockRef::from(&peer.0).send_out_of_band(b"!");
        assert_eq!(sent.expect("a live socket"), 1);
        peer.write(&framed(b"after").repeat(rounds));
    };
    for rounds in 1..20 {
        let before = seen.frames().len();
        shout(&mut peer, rounds);
        turn_until(&mut event_loop, &mut seen, |seen, _| {
            seen.frames().len() == before + 2 * rounds
        });
    }
    shout(&mut peer, 1);
    drop(peer);
    turn_until(&mut event_loop, &mut seen, |seen, _| {
        !seen.ends().is_empty()
    });
    assert_eq!(seen.frames().last(), Some(&&b"after"[..]));
    let (_, reason) = seen.ends()[0];
    assert_cause!(reason, DisconnectCause::PeerClosed);
}

/// Panics whenever it is told to, once.
#[derive(Default)]
struct Nervous {
    seen: Recorder,
    dreads: Option<&'static str>,
}

impl Nervous {
    fn dread(&mut self, what: &str) {
        if self.dreads == Some(what) {
            self.dreads = None;
            panic!("at {what}");
        }
    }
}

impl Handler for Nervous {
    fn on_accept(&mut self, _: &mut Net, _: ListenerId, _: Option<SocketAddr>) -> Admission {
        self.dread("accept");
        Admission::Admit
    }

    fn on_connect(&mut self, net: &mut Net, id: ConnectionId) {
        self.seen.on_connect(net, id);
        self.dread("connect");
    }

    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        let is_bad = &*frame == b"boo";
        self.seen.on_data(net, id, frame);
        if is_bad {
            self.dread("data");
        }
    }

    fn on_half_close(&mut self, net: &mut Net, id: ConnectionId) {
        self.seen.on_half_close(net, id);
        net.disconnect(id);
        self.dread("half-close");
    }

    fn on_disconnect(&mut self, net: &mut Net, id: ConnectionId, reason: DisconnectReason) {
        self.seen.on_disconnect(net, id, reason);
        self.dread("disconnect");
    }
}

#[test]
fn panic_in_a_callback_skips_no_other_callback() {
    for dreads in ["accept", "connect", "data", "half-close", "disconnect"] {
        let (mut event_loop, addr) = listening(ListenOptions::default().allow_half_open(true));
        let mut nervous = Nervous {
            dreads: Some(dreads),
            ..Nervous::default()
        };
        nervous.seen.echo = true;
        let mut peers = [Peer::connect(addr), Peer::connect(addr)];
        for peer in &mut peers {
            // A whole burst in one read, and the beginning of a frame behind it.
            peer.write(
                &[
                    framed(b"one"),
                    framed(b"boo"),
                    framed(b"two"),
                    framed(b"three"),
                ]
                .concat(),
            );
            peer.write(&framed(b"four")[..6]);
            peer.write(&framed(b"four")[6..]);
            peer.half_close();
        }
        // A peer whose `on_accept` panics is not admitted.
        let expected = if dreads == "accept" { 1 } else { 2 };
        let mut panics = 0;
        let deadline = std::time::Instant::now() + support::PATIENCE;
        while nervous.seen.ends().len() < expected {
            assert!(
                std::time::Instant::now() < deadline,
                "{dreads}: {:?}",
                nervous.seen
            );
            let turn = catch_unwind(AssertUnwindSafe(|| event_loop.turn(&mut nervous, None)));
            panics += usize::from(turn.is_err());
        }
        assert_eq!(panics, 1, "{dreads}");
        let frames = [&b"one"[..], b"boo", b"two", b"three", b"four"];
        for id in nervous.seen.connected() {
            let own = nervous.seen.events.iter().filter_map(|event| match event {
                Event::Data(from, frame) if *from == id => Some(&frame[..]),
                _ => None,
            });
            assert!(own.eq(frames), "{dreads}: every frame once, in order");
        }
        assert_eq!(event_loop.net().connection_count(), 0);
    }
}
