//! A file that is put to a place on the network, and read back from there.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ureq::http::{Response, Uri, header};
use ureq::tls::TlsConfig;
use ureq::unversioned::transport::{Connector, RustlsConnector, TcpConnector};
use ureq::{Agent, Body, Error, SendBody};

use super::client::{failure_of, failure_of_status};
use super::network::{OneHost, Reach};
use super::settings::system_roots;

/// How long the other side may take for each step: a connection, some bytes, the beginning of an answer.
const STEP_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a file may be on its way, in each direction.
const TRANSFER_MAX: Duration = Duration::from_secs(6 * 3600);
/// Bytes that are compared at a time.
const CHUNK: usize = 64 * 1024;

/// Puts a file to a URL, gets it from there and compares every byte. Certificates are verified against the system's
/// roots, redirects are failures. The sentence does not repeat the URL, which may hold a secret.
pub fn upload(uri: &Uri, file: &Path, is_ending: &AtomicBool) -> Result<(), String> {
    let config = Agent::config_builder()
        .tls_config(TlsConfig::builder().root_certs(system_roots()).build())
        .proxy(None)
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(concat!("iotsocketd/", env!("CARGO_PKG_VERSION")))
        .timeout_connect(Some(STEP_TIMEOUT))
        .timeout_per_read(Some(STEP_TIMEOUT))
        .timeout_per_write(Some(STEP_TIMEOUT))
        .timeout_send_body(Some(TRANSFER_MAX))
        .timeout_recv_response(Some(STEP_TIMEOUT))
        .timeout_recv_body(Some(TRANSFER_MAX))
        .build();
    let sockets = ().chain(TcpConnector::default()).chain(RustlsConnector::default());
    let agent = Agent::with_parts(config, sockets, OneHost::new(Reach::Anywhere));
    let host = uri.host().unwrap_or_default();
    let failed = |step: &str, error| format!("{step} {host} failed: {}", failure_of(error));
    let local = |error: io::Error| format!("{}: cannot be read: {error}", file.display());

    let len = file.metadata().map_err(local)?.len();
    let mut body = Interruptible { file: File::open(file).map_err(local)?, is_ending };
    let put = agent
        .put(uri.clone())
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .header(header::CONTENT_LENGTH, len)
        .send(SendBody::from_reader(&mut body));
    good("PUT to", host, put.map_err(|error| failed("PUT to", error))?)?;
    let got = agent.get(uri.clone()).header(header::ACCEPT_ENCODING, "identity").call();
    let mut got = good("GET from", host, got.map_err(|error| failed("GET from", error))?)?;
    body.file = File::open(file).map_err(local)?;
    match is_same(&mut body, &mut got.body_mut().as_reader()) {
        Ok(true) => Ok(()),
        Ok(false) => Err(format!("what {host} gives back is not what it was given")),
        Err(error) => Err(failed("GET from", Error::from(error))),
    }
}

fn good(step: &str, host: &str, response: Response<Body>) -> Result<Response<Body>, String> {
    match response.status() {
        status if status.is_success() => Ok(response),
        status => Err(format!("{step} {host} failed: {}", failure_of_status(status))),
    }
}

/// A file whose reading ends with the program.
struct Interruptible<'a> {
    file: File,
    is_ending: &'a AtomicBool,
}

impl Read for Interruptible<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.is_ending.load(Ordering::Relaxed) {
            true => Err(io::ErrorKind::Other.into()),
            false => self.file.read(into),
        }
    }
}

fn is_same(one: &mut dyn Read, other: &mut dyn Read) -> io::Result<bool> {
    let (mut left, mut right) = (vec![0; CHUNK], vec![0; CHUNK]);
    loop {
        let read = one.read(&mut left)?;
        if read == 0 {
            return Ok(other.read(&mut right)? == 0);
        }
        let (left, right) = (left.get(..read).unwrap_or_default(), right.get_mut(..read).unwrap_or_default());
        match other.read_exact(right) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            outcome => outcome?,
        }
        if left != right {
            return Ok(false);
        }
    }
}
