//! Certificates: one chain and key for every TLS listener, reloaded when the files change.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CipherSuite, ServerConfig};

use super::{certificate, validity};
use crate::hub::file_stamp::{Stamp, stamp};
use crate::logfmt::Quoted;

/// The certificate in force, for each kind of listener. New connections take the current one;
/// those that exist keep what they began with.
#[derive(Debug)]
pub struct Certificates {
    state: Mutex<State>,
}

#[derive(Debug, Clone)]
struct Files {
    certificate: PathBuf,
    private_key: PathBuf,
}

#[derive(Debug)]
struct State {
    files: Files,
    configs: Configs,
    /// The files as they were when last read, whether they were good or not.
    seen: [Stamp; 2],
}

#[derive(Debug)]
struct Configs {
    sessions: Arc<ServerConfig>,
    api: Arc<ServerConfig>,
    not_after: Option<Timestamp>,
}

/// Why TLS cannot be served. Each sentence names who must act.
#[derive(Debug)]
pub enum TlsError {
    /// The certificate or its key cannot be used; the sentence names the file to mend.
    Files(String),
    /// The machine gave no random bytes, or the provider is incomplete.
    Provider(rustls::Error),
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Files(sentence) => f.write_str(sentence),
            Self::Provider(error) => write!(f, "TLS cannot be set up on this machine ({error})"),
        }
    }
}

impl std::error::Error for TlsError {}

impl Certificates {
    /// Reads the PEM chain and the PEM key.
    pub fn load(certificate: &Path, private_key: &Path) -> Result<Self, TlsError> {
        let files = Files { certificate: certificate.to_owned(), private_key: private_key.to_owned() };
        let seen = [stamp(certificate), stamp(private_key)];
        let configs = read(certificate, private_key)?;
        Ok(Self { state: Mutex::new(State { files, configs, seen }) })
    }

    /// The configuration for new sessions on the TCP port: no application protocol.
    pub fn sessions(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.lock().configs.sessions)
    }

    /// The configuration for new connections to the HTTPS API: http/1.1.
    pub fn api(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.lock().configs.api)
    }

    /// The last moment of the certificate in force; `None` if that cannot be read.
    pub fn not_after(&self) -> Option<Timestamp> {
        self.lock().configs.not_after
    }

    /// From now on the files of the other, as it read them.
    pub fn become_like(&self, other: Self) {
        *self.lock() = other.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    }

    /// Takes up changed files; to be called every second. `true`: a new certificate is in force.
    /// An error is told once for each change; what was in force stays.
    pub fn reload_if_changed(&self) -> Result<bool, TlsError> {
        let Files { certificate, private_key } = self.lock().files.clone();
        // The stamps are taken before the files are read: what changes meanwhile is read again next time.
        let now = [stamp(&certificate), stamp(&private_key)];
        if std::mem::replace(&mut self.lock().seen, now) == now {
            return Ok(false);
        }
        let configs = read(&certificate, &private_key)?;
        self.lock().configs = configs;
        Ok(true)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(certificate: &Path, private_key: &Path) -> Result<Configs, TlsError> {
    let (pair, doubt) = certificate::load(certificate, private_key).map_err(TlsError::Files)?;
    if let Some(doubt) = doubt {
        log::warn!("event=certificate_doubtful detail={}", Quoted(doubt));
    }
    let not_after = pair.cert.first().and_then(|certificate| validity::not_after(certificate));
    let sessions = server_config(pair).map_err(TlsError::Provider)?;
    let mut api = sessions.clone();
    api.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Configs { sessions: Arc::new(sessions), api: Arc::new(api), not_after })
}

fn server_config(pair: Arc<CertifiedKey>) -> Result<ServerConfig, rustls::Error> {
    let fast_aes = cpu_has_aes();
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider(fast_aes)))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Always(pair)));
    // What is cheapest here: on small boards that decides how many devices can log in a second.
    config.ignore_client_order = true;
    // Resumption lives in the client's ticket: nothing grows here with the number of clients.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = ring::Ticketer::new()?;
    config.send_tls13_tickets = 1;
    // Without it a TLS 1.2 session is not bound to its handshake (triple handshake attack).
    config.require_ems = true;
    Ok(config)
}

/// One certificate for every name: devices connect by address as often as by name.
#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesServerCert for Always {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

fn provider(fast_aes: bool) -> CryptoProvider {
    let mut provider = ring::default_provider();
    // Stable: the order among the others stays, strongest first.
    provider.cipher_suites.sort_by_key(|suite| match suite.suite() {
        // SHA-384 has no instructions of its own on most CPUs; a handshake hashes a lot.
        CipherSuite::TLS13_AES_128_GCM_SHA256
        | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
        | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => !fast_aes,
        // Without AES instructions, AES costs several times as much as this.
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
        | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
        | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => fast_aes,
        _ => true,
    });
    provider
}

/// Whether the CPU has AES instructions. 32-bit ARM counts as without: its boards of today are.
fn cpu_has_aes() -> bool {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    return std::arch::is_x86_feature_detected!("aes");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
    return false;
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    struct Pair {
        folder: tempfile::TempDir,
    }

    impl Pair {
        fn new() -> Self {
            let pair = Self { folder: tempfile::tempdir().unwrap() };
            pair.write(&fresh());
            pair
        }

        fn write(&self, (certificate, key): &(String, String)) {
            fs::write(self.certificate(), certificate).unwrap();
            fs::write(self.key(), key).unwrap();
        }

        fn certificate(&self) -> PathBuf {
            self.folder.path().join("server.crt")
        }

        fn key(&self) -> PathBuf {
            self.folder.path().join("server.key")
        }

        fn load(&self) -> Result<Certificates, TlsError> {
            Certificates::load(&self.certificate(), &self.key())
        }
    }

    fn fresh() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn a_good_pair_loads_for_both_kinds_of_listener() {
        let certificates = Pair::new().load().unwrap();
        assert_eq!(certificates.api().alpn_protocols, [b"http/1.1".to_vec()]);
        assert!(certificates.sessions().alpn_protocols.is_empty());
        assert!(certificates.sessions().require_ems);
        assert!(!certificates.sessions().session_storage.can_cache());
        assert!(certificates.sessions().ticketer.enabled());
    }

    #[test]
    fn a_changed_pair_is_taken_up_and_a_broken_one_is_told_once() {
        let pair = Pair::new();
        let certificates = pair.load().unwrap();
        let first = certificates.sessions();
        assert!(!certificates.reload_if_changed().unwrap());
        fs::write(pair.certificate(), "half a certific").unwrap();
        assert!(certificates.reload_if_changed().is_err());
        assert!(!certificates.reload_if_changed().unwrap(), "told once");
        assert!(Arc::ptr_eq(&first, &certificates.sessions()), "the old pair stays");
        pair.write(&fresh());
        // The same length within one tick of the clock is told apart by the inode, as editors and tools do it.
        let other = pair.folder.path().join("new");
        fs::copy(pair.key(), &other).unwrap();
        fs::rename(&other, pair.key()).unwrap();
        assert!(certificates.reload_if_changed().unwrap());
        assert!(!Arc::ptr_eq(&first, &certificates.sessions()));
    }

    #[test]
    fn the_cheapest_suite_comes_first() {
        let first = |fast| provider(fast).cipher_suites.first().map(rustls::SupportedCipherSuite::suite);
        assert_eq!(first(false), Some(CipherSuite::TLS13_CHACHA20_POLY1305_SHA256));
        assert_eq!(first(true), Some(CipherSuite::TLS13_AES_128_GCM_SHA256));
        assert_eq!(provider(false).cipher_suites.len(), provider(true).cipher_suites.len());
    }
}
