//! Configurations of TLS that the seed of a world determines.

use std::sync::{Arc, OnceLock};

use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::{
    CipherSuiteCommon, ClientConfig, RootCertStore, ServerConfig, SupportedCipherSuite,
    SupportedProtocolVersion, Tls13CipherSuite,
};
use throng::sim::World;
use throng::{ConnectOptions, ListenOptions};

const NAME: &str = "game.example";

/// How a PKCS #8 document of an Ed25519 key begins; 32 bytes follow.
const PREFIX: [u8; 16] = [
    0x30, 0x2E, 2, 1, 0, 0x30, 5, 6, 3, 0x2B, 0x65, 0x70, 4, 0x22, 4, 0x20,
];

/// After this many records a session changes its keys, and asks the other side to do so: reads then cause writes.
const RECORDS_PER_KEY: u64 = 15;

/// Both sides of TLS in a world.
#[derive(Clone)]
pub(super) struct Crypto {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl Crypto {
    pub(super) fn new(world: &World) -> Self {
        let versions: &[&SupportedProtocolVersion] = match world.random().below(3) {
            0 => &[&rustls::version::TLS12],
            1 => &[&rustls::version::TLS13],
            _ => rustls::ALL_VERSIONS,
        };
        let provider = Arc::new(world.crypto_provider(ciphers()));
        let time = world.time_provider();
        let certificate = certificate();
        let server = ServerConfig::builder_with_details(provider.clone(), time.clone())
            .with_protocol_versions(versions)
            .expect("a known version")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key().into())
            .expect("the key belongs to the certificate");
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).expect("a valid certificate");
        let client = ClientConfig::builder_with_details(provider, time)
            .with_protocol_versions(versions)
            .expect("a known version")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self {
            server: Arc::new(server),
            client: Arc::new(client),
        }
    }

    pub(super) fn serve(&self, options: ListenOptions) -> ListenOptions {
        options.tls(Arc::clone(&self.server))
    }

    pub(super) fn connect(&self, options: ConnectOptions) -> ConnectOptions {
        let name = NAME.try_into().expect("a valid name");
        options.tls(Arc::clone(&self.client), name)
    }
}

fn key() -> PrivatePkcs8KeyDer<'static> {
    PrivatePkcs8KeyDer::from([&PREFIX[..], &[7; 32]].concat())
}

fn certificate() -> &'static CertificateDer<'static> {
    static MADE: OnceLock<CertificateDer<'static>> = OnceLock::new();
    MADE.get_or_init(|| {
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&key(), &PKCS_ED25519);
        let params = CertificateParams::new(vec![NAME.to_owned()]).expect("a valid name");
        let made = params.self_signed(&key.expect("a valid key"));
        made.expect("a valid certificate").der().clone()
    })
}

/// The ciphers of the provider. Sessions with TLS 1.3 change their keys often.
fn ciphers() -> CryptoProvider {
    static SUITES: OnceLock<Vec<SupportedCipherSuite>> = OnceLock::new();
    let suites = SUITES.get_or_init(|| ring::ALL_CIPHER_SUITES.iter().map(often).collect());
    CryptoProvider {
        cipher_suites: suites.clone(),
        ..ring::default_provider()
    }
}

fn often(suite: &SupportedCipherSuite) -> SupportedCipherSuite {
    let SupportedCipherSuite::Tls13(suite) = suite else {
        return *suite;
    };
    SupportedCipherSuite::Tls13(Box::leak(Box::new(Tls13CipherSuite {
        common: CipherSuiteCommon {
            suite: suite.common.suite,
            hash_provider: suite.common.hash_provider,
            confidentiality_limit: RECORDS_PER_KEY,
        },
        hkdf_provider: suite.hkdf_provider,
        aead_alg: suite.aead_alg,
        quic: None,
    })))
}
