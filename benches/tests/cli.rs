//! The commands as their users meet them: what they print, how they end, and what they leave behind.

mod support;

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::{PATIENCE, Serve, finish, json, output, scratch, tool, wait};

#[cfg(target_os = "linux")]
#[test]
fn torture_reports_and_judges_measurements() {
    let path = scratch("torture.json");
    let output = tool(&["torture", "--quick", "liars", "giants", "--json"])
        .arg(&path)
        .output();
    let output = output.expect("the tool runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert_eq!(said.matches(": kept").count(), 3, "{said}");
    let json = json(&path);
    assert_eq!(json["bounds"].as_array().map(Vec::len), Some(3));
    assert_eq!(json["bounds"][0]["case"], "liars");
    assert_eq!(json["bounds"][0]["kept"], true);
}

#[cfg(target_os = "linux")]
#[test]
fn soak_checks_clients_of_all_kinds_for_a_moment() {
    let path = scratch("soak.json");
    let output = tool(&["soak", "--minutes", "0.03", "--json"])
        .arg(&path)
        .output()
        .expect("the tool runs");
    assert!(output.status.success(), "{output:?}");
    let json = json(&path);
    let count = |name: &str| json[name].as_u64().expect("a number");
    assert_eq!(count("cycles"), 1);
    // Those that wait for descriptors alone are more than this.
    assert!(
        count("connections") > 250 && count("frames") > 1000,
        "{json}"
    );
    assert!(
        count("bytes") > 1 << 20 && count("accept_pauses") > 0,
        "{json}"
    );
    let ended = |cause: &str| json["disconnects"][cause].as_u64();
    assert!(ended("closed_locally") > Some(0) && ended("reset") > Some(0));
}

#[test]
fn invalid_argument_is_one_line_and_exit_code_2() {
    let wrong: [&[&str]; 18] = [
        &["soak", "--minutes", "0"],
        &["serve", "--max-queued-bytes", "much"],
        &["serve", "--high-watermark", "1GiB"],
        &["serve", "--prefix", "3"],
        &["torture", "gently"],
        &["serve", "--mode", "shout"],
        &["serve", "--addr", "nowhere"],
        &["load", "--rate", "100", "--pipeline", "2"],
        &["load", "--connections", "0"],
        &["load", "--seconds", "soon"],
        &["compare", "--cells", "many"],
        &["compare", "--systems", "unknown"],
        &["compare", "--build", "nameless"],
        &["compare", "--quick", "--rounds", "2"],
        &["load", "--traffic", "churn", "--active", "3"],
        &["compare", "--floor", "-1"],
        &["fly"],
        &["demo", "--json"],
    ];
    for arguments in wrong {
        let output = output(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{arguments:?}: {said}");
        assert!(said.starts_with("throng-bench: "), "{said}");
    }
}

#[test]
fn address_in_use_is_one_line_and_exit_code_2() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = taken.local_addr().expect("its address").to_string();
    let output = output(&["serve", "--addr", &addr]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains(&addr), "{said}");
}

#[test]
fn steady_makes_the_same_rounds_each_time() {
    for (scenario, frames, calls) in [
        ("echo-1", 50, 100),
        ("echo-32", 1600, 100),
        ("echo-large", 50, 100),
        ("broadcast", 400, 51),
    ] {
        let steady = Command::new(env!("CARGO_BIN_EXE_steady"))
            .args([scenario, "3"])
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&steady.stdout);
        let expected = format!(
            "{{\"frames\":{},\"client_calls\":{}}}\n",
            3 * frames,
            3 * calls
        );
        assert_eq!(said, expected, "{scenario}: {steady:?}");
    }
}

#[test]
fn demo_prints_a_summary_and_ends() {
    let path = scratch("demo.json");
    let output = tool(&["demo", "--connections", "100", "--seconds", "1.2"])
        .arg("--json")
        .arg(&path)
        .output()
        .expect("the tool runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    for word in [
        "connections   100",
        "frames/s",
        "p99.9",
        "server CPU",
        "bytes each",
    ] {
        assert!(said.contains(word), "{word} is missing: {said}");
    }
    let figures = json(&path);
    assert_eq!(figures["connections"], 100);
    if cfg!(target_os = "linux") {
        assert!(
            figures["server_cpu_seconds"].as_f64() > Some(0.0),
            "{figures}"
        );
        assert!(figures["bytes_per_idle_connection"].is_u64(), "{figures}");
    }
}

#[cfg(unix)]
#[test]
fn demo_under_a_low_file_limit_works_and_names_the_remedy() {
    let output = Command::new("sh")
        .args([
            "-c",
            "ulimit -Sn 100 && ulimit -Hn 200 && exec \"$@\"",
            "sh",
        ])
        .arg(env!("CARGO_BIN_EXE_throng-bench"))
        .args(["demo", "--seconds", "0.1"])
        .output()
        .expect("a shell runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(
        said.contains("only 136 connections instead of 10000"),
        "{said}"
    );
    assert!(said.contains("ulimit -Hn 10064"), "{said}");
}

#[cfg(unix)]
#[test]
fn commands_under_a_low_file_limit_work_or_name_the_limit() {
    let commands: [&[&str]; 8] = [
        &["handles", "--threads", "2", "--frames", "200"],
        &["ticks", "--seconds", "0.2", "--connections", "200"],
        &["demo", "--seconds", "0.1", "--connections", "200"],
        &["timers", "--count", "10"],
        &["torture", "--quick", "liars"],
        &["torture", "--quick", "descriptors"],
        &["load", "--seconds", "0.1", "--connections", "200"],
        &["compare", "--rounds", "1", "--seconds", "0.1"],
    ];
    let server = Serve::start(&[]);
    for arguments in commands {
        let name = arguments[0];
        // With 150 some fit; with 12 not even what each process needs for itself.
        for limit in ["-n 150", "-n 12"] {
            let mut command = support::limited(limit);
            command.args(arguments);
            match name {
                "load" => command.args(["--addr", &server.addr()]),
                "compare" => command.args(["--cells", "200_1_64"]),
                _ => &mut command,
            };
            let output = finish(&mut command);
            let said = String::from_utf8_lossy(&output.stdout);
            let complained = String::from_utf8_lossy(&output.stderr);
            if limit == "-n 150" {
                assert!(output.status.success(), "{arguments:?}: {output:?}");
                let cut = said.contains("raise that with `ulimit -Hn");
                assert_eq!(cut, name != "timers", "{arguments:?}: {said}");
            } else if !output.status.success() {
                assert!(
                    complained.contains("Too many open files") || complained.contains("ulimit -n"),
                    "{arguments:?}: {complained}"
                );
            }
        }
    }
}

#[cfg(unix)]
#[test]
fn killed_demo_leaves_no_server() {
    for signal in ["-TERM", "-KILL"] {
        let mut demo = tool(&["demo", "--connections", "10", "--seconds", "600"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the tool runs");
        let mut stdout = BufReader::new(demo.stdout.take().expect("it is piped"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("a line");
        let addr = line
            .split_whitespace()
            .nth(1)
            .and_then(|addr| addr.parse().ok());
        let addr: SocketAddr = addr.unwrap_or_else(|| panic!("an address in {line:?}"));
        support::kill(signal, demo.id());
        assert!(!wait(&mut demo).success());
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(addr).is_ok() {
            assert!(Instant::now() < deadline, "the server lives on");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[cfg(unix)]
#[test]
fn output_to_a_closed_pipe_does_not_panic() {
    let output = Command::new("sh")
        .args(["-c", "\"$@\" | true", "sh"])
        .arg(env!("CARGO_BIN_EXE_throng-bench"))
        .args(["demo", "--connections", "10", "--seconds", "1.5"])
        .output()
        .expect("a shell runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(said, "");
}

#[test]
fn handles_ticks_and_timers_report_what_they_measured() {
    let path = scratch("embedding.json");
    let figures = |arguments: &[&str]| {
        let output = tool(arguments).arg("--json").arg(&path).output();
        let output = output.expect("the tool runs");
        assert!(output.status.success(), "{output:?}");
        json(&path)
    };
    let handles = figures(&[
        "handles",
        "--threads",
        "3",
        "--frames",
        "500",
        "--connections",
        "7",
    ]);
    assert_eq!(handles["received"], 1500, "{handles}");
    assert_eq!(handles["out_of_order"], 0, "{handles}");
    let ticks = figures(&["ticks", "--seconds", "0.3", "--connections", "3"]);
    let counted = |name: &str| ticks[name].as_u64().unwrap_or_default();
    assert!(
        (10..=18).contains(&(counted("ticks") + counted("missed"))),
        "{ticks}"
    );
    for phase in ["insert", "cancel", "expire"] {
        let timers = figures(&["timers", "--count", "1000", "--phase", phase]);
        assert!(
            timers["nanoseconds_each"][phase].as_f64() > Some(0.0),
            "{timers}"
        );
    }
}
