//! The tool as its users meet it: what it prints, how it ends, and what it leaves behind.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Long enough for a slow, shared machine; no test waits for it unless it fails.
const PATIENCE: Duration = Duration::from_secs(60);

fn tool(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_throng-bench"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// The tool in a shell that has set a limit.
#[cfg(unix)]
fn limited(limit: &str) -> Command {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", &format!("ulimit {limit} && exec \"$@\""), "sh"])
        .arg(env!("CARGO_BIN_EXE_throng-bench"))
        .stdin(Stdio::null());
    shell
}

fn output(arguments: &[&str]) -> Output {
    tool(arguments).output().expect("the tool runs")
}

/// A server that ends with the test.
struct Serve {
    child: Child,
    stdout: BufReader<ChildStdout>,
    addr: SocketAddr,
}

impl Serve {
    fn start(arguments: &[&str]) -> Self {
        let mut child = tool(&["serve", "--addr", "127.0.0.1:0"])
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the tool runs");
        let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("a line");
        let addr = line.trim().strip_prefix("listening on ");
        let addr = addr.and_then(|addr| addr.parse().ok());
        Self {
            child,
            stdout,
            addr: addr.unwrap_or_else(|| panic!("it says where it listens, not {line:?}")),
        }
    }

    fn addr(&self) -> String {
        self.addr.to_string()
    }

    fn peer(&self) -> TcpStream {
        let peer = TcpStream::connect(self.addr).expect("it listens");
        peer.set_read_timeout(Some(PATIENCE))
            .expect("a live socket");
        peer
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs the tool to its end, which must come.
fn finish(command: &mut Command) -> Output {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = child.spawn().expect("the tool runs");
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().expect("a child").is_none() {
        if Instant::now() > deadline {
            let _ = child.kill();
            panic!("it does not end: {:?}", child.wait_with_output());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().expect("its output")
}

/// Waits for an end that must come.
fn wait(child: &mut Child) -> std::process::ExitStatus {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().expect("a child") {
            return status;
        }
        assert!(Instant::now() < deadline, "the process goes on");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn json(path: &std::path::Path) -> Value {
    let text = std::fs::read_to_string(path).expect("the figures were written");
    std::fs::remove_file(path).expect("it is there");
    serde_json::from_str(&text).expect("valid JSON")
}

fn scratch(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

fn send(peer: &mut TcpStream, payload: &[u8]) {
    let mut frame = (payload.len() as u32).to_le_bytes().to_vec();
    frame.extend_from_slice(payload);
    peer.write_all(&frame).expect("to write");
}

fn receive(peer: &mut TcpStream) -> Vec<u8> {
    let mut header = [0; 4];
    peer.read_exact(&mut header).expect("a header");
    let mut payload = vec![0; u32::from_le_bytes(header) as usize];
    peer.read_exact(&mut payload).expect("a payload");
    payload
}

#[test]
fn serve_echoes_small_and_large_frames() {
    let server = Serve::start(&["--mode", "echo"]);
    let mut peer = server.peer();
    for len in [0, 1, 64, 4096, 65_532, 65_533, 3 << 20] {
        let payload: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
        send(&mut peer, &payload);
        assert!(
            receive(&mut peer) == payload,
            "{len} bytes came back changed"
        );
    }
}

#[test]
fn serve_broadcasts_to_all_and_to_the_sender() {
    let server = Serve::start(&["--mode", "broadcast"]);
    let mut peers: Vec<_> = (0..3).map(|_| server.peer()).collect();
    // A frame of each shows that all three are connected.
    for peer in &mut peers {
        send(peer, b"here");
        receive(peer);
    }
    for peer in &mut peers {
        send(peer, b"last");
    }
    for peer in &mut peers {
        let mut last = 0;
        while last < 3 {
            if receive(peer) == b"last" {
                last += 1;
            }
        }
    }
}

#[test]
fn serve_sinks_what_it_gets() {
    let mut server = Serve::start(&["--mode", "sink"]);
    let mut peer = server.peer();
    send(&mut peer, b"gone");
    peer.shutdown(std::net::Shutdown::Write)
        .expect("a live socket");
    let mut rest = Vec::new();
    peer.read_to_end(&mut rest).expect("a clean end");
    assert_eq!(rest, b"");
    assert!(server.child.try_wait().expect("a child").is_none());
}

#[cfg(unix)]
#[test]
fn a_signal_ends_serve_cleanly_with_a_summary() {
    for signal in ["-INT", "-TERM"] {
        let path = scratch(&format!("serve{signal}.json"));
        let mut server = Serve::start(&["--json", path.to_str().expect("a plain path")]);
        let mut peer = server.peer();
        send(&mut peer, b"hello");
        assert_eq!(receive(&mut peer), b"hello");
        kill(signal, server.child.id());
        assert_eq!(peer.read(&mut [0]).expect("a clean end"), 0);
        drop(peer);
        assert!(wait(&mut server.child).success());
        let mut said = String::new();
        server.stdout.read_to_string(&mut said).expect("text");
        assert!(said.starts_with("served 1 connections"), "{said}");
        let figures = json(&path);
        assert_eq!(
            (&figures["accepted"], &figures["frames_sent"]),
            (&1.into(), &1.into())
        );
    }
}

#[cfg(unix)]
#[test]
fn after_a_signal_everybody_may_read_what_is_queued_and_a_second_one_ends_that() {
    let start = || {
        let server = Serve::start(&["--shutdown-timeout", "3600"]);
        let mut peer = server.peer();
        // More than the sockets hold, so that it waits in the server.
        let mut writer = peer.try_clone().expect("a live socket");
        let sender = std::thread::spawn(move || send(&mut writer, &vec![7; 12 << 20]));
        // Its header comes back when all of it has arrived.
        let mut header = [0; 4];
        peer.read_exact(&mut header).expect("a header");
        sender.join().expect("it is sent");
        (server, peer)
    };
    let (mut server, mut peer) = start();
    kill("-TERM", server.child.id());
    let mut payload = Vec::new();
    peer.read_to_end(&mut payload).expect("a clean end");
    assert!(payload == vec![7; 12 << 20], "all of it");
    drop(peer);
    assert!(wait(&mut server.child).success());

    let (mut server, peer) = start();
    kill("-TERM", server.child.id());
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(server.addr).is_ok() {
        assert!(Instant::now() < deadline, "it still listens");
    }
    kill("-TERM", server.child.id());
    assert!(wait(&mut server.child).success());
    drop(peer);
}

#[cfg(unix)]
fn kill(signal: &str, pid: u32) {
    let status = Command::new("kill")
        .args([signal, &pid.to_string()])
        .status();
    assert!(status.expect("kill runs").success());
}

#[test]
fn serve_takes_its_limits_as_options() {
    let server = Serve::start(&["--max-connections", "1", "--max-frame-len", "4"]);
    let mut first = server.peer();
    send(&mut first, b"four");
    assert_eq!(receive(&mut first), b"four");
    let mut second = server.peer();
    assert_eq!(second.read(&mut [0]).expect("a clean end"), 0);
    send(&mut first, b"fives");
    assert_eq!(first.read(&mut [0]).unwrap_or(0), 0);
}

#[test]
fn serve_relays_between_two_whole_frames_and_such_as_come_in_pieces() {
    let server = Serve::start(&["--mode", "relay", "--stream-frames-over", "1KiB"]);
    let mut first = server.peer();
    // It waits for somebody to talk to.
    send(&mut first, b"anybody there?");
    let mut second = server.peer();
    assert_eq!(receive(&mut second), b"anybody there?");
    let large: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
    let expected = large.clone();
    let mut writer = second.try_clone().expect("a live socket");
    let sender = std::thread::spawn(move || send(&mut writer, &large));
    assert!(receive(&mut first) == expected, "it arrives as it was sent");
    sender.join().expect("it is sent");
    // Without one the other has nobody.
    drop(second);
    assert_eq!(first.read(&mut [0]).expect("a clean end"), 0);
}

#[test]
fn relay_pairs_nobody_with_a_peer_that_has_left() {
    let server = Serve::start(&["--mode", "relay"]);
    for words in [None, Some(b"anybody there?")] {
        let mut left = server.peer();
        if let Some(words) = words {
            send(&mut left, words);
        }
        left.shutdown(std::net::Shutdown::Write)
            .expect("a live socket");
        let mut pair = [server.peer(), server.peer()];
        for (from, to) in [(0, 1), (1, 0)] {
            send(&mut pair[from], b"hello");
            assert_eq!(receive(&mut pair[to]), b"hello");
        }
        assert_eq!(left.read(&mut [0]).expect("a clean end"), 0);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn torture_tells_what_it_saw_and_judges_it() {
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

#[test]
fn a_bad_argument_is_one_line_and_exit_code_2() {
    let wrong: [&[&str]; 13] = [
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
fn an_address_in_use_is_one_line_and_exit_code_2() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = taken.local_addr().expect("its address").to_string();
    let output = output(&["serve", "--addr", &addr]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains(&addr), "{said}");
}

#[test]
fn load_checks_what_comes_back_and_tells_how_it_went() {
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
fn load_and_demo_read_however_much_is_in_flight() {
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
fn an_open_loop_does_not_wait_for_the_server() {
    const STALL: Duration = Duration::from_millis(300);
    let server = Serve::start(&[]);
    let path = scratch("rate.json");
    // Its kernel takes the connections all the same.
    kill("-STOP", server.child.id());
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
    kill("-CONT", server.child.id());
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
fn an_open_loop_counts_what_finds_no_room_and_goes_on() {
    let server = Serve::start(&[]);
    let path = scratch("no_room.json");
    kill("-STOP", server.child.id());
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
    kill("-CONT", server.child.id());
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

/// In bounded memory, too: it is cut off where the shell can do that.
#[test]
fn a_load_that_cannot_keep_up_ends_on_time_and_says_so() {
    let server = Serve::start(&[]);
    for connections in ["1", "300"] {
        let path = scratch(&format!("limit{connections}.json"));
        let mut command = if cfg!(target_os = "linux") {
            limited("-v 1000000")
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
fn load_notices_a_server_that_sends_something_else() {
    let server = Serve::start(&["--mode", "broadcast"]);
    let output = output(&["load", "--addr", &server.addr(), "--connections", "2"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("not the frame it had sent"), "{said}");
}

#[test]
fn load_without_a_server_says_so() {
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

#[test]
fn the_demo_shows_what_happened_and_ends() {
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
fn the_demo_fits_under_a_low_limit_and_names_the_remedy() {
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
fn every_command_fits_under_a_low_limit_or_names_what_is_missing() {
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
            let mut command = limited(limit);
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
fn a_demo_that_is_killed_leaves_no_server() {
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
        kill(signal, demo.id());
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
fn output_into_a_closed_pipe_is_no_panic() {
    let output = Command::new("sh")
        .args(["-c", "\"$@\" | true", "sh"])
        .arg(env!("CARGO_BIN_EXE_throng-bench"))
        .args(["demo", "--connections", "10", "--seconds", "1.5"])
        .output()
        .expect("a shell runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(said, "");
}

#[cfg(target_os = "linux")]
#[test]
fn compare_tells_ratios_and_judges_them() {
    let path = scratch("compare.json");
    let compare = |floor: &str| {
        tool(&[
            "compare",
            "--rounds",
            "2",
            "--seconds",
            "0.1",
            "--cells",
            "10_2_64,1_1_300000",
        ])
        .args(["--floor", floor])
        .arg("--json")
        .arg(&path)
        .output()
        .expect("the tool runs")
    };
    let good = compare("0.01");
    assert!(good.status.success(), "{good:?}");
    let figures = json(&path);
    let cell = &figures["cells"][0];
    assert_eq!(cell["cell"], "10_2_64");
    assert!(
        cell["contestants"][0]["ratio"]["median"].as_f64() > Some(0.0),
        "{figures}"
    );
    assert_eq!(cell["contestants"][1]["name"], "raw epoll");

    let bad = compare("1000");
    assert_eq!(bad.status.code(), Some(1), "{bad:?}");
    let said = String::from_utf8_lossy(&bad.stderr);
    assert!(
        said.contains("10_2_64") && said.contains("is below"),
        "{said}"
    );
}

#[cfg(unix)]
#[test]
fn every_driver_serves_and_ends() {
    for driver in ["turn", "run", "outer", "attached"] {
        let mut server = Serve::start(&["--driver", driver]);
        let addr = server.addr();
        let load = [
            "load",
            "--addr",
            &addr,
            "--connections",
            "5",
            "--seconds",
            "0.1",
        ];
        let output = output(&load);
        assert!(output.status.success(), "{driver}: {output:?}");
        kill("-TERM", server.child.id());
        assert!(wait(&mut server.child).success(), "{driver}");
    }
}

/// Time passes while a server is suspended, and its clients go on: when it continues, they have not been silent.
#[cfg(unix)]
#[test]
fn server_that_was_suspended_ends_no_client_that_was_busy() {
    const CLIENTS: usize = 10;
    let servers: Vec<(&str, Serve)> = ["turn", "run", "outer", "attached"]
        .into_iter()
        .map(|driver| {
            let limits = ["--idle-timeout", "1", "--frame-stall-timeout", "1"];
            let server = Serve::start(&[&["--driver", driver], &limits[..]].concat());
            (driver, server)
        })
        .collect();
    let mut clients: Vec<(&str, TcpStream)> = Vec::new();
    for (driver, server) in &servers {
        for _ in 0..CLIENTS {
            clients.push((driver, server.peer()));
        }
    }
    for (_, client) in &mut clients {
        send(client, b"before");
        // The beginning of a frame.
        client.write_all(&[5, 0]).expect("it is connected");
    }
    for (_, client) in &mut clients {
        assert_eq!(receive(client), b"before");
    }
    for (_, server) in &servers {
        kill("-STOP", server.child.id());
    }
    // What is tested is that this time does not count.
    std::thread::sleep(Duration::from_millis(1500));
    for (_, client) in &mut clients {
        // In one piece, so that nothing is held back until the first part is acknowledged.
        client.write_all(b"\0\0after").expect("its kernel takes it");
    }
    for (_, server) in &servers {
        kill("-CONT", server.child.id());
    }
    for (driver, client) in &mut clients {
        let mut answer = [0; 9];
        let answered = client.read_exact(&mut answer);
        assert!(answered.is_ok(), "{driver}: {answered:?}");
        assert_eq!(&answer, b"\x05\0\0\0after");
    }
}

#[test]
fn handles_ticks_and_timers_say_what_they_measured() {
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
