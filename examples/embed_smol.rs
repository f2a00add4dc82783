//! The loop inside a single-threaded smol executor, next to a console that other programs reach by TCP.
//!
//! ```text
//! cargo run --example embed_smol [ADDR [CONSOLE_ADDR]]          defaults: 127.0.0.1:5000 and 127.0.0.1:5001
//! ```
//!
//! Each frame is broadcast to all players. The console takes lines (`nc 127.0.0.1 5001`): `players` returns their number,
//! `say TEXT` sends them a frame, `quit` ends the game.

#[cfg(unix)]
fn main() -> std::process::ExitCode {
    unix::main()
}

#[cfg(not(unix))]
fn main() {
    eprintln!("embed_smol: there is no descriptor to wait for on this platform");
}

#[cfg(unix)]
mod unix {
    use std::os::fd::AsFd;
    use std::process::ExitCode;
    use std::rc::Rc;
    use std::time::Duration;
    use std::{env, io};

    use smol::future::{or, yield_now};
    use smol::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    use smol::net::{TcpListener, TcpStream};
    use smol::stream::StreamExt;
    use smol::{Async, LocalExecutor, Timer};
    use throng::{Config, ConnectionId, EventLoop, Frame, Handle, Handler, Net};

    struct Game;

    impl Handler for Game {
        fn on_data(&mut self, net: &mut Net, _: ConnectionId, frame: Frame<'_>) {
            net.broadcast(|_| true, frame);
        }
    }

    pub(super) fn main() -> ExitCode {
        let mut arguments = env::args().skip(1);
        let addr = arguments.next().unwrap_or("127.0.0.1:5000".to_string());
        let console_addr = arguments.next().unwrap_or("127.0.0.1:5001".to_string());
        let tasks = Rc::new(LocalExecutor::new());
        match smol::block_on(tasks.run(serve(Rc::clone(&tasks), &addr, &console_addr))) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("embed_smol: {error}");
                ExitCode::FAILURE
            }
        }
    }

    async fn serve(
        tasks: Rc<LocalExecutor<'static>>,
        addr: &str,
        console_addr: &str,
    ) -> io::Result<()> {
        let mut event_loop = EventLoop::new(Config::hardened())?;
        let listener = event_loop.net().listen(addr)?;
        let console = TcpListener::bind(console_addr).await?;
        if let Some(addr) = event_loop
            .net()
            .listener(listener)
            .and_then(|it| it.local_addr())
        {
            println!("listening on {addr}");
        }
        println!("listening on {} for the console", console.local_addr()?);
        let accepting = accept(Rc::downgrade(&tasks), console, event_loop.handle());
        tasks.spawn(accepting).detach();
        play(event_loop).await
    }

    /// Makes a turn whenever one is due: when the loop's descriptor is readable, or a deadline has passed.
    async fn play(mut event_loop: EventLoop<Game>) -> io::Result<()> {
        // `Async` owns its descriptor, so it gets a duplicate.
        let waiting = Async::new(event_loop.as_fd().try_clone_to_owned()?)?;
        loop {
            match event_loop.next_timeout() {
                // More work is pending. Other tasks run first.
                Some(Duration::ZERO) => yield_now().await,
                Some(left) => {
                    let deadline = async {
                        Timer::after(left).await;
                        Ok(())
                    };
                    or(waiting.readable(), deadline).await?;
                }
                None => waiting.readable().await?,
            }
            event_loop.turn(&mut Game, Some(Duration::ZERO))?;
            if event_loop.take_stop() {
                return Ok(());
            }
        }
    }

    async fn accept(
        tasks: std::rc::Weak<LocalExecutor<'static>>,
        console: TcpListener,
        handle: Handle<Game>,
    ) {
        while let Ok((stream, _)) = console.accept().await
            && let Some(tasks) = tasks.upgrade()
        {
            let talk = talk(stream, handle.clone());
            let report = async {
                if let Err(error) = talk.await {
                    eprintln!("embed_smol: {error}");
                }
            };
            tasks.spawn(report).detach();
        }
    }

    /// Executes the lines of one console. The loop runs on this thread, so the task awaits it and never blocks.
    async fn talk(mut stream: TcpStream, mut handle: Handle<Game>) -> io::Result<()> {
        let mut lines = BufReader::new(stream.clone()).lines();
        while let Some(line) = lines.next().await {
            let line = line?;
            match line.split_once(' ').unwrap_or((&line, "")) {
                ("players", "") => {
                    handle.ready().await?;
                    let players = handle.try_call(|_, net| net.connection_count()).await?;
                    stream.write_all(format!("{players}\n").as_bytes()).await?;
                }
                ("say", text) => {
                    handle.ready().await?;
                    handle.try_broadcast(|_| true, text.as_bytes().to_vec())?;
                }
                ("quit", "") => handle.shutdown(Duration::from_secs(5))?,
                _ => stream.write_all(b"players | say TEXT | quit\n").await?,
            }
        }
        Ok(())
    }
}
