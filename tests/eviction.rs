//! The memory budget ends connections whose end frees memory, as few as possible, and none that would have freed it
//! by itself.

mod support;

use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use support::by_hand::Loop;
use support::{Peer, Recorder, bytes_queued, framed};
use throng::{Config, ConnectionId, DisconnectCause, Frame, Handler, Net};

const SECOND: Duration = Duration::from_secs(1);

/// Joins peers that each send so many bytes of a frame of a megabyte.
fn holders(looped: &mut Loop, seen: &mut Recorder, count: usize, bytes: usize) -> Vec<Peer> {
    let addr = looped.listen();
    let begun = &framed(&vec![7; 1_000_000])[..4 + bytes];
    let mut peers = Vec::new();
    for _ in 0..count {
        let all = looped.net().stats().bytes_received + begun.len() as u64;
        let mut peer = Peer::connect(addr);
        peer.write(begun);
        looped.settle(seen, |_, net| net.stats().bytes_received == all);
        peers.push(peer);
    }
    peers
}

/// Joins peers that read everything, on threads of their own, until the stream ends.
fn readers(
    looped: &mut Loop,
    seen: &mut Recorder,
    count: usize,
) -> (Vec<ConnectionId>, Vec<std::thread::JoinHandle<usize>>) {
    let addr = looped.listen();
    let before = seen.connected().len();
    let peers: Vec<Peer> = (0..count).map(|_| Peer::connect(addr)).collect();
    looped.settle(seen, |seen, _| seen.connected().len() == before + count);
    let reading = peers.into_iter().map(|mut peer| {
        std::thread::spawn(move || {
            let mut read = 0;
            while let Ok(n @ 1..) = std::io::Read::read(&mut peer.0, &mut [0; 65_536]) {
                read += n;
            }
            read
        })
    });
    let reading = reading.collect();
    (seen.connected()[before..].to_vec(), reading)
}

/// Sends a shared payload to many connections, in one callback.
struct Announces(Vec<ConnectionId>, Recorder, usize);

impl Handler for Announces {
    fn on_data(&mut self, net: &mut Net, _: ConnectionId, _: Frame<'_>) {
        let report = net.send_many(self.0.iter().copied(), vec![8; self.2]);
        assert_eq!(report.queued, self.0.len());
    }

    fn on_disconnect(&mut self, net: &mut Net, id: ConnectionId, reason: throng::DisconnectReason) {
        self.1.on_disconnect(net, id, reason);
    }
}

#[test]
fn payload_shared_by_peers_that_read_evicts_no_connection() {
    const BUDGET: u64 = 10 << 20;
    let mut looped = Loop::new(Config::default().memory_budget(BUDGET));
    let mut seen = Recorder::default();
    let (mut asking, _) = looped.join(&mut seen);
    let _holders = holders(&mut looped, &mut seen, 10, 950_000);
    let (ids, reading) = readers(&mut looped, &mut seen, 20);
    assert_eq!(looped.net().stats().memory_bytes, 9_500_000);
    let mut announces = Announces(ids.clone(), Recorder::default(), 1 << 20);
    asking.send(b"now");
    looped.settle(&mut announces, |_, net| net.stats().frames_sent == 20);
    assert!(ids.iter().all(|id| looped.net().is_connected(*id)));
    // Whether one of those that hold something had to go depends on how much the sockets took at once.
    assert!(announces.1.ends().len() <= 1, "{:?}", announces.1.ends());
    for id in ids {
        looped.net().disconnect(id);
    }
    looped.rest(&mut seen);
    for reader in reading {
        assert_eq!(reader.join().expect("it reads"), 4 + (1 << 20));
    }
}

#[test]
fn memory_that_is_freed_at_the_end_of_the_turn_evicts_no_connection() {
    /// Sends a payload to each of many connections, in one callback.
    struct Sends(Vec<ConnectionId>, Recorder);

    impl Handler for Sends {
        fn on_data(&mut self, net: &mut Net, _: ConnectionId, _: Frame<'_>) {
            for id in &self.0 {
                net.send(*id, &[7; 10_000]).expect("there is room");
            }
        }

        fn on_disconnect(
            &mut self,
            net: &mut Net,
            id: ConnectionId,
            reason: throng::DisconnectReason,
        ) {
            self.1.on_disconnect(net, id, reason);
        }
    }

    let mut looped = Loop::new(Config::default().memory_budget(100_000));
    let mut seen = Recorder::default();
    let (mut asking, _) = looped.join(&mut seen);
    let (mut other, _) = looped.join(&mut seen);
    let (ids, reading) = readers(&mut looped, &mut seen, 20);
    let mut sends = Sends(ids.clone(), Recorder::default());
    // In one turn.
    asking.send(b"200,000 bytes, please");
    other.send(b"and again");
    looped.settle(&mut sends, |_, net| net.stats().frames_sent == 40);
    assert!(sends.1.ends().is_empty(), "{:?}", sends.1.ends());
    for id in ids {
        looped.net().disconnect(id);
    }
    looped.rest(&mut seen);
    for reader in reading {
        assert_eq!(reader.join().expect("it reads"), 2 * 10_004);
    }
}

#[test]
fn peers_that_share_a_payload_and_do_not_read_are_evicted_last() {
    let config = Config::default().memory_budget(1 << 20);
    let mut looped = Loop::new(config);
    let mut seen = Recorder::default();
    let _holder = holders(&mut looped, &mut seen, 1, 100_000);
    let deaf: Vec<(Peer, ConnectionId)> = (0..2).map(|_| looped.join(&mut seen)).collect();
    let payload = Bytes::from(vec![7; 12 << 20]);
    for (_, id) in &deaf {
        let sent = looped.net().send_bytes(*id, payload.clone());
        sent.expect("there is room");
    }
    looped.rest(&mut seen);
    let ended: Vec<ConnectionId> = seen.ends().iter().map(|(id, _)| *id).collect();
    assert_eq!(ended.len(), 2);
    assert!(deaf.iter().all(|(_, id)| ended.contains(id)));
    for (_, reason) in seen.ends() {
        let DisconnectCause::MemoryBudget { held, .. } = reason.cause else {
            panic!("{reason}");
        };
        assert_eq!(held, reason.unsent_bytes);
    }
    assert_eq!(looped.net().stats().memory_bytes, 100_000);
}

#[test]
fn unreported_room_in_the_socket_is_used_before_eviction() {
    let config = Config::default().memory_budget(3 << 20);
    let mut looped = Loop::new(config);
    let mut seen = Recorder::default();
    let (slow, id) = looped.join(&mut seen);
    let narrow = socket2::SockRef::from(&slow.0).set_recv_buffer_size(16 * 1024);
    narrow.expect("a live socket");
    // The sockets are full, and a little is queued.
    while looped.queued(id) == 0 {
        looped.net().send(id, &[7; 100_000]).expect("there is room");
        looped.pass(Duration::ZERO, &mut seen);
    }
    // Less than Linux reports.
    let mut taken = vec![0; 300_000];
    std::io::Read::read_exact(&mut (&slow.0), &mut taken).expect("it is there");
    let queued = looped.queued(id);
    let _holder = holders(&mut looped, &mut seen, 3, 999_000);
    let room = (3 << 20) - looped.net().stats().memory_bytes;
    looped
        .net()
        .send(id, &vec![7; room as usize])
        .expect("there is room");
    assert!(looped.net().stats().memory_bytes > 3 << 20);
    assert!(queued > 0);
    looped.pass(SECOND, &mut seen);
    looped.rest(&mut seen);
    assert!(seen.ends().is_empty(), "{:?}", seen.ends());
}

#[test]
fn connection_that_holds_the_most_memory_is_evicted_first() {
    let config = Config::default()
        .memory_budget(100_000)
        .max_queued_bytes(1 << 30);
    let mut looped = Loop::new(config);
    let mut seen = Recorder::default();
    let mut joined: Vec<_> = (0..4).map(|_| looped.join(&mut seen)).collect();
    // One peer has sent 40,000 bytes of a frame of a megabyte.
    joined[0].0.write(&framed(&[7; 1_000_000])[..40_004]);
    looped.settle(&mut seen, |_, net| net.stats().bytes_received == 40_004);
    assert_eq!(
        looped.net().stats().memory_bytes,
        40_000,
        "what has arrived, not what was promised"
    );
    let ids: Vec<_> = joined.iter().map(|(_, id)| *id).collect();
    let addr = looped.listen();
    // The sockets of these peers are full, so their connections hold what is sent.
    let mut full = Vec::new();
    for _ in 0..2 {
        let peer = Peer::connect(addr);
        let before = seen.connected().len();
        looped.settle(&mut seen, |seen, _| seen.connected().len() > before);
        full.push((peer, seen.connected()[before]));
    }
    for (_, id) in &full {
        while bytes_queued(looped.net(), *id) == 0 {
            looped.net().send(*id, &[1; 1000]).expect("there is room");
            looped.pass(Duration::ZERO, &mut seen);
        }
    }
    let base = looped.net().stats().memory_bytes;
    assert!(base < 100_000 - 2000, "{base}");
    for (_, id) in &full {
        looped.net().send(*id, &[1; 1000]).expect("there is room");
    }
    assert_eq!(looped.net().stats().memory_bytes, base + 2 * 1004, "exact");
    // A payload that both share counts once.
    let shared = bytes::Bytes::from(vec![2; 20_000]);
    for (_, id) in &full {
        looped
            .net()
            .send_bytes(*id, shared.clone())
            .expect("there is room");
    }
    assert_eq!(
        looped.net().stats().memory_bytes,
        base + 2 * 1004 + 20_000 + 2 * 4
    );
    looped.pass(Duration::ZERO, &mut seen);
    assert!(seen.ends().is_empty(), "it fits");
    // Now one gets too much.
    let big = vec![3; 70_000];
    looped.net().send(full[1].1, &big).expect("there is room");
    looped.pass(Duration::ZERO, &mut seen);
    looped.pass(Duration::ZERO, &mut seen);
    let (id, reason) = seen.ends()[0];
    assert_eq!((id, seen.ends().len()), (full[1].1, 1));
    let DisconnectCause::MemoryBudget { held, budget } = reason.cause else {
        panic!("{reason}");
    };
    assert!(held > 90_000 && budget == 100_000, "{held}");
    assert_eq!(held, reason.unsent_bytes);
    assert!(ids.iter().all(|id| looped.net().is_connected(*id)));
    // What was shared is still held by the other.
    let left = bytes_queued(looped.net(), full[0].1);
    assert_eq!(looped.net().stats().memory_bytes, 40_000 + left);
    drop(full);
    drop(joined);
    looped.settle(&mut seen, |_, net| net.connection_count() == 0);
    assert_eq!(looped.net().stats().memory_bytes, 0);
}

#[test]
fn memory_in_use_is_exact() {
    let mut looped = Loop::new(Config::default().max_queued_bytes(1 << 30));
    let mut seen = Recorder::echoing();
    let (mut peer, _) = looped.join(&mut seen);
    let mut reader = peer.0.try_clone().expect("a live socket");
    let lens = [0, 1, 100, 5000, 70_000, 300_000, 3, 1_000_000, 65_536];
    let wire: Vec<u8> = lens
        .iter()
        .flat_map(|len| framed(&support::pattern(*len)))
        .collect();
    let total = wire.len();
    let writing = std::thread::spawn(move || {
        for part in wire.chunks(7777) {
            peer.0.write_all(part).expect("to write");
        }
        peer
    });
    let reading = std::thread::spawn(move || {
        let mut all = vec![0; total];
        std::io::Read::read_exact(&mut reader, &mut all).expect("all comes back");
    });
    looped.settle(&mut seen, |_, net| net.stats().bytes_sent == total as u64);
    assert_eq!(looped.net().stats().memory_bytes, 0);
    reading.join().expect("all came back");
    let mut peer = writing.join().expect("all was taken");
    // The beginning of a frame that never ends.
    peer.write(&framed(&[7; 100])[..50]);
    looped.settle(&mut seen, |_, net| {
        net.stats().bytes_received == total as u64 + 50
    });
    assert_eq!(looped.net().stats().memory_bytes, 46);
    drop(peer);
    looped.settle(&mut seen, |_, net| net.connection_count() == 0);
    assert_eq!(looped.net().stats().memory_bytes, 0);
}

#[test]
fn slices_of_one_allocation_count_apart() {
    const LEN: usize = 8 << 20;
    let mut looped = Loop::new(Config::default().memory_budget(9 << 20));
    let mut seen = Recorder::default();
    let (deaf, id) = looped.join(&mut seen);
    let narrow = socket2::SockRef::from(&deaf.0).set_recv_buffer_size(16 * 1024);
    narrow.expect("a live socket");
    let payload = Bytes::from(vec![7; LEN]);
    for part in [payload.slice(1..), payload.slice(1..LEN - 1)] {
        let sent = looped.net().send_bytes(id, part);
        sent.expect("there is room");
    }
    looped.rest(&mut seen);
    let ended: Vec<ConnectionId> = seen.ends().iter().map(|(id, _)| *id).collect();
    assert_eq!(ended, [id]);
    assert_eq!(looped.net().stats().memory_bytes, 0);
}

/// Answers the first frame with so much that its peer is congested.
struct AnswersAtLength(Recorder);

impl Handler for AnswersAtLength {
    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        if self.0.frames().is_empty() {
            net.send(id, &[7; 40_000]).expect("there is room");
        }
        self.0.on_data(net, id, frame);
    }
}

#[test]
fn frames_behind_an_answer_are_shown_after_a_write_for_the_budget() {
    let config = Config::default()
        .memory_budget(2 << 20)
        .high_watermark(30_000)
        .low_watermark(20_000);
    let mut looped = Loop::new(config);
    let mut seen = Recorder::default();
    let (mut peer, id) = looped.join(&mut seen);
    let (_other, other) = looped.join(&mut seen);
    let narrow = socket2::SockRef::from(&peer.0).set_recv_buffer_size(128 * 1024);
    narrow.expect("a live socket");
    while looped.queued(id) == 0 {
        looped.net().send(id, &[7; 13_000]).expect("there is room");
        looped.pass(Duration::ZERO, &mut seen);
    }
    peer.write(&framed(b"at length, please").repeat(3));
    let mut answers = AnswersAtLength(Recorder::default());
    looped.settle(&mut answers, |answers, _| !answers.0.frames().is_empty());
    looped.rest(&mut answers);
    let answered = looped.net().connection(id).expect("it is connected");
    assert!(answered.is_congested());
    assert_eq!(answers.0.frames().len(), 1);
    // It reads all there is, and no event of that is looked at.
    let mut taken = vec![0; looped.net().stats().bytes_sent as usize];
    std::io::Read::read_exact(&mut peer.0, &mut taken).expect("it was written");
    let filler = Bytes::from(vec![7; 12 << 20]);
    looped
        .net()
        .send_bytes(other, filler)
        .expect("there is room");
    looped.reactor.begin_turn(looped.now);
    looped.reactor.finish_turn(&mut answers);
    assert_eq!(looped.queued(id), 0);
    looped.settle(&mut answers, |answers, _| answers.0.frames().len() == 3);
}

#[test]
fn readers_of_a_broadcast_stay_while_others_hold_enough() {
    let mut looped = Loop::new(Config::default().memory_budget(20_000_000));
    let mut seen = Recorder::default();
    let (mut asking, _) = looped.join(&mut seen);
    let _holders = holders(&mut looped, &mut seen, 15, 999_000);
    let (ids, reading) = readers(&mut looped, &mut seen, 3);
    let mut announces = Announces(ids.clone(), Recorder::default(), 10_000_000);
    asking.send(b"now");
    looped.settle(&mut announces, |_, net| net.stats().frames_sent == 3);
    assert!(ids.iter().all(|id| looped.net().is_connected(*id)));
    for id in ids {
        looped.net().disconnect(id);
    }
    looped.rest(&mut seen);
    for reader in reading {
        assert_eq!(reader.join().expect("it reads"), 4 + 10_000_000);
    }
}
