//! `load`: what it checks, what it counts, and how it ends.

mod support;

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use support::{Serve, finish, json, output, scratch, tool, wait};

#[test]
fn load_checks_echoes_and_reports_figures() {
    let server = Serve::start(&[]);
    for (pipeline, size) in [("1", "0"), ("8", "3"), ("2", "100000")] {
        let path = scratch(&format!("load{size}.json"));
        let output = tool(&["load", "--addr", &server.addr(), "--connections", "20"])
            .args(["--pipeline", pipeline, "--size", size, "--seconds", "0.2"])
            .arg("--json")
            .arg(&path)
            .output()
            .expect("the tool runs");
        assert!(output.status.success(), "{output:?}");
        let figures = json(&path);
        assert_eq!(figures["connections"], 20);
        assert!(figures["load"]["frames"].as_u64() > Some(0), "{figures}");
        assert!(
            figures["load"]["latency_ns"]["p99_9"].as_u64() > Some(0),
            "{figures}"
        );
    }
}

/// More than all buffers between client and server hold, several times: each side waits for the other to read.
#[test]
fn load_and_demo_read_with_any_number_of_frames_in_flight() {
    let server = Serve::start(&[]);
    let addr = server.addr();
    for command in [&["load", "--addr", &addr][..], &["demo"]] {
        for (pipeline, size) in [("200", "65536"), ("1000", "30000")] {
            let output = finish(
                tool(command)
                    .args(["--connections", "1", "--pipeline", pipeline])
                    .args(["--size", size, "--seconds", "0.1"]),
            );
            assert!(output.status.success(), "{command:?}: {output:?}");
        }
    }
}

/// A server that stands still gets no fewer frames for it, and what is late by then is late from when it was due.
#[cfg(unix)]
#[test]
fn open_loop_does_not_wait_for_the_server() {
    const STALL: Duration = Duration::from_millis(300);
    let server = Serve::start(&[]);
    let path = scratch("rate.json");
    // Its kernel takes the connections all the same.
    support::kill("-STOP", server.child.id());
    let mut load = tool(&["load", "--addr", &server.addr(), "--connections", "7"])
        .args(["--rate", "200", "--seconds", "1"])
        .arg("--json")
        .arg(&path)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the tool runs");
    let mut stdout = BufReader::new(load.stdout.take().expect("it is piped"));
    let mut line = String::new();
    stdout.read_line(&mut line).expect("a line");
    assert!(line.starts_with("connected"), "{line}");
    std::thread::sleep(STALL);
    support::kill("-CONT", server.child.id());
    std::io::copy(&mut stdout, &mut std::io::sink()).expect("text");
    assert!(wait(&mut load).success());
    let figures = json(&path);
    // A frame is due at the start, and one each five milliseconds.
    let frames = figures["load"]["frames"].as_u64();
    assert!(frames >= Some(200), "{figures}");
    let max = figures["load"]["latency_ns"]["max"].as_u64();
    assert!(max >= Some(STALL.as_nanos() as u64 * 9 / 10), "{figures}");
}

/// Of a server that stands still for longer than the generator can keep what is due, it is reported what found no room.
#[cfg(unix)]
#[test]
fn open_loop_counts_frames_without_room_and_continues() {
    let server = Serve::start(&[]);
    let path = scratch("no_room.json");
    support::kill("-STOP", server.child.id());
    // In a second that is 100 MB: five times of what queue and sockets hold.
    let mut load = tool(&["load", "--addr", &server.addr(), "--connections", "1"])
        .args(["--rate", "400", "--size", "250000", "--seconds", "2"])
        .arg("--json")
        .arg(&path)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the tool runs");
    let mut stdout = BufReader::new(load.stdout.take().expect("it is piped"));
    // It tells of its progress once a second.
    for begin in ["connected", " "] {
        let mut line = String::new();
        stdout.read_line(&mut line).expect("a line");
        assert!(line.starts_with(begin), "{line}");
    }
    support::kill("-CONT", server.child.id());
    let mut said = String::new();
    stdout.read_to_string(&mut said).expect("text");
    assert!(wait(&mut load).success(), "{said}");
    assert!(said.contains("too much was on its way"), "{said}");
    let figures = &json(&path)["load"];
    let open_loop = &figures["open_loop"];
    let errors = &open_loop["errors"];
    let counted = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("{figures}"));
    assert!(counted(&errors["no_room"]) > 0, "{figures}");
    assert_eq!(counted(&open_loop["due"]), 800);
    let not_sent = counted(&errors["no_room"]) + counted(&errors["not_reached"]);
    assert_eq!(counted(&open_loop["sent"]) + not_sent, 800, "{figures}");
    let answered = counted(&figures["frames"]) + counted(&errors["unanswered"]);
    assert_eq!(counted(&open_loop["sent"]), answered, "{figures}");
    // The first frame was due at the start.
    let max = counted(&figures["latency_ns"]["max"]);
    assert!(max >= 900_000_000, "{figures}");
}

#[cfg(unix)]
#[test]
fn open_loop_ends_on_time_without_an_answer() {
    let server = Serve::start(&[]);
    let path = scratch("no_answer.json");
    support::kill("-STOP", server.child.id());
    let output = finish(
        tool(&["load", "--addr", &server.addr(), "--connections", "7"])
            .args(["--rate", "200", "--seconds", "1"])
            .arg("--json")
            .arg(&path),
    );
    support::kill("-CONT", server.child.id());
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(!said.contains("latency"), "{said}");
    let figures = &json(&path)["load"];
    assert_eq!(figures["frames"], 0);
    assert_eq!(figures["latency_ns"], Value::Null);
    let open_loop = &figures["open_loop"];
    assert_eq!(open_loop["errors"]["unanswered"], open_loop["sent"]);
}

/// In bounded memory, too: it is cut off where the shell can do that.
#[test]
fn load_that_cannot_keep_up_ends_on_time_and_reports_it() {
    let server = Serve::start(&[]);
    for connections in ["1", "300"] {
        let path = scratch(&format!("limit{connections}.json"));
        let mut command = if cfg!(target_os = "linux") {
            support::limited("-v 1000000")
        } else {
            tool(&[])
        };
        let output = finish(
            command
                .args(["load", "--addr", &server.addr(), "--connections"])
                .args([connections, "--rate", "20000000", "--seconds", "1"])
                .arg("--json")
                .arg(&path),
        );
        assert!(output.status.success(), "{output:?}");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            said.contains("the load generator was the limit"),
            "{output:?}"
        );
        let figures = &json(&path)["load"];
        let open_loop = &figures["open_loop"];
        assert_eq!(open_loop["generator_was_the_limit"], true, "{figures}");
        assert_eq!(open_loop["due"], 20_000_000, "{figures}");
        // A second, and two for answers.
        assert!(figures["seconds"].as_f64() < Some(20.0), "{figures}");
    }
}

#[test]
fn load_detects_a_wrong_echo() {
    let server = Serve::start(&["--mode", "broadcast"]);
    let output = output(&["load", "--addr", &server.addr(), "--connections", "2"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("not the frame that was sent"), "{said}");
}

#[test]
fn load_without_a_server_reports_it() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = free.local_addr().expect("its address").to_string();
    drop(free);
    let output = output(&["load", "--addr", &addr, "--connections", "1"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains(&addr) && said.contains("could not connect"),
        "{said}"
    );
}
