//! Frames of which only the newest matters: each has a slot, and replaces the frame queued in that slot.

use std::collections::HashMap;

use super::{Segment, WriteQueue};
use crate::error::EncodeError;
use crate::frame::{self, Framing};

/// The places of the replaceable frames. A written frame stays listed until it is looked up.
#[derive(Debug, Default)]
pub(super) struct Latest(HashMap<u32, Place>);

#[derive(Debug, Clone, Copy)]
struct Place {
    /// The serial number of its segment.
    segment: u64,
    start: usize,
    len: usize,
    /// The ordinal of the frame.
    ordinal: u64,
}

impl Latest {
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn retained(&self) -> usize {
        self.0.capacity() * size_of::<(u32, Place)>()
    }
}

impl WriteQueue {
    /// Returns the bytes that replacing this slot would remove.
    pub(crate) fn replaceable(&self, slot: u32) -> u64 {
        let behind = self.open.as_ref().map(|open| &open.behind);
        [Some(self), behind]
            .into_iter()
            .flatten()
            .filter_map(|queue| queue.untouched(slot))
            .map(|place| place.len as u64)
            .sum()
    }

    /// Appends a frame by copying it, and removes the one queued in the same slot, unless it is partly written. Returns
    /// whether one was removed.
    pub(crate) fn push_latest(
        &mut self,
        framing: &Framing,
        limit: u64,
        slot: u32,
        payload: &[u8],
    ) -> Result<bool, EncodeError> {
        // Nothing is removed if the new frame cannot be queued.
        frame::envelope(framing, limit, payload)?;
        let mut replaced = self.take_out(slot);
        let back = self.back();
        replaced |= back.take_out(slot);
        let ordinal = back.unsent.next_ordinal();
        let before = back.bytes;
        back.push_copied(framing, limit, payload)?;
        let len = (back.bytes - before) as usize;
        let place = Place {
            segment: back.tail_serial(),
            start: back.tail.len() - len,
            len,
            ordinal,
        };
        if len > 0 {
            back.latest.get_or_insert_default().0.insert(slot, place);
        }
        Ok(replaced)
    }

    /// Returns the frame queued in a slot, if no part of it was written.
    fn untouched(&self, slot: u32) -> Option<Place> {
        let place = *self.latest.as_ref()?.0.get(&slot)?;
        let begun = place.segment == self.first && place.start < self.offset;
        (place.segment >= self.first && !begun).then_some(place)
    }

    /// Removes the frame queued in a slot. Returns whether one was removed.
    fn take_out(&mut self, slot: u32) -> bool {
        let place = self.untouched(slot);
        let Some(latest) = &mut self.latest else {
            return false;
        };
        latest.0.remove(&slot);
        let Some(place) = place else {
            return false;
        };
        let index = (place.segment - self.first) as usize;
        let segment = match self.sealed.get_mut(index) {
            Some(Segment::Copied(bytes)) => bytes,
            Some(_) => return false,
            None => &mut self.tail,
        };
        segment.drain(place.start..place.start + place.len);
        let begun = if index == 0 { self.offset } else { 0 };
        let waits = segment.len() > begun;
        for other in latest.0.values_mut() {
            if other.segment == place.segment && other.start > place.start {
                other.start -=
                    place.len * usize::from(!mutated!("neighbour of a replaced frame not moved"));
            }
            if other.ordinal > place.ordinal {
                other.ordinal -= 1;
            }
        }
        self.bytes -= place.len as u64;
        self.unsent.remove(place.ordinal);
        if !waits {
            self.drop_segment(index);
        }
        true
    }

    /// Removes a segment that has no bytes left.
    fn drop_segment(&mut self, index: usize) {
        if index == self.sealed.len() {
            if index == 0 {
                self.clear_tail();
            }
        } else if index == 0 {
            self.drop_front();
            self.offset = 0;
        } else {
            self.sealed.remove(index);
            let removed = self.first + index as u64;
            let places = self
                .latest
                .iter_mut()
                .flat_map(|latest| latest.0.values_mut());
            for place in places.filter(|place| place.segment > removed) {
                place.segment -= 1;
            }
        }
    }

    /// Takes over the places of a queue that is appended to this one. Its first segment gets the serial number
    /// `segment`, its first frame the ordinal `ordinal`.
    pub(super) fn adopt_latest(&mut self, behind: &mut Self, segment: u64, ordinal: u64) {
        let Some(places) = behind.latest.take() else {
            return;
        };
        let (first, sent) = (
            behind.first,
            behind.unsent.next_ordinal() - behind.unsent.frames(),
        );
        let latest = &mut self.latest.get_or_insert_default().0;
        for (slot, place) in places.0 {
            latest.insert(
                slot,
                Place {
                    segment: place.segment - first + segment,
                    ordinal: place.ordinal - sent + ordinal,
                    ..place
                },
            );
        }
    }
}
