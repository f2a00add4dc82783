//! This program in other processes: a server, or whatever else is told what to do and answers in lines.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::pin;
use crate::problem::Problem;

/// A running process. Dropping it ends the process; should this one be killed, the other sees that its parent is another,
/// or that its standard input ends, and stops.
pub(crate) struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Option<BufReader<ChildStdout>>,
}

impl Process {
    /// Starts this program with other arguments.
    pub(crate) fn start(arguments: &[&str]) -> Result<Self, Problem> {
        Self::spawn(Command::new(std::env::current_exe()?).args(arguments))
    }

    /// The same, in a shell that has done something before.
    pub(crate) fn start_after(shell: &str, arguments: &[&str]) -> Result<Self, Problem> {
        let script = format!("{shell}; exec \"$0\" \"$@\"");
        let mut command = Command::new("sh");
        Self::spawn(
            command
                .args(["-c", &script])
                .arg(std::env::current_exe()?)
                .args(arguments),
        )
    }

    fn spawn(command: &mut Command) -> Result<Self, Problem> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| Problem::failed(format!("cannot start a process: {error}")))?;
        Ok(Self {
            stdin: child.stdin.take(),
            stdout: child.stdout.take().map(BufReader::new),
            child,
        })
    }

    pub(crate) fn tell(&mut self, line: &str) -> Result<(), Problem> {
        if let Some(stdin) = &mut self.stdin {
            writeln!(stdin, "{line}")?;
        }
        Ok(())
    }

    /// The next line it says. What it had to complain of it has said on standard error.
    pub(crate) fn hear(&mut self) -> Result<String, Problem> {
        let mut line = String::new();
        if let Some(stdout) = &mut self.stdout {
            stdout.read_line(&mut line)?;
        }
        if line.is_empty() {
            return Err(Problem::failed("a process that was started has ended"));
        }
        Ok(line.trim_end().to_string())
    }
}

impl Process {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Fails if the process has ended. What it had to complain of it has said on standard error.
    pub(crate) fn expect_alive(&mut self) -> Result<(), Problem> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(Problem::failed(format!(
                "a process that was started has ended: {status}"
            ))),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server on a free port of this machine.
pub(crate) struct Server {
    process: Process,
    pub(crate) addr: SocketAddr,
}

impl Server {
    /// Starts one of this program's servers, and waits until it says where it listens.
    pub(crate) fn start(subcommand: &str) -> Result<Self, Problem> {
        Self::start_with(subcommand, &[], None)
    }

    /// The same, with more arguments, and in a shell that has done something before, if it is to.
    pub(crate) fn start_with(
        subcommand: &str,
        more: &[&str],
        shell: Option<&str>,
    ) -> Result<Self, Problem> {
        Self::launch(subcommand, more, |arguments| match shell {
            Some(shell) => Process::start_after(shell, arguments),
            None => Process::start(arguments),
        })
    }

    /// The server of another build of this program.
    pub(crate) fn start_other(
        program: &Path,
        subcommand: &str,
        more: &[&str],
    ) -> Result<Self, Problem> {
        Self::launch(subcommand, more, |arguments| {
            Process::spawn(Command::new(program).args(arguments))
        })
    }

    fn launch(
        subcommand: &str,
        more: &[&str],
        start: impl FnOnce(&[&str]) -> Result<Process, Problem>,
    ) -> Result<Self, Problem> {
        let this = std::process::id().to_string();
        let mut arguments = vec![subcommand, "--addr", "127.0.0.1:0", "--child-of", &this];
        arguments.extend(more);
        let mut process = start(&arguments)?;
        let line = process.hear()?;
        let addr = line
            .strip_prefix("listening on ")
            .and_then(|addr| addr.parse().ok());
        let addr = addr.ok_or_else(|| Problem::failed(format!("the server says {line:?}")))?;
        Ok(Self { process, addr })
    }

    /// See [`Process::expect_alive`].
    pub(crate) fn expect_alive(&mut self) -> Result<(), Problem> {
        self.process.expect_alive()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// How it has waited for its processor, where the system tells.
    pub(crate) fn waits(&self) -> Option<Waits> {
        let text = std::fs::read_to_string(format!("/proc/{}/schedstat", self.pid())).ok()?;
        let mut numbers = text.split_ascii_whitespace().skip(1);
        Some(Waits {
            nanos: numbers.next()?.parse().ok()?,
            count: numbers.next()?.parse().ok()?,
        })
    }

    /// Binds it to a processor.
    pub(crate) fn pin(&self, processor: usize) -> bool {
        pin::pin(self.pid(), processor)
    }
}

/// How a process has waited for a processor since its start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waits {
    nanos: u64,
    count: u64,
}

impl Waits {
    /// What a wake-up takes if no other process has the processor, at most.
    const SHORT: u64 = 5_000;
    const LONG: u64 = 1_000_000;

    /// Whether other processes had the processor for a millisecond.
    pub(crate) fn are_long_since(self, before: Self) -> bool {
        self.nanos - before.nanos > (self.count - before.count) * Self::SHORT + Self::LONG
    }
}
