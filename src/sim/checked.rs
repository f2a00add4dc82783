//! `Checked`: the handler of a host, with or without the checks of a [`Contract`].

use std::net::SocketAddr;

use mio::Token;

use super::Contract;
use super::rules::Rules;
use crate::connection_id::{ConnectionId, ListenerId};
use crate::frame::{Chunk, Frame};
use crate::handler::{Admission, Handler};
use crate::net::{Expired, Net};
use crate::reason::DisconnectReason;
use crate::socket::Readiness;

pub(super) enum Checked<H> {
    Yes(Contract<H>),
    No(H),
}

impl<H: Handler> Checked<H> {
    pub(super) fn handler(&self) -> &H {
        match self {
            Self::Yes(contract) => contract.handler(),
            Self::No(handler) => handler,
        }
    }

    pub(super) fn handler_mut(&mut self) -> &mut H {
        match self {
            Self::Yes(contract) => contract.handler_mut(),
            Self::No(handler) => handler,
        }
    }

    pub(super) fn into_handler(self) -> H {
        match self {
            Self::Yes(contract) => contract.into_handler(),
            Self::No(handler) => handler,
        }
    }

    /// Looks at the loop between two callbacks.
    pub(super) fn look(&mut self, look: impl FnOnce(&mut Rules)) {
        if let Self::Yes(contract) = self {
            look(contract.rules());
        }
    }
}

/// Passes a callback on.
macro_rules! pass {
    ($to:expr, $call:ident($($argument:expr),*)) => {
        match $to {
            Self::Yes(contract) => contract.$call($($argument),*),
            Self::No(handler) => handler.$call($($argument),*),
        }
    };
}

impl<H: Handler> Handler for Checked<H> {
    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        pass!(self, on_data(net, id, frame));
    }

    fn on_chunk(&mut self, net: &mut Net, id: ConnectionId, chunk: Chunk<'_>) {
        pass!(self, on_chunk(net, id, chunk));
    }

    fn on_accept(
        &mut self,
        net: &mut Net,
        listener: ListenerId,
        peer: Option<SocketAddr>,
    ) -> Admission {
        pass!(self, on_accept(net, listener, peer))
    }

    fn on_connect(&mut self, net: &mut Net, id: ConnectionId) {
        pass!(self, on_connect(net, id));
    }

    fn on_drain(&mut self, net: &mut Net, id: ConnectionId) {
        pass!(self, on_drain(net, id));
    }

    fn on_half_close(&mut self, net: &mut Net, id: ConnectionId) {
        pass!(self, on_half_close(net, id));
    }

    fn on_timer(&mut self, net: &mut Net, expired: Expired) {
        pass!(self, on_timer(net, expired));
    }

    fn on_event(&mut self, net: &mut Net, token: Token, readiness: Readiness) {
        pass!(self, on_event(net, token, readiness));
    }

    fn on_disconnect(&mut self, net: &mut Net, id: ConnectionId, reason: DisconnectReason) {
        pass!(self, on_disconnect(net, id, reason));
    }
}
