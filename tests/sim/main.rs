//! Loops in simulated worlds: scripted peers, and random ones with an oracle that knows what each has to receive.

mod book;
mod clients;
mod echo;
mod found;
mod latest;
mod limits;
mod mailbox;
mod memory;
mod mix;
mod moves;
mod relay;
mod scripted;
mod shutdown;
mod slow;
mod timers;
// Its provider needs a C compiler for the target.
#[cfg(target_os = "linux")]
mod tls;
mod unchecked;
