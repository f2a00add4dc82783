//! How a listener or a connection is to be secured.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};

/// How long a handshake may take by default.
const TIMEOUT: Duration = Duration::from_secs(10);

/// One side of TLS, and the time for its handshake.
#[derive(Clone)]
pub(crate) struct Security {
    role: Option<Role>,
    /// How long a handshake may take.
    pub(crate) timeout: Duration,
}

#[derive(Clone)]
enum Role {
    Server(Arc<ServerConfig>),
    Client(Arc<ClientConfig>, ServerName<'static>),
}

impl Default for Security {
    /// No TLS.
    fn default() -> Self {
        Self {
            role: None,
            timeout: TIMEOUT,
        }
    }
}

impl Security {
    pub(crate) fn serve(&mut self, config: Arc<ServerConfig>) {
        self.role = Some(Role::Server(config));
    }

    pub(crate) fn connect(&mut self, config: Arc<ClientConfig>, name: ServerName<'static>) {
        self.role = Some(Role::Client(config, name));
    }

    pub(crate) fn is_on(&self) -> bool {
        self.role.is_some()
    }

    /// Begins a session. `None`: no TLS.
    pub(crate) fn begin(&self) -> Option<Result<rustls::Connection, rustls::Error>> {
        Some(match self.role.clone()? {
            Role::Server(config) => {
                rustls::ServerConnection::new(config).map(rustls::Connection::from)
            }
            Role::Client(config, name) => {
                rustls::ClientConnection::new(config, name).map(rustls::Connection::from)
            }
        })
    }
}

impl fmt::Debug for Security {
    /// Without the configuration, which may contain keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = match &self.role {
            None => "off",
            Some(Role::Server(_)) => "server",
            Some(Role::Client(..)) => "client",
        };
        f.debug_struct("Security")
            .field("role", &role)
            .field("timeout", &self.timeout)
            .finish()
    }
}
