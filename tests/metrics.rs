//! Statistics: what is counted under which name, and the text that monitoring systems read.

mod support;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use support::by_hand::Loop;
use support::example::Example;
use support::scene::Scene;
use support::{Peer, Recorder, framed, turn_until, wait_until};
use throng::{
    Admission, Config, ConnectionId, EventLoop, Frame, Handler, ListenOptions, ListenerId, Net,
    RefusalsByReason, Stats, Timer,
};

/// Refuses all peers, and closes the listener of the second.
#[derive(Default)]
struct Bouncer(usize);

impl Handler for Bouncer {
    fn on_accept(
        &mut self,
        net: &mut Net,
        listener: ListenerId,
        _: Option<SocketAddr>,
    ) -> Admission {
        self.0 += 1;
        if self.0 == 1 {
            return Admission::Refuse;
        }
        net.close_listener(listener);
        Admission::Admit
    }

    fn on_data(&mut self, _: &mut Net, _: ConnectionId, _: Frame<'_>) {}
}

/// Connects peers until this number is refused, and returns the reasons.
fn refused(config: Config, handler: &mut impl Handler, number: u64) -> RefusalsByReason {
    let mut looped = Loop::new(config);
    let addr = looped.listen();
    let mut peers = Vec::new();
    while looped.net().stats().refused < number {
        peers.push(Peer::connect(addr));
        let before = looped.net().stats();
        looped.settle(handler, |_, net| {
            let period = net.stats().since(&before);
            period.accepted + period.refused == 1
        });
    }
    looped.net().stats().refusals
}

#[test]
fn refused_peers_are_counted_by_reason() {
    let mut seen = Recorder::default();
    let full = refused(Config::default().max_connections(1), &mut seen, 2);
    assert_eq!((full.full, full.total()), (2, 2));
    let per_address = Config::default().max_connections_per_ip(1);
    let per_address = refused(per_address, &mut seen, 1);
    assert_eq!((per_address.per_address, per_address.total()), (1, 1));
    let rate = Config::default().max_accepts_per_second_per_ip(1);
    let rate = refused(rate, &mut seen, 1);
    assert_eq!((rate.rate_per_address, rate.total()), (1, 1));
    let bounced = refused(Config::default(), &mut Bouncer::default(), 2);
    assert_eq!((bounced.on_accept, bounced.listener_closed), (1, 1));
}

#[test]
fn peer_refused_until_there_is_more_room_counts_as_full() {
    let config = Config::default().max_connections(3).accept_again_below(2);
    let mut looped = Loop::new(config);
    let addr = looped.listen();
    let mut seen = Recorder::default();
    let mut peers = looped.connect(&mut seen, addr, 3);
    peers.push(Peer::connect(addr).0);
    looped.settle(&mut seen, |_, net| net.stats().refusals.full == 1);
    drop(peers.remove(0));
    looped.settle(&mut seen, |_, net| net.connection_count() == 2);
    peers.push(Peer::connect(addr).0);
    looped.settle(&mut seen, |_, net| net.stats().refusals.full == 2);
}

#[test]
fn connections_are_counted_by_the_stage_they_have_reached() {
    let mut scene = Scene::<Recorder>::new(Config::default(), ListenOptions::default());
    let stages = |scene: &mut Scene| {
        let stages = scene.net().stats().connections;
        (stages.connecting, stages.open, stages.closing)
    };
    assert_eq!(stages(&mut scene), (0, 1, 0));
    let addr = scene.addr;
    let outbound = scene.net().connect(addr).expect("a socket");
    assert_eq!(stages(&mut scene), (1, 1, 0));
    // The loop accepts its own connection.
    scene.until(|_, net| net.connection_count() == 3);
    assert_eq!(stages(&mut scene), (0, 3, 0));
    let id = scene.id;
    scene.net().disconnect(id);
    assert_eq!(stages(&mut scene), (0, 2, 1));
    scene.net().abort(outbound);
    assert_eq!(stages(&mut scene), (0, 1, 1));
    let failing = scene.net().connect(addr).expect("a socket");
    assert_eq!(stages(&mut scene), (1, 1, 1));
    scene.net().abort(failing);
    assert_eq!(stages(&mut scene), (0, 1, 1));
    drop(scene.peer.0.shutdown(std::net::Shutdown::Both));
    scene.until(|_, net| net.stats().connections == Default::default());
    let causes = scene.net().stats().disconnects;
    assert_eq!((causes.closed_locally, causes.aborted), (1, 2));
}

#[test]
fn queued_bytes_are_the_part_of_memory_in_write_queues() {
    let mut scene = Scene::with(Config::default());
    let held = |scene: &mut Scene| {
        let stats = scene.net().stats();
        (stats.memory_bytes, stats.queued_bytes)
    };
    scene.arrive(&framed(&[7; 100])[..50]);
    scene.turns();
    assert_eq!(held(&mut scene), (46, 0));
    let id = scene.id;
    scene.net().send(id, &[1; 96]).expect("there is room");
    assert_eq!(held(&mut scene), (146, 100));
    let shared = Bytes::from(vec![2; 5000]);
    for _ in 0..2 {
        let sent = scene.net().send_bytes(id, shared.clone());
        sent.expect("there is room");
    }
    assert_eq!(held(&mut scene), (5154, 5108));
    scene.until(|_, net| net.stats().frames_sent == 3);
    assert_eq!(held(&mut scene), (46, 0));
    scene.arrive(&framed(&[7; 100])[50..]);
    assert_eq!(held(&mut scene), (0, 0));
}

#[test]
fn timers_that_are_set_are_counted() {
    let mut looped = Loop::new(Config::default());
    let mut seen = Recorder::default();
    let net = looped.net();
    let kept = net.set_timer(Timer::after(Duration::from_secs(9)), 0);
    net.set_timer(Timer::after(Duration::from_secs(1)), 1);
    assert_eq!(net.stats().timers, 2);
    looped.pass(Duration::from_secs(2), &mut seen);
    assert_eq!(looped.net().stats().timers, 1);
    looped.net().cancel_timer(kept);
    assert_eq!(looped.net().stats().timers, 0);
}

#[test]
fn commands_left_to_the_next_turn_are_pending() {
    let config = Config::default().commands_per_turn(3);
    let mut event_loop: EventLoop<Recorder> = EventLoop::new(config).expect("a loop");
    let handle = event_loop.handle();
    for _ in 0..5 {
        handle.try_post(|_, _| {}).expect("there is room");
    }
    let mut seen = Recorder::default();
    for (run, pending) in [(3, 2), (5, 0)] {
        event_loop.turn(&mut seen, None).expect("a turn");
        let stats = event_loop.net().stats();
        assert_eq!((stats.commands, stats.pending_commands), (run, pending));
    }
}

#[test]
fn turn_times_are_those_of_noted_turns() {
    let mut looped = Loop::new(Config::default());
    let mut seen = Recorder::default();
    looped.pass(Duration::ZERO, &mut seen);
    assert_eq!(looped.net().stats().turn_times.count(), 0);
    for micros in [3, 5] {
        looped.pass(Duration::ZERO, &mut seen);
        looped.now += Duration::from_micros(micros);
        looped.reactor.note_turn_end(looped.now);
    }
    let times = looped.net().stats().turn_times;
    let counted: Vec<_> = times.buckets().filter(|(_, turns)| *turns > 0).collect();
    let nanos = Duration::from_nanos;
    assert_eq!(counted, [(nanos(4096), 1), (nanos(8192), 1)]);
    let mut event_loop: EventLoop = EventLoop::new(Config::default()).expect("a loop");
    turn_until(&mut event_loop, &mut seen, |_, net| {
        let stats = net.stats();
        assert_eq!(stats.turn_times.count(), stats.turns);
        stats.turns > 3 || {
            net.stop();
            false
        }
    });
}

// ----- The example -----

/// The response to a request, without waiting for more of it.
fn ask(addr: SocketAddr, request: &[u8]) -> String {
    let mut stream = Peer::connect(addr).0;
    stream.write_all(request).expect("to write");
    read_all(&mut stream)
}

fn read_all(stream: &mut impl Read) -> String {
    let mut response = String::new();
    stream.read_to_string(&mut response).expect("a response");
    response
}

fn metrics_example() -> (Example, SocketAddr, SocketAddr) {
    let mut example = Example::start("metrics", &["127.0.0.1:0", "127.0.0.1:0"]);
    let (echo, metrics) = (example.listening_on(), example.listening_on());
    (example, echo, metrics)
}

#[test]
fn metrics_example_renders_the_statistics_of_its_loop() {
    let (_example, echo, metrics) = metrics_example();
    let mut peer = Peer::connect(echo);
    peer.send(b"hello");
    assert_eq!(peer.receive(), b"hello");
    let response = ask(metrics, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let (head, body) = response.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("Content-Type: text/plain; version=0.0.4;"));
    let length = format!("Content-Length: {}\r\n", body.len());
    assert!(head.contains(&length), "{head}");
    // The second is the connection that asks.
    for line in [
        "throng_accepted_total 2",
        "throng_connections{stage=\"open\"} 2",
        "# TYPE throng_accepted_total counter",
    ] {
        assert!(
            body.lines().any(|it| it == line),
            "{line} is not in\n{body}"
        );
    }
    let request = "GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text\r\n\r\n";
    let response = ask(metrics, request.as_bytes());
    assert!(response.contains("Content-Type: application/openmetrics-text; version=1.0.0;"));
    assert!(response.ends_with("\n# EOF\n"), "{response}");
}

#[test]
fn metrics_example_refuses_other_requests() {
    let (_example, _, metrics) = metrics_example();
    let too_long = [
        b"GET /metrics HTTP/1.1\r\nCookie: ".as_slice(),
        &[b'x'; 9000],
    ]
    .concat();
    for (request, status) in [
        (b"GET / HTTP/1.1\r\n\r\n".as_slice(), "404 "),
        (b"POST /metrics HTTP/1.1\r\n\r\n", "405 "),
        (b"\x16\x03\x01\x00\xFF\r\n\r\n", "405 "),
        (&too_long, "431 "),
    ] {
        let response = ask(metrics, request);
        let line = response.lines().next().expect("a status line");
        assert!(line.starts_with(&format!("HTTP/1.1 {status}")), "{line}");
    }
}

#[test]
fn metrics_example_gives_a_request_five_seconds() {
    let (_example, _, metrics) = metrics_example();
    let mut stream = Peer::connect(metrics).0;
    stream.write_all(b"GET /metrics HT").expect("to write");
    assert!(read_all(&mut stream).starts_with("HTTP/1.1 408 "));
}

/// Returns whether a program is installed, and prints a line if it is not.
fn is_installed(program: &str, what: &str) -> bool {
    let mut command = Command::new(program);
    let probed = command.arg("--version").stdout(Stdio::null());
    let is_installed = probed.stderr(Stdio::null()).status().is_ok();
    if !is_installed {
        // Not captured, as what `println` prints would be.
        let line = format!("skipped: {what} ({program} is missing)\n");
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
    is_installed
}

/// Runs a program with this input, which it has to accept.
fn expect_accepted(command: &mut Command, input: &str) {
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = piped.stderr(Stdio::piped()).spawn().expect("it runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(input.as_bytes()).expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("its output");
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
}

/// Statistics with values of all kinds.
fn some_stats() -> Stats {
    let mut scene = Scene::with(Config::default());
    scene.looped.reactor.note_turn_end(scene.looped.now);
    let id = scene.id;
    scene.net().abort(id);
    scene.until(|_, net| net.connection_count() == 0);
    scene.net().stats()
}

#[test]
fn prometheus_text_passes_promtool() {
    if is_installed("promtool", "the check of the Prometheus text") {
        let mut text = String::new();
        some_stats().write_prometheus(&mut text).expect("a string");
        expect_accepted(Command::new("promtool").args(["check", "metrics"]), &text);
    }
}

/// Debian's package installs the module for Debian's Python.
const DEBIAN_PYTHON: &str = "/usr/bin/python3";

#[test]
fn openmetrics_text_passes_the_strict_parser() {
    let python = |script| {
        let mut command = Command::new(DEBIAN_PYTHON);
        command.args(["-c", script]);
        command
    };
    let import = "from prometheus_client.openmetrics.parser import text_string_to_metric_families";
    let probed = python(import).stderr(Stdio::null()).status();
    if !probed.is_ok_and(|status| status.success()) {
        let line =
            "skipped: the check of the OpenMetrics text (python3-prometheus-client is missing)\n";
        let _ = std::io::stderr().write_all(line.as_bytes());
        return;
    }
    let mut text = String::new();
    some_stats().write_openmetrics(&mut text).expect("a string");
    let script = format!(
        "{import}\nimport sys\nassert list(text_string_to_metric_families(sys.stdin.read()))"
    );
    expect_accepted(&mut python(&script), &text);
}

#[test]
fn prometheus_scrapes_the_metrics_example() {
    if !is_installed("prometheus", "the scrape by Prometheus")
        || !is_installed("promtool", "the scrape by Prometheus")
    {
        return;
    }
    let (_example, _, metrics) = metrics_example();
    let directory = std::env::temp_dir().join(format!("throng-prometheus-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    let config = directory.join("config.yml");
    let text = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs: [{{job_name: throng, static_configs: [{{targets: [\"{metrics}\"]}}]}}]\n"
    );
    std::fs::write(&config, text).expect("a file");
    let data = directory.join("data");
    let mut prometheus = Command::new("prometheus")
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", data.display()))
        .arg("--web.listen-address=127.0.0.1:0")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it is installed");
    // What it has stored can be read while it runs, so its own address need not be known.
    let scraped = std::panic::catch_unwind(|| {
        wait_until(|| {
            let mut dump = Command::new("promtool");
            let dump = dump.args(["tsdb", "dump"]).arg(&data).stderr(Stdio::null());
            let stored = dump.output().expect("it is installed").stdout;
            let stored = String::from_utf8_lossy(&stored);
            let has = |parts: &[&str]| {
                let mut lines = stored.lines();
                lines.any(|line| parts.iter().all(|part| line.contains(part)))
            };
            has(&["\"up\"", "\"throng\"", "} 1 "])
                && has(&["\"throng_connections\"", "stage=\"open\"", "} 1 "])
                && has(&["\"throng_turn_times_seconds_bucket\"", "le=\"+Inf\""])
        });
    });
    let _ = prometheus.kill();
    let _ = prometheus.wait();
    let _ = std::fs::remove_dir_all(&directory);
    scraped.expect("it is scraped");
}
