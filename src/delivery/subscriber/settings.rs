//! What the configuration says of a subscriber's deliveries.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::journal::record::{Kind, Message};
use crate::wire::GroupName;

/// Which messages a subscriber gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// Of these groups; empty: of all.
    pub groups: BTreeSet<GroupName>,
    /// Of these kinds.
    pub kinds: BTreeSet<Kind>,
}

impl Filter {
    /// Whether it gets this one.
    pub fn takes(&self, message: &Message<'_>) -> bool {
        self.takes_of(message.group, message.kind)
    }

    /// Whether it gets messages of this group and kind.
    pub fn takes_of(&self, group: GroupName, kind: Kind) -> bool {
        self.kinds.contains(&kind) && (self.groups.is_empty() || self.groups.contains(&group))
    }
}

/// What comes first after an outage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The oldest: nothing ever overtakes.
    Strict,
    /// The newest; what is older follows in every other call.
    LiveFirst,
}

/// How a subscriber is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// What it gets.
    pub filter: Filter,
    /// What comes first after an outage.
    pub order: Order,
    /// Messages of one call at most.
    pub batch_max: usize,
    /// How long a message may wait for others.
    pub batch_wait: Duration,
    /// Messages a second at most.
    pub max_rate: Option<NonZeroU32>,
    /// How old a message gets before it is given up; `None`: it never is.
    pub give_up: Option<Duration>,
}

impl Settings {
    /// Messages of the next call at most: a second's worth, if their rate is bounded.
    pub(super) fn batch_now(&self) -> usize {
        let by_rate = self.max_rate.and_then(|rate| usize::try_from(rate.get()).ok());
        self.batch_max.min(by_rate.unwrap_or(usize::MAX)).max(1)
    }
}
