//! The first message of a client, judged before there is a session. A session takes kilobytes, and is not created for a
//! peer that sends something else, or stops halfway.

use rustls::{ContentType, Error, HandshakeType, InvalidMessage};

/// A record begins with its type, its version, and the length of the rest.
const HEADER: usize = 5;

/// Longer records are invalid, as for rustls.
const MAX_RECORD: usize = 16 * 1024 + 2048;

/// Longer messages are invalid, as for rustls.
const MAX_MESSAGE: usize = 0xffff;

/// The most bytes of a message that are collected. The session gets what is longer in pieces.
const MAX_COLLECTED: usize = 16 * 1024;

/// Returns whether the bytes contain a ClientHello, as far as their headers tell, or so much of one that the session is to
/// continue. `false` means that more bytes are needed.
///
/// # Errors
/// The error that rustls would return, as soon as it is certain.
pub(crate) fn has_client_hello(bytes: &[u8]) -> Result<bool, Error> {
    let mut rest = bytes;
    // The message may continue in further records.
    let (mut begin, mut arrived) = ([0; 4], 0);
    loop {
        check_record(rest)?;
        let [_, _, _, high, low, content @ ..] = rest else {
            return Ok(false);
        };
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        let (content, behind) = content.split_at(len.min(content.len()));
        for (place, byte) in begin.iter_mut().skip(arrived).zip(content) {
            *place = *byte;
        }
        arrived += content.len();
        let expected = check_message(&begin[..arrived.min(begin.len())])?;
        if content.len() < len {
            return Ok(bytes.len() >= MAX_COLLECTED);
        }
        if expected.is_some_and(|expected| arrived >= expected) {
            return Ok(true);
        }
        rest = behind;
    }
}

/// Checks the header of a record, as far as it has arrived.
fn check_record(header: &[u8]) -> Result<(), Error> {
    let content = header.first().map(|first| ContentType::from(*first));
    if let Some(ContentType::Unknown(_)) = content {
        return Err(InvalidMessage::InvalidContentType.into());
    }
    if header.get(1).is_some_and(|major| *major != 3) {
        return Err(InvalidMessage::UnknownProtocolVersion.into());
    }
    match header.get(3..HEADER) {
        Some([0, 0]) => return Err(InvalidMessage::InvalidEmptyPayload.into()),
        Some([high, low]) if usize::from(u16::from_be_bytes([*high, *low])) >= MAX_RECORD => {
            return Err(InvalidMessage::MessageTooLarge.into());
        }
        _ => {}
    }
    match content {
        Some(got_type) if got_type != ContentType::Handshake && header.len() >= HEADER => {
            Err(Error::InappropriateMessage {
                expect_types: vec![ContentType::Handshake],
                got_type,
            })
        }
        _ => Ok(()),
    }
}

/// Checks the first bytes of a handshake message. Returns its length with these bytes, once it is known.
fn check_message(begin: &[u8]) -> Result<Option<usize>, Error> {
    let got_type = begin.first().map(|first| HandshakeType::from(*first));
    if let Some(got_type) = got_type.filter(|it| *it != HandshakeType::ClientHello) {
        return Err(Error::InappropriateHandshakeMessage {
            expect_types: vec![HandshakeType::ClientHello],
            got_type,
        });
    }
    let [_, high, middle, low] = begin else {
        return Ok(None);
    };
    match u32::from_be_bytes([0, *high, *middle, *low]) as usize {
        len if len > MAX_MESSAGE => Err(InvalidMessage::HandshakePayloadTooLarge.into()),
        len => Ok(Some(begin.len() + len)),
    }
}

/// Returns the alert that tells the peer of an error.
pub(crate) fn alert(error: &Error) -> [u8; 7] {
    const ALERT: u8 = 21;
    const FATAL: u8 = 2;
    const UNEXPECTED_MESSAGE: u8 = 10;
    const DECODE_ERROR: u8 = 50;
    let description = match error {
        Error::InvalidMessage(_) => DECODE_ERROR,
        _ => UNEXPECTED_MESSAGE,
    };
    [ALERT, 3, 3, 0, 2, FATAL, description]
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use rustls::server::Acceptor;

    const LEN: usize = 700;

    fn record(content: &[u8]) -> Vec<u8> {
        let mut record = vec![22, 3, 1];
        record.extend((content.len() as u16).to_be_bytes());
        record.extend(content);
        record
    }

    /// A message with the type and the length of a ClientHello.
    fn message(len: usize) -> Vec<u8> {
        let mut message = (1 << 24 | len as u32).to_be_bytes().to_vec();
        message.resize(4 + len, 7);
        message
    }

    /// What rustls says, and the alert that it sends, if any.
    fn rustls(mut bytes: &[u8]) -> Option<(Error, Vec<u8>)> {
        let mut acceptor = Acceptor::default();
        let mut alert = Vec::new();
        while !bytes.is_empty() {
            acceptor.read_tls(&mut bytes).expect("room");
            if let Err((error, mut accepted)) = acceptor.accept() {
                accepted.write_all(&mut alert).expect("room");
                return Some((error, alert));
            }
        }
        None
    }

    #[test]
    fn client_hello_is_complete_with_its_last_byte_however_it_is_split_into_records() {
        let message = message(LEN);
        for piece in [1, 2, 3, 4, 5, 100, LEN + 3, LEN + 4] {
            let records: Vec<_> = message.chunks(piece).flat_map(record).collect();
            for len in 0..records.len() {
                assert_eq!(
                    has_client_hello(&records[..len]),
                    Ok(false),
                    "{piece}: {len}"
                );
            }
            assert_eq!(has_client_hello(&records), Ok(true), "{piece}");
            let more = [&records[..], b"more"].concat();
            assert_eq!(has_client_hello(&more), Ok(true), "{piece}");
        }
    }

    #[test]
    fn record_that_continues_behind_the_message_is_awaited() {
        let bytes = record(&[message(LEN), message(LEN)].concat());
        for len in 0..bytes.len() {
            assert_eq!(has_client_hello(&bytes[..len]), Ok(false), "{len}");
        }
        assert_eq!(has_client_hello(&bytes), Ok(true));
    }

    #[test]
    fn no_more_than_a_record_is_collected_of_a_long_message() {
        let records: Vec<_> = message(MAX_MESSAGE).chunks(1000).flat_map(record).collect();
        assert_eq!(has_client_hello(&records[..MAX_COLLECTED - 1]), Ok(false));
        assert_eq!(has_client_hello(&records[..MAX_COLLECTED]), Ok(true));
    }

    #[test]
    fn wrong_header_fails_with_its_decisive_byte_as_in_rustls() {
        let decided_at = [
            (1, &b"GET / HTTP/1.1\r\n"[..]),
            (1, b"\x80\x2e\x01\x03\x01"),
            (1, b"\0\0\0\0\0"),
            (2, b"\x16\x02\x00\x01\x00\x01"),
            (2, b"\x17\xff\x03\x00\x01\x00"),
            (5, b"\x16\x03\x01\0\0"),
            (5, b"\x16\x03\x01\x48\0"),
            (5, b"\x16\x03\x01\xff\xff"),
            (9, b"\x16\x03\x01\0\x04\x01\x01\0\0"),
        ];
        for (decisive, bytes) in decided_at {
            assert_eq!(
                has_client_hello(&bytes[..decisive - 1]),
                Ok(false),
                "{bytes:?}"
            );
            let found = has_client_hello(&bytes[..decisive]).expect_err("it is decided");
            let (expected, alert_of_rustls) = rustls(bytes).expect("rustls rejects it");
            assert_eq!(found, expected, "{bytes:?}");
            assert_eq!(alert(&found), [21, 3, 3, 0, 2, 2, 50]);
            let is_same = alert_of_rustls.is_empty() || alert_of_rustls == alert(&found);
            assert!(is_same, "{bytes:?}");
        }
    }

    #[test]
    fn longest_valid_record_and_all_minor_versions_are_accepted() {
        for minor in 0..=255 {
            let header = [22, 3, minor, 0x47, 0xff, 1];
            assert_eq!(has_client_hello(&header), Ok(false));
            assert_eq!(rustls(&header), None);
        }
    }

    #[test]
    fn other_messages_fail_as_in_rustls_without_being_awaited() {
        // Complete, for rustls: a ChangeCipherSpec, application data, and a ServerHelloDone.
        for (decisive, bytes) in [
            (5, &b"\x14\x03\x03\0\x01\x01"[..]),
            (5, b"\x17\x03\x03\0\x01x"),
            (6, b"\x16\x03\x03\0\x04\x0e\0\0\0"),
        ] {
            assert_eq!(
                has_client_hello(&bytes[..decisive - 1]),
                Ok(false),
                "{bytes:?}"
            );
            let found = has_client_hello(&bytes[..decisive]).expect_err("it is decided");
            let (expected, _) = rustls(bytes).expect("rustls rejects it");
            let kind = std::mem::discriminant(&found);
            assert_eq!(
                kind,
                std::mem::discriminant(&expected),
                "{found} {expected}"
            );
            assert_eq!(alert(&found), [21, 3, 3, 0, 2, 2, 10]);
        }
        // rustls reports the alert itself.
        assert!(has_client_hello(b"\x15\x03\x03\0\x02\x01\0").is_err());
    }
}
