//! What tokens and sessions were given for: recorded with each session, and looked at when they are taken over. A key or
//! a group that was changed while nothing ran ends them, as it does while something runs.

use std::collections::BTreeSet;

use ring::digest::{Context, SHA256};

use crate::journal::record::{Record, RightsDigest, SessionRecord};
use crate::journal::state::Small;
use crate::router::{Fact, Restored, Router};
use crate::wire::{GroupName, Uid};

/// An object's key and group, or the central's key, as a digest; `None`: the access list does not have it.
fn digest(router: &Router, uid: Uid) -> Option<RightsDigest> {
    let key = router.key_of(uid)?;
    let mut context = Context::new(&SHA256);
    context.update(&key.0);
    context.update(&router.group_of(uid).unwrap_or(GroupName::NONE).to_wire());
    context.finish().as_ref().first_chunk().copied()
}

/// What a session that begins is given for.
pub(super) fn record(router: &Router, fact: &Fact) -> Option<Record<'static>> {
    let Fact::SessionLive { uid } = fact else { return None };
    Some(Record::Rights { uid: *uid, rights: digest(router, *uid)? })
}

/// Takes out of what is restored whatever was given for another key or group, or nobody knows for which. Gives what is to
/// be recorded of it. What is not in the access list at all is left for the router to tell.
pub(super) fn take_out(restored: &mut Restored, small: &Small, router: &Router) -> Vec<Record<'static>> {
    let mut wrong = BTreeSet::new();
    let mut is_right = |uid: Uid| {
        let now = digest(router, uid);
        let is_right = now.is_none() || now == small.rights_of(&uid);
        if !is_right {
            wrong.insert(uid);
        }
        is_right
    };
    restored.tokens.retain(|token| is_right(token.uid));
    restored.sessions.retain(|(uid, _)| is_right(*uid));
    if !wrong.is_empty() {
        log::warn!("event=rights_changed count={} ended=\"tokens and sessions\"", wrong.len());
    }
    let ended = |uid| [Record::TokensEnded { uid }, Record::Session { uid, session: SessionRecord::Ended }];
    wrong.into_iter().flat_map(ended).collect()
}
