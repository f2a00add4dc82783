//! `check`: runs a scenario with many seeds.

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::{Faults, World};

/// The sizes, in percent, in which a failing scenario is tried again.
const SIZES: [u32; 6] = [1, 3, 6, 12, 25, 50];

/// Runs a scenario with the seeds from 0 to `seeds`, each in a new [`World`] with [all faults](Faults::all). If one
/// fails, smaller scenarios with the same seed are tried, as far as it uses [`World::up_to`], and the smallest that
/// fails is reported.
///
/// Environment variables override the seeds:
///
/// | | |
/// |---|---|
/// | `THRONG_SEED=17` | this seed only |
/// | `THRONG_SIZE=6` | the size that was reported, in percent; without `THRONG_SEED`, small scenarios with all seeds |
/// | `THRONG_TRACE=100` | after a failure, print the last 100 events, at most 400 |
/// | `THRONG_SEEDS=1000000` | this many seeds |
/// | `THRONG_FIRST=5000` | beginning with this seed |
///
/// ```
/// use std::time::Duration;
/// use throng::sim::check;
/// use throng::{Config, ConnectionId, Frame, Handler, Net};
///
/// struct Echo;
///
/// impl Handler for Echo {
///     fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
///         let _ = net.send_frame(id, frame);
///     }
/// }
///
/// check(100, |world| {
///     let host = world.host(Config::default(), Echo);
///     host.with(|_, net| net.listen("127.0.0.1:5000")).unwrap();
///     let peer = world.connect("127.0.0.1:5000");
///     let sent: Vec<_> = (0..world.up_to(20)).map(|number| number.to_string()).collect();
///     for frame in &sent {
///         peer.send(frame);
///     }
///     world.run_for(Duration::from_secs(60));
///     // A reset may lose the last frames, but no others.
///     let received = peer.received();
///     assert!(received.iter().zip(&sent).all(|(one, other)| one == other.as_bytes()));
/// });
/// ```
///
/// # Panics
/// If the scenario fails with one of the seeds. The message says how to repeat it. Also if one of the variables is not a
/// number, or out of range: sizes are from 1 to 100, and at least one seed is needed.
pub fn check(seeds: u64, scenario: impl Fn(&World)) {
    let first = given("THRONG_FIRST").unwrap_or(0);
    let range = match given("THRONG_SEED") {
        Some(seed) => seed..seed + 1,
        None => first..first.saturating_add(given("THRONG_SEEDS").unwrap_or(seeds)),
    };
    assert!(
        !range.is_empty(),
        "THRONG_SEEDS: expected at least one seed"
    );
    let size = given("THRONG_SIZE").unwrap_or(100);
    assert!(
        (1..=100).contains(&size),
        "THRONG_SIZE={size}: expected a percentage, from 1 to 100"
    );
    let size = size as u32;
    for seed in range {
        let run = |size| {
            catch_unwind(AssertUnwindSafe(|| {
                let world = World::new(seed).faults(Faults::all());
                world.shrink(size);
                scenario(&world);
            }))
        };
        let Err(mut panic) = run(size) else {
            continue;
        };
        let mut smallest = size;
        for size in SIZES.into_iter().filter(|smaller| *smaller < size) {
            if let Err(smaller) = run(size) {
                (panic, smallest) = (smaller, size);
                break;
            }
        }
        eprintln!("THRONG_SEED={seed} THRONG_SIZE={smallest} repeats the failure");
        resume_unwind(panic);
    }
}

fn given(name: &str) -> Option<u64> {
    let value = env::var(name).ok()?;
    match value.parse() {
        Ok(number) => Some(number),
        Err(_) => panic!("{name}={value}: expected a number"),
    }
}
