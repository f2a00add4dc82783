use super::*;
use crate::reason::DisconnectCause;

fn openmetrics(stats: &Stats) -> String {
    let mut text = String::new();
    stats.write_openmetrics(&mut text).expect("a string");
    text
}

fn prometheus(stats: &Stats) -> String {
    let mut text = String::new();
    stats.write_prometheus(&mut text).expect("a string");
    text
}

/// Statistics in which each kind of field has a value.
fn some() -> Stats {
    let mut stats = Stats {
        turns: 7,
        busy: Duration::from_millis(1500),
        longest_turn: Duration::from_millis(4),
        timers: 3,
        ..Stats::default()
    };
    stats.turn_times.add(4_000_000);
    stats.refusals.per_address = 5;
    stats.connections.open = 2;
    stats.disconnects.count(&DisconnectCause::Aborted);
    stats
}

#[test]
fn each_field_has_a_description_a_type_and_samples_in_both_formats() {
    let (new, old) = (openmetrics(&some()), prometheus(&some()));
    for (field, kind) in FIELDS {
        let (shown, end) = match kind {
            Kind::counter => ("counter", "_total"),
            Kind::histogram => ("histogram", ""),
            Kind::gauge | Kind::peak => ("gauge", ""),
        };
        let is_described = |text: &str, end: &str| {
            let lines: Vec<&str> = text.lines().collect();
            let at = lines.iter().position(|line| {
                let named = line.strip_prefix(&format!("# HELP throng_{field}"));
                named.is_some_and(|rest| {
                    let rest = rest.strip_prefix("_seconds").unwrap_or(rest);
                    rest.strip_prefix(end)
                        .is_some_and(|rest| rest.starts_with(' '))
                })
            });
            let at = at.unwrap_or_else(|| panic!("{field} is not in\n{text}"));
            let name = lines[at].split(' ').nth(2).expect("a name");
            assert_eq!(lines[at + 1], format!("# TYPE {name} {shown}"));
            let sample = name.strip_suffix("_total").unwrap_or(name);
            assert!(lines[at + 2].starts_with(sample), "{}", lines[at + 2]);
        };
        is_described(&new, "");
        is_described(&old, end);
    }
    assert_eq!(new.matches("# TYPE").count(), FIELDS.len());
    assert_eq!(old.matches("# TYPE").count(), FIELDS.len());
}

#[test]
fn formats_differ_in_the_names_of_counters_and_in_the_end() {
    let (new, old) = (openmetrics(&some()), prometheus(&some()));
    assert!(new.contains("# HELP throng_turns Turns of the loop.\n# TYPE throng_turns counter\n"));
    assert!(old.contains(
        "# HELP throng_turns_total Turns of the loop.\n# TYPE throng_turns_total counter\n"
    ));
    assert!(new.ends_with("\n# EOF\n") && !old.contains("# EOF"));
    let samples = |text: &str| -> Vec<String> {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        samples.map(str::to_string).collect()
    };
    assert_eq!(samples(&new), samples(&old));
}

#[test]
fn samples_have_units_suffixes_and_labels() {
    let text = openmetrics(&some());
    for line in [
        "throng_turns_total 7",
        "throng_busy_seconds_total 1.500000000",
        "throng_longest_turn_seconds 0.004000000",
        "throng_timers 3",
        "throng_refusals_total{reason=\"per_address\"} 5",
        "throng_refusals_total{reason=\"full\"} 0",
        "throng_disconnects_total{cause=\"aborted\"} 1",
        "throng_connections{stage=\"open\"} 2",
        "throng_turn_times_seconds_bucket{le=\"0.002097152\"} 0",
        "throng_turn_times_seconds_bucket{le=\"0.004194304\"} 1",
        "throng_turn_times_seconds_bucket{le=\"+Inf\"} 1",
        "throng_turn_times_seconds_sum 1.500000000",
        "throng_turn_times_seconds_count 1",
    ] {
        assert!(
            text.lines().any(|it| it == line),
            "{line} is not in\n{text}"
        );
    }
}

#[test]
fn description_is_the_doc_comment_without_markdown() {
    let text = openmetrics(&Stats::default());
    let line = "# HELP throng_slow_callbacks Callbacks that took longer than slow_callback.";
    assert!(text.lines().any(|it| it == line), "{text}");
    for line in text.lines().filter(|line| line.starts_with("# HELP")) {
        assert!(!line.contains(['`', '[', ']', '\\', '"']), "{line}");
        assert!(line.ends_with('.') && !line.contains("  "), "{line}");
    }
}

#[test]
fn difference_has_what_was_counted_since_and_the_present_gauges() {
    let earlier = some();
    let mut now = earlier;
    now.turns += 4;
    now.timers = 1;
    now.longest_turn = Duration::from_millis(9);
    now.disconnects.idle += 2;
    now.turn_times.add(9_000_000);
    let period = now.since(&earlier);
    assert_eq!((period.turns, period.timers), (4, 1));
    assert_eq!(
        (period.busy, period.longest_turn),
        (Duration::ZERO, now.longest_turn)
    );
    assert_eq!(
        (period.disconnects.idle, period.disconnects.aborted),
        (2, 0)
    );
    assert_eq!(
        (period.refusals.total(), period.connections),
        (0, now.connections)
    );
    assert_eq!(period.turn_times.count(), 1);
    assert_eq!(
        period.turn_times.quantile(0.5),
        Duration::from_nanos(1 << 24)
    );
}

#[test]
fn sum_of_loops_adds_counters_and_gauges_and_keeps_the_longest_turn() {
    let mut other = some();
    other.longest_turn = Duration::from_millis(1);
    let both: Stats = [some(), other].into_iter().sum();
    assert_eq!((both.turns, both.timers, both.connections.open), (14, 6, 4));
    assert_eq!(both.longest_turn, Duration::from_millis(4));
    assert_eq!(
        (both.busy, both.turn_times.count()),
        (Duration::from_secs(3), 2)
    );
    assert_eq!(
        (both.refusals.per_address, both.disconnects.total()),
        (10, 2)
    );
}

#[test]
fn turn_is_counted_under_the_first_bound_that_it_does_not_exceed() {
    let bucket = |took: Duration| {
        let mut times = TurnTimes::default();
        times.add(took.as_nanos() as u64);
        let (bound, _) = times
            .buckets()
            .find(|(_, turns)| *turns == 1)
            .expect("it is counted");
        bound
    };
    let nanos = Duration::from_nanos;
    for (took, bound) in [
        (0, 1024),
        (1, 1024),
        (1024, 1024),
        (1025, 2048),
        (2048, 2048),
        (2049, 4096),
    ] {
        assert_eq!(bucket(nanos(took)), nanos(bound), "{took}");
    }
    assert_eq!(bucket(nanos(1 << 35)), nanos(1 << 35));
    for more in [
        nanos((1 << 35) + 1),
        Duration::from_secs(u64::MAX),
        Duration::MAX,
    ] {
        assert_eq!(bucket(more), Duration::MAX);
    }
}

#[test]
fn quantile_is_the_bound_that_this_fraction_of_turns_does_not_exceed() {
    let mut times = TurnTimes::default();
    assert_eq!(times.quantile(0.5), Duration::ZERO);
    for _ in 0..99 {
        times.add(1000);
    }
    times.add(100_000_000_000);
    for (fraction, nanos) in [(0.0, 1024), (0.5, 1024), (0.99, 1024)] {
        assert_eq!(times.quantile(fraction), Duration::from_nanos(nanos));
    }
    assert_eq!(times.quantile(1.0), Duration::MAX);
}
