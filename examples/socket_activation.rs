//! An echo server that systemd starts when the first peer connects, with the listening socket already open.
//!
//! ```text
//! cargo build --example socket_activation
//! systemd-socket-activate -l 127.0.0.1:5000 target/debug/examples/socket_activation
//! ```
//!
//! In a system, a unit `echo.socket` with `ListenStream=5000` and a unit `echo.service` do the same. The socket belongs
//! to systemd, so peers that connect while the service restarts wait in the backlog.

#[cfg(unix)]
fn main() -> std::process::ExitCode {
    unix::main()
}

#[cfg(not(unix))]
fn main() {
    eprintln!("socket_activation: there is no systemd on this platform");
}

#[cfg(unix)]
mod unix {
    use std::io;
    use std::process::ExitCode;

    use listenfd::ListenFd;
    use throng::{
        Config, ConnectionId, EventLoop, Frame, Handler, ListenOptions, ListenSocket, Net,
    };

    struct Echo;

    impl Handler for Echo {
        fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
            if let Err(rejected) = net.send_frame(id, frame) {
                log::warn!("{id}: {rejected}");
            }
        }
    }

    /// Takes the sockets that were passed to this process, of TCP or of the Unix domain.
    fn sockets() -> io::Result<Vec<ListenSocket>> {
        let mut passed = ListenFd::from_env();
        let mut sockets = Vec::new();
        for index in 0..passed.len() {
            let socket = match passed.take_tcp_listener(index) {
                Ok(socket) => socket.map(ListenSocket::from),
                Err(_) => passed.take_unix_listener(index)?.map(ListenSocket::from),
            };
            sockets.extend(socket);
        }
        Ok(sockets)
    }

    fn serve() -> io::Result<()> {
        let sockets = sockets()?;
        if sockets.is_empty() {
            return Err(io::Error::other(
                "no socket was passed; see systemd.socket(5)",
            ));
        }
        let mut event_loop = EventLoop::new(Config::default())?;
        let net = event_loop.net();
        for socket in sockets {
            let listener = net.adopt_listener(socket, ListenOptions::default())?;
            let listener = net.listener(listener);
            match listener.and_then(|it| it.local_addr()) {
                Some(addr) => println!("listening on {addr}"),
                None => println!("listening on {:?}", listener.and_then(|it| it.local_path())),
            }
        }
        event_loop.run(&mut Echo)
    }

    pub(super) fn main() -> ExitCode {
        env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).init();
        match serve() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("socket_activation: {error}");
                ExitCode::FAILURE
            }
        }
    }
}
