//! Looking at what changes together, at one moment.

use std::collections::BTreeMap;

use super::{Core, Hub, lock, seen};
use crate::delivery::central::Central;
use crate::journal::front::Front;
use crate::journal::record::Kind;
use crate::router::Router;

/// Everything as it is at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Glance<'a> {
    /// Who is there.
    pub router: &'a Router,
    /// What was appended.
    pub front: &'a Front,
    /// What the central has.
    pub central: &'a Central,
    /// How many messages were recorded since the journal was made, by kind.
    pub recorded: &'a BTreeMap<Kind, u64>,
}

impl Hub {
    /// Looks at the router.
    pub fn with_router<T>(&self, look: impl FnOnce(&Router) -> T) -> T {
        look(&lock(&self.core).router)
    }

    /// Looks at the router and at when objects were seen.
    pub fn look_at_objects<T>(&self, look: impl FnOnce(&Router, &seen::Seen) -> T) -> T {
        let core = lock(&self.core);
        look(&core.router, &core.seen)
    }

    /// Looks at everything at the same moment, so that sums agree.
    pub fn look<T>(&self, look: impl FnOnce(Glance<'_>) -> T) -> T {
        let Core { router, log, central, .. } = &*lock(&self.core);
        look(Glance { router, front: &log.front, central, recorded: &log.recorded })
    }
}
