//! Streams with TLS: delivery, backpressure, and ends. Most scenarios are those of plain connections.
#![cfg(all(feature = "tls", target_os = "linux"))]

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustls::{ClientConnection, ServerConnection, StreamOwned};
use support::by_hand::Loop;
use support::scene::Scene;
use support::secure::{Authority, NAME, SecurePeer, client, join_by, secured};
use support::traffic::some;
use support::{Event, PATIENCE, Peer, Recorder, bytes_queued, framed, pattern, std_stream};
use throng::rustls;
use throng::{
    Backlog, Config, ConnectOptions, ConnectionId, DisconnectCause, DisconnectReason, Frame,
    Framing, Handler, ListenOptions, Net, SendError,
};

type Secure = Scene<Recorder, SecurePeer>;

const SECOND: Duration = Duration::from_secs(1);
const MIB: usize = 1 << 20;

fn scene() -> Secure {
    Scene::secured(Config::default(), secured())
}

/// More than the buffers of two sockets hold, one of which is small.
const LARGE: usize = 12 * MIB;

/// Queues one frame that is longer than what the sockets buffer, and makes turns until they take no more.
fn block(scene: &mut Secure) {
    let socket = socket2::SockRef::from(&scene.peer.tls.sock);
    socket
        .set_recv_buffer_size(16 * 1024)
        .expect("a live socket");
    let id = scene.id;
    let sent = scene.net().send_bytes(id, vec![7; LARGE].into());
    sent.expect("there is room");
    scene.until_blocked();
}

/// Reads what the peer is sent, on a thread of its own.
fn read_on(
    mut peer: SecurePeer,
    frames: usize,
) -> std::thread::JoinHandle<(SecurePeer, Vec<usize>)> {
    std::thread::spawn(move || {
        let lens = (0..frames).map(|_| peer.receive().len()).collect();
        (peer, lens)
    })
}

impl Apart for Secure {}

/// Takes the peer out of a scene.
trait Apart {
    fn apart(self) -> (Scene<Recorder, ()>, SecurePeer)
    where
        Self: Into<Secure> + Sized,
    {
        let scene: Secure = self.into();
        let rest = Scene {
            looped: scene.looped,
            addr: scene.addr,
            seen: scene.seen,
            peer: (),
            id: scene.id,
        };
        (rest, scene.peer)
    }
}

/// A peer on the loop's thread that writes and reads whatever is possible.
struct Pump {
    tls: ClientConnection,
    socket: TcpStream,
}

impl Pump {
    fn new(peer: SecurePeer) -> Self {
        let StreamOwned {
            conn: tls,
            sock: socket,
            ..
        } = peer.tls;
        socket.set_nonblocking(true).expect("a live socket");
        Self { tls, socket }
    }

    /// Sends `out`, and reads bytes that must equal `expected`.
    fn run(&mut self, looped: &mut Loop, handler: &mut impl Handler, out: &[u8], expected: &[u8]) {
        let (mut written, mut read) = (0, 0);
        let mut buffer = vec![0; 64 * 1024];
        let deadline = Instant::now() + PATIENCE;
        while written < out.len() || read < expected.len() || self.tls.wants_write() {
            assert!(Instant::now() < deadline, "it did not happen in time");
            let before = (written, read);
            written += self.tls.writer().write(&out[written..]).expect("a session");
            while self.tls.wants_write() && some(self.tls.write_tls(&mut self.socket)) > 0 {}
            if let Ok(1..) = self.tls.read_tls(&mut self.socket) {
                self.tls.process_new_packets().expect("valid records");
            }
            while let Ok(n @ 1..) = self.tls.reader().read(&mut buffer) {
                assert!(
                    buffer[..n] == expected[read..read + n],
                    "it came back changed"
                );
                read += n;
            }
            let idle = u64::from((written, read) == before);
            looped.turn(Duration::from_millis(idle), handler);
        }
    }
}

#[test]
fn frame_of_64_kib_is_encrypted_and_written_at_once() {
    let mut scene = scene();
    let (id, frame) = (scene.id, pattern(64 * 1024));
    let before = scene.net().stats().writes;
    scene.net().send(id, &frame).expect("it is open");
    scene.turns();
    assert_eq!(scene.net().stats().writes - before, 1);
    assert_eq!(scene.peer.receive(), frame);
}

#[test]
fn frame_of_64_mib_comes_back() {
    let options = secured().max_queued_bytes(u64::MAX);
    let (mut scene, peer) = Secure::secured(Config::default(), options).apart();
    scene.seen.echo = true;
    let frame = framed(&pattern(64 * MIB));
    Pump::new(peer).run(&mut scene.looped, &mut scene.seen, &frame, &frame);
    scene.seen.events.clear();
    scene.turns();
}

#[test]
fn twenty_thousand_pipelined_frames_come_back_in_order() {
    let options = secured().max_queued_bytes(u64::MAX);
    let (mut scene, peer) = Secure::secured(Config::default(), options).apart();
    scene.seen.echo = true;
    let frames: Vec<u8> = (0..20_000u32)
        .flat_map(|n| framed(&pattern(n as usize % 97)))
        .collect();
    Pump::new(peer).run(&mut scene.looped, &mut scene.seen, &frames, &frames);
    assert_eq!(scene.seen.frames().len(), 20_000);
}

#[test]
fn records_of_single_bytes_are_delivered_like_any_others() {
    let mut scene = scene();
    for byte in framed(b"hello") {
        scene.peer.write(&[byte]);
    }
    scene.until(|seen, _| seen.frames() == [b"hello"]);
}

#[test]
fn record_that_arrives_in_single_bytes_is_delivered_when_it_is_complete() {
    let mut scene = scene();
    let wire = scene.peer.record(b"hello");
    let (last, bytes) = wire.split_last().expect("it is not empty");
    for byte in bytes {
        scene.peer.tls.sock.write_all(&[*byte]).expect("room");
        scene.turns();
        assert!(scene.seen.frames().is_empty());
    }
    // A part of a record counts as memory.
    assert!(scene.net().stats().memory_bytes >= 8192 + bytes.len() as u64);
    scene.peer.tls.sock.write_all(&[*last]).expect("room");
    scene.until(|seen, _| seen.frames() == [b"hello"]);
    assert!(scene.looped.is_at_rest());
}

#[test]
fn close_notify_of_the_peer_is_a_clean_end_and_is_answered_before_the_fin() {
    for with_fin in [false, true] {
        let mut scene = scene();
        scene.peer.send(b"last words");
        match with_fin {
            false => scene.peer.close_notify(),
            true => scene.peer.half_close(),
        }
        let reason = scene.await_end();
        assert_cause!(reason, DisconnectCause::PeerClosed);
        assert_eq!(scene.seen.frames(), [b"last words"]);
        scene.peer.expect_end();
    }
}

#[test]
fn fin_without_close_notify_is_truncated_after_everything_was_delivered() {
    let mut scene = scene();
    scene.peer.send(b"last words");
    scene.peer.cut();
    let reason = scene.await_end();
    assert_cause!(reason, DisconnectCause::Truncated);
    assert_eq!(scene.seen.frames(), [b"last words"]);
}

#[test]
fn reset_by_the_peer_is_a_reset() {
    let (scene, peer) = scene().apart();
    Peer(peer.tls.sock.try_clone().expect("a descriptor")).reset();
    drop(peer);
    let reason = scene.end();
    assert_cause!(reason, DisconnectCause::Reset(_));
}

#[test]
fn reset_behind_plaintext_that_was_not_read_is_a_reset() {
    let config = Config::default().read_buffer(512).read_budget(512);
    let mut scene = Scene::<Recorder, SecurePeer>::secured(config, secured());
    scene.peer.write(&framed(&[7; 400]).repeat(5));
    while scene.seen.frames().is_empty() {
        scene.looped.turn(Duration::ZERO, &mut scene.seen);
    }
    let (scene, peer) = scene.apart();
    Peer(peer.tls.sock.try_clone().expect("a descriptor")).reset();
    drop(peer);
    let reason = scene.end();
    assert!(
        matches!(reason.cause, DisconnectCause::Reset(_)),
        "{reason:?}"
    );
}

#[test]
fn changed_record_ends_the_session_and_the_peer_gets_an_alert() {
    for is_first in [false, true] {
        let mut scene = scene();
        if !is_first {
            scene.peer.send(b"good");
        }
        let mut wire = scene.peer.record(b"changed");
        *wire.last_mut().expect("it is not empty") ^= 1;
        scene.peer.tls.sock.write_all(&wire).expect("room");
        let reason = scene.await_end();
        assert_cause!(reason, DisconnectCause::Tls(rustls::Error::DecryptError));
        assert_eq!(scene.seen.frames(), [b"good"; 1][usize::from(is_first)..]);
        let error = scene.peer.try_receive().expect_err("an alert");
        assert!(error.to_string().contains("BadRecordMac"), "{error}");
    }
}

#[test]
fn disconnect_writes_the_queue_then_close_notify_then_fin() {
    let mut scene = scene();
    let id = scene.id;
    scene.net().send(id, b"one").expect("it is open");
    scene
        .net()
        .disconnect_with(id, b"two", Backlog::Flush)
        .expect("it is open");
    scene.turns();
    assert_eq!(scene.peer.receive(), b"one");
    assert_eq!(scene.peer.receive(), b"two");
    scene.peer.expect_end();
    scene.peer.half_close();
    let reason = scene.await_end();
    assert_cause!(reason, DisconnectCause::ClosedLocally);
    assert_eq!((reason.unsent_frames, reason.unsent_bytes), (0, 0));
}

#[test]
fn peer_that_answers_a_disconnect_with_a_bare_fin_is_no_truncation() {
    let mut scene = scene();
    let id = scene.id;
    assert!(scene.net().disconnect(id));
    scene.turns();
    scene.peer.expect_end();
    scene.peer.cut();
    let reason = scene.await_end();
    assert_cause!(reason, DisconnectCause::ClosedLocally);
}

#[test]
fn abort_resets() {
    let mut scene = scene();
    let id = scene.id;
    assert!(scene.net().abort(id));
    let reason = scene.await_end();
    assert_cause!(reason, DisconnectCause::Aborted);
    scene.peer.expect_reset();
}

#[test]
fn session_that_ends_inside_a_line_is_reset_without_a_close_notify() {
    let options = secured().framing(Framing::delimiter(b'\n'));
    let mut scene: Secure = Scene::secured(Config::default(), options);
    let id = scene.id;
    scene.net().begin_frame(id, 10).expect("none is open");
    scene
        .net()
        .push_chunk(id, b"0123")
        .expect("it belongs there");
    scene.turns();
    assert!(scene.net().disconnect(id));
    assert_eq!(scene.await_end().unsent_frames, 1);
    scene.peer.expect_reset();
    let read = scene.peer.tls.conn.reader().read(&mut [0]);
    assert!(!matches!(read, Ok(0)), "a close_notify");
}

#[test]
fn half_closed_session_still_receives() {
    let mut scene = scene();
    let id = scene.id;
    scene.net().send(id, b"question").expect("it is open");
    scene.net().half_close(id).expect("it is open");
    assert!(matches!(
        scene.net().send(id, b"more"),
        Err(SendError::HalfClosed)
    ));
    scene.turns();
    assert_eq!(scene.peer.receive(), b"question");
    scene.peer.expect_end();
    scene.peer.send(b"answer");
    scene.until(|seen, _| seen.frames() == [b"answer"]);
    scene.peer.half_close();
    let reason = scene.await_end();
    assert_cause!(reason, DisconnectCause::PeerClosed);
}

#[test]
fn peer_that_has_sent_close_notify_still_receives_if_the_options_allow_it() {
    let mut scene = Secure::secured(Config::default(), secured().allow_half_open(true));
    scene.peer.close_notify();
    scene.until(|seen, _| matches!(seen.events.last(), Some(Event::HalfClose(_))));
    let id = scene.id;
    scene
        .net()
        .send(id, b"late reply")
        .expect("it is half open");
    scene.turns();
    assert_eq!(scene.peer.receive(), b"late reply");
    scene.net().disconnect(id);
    let reason = scene.await_end();
    assert_cause!(reason, DisconnectCause::ClosedLocally);
    scene.peer.expect_end();
}

#[test]
fn shutdown_closes_sessions_and_drops_handshakes() {
    let mut scene = scene();
    let mut silent = Peer::connect(scene.addr);
    scene.until(|_, net| net.stats().accepted == 2);
    scene.net().shutdown(10 * SECOND);
    scene.turns();
    silent.expect_end();
    scene.peer.expect_end();
    scene.peer.half_close();
    scene.until(|seen, _| seen.ends().len() == 2);
    for (_, reason) in scene.seen.ends() {
        assert_cause!(reason, DisconnectCause::ShutDown);
    }
}

#[test]
fn disconnect_during_the_handshake_ends_it_at_once() {
    let (mut looped, mut seen) = (Loop::new(Config::default()), Recorder::default());
    let addr = looped.listen_with(secured());
    let name = NAME.try_into().expect("a name");
    let options = ConnectOptions::default().tls(Arc::new(Authority::of_all().client()), name);
    let id = looped.net().connect_with(addr, options).expect("it starts");
    assert!(matches!(
        looped.net().send(id, b"early"),
        Err(SendError::Connecting)
    ));
    assert!(matches!(
        looped.net().release(id),
        Err(SendError::Connecting)
    ));
    assert!(looped.net().disconnect(id));
    looped.settle(&mut seen, |seen, _| {
        seen.ends().iter().any(|end| end.0 == id)
    });
    assert!(seen.connected().is_empty());
}

#[test]
fn blocked_connection_causes_no_turns_and_everything_arrives_when_the_peer_reads() {
    let mut scene = scene();
    block(&mut scene);
    scene.turns();
    assert!(scene.looped.is_at_rest(), "it spins");
    let id = scene.id;
    scene.net().send(id, b"after it").expect("there is room");
    scene.turns();
    assert!(scene.looped.is_at_rest(), "it spins");
    let (mut scene, peer) = scene.apart();
    let reader = read_on(peer, 2);
    scene.until(|_, _| reader.is_finished());
    let (_peer, lens) = reader.join().expect("it reads");
    assert_eq!(lens, [LARGE, 8]);
    scene.turns();
    assert_eq!(scene.queued(), 0);
    let stats = scene.net().stats();
    assert_eq!(stats.frames_sent, 2);
    // Only the session is left.
    let session = scene.net().stats().memory_bytes;
    assert!((8192..8300).contains(&session), "{session}");
}

/// Blocks a connection so that a part of its ciphertext is all that is left to be sent: nothing is queued.
fn block_with_ciphertext_only(options: ListenOptions) -> Secure {
    let mut scene = Secure::secured(Config::default(), options.send_buffer(4096));
    let socket = socket2::SockRef::from(&scene.peer.tls.sock);
    socket.set_recv_buffer_size(4096).expect("a live socket");
    let id = scene.id;
    let deadline = Instant::now() + PATIENCE;
    while scene.queued() == 0 {
        assert!(Instant::now() < deadline, "the sockets take everything");
        scene.net().send(id, &[7; 30_000]).expect("there is room");
        // What is on its way between the sockets makes room for more.
        for _ in 0..20 {
            scene.looped.turn(Duration::from_millis(2), &mut scene.seen);
        }
    }
    assert!(scene.queued() < 30_100, "less than a frame");
    scene
}

#[test]
fn ciphertext_that_blocks_is_queued_and_causes_no_turns() {
    let mut scene = block_with_ciphertext_only(secured());
    assert!(scene.looped.is_at_rest(), "it spins");
    let used = scene.net().stats().memory_bytes;
    assert_eq!(used, 8192 + scene.queued(), "it is counted");
    let frames = scene.net().stats().frames_sent as usize;
    let (mut scene, peer) = scene.apart();
    let reader = read_on(peer, frames);
    scene.until(|_, _| reader.is_finished());
    let _peer = reader.join().expect("all frames arrive");
    scene.turns();
    assert_eq!(
        (scene.queued(), scene.net().stats().memory_bytes),
        (0, 8192)
    );
}

#[test]
fn ciphertext_that_blocks_is_unsent_when_the_connection_ends_and_resets_it() {
    let mut scene = block_with_ciphertext_only(secured());
    let (id, queued) = (scene.id, scene.queued());
    assert!(scene.net().abort(id));
    let reason = scene.await_end();
    assert_eq!((reason.unsent_frames, reason.unsent_bytes), (1, queued));
    scene.peer.expect_reset();
}

#[test]
fn close_waits_for_ciphertext_and_close_notify_follows_it() {
    let mut scene = block_with_ciphertext_only(secured());
    let id = scene.id;
    assert!(scene.net().disconnect(id));
    scene.turns();
    assert!(scene.looped.is_at_rest(), "it spins");
    let frames = scene.net().stats().frames_sent as usize;
    let (mut scene, peer) = scene.apart();
    let reader = std::thread::spawn(move || {
        let (mut peer, _) = read_on(peer, frames).join().expect("all frames arrive");
        peer.expect_end();
        peer.half_close();
    });
    let reason = scene.await_end();
    assert_cause!(reason, DisconnectCause::ClosedLocally);
    assert_eq!((reason.unsent_frames, reason.unsent_bytes), (0, 0));
    reader.join().expect("a clean end");
}

#[test]
fn peer_that_does_not_read_ciphertext_stalls_the_write_with_or_without_a_queue() {
    let options = || secured().write_stall_timeout(3 * SECOND);
    for sends_more in [false, true] {
        let mut scene = block_with_ciphertext_only(options());
        scene.pass(2 * SECOND);
        assert!(scene.seen.ends().is_empty());
        if sends_more {
            let id = scene.id;
            scene.net().send(id, b"more").expect("there is room");
            scene.turns();
            assert!(scene.seen.ends().is_empty());
        }
        // The sockets may still have taken some bytes. That a peer sends does not mean that it reads.
        for _ in 0..5 {
            if scene.seen.ends().is_empty() {
                scene.peer.send(b"hello");
                scene.pass(2 * SECOND);
                scene.turns();
            }
        }
        let reason = scene.await_end();
        assert_cause!(reason, DisconnectCause::WriteStalled { .. });
        assert!(reason.unsent_bytes > 0);
        scene.peer.expect_reset();
    }
}

#[test]
fn slow_reader_of_ciphertext_does_not_stall() {
    let options = secured().write_stall_timeout(3 * SECOND);
    let mut scene = Secure::secured(Config::default(), options);
    block(&mut scene);
    for _ in 0..5 {
        scene.pass(2 * SECOND);
        let mut taken = vec![0; 512 * 1024];
        scene
            .peer
            .tls
            .sock
            .read_exact(&mut taken)
            .expect("ciphertext");
        scene.turns();
    }
    assert!(scene.seen.ends().is_empty());
}

#[test]
fn congested_connection_is_not_read_until_it_has_drained() {
    #[derive(Default)]
    struct Drains(Recorder, usize);
    impl Handler for Drains {
        fn on_connect(&mut self, net: &mut Net, id: ConnectionId) {
            self.0.on_connect(net, id);
        }
        fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
            self.0.on_data(net, id, frame);
        }
        fn on_drain(&mut self, _: &mut Net, _: ConnectionId) {
            self.1 += 1;
        }
        fn on_disconnect(&mut self, net: &mut Net, id: ConnectionId, reason: DisconnectReason) {
            self.0.on_disconnect(net, id, reason);
        }
    }
    impl support::Observer for Drains {
        fn recorder(&self) -> &Recorder {
            &self.0
        }
        fn recorder_mut(&mut self) -> &mut Recorder {
            &mut self.0
        }
    }
    let mut looped = Loop::new(Config::default());
    let mut seen = Drains::default();
    let addr = looped.listen_with(secured());
    let mut peer = join_by(&mut looped, &mut seen, addr, client());
    let id = seen.0.connected()[0];
    let socket = socket2::SockRef::from(&peer.tls.sock);
    socket
        .set_recv_buffer_size(16 * 1024)
        .expect("a live socket");
    looped
        .net()
        .send_bytes(id, vec![7; LARGE].into())
        .expect("room");
    peer.send(b"not read yet");
    for _ in 0..50 {
        looped.turn(Duration::from_millis(1), &mut seen);
    }
    assert!(
        looped
            .net()
            .connection(id)
            .is_some_and(|it| it.is_congested())
    );
    assert!(seen.0.frames().is_empty() && looped.is_at_rest());
    let reader = read_on(peer, 1);
    looped.settle(&mut seen, |seen, _| seen.0.frames() == [b"not read yet"]);
    looped.settle(&mut seen, |_, _| reader.is_finished());
    assert_eq!(seen.1, 1);
}

#[test]
fn paused_connection_keeps_decrypted_frames_until_it_is_resumed() {
    /// Pauses at each frame.
    #[derive(Default)]
    struct Pauses(Vec<Vec<u8>>);
    impl Handler for Pauses {
        fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
            self.0.push(frame.to_vec());
            net.pause(id);
        }
    }
    let scene = scene();
    let (mut looped, id) = (scene.looped, scene.id);
    let mut peer = scene.peer;
    let mut pauses = Pauses::default();
    let frames: Vec<Vec<u8>> = (0..5).map(|n| pattern(n * 9000)).collect();
    let wire: Vec<u8> = frames.iter().flat_map(|frame| framed(frame)).collect();
    peer.write(&wire);
    for count in 1..=5 {
        looped.settle(&mut pauses, |pauses, _| pauses.0.len() == count);
        for _ in 0..10 {
            looped.turn(Duration::from_millis(1), &mut pauses);
        }
        assert!(looped.is_at_rest(), "it spins");
        assert_eq!(pauses.0, frames[..count]);
        looped.net().resume(id);
    }
}

#[test]
fn keys_are_updated_while_the_connection_is_in_use() {
    let mut scene = scene();
    let id = scene.id;
    scene.net().send(id, b"before").expect("it is open");
    scene.turns();
    assert_eq!(scene.peer.receive(), b"before");
    let peer = &mut scene.peer.tls;
    peer.conn.refresh_traffic_keys().expect("it is TLS 1.3");
    peer.flush().expect("to write");
    scene.turns();
    scene.net().send(id, b"after").expect("it is open");
    scene.turns();
    assert_eq!(scene.peer.receive(), b"after");
    scene.peer.send(b"both ways");
    scene.until(|seen, _| seen.frames() == [b"both ways"]);
}

#[test]
fn latest_and_last_frames_replace_only_what_is_not_encrypted() {
    let mut scene = block_with_ciphertext_only(secured());
    let id = scene.id;
    for number in 0..100u8 {
        let sent = scene.net().send_latest(id, 1, &[number; 100]);
        sent.expect("there is room");
        scene.turns();
    }
    let frames = scene.net().stats().frames_sent as usize;
    let dropped = scene.net().disconnect_with(id, b"the last", Backlog::Drop);
    dropped.expect("it is open");
    let (mut scene, mut peer) = scene.apart();
    let reader = std::thread::spawn(move || {
        let frames: Vec<_> = (0..frames).map(|_| peer.receive().len()).collect();
        let last = peer.receive();
        peer.expect_end();
        peer.half_close();
        (frames, last)
    });
    let reason = scene.await_end();
    let (lens, last) = reader.join().expect("whole frames");
    assert!(lens.iter().all(|len| *len == 30_000));
    assert_eq!((last, reason.unsent_frames), (b"the last".to_vec(), 1));
}

#[test]
fn idle_sessions_count_towards_the_memory_budget() {
    let mut scene = scene();
    assert_eq!(scene.net().stats().memory_bytes, 8192);
    let budget = Config::default().memory_budget(20_000);
    let (mut looped, mut seen) = (Loop::new(budget), Recorder::default());
    let addr = looped.listen_with(secured());
    let _peers = [(); 2].map(|()| join_by(&mut looped, &mut seen, addr, client()));
    assert!(seen.ends().is_empty());
    let mut third = Peer::connect(addr);
    looped.settle(&mut seen, |_, net| net.stats().accepted == 3);
    assert_eq!(looped.net().stats().memory_bytes, 16_384, "no session yet");
    client().write_tls(&mut third.0).expect("room");
    looped.settle(&mut seen, |seen, _| !seen.ends().is_empty());
    let (ends, memory) = (seen.ends(), looped.net().stats().memory_bytes);
    let DisconnectCause::MemoryBudget { held, budget } = ends[0].1.cause else {
        panic!("{ends:?}");
    };
    assert_eq!((held, budget, memory), (8192, 20_000, 16_384));
}

#[test]
fn idle_timeout_applies_to_sessions() {
    let options = secured().idle_timeout(5 * SECOND);
    let mut scene = Secure::secured(Config::default(), options);
    scene.pass(4 * SECOND);
    scene.peer.send(b"hello");
    scene.until(|seen, _| seen.frames().len() == 1);
    scene.pass(4 * SECOND);
    scene.turns();
    assert!(scene.seen.ends().is_empty());
    scene.pass(2 * SECOND);
    let reason = scene.await_end();
    assert_cause!(reason, DisconnectCause::Idle { .. });
}

#[test]
fn connection_with_tls_is_not_released() {
    let mut scene = scene();
    let id = scene.id;
    assert!(matches!(scene.net().release(id), Err(SendError::Secured)));
    scene.peer.send(b"it goes on");
    scene.until(|seen, _| seen.frames() == [b"it goes on"]);
}

#[test]
fn released_connection_continues_with_tls() {
    let plain = Scene::with(Config::default());
    let (mut scene, mut peer) = plain.apart();
    peer.send(b"start TLS");
    scene.until(|seen, _| seen.frames() == [b"start TLS"]);
    let id = scene.id;
    scene.net().release(id).expect("it is open");
    let reason = scene.await_end();
    let DisconnectCause::Released(released) = reason.cause else {
        panic!("{reason:?}");
    };
    // The ClientHello may have been read with the last frame.
    let mut tls = StreamOwned::new(client(), peer.0);
    let mut hello = Vec::new();
    tls.conn.write_tls(&mut hello).expect("to write");
    let options = ConnectOptions::default().tls_server(Arc::new(Authority::of_all().server()));
    let stream = std_stream(released.stream);
    let adopted = scene.net().adopt_with(stream, options, &hello);
    let id = adopted.expect("it is connected");
    let shaking = std::thread::spawn(move || {
        tls.conn.complete_io(&mut tls.sock).expect("a handshake");
        tls.write_all(&framed(b"secret")).expect("to write");
        tls
    });
    scene.seen.events.clear();
    scene.until(|seen, _| seen.frames() == [b"secret"]);
    assert!(
        scene
            .net()
            .connection(id)
            .is_some_and(|it| it.tls().is_some())
    );
    shaking.join().expect("a handshake");
}

#[test]
fn two_loops_exchange_frames_of_all_sizes_over_tls() {
    let (mut looped, mut seen) = (Loop::new(Config::default()), Recorder::default());
    let addr = looped.listen_with(secured().max_queued_bytes(u64::MAX));
    let name = NAME.try_into().expect("a name");
    let options = ConnectOptions::default()
        .tls(Arc::new(Authority::of_all().client()), name)
        .max_queued_bytes(u64::MAX);
    let ours = looped.net().connect_with(addr, options).expect("it starts");
    looped.settle(&mut seen, |seen, _| seen.connected().len() == 2);
    let ids = seen.connected();
    seen.events.clear();
    let frames: Vec<Bytes> = (0..400).map(|n| pattern(n * n % 70_000).into()).collect();
    for frame in &frames {
        for id in &ids {
            looped.net().send_bytes(*id, frame.clone()).expect("room");
        }
    }
    looped.settle(&mut seen, |seen, _| seen.events.len() == 2 * frames.len());
    for id in ids {
        let got = seen.events.iter().filter_map(|event| match event {
            Event::Data(of, frame) if *of == id => Some(&frame[..]),
            _ => None,
        });
        assert!(got.eq(frames.iter().map(|frame| &frame[..])), "in order");
    }
    assert_eq!(bytes_queued(looped.net(), ours), 0);
}

/// The rate at which a peer takes ciphertext may be less than what is pending for each timeout.
#[test]
fn peer_that_takes_less_than_is_pending_does_not_stall() {
    let options = secured().write_stall_timeout(3 * SECOND);
    let mut scene = block_with_ciphertext_only(options);
    let id = scene.id;
    scene.net().send(id, &[7; 100_000]).expect("there is room");
    scene.turns();
    scene
        .peer
        .tls
        .sock
        .set_nonblocking(true)
        .expect("a live socket");
    for _ in 0..3 {
        scene.pass(2 * SECOND);
        assert!(scene.seen.ends().is_empty());
        let (queued, mut buffer) = (scene.queued(), [0; 1000]);
        let deadline = Instant::now() + PATIENCE;
        while scene.queued() == queued {
            assert!(Instant::now() < deadline, "nothing is written");
            let _ = scene.peer.tls.sock.read(&mut buffer);
            scene.looped.turn(Duration::from_millis(1), &mut scene.seen);
        }
    }
}

#[test]
fn established_connections_are_served_before_handshakes() {
    let mut scene = scene();
    let addr = scene.addr;
    let mut clients = Vec::new();
    for _ in 0..5 {
        let (mut tls, mut socket) = (client(), Peer::connect(addr).0);
        tls.write_tls(&mut socket).expect("room");
        clients.push((tls, socket));
    }
    scene.until(|_, net| net.stats().accepted == 6);
    for _ in 0..20 {
        scene.looped.turn(Duration::from_millis(1), &mut scene.seen);
    }
    scene.seen.events.clear();
    // The last messages of all handshakes come before the frame.
    for (tls, socket) in &mut clients {
        while tls.is_handshaking() {
            tls.read_tls(socket).expect("a flight");
            tls.process_new_packets().expect("valid records");
        }
        while tls.wants_write() {
            tls.write_tls(socket).expect("room");
        }
    }
    scene.peer.send(b"hello");
    scene.until(|seen, _| seen.events.len() == 6);
    assert!(
        matches!(scene.seen.events[0], Event::Data(..)),
        "{:?}",
        scene.seen.events
    );
}

#[test]
fn many_session_tickets_do_not_hide_the_frame_behind_them() {
    let mut config = Authority::of_all().server();
    config.send_tls13_tickets = 500;
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("its address");
    let server = std::thread::spawn(move || {
        let (socket, _) = listener.accept().expect("the client");
        let tls = ServerConnection::new(Arc::new(config)).expect("a valid configuration");
        let mut peer = StreamOwned::new(tls, socket);
        peer.conn.complete_io(&mut peer.sock).expect("a handshake");
        peer.write_all(&framed(b"behind")).expect("to write");
        peer
    });
    // With a small budget, little ciphertext is read at once.
    let config = Config::default().read_budget(512);
    let (mut looped, mut seen) = (Loop::new(config), Recorder::default());
    let name = NAME.try_into().expect("a name");
    let options = ConnectOptions::default().tls(Arc::new(Authority::of_all().client()), name);
    let id = looped.net().connect_with(addr, options).expect("it starts");
    assert!(looped.net().pause(id));
    looped.settle(&mut seen, |seen, _| {
        seen.connected() == [id] && server.is_finished()
    });
    let _peer = server.join().expect("its handshake succeeds");
    looped.net().resume(id);
    looped.settle(&mut seen, |seen, _| seen.frames() == [b"behind"]);
    assert!(looped.is_at_rest());
}

#[test]
fn decrypted_bytes_that_were_not_read_are_counted_when_the_connection_ends() {
    let config = Config::default().read_budget(512);
    let mut scene = Secure::secured(config, secured());
    let id = scene.id;
    scene.peer.send(&[7; 6000]);
    scene.until(|_, net| net.stats().bytes_received >= 512);
    assert!(scene.net().abort(id));
    let reason = scene.await_end();
    assert_eq!(reason.unshown_bytes, 6000);
}

#[test]
fn handshake_whose_messages_block_waits_for_room() {
    // A chain that is longer than the sockets buffer.
    let authority = Authority::of_all();
    let identity = authority.sign(NAME);
    let mut chain = identity.chain();
    chain.extend(std::iter::repeat_n(authority.certificate(), 100));
    let config = rustls::ServerConfig::builder().with_no_client_auth();
    let config = config.with_single_cert(chain, identity.key());
    let config = config.expect("the key belongs to the certificate");
    let options = ListenOptions::default()
        .tls(Arc::new(config))
        .send_buffer(4096)
        .receive_buffer(4096);
    let (mut looped, mut seen) = (Loop::new(Config::default()), Recorder::default());
    let addr = looped.listen_with(options);
    // The window is never larger than the buffer was when the socket connected.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let socket = socket.expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a live socket");
    socket.connect(&addr.into()).expect("it listens");
    let mut peer = SecurePeer {
        tls: StreamOwned::new(client(), socket.into()),
        trickles: false,
    };
    peer.tls.conn.write_tls(&mut peer.tls.sock).expect("room");
    for _ in 0..50 {
        looped.turn(Duration::from_millis(2), &mut seen);
    }
    assert!(looped.is_at_rest(), "it spins");
    assert!(
        looped.net().stats().queued_bytes > 0,
        "the sockets take everything"
    );
    let shaking = std::thread::spawn(move || {
        peer.handshake();
        peer
    });
    looped.settle(&mut seen, |seen, _| {
        seen.connected().len() == 1 && shaking.is_finished()
    });
    shaking.join().expect("its handshake succeeds");
}

#[test]
fn reader_that_panics_ends_its_connection_and_leaves_the_session_intact() {
    struct Panics;
    impl Read for Panics {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            panic!("on purpose");
        }
    }
    let mut scene = Secure::secured(Config::default(), secured().send_buffer(4096));
    let id = scene.id;
    // More than the socket takes at once, and encrypted before the reader is asked.
    scene.net().send(id, &[7; 60_000]).expect("there is room");
    let sent = scene.net().send_reader(id, 10, Panics);
    assert!(sent.is_ok());
    let turn = std::panic::AssertUnwindSafe(|| scene.pass(Duration::ZERO));
    std::panic::catch_unwind(turn).expect_err("the reader panics");
    // The ends of turns check that memory is counted right.
    let reason = scene.await_end();
    assert_cause!(reason, DisconnectCause::ReaderFailed(_));
}
