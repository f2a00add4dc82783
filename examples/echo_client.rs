//! Sends messages to an echo server, checks and prints the replies, and exits.
//!
//! ```text
//! cargo run --example echo_client [ADDR [MESSAGE...]]          default: 127.0.0.1:5000
//! ```

use std::error::Error;
use std::net::{SocketAddr, ToSocketAddrs};
use std::process::ExitCode;
use std::{env, vec};

use throng::{Config, ConnectionId, DisconnectReason, EventLoop, Frame, Handler, Net, Stage};

struct Client {
    /// Addresses of the server that have not been tried yet. A name often has several.
    addrs: vec::IntoIter<SocketAddr>,
    messages: Vec<String>,
    /// The number of messages that were echoed.
    echoed: usize,
    failure: Option<String>,
}

impl Client {
    /// Starts connecting to the next address.
    fn connect(&mut self, net: &mut Net) -> Result<(), String> {
        let mut failure = "there is no address to connect to".to_string();
        for addr in self.addrs.by_ref() {
            match net.connect(addr) {
                Ok(_) => return Ok(()),
                Err(error) => failure = error.to_string(),
            }
        }
        Err(failure)
    }

    fn fail(&mut self, net: &mut Net, id: ConnectionId, failure: String) {
        self.failure = Some(failure);
        net.abort(id);
    }

    fn is_done(&self) -> bool {
        self.echoed == self.messages.len()
    }
}

impl Handler for Client {
    fn on_connect(&mut self, net: &mut Net, id: ConnectionId) {
        for message in &self.messages {
            if let Err(error) = net.send(id, message.as_bytes()) {
                return self.fail(net, id, error.to_string());
            }
        }
    }

    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        let message = &self.messages[self.echoed];
        if frame[..] != *message.as_bytes() {
            let failure = format!("{message:?} came back as {frame:?}");
            return self.fail(net, id, failure);
        }
        println!("{message}");
        self.echoed += 1;
        if self.is_done() {
            // No frame is delivered after this call.
            net.disconnect(id);
        }
    }

    // Also called for each failed connection attempt.
    fn on_disconnect(&mut self, net: &mut Net, _: ConnectionId, reason: DisconnectReason) {
        if !self.is_done() && self.failure.is_none() {
            if reason.stage == Stage::Connecting && self.connect(net).is_ok() {
                return;
            }
            self.failure = Some(reason.to_string());
        }
        net.stop();
    }
}

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).init();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("echo_client: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let mut args = env::args().skip(1);
    let addr = args.next().unwrap_or_else(|| "127.0.0.1:5000".to_string());
    let mut messages: Vec<String> = args.collect();
    if messages.is_empty() {
        messages = ["hello", "how are you?", "goodbye"]
            .map(String::from)
            .into();
    }
    // Resolving a name blocks, so it is done before the loop runs.
    let addrs = addr
        .to_socket_addrs()
        .map_err(|error| format!("cannot resolve {addr}: {error}"))?;

    let mut event_loop = EventLoop::new(Config::default())?;
    let mut client = Client {
        addrs,
        messages,
        echoed: 0,
        failure: None,
    };
    client.connect(event_loop.net())?;
    event_loop.run(&mut client)?;
    match client.failure {
        None => Ok(()),
        Some(failure) => Err(format!("{addr}: {failure}").into()),
    }
}
