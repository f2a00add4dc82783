//! `Lines`: text, one frame per line.

use super::delimiter::Delimiter;

/// Lines of text: each ends with LF, or with CR LF. Neither is part of the payload.
///
/// Created by [`Framing::lines`](super::Framing::lines).
///
/// ```
/// use throng::{DecodeError, FrameDecoder, Framing};
///
/// let mut decoder = FrameDecoder::new(Framing::lines());
/// let mut lines = Vec::new();
/// for mut piece in [&b"one\ntwo\r"[..], b"\n\nlast"] {
///     while let Some(line) = decoder.decode(&mut piece)? {
///         lines.push(line.to_vec());
///     }
/// }
/// assert_eq!(lines, [&b"one"[..], b"two", b""]);
/// # Ok::<(), DecodeError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lines(pub(super) Delimiter);

impl Lines {
    pub(super) fn new() -> Self {
        Self(Delimiter::newline())
    }

    /// Ends the lines that are sent with CR LF, as SMTP, IRC and Redis do. By default they end with LF alone; then a
    /// payload that ends with CR is refused, because it would arrive without it.
    pub fn crlf(mut self) -> Self {
        self.0.writes_cr = true;
        self
    }

    /// Delivers the last line even if the peer closes its side without ending it. A CR at its end is removed.
    ///
    /// By default such a line is not delivered, and the cause of the disconnect is
    /// [`PeerClosedInsideFrame`](crate::DisconnectCause::PeerClosedInsideFrame): it may be the first part of a longer
    /// line.
    ///
    /// ```
    /// use throng::{DecodeError, FrameDecoder, Framing};
    ///
    /// let mut decoder = FrameDecoder::new(Framing::lines().deliver_unterminated());
    /// assert!(decoder.decode(&mut &b"the end"[..])?.is_none());
    /// assert_eq!(decoder.finish()?.as_deref(), Some(&b"the end"[..]));
    /// # Ok::<(), DecodeError>(())
    /// ```
    pub fn deliver_unterminated(mut self) -> Self {
        self.0.is_eof = true;
        self
    }
}
