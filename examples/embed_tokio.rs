//! The loop inside a single-threaded tokio runtime, next to an HTTP status page on the same thread.
//!
//! ```text
//! cargo run --example embed_tokio [ADDR [STATUS_ADDR]]          defaults: 127.0.0.1:5000 and 127.0.0.1:8080
//! ```
//!
//! Each frame is broadcast to all players; `/quit` ends the game. `curl 127.0.0.1:8080` shows the status page, for which
//! a task asks the loop through a handle.

#[cfg(unix)]
#[tokio::main(flavor = "current_thread")]
async fn main() -> std::process::ExitCode {
    unix::main().await
}

#[cfg(not(unix))]
fn main() {
    eprintln!("embed_tokio: there is no descriptor to wait for on this platform");
}

#[cfg(unix)]
mod unix {
    use std::os::fd::AsFd;
    use std::process::ExitCode;
    use std::time::Duration;
    use std::{env, io};

    use http_body_util::Full;
    use hyper::body::Bytes;
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper::{Request, Response};
    use hyper_util::rt::TokioIo;
    use throng::{Config, ConnectionId, EventLoop, Frame, Handle, Handler, MailboxError, Net};
    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;
    use tokio::net::TcpListener;
    use tokio::task::{self, LocalSet};

    #[derive(Default)]
    struct Game {
        frames: u64,
    }

    impl Handler for Game {
        fn on_data(&mut self, net: &mut Net, _: ConnectionId, frame: Frame<'_>) {
            self.frames += 1;
            if &*frame == b"/quit" {
                net.shutdown(Duration::from_secs(5));
            } else {
                net.broadcast(|_| true, frame);
            }
        }
    }

    pub(super) async fn main() -> ExitCode {
        let mut arguments = env::args().skip(1);
        let addr = arguments.next().unwrap_or("127.0.0.1:5000".to_string());
        let status_addr = arguments.next().unwrap_or("127.0.0.1:8080".to_string());
        match LocalSet::new().run_until(serve(&addr, &status_addr)).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("embed_tokio: {error}");
                ExitCode::FAILURE
            }
        }
    }

    async fn serve(addr: &str, status_addr: &str) -> io::Result<()> {
        let mut event_loop = EventLoop::new(Config::hardened())?;
        let listener = event_loop.net().listen(addr)?;
        let page = TcpListener::bind(status_addr).await?;
        if let Some(addr) = event_loop
            .net()
            .listener(listener)
            .and_then(|it| it.local_addr())
        {
            println!("listening on {addr}");
        }
        println!("listening on {} for HTTP", page.local_addr()?);
        task::spawn_local(show(page, event_loop.handle()));
        play(event_loop, Game::default()).await
    }

    /// Makes a turn whenever one is due: when the loop's descriptor is readable, or a deadline has passed.
    async fn play(mut event_loop: EventLoop<Game>, mut game: Game) -> io::Result<()> {
        // `AsyncFd` owns its descriptor, so it gets a duplicate.
        let descriptor = event_loop.as_fd().try_clone_to_owned()?;
        #[allow(
            deprecated,
            reason = "what takes its place is unsafe, for descriptors that are not owned"
        )]
        let waiting = AsyncFd::with_interest(descriptor, Interest::READABLE)?;
        loop {
            match event_loop.next_timeout() {
                // More work is pending. Other tasks run first.
                Some(Duration::ZERO) => task::yield_now().await,
                deadline => tokio::select! {
                    // Edge-triggered: the turn below handles all events, or `next_timeout` is zero afterwards.
                    ready = waiting.readable() => ready?.clear_ready(),
                    () = until(deadline) => {}
                },
            }
            event_loop.turn(&mut game, Some(Duration::ZERO))?;
            if event_loop.take_stop() {
                return Ok(());
            }
        }
    }

    async fn until(deadline: Option<Duration>) {
        match deadline {
            Some(left) => tokio::time::sleep(left).await,
            None => std::future::pending().await,
        }
    }

    /// Serves the status page.
    async fn show(page: TcpListener, handle: Handle<Game>) {
        while let Ok((stream, _)) = page.accept().await {
            let handle = handle.clone();
            let answer = service_fn(move |_: Request<_>| {
                let handle = handle.clone();
                async move {
                    let text = status(handle).await?;
                    Ok::<_, MailboxError>(Response::new(Full::new(Bytes::from(text))))
                }
            });
            task::spawn_local(async move {
                let connection =
                    http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
                if let Err(error) = connection.await {
                    eprintln!("embed_tokio: {error}");
                }
            });
        }
    }

    /// Asks the loop. Its thread is this one, so nothing may block: the loop answers in its next turn.
    async fn status(mut handle: Handle<Game>) -> Result<String, MailboxError> {
        handle.ready().await?;
        let answer = handle.try_call(|game, net| (net.connection_count(), game.frames));
        let (players, frames) = answer.await?;
        Ok(format!("players: {players}\nframes: {frames}\n"))
    }
}
