//! A handler that sends in every possible way, in any order.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use throng::sim::{Chaos, Faults, Random, World, check};
use throng::{
    Backlog, Chunk, Config, ConnectionId, DisconnectReason, Expired, Frame, Handler, ListenOptions,
    Net, Stage, Timer,
};

use crate::book::{Book, budgets, framing};
use crate::echo::{ADDR, LONG};

const RESUME: u64 = 1;
const WAKE: u64 = 2;
const CHUNK: u64 = 3;

pub(crate) struct Mix {
    pub(crate) book: Book,
    /// How many answers it still gives.
    pub(crate) answers: usize,
    /// The longest of its long frames.
    pub(crate) longest: usize,
    /// Attempts that have failed.
    pub(crate) failed: Vec<DisconnectReason>,
    random: Random,
    count: usize,
    /// The frames that arrive in chunks.
    arriving: BTreeMap<ConnectionId, Vec<u8>>,
    /// The rest of the open frame of each connection.
    open: BTreeMap<ConnectionId, Vec<u8>>,
    /// Each reader that is not finished has a clone.
    readers: Arc<()>,
    /// Closes connections on its own.
    is_harsh: bool,
}

/// Has no data at every other call.
struct Hesitant {
    bytes: io::Cursor<Vec<u8>>,
    most: usize,
    has_data: bool,
    _counted: Arc<()>,
}

impl Read for Hesitant {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.has_data = !self.has_data;
        if !self.has_data {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let most = self.most.min(buffer.len());
        self.bytes.read(&mut buffer[..most])
    }
}

impl Mix {
    pub(crate) fn new(random: Random, is_harsh: bool) -> Self {
        Self {
            book: Book::default(),
            answers: usize::MAX,
            longest: 20_000,
            failed: Vec::new(),
            random,
            count: 0,
            arriving: BTreeMap::new(),
            open: BTreeMap::new(),
            readers: Arc::default(),
            is_harsh,
        }
    }

    /// Returns a unique payload.
    fn payload(&mut self, most: usize) -> Vec<u8> {
        self.count += 1;
        let mut payload = self.count.to_string().into_bytes();
        payload.resize(payload.len() + self.random.length(most), b'.');
        payload
    }

    fn soon(&mut self) -> Duration {
        self.random.duration(Duration::from_millis(200))
    }

    fn timer(&mut self, net: &mut Net, id: ConnectionId, key: u64) {
        let soon = self.soon();
        net.set_timer(Timer::after(soon).on(id), key);
    }

    fn note(&mut self, result: bool, id: ConnectionId, payload: &[u8]) {
        if result {
            self.book.sent(id, payload);
        }
    }

    pub(crate) fn answer(&mut self, net: &mut Net, id: ConnectionId) {
        if self.answers == 0 {
            return;
        }
        self.answers -= 1;
        let (small, large) = (self.payload(100), self.payload(self.longest));
        match self.random.below(24) {
            0..=3 => {
                let sent = net.send(id, &small).is_ok();
                self.note(sent, id, &small);
            }
            4 | 5 => {
                let sent = net.send_bytes(id, large.clone().into()).is_ok();
                self.note(sent, id, &large);
            }
            6 => {
                let sent = net.send_with(id, |out| io::Write::write_all(out, &small));
                self.note(sent.is_ok(), id, &small);
            }
            7 => {
                let failed = net.send_with(id, |out| {
                    io::Write::write_all(out, &small)?;
                    Err(io::Error::other("not after all"))
                });
                assert!(failed.is_err());
            }
            8 | 9 => self.spread(net, id, small),
            10 => self.spread(net, id, large),
            11..=13 => {
                let slot = self.random.below(4) as u32;
                if net.send_latest(id, slot, &small).is_ok() {
                    self.book.sent_to_slot(id, slot, &small);
                }
            }
            14 | 15 => {
                let reader = Hesitant {
                    bytes: io::Cursor::new(large.clone()),
                    most: self.random.length(20_000).max(large.len() / 200),
                    has_data: self.random.one_in(2),
                    _counted: Arc::clone(&self.readers),
                };
                let sent = net.send_reader(id, large.len() as u64, reader).is_ok();
                self.note(sent, id, &large);
                self.timer(net, id, WAKE);
            }
            16 | 17 => {
                let begun = net.begin_frame(id, large.len() as u64).is_ok();
                if begun {
                    self.book.sent(id, &large);
                    self.open.insert(id, large);
                    self.timer(net, id, CHUNK);
                }
            }
            18 | 19 => {
                net.pause(id);
                self.timer(net, id, RESUME);
            }
            20 if self.is_harsh => self.kick(net, id),
            21 if self.is_harsh && self.random.one_in(4) => {
                net.abort(id);
                self.book.of(id).was_closed = true;
            }
            22 if self.is_harsh => {
                let closed = net.half_close(id).is_ok();
                if closed {
                    self.book.of(id).was_closed = true;
                }
            }
            23 if self.is_harsh => {
                net.disconnect(id);
                self.book.of(id).was_closed = true;
            }
            _ => {}
        }
    }

    /// Sends to several connections at once.
    fn spread(&mut self, net: &mut Net, id: ConnectionId, payload: Vec<u8>) {
        let all = net.connections();
        let chosen: Vec<ConnectionId> = match self.random.below(3) {
            0 => all,
            _ => all
                .into_iter()
                .filter(|it| *it == id || self.random.one_in(2))
                .collect(),
        };
        let before: Vec<u64> = chosen.iter().map(|id| queued(net, *id)).collect();
        let report = if self.random.one_in(2) {
            net.send_many(chosen.iter().copied(), payload.as_slice())
        } else {
            net.broadcast(|id| chosen.contains(&id), payload.as_slice())
        };
        let mut queued_for = 0;
        for (id, before) in chosen.into_iter().zip(before) {
            if queued(net, id) > before {
                queued_for += 1;
                self.book.sent(id, &payload);
            }
        }
        assert_eq!(report.queued, queued_for);
    }

    fn kick(&mut self, net: &mut Net, id: ConnectionId) {
        let backlog = *self.random.choose(&[Backlog::Drop, Backlog::Flush]);
        let last = self.payload(100);
        if net.disconnect_with(id, &last, backlog).is_ok() {
            self.book.sent(id, &last);
            let account = self.book.of(id);
            account.was_closed = true;
            account.last = Some(last);
        }
    }

    fn push(&mut self, net: &mut Net, id: ConnectionId) {
        let Some(mut rest) = self.open.remove(&id) else {
            return;
        };
        let len = self.random.length(8000).min(rest.len());
        if net.push_chunk(id, &rest[..len]).is_ok() {
            rest.drain(..len);
        }
        if rest.is_empty() {
            let _ = net.finish_frame(id);
        } else {
            self.open.insert(id, rest);
            self.timer(net, id, CHUNK);
        }
    }
}

fn queued(net: &Net, id: ConnectionId) -> u64 {
    net.connection(id).map_or(0, |it| it.queued_bytes())
}

impl Handler for Mix {
    fn on_connect(&mut self, net: &mut Net, id: ConnectionId) {
        self.book.open(net, id);
        self.answer(net, id);
    }

    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        self.book.received(id, &frame);
        self.answer(net, id);
    }

    fn on_chunk(&mut self, net: &mut Net, id: ConnectionId, chunk: Chunk<'_>) {
        self.arriving
            .entry(id)
            .or_default()
            .extend_from_slice(&chunk);
        if chunk.is_last() {
            let frame = self.arriving.remove(&id).unwrap_or_default();
            self.book.received(id, &frame);
            self.answer(net, id);
        }
    }

    fn on_drain(&mut self, net: &mut Net, id: ConnectionId) {
        self.answer(net, id);
    }

    fn on_timer(&mut self, net: &mut Net, expired: Expired) {
        let id = expired.connection.expect("each belongs to a connection");
        match expired.key {
            RESUME => {
                net.resume(id);
            }
            WAKE => {
                net.wake_reader(id);
                if Arc::strong_count(&self.readers) > 1 {
                    self.timer(net, id, WAKE);
                }
            }
            _ => self.push(net, id),
        }
    }

    fn on_disconnect(&mut self, net: &mut Net, id: ConnectionId, reason: DisconnectReason) {
        if reason.stage == Stage::Connecting {
            self.failed.push(reason);
            return;
        }
        self.book.of(id).was_left_open = self.open.remove(&id).is_some();
        self.book.close(id, reason);
        if let Some(other) = net.connections().first() {
            self.answer(net, *other);
        }
    }
}

/// Random limits.
pub(crate) fn limits(random: &mut Random) -> Config {
    let mut config = budgets(random).disconnect_timeout(LONG);
    if random.one_in(3) {
        config = config.max_queued_bytes(random.length(50_000) as u64);
    }
    if random.one_in(2) {
        let max = 10 + random.length(50_000) as u64;
        config = config
            .max_queued_bytes(max)
            .high_watermark(max / 2)
            .low_watermark(max / 6);
    }
    if random.one_in(2) {
        config = config.stream_frames_over(random.length(3000) as u64);
    }
    config
}

fn scenario(world: &World, is_harsh: bool) {
    let mut random = world.random().fork();
    let framing = framing(&mut random);
    let config = limits(&mut random);
    let host = world.host(config, Mix::new(random.fork(), is_harsh));
    let options = ListenOptions::default().framing(framing.clone());
    host.with(|_, net| net.listen_with(ADDR, options))
        .expect("a free port");
    let logs = Chaos::new(ADDR)
        .peers(6)
        .steps(80)
        .framing(framing)
        .run(world);
    world.run_for(2 * LONG);
    let mix = host.handler();
    mix.book.check(&logs);
    assert!(
        mix.book
            .accounts
            .values()
            .all(|account| account.reason.is_some())
    );
    assert_eq!(host.open_files(), 0);
}

#[test]
fn frames_sent_in_any_way_arrive_whole_and_in_order() {
    check(150, |world| scenario(world, false));
}

#[test]
fn frames_of_kicked_and_closed_connections_are_accounted_for() {
    check(150, |world| scenario(world, true));
}

#[test]
fn undisturbed_connections_lose_nothing() {
    check(100, |world| {
        world.set_faults(Faults::delays());
        scenario(world, true);
    });
}
