//! A chat server with names and rooms.
//!
//! ```text
//! cargo run --example chat_server [ADDR [LINES_ADDR]]          default: 127.0.0.1:5000
//! ```
//!
//! Each frame is a line of text: either a message to all members of the room, or a command.
//!
//! ```text
//! /name NAME    change your name
//! /join ROOM    enter another room, which is created if it does not exist
//! /who          list the people in the room
//! /quit         disconnect
//! ```
//!
//! Frames at `LINES_ADDR` are lines that end with a newline, so `nc` and `telnet` work as clients. Both kinds of clients
//! share the same rooms.

use std::collections::{BTreeSet, HashMap};
use std::process::ExitCode;
use std::{env, io, str};

use throng::{
    Config, ConnectionId, DisconnectReason, EventLoop, Frame, Framing, Handler, ListenOptions, Net,
};

const COMMANDS: &str = "/name NAME, /join ROOM, /who, /quit";
const LOBBY: &str = "lobby";
/// The longest name of a person or a room, in characters.
const MAX_NAME: usize = 20;
/// The longest line, in bytes. With the sender's name in front it still fits into a frame.
const MAX_TEXT: usize = 1000;
const MAX_FRAME: u64 = 4096;
/// The most names that `/who` lists. All names of a large room would not fit into a frame.
const MAX_LISTED: usize = 30;

#[derive(Default)]
struct Chat {
    members: HashMap<ConnectionId, Member>,
    /// The members of each room. An empty room is removed.
    rooms: HashMap<String, BTreeSet<ConnectionId>>,
    /// The owner of each name, by the name's [`key`].
    names: HashMap<String, ConnectionId>,
    /// The number of the last guest.
    guests: u64,
}

struct Member {
    name: String,
    room: String,
}

impl Handler for Chat {
    fn on_connect(&mut self, net: &mut Net, id: ConnectionId) {
        let name = self.guest_name();
        tell(net, id, &format!("* hello {name}; try {COMMANDS}"));
        self.names.insert(key(&name), id);
        self.enter(net, id, name, LOBBY.to_string());
    }

    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        match str::from_utf8(&frame).map(str::trim) {
            Err(_) => tell(net, id, "* that was not UTF-8"),
            Ok("") => {}
            Ok(text) if text.len() > MAX_TEXT => {
                tell(net, id, &format!("* that was more than {MAX_TEXT} bytes"));
            }
            // A line break would allow a sender to forge lines of other people.
            Ok(text) if text.contains(char::is_control) => {
                tell(net, id, "* one line of plain text, please");
            }
            Ok(text) => match text.strip_prefix('/') {
                Some(command) => self.obey(net, id, command),
                None => self.say(net, id, text),
            },
        }
    }

    fn on_disconnect(&mut self, net: &mut Net, id: ConnectionId, _: DisconnectReason) {
        self.forget(net, id);
    }
}

impl Chat {
    fn obey(&mut self, net: &mut Net, id: ConnectionId, command: &str) {
        let mut words = command.split_whitespace();
        match (words.next(), words.next(), words.next()) {
            (Some("name"), Some(name), None) => self.rename(net, id, name),
            (Some("join"), Some(room), None) => self.join(net, id, room),
            (Some("who"), None, None) => self.list(net, id),
            (Some("quit"), None, None) => {
                tell(net, id, "* goodbye");
                net.disconnect(id);
                // Removes the member now: the connection may take a while to close.
                self.forget(net, id);
            }
            _ => tell(net, id, &format!("* cannot /{command}; try {COMMANDS}")),
        }
    }

    fn say(&self, net: &mut Net, id: ConnectionId, text: &str) {
        if let Some(member) = self.members.get(&id) {
            let line = format!("{}: {text}", member.name);
            self.tell_others(net, id, &member.room, &line);
        }
    }

    fn rename(&mut self, net: &mut Net, id: ConnectionId, name: &str) {
        if !is_name(name) {
            return tell(net, id, &bad_name(name));
        }
        if self.names.get(&key(name)).is_some_and(|&owner| owner != id) {
            return tell(net, id, &format!("* the name {name} is taken"));
        }
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        self.names.remove(&key(&member.name));
        self.names.insert(key(name), id);
        let old = std::mem::replace(&mut member.name, name.to_string());
        tell(net, id, &format!("* you are {name} now"));
        let room = member.room.clone();
        self.tell_others(net, id, &room, &format!("* {old} is {name} now"));
    }

    fn join(&mut self, net: &mut Net, id: ConnectionId, room: &str) {
        if !is_name(room) {
            return tell(net, id, &bad_name(room));
        }
        if self
            .members
            .get(&id)
            .is_some_and(|member| member.room == room)
        {
            return tell(net, id, &format!("* you are in {room} already"));
        }
        if let Some(member) = self.leave(net, id) {
            self.enter(net, id, member.name, room.to_string());
        }
    }

    fn list(&self, net: &mut Net, id: ConnectionId) {
        let Some(member) = self.members.get(&id) else {
            return;
        };
        let room = self.rooms.get(&member.room).into_iter().flatten();
        let mut names = room.filter_map(|other| Some(self.members.get(other)?.name.as_str()));
        let mut line = format!("* in {}: ", member.room);
        line += &names
            .by_ref()
            .take(MAX_LISTED)
            .collect::<Vec<_>>()
            .join(", ");
        match names.count() {
            0 => {}
            more => line += &format!(" and {more} more"),
        }
        tell(net, id, &line);
    }

    fn enter(&mut self, net: &mut Net, id: ConnectionId, name: String, room: String) {
        tell(net, id, &format!("* you are in {room}"));
        self.tell_others(net, id, &room, &format!("* {name} joined"));
        self.rooms.entry(room.clone()).or_default().insert(id);
        self.members.insert(id, Member { name, room });
    }

    fn leave(&mut self, net: &mut Net, id: ConnectionId) -> Option<Member> {
        let member = self.members.remove(&id)?;
        if let Some(room) = self.rooms.get_mut(&member.room) {
            room.remove(&id);
            if room.is_empty() {
                self.rooms.remove(&member.room);
            }
        }
        self.tell_others(net, id, &member.room, &format!("* {} left", member.name));
        Some(member)
    }

    /// Removes a member and its name. A second call does nothing.
    fn forget(&mut self, net: &mut Net, id: ConnectionId) {
        if let Some(member) = self.leave(net, id) {
            self.names.remove(&key(&member.name));
        }
    }

    /// Sends a line to the other members of a room. It is encoded once.
    fn tell_others(&self, net: &mut Net, id: ConnectionId, room: &str, line: &str) {
        let room = self.rooms.get(room).into_iter().flatten().copied();
        let report = net.send_many(room.filter(|&other| other != id), line);
        if let Some(error) = report.error {
            log::warn!("{id}: {line:?} was not sent to all members of the room: {error}");
        }
    }

    /// Returns an unused name.
    fn guest_name(&mut self) -> String {
        loop {
            self.guests += 1;
            let name = format!("guest{}", self.guests);
            if !self.names.contains_key(&name) {
                return name;
            }
        }
    }
}

fn tell(net: &mut Net, id: ConnectionId, line: &str) {
    if let Err(error) = net.send(id, line.as_bytes()) {
        log::warn!("{id}: {error}");
    }
}

/// Two names with the same key are the same name: `alice` cannot impersonate `Alice`.
fn key(name: &str) -> String {
    name.to_lowercase()
}

fn is_name(name: &str) -> bool {
    name.chars().count() <= MAX_NAME && name.chars().all(char::is_alphanumeric)
}

fn bad_name(name: &str) -> String {
    format!("* {name} will not do: a name has up to {MAX_NAME} letters and digits")
}

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).init();
    let mut args = env::args().skip(1);
    let addr = args.next().unwrap_or_else(|| "127.0.0.1:5000".to_string());
    match serve(&addr, args.next().as_deref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chat_server: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(addr: &str, lines_addr: Option<&str>) -> io::Result<()> {
    let mut event_loop = EventLoop::new(Config::default())?;
    let net = event_loop.net();
    let options = ListenOptions::default().max_frame_len(MAX_FRAME);
    let listener = net.listen_with(addr, options.clone())?;
    if let Some(addr) = net.listener(listener).and_then(|it| it.local_addr()) {
        println!("listening on {addr}");
    }
    if let Some(addr) = lines_addr {
        let listener = net.listen_with(addr, options.framing(Framing::delimiter(b'\n')))?;
        if let Some(addr) = net.listener(listener).and_then(|it| it.local_addr()) {
            println!("listening on {addr} for lines");
        }
    }
    event_loop.run(&mut Chat::default())
}
