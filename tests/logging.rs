//! What is logged: each line once, at its level, with the id or the address it is about.

mod support;

use std::cell::RefCell;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Once;
use std::time::{Duration, Instant};

use log::{Level, LevelFilter, Log, Metadata, Record};
use support::{Peer, Recorder, addr_of, listen, listening, turn_until};
use throng::{
    Admission, Chunk, Config, ConnectOptions, ConnectionId, DisconnectReason, EventLoop, Frame,
    Framing, Handler, IpNetwork, ListenOptions, ListenerId, Net, ProxyHeader, ProxyProtocol,
};

thread_local! {
    /// What was logged on this thread. A test has a thread to itself, and its loop runs there.
    static LINES: RefCell<Vec<(Level, String)>> = const { RefCell::new(Vec::new()) };
}

struct Capture;

impl Log for Capture {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("throng")
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let line = (record.level(), record.args().to_string());
            LINES.with_borrow_mut(|lines| lines.push(line));
        }
    }

    fn flush(&self) {}
}

fn capture() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Capture).expect("the first logger");
        log::set_max_level(LevelFilter::Trace);
    });
    LINES.take();
}

/// Asserts that one line has this level and all of these words, and forgets the lines so far.
#[track_caller]
fn expect(level: Level, words: &[&dyn fmt::Display]) {
    let lines = LINES.take();
    let words: Vec<String> = words.iter().map(|word| word.to_string()).collect();
    let found = lines
        .iter()
        .filter(|line| line.0 == level && words.iter().all(|word| line.1.contains(word)));
    assert_eq!(
        found.count(),
        1,
        "one {level} line with {words:?} in {lines:#?}"
    );
}

/// An inbound connection and its peer.
fn visit(
    event_loop: &mut EventLoop,
    addr: SocketAddr,
    seen: &mut Recorder,
) -> (ConnectionId, Peer) {
    let before = seen.connected().len();
    let peer = Peer::connect(addr);
    turn_until(event_loop, seen, |seen, _| seen.connected().len() > before);
    (seen.connected()[before], peer)
}

#[test]
fn listeners_are_logged_when_they_open_and_close() {
    capture();
    let mut event_loop = <EventLoop>::new(Config::default()).expect("a loop");
    let net = event_loop.net();
    let listener = net.listen("127.0.0.1:0").expect("a port");
    let addr = addr_of(net, listener);
    expect(Level::Info, &[&"listening on", &addr]);
    net.close_listener(listener);
    expect(Level::Info, &[&"no longer listening on", &addr]);
    net.close_listener(listener);
    expect(Level::Debug, &[&"close_listener", &"no such listener"]);
}

#[test]
fn connect_and_disconnect_are_logged_with_the_reason() {
    capture();
    let (mut event_loop, addr) = listening(ListenOptions::default());
    let mut seen = Recorder::default();
    let (id, peer) = visit(&mut event_loop, addr, &mut seen);
    let peer_addr = peer.0.local_addr().expect("its address");
    expect(Level::Info, &[&id, &"connected from", &peer_addr]);
    drop(peer);
    turn_until(&mut event_loop, &mut seen, |seen, _| {
        !seen.ends().is_empty()
    });
    let (_, reason) = seen.ends()[0];
    expect(
        Level::Info,
        &[&id, &"closed", reason, &"the peer closed the connection"],
    );
}

#[test]
fn outbound_attempts_and_outcomes_are_logged() {
    capture();
    let (mut event_loop, addr) = listening(ListenOptions::default());
    let mut seen = Recorder::default();
    let id = event_loop.net().connect(addr).expect("it starts");
    expect(Level::Info, &[&id, &"connecting to", &addr]);
    turn_until(&mut event_loop, &mut seen, |_, net| {
        net.connection_count() == 2
    });
    expect(Level::Info, &[&format!("{id} connected to"), &addr]);

    let (_refusing, addr) = support::refusing();
    let id = event_loop.net().connect(addr).expect("it starts");
    turn_until(&mut event_loop, &mut seen, |seen, _| {
        !seen.ends().is_empty()
    });
    let why = seen.ends()[0].1.to_string();
    expect(
        Level::Warn,
        &[&id, &"connecting to", &addr, &"failed", &why, &"refused"],
    );
}

#[test]
fn connect_that_cannot_start_is_logged() {
    capture();
    let mut event_loop = EventLoop::new(Config::default()).expect("a loop");
    // No system connects to a broadcast address over TCP.
    let nowhere: SocketAddr = "255.255.255.255:9".parse().expect("an address");
    let net = event_loop.net();
    match net.connect_with(nowhere, ConnectOptions::default().timeout(Duration::ZERO)) {
        Err(_) => expect(Level::Warn, &[&"connecting to", &nowhere, &"failed"]),
        Ok(id) => {
            let mut seen = Recorder::default();
            turn_until(&mut event_loop, &mut seen, |seen, _| {
                !seen.ends().is_empty()
            });
            expect(Level::Warn, &[&id, &"connecting to", &nowhere, &"failed"]);
        }
    }
}

struct Bouncer;

impl Handler for Bouncer {
    fn on_accept(&mut self, _: &mut Net, _: ListenerId, _: Option<SocketAddr>) -> Admission {
        Admission::Refuse
    }

    fn on_data(&mut self, _: &mut Net, _: ConnectionId, _: Frame<'_>) {}
}

#[test]
fn refused_peers_are_logged_with_the_reason() {
    capture();
    let (mut event_loop, addr) = listening(ListenOptions::default());
    let peer = Peer::connect(addr);
    turn_until(&mut event_loop, &mut Bouncer, |_, net| {
        net.stats().refused == 1
    });
    let peer_addr = peer.0.local_addr().expect("its address");
    expect(Level::Warn, &[&"refused", &peer_addr, &"not admitted"]);

    let config = Config::default().max_connections(0);
    let mut event_loop = EventLoop::new(config).expect("a loop");
    let addr = listen(&mut event_loop, ListenOptions::default());
    let peer = Peer::connect(addr);
    turn_until(&mut event_loop, &mut Bouncer, |_, net| {
        net.stats().refused == 1
    });
    let peer_addr = peer.0.local_addr().expect("its address");
    expect(
        Level::Warn,
        &[&"refused", &peer_addr, &"there are 0 connections already"],
    );
}

#[test]
fn peers_above_a_rate_are_logged_with_the_rate() {
    capture();
    let config = Config::default().max_accepts_per_second_per_ip(1);
    let mut event_loop = EventLoop::new(config).expect("a loop");
    let addr = listen(&mut event_loop, ListenOptions::default());
    // Both are accepted in one turn, whose time is that of both.
    let peers = [Peer::connect(addr), Peer::connect(addr)];
    turn_until(&mut event_loop, &mut Recorder::default(), |_, net| {
        net.stats().refused == 1
    });
    let peer_addr = peers[1].0.local_addr().expect("its address");
    let why = "more than 1 connections per second come from 127.0.0.1";
    expect(Level::Warn, &[&format!("refused {peer_addr}: {why}")]);
}

#[test]
fn peers_that_come_too_early_after_a_full_loop_are_logged() {
    capture();
    let config = Config::default().max_connections(2).accept_again_below(1);
    let mut event_loop = EventLoop::new(config).expect("a loop");
    let addr = listen(&mut event_loop, ListenOptions::default());
    let mut seen = Recorder::default();
    let mut peers: Vec<_> = (0..3).map(|_| Peer::connect(addr)).collect();
    turn_until(&mut event_loop, &mut seen, |_, net| {
        net.stats().refused == 1
    });
    peers.remove(0);
    turn_until(&mut event_loop, &mut seen, |_, net| {
        net.connection_count() == 1
    });
    let peer = Peer::connect(addr);
    turn_until(&mut event_loop, &mut seen, |_, net| {
        net.stats().refused == 2
    });
    let peer_addr = peer.0.local_addr().expect("its address");
    let why = "peers are accepted again below 1 connections";
    expect(Level::Warn, &[&format!("refused {peer_addr}: {why}")]);
}

/// A loop whose peers are proxies.
fn behind_a_proxy(timeout: Duration) -> (EventLoop, SocketAddr) {
    let local: IpNetwork = "127.0.0.1".parse().expect("a network");
    let protocol = ProxyProtocol::trusting([local]).header_timeout(timeout);
    listening(ListenOptions::default().proxy_protocol(protocol))
}

#[test]
fn proxies_without_a_valid_header_are_logged_with_the_reason() {
    let v2 = |rest: &[u8]| [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), rest].concat();
    for (sent, why) in [
        (
            b"GET / HTTP/1.1\r\n".to_vec(),
            "the PROXY header is malformed: \"GET / HT\"",
        ),
        (
            v2(b"!\x11\x00\x0b"),
            "the addresses in the PROXY header have 11 bytes, and their family needs 12",
        ),
        (
            v2(b"!\x11\x10\x00"),
            "the PROXY header has 4112 bytes, and the limit is 4096",
        ),
        (
            v2(b"!\x12\x00\x0c"),
            "the PROXY header is one of a datagram protocol",
        ),
        (
            b"PROXY".to_vec(),
            "the connection was closed after 5 bytes of the PROXY header",
        ),
    ] {
        capture();
        let (mut event_loop, addr) = behind_a_proxy(Duration::MAX);
        let mut peer = Peer::connect(addr);
        peer.write(&sent);
        peer.half_close();
        turn_until(&mut event_loop, &mut Bouncer, |_, net| {
            net.stats().refused == 1
        });
        let peer_addr = peer.0.local_addr().expect("its address");
        expect(Level::Warn, &[&format!("refused {peer_addr}: {why}")]);
    }
    capture();
    let (mut event_loop, addr) = behind_a_proxy(Duration::from_millis(1));
    let _peer = Peer::connect(addr);
    turn_until(&mut event_loop, &mut Bouncer, |_, net| {
        net.stats().refused == 1
    });
    let why = "the PROXY header was not complete within 1ms";
    expect(Level::Warn, &[&why]);

    capture();
    let (mut event_loop, addr) = behind_a_proxy(Duration::MAX);
    Peer::connect(addr).reset();
    turn_until(&mut event_loop, &mut Bouncer, |_, net| {
        net.stats().refused == 1
    });
    let why = "the connection failed before the PROXY header";
    expect(Level::Warn, &[&"refused", &why]);
}

#[test]
fn clients_of_a_proxy_are_logged_with_their_own_address() {
    capture();
    let (mut event_loop, addr) = behind_a_proxy(Duration::MAX);
    let mut peer = Peer::connect(addr);
    peer.write(b"PROXY TCP4 192.0.2.1 192.0.2.2 1234 80\r\n");
    let mut seen = Recorder::default();
    turn_until(&mut event_loop, &mut seen, |seen, _| {
        !seen.connected().is_empty()
    });
    expect(Level::Info, &[&"connected from 192.0.2.1:1234"]);
    peer.half_close();
}

#[test]
fn connection_of_a_proxy_itself_is_not_logged() {
    capture();
    let (mut event_loop, addr) = behind_a_proxy(Duration::MAX);
    LINES.take();
    let mut peer = Peer::connect(addr);
    peer.write(ProxyHeader::local().as_bytes());
    turn_until(&mut event_loop, &mut Bouncer, |_, net| {
        net.stats().proxy_checks == 1
    });
    peer.expect_end();
    assert_eq!(LINES.take(), []);
}

/// The test binary again, with few descriptors: its accepts fail. What it logs it prints.
#[cfg(unix)]
#[test]
fn paused_accepting_is_logged_once() {
    const FEW: &str = "THRONG_TEST_FEW";
    if std::env::var_os(FEW).is_none() {
        let output = std::process::Command::new("sh")
            .args(["-c", "ulimit -n 32; exec \"$@\"", "sh"])
            .arg(std::env::current_exe().expect("a test binary"))
            .args(["--exact", "paused_accepting_is_logged_once", "--nocapture"])
            .env(FEW, "1")
            .output()
            .expect("a shell");
        assert!(output.status.success(), "{output:?}");
        return;
    }
    capture();
    let config = Config::default().accept_retry(Duration::from_millis(1));
    let mut event_loop = EventLoop::new(config).expect("a loop");
    let addr = listen(&mut event_loop, ListenOptions::default());
    let mut spare: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
    spare.pop();
    let _peer = Peer::connect(addr);
    let mut seen = Recorder::default();
    turn_until(&mut event_loop, &mut seen, |_, net| {
        net.stats().accept_pauses >= 3
    });
    expect(Level::Warn, &[&"accepting on", &addr, &"paused", &"1ms"]);
}

#[test]
fn calls_for_closed_connections_are_logged() {
    capture();
    let (mut event_loop, addr) = listening(ListenOptions::default());
    let mut seen = Recorder::default();
    let (id, peer) = visit(&mut event_loop, addr, &mut seen);
    drop(peer);
    turn_until(&mut event_loop, &mut seen, |seen, _| {
        !seen.ends().is_empty()
    });
    LINES.take();
    let net = event_loop.net();
    net.send(id, b"late").expect_err("it is gone");
    expect(Level::Debug, &[&id, &"not sent", &"closed or closing"]);
    net.disconnect(id);
    expect(Level::Debug, &[&id, &"disconnect: not connected"]);
    net.abort(id);
    expect(Level::Debug, &[&id, &"abort: not connected"]);
    net.set_framing(id, Framing::raw());
    expect(Level::Debug, &[&id, &"set_framing: not connected"]);

    let id = net.connect(addr).expect("it starts");
    net.send(id, b"early").expect_err("it is not connected yet");
    expect(Level::Debug, &[&id, &"not sent", &"not established yet"]);
}

#[test]
fn bytes_read_and_written_are_logged() {
    capture();
    let (mut event_loop, addr) = listening(ListenOptions::default());
    let mut seen = Recorder::echoing();
    let (id, mut peer) = visit(&mut event_loop, addr, &mut seen);
    LINES.take();
    peer.send(b"seven b");
    turn_until(&mut event_loop, &mut seen, |seen, _| {
        !seen.frames().is_empty()
    });
    let lines = LINES.with_borrow(Vec::clone);
    expect(Level::Trace, &[&id, &"read 11 bytes"]);
    LINES.set(lines);
    expect(Level::Trace, &[&id, &"wrote 11 bytes"]);
}

/// Holds the loop in the call that it is told.
struct Slow(&'static str);

impl Slow {
    const FOR: Duration = Duration::from_millis(3);

    fn hold(&self, callback: &str) {
        let began = Instant::now();
        while callback == self.0 && began.elapsed() < Self::FOR {
            std::hint::spin_loop();
        }
    }
}

impl Handler for Slow {
    fn on_accept(&mut self, _: &mut Net, _: ListenerId, _: Option<SocketAddr>) -> Admission {
        self.hold("on_accept");
        Admission::Admit
    }

    fn on_connect(&mut self, _: &mut Net, _: ConnectionId) {
        self.hold("on_connect");
    }

    fn on_data(&mut self, _: &mut Net, _: ConnectionId, _: Frame<'_>) {
        self.hold("on_data");
    }

    fn on_chunk(&mut self, net: &mut Net, id: ConnectionId, chunk: Chunk<'_>) {
        self.hold("on_chunk");
        assert_eq!(&*chunk, b"a chunk");
        net.send(id, &[0; 20]).expect("there is room for one");
        net.send(id, &[0; 20]).expect_err("and for one only");
    }

    fn on_drain(&mut self, _: &mut Net, _: ConnectionId) {
        self.hold("on_drain");
    }

    fn on_half_close(&mut self, net: &mut Net, id: ConnectionId) {
        self.hold("on_half_close");
        net.disconnect(id);
    }

    fn on_disconnect(&mut self, _: &mut Net, _: ConnectionId, _: DisconnectReason) {
        self.hold("on_disconnect");
    }
}

#[test]
fn slow_callbacks_of_every_kind_are_logged_and_counted() {
    let callbacks = [
        "on_accept",
        "on_connect",
        "on_data",
        "on_chunk",
        "on_drain",
        "on_half_close",
        "on_disconnect",
    ];
    for callback in callbacks {
        capture();
        let config = Config::default().slow_callback(Slow::FOR - Duration::from_millis(1));
        let mut event_loop = EventLoop::new(config).expect("a loop");
        let options = ListenOptions::default()
            .stream_frames_over(4)
            .max_queued_bytes(20)
            .allow_half_open(true);
        let addr = listen(&mut event_loop, options);
        let mut peer = Peer::connect(addr);
        peer.send(b"all");
        peer.send(b"a chunk");
        let whom = match callback {
            "on_accept" => peer.0.local_addr().expect("its address").to_string(),
            _ => "0#0".to_string(),
        };
        let reader = std::thread::spawn(move || {
            assert_eq!(peer.receive(), [0; 20]);
            peer.half_close();
            peer.expect_end();
        });
        let mut slow = Slow(callback);
        turn_until(&mut event_loop, &mut slow, |_, net| {
            net.stats().disconnected == 1 && net.stats().slow_callbacks > 0
        });
        reader.join().expect("the peer sees a clean end");
        expect(Level::Warn, &[&whom, &callback, &"blocked the loop for"]);
        let stats = event_loop.net().stats();
        assert!(stats.longest_turn >= Slow::FOR && stats.busy >= stats.longest_turn);
    }
}

/// The warnings so far that say all of these words.
fn warnings(words: &[&str]) -> Vec<String> {
    LINES.with_borrow(|lines| {
        let warnings = lines.iter().filter(|line| line.0 == Level::Warn);
        let lines = warnings.map(|line| line.1.clone());
        lines
            .filter(|line| words.iter().all(|word| line.contains(word)))
            .collect()
    })
}

/// How many peers these warnings are about: one each, or as many as they count.
fn total(warnings: &[String]) -> u64 {
    let count = |line: &String| match line.split_once(" more ") {
        Some((count, _)) => count.parse().expect("a number"),
        None => 1,
    };
    warnings.iter().map(count).sum()
}

#[test]
fn flood_of_refused_peers_is_one_line_and_a_count() {
    const PEERS: u64 = 60;
    capture();
    let config = Config::default().max_connections(0);
    let mut event_loop = EventLoop::new(config).expect("a loop");
    let addr = listen(&mut event_loop, ListenOptions::default());
    let _peers: Vec<_> = (0..PEERS).map(|_| Peer::connect(addr)).collect();
    let began = Instant::now();
    turn_until(&mut event_loop, &mut Bouncer, |_, net| {
        net.stats().refused == PEERS
    });
    // The count comes though no further peer does.
    let words = ["refused"];
    turn_until(&mut event_loop, &mut Bouncer, |_, _| {
        total(&warnings(&words)) == PEERS
    });
    let lines = warnings(&words);
    assert!(
        lines.len() as u64 <= 2 + began.elapsed().as_secs(),
        "{lines:?}"
    );
    assert!(lines[0].contains("there are 0 connections already"));
    assert!(lines[1].contains("max_connections is reached"), "{lines:?}");
    // Each of them is there for debugging, and the loop is idle again.
    let for_debugging = LINES.with_borrow(|lines| {
        let lines = lines.iter().filter(|line| line.1.starts_with("refused "));
        lines.count() as u64
    });
    assert_eq!(for_debugging, PEERS);
    assert_eq!(event_loop.next_timeout(), None);
}

#[test]
fn suppressed_log_lines_are_counted_when_the_loop_is_dropped() {
    capture();
    let (mut event_loop, addr) = listening(ListenOptions::default());
    let _peers = [
        Peer::connect(addr),
        Peer::connect(addr),
        Peer::connect(addr),
    ];
    turn_until(&mut event_loop, &mut Bouncer, |_, net| {
        net.stats().refused == 3
    });
    drop(event_loop);
    let lines = warnings(&["refused", "not admitted"]);
    assert_eq!(total(&lines), 3, "{lines:?}");
}

#[test]
fn flood_of_one_kind_hides_no_other() {
    capture();
    let config = Config::default().max_connections_per_ip(0);
    let mut event_loop = EventLoop::new(config).expect("a loop");
    let addr = listen(&mut event_loop, ListenOptions::default());
    let _peers = [Peer::connect(addr), Peer::connect(addr)];
    turn_until(&mut event_loop, &mut Bouncer, |_, net| {
        net.stats().refused == 2
    });
    let (_refusing, nowhere) = support::refusing();
    let mut seen = Recorder::default();
    for ends in 1..=2 {
        event_loop.net().connect(nowhere).expect("it starts");
        turn_until(&mut event_loop, &mut seen, |seen, _| {
            seen.ends().len() == ends
        });
    }
    assert!(!warnings(&["refused ", "127.0.0.1 already"]).is_empty());
    assert!(!warnings(&["connecting to", "failed"]).is_empty());
}
