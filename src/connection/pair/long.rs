//! Long exchanges: random ones.

use mio::Poll;
use proptest::prelude::*;

use super::pipe::{Fault, Script};
use super::{Budget, Pair, options};
use crate::config::ConnectionOptions;

fn frames() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let len = prop_oneof![4 => 0..20_usize, 4 => 0..400_usize, 1 => 4000..9000_usize];
    let frame = (len, any::<u8>()).prop_map(|(len, first)| {
        let bytes = (0..len).map(|at| first.wrapping_add(at as u8));
        bytes.collect::<Vec<u8>>()
    });
    prop::collection::vec(frame, 0..12)
}

fn script() -> impl Strategy<Value = Script> {
    let cuts = || prop::collection::btree_set(1..2000_usize, 0..40);
    let fault = prop_oneof![
        Just(Fault::Eof),
        Just(Fault::ReadFails),
        Just(Fault::WriteFails)
    ];
    (
        (cuts(), cuts()),
        any::<bool>(),
        prop_oneof![1..20_usize, 20..2000_usize, Just(usize::MAX)],
        prop::option::of((fault, 0..2000_usize)),
    )
        .prop_map(
            |((write_cuts, read_cuts), end_rides, capacity, fault)| Script {
                write_cuts: write_cuts.into_iter().collect(),
                read_cuts: read_cuts.into_iter().collect(),
                short_is_drained: false,
                end_rides,
                capacity,
                fault,
            },
        )
}

proptest! {
    /// In any order of events, with small budgets and buffers, with backpressure, and with a user that disconnects.
    #[test]
    fn long_exchange_loses_nothing(
        frames in [frames(), frames()],
        mut scripts in [script(), script()],
        short_is_drained: bool,
        high_watermark in prop::option::of(1..500_u64),
        allow_half_open: bool,
        budget in (64..300_usize, 1..300_usize, 1..300_usize, 1..8_u64)
            .prop_map(|(buffer, read, write, frames)| Budget { buffer, read, write, frames }),
        order in prop::collection::vec(any::<u8>(), 0..200),
        leaves in prop::option::of((0..2_usize, 0..100_usize)),
    ) {
        for script in &mut scripts {
            script.short_is_drained = short_is_drained;
        }
        let has_fault = scripts.iter().any(|script| script.fault.is_some());
        let options = ConnectionOptions { high_watermark, allow_half_open, ..options() };
        let poll = Poll::new().expect("a descriptor");
        let mut pair = Pair::new(&poll, frames.clone(), scripts, options, budget);
        let mut event = 0;
        pair.settle(|pair| {
            if let Some((side, at)) = leaves && at == event {
                pair.leave(side);
            }
            event += 1;
            order.get(event).map_or(0, |order| usize::from(*order))
        });
        for (i, side) in pair.sides.iter().enumerate() {
            let peer = &pair.sides[1 - i];
            // One that has left drops what it holds, and a fault of either direction may end both.
            if !has_fault && !side.has_left {
                prop_assert_eq!(&side.got, &peer.sent);
                prop_assert!(peer.has_left || peer.sent == frames[1 - i]);
            }
        }
        pair.leave_both();
    }
}
