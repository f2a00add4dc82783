//! One payload for many connections, encoded once per framing.

use std::ops::Range;

use bytes::Bytes;

use crate::connection::{Common, Connection};
use crate::connection_id::ConnectionId;
use crate::error::{EncodeError, SendError};
use crate::fanout::Span;
use crate::frame::{self, Frame, Framing};
use crate::link::Link;
use crate::write_queue::SHARE_FROM;

/// The result of [`send_many`](crate::Net::send_many) and [`broadcast`](crate::Net::broadcast).
///
/// ```
/// use throng::{ConnectionId, Net};
///
/// fn announce(net: &mut Net, room: &[ConnectionId]) {
///     let report = net.send_many(room.iter().copied(), b"the next round begins");
///     println!("{} queued, {} closed", report.queued, report.gone);
///     for id in report.refused {
///         net.abort(id); // its queue is full
///     }
/// }
/// ```
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct SendReport {
    /// The number of connections for which the frame was queued.
    pub queued: usize,
    /// The number of ids whose connection cannot be sent to: closed, closing, half-closed, or not established yet.
    pub gone: usize,
    /// The connections whose queue is full, that is, holds [`max_queued_bytes`](crate::Config::max_queued_bytes) or
    /// more.
    pub refused: Vec<ConnectionId>,
    /// The connections whose framing cannot encode the frame, or whose `max_frame_len` it exceeds.
    pub unfit: Vec<ConnectionId>,
    /// The error of the first connection in `unfit`.
    pub error: Option<EncodeError>,
}

/// The encodings of a small payload in all framings met so far, one after the other.
#[derive(Debug, Default)]
struct Encodings {
    wire: Vec<u8>,
    known: Vec<(Framing, u64, Range<usize>)>,
}

impl Encodings {
    fn position(&self, framing: &Framing, limit: u64) -> Option<Range<usize>> {
        let known = self
            .known
            .iter()
            .find(|(known, under, _)| *under == limit && known.is_same(framing));
        known.map(|(_, _, range)| range.clone())
    }

    fn find(&self, framing: &Framing, limit: u64) -> Option<&[u8]> {
        Some(&self.wire[self.position(framing, limit)?])
    }

    /// Returns the frame in this framing, encoding it if the framing was not met before.
    fn encode(
        &mut self,
        framing: &Framing,
        limit: u64,
        payload: &[u8],
    ) -> Result<&[u8], EncodeError> {
        let range = match self.position(framing, limit) {
            Some(range) => range,
            None => {
                let start = self.wire.len();
                frame::append(framing, limit, payload, &mut self.wire)?;
                let range = start..self.wire.len();
                self.known.push((framing.clone(), limit, range.clone()));
                range
            }
        };
        Ok(&self.wire[range])
    }
}

/// An encoding in the [`FanoutBuffer`](crate::fanout::FanoutBuffer).
struct Stored {
    framing: Framing,
    limit: u64,
    span: Span,
}

impl Stored {
    #[inline(always)]
    fn is_for(&self, connection: &Connection) -> bool {
        self.limit == connection.limit() && self.framing.is_same(connection.framing())
    }
}

/// One payload for many connections.
pub(super) struct Fanout<'a> {
    /// The encoding in the fan-out buffer that was used last.
    last: Option<Stored>,
    payload: Payload<'a>,
    pub(super) report: SendReport,
}

enum Payload<'a> {
    /// Small: encoded once per framing.
    Small {
        payload: Frame<'a>,
        /// Encodings made elsewhere, before the recipients were known.
        before: Option<&'a Encodings>,
        encodings: Encodings,
        /// Other encodings in the fan-out buffer.
        others: Vec<Stored>,
    },
    /// Large: each queue has its own header and a reference to the payload.
    Large(Bytes),
}

impl<'a> Fanout<'a> {
    pub(super) fn new(frame: Frame<'a>) -> Self {
        let payload = if frame.len() < SHARE_FROM {
            Payload::Small {
                payload: frame,
                before: None,
                encodings: Encodings::default(),
                others: Vec::new(),
            }
        } else {
            Payload::Large(frame.into_bytes())
        };
        Self {
            last: None,
            payload,
            report: SendReport::default(),
        }
    }

    pub(super) fn push(
        &mut self,
        connection: &mut Connection,
        common: &mut Common,
    ) -> Result<(), SendError> {
        match &mut self.payload {
            Payload::Large(payload) => connection.push_shared(common, payload),
            Payload::Small {
                payload,
                before,
                encodings,
                ..
            } => {
                let (framing, limit) = (connection.framing(), connection.limit());
                let frame = match before.and_then(|before| before.find(framing, limit)) {
                    Some(frame) => frame,
                    None => encodings.encode(framing, limit, payload)?,
                };
                connection.with_queue(common, |queue, _, _| Ok(queue.push_encoded(frame)?))
            }
        }
    }

    /// Fast path: adds the frame by reference to the [`FanoutBuffer`](crate::fanout::FanoutBuffer). `false` means: use
    /// [`push`](Self::push).
    #[inline(always)]
    pub(super) fn push_by_reference(&mut self, link: &mut Link, common: &mut Common) -> bool {
        let known = self.last.as_ref().filter(|last| last.is_for(link));
        let span = match known {
            Some(last) => Some(last.span),
            None => self.store(link, common),
        };
        let is_pushed = span.is_some_and(|span| link.push_fanout(span, common));
        self.report.queued += usize::from(is_pushed);
        is_pushed
    }

    /// Stores the frame in the framing of a connection, if it is not stored yet. `None` if it cannot be.
    #[inline(never)]
    fn store(&mut self, link: &Link, common: &mut Common) -> Option<Span> {
        let Payload::Small {
            payload,
            before,
            others,
            ..
        } = &mut self.payload
        else {
            return None;
        };
        let (framing, limit) = (link.framing(), link.limit());
        let stored = match others.iter().position(|other| other.is_for(link)) {
            Some(place) => others.swap_remove(place),
            None => {
                let encoded = before.and_then(|before| before.find(framing, limit));
                let span = common.fanout.push(|wire| match encoded {
                    Some(frame) => {
                        wire.extend_from_slice(frame);
                        Ok(())
                    }
                    None => frame::append(framing, limit, payload, wire),
                })?;
                Stored {
                    framing: framing.clone(),
                    limit,
                    span,
                }
            }
        };
        let span = stored.span;
        others.extend(self.last.replace(stored));
        Some(span)
    }

    pub(super) fn note(&mut self, id: ConnectionId, result: Result<(), SendError>) {
        match result {
            Ok(()) => self.report.queued += 1,
            Err(SendError::QueueFull { .. }) => self.report.refused.push(id),
            Err(SendError::Encode(error)) => {
                self.report.unfit.push(id);
                self.report.error.get_or_insert(error);
            }
            Err(_) => self.report.gone += 1,
        }
    }
}

/// A payload that is encoded before its recipients are known, so that several loops can share the encodings.
#[derive(Debug)]
pub(crate) struct Encoded {
    payload: Bytes,
    encodings: Encodings,
}

impl Encoded {
    /// Encodes the payload for each of these framings, with its limit. Errors are ignored here and reported when it is
    /// sent.
    pub(crate) fn new(payload: Bytes, framings: &[(Framing, u64)]) -> Self {
        let mut encodings = Encodings::default();
        if payload.len() < SHARE_FROM {
            for (framing, limit) in framings {
                let limit = frame::write_limit(framing, *limit);
                let _ = encodings.encode(framing, limit, &payload);
            }
        }
        Self { payload, encodings }
    }

    pub(crate) fn payload(&self) -> &Bytes {
        &self.payload
    }

    pub(super) fn fanout(&self) -> Fanout<'_> {
        let mut fanout = Fanout::new(self.payload.clone().into());
        if let Payload::Small { before, .. } = &mut fanout.payload {
            *before = Some(&self.encodings);
        }
        fanout
    }
}
