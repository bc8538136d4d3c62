//! How the HTTP client gets its connections: two small pieces in front of ureq's own.
//!
//! Both use traits that ureq calls unversioned: they may change with any release, which the compiler tells.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{ConnectionDetails, Connector, NextTimeout};

use crate::net::{Network, is_private};

/// How long the addresses of a webhook's host are used before they are asked for again.
const ADDRESSES_AGE_MAX: Duration = Duration::from_secs(30);

/// Resolves the one host of an agent, on the calling thread, and keeps its addresses for a while.
///
/// ureq's own resolver starts a thread for every request as soon as a total timeout is set, and asks the
/// system for every request. Here a name server that hangs holds up one request now and then; the others
/// go on with the addresses known so far.
#[derive(Debug)]
pub(super) struct OneHost {
    reach: Reach,
    kept: Mutex<Kept>,
}

/// Which addresses may be connected to.
#[derive(Debug, Clone)]
pub(super) enum Reach {
    /// Any.
    Anywhere,
    /// Public ones, and private ones that the configuration names: by the URL, or as one of these networks. A name that
    /// whoever runs its name server leads to a private address is no way in there.
    Public(Vec<Network>),
}

/// A name led to addresses that may not be connected to.
#[derive(Debug)]
pub(super) struct PrivateAddress;

impl fmt::Display for PrivateAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a private address")
    }
}

impl std::error::Error for PrivateAddress {}

impl Reach {
    /// Leaves the addresses that may be connected to. What is checked here is what is connected to.
    fn filter(&self, uri: &Uri, found: &ResolvedSocketAddrs) -> Result<ResolvedSocketAddrs, Error> {
        let Self::Public(allowed) = self else { return Ok(found.clone()) };
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        if host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok() {
            return Ok(found.clone());
        }
        let mut left = DefaultResolver::default().empty();
        for address in found.iter() {
            let ip = address.ip();
            if !is_private(ip) || allowed.iter().any(|network| network.contains(ip)) {
                left.push(*address);
            }
        }
        if left.is_empty() { Err(Error::Other(Box::new(PrivateAddress))) } else { Ok(left) }
    }
}

#[derive(Debug, Default)]
struct Kept {
    addresses: Option<(ResolvedSocketAddrs, Instant)>,
    is_refreshing: bool,
}

impl OneHost {
    pub(super) fn new(reach: Reach) -> Self {
        Self { reach, kept: Mutex::default() }
    }

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
        let asked = asked.and_then(|found| self.reach.filter(uri, &found));
        self.with(|kept| {
            kept.is_refreshing = false;
            let addresses = match (asked, kept.addresses.take()) {
                (Ok(addresses), _) | (Err(_), Some((addresses, _))) => addresses,
                (Err(error @ Error::Other(_)), None) => return Err(error),
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
        let (host, timeout) = (OneHost::new(Reach::Anywhere), NextTimeout::default());
        let first = host.resolve(&Uri::from_static("http://127.0.0.1:9/"), &config, timeout).unwrap();
        // Addresses younger than their limit are not asked for again, so even another host gets them.
        let again = host.resolve(&Uri::from_static("http://127.0.0.2:9/"), &config, timeout).unwrap();
        assert_eq!(first, again);
        let no_port = Uri::from_static("http://no-such-host.invalid:99999/");
        let host = OneHost::new(Reach::Anywhere);
        assert!(matches!(host.resolve(&no_port, &config, timeout), Err(Error::HostNotFound)));
    }

    #[test]
    fn a_name_leads_to_no_private_address_that_is_not_named() {
        let found = |addresses: &[&str]| {
            let mut found = DefaultResolver::default().empty();
            addresses.iter().for_each(|address| found.push(address.parse().unwrap()));
            found
        };
        let name = Uri::from_static("https://erp.example/hook");
        let left = |reach: &Reach, uri: &Uri, addresses: &[&str]| {
            let left = reach.filter(uri, &found(addresses)).ok()?;
            Some(left.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        let public = Reach::Public(Vec::new());
        assert_eq!(left(&public, &name, &["10.1.2.3:443", "[::1]:443"]), None);
        let mixed = left(&public, &name, &["192.168.1.1:443", "9.9.9.9:443"]);
        assert_eq!(mixed, Some(vec!["9.9.9.9:443".to_owned()]));
        assert_eq!(left(&public, &Uri::from_static("http://10.1.2.3/"), &["10.1.2.3:80"]).unwrap().len(), 1);
        assert_eq!(left(&public, &Uri::from_static("http://[::1]/"), &["[::1]:80"]).unwrap().len(), 1);
        assert_eq!(
            left(&public, &Uri::from_static("http://localhost/"), &["127.0.0.1:80"]).unwrap().len(),
            1
        );
        let named = Reach::Public(vec!["10.1.0.0/16".parse().unwrap()]);
        assert_eq!(left(&named, &name, &["10.1.2.3:443"]).unwrap().len(), 1);
        assert_eq!(left(&named, &name, &["10.2.2.3:443"]), None);
        assert_eq!(left(&Reach::Anywhere, &name, &["10.2.2.3:443"]).unwrap().len(), 1);
    }
}
