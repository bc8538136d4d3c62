//! What the configuration says about webhooks, checked.

use core::fmt;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use ureq::http::Uri;
use ureq::tls::{Certificate, RootCerts};

use crate::delivery::lanes::Destination;
use crate::logfmt::Quoted;
use crate::wire::AuthKey;

/// What is configured under `[central.webhooks]`.
#[derive(Debug, Clone)]
pub struct Settings {
    /// URL of the request webhook.
    pub request: Option<String>,
    /// URL of the telemetry webhook.
    pub telemetry: Option<String>,
    /// URL of the webhook for results of queued commands.
    pub result: Option<String>,
    /// Longest time of one attempt, from the resolution of the name to the end of the answer.
    pub timeout: Duration,
    /// Longest answer, in bytes.
    pub max_body: usize,
    /// PEM of the only certificates to trust; otherwise the system's, and without any the built-in ones.
    pub ca_pem: Option<Vec<u8>>,
    /// The central's key: the bearer of every call.
    pub auth_key: AuthKey,
}

/// What is wrong with the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettingsError {
    /// A URL that is not an http:// or https:// URL with a host.
    Url(Destination),
    /// The CA file has no certificate, or one that cannot be read.
    CaFile,
    /// The system gives no thread.
    NoThread,
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(destination) => {
                let key = name(*destination);
                write!(f, "central.webhooks.{key} must be an http:// or https:// URL with a host")
            }
            Self::CaFile => {
                f.write_str("central.webhooks.ca_file must have certificates in PEM form, and no broken one")
            }
            Self::NoThread => {
                f.write_str("the system gives no threads for webhooks: raise its limit of tasks")
            }
        }
    }
}

impl core::error::Error for SettingsError {}

/// The name of a webhook in configuration and logs.
pub(super) fn name(destination: Destination) -> &'static str {
    match destination {
        Destination::Request => "request",
        Destination::Telemetry => "telemetry",
        Destination::Result => "result",
    }
}

impl Settings {
    /// Whether there is such a webhook, and where.
    pub(super) fn uri(&self, destination: Destination) -> Result<Option<Uri>, SettingsError> {
        let url = match destination {
            Destination::Request => &self.request,
            Destination::Telemetry => &self.telemetry,
            Destination::Result => &self.result,
        };
        let Some(url) = url else { return Ok(None) };
        let uri: Uri = url.parse().map_err(|_| SettingsError::Url(destination))?;
        let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
        let has_host = uri.host().is_some_and(|host| !host.is_empty());
        if is_http && has_host { Ok(Some(uri)) } else { Err(SettingsError::Url(destination)) }
    }

    /// The certificates to trust.
    pub(super) fn roots(&self) -> Result<RootCerts, SettingsError> {
        let needs_roots = [&self.request, &self.telemetry, &self.result]
            .into_iter()
            .flatten()
            .any(|url| url.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://")));
        roots(self.ca_pem.as_deref(), needs_roots).map_err(|BrokenCaFile| SettingsError::CaFile)
    }
}

/// A CA file has no certificate, or one that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BrokenCaFile;

/// The certificates to trust: the configured ones, else, if any are needed, the system's, else the built-in ones.
pub(super) fn roots(ca_pem: Option<&[u8]>, needs_roots: bool) -> Result<RootCerts, BrokenCaFile> {
    if let Some(pem) = ca_pem {
        return configured_roots(pem);
    }
    if !needs_roots {
        return Ok(RootCerts::WebPki);
    }
    Ok(system_roots())
}

/// The certificates that the system trusts; the built-in ones if it has none.
pub(super) fn system_roots() -> RootCerts {
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        log::warn!("event=webhook_roots roots=system error={}", Quoted(error));
    }
    if system.certs.is_empty() {
        log::warn!("event=webhook_roots roots=built-in reason=\"the system has none\"");
        return RootCerts::WebPki;
    }
    system.certs.iter().map(|der| Certificate::from_der(der).to_owned()).into()
}

/// Every certificate has to be one: ureq would leave a broken one out without a word.
fn configured_roots(pem: &[u8]) -> Result<RootCerts, BrokenCaFile> {
    let certificates: Vec<_> =
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|_| BrokenCaFile)?;
    let mut store = RootCertStore::empty();
    for certificate in &certificates {
        store.add(certificate.clone()).map_err(|_| BrokenCaFile)?;
    }
    if certificates.is_empty() {
        return Err(BrokenCaFile);
    }
    Ok(certificates.iter().map(|der| Certificate::from_der(der).to_owned()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            request: None,
            telemetry: None,
            result: None,
            timeout: Duration::from_secs(5),
            max_body: 1000,
            ca_pem: None,
            auth_key: AuthKey([7; 16]),
        }
    }

    #[test]
    fn urls_are_http_with_a_host() {
        for good in ["http://127.0.0.1:8080/x", "https://central.example", "HTTPS://central.example/a?b=c"] {
            let settings = Settings { telemetry: Some(good.to_owned()), ..settings() };
            assert!(settings.uri(Destination::Telemetry).unwrap().is_some(), "{good}");
            assert!(settings.uri(Destination::Request).unwrap().is_none());
        }
        for bad in
            ["", "central.example/x", "ftp://central.example/", "/request", "http://", "http:///x", "a b"]
        {
            let settings = Settings { result: Some(bad.to_owned()), ..settings() };
            assert_eq!(
                settings.uri(Destination::Result).unwrap_err(),
                SettingsError::Url(Destination::Result),
                "{bad}"
            );
        }
    }

    #[test]
    fn a_ca_file_without_a_good_certificate_is_refused() {
        let broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for pem in [&b""[..], b"no pem", broken] {
            let settings = Settings { ca_pem: Some(pem.to_vec()), ..settings() };
            assert_eq!(settings.roots().unwrap_err(), SettingsError::CaFile);
        }
    }

    #[test]
    fn the_key_is_not_printed() {
        assert!(!format!("{:?}", settings()).contains('7'));
    }
}
