//! A failed write ends the write half of a connection, and nothing else: what arrived before is delivered, up to the end
//! of the stream or an error, and then the connection ends with the first cause.

mod support;

use std::io::Write;
#[cfg(unix)]
use std::net::Shutdown;
use std::net::TcpListener;
#[cfg(unix)]
use std::os::unix::net::UnixStream;
use std::time::Duration;

#[cfg(unix)]
use support::Event;
use support::by_hand::Loop;
use support::drivers::{Driver, listening_by};
use support::scene::Scene;
use support::{Peer, Recorder, addr_of, bytes_queued, framed, pattern, turn_until};
#[cfg(unix)]
use throng::ConnectOptions;
use throng::{
    Chunk, Config, ConnectionId, DisconnectCause, DisconnectReason, Frame, Handler, ListenOptions,
    Net, SendError, Stage,
};

const SECOND: Duration = Duration::from_secs(1);

/// How many frames a peer sends before it closes: more than one turn delivers, no more than the sockets hold.
const FRAMES: usize = 2000;

fn is_reset(reason: &DisconnectReason) -> bool {
    matches!(reason.cause, DisconnectCause::Reset(_))
}

// ----- A peer that sends and closes, before anything is read: the first answer is a reset, all others fail -----

/// Answers each frame, or each piece of one, with a byte.
#[derive(Default)]
struct Answering {
    frames: usize,
    bytes: u64,
    refused: usize,
    end: Option<DisconnectReason>,
}

impl Answering {
    fn answer(&mut self, net: &mut Net, id: ConnectionId) {
        assert!(self.end.is_none(), "something comes after the end");
        match net.send(id, b"!") {
            Ok(()) => {}
            Err(SendError::WriteFailed) => self.refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
}

impl Handler for Answering {
    fn on_data(&mut self, net: &mut Net, id: ConnectionId, _: Frame<'_>) {
        self.frames += 1;
        self.answer(net, id);
    }

    fn on_chunk(&mut self, net: &mut Net, id: ConnectionId, chunk: Chunk<'_>) {
        self.bytes += chunk.len() as u64;
        self.answer(net, id);
    }

    fn on_disconnect(&mut self, _: &mut Net, _: ConnectionId, reason: DisconnectReason) {
        assert!(self.end.replace(reason).is_none(), "it ends twice");
    }
}

/// Sends everything and closes.
fn send_and_close(mut peer: impl Write, wire: &[u8]) {
    peer.write_all(wire).expect("the sockets hold it");
}

fn answer_all<D: Driver>(driver: &mut D) -> Answering {
    let mut answering = Answering::default();
    turn_until(driver, &mut answering, |answering, _| {
        answering.end.is_some()
    });
    answering
}

fn frames_before_a_close_are_delivered_over_tcp<D: Driver>() {
    for options in [
        ListenOptions::default(),
        ListenOptions::default().allow_half_open(true),
        // Congested after a few answers.
        ListenOptions::default().high_watermark(16).low_watermark(4),
    ] {
        let (mut driver, addr) = listening_by::<D>(options);
        send_and_close(Peer::connect(addr).0, &framed(&[7; 20]).repeat(FRAMES));
        let answering = answer_all(&mut driver);
        assert_eq!(answering.frames, FRAMES);
    }
}

#[cfg(unix)]
fn frames_before_a_close_are_delivered_over_a_unix_socket<D: Driver>() {
    let mut driver = D::new(Config::default());
    let (ours, peer) = UnixStream::pair().expect("two sockets");
    driver
        .net()
        .adopt(ours, throng::ConnectOptions::default())
        .expect("it is connected");
    send_and_close(peer, &framed(&[7; 20]).repeat(FRAMES));
    let answering = answer_all(&mut driver);
    assert_eq!(answering.frames, FRAMES);
    let reason = answering.end.expect("it has ended");
    assert!(is_reset(&reason), "{reason}");
    assert!(
        answering.refused > 0,
        "the kernel took {FRAMES} answers to a closed peer"
    );
    assert!(reason.unsent_frames > 0, "those of the write that failed");
    assert_eq!(reason.unshown_bytes, 0);
}

fn streamed_frame_before_a_close_is_delivered<D: Driver>() {
    const LEN: usize = 40_000;
    let config = Config::default()
        .stream_frames_over(1000)
        .read_buffer(1024)
        .read_budget(1024);
    let mut driver = D::new(config);
    let listener = driver.net().listen("127.0.0.1:0").expect("a listener");
    let addr = addr_of(driver.net(), listener);
    send_and_close(Peer::connect(addr).0, &framed(&pattern(LEN)));
    let answering = answer_all(&mut driver);
    assert_eq!(answering.bytes, LEN as u64);
}

with_each_driver! {
    frames_before_a_close_are_delivered_over_tcp
    streamed_frame_before_a_close_is_delivered
}

#[cfg(unix)]
with_each_driver! {
    frames_before_a_close_are_delivered_over_a_unix_socket
}

// ----- A server that says goodbye and closes, with a client that goes on sending -----

/// A client whose server has said "bye" and closed with unread data, so that the client's next write fails: nothing
/// of it was seen yet.
fn client_of_a_server_that_left(config: Config) -> (Loop, ConnectionId) {
    let server = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut looped = Loop::new(config);
    let mut seen = Recorder::default();
    let addr = server.local_addr().expect("its address");
    let id = looped.net().connect(addr).expect("an attempt");
    let mut accepted = Peer(server.accept().expect("the attempt").0);
    looped.settle(&mut seen, |_, net| net.is_connected(id));
    looped.net().send(id, b"unread").expect("it is connected");
    looped.settle(&mut seen, |_, net| bytes_queued(net, id) == 0);
    // It is there, so that the close is a reset.
    let mut unread = [0; 10];
    while accepted.0.peek(&mut unread).expect("a live socket") < unread.len() {}
    accepted.send(b"bye");
    drop(accepted);
    // No event is looked at: the write comes first.
    looped
        .net()
        .send(id, b"hello?")
        .expect("as far as is known");
    looped.reactor.finish_turn(&mut seen);
    assert!(seen.frames().is_empty() && seen.ends().is_empty());
    (looped, id)
}

#[test]
fn last_message_of_a_server_that_reset_the_connection_is_delivered() {
    let (mut looped, id) = client_of_a_server_that_left(Config::default());
    let mut seen = Recorder::default();
    assert!(
        looped.net().is_connected(id),
        "there is something to deliver"
    );
    assert!(matches!(
        looped.net().send(id, b"more"),
        Err(SendError::WriteFailed)
    ));
    looped.settle(&mut seen, |seen, _| !seen.ends().is_empty());
    assert_eq!(seen.frames(), [b"bye"]);
    let (ended, reason) = seen.ends()[0];
    assert_eq!((ended, reason.stage), (id, Stage::Open));
    assert!(is_reset(reason), "{reason}");
    // Its header too.
    assert_eq!((reason.unsent_frames, reason.unsent_bytes), (1, 10));
}

#[test]
fn disconnect_after_a_failed_write_reports_the_failed_write() {
    let (mut looped, id) = client_of_a_server_that_left(Config::default());
    let mut seen = Recorder::default();
    assert!(looped.net().disconnect(id));
    assert!(!looped.net().is_connected(id));
    looped.settle(&mut seen, |seen, _| !seen.ends().is_empty());
    assert!(seen.frames().is_empty(), "nothing follows a disconnect");
    assert!(is_reset(seen.ends()[0].1));
}

#[test]
fn connection_with_a_failed_write_cannot_be_released() {
    let (mut looped, id) = client_of_a_server_that_left(Config::default());
    let mut seen = Recorder::default();
    let refused = looped.net().release(id);
    assert!(matches!(refused, Err(SendError::WriteFailed)));
    looped.net().shutdown(SECOND);
    looped.settle(&mut seen, |_, net| net.is_stopping());
    assert!(is_reset(seen.ends()[0].1));
}

// ----- A peer that shuts its read half down and goes on writing: Unix domain sockets tell of it by EPIPE -----

/// A loop with one connection, over a Unix domain socket.
#[cfg(unix)]
fn paired(config: Config) -> (Loop, Recorder, UnixStream, ConnectionId) {
    let (mut looped, mut seen) = (Loop::new(config), Recorder::default());
    let (ours, peer) = UnixStream::pair().expect("two sockets");
    let options = ConnectOptions::default();
    let id = looped.net().adopt(ours, options).expect("it is connected");
    looped.settle(&mut seen, |_, net| net.is_connected(id));
    (looped, seen, peer, id)
}

/// Sends what the peer will not receive. Whether the write fails is seen later.
#[cfg(unix)]
fn send_in_vain(looped: &mut Loop, id: ConnectionId) {
    let sent = looped.net().send(id, b"unreadable");
    sent.expect("it is connected");
}

/// One whose peer reads nothing any more, of which a write has found out.
#[cfg(unix)]
fn peer_with_its_read_half_shut(config: Config) -> (Loop, Recorder, UnixStream, ConnectionId) {
    let (mut looped, mut seen, peer, id) = paired(config);
    peer.shutdown(Shutdown::Read).expect("a live socket");
    send_in_vain(&mut looped, id);
    looped.rest(&mut seen);
    assert!(matches!(
        looped.net().send(id, b"more"),
        Err(SendError::WriteFailed)
    ));
    (looped, seen, peer, id)
}

#[cfg(unix)]
#[test]
fn peer_that_only_writes_is_read_to_eof() {
    let (mut looped, mut seen, mut peer, _) = peer_with_its_read_half_shut(Config::default());
    for number in 0..3_u8 {
        // Its time begins anew with each byte.
        looped.pass(4 * SECOND, &mut seen);
        peer.write_all(&framed(&[number])).expect("it is read");
        let frames = usize::from(number) + 1;
        looped.settle(&mut seen, |seen, _| seen.frames().len() == frames);
    }
    drop(peer);
    looped.settle(&mut seen, |seen, _| !seen.ends().is_empty());
    assert!(is_reset(seen.ends()[0].1), "the first cause counts");
}

#[cfg(unix)]
#[test]
fn silence_after_a_failed_write_ends_the_connection() {
    let config = Config::default().disconnect_timeout(5 * SECOND);
    let (mut looped, mut seen, _peer, _) = peer_with_its_read_half_shut(config);
    looped.pass(4 * SECOND, &mut seen);
    assert!(seen.ends().is_empty(), "4 s are not 5");
    looped.pass(2 * SECOND, &mut seen);
    assert!(is_reset(seen.ends()[0].1), "{}", seen.ends()[0].1);
}

#[cfg(unix)]
#[test]
fn silence_before_a_failed_write_does_not_shorten_the_time_after_it() {
    let config = Config::default()
        .disconnect_timeout(5 * SECOND)
        .idle_timeout(10 * SECOND);
    let (mut looped, mut seen, peer, id) = paired(config);
    looped.pass(9 * SECOND, &mut seen);
    peer.shutdown(Shutdown::Read).expect("a live socket");
    send_in_vain(&mut looped, id);
    looped.rest(&mut seen);
    looped.pass(2 * SECOND, &mut seen);
    looped.pass(2 * SECOND, &mut seen);
    assert!(seen.ends().is_empty(), "4 s are not 5");
    looped.pass(2 * SECOND, &mut seen);
    assert!(is_reset(seen.ends()[0].1), "{}", seen.ends()[0].1);
}

#[cfg(unix)]
#[test]
fn end_after_a_failed_write_is_no_half_close_and_takes_no_time() {
    for half_closes_first in [false, true] {
        let (mut looped, mut seen, peer, id) = paired(Config::default().allow_half_open(true));
        if half_closes_first {
            peer.shutdown(Shutdown::Write).expect("a live socket");
            looped.settle(&mut seen, |seen, _| {
                matches!(seen.events.last(), Some(Event::HalfClose(_)))
            });
        }
        let half_closes = seen.events.len();
        drop(peer);
        send_in_vain(&mut looped, id);
        looped.reactor.finish_turn(&mut seen);
        looped.settle(&mut seen, |seen, _| seen.events.len() > half_closes);
        assert!(is_reset(seen.ends()[0].1), "{}", seen.ends()[0].1);
    }
}

#[cfg(unix)]
#[test]
fn failed_write_is_followed_by_no_drain() {
    #[derive(Default)]
    struct Drained(Recorder);
    impl Handler for Drained {
        fn on_data(&mut self, net: &mut Net, id: ConnectionId, _: Frame<'_>) {
            net.send(id, b"unreadable").expect("as far as is known");
        }
        fn on_drain(&mut self, _: &mut Net, id: ConnectionId) {
            panic!("{id} takes nothing any more");
        }
        fn on_disconnect(&mut self, net: &mut Net, id: ConnectionId, reason: DisconnectReason) {
            self.0.on_disconnect(net, id, reason);
        }
    }
    let config = Config::default().high_watermark(16).low_watermark(4);
    let (mut looped, _, mut peer, id) = paired(config);
    let mut drained = Drained::default();
    looped.net().send(id, &[7; 100]).expect("it is connected");
    looped.reactor.finish_turn(&mut drained);
    assert_eq!(looped.queued(id), 0);
    // Before it is told of that, its next send fails.
    peer.shutdown(Shutdown::Read).expect("a live socket");
    peer.write_all(&framed(b"is there something?"))
        .expect("there is room");
    looped.pass(Duration::ZERO, &mut drained);
    assert!(matches!(
        looped.net().send(id, b"more"),
        Err(SendError::WriteFailed)
    ));
    drop(peer);
    looped.settle(&mut drained, |drained, _| !drained.0.ends().is_empty());
}

#[cfg(unix)]
#[test]
fn pause_after_a_failed_write_loses_no_frames() {
    let config = Config::default().disconnect_timeout(5 * SECOND);
    let (mut looped, mut seen, mut peer, id) = peer_with_its_read_half_shut(config);
    assert!(looped.net().pause(id));
    peer.write_all(&framed(b"late")).expect("there is room");
    for _ in 0..10 {
        looped.pass(4 * SECOND, &mut seen);
    }
    assert!(seen.ends().is_empty(), "its time stands still");
    assert!(looped.net().resume(id));
    looped.settle(&mut seen, |seen, _| !seen.frames().is_empty());
    drop(peer);
    looped.settle(&mut seen, |seen, _| !seen.ends().is_empty());
}

#[cfg(unix)]
#[test]
fn unshown_frames_outlive_the_deadline_after_a_failed_write() {
    const FRAMES: usize = 20;
    for timeout in [Duration::ZERO, SECOND] {
        let config = Config::default()
            .disconnect_timeout(timeout)
            .frames_per_turn(1);
        let (mut looped, mut seen, mut peer, id) = paired(config);
        peer.write_all(&framed(b"").repeat(FRAMES))
            .expect("there is room");
        drop(peer);
        send_in_vain(&mut looped, id);
        for _ in 0..2 * FRAMES {
            looped.pass(2 * SECOND, &mut seen);
        }
        assert_eq!(seen.frames().len(), FRAMES, "{timeout:?}");
        assert!(is_reset(seen.ends()[0].1));
    }
}

#[cfg(unix)]
#[test]
fn pause_after_a_failed_write_costs_no_turns_whatever_the_timeout() {
    for timeout in [Duration::ZERO, SECOND, Duration::MAX] {
        let (mut looped, mut seen, peer, id) =
            paired(Config::default().disconnect_timeout(timeout));
        peer.shutdown(Shutdown::Read).expect("a live socket");
        send_in_vain(&mut looped, id);
        looped.reactor.finish_turn(&mut seen);
        assert!(looped.net().pause(id));
        for _ in 0..5 {
            looped.pass(Duration::ZERO, &mut seen);
        }
        assert_ne!(
            looped.reactor.next_timeout(looped.now),
            Some(Duration::ZERO)
        );
        looped.pass(4 * SECOND, &mut seen);
        assert_ne!(
            looped.reactor.next_timeout(looped.now),
            Some(Duration::ZERO)
        );
        assert!(seen.ends().is_empty(), "{timeout:?}");
        looped.net().resume(id);
        drop(peer);
        looped.settle(&mut seen, |seen, _| !seen.ends().is_empty());
    }
}

#[cfg(unix)]
#[test]
fn failed_write_of_a_paused_connection_counts_unread_bytes() {
    let (mut looped, mut seen, mut peer, id) = paired(Config::default());
    looped.net().pause(id);
    peer.write_all(&[7; 5000]).expect("there is room");
    drop(peer);
    send_in_vain(&mut looped, id);
    looped.settle(&mut seen, |seen, _| !seen.ends().is_empty());
    let reason = seen.ends()[0].1;
    assert!(is_reset(reason), "{reason}");
    assert_eq!(reason.unshown_bytes, 5000);
}

#[test]
fn reset_of_a_paused_connection_counts_unread_bytes() {
    let mut scene = Scene::with(Config::default());
    scene.looped.net().pause(scene.id);
    scene.peer.write(&[7; 5000]);
    // A reset comes after what was sent before.
    let peer = std::mem::replace(&mut scene.peer, {
        let addr = scene.looped.listen();
        Peer::connect(addr)
    });
    peer.reset();
    scene
        .looped
        .settle(&mut scene.seen, |seen, _| !seen.ends().is_empty());
    let reason = scene.seen.ends()[0].1;
    assert!(is_reset(reason), "{reason}");
    if cfg!(target_os = "linux") {
        assert_eq!(reason.unshown_bytes, 5000);
    }
}

// ----- A peer that closes its side and reads its answers late -----

#[test]
fn half_closed_peer_that_reads_late_gets_all_frames() {
    for allow_half_open in [true, false] {
        let config = Config::default()
            .allow_half_open(allow_half_open)
            .read_under_backpressure(true);
        let mut scene = Scene::with(config);
        scene.block();
        let queued = scene.queued();
        scene.peer.half_close();
        // Events come while the queue waits for room: they must not take that wait away.
        for _ in 0..5 {
            scene.pass(Duration::ZERO);
        }
        assert_eq!(scene.queued(), queued, "the peer has not read anything");
        let mut peer = scene.peer;
        let reader = std::thread::spawn(move || peer.receive().len());
        let id = scene.id;
        scene
            .looped
            .settle(&mut scene.seen, |_, net| bytes_queued(net, id) == 0);
        assert_eq!(reader.join().expect("it reads"), 12 << 20);
        scene.looped.settle(&mut scene.seen, |_, net| {
            net.is_connected(id) == allow_half_open
        });
    }
}
