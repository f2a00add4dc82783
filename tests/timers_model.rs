//! The user's timers against a list of what is set: whatever is set, cancelled and ended, between turns and in
//! `on_timer`, each fires when it is due, in the order of their times, and none that is not set.

mod support;

use std::time::{Duration, Instant};

use support::Peer;
use support::by_hand::Loop;
use support::random::{Random, with_seeds};
use throng::{Config, ConnectionId, Expired, Frame, Handler, Net, Timer, TimerId};

const MS: Duration = Duration::from_millis(1);

/// A timer as it should be.
struct Set {
    timer: TimerId,
    key: u64,
    /// When it fires, in milliseconds.
    tick: u128,
    /// How many were set before.
    order: u64,
    connection: Option<ConnectionId>,
    /// When an interval is due next, and its period.
    interval: Option<(Duration, Duration)>,
}

/// What is set, and what may be done about it.
struct Model {
    random: Random,
    start: Instant,
    now: Duration,
    set: Vec<Set>,
    /// Ids of timers that are not set any more.
    stale: Vec<TimerId>,
    orders: u64,
    /// Those that are set from here on have to wait for the next turn.
    turn: u64,
    fired: usize,
    connections: Vec<ConnectionId>,
    ended: Vec<ConnectionId>,
    /// Whether timers are set and cancelled in callbacks.
    meddles: bool,
}

impl Model {
    fn span(&mut self) -> Duration {
        // From nothing to longer than the coarsest wheel is wide.
        let most = [
            1,
            1_500,
            64_000,
            130_000,
            70_000_000,
            5_000_000_000,
            1 << 47,
        ];
        let most = self.random.one_of(&most);
        Duration::from_micros(self.random.next() % most)
    }

    fn add(
        &mut self,
        timer: TimerId,
        key: u64,
        at: Duration,
        connection: Option<ConnectionId>,
        period: Option<Duration>,
    ) {
        self.orders += 1;
        self.set.push(Set {
            timer,
            key,
            tick: tick(at.max(self.now)),
            order: self.orders,
            connection,
            interval: period.map(|period| (at, period)),
        });
    }

    fn set_some(&mut self, net: &mut Net) {
        let (key, after, now) = (self.random.next(), self.span(), self.now);
        let period = self.span().max(MS);
        let id = self.random.one_of(&self.connections);
        let at = if self.random.one_in(2) {
            now + after
        } else {
            now.saturating_sub(after)
        };
        match self.random.below(5) {
            0 => {
                let timer = net.set_timer(after, key);
                self.add(timer, key, now + after, None, None);
            }
            1 => {
                let timer = net.set_timer(self.start + at, key);
                self.add(timer, key, at, None, None);
            }
            2 => {
                let timer = net.set_timer(Timer::at(self.start + at).every(period), key);
                self.add(timer, key, at, None, Some(period));
            }
            3 => {
                let timer = net.set_timer(Timer::after(after).on(id), key);
                // On one that has ended it is not set.
                if !self.ended.contains(&id) {
                    self.add(timer, key, now + after, Some(id), None);
                }
            }
            _ => {
                let timer = net.set_timer(Timer::interval(period).on(id), key);
                // On one that has ended it is not set.
                if !self.ended.contains(&id) {
                    self.add(timer, key, now + period, Some(id), Some(period));
                }
            }
        }
    }

    fn meddle(&mut self, net: &mut Net) {
        match self.random.below(16) {
            0..8 if self.set.len() < 150 => self.set_some(net),
            8..13 if !self.set.is_empty() => {
                let index = self.random.below(self.set.len());
                let timer = self.set.swap_remove(index).timer;
                assert!(net.cancel_timer(timer) && !net.cancel_timer(timer));
                self.stale.push(timer);
            }
            13 | 14 => {
                if let Some(timer) = self.random.choose(&self.stale) {
                    assert!(!net.cancel_timer(timer), "it meets another one");
                }
            }
            15 if self.random.one_in(4) => {
                let id = self.random.one_of(&self.connections);
                let ends = [Net::abort, Net::disconnect, |net: &mut Net, id| {
                    net.release(id).is_ok()
                }];
                if self.random.one_of(&ends)(net, id) {
                    self.ended.push(id);
                }
                let is_of = |set: &Set| set.connection == Some(id) && self.ended.contains(&id);
                let of_it = self.set.iter().filter(|set| is_of(set));
                self.stale.extend(of_it.map(|set| set.timer));
                self.set.retain(|set| !is_of(set));
            }
            _ => {}
        }
    }

    fn has_due(&self) -> bool {
        self.set.iter().any(|set| set.tick <= self.now.as_millis())
    }
}

/// The millisecond in which something fires that is due then.
fn tick(at: Duration) -> u128 {
    at.as_nanos().div_ceil(1_000_000)
}

impl Handler for Model {
    fn on_data(&mut self, _: &mut Net, _: ConnectionId, _: Frame<'_>) {}

    fn on_timer(&mut self, net: &mut Net, expired: Expired) {
        self.fired += 1;
        let is_it = |set: &Set| set.timer == expired.timer;
        let index = self.set.iter().position(is_it).expect("it is set");
        let first = self.set.iter().map(|set| set.tick).min();
        let now = self.now;
        let set = &mut self.set[index];
        assert!(set.tick <= now.as_millis(), "it is early");
        assert_eq!(Some(set.tick), first, "another one comes first");
        assert!(set.order <= self.turn, "it has to wait");
        assert_eq!((expired.key, expired.connection), (set.key, set.connection));
        if let Some((due, period)) = &mut set.interval {
            assert_eq!(expired.due, self.start + *due, "it drifts");
            let missed = (now - *due).as_nanos() / period.as_nanos();
            assert_eq!(u128::from(expired.missed), missed);
            let ahead = period.as_nanos() * (missed + 1);
            *due += Duration::from_nanos(u64::try_from(ahead).expect("some centuries"));
            set.tick = tick(*due);
            self.orders += 1;
            set.order = self.orders;
        } else {
            let due = Duration::from_millis(set.tick as u64);
            assert_eq!((expired.due, expired.missed), (self.start + due, 0));
            let timer = self.set.swap_remove(index).timer;
            assert!(!net.cancel_timer(timer), "it has fired");
            self.stale.push(timer);
        }
        if self.meddles {
            for _ in 0..self.random.below(3) {
                self.meddle(net);
            }
        }
    }
}

fn run(seed: u64) {
    let mut random = Random(seed);
    let per_turn = random.one_of(&[1, 3, 10, 4096]);
    let mut looped = Loop::new(Config::default().timers_per_turn(per_turn));
    let addr = looped.listen();
    let peers: Vec<Peer> = (0..4).map(|_| Peer::connect(addr)).collect();
    let mut seen = support::Recorder::default();
    looped.settle(&mut seen, |_, net| net.connection_count() == peers.len());
    let mut model = Model {
        meddles: random.one_in(2),
        random,
        start: looped.now,
        now: Duration::ZERO,
        set: Vec::new(),
        stale: Vec::new(),
        orders: 0,
        turn: 0,
        fired: 0,
        connections: looped.net().connections(),
        ended: Vec::new(),
    };
    for _ in 0..200 {
        for _ in 0..model.random.below(4) {
            model.meddle(looped.net());
        }
        if let Some(first) = model.set.iter().map(|set| set.tick).min() {
            let first = model.start + Duration::from_millis(first as u64);
            let next = looped.reactor.next_deadline();
            assert!(next.is_some_and(|next| next <= first), "it is too late");
        }
        let passed = if model.random.one_in(2) {
            model.span()
        } else {
            Duration::from_micros(model.random.next() % 30_000)
        };
        model.now += passed;
        (model.fired, model.turn) = (0, model.orders);
        looped.pass(passed, &mut model);
        assert!(model.fired <= per_turn);
        // Those that were set meanwhile may be in the way of others of the same millisecond.
        let new = model.set.iter().filter(|set| set.order > model.turn);
        let new = new.map(|set| set.tick).min().unwrap_or(u128::MAX);
        let is_left = |set: &Set| set.tick <= model.now.as_millis() && set.tick < new;
        if model.set.iter().any(is_left) {
            assert_eq!(model.fired, per_turn, "due, and not fired");
        }
        if model.has_due() {
            let next = looped.reactor.next_timeout(looped.now);
            assert_eq!(next, Some(Duration::ZERO));
        }
        if model.random.one_in(4) {
            let meddles = std::mem::replace(&mut model.meddles, false);
            while model.has_due() {
                model.turn = model.orders;
                looped.pass(Duration::ZERO, &mut model);
            }
            model.meddles = meddles;
        }
    }
}

#[test]
fn timers_fire_as_a_model_predicts() {
    with_seeds(200, run);
}
