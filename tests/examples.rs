//! The examples, as programs: they are started, talked to, and have to answer.

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::thread;

use support::example::{ANY_PORT, Example, Output};
use support::{PATIENCE, Peer, Server};
use throng::{ConnectionId, Frame, Handler, ListenOptions, Net};

#[test]
fn echo_client_receives_its_messages() {
    let mut server = Example::start("echo_server", &[ANY_PORT]);
    let addr = server.listening_on().to_string();
    let output = Example::start("echo_client", &[&addr, "one", "", "and three"]).finish();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.lines, ["one", "", "and three"]);
    assert!(output.stderr.contains(" INFO "), "{output:?}");
}

#[test]
fn echo_client_has_default_messages() {
    let mut server = Example::start("echo_server", &[ANY_PORT]);
    let addr = server.listening_on().to_string();
    let output = Example::start("echo_client", &[&addr]).finish();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.lines, ["hello", "how are you?", "goodbye"]);
}

#[test]
fn sharded_chat_message_reaches_all_shards() {
    let mut server = Example::start("shards", &[ANY_PORT, "2"]);
    let addr = server.listening_on();
    let mut first = Peer::connect(addr);
    let name = String::from_utf8(first.receive()).expect("text");
    let name = name
        .strip_prefix("* ")
        .and_then(|name| name.strip_suffix(" has come"));
    let name = name.expect("who has come").to_string();
    // The kernel throws dice: that 64 fall on one side happens in one of 10^19 times.
    let mut others = Vec::new();
    let shard_of = |name: &str| name.split(':').next().map(str::to_string);
    while others.len() < 64 {
        others.push(Peer::connect(addr));
        let line = String::from_utf8(first.receive()).expect("text");
        let other = line.strip_prefix("* ").expect("who has come").to_string();
        if shard_of(&other) != shard_of(&name) {
            break;
        }
    }
    first.send(b"hello, all");
    let said = format!("{name}: hello, all").into_bytes();
    for peer in &mut others {
        while peer.receive() != said {}
    }
    let mut last = others.pop().expect("there is one");
    last.send(b"/who");
    // The shards tell each other, which takes a moment.
    let counted = |line: &str| -> usize {
        let counts = line.split(", ");
        counts
            .filter_map(|count| count.split(' ').next()?.parse::<usize>().ok())
            .sum()
    };
    loop {
        let line = String::from_utf8(last.receive()).expect("text");
        if line.contains(" on shard 0, ") && counted(&line) == others.len() + 2 {
            break;
        }
        last.send(b"/who");
    }
    last.send(b"/quit");
    let output = server.finish();
    assert!(output.status.success(), "{output:?}");
}

/// Asks the HTTP server for its page.
#[cfg(unix)]
fn page_of(addr: SocketAddr) -> String {
    let mut peer = Peer::connect(addr);
    peer.write(b"GET / HTTP/1.1\r\nHost: game\r\nConnection: close\r\n\r\n");
    let mut page = String::new();
    peer.0.read_to_string(&mut page).expect("a page");
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
    page
}

#[cfg(unix)]
#[test]
fn tokio_serves_the_game_and_its_page() {
    let mut server = Example::start("embed_tokio", &[ANY_PORT, ANY_PORT]);
    let (game, status) = (server.listening_on(), server.listening_on());
    assert!(page_of(status).ends_with("players: 0\nframes: 0\n"));
    let mut peers = [Peer::connect(game), Peer::connect(game)];
    // A client that receives its own name is in the room.
    for peer in &mut peers {
        peer.send(b"I am here");
        while peer.receive() != b"I am here" {}
    }
    for i in 0..500_u32 {
        peers[0].send(&i.to_le_bytes());
    }
    for peer in &mut peers {
        let last = 499_u32.to_le_bytes();
        while peer.receive() != last {}
    }
    assert!(page_of(status).ends_with("players: 2\nframes: 502\n"));
    peers[1].send(b"/quit");
    for peer in &mut peers {
        peer.expect_end();
    }
    drop(peers);
    let output = server.finish();
    assert!(output.status.success(), "{output:?}");
}

#[cfg(unix)]
#[test]
fn smol_serves_the_game_and_its_console() {
    let mut server = Example::start("embed_smol", &[ANY_PORT, ANY_PORT]);
    let (game, console) = (server.listening_on(), server.listening_on());
    let mut peers = [Peer::connect(game), Peer::connect(game)];
    for peer in &mut peers {
        peer.send(b"I am here");
        while peer.receive() != b"I am here" {}
    }
    let mut console = Peer::connect(console);
    console.write(b"players\nplay\n");
    let mut answers = BufReader::new(console.0.try_clone().expect("a handle")).lines();
    let mut answer = || answers.next().expect("a line").expect("a line");
    assert_eq!(answer(), "2");
    assert_eq!(answer(), "players | say TEXT | quit");
    for i in 0..500_u32 {
        console.write(format!("say {i}\n").as_bytes());
    }
    for peer in &mut peers {
        while peer.receive() != b"499" {}
    }
    console.write(b"quit\n");
    for peer in &mut peers {
        peer.expect_end();
    }
    drop(peers);
    let output = server.finish();
    assert!(output.status.success(), "{output:?}");
}

#[cfg(unix)]
#[test]
fn calloop_serves_its_timer_and_connections() {
    let mut server = Example::start("embed_calloop", &[ANY_PORT]);
    let mut peer = Peer::connect(server.listening_on());
    peer.send(b"hello");
    let (mut ticks, mut echoes) = (0, 0);
    while ticks < 2 || echoes < 1 {
        let frame = peer.receive();
        ticks += usize::from(frame.starts_with(b"tick "));
        echoes += usize::from(frame == b"hello");
    }
    peer.send(b"/quit");
    peer.0.read_to_end(&mut Vec::new()).expect("a clean end");
    drop(peer);
    let output = server.finish();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn own_poll_serves_datagrams_console_and_connections() {
    let mut server = Example::start("embed_mio", &[ANY_PORT]);
    let addr = server.listening_on();
    let mut peers = [Peer::connect(addr), Peer::connect(addr)];
    for peer in &mut peers {
        peer.send(b"I am here");
        while peer.receive() != b"I am here" {}
    }
    let query = std::net::UdpSocket::bind(ANY_PORT).expect("a free port");
    query.set_read_timeout(Some(PATIENCE)).expect("a socket");
    query.send_to(b"?", addr).expect("it is sent");
    let mut answer = [0; 64];
    let len = query.recv(&mut answer).expect("an answer");
    assert_eq!(&answer[..len], b"2 players");
    server.type_in("good evening, all");
    for peer in &mut peers {
        while peer.receive() != b"good evening, all" {}
    }
    server.end_input();
    for peer in &mut peers {
        peer.0.read_to_end(&mut Vec::new()).expect("a clean end");
    }
    drop(peers);
    let output = server.finish();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn game_moves_a_thousand_bots() {
    let output = Example::start("game_tick", &["bots", "1000", "2"]).finish();
    assert!(output.status.success(), "{output:?}");
    let number = |line: &str| -> u64 {
        let word = line.split(' ').next().unwrap_or_default();
        word.parse().unwrap_or_else(|_| panic!("{output:?}"))
    };
    let [_, steps, lateness, positions] = &output.lines[..] else {
        panic!("{output:?}");
    };
    // What was missed was made up for, however slow the machine is.
    assert!(number(steps) >= 100, "{output:?}");
    assert!(lateness.starts_with("lateness p99 "), "{output:?}");
    assert!(number(positions) >= 1000, "{output:?}");
}

#[test]
fn game_reports_its_position_to_a_player() {
    let mut server = Example::start("game_tick", &[ANY_PORT]);
    let mut peer = Peer::connect(server.listening_on());
    peer.send(b"d");
    let mut last = 0;
    while last < 5 {
        let position = peer.receive();
        let number = |at: usize| {
            let bytes = position[at..at + 4].try_into().expect("four bytes");
            i32::from_le_bytes(bytes)
        };
        assert_eq!((position.len(), number(0), number(8)), (12, 0, 0));
        assert!(number(4) > last, "it goes on to the right");
        last = number(4);
    }
    peer.send(b"q");
    peer.0.read_to_end(&mut Vec::new()).expect("a clean end");
    drop(peer);
    let output = server.finish();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn chat_clients_exchange_lines_from_their_consoles() {
    let mut server = Example::start("chat_server", &[ANY_PORT]);
    let addr = server.listening_on().to_string();
    let mut alice = Example::start("chat_client", &[&addr]);
    alice.type_in("/name Alice");
    alice.expect_line("Alice");
    let mut bob = Example::start("chat_client", &[&addr]);
    bob.type_in("/name Bob");
    bob.expect_line("Bob");
    bob.type_in("good morning");
    alice.expect_line("Bob: good morning");
    alice.type_in("and to you");
    bob.expect_line("Alice: and to you");
    for mut client in [alice, bob] {
        client.end_input();
        let output = client.finish();
        assert!(output.status.success(), "{output:?}");
    }
}

#[test]
fn chat_client_reports_why_it_cannot_connect() {
    let (_refusing, addr) = support::refusing();
    let output = Example::start("chat_client", &[&addr.to_string()]).finish();
    assert!(!output.status.success());
    assert!(output.stderr.contains("could not connect"), "{output:?}");
}

#[test]
fn chat_client_tries_all_addresses() {
    let (_refusing, refusing) = support::refusing();
    let mut server = Example::start("chat_server", &[ANY_PORT]);
    let addrs = [refusing, refusing, server.listening_on()].map(|addr| addr.to_string());
    let mut client = Example::start("chat_client", &addrs.each_ref().map(String::as_str));
    client.type_in("/name Alice");
    client.expect_line("Alice");
    client.end_input();
    let output = client.finish();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn echo_client_resolves_names() {
    // The name may have an IPv6 address as well, without a listener.
    let server = Server::echo();
    let addr = format!("localhost:{}", server.addr.port());
    let output = Example::start("echo_client", &[&addr, "found"]).finish();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.lines, ["found"]);
}

#[test]
fn echo_client_reports_why_it_cannot_connect() {
    // Bound, so that no other process gets the port, and not listening.
    let any: SocketAddr = ANY_PORT.parse().expect("an address");
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let socket = socket.expect("a socket");
    socket.bind(&any.into()).expect("a free port");
    let addr = socket.local_addr().expect("its address").as_socket();
    let addr = addr.expect("an IP address").to_string();
    expect_failure(&[&addr], &format!("{addr}: could not connect"));
    expect_failure(&["no address"], "cannot resolve no address");
}

#[test]
fn echo_client_reports_that_the_server_closed_early() {
    let listener = TcpListener::bind(ANY_PORT).expect("a free port");
    let addr = listener.local_addr().expect("its address").to_string();
    let server = thread::spawn(move || {
        let (stream, _) = listener.accept().expect("the client");
        let mut peer = Peer(stream);
        assert_eq!(peer.receive(), b"one");
        peer.send(b"one");
        peer.half_close();
        // Reads on, or the close would be a reset.
        peer.0.read_to_end(&mut Vec::new()).expect("a clean end");
    });
    let output = expect_failure(&[&addr, "one", "two"], "the peer closed the connection");
    assert_eq!(output.lines, ["one"]);
    server.join().expect("the server");
}

#[test]
fn echo_client_detects_a_wrong_echo() {
    struct Shout;
    impl Handler for Shout {
        fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
            net.send(id, &frame.to_ascii_uppercase())
                .expect("the connection is open");
        }
    }
    let server = Server::start(Shout, ListenOptions::default());
    let addr = server.addr.to_string();
    let output = expect_failure(&[&addr, "ONE", "two"], "\"two\" came back as");
    assert_eq!(output.lines, ["ONE"]);
}

/// Runs an echo client that has to fail with this complaint.
#[track_caller]
fn expect_failure(args: &[&str], complaint: &str) -> Output {
    let output = Example::start("echo_client", args).finish();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stderr.contains("echo_client: "), "{output:?}");
    assert!(output.stderr.contains(complaint), "{output:?}");
    output
}

#[test]
fn servers_report_why_they_cannot_listen() {
    let taken = TcpListener::bind(ANY_PORT).expect("a free port");
    let addr = taken.local_addr().expect("its address").to_string();
    for name in ["echo_server", "chat_server"] {
        let output = Example::start(name, &[&addr]).finish();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let complaint = format!("{name}: cannot listen on {addr}");
        assert!(output.stderr.contains(&complaint), "{output:?}");
    }
}

#[test]
fn chat_message_reaches_the_room_of_its_sender() {
    let (_server, addr) = chat_server();
    let mut alice = enter(addr, "guest1");
    alice.say("/name Alice");
    alice.hears("* you are Alice now");
    let mut bob = enter(addr, "guest2");
    alice.hears("* guest2 joined");
    bob.say("/name Bob");
    bob.hears("* you are Bob now");
    alice.hears("* guest2 is Bob now");

    // A message reaches the others, and not its sender: the next line that Bob receives is from Alice.
    bob.say("hello");
    alice.hears("Bob: hello");
    alice.say("Hello, Bob.");
    bob.hears("Alice: Hello, Bob.");

    bob.say("/join kitchen");
    bob.hears("* you are in kitchen");
    alice.hears("* Bob left");
    alice.say("Where are you?");
    alice.say("/who");
    alice.hears("* in lobby: Alice");
    bob.say("/who");
    bob.hears("* in kitchen: Bob");
    alice.say("/join kitchen");
    alice.hears("* you are in kitchen");
    bob.hears("* Alice joined");
    alice.say("/join kitchen");
    alice.hears("* you are in kitchen already");
    bob.say("/who");
    bob.hears("* in kitchen: Alice, Bob");
}

#[test]
fn chat_refuses_a_name_that_is_taken() {
    let (_server, addr) = chat_server();
    let mut alice = enter(addr, "guest1");
    alice.say("/name Alice");
    alice.hears("* you are Alice now");
    let mut mallory = enter(addr, "guest2");
    for name in ["Alice", "aLICE"] {
        mallory.say(&format!("/name {name}"));
        mallory.hears(&format!("* the name {name} is taken"));
    }
    for name in ["Alice:", "*", "abcdefghijklmnopqrstu"] {
        mallory.say(&format!("/name {name}"));
        mallory.hears(&format!(
            "* {name} will not do: a name has up to 20 letters and digits"
        ));
    }
    mallory.say("/who");
    mallory.hears("* in lobby: Alice, guest2");

    // One may write one's own name in another way, and a name is free when its owner has gone.
    alice.hears("* guest2 joined");
    alice.say("/name ALICE");
    alice.hears("* you are ALICE now");
    mallory.hears("* Alice is ALICE now");
    drop(alice);
    mallory.hears("* ALICE left");
    mallory.say("/name alice");
    mallory.hears("* you are alice now");

    // The name of a guest to come may be taken already.
    mallory.say("/name guest3");
    mallory.hears("* you are guest3 now");
    enter(addr, "guest4");
}

#[test]
fn chat_announces_members_that_leave() {
    let (_server, addr) = chat_server();
    let mut alice = enter(addr, "guest1");

    let mut quitter = enter(addr, "guest2");
    alice.hears("* guest2 joined");
    quitter.say("/quit");
    quitter.hears("* goodbye");
    // The connection is still there, and yet the notice comes before the answer.
    alice.say("/who");
    alice.hears("* guest2 left");
    alice.hears("* in lobby: guest1");
    quitter.0.expect_end();
    drop(quitter);

    let closer = enter(addr, "guest3");
    alice.hears("* guest3 joined");
    drop(closer);
    alice.hears("* guest3 left");

    let crasher = enter(addr, "guest4");
    alice.hears("* guest4 joined");
    crasher.0.reset();
    alice.hears("* guest4 left");
}

#[test]
fn chat_answers_invalid_input() {
    let (_server, addr) = chat_server();
    let mut alice = enter(addr, "guest1");
    let mut bob = enter(addr, "guest2");
    alice.hears("* guest2 joined");

    let commands = "/name NAME, /join ROOM, /who, /quit";
    for command in ["/dance", "/", "/name", "/join a b", "/who me"] {
        alice.say(command);
        alice.hears(&format!("* cannot {command}; try {commands}"));
    }
    alice.0.send(b"caf\xE9");
    alice.hears("* that was not UTF-8");
    alice.say("hi\n* guest2 left");
    alice.hears("* one line of plain text, please");
    alice.say(&"x".repeat(1001));
    alice.hears("* that was more than 1000 bytes");
    alice.say("");
    alice.say("  ");

    // The longest that is allowed; and nothing of the above has reached Bob.
    let longest = "x".repeat(1000);
    alice.say(&longest);
    bob.hears(&format!("guest1: {longest}"));
    bob.say("grüß dich\r\n");
    alice.hears("guest2: grüß dich");
}

#[test]
fn chat_lists_part_of_a_large_room() {
    let (_server, addr) = chat_server();
    let guests: Vec<_> = (1..=32)
        .map(|n| enter(addr, &format!("guest{n}")))
        .collect();
    let mut last = enter(addr, "guest33");
    last.say("/who");
    let list = last.listen();
    assert!(
        list.starts_with("* in lobby: guest1, guest2, guest3, "),
        "{list}"
    );
    assert!(list.ends_with(", guest30 and 3 more"), "{list}");
    drop(guests);
}

#[test]
fn chat_room_connects_lines_and_frames() {
    let mut server = Example::start("chat_server", &[ANY_PORT, ANY_PORT]);
    let frames = server.listening_on();
    let lines = server.listening_on();
    let mut alice = enter(frames, "guest1");

    let bob = Peer::connect(lines);
    let mut heard = BufReader::new(bob.0.try_clone().expect("a live socket")).lines();
    let mut hear = || heard.next().expect("a line").expect("text");
    assert!(hear().starts_with("* hello guest2"));
    assert_eq!(hear(), "* you are in lobby");
    alice.hears("* guest2 joined");
    (&bob.0).write_all(b"hello\r\nAlice\n").expect("to write");
    alice.hears("guest2: hello");
    alice.hears("guest2: Alice");
    alice.say("hello Bob");
    assert_eq!(hear(), "guest1: hello Bob");
    bob.0.shutdown(Shutdown::Write).expect("a live socket");
    alice.hears("* guest2 left");
}

fn chat_server() -> (Example, SocketAddr) {
    let mut server = Example::start("chat_server", &[ANY_PORT]);
    let addr = server.listening_on();
    (server, addr)
}

/// A client of the chat.
struct Chatter(Peer);

/// Enters the chat, to be greeted by this name.
#[track_caller]
fn enter(addr: SocketAddr, name: &str) -> Chatter {
    let mut chatter = Chatter(Peer::connect(addr));
    chatter.hears(&format!(
        "* hello {name}; try /name NAME, /join ROOM, /who, /quit"
    ));
    chatter.hears("* you are in lobby");
    chatter
}

impl Chatter {
    fn say(&mut self, text: &str) {
        self.0.send(text.as_bytes());
    }

    /// The next line, whatever it is.
    fn listen(&mut self) -> String {
        String::from_utf8(self.0.receive()).expect("UTF-8")
    }

    /// Expects this to be the next line.
    #[track_caller]
    fn hears(&mut self, line: &str) {
        assert_eq!(self.listen(), line);
    }
}

#[test]
fn simulated_game_is_played() {
    let output = Example::start("simulated_game", &["3"]).finish();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.lines, ["the script is played", "3 seeds are played"]);
}
