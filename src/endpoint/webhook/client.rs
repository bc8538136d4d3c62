//! One attempt: a POST, its answer, and what went wrong.
//!
//! Each attempt has one budget for everything, which ureq checks at every read and write, so that neither
//! a silent webhook nor one that sends a byte a second gets more. (A total timeout makes ureq's own
//! resolver start threads; ours does not, see [`super::network`].)

use core::fmt::Write as _;
use std::io::Read;
use std::time::{Duration, Instant, SystemTime};

use ureq::http::{HeaderMap, Response, StatusCode, Uri, header};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::unversioned::transport::{Connector, RustlsConnector, TcpConnector};
use ureq::{Agent, Body, Error};

use super::network::{OneHost, PrivateAddress, Reach, SharedTls};
use super::settings::{Settings, SettingsError};
use super::{Failed, Failure};
use crate::delivery::lanes::{Destination, SHARE};
use crate::wire::AuthKey;

/// Bytes of each of a connection's two buffers: two plain and two more for TLS.
const BUFFER_LEN: usize = 8 * 1024;
/// Most bytes of an answer's head.
const HEAD_MAX: usize = 16 * 1024;
/// How long a connection is kept for the next attempt: less than the 5 s after which common servers close.
const IDLE_MAX: Duration = Duration::from_secs(4);

/// The clients of all configured webhooks.
pub(super) struct Clients {
    request: Option<Client>,
    telemetry: Option<Client>,
    result: Option<Client>,
}

impl Clients {
    pub(super) fn new(settings: &Settings) -> Result<Self, SettingsError> {
        let roots = settings.roots()?;
        let authorization = bearer(&settings.auth_key);
        let client = |destination| {
            let uri = settings.uri(destination)?;
            Ok(uri.map(|uri| {
                let bounds = Bounds { timeout: settings.timeout, max_body: settings.max_body };
                Client::new(uri, roots.clone(), bounds, Reach::Anywhere, authorization.clone())
            }))
        };
        Ok(Self {
            request: client(Destination::Request)?,
            telemetry: client(Destination::Telemetry)?,
            result: client(Destination::Result)?,
        })
    }

    pub(super) fn get(&self, destination: Destination) -> Option<&Client> {
        match destination {
            Destination::Request => self.request.as_ref(),
            Destination::Telemetry => self.telemetry.as_ref(),
            Destination::Result => self.result.as_ref(),
        }
    }

    /// Ends what is in flight, as a failure.
    pub(super) fn shut_down(&self) {
        for client in [&self.request, &self.telemetry, &self.result].into_iter().flatten() {
            client.shut_down();
        }
    }
}

fn bearer(key: &AuthKey) -> Vec<(&'static str, String)> {
    let mut text = String::from("Bearer ");
    for byte in key.0 {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    vec![("authorization", text)]
}

/// What one attempt may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// From the resolution of the name to the end of the answer.
    pub(super) timeout: Duration,
    /// Bytes of the answer's body.
    pub(super) max_body: usize,
}

/// What to do with the body of a good answer. It is always read to its end, or the connection is dropped; one that is
/// ignored may be broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AnswerBody {
    Wanted,
    Ignored,
}

/// The client of one webhook. Holds a secret, so it has no `Debug`.
pub(super) struct Client {
    agent: Agent,
    uri: Uri,
    /// Of every attempt.
    headers: Vec<(&'static str, String)>,
    bounds: Bounds,
}

impl Client {
    pub(super) fn new(
        uri: Uri,
        roots: RootCerts,
        bounds: Bounds,
        reach: Reach,
        headers: Vec<(&'static str, String)>,
    ) -> Self {
        let config = Agent::config_builder()
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .proxy(None)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("iotsocketd/", env!("CARGO_PKG_VERSION")))
            .accept("application/json")
            .input_buffer_size(BUFFER_LEN)
            .output_buffer_size(BUFFER_LEN)
            .max_response_header_size(HEAD_MAX)
            .max_idle_connections(SHARE)
            .max_idle_connections_per_host(SHARE)
            .max_idle_age(IDLE_MAX)
            .build();
        let sockets = ().chain(TcpConnector::default()).chain(RustlsConnector::default());
        Self {
            agent: Agent::with_parts(config, SharedTls(sockets), OneHost::new(reach)),
            uri,
            headers,
            bounds,
        }
    }

    /// Ends what is in flight, as a failure.
    pub(super) fn shut_down(&self) {
        self.agent.clone().shutdown();
    }

    /// Posts a body with these headers beside those of every attempt. A 2xx answer's body comes back if wanted. Ends
    /// within the configured timeout, and by the deadline if there is one.
    pub(super) fn post(
        &self,
        headers: &[(&'static str, String)],
        body: &str,
        deadline: Option<Instant>,
        wanted: AnswerBody,
    ) -> Result<Vec<u8>, Failed> {
        let timeout = self.bounds.timeout;
        let left = deadline.map_or(timeout, |at| at.saturating_duration_since(Instant::now()));
        let request = self.agent.post(self.uri.clone());
        let mut request = request.config().timeout_global(Some(left.min(timeout))).build();
        for (name, value) in self.headers.iter().chain(headers) {
            request = request.header(*name, value);
        }
        let mut response = request.content_type("application/json").send(body).map_err(failure_of)?;
        let status = response.status();
        if status.is_success() {
            let read = self.read_body(&mut response, wanted);
            // Of whom nothing is wanted but that it has it, the status says so, whatever comes of the rest.
            return if wanted == AnswerBody::Ignored { Ok(Vec::new()) } else { read.map_err(Failed::from) };
        }
        // Read to its end for the sake of the connection; whether that works changes nothing.
        let _ = self.read_body(&mut response, AnswerBody::Ignored);
        Err(Failed { failure: failure_of_status(status), retry_after: retry_after(response.headers()) })
    }

    /// Reads the body to its end; one that is longer than allowed is left, and the connection with it.
    fn read_body(&self, response: &mut Response<Body>, wanted: AnswerBody) -> Result<Vec<u8>, Failure> {
        let max = u64::try_from(self.bounds.max_body).unwrap_or(u64::MAX);
        if response.body().content_length().is_some_and(|len| len > max) {
            return Err(Failure::TooLarge);
        }
        let mut reader = response.body_mut().as_reader();
        let (mut kept, mut len) = (Vec::new(), 0);
        let mut chunk = [0; 2048];
        loop {
            let n = match reader.read(&mut chunk) {
                Ok(0) => return Ok(kept),
                Ok(n) => n,
                Err(error) => return Err(failure_of(Error::from(error))),
            };
            len += n;
            if len > self.bounds.max_body {
                return Err(Failure::TooLarge);
            }
            if wanted == AnswerBody::Wanted {
                kept.extend_from_slice(chunk.get(..n).unwrap_or_default());
            }
        }
    }
}

pub(super) fn failure_of_status(status: StatusCode) -> Failure {
    if status.is_redirection() {
        Failure::Redirect(status.as_u16())
    } else {
        Failure::Status(status.as_u16())
    }
}

pub(super) fn failure_of(error: Error) -> Failure {
    use std::io::ErrorKind;
    match error {
        Error::HostNotFound => Failure::Resolve,
        Error::Timeout(_) => Failure::Timeout,
        Error::Tls(_) | Error::Rustls(_) | Error::Pem(_) | Error::TlsRequired => Failure::Tls,
        Error::Io(error) if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) => Failure::Tls,
        Error::Other(error) if error.is::<PrivateAddress>() => Failure::Private,
        Error::Io(error) => match error.kind() {
            ErrorKind::UnexpectedEof
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::NotConnected => Failure::Disconnected,
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Failure::Timeout,
            _ => Failure::Connect,
        },
        Error::ConnectionFailed => Failure::Connect,
        // What is left is about the bytes of the answer.
        _ => Failure::Protocol,
    }
}

/// `Retry-After`: seconds, or a date. The schedule bounds it.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(value).ok()?;
    SystemTime::from(at).duration_since(SystemTime::now()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::RETRY_AFTER, value.parse().unwrap())])
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(retry_after(&headers("120")), Some(Duration::from_secs(120)));
        assert!(
            retry_after(&headers("Fri, 31 Dec 2100 23:59:59 GMT")) > Some(Duration::from_secs(1_000_000))
        );
        for nothing in ["Wed, 21 Oct 2015 07:28:00 GMT", "-1", "soon", ""] {
            assert_eq!(retry_after(&headers(nothing)), None, "{nothing}");
        }
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }
}
