//! A client for `chat_server`: the console and the connection in one loop.
//!
//! ```text
//! cargo run --example chat_client [ADDR...]          the first that can be reached; the default is 127.0.0.1:5000
//! ```
//!
//! The console is read by a thread, which hands each line to the loop. It could not be a source of the loop itself: what
//! stdin is, a terminal, a pipe or a file, is not for the program to choose, and a selector does not take them all (epoll
//! refuses files, Windows knows neither).

use std::net::{SocketAddr, ToSocketAddrs};
use std::process::ExitCode;
use std::{env, io, thread, vec};

use throng::{
    Config, ConnectOptions, ConnectionId, DisconnectCause, DisconnectReason, EventLoop, Frame,
    Handle, Handler, MailboxError, Net, Stage,
};

/// Longer lines the server does not want.
const MAX_FRAME: u64 = 4096;

struct Client {
    /// Addresses of the server that were not tried yet. A name often has several.
    untried: vec::IntoIter<SocketAddr>,
    server: Option<ConnectionId>,
    /// Lines that were typed before the connection was there.
    early: Vec<String>,
    outcome: Result<(), DisconnectReason>,
}

impl Client {
    /// Starts to connect to the next address.
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
            DisconnectCause::Kicked | DisconnectCause::PeerClosed
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

/// Passes on what is typed. It waits where the loop is slower; the end of the input ends the chat.
fn listen_to(client: &Handle<Client>) {
    let pass_on = || -> Result<(), MailboxError> {
        for line in io::stdin().lines().map_while(Result::ok) {
            client.post(|client, net| client.say(net, line))?;
        }
        client.post(|client, net| client.say(net, "/quit".to_string()))
    };
    // That the loop is gone is said by others.
    let _ = pass_on();
}
