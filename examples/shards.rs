//! A chat server with one loop per core. Each message is broadcast to the clients of all shards.
//!
//! ```text
//! cargo run --example shards [ADDR [SHARDS]]          defaults: 127.0.0.1:5000, one shard per core
//! ```
//!
//! Each frame is a line of text. `/who` returns the number of clients per shard, and `/quit` shuts the server down. Any
//! client with the default framing works, such as `chat_client` (which sends `/quit` at EOF).

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
    /// The number of clients per shard, including this one. Each shard sends its own to the others.
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
    /// A name for a connection that is unique across shards.
    fn name(&self, connection: ConnectionId) -> ShardedId {
        let shard = self.shard;
        ShardedId { shard, connection }
    }

    /// Sends this shard's number of clients to all shards.
    fn tell_how_many(&mut self, net: &Net) {
        let (shard, count) = (self.shard, net.connection_count());
        self.present.insert(shard, count);
        for handle in self.everywhere.iter() {
            // Callbacks must not block. A shard whose mailbox is full misses this update and gets the next one.
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
    // If one shard fails or stops, the others are shut down and the process ends, so a supervisor can restart it.
    let first = shards.join_next();
    shards.handles().shutdown(Duration::from_secs(5));
    shards.join()?;
    first.transpose()?;
    Ok(())
}
