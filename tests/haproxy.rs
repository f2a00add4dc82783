//! A server behind HAProxy: PROXY headers of versions 1 and 2, with TLS attributes, over IPv6, and health checks.
//!
//! HAProxy has to be there; each test says so and skips where it is not. One test needs `openssl` for a certificate.
#![cfg(target_os = "linux")]

mod support;

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;
use std::{fs, process};

use support::open_files::with_connections;
use support::{PATIENCE, Peer, addr_of, framed, reserved, turn_until, wait_until};
use throng::{
    Admission, Config, ConnectOptions, ConnectionId, DisconnectReason, EventLoop, Frame, Handle,
    Handler, IpNetwork, ListenOptions, ListenerId, Net, ProxyProtocol, Stats,
};

/// Returns whether a tool is installed. If not, says which test is skipped.
fn has(tool: &str, what: &str) -> bool {
    let mut command = Command::new(tool);
    command.arg(if tool == "haproxy" { "-v" } else { "version" });
    let is_there = command.output().is_ok_and(|output| output.status.success());
    if !is_there {
        // Past the test harness, which would keep the line of a passing test to itself.
        let line = format!("skipped: {what} ({tool} is missing)\n");
        io::stderr().write_all(line.as_bytes()).expect("to write");
    }
    is_there
}

/// HAProxy, in a directory of its own. Ends with this value.
struct Haproxy {
    child: Child,
    directory: PathBuf,
}

impl Haproxy {
    /// Starts it with some `listen` sections.
    fn start(sections: &str) -> Self {
        let directory = directory();
        let path = |file: &str| directory.join(file);
        let config = format!(
            "global\n maxconn 6000\ndefaults\n mode tcp\n backlog 4096\n timeout connect 60s\n timeout client 60s\n \
             timeout server 60s\n timeout check 60s\n{sections}"
        );
        fs::write(path("haproxy.cfg"), config).expect("to write");
        let log = fs::File::create(path("log")).expect("a file");
        let child = Command::new("haproxy")
            .arg("-db")
            .arg("-f")
            .arg(path("haproxy.cfg"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor"))
            .stderr(log)
            .spawn();
        Self {
            child: child.expect("it is installed"),
            directory,
        }
    }

    /// Waits until it listens, at addresses or paths.
    fn await_start(mut self, mut connect: impl FnMut() -> io::Result<()>) -> Self {
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = connect() {
            let ended = self.child.try_wait().expect("its state");
            assert!(ended.is_none(), "{}", self.log());
            assert!(Instant::now() < deadline, "{error}\n{}", self.log());
            std::thread::yield_now();
        }
        self
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        // Both fail if it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// A new directory for the files of a test.
fn directory() -> PathBuf {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("haproxy-{}-{number}", process::id());
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&directory).expect("a directory");
    directory
}

/// What the server has seen.
#[derive(Debug, Default)]
struct Seen {
    asked: Vec<Option<SocketAddr>>,
    proxies: Vec<Option<SocketAddr>>,
    ended: usize,
}

/// Echoes.
#[derive(Default)]
struct Echo(Arc<Mutex<Seen>>);

impl Handler for Echo {
    fn on_accept(&mut self, _: &mut Net, _: ListenerId, peer: Option<SocketAddr>) -> Admission {
        self.0.lock().expect("no panic").asked.push(peer);
        Admission::Admit
    }

    fn on_connect(&mut self, net: &mut Net, id: ConnectionId) {
        let proxy = net.connection(id).and_then(|it| it.proxy_addr());
        self.0.lock().expect("no panic").proxies.push(proxy);
    }

    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        net.send_frame(id, frame).expect("it is open");
    }

    fn on_disconnect(&mut self, _: &mut Net, _: ConnectionId, _: DisconnectReason) {
        self.0.lock().expect("no panic").ended += 1;
    }
}

/// A server that trusts the proxies of this machine, on a thread of its own.
struct Backend {
    addr: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    handle: Handle<Echo>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Backend {
    fn start(config: Config) -> Self {
        let loopback = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        let loopback: [IpNetwork; 2] = loopback.map(|addr: IpAddr| addr.into());
        let options = ListenOptions::default().proxy_protocol(ProxyProtocol::trusting(loopback));
        let mut event_loop = EventLoop::new(config).expect("a loop");
        let listener = event_loop.net().listen_with("[::]:0", options.clone());
        // There may be no IPv6.
        let listener =
            listener.or_else(|_| event_loop.net().listen_with("0.0.0.0:0", options.clone()));
        let listener = listener.expect("a free port");
        let port = addr_of(event_loop.net(), listener);
        let mut echo = Echo::default();
        Self {
            addr: SocketAddr::from((Ipv4Addr::LOCALHOST, port.port())),
            seen: Arc::clone(&echo.0),
            handle: event_loop.handle(),
            thread: Some(std::thread::spawn(move || event_loop.run(&mut echo))),
        }
    }

    fn stats(&self) -> Stats {
        self.handle.call(|_, net| net.stats()).expect("it runs")
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().expect("no panic")
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        let _ = self.handle.stop();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(std::thread::panicking() || matches!(ended, Ok(Ok(()))));
        }
    }
}

/// Waits until HAProxy listens at an address. A connection that is closed at once reaches the server, or not.
fn listening_at(addr: SocketAddr) -> impl FnMut() -> io::Result<()> {
    move || TcpStream::connect(addr).map(drop)
}

/// Talks to the server through HAProxy. The client's address has to be what `on_accept` is told.
#[track_caller]
fn expect_echo_through(proxy: SocketAddr, backend: &Backend) {
    let mut client = Peer::connect(proxy);
    client.send(b"hello");
    assert_eq!(client.receive(), b"hello");
    let local = client.0.local_addr().expect("its address");
    let seen = backend.seen();
    let at = seen.asked.iter().position(|asked| *asked == Some(local));
    let at = at.unwrap_or_else(|| panic!("{local} is not among {seen:?}"));
    let proxy = seen.proxies[at].expect("it has come through the proxy");
    assert!(proxy.ip().is_loopback() && proxy != local);
}

#[test]
fn clients_have_their_own_address_with_both_versions_and_families() {
    if !has("haproxy", "addresses of clients behind HAProxy") {
        return;
    }
    for version in ["send-proxy", "send-proxy-v2"] {
        let backend = Backend::start(Config::default());
        let (_reserved, front) = reserved();
        let server = backend.addr;
        let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, front.port()));
        let has_v6 = std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
        let bind_v6 = if has_v6 {
            format!(" bind {v6}\n")
        } else {
            String::new()
        };
        let _haproxy = Haproxy::start(&format!(
            "listen echo\n bind {front}\n{bind_v6} server one {server} {version}\n"
        ))
        .await_start(listening_at(front));
        expect_echo_through(front, &backend);
        if has_v6 {
            expect_echo_through(v6, &backend);
        }
        assert_eq!(backend.stats().proxy_checks, 0);
    }
}

#[test]
fn attributes_of_a_client_that_uses_tls_are_accepted() {
    let what = "TLS attributes of HAProxy";
    if !has("haproxy", what) || !has("openssl", what) {
        return;
    }
    let files = directory();
    let path = |file: &str| files.join(file).display().to_string();
    let made = Command::new("openssl")
        .args([
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test",
        ])
        .args([
            "-keyout",
            &path("key.pem"),
            "-out",
            &path("certificate.pem"),
        ])
        .output()
        .expect("it is installed");
    assert!(made.status.success(), "{made:?}");
    let both = [path("key.pem"), path("certificate.pem")].map(|it| fs::read(it).expect("a file"));
    fs::write(path("both.pem"), both.concat()).expect("to write");

    for options in [
        "send-proxy-v2-ssl",
        "send-proxy-v2-ssl-cn",
        "send-proxy-v2 proxy-v2-options ssl,cert-cn,ssl-cipher,cert-sig,cert-key,authority,crc32c,unique-id",
    ] {
        let backend = Backend::start(Config::default());
        let ((_reserved, front), (_too, inner)) = (reserved(), reserved());
        let (server, both) = (backend.addr, path("both.pem"));
        // The first is the client of the second, and uses TLS.
        let _haproxy = Haproxy::start(&format!(
            "listen outer\n bind {front}\n server inner {inner} ssl verify none sni str(game.example) send-proxy-v2\n\
             listen inner\n bind {inner} accept-proxy ssl crt {both}\n unique-id-format %[uuid()]\n \
             server one {server} {options}\n"
        ))
        .await_start(listening_at(front));
        expect_echo_through(front, &backend);
    }
    fs::remove_dir_all(&files).expect("it is there");
}

#[test]
fn health_checks_of_version_2_are_only_counted() {
    if !has("haproxy", "health checks of HAProxy") {
        return;
    }
    let backend = Backend::start(Config::default());
    let (_reserved, front) = reserved();
    let server = backend.addr;
    let _haproxy = Haproxy::start(&format!(
        "listen echo\n bind {front}\n server one {server} send-proxy-v2 check inter 10ms rise 1 fall 1\n"
    ));
    wait_until(|| backend.stats().proxy_checks >= 10);
    let stats = backend.stats();
    assert_eq!(
        (stats.accepted, stats.refused, stats.disconnected),
        (0, 0, 0)
    );
    assert!(backend.seen().asked.is_empty());
    // HAProxy takes the server to be up.
    expect_echo_through(front, &backend);
}

#[test]
fn health_checks_of_version_1_are_connections_of_the_proxy() {
    if !has("haproxy", "health checks of HAProxy, version 1") {
        return;
    }
    let backend = Backend::start(Config::default());
    let (_reserved, front) = reserved();
    let server = backend.addr;
    let _haproxy = Haproxy::start(&format!(
        "listen echo\n bind {front}\n server one {server} send-proxy check inter 10ms\n"
    ));
    wait_until(|| backend.seen().ended >= 3);
    let seen = backend.seen();
    for (asked, proxy) in seen.asked.iter().zip(&seen.proxies) {
        // Both are the same socket. HAProxy may have reset it already.
        assert!(asked.is_some_and(|asked| asked.ip().is_loopback()));
        assert!(proxy.is_none() || proxy == asked);
    }
    drop(seen);
    assert_eq!(backend.stats().proxy_checks, 0);
    expect_echo_through(front, &backend);
}

/// HAProxy has no address to pass on. With version 1 it says so; with version 2 it says that it is the client.
#[test]
fn clients_of_haproxy_without_an_address_have_none_or_are_closed() {
    if !has("haproxy", "clients of HAProxy without an address") {
        return;
    }
    for (version, is_served) in [("send-proxy", true), ("send-proxy-v2", false)] {
        let backend = Backend::start(Config::default());
        let place = support::Place::new(version);
        let (path, server) = (place.0.display(), backend.addr);
        let _haproxy = Haproxy::start(&format!(
            "listen echo\n bind {path}\n server one {server} {version}\n"
        ))
        .await_start(|| UnixStream::connect(&place.0).map(drop));
        let mut client = UnixStream::connect(&place.0).expect("it listens");
        client.set_read_timeout(Some(PATIENCE)).expect("a socket");
        client.write_all(&framed(b"hello")).expect("to write");
        let mut echo = vec![0; framed(b"hello").len()];
        if is_served {
            client.read_exact(&mut echo).expect("the echo");
            assert_eq!(echo, framed(b"hello"));
            assert!(backend.seen().asked.iter().all(Option::is_none));
        } else {
            // It may be reset, because the frame was not read.
            assert!(!matches!(client.read(&mut echo), Ok(1..)));
            assert!(backend.seen().asked.is_empty());
            assert!(backend.stats().proxy_checks > 0);
        }
    }
}

/// Clients that send a frame and wait for its echo. They stay connected.
#[derive(Default)]
struct Clients {
    echoes: usize,
    ended: usize,
}

impl Handler for Clients {
    fn on_connect(&mut self, net: &mut Net, id: ConnectionId) {
        net.send(id, b"hello").expect("it is open");
    }

    fn on_data(&mut self, _: &mut Net, _: ConnectionId, frame: Frame<'_>) {
        assert_eq!(&*frame, b"hello");
        self.echoes += 1;
    }

    fn on_disconnect(&mut self, _: &mut Net, _: ConnectionId, _: DisconnectReason) {
        self.ended += 1;
    }
}

/// Clients that have not got an echo yet, at most.
const AT_A_TIME: usize = 256;
const ADDRESSES: usize = 200;
/// What `hardened` allows.
const PER_ADDRESS: usize = 64;

fn client_address(number: usize) -> IpAddr {
    Ipv4Addr::new(127, 0, 1, 1 + (number % ADDRESSES) as u8).into()
}

#[test]
fn hardened_server_serves_5000_clients_from_200_addresses_and_limits_each() {
    if has("haproxy", "5,000 clients behind HAProxy") {
        let test = "hardened_server_serves_5000_clients_from_200_addresses_and_limits_each";
        // Some more for the address that goes beyond its limit.
        with_connections(test, 5_000 + 2 * PER_ADDRESS, |connections| {
            serve_crowd(connections - 2 * PER_ADDRESS);
        });
    }
}

fn serve_crowd(clients: usize) {
    let backend = Backend::start(Config::hardened());
    let (_reserved, front) = reserved();
    let server = backend.addr;
    let _haproxy = Haproxy::start(&format!(
        "listen echo\n bind {front}\n server one {server} send-proxy-v2\n"
    ))
    .await_start(listening_at(front));

    let mut event_loop: EventLoop = EventLoop::new(Config::default()).expect("a loop");
    let mut seen = Clients::default();
    let connect = |net: &mut Net, addr: IpAddr| {
        let options = ConnectOptions::default().bind(SocketAddr::from((addr, 0)));
        net.connect_with(front, options).expect("a free port");
    };
    let mut connected = 0;
    turn_until(&mut event_loop, &mut seen, |seen, net| {
        while connected < clients && connected - seen.echoes < AT_A_TIME {
            connect(net, client_address(connected));
            connected += 1;
        }
        assert_eq!(seen.ended, 0, "a client was refused");
        seen.echoes == clients
    });
    let mut by_address: HashMap<Option<IpAddr>, usize> = HashMap::new();
    for asked in &backend.seen().asked {
        *by_address.entry(asked.map(|addr| addr.ip())).or_default() += 1;
    }
    // The connection by which it was found to listen.
    by_address.remove(&Some(Ipv4Addr::LOCALHOST.into()));
    assert_eq!(by_address.len(), ADDRESSES);
    let each = clients / ADDRESSES;
    for number in 0..ADDRESSES {
        let count = by_address.get(&Some(client_address(number)));
        assert!(count.is_some_and(|count| (each..=each + 1).contains(count)));
    }
    assert_eq!(backend.stats().refused, 0);
    let are_connected = |count| backend.handle.call(|_, net| net.connection_count()) == Ok(count);
    wait_until(|| are_connected(clients));

    // One address has as many as it may have, and then some that are refused. The others are not affected.
    let more = PER_ADDRESS - by_address[&Some(client_address(0))];
    for _ in 0..more + 10 {
        connect(event_loop.net(), client_address(0));
    }
    turn_until(&mut event_loop, &mut seen, |seen, _| {
        seen.echoes == clients + more && seen.ended == 10
    });
    connect(event_loop.net(), client_address(1));
    turn_until(&mut event_loop, &mut seen, |seen, _| {
        seen.echoes == clients + more + 1
    });
    assert_eq!(backend.stats().refused, 10);
    wait_until(|| are_connected(clients + more + 1));
}
