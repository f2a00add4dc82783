//! message-io with its transport for streams of bytes: frames are cut here, for its own framing is another one.

use std::collections::HashMap;

use message_io::network::{Endpoint, NetEvent, Transport};
use message_io::node::{self, NodeEvent};

use crate::problem::Problem;
use crate::reply::Reply;
use crate::{report, values};

const HEADER: usize = 4;

pub(super) fn serve(addr: &str, reply: Reply) -> Result<(), Problem> {
    let (handler, events) = node::split::<()>();
    let network = handler.network();
    let (_, addr) = network.listen(Transport::Tcp, &values::resolve(addr)?[..])?;
    report::say(format_args!("listening on {addr}"));
    // The beginning of a frame, of each connection.
    let mut held: HashMap<Endpoint, Vec<u8>> = HashMap::new();
    let mut replies = Vec::new();
    events.for_each(|event| match event {
        NodeEvent::Network(NetEvent::Accepted(endpoint, _)) => {
            held.insert(endpoint, Vec::new());
        }
        NodeEvent::Network(NetEvent::Disconnected(endpoint)) => {
            held.remove(&endpoint);
        }
        NodeEvent::Network(NetEvent::Message(sender, bytes)) => {
            let Some(held_of_sender) = held.get_mut(&sender) else {
                return;
            };
            replies.clear();
            cut(held_of_sender, bytes, &mut replies);
            if replies.is_empty() {
                return;
            }
            match reply {
                Reply::Echo => {
                    network.send(sender, &replies);
                }
                Reply::Broadcast => {
                    for endpoint in held.keys() {
                        network.send(*endpoint, &replies);
                    }
                }
            }
        }
        NodeEvent::Network(NetEvent::Connected(..)) | NodeEvent::Signal(()) => {}
    });
    Ok(())
}

/// Replies to the frames that are whole now, and keeps the rest.
fn cut(held: &mut Vec<u8>, bytes: &[u8], replies: &mut Vec<u8>) {
    if !held.is_empty() {
        held.extend_from_slice(bytes);
        let used = reply(held, replies);
        held.drain(..used);
        return;
    }
    let used = reply(bytes, replies);
    held.extend_from_slice(&bytes[used..]);
}

/// Returns how many bytes the frames take that are whole.
fn reply(bytes: &[u8], replies: &mut Vec<u8>) -> usize {
    let mut rest = bytes;
    while let Some((header, body)) = rest.split_first_chunk::<HEADER>()
        && let Some((payload, next)) = body.split_at_checked(u32::from_le_bytes(*header) as usize)
    {
        replies.extend_from_slice(header);
        replies.extend_from_slice(payload);
        rest = next;
    }
    bytes.len() - rest.len()
}
