//! The chain of audit records: each has a number and the hash of itself and of all before it, so that one that was
//! removed, changed or moved shows.
//!
//! # Payload
//!
//! `{"n":17,` the members of the record `,"hash":"` 64 hex digits `"}`. The hash is SHA-256 over the hash before (zeros for
//! the first record), UID and group as 16 bytes each, and the payload up to `,"hash"`. Segments are deleted from the
//! oldest; the snapshot that each begins with ([`super::state::Small::audit`]) says what the first record behind it follows.
//! There is no secret in it: whoever writes the journal anew as a whole makes a chain that holds.

use std::fmt::{self, Write as _};

use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use crate::wire::{GroupName, Uid};

/// Where a payload's own hash begins, and how long it is with what stands around it.
const HASH_MEMBER: &str = ",\"hash\":\"";
const TAIL_LEN: usize = HASH_MEMBER.len() + 64 + "\"}".len();

/// Where the chain is: the last record's number and hash, zeros before the first.
#[derive(Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Link {
    /// Counted from 1.
    pub n: u64,
    hash: [u8; 32],
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({})", self.n)
    }
}

/// Why a record does not follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It has no number or no hash: it is none of ours.
    NoRecord,
    /// Records are missing between: from, to.
    Missing(u64, u64),
    /// A record with this number stands behind one that is newer.
    OutOfOrder(u64),
    /// The record with this number, or one before it, was changed.
    Changed(u64),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRecord => f.write_str("a record has no number or no hash"),
            Self::Missing(from, to) if from == to => write!(f, "record {from} is missing"),
            Self::Missing(from, to) => write!(f, "records {from} to {to} are missing"),
            Self::OutOfOrder(n) => write!(f, "record {n} stands behind a newer one"),
            Self::Changed(n) => write!(f, "record {n} was changed, or the one before it"),
        }
    }
}

impl Link {
    /// The payload of the record that comes next, with these members (`"a":1,"b":2`), and where the chain is then.
    pub fn forge(self, uid: Uid, group: GroupName, members: &str) -> (String, Self) {
        let n = self.n.saturating_add(1);
        let mut payload = format!("{{\"n\":{n},{members}");
        let next = Self { n, hash: self.digest(uid, group, payload.as_bytes()) };
        payload.push_str(HASH_MEMBER);
        for byte in next.hash {
            // Writing into a string cannot fail.
            let _written = write!(payload, "{byte:02x}");
        }
        payload.push_str("\"}");
        (payload, next)
    }

    /// What a record's payload says of itself.
    pub fn stated(payload: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(payload).ok()?;
        let digits = text.strip_prefix("{\"n\":")?.split(',').next()?;
        let tail = text.get(text.len().checked_sub(TAIL_LEN)?..)?;
        let hex = tail.strip_prefix(HASH_MEMBER)?.strip_suffix("\"}")?.as_bytes();
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(hex.chunks_exact(2)) {
            let digit = |at: usize| char::from(*pair.get(at)?).to_digit(16);
            *byte = u8::try_from(digit(0)? << 4 | digit(1)?).ok()?;
        }
        Some(Self { n: digits.parse().ok()?, hash })
    }

    /// Goes on to a record, whether it follows or not.
    pub fn step(&mut self, uid: Uid, group: GroupName, payload: &[u8]) -> Result<(), Fault> {
        let stated = Self::stated(payload).ok_or(Fault::NoRecord)?;
        let before = std::mem::replace(self, stated);
        let expected = before.n.saturating_add(1);
        if stated.n > expected {
            return Err(Fault::Missing(expected, stated.n - 1));
        }
        if stated.n < expected {
            return Err(Fault::OutOfOrder(stated.n));
        }
        let body = payload.get(..payload.len().saturating_sub(TAIL_LEN)).unwrap_or_default();
        if before.digest(uid, group, body) == stated.hash { Ok(()) } else { Err(Fault::Changed(stated.n)) }
    }

    fn digest(self, uid: Uid, group: GroupName, body: &[u8]) -> [u8; 32] {
        let mut context = Context::new(&SHA256);
        for part in [&self.hash[..], &uid.to_wire(), &group.to_wire(), body] {
            context.update(part);
        }
        let mut hash = [0; 32];
        hash.iter_mut().zip(context.finish().as_ref()).for_each(|(byte, digested)| *byte = *digested);
        hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uid() -> Uid {
        Uid::parse("o").unwrap()
    }

    fn chain(count: usize) -> Vec<String> {
        let mut link = Link::default();
        let forge = |at: usize| {
            let (payload, next) =
                link.forge(uid(), GroupName::NONE, &format!("\"what\":\"login\",\"at\":{at}"));
            link = next;
            payload
        };
        (0..count).map(forge).collect()
    }

    /// What is found on the way over these records.
    fn faults(records: &[String], mut link: Link) -> Vec<Fault> {
        let step = |record: &String| link.step(uid(), GroupName::NONE, record.as_bytes()).err();
        records.iter().filter_map(step).collect()
    }

    #[test]
    fn a_whole_chain_holds_from_its_start_and_from_any_anchor() {
        let records = chain(5);
        assert_eq!(faults(&records, Link::default()), []);
        let anchor = Link::stated(records[1].as_bytes()).unwrap();
        assert_eq!((anchor.n, faults(&records[2..], anchor)), (2, vec![]));
        let json: serde_json::Value = serde_json::from_str(&records[0]).unwrap();
        assert_eq!((&json["n"], json["hash"].as_str().unwrap().len()), (&1.into(), 64));
    }

    #[test]
    fn one_that_was_removed_changed_or_moved_shows() {
        let removed = |at: usize| {
            let mut records = chain(5);
            records.remove(at);
            faults(&records, Link::default())
        };
        assert_eq!(removed(0), [Fault::Missing(1, 1)]);
        assert_eq!(removed(2), [Fault::Missing(3, 3)]);
        let mut swapped = chain(5);
        swapped.swap(1, 2);
        assert_eq!(faults(&swapped, Link::default())[..2], [Fault::Missing(2, 2), Fault::OutOfOrder(2)]);
        for (from, to) in [("login", "logon"), ("\"at\":2", "\"at\":7"), ("\"hash\":\"", "\"hash\":\"0")] {
            let mut records = chain(5);
            records[2] = records[2].replacen(from, to, 1);
            assert!(!faults(&records, Link::default()).is_empty(), "{from}");
        }
        let mut renumbered = chain(5);
        renumbered.remove(2);
        renumbered[2] = renumbered[2].replacen("\"n\":4", "\"n\":3", 1);
        assert_eq!(faults(&renumbered, Link::default()), [Fault::Changed(3), Fault::Missing(4, 4)]);
        let mut link = Link::default();
        let other = Uid::parse("p").unwrap();
        assert_eq!(link.step(other, GroupName::NONE, chain(1)[0].as_bytes()), Err(Fault::Changed(1)));
    }

    #[test]
    fn what_is_no_record_is_said_to_be_none() {
        for payload in ["", "{}", "{\"n\":1}", "{\"n\":1,\"hash\":\"00\"}", "é\"n\":"] {
            assert_eq!(Link::stated(payload.as_bytes()), None, "{payload}");
            assert_eq!(faults(&[payload.to_owned()], Link::default()), [Fault::NoRecord]);
        }
    }
}
