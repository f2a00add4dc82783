//! A client for `chat_server`: the console and the connection in one loop.
//!
//! ```text
//! cargo run --example chat_client [ADDR]          the default is 127.0.0.1:5000
//! ```
//!
//! The console is read by a thread, which hands each line to the loop. It could not be a source of the loop itself: what
//! stdin is, a terminal, a pipe or a file, is not for the program to choose, and a selector does not take them all (epoll
//! refuses files, Windows knows neither).

use std::net::ToSocketAddrs;
use std::process::ExitCode;
use std::{env, io, thread};

use throng::{
    Config, ConnectOptions, ConnectionId, DisconnectCause, DisconnectReason, EventLoop, Frame,
    Handle, Handler, MailboxError, Net,
};

/// Longer lines the server does not want.
const MAX_FRAME: u64 = 4096;

struct Client {
    server: ConnectionId,
    /// Lines that were typed before the connection was there.
    early: Vec<String>,
    outcome: Result<(), DisconnectReason>,
}

impl Client {
    fn say(&mut self, net: &mut Net, line: String) {
        if !net.is_connected(self.server) {
            self.early.push(line);
        } else if let Err(error) = net.send(self.server, line.as_bytes()) {
            eprintln!("chat_client: {error}");
        }
    }
}

impl Handler for Client {
    fn on_connect(&mut self, net: &mut Net, _: ConnectionId) {
        for line in std::mem::take(&mut self.early) {
            self.say(net, line);
        }
    }

    fn on_data(&mut self, _: &mut Net, _: ConnectionId, frame: Frame<'_>) {
        println!("{}", String::from_utf8_lossy(&frame));
    }

    fn on_disconnect(&mut self, net: &mut Net, _: ConnectionId, reason: DisconnectReason) {
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
    let addr = env::args().nth(1);
    match chat(addr.as_deref().unwrap_or("127.0.0.1:5000")) {
        Ok(Ok(())) => return ExitCode::SUCCESS,
        Ok(Err(reason)) => eprintln!("chat_client: {reason}"),
        Err(error) => eprintln!("chat_client: {error}"),
    }
    ExitCode::FAILURE
}

fn chat(addr: &str) -> io::Result<Result<(), DisconnectReason>> {
    let addr = addr.to_socket_addrs()?.next();
    let addr = addr.ok_or_else(|| io::Error::other("the name has no address"))?;
    let mut event_loop = EventLoop::new(Config::default())?;
    let options = ConnectOptions::default().max_frame_len(MAX_FRAME);
    let server = event_loop.net().connect_with(addr, options)?;
    let console = event_loop.handle();
    thread::spawn(move || listen_to(&console));
    let mut client = Client {
        server,
        early: Vec::new(),
        outcome: Ok(()),
    };
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
