//! A server that runs out of file descriptors: it neither spins nor stops accepting, and no peer is forgotten.
//!
//! The server is this test binary again, in a process of its own with a low limit; its clients are in the test.
#![cfg(unix)]

mod support;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use support::{PATIENCE, Peer, addr_of};
use throng::{Config, ConnectionId, EventLoop, Frame, Handler, Net, Stats};

/// Open files of the server.
const FILES: usize = 40;
const CLIENTS: usize = 120;
/// Files that it opens besides, to let go of when it is told to.
const SPARE: usize = 10;
/// Set in the process that is the server: how long accepting pauses, in milliseconds.
const RETRY: &str = "THRONG_TEST_RETRY";

/// A server with few descriptors.
struct Server {
    child: Child,
    addr: SocketAddr,
}

impl Server {
    fn start(test: &str, retry: Duration) -> Self {
        let mut child = Command::new("sh")
            .args([
                "-c",
                "ulimit -n $1; shift; exec \"$@\"",
                "sh",
                &FILES.to_string(),
            ])
            .arg(std::env::current_exe().expect("a test binary"))
            .args(["--exact", test, "--nocapture"])
            .env(RETRY, retry.as_millis().to_string())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let addr = lines.map_while(Result::ok).find_map(|line| {
            let (_, addr) = line.split_once("listening on ")?;
            addr.parse().ok()
        });
        Self {
            child,
            addr: addr.expect("it says where it listens"),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// In the process that is to be the server, serves until it is killed.
fn serve_if_told() {
    let Some(retry) = std::env::var(RETRY)
        .ok()
        .and_then(|retry| retry.parse().ok())
    else {
        return;
    };
    let spare = std::iter::from_fn(|| File::open("/dev/null").ok());
    let mut service = Service(spare.take(SPARE).collect());
    let config = Config::default().accept_retry(Duration::from_millis(retry));
    let mut event_loop = EventLoop::new(config).expect("a loop");
    let net = event_loop.net();
    let listener = net.listen("127.0.0.1:0").expect("a port");
    println!("listening on {}", addr_of(net, listener));
    event_loop.run(&mut service).expect("it runs");
}

/// Echoes, and answers two questions of its own.
struct Service(Vec<File>);

impl Handler for Service {
    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        let stats = net.stats();
        let sent = match &frame[..] {
            b"how is it?" => net.send_with(id, |out| write_stats(out, &stats)),
            b"let go" => {
                self.0.clear();
                Ok(())
            }
            other => net.send(id, other),
        };
        sent.expect("it is open");
    }
}

fn write_stats(out: &mut impl std::io::Write, stats: &Stats) -> std::io::Result<()> {
    write!(
        out,
        "{} {} {}",
        stats.turns, stats.accepted, stats.accept_pauses
    )
}

#[derive(Debug, Clone, Copy)]
struct Told {
    turns: u64,
    accepted: u64,
    pauses: u64,
}

fn ask(peer: &mut Peer) -> Told {
    peer.send(b"how is it?");
    let told = String::from_utf8(peer.receive()).expect("text");
    let numbers: Vec<u64> = told
        .split(' ')
        .filter_map(|number| number.parse().ok())
        .collect();
    let [turns, accepted, pauses] = numbers[..] else {
        panic!("three numbers: {told}");
    };
    Told {
        turns,
        accepted,
        pauses,
    }
}

/// Asks until the answer is right.
fn ask_until(peer: &mut Peer, right: impl Fn(Told) -> bool) -> Told {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let told = ask(peer);
        if right(told) {
            return told;
        }
        assert!(
            Instant::now() < deadline,
            "it does not come about: {told:?}"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// More clients than the server has descriptors. Each has sent its number.
fn crowd(server: &Server) -> Vec<Peer> {
    let peers = (0..CLIENTS).map(|number| {
        let mut peer = Peer::connect(server.addr);
        peer.send(&number.to_le_bytes());
        peer
    });
    peers.collect()
}

/// Each gets its number back, and leaves. They were accepted in the order in which they came.
fn serve_in_turn(peers: Vec<Peer>) {
    for (number, mut peer) in peers.into_iter().enumerate() {
        assert_eq!(peer.receive(), number.to_le_bytes());
    }
}

#[test]
fn all_clients_are_served_as_others_leave() {
    serve_if_told();
    // Only an end can resume accepting.
    let server = Server::start(
        "all_clients_are_served_as_others_leave",
        Duration::from_secs(3600),
    );
    let mut peers = crowd(&server);
    assert_eq!(peers[0].receive(), 0_usize.to_le_bytes());
    let told = ask_until(&mut peers[0], |told| told.pauses > 0);
    assert!(told.accepted < FILES as u64, "{told:?}");
    peers[0].send(&0_usize.to_le_bytes());
    serve_in_turn(peers);
}

#[test]
fn server_without_descriptors_does_not_spin() {
    serve_if_told();
    let server = Server::start(
        "server_without_descriptors_does_not_spin",
        Duration::from_secs(3600),
    );
    let mut peers = crowd(&server);
    assert_eq!(peers[0].receive(), 0_usize.to_le_bytes());
    let before = ask_until(&mut peers[0], |told| told.pauses > 0);
    for _ in 0..20 {
        ask(&mut peers[0]);
    }
    let after = ask(&mut peers[0]);
    assert_eq!(
        (after.accepted, after.pauses),
        (before.accepted, before.pauses)
    );
    // Each question wakes it once; connections that were accepted before may have been served meanwhile.
    assert!(
        after.turns - before.turns <= 2 * 21,
        "{before:?}, then {after:?}"
    );
}

#[test]
fn accepting_resumes_when_a_descriptor_is_freed_elsewhere() {
    serve_if_told();
    let test = "accepting_resumes_when_a_descriptor_is_freed_elsewhere";
    let server = Server::start(test, Duration::from_millis(10));
    let mut peers = crowd(&server);
    assert_eq!(peers[0].receive(), 0_usize.to_le_bytes());
    let before = ask_until(&mut peers[0], |told| told.pauses > 0);
    peers[0].send(b"let go");
    let after = ask_until(&mut peers[0], |told| told.accepted > before.accepted);
    assert_eq!(after.accepted, before.accepted + SPARE as u64);
    peers[0].send(&0_usize.to_le_bytes());
    serve_in_turn(peers);
}
