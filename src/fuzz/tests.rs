//! Runs the bodies of the fuzz targets on stored inputs, on variations of them, and on random ones.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// Runs a target.
fn try_target(name: &str, target: impl Fn(&[u8]), cases: u32) {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/seeds")
        .join(name);
    let files = fs::read_dir(&seeds).expect("a directory of seeds");
    let seeds: Vec<Vec<u8>> = files
        .map(|file| fs::read(file.expect("a file").path()).expect("its content"))
        .collect();
    assert!(!seeds.is_empty(), "{name} has no seeds");
    for seed in &seeds {
        target(seed);
    }
    let random = prop::collection::vec(any::<u8>(), 0..300);
    let change = (any::<prop::sample::Index>(), any::<u8>());
    let changes = prop::collection::vec(change, 1..8);
    let variation = (prop::sample::select(seeds), changes).prop_map(|(mut seed, changes)| {
        for (at, byte) in changes {
            if !seed.is_empty() {
                let at = at.index(seed.len());
                seed[at] = byte;
            }
        }
        seed
    });
    TestRunner::new(Config::with_cases(cases))
        .run(&prop_oneof![random, variation], |data| {
            target(&data);
            Ok(())
        })
        .expect("it holds");
}

#[test]
fn decoded_frames_are_those_of_a_slow_parser() {
    try_target("decoder", super::decoder, 3000);
}

#[test]
fn every_way_to_encode_yields_the_same_bytes() {
    try_target("round_trip", super::round_trip, 1000);
}

#[test]
fn queue_writes_what_a_list_of_frames_contains() {
    try_target("queue", super::queue, 300);
}

#[test]
fn timers_fire_like_those_of_a_list() {
    try_target("timers", super::timers, 2000);
}

#[test]
fn options_are_refused_or_work() {
    try_target("options", super::options, 500);
}

#[cfg(unix)]
#[test]
fn reactor_delivers_what_peers_and_handler_send() {
    try_target("reactor", super::reactor, 100);
}
