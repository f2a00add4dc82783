//! Chooses which connections to end, as few as possible, so that a number of bytes becomes free. Pure.
//!
//! Ending a connection frees the bytes that it alone holds. A payload shared by several queues is freed with the last
//! of them: ending one of a hundred readers of a broadcast frees nothing.

/// What a connection holds.
#[derive(Debug)]
pub(super) struct Holder {
    /// The bytes that no other connection holds.
    pub(super) own: u64,
    /// The indexes of the payloads that it shares; a payload queued twice is listed twice.
    pub(super) shares: Vec<usize>,
    /// Its peer takes nothing from its queue.
    pub(super) is_stalled: bool,
}

/// A payload that queues hold by reference.
#[derive(Debug)]
pub(super) struct Payload {
    pub(super) len: u64,
    /// How many times it is queued.
    pub(super) queues: usize,
}

/// Returns the indexes of the holders to end so that `excess` bytes become free; all of them, if that is not enough.
///
/// Holders with bytes of their own come first. Holders that only share a payload come before them if they are stalled
/// and ending them ends fewer connections. Otherwise they come last, so that a broadcast in flight does not end its
/// readers.
pub(super) fn choose(excess: u64, holders: &[Holder], payloads: &mut [Payload]) -> Vec<usize> {
    // A shared payload counts in equal parts for each of its queues.
    let part = |index: &usize| {
        let payload = &payloads[*index];
        payload.len / payload.queues.max(1) as u64
    };
    let weigh = |holder: &Holder| holder.own + holder.shares.iter().map(part).sum::<u64>();
    let weights: Vec<u64> = holders.iter().map(weigh).collect();
    let own = |index: usize| (holders[index].own, weights[index]);
    let stalled = |index: usize| match holders[index].is_stalled {
        true => (weights[index], weights[index]),
        false => own(index),
    };
    let by_weight = choose_by(excess, holders, payloads, stalled);
    for index in &by_weight {
        give_back(&holders[*index], payloads);
    }
    let by_own = choose_by(excess, holders, payloads, own);
    if by_weight.len() < by_own.len() {
        by_weight
    } else {
        by_own
    }
}

/// Chooses holders, heaviest first, until enough is free. Then drops those from the choice that are not needed.
fn choose_by(
    excess: u64,
    holders: &[Holder],
    payloads: &mut [Payload],
    weight: impl Fn(usize) -> (u64, u64),
) -> Vec<usize> {
    let mut order: Vec<usize> = (0..holders.len()).collect();
    order.sort_unstable_by_key(|index| std::cmp::Reverse(weight(*index)));
    let mut freed = 0;
    let mut chosen = Vec::new();
    for index in order {
        if freed >= excess {
            break;
        }
        freed += take(&holders[index], payloads);
        chosen.push(index);
    }
    // The heaviest stay chosen: those chosen last are dropped first.
    let is_needed = |index: &usize| {
        let holder = &holders[*index];
        let needed = give_back(holder, payloads);
        let is_needed = freed - needed < excess;
        if is_needed {
            take(holder, payloads);
        } else {
            freed -= needed;
        }
        is_needed
    };
    chosen.into_iter().rev().filter(is_needed).collect()
}

/// Removes a holder. Returns the bytes that frees.
fn take(holder: &Holder, payloads: &mut [Payload]) -> u64 {
    let mut freed = holder.own;
    for index in &holder.shares {
        let payload = &mut payloads[*index];
        payload.queues = payload.queues.saturating_sub(1);
        if payload.queues == 0 {
            freed += payload.len;
        }
    }
    freed
}

/// Puts a holder back. Returns the bytes that takes.
fn give_back(holder: &Holder, payloads: &mut [Payload]) -> u64 {
    let mut needed = holder.own;
    for index in &holder.shares {
        let payload = &mut payloads[*index];
        if payload.queues == 0 {
            needed += payload.len;
        }
        payload.queues += 1;
    }
    needed
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn alone(own: u64) -> Holder {
        Holder {
            own,
            shares: Vec::new(),
            is_stalled: false,
        }
    }

    fn sharing(own: u64, shares: &[usize]) -> Holder {
        Holder {
            own,
            shares: shares.to_vec(),
            is_stalled: false,
        }
    }

    /// The payloads, queued as often as the holders list them.
    fn payloads(lens: &[u64], holders: &[Holder]) -> Vec<Payload> {
        let all = || holders.iter().flat_map(|holder| &holder.shares);
        let payload = |(index, len): (usize, &u64)| Payload {
            len: *len,
            queues: all().filter(|share| **share == index).count(),
        };
        lens.iter().enumerate().map(payload).collect()
    }

    #[test]
    fn payload_that_many_share_ends_none_of_them() {
        let mut holders: Vec<Holder> = (0..10).map(|_| alone(950_000)).collect();
        holders.extend((0..20).map(|_| sharing(4, &[0])));
        let mut shared = payloads(&[1 << 20], &holders);
        let chosen = choose(62_896, &holders, &mut shared);
        assert_eq!(chosen.len(), 1);
        assert!(chosen[0] < 10);
    }

    #[test]
    fn all_that_share_a_payload_are_ended_if_nothing_else_helps() {
        let holders = [alone(10), sharing(4, &[0]), sharing(4, &[0]), alone(20)];
        let mut shared = payloads(&[1000], &holders);
        let mut chosen = choose(900, &holders, &mut shared);
        chosen.sort_unstable();
        assert_eq!(chosen, [1, 2]);
    }

    #[test]
    fn readers_of_a_payload_stay_if_others_free_enough_and_go_first_if_they_are_stalled() {
        for is_stalled in [false, true] {
            let mut holders: Vec<Holder> = (0..15).map(|_| alone(1_000_000)).collect();
            holders.extend((0..3).map(|_| Holder {
                is_stalled,
                ..sharing(4, &[0])
            }));
            let mut shared = payloads(&[10_000_000], &holders);
            let mut chosen = choose(5_000_000, &holders, &mut shared);
            chosen.sort_unstable();
            if is_stalled {
                assert_eq!(chosen, [15, 16, 17]);
            } else {
                assert!(chosen.len() == 5 && chosen.iter().all(|index| *index < 15));
            }
        }
    }

    #[test]
    fn holder_that_does_not_help_is_given_back() {
        // The first holder weighs most, but its payload is also held by the third.
        let holders = [sharing(0, &[0]), alone(300), sharing(0, &[0])];
        let mut shared = payloads(&[1000], &holders);
        assert_eq!(choose(250, &holders, &mut shared).len(), 1);
    }

    proptest! {
        /// Ending the chosen frees enough, and none of them could stay.
        #[test]
        fn no_holder_is_chosen_without_need(
            holders in prop::collection::vec(
                (0..1000_u64, prop::collection::vec(0..6_usize, 0..4)), 1..30),
            lens in prop::array::uniform6(1..5000_u64),
            part in 1..=100_u64,
        ) {
            let holders: Vec<Holder> =
                holders.iter().map(|(own, shares)| sharing(*own, shares)).collect();
            let held = |without: &[usize]| {
                let left: Vec<&Holder> = (0..holders.len())
                    .filter(|index| !without.contains(index))
                    .map(|index| &holders[index])
                    .collect();
                let own: u64 = left.iter().map(|holder| holder.own).sum();
                let shared: u64 = (0..6)
                    .filter(|index| left.iter().any(|holder| holder.shares.contains(index)))
                    .map(|index| lens[index])
                    .sum();
                own + shared
            };
            let all = held(&[]);
            let excess = (all * part).div_ceil(100);
            let chosen = choose(excess, &holders, &mut payloads(&lens, &holders));
            prop_assert!(all - held(&chosen) >= excess);
            for at in 0..chosen.len() {
                let mut fewer = chosen.clone();
                fewer.remove(at);
                prop_assert!(all - held(&fewer) < excess, "{chosen:?} without {at} is enough");
            }
        }
    }
}
