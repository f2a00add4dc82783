//! The user's own mio sources, for example a UDP socket, a system timer, or the output of a process.

use mio::event::Source;
use mio::{Interest, Token};

use super::Net;
use crate::connection_id::is_ours;
use crate::error::RegisterError;
use crate::socket::Readiness;

impl Net {
    /// Registers your own source with the loop's selector. [`on_event`](crate::Handler::on_event) is called with its
    /// `token` for each event. Accepts any [`mio::event::Source`], including those of other crates.
    ///
    /// Events are edge-triggered where mio's are: after an event, read or write until `WouldBlock`. Tokens without the
    /// top bit are yours; use a different one for each source.
    ///
    /// ```
    /// use mio::{Interest, Token, net::UdpSocket};
    /// use throng::{Config, ConnectionId, EventLoop, Frame, Handler, Net, Readiness};
    ///
    /// /// A server that also answers pings over UDP.
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
    /// If the token is reserved for throng (its top bit is set), or if the selector rejects the source.
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

    /// Changes the interest or the token of a source. Readiness that exists already is reported again. An event that
    /// arrived earlier in this turn is still reported under the old token.
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

    /// Deregisters a source. Events that have arrived under its `token` and were not reported yet are dropped. Pass the
    /// token it was registered with: otherwise the events of another source are dropped.
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

    /// Notes an event of a user's source.
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
