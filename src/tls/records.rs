//! The boundaries of TLS records in a stream of ciphertext.

/// A record begins with its type, its version, and the length of the rest.
const HEADER: usize = 5;

/// Follows a stream of records, to know how much of an incomplete one has arrived.
#[derive(Debug, Default)]
pub(super) struct Records {
    /// The bytes of the incomplete record that have arrived.
    arrived: usize,
    /// The length of its content, as far as it has arrived.
    len: usize,
}

impl Records {
    /// Returns the bytes that have arrived of an incomplete record; zero between two records.
    pub(super) fn incomplete(&self) -> usize {
        self.arrived
    }

    pub(super) fn pass(&mut self, mut bytes: &[u8]) {
        while let [first, rest @ ..] = bytes {
            if self.arrived < HEADER {
                if self.arrived + 2 >= HEADER {
                    self.len = self.len << 8 | usize::from(*first);
                }
                self.arrived += 1;
                bytes = rest;
            } else {
                let taken = bytes.len().min(HEADER + self.len - self.arrived);
                self.arrived += taken;
                bytes = &bytes[taken..];
            }
            if self.arrived >= HEADER && self.arrived == HEADER + self.len {
                *self = Self::default();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(len: u16) -> Vec<u8> {
        let mut record = vec![23, 3, 3];
        record.extend(len.to_be_bytes());
        record.resize(HEADER + usize::from(len), 7);
        record
    }

    #[test]
    fn incomplete_record_is_measured_however_the_stream_is_split() {
        let stream = [record(3), record(0), record(700)].concat();
        let starts = [0, 8, 13, stream.len()];
        for piece in [1, 2, 3, 7, 100, stream.len()] {
            let mut records = Records::default();
            let mut passed = 0;
            for bytes in stream.chunks(piece) {
                records.pass(bytes);
                passed += bytes.len();
                let start = starts.iter().rfind(|start| **start <= passed);
                let expected = passed - start.expect("0 is a start");
                assert_eq!(records.incomplete(), expected, "{passed} by {piece}");
            }
        }
    }
}
