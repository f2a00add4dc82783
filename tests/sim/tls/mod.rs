//! Two loops that are connected by TLS, over a network with all faults.

mod crypto;
mod found;
mod pair;

use throng::sim::{Faults, World, check};

use pair::{Pair, Plan};

fn run(world: &World, plan: Plan) {
    if !plan.is_undisturbed && world.random().one_in(2) {
        let mut faults = Faults::all();
        faults.sudden_resets = 300;
        world.set_faults(faults);
    }
    Pair::new(world, plan).run();
}

#[test]
fn worlds_with_tls_repeat_to_the_byte() {
    for seed in 0..4 {
        let digest = || {
            let world = World::new(seed).faults(Faults::all());
            run(&world, Plan::default());
            world.digest()
        };
        assert_eq!(digest(), digest());
    }
}

#[test]
fn frames_sent_over_tls_in_any_way_arrive_whole_and_in_order() {
    check(60, |world| run(world, Plan::default()));
}

#[test]
fn undisturbed_connections_with_tls_lose_nothing() {
    check(40, |world| {
        world.set_faults(Faults::delays());
        let plan = Plan {
            is_undisturbed: true,
            ..Plan::default()
        };
        run(world, plan);
    });
}

#[test]
fn frames_of_kicked_and_closed_connections_with_tls_are_accounted_for() {
    check(60, |world| {
        let plan = Plan {
            is_harsh: true,
            connections: 10,
            ..Plan::default()
        };
        run(world, plan);
    });
}

#[test]
fn closed_connections_with_tls_that_are_undisturbed_end_gracefully() {
    check(40, |world| {
        world.set_faults(Faults::delays());
        let plan = Plan {
            is_harsh: true,
            is_undisturbed: true,
            connections: 10,
            ..Plan::default()
        };
        run(world, plan);
    });
}

#[test]
fn peers_that_vanish_are_truncated_or_reset_but_never_closed() {
    check(40, |world| {
        let plan = Plan {
            kills: true,
            connections: 12,
            ..Plan::default()
        };
        run(world, plan);
    });
}

#[test]
fn frames_of_a_mebibyte_pass_through_tls() {
    check(6, |world| {
        let plan = Plan {
            connections: 2,
            steps: 15,
            answers: 12,
            longest: 1 << 20,
            ..Plan::default()
        };
        run(world, plan);
    });
}
