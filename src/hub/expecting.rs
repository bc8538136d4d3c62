//! What is expected of objects, as the hub tells it: who spoke, who is silent, chatty or in two places, and outages.

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Instant;

use super::alerts::Rule;
use super::seen::{Outage, TOLD_MAX, Unusual, Verdict};
use super::{Core, Hub, Turn, lock};
use crate::router::{Command, SessionState};
use crate::wire::Uid;

/// The rules that are judged here.
const RULES: [Rule; 3] = [Rule::ObjectSilent, Rule::ObjectChatty, Rule::Uplink];

impl Turn<'_> {
    /// Notes who speaks with this command.
    pub(super) fn note_words(&mut self, command: &Command<'_>) {
        let Core { router, seen, .. } = &mut *self.core;
        match command {
            Command::Login(login) => {
                let Some(group) = router.group_of(login.uid) else { return };
                if seen.logged_in(login.uid, group, login.source, self.now) {
                    self.tell_two_addresses(login.uid, login.source);
                }
            }
            Command::Request { origin, .. } => {
                if let Some(group) = router.group_of(origin.uid) {
                    seen.sent(origin.uid, group, None, self.now);
                }
            }
            Command::Response { origin, .. } => seen.answered(origin.uid, self.now),
            Command::Disconnected { origin, .. } => seen.left(origin.uid, self.now),
            _ => {}
        }
    }

    /// An object speaks from two addresses in turn, just now from this one.
    pub(super) fn tell_two_addresses(&self, uid: Uid, source: IpAddr) {
        let alerts = &self.hub.alerts;
        let told = alerts.up().into_iter().filter(|up| up.rule == Rule::ObjectTwoAddresses);
        let (mut count, mut is_told) = (0, false);
        for up in told {
            count += 1;
            is_told |= up.subject == uid.as_str();
        }
        if is_told || count < TOLD_MAX {
            let sentence = format!(
                "object {uid} speaks from two addresses in turn, now from {source}: if it is not one device with two ways, its key was copied: `iotsocketd device rotate {uid}`"
            );
            return alerts.raise(Rule::ObjectTwoAddresses, uid.as_str(), sentence);
        }
        let sentence = format!("more than {TOLD_MAX} objects speak from two addresses in turn, now {uid}");
        alerts.raise(Rule::ObjectTwoAddresses, "", sentence);
    }
}

impl Hub {
    /// Looks through all objects for those that are not as usual; to be called every second. `central`: what is wrong with
    /// the way to the central, if anything.
    pub fn judge_objects(&self, now: Instant, central: Option<&str>) {
        let sweep = || {
            let Core { router, seen, .. } = &mut *lock(&self.core);
            seen.sweep(|uid| router.session_state(uid) == SessionState::Live, now)
        };
        while !sweep() {}
        let verdict = lock(&self.core).seen.judge(now);
        if let Some(verdict) = verdict {
            let mut found = found(&verdict, central);
            if verdict.is_early {
                // What was up before the start is so until it can be judged.
                let up = self.alerts.up().into_iter().filter(|up| up.rule == Rule::Uplink);
                found.extend(up.map(|up| (up.rule, up.subject, up.sentence)));
            }
            self.alerts.assess(&RULES, found);
        }
    }

    /// What is learned of objects, for the next run.
    pub fn keep_objects(&self) -> Vec<u8> {
        let now_us = self.right_us();
        let snapshot = lock(&self.core).seen.snapshot(now_us, Instant::now());
        snapshot.encode()
    }

    /// Goes on with what an earlier run kept; to be called at the start. `false`: it cannot be read.
    pub fn restore_objects(&self, bytes: &[u8]) -> bool {
        let now_us = self.right_us();
        let up = self.alerts.up();
        let silent: HashSet<_> =
            up.iter().filter(|up| up.rule == Rule::ObjectSilent).map(|up| up.subject.as_str()).collect();
        let is_out = up.iter().any(|up| up.rule == Rule::Uplink);
        let Core { router, seen, .. } = &mut *lock(&self.core);
        let is_told = |uid: Uid| silent.contains(uid.as_str());
        seen.restore(bytes, now_us, |uid| router.group_of(uid), is_told, is_out)
    }
}

/// All that is wrong: rule, subject, sentence.
fn found(verdict: &Verdict, central: Option<&str>) -> Vec<(Rule, String, String)> {
    let silent = |object: &Unusual| {
        let (uid, gap, usual) = (object.uid, span(object.gap), span(object.usual));
        format!(
            "object {uid} sent nothing for {gap} and usually does every {usual}: look at the device, its battery and its network"
        )
    };
    let chatty = |object: &Unusual| {
        let (uid, usual) = (object.uid, span(object.usual));
        format!(
            "object {uid} sends more than ten times as much as usual (every {usual}): mend the device, or set `rate` of its group"
        )
    };
    let of_object = |rule, object: &Unusual, sentence| (rule, object.uid.as_str().to_owned(), sentence);
    let mut found: Vec<_> =
        verdict.silent.iter().map(|object| of_object(Rule::ObjectSilent, object, silent(object))).collect();
    found.extend(verdict.chatty.iter().map(|object| of_object(Rule::ObjectChatty, object, chatty(object))));
    for (rule, more, how) in [
        (Rule::ObjectSilent, verdict.more_silent, "silent"),
        (Rule::ObjectChatty, verdict.more_chatty, "chatty"),
    ] {
        if more > 0 {
            let sentence =
                format!("{more} more objects are {how}: the console and `GET /v1/objects` show which");
            found.push((rule, String::new(), sentence));
        }
    }
    let uplink = uplink(verdict, central);
    found.extend(uplink.map(|sentence| (Rule::Uplink, String::new(), sentence)));
    found
}

/// One sentence for everything that an outage is behind.
fn uplink(verdict: &Verdict, central: Option<&str>) -> Option<String> {
    let of = |Outage { late, expected }: Outage| {
        format!("{late} of {expected} objects that should have been heard of")
    };
    let groups = verdict.outages.iter().map(|(name, outage)| format!("{} of the group {name}", of(*outage)));
    let silent = match verdict.outage {
        Some(outage) => Some(of(outage)),
        None => groups.reduce(|all, group| format!("{all} and {group}")),
    };
    let silent = silent.map(|who| format!("{who} are silent at once: look at the network between"));
    match (silent, central) {
        (Some(silent), Some(central)) => Some(format!("{silent}; {central}")),
        (silent, central) => silent.or(central.map(str::to_owned)),
    }
}

/// A time in the unit that fits.
fn span(seconds: f64) -> String {
    let units = [(86_400.0, "d"), (3600.0, "h"), (60.0, "min")];
    match units.into_iter().find(|(unit, _)| seconds >= 2.0 * unit) {
        Some((unit, name)) => format!("{:.0} {name}", seconds / unit),
        None => format!("{seconds:.0} s"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::time::Duration;

    use super::*;
    use crate::hub::alerts::Step;
    use crate::hub::testing::{hub_that_records, settings};
    use crate::net::AllowFrom;
    use crate::router::access::AccessList;
    use crate::router::{Group, Origin, Settings};
    use crate::wire::{AclItem, AuthKey, GroupName, Payload};

    const SECOND: Duration = Duration::from_secs(1);
    const MINUTE: Duration = Duration::from_secs(60);

    /// A hub with objects, a simulated clock, and what it told.
    struct World {
        hub: std::sync::Arc<Hub>,
        uids: Vec<Uid>,
        now: Instant,
        told: Vec<String>,
    }

    fn list(uids: &[Uid]) -> AccessList {
        let mut list = AccessList::default();
        for uid in uids {
            let item = AclItem { group: group(), uid: *uid, key: AuthKey([7; 16]) };
            list.add(item, |_| true).unwrap();
        }
        list
    }

    fn group() -> GroupName {
        GroupName::parse("Devices").unwrap()
    }

    impl World {
        /// All of them report every minute and are known to.
        fn new(objects: usize) -> Self {
            let rights = Group {
                telemetry: true,
                token_ttl: MINUTE,
                validate: false,
                max_payload: 100,
                rate: 0,
                allow_from: AllowFrom::default(),
            };
            let groups = HashMap::from([(group(), rights)]);
            let settings = Settings { groups, ..settings() };
            let uids: Vec<_> = (0..objects).map(|n| Uid::parse(&format!("pump-{n:03}")).unwrap()).collect();
            let hub = hub_that_records(settings, list(&uids));
            let mut world = Self { hub, uids, now: Instant::now(), told: Vec::new() };
            (0..20).for_each(|_| world.minute(objects));
            assert_eq!(world.told, [""; 0]);
            world
        }

        /// A minute passes, in which the first so many send something.
        fn minute(&mut self, senders: usize) {
            (0..senders).for_each(|object| self.send(object));
            for _ in 0..60 {
                self.now += SECOND;
                self.look(None);
            }
        }

        /// This one sends something.
        fn send(&mut self, object: usize) {
            let origin = Origin { connection: 0, uid: self.uids[object] };
            let request = Command::Request { origin, uid: None, number: 1, payload: Payload::EMPTY };
            self.hub.turn(self.now).handle(request);
        }

        fn look(&mut self, central: Option<&str>) {
            self.hub.judge_objects(self.now, central);
            for told in self.hub.tick_alerts(self.now) {
                let sign = if told.change.step == Step::Raised { '+' } else { '-' };
                let alert = told.change.alert;
                self.told
                    .push(format!("{sign}{} {}", alert.rule.name(), alert.subject).trim_end().to_owned());
            }
        }
    }

    #[test]
    fn a_silent_object_is_told_once_and_cleared_once() {
        let mut world = World::new(20);
        (0..10).for_each(|_| world.minute(19));
        assert_eq!(world.told, ["+object_silent pump-019"]);
        let sentence = world.hub.alerts.up()[0].sentence.clone();
        assert!(
            sentence.contains("pump-019 sent nothing for 11 min and usually does every 60 s"),
            "{sentence}"
        );
        (0..10).for_each(|_| world.minute(20));
        assert_eq!(world.told, ["+object_silent pump-019", "-object_silent pump-019"]);
    }

    #[test]
    fn a_chatty_object_is_told_once_and_cleared_once() {
        let mut world = World::new(20);
        (0..300).for_each(|_| world.send(19));
        world.look(None);
        assert_eq!(world.told, ["+object_chatty pump-019"]);
        let sentence = world.hub.alerts.up()[0].sentence.clone();
        assert!(sentence.contains("pump-019 sends more than ten times as much as usual"), "{sentence}");
        (0..30).for_each(|_| world.minute(20));
        assert_eq!(world.told, ["+object_chatty pump-019", "-object_chatty pump-019"]);
    }

    #[test]
    fn an_outage_of_all_is_one_alert() {
        let mut world = World::new(200);
        (0..10).for_each(|_| world.minute(0));
        assert_eq!(world.told, ["+uplink"]);
        let sentence = world.hub.alerts.up()[0].sentence.clone();
        assert!(
            sentence.starts_with("200 of 200 objects that should have been heard of are silent"),
            "{sentence}"
        );
        (0..10).for_each(|_| world.minute(199));
        assert_eq!(world.told, ["+uplink", "-uplink", "+object_silent pump-199"], "one did not come back");
    }

    #[test]
    fn an_object_that_is_taken_off_the_list_is_no_alert_any_more() {
        let mut world = World::new(20);
        (0..5).for_each(|_| world.minute(19));
        world.hub.replace_access(list(&world.uids[..19]), "test");
        world.uids.pop();
        world.minute(19);
        assert_eq!(world.told, ["+object_silent pump-019", "-object_silent pump-019"]);
    }

    #[test]
    fn the_central_that_is_away_is_told_with_the_objects() {
        let mut world = World::new(5);
        (0..4).for_each(|_| world.minute(0));
        world.look(Some("the central is away"));
        let sentence = world.hub.alerts.up()[0].sentence.clone();
        assert!(
            sentence.starts_with("5 of 5 objects") && sentence.ends_with("; the central is away"),
            "{sentence}"
        );
        assert_eq!(world.told, ["+uplink"]);
    }

    #[test]
    fn so_many_objects_with_two_addresses_are_told_and_the_others_as_one() {
        let world = World::new(TOLD_MAX + 2);
        for uid in &world.uids {
            for last in 0..16 {
                let source = IpAddr::from([10, 0, 0, last % 2]);
                let mut turn = world.hub.turn(world.now);
                if turn.core.seen.sent(*uid, group(), Some(source), world.now) {
                    turn.tell_two_addresses(*uid, source);
                }
            }
            world.hub.tick_alerts(world.now);
        }
        let up = world.hub.alerts.up();
        assert_eq!(up.len(), TOLD_MAX + 1, "{up:?}");
        assert!(up.iter().all(|up| up.rule == Rule::ObjectTwoAddresses));
        assert_eq!(up[0].subject, "");
        assert!(up[1].sentence.contains("`iotsocketd device rotate pump-000`"), "{}", up[1].sentence);
    }

    #[test]
    fn times_are_told_in_the_unit_that_fits() {
        let told = [0.2, 119.4, 120.0, 7199.0, 7200.0, 172_800.0].map(span);
        assert_eq!(told, ["0 s", "119 s", "2 min", "120 min", "2 h", "2 d"]);
    }
}
