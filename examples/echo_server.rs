//! Sends every frame back to its sender.
//!
//! ```text
//! cargo run --example echo_server [ADDR]          default: 127.0.0.1:5000
//! ```

use std::process::ExitCode;
use std::{env, io};

use throng::{Config, ConnectionId, EventLoop, Frame, Handler, Net};

struct Echo;

impl Handler for Echo {
    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        if let Err(rejected) = net.send_frame(id, frame) {
            log::warn!("{id}: {rejected}");
        }
    }
}

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).init();
    let addr = env::args().nth(1);
    match serve(addr.as_deref().unwrap_or("127.0.0.1:5000")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("echo_server: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(addr: &str) -> io::Result<()> {
    let mut event_loop = EventLoop::new(Config::default())?;
    let net = event_loop.net();
    let listener = net.listen(addr)?;
    // With port 0 the system chooses a free port; this is the actual one.
    if let Some(addr) = net.listener(listener).and_then(|it| it.local_addr()) {
        println!("listening on {addr}");
    }
    event_loop.run(&mut Echo)
}
