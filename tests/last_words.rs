//! A kick delivers its last message: a peer that reads before the deadline reads all that was sent, and then a clean
//! EOF, whatever the sockets and the peer are doing at the time of the kick.
//!
//! The clock is moved by hand: a peer begins to read when nearly all of its time is over, without a wait.

mod support;

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use support::scene::Scene;
use support::{Event, bytes_queued, framed, pattern};
use throng::{
    Backlog, Config, DisconnectCause, DisconnectReason, Overflow, SendError, Side, Stage,
};

const DEADLINE: Duration = Duration::from_secs(5);
const MOMENT: Duration = Duration::from_millis(1);
const ROUNDS: usize = 20;
/// More than the sockets hold while the peer does not read.
const LARGE: usize = 6 << 20;
/// What the peer's socket holds. With much less the kernel takes a fifth of a second to notice that it reads.
const ROOM: usize = 64 << 10;

fn config() -> Config {
    Config::default()
        .disconnect_timeout(DEADLINE)
        .max_queued_bytes(64 << 20)
}

/// A connection whose sockets are full of frames of this length, and what its peer has to read.
fn full(config: Config, len: usize, room: usize) -> (Scene, Vec<u8>) {
    let mut scene = Scene::with(config);
    let wire = fill(&mut scene, len, room);
    (scene, wire)
}

fn fill(scene: &mut Scene, len: usize, room: usize) -> Vec<u8> {
    scene.narrow(room);
    let frame = Bytes::from(pattern(len));
    let count = LARGE.div_ceil(len);
    for _ in 0..count {
        let sent = scene.looped.net().send_bytes(scene.id, frame.clone());
        sent.expect("there is room");
    }
    scene.until_blocked();
    framed(&frame).repeat(count)
}

/// Sends a last message, disconnects, and lets nearly all of the time pass.
fn kick(scene: &mut Scene, wire: &mut Vec<u8>) {
    let last = b"you are banned";
    scene.looped.net().send(scene.id, last).expect("it is open");
    wire.extend(framed(last));
    assert!(scene.looped.net().disconnect(scene.id));
    scene.pass(Duration::ZERO);
    assert!(scene.queued() > 0, "its sockets are full");
    scene.pass(DEADLINE / 2);
    scene.pass(DEADLINE / 2 - MOMENT);
    assert!(scene.seen.ends().is_empty(), "its time is not over");
}

/// Begins to read, to a clean end, and closes then.
fn reads(mut stream: TcpStream) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        // All the room it wants: it has changed its mind.
        let _ = socket2::SockRef::from(&stream).set_recv_buffer_size(4 << 20);
        let mut wire = Vec::new();
        stream.read_to_end(&mut wire).expect("a clean end");
        wire
    })
}

/// The peer, which is not to be closed by the test then.
fn another(scene: &Scene) -> TcpStream {
    scene.peer.0.try_clone().expect("a live socket")
}

/// Lets the peer read: all there is, and a clean end. Then it closes.
#[track_caller]
fn assert_all_is_read(mut scene: Scene, expected: &[u8]) -> DisconnectReason {
    let shown = scene.seen.frames().len();
    let stream = another(&scene);
    let closing = another(&scene);
    let reader = std::thread::spawn(move || {
        let wire = reads(stream).join().expect("a clean end");
        // Whatever it was doing besides ends now.
        let _ = closing.shutdown(std::net::Shutdown::Both);
        wire
    });
    scene
        .looped
        .settle(&mut scene.seen, |seen, _| !seen.ends().is_empty());
    let wire = reader.join().expect("a clean end");
    assert_eq!(wire.len(), expected.len(), "all of it");
    assert!(wire == expected, "in this order");
    assert_eq!(
        scene.seen.frames().len(),
        shown,
        "nothing is shown any more"
    );
    let reason = scene.end();
    assert_eq!((reason.unsent_frames, reason.unsent_bytes), (0, 0));
    reason
}

/// Lets the rest of the time pass in which the peer does not read.
#[track_caller]
fn assert_dropped_in_time(mut scene: Scene, frames: usize, wire: &[u8], talker: Option<Talker>) {
    let written = scene.looped.net().stats().bytes_sent;
    assert_eq!(written + scene.queued(), wire.len() as u64);
    let mut stream = another(&scene);
    scene.pass(MOMENT);
    // A last try may find room for some bytes, which gives the peer some more time.
    for _ in 0..3 {
        scene.pass(DEADLINE);
    }
    let whole = scene.looped.net().stats().frames_sent;
    let queued = wire.len() as u64 - scene.looped.net().stats().bytes_sent;
    let reason = scene.end();
    assert_cause!(reason, DisconnectCause::DrainTimedOut { after } if after == DEADLINE);
    assert_eq!((reason.side(), reason.stage), (Side::Us, Stage::Closing));
    assert_eq!(reason.unsent_bytes, queued);
    assert_eq!(reason.unsent_frames + whole, frames as u64);
    // A stream that was cut off does not look like one that ended. The first call after it is told so, and no other.
    let read = stream.read_to_end(&mut Vec::new()).err();
    let written = talker.map(|talker| talker.join().expect("it is cut off"));
    let errors = [read, written].into_iter().flatten();
    let mut kinds = errors.map(|error| error.kind());
    assert!(kinds.any(|kind| kind == io::ErrorKind::ConnectionReset));
}

#[track_caller]
fn assert_kicked(reason: &DisconnectReason) {
    assert_cause!(reason, DisconnectCause::ClosedLocally);
}

#[test]
fn peer_that_reads_late_reads_everything_and_a_clean_end() {
    let lens = [40_000, 4095, 1000, LARGE];
    for round in 0..ROUNDS {
        let room = [16 << 10, 64 << 10, 256 << 10][round % 3];
        let (mut scene, mut wire) = full(config(), lens[round % lens.len()], room);
        kick(&mut scene, &mut wire);
        assert_kicked(&assert_all_is_read(scene, &wire));
    }
}

#[test]
fn peer_that_reads_late_reads_everything_with_budgets_of_one() {
    let starved = config().read_buffer(512).read_budget(1).write_budget(1);
    let (mut scene, mut wire) = full(starved, 40_000, ROOM);
    kick(&mut scene, &mut wire);
    assert_kicked(&assert_all_is_read(scene, &wire));
}

/// How it ends is what it was told.
type Talker = JoinHandle<io::Error>;

/// Sends frames until it cannot.
fn talks(mut stream: TcpStream) -> Talker {
    std::thread::spawn(move || {
        let frames = framed(b"and another thing").repeat(1000);
        loop {
            if let Err(error) = stream.write_all(&frames) {
                return error;
            }
        }
    })
}

#[test]
fn peer_that_keeps_sending_reads_everything() {
    for round in 0..ROUNDS {
        let heard = config().read_under_backpressure(round % 2 == 0);
        let (mut scene, mut wire) = full(heard, 40_000, ROOM);
        let talker = talks(another(&scene));
        let before = scene.looped.net().stats().bytes_received;
        if round % 2 == 0 {
            scene.looped.settle(&mut scene.seen, |_, net| {
                net.stats().bytes_received > before
            });
        }
        kick(&mut scene, &mut wire);
        assert_kicked(&assert_all_is_read(scene, &wire));
        talker.join().expect("it is done");
    }
}

/// Makes the kernel of this side expect much, and hold much: it does not tell the peer of a little room then.
fn hear_much(scene: &mut Scene) {
    let mut stream = another(scene);
    let (frame, count) = (framed(&pattern(100_000)), 200);
    let all = (frame.len() * count) as u64;
    let writing = std::thread::spawn(move || stream.write_all(&frame.repeat(count)));
    scene
        .looped
        .settle(&mut scene.seen, |_, net| net.stats().bytes_received == all);
    writing.join().expect("no panic").expect("it was all read");
}

/// A peer that reads only when it has sent everything. It has filled the buffers of both sockets.
fn says_first(scene: &Scene) -> JoinHandle<Vec<u8>> {
    let mut stream = another(scene);
    let part = [7; 64 << 10];
    stream.set_nonblocking(true).expect("a live socket");
    let mut said = 0;
    while let Ok(n) = stream.write(&part) {
        said += n;
    }
    stream.set_nonblocking(false).expect("a live socket");
    std::thread::spawn(move || {
        for _ in 0..2 * said / part.len() {
            stream.write_all(&part).expect("it is read and forgotten");
        }
        reads(stream).join().expect("a clean end")
    })
}

#[track_caller]
fn assert_who_has_to_say_first_reads_all(config: Config) {
    let mut scene = Scene::with(config);
    hear_much(&mut scene);
    let mut wire = fill(&mut scene, 40_000, ROOM);
    let peer = says_first(&scene);
    kick(&mut scene, &mut wire);
    let (scene, other_handle) = scene.apart();
    drop(other_handle);
    assert_kicked(&scene.end());
    assert!(peer.join().expect("a clean end") == wire, "all of it");
}

#[test]
fn peer_that_sends_much_before_it_reads_reads_everything() {
    for _ in 0..5 {
        assert_who_has_to_say_first_reads_all(config());
    }
}

#[test]
fn peer_that_sends_much_before_it_reads_reads_everything_with_budgets_of_one() {
    assert_who_has_to_say_first_reads_all(config().read_buffer(512).read_budget(1));
}

#[test]
fn peer_of_a_paused_connection_reads_everything() {
    for round in 0..ROUNDS {
        let (mut scene, mut wire) = full(config(), 40_000, ROOM);
        assert!(scene.looped.net().pause(scene.id));
        // Sometimes with frames that will never be shown.
        for _ in 0..round {
            scene.peer.write(&framed(&pattern(10_000)));
        }
        scene.pass(Duration::ZERO);
        kick(&mut scene, &mut wire);
        assert_kicked(&assert_all_is_read(scene, &wire));
    }
}

#[test]
fn peer_whose_half_close_is_unread_reads_everything() {
    for round in 0..ROUNDS {
        let (mut scene, mut wire) = full(config(), 40_000, ROOM);
        scene.looped.net().pause(scene.id);
        for _ in 0..round {
            scene.peer.write(&framed(&pattern(10_000)));
        }
        scene.peer.half_close();
        scene.pass(Duration::ZERO);
        kick(&mut scene, &mut wire);
        assert_kicked(&assert_all_is_read(scene, &wire));
    }
}

#[test]
fn peer_that_half_closed_and_waits_reads_everything() {
    for _ in 0..ROUNDS {
        let half_open = config().allow_half_open(true).read_under_backpressure(true);
        let (mut scene, mut wire) = full(half_open, 40_000, ROOM);
        scene.peer.half_close();
        scene.looped.settle(&mut scene.seen, |seen, _| {
            matches!(seen.events.last(), Some(Event::HalfClose(_)))
        });
        kick(&mut scene, &mut wire);
        assert_kicked(&assert_all_is_read(scene, &wire));
    }
}

/// Where the peer left by itself, what had been sent is its last word.
#[test]
fn peer_that_half_closed_before_disconnect_reads_everything() {
    for _ in 0..ROUNDS {
        let (mut scene, wire) = full(config().read_under_backpressure(true), 40_000, ROOM);
        scene.peer.half_close();
        let id = scene.id;
        scene
            .looped
            .settle(&mut scene.seen, |_, net| !net.is_connected(id));
        assert!(!scene.looped.net().disconnect(id), "it is going");
        scene.pass(DEADLINE - MOMENT);
        let reason = assert_all_is_read(scene, &wire);
        assert_cause!(reason, DisconnectCause::PeerClosed);
    }
}

#[test]
fn peer_that_does_not_read_is_dropped_at_the_deadline() {
    let acts: [fn(&mut Scene) -> Option<Talker>; 4] = [
        |_| None,
        |scene| {
            assert!(scene.looped.net().pause(scene.id));
            None
        },
        |scene| {
            scene.peer.half_close();
            None
        },
        |scene| Some(talks(another(scene))),
    ];
    for act in acts {
        let (mut scene, mut wire) = full(config(), 40_000, ROOM);
        let frames = LARGE.div_ceil(40_000) + 1;
        let talker = act(&mut scene);
        scene.pass(Duration::ZERO);
        kick(&mut scene, &mut wire);
        assert_dropped_in_time(scene, frames, &wire, talker);
    }
}

// ----- A last message for a peer whose queue is full -----

#[test]
fn last_message_has_room_in_a_full_queue() {
    for backlog in [Backlog::Flush, Backlog::Drop] {
        for overflow in [Overflow::Refuse, Overflow::Disconnect] {
            let config = config()
                .max_queued_bytes(LARGE as u64 / 2)
                .overflow(overflow);
            let mut scene = Scene::with(config);
            scene.narrow(ROOM);
            let mut sent = Vec::new();
            while (sent.len() as u64) < scene.looped.net().stats().bytes_sent + LARGE as u64 / 2 {
                let frame = pattern(40_000);
                scene
                    .looped
                    .net()
                    .send(scene.id, &frame)
                    .expect("there is room");
                sent.extend(framed(&frame));
                scene.pass(Duration::ZERO);
            }
            scene.until_blocked();
            let written = scene.looped.net().stats().bytes_sent as usize;
            let last = b"you are banned";
            let result = scene.looped.net().disconnect_with(scene.id, last, backlog);
            result.expect("there is always room");
            assert!(!scene.looped.net().is_connected(scene.id));
            // The frame that was begun is finished; the others wait or are dropped.
            let mut expected = sent.clone();
            if backlog == Backlog::Drop {
                expected.truncate(written.next_multiple_of(40_004));
            }
            let dropped = (sent.len() - expected.len()) as u64;
            expected.extend(framed(last));
            let stream = another(&scene);
            let reader = std::thread::spawn(move || reads(stream).join().expect("a clean end"));
            let id = scene.id;
            scene
                .looped
                .settle(&mut scene.seen, |_, net| bytes_queued(net, id) == 0);
            scene.peer.half_close();
            let wire = reader.join().expect("a clean end");
            assert!(wire == expected, "{} of {}", wire.len(), expected.len());
            let reason = scene.end();
            assert_kicked(&reason);
            assert_eq!(reason.unsent_bytes, dropped);
            assert_eq!(reason.unsent_frames, dropped / 40_004);
        }
    }
}

#[test]
fn last_message_that_cannot_be_encoded_changes_nothing() {
    let mut scene = Scene::with(config().max_frame_len(100));
    let net = &mut scene.looped.net();
    let too_long = net.disconnect_with(scene.id, &[7; 101], Backlog::Drop);
    assert!(matches!(too_long, Err(SendError::Encode(_))));
    net.begin_frame(scene.id, 10).expect("none is open");
    net.push_chunk(scene.id, b"01234")
        .expect("it belongs there");
    // Nothing of it is written: it can be dropped, but not finished.
    let behind = net.disconnect_with(scene.id, b"bye", Backlog::Flush);
    assert!(matches!(behind, Err(SendError::FrameOpen { missing: 5 })));
    scene.pass(Duration::ZERO);
    for backlog in [Backlog::Flush, Backlog::Drop] {
        let inside = scene
            .looped
            .net()
            .disconnect_with(scene.id, b"bye", backlog);
        assert!(matches!(inside, Err(SendError::FrameOpen { missing: 5 })));
    }
    assert!(scene.looped.net().is_connected(scene.id));
    let net = &mut scene.looped.net();
    net.push_chunk(scene.id, b"56789")
        .expect("it belongs there");
    net.finish_frame(scene.id).expect("it is complete");
    net.begin_frame(scene.id, 10).expect("none is open");
    net.send(scene.id, b"behind it").expect("there is room");
    let result = net.disconnect_with(scene.id, b"bye", Backlog::Drop);
    result.expect("the frame that is open was not begun");
    assert!(matches!(
        net.disconnect_with(scene.id, b"again", Backlog::Drop),
        Err(SendError::Disconnected)
    ));
    scene.pass(Duration::ZERO);
    assert_eq!(scene.peer.receive(), b"0123456789");
    assert_eq!(scene.peer.receive(), b"bye");
    scene.peer.half_close();
    let reason = scene.end();
    assert_kicked(&reason);
    assert_eq!(reason.unsent_frames, 2);
}

#[test]
fn last_message_that_is_in_the_kernel_outlives_the_deadline_whatever_was_dropped_for_it() {
    let (mut scene, _) = full(config(), 40_000, ROOM);
    let last = b"you are banned";
    let result = scene
        .looped
        .net()
        .disconnect_with(scene.id, last, Backlog::Drop);
    result.expect("there is always room");
    // The peer reads until all that is left to write is in the kernel, and then rests.
    let mut stream = another(&scene);
    let mut wire = Vec::new();
    while scene.queued() > 0 {
        let mut some = vec![0; 10_000];
        let read = stream.read(&mut some).expect("a live socket");
        wire.extend_from_slice(&some[..read]);
        scene.pass(Duration::ZERO);
    }
    scene.pass(DEADLINE + MOMENT);
    assert_eq!(scene.seen.ends().len(), 1, "the peer has not closed");
    let reason = scene.end();
    assert_cause!(reason, DisconnectCause::DrainTimedOut { .. });
    assert!(reason.unsent_frames > 0, "those that were dropped");
    stream.read_to_end(&mut wire).expect("a clean end");
    assert!(wire.ends_with(&framed(last)));
    assert_eq!((wire.len() - 18) % 40_004, 0, "whole frames");
}

#[test]
fn peer_that_goes_on_sending_has_time_to_read_what_is_in_the_kernel() {
    let mut scene = Scene::with(config());
    scene.narrow(ROOM);
    let large = pattern(1 << 20);
    scene.looped.net().send(scene.id, &large).expect("room");
    scene.looped.net().disconnect(scene.id);
    scene.looped.rest(&mut scene.seen);
    assert_eq!(scene.queued(), 0, "the kernel has all of it");
    for second in 0..59 {
        // It says that it is there, and reads a little.
        scene.peer.write(&[7]);
        scene.pass(Duration::from_millis(999));
        scene.pass(MOMENT);
        assert!(scene.seen.ends().is_empty(), "after {second} s");
    }
    scene.peer.write(&[7]);
    scene.pass(Duration::from_secs(2));
    let reason = scene.end();
    assert!(
        matches!(reason.cause, DisconnectCause::DrainTimedOut { .. }),
        "12 times the timeout are over: {reason}"
    );
}

#[test]
fn peer_that_was_gone_when_it_was_kicked_has_reset_the_connection() {
    let mut scene = Scene::with(config());
    let (other, _) = scene.looped.join(&mut scene.seen);
    std::mem::replace(&mut scene.peer, other).reset();
    let id = scene.id;
    scene.looped.net().disconnect(id);
    // No event is looked at: the half-close finds out.
    scene.looped.reactor.finish_turn(&mut scene.seen);
    scene.pass(Duration::ZERO);
    let ends = scene.seen.ends();
    assert_eq!(ends.len(), 1);
    assert!(
        matches!(ends[0].1.cause, DisconnectCause::Reset(_)),
        "{}",
        ends[0].1
    );
}
