//! No connection starves: what another takes of a turn is bounded, in bytes and in calls, whatever it, its peer and the
//! handler do.
//!
//! All of it is counted, none of it is timed. Peers that never stop are sockets that are filled up before each turn.

mod support;

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use support::by_hand::Loop;
use support::{Peer, bytes_queued, framed, pattern};
use throng::{Config, ConnectionId, DisconnectReason, Frame, Framing, Handler, Net};

const KIB: usize = 1024;
const HOSES: usize = 4;
const ROUNDS: u64 = 100;

/// Settings that are as small as they can be.
fn tiny() -> Config {
    Config::default()
        .read_buffer(512)
        .read_budget(1)
        .write_budget(1)
        .accepts_per_turn(1)
}

/// A peer that always has more to say than fits.
struct Hose {
    stream: TcpStream,
    wire: Vec<u8>,
    at: usize,
}

impl Hose {
    /// Begins to send these bytes over and over.
    fn new(addr: SocketAddr, wire: Vec<u8>) -> Self {
        let stream = Peer::connect(addr).0;
        stream.set_nonblocking(true).expect("a live socket");
        Self {
            stream,
            wire,
            at: 0,
        }
    }

    /// Sends until nothing more fits.
    fn fill_up(&mut self) {
        while let Ok(n) = self.stream.write(&self.wire[self.at..]) {
            self.at = (self.at + n) % self.wire.len();
        }
    }
}

/// Counts what each connection is served between two services of the pinger.
#[derive(Default)]
struct Meter {
    bytes: HashMap<ConnectionId, usize>,
    frames: HashMap<ConnectionId, usize>,
    /// Turns since the last service: more than one if a ping is late.
    turns: usize,
    /// The most that any was served, for each of these turns.
    most_bytes: usize,
    most_frames: usize,
    /// The first to connect.
    pinger: Option<ConnectionId>,
    pings: u64,
}

impl Handler for Meter {
    fn on_connect(&mut self, _: &mut Net, id: ConnectionId) {
        self.pinger.get_or_insert(id);
    }

    fn on_data(&mut self, _: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        if self.pinger == Some(id) {
            self.pings += 1;
            let turns = std::mem::take(&mut self.turns).max(1);
            let most = |counts: &mut HashMap<_, usize>| {
                let most = counts.drain().map(|(_, count)| count).max();
                most.unwrap_or(0).div_ceil(turns)
            };
            self.most_bytes = self.most_bytes.max(most(&mut self.bytes));
            self.most_frames = self.most_frames.max(most(&mut self.frames));
        } else {
            *self.bytes.entry(id).or_default() += frame.len();
            *self.frames.entry(id).or_default() += 1;
        }
    }
}

/// A loop with a pinger that has just connected.
struct Track {
    looped: Loop,
    meter: Meter,
    addr: SocketAddr,
    pinger: Peer,
}

impl Track {
    fn new(config: Config) -> Self {
        let mut looped = Loop::new(config);
        let addr = looped.listen();
        let mut meter = Meter::default();
        let pinger = Peer::connect(addr);
        looped.settle(&mut meter, |meter, _| meter.pinger.is_some());
        Self {
            looped,
            meter,
            addr,
            pinger,
        }
    }

    /// Connects peers that never stop.
    fn hoses(&mut self, wire: &[u8]) -> Vec<Hose> {
        let before = self.looped.net().connection_count();
        let hoses = (0..HOSES).map(|_| Hose::new(self.addr, wire.to_vec()));
        let hoses = hoses.collect();
        self.looped.settle(&mut self.meter, |_, net| {
            net.connection_count() == before + HOSES
        });
        hoses
    }

    /// The pinger sends, before a turn.
    fn ping(&mut self, ping: &[u8]) {
        self.meter.turns += 1;
        self.pinger.write(ping);
    }

    /// One turn, before which the pinger pings.
    fn turn(&mut self, ping: &[u8]) {
        self.ping(ping);
        self.looped.turn(Duration::from_millis(5), &mut self.meter);
    }

    /// A ping may come a turn late, since the kernel delivers it. It does not come ever later.
    #[track_caller]
    fn assert_pinger_was_served_each_turn(&self, turns: u64) {
        let pings = self.meter.pings;
        assert!(pings >= turns - turns / 10, "{pings} in {turns} turns");
    }
}

// ----- Reading -----

/// Between two services of the pinger no connection is read more than the budget.
#[track_caller]
fn assert_readers_share(config: Config, framing: impl Into<Framing>, wire: &[u8], most: usize) {
    let mut track = Track::new(config.framing(framing));
    let mut hoses = track.hoses(wire);
    let mut total = 0;
    for _ in 0..ROUNDS {
        hoses.iter_mut().for_each(Hose::fill_up);
        let before = track.looped.net().stats().bytes_received;
        track.turn(b"\0\0\0\0");
        let read = (track.looped.net().stats().bytes_received - before) as usize;
        assert!(read <= HOSES * most + 2 * 4, "{read} bytes of all");
        total += read;
    }
    // Without framing each read is shown as it is.
    if wire.len() == RAW {
        let between = track.meter.most_bytes;
        assert!(between > 0 && between <= most, "{between} of {most} bytes");
    }
    track.assert_pinger_was_served_each_turn(ROUNDS);
    assert!(
        total > ROUNDS as usize * HOSES * 256,
        "they are served, too"
    );
}

/// What a hose sends without framing.
const RAW: usize = 64 * KIB;

#[test]
fn reads_per_turn_are_bounded_by_the_read_budget() {
    let wire = pattern(RAW);
    // The budget of the turn is less.
    assert_readers_share(Config::default(), Framing::raw(), &wire, 512 * KIB);
    assert_readers_share(tiny(), Framing::raw(), &wire, 512);
    let config = Config::default().read_buffer(4 * KIB).read_budget(10_000);
    assert_readers_share(config, Framing::raw(), &wire, 10_000);
}

#[test]
fn reads_of_large_frames_per_turn_are_bounded() {
    let wire = framed(&pattern(3_000_000));
    let framing = Framing::length_prefix();
    // The budget of the turn, and one more read within the budget of a service: 1.5 MiB for all.
    assert_readers_share(Config::default(), framing, &wire, 384 * KIB);
    assert_readers_share(tiny(), framing, &wire, 512);
}

/// Makes turns, before each of which there is more to read than a budget. Returns the least and the most that one has read,
/// except for the first ones.
fn turns_of_hoses(
    track: &mut Track,
    hoses: &mut [Hose],
    mut before: impl FnMut(&mut Track),
) -> (usize, usize) {
    let (mut least, mut most) = (usize::MAX, 0);
    for round in 0..ROUNDS {
        hoses.iter_mut().for_each(Hose::fill_up);
        before(track);
        let before = track.looped.net().stats().bytes_received;
        track
            .looped
            .turn(Duration::from_millis(5), &mut track.meter);
        let read = (track.looped.net().stats().bytes_received - before) as usize;
        // At first they are light.
        if round > 10 {
            (least, most) = (least.min(read), most.max(read));
        }
    }
    (least, most)
}

#[test]
fn heavy_connections_share_the_budget_of_a_turn() {
    // There is always more to read than a budget, so they stay heavy. The pinger makes turns short.
    let (turn_budget, read_budget) = (40 * KIB, 4 * KIB);
    let config = Config::default().framing(Framing::raw());
    let config = config.turn_budget(turn_budget as u64);
    let mut track = Track::new(config.read_budget(read_budget));
    let mut hoses = track.hoses(&pattern(RAW));
    hoses.extend(track.hoses(&pattern(RAW)));
    let (_, most) = turns_of_hoses(&mut track, &mut hoses, |track| track.ping(b"ping"));
    assert!(
        most < turn_budget / 4 + read_budget + KIB,
        "{most} bytes of all"
    );
    assert!(most > 2 * read_budget, "more than one is served per turn");
    track.assert_pinger_was_served_each_turn(ROUNDS);
}

#[test]
fn turns_are_shorter_while_light_connections_send() {
    let budget = 512 * KIB;
    let mut track = Track::new(Config::default().framing(Framing::raw()));
    let mut hoses = track.hoses(&pattern(RAW));
    hoses.extend(track.hoses(&pattern(RAW)));
    let (_, most) = turns_of_hoses(&mut track, &mut hoses, |track| track.ping(b"ping"));
    // A quarter, and what the last service exceeds it by.
    assert!(most <= 2 * budget / 4 + KIB, "{most} bytes of all");
    // A second later turns are long again.
    track.looped.now += Duration::from_secs(1);
    let (least, _) = turns_of_hoses(&mut track, &mut hoses, |_| ());
    assert!(least >= budget, "{least} bytes of all");
}

#[test]
fn turn_is_bounded_even_if_all_connections_become_heavy_in_it() {
    let (budget, at_once) = (256 * KIB, 64 * KIB);
    let config = Config::default().framing(Framing::raw());
    let config = config.turn_budget(budget as u64).read_buffer(at_once);
    let mut track = Track::new(config);
    let mut hoses: Vec<_> = (0..12).flat_map(|_| track.hoses(&pattern(RAW))).collect();
    hoses.iter_mut().for_each(Hose::fill_up);
    let before = track.looped.net().stats().bytes_received;
    track
        .looped
        .turn(Duration::from_millis(5), &mut track.meter);
    let read = (track.looped.net().stats().bytes_received - before) as usize;
    // The first one, the budget, 8 KiB from each other, and the budget of those that are left over.
    let most = at_once + 2 * (budget + at_once) + hoses.len() * 8 * KIB;
    assert!(most < hoses.len() * at_once / 2);
    assert!(read > budget && read <= most, "{read} of {most} bytes");
}

#[test]
fn budgets_without_a_limit_are_allowed() {
    let config = Config::default().framing(Framing::raw());
    let config = config.turn_budget(u64::MAX).read_budget(usize::MAX);
    let mut track = Track::new(config.write_budget(usize::MAX).frames_per_turn(usize::MAX));
    let mut hoses = track.hoses(&pattern(RAW));
    let (_, most) = turns_of_hoses(&mut track, &mut hoses, |_| ());
    assert!(most > HOSES * RAW, "{most} bytes of all");
}

/// Counts what was read in the turn before the pinger was served.
#[derive(Default)]
struct Reader {
    pinger: Option<ConnectionId>,
    read_before_turn: u64,
    read_before_ping: Option<u64>,
}

impl Handler for Reader {
    fn on_connect(&mut self, _: &mut Net, id: ConnectionId) {
        self.pinger.get_or_insert(id);
    }

    fn on_data(&mut self, net: &mut Net, id: ConnectionId, _: Frame<'_>) {
        if self.pinger == Some(id) {
            self.read_before_ping = Some(net.stats().bytes_received - self.read_before_turn);
        }
    }
}

#[test]
fn connection_is_heavy_from_4_kib_on_beside_a_light_one_and_a_heavy_one() {
    let mut looped = Loop::new(Config::default().framing(Framing::raw()));
    let addr = looped.listen();
    let mut reader = Reader::default();
    let mut pinger = Peer::connect(addr);
    looped.settle(&mut reader, |reader, _| reader.pinger.is_some());
    let mut hose = Hose::new(addr, pattern(RAW));
    let mut other = Peer::connect(addr);
    looped.settle(&mut reader, |_, net| net.connection_count() == 3);
    let mut late = 0;
    for round in 0..ROUNDS {
        hose.fill_up();
        // Its event comes before that of the ping.
        other.write(&pattern(5 * KIB));
        pinger.write(b"ping");
        (reader.read_before_turn, reader.read_before_ping) =
            (looped.net().stats().bytes_received, None);
        looped.turn(Duration::from_millis(5), &mut reader);
        // A ping may come a turn late. At first the others are light.
        late += u64::from(reader.read_before_ping.is_none());
        if let Some(read) = reader.read_before_ping
            && round > 10
        {
            assert!(read < KIB as u64, "{read} bytes before the ping");
        }
    }
    assert!(late <= ROUNDS / 10, "{late} pings were late");
}

#[test]
fn tiny_frames_per_turn_are_bounded() {
    // Frames without payload, of one byte each.
    let config = Config::default().framing(Framing::varint());
    let config = config.read_buffer(KIB).read_budget(16 * KIB);
    let mut track = Track::new(config);
    let mut hoses = track.hoses(&[0; 4 * KIB]);
    for _ in 0..ROUNDS / 4 {
        hoses.iter_mut().for_each(Hose::fill_up);
        track.turn(&[0]);
    }
    assert_eq!(track.meter.most_frames, 512);
    track.assert_pinger_was_served_each_turn(ROUNDS / 4);
}

// ----- Writing -----

/// Peers that read as fast as they can, until they are dropped.
struct Drains {
    ids: Vec<ConnectionId>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Drains {
    fn of(track: &mut Track) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..HOSES).map(|_| {
            let (stop, mut peer) = (Arc::clone(&stop), Peer::connect(track.addr).0);
            std::thread::spawn(move || {
                let mut buffer = vec![0; 1024 * KIB];
                while !stop.load(Ordering::Relaxed) && matches!(peer.read(&mut buffer), Ok(1..)) {}
            })
        });
        let threads = threads.collect();
        track.looped.settle(&mut track.meter, |_, net| {
            net.connection_count() == 1 + HOSES
        });
        let mut ids = track.looped.net().connections();
        ids.retain(|id| track.meter.pinger != Some(*id));
        Self { ids, stop, threads }
    }

    /// Turns for a while. Returns the most that was written to one connection in a turn, as `left` counts.
    fn turn(self, mut track: Track, left: impl Fn(&Net, ConnectionId) -> u64) -> u64 {
        let mut worst = 0;
        for _ in 0..ROUNDS {
            let count = |track: &mut Track| -> Vec<u64> {
                let net = track.looped.net();
                let left = self.ids.iter().map(|id| left(net, *id));
                left.collect()
            };
            let before = count(&mut track);
            track.turn(b"\0\0\0\0");
            let written = before.iter().zip(count(&mut track)).map(|(a, b)| a - b);
            worst = worst.max(written.max().unwrap_or(0));
        }
        track.assert_pinger_was_served_each_turn(ROUNDS);
        self.stop.store(true, Ordering::Relaxed);
        drop(track);
        for thread in self.threads {
            thread.join().expect("it reads to the end");
        }
        worst
    }
}

/// The most that is written in a turn of endless frames from readers.
fn written_from_readers(config: Config, reader: impl Read + Clone + Send + 'static) -> u64 {
    const LEN: u64 = 1 << 31;
    let mut track = Track::new(config);
    let drains = Drains::of(&mut track);
    let taken: HashMap<ConnectionId, Arc<AtomicU64>> = drains
        .ids
        .iter()
        .map(|id| {
            let taken = Arc::new(AtomicU64::new(0));
            let counted = Counted(reader.clone(), Arc::clone(&taken));
            let sent = track.looped.net().send_reader(*id, LEN, counted);
            assert!(sent.is_ok());
            (*id, taken)
        })
        .collect();
    // What it has taken and not written is the same before and after, but for one window.
    drains.turn(track, move |net, id| {
        LEN + bytes_queued(net, id) - taken[&id].load(Ordering::Relaxed)
    })
}

/// Counts what is read.
struct Counted<R>(R, Arc<AtomicU64>);

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.0.read(buffer)?;
        self.1.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

/// Returns a byte at a time. A loop that reads all of them exceeds its budget.
#[derive(Clone)]
struct Trickle(usize);

impl Read for Trickle {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = buffer.len().min(1).min(self.0);
        self.0 -= n;
        buffer[..n].fill(7);
        Ok(n)
    }
}

/// Always has as much as fits.
#[derive(Clone)]
struct Plenty;

impl Read for Plenty {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        buffer.fill(7);
        Ok(buffer.len())
    }
}

#[test]
fn writes_per_turn_are_bounded_by_the_write_budget() {
    // A write takes place while less than the budget is used up, and has 64 KiB at most, and a header.
    let worst = written_from_readers(Config::default(), Plenty);
    assert!(worst < (1280 + 64) * KIB as u64 + 4, "{worst}");
    let worst = written_from_readers(tiny(), Plenty);
    assert!(worst <= 64 * KIB as u64 + 4, "{worst}");
}

#[test]
fn reader_that_returns_single_bytes_takes_a_bounded_number_of_calls_per_turn() {
    // Each write counts as 1 KiB at least. One of them is the header.
    let worst = written_from_readers(Config::default().write_budget(16 * KIB), Trickle(3_000));
    assert!(worst <= 16 - 1 + 4, "{worst}");
}

#[test]
fn writes_per_turn_are_bounded_for_frames_of_any_size() {
    for (len, count) in [
        (16 << 20, 1),
        (16 << 20, 8),
        (1 << 20, 128),
        (100_000, 640),
        (1000, 16_000),
    ] {
        for (config, budget) in [(Config::default(), 1280 * KIB as u64), (tiny(), 512)] {
            let mut track = Track::new(config.max_queued_bytes(u64::MAX));
            let drains = Drains::of(&mut track);
            let frame = Bytes::from(vec![7; len]);
            for (number, id) in drains.ids.iter().cycle().take(count * HOSES).enumerate() {
                let net = &mut track.looped.net();
                // The first of each are copied, into one piece.
                let sent = match number / HOSES {
                    0 => net.send(*id, &frame),
                    _ => net.send_bytes(*id, frame.clone()).map_err(Into::into),
                };
                sent.expect("there is room");
            }
            let worst = drains.turn(track, bytes_queued);
            let most = budget;
            assert!(worst <= most, "{worst} of {most} with frames of {len}");
        }
    }
}

/// Counts what was written in the turn before the pinger was served.
#[derive(Default)]
struct Writer {
    pinger: Option<ConnectionId>,
    sent_before_turn: u64,
    written_before_ping: Option<u64>,
}

impl Handler for Writer {
    fn on_connect(&mut self, _: &mut Net, id: ConnectionId) {
        self.pinger.get_or_insert(id);
    }

    fn on_data(&mut self, net: &mut Net, _: ConnectionId, _: Frame<'_>) {
        self.written_before_ping = Some(net.stats().bytes_sent - self.sent_before_turn);
    }
}

#[test]
fn long_queue_is_written_after_light_connections_are_served_and_in_small_parts() {
    let config = Config::default().max_queued_bytes(u64::MAX);
    let (mut looped, mut writer) = (Loop::new(config), Writer::default());
    let addr = looped.listen();
    let mut pinger = Peer::connect(addr);
    looped.settle(&mut writer, |writer, _| writer.pinger.is_some());
    let mut reader = Peer::connect(addr).0;
    reader.set_nonblocking(true).expect("a live socket");
    looped.settle(&mut writer, |_, net| net.connection_count() == 2);
    let mut ids = looped.net().connections();
    ids.retain(|id| writer.pinger != Some(*id));
    let frame = Bytes::from(vec![7; 16 << 20]);
    let mut buffer = vec![0; 1024 * KIB];
    let mut both = 0;
    for _ in 0..ROUNDS {
        while looped.queued(ids[0]) < 64 << 20 {
            let sent = looped.net().send_bytes(ids[0], frame.clone());
            sent.expect("it is open");
        }
        looped.rest(&mut writer);
        // First there is room for what is queued, then there is a ping.
        while matches!(reader.read(&mut buffer), Ok(1..)) {}
        pinger.write(b"\0\0\0\0");
        let before = looped.net().stats().bytes_sent;
        (writer.sent_before_turn, writer.written_before_ping) = (before, None);
        looped.turn(Duration::from_millis(5), &mut writer);
        let written = looped.net().stats().bytes_sent - before;
        if written > 0
            && let Some(before_ping) = writer.written_before_ping
        {
            assert_eq!(before_ping, 0, "of {written} bytes");
            assert!(written <= 128 * KIB as u64, "{written} bytes of all");
            both += 1;
        }
    }
    assert!(both > ROUNDS / 10, "{both} turns had both");
}

// ----- Accepting -----

#[test]
fn accepting_many_peers_does_not_starve_connections() {
    for (config, most) in [(Config::default(), 64), (tiny(), 1)] {
        // Most of them are let in, and some turned away.
        let mut track = Track::new(config.max_connections(150));
        let mut storm = Vec::new();
        let mut busy = 0;
        for _ in 0..ROUNDS {
            while storm.len() as u64 <= track.looped.net().stats().accepted + 2 * most
                && storm.len() < 400
            {
                storm.push(TcpStream::connect(track.addr).expect("to connect"));
            }
            let let_in = |track: &mut Track| {
                let stats = track.looped.net().stats();
                stats.accepted + stats.refused
            };
            let before = let_in(&mut track);
            track.turn(b"\0\0\0\0");
            let came = let_in(&mut track) - before;
            assert!(came <= most, "{came} in a turn of {most}");
            busy += u64::from(came == most);
        }
        track.assert_pinger_was_served_each_turn(ROUNDS);
        assert!(busy > 1, "there was no storm");
    }
}

// ----- Handlers that never stop -----

/// So many calls in a turn are too many.
const TOO_MANY: usize = 20_000;

/// Does in each callback what asks for another one.
#[derive(Default)]
struct Restless {
    calls: usize,
    refusing: Option<SocketAddr>,
    drained: usize,
    frames: usize,
    ends: usize,
}

impl Restless {
    /// A turn that does not return fails instead.
    fn count(&mut self) {
        self.calls += 1;
        assert!(self.calls < TOO_MANY, "the turn goes on for ever");
    }
}

impl Handler for Restless {
    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        self.count();
        self.frames += 1;
        // Two for each frame: to its sender, and to all connections.
        let _ = net.send(id, &frame);
        net.broadcast(|_| true, b"again");
        net.pause(id);
        net.resume(id);
    }

    fn on_drain(&mut self, net: &mut Net, id: ConnectionId) {
        self.count();
        self.drained += 1;
        while !net.connection(id).is_some_and(|it| it.is_congested())
            && net.send(id, &[7; 1000]).is_ok()
        {}
    }

    fn on_disconnect(&mut self, net: &mut Net, _: ConnectionId, _: DisconnectReason) {
        self.count();
        self.ends += 1;
        if let Some(addr) = self.refusing {
            let id = net.connect(addr).expect("an attempt");
            net.abort(id);
        }
    }
}

/// Turns, so many times, unless a turn makes too many calls.
fn turn(looped: &mut Loop, restless: &mut Restless, times: usize) {
    for _ in 0..times {
        restless.calls = 0;
        looped.turn(Duration::from_millis(5), restless);
    }
}

#[test]
fn turn_ends_while_connections_answer_each_other() {
    let config = Config::default().read_budget(4 * KIB).read_buffer(KIB);
    let mut looped = Loop::new(config);
    let mut restless = Restless::default();
    let addr = looped.listen();
    let ids: Vec<_> = (0..3)
        .map(|_| looped.net().connect(addr).expect("an attempt"))
        .collect();
    looped.settle(&mut restless, |_, net| net.connection_count() == 6);
    for id in ids {
        looped.net().send(id, b"go").expect("it is open");
    }
    turn(&mut looped, &mut restless, 50);
    assert!(restless.frames > 1000, "{}", restless.frames);
}

#[test]
fn on_drain_that_fills_the_queue_is_called_again_in_the_next_turn() {
    let config = Config::default()
        .high_watermark(100_000)
        .low_watermark(50_000);
    let mut looped = Loop::new(config);
    let mut restless = Restless::default();
    let addr = looped.listen();
    let mut peer = Peer::connect(addr).0;
    looped.settle(&mut restless, |_, net| net.connection_count() == 1);
    let id = looped.net().connections()[0];
    restless.on_drain(looped.net(), id);
    peer.set_nonblocking(true).expect("a live socket");
    let mut buffer = vec![0; 1024 * KIB];
    for _ in 0..ROUNDS {
        while matches!(peer.read(&mut buffer), Ok(1..)) {}
        let before = restless.drained;
        turn(&mut looped, &mut restless, 1);
        assert!(restless.drained - before <= 1, "once in a turn");
    }
    assert!(restless.drained > 10, "{}", restless.drained);
}

#[test]
fn on_disconnect_is_called_once_per_turn_for_a_chain_of_failing_connects() {
    let (_refusing, addr) = support::refusing();
    let mut looped = Loop::new(Config::default());
    let mut restless = Restless {
        refusing: Some(addr),
        ..Restless::default()
    };
    looped.net().connect(addr).expect("an attempt");
    looped.settle(&mut restless, |restless, _| restless.ends > 0);
    for _ in 0..ROUNDS {
        let before = restless.ends;
        turn(&mut looped, &mut restless, 1);
        assert_eq!(restless.ends, before + 1);
        let timeout = looped.reactor.next_timeout(looped.now);
        assert_eq!(timeout, Some(Duration::ZERO), "there is another one");
    }
}
