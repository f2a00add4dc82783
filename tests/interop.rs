//! Peers that are not written in Rust: the programs and the bytes of `docs/PROTOCOL.md`, and the untidy client in
//! `tests/client.py`.
//!
//! Python 3 has to be there. The C# program is left out, with a line that says so, where Mono is not installed.

mod support;

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Instant;
use std::{fs, process, thread};

use support::{Echo, PATIENCE, Server};
use throng::{
    ConnectionId, DecodeError, Frame, FrameDecoder, FrameEncoder, Framing, Handler, ListenOptions,
    Net,
};

const PROTOCOL: &str = include_str!("../docs/PROTOCOL.md");
const PYTHON: &str = if cfg!(windows) { "python" } else { "python3" };
const CLIENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/client.py");

#[test]
fn documented_python_client_works() {
    let program = documented_program("python");
    try_program(|| {
        let mut command = Command::new(PYTHON);
        command.arg("-c").arg(&program);
        command
    });
}

#[test]
fn documented_csharp_client_works() {
    if let Some(missing) = ["mcs", "mono"].into_iter().find(|tool| !is_installed(tool)) {
        // Past the test harness, which would keep the line of a passing test to itself.
        let line = format!("skipped: the C# client of docs/PROTOCOL.md ({missing} is missing)\n");
        io::stderr().write_all(line.as_bytes()).expect("to write");
        return;
    }
    let scratch = Scratch::new("csharp");
    let (source, executable) = (scratch.path("Client.cs"), scratch.path("Client.exe"));
    fs::write(&source, documented_program("csharp")).expect("to write the source");
    let mut compiler = Command::new("mcs");
    compiler.arg("-warnaserror").arg(out_option(&executable));
    run(compiler.arg(&source)).expect_success();
    try_program(|| {
        let mut command = Command::new("mono");
        command.arg(&executable);
        command
    });
}

/// Runs a documented program against a server that echoes, and against some that do not.
fn try_program(program: impl Fn() -> Command) {
    let run_against = |server: &Server| {
        let port = server.addr.port().to_string();
        run(program().args(["127.0.0.1", &port]))
    };
    let output = run_against(&Server::echo());
    output.expect_success();
    assert_eq!(output.stdout.trim(), "ok");

    for (server, complaint) in [
        (serve(ends_with_an_x), "the echo of 1 bytes is not"),
        (serve(much_too_long), "16777217 bytes"),
        (serve(farewell), "closed the connection too early"),
    ] {
        let output = run_against(&server);
        assert!(!output.status.success(), "{output:?}");
        assert!(output.stderr.contains(complaint), "{output:?}");
        assert_eq!(output.stdout, "");
    }
    let output = run(program().arg("127.0.0.1"));
    assert!(!output.status.success(), "{output:?}");
    assert!(output.stderr.contains("HOST PORT"), "{output:?}");
}

/// How a server answers that is no echo server.
type Answer = fn(&mut Net, ConnectionId, &[u8]);

struct Answering(Answer);

impl Handler for Answering {
    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        (self.0)(net, id, &frame);
    }
}

fn serve(answer: Answer) -> Server {
    Server::start(Answering(answer), ListenOptions::default())
}

/// The right length, the wrong content; an empty frame comes back as it should.
fn ends_with_an_x(net: &mut Net, id: ConnectionId, frame: &[u8]) {
    let mut answer = frame.to_vec();
    if let Some(last) = answer.last_mut() {
        *last = b'x';
    }
    net.send(id, &answer).expect("the connection is open");
}

/// One byte more than the programs accept, of which they see the header only.
fn much_too_long(net: &mut Net, id: ConnectionId, _: &[u8]) {
    assert!(net.set_framing(id, Framing::raw()));
    let header = (16 * 1024 * 1024 + 1_u32).to_le_bytes();
    net.send(id, &header).expect("the connection is open");
}

/// Half a header, then the end.
fn farewell(net: &mut Net, id: ConnectionId, _: &[u8]) {
    assert!(net.set_framing(id, Framing::raw()));
    net.send(id, &[5, 0]).expect("the connection is open");
    assert!(net.disconnect(id));
}

/// The one program in this language.
fn documented_program(language: &str) -> String {
    let opening = format!("\n```{language}\n");
    // A checkout may have given the lines other ends.
    let page = PROTOCOL.replace("\r\n", "\n");
    let mut blocks = page.split(&opening).skip(1);
    let (Some(block), None) = (blocks.next(), blocks.next()) else {
        panic!("docs/PROTOCOL.md should have one program in {language}");
    };
    let (program, _) = block.split_once("\n```\n").expect("the block has an end");
    format!("{program}\n")
}

#[test]
fn documented_bytes_match_the_wire() {
    let prefix = Framing::length_prefix();
    let framings: [(&str, Framing); 16] = [
        ("length_prefix()", prefix.into()),
        ("length_prefix().u8()", prefix.u8().into()),
        ("length_prefix().u16()", prefix.u16().into()),
        ("length_prefix().u64()", prefix.u64().into()),
        (
            "length_prefix().u16().big_endian()",
            prefix.u16().big_endian().into(),
        ),
        (
            "length_prefix().u32().big_endian()",
            prefix.u32().big_endian().into(),
        ),
        (
            "length_prefix().u64().big_endian()",
            prefix.u64().big_endian().into(),
        ),
        ("length_prefix().u24()", prefix.u24().into()),
        (
            "length_prefix().u24().big_endian()",
            prefix.u24().big_endian().into(),
        ),
        ("length_prefix().inclusive()", prefix.inclusive().into()),
        (
            "length_prefix().u16().big_endian().inclusive()",
            prefix.u16().big_endian().inclusive().into(),
        ),
        ("varint()", Framing::varint()),
        ("delimiter(b'\\n')", Framing::delimiter(b'\n')),
        ("lines()", Framing::lines().into()),
        ("lines().crlf()", Framing::lines().crlf().into()),
        ("raw()", Framing::raw()),
    ];
    let rows = table("| framing | payload | on the wire |");
    assert_eq!(rows.len(), framings.len());
    for (row, (name, framing)) in rows.iter().zip(framings) {
        let [documented, payload, wire, _] = row[..] else {
            panic!("four cells: {row:?}");
        };
        assert_eq!(documented, name);
        let wire = hex(wire);
        let mut encoded = Vec::new();
        FrameEncoder::new(framing.clone())
            .encode(payload.as_bytes(), &mut encoded)
            .expect("it can be sent");
        assert_eq!(encoded, wire, "{name}");
        let mut decoder = FrameDecoder::new(framing);
        let frame = decoder.decode(&mut &wire[..]).expect("it can be read");
        assert_eq!(frame.expect("a frame")[..], *payload.as_bytes(), "{name}");
    }
}

#[test]
fn documented_varints_match_the_wire() {
    for row in table("| length | header |") {
        let [length, header] = row[..] else {
            panic!("two cells: {row:?}");
        };
        let length: u64 = match length.strip_prefix("2^").and_then(|l| l.strip_suffix("-1")) {
            Some(bits) => u64::MAX >> (64 - bits.parse::<u32>().expect("a number of bits")),
            None => length.replace(',', "").parse().expect("a number"),
        };
        // With a limit of one byte less the decoder tells which length it has read.
        let Some(limit) = length.checked_sub(1) else {
            assert_eq!(hex(header), [0]);
            continue;
        };
        let mut decoder = FrameDecoder::new(Framing::varint()).max_frame_len(limit);
        match decoder.decode(&mut &hex(header)[..]) {
            Err(DecodeError::FrameTooLarge { declared, .. }) => {
                assert_eq!(declared, length);
            }
            other => panic!("{header}: {other:?}"),
        }
    }
}

/// The rows of the table that begins with `head`, without the marks around code.
fn table(head: &str) -> Vec<Vec<&'static str>> {
    let lines = PROTOCOL.lines().skip_while(|line| !line.starts_with(head));
    let rows = lines.skip(2).take_while(|line| line.starts_with('|'));
    let rows: Vec<Vec<_>> = rows
        .map(|row| {
            let cells = row.trim_matches('|').split('|');
            cells.map(|cell| cell.trim().trim_matches('`')).collect()
        })
        .collect();
    assert!(!rows.is_empty(), "docs/PROTOCOL.md has no table {head}");
    rows
}

fn hex(bytes: &str) -> Vec<u8> {
    bytes
        .split(' ')
        .map(|byte| u8::from_str_radix(byte, 16).expect("two hexadecimal digits"))
        .collect()
}

/// One test for each scenario of `tests/client.py`.
macro_rules! scenarios {
    ($($name:ident)*) => {
        const SCENARIOS: &[&str] = &[$(stringify!($name)),*];

        $(
            #[test]
            fn $name() {
                run_scenario(stringify!($name));
            }
        )*
    };
}

scenarios! {
    header_then_body
    header_in_one_and_three
    header_in_two_and_two
    header_in_one_one_and_two
    byte_at_a_time
    many_frames_in_one_send
    frames_of_all_sizes
    half_close_then_receive
    end_inside_a_frame
    length_that_counts_itself
    three_byte_length_little_endian
    three_byte_length_big_endian
    lines_of_text
}

/// The framing that a scenario is about.
fn framing_of(scenario: &str) -> Framing {
    let prefix = Framing::length_prefix();
    match scenario {
        "length_that_counts_itself" => prefix.big_endian().inclusive().into(),
        "three_byte_length_little_endian" => prefix.u24().into(),
        "three_byte_length_big_endian" => prefix.u24().big_endian().into(),
        "lines_of_text" => Framing::lines().deliver_unterminated().into(),
        _ => prefix.into(),
    }
}

fn run_scenario(name: &str) {
    // A slow machine may need more than the default to take what is queued when the client has closed its side.
    let options = ListenOptions::default().disconnect_timeout(PATIENCE);
    let server = Server::start(Echo, options.framing(framing_of(name)));
    let port = server.addr.port().to_string();
    let output = run(Command::new(PYTHON).args([CLIENT, "127.0.0.1", &port, name]));
    output.expect_success();
    assert_eq!(output.stdout.trim(), format!("{name}: ok"));
}

#[test]
fn python_client_scenarios_are_all_tests() {
    let output = run(Command::new(PYTHON).args([CLIENT, "--list"]));
    output.expect_success();
    assert_eq!(output.stdout.lines().collect::<Vec<_>>(), SCENARIOS);
}

/// What a program has left behind.
#[derive(Debug)]
struct Output {
    status: ExitStatus,
    stdout: String,
    stderr: String,
}

impl Output {
    #[track_caller]
    fn expect_success(&self) {
        let Self {
            status,
            stdout,
            stderr,
        } = self;
        assert!(status.success(), "{status}\n{stdout}{stderr}");
    }
}

/// Runs a program to its end, or kills it when patience does.
fn run(command: &mut Command) -> Output {
    let spawned = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match spawned {
        Ok(child) => Guard(child),
        Err(error) => panic!("{:?} cannot be run: {error}", command.get_program()),
    };
    let deadline = Instant::now() + PATIENCE;
    // Both pipes are read at once, so that neither fills up; they end when the program does.
    let stdout = read_to_end(child.0.stdout.take().expect("a pipe"));
    let stderr = read_to_end(child.0.stderr.take().expect("a pipe"));
    let wait = |pipe: mpsc::Receiver<io::Result<String>>| {
        let left = deadline.saturating_duration_since(Instant::now());
        let Ok(output) = pipe.recv_timeout(left) else {
            panic!("{:?} did not end in time", command.get_program());
        };
        output.expect("its output is text")
    };
    let (stdout, stderr) = (wait(stdout), wait(stderr));
    Output {
        status: child.0.wait().expect("its status"),
        stdout,
        stderr,
    }
}

/// Reads a pipe on a thread of its own.
fn read_to_end(mut pipe: impl Read + Send + 'static) -> mpsc::Receiver<io::Result<String>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut text = String::new();
        let result = pipe.read_to_string(&mut text).map(|_| text);
        // The test may have stopped waiting.
        let _ = sender.send(result);
    });
    receiver
}

/// A program that does not outlive its test.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        // Both fail if it has ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn is_installed(tool: &str) -> bool {
    let status = Command::new(tool)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

fn out_option(executable: &Path) -> String {
    format!("-out:{}", executable.display())
}

/// A directory of a test's own, which goes with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let directory = format!("interop-{name}-{}", process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(directory);
        fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.join(file)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("{} remains: {error}", self.0.display());
        }
    }
}
