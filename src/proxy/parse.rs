//! The parser of PROXY headers, versions 1 and 2, as [specified by HAProxy].
//!
//! It never asks for more bytes than belong to the header, so what follows stays in the socket: the first frame, or the
//! first message of a TLS handshake.
//!
//! [specified by HAProxy]: https://www.haproxy.org/download/2.6/doc/proxy-protocol.txt

use std::fmt;
use std::net::SocketAddr;

use proxy_header::{ParseConfig, ProxyHeader};

use crate::error::FirstBytes;

/// The longest header that is accepted, in bytes. Proxies send some hundred bytes at most.
const MAX_LEN: usize = 4096;

/// The beginning of version 1, which is a line of text.
const V1: &[u8] = b"PROXY ";
/// The shortest header: `PROXY UNKNOWN`.
const V1_SHORTEST: usize = 15;
const V1_LONGEST: usize = 107;
/// Spaces in a line with addresses: after the name, the family, two addresses and the first port.
const V1_SPACES: usize = 5;

/// The beginning of version 2. Command, family and the length of the rest follow, in four bytes.
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const V2_FIXED: usize = 16;

/// The side that opened the connection, according to a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sender {
    /// A client with this address, for which the proxy has opened the connection.
    Client(SocketAddr),
    /// A client whose address the proxy does not know, or that has none.
    Unknown,
    /// The proxy itself, for example to check whether the server is reachable.
    Proxy,
}

/// How far a header has been read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// At least this many bytes of the header are missing. More than zero.
    Needs(usize),
    /// The header is complete, and nothing follows it.
    Complete(Sender),
}

/// Why bytes are not the beginning of an acceptable header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Invalid {
    Malformed(FirstBytes),
    TooLong { len: usize },
    Datagram,
    TooShort { len: usize, min: usize },
}

/// Parses the part of a header that was read. No more bytes may have been read than [`Progress::Needs`] asked for.
pub(crate) fn parse(header: &[u8]) -> Result<Progress, Invalid> {
    match header.first() {
        None => Ok(Progress::Needs(V1_SHORTEST)),
        Some(first) if *first == V1[0] => parse_v1(header),
        Some(_) => parse_v2(header),
    }
}

fn parse_v1(line: &[u8]) -> Result<Progress, Invalid> {
    expect_beginning(line, V1)?;
    if line.len() < V1_SHORTEST {
        return Ok(Progress::Needs(V1_SHORTEST - line.len()));
    }
    if line.ends_with(b"\r\n") {
        return decode(line);
    }
    // One character and a separator for each further field, then the end of the line.
    let spaces = line.iter().filter(|byte| **byte == b' ').count();
    let fields = match line.starts_with(b"PROXY UNKNOWN") {
        false => V1_SPACES.saturating_sub(spaces),
        true => 0,
    };
    let missing = 2 * fields + if line.ends_with(b"\r") { 1 } else { 2 };
    match V1_LONGEST.checked_sub(line.len()) {
        None | Some(0) => Err(malformed(line)),
        Some(left) => Ok(Progress::Needs(missing.min(left))),
    }
}

fn parse_v2(header: &[u8]) -> Result<Progress, Invalid> {
    expect_beginning(header, V2)?;
    let Some((fixed, rest)) = header.split_first_chunk::<V2_FIXED>() else {
        return Ok(Progress::Needs(V2_FIXED - header.len()));
    };
    let [.., command, family, high, low] = *fixed;
    let len = usize::from(u16::from_be_bytes([high, low]));
    // Both addresses and ports; attributes follow.
    let min = match (command, family) {
        // The address block is skipped, whatever it contains.
        (0x20, _) | (0x21, 0x00) => 0,
        (0x21, 0x11) => 12,
        (0x21, 0x21) => 36,
        (0x21, 0x31) => 216,
        (0x21, 0x12 | 0x22 | 0x32) => return Err(Invalid::Datagram),
        _ => return Err(malformed(&header[V2.len()..])),
    };
    if len < min {
        return Err(Invalid::TooShort { len, min });
    }
    if V2_FIXED + len > MAX_LEN {
        let len = V2_FIXED + len;
        return Err(Invalid::TooLong { len });
    }
    match len.checked_sub(rest.len()) {
        Some(0) | None if command == 0x20 => Ok(Progress::Complete(Sender::Proxy)),
        Some(0) | None => decode(header),
        Some(missing) => Ok(Progress::Needs(missing)),
    }
}

/// Decodes the addresses of a header that is complete.
fn decode(header: &[u8]) -> Result<Progress, Invalid> {
    let config = ParseConfig {
        include_tlvs: false,
        ..ParseConfig::default()
    };
    match ProxyHeader::parse(header, config) {
        Ok((parsed, len)) if len == header.len() => {
            let sender = match parsed.proxied_address() {
                Some(addresses) => {
                    let (ip, port) = (addresses.source.ip(), addresses.source.port());
                    Sender::Client(SocketAddr::new(ip.to_canonical(), port))
                }
                None => Sender::Unknown,
            };
            Ok(Progress::Complete(sender))
        }
        _ => Err(malformed(header)),
    }
}

/// Checks as much of the beginning as has been read.
fn expect_beginning(header: &[u8], beginning: &[u8]) -> Result<(), Invalid> {
    let len = header.len().min(beginning.len());
    match header[..len] == beginning[..len] {
        true => Ok(()),
        false => Err(malformed(header)),
    }
}

fn malformed(bytes: &[u8]) -> Invalid {
    Invalid::Malformed(FirstBytes::of(bytes))
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(bytes) => write!(f, "the PROXY header is malformed: {bytes}"),
            Self::TooLong { len } => write!(
                f,
                "the PROXY header has {len} bytes, and the limit is {MAX_LEN}"
            ),
            Self::Datagram => f.write_str("the PROXY header is one of a datagram protocol"),
            Self::TooShort { len, min } => write!(
                f,
                "the addresses in the PROXY header have {len} bytes, and their family needs {min}"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn client(addr: &str) -> Sender {
        Sender::Client(addr.parse().expect("an address"))
    }

    /// Headers as HAProxy 2.6 sends them, and the sender that they name.
    fn captured() -> Vec<(Vec<u8>, Sender)> {
        let v2 = |rest: &[u8]| [V2, rest].concat();
        let v6 = |first: &[u8], last: &[u8]| [first, &[0; 15], &[1], &[0; 15], &[1], last].concat();
        vec![
            (
                b"PROXY TCP4 127.0.0.1 127.0.0.1 33346 34003\r\n".into(),
                client("127.0.0.1:33346"),
            ),
            (
                b"PROXY TCP6 ::1 ::1 59192 34003\r\n".into(),
                client("[::1]:59192"),
            ),
            (b"PROXY UNKNOWN\r\n".into(), Sender::Unknown),
            (
                v2(b"!\x11\x00\x0c\x7f\x00\x00\x01\x7f\x00\x00\x01\x8c\xea\xd5;"),
                client("127.0.0.1:36074"),
            ),
            (v2(&v6(b"!!\x00$", b"\xd2\x06\xd5;")), client("[::1]:53766")),
            // A health check.
            (v2(b" \x00\x00\x00"), Sender::Proxy),
            // A client that uses TLS.
            (
                v2(b"!\x11\x00#\x7f\x00\x00\x01\x7f\x00\x00\x01\xe8Z\xed\t\x01\x00\x02h2 \x00\x0f\x01\x00\x00\x00\x00\
                     !\x00\x07TLSv1.3"),
                client("127.0.0.1:59482"),
            ),
            // The same, with all options.
            (
                v2(b"!\x11\x00\x94\x7f\x00\x00\x01\x7f\x00\x00\x01\xcd\xbe\xb4\x8b\x03\x00\x04\x02\x0e\xd79\x01\x00\x02h2\
                     \x02\x00\x10game.example.org\x05\x00$34d338f7-a4a8-48af-a039-61895ef3fa19 \x00?\x01\x00\x00\x00\x00\
                     !\x00\x07TLSv1.3%\x00\x07RSA2048$\x00\nRSA-SHA256#\x00\x16TLS_AES_256_GCM_SHA384"),
                client("127.0.0.1:52670"),
            ),
        ]
    }

    /// Headers that the specification allows and HAProxy 2.6 does not send.
    fn specified() -> Vec<(Vec<u8>, Sender)> {
        let v2 = |rest: &[u8]| [V2, rest].concat();
        let longest = "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff \
                       ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
        assert_eq!(longest.len(), V1_LONGEST);
        let full = [b"!\x11\x0f\xf0".as_slice(), &[7; 4080]].concat();
        assert_eq!(V2.len() + full.len(), MAX_LEN);
        vec![
            (longest.into(), Sender::Unknown),
            (
                b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n".into(),
                client("0.0.0.0:0"),
            ),
            (
                longest.replace("UNKNOWN", "TCP6").into(),
                client("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"),
            ),
            (
                b"PROXY TCP6 ::ffff:192.0.2.1 ::1 80 80\r\n".into(),
                client("192.0.2.1:80"),
            ),
            // A health check with the addresses of the proxy, and one of an unknown family.
            (
                v2(b" \x11\x00\x0c\x7f\x00\x00\x01\x7f\x00\x00\x01\x8c\xea\xd5;"),
                Sender::Proxy,
            ),
            (v2(b" \xff\x00\x02??"), Sender::Proxy),
            // The family is not specified, or that of Unix domain sockets.
            (v2(b"!\x00\x00\x03???"), Sender::Unknown),
            (
                v2(&[b"!\x31\x00\xd8".as_slice(), &[b'/'; 216]].concat()),
                Sender::Unknown,
            ),
            (v2(&full), client("7.7.7.7:1799")),
        ]
    }

    fn all() -> Vec<(Vec<u8>, Sender)> {
        [captured(), specified()].concat()
    }

    /// Reads a header from bytes that arrive in pieces, as a socket is read. Returns the result of the parser, and the
    /// bytes after the header.
    fn read(pieces: &[&[u8]]) -> Result<(Sender, Vec<u8>), Invalid> {
        let (mut header, mut arrived) = (Vec::new(), Vec::new());
        let mut pieces = pieces.iter();
        loop {
            match parse(&header)? {
                Progress::Complete(sender) => {
                    arrived.extend(pieces.copied().flatten());
                    return Ok((sender, arrived));
                }
                Progress::Needs(0) => panic!("nothing is missing, and it is not complete"),
                Progress::Needs(missing) => {
                    if arrived.is_empty() {
                        arrived.extend(*pieces.next().expect("the header is complete by now"));
                    }
                    header.extend(arrived.drain(..missing.min(arrived.len())));
                }
            }
        }
    }

    #[test]
    fn header_is_read_to_its_end_however_it_is_split() {
        let frame = b"the first frame";
        for (header, sender) in all() {
            let bytes = [&header, frame.as_slice()].concat();
            for split in 0..=bytes.len() {
                let (first, second) = bytes.split_at(split);
                let expected = Ok((sender, frame.to_vec()));
                assert_eq!(read(&[first, second]), expected, "{split} {header:?}");
            }
            let bytewise: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(read(&bytewise), Ok((sender, frame.to_vec())));
        }
    }

    #[test]
    fn incomplete_header_is_neither_accepted_nor_refused() {
        for (header, _) in all() {
            for len in 0..header.len() {
                let progress = parse(&header[..len]);
                let missing = header.len() - len;
                assert!(
                    matches!(progress, Ok(Progress::Needs(needs)) if (1..=missing).contains(&needs)),
                    "{progress:?} after {len} bytes of {header:?}"
                );
            }
        }
    }

    #[test]
    fn bytes_that_no_header_begins_with_are_refused_at_once() {
        for bytes in [
            "G",
            "GET / HTTP",
            "POST /",
            "PROXZ",
            "PROXY\t",
            "\n",
            "\r\n\r\nGET",
            "\0",
        ] {
            let first_bytes = FirstBytes::of(bytes.as_bytes());
            assert_eq!(
                parse(bytes.as_bytes()),
                Err(Invalid::Malformed(first_bytes))
            );
        }
    }

    #[test]
    fn invalid_line_is_refused() {
        for line in [
            "PROXY TCP4 127.0.0.1 127.0.0.1 1 65536\r\n",
            "PROXY TCP4 127.0.0.1 127.0.0.1 -1 1\r\n",
            "PROXY TCP4 127.0.0.1 127.0.0.1  1 1\r\n",
            "PROXY TCP4 127.0.0.1 127.0.0.1 1 1 1\r\n",
            "PROXY TCP4 127.0.0.1 127.0.0.1 1\r\n",
            "PROXY TCP4 ::1 127.0.0.1 1 1\r\n",
            "PROXY TCP4 127.0.0.999 127.0.0.1 1 1\r\n",
            "PROXY TCP4 example.org 127.0.0.1 1 1\r\n",
            "PROXY TCP6 127.0.0.1 ::1 1 1\r\n",
            "PROXY TCP6 fe80::1%eth0 ::1 1 1\r\n",
            "PROXY TCP6 [::1] ::1 1 1\r\n",
            "PROXY TCP5 127.0.0.1 127.0.0.1 1 1\r\n",
            "PROXY UDP4 127.0.0.1 127.0.0.1 1 1\r\n",
            "PROXY  TCP4 127.0.0.1 127.0.0.1 1 1\r\n",
            "PROXY TCP4 127.0.0.1 127.0.0.1 1 1\r\r\n",
        ] {
            let result = read(&[line.as_bytes()]);
            assert!(
                matches!(result, Err(Invalid::Malformed(_))),
                "{result:?} {line:?}"
            );
        }
    }

    #[test]
    fn line_that_does_not_end_is_refused_after_107_bytes() {
        for line in ["PROXY UNKNOWN ", "PROXY TCP4 127.0.0.1 "] {
            let endless = line.to_owned() + &"x".repeat(V1_LONGEST);
            let endless = &endless.as_bytes()[..V1_LONGEST];
            assert!(matches!(
                parse(&endless[..V1_LONGEST - 1]),
                Ok(Progress::Needs(1))
            ));
            assert!(matches!(parse(endless), Err(Invalid::Malformed(_))));
        }
    }

    #[test]
    fn block_that_is_too_short_for_its_family_is_refused() {
        for (family, min) in [(0x11, 12), (0x21, 36), (0x31, 216)] {
            for len in [0, 1, min - 1] {
                let fixed = [0x21, family, 0, len as u8];
                let expected = Err(Invalid::TooShort { len, min });
                assert_eq!(parse(&[V2, &fixed].concat()), expected);
            }
        }
    }

    #[test]
    fn block_that_is_too_long_is_refused_before_it_arrives() {
        let long = [V2, b"!\x11\x0f\xf1"].concat();
        assert_eq!(parse(&long), Err(Invalid::TooLong { len: 4097 }));
        let longest = [V2, b" \x00\xff\xff"].concat();
        assert_eq!(parse(&longest), Err(Invalid::TooLong { len: 65_551 }));
    }

    #[test]
    fn datagram_protocol_is_refused() {
        for family in [0x12, 0x22, 0x32] {
            let header = [V2, &[0x21, family, 0, 216]].concat();
            assert_eq!(parse(&header), Err(Invalid::Datagram));
        }
    }

    #[test]
    fn unknown_version_command_or_family_is_refused() {
        for (command, family) in [
            (0x11, 0x11),
            (0x22, 0x11),
            (0x2f, 0),
            (0x21, 0x01),
            (0x21, 0x41),
        ] {
            let header = [V2, &[command, family, 0, 216]].concat();
            let first_bytes = FirstBytes::of(&[command, family, 0, 216]);
            assert_eq!(parse(&header), Err(Invalid::Malformed(first_bytes)));
        }
    }

    proptest! {
        /// For any input the parser ends within the limit, and never asks for bytes that do not belong to the header.
        #[test]
        fn any_bytes_come_to_an_end(
            beginning in prop::sample::select(vec![Vec::new(), V1.to_vec(), b"PROXY TCP4 ".to_vec(), [V2, b"!"].concat()]),
            rest in prop::collection::vec(any::<u8>(), 5000),
        ) {
            let bytes = [beginning, rest].concat();
            let mut read = 0;
            while let Ok(Progress::Needs(missing)) = parse(&bytes[..read]) {
                prop_assert!(missing > 0);
                read += missing;
                prop_assert!(read <= MAX_LEN);
            }
        }
    }
}
