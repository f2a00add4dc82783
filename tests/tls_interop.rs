//! TLS with peers that are not written in Rust: OpenSSL's `s_client` and `s_server`, and Python's `ssl`.
//!
//! Python 3 is required. Where OpenSSL is not installed, its tests are skipped, and a line says so.
#![cfg(all(feature = "tls", target_os = "linux"))]

mod support;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use support::secure::{Authority, Files, NAME};
use support::{Server, framed, pattern, wait_until, within_patience};
use throng::rustls::ServerConfig;
use throng::{
    ConnectOptions, ConnectionId, DisconnectReason, Frame, Framing, Handler, ListenOptions, Net,
};

const PYTHON: &str = if cfg!(windows) { "python" } else { "python3" };

/// Echoes, and notes what each session has negotiated and how it ended.
#[derive(Clone, Default)]
struct Echo(Arc<Mutex<Vec<String>>>);

impl Echo {
    fn notes(&self) -> Vec<String> {
        self.0.lock().expect("no panic").clone()
    }

    fn note(&self, line: String) {
        self.0.lock().expect("no panic").push(line);
    }
}

impl Handler for Echo {
    fn on_connect(&mut self, net: &mut Net, id: ConnectionId) {
        let tls = net.connection(id).and_then(|it| it.tls());
        let tls = tls.expect("it has TLS");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        self.note(format!(
            "{:?} {} {} {}",
            tls.version().expect("it is established"),
            tls.server_name().unwrap_or("-"),
            tls.alpn_protocol().map_or("-".into(), text),
            tls.peer_certificates().len(),
        ));
    }

    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        net.send_frame(id, frame).expect("the connection is open");
    }

    fn on_disconnect(&mut self, _: &mut Net, _: ConnectionId, reason: DisconnectReason) {
        self.note(reason.to_string());
    }
}

fn serve(config: ServerConfig) -> (Server, Echo) {
    let echo = Echo::default();
    let options = ListenOptions::default().tls(Arc::new(config));
    (Server::start(echo.clone(), options), echo)
}

fn has_openssl() -> bool {
    let version = Command::new("openssl").arg("version").output();
    let has = version.is_ok_and(|output| output.status.success());
    if !has {
        // Written past the test harness, which does not show the output of passing tests.
        let line = b"skipped: TLS with OpenSSL (openssl is missing)\n";
        io::stderr().write_all(line).expect("to write");
    }
    has
}

/// A program whose input and output are pipes. It is killed with this value.
struct Program(Child);

impl Program {
    fn start(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let child = command.stderr(Stdio::piped()).spawn();
        Self(child.expect("the program runs"))
    }

    /// Writes all input, then reads as many bytes of output. Ends the input.
    fn exchange(&mut self, input: Vec<u8>, len: usize) -> Vec<u8> {
        let mut stdin = self.0.stdin.take().expect("a pipe");
        let mut stdout = self.0.stdout.take().expect("a pipe");
        let mut stderr = self.0.stderr.take().expect("a pipe");
        within_patience(move || {
            let writing = thread::spawn(move || stdin.write_all(&input).map(|()| stdin));
            let mut output = vec![0; len];
            if let Err(error) = stdout.read_exact(&mut output) {
                let mut complaints = String::new();
                let _ = stderr.read_to_string(&mut complaints);
                panic!("{error}: {complaints}");
            }
            writing.join().expect("no panic").expect("it reads");
            output
        })
    }

    /// Waits for the end, and returns the errors that were written.
    fn complaints(mut self) -> String {
        let mut stderr = self.0.stderr.take().expect("a pipe");
        within_patience(move || {
            let mut text = String::new();
            stderr
                .read_to_string(&mut text)
                .expect("its errors are text");
            text
        })
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn s_client(server: &Server, files: &Files, options: &[&str]) -> Command {
    let ca = files.authority(Authority::of_all());
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &server.addr.to_string(), "-CAfile"]);
    command
        .arg(ca)
        .args(["-verify_return_error", "-verify_hostname", NAME]);
    command.args(options);
    command
}

/// Frames of many sizes, without letters: `s_client` takes some letters for commands if a piece of its input begins
/// with them.
fn frames() -> Vec<u8> {
    let lens = [0, 1, 63, 0x1010, 0x3f3f, 0x1_2020, 0x2_1010];
    let frames = lens.into_iter().flat_map(|len| framed(&pattern(len)));
    frames.map(|byte| byte % 64).collect()
}

#[test]
fn openssl_client_exchanges_frames_with_tls_1_2_and_1_3() {
    if !has_openssl() {
        return;
    }
    let files = Files::new("s_client");
    for (option, version) in [("-tls1_2", "TLSv1_2"), ("-tls1_3", "TLSv1_3")] {
        let mut config = Authority::of_all().server();
        config.alpn_protocols = vec![b"chat/1".to_vec()];
        let (server, echo) = serve(config);
        let options = [
            "-quiet",
            "-no_ign_eof",
            "-servername",
            NAME,
            "-alpn",
            "chat/0,chat/1",
            option,
        ];
        let mut client = Program::start(&mut s_client(&server, &files, &options));
        let sent = frames();
        let received = client.exchange(sent.clone(), sent.len());
        assert!(received == sent, "it came back changed");
        // With the end of its input it closes the session.
        wait_until(|| echo.notes().len() == 2);
        let negotiated = format!("{version} {NAME} chat/1 0");
        let expected = [negotiated, "the peer closed the connection".into()];
        assert_eq!(echo.notes(), expected);
    }
}

#[test]
fn openssl_client_presents_its_certificate_and_is_refused_without_one() {
    if !has_openssl() {
        return;
    }
    let files = Files::new("mutual");
    let (certificate, key) = files.identity("client", &Authority::of_all().sign("Alice"));
    let (certificate, key) = (certificate.to_str(), key.to_str());
    let known = [
        "-cert",
        certificate.expect("text"),
        "-key",
        key.expect("text"),
    ];
    for option in ["-tls1_2", "-tls1_3"] {
        let (server, echo) = serve(Authority::of_all().strict_server());
        let options = [&["-quiet", "-no_ign_eof", option], &known[..]].concat();
        let mut client = Program::start(&mut s_client(&server, &files, &options));
        let received = client.exchange(framed(b"hello"), 9);
        assert_eq!(received, framed(b"hello"));
        // It may show the authority's as well.
        assert!(!echo.notes()[0].ends_with(" 0"), "{:?}", echo.notes());

        let options = ["-quiet", "-no_ign_eof", option];
        let stranger = Program::start(&mut s_client(&server, &files, &options));
        let complaints = stranger.complaints();
        assert!(
            complaints.contains("certificate required") || complaints.contains("handshake failure"),
            "{complaints}"
        );
        let failed = "the TLS handshake failed: peer sent no certificates";
        wait_until(|| echo.notes().iter().any(|note| note.starts_with(failed)));
    }
}

#[test]
fn renegotiation_is_declined_although_nothing_is_queued() {
    if !has_openssl() {
        return;
    }
    let files = Files::new("renegotiation");
    let (server, echo) = serve(Authority::of_all().server());
    let mut client = Program::start(&mut s_client(&server, &files, &["-tls1_2"]));
    wait_until(|| echo.notes().len() == 1);
    let mut stdin = client.0.stdin.take().expect("a pipe");
    stdin.write_all(b"R\n").expect("it reads");
    let complaints = client.complaints();
    assert!(complaints.contains("no renegotiation"), "{complaints}");
}

#[test]
fn certificate_is_chosen_by_the_name_that_the_client_asks_for() {
    if !has_openssl() {
        return;
    }
    use throng::rustls::crypto::ring::sign::any_supported_type;
    use throng::rustls::server::ResolvesServerCertUsingSni;
    use throng::rustls::sign::CertifiedKey;
    let files = Files::new("sni");
    let mut resolver = ResolvesServerCertUsingSni::new();
    for name in ["one.example", "two.example"] {
        let identity = Authority::of_all().sign(name);
        let key = any_supported_type(&identity.key()).expect("a usable key");
        let certified = CertifiedKey::new(identity.chain(), key);
        resolver.add(name, certified).expect("a valid name");
    }
    let config = ServerConfig::builder().with_no_client_auth();
    let (server, echo) = serve(config.with_cert_resolver(Arc::new(resolver)));
    let ca = files.authority(Authority::of_all());
    for name in ["one.example", "two.example"] {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-connect", &server.addr.to_string(), "-CAfile"]);
        command
            .arg(&ca)
            .args(["-verify_return_error", "-verify_hostname", name]);
        command.args(["-servername", name, "-quiet", "-no_ign_eof"]);
        let received = Program::start(&mut command).exchange(framed(b"hello"), 9);
        assert_eq!(received, framed(b"hello"));
        assert!(echo.notes().iter().any(|note| note.contains(name)));
    }
}

/// Sends a line, and notes what comes back.
struct Asks(mpsc::Sender<String>);

impl Handler for Asks {
    fn on_connect(&mut self, net: &mut Net, id: ConnectionId) {
        net.send(id, b"desserts").expect("it is open");
    }

    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        let answer = String::from_utf8_lossy(&frame).into_owned();
        let tls = net
            .connection(id)
            .and_then(|it| it.tls())
            .expect("it has TLS");
        let version = tls.version().expect("it is established");
        let _ = self.0.send(format!("{version:?} {answer}"));
        net.disconnect(id);
    }

    fn on_disconnect(&mut self, _: &mut Net, _: ConnectionId, reason: DisconnectReason) {
        let _ = self.0.send(reason.to_string());
    }
}

#[test]
fn openssl_server_answers_with_tls_1_2_and_1_3_and_asks_for_a_certificate() {
    if !has_openssl() {
        return;
    }
    let files = Files::new("s_server");
    let authority = Authority::of_all();
    let (certificate, key) = files.identity("server", &authority.sign(NAME));
    let ca = files.authority(authority);
    for (option, version) in [("-tls1_2", "TLSv1_2"), ("-tls1_3", "TLSv1_3")] {
        let mut command = Command::new("openssl");
        // It answers each line with its reverse.
        command.args([
            "s_server",
            "-accept",
            "127.0.0.1:0",
            "-rev",
            option,
            "-Verify",
            "1",
        ]);
        command.args(["-verify_return_error", "-CAfile"]).arg(&ca);
        command.arg("-cert").arg(&certificate).arg("-key").arg(&key);
        let mut program = Program::start(&mut command);
        let mut stdout = BufReader::new(program.0.stdout.take().expect("a pipe"));
        let addr = within_patience(move || {
            let mut line = String::new();
            while !line.starts_with("ACCEPT") {
                line.clear();
                assert!(
                    stdout.read_line(&mut line).expect("text") > 0,
                    "it has ended"
                );
            }
            line.trim_start_matches("ACCEPT").trim().to_owned()
        });
        let (tell, told) = mpsc::channel();
        let mut looped = support::by_hand::Loop::new(throng::Config::default());
        let options = ConnectOptions::default()
            .framing(Framing::delimiter(b'\n'))
            .tls(
                Arc::new(authority.known_client("Alice")),
                NAME.try_into().expect("a name"),
            );
        let addr = addr.parse().expect("an address");
        looped.net().connect_with(addr, options).expect("it starts");
        let mut seen = Vec::new();
        looped.settle(&mut Asks(tell), |_, _| {
            seen.extend(told.try_iter());
            seen.len() == 2
        });
        assert_eq!(seen[0], format!("{version} stressed"));
        assert_eq!(seen[1], "disconnected by this side");
    }
}

/// Exchanges frames, and closes the session with or without a close_notify.
const PYTHON_CLIENT: &str = r#"
import socket, ssl, struct, sys

host, port, ca, version, end = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
context.minimum_version = context.maximum_version = getattr(ssl.TLSVersion, version)
context.set_alpn_protocols(["chat/1"])
plain = socket.create_connection((host, int(port)), timeout=60)
peer = context.wrap_socket(plain, server_hostname="game.example", suppress_ragged_eofs=False)

def receive(count):
    received = b""
    while len(received) < count:
        part = peer.recv(count - len(received))
        assert part, "too short"
        received += part
    return received

for length in [0, 1, 1000, 16384, 70000]:
    frame = struct.pack("<I", length) + bytes(i % 251 for i in range(length))
    peer.sendall(frame)
    assert receive(len(frame)) == frame
assert peer.selected_alpn_protocol() == "chat/1"
if end == "unwrap":
    peer.unwrap().close()
else:
    peer.close()
print("ok")
"#;

#[test]
fn python_client_exchanges_frames_and_only_a_closed_session_is_a_clean_end() {
    let files = Files::new("python");
    let ca = files.authority(Authority::of_all());
    for version in ["TLSv1_2", "TLSv1_3"] {
        for (end, reason) in [
            ("unwrap", "the peer closed the connection"),
            ("close", "the stream ended without a TLS close_notify"),
        ] {
            let mut config = Authority::of_all().server();
            config.alpn_protocols = vec![b"chat/1".to_vec()];
            let (server, echo) = serve(config);
            let port = server.addr.port().to_string();
            let mut command = Command::new(PYTHON);
            command.args(["-c", PYTHON_CLIENT, "127.0.0.1", &port]);
            let output = command.arg(&ca).args([version, end]).output();
            let output = output.expect("Python is installed");
            assert!(output.status.success(), "{output:?}");
            wait_until(|| echo.notes().len() == 2);
            let negotiated = format!("{version} {NAME} chat/1 0");
            assert_eq!(echo.notes(), [negotiated, reason.into()]);
        }
    }
}
