//! An echo server that another process replaces, without losing a peer.
//!
//! ```text
//! cargo run --example restart [ADDR [CONTROL]]          defaults: 127.0.0.1:5000 and /tmp/throng-restart.sock
//! ```
//!
//! Start it once more with the same arguments while it runs, for example after an update. The new process connects to
//! the control socket of the old one, at the path CONTROL, and receives the listening socket. Peers that connect
//! meanwhile wait in the backlog. When the new process listens, the old one serves its own connections to their end,
//! for at most 30 s.

#[cfg(unix)]
fn main() -> std::process::ExitCode {
    unix::main()
}

#[cfg(not(unix))]
fn main() {
    eprintln!("restart: sockets are passed to other processes differently on this platform");
}

#[cfg(unix)]
mod unix {
    use std::io::{self, IoSlice, IoSliceMut, Read, Write};
    use std::mem::MaybeUninit;
    use std::os::fd::{AsFd, OwnedFd};
    use std::os::unix::net::UnixStream;
    use std::process::ExitCode;
    use std::time::Duration;
    use std::{env, process};

    use rustix::net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
    };
    use throng::{
        Config, ConnectionId, DisconnectReason, EventLoop, Expired, Frame, Framing, Handler,
        ListenOptions, ListenSocket, ListenerId, Net, Origin,
    };

    /// How long connections may continue after a successor has taken over.
    const RETIREMENT: Duration = Duration::from_secs(30);
    /// How long the last step of a hand-over or a shutdown may take.
    const PATIENCE: Duration = Duration::from_secs(5);

    struct Server {
        service: ListenerId,
        control: ListenerId,
        /// The successor, and our copy of the socket that it was sent, until it reports that it listens.
        successor: Option<(ConnectionId, ListenSocket)>,
        has_retired: bool,
    }

    impl Server {
        fn is_successor(&self, net: &Net, id: ConnectionId) -> bool {
            let origin = net.connection(id).map(|connection| connection.origin());
            origin == Some(Origin::Listener(self.control))
        }

        /// Sends the listening socket to the successor. From now on peers wait in the backlog.
        fn hand_over(&mut self, net: &mut Net, id: ConnectionId) -> io::Result<()> {
            // There is none if another successor was faster.
            let Some(socket) = net.release_listener(self.service) else {
                return Err(io::ErrorKind::ResourceBusy.into());
            };
            let sent = match net.connection(id).and_then(|it| it.stream()) {
                Some(stream) => send_descriptor(stream, &socket),
                None => Err(io::ErrorKind::NotConnected.into()),
            };
            self.successor = Some((id, socket));
            sent
        }

        /// Listens again: the successor has ended before it listened.
        fn take_back(&mut self, net: &mut Net, socket: ListenSocket) {
            match net.adopt_listener(socket, ListenOptions::default()) {
                Ok(listener) => self.service = listener,
                Err(rejected) => {
                    log::error!("cannot listen any more: {rejected}");
                    net.shutdown(PATIENCE);
                }
            }
        }

        fn retire(&mut self, net: &mut Net, successor: ConnectionId) {
            log::info!("process {} retires", process::id());
            self.successor = None;
            self.has_retired = true;
            net.set_timer(RETIREMENT, 0);
            // The path is free now. The end of its connection tells that to the successor.
            net.close_listener(self.control);
            net.disconnect(successor);
            self.end_if_unused(net);
        }

        fn end_if_unused(&self, net: &mut Net) {
            if self.has_retired && net.connection_count() == 0 {
                net.shutdown(PATIENCE);
            }
        }
    }

    impl Handler for Server {
        fn on_connect(&mut self, net: &mut Net, id: ConnectionId) {
            if self.is_successor(net, id)
                && let Err(error) = self.hand_over(net, id)
            {
                log::error!("cannot hand over: {error}");
                net.disconnect(id);
            }
        }

        fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
            if self.is_successor(net, id) {
                self.retire(net, id);
            } else if let Err(rejected) = net.send_frame(id, frame) {
                log::warn!("{id}: {rejected}");
            }
        }

        fn on_timer(&mut self, net: &mut Net, _: Expired) {
            net.shutdown(PATIENCE);
        }

        fn on_disconnect(&mut self, net: &mut Net, id: ConnectionId, _: DisconnectReason) {
            match self.successor.take_if(|(successor, _)| *successor == id) {
                Some((_, socket)) => self.take_back(net, socket),
                None => self.end_if_unused(net),
            }
        }
    }

    /// Sends a socket over a Unix domain socket, with one byte.
    fn send_descriptor(stream: impl AsFd, socket: impl AsFd) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut message = SendAncillaryBuffer::new(&mut space);
        let sockets = [socket.as_fd()];
        message.push(SendAncillaryMessage::ScmRights(&sockets));
        sendmsg(
            stream,
            &[IoSlice::new(b"!")],
            &mut message,
            SendFlags::empty(),
        )?;
        Ok(())
    }

    fn receive_descriptor(stream: impl AsFd) -> io::Result<OwnedFd> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut message = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        recvmsg(
            stream,
            &mut [IoSliceMut::new(&mut byte)],
            &mut message,
            RecvFlags::empty(),
        )?;
        let descriptor = message.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        });
        descriptor.ok_or_else(|| io::Error::other("the running server did not send its socket"))
    }

    /// Listens in place of the process at the control socket. `None` if there is none.
    fn take_over(net: &mut Net, control: &str) -> io::Result<Option<ListenerId>> {
        let mut old = match UnixStream::connect(control) {
            Ok(old) => old,
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => return Ok(None),
                _ => return Err(error),
            },
        };
        old.set_read_timeout(Some(PATIENCE))?;
        let socket = ListenSocket::try_from(receive_descriptor(&old)?)?;
        let service = net.adopt_listener(socket, ListenOptions::default())?;
        old.write_all(b"ready\n")?;
        // At the end of the stream the old process has left the control socket.
        old.read_to_end(&mut Vec::new())?;
        Ok(Some(service))
    }

    fn serve(addr: &str, control: &str) -> io::Result<()> {
        // All clients may be on one machine, as in the test of this example.
        let config = Config::hardened().max_accepts_per_second_per_ip(None);
        let mut event_loop = EventLoop::new(config)?;
        let net = event_loop.net();
        let service = match take_over(net, control)? {
            Some(service) => service,
            None => net.listen(addr)?,
        };
        // Only processes of the same user may take over.
        let lines = ListenOptions::default()
            .framing(Framing::delimiter(b'\n'))
            .replace_stale_socket(true)
            .socket_file_mode(0o600);
        let control = net.listen_unix(control, lines)?;
        if let Some(addr) = net.listener(service).and_then(|it| it.local_addr()) {
            println!("listening on {addr} as process {}", process::id());
        }
        event_loop.run(&mut Server {
            service,
            control,
            successor: None,
            has_retired: false,
        })
    }

    pub(super) fn main() -> ExitCode {
        env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).init();
        let mut args = env::args().skip(1);
        let addr = args.next().unwrap_or("127.0.0.1:5000".into());
        let control = args.next().unwrap_or("/tmp/throng-restart.sock".into());
        match serve(&addr, &control) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("restart: {error}");
                ExitCode::FAILURE
            }
        }
    }
}
