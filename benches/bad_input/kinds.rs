//! The kinds of peers: how the loop listens, what they send, and what ends them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig};
use throng::{
    Admission, Config, ConnectionId, Excess, Frame, Framing, Handler, IpNetwork, ListenOptions,
    ListenerId, Net, ProxyHeader, ProxyProtocol,
};

use crate::Problem;

/// The time after which a silent peer is ended.
const PATIENCE: Duration = Duration::from_millis(20);

/// The first twelve bytes of a PROXY header, version 2.
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// What a peer sends.
pub(crate) enum Sends {
    Bytes(Vec<u8>),
    /// Followed by a FIN.
    Last(Vec<u8>),
}

pub(crate) struct Kind {
    pub(crate) name: &'static str,
    /// Peers that are compared with each other.
    pub(crate) group: &'static str,
    pub(crate) config: Config,
    pub(crate) listening: ListenOptions,
    pub(crate) gate: Gate,
    /// Another connection comes first, and stays.
    pub(crate) has_company: bool,
    pub(crate) sends: Sends,
}

/// Admits peers or not, and aborts those that send a frame or not.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Gate {
    refuses: bool,
    aborts: bool,
}

impl Handler for Gate {
    fn on_accept(&mut self, _: &mut Net, _: ListenerId, _: Option<SocketAddr>) -> Admission {
        match self.refuses {
            true => Admission::Refuse,
            false => Admission::Admit,
        }
    }

    fn on_data(&mut self, net: &mut Net, id: ConnectionId, _: Frame<'_>) {
        if self.aborts {
            net.abort(id);
        }
    }
}

fn kind(group: &'static str, name: &'static str, bytes: &[u8]) -> Kind {
    Kind {
        name,
        group,
        config: Config::default(),
        listening: ListenOptions::default(),
        gate: Gate::default(),
        has_company: false,
        sends: Sends::Bytes(bytes.to_vec()),
    }
}

/// Returns all kinds. The first of each group are those with which the others are compared.
pub(crate) fn all() -> Result<Vec<Kind>, Problem> {
    let mut kinds = refused();
    kinds.extend(plain());
    kinds.extend(proxied());
    kinds.extend(secured()?);
    Ok(kinds)
}

fn refused() -> Vec<Kind> {
    let with = |name, config: Config| Kind {
        config,
        has_company: true,
        ..kind("refused", name, b"")
    };
    let hasty = Config::default().max_accepts_per_second_per_ip(1);
    vec![
        with("full", Config::default().max_connections(1)),
        with("per address", Config::default().max_connections_per_ip(1)),
        Kind {
            // Now and then one is admitted.
            sends: Sends::Last(Vec::new()),
            ..with("accepts per second", hasty)
        },
        Kind {
            gate: Gate {
                refuses: true,
                ..Gate::default()
            },
            ..kind("refused", "on_accept", b"")
        },
    ]
}

fn plain() -> Vec<Kind> {
    let framed = |frames: usize| b"\x01\0\0\0x".repeat(frames);
    let limited = |name, config: Config, frames| Kind {
        config: config.excess(Excess::Disconnect),
        ..kind("plain", name, &framed(frames))
    };
    vec![
        Kind {
            sends: Sends::Last(Vec::new()),
            ..kind("plain", "nothing, then FIN", b"")
        },
        Kind {
            gate: Gate {
                aborts: true,
                ..Gate::default()
            },
            ..kind("plain", "a frame, then aborted", &framed(1))
        },
        Kind {
            listening: ListenOptions::default().max_frame_len(1000),
            ..kind("plain", "frame too long", b"\xff\xff\xff\xffGET /")
        },
        Kind {
            listening: ListenOptions::default().framing(Framing::varint()),
            ..kind("plain", "varint too long", &[0xff; 12])
        },
        Kind {
            listening: ListenOptions::default()
                .framing(Framing::lines())
                .max_frame_len(100),
            ..kind("plain", "line too long", &[b'x'; 200])
        },
        limited(
            "frames per second",
            Config::default().max_frames_per_second(1),
            10,
        ),
        limited(
            "bytes per second",
            Config::default().max_bytes_per_second(10),
            10,
        ),
    ]
}

fn proxied() -> Vec<Kind> {
    let all: IpNetwork = "127.0.0.0/8".parse().expect("a network");
    let protocol = || ProxyProtocol::trusting([all]);
    let with = |name, bytes: &[u8]| Kind {
        listening: ListenOptions::default().proxy_protocol(protocol()),
        ..kind("behind a proxy", name, bytes)
    };
    let v2 = |rest: &[u8]| [V2, rest].concat();
    let (client, server) = (([192, 0, 2, 1], 1234).into(), ([192, 0, 2, 2], 80).into());
    let valid = ProxyHeader::v2(client, server);
    let valid_v1 = b"PROXY TCP4 192.0.2.1 192.0.2.2 1234 80\r\n";
    let refusing = |kind| Kind {
        gate: Gate {
            refuses: true,
            ..Gate::default()
        },
        ..kind
    };
    vec![
        refusing(with(
            "valid header of version 2, on_accept refuses",
            valid.as_bytes(),
        )),
        refusing(with(
            "valid header of version 1, on_accept refuses",
            valid_v1,
        )),
        with("LOCAL", &v2(b"\x20\0\0\0")),
        with(
            "not a header",
            b"GET / HTTP/1.1\r\nHost: game.example\r\n\r\n",
        ),
        with("malformed", b"PROXY TCP4 192.0.2.1 nonsense 1 2\r\n"),
        with("too long", &v2(b"\x21\x11\x20\0")),
        with("datagram", &v2(b"\x21\x12\0\x0c0123456789ab")),
        with("block too short", &v2(b"\x21\x11\0\x040123")),
        Kind {
            sends: Sends::Last(v2(b"\x21")),
            ..with("half a header, then FIN", b"")
        },
        Kind {
            listening: ListenOptions::default().proxy_protocol(protocol().header_timeout(PATIENCE)),
            ..with("half a header, then silence", &v2(b"\x21"))
        },
    ]
}

fn secured() -> Result<Vec<Kind>, Problem> {
    let name = "game.example";
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()])?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let config = ServerConfig::builder().with_no_client_auth();
    let config = Arc::new(config.with_single_cert(vec![made.cert.der().clone()], key)?);
    let client = ClientConfig::builder().with_root_certificates(RootCertStore::empty());
    let client = client.with_no_client_auth();
    let mut client = ClientConnection::new(Arc::new(client), name.try_into()?)?;
    let mut hello = Vec::new();
    client.write_tls(&mut hello)?;
    let with = |name, bytes: &[u8]| Kind {
        listening: ListenOptions::default().tls(Arc::clone(&config)),
        ..kind("TLS", name, bytes)
    };
    let garbled = {
        let mut bytes = hello.clone();
        // The lengths stay, the content is nonsense.
        bytes[9..].fill(0xa5);
        bytes
    };
    let half = &hello[..hello.len() / 2];
    Ok(vec![
        Kind {
            sends: Sends::Last(Vec::new()),
            ..with("nothing, then FIN to TLS", b"")
        },
        with("HTTP", b"GET / HTTP/1.1\r\nHost: game.example\r\n\r\n"),
        with("another version", b"\x16\x02\0\0\x10\x01\0\0\x0c"),
        with(
            "another message",
            b"\x16\x03\x01\0\x10\x02\0\0\x0c0123456789ab",
        ),
        Kind {
            sends: Sends::Last(half.to_vec()),
            ..with("half a ClientHello, then FIN", b"")
        },
        Kind {
            listening: ListenOptions::default()
                .tls(Arc::clone(&config))
                .handshake_timeout(PATIENCE),
            ..with("half a ClientHello, then silence", half)
        },
        with("garbled ClientHello", &garbled),
        Kind {
            sends: Sends::Last(hello.clone()),
            ..with("a ClientHello, then FIN", b"")
        },
    ])
}
