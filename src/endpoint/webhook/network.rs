//! How the HTTP client gets its connections: two small pieces in front of ureq's own.
//!
//! Both use traits that ureq calls unversioned: they may change with any release, which the compiler tells.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{ConnectionDetails, Connector, NextTimeout};

/// How long the addresses of a webhook's host are used before they are asked for again.
const ADDRESSES_AGE_MAX: Duration = Duration::from_secs(30);

/// Resolves the one host of an agent, on the calling thread, and keeps its addresses for a while.
///
/// ureq's own resolver starts a thread for every request as soon as a total timeout is set, and asks the
/// system for every request. Here a name server that hangs holds up one request now and then; the others
/// go on with the addresses known so far.
#[derive(Debug, Default)]
pub(super) struct OneHost {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    addresses: Option<(ResolvedSocketAddrs, Instant)>,
    is_refreshing: bool,
}

impl OneHost {
    fn with<T>(&self, what: impl FnOnce(&mut Kept) -> T) -> T {
        what(&mut self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Resolver for OneHost {
    fn resolve(&self, uri: &Uri, config: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let known = self.with(|kept| {
            let (addresses, since) = kept.addresses.as_ref()?;
            if since.elapsed() < ADDRESSES_AGE_MAX || kept.is_refreshing {
                return Some(addresses.clone());
            }
            kept.is_refreshing = true;
            None
        });
        if let Some(addresses) = known {
            return Ok(addresses);
        }
        // Without a timeout the resolver stays on this thread.
        let asked = DefaultResolver::default().resolve(uri, config, NextTimeout::default());
        self.with(|kept| {
            kept.is_refreshing = false;
            let addresses = match (asked, kept.addresses.take()) {
                (Ok(addresses), _) | (Err(_), Some((addresses, _))) => addresses,
                (Err(_), None) => return Err(Error::HostNotFound),
            };
            kept.addresses = Some((addresses.clone(), Instant::now()));
            Ok(addresses)
        })
    }
}

/// Connects as if every request had the agent's own configuration.
///
/// Each request has a timeout of its own, and for such requests ureq builds the TLS configuration anew: it
/// would parse all roots again and forget TLS sessions at every connection. Nothing else differs here.
#[derive(Debug)]
pub(super) struct SharedTls<C>(pub(super) C);

impl<C: Connector> Connector for SharedTls<C> {
    type Out = C::Out;

    fn connect(&self, details: &ConnectionDetails<'_>, chained: Option<()>) -> Result<Option<C::Out>, Error> {
        let details = ConnectionDetails {
            uri: details.uri,
            addrs: details.addrs.clone(),
            config: details.config,
            request_level: false,
            resolver: details.resolver,
            now: details.now,
            timeout: details.timeout,
            current_time: details.current_time.clone(),
            run_connector: details.run_connector.clone(),
            register_shutdown: details.register_shutdown.clone(),
        };
        self.0.connect(&details, chained)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_kept_and_a_name_without_any_is_an_error() {
        let config = ureq::Agent::config_builder().build();
        let (host, timeout) = (OneHost::default(), NextTimeout::default());
        let first = host.resolve(&Uri::from_static("http://127.0.0.1:9/"), &config, timeout).unwrap();
        // Addresses younger than their limit are not asked for again, so even another host gets them.
        let again = host.resolve(&Uri::from_static("http://127.0.0.2:9/"), &config, timeout).unwrap();
        assert_eq!(first, again);
        let no_port = Uri::from_static("http://no-such-host.invalid:99999/");
        assert!(matches!(OneHost::default().resolve(&no_port, &config, timeout), Err(Error::HostNotFound)));
    }
}
