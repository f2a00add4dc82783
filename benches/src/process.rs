//! A server in a process of its own: started, found, and gone when its handle is.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use crate::pin;
use crate::problem::Problem;

/// A running server. Dropping it ends the process; should this process be killed, the server sees that its parent is
/// another, and stops.
pub(crate) struct Server {
    child: Child,
    pub(crate) addr: SocketAddr,
}

impl Server {
    /// Starts a server of this program on a free port, and waits until it says where it listens.
    pub(crate) fn start(arguments: &[&str]) -> Result<Self, Problem> {
        let program = std::env::current_exe()?;
        let mut child = Command::new(program)
            .args(arguments)
            .args(["--addr", "127.0.0.1:0"])
            .args(["--child-of", &std::process::id().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| Problem::failed(format!("cannot start the server: {error}")))?;
        let mut line = String::new();
        if let Some(output) = child.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        let addr = line
            .trim()
            .strip_prefix("listening on ")
            .and_then(|addr| addr.parse().ok());
        match addr {
            Some(addr) => Ok(Self { child, addr }),
            None => {
                let _ = child.kill();
                let _ = child.wait();
                Err(Problem::failed("the server did not start"))
            }
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Binds it to a processor.
    pub(crate) fn pin(&self, processor: usize) -> bool {
        pin::pin(self.pid(), processor)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
