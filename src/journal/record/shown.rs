//! How records look in logs and tests.

use std::fmt;

use super::Record;

/// Shows neither token nor payload.
impl fmt::Debug for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message(message) => message.fmt(f),
            Self::Cursor { destination, up_to, .. } => write!(f, "Cursor({destination:?}, {up_to})"),
            Self::Dropped { from, to, count, cause } => {
                write!(f, "Dropped({from}..={to}, {count}, {cause:?})")
            }
            Self::BootTime { boot, .. } => write!(f, "BootTime({boot})"),
            Self::Token { uid, .. } => write!(f, "Token({uid:?})"),
            Self::TokensEnded { uid } => write!(f, "TokensEnded({uid:?})"),
            Self::Session { uid, session } => write!(f, "Session({uid:?}, {session:?})"),
            Self::Waiting { id, .. } => write!(f, "Waiting({id})"),
            Self::Settled { id } => write!(f, "Settled({id})"),
            Self::Command { seq, state, .. } => write!(f, "Command({seq}, {state:?})"),
            Self::Jump { from, to, .. } => write!(f, "Jump({from}, {to})"),
            Self::Snapshot { data } => write!(f, "Snapshot({} bytes)", data.len()),
            Self::Retired { segments } => write!(f, "Retired({segments:?})"),
            Self::Idempotency { seq, .. } => write!(f, "Idempotency({seq})"),
            Self::Kept { name, data } => write!(f, "Kept({name:?}, {} bytes)", data.len()),
            Self::Gone(gone) => gone.fmt(f),
            Self::Rights { uid, .. } => write!(f, "Rights({uid:?})"),
            Self::Received { group, kind, add } => write!(f, "Received({group:?}, {kind:?}, {add})"),
            Self::Behind { destination, backlog, again } => {
                write!(f, "Behind({destination:?}, {backlog:?}, {again:?})")
            }
            Self::Tried { destination, tried } => write!(f, "Tried({destination:?}, {tried:?})"),
            Self::DeadSettled { destination, from, to } => {
                write!(f, "DeadSettled({destination:?}, {from}..={to})")
            }
            Self::Forgotten { destination } => write!(f, "Forgotten({destination:?})"),
            Self::Thinned { segment, group } => write!(f, "Thinned({segment}, {group:?})"),
            Self::Tally { group, destination, cause, add } => {
                write!(f, "Tally({group:?}, {destination:?}, {cause:?}, {add})")
            }
        }
    }
}
