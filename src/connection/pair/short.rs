//! Short exchanges: all of them.

use mio::Poll;

use super::checks::{whole, wire_len};
use super::pipe::{Fault, Script};
use super::{Budget, Pair, options};
use crate::config::ConnectionOptions;
use crate::reason::DisconnectCause;

/// Two frames of up to two bytes each way, split in each possible way, with each fault at each byte of one direction.
#[test]
fn every_short_exchange_ends_as_its_fault_says() {
    let poll = Poll::new().expect("a descriptor");
    for (one, other) in (0..=2).flat_map(|one| (0..=2).map(move |other| (one, other))) {
        let frames = [
            vec![vec![1; one], vec![2; other]],
            vec![vec![3; other], vec![4; one]],
        ];
        let len = wire_len(&frames[0]);
        let faults = [Fault::Eof, Fault::ReadFails, Fault::WriteFails];
        let at_each = |fault| (0..=len).map(move |at| Some((fault, at)));
        let faults: Vec<_> = faults.into_iter().flat_map(at_each).chain([None]).collect();
        for split in 0_usize..1 << (len - 1) {
            let cuts: Vec<usize> = (1..len).filter(|at| split >> (at - 1) & 1 == 1).collect();
            for variant in 0..VARIANTS {
                for fault in &faults {
                    exchange(&poll, &frames, &cuts, variant, *fault);
                }
            }
        }
    }
}

/// What else makes a difference: whether a short read or write proves anything; whether the end comes with the last bytes
/// (and half-open connections are allowed); in which order events come.
const VARIANTS: usize = 8;

fn exchange(
    poll: &Poll,
    frames: &[Vec<Vec<u8>>; 2],
    cuts: &[usize],
    variant: usize,
    fault: Option<(Fault, usize)>,
) {
    let [short_is_drained, end_rides, takes_turns] = [1, 2, 4].map(|bit| variant & bit != 0);
    let script = Script {
        write_cuts: cuts.to_vec(),
        read_cuts: cuts.to_vec(),
        short_is_drained,
        end_rides,
        capacity: usize::MAX,
        fault: None,
    };
    let faulty = Script {
        fault,
        ..script.clone()
    };
    let options = ConnectionOptions {
        allow_half_open: end_rides,
        ..options()
    };
    let budget = Budget {
        buffer: 64,
        read: 64,
        write: 4096,
        frames: 64,
    };
    let mut pair = Pair::new(poll, frames.clone(), [faulty, script], options, budget);
    for i in [0, 0, 1, 1] {
        pair.send(i);
    }
    let mut event = 0;
    pair.settle(|_| {
        event += usize::from(takes_turns);
        event
    });
    pair.check_fault(fault);
    pair.leave_both();
}

impl Pair {
    /// What a fault of the first direction costs, and what it does not.
    fn check_fault(&self, fault: Option<(Fault, usize)>) {
        let [first, second] = &self.sides;
        let len = wire_len(&first.sent);
        let arrives = fault.map_or(len, |(_, at)| at);
        assert_eq!(second.got, &first.sent[..whole(&first.sent, arrives)]);
        match fault {
            // The second connection has ended, but what it had written arrives.
            Some((Fault::ReadFails, _)) => {
                let written = self.pipes[1].bytes.len();
                assert_eq!(first.got, &second.sent[..whole(&second.sent, written)]);
            }
            _ => assert_eq!(first.got, second.sent),
        }
        match fault {
            Some((Fault::WriteFails, at)) if at < len => {
                assert!(first.connection.is_open() && first.connection.has_failed_write());
                let reason = self.reason(0).expect("a reason");
                assert!(matches!(reason.cause, DisconnectCause::Reset(_)));
                assert_eq!(reason.unsent_bytes, (len - at) as u64);
            }
            Some((Fault::Eof, at)) if (0..=2).all(|n| wire_len(&first.sent[..n]) != at) => {
                let reason = self.reason(1).expect("a reason");
                assert!(matches!(
                    reason.cause,
                    DisconnectCause::PeerClosedInsideFrame { .. }
                ));
            }
            _ => {}
        }
    }
}
