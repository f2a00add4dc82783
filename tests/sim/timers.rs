//! Timers of the user: each fires once, in time, unless it was cancelled or its connection has ended.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use throng::sim::{Chaos, Faults, Random, World, check};
use throng::{
    Config, ConnectionId, DisconnectReason, Expired, Frame, Handler, Net, Timer, TimerId,
};

use crate::book::budgets;
use crate::echo::{ADDR, LONG};

struct Alarm {
    random: Random,
    next: u64,
    set: BTreeMap<u64, (TimerId, Instant, Option<ConnectionId>)>,
    ticks: u64,
    began: Option<Instant>,
    /// When timers were due, and when they fired.
    fired: Vec<(Instant, Instant)>,
}

impl Alarm {
    fn new(random: Random) -> Self {
        Self {
            random,
            next: 0,
            set: BTreeMap::new(),
            ticks: 0,
            began: None,
            fired: Vec::new(),
        }
    }
}

/// The longest time for which the loop is suspended at once.
const SUSPENDED: Duration = Duration::from_millis(300);
/// A timer is rounded up to a millisecond, and may fire a tick after that.
const RESOLUTION: Duration = Duration::from_millis(2);
const TICK: u64 = 0;
const PERIOD: Duration = Duration::from_millis(70);

impl Handler for Alarm {
    fn on_data(&mut self, net: &mut Net, id: ConnectionId, _: Frame<'_>) {
        if self.began.is_none() {
            self.began = Some(net.now());
            net.set_timer(Timer::interval(PERIOD), TICK);
        }
        for _ in 0..self.random.below(4) {
            let after = self.random.duration(Duration::from_secs(20));
            let owner = self.random.one_in(2).then_some(id);
            let timer = Timer::after(after);
            let timer = owner.map_or(timer, |id| timer.on(id));
            self.next += 1;
            let timer = net.set_timer(timer, self.next);
            self.set
                .insert(self.next, (timer, net.now() + after, owner));
        }
        let cancelled = self.random.below(20) as u64 + self.next.saturating_sub(20);
        if let Some((timer, _, owner)) = self.set.remove(&cancelled) {
            // The timers of a closing connection are cancelled before its end is reported.
            let is_open = owner.is_none_or(|id| net.is_connected(id));
            assert!(net.cancel_timer(timer) || !is_open, "it is set");
        }
    }

    fn on_timer(&mut self, net: &mut Net, expired: Expired) {
        if expired.key == TICK {
            self.ticks += 1 + expired.missed;
            let began = self.began.expect("it was set");
            let due = began + PERIOD * self.ticks as u32;
            assert!(
                due <= net.now() && net.now() < due + PERIOD,
                "no tick is lost"
            );
            return;
        }
        let (_, due, owner) = self
            .set
            .remove(&expired.key)
            .expect("it is set, and fires once");
        assert_eq!(owner, expired.connection);
        assert!(net.now() >= due, "too early");
        self.fired.push((due, net.now()));
    }

    fn on_disconnect(&mut self, _: &mut Net, id: ConnectionId, _: DisconnectReason) {
        self.set.retain(|_, (_, _, owner)| *owner != Some(id));
    }
}

fn scenario(world: &World) {
    let mut faults = Faults::all();
    (faults.suspensions, faults.clock_jumps) = (0, 0);
    world.set_faults(faults);
    let mut random = world.random().fork();
    let config = budgets(&mut random)
        .disconnect_timeout(LONG)
        .timers_per_turn(random.length(5));
    let host = world.host(config, Alarm::new(random.fork()));
    host.with(|_, net| net.listen(ADDR)).expect("a free port");
    let mut suspensions = Vec::new();
    let chaos = Chaos::new(ADDR).peers(5).steps(60);
    chaos.run_with(world, |_| {
        if random.one_in(10) {
            let time = random.duration(SUSPENDED);
            suspensions.push((world.now(), world.now() + time));
            host.suspend(time);
        }
    });
    world.run_for(Duration::from_secs(30));
    let alarm = host.handler();
    assert!(
        alarm.set.is_empty(),
        "{} timers have not fired",
        alarm.set.len()
    );
    for (due, fired) in &alarm.fired {
        let late = *fired - possible(*due, &suspensions);
        assert!(late <= RESOLUTION, "{late:?} too late");
    }
}

/// Returns when a timer can fire: a suspension may delay it, and the next may begin before that one ends.
fn possible(due: Instant, suspensions: &[(Instant, Instant)]) -> Instant {
    suspensions.iter().fold(due, |at, (begin, end)| {
        let delays = *begin <= at + RESOLUTION;
        if delays { at.max(*end) } else { at }
    })
}

#[test]
fn timers_fire_once_and_in_time() {
    check(60, scenario);
}

#[test]
fn suspension_is_not_shortened_by_another() {
    let world = World::new(0);
    let alarm = Alarm::new(world.random().fork());
    let host = world.host(Config::default(), alarm);
    let due = host.with(|alarm, net| {
        let due = net.now() + Duration::from_secs(1);
        let timer = net.set_timer(Timer::at(due), 1);
        alarm.set.insert(1, (timer, due, None));
        due
    });
    host.suspend(Duration::from_secs(10));
    host.suspend(Duration::from_secs(5));
    world.run_for(Duration::from_secs(20));
    let expected = due + Duration::from_secs(9);
    assert_eq!(host.handler().fired, [(due, expected)]);
}
