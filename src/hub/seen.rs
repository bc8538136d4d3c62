//! When objects were seen: logins, ends of connections, telemetry.

use std::collections::HashMap;
use std::time::Instant;

use crate::wire::Uid;

/// What is known of an object since the start of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moments {
    /// When its last connection began or ended; `None`: it had none.
    pub changed: Option<Instant>,
    /// When it was heard of last.
    pub heard: Instant,
}

/// The moments of all objects; one entry for each object of the access list at most, if others are let go.
#[derive(Debug, Default)]
pub struct Seen(HashMap<Uid, Moments>);

impl Seen {
    /// A connection of the object began or ended.
    pub fn changed(&mut self, uid: Uid, now: Instant) {
        if !uid.is_central() {
            self.0.insert(uid, Moments { changed: Some(now), heard: now });
        }
    }

    /// The object sent something.
    pub fn heard(&mut self, uid: Uid, now: Instant) {
        self.0.entry(uid).or_insert(Moments { changed: None, heard: now }).heard = now;
    }

    /// What is known of an object.
    pub fn get(&self, uid: Uid) -> Option<Moments> {
        self.0.get(&uid).copied()
    }

    /// Lets go of those that are not wanted.
    pub fn retain(&mut self, is_wanted: impl Fn(Uid) -> bool) {
        self.0.retain(|uid, _| is_wanted(*uid));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn telemetry_moves_only_the_last_word() {
        let (mut seen, start) = (Seen::default(), Instant::now());
        let uid = |name| Uid::parse(name).unwrap();
        let later = start + Duration::from_secs(5);
        seen.changed(uid("a"), start);
        seen.heard(uid("a"), later);
        seen.heard(uid("b"), later);
        seen.changed(Uid::CENTRAL, start);
        assert_eq!(seen.get(uid("a")), Some(Moments { changed: Some(start), heard: later }));
        assert_eq!(seen.get(uid("b")), Some(Moments { changed: None, heard: later }));
        assert_eq!(seen.get(Uid::CENTRAL), None);
        seen.retain(|kept| kept == uid("b"));
        assert_eq!((seen.get(uid("a")), seen.get(uid("b")).is_some()), (None, true));
    }
}
