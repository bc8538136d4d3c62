//! Which objects a load uses: those that are there, and fresh ones for what is missing.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ring::rand::{SecureRandom as _, SystemRandom};

use super::Options;
use crate::cli::Failure;
use crate::client::Tls;
use crate::client::load::{Api, Rate, Target};
use crate::endpoint::certificate;
use crate::hub::access_file::{self, AccessFileError};
use crate::service::config::{ApiTls, Config, DEFAULT_PATH};
use crate::wire::{AclItem, AuthKey, GroupName, KEY_LEN, Uid};

/// The objects of a load.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Crew {
    /// All of them.
    pub objects: Vec<(Uid, AuthKey)>,
    /// Those among them that are to be added to the access list first.
    pub fresh: Vec<AclItem>,
}

/// Why there are not enough objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnrolError {
    /// The access list has fewer, and there is no group to enrol others in.
    TooFew {
        /// How many it has.
        found: usize,
        /// What their UIDs begin with.
        prefix: String,
    },
    /// Prefix and number together are longer than a UID.
    PrefixTooLong(String),
    /// The system gave no random bytes.
    NoRandom,
}

impl fmt::Display for EnrolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooFew { found, prefix } => write!(
                f,
                "the access list has {found} objects whose UID begins with {prefix:?}: \
                 ask for no more, or let --enrol GROUP add what is missing"
            ),
            Self::PrefixTooLong(prefix) => {
                write!(
                    f,
                    "--prefix {prefix:?} and a number are longer than a UID's 16 bytes: take a shorter one"
                )
            }
            Self::NoRandom => f.write_str("the system gives no random bytes for fresh keys"),
        }
    }
}

impl std::error::Error for EnrolError {}

/// Takes `count` objects whose UID begins with `prefix` from the access list, in the order of their UIDs; makes those
/// that are missing, with random keys, if there is a group for them.
pub fn choose(
    known: impl IntoIterator<Item = (Uid, AuthKey)>,
    prefix: &str,
    count: usize,
    enrol: Option<GroupName>,
) -> Result<Crew, EnrolError> {
    let mut objects: Vec<(Uid, AuthKey)> =
        known.into_iter().filter(|(uid, _)| uid.as_str().starts_with(prefix)).collect();
    objects.sort_unstable_by(|(left, _), (right, _)| left.as_str().cmp(right.as_str()));
    let found = objects.len();
    let taken: BTreeSet<Uid> = objects.iter().map(|(uid, _)| *uid).collect();
    objects.truncate(count);
    let mut fresh = Vec::new();
    if objects.len() < count {
        let Some(group) = enrol else {
            return Err(EnrolError::TooFew { found, prefix: prefix.to_owned() });
        };
        for number in 1..=found + count {
            if objects.len() == count {
                break;
            }
            let uid = Uid::parse(&format!("{prefix}{number}"))
                .map_err(|_too_long| EnrolError::PrefixTooLong(prefix.to_owned()))?;
            if !taken.contains(&uid) {
                let key = random_key()?;
                objects.push((uid, key));
                fresh.push(AclItem { group, uid, key });
            }
        }
    }
    Ok(Crew { objects, fresh })
}

/// How long a running concentrator may take to see a changed access list.
const TAKEN_UP_WITHIN: Duration = Duration::from_secs(2);

/// The site that a load runs on, and the objects that were enrolled for it.
pub struct Enrolled {
    config: Config,
    crew: Crew,
}

impl Enrolled {
    /// Reads the site's configuration and access list, and enrols what is missing.
    pub(super) fn open(options: &Options) -> Result<Self, Failure> {
        let path = options.config.clone().unwrap_or_else(|| DEFAULT_PATH.into());
        let (config, _warnings) = Config::load(&path).map_err(|mistakes| {
            Failure::Failed(mistakes.first().map(ToString::to_string).unwrap_or_default())
        })?;
        let fail = |error: &dyn fmt::Display| Failure::Failed(error.to_string());
        let known = |group: &GroupName| config.groups.contains_key(group);
        let list = access_file::load(&config.access.file, known).map_err(|error| fail(&error))?;
        let objects = list.iter().map(|(uid, entry)| (*uid, entry.key));
        let crew =
            choose(objects, &options.prefix, options.objects, options.enrol).map_err(|error| fail(&error))?;
        if !crew.fresh.is_empty() {
            access_file::edit(&config.access.file, known, |list| {
                for item in &crew.fresh {
                    list.add(*item, known).map_err(|fault| fail(&fault))?;
                }
                Ok::<(), Failure>(())
            })?;
            std::thread::sleep(TAKEN_UP_WITHIN);
        }
        Ok(Self { config, crew })
    }

    /// Where the load goes, and as whom.
    pub(super) fn target(&self, options: &Options) -> Result<Target, Failure> {
        let config = &self.config;
        let chain = certificate::read_chain(&config.tls.certificate).map_err(Failure::Failed)?;
        let certificate =
            chain.into_iter().next().ok_or_else(|| Failure::Failed("no certificate".to_owned()))?;
        let tls =
            Tls::pinned(certificate, "localhost").map_err(|error| Failure::Failed(error.to_string()))?;
        let api = Api {
            address: reachable(config.api.listen),
            tls: (config.api.tls == ApiTls::Required).then(|| tls.clone()),
            bearer: config.central.auth_key,
        };
        Ok(Target {
            sessions: reachable(config.sessions.listen),
            tls: Some(tls),
            telemetry: (options.plan.telemetry != Rate::None).then(|| reachable(config.telemetry.listen)),
            api: Some(api),
            central: Some(config.central.auth_key),
            objects: self.crew.objects.clone(),
        })
    }

    /// Takes the enrolled objects out of the access list again.
    pub(super) fn close(self) -> Result<(), Failure> {
        if self.crew.fresh.is_empty() {
            return Ok(());
        }
        let known = |group: &GroupName| self.config.groups.contains_key(group);
        access_file::edit(&self.config.access.file, known, |list| {
            for item in &self.crew.fresh {
                list.remove(&item.uid);
            }
            Ok::<(), AccessFileError>(())
        })
        .map_err(|error| Failure::Failed(error.to_string()))
    }
}

/// A listener on all addresses is reached on loopback.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

fn random_key() -> Result<AuthKey, EnrolError> {
    let mut bytes = [0; KEY_LEN];
    SystemRandom::new().fill(&mut bytes).map_err(|_unspecified| EnrolError::NoRandom)?;
    Ok(AuthKey(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(uids: &[&str]) -> Vec<(Uid, AuthKey)> {
        uids.iter().map(|uid| (Uid::parse(uid).unwrap(), AuthKey([7; 16]))).collect()
    }

    fn uids(crew: &Crew) -> Vec<&str> {
        crew.objects.iter().map(|(uid, _)| uid.as_str()).collect()
    }

    #[test]
    fn only_objects_with_the_prefix_are_taken_and_none_is_made() {
        let crew = choose(known(&["sim-2", "pump", "sim-1", "sim-3"]), "sim-", 2, None).unwrap();
        assert_eq!(uids(&crew), ["sim-1", "sim-2"]);
        assert_eq!(crew.fresh, []);
    }

    #[test]
    fn what_is_missing_is_made_in_the_group_with_keys_of_their_own() {
        let group = GroupName::parse("meters").unwrap();
        let crew = choose(known(&["sim-2", "pump"]), "sim-", 4, Some(group)).unwrap();
        assert_eq!(uids(&crew), ["sim-2", "sim-1", "sim-3", "sim-4"]);
        let fresh: Vec<_> = crew.fresh.iter().map(|item| (item.uid.as_str(), item.group)).collect();
        assert_eq!(fresh, [("sim-1", group), ("sim-3", group), ("sim-4", group)]);
        assert_ne!(crew.fresh[0].key, crew.fresh[1].key);
        assert!(crew.fresh.iter().all(|item| crew.objects.contains(&(item.uid, item.key))));
    }

    #[test]
    fn too_few_without_a_group_and_too_long_a_prefix_are_refused() {
        let error = choose(known(&["sim-1", "pump"]), "sim-", 2, None).unwrap_err();
        assert_eq!(error, EnrolError::TooFew { found: 1, prefix: "sim-".to_owned() });
        let group = GroupName::parse("g").unwrap();
        let error = choose([], "a-very-long-name", 1, Some(group)).unwrap_err();
        assert!(matches!(error, EnrolError::PrefixTooLong(_)));
    }
}
