//! The loop inside a calloop event loop, as in Wayland desktop programs, next to a calloop timer.
//!
//! ```text
//! cargo run --example embed_calloop [ADDR]          default: 127.0.0.1:5000
//! ```
//!
//! Each frame is sent back to its sender. Ten times per second the number of ticks is broadcast. `/quit` ends the program.

#[cfg(unix)]
fn main() -> std::process::ExitCode {
    unix::main()
}

#[cfg(not(unix))]
fn main() {
    eprintln!("embed_calloop: calloop does not run on this platform");
}

#[cfg(unix)]
mod unix {
    use std::os::fd::AsFd;
    use std::process::ExitCode;
    use std::time::Duration;
    use std::{env, io};

    use calloop::generic::Generic;
    use calloop::timer::{TimeoutAction, Timer};
    use calloop::{Interest, Mode, PostAction};
    use throng::{Config, ConnectionId, EventLoop, Frame, Handler, Net};

    const TICK: Duration = Duration::from_millis(100);

    struct Echo;

    impl Handler for Echo {
        fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
            if &*frame == b"/quit" {
                net.shutdown(Duration::from_secs(5));
            } else if let Err(rejected) = net.send_frame(id, frame) {
                eprintln!("{id}: {rejected}");
            }
        }
    }

    /// The data that calloop passes to its callbacks.
    struct Program {
        event_loop: EventLoop<Echo>,
        handler: Echo,
        ticks: u32,
    }

    pub(super) fn main() -> ExitCode {
        let addr = env::args().nth(1);
        match serve(addr.as_deref().unwrap_or("127.0.0.1:5000")) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("embed_calloop: {error}");
                ExitCode::FAILURE
            }
        }
    }

    fn serve(addr: &str) -> io::Result<()> {
        let mut event_loop = EventLoop::new(Config::hardened())?;
        let listener = event_loop.net().listen(addr)?;
        if let Some(addr) = event_loop
            .net()
            .listener(listener)
            .and_then(|it| it.local_addr())
        {
            println!("listening on {addr}");
        }

        let mut calloop = calloop::EventLoop::<Program>::try_new()?;
        let handle = calloop.handle();
        // calloop owns the descriptor it waits for, so it gets a duplicate. Other callbacks can still use the loop.
        let descriptor = event_loop.as_fd().try_clone_to_owned()?;
        let due = Generic::new(descriptor, Interest::READ, Mode::Level);
        // Only ends the wait. The turn below runs after every wait, whatever ended it.
        handle
            .insert_source(due, |_, _, _| Ok(PostAction::Continue))
            .map_err(|error| error.error)?;
        handle
            .insert_source(Timer::from_duration(TICK), |_, (), program| {
                program.ticks += 1;
                let tick = format!("tick {}", program.ticks);
                program
                    .event_loop
                    .net()
                    .broadcast(|_| true, tick.as_bytes());
                TimeoutAction::ToDuration(TICK)
            })
            .map_err(|error| error.error)?;

        let mut program = Program {
            event_loop,
            handler: Echo,
            ticks: 0,
        };
        while !program.event_loop.take_stop() {
            calloop.dispatch(program.event_loop.next_timeout(), &mut program)?;
            let Program {
                event_loop,
                handler,
                ..
            } = &mut program;
            event_loop.turn(handler, Some(Duration::ZERO))?;
        }
        Ok(())
    }
}
