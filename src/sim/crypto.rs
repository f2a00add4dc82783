//! TLS that a seed determines: a crypto provider and a clock for rustls.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::crypto::{
    ActiveKeyExchange, CryptoProvider, GetRandomFailed, SecureRandom, SharedSecret,
    SupportedKxGroup,
};
use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;
use rustls::{Error, NamedGroup, PeerMisbehaved};

use super::{Random, World};
use crate::socket::sim::Shared;

/// When worlds begin, for TLS: the first of January 2026, in seconds since 1970.
const BEGIN: u64 = 1_767_225_600;

/// The prime of the key exchange, 2^61 - 1.
const PRIME: u128 = (1 << 61) - 1;

/// The length of a public key, as if it were one of X25519.
const KEY: usize = 32;

impl World {
    /// Returns a crypto provider that repeats itself: with the same seed, TLS sessions exchange the same bytes. It has the
    /// ciphers of another provider, but a generator and a key exchange that are determined by the seed. They are fast and
    /// provide **no security**.
    ///
    /// For a run that repeats to the byte, the certificate needs a key whose signatures are not random (Ed25519), both
    /// configurations need the [clock of the world](Self::time_provider), and both need to be made in the world, because
    /// they remember sessions. Without all this, only the order of events and the lengths are the same, up to some bytes.
    ///
    /// Each call leaks a few bytes, because rustls requires references that live forever.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use throng::rustls::crypto::CryptoProvider;
    /// use throng::rustls::{ClientConfig, ConfigBuilder, Error, WantsVerifier};
    /// use throng::sim::World;
    ///
    /// /// Begins the configuration of a client, with the provider that the program uses.
    /// fn client(
    ///     world: &World,
    ///     provider: CryptoProvider,
    /// ) -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, Error> {
    ///     let provider = Arc::new(world.crypto_provider(provider));
    ///     ClientConfig::builder_with_details(provider, world.time_provider())
    ///         .with_safe_default_protocol_versions()
    /// }
    /// ```
    pub fn crypto_provider(&self, provider: CryptoProvider) -> CryptoProvider {
        let random: &'static Seeded = Box::leak(Box::new(Seeded(Mutex::new(self.random().fork()))));
        CryptoProvider {
            kx_groups: vec![Box::leak(Box::new(Exchange(random)))],
            secure_random: random,
            ..provider
        }
    }

    /// Returns the clock of the world for TLS, which judges certificates and tickets by it. A world begins on the first of
    /// January 2026.
    pub fn time_provider(&self) -> Arc<dyn TimeProvider> {
        Arc::new(Clock(self.network()))
    }
}

#[derive(Debug)]
struct Clock(Shared);

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        let elapsed = self.0.lock().now;
        Some(UnixTime::since_unix_epoch(
            Duration::from_secs(BEGIN) + elapsed,
        ))
    }
}

/// Random numbers for all sessions of a provider.
struct Seeded(Mutex<Random>);

impl Seeded {
    fn fill(&self, bytes: &mut [u8]) {
        let mut random = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        random.fill(bytes);
    }
}

impl SecureRandom for Seeded {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), GetRandomFailed> {
        self.fill(bytes);
        Ok(())
    }
}

impl fmt::Debug for Seeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seeded")
    }
}

/// A key exchange by Diffie and Hellman with numbers that are far too small.
#[derive(Debug)]
struct Exchange(&'static Seeded);

struct Half {
    secret: u64,
    public: [u8; KEY],
}

impl SupportedKxGroup for Exchange {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let mut secret = [0; 8];
        self.0.fill(&mut secret);
        let secret = u64::from_le_bytes(secret);
        let public = encode(power(3, secret));
        Ok(Box::new(Half { secret, public }))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

impl ActiveKeyExchange for Half {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        let number = peer.first_chunk().filter(|_| peer.len() == KEY);
        let number = number.ok_or(PeerMisbehaved::InvalidKeyShare)?;
        let shared = power(u64::from_le_bytes(*number), self.secret);
        Ok(SharedSecret::from(&encode(shared)[..]))
    }

    fn pub_key(&self) -> &[u8] {
        &self.public
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

fn encode(number: u64) -> [u8; KEY] {
    let mut bytes = [0; KEY];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes
}

/// Returns a power modulo the prime.
fn power(base: u64, mut exponent: u64) -> u64 {
    let (mut base, mut result) = (u128::from(base) % PRIME, 1);
    while exponent > 0 {
        if exponent % 2 == 1 {
            result = result * base % PRIME;
        }
        base = base * base % PRIME;
        exponent /= 2;
    }
    result as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_of_a_key_exchange_get_the_same_secret() {
        let random = Box::leak(Box::new(Seeded(Mutex::new(Random::new(7)))));
        let exchange = Exchange(random);
        let one = exchange.start().expect("numbers");
        let other = exchange.start_and_complete(one.pub_key()).expect("a key");
        let secret = one.complete(&other.pub_key).expect("a key");
        assert_eq!(secret.secret_bytes(), other.secret.secret_bytes());
    }
}
