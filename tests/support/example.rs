//! The examples, as programs.
//!
//! `cargo test` builds them. Where only one test file is built (`--test examples`), `cargo build --examples` has to come
//! first.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Instant;
use std::{env, thread};

use super::PATIENCE;

pub const ANY_PORT: &str = "127.0.0.1:0";

/// An example that runs, and does not outlive its test.
pub struct Example {
    child: Child,
    /// What it prints, line by line.
    stdout: Receiver<io::Result<String>>,
    /// All that it logs, when it has ended.
    stderr: Receiver<io::Result<String>>,
}

/// What an example has left behind.
#[derive(Debug)]
pub struct Output {
    pub status: ExitStatus,
    pub lines: Vec<String>,
    pub stderr: String,
}

impl Example {
    #[track_caller]
    pub fn start(name: &str, args: &[&str]) -> Self {
        Self::run(Command::new(built(name)).args(args))
    }

    /// Runs a command that starts an example.
    #[track_caller]
    pub fn run(command: &mut Command) -> Self {
        Self::run_with(command, Stdio::piped())
    }

    /// The same, with a standard input.
    #[track_caller]
    pub fn run_with(command: &mut Command, stdin: Stdio) -> Self {
        let spawned = command
            .env_remove("RUST_LOG")
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = match spawned {
            Ok(child) => child,
            Err(error) => panic!("{command:?}: {error}; \"cargo build --examples\" makes it"),
        };
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut stderr = child.stderr.take().expect("a pipe");
        Self {
            child,
            stdout: in_background(move |sender| {
                // The test may have stopped reading: then there is nothing left to do.
                let _ = stdout.lines().try_for_each(|line| sender.send(line));
            }),
            stderr: in_background(move |sender| {
                let mut text = String::new();
                let result = stderr.read_to_string(&mut text).map(|_| text);
                let _ = sender.send(result);
            }),
        }
    }

    /// The address in the next line it prints.
    #[track_caller]
    pub fn listening_on(&mut self) -> SocketAddr {
        let line = match self.stdout.recv_timeout(PATIENCE) {
            Ok(line) => line.expect("its output is text"),
            Err(_) => panic!("it does not say where it listens"),
        };
        let addr = line.strip_prefix("listening on ").and_then(|rest| {
            let addr = rest.split_whitespace().next()?;
            addr.parse().ok()
        });
        addr.unwrap_or_else(|| panic!("not an address: {line}"))
    }

    /// Types a line at its console.
    #[track_caller]
    pub fn type_in(&mut self, line: &str) {
        let console = self.child.stdin.as_mut().expect("it is open");
        writeln!(console, "{line}").expect("it listens");
    }

    /// Says that nothing more will be typed.
    pub fn end_input(&mut self) {
        self.child.stdin = None;
    }

    /// Waits until it prints a line with these words.
    #[track_caller]
    pub fn expect_line(&mut self, words: &str) {
        loop {
            let line = self.stdout.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("it does not say {words:?}"));
            if line.expect("its output is text").contains(words) {
                return;
            }
        }
    }

    /// Waits for its end.
    #[track_caller]
    pub fn finish(mut self) -> Output {
        let deadline = Instant::now() + PATIENCE;
        let mut lines = Vec::new();
        let stderr = loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.stdout.recv_timeout(left) {
                Ok(line) => lines.push(line.expect("its output is text")),
                Err(RecvTimeoutError::Timeout) => panic!("it did not end in time: {lines:?}"),
                // It has closed its output.
                Err(RecvTimeoutError::Disconnected) => match self.stderr.recv_timeout(left) {
                    Ok(text) => break text.expect("its log is text"),
                    Err(_) => panic!("it did not end in time: {lines:?}"),
                },
            }
        };
        Output {
            status: self.child.wait().expect("its status"),
            lines,
            stderr,
        }
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        // Both fail if it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking()
            && let Ok(Ok(log)) = self.stderr.recv_timeout(PATIENCE)
        {
            eprint!("{log}");
        }
    }
}

fn in_background<T: Send + 'static>(
    work: impl FnOnce(mpsc::Sender<T>) + Send + 'static,
) -> Receiver<T> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || work(sender));
    receiver
}

/// Where cargo puts an example: `deps/` with this test and `examples/` are neighbours.
pub fn built(name: &str) -> PathBuf {
    let test = env::current_exe().expect("the path of this test");
    let deps = test.parent().expect("the directory it is in");
    let examples = deps.with_file_name("examples");
    examples.join(format!("{name}{}", env::consts::EXE_SUFFIX))
}
