//! Where Unix domain sockets listen: paths, abstract names, and the files that belong to listeners.
#![cfg(unix)]

mod support;

use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use support::{Place, Recorder, turn_until};
use throng::{
    Config, ConnectOptions, EventLoop, ListenOptions, ListenerId, Net, Shards, ShardsBuilder,
};

fn new_loop() -> EventLoop {
    EventLoop::new(Config::default()).expect("a loop")
}

fn listen(
    event_loop: &mut EventLoop,
    path: &Path,
    options: ListenOptions,
) -> io::Result<ListenerId> {
    Ok(event_loop.net().listen_unix(path, options)?)
}

fn path_of(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

#[test]
fn paths_that_the_system_would_alter_are_errors() {
    let mut event_loop = new_loop();
    let place = Place::new("cut");
    let cut = place.0.as_os_str().as_bytes();
    let with_nul = [cut, b"\0b"].concat();
    let too_long = [b'x'; 200];
    for wrong in [&b""[..], &with_nul, &too_long] {
        let path = path_of(wrong);
        let error = listen(&mut event_loop, path, ListenOptions::default());
        let error = error.expect_err("not a path");
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        let error = event_loop
            .net()
            .connect_unix(path, ConnectOptions::default());
        let error = io::Error::from(error.expect_err("not a path"));
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        let error = shards(path, ListenOptions::default()).expect_err("not a path");
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
    assert!(!place.0.exists(), "it listens on a part of the path");
}

fn listens_on(net: &Net, listener: ListenerId) -> Option<&Path> {
    net.listener(listener)?.local_path()
}

fn shards(path: &Path, options: ListenOptions) -> io::Result<Shards<Recorder>> {
    let builder: ShardsBuilder = Shards::builder(Config::default()).shards(2);
    let builder = builder.listen_unix(path, options);
    Ok(builder.start(|_, _| Ok(Recorder::default()))?)
}

#[cfg(any(target_os = "android", target_os = "linux"))]
#[test]
fn abstract_names_work_in_both_directions() {
    // Any bytes are a name, NUL among them.
    for end in ["", "\0", "\0end"] {
        let name = format!("\0throng-{}{end}", std::process::id());
        let path = Path::new(&name);
        let mut event_loop = new_loop();
        let listener = listen(&mut event_loop, path, ListenOptions::default()).expect("a name");
        let net = event_loop.net();
        assert_eq!(listens_on(net, listener), Some(path));
        let id = net.connect_unix(path, ConnectOptions::default());
        let id = id.expect("it is there");
        let mut seen = Recorder::default();
        turn_until(&mut event_loop, &mut seen, |seen, _| {
            seen.connected().len() == 2
        });
        assert!(seen.connected().contains(&id));
        // The name is free when the listener is closed.
        drop(event_loop);
        listen(&mut new_loop(), path, ListenOptions::default()).expect("a free name");
    }
}

#[cfg(not(any(target_os = "android", target_os = "linux")))]
#[test]
fn abstract_names_are_errors_where_unsupported() {
    let error = listen(
        &mut new_loop(),
        Path::new("\0name"),
        ListenOptions::default(),
    );
    let error = error.expect_err("there are none");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[test]
fn listener_reports_its_path() {
    let (place, other) = (Place::new("asked"), Place::new("adopted"));
    let mut event_loop = new_loop();
    let made = listen(&mut event_loop, &place.0, ListenOptions::default()).expect("a new path");
    let adopted = UnixListener::bind(&other.0).expect("a new path");
    let net = event_loop.net();
    let adopted = net.adopt_listener(adopted, ListenOptions::default());
    let adopted = adopted.expect("it is taken");
    let tcp = net.listen("127.0.0.1:0").expect("a free port");
    assert_eq!(listens_on(net, made), Some(&*place.0));
    assert_eq!(listens_on(net, adopted), Some(&*other.0));
    assert_eq!(listens_on(net, tcp), None);
    net.close_listener(made);
    let mut seen = Recorder::default();
    turn_until(&mut event_loop, &mut seen, |_, net| {
        listens_on(net, made).is_none()
    });
}

#[test]
fn socket_file_is_removed_with_its_listener_or_loop() {
    let place = Place::new("removed");
    let mut event_loop = new_loop();
    let id = listen(&mut event_loop, &place.0, ListenOptions::default()).expect("a new path");
    assert!(place.0.exists());
    event_loop.net().close_listener(id);
    assert!(!place.0.exists(), "after close_listener");
    listen(&mut event_loop, &place.0, ListenOptions::default()).expect("a new path");
    drop(event_loop);
    assert!(!place.0.exists(), "after the loop was dropped");
    let shards = shards(&place.0, ListenOptions::default()).expect("a new path");
    assert_eq!(shards.local_path(0), Some(&*place.0));
    assert!(place.0.exists());
    shards.handles().shutdown(support::PATIENCE);
    shards.join().expect("no shard fails");
    assert!(!place.0.exists(), "after the shards ended");
}

#[test]
fn socket_file_stays_if_kept_or_replaced() {
    let place = Place::new("stays");
    let mut event_loop = new_loop();
    let options = ListenOptions::default().remove_socket_file(false);
    listen(&mut event_loop, &place.0, options).expect("a new path");
    drop(event_loop);
    std::fs::remove_file(&place.0).expect("it stays");

    // Another server has taken the place.
    let mut event_loop = new_loop();
    listen(&mut event_loop, &place.0, ListenOptions::default()).expect("a new path");
    std::fs::remove_file(&place.0).expect("it is there");
    let other = UnixListener::bind(&place.0).expect("the place is free");
    drop(event_loop);
    UnixStream::connect(&place.0).expect("the other one is still there");

    // The file of an adopted listener was made by other code.
    let mut event_loop = new_loop();
    let adopted = event_loop
        .net()
        .adopt_listener(other, ListenOptions::default());
    adopted.expect("it is taken");
    drop(event_loop);
    assert!(place.0.exists());
}

#[test]
fn stale_socket_file_is_replaced_if_configured() {
    let place = Place::new("stale");
    // What a server leaves that is killed.
    drop(UnixListener::bind(&place.0).expect("a new path"));
    let mut event_loop = new_loop();
    let error = listen(&mut event_loop, &place.0, ListenOptions::default());
    let error = error.expect_err("a file is there");
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    let replacing = ListenOptions::default().replace_stale_socket(true);
    listen(&mut event_loop, &place.0, replacing.clone()).expect("it is stale");
    UnixStream::connect(&place.0).expect("a listener");
    // This one is alive, and not to be replaced by others.
    let error = listen(&mut new_loop(), &place.0, replacing.clone());
    assert_eq!(error.expect_err("alive").kind(), ErrorKind::AddrInUse);
    let error = shards(&place.0, replacing).expect_err("alive");
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    UnixStream::connect(&place.0).expect("it still listens");
}

#[test]
fn file_that_is_not_a_socket_is_never_replaced() {
    let place = Place::new("file");
    std::fs::write(&place.0, b"precious").expect("a new file");
    let replacing = ListenOptions::default().replace_stale_socket(true);
    let error = listen(&mut new_loop(), &place.0, replacing.clone());
    assert_eq!(error.expect_err("in use").kind(), ErrorKind::AddrInUse);
    assert_eq!(std::fs::read(&place.0).expect("it is there"), b"precious");
    // Nor is a link to a stale socket.
    let stale = Place::new("target");
    drop(UnixListener::bind(&stale.0).expect("a new path"));
    std::fs::remove_file(&place.0).expect("it is there");
    std::os::unix::fs::symlink(&stale.0, &place.0).expect("a free path");
    let error = listen(&mut new_loop(), &place.0, replacing);
    assert_eq!(error.expect_err("in use").kind(), ErrorKind::AddrInUse);
    let kind = std::fs::symlink_metadata(&place.0).expect("it is there");
    assert!(kind.file_type().is_symlink());
}

#[test]
fn socket_file_has_the_mode_of_the_options() {
    let place = Place::new("mode");
    for mode in [0o600, 0o660, 0o777] {
        let mut event_loop = new_loop();
        let options = ListenOptions::default().socket_file_mode(mode);
        listen(&mut event_loop, &place.0, options).expect("a new path");
        let file = std::fs::metadata(&place.0).expect("it is there");
        assert!(file.file_type().is_socket());
        assert_eq!(file.permissions().mode() & 0o7777, mode);
    }
    let options = ListenOptions::default().socket_file_mode(0o1_0000);
    let error = listen(&mut new_loop(), &place.0, options).expect_err("not a mode");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(!place.0.exists());
}
