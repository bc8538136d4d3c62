//! The certificate and private key of the listeners, as `run` serves them and `check` judges them.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};

/// Reads certificate chain and key (PEM) and sees that they belong together.
///
/// Gives a sentence beside them if the certificate is too old in form to be judged: devices of the public
/// concentrator trust such ones (X.509 version 1), so they are served.
pub fn load(certificate: &Path, private_key: &Path) -> Result<(Arc<CertifiedKey>, Option<String>), String> {
    let chain = read_chain(certificate)?;
    let name = private_key.display();
    let key = fs::read(private_key).map_err(|error| format!("{name}: cannot be read: {error}"))?;
    let key = PrivateKeyDer::from_pem_slice(&key)
        .map_err(|_| format!("{name}: holds no private key that can be read (PEM)"))?;
    let key = any_supported_type(&key).map_err(|_| {
        format!(
            "{name}: is a key of a kind or size that is not supported (ECDSA, Ed25519, RSA from 2048 bits)"
        )
    })?;
    let pair = CertifiedKey::new(chain, key);
    let certificate = certificate.display();
    match pair.keys_match() {
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok((Arc::new(pair), None)),
        Err(Error::InconsistentKeys(_)) => Err(format!("{name}: is not the key of {certificate}")),
        Err(error) if is_version_1(&error) => {
            let doubt = format!(
                "{certificate}: is X.509 version 1, which many clients refuse; \
                 whether {name} is its key could not be seen"
            );
            Ok((Arc::new(pair), Some(doubt)))
        }
        Err(error) => Err(format!("{certificate}: cannot be used: {error}")),
    }
}

/// The certificates of a PEM file, one at least.
pub fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let name = path.display();
    let text = fs::read(path).map_err(|error| format!("{name}: cannot be read: {error}"))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let certificates = certificates.map_err(|error| format!("{name}: is not PEM: {error}"))?;
    match certificates.is_empty() {
        true => Err(format!("{name}: holds no certificate (PEM)")),
        false => Ok(certificates),
    }
}

/// rustls hands on the cause of its certificate parser as an opaque error, so only its text tells.
fn is_version_1(error: &Error) -> bool {
    matches!(error, Error::InvalidCertificate(_)) && error.to_string().contains("UnsupportedCertVersion")
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use tempfile::TempDir;

    use super::*;

    /// A self-signed certificate of version 1, which only old tools make; its key was thrown away.
    const VERSION_1: &str = include_str!("../../tests/fixtures/x509-v1.crt");

    fn files(certificate: &str, key: &str) -> (TempDir, [PathBuf; 2]) {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| -> PathBuf {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let files = [write("c.pem", certificate), write("k.pem", key)];
        (folder, files)
    }

    fn load_texts(certificate: &str, key: &str) -> Result<Option<String>, String> {
        {
            let (_folder, [certificate, key]) = files(certificate, key);
            load(&certificate, &key)
        }
        .map(|(_, doubt)| doubt)
    }

    fn pair() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn a_pair_is_taken_and_a_mixed_one_is_not() {
        let ((certificate, key), (other, _)) = (pair(), pair());
        let (_folder, files) = files(&certificate, &format!("# a comment\n{key}"));
        assert!(load(&files[0], &files[1]).unwrap().1.is_none());
        assert!(load_texts(&other, &key).unwrap_err().contains("k.pem: is not the key of"));
        assert!(load_texts(&format!("{certificate}{other}"), &key).is_ok());
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        let (certificate, key) = pair();
        assert!(load_texts("", &key).unwrap_err().contains("c.pem: holds no certificate"));
        assert!(load_texts(&certificate, "").unwrap_err().contains("k.pem: holds no private key"));
        let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(load_texts(garbage, &key).unwrap_err().contains("c.pem: cannot be used"));
        let garbage = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        assert!(load_texts(&certificate, garbage).unwrap_err().contains("k.pem: is a key of a kind"));

        assert!(load(Path::new("/no/c"), Path::new("/no/k")).unwrap_err().contains("/no/c: cannot be read"));
    }

    #[test]
    fn a_certificate_of_version_1_is_served_with_a_doubt() {
        let doubt = load_texts(VERSION_1, &pair().1).unwrap().unwrap();
        assert!(doubt.contains("X.509 version 1"), "{doubt}");
    }
}
