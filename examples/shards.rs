//! A chat on all cores: each has a loop of its own, and what one says all hear.
//!
//! ```text
//! cargo run --example shards [ADDR [SHARDS]]          the default is 127.0.0.1:5000, and one for each core
//! ```
//!
//! Each frame is a line of text; `/who` tells who is where, and `/quit` ends the server. `cargo run --example echo_client
//! ADDR /who` will do as a client.

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::Duration;
use std::{env, io};

use throng::{
    Config, ConnectionId, DisconnectReason, Frame, Handler, ListenOptions, Net, Shard,
    ShardHandles, ShardedId, Shards,
};

/// The part of the chat that lives on one shard.
struct Chat {
    shard: usize,
    everywhere: ShardHandles<Chat>,
    /// How many are on each shard, this one included: each tells the others.
    present: HashMap<usize, usize>,
}

impl Handler for Chat {
    fn on_connect(&mut self, net: &mut Net, id: ConnectionId) {
        let me = self.name(id);
        self.everywhere.broadcast(format!("* {me} has come"));
        self.tell_how_many(net);
    }

    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        match &*frame {
            b"/quit" => self.everywhere.shutdown(Duration::from_secs(5)),
            b"/who" => {
                let mut present: Vec<_> = self.present.iter().collect();
                present.sort();
                let counts: Vec<String> = present
                    .into_iter()
                    .map(|(shard, count)| format!("{count} on shard {shard}"))
                    .collect();
                if let Err(error) = net.send(id, counts.join(", ").as_bytes()) {
                    eprintln!("{error}");
                }
            }
            text => {
                let text = String::from_utf8_lossy(text);
                self.everywhere
                    .broadcast(format!("{}: {text}", self.name(id)));
            }
        }
    }

    fn on_disconnect(&mut self, net: &mut Net, id: ConnectionId, _: DisconnectReason) {
        let me = self.name(id);
        self.everywhere.broadcast(format!("* {me} has left"));
        self.tell_how_many(net);
    }
}

impl Chat {
    /// The name of a connection that is the only one of it on all shards.
    fn name(&self, connection: ConnectionId) -> ShardedId {
        let shard = self.shard;
        ShardedId { shard, connection }
    }

    /// Keeps the count of each shard up to date in all of them.
    fn tell_how_many(&mut self, net: &Net) {
        let (shard, count) = (self.shard, net.len());
        self.present.insert(shard, count);
        for handle in self.everywhere.iter() {
            // In a callback nothing waits: a shard that has no room misses it, and hears the next one.
            let told = handle.try_post(move |chat: &mut Chat, _| {
                chat.present.insert(shard, count);
            });
            if let Err(error) = told {
                eprintln!("{error}");
            }
        }
    }
}

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let addr = arguments.next().unwrap_or("127.0.0.1:5000".to_string());
    let shards = arguments.next();
    match serve(&addr, shards.and_then(|shards| shards.parse().ok())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(addr: &str, shards: Option<usize>) -> io::Result<()> {
    let mut builder = Shards::builder(Config::hardened()).listen(addr, ListenOptions::default())?;
    if let Some(shards) = shards {
        builder = builder.shards(shards);
    }
    let mut shards = builder.start(|_, Shard { index, handles }| {
        Ok(Chat {
            shard: index,
            everywhere: handles,
            present: HashMap::new(),
        })
    })?;
    if let Some(addr) = shards.local_addr(0) {
        println!("listening on {addr}");
    }
    // If one fails, or stops, the others are shut down too: whoever started this process sees it end.
    let first = shards.join_next();
    shards.handles().shutdown(Duration::from_secs(5));
    shards.join()?;
    first.transpose()?;
    Ok(())
}
