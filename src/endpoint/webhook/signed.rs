//! Signed webhooks: one POST as the Standard Webhooks specification has it, for subscribers and alerts.
//!
//! Each carries `webhook-id`, `webhook-timestamp` in seconds since 1970 and `webhook-signature`: `v1,` and the HMAC-SHA-256
//! over `id.timestamp.body` in base64, of each secret while there are two, the newer one's first, with a space between.

use core::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ring::hmac;
use ureq::http::Uri;

use super::Failed;
use super::client::{AnswerBody, Bounds, Client};
use super::network::Reach;
use super::settings::roots;
use crate::ingest::base64;
use crate::net::Network;

/// Bytes of an answer's body at most: it is read for the sake of the connection only.
const ANSWER_MAX: usize = 64 * 1024;
/// What a secret's text begins with.
const SECRET_PREFIX: &str = "whsec_";
/// Digits of base64.
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Where a signed webhook goes, and what signs it.
#[derive(Debug, Clone)]
pub struct Signed {
    /// An http or https URL with a host.
    pub uri: Uri,
    /// What signs.
    pub secrets: Secrets,
    /// Longest time of one attempt, from the resolution of the name to the end of the answer.
    pub timeout: Duration,
    /// PEM of the only certificates to trust; otherwise the system's, and without any the built-in ones.
    pub ca_pem: Option<Vec<u8>>,
    /// Private networks that the URL's name may lead to.
    pub allow_to: Vec<Network>,
}

/// The keys that sign, the newest first.
#[derive(Clone)]
pub struct Secrets(Vec<hmac::Key>);

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({} hidden)", self.0.len())
    }
}

impl Secrets {
    /// Reads secrets, `whsec_` and base64 each; `None` if one is something else.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let key = |text: &str| {
            let bytes = base64(text.strip_prefix(SECRET_PREFIX)?)?;
            Some(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
        };
        texts.into_iter().map(key).collect::<Option<_>>().map(Self)
    }

    /// What stands in `webhook-signature`.
    fn sign(&self, id: &str, timestamp: u64, body: &str) -> String {
        let mut signatures = String::new();
        for key in &self.0 {
            let mut context = hmac::Context::with_key(key);
            context.update(format!("{id}.{timestamp}.").as_bytes());
            context.update(body.as_bytes());
            if !signatures.is_empty() {
                signatures.push(' ');
            }
            signatures.push_str("v1,");
            write_base64(context.sign().as_ref(), &mut signatures);
        }
        signatures
    }
}

/// Posts signed webhooks to one URL, over connections that are kept open between them. Blocks, so each call needs a thread.
pub struct SignedClient {
    client: Client,
    secrets: Secrets,
}

impl fmt::Debug for SignedClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SignedClient")
    }
}

impl SignedClient {
    /// A client; the sentence says what is wrong with its CA file.
    pub fn new(settings: &Signed) -> Result<Self, &'static str> {
        let needs_roots = settings.uri.scheme_str() == Some("https");
        let roots = roots(settings.ca_pem.as_deref(), needs_roots)
            .map_err(|_| "ca_file must have certificates in PEM form, and no broken one")?;
        let bounds = Bounds { timeout: settings.timeout, max_body: ANSWER_MAX };
        let reach = Reach::Public(settings.allow_to.clone());
        let client = Client::new(settings.uri.clone(), roots, bounds, reach, Vec::new());
        Ok(Self { client, secrets: settings.secrets.clone() })
    }

    /// Posts a body of JSON under this id, once: 2xx is success, everything else a failure, redirects too. The signature is
    /// of this moment.
    pub fn post(&self, id: &str, body: &str) -> Result<(), Failed> {
        // Before 1970 there is no timestamp; a receiver would not take one that is so far off anyway.
        let timestamp = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let headers = [
            ("webhook-id", id.to_owned()),
            ("webhook-timestamp", timestamp.to_string()),
            ("webhook-signature", self.secrets.sign(id, timestamp, body)),
        ];
        self.client.post(&headers, body, None, AnswerBody::Ignored).map(|_ignored| ())
    }

    /// Cuts off what is under way: it fails, and so does what is posted later.
    pub fn shut_down(&self) {
        self.client.shut_down();
    }
}

/// Appends bytes in base64 with padding.
fn write_base64(bytes: &[u8], text: &mut String) {
    for chunk in bytes.chunks(3) {
        let mut three = [0; 3];
        three.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
        let [a, b, c] = three.map(u32::from);
        let bits = a << 16 | b << 8 | c;
        for place in 0..4 {
            let digit = bits >> (18 - 6 * place) & 63;
            let digit = usize::try_from(digit).ok().and_then(|digit| DIGITS.get(digit)).copied();
            text.push(if place > chunk.len() { '=' } else { digit.unwrap_or(b'=').into() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const BODY: &str = r#"{"test": 2432232314}"#;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    /// The example of the specification's libraries.
    #[test]
    fn the_signature_is_that_of_the_specification() {
        let secrets = Secrets::parse([SECRET]).unwrap();
        assert_eq!(secrets.sign(ID, 1_614_265_330, BODY), SIGNATURE);
    }

    #[test]
    fn both_secrets_sign_while_there_are_two() {
        let other = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
        let both = Secrets::parse([other, SECRET]).unwrap().sign(ID, 1_614_265_330, BODY);
        let alone = Secrets::parse([other]).unwrap().sign(ID, 1_614_265_330, BODY);
        assert_eq!(both, format!("{alone} {SIGNATURE}"));
        assert_ne!(alone, SIGNATURE);
    }

    #[test]
    fn what_is_no_secret_signs_nothing_and_no_secret_is_printed() {
        for wrong in ["", "whsec_*", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"] {
            assert!(Secrets::parse([SECRET, wrong]).is_none(), "{wrong}");
        }
        assert_eq!(format!("{:?}", Secrets::parse([SECRET])), "Some(Secrets(1 hidden))");
    }

    #[test]
    fn base64_of_every_length() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            let mut written = String::new();
            write_base64(bytes.as_bytes(), &mut written);
            assert_eq!(written, text);
        }
    }
}
