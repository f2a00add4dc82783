//! TLS: handshakes, and what they negotiate.
#![cfg(all(feature = "tls", target_os = "linux"))]

mod support;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use support::by_hand::Loop;
use support::scene::Scene;
use support::secure::{Authority, NAME, SecurePeer, client, client_with, join_by, secured};
use support::{Event, Peer, Recorder, addr_of, framed, pattern};
use throng::rustls::version::{TLS12, TLS13};
use throng::rustls::{self, ProtocolVersion};
use throng::{
    Admission, Config, ConnectOptions, ConnectionId, DisconnectCause, DisconnectReason, Frame,
    Handler, ListenOptions, ListenerId, Net, Stage,
};

const SECOND: Duration = Duration::from_secs(1);

/// A loop with TLS, and a peer that is connected by TCP only.
struct Raw {
    looped: Loop,
    seen: Recorder,
    peer: Peer,
}

impl Raw {
    fn new(options: ListenOptions) -> Self {
        Self::with(Config::default(), options)
    }

    fn with(config: Config, options: ListenOptions) -> Self {
        let mut looped = Loop::new(config);
        let addr = looped.listen_with(options);
        let mut seen = Recorder::echoing();
        let peer = Peer::connect(addr);
        looped.settle(&mut seen, |_, net| net.stats().accepted == 1);
        Self { looped, seen, peer }
    }

    /// Makes turns until the connection has ended. No other callback may have been made for it.
    #[track_caller]
    fn end(&mut self) -> DisconnectReason {
        let ended = |seen: &mut Recorder, _: &mut Net| !seen.events.is_empty();
        self.looped.settle(&mut self.seen, ended);
        assert_eq!(
            self.looped.net().stats().memory_bytes,
            0,
            "memory is in use"
        );
        match self.seen.events.pop() {
            Some(Event::Disconnect(_, reason)) => reason,
            other => panic!("only the end is reported, and not {other:?}"),
        }
    }

    fn turns(&mut self) {
        for _ in 0..20 {
            self.looped.turn(Duration::from_millis(1), &mut self.seen);
        }
    }
}

/// The first message of a client.
fn client_hello() -> Vec<u8> {
    let mut hello = Vec::new();
    client().write_tls(&mut hello).expect("to write");
    hello
}

#[test]
fn frames_of_all_sizes_come_back_over_tls() {
    for version in [&TLS12, &TLS13] {
        let config = Authority::of_all().client_of(&[version]);
        let client = client_with(Arc::new(config));
        let mut scene: Scene<Recorder, SecurePeer> =
            Scene::secured_by(Config::default(), secured(), client);
        scene.seen.echo = true;
        for len in [0, 1, 100, 16_380, 16_384, 65_536, 100_000] {
            let frame = pattern(len);
            scene.peer.send(&frame);
            scene.until(|seen, _| seen.frames().len() == 1);
            scene.turns();
            assert_eq!(scene.peer.receive(), frame, "{len}");
            scene.seen.events.clear();
        }
    }
}

#[test]
fn handshake_of_single_bytes_succeeds() {
    for version in [&TLS12, &TLS13] {
        let mut raw = Raw::new(secured());
        raw.seen.echo = true;
        let mut client = client_with(Arc::new(Authority::of_all().client_of(&[version])));
        client
            .writer()
            .write_all(&framed(b"hello"))
            .expect("it is kept");
        let mut received = Vec::new();
        raw.peer.0.set_nonblocking(true).expect("a live socket");
        while received.len() < 9 {
            let mut wire = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut wire).expect("to write");
            }
            for byte in wire {
                raw.peer.write(&[byte]);
                raw.looped.turn(Duration::ZERO, &mut raw.seen);
            }
            raw.looped.turn(Duration::from_millis(1), &mut raw.seen);
            if client.read_tls(&mut raw.peer.0).is_ok() {
                client.process_new_packets().expect("valid records");
                let _ = client.reader().read_to_end(&mut received);
            }
        }
        assert_eq!(received, framed(b"hello"));
    }
}

#[test]
fn frame_that_comes_with_the_end_of_the_handshake_is_delivered() {
    for len in [5, 10_000, 40_000] {
        let mut raw = Raw::new(secured());
        let mut client = client();
        let frame = pattern(len);
        client.set_buffer_limit(None);
        client
            .writer()
            .write_all(&framed(&frame))
            .expect("it is kept");
        let mut step = |raw: &mut Raw| {
            let mut wire = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut wire).expect("to write");
            }
            // The whole flight arrives before the loop looks.
            raw.peer.write(&wire);
            client.is_handshaking().then(|| {
                raw.turns();
                client.read_tls(&mut raw.peer.0).expect("a flight");
                client.process_new_packets().expect("valid records")
            })
        };
        while step(&mut raw).is_some() {}
        raw.looped
            .settle(&mut raw.seen, |seen, _| !seen.frames().is_empty());
        assert_eq!(raw.seen.frames(), [&frame[..]]);
    }
}

#[test]
fn silent_peer_ends_after_the_handshake_timeout_without_on_connect() {
    for sent in [0, 1, 100] {
        let mut raw = Raw::new(secured().handshake_timeout(3 * SECOND));
        raw.peer.write(&client_hello()[..sent]);
        raw.turns();
        raw.looped
            .pass(3 * SECOND - Duration::from_millis(10), &mut raw.seen);
        raw.turns();
        assert!(raw.seen.events.is_empty());
        raw.looped.pass(Duration::from_millis(20), &mut raw.seen);
        let reason = raw.end();
        let DisconnectCause::HandshakeTimedOut { after } = reason.cause else {
            panic!("{reason:?}");
        };
        assert_eq!((after, reason.stage), (3 * SECOND, Stage::Connecting));
        raw.peer.expect_end();
    }
}

#[test]
fn handshake_may_take_ten_seconds_by_default() {
    let mut raw = Raw::new(secured());
    raw.looped.pass(Duration::from_millis(9_900), &mut raw.seen);
    raw.turns();
    assert!(raw.seen.events.is_empty());
    raw.looped.pass(Duration::from_millis(200), &mut raw.seen);
    assert!(matches!(
        raw.end().cause,
        DisconnectCause::HandshakeTimedOut { .. }
    ));
}

#[test]
fn established_connection_outlives_the_handshake_timeout() {
    let mut scene: Scene<Recorder, SecurePeer> = Scene::secured(Config::default(), secured());
    scene.pass(100 * SECOND);
    scene.turns();
    assert!(scene.seen.ends().is_empty());
}

#[test]
fn http_on_the_tls_port_fails_the_handshake_and_gets_an_alert() {
    let mut raw = Raw::new(secured());
    raw.peer
        .write(b"GET / HTTP/1.1\r\nHost: game.example\r\n\r\n");
    let reason = raw.end();
    let DisconnectCause::HandshakeFailed(rustls::Error::InvalidMessage(_)) = reason.cause else {
        panic!("{reason:?}");
    };
    assert_eq!(reason.stage, Stage::Connecting);
    let mut alert = Vec::new();
    raw.peer.0.read_to_end(&mut alert).expect("an end");
    assert_eq!(alert[0], 21, "it is an alert");
}

#[test]
fn peer_that_closes_during_the_handshake_is_truncated() {
    for sent in [0, 50] {
        let mut raw = Raw::new(secured());
        raw.peer.write(&client_hello()[..sent]);
        raw.peer.half_close();
        let reason = raw.end();
        assert_cause!(reason, DisconnectCause::Truncated);
        assert_eq!(reason.stage, Stage::Connecting);
    }
}

#[test]
fn peer_that_resets_during_the_handshake_is_reset() {
    let mut raw = Raw::new(secured());
    raw.turns();
    let Raw {
        mut looped,
        mut seen,
        peer,
    } = raw;
    peer.reset();
    looped.settle(&mut seen, |seen, _| !seen.events.is_empty());
    let ends = seen.ends();
    assert!(
        matches!(ends[0].1.cause, DisconnectCause::Reset(_)),
        "{ends:?}"
    );
}

#[test]
fn client_that_does_not_trust_the_server_fails_the_handshake_of_both() {
    let (mut looped, mut seen) = (Loop::new(Config::default()), Recorder::default());
    let addr = looped.listen_with(secured());
    let stranger = client_with(Arc::new(Authority::new().client()));
    let peer = std::thread::spawn(move || {
        let mut peer = SecurePeer::new(addr, stranger);
        peer.tls.conn.complete_io(&mut peer.tls.sock).map(|_| ())
    });
    looped.settle(&mut seen, |seen, _| !seen.events.is_empty());
    let ends = seen.ends();
    let DisconnectCause::HandshakeFailed(rustls::Error::AlertReceived(_)) = ends[0].1.cause else {
        panic!("{ends:?}");
    };
    let failed = peer.join().expect("no panic");
    failed.expect_err("it does not trust it");
}

/// Notes the order of its calls, and admits a peer if it is told to.
#[derive(Default)]
struct Gate {
    calls: Vec<&'static str>,
    refuses: bool,
}

impl Handler for Gate {
    fn on_accept(&mut self, net: &mut Net, _: ListenerId, _: Option<SocketAddr>) -> Admission {
        assert_eq!(net.stats().handshakes as usize, self.calls.len() / 2);
        self.calls.push("accept");
        match self.refuses {
            true => Admission::Refuse,
            false => Admission::Admit,
        }
    }

    fn on_connect(&mut self, net: &mut Net, id: ConnectionId) {
        assert!(net.connection(id).is_some_and(|it| it.tls().is_some()));
        self.calls.push("connect");
    }

    fn on_data(&mut self, _: &mut Net, _: ConnectionId, _: Frame<'_>) {}
}

#[test]
fn on_accept_precedes_the_handshake_and_on_connect_follows_it() {
    let (mut looped, mut gate) = (Loop::new(Config::default()), Gate::default());
    let addr = looped.listen_with(secured());
    let mut silent = Peer::connect(addr);
    looped.settle(&mut gate, |gate, _| gate.calls == ["accept"]);
    gate.calls.clear();
    let peer = SecurePeer::connect(addr, client());
    looped.settle(&mut gate, |gate, _| gate.calls == ["accept", "connect"]);
    peer.join().expect("a handshake");
    assert_eq!(
        (
            looped.net().connection_count(),
            looped.net().stats().accepted
        ),
        (1, 2)
    );

    gate.refuses = true;
    let mut refused = Peer::connect(addr);
    looped.settle(&mut gate, |_, net| net.stats().refused == 1);
    refused.expect_end();
    silent.write(b"never a ClientHello");
    looped.settle(&mut gate, |_, net| net.stats().disconnected == 1);
}

#[test]
fn handshaking_peers_count_against_the_limits() {
    for config in [
        Config::default().max_connections(1),
        Config::default().max_connections_per_ip(1),
    ] {
        let mut raw = Raw::with(config, secured().handshake_timeout(SECOND));
        let addr = raw.looped.listen_with(secured());
        let mut second = Peer::connect(addr);
        raw.looped
            .settle(&mut raw.seen, |_, net| net.stats().refused == 1);
        second.expect_end();
        // The end of the handshake frees the place.
        raw.looped.pass(2 * SECOND, &mut raw.seen);
        raw.end();
        join_by(&mut raw.looped, &mut raw.seen, addr, client());
    }
}

#[test]
fn handshakes_beyond_the_budget_of_a_turn_wait_for_the_next() {
    let config = Config::default().handshakes_per_turn(2);
    let (mut looped, mut seen) = (Loop::new(config), Recorder::default());
    let addr = looped.listen_with(secured());
    let mut peers = looped.connect(&mut seen, addr, 7);
    looped.rest(&mut seen);
    for peer in &mut peers {
        peer.write_all(&client_hello()).expect("room");
        peer.set_nonblocking(true).expect("a live socket");
    }
    let answered = |peers: &[std::net::TcpStream]| {
        let answered = peers.iter().filter(|peer| peer.peek(&mut [0]).is_ok());
        answered.count()
    };
    let mut turns = Vec::new();
    let deadline = std::time::Instant::now() + support::PATIENCE;
    while answered(&peers) < 7 {
        assert!(std::time::Instant::now() < deadline, "handshakes are lost");
        looped.pass(Duration::ZERO, &mut seen);
        let sessions = looped.net().stats().memory_bytes as usize / 8192;
        turns.push((answered(&peers), sessions));
    }
    assert_eq!(turns, [(2, 2), (4, 4), (6, 6), (7, 7)]);
    assert!(looped.is_at_rest());
}

#[test]
fn paused_connection_completes_its_handshake_and_reads_nothing() {
    let (mut looped, mut seen) = (Loop::new(Config::default()), Recorder::default());
    let addr = looped.listen_with(secured());
    let options = ConnectOptions::default().tls(
        Arc::new(Authority::of_all().client()),
        NAME.try_into().expect("a name"),
    );
    let id = looped.net().connect_with(addr, options).expect("it starts");
    assert!(looped.net().pause(id));
    looped.settle(&mut seen, |seen, _| seen.connected().len() == 2);
    let other = *seen
        .connected()
        .iter()
        .find(|other| **other != id)
        .expect("two");
    looped.net().send(other, b"hello").expect("it is open");
    for _ in 0..20 {
        looped.turn(Duration::from_millis(1), &mut seen);
    }
    assert!(seen.frames().is_empty() && looped.is_at_rest());
    looped.net().resume(id);
    looped.settle(&mut seen, |seen, _| seen.frames() == [b"hello"]);
}

#[test]
fn negotiated_parameters_are_known_on_both_sides() {
    let authority = Authority::of_all();
    let (mut server, mut client) = (authority.strict_server(), authority.known_client("Alice"));
    server.alpn_protocols = vec![b"chat/2".to_vec(), b"chat/1".to_vec()];
    client.alpn_protocols = vec![b"chat/0".to_vec(), b"chat/1".to_vec()];
    let (mut looped, mut seen) = (Loop::new(Config::default()), Recorder::default());
    let addr = looped.listen_with(ListenOptions::default().tls(Arc::new(server)));
    let name = NAME.try_into().expect("a name");
    let options = ConnectOptions::default().tls(Arc::new(client), name);
    let ours = looped.net().connect_with(addr, options).expect("it starts");
    assert!(
        looped
            .net()
            .connection(ours)
            .is_some_and(|it| it.tls().is_none())
    );
    looped.settle(&mut seen, |seen, _| seen.connected().len() == 2);
    for id in seen.connected() {
        let tls = looped.net().connection(id).and_then(|it| it.tls());
        let tls = tls.expect("it has TLS");
        assert_eq!(tls.alpn_protocol(), Some(&b"chat/1"[..]));
        assert_eq!(tls.version(), Some(ProtocolVersion::TLSv1_3));
        assert_eq!(tls.peer_certificates().len(), 1);
        assert_eq!(tls.server_name(), (id != ours).then_some(NAME));
        assert!(tls.cipher_suite().is_some());
    }
    assert_eq!(looped.net().stats().handshakes, 2);
    assert_eq!(looped.net().stats().connected, 1);
}

#[test]
fn connection_without_tls_has_no_parameters_of_tls() {
    let mut scene = Scene::with(Config::default());
    let id = scene.id;
    assert!(
        scene
            .net()
            .connection(id)
            .is_some_and(|it| it.tls().is_none())
    );
}

#[test]
fn client_without_a_certificate_is_not_connected_to_a_strict_server() {
    let strict = Arc::new(Authority::of_all().strict_server());
    let mut raw = Raw::new(ListenOptions::default().tls(strict));
    let mut hello = client();
    let mut wire = Vec::new();
    hello.write_tls(&mut wire).expect("to write");
    raw.peer.write(&wire);
    raw.turns();
    while hello.is_handshaking() {
        hello.read_tls(&mut raw.peer.0).expect("a flight");
        hello.process_new_packets().expect("valid records");
    }
    let mut wire = Vec::new();
    while hello.wants_write() {
        hello.write_tls(&mut wire).expect("to write");
    }
    raw.peer.write(&wire);
    let reason = raw.end();
    let DisconnectCause::HandshakeFailed(rustls::Error::NoCertificatesPresented) = reason.cause
    else {
        panic!("{reason:?}");
    };
}

#[test]
fn renewed_certificate_is_presented_to_later_peers_only() {
    let (first, second) = (Authority::new(), Authority::new());
    let (mut looped, mut seen) = (Loop::new(Config::default()), Recorder::echoing());
    let options = ListenOptions::default().tls(Arc::new(first.server()));
    let listener = looped
        .net()
        .listen_with("127.0.0.1:0", options)
        .expect("a listener");
    let addr = addr_of(looped.net(), listener);
    let trusting = |authority: &Authority| client_with(Arc::new(authority.client()));
    let mut old = join_by(&mut looped, &mut seen, addr, trusting(&first));
    assert!(
        looped
            .net()
            .set_listener_tls(listener, Arc::new(second.server()))
    );
    let mut new = join_by(&mut looped, &mut seen, addr, trusting(&second));
    for peer in [&mut old, &mut new] {
        peer.send(b"hello");
        looped.settle(&mut seen, |seen, _| seen.frames().len() == 1);
        for _ in 0..3 {
            looped.turn(Duration::ZERO, &mut seen);
        }
        assert_eq!(peer.receive(), b"hello");
        seen.events
            .retain(|event| !matches!(event, Event::Data(..)));
    }
    looped.net().close_listener(listener);
    let config = Arc::new(first.server());
    assert!(!looped.net().set_listener_tls(listener, config));
}

#[test]
fn listener_without_tls_uses_it_once_a_configuration_is_set() {
    let (mut looped, mut seen) = (Loop::new(Config::default()), Recorder::echoing());
    let listener = looped.net().listen("127.0.0.1:0").expect("a listener");
    let addr = addr_of(looped.net(), listener);
    let (mut plain, _) = looped.join_at(addr, &mut seen);
    let config = Arc::new(Authority::of_all().server());
    assert!(looped.net().set_listener_tls(listener, config));
    join_by(&mut looped, &mut seen, addr, client());
    plain.send(b"still plain");
    looped.settle(&mut seen, |seen, _| seen.frames() == [b"still plain"]);
}

#[test]
fn outbound_connection_checks_the_name_and_the_authority() {
    let trusting = Authority::of_all().client();
    let stranger = Authority::new().client();
    for (config, name) in [(trusting, "other.example"), (stranger, NAME)] {
        let (mut looped, mut seen) = (Loop::new(Config::default()), Recorder::default());
        let addr = looped.listen_with(secured());
        let name = name.try_into().expect("a name");
        let options = ConnectOptions::default().tls(Arc::new(config), name);
        let id = looped.net().connect_with(addr, options).expect("it starts");
        looped.settle(&mut seen, |seen, _| seen.ends().len() == 2);
        assert!(seen.connected().is_empty());
        let ends = seen.ends();
        let (_, reason) = ends.iter().find(|end| end.0 == id).expect("its end");
        let DisconnectCause::HandshakeFailed(rustls::Error::InvalidCertificate(_)) = reason.cause
        else {
            panic!("{reason:?}");
        };
        assert_eq!(reason.stage, Stage::Connecting);
    }
}

#[test]
fn outbound_handshake_with_a_silent_server_times_out() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = silent.local_addr().expect("its address");
    let (mut looped, mut seen) = (Loop::new(Config::default()), Recorder::default());
    let name = NAME.try_into().expect("a name");
    let options = ConnectOptions::default()
        .tls(Arc::new(Authority::of_all().client()), name)
        .handshake_timeout(2 * SECOND);
    looped.net().connect_with(addr, options).expect("it starts");
    let (mut server, _) = silent.accept().expect("it connects");
    looped.settle(&mut seen, |_, net| net.stats().memory_bytes > 0);
    for _ in 0..10 {
        looped.turn(Duration::from_millis(1), &mut seen);
    }
    // It has sent a ClientHello.
    assert!(server.read(&mut [0; 1000]).expect("a flight") > 100);
    looped.pass(2 * SECOND, &mut seen);
    looped.settle(&mut seen, |seen, _| seen.ends().len() == 1);
    let reason = seen.ends()[0].1;
    let DisconnectCause::HandshakeTimedOut { after } = reason.cause else {
        panic!("{reason:?}");
    };
    assert_eq!(after, 2 * SECOND);
}
