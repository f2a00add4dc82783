//! TLS: the options of `serve` and `load`, and a measurement beside tokio-rustls.

pub(crate) mod measure;
pub(crate) mod tokio;

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use throng::{ConnectOptions, ListenOptions};

use crate::problem::Problem;

/// The options of a server.
#[derive(Debug, Args)]
pub(crate) struct ServeOptions {
    /// Serves with TLS: the file with the certificates, the server's own first (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The file with the key of the certificate (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

impl ServeOptions {
    pub(crate) fn apply(&self, options: ListenOptions) -> Result<ListenOptions, Problem> {
        Ok(match self.config()? {
            Some(config) => options.tls(config),
            None => options,
        })
    }

    fn config(&self) -> Result<Option<Arc<ServerConfig>>, Problem> {
        let (Some(certificates), Some(key)) = (&self.tls_cert, &self.tls_key) else {
            return Ok(None);
        };
        let wrong = |error: String| Problem::usage(format!("cannot serve with TLS: {error}"));
        let chain = CertificateDer::pem_file_iter(certificates).and_then(Iterator::collect);
        let chain = chain.map_err(|error| wrong(format!("{}: {error}", certificates.display())))?;
        let key = PrivateKeyDer::from_pem_file(key)
            .map_err(|error| wrong(format!("{}: {error}", key.display())))?;
        let config = ServerConfig::builder().with_no_client_auth();
        let config = config.with_single_cert(chain, key);
        Ok(Some(Arc::new(
            config.map_err(|error| wrong(error.to_string()))?,
        )))
    }
}

/// The options of a load.
#[derive(Debug, Args)]
pub(crate) struct LoadOptions {
    /// Connects with TLS. Each handshake is a full one: no session is resumed.
    #[arg(long, requires = "ca")]
    tls: bool,
    /// The file with the certificates of the authorities that are trusted (PEM).
    #[arg(long, value_name = "FILE", requires = "tls")]
    ca: Option<PathBuf>,
    /// The name in the server's certificate, if it is not the host of the address.
    #[arg(long, value_name = "NAME", requires = "tls")]
    tls_name: Option<String>,
}

impl LoadOptions {
    pub(crate) fn connect(&self, addr: &str) -> Result<ConnectOptions, Problem> {
        let options = ConnectOptions::default();
        let Some(ca) = self.ca.as_ref().filter(|_| self.tls) else {
            return Ok(options);
        };
        let host = addr.rsplit_once(':').map_or(addr, |(host, _)| host);
        let name = self.tls_name.as_deref().unwrap_or(host);
        let name = ServerName::try_from(name.trim_matches(['[', ']']).to_owned());
        let name = name.map_err(|error| Problem::usage(format!("--tls-name: {error}")))?;
        let wrong =
            |error: String| Problem::usage(format!("cannot read {}: {error}", ca.display()));
        let mut roots = RootCertStore::empty();
        let certificates = CertificateDer::pem_file_iter(ca);
        for certificate in certificates.map_err(|error| wrong(error.to_string()))? {
            let added = certificate.map(|certificate| roots.add(certificate));
            added
                .map_err(|error| wrong(error.to_string()))?
                .map_err(|error| wrong(error.to_string()))?;
        }
        let config = ClientConfig::builder().with_root_certificates(roots);
        let mut config = config.with_no_client_auth();
        config.resumption = Resumption::disabled();
        Ok(options.tls(Arc::new(config), name))
    }
}
