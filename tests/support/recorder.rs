//! Handlers that record what they are told, or only echo.

use throng::{ConnectionId, DisconnectReason, Frame, Handler, Net};

/// A call of a handler.
#[derive(Debug)]
pub enum Event {
    Connect(ConnectionId),
    Data(ConnectionId, Vec<u8>),
    HalfClose(ConnectionId),
    Disconnect(ConnectionId, DisconnectReason),
}

/// Records every call, and echoes frames if `echo` is set.
#[derive(Debug, Default)]
pub struct Recorder {
    pub echo: bool,
    pub events: Vec<Event>,
}

impl Recorder {
    pub fn echoing() -> Self {
        Self {
            echo: true,
            events: Vec::new(),
        }
    }

    /// The ids that connected, in order.
    pub fn connected(&self) -> Vec<ConnectionId> {
        let connects = self.events.iter().filter_map(|event| match event {
            Event::Connect(id) => Some(*id),
            _ => None,
        });
        connects.collect()
    }

    /// All frames, in order.
    pub fn frames(&self) -> Vec<&[u8]> {
        let frames = self.events.iter().filter_map(|event| match event {
            Event::Data(_, frame) => Some(&frame[..]),
            _ => None,
        });
        frames.collect()
    }

    /// All ends, in order.
    pub fn ends(&self) -> Vec<(ConnectionId, &DisconnectReason)> {
        let ends = self.events.iter().filter_map(|event| match event {
            Event::Disconnect(id, reason) => Some((*id, reason)),
            _ => None,
        });
        ends.collect()
    }
}

impl Handler for Recorder {
    fn on_connect(&mut self, _: &mut Net, id: ConnectionId) {
        self.events.push(Event::Connect(id));
    }

    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        self.events.push(Event::Data(id, frame.to_vec()));
        if self.echo {
            net.send_frame(id, frame).expect("the connection is open");
        }
    }

    fn on_half_close(&mut self, _: &mut Net, id: ConnectionId) {
        self.events.push(Event::HalfClose(id));
    }

    fn on_disconnect(&mut self, _: &mut Net, id: ConnectionId, reason: DisconnectReason) {
        self.events.push(Event::Disconnect(id, reason));
    }
}

/// A handler that can be asked what it was told.
pub trait Observer: Handler {
    fn recorder(&self) -> &Recorder;

    fn recorder_mut(&mut self) -> &mut Recorder;
}

impl Observer for Recorder {
    fn recorder(&self) -> &Recorder {
        self
    }

    fn recorder_mut(&mut self) -> &mut Recorder {
        self
    }
}

/// Echoes and remembers nothing.
#[derive(Debug)]
pub struct Echo;

impl Handler for Echo {
    fn on_data(&mut self, net: &mut Net, id: ConnectionId, frame: Frame<'_>) {
        net.send_frame(id, frame).expect("the connection is open");
    }
}
