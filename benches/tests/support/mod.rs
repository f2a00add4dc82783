//! The tool as a process, and what tests of it share.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "a module of several test files, each of which uses its own part"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Long enough for a slow, shared machine; no test waits for it unless it fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn tool(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_throng-bench"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// The tool in a shell that has set a limit.
#[cfg(unix)]
pub fn limited(limit: &str) -> Command {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", &format!("ulimit {limit} && exec \"$@\""), "sh"])
        .arg(env!("CARGO_BIN_EXE_throng-bench"))
        .stdin(Stdio::null());
    shell
}

pub fn output(arguments: &[&str]) -> Output {
    tool(arguments).output().expect("the tool runs")
}

/// A server that ends with the test.
pub struct Serve {
    pub child: Child,
    pub stdout: BufReader<ChildStdout>,
    pub addr: SocketAddr,
}

impl Serve {
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_other(&[&["serve"], arguments].concat())
    }

    /// A server that is not this crate's.
    pub fn start_other(words: &[&str]) -> Self {
        let mut child = tool(words)
            .args(["--addr", "127.0.0.1:0"])
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

    pub fn addr(&self) -> String {
        self.addr.to_string()
    }

    pub fn peer(&self) -> TcpStream {
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
pub fn finish(command: &mut Command) -> Output {
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
pub fn wait(child: &mut Child) -> std::process::ExitStatus {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().expect("a child") {
            return status;
        }
        assert!(Instant::now() < deadline, "the process goes on");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn json(path: &std::path::Path) -> Value {
    let text = std::fs::read_to_string(path).expect("the figures were written");
    std::fs::remove_file(path).expect("it is there");
    serde_json::from_str(&text).expect("valid JSON")
}

pub fn scratch(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

pub fn send(peer: &mut TcpStream, payload: &[u8]) {
    let mut frame = (payload.len() as u32).to_le_bytes().to_vec();
    frame.extend_from_slice(payload);
    peer.write_all(&frame).expect("to write");
}

pub fn receive(peer: &mut TcpStream) -> Vec<u8> {
    let mut header = [0; 4];
    peer.read_exact(&mut header).expect("a header");
    let mut payload = vec![0; u32::from_le_bytes(header) as usize];
    peer.read_exact(&mut payload).expect("a payload");
    payload
}

#[cfg(unix)]
pub fn kill(signal: &str, pid: u32) {
    let status = Command::new("kill")
        .args([signal, &pid.to_string()])
        .status();
    assert!(status.expect("kill runs").success());
}
