//! Loops in simulated worlds: scripted peers, and random ones with an oracle that knows what each has to receive.

mod book;
mod echo;
mod found;
mod mix;
mod scripted;
