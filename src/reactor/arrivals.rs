//! Serves an arrival: reads its PROXY header, then asks for its admission.

use std::time::Duration;

use super::Reactor;
use crate::connection_id::ArrivalId;
use crate::handler::Handler;
use crate::net::NoHeader;

impl Reactor {
    /// Serves an arrival that has an event: reads its header, and admits it if the header is complete.
    pub(super) fn serve_arrival<H: Handler + ?Sized>(&mut self, handler: &mut H, id: ArrivalId) {
        if let Some(newcomer) = self.net.receive_header(id) {
            self.admit(handler, newcomer);
        }
    }

    /// Judges a peer whose header is late. The header may have arrived without an event.
    pub(super) fn judge_arrival<H: Handler + ?Sized>(
        &mut self,
        handler: &mut H,
        id: ArrivalId,
        after: Duration,
    ) {
        self.serve_arrival(handler, id);
        if self.net.awaits_header(id) {
            self.net.refuse_arrival(id, NoHeader::TimedOut { after });
        }
    }
}
