//! Messages that partner networks bring: whether the rules of their object's group take them.

use std::collections::HashMap;
use std::time::Instant;

use super::{Count, Router};
use crate::wire::{GroupName, Payload, Uid};

/// Allowances of objects without a session that are kept before those that are not used up are let go.
const ALLOWANCES_MIN: usize = 1024;

/// Up to when the rates of objects without a session are used up.
#[derive(Debug)]
pub struct Allowances {
    used_up_to: HashMap<Uid, Instant>,
    /// At so many it is looked which may go.
    full_at: usize,
}

impl Default for Allowances {
    fn default() -> Self {
        Self { used_up_to: HashMap::new(), full_at: ALLOWANCES_MIN }
    }
}

impl Allowances {
    /// Uses one message of an object's rate; `false`: too many.
    fn take(&mut self, uid: Uid, rate: u32, now: Instant) -> bool {
        let mut allowance = self.used_up_to.get(&uid).copied();
        if !Router::within_rate(&mut allowance, rate, now) {
            return false;
        }
        if self.used_up_to.len() >= self.full_at {
            self.used_up_to.retain(|_, used_up_to| *used_up_to > now);
            self.full_at = (2 * self.used_up_to.len()).max(ALLOWANCES_MIN);
        }
        self.used_up_to.extend(allowance.map(|used_up_to| (uid, used_up_to)));
        true
    }
}

impl Router {
    /// Whether a partner network's message of this object may come in; why not is counted. The object need not be one of
    /// the access list.
    pub fn ingested(
        &mut self,
        now: Instant,
        uid: Uid,
        group: GroupName,
        payload: Payload<'_>,
    ) -> Result<(), Count> {
        self.takes_of_network(group, payload)?;
        let rate = self.settings.groups.get(&group).map_or(0, |group| group.rate);
        let is_within = match self.peers.get_mut(&uid) {
            _ if rate == 0 => true,
            Some(peer) => Self::within_rate(&mut peer.allowance, rate, now),
            None => self.ingested.take(uid, rate, now),
        };
        if is_within {
            return Ok(());
        }
        self.counts.add(Count::RateExceeded);
        Err(Count::RateExceeded)
    }

    /// The same for one that came earlier, whose time counts in no rate.
    pub fn takes_of_network(&mut self, group: GroupName, payload: Payload<'_>) -> Result<(), Count> {
        let judged = match self.settings.groups.get(&group).filter(|group| group.telemetry) {
            Some(group) => Self::takes_payload(group, payload),
            None => Err(Count::TelemetryNotAllowed),
        };
        if let Err(count) = judged {
            self.counts.add(count);
        }
        judged
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_object_has_its_rate_and_memory_stays_bounded() {
        let mut allowances = Allowances::default();
        let start = Instant::now();
        let uid = |number: usize| Uid::parse(&number.to_string()).unwrap();
        assert!((0..4).all(|_| allowances.take(uid(0), 4, start)));
        assert!(!allowances.take(uid(0), 4, start));
        assert!(allowances.take(uid(1), 4, start), "another object");
        assert!(allowances.take(uid(0), 4, start + Duration::from_millis(251)));
        for number in 2..50 * ALLOWANCES_MIN {
            let now = start + Duration::from_millis(2 * number as u64);
            assert!(allowances.take(uid(number), 1, now));
            assert!(allowances.used_up_to.len() <= 2 * ALLOWANCES_MIN, "after {number}");
        }
    }
}
