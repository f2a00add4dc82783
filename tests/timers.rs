//! The user's timers, on a clock that the test moves: when they fire, how often, and when not any more.

mod support;

use std::time::{Duration, Instant};

use proptest::prelude::*;
use support::by_hand::Loop;
use support::scene::Scene;
use support::{Peer, Recorder};
use throng::{
    Config, ConnectionId, DisconnectReason, EventLoop, Expired, Frame, Handler, Net, Timer, TimerId,
};

/// What to do when a timer fires.
type Then = Box<dyn FnMut(&mut Net, Expired)>;

/// Notes what fires, and does something then if told so.
#[derive(Default)]
struct Clock {
    seen: Recorder,
    fired: Vec<Expired>,
    then: Option<Then>,
}

impl Clock {
    fn keys(&mut self) -> Vec<u64> {
        self.fired.drain(..).map(|expired| expired.key).collect()
    }
}

impl Handler for Clock {
    fn on_connect(&mut self, net: &mut Net, id: ConnectionId) {
        self.seen.on_connect(net, id);
    }

    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        self.seen.on_data(net, id, frame);
    }

    fn on_disconnect(&mut self, net: &mut Net, id: ConnectionId, reason: DisconnectReason) {
        self.seen.on_disconnect(net, id, reason);
    }

    fn on_timer(&mut self, net: &mut Net, expired: Expired) {
        self.fired.push(expired);
        if let Some(then) = &mut self.then {
            then(net, expired);
        }
    }
}

const MS: Duration = Duration::from_millis(1);

fn scene() -> (Loop, Clock) {
    (Loop::new(Config::default()), Clock::default())
}

#[test]
fn timer_fires_once_when_it_is_due() {
    let (mut looped, mut clock) = scene();
    let start = looped.now;
    let timer = looped.net().set_timer(5 * MS, 7);
    assert_eq!(looped.reactor.next_deadline(), Some(start + 5 * MS));
    assert_eq!(looped.reactor.next_timeout(start), Some(5 * MS));
    looped.pass(4 * MS, &mut clock);
    assert!(clock.fired.is_empty());
    looped.pass(MS, &mut clock);
    let [expired] = clock.fired[..] else {
        panic!("one: {:?}", clock.fired);
    };
    assert_eq!((expired.timer, expired.key), (timer, 7));
    assert_eq!((expired.connection, expired.missed), (None, 0));
    assert_eq!(expired.due, start + 5 * MS);
    looped.pass(Duration::from_secs(60), &mut clock);
    assert_eq!(clock.fired.len(), 1);
    assert!(!looped.net().cancel_timer(timer), "it has fired");
    assert_eq!(looped.reactor.next_deadline(), None);
}

#[test]
fn timer_durations_count_from_the_start_of_the_turn() {
    const WORK: Duration = Duration::from_millis(30);
    const AFTER: Duration = Duration::from_millis(20);
    /// Works longer than its timers are to take, sets them, and notes when.
    struct Worker {
        set_at: Option<Instant>,
        fired: Vec<(Expired, Instant)>,
    }
    impl Handler for Worker {
        fn on_data(&mut self, _: &mut Net, _: ConnectionId, _: Frame<'_>) {}

        fn on_timer(&mut self, net: &mut Net, expired: Expired) {
            if self.set_at.is_some() {
                self.fired.push((expired, Instant::now()));
                return;
            }
            let began = Instant::now();
            while began.elapsed() < WORK {
                std::hint::spin_loop();
            }
            let now = Instant::now();
            self.set_at = Some(now);
            net.set_timer(AFTER, 1);
            net.set_timer(now + AFTER, 2);
        }
    }
    let mut event_loop = EventLoop::new(Config::default()).expect("a loop");
    event_loop.net().set_timer(Duration::ZERO, 0);
    let mut worker = Worker {
        set_at: None,
        fired: Vec::new(),
    };
    support::turn_until(&mut event_loop, &mut worker, |worker, _| {
        worker.fired.len() == 2
    });
    let set_at = worker.set_at.expect("it was set");
    let [(of_the_turn, _), (of_the_clock, fired_at)] = worker.fired[..] else {
        panic!("two: {:?}", worker.fired);
    };
    assert_eq!((of_the_turn.key, of_the_clock.key), (1, 2));
    assert!(of_the_turn.due < set_at, "it was due when it was set");
    assert!(of_the_clock.due >= set_at + AFTER && fired_at >= set_at + AFTER);
}

#[test]
fn timers_fire_in_the_order_of_their_deadlines() {
    let (mut looped, mut clock) = scene();
    for key in [3, 1, 2, 500, 70_000, 4] {
        let at = looped.now + key as u32 * MS;
        looped.net().set_timer(at, key);
    }
    let past = looped.now - MS;
    looped.net().set_timer(past, 0);
    looped.pass(Duration::from_secs(100), &mut clock);
    assert_eq!(clock.keys(), [0, 1, 2, 3, 4, 500, 70_000]);
}

#[test]
fn cancelled_timer_does_not_fire() {
    let (mut looped, mut clock) = scene();
    let timer = looped.net().set_timer(MS, 1);
    let interval = looped.net().set_timer(Timer::interval(MS), 2);
    assert!(looped.net().cancel_timer(timer));
    assert!(!looped.net().cancel_timer(timer));
    looped.pass(MS, &mut clock);
    assert!(looped.net().cancel_timer(interval));
    looped.pass(100 * MS, &mut clock);
    assert_eq!(clock.keys(), [2]);
}

#[test]
fn timer_can_cancel_another_that_is_due_in_the_same_turn() {
    let (mut looped, mut clock) = scene();
    let first = looped.net().set_timer(MS, 0);
    let second = looped.net().set_timer(2 * MS, 0);
    clock.then = Some(Box::new(move |net, _| assert!(net.cancel_timer(second))));
    looped.pass(10 * MS, &mut clock);
    let [expired] = clock.fired[..] else {
        panic!("one: {:?}", clock.fired);
    };
    assert_eq!(expired.timer, first);
}

#[test]
fn zero_timer_that_sets_itself_does_not_hold_the_turn() {
    let (mut looped, mut clock) = scene();
    clock.then = Some(Box::new(|net, expired| {
        net.set_timer(Duration::ZERO, expired.key + 1);
        net.set_timer(net.now() - MS, expired.key + 1000);
    }));
    looped.net().set_timer(Duration::ZERO, 0);
    looped.pass(Duration::ZERO, &mut clock);
    assert_eq!(clock.keys(), [0]);
    assert_eq!(
        looped.reactor.next_timeout(looped.now),
        Some(Duration::ZERO)
    );
    looped.pass(Duration::ZERO, &mut clock);
    assert_eq!(clock.keys(), [1, 1000]);
}

#[test]
fn timers_above_timers_per_turn_fire_in_the_next_turn() {
    let mut looped = Loop::new(Config::default().timers_per_turn(10));
    let mut clock = Clock::default();
    for key in 0..25 {
        looped.net().set_timer(MS, key);
    }
    looped.pass(MS, &mut clock);
    assert_eq!(clock.fired.len(), 10);
    assert_eq!(
        looped.reactor.next_timeout(looped.now),
        Some(Duration::ZERO)
    );
    looped.pass(Duration::ZERO, &mut clock);
    looped.pass(Duration::ZERO, &mut clock);
    assert_eq!(clock.keys(), (0..25).collect::<Vec<_>>());
    assert_eq!(looped.reactor.next_timeout(looped.now), None);
}

#[test]
fn timers_of_a_connection_end_with_it() {
    type End = fn(&mut Scene, &mut Clock);
    let ends: [End; 4] = [
        |scene, _| assert!(scene.looped.net().disconnect(scene.id)),
        |scene, _| assert!(scene.looped.net().abort(scene.id)),
        |scene, _| scene.looped.net().release(scene.id).expect("it is open"),
        |scene, clock| {
            scene.peer.half_close();
            let looped = &mut scene.looped;
            looped.settle(clock, |_, net| net.connection_count() == 0);
        },
    ];
    for end in ends {
        let mut scene = Scene::with(Config::default());
        let mut clock = Clock::default();
        let net = &mut scene.looped.net();
        let timers: Vec<TimerId> = (0..4)
            .map(|key| net.set_timer(Timer::after(50 * MS).on(scene.id), key))
            .collect();
        net.set_timer(Timer::interval(30 * MS).on(scene.id), 10);
        let of_the_loop = net.set_timer(60 * MS, 99);
        // From the middle of the list, and its end.
        assert!(net.cancel_timer(timers[2]));
        assert!(net.cancel_timer(timers[0]));
        scene.looped.pass(30 * MS, &mut clock);
        let connection = clock.fired[0].connection;
        assert_eq!((clock.keys(), connection), (vec![10], Some(scene.id)));
        end(&mut scene, &mut clock);
        let net = &mut scene.looped.net();
        for late in [Timer::after(MS), Timer::interval(MS)] {
            let unset = net.set_timer(late.on(scene.id), 5);
            assert!(!net.cancel_timer(unset), "it was not set");
        }
        assert!(!net.cancel_timer(timers[1]), "it has ended");
        for _ in 0..5 {
            scene.looped.pass(20 * MS, &mut clock);
        }
        assert_eq!(clock.keys(), [99]);
        assert!(!scene.looped.net().cancel_timer(of_the_loop));
    }
}

#[test]
fn timers_of_one_connection_do_not_affect_another() {
    let (mut looped, mut clock) = scene();
    let addr = looped.listen();
    let peers: Vec<Peer> = (0..3).map(|_| Peer::connect(addr)).collect();
    looped.settle(&mut clock, |clock, _| clock.seen.connected().len() == 3);
    let ids = clock.seen.connected();
    for key in 0..9 {
        let id = ids[key as usize % 3];
        looped.net().set_timer(Timer::after(5 * MS).on(id), key);
    }
    assert!(looped.net().abort(ids[1]));
    looped.pass(5 * MS, &mut clock);
    assert_eq!(clock.keys(), [0, 2, 3, 5, 6, 8]);
    drop(peers);
}

#[test]
fn timer_can_be_set_while_connecting_and_in_on_disconnect() {
    /// Sets a timer of the loop when a connection ends.
    struct Again(Vec<u64>);
    impl Handler for Again {
        fn on_data(&mut self, _: &mut Net, _: ConnectionId, _: Frame<'_>) {}
        fn on_disconnect(&mut self, net: &mut Net, id: ConnectionId, _: DisconnectReason) {
            let unset = net.set_timer(Timer::after(MS).on(id), 2);
            assert!(!net.cancel_timer(unset), "it was not set");
            net.set_timer(MS, 1);
        }
        fn on_timer(&mut self, _: &mut Net, expired: Expired) {
            self.0.push(expired.key);
        }
    }
    let (_refusing, addr) = support::refusing();
    let mut looped = Loop::new(Config::default());
    let id = looped.net().connect(addr).expect("it starts");
    looped.net().set_timer(Timer::after(3 * MS).on(id), 3);
    let mut again = Again(Vec::new());
    looped.settle(&mut again, |_, net| net.stats().disconnected == 1);
    looped.rest(&mut again);
    looped.pass(10 * MS, &mut again);
    assert_eq!(again.0, [1], "and not the one of the connection");
}

/// A game that ticks, in a loop that is late now and then.
fn ticks(period: Duration, turns: impl Iterator<Item = Duration>) {
    let (mut looped, mut clock) = scene();
    let start: Instant = looped.now;
    let timer = looped.net().set_timer(Timer::interval(period), 1);
    let mut counted = 0;
    for passed in turns {
        looped.pass(passed, &mut clock);
        let elapsed = looped.now - start;
        // Timers are exact to the millisecond: the last time may have to wait for the next turn.
        let most = elapsed.as_nanos() / period.as_nanos();
        let least = elapsed.saturating_sub(MS).as_nanos() / period.as_nanos();
        for expired in clock.fired.drain(..) {
            counted += 1;
            let due = start + period * u32::try_from(counted).expect("an hour");
            assert_eq!(expired.due, due, "it drifts");
            assert_eq!(expired.timer, timer);
            counted += u128::from(expired.missed);
        }
        assert!((least..=most).contains(&counted), "{counted} of {most}");
    }
}

#[test]
fn interval_of_60_hz_does_not_drift_in_an_hour() {
    let mut random: u64 = 1;
    let turns = std::iter::repeat_with(move || {
        // xorshift64 (Marsaglia, 2003).
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        match random % 100 {
            // Late, and very late.
            0 => Duration::from_micros(random % 200_000),
            _ => Duration::from_micros(random % 20_000),
        }
    });
    let hour = Duration::from_secs(3600);
    let mut passed = Duration::ZERO;
    ticks(
        Duration::from_secs(1) / 60,
        turns.take_while(move |turn| {
            passed += *turn;
            passed < hour
        }),
    );
}

proptest! {
    #[test]
    fn intervals_do_not_drift_and_report_missed_ticks(
        period in 1_000_000_u64..2_000_000_000,
        turns in prop::collection::vec(0_u64..5_000_000_000, 1..60),
    ) {
        ticks(Duration::from_nanos(period), turns.into_iter().map(Duration::from_nanos));
    }
}

#[test]
fn interval_starts_at_its_first_instant() {
    let (mut looped, mut clock) = scene();
    let first = looped.now + 100 * MS;
    looped.net().set_timer(Timer::at(first).every(10 * MS), 1);
    looped.pass(99 * MS, &mut clock);
    assert!(clock.fired.is_empty());
    looped.pass(MS, &mut clock);
    looped.pass(35 * MS, &mut clock);
    let seen: Vec<(Instant, u64)> = clock.fired.iter().map(|t| (t.due, t.missed)).collect();
    assert_eq!(seen, [(first, 0), (first + 10 * MS, 2)]);
}

#[test]
fn period_is_at_least_a_millisecond() {
    let (mut looped, mut clock) = scene();
    looped.net().set_timer(Timer::interval(Duration::ZERO), 1);
    looped.pass(10 * MS, &mut clock);
    assert_eq!((clock.fired.len(), clock.fired[0].missed), (1, 9));
}

#[test]
fn timer_beyond_the_clock_never_fires() {
    let (mut looped, mut clock) = scene();
    let timer = looped.net().set_timer(Duration::MAX, 1);
    let interval = looped.net().set_timer(Timer::interval(Duration::MAX), 1);
    looped.pass(Duration::from_secs(1 << 30), &mut clock);
    assert!(clock.fired.is_empty());
    assert!(looped.net().cancel_timer(timer) && looped.net().cancel_timer(interval));
}

#[test]
fn million_timers_fire_and_are_cancelled() {
    let mut looped = Loop::new(Config::default().timers_per_turn(usize::MAX));
    let mut clock = Clock::default();
    let timers: Vec<TimerId> = (0..1_000_000_u64)
        .map(|key| looped.net().set_timer((key % 60_000) as u32 * MS, key))
        .collect();
    for timer in timers.iter().step_by(2) {
        assert!(looped.net().cancel_timer(*timer));
    }
    looped.pass(Duration::from_secs(60), &mut clock);
    assert_eq!(clock.fired.len(), 500_000);
}

#[test]
fn zero_timer_set_in_on_timer_fires_in_the_next_turn() {
    let (mut looped, mut clock) = scene();
    for _ in 0..1000 {
        looped.net().set_timer(3600 * 1000 * MS, 0);
    }
    clock.then = Some(Box::new(|net, expired| {
        net.set_timer(Duration::ZERO, expired.key + 1);
    }));
    looped.net().set_timer(Duration::ZERO, 1);
    for key in 1..4 {
        looped.pass(MS, &mut clock);
        assert_eq!(clock.keys(), [key]);
    }
}

/// The wheel was not advanced meanwhile, and would begin with a wide slot.
#[test]
fn first_timer_after_a_while_makes_no_empty_turn() {
    let (mut looped, _) = scene();
    looped.now += 300_000 * MS;
    looped.reactor.begin_turn(looped.now);
    looped.net().set_timer(1000 * MS, 0);
    let next = looped.reactor.next_timeout(looped.now);
    assert_ne!(next, Some(Duration::ZERO));
    assert!(looped.reactor.next_deadline() > Some(looped.now));
}

#[test]
fn timer_for_a_past_instant_fires_now() {
    let (mut looped, mut clock) = scene();
    looped.pass(100 * MS, &mut clock);
    looped.net().set_timer(Duration::ZERO, 1);
    let now = looped.now;
    looped.net().set_timer(now - 50 * MS, 2);
    looped
        .net()
        .set_timer(Timer::at(now - 35 * MS).every(10 * MS), 3);
    let now = looped.now;
    looped.pass(Duration::ZERO, &mut clock);
    let dues: Vec<_> = clock.fired.iter().map(|fired| fired.due).collect();
    assert_eq!(dues, [now, now, now - 35 * MS]);
    assert_eq!(clock.fired[2].missed, 3);
    assert_eq!(clock.keys(), [1, 2, 3]);
    looped.pass(5 * MS, &mut clock);
    assert_eq!(clock.keys(), [3]);
}

#[test]
fn timers_of_a_connection_can_be_cancelled_in_any_order() {
    for order in [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ] {
        for fire in [false, true] {
            let mut scene = Scene::with(Config::default());
            let (id, mut clock) = (scene.id, Clock::default());
            let net = &mut scene.looped.net();
            let mut timers = Vec::new();
            for key in 0..3 {
                let turn = order.iter().position(|other| *other == key);
                let after = 1 + turn.expect("it is one of them") as u32;
                let timer = net.set_timer(Timer::after(after * MS).on(id), key);
                timers.push(timer);
            }
            if fire {
                scene.looped.pass(2 * MS, &mut clock);
                assert_eq!(clock.keys(), order[..2]);
            } else {
                for key in &order[..2] {
                    assert!(net.cancel_timer(timers[*key as usize]));
                }
            }
            // Others take the places of those that are gone, whose ids do not reach them.
            let net = &mut scene.looped.net();
            let of_the_loop: Vec<_> = (10..13).map(|key| net.set_timer(20 * MS, key)).collect();
            let one_more = net.set_timer(Timer::after(30 * MS).on(id), 20);
            for timer in &timers {
                let was_set = *timer == timers[order[2] as usize];
                assert_eq!(net.cancel_timer(*timer), was_set);
            }
            assert!(net.abort(id));
            assert!(!net.cancel_timer(one_more));
            scene.looped.pass(100 * MS, &mut clock);
            assert_eq!(clock.keys(), [10, 11, 12], "{order:?} {fire}");
            assert!(
                of_the_loop
                    .iter()
                    .all(|timer| !scene.looped.net().cancel_timer(*timer))
            );
        }
    }
}

#[test]
fn zero_interval_of_a_connection_starts_after_a_millisecond() {
    let mut scene = Scene::with(Config::default());
    let mut clock = Clock::default();
    let net = &mut scene.looped.net();
    net.set_timer(Timer::interval(Duration::ZERO).on(scene.id), 1);
    scene.looped.pass(Duration::ZERO, &mut clock);
    assert!(clock.keys().is_empty());
    scene.looped.pass(MS, &mut clock);
    assert_eq!(clock.keys(), [1]);
}

#[test]
fn next_deadline_is_the_earliest_of_timers_and_connections() {
    for (idle, timer) in [(1, 50), (50, 1)] {
        let mut scene = Scene::with(Config::default().idle_timeout(idle * MS));
        scene.looped.net().set_timer(timer * MS, 1);
        let next = scene.looped.reactor.next_deadline().expect("there are two");
        assert!(next <= scene.looped.now + MS);
    }
}

#[test]
fn panic_in_on_timer_skips_no_other_timer() {
    let (mut looped, mut clock) = scene();
    for key in 0..4 {
        looped.net().set_timer(MS, key);
    }
    looped.net().set_timer(Timer::interval(MS), 9);
    let mut left = 2;
    clock.then = Some(Box::new(move |_, _| {
        left -= 1;
        assert!(left != 0, "as agreed");
    }));
    let turn = std::panic::AssertUnwindSafe(|| looped.pass(MS, &mut clock));
    std::panic::catch_unwind(turn).expect_err("it panics");
    assert_eq!(
        looped.reactor.next_timeout(looped.now),
        Some(Duration::ZERO)
    );
    looped.pass(Duration::ZERO, &mut clock);
    assert_eq!(clock.keys(), [0, 1, 2, 3, 9]);
    looped.pass(MS, &mut clock);
    assert_eq!(clock.keys(), [9]);
}
