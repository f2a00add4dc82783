//! TLS peers, with certificates that are made for the test.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::thread;

use rcgen::{CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned,
    SupportedProtocolVersion,
};
use throng::{Config, ListenOptions};

use super::by_hand::Loop;
use super::scene::Scene;
use super::{Observer, Peer, framed};

/// The name in the certificate of the server.
pub const NAME: &str = "game.example";

/// A certificate authority, and what it has signed.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key.
pub struct Identity {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Identity {
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.certificate.der().clone()]
    }

    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }
}

impl Authority {
    /// The authority that all peers of this process trust.
    pub fn of_all() -> &'static Self {
        static AUTHORITY: OnceLock<Authority> = OnceLock::new();
        AUTHORITY.get_or_init(Self::new)
    }

    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("valid names");
        params.distinguished_name = named("the authority of the tests");
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("randomness");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a valid certificate");
        Self { issuer }
    }

    pub fn sign(&self, name: &str) -> Identity {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a valid name");
        params.distinguished_name = named(name);
        let key = KeyPair::generate().expect("randomness");
        let certificate = params.signed_by(&key, &self.issuer);
        let certificate = certificate.expect("a valid certificate");
        Identity { certificate, key }
    }

    pub fn certificate(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }

    pub fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        let own = self.issuer.der().clone();
        roots.add(own).expect("a valid certificate");
        roots
    }

    pub fn server(&self) -> ServerConfig {
        let identity = self.sign(NAME);
        let config = ServerConfig::builder().with_no_client_auth();
        let config = config.with_single_cert(identity.chain(), identity.key());
        config.expect("the key belongs to the certificate")
    }

    /// A server that asks its clients for a certificate.
    pub fn strict_server(&self) -> ServerConfig {
        let identity = self.sign(NAME);
        let verifier = WebPkiClientVerifier::builder(Arc::new(self.roots())).build();
        let verifier = verifier.expect("there is a root");
        let config = ServerConfig::builder().with_client_cert_verifier(verifier);
        let config = config.with_single_cert(identity.chain(), identity.key());
        config.expect("the key belongs to the certificate")
    }

    pub fn client(&self) -> ClientConfig {
        self.client_of(rustls::ALL_VERSIONS)
    }

    pub fn client_of(&self, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
        ClientConfig::builder_with_protocol_versions(versions)
            .with_root_certificates(self.roots())
            .with_no_client_auth()
    }

    /// A client with a certificate.
    pub fn known_client(&self, name: &str) -> ClientConfig {
        let identity = self.sign(name);
        let config = ClientConfig::builder().with_root_certificates(self.roots());
        let config = config.with_client_auth_cert(identity.chain(), identity.key());
        config.expect("the key belongs to the certificate")
    }
}

/// A certificate's own name. OpenSSL takes two certificates of the same name for one.
fn named(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

/// Options of a listener with TLS.
pub fn secured() -> ListenOptions {
    ListenOptions::default().tls(Arc::new(Authority::of_all().server()))
}

/// A client that trusts the listeners with TLS.
pub fn client() -> ClientConnection {
    let config = Arc::new(Authority::of_all().client());
    client_with(config)
}

pub fn client_with(config: Arc<ClientConfig>) -> ClientConnection {
    let name = NAME.try_into().expect("a valid name");
    ClientConnection::new(config, name).expect("a valid configuration")
}

/// A blocking peer with TLS.
pub struct SecurePeer {
    pub tls: StreamOwned<ClientConnection, TcpStream>,
    /// It sends its bytes one by one.
    pub trickles: bool,
}

impl SecurePeer {
    /// Connects. The handshake takes place on a thread of its own: the loop may be on this one.
    pub fn connect(addr: SocketAddr, client: ClientConnection) -> thread::JoinHandle<Self> {
        thread::spawn(move || {
            let mut peer = Self::new(addr, client);
            peer.handshake();
            peer
        })
    }

    pub fn new(addr: SocketAddr, client: ClientConnection) -> Self {
        let stream = Peer::connect(addr).0;
        Self {
            tls: StreamOwned::new(client, stream),
            trickles: false,
        }
    }

    pub fn handshake(&mut self) {
        self.tls
            .conn
            .complete_io(&mut self.tls.sock)
            .expect("a handshake");
        while self.tls.conn.wants_write() {
            self.tls
                .conn
                .write_tls(&mut self.tls.sock)
                .expect("to write");
        }
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.tls.write_all(bytes).expect("to write");
        self.tls.flush().expect("to write");
    }

    /// Returns the record of a frame with the default framing, which is not sent.
    pub fn record(&mut self, payload: &[u8]) -> Vec<u8> {
        let mut wire = Vec::new();
        let written = self.tls.conn.writer().write_all(&framed(payload));
        written.expect("room");
        self.tls.conn.write_tls(&mut wire).expect("to write");
        wire
    }

    /// Sends a frame with the default framing.
    pub fn send(&mut self, payload: &[u8]) {
        self.write(&framed(payload));
    }

    pub fn try_receive(&mut self) -> io::Result<Vec<u8>> {
        let mut header = [0; 4];
        self.tls.read_exact(&mut header)?;
        let mut payload = vec![0; u32::from_le_bytes(header) as usize];
        self.tls.read_exact(&mut payload)?;
        Ok(payload)
    }

    /// Receives a frame with the default framing.
    pub fn receive(&mut self) -> Vec<u8> {
        self.try_receive().expect("a frame")
    }

    /// Waits for a close_notify and for the EOF behind it. Fails if a byte arrives before.
    #[track_caller]
    pub fn expect_end(&mut self) {
        let mut rest = Vec::new();
        self.tls.read_to_end(&mut rest).expect("a clean end");
        assert_eq!(rest, b"", "the stream goes on");
        let after = self.tls.sock.read(&mut [0; 100]).expect("a FIN");
        assert_eq!(after, 0, "bytes after a close_notify");
    }

    /// Waits until the connection is reset.
    #[track_caller]
    pub fn expect_reset(&mut self) {
        let error = self
            .tls
            .sock
            .read_to_end(&mut Vec::new())
            .expect_err("a reset");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    /// Sends a close_notify, without a FIN.
    pub fn close_notify(&mut self) {
        self.tls.conn.send_close_notify();
        self.tls.flush().expect("to write");
    }

    /// Sends a close_notify, and a FIN.
    pub fn half_close(&mut self) {
        self.close_notify();
        self.cut();
    }

    /// Sends a FIN without a close_notify.
    pub fn cut(&self) {
        self.tls
            .sock
            .shutdown(Shutdown::Write)
            .expect("a live socket");
    }
}

impl<H: Observer + Default> Scene<H, SecurePeer> {
    /// A loop with one connection, which has TLS.
    pub fn secured(config: Config, options: ListenOptions) -> Self {
        Self::secured_by(config, options, client())
    }

    pub fn secured_by(config: Config, options: ListenOptions, client: ClientConnection) -> Self {
        let mut looped = Loop::new(config);
        let mut seen = H::default();
        let addr = looped.listen_with(options);
        let peer = join_by(&mut looped, &mut seen, addr, client);
        let id = seen.recorder().connected()[0];
        Self {
            looped,
            addr,
            seen,
            peer,
            id,
        }
    }
}

/// Connects a peer with TLS, and makes turns until `on_connect` was called.
pub fn join_by(
    looped: &mut Loop,
    seen: &mut impl Observer,
    addr: SocketAddr,
    client: ClientConnection,
) -> SecurePeer {
    let before = seen.recorder().connected().len();
    let peer = SecurePeer::connect(addr, client);
    looped.settle(seen, |seen, _| {
        seen.recorder().connected().len() > before && peer.is_finished()
    });
    peer.join().expect("its handshake succeeds")
}

/// Files for programs that read certificates from files. They are removed on drop.
pub struct Files(PathBuf);

impl Files {
    pub fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("throng-{}-{test}", std::process::id()));
        std::fs::create_dir_all(&path).expect("to create a folder");
        Self(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn write(&self, name: &str, text: String) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).expect("to write a file");
        path
    }

    pub fn authority(&self, authority: &Authority) -> PathBuf {
        self.write("ca.pem", authority.issuer.pem())
    }

    /// Returns the files of the certificate and of its key.
    pub fn identity(&self, name: &str, identity: &Identity) -> (PathBuf, PathBuf) {
        (
            self.write(&format!("{name}.pem"), identity.certificate.pem()),
            self.write(&format!("{name}.key"), identity.key.serialize_pem()),
        )
    }
}

impl AsRef<Path> for Files {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
