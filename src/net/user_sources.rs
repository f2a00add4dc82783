//! Sources of the user's own in the loop's selector: a UDP socket, a timer of the system, the output of a process.

use mio::event::Source;
use mio::{Interest, Token};

use super::Net;
use crate::connection_id::is_ours;
use crate::error::RegisterError;
use crate::socket::Readiness;

impl Net {
    /// Waits for events of a source of your own, together with those of the connections:
    /// [`on_event`](crate::Handler::on_event) is called with its `token`. Any mio source will do, also one of another
    /// crate that implements [`mio::event::Source`].
    ///
    /// Where mio is edge-triggered so is this: after an event read or write until `WouldBlock`. Tokens without the top bit
    /// are yours; give each source one of its own.
    ///
    /// ```
    /// use mio::{Interest, Token, net::UdpSocket};
    /// use throng::{Config, ConnectionId, EventLoop, Frame, Handler, Net, Readiness};
    ///
    /// /// A server that can be asked over UDP whether it is there.
    /// struct Game { ping: UdpSocket }
    ///
    /// const PING: Token = Token(0);
    ///
    /// impl Handler for Game {
    ///     fn on_data(&mut self, _: &mut Net, _: ConnectionId, _: Frame<'_>) {}
    ///     fn on_event(&mut self, net: &mut Net, token: Token, _: Readiness) {
    ///         let mut buffer = [0; 64];
    ///         while let Ok((len, from)) = self.ping.recv_from(&mut buffer) {
    ///             let _ = self.ping.send_to(&buffer[..len], from);
    /// #           assert_eq!((token, &buffer[..len]), (PING, &b"are you there?"[..]));
    /// #           net.stop();
    ///         }
    ///     }
    /// }
    ///
    /// let mut game = Game { ping: UdpSocket::bind("127.0.0.1:0".parse().unwrap())? };
    /// let mut event_loop = EventLoop::new(Config::default())?;
    /// event_loop.net().register(&mut game.ping, PING, Interest::READABLE)?;
    /// # let asking = std::net::UdpSocket::bind("127.0.0.1:0")?;
    /// # asking.send_to(b"are you there?", game.ping.local_addr()?)?;
    /// event_loop.run(&mut game)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the token is not yours, or if the selector refuses the source.
    pub fn register<S: Source + ?Sized>(
        &mut self,
        source: &mut S,
        token: Token,
        interest: Interest,
    ) -> Result<(), RegisterError> {
        check(token)?;
        let result = source.register(&self.common.registry, token, interest);
        result.map_err(RegisterError::Os)
    }

    /// Waits for other events of a source, or under another token. What is there already is told again; an event that came
    /// before in this turn is still told under the old token.
    ///
    /// # Errors
    /// As [`register`](Self::register).
    pub fn reregister<S: Source + ?Sized>(
        &mut self,
        source: &mut S,
        token: Token,
        interest: Interest,
    ) -> Result<(), RegisterError> {
        check(token)?;
        let result = source.reregister(&self.common.registry, token, interest);
        result.map_err(RegisterError::Os)
    }

    /// Waits for events of a source no longer. What has come under its `token` and was not told yet is forgotten. With
    /// another token it is another source that is not told.
    ///
    /// # Errors
    /// If the selector does not know the source.
    pub fn deregister<S: Source + ?Sized>(
        &mut self,
        source: &mut S,
        token: Token,
    ) -> Result<(), RegisterError> {
        let result = source.deregister(&self.common.registry);
        result.map_err(RegisterError::Os)?;
        self.work.forget_user_events(token);
        Ok(())
    }

    /// Notes an event of the user's own source.
    pub(crate) fn note_user_event(&mut self, token: Token, readiness: Readiness) {
        self.work.add_user_event(token, readiness);
    }
}

fn check(token: Token) -> Result<(), RegisterError> {
    if is_ours(token) {
        return Err(RegisterError::TokenReserved { token });
    }
    Ok(())
}
