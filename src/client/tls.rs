//! Whom a client trusts.

use std::fmt;
use std::sync::Arc;

use futures_rustls::TlsConnector;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

/// How to start TLS towards one concentrator. Sessions are never resumed, so that each login costs what the first
/// login of a device costs.
#[derive(Clone)]
pub struct Tls {
    pub(super) connector: TlsConnector,
    pub(super) name: ServerName<'static>,
}

/// Why no TLS configuration could be made.
#[derive(Debug)]
pub enum TlsError {
    /// The host is neither a DNS name nor an IP address.
    Name(String),
    /// The TLS library refused the settings.
    Settings(rustls::Error),
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "{name:?} is neither a host name nor an IP address"),
            Self::Settings(_) => f.write_str("the TLS library refused its settings"),
        }
    }
}

impl std::error::Error for TlsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Name(_) => None,
            Self::Settings(error) => Some(error),
        }
    }
}

impl Tls {
    /// Trusts servers that show a certificate for `host`, issued under one of the roots.
    pub fn with_roots(roots: RootCertStore, host: &str) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Settings)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self::new(config, host)
    }

    /// Trusts the one server that holds the key of this very certificate, whatever names, dates and issuer it states:
    /// for who has the site's own certificate file at hand. `host` is only what the server is told.
    pub fn pinned(certificate: CertificateDer<'static>, host: &str) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let pin = Pin { certificate, algorithms: provider.signature_verification_algorithms };
        let config = ClientConfig::builder_with_provider(provider as Arc<CryptoProvider>)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Settings)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(pin))
            .with_no_client_auth();
        Self::new(config, host)
    }

    fn new(mut config: ClientConfig, host: &str) -> Result<Self, TlsError> {
        config.resumption = Resumption::disabled();
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), name: name_of(host)? })
    }

    /// The same trust for another host, as a redirect needs it.
    pub(super) fn for_host(&self, host: &str) -> Result<Self, TlsError> {
        Ok(Self { connector: self.connector.clone(), name: name_of(host)? })
    }
}

fn name_of(host: &str) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(host.to_owned()).map_err(|_| TlsError::Name(host.to_owned()))
}

/// Accepts one certificate, byte for byte. The handshake's signature still proves that the server has its key.
#[derive(Debug)]
struct Pin {
    certificate: CertificateDer<'static>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Pin {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if *end_entity == self.certificate {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
