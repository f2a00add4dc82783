//! Random schedules, with panics in callbacks: frames that a peer sent before it closed are delivered, each connection ends
//! once, the loop rests while nothing happens, and connections that have ended leave nothing behind.
//!
//! A schedule is made by a seed, which a failure prints; `THRONG_SEED=17 cargo test --test at_rest` plays that one alone.
#![cfg(unix)]

mod support;

use std::collections::HashMap;
use std::io::{self, Cursor, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use bytes::Bytes;
use support::by_hand::Loop;
use support::framed;
use support::random::{Random, with_seeds};
use throng::{
    Backlog, Chunk, Config, ConnectOptions, ConnectionId, DisconnectCause, DisconnectReason, Frame,
    Handler, Net, Overflow,
};

const SECOND: Duration = Duration::from_secs(1);

/// Marks the panics that are part of the schedule.
const AS_AGREED: &str = "as agreed";

/// The other end of a connection.
enum Peer {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Peer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn read(&mut self, most: usize) -> io::Result<usize> {
        let mut buffer = vec![0; most];
        match self {
            Self::Tcp(stream) => stream.read(&mut buffer),
            Self::Unix(stream) => stream.read(&mut buffer),
        }
    }

    fn shutdown(&self, how: Shutdown) {
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(how),
            Self::Unix(stream) => stream.shutdown(how),
        };
    }
}

/// What is known of a connection.
#[derive(Debug, Default)]
struct Life {
    /// Frames that its peer has sent whole.
    sent: u32,
    shown: u32,
    /// Its peer has closed without a reset.
    closed: bool,
    /// The handler has done something by which what has arrived may be lost.
    meddled: bool,
    open_frame: bool,
    reason: Option<String>,
}

/// Checks every call, then does something rash.
struct Rash {
    random: Random,
    lives: HashMap<ConnectionId, Life>,
    deeds: usize,
    panics: bool,
}

impl Rash {
    fn act(&mut self, net: &mut Net, own: ConnectionId) {
        if self.deeds == 0 || self.random.one_in(2) {
            return;
        }
        self.deeds -= 1;
        let mut ids: Vec<ConnectionId> = self.lives.keys().copied().collect();
        ids.sort_unstable_by_key(|id| id.to_string());
        let other = self.random.one_of(&ids);
        let id = if self.random.one_in(2) { own } else { other };
        let len = self.random.one_of(&[0, 1, 1000, 20_000, 300_000]);
        let life = self.lives.get_mut(&id).expect("it is known");
        match self.random.below(21) {
            0..=4 => drop(net.send(id, &vec![7; len])),
            5..=6 => drop(net.send_bytes(id, Bytes::from(vec![7; len]))),
            7 => drop(net.send_latest(id, 1, &vec![7; len])),
            8 => drop(net.send_reader(id, len as u64, Cursor::new(vec![7; len]))),
            9 => {
                let panicking = self.panics;
                let reader = Panicking(panicking);
                if panicking && net.send_reader(id, 10, reader).is_ok() {
                    life.meddled = true;
                }
            }
            10 if net.begin_frame(id, 10).is_ok() => life.open_frame = true,
            11..=12 => {
                let _ = net.push_chunk(id, &[7; 5]);
                let _ = net.finish_frame(id);
            }
            13 => {
                life.meddled |= net.pause(id);
            }
            14 => {
                net.resume(id);
            }
            15 => {
                let backlog = self.random.one_of(&[Backlog::Flush, Backlog::Drop]);
                life.meddled |= net.disconnect_with(id, b"bye", backlog).is_ok();
            }
            16 => life.meddled |= net.disconnect(id) || net.release(id).is_ok(),
            17 => life.meddled |= net.abort(id),
            18 => {
                net.send_many(ids, vec![7; len]);
            }
            19 => drop(net.half_close(id)),
            _ => {
                if self.panics {
                    panic!("{AS_AGREED}");
                }
            }
        }
    }
}

struct Panicking(bool);

impl Read for Panicking {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        assert!(!self.0, "{AS_AGREED}");
        Ok(0)
    }
}

impl Handler for Rash {
    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        let life = self.lives.get_mut(&id).expect("it is known");
        assert!(life.reason.is_none(), "{id}: {life:?}");
        assert_eq!(&*frame, &life.shown.to_le_bytes());
        life.shown += 1;
        let _ = net.send(id, &frame);
        self.act(net, id);
    }

    fn on_chunk(&mut self, _: &mut Net, _: ConnectionId, _: Chunk<'_>) {}

    fn on_drain(&mut self, net: &mut Net, id: ConnectionId) {
        self.act(net, id);
    }

    fn on_half_close(&mut self, net: &mut Net, id: ConnectionId) {
        if self.random.one_in(2) {
            net.disconnect(id);
        }
        self.act(net, id);
    }

    fn on_disconnect(&mut self, net: &mut Net, id: ConnectionId, reason: DisconnectReason) {
        let life = self.lives.get_mut(&id).expect("it is known");
        assert!(life.reason.is_none(), "{id} ends twice: {reason}");
        life.reason = Some(format!("{reason:?}"));
        let is_its_doing = matches!(
            reason.cause,
            DisconnectCause::Reset(_) | DisconnectCause::PeerClosed
        );
        if is_its_doing && life.closed && !life.meddled {
            assert_eq!(life.shown, life.sent, "{id}: {reason:?}");
        }
        self.act(net, id);
    }
}

/// A turn, which may panic as agreed.
fn turn(looped: &mut Loop, time: Duration, rash: &mut Rash) {
    let turned = catch_unwind(AssertUnwindSafe(|| looped.pass(time, rash)));
    if let Err(panic) = turned {
        let words = panic.downcast_ref::<String>().cloned().unwrap_or_default();
        if !words.contains(AS_AGREED) {
            std::panic::resume_unwind(panic);
        }
    }
}

/// Turns while no time passes and no peer does anything. It must come to an end.
fn rest(looped: &mut Loop, rash: &mut Rash) {
    for _ in 0..20_000 {
        turn(looped, Duration::ZERO, rash);
        if looped.reactor.next_timeout(looped.now) != Some(Duration::ZERO) {
            return;
        }
    }
    panic!(
        "it does not come to rest: {:?}, {:?}",
        looped.net(),
        rash.lives
    );
}

fn config(random: &mut Random) -> Config {
    let mut config = Config::default()
        .allow_half_open(random.one_in(2))
        .read_under_backpressure(random.one_in(2))
        .frames_per_turn(random.one_of(&[1, 3, 512]))
        .write_budget(random.one_of(&[512, 512 * 1024]));
    if random.one_in(3) {
        config = config.high_watermark(2000).low_watermark(100);
    }
    if random.one_in(4) {
        config = config
            .max_queued_bytes(2000)
            .overflow(random.one_of(&[Overflow::Refuse, Overflow::Disconnect]));
    }
    if random.one_in(4) {
        config = config.memory_budget(100_000);
    }
    config
}

fn run(seed: u64) {
    let mut random = Random(seed);
    let config = config(&mut random);
    let mut looped = Loop::new(config);
    let mut rash = Rash {
        random: Random(random.next()),
        lives: HashMap::new(),
        deeds: 0,
        panics: random.one_in(2),
    };
    let server = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = server.local_addr().expect("its address");
    let mut peers: Vec<(ConnectionId, Option<Peer>)> = Vec::new();
    for number in 0..4 {
        let options = ConnectOptions::default();
        let (id, peer) = if number % 2 == 0 {
            let (ours, peer) = UnixStream::pair().expect("two sockets");
            peer.set_nonblocking(true).expect("a live socket");
            let id = looped.net().adopt(ours, options).expect("it is connected");
            (id, Peer::Unix(peer))
        } else {
            let id = looped.net().connect(addr).expect("it starts");
            let peer = server.accept().expect("it connects").0;
            peer.set_nonblocking(true).expect("a live socket");
            // What the kernel holds back is lost in a close that resets.
            peer.set_nodelay(true).expect("a live socket");
            (id, Peer::Tcp(peer))
        };
        rash.lives.insert(id, Life::default());
        peers.push((id, Some(peer)));
    }
    looped.settle(&mut rash, |_, net| net.connection_count() == 4);
    rash.deeds = 60;
    for _ in 0..150 {
        let at = random.below(peers.len());
        let (id, slot) = &mut peers[at];
        if let Some(peer) = slot {
            let life = rash.lives.get_mut(id).expect("it is known");
            match random.below(12) {
                0..=5 => {
                    let mut wire = Vec::new();
                    let count = random.one_of(&[1, 2, 40]);
                    for number in life.sent..life.sent + count {
                        wire.extend(framed(&number.to_le_bytes()));
                    }
                    match peer.write(&wire) {
                        Ok(all) if all == wire.len() => life.sent += count,
                        // It would have to remember what is missing.
                        _ => {
                            life.meddled = true;
                            *slot = None;
                        }
                    }
                }
                6..=8 => drop(peer.read(random.one_of(&[1, 1000, 100_000]))),
                9 => peer.shutdown(random.one_of(&[Shutdown::Write, Shutdown::Read])),
                10 => {
                    life.closed = true;
                    *slot = None;
                }
                _ => {}
            }
        }
        if random.one_in(3) {
            turn(&mut looped, Duration::ZERO, &mut rash);
        }
        if random.one_in(20) {
            rest(&mut looped, &mut rash);
        }
        if random.one_in(40) {
            turn(&mut looped, SECOND, &mut rash);
        }
    }
    for (id, slot) in &mut peers {
        if slot.take().is_some() {
            rash.lives.get_mut(id).expect("it is known").closed = true;
        }
    }
    // Paused connections are resumed. An open frame may stay unfinished.
    rash.deeds = 0;
    for _ in 0..200 {
        for (id, _) in &peers {
            looped.net().resume(*id);
        }
        rest(&mut looped, &mut rash);
        turn(&mut looped, SECOND, &mut rash);
    }
    // Half-open connections may stay for ever, with or without an open frame.
    if random.one_in(2) {
        looped.net().shutdown(5 * SECOND);
    }
    for (id, life) in &rash.lives {
        if life.reason.is_none() && !looped.net().is_shutting_down() {
            assert!(looped.net().disconnect(*id), "{id}: {life:?}");
        }
    }
    for _ in 0..200 {
        rest(&mut looped, &mut rash);
        turn(&mut looped, SECOND, &mut rash);
    }
    for (id, life) in &rash.lives {
        assert!(life.reason.is_some(), "{id} does not end: {life:?}");
    }
    assert_eq!(
        (
            looped.net().connection_count(),
            looped.net().stats().memory_bytes
        ),
        (0, 0)
    );
    for _ in 0..5 {
        turn(&mut looped, 3600 * SECOND, &mut rash);
    }
    assert_eq!(looped.reactor.next_timeout(looped.now), None);
}

#[test]
fn random_schedule_loses_no_frame_and_comes_to_rest() {
    with_seeds(200, run);
}
