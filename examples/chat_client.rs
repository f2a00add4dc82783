//! A client for `chat_server`: the console and the connection in one loop.
//!
//! ```text
//! cargo run --example chat_client [ADDR...]          connects to the first reachable one; default: 127.0.0.1:5000
//! ```
//!
//! A second thread reads the console and passes each line to the loop. The console cannot be a source of the loop itself:
//! stdin may be a terminal, a pipe or a file, and selectors do not accept all of them. epoll rejects files, and mio on
//! Windows accepts none of the three.

use std::net::{SocketAddr, ToSocketAddrs};
use std::process::ExitCode;
use std::{env, io, thread, vec};

use throng::{
    Config, ConnectOptions, ConnectionId, DisconnectCause, DisconnectReason, EventLoop, Frame,
    Handle, Handler, MailboxError, Net, Stage,
};

/// The server rejects longer frames.
const MAX_FRAME: u64 = 4096;

struct Client {
    /// Addresses of the server that have not been tried yet. A name often has several.
    untried: vec::IntoIter<SocketAddr>,
    server: Option<ConnectionId>,
    /// Lines that were typed before the connection was established.
    early: Vec<String>,
    outcome: Result<(), DisconnectReason>,
}

impl Client {
    /// Starts connecting to the next address.
    fn connect(&mut self, net: &mut Net) -> Result<(), String> {
        let mut failure = "there is no address to connect to".to_string();
        for addr in self.untried.by_ref() {
            let options = ConnectOptions::default().max_frame_len(MAX_FRAME);
            match net.connect_with(addr, options) {
                Ok(_) => return Ok(()),
                Err(error) => failure = error.to_string(),
            }
        }
        Err(failure)
    }

    fn say(&mut self, net: &mut Net, line: String) {
        let Some(server) = self.server else {
            return self.early.push(line);
        };
        if let Err(error) = net.send(server, line.as_bytes()) {
            eprintln!("chat_client: {error}");
        }
    }
}

impl Handler for Client {
    fn on_connect(&mut self, net: &mut Net, id: ConnectionId) {
        self.server = Some(id);
        for line in std::mem::take(&mut self.early) {
            self.say(net, line);
        }
    }

    fn on_data(&mut self, _: &mut Net, _: ConnectionId, frame: Frame<'_>) {
        println!("{}", String::from_utf8_lossy(&frame));
    }

    fn on_disconnect(&mut self, net: &mut Net, _: ConnectionId, reason: DisconnectReason) {
        if reason.stage == Stage::Connecting && self.connect(net).is_ok() {
            return;
        }
        if !matches!(
            reason.cause,
            DisconnectCause::ClosedLocally | DisconnectCause::PeerClosed
        ) {
            self.outcome = Err(reason);
        }
        net.stop();
    }
}

fn main() -> ExitCode {
    let mut addrs: Vec<_> = env::args().skip(1).collect();
    if addrs.is_empty() {
        addrs.push("127.0.0.1:5000".to_string());
    }
    match chat(&addrs) {
        Ok(Ok(())) => return ExitCode::SUCCESS,
        Ok(Err(reason)) => eprintln!("chat_client: {reason}"),
        Err(error) => eprintln!("chat_client: {error}"),
    }
    ExitCode::FAILURE
}

fn chat(addrs: &[String]) -> io::Result<Result<(), DisconnectReason>> {
    let mut untried = Vec::new();
    for addr in addrs {
        untried.extend(addr.to_socket_addrs()?);
    }
    let mut event_loop = EventLoop::new(Config::default())?;
    let mut client = Client {
        untried: untried.into_iter(),
        server: None,
        early: Vec::new(),
        outcome: Ok(()),
    };
    client.connect(event_loop.net()).map_err(io::Error::other)?;
    let console = event_loop.handle();
    thread::spawn(move || listen_to(&console));
    event_loop.run(&mut client)?;
    Ok(client.outcome)
}

/// Passes lines of the console to the loop. Blocks while the mailbox is full; EOF ends the chat.
fn listen_to(client: &Handle<Client>) {
    let pass_on = || -> Result<(), MailboxError> {
        for line in io::stdin().lines().map_while(Result::ok) {
            client.post(|client, net| client.say(net, line))?;
        }
        client.post(|client, net| client.say(net, "/quit".to_string()))
    };
    // It fails only if the loop has ended, which `main` reports.
    let _ = pass_on();
}
