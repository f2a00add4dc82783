//! The timing wheel, compared with a list.

use std::time::{Duration, Instant};

use super::input::Input;
use crate::timers::{TimerKey, Timers, tick_before};

struct Set {
    /// When it fires, in milliseconds.
    tick: u64,
    number: u32,
    key: TimerKey,
}

/// Sets, moves and cancels timers, and lets time pass.
pub fn timers(data: &[u8]) {
    let mut input = Input(data);
    let start = Instant::now();
    let mut timers = Timers::new(start);
    let mut set: Vec<Set> = Vec::new();
    let mut stale: Vec<TimerKey> = Vec::new();
    let (mut now, mut number) = (Duration::ZERO, 0);
    while !input.is_empty() {
        match input.below(8) {
            0..3 => {
                let (deadline, tick) = deadline(&mut input, now);
                number += 1;
                let key = timers.insert(start + deadline, number);
                set.push(Set { tick, number, key });
            }
            3 if !set.is_empty() => {
                let timer = set.swap_remove(input.byte() as usize % set.len());
                assert_eq!(timers.cancel(timer.key), Some(timer.number));
                stale.push(timer.key);
            }
            4 if !set.is_empty() => {
                let (deadline, tick) = deadline(&mut input, now);
                let at = input.byte() as usize % set.len();
                timers.rearm(set[at].key, start + deadline);
                set[at].tick = tick;
            }
            5 => timers.trim(),
            _ => {
                now += span(&mut input);
                pass(&mut timers, &mut set, &mut stale, start + now);
            }
        }
        check(&mut timers, &mut set, &stale, start, now);
    }
    // All of them fire in the end.
    now += Duration::from_secs(1 << 36);
    for _ in 0..3 {
        pass(&mut timers, &mut set, &mut stale, start + now);
    }
    assert!(set.is_empty() && timers.is_empty());
}

/// Returns a duration from a nanosecond to longer than the coarsest wheel is wide.
fn span(input: &mut Input<'_>) -> Duration {
    let nanos = u64::from(input.byte()) << input.below(55);
    Duration::from_nanos(nanos)
}

/// Returns a deadline, as the time from the start, and its tick. A few are in the past.
fn deadline(input: &mut Input<'_>, now: Duration) -> (Duration, u64) {
    let span = span(input);
    let deadline = match input.below(8) {
        0 => now.saturating_sub(span),
        _ => now + span,
    };
    // Rounded up: no timer fires early.
    (deadline, deadline.as_nanos().div_ceil(1_000_000) as u64)
}

/// Lets all timers fire that are due.
fn pass(timers: &mut Timers<u32>, set: &mut Vec<Set>, stale: &mut Vec<TimerKey>, now: Instant) {
    let mut last = 0;
    let millis = tick_before(timers.nanos(now));
    while let Some(key) = timers.due(millis) {
        let number = timers.expire(millis).expect("one is due");
        let fired = set.iter().position(|timer| timer.number == number);
        let timer = set.swap_remove(fired.expect("it fires once"));
        assert_eq!(timer.key, key);
        assert!(timer.tick <= millis, "a timer is early");
        // Timers that were set in the past fire first, in any order.
        assert!(
            last <= timer.tick || timer.tick < millis,
            "timers are out of order"
        );
        last = last.max(timer.tick);
        stale.push(key);
    }
    assert!(
        set.iter().all(|timer| timer.tick > millis),
        "a timer is late"
    );
}

fn check(
    timers: &mut Timers<u32>,
    set: &mut [Set],
    stale: &[TimerKey],
    start: Instant,
    now: Duration,
) {
    assert_eq!(timers.is_empty(), set.is_empty());
    let first = set
        .iter()
        .map(|timer| start + Duration::from_millis(timer.tick))
        .min();
    let next = timers.next_deadline();
    assert_eq!(next.is_some(), first.is_some());
    if let (Some(next), Some(first)) = (next, first) {
        let due = first.max(start + now);
        assert!(next <= due, "the next deadline is too late");
    }
    for timer in set {
        assert_eq!(timers.get_mut(timer.key).copied(), Some(timer.number));
        let at = start + Duration::from_millis(timer.tick);
        assert_eq!(timers.deadline(timer.key), Some(at));
    }
    for &key in stale.iter().rev().take(8) {
        assert_eq!(timers.get_mut(key), None);
        assert_eq!(timers.cancel(key), None);
        assert_eq!(timers.deadline(key), None);
    }
}
