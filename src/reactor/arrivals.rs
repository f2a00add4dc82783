//! Serves an arrival: reads its PROXY header, then asks for its admission.

use std::time::Duration;

use super::Reactor;
use crate::connection_id::ArrivalId;
use crate::handler::Handler;
use crate::net::NoHeader;

impl Reactor {
    /// Reads the header of a peer. Returns whether there is more to do.
    pub(super) fn serve_arrival<H: Handler + ?Sized>(
        &mut self,
        handler: &mut H,
        id: ArrivalId,
    ) -> bool {
        if let Some(newcomer) = self.net.receive_header(id) {
            self.admit(handler, newcomer);
        }
        self.net.arrival_served(id)
    }

    /// Judges a peer whose header is late: it may have arrived without having been reported.
    pub(super) fn judge_arrival<H: Handler + ?Sized>(
        &mut self,
        handler: &mut H,
        id: ArrivalId,
        after: Duration,
    ) {
        if let Some(newcomer) = self.net.receive_header(id) {
            self.admit(handler, newcomer);
        } else if self.net.awaits_header(id) {
            self.net.refuse_arrival(id, NoHeader::TimedOut { after });
        }
    }
}
