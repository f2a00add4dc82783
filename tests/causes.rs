//! Every cause of an end is produced by what really causes it, over real sockets, and tells what has to be told: who, at
//! which stage, with which numbers, what was not sent and not shown, and once.
//!
//! The loop is on a clock of the test's own: no test waits for a deadline.

mod support;

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::time::Duration;

use support::by_hand::Loop;
use support::scene::Scene;
use support::{Event, Recorder, framed};
use throng::{
    Config, ConnectOptions, DecodeError, DisconnectCause as Cause, DisconnectReason, Excess,
    Framing, ListenOptions, Overflow, RateLimit, SendError, Side, Stage,
};

const SECOND: Duration = Duration::from_secs(1);
const MIB: usize = 1 << 20;
/// The name of a cause.
fn name(reason: &DisconnectReason) -> String {
    let name = format!("{:?}", reason.cause);
    let end = name.find(|c: char| !c.is_alphanumeric());
    name[..end.unwrap_or(name.len())].to_owned()
}

/// The side, the stage and the text.
#[track_caller]
fn assert_told(reason: &DisconnectReason, side: Side, stage: Stage, words: &str) {
    assert_eq!((reason.side(), reason.stage), (side, stage), "{reason}");
    assert_eq!(reason.to_string(), words);
}

/// Unsent frames, their unsent bytes, unshown bytes.
fn counts(reason: &DisconnectReason) -> (u64, u64, u64) {
    let (frames, bytes) = (reason.unsent_frames, reason.unsent_bytes);
    (frames, bytes, reason.unshown_bytes)
}

/// Whether the reason was caused by an error of this type.
fn has_source<E: std::error::Error + 'static>(reason: &DisconnectReason) -> bool {
    std::error::Error::source(reason).is_some_and(|source| source.is::<E>())
}

/// A cause that is not the one that was provoked.
macro_rules! another {
    ($reason:expr) => {
        panic!("it ended otherwise: {}", $reason)
    };
}

// ----- The peer -----

fn peer_closes() -> String {
    let mut scene = Scene::with(Config::default());
    scene.arrive(&framed(b"goodbye"));
    assert_eq!(scene.seen.frames(), [b"goodbye"]);
    scene.peer.half_close();
    let reason = scene.end();
    let words = "the peer closed the connection";
    assert_told(&reason, Side::Peer, Stage::Open, words);
    assert_eq!(counts(&reason), (0, 0, 0));
    name(&reason)
}

fn peer_closes_inside_a_frame() -> String {
    let mut scene = Scene::with(Config::default());
    scene.arrive(&framed(b"unfinished")[..7]);
    scene.peer.half_close();
    let reason = scene.end();
    let Cause::PeerClosedInsideFrame { received: 3 } = reason.cause else {
        another!(reason)
    };
    let words = "the peer closed the connection inside a frame, 3 bytes into it";
    assert_told(&reason, Side::Peer, Stage::Open, words);
    assert_eq!(counts(&reason), (0, 0, 3));
    name(&reason)
}

fn peer_speaks_http() -> String {
    let mut scene = Scene::with(Config::default().max_frame_len(1000));
    scene.peer.write(b"GET / HTTP/1.1\r\n");
    let reason = scene.end();
    let Cause::Decode(DecodeError::FrameTooLarge {
        declared: 542_393_671,
        max: 1000,
        first_bytes,
    }) = reason.cause
    else {
        another!(reason)
    };
    assert_eq!(first_bytes.as_bytes(), b"GET / HT");
    assert!(has_source::<DecodeError>(&reason));
    let words = "cannot decode the input: a frame of 542393671 bytes exceeds the limit of 1000; it begins with \"GET / HT\"";
    assert_told(&reason, Side::Peer, Stage::Open, words);
    name(&reason)
}

fn length_is_malformed() -> String {
    let mut scene = Scene::with(Config::default().framing(Framing::varint()));
    scene.peer.write(&[0xFF; 64]);
    let reason = scene.end();
    let Cause::Decode(DecodeError::Malformed {
        expected,
        first_bytes,
    }) = reason.cause
    else {
        another!(reason)
    };
    assert_eq!(expected, "a varint length of at most 2^64-1");
    assert_eq!(first_bytes.as_bytes(), [0xFF; 8]);
    let words = format!(
        "cannot decode the input: expected {expected}, got \"{}\"",
        r"\xff".repeat(8)
    );
    assert_told(&reason, Side::Peer, Stage::Open, &words);
    name(&reason)
}

// ----- The network -----

fn peer_resets() -> String {
    let mut scene = Scene::with(Config::default());
    scene.arrive(&framed(b"unfinished")[..9]);
    scene.block();
    let queued = scene.queued();
    let (scene, peer) = scene.apart();
    peer.reset();
    let reason = scene.end();
    let Cause::Reset(error) = &reason.cause else {
        another!(reason)
    };
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert!(has_source::<io::Error>(&reason));
    let words =
        format!("the connection was reset: {error}; 1 frames ({queued} bytes) were not sent");
    assert_told(&reason, Side::Network, Stage::Open, &words);
    assert_eq!(counts(&reason), (1, queued, 5));
    name(&reason)
}

/// The kernel gives up on bytes that the peer does not acknowledge.
#[cfg(target_os = "linux")]
fn kernel_times_out() -> String {
    let mut scene = Scene::with(Config::default().user_timeout(Duration::from_millis(50)));
    scene.block();
    let queued = scene.queued();
    let reason = scene.end();
    let Cause::Network(error) = &reason.cause else {
        another!(reason)
    };
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    let words = format!("the network failed: {error}; 1 frames ({queued} bytes) were not sent");
    assert_told(&reason, Side::Network, Stage::Open, &words);
    assert_eq!(counts(&reason), (1, queued, 0));
    name(&reason)
}

/// How an attempt to connect ends, after so long.
fn attempt(addr: SocketAddr, timeout: Duration) -> DisconnectReason {
    let mut looped = Loop::new(Config::default());
    let mut seen = Recorder::default();
    let options = ConnectOptions::default().timeout(timeout);
    let id = looped
        .net()
        .connect_with(addr, options)
        .expect("an attempt");
    looped.turn(Duration::from_millis(20), &mut seen);
    looped.pass(timeout - Duration::from_millis(10), &mut seen);
    looped.pass(Duration::from_millis(10), &mut seen);
    looped.settle(&mut seen, |seen, _| !seen.ends().is_empty());
    looped.pass(3600 * SECOND, &mut seen);
    assert_eq!(seen.events.len(), 1, "{seen:?}");
    match seen.events.pop() {
        Some(Event::Disconnect(ended, reason)) if ended == id => reason,
        other => panic!("an attempt that fails has an end alone, and not {other:?}"),
    }
}

fn connect_is_refused() -> String {
    let (_refusing, addr) = support::refusing();
    let reason = attempt(addr, SECOND);
    let Cause::ConnectFailed(error) = &reason.cause else {
        another!(reason)
    };
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    let words = format!("could not connect: {error}, while connecting");
    assert_told(&reason, Side::Network, Stage::Connecting, &words);
    name(&reason)
}

fn connect_times_out() -> String {
    let stream = || socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let full = stream().expect("a socket");
    full.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .expect("a port");
    full.listen(0).expect("a listener");
    let addr = full.local_addr().expect("its address");
    // An attempt after these finds the queue full.
    let crowd: Vec<_> = (0..8)
        .map(|_| {
            let socket = stream().expect("a socket");
            socket.set_nonblocking(true).expect("a live socket");
            let _ = socket.connect(&addr);
            socket
        })
        .collect();
    let reason = attempt(addr.as_socket().expect("IPv4"), 7 * SECOND);
    let Cause::ConnectTimedOut { after } = reason.cause else {
        another!(reason)
    };
    assert_eq!(after, 7 * SECOND);
    let words = "could not connect within 7s, while connecting";
    assert_told(&reason, Side::Network, Stage::Connecting, words);
    drop(crowd);
    name(&reason)
}

// ----- Us, when we are told to -----

fn connection_is_disconnected() -> String {
    let mut scene = Scene::with(Config::default());
    scene
        .looped
        .net()
        .send(scene.id, b"out")
        .expect("it is open");
    assert!(scene.looped.net().disconnect(scene.id));
    scene.pass(Duration::ZERO);
    assert_eq!(scene.peer.receive(), b"out");
    scene.peer.expect_end();
    assert!(scene.seen.ends().is_empty(), "the peer has not closed");
    scene.peer.half_close();
    let reason = scene.end();
    assert_told(&reason, Side::Us, Stage::Open, "disconnected by this side");
    assert_eq!(counts(&reason), (0, 0, 0));
    name(&reason)
}

fn disconnect_times_out() -> String {
    let mut scene = Scene::with(Config::default().disconnect_timeout(7 * SECOND));
    scene.block();
    scene
        .looped
        .net()
        .send(scene.id, b"out")
        .expect("it is open");
    scene.looped.net().disconnect(scene.id);
    scene.pass(Duration::ZERO);
    scene.pass(6 * SECOND);
    assert!(scene.seen.ends().is_empty(), "it has 7 s");
    let queued = scene.queued();
    scene.pass(SECOND);
    let reason = scene.end();
    let Cause::DrainTimedOut { after } = reason.cause else {
        another!(reason)
    };
    assert_eq!(after, 7 * SECOND);
    let words = format!(
        "within 7s the peer did not read what was queued, or did not close its side, while closing; 2 frames ({queued} bytes) were not sent"
    );
    assert_told(&reason, Side::Us, Stage::Closing, &words);
    assert_eq!(counts(&reason), (2, queued, 0));
    name(&reason)
}

fn loop_shuts_down() -> String {
    let mut scene = Scene::with(Config::default());
    scene.arrive(&framed(b"unfinished")[..8]);
    scene.looped.net().shutdown(SECOND);
    scene.pass(Duration::ZERO);
    scene.peer.expect_end();
    scene.peer.half_close();
    let reason = scene.end();
    assert_told(&reason, Side::Us, Stage::Open, "this side is shutting down");
    assert_eq!(counts(&reason), (0, 0, 4));
    name(&reason)
}

fn connection_is_aborted() -> String {
    let mut scene = Scene::with(Config::default());
    scene.arrive(&framed(b"unfinished")[..2]);
    scene
        .looped
        .net()
        .send(scene.id, b"one")
        .expect("it is open");
    scene
        .looped
        .net()
        .send(scene.id, b"two")
        .expect("it is open");
    assert!(scene.looped.net().abort(scene.id));
    let reason = scene.end();
    let words = "aborted by this side; 2 frames (14 bytes) were not sent";
    assert_told(&reason, Side::Us, Stage::Open, words);
    assert_eq!(counts(&reason), (2, 14, 2));
    name(&reason)
}

fn connection_is_released() -> String {
    let mut scene = Scene::with(Config::default());
    scene.arrive(&framed(b"unfinished")[..2]);
    scene
        .looped
        .net()
        .send(scene.id, b"one")
        .expect("it is open");
    scene.looped.net().release(scene.id).expect("it is open");
    let reason = scene.end();
    assert_told(&reason, Side::Us, Stage::Open, "released by this side");
    assert_eq!(counts(&reason), (0, 0, 0));
    name(&reason)
}

// ----- Us, because of frames -----

fn chunk_is_not_handled() -> String {
    let lines = Config::default().framing(Framing::delimiter(b'\n'));
    let cases = [
        (Config::default(), framed(&[7; 5000]), Some(5000)),
        (lines, vec![b'x'; 5000], None),
    ];
    let ends = cases.map(|(config, wire, expected)| {
        let mut scene = Scene::with(config.stream_frames_over(1000));
        scene.peer.write(&wire);
        let reason = scene.end();
        let Cause::ChunkNotHandled { total } = reason.cause else {
            another!(reason)
        };
        assert_eq!(total, expected);
        let frame = total.map_or("a frame".to_owned(), |n| format!("a frame of {n} bytes"));
        let words = format!("{frame} came in chunks, and the handler has no on_chunk");
        assert_told(&reason, Side::Us, Stage::Open, &words);
        name(&reason)
    });
    ends[0].clone()
}

/// How a connection ends that is sent a frame of 100 bytes out of a reader, and a small one behind it.
fn read_from(reader: impl Read + Send + 'static) -> DisconnectReason {
    let mut scene = Scene::with(Config::default());
    let sent = scene.looped.net().send_reader(scene.id, 100, reader);
    assert!(sent.is_ok());
    scene
        .looped
        .net()
        .send(scene.id, b"next")
        .expect("it is open");
    scene.pass(Duration::ZERO);
    let written = scene.looped.net().stats().bytes_sent;
    let reason = scene.end();
    assert_eq!(counts(&reason), (2, 104 + 8 - written, 0));
    assert_eq!((reason.side(), reason.stage), (Side::Us, Stage::Open));
    reason
}

/// What all of them say after their own words.
fn not_sent(reason: &DisconnectReason) -> String {
    format!("; 2 frames ({} bytes) were not sent", reason.unsent_bytes)
}

fn reader_ends_early() -> String {
    let reason = read_from(&[7; 94][..]);
    let Cause::ReaderEnded { missing: 6 } = reason.cause else {
        another!(reason)
    };
    let words = "a reader ended 6 bytes before the end of its frame";
    assert_eq!(reason.to_string(), words.to_owned() + &not_sent(&reason));
    name(&reason)
}

fn reader_is_too_long() -> String {
    let reason = read_from(&[7; 101][..]);
    let words = "a reader has more data than the length of its frame";
    assert_eq!(reason.to_string(), words.to_owned() + &not_sent(&reason));
    name(&reason)
}

fn reader_fails() -> String {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the disk is gone"))
        }
    }
    let reason = read_from((&[7; 50][..]).chain(Broken));
    let words = "a reader failed: the disk is gone";
    assert_eq!(reason.to_string(), words.to_owned() + &not_sent(&reason));
    name(&reason)
}

// ----- Us, because the peer is silent, slow or greedy -----

fn connection_is_idle() -> String {
    let mut scene = Scene::with(Config::default().idle_timeout(7 * SECOND));
    scene.pass(7 * SECOND);
    let reason = scene.end();
    let Cause::Idle { after } = reason.cause else {
        another!(reason)
    };
    assert_eq!(after, 7 * SECOND);
    let words = "nothing was sent or received for 7s";
    assert_told(&reason, Side::Us, Stage::Open, words);
    name(&reason)
}

fn frame_stalls() -> String {
    let config = Config::default().frame_stall_timeout(7 * SECOND);
    let mut scene = Scene::with(config.frame_stall_bytes(100));
    let wire = framed(&[7; 1000]);
    scene.arrive(&wire[..10]);
    scene.arrive(&wire[10..31]);
    scene.pass(7 * SECOND);
    let reason = scene.end();
    let Cause::FrameStalled {
        received: 21,
        min: 100,
        within,
    } = reason.cause
    else {
        another!(reason)
    };
    assert_eq!(within, 7 * SECOND);
    let words = "the peer began a frame and sent 21 bytes of it in 7s, and the minimum is 100";
    assert_told(&reason, Side::Us, Stage::Open, words);
    assert_eq!(counts(&reason), (0, 0, 27));
    name(&reason)
}

fn write_stalls() -> String {
    let mut scene = Scene::with(Config::default().write_stall_timeout(7 * SECOND));
    scene.block();
    let queued = scene.queued();
    scene.pass(7 * SECOND);
    let reason = scene.end();
    let Cause::WriteStalled {
        after,
        queued: told,
    } = reason.cause
    else {
        another!(reason)
    };
    assert_eq!((after, told), (7 * SECOND, queued));
    let words = format!(
        "the peer accepted none of the {queued} queued bytes for 7s; 1 frames ({queued} bytes) were not sent"
    );
    assert_told(&reason, Side::Us, Stage::Open, &words);
    assert_eq!(counts(&reason), (1, queued, 0));
    name(&reason)
}

fn queue_overflows() -> String {
    let config = Config::default().max_queued_bytes(MIB as u64);
    let mut scene = Scene::with(config.overflow(Overflow::Disconnect));
    scene.block();
    let waiting = scene.queued();
    let refused = scene.looped.net().send(scene.id, b"one more");
    assert!(matches!(refused, Err(SendError::QueueFull { .. })));
    let reason = scene.end();
    let Cause::SlowConsumer { queued, max } = reason.cause else {
        another!(reason)
    };
    assert_eq!((queued, max), (waiting, MIB as u64));
    let words = format!(
        "the peer does not read: {queued} bytes are queued, and the limit is {max}; 1 frames ({queued} bytes) were not sent"
    );
    assert_told(&reason, Side::Us, Stage::Open, &words);
    name(&reason)
}

fn rate_is_exceeded() -> String {
    let options = ListenOptions::default().max_bytes_per_second(1000);
    let mut scene = Scene::listening(options.excess(Excess::Disconnect));
    scene.peer.write(&framed(&[7; 997]));
    let reason = scene.end();
    let Cause::RateExceeded { limit } = reason.cause else {
        another!(reason)
    };
    assert_eq!(limit, RateLimit::Bytes(1000));
    let words = "the peer sent more than 1000 bytes per second";
    assert_told(&reason, Side::Us, Stage::Open, words);
    name(&reason)
}

fn memory_budget_is_exceeded() -> String {
    let mut scene = Scene::with(Config::default().memory_budget(100_000));
    scene.peer.write(&framed(&[7; 1_000_000])[..150_004]);
    let reason = scene.end();
    let Cause::MemoryBudget {
        held,
        budget: 100_000,
    } = reason.cause
    else {
        another!(reason)
    };
    assert!(held > 100_000, "{held}");
    let words =
        format!("the connections exceed the memory budget of 100000 bytes; this one held {held}");
    assert_told(&reason, Side::Us, Stage::Open, &words);
    assert_eq!(counts(&reason), (0, 0, held));
    name(&reason)
}

/// The loop, in a process of its own with little memory, is sent a frame that it has no room for.
#[cfg(target_os = "linux")]
fn allocation_fails() -> String {
    const POOR: &str = "THRONG_TEST_POOR";
    if std::env::var_os(POOR).is_none() {
        let output = std::process::Command::new("sh")
            .args(["-c", "ulimit -v 262144; exec \"$@\"", "sh"])
            .arg(std::env::current_exe().expect("a test binary"))
            .args(["--exact", "each::allocation_fails", "--test-threads=1"])
            // Each thread would reserve 64 MiB.
            .env("MALLOC_ARENA_MAX", "1")
            .env(POOR, "1")
            .output()
            .expect("a shell");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && said.contains(" 1 passed"),
            "{said}"
        );
        return "Decode".to_owned();
    }
    let mut scene = Scene::with(Config::default());
    let (mut other, other_id) = scene.looped.join(&mut scene.seen);
    let mut stream = scene.peer.0.try_clone().expect("a live socket");
    let writing = std::thread::spawn(move || {
        let mut sent = io::Write::write_all(&mut stream, &(1_u32 << 30).to_le_bytes());
        while sent.is_ok() {
            sent = io::Write::write_all(&mut stream, &[7; 64 * 1024]);
        }
    });
    scene
        .looped
        .settle(&mut scene.seen, |seen, _| !seen.ends().is_empty());
    writing.join().expect("it is cut off");
    // The loop goes on.
    let mut later = Recorder::echoing();
    other.send(b"still there?");
    scene.looped.settle(&mut later, |later, net| {
        !later.frames().is_empty() && support::bytes_queued(net, other_id) == 0
    });
    assert_eq!(other.receive(), b"still there?");
    assert!(later.ends().is_empty(), "it comes once");
    let reason = scene.end();
    let Cause::Decode(DecodeError::OutOfMemory(throng::OutOfMemory { requested, .. })) =
        reason.cause
    else {
        another!(reason)
    };
    assert!(requested > 0);
    let words = format!("cannot decode the input: no memory for {requested} more bytes of a frame");
    assert_told(&reason, Side::Us, Stage::Open, &words);
    assert!(
        reason.unshown_bytes > MIB as u64,
        "{}",
        reason.unshown_bytes
    );
    name(&reason)
}

// ----- All of them -----

/// Makes of each scenario a test that it is this cause that comes of it, and keeps the names.
macro_rules! scenarios {
    ($($(#[$attribute:meta])* $scenario:ident: $cause:ident,)*) => {
        mod each {
            $($(#[$attribute])* #[test]
            fn $scenario() {
                assert_eq!(super::$scenario(), stringify!($cause));
            })*
        }

        const COVERED: &[&str] = &[$($(#[$attribute])* stringify!($cause)),*];
    };
}

scenarios! {
    peer_closes: PeerClosed,
    peer_closes_inside_a_frame: PeerClosedInsideFrame,
    peer_speaks_http: Decode,
    length_is_malformed: Decode,
    peer_resets: Reset,
    #[cfg(target_os = "linux")]
    kernel_times_out: Network,
    connect_is_refused: ConnectFailed,
    connect_times_out: ConnectTimedOut,
    connection_is_disconnected: ClosedLocally,
    disconnect_times_out: DrainTimedOut,
    loop_shuts_down: ShutDown,
    connection_is_aborted: Aborted,
    connection_is_released: Released,
    chunk_is_not_handled: ChunkNotHandled,
    reader_ends_early: ReaderEnded,
    reader_is_too_long: ReaderTooLong,
    reader_fails: ReaderFailed,
    connection_is_idle: Idle,
    frame_stalls: FrameStalled,
    write_stalls: WriteStalled,
    queue_overflows: SlowConsumer,
    rate_is_exceeded: RateExceeded,
    memory_budget_is_exceeded: MemoryBudget,
    #[cfg(target_os = "linux")]
    allocation_fails: Decode,
}

#[test]
fn every_cause_has_a_scenario() {
    let enums = enums_in(include_str!("../src/reason.rs"));
    let (_, variants) = (enums.iter())
        .find(|(name, _)| *name == "DisconnectCause")
        .expect("the causes");
    let declared: BTreeSet<&str> = variants.iter().map(|&(name, _)| name).collect();
    let mut covered = BTreeSet::from_iter(COVERED.iter().copied());
    if cfg!(not(target_os = "linux")) {
        covered.insert("Network");
    }
    // Those of `tests/tls.rs` and `tests/tls_streams.rs`.
    covered.extend(["HandshakeFailed", "HandshakeTimedOut", "Tls", "Truncated"]);
    assert_eq!(covered, declared);
}

/// The public enums in a file, with the name and the declaration of each variant.
fn enums_in(source: &str) -> Vec<(&str, Vec<(&str, &str)>)> {
    let bodies = source.split("\npub enum ").skip(1);
    bodies
        .map(|body| {
            let (name, rest) = body.split_once(" {").expect("an enum");
            let (variants, _) = rest.split_once("\n}").expect("its end");
            // Fields stand further in, comments begin with something else.
            let variants = variants
                .lines()
                .filter_map(|line| line.strip_prefix("    "))
                .filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()))
                .filter_map(|line| Some((line.split(|c: char| !c.is_alphanumeric()).next()?, line)))
                .collect();
            (name, variants)
        })
        .collect()
}

/// Why something failed or ended has one name, in one enum. Several enums may wrap the same type.
#[test]
fn no_variant_is_declared_by_two_errors() {
    let sources = [
        include_str!("../src/reason.rs"),
        include_str!("../src/error/framing.rs"),
        include_str!("../src/error/mailbox.rs"),
        include_str!("../src/error/open.rs"),
        include_str!("../src/error/register.rs"),
        include_str!("../src/error/send.rs"),
        include_str!("../src/shards/error.rs"),
    ];
    let errors: Vec<_> = (sources.into_iter().flat_map(enums_in))
        .filter(|(name, _)| !["RateLimit", "Side", "Stage"].contains(name))
        .collect();
    assert_eq!(errors.len(), 9, "a new enum has to be listed: {errors:?}");
    let mut seen = std::collections::BTreeMap::new();
    for (error, variants) in errors {
        for (variant, declaration) in variants {
            let wraps = declaration == format!("{variant}({variant}),");
            if let Some(other) = seen.insert(variant, error) {
                assert!(wraps, "{variant} is in {other} and in {error}");
            }
        }
    }
}
