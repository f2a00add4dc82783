//! `compare`: what it measures, what it prints, and how it judges.
#![cfg(target_os = "linux")]

mod support;

use std::process::Output;

use support::{finish, json, scratch, tool};

/// As little as can be measured.
const BRIEFLY: [&str; 5] = ["compare", "--rounds", "1", "--seconds", "0.1"];

fn compare(arguments: &[&str]) -> Output {
    let output = finish(tool(&BRIEFLY).args(arguments));
    assert!(output.status.success(), "{output:?}");
    output
}

#[test]
fn compare_reports_and_judges_ratios() {
    let path = scratch("compare.json");
    let compare = |floor: &str| {
        let mut compare = tool(&BRIEFLY);
        compare.args(["--cells", "10_2_64,1_1_300000", "--floor", floor]);
        finish(compare.arg("--json").arg(&path))
    };
    let good = compare("0.01");
    assert!(good.status.success(), "{good:?}");
    let figures = json(&path);
    let cell = &figures["cells"][0];
    assert_eq!(cell["cell"], "10_2_64");
    let [yardstick, throng] = [0, 1].map(|system| &cell["systems"][system]);
    assert_eq!(yardstick["name"], "raw epoll");
    assert_eq!(yardstick["figures"]["ratio"]["median"], 1.0);
    assert_eq!(throng["name"], "throng");
    let ratio = &throng["figures"]["ratio"];
    let [lower, median, upper] =
        ["lower_quartile", "median", "upper_quartile"].map(|it| ratio[it].as_f64());
    assert!(
        Some(0.0) < lower && lower <= median && median <= upper,
        "{figures}"
    );
    let [p50, p99] = ["p50_ns", "p99_ns"].map(|it| throng["figures"][it].as_u64());
    assert!(Some(0) < p50 && p50 <= p99, "{figures}");

    let bad = compare("1000");
    assert_eq!(bad.status.code(), Some(1), "{bad:?}");
    let said = String::from_utf8_lossy(&bad.stderr);
    assert!(
        said.contains("10_2_64") && said.contains("is below"),
        "{said}"
    );
}

#[test]
fn compare_prints_a_line_for_each_system_in_each_kind_of_cell() {
    let cells = [
        "3_2_64",
        "5_8_16384",
        "2_2_1MiB",
        "idle_200_1_64",
        "broadcast_20_8_64",
        "broadcast_5_2_300000",
        "churn_5_1_64",
    ];
    let path = scratch("compare.md");
    let markdown = path.display().to_string();
    let output = compare(&["--cells", &cells.join(","), "--markdown", &markdown]);
    let said = String::from_utf8_lossy(&output.stdout);
    for cell in cells {
        for system in ["raw epoll", "throng"] {
            let mut lines = said.lines().map(str::split_whitespace);
            let expected: Vec<_> = [cell].into_iter().chain(system.split(' ')).collect();
            let line = lines.find(|line| line.clone().take(expected.len()).eq(expected.clone()));
            let columns = line.map(|line| line.count() - expected.len());
            assert!(columns >= Some(8), "{cell} {system}: {said}");
        }
    }
    let tables = std::fs::read_to_string(&path).expect("tables were written");
    std::fs::remove_file(&path).expect("they are there");
    for cell in cells {
        let rows = tables
            .lines()
            .filter(|line| line.starts_with(&format!("| {cell} |")));
        assert_eq!(rows.count(), 2, "{tables}");
    }
    assert!(tables.contains("| cell | raw epoll | throng |"), "{tables}");
    assert!(tables.contains("bytes per idle connection"), "{tables}");
}

#[test]
fn compare_measures_only_the_systems_that_are_named() {
    let build = format!("older={}", env!("CARGO_BIN_EXE_throng-bench"));
    let arguments = ["--cells", "3_1_64", "--build", &build, "--systems", "older"];
    let output = compare(&arguments);
    let said = String::from_utf8_lossy(&output.stdout);
    let systems: Vec<_> = said
        .lines()
        .filter_map(|line| line.strip_prefix("3_1_64 "))
        .map(|line| line.trim_start().split("  ").next().unwrap_or_default())
        .collect();
    assert_eq!(systems, ["raw epoll", "older"], "{said}");
}
