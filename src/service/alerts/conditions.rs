//! What is wrong at a moment, by what was observed: rules and their limits, nothing else.

use crate::delivery::central;
use crate::endpoint::webhook::Failing;
use crate::hub::alerts::Rule;
use crate::hub::status::{Backups, Certificate, Destination, Status, Wear};
use crate::router::access::WeakObjects;
use crate::service::journal::Health;

/// Percent by which a share must fall below its limit before it is not wrong any more; half of the limit at most.
const PERCENT_BACK: u64 = 5;
/// From this share of its life on, a medium is to be replaced, in percent.
const WORN_PERCENT: u8 = 80;
/// Failed logins of a minute, on all listeners.
const FAILED_LOGINS: u64 = 20;
/// So long after its start the machine should know the time, in seconds.
const CLOCK_UNSET_SECONDS: u64 = 600;
/// Days before the certificate's end at which that is told, each as an alert of its own.
const CERTIFICATE_DAYS: [(i64, &str); 3] = [(1, "1 day"), (7, "7 days"), (30, "30 days")];
/// Millidegrees from which on the machine is too hot, and below which it is not any more. A Raspberry Pi slows down at 80.
const HOT: i64 = 80_000;
const COOL: i64 = 75_000;
/// Messages of a minute that took more than a second to their destination: so many, and one in so many of all.
const SLOW: u64 = 10;
const SLOW_SHARE: u64 = 100;

/// The rules that are judged here.
pub const RULES: [Rule; 26] = [
    Rule::WeakCentralKey,
    Rule::WeakObjectKeys,
    Rule::Queue,
    Rule::JournalReadOnly,
    Rule::JournalFull,
    Rule::JournalWritesFailed,
    Rule::JournalDamaged,
    Rule::Archive,
    Rule::Books,
    Rule::Disk,
    Rule::MediumWorn,
    Rule::RequestWebhook,
    Rule::TelemetryWebhook,
    Rule::ResultWebhook,
    Rule::Destination,
    Rule::Backup,
    Rule::BackupCopy,
    Rule::ClockUnset,
    Rule::Certificate,
    Rule::LoginFailures,
    Rule::UnderVoltage,
    Rule::Temperature,
    Rule::Latency,
    Rule::Availability,
    Rule::Gateway,
    Rule::OpenFiles,
];

/// What the configuration says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// The central's key is one that everybody knows.
    pub central_key_is_weak: bool,
    /// Of the queue.
    pub queue_percent: u64,
    /// Of the disk.
    pub disk_percent: u64,
}

/// What was observed.
#[derive(Debug)]
pub struct Observed<'a> {
    /// The snapshot.
    pub status: &'a Status,
    /// The journal.
    pub health: &'a Health,
    /// The central's webhooks.
    pub webhooks: &'a Failing,
    /// Objects with keys that everybody knows.
    pub weak_objects: WeakObjects,
    /// Logins that failed in the last minute.
    pub failed_logins: u64,
    /// Messages that came to their destination in the last minute.
    pub delivered: u64,
    /// Those of them that took more than a second.
    pub slow: u64,
    /// Millidegrees.
    pub hottest: Option<i64>,
    /// The supply gives too little.
    pub is_under_voltage: bool,
}

/// All that is wrong: rule, subject, sentence. `is_up`: what is up already has to fall further before it is over.
pub fn conditions(
    seen: &Observed<'_>,
    thresholds: &Thresholds,
    is_up: impl Fn(Rule) -> bool,
) -> Vec<(Rule, String, String)> {
    let mut found = Vec::new();
    let mut wrong = |rule, sentence: String| found.push((rule, String::new(), sentence));
    let share = |rule, part: u64, whole: u64, percent: u64| {
        let percent = if is_up(rule) { percent - PERCENT_BACK.min(percent / 2) } else { percent };
        whole > 0 && part.saturating_mul(100) >= whole.saturating_mul(percent)
    };
    keys(seen, thresholds, &mut wrong);
    let (queue, disk) = (&seen.status.queue, &seen.status.disk);
    if share(Rule::Queue, queue.bytes, queue.limit, thresholds.queue_percent) {
        let sentence = "messages for the central fill the queue: bring its session or webhook back";
        wrong(Rule::Queue, sentence.to_owned());
    }
    if share(Rule::Disk, disk.total.saturating_sub(disk.free), disk.total, thresholds.disk_percent) {
        wrong(Rule::Disk, "the disk of state_dir is nearly full: make room on it".to_owned());
    }
    if let Some(wear) = &seen.status.wear {
        worn(wear, &mut wrong);
    }
    journal(seen.health, &mut wrong);
    webhooks(seen.webhooks, &mut wrong);
    machine(seen, &is_up, &mut wrong);
    if let Some(backups) = &seen.status.backup {
        backup(backups, &mut wrong);
    }
    if seen.failed_logins >= FAILED_LOGINS {
        let count = seen.failed_logins;
        let sentence = format!("{count} logins failed within a minute: `iotsocketd audit` says from where");
        wrong(Rule::LoginFailures, sentence);
    }
    if seen.slow >= SLOW && seen.slow.saturating_mul(SLOW_SHARE) >= seen.delivered {
        let (slow, all) = (seen.slow, seen.delivered);
        wrong(
            Rule::Latency,
            format!(
                "{slow} of {all} messages of the last minute took more than a second to their destination: look at it and at the network"
            ),
        );
    }
    found.extend(seen.status.destinations.iter().filter_map(destination));
    found.extend(seen.status.certificate.as_ref().and_then(certificate));
    found
}

fn keys(seen: &Observed<'_>, thresholds: &Thresholds, wrong: &mut impl FnMut(Rule, String)) {
    if thresholds.central_key_is_weak {
        let sentence = "the central's key is one that everybody knows: make a fresh one";
        wrong(Rule::WeakCentralKey, sentence.to_owned());
    }
    if let WeakObjects { count, first: Some(first) } = seen.weak_objects {
        let sentence = format!(
            "{count} objects have keys that everybody knows, {first} the first: `device rotate` each"
        );
        wrong(Rule::WeakObjectKeys, sentence);
    }
}

fn journal(health: &Health, wrong: &mut impl FnMut(Rule, String)) {
    if let Some(why) = &health.read_only {
        wrong(Rule::JournalReadOnly, format!("nothing is recorded any more: {why}"));
    }
    if let Some(why) = &health.archive_failed {
        wrong(Rule::Archive, format!("messages whose time is over stay in the journal: {why}"));
    }
    let others = [
        (
            Rule::JournalFull,
            health.is_full,
            "the journal is full and takes nothing new: make room on its disk, or give it more",
        ),
        (
            Rule::JournalWritesFailed,
            health.failed_writes > 0,
            "writing to the journal failed and was made good in another file: check the medium",
        ),
        (
            Rule::JournalDamaged,
            health.found_damaged,
            "parts of the journal cannot be read: see the log, check the medium, restore a backup if it matters",
        ),
        (
            Rule::Books,
            health.books_differ,
            "the books and the journal differ in what waits: see the log, and report it",
        ),
    ];
    for (rule, _, sentence) in others.into_iter().filter(|(_, is_so, _)| *is_so) {
        wrong(rule, sentence.to_owned());
    }
}

fn webhooks(failing: &Failing, wrong: &mut impl FnMut(Rule, String)) {
    for (rule, is_failing) in [
        (Rule::RequestWebhook, failing.request),
        (Rule::TelemetryWebhook, failing.telemetry),
        (Rule::ResultWebhook, failing.result),
    ] {
        if is_failing {
            wrong(rule, "the webhook fails: see the log for the cause, and its operator".to_owned());
        }
    }
}

/// By the medium's own account.
fn worn(wear: &Wear, wrong: &mut impl FnMut(Rule, String)) {
    if let Some(used) = wear.life_used_percent.filter(|used| *used >= WORN_PERCENT) {
        wrong(Rule::MediumWorn, format!("the medium says that {used} % of its life are used: replace it"));
    } else if let Some(reserve) = wear.reserve.filter(|reserve| *reserve != "normal") {
        wrong(
            Rule::MediumWorn,
            format!("the medium says that its reserve of good blocks is {reserve}: replace it"),
        );
    }
}

fn backup(backup: &Backups, wrong: &mut impl FnMut(Rule, String)) {
    match (&backup.error, backup.is_old) {
        (Some(why), _) => wrong(Rule::Backup, format!("the nightly backup failed: {why}")),
        (None, true) => wrong(
            Rule::Backup,
            "no backup was made for two nights: keep the machine running at [backup] at, and its clock right"
                .to_owned(),
        ),
        (None, false) => {}
    }
    if let Some(why) = &backup.copy_error {
        wrong(Rule::BackupCopy, format!("the newest backup is not in its second place: {why}"));
    }
}

fn machine(seen: &Observed<'_>, is_up: &impl Fn(Rule) -> bool, wrong: &mut impl FnMut(Rule, String)) {
    if !seen.status.clock_is_set && seen.status.uptime_seconds >= CLOCK_UNSET_SECONDS {
        let sentence = "the machine does not know the time: check its network and its time servers, or set `[time] trust`; nothing expires until then";
        wrong(Rule::ClockUnset, sentence.to_owned());
    }
    if seen.is_under_voltage {
        let sentence = "the supply gives too little voltage: use a stronger one, and a shorter cable";
        wrong(Rule::UnderVoltage, sentence.to_owned());
    }
    let limit = if is_up(Rule::Temperature) { COOL } else { HOT };
    if let Some(hottest) = seen.hottest
        && hottest >= limit
    {
        let degrees = hottest / 1000;
        wrong(Rule::Temperature, format!("the machine has {degrees} °C: give it air, or shade"));
    }
}

/// A subscriber that does not take its messages. Of the central its webhooks tell.
fn destination(destination: &Destination) -> Option<(Rule, String, String)> {
    let name = &destination.name;
    let sentence = match destination.state {
        _ if name == central::NAME => return None,
        "suspended" => format!(
            "subscriber {name} wants nothing more (410): take it out of the configuration, or `iotsocketd replay` if that was a mistake"
        ),
        "failing" => {
            let why = destination.last_failure.as_deref().unwrap_or("see the log");
            format!("subscriber {name} takes nothing: {why}")
        }
        _ if destination.dead_letters > 0 => {
            let count = destination.dead_letters;
            format!("{count} messages for subscriber {name} were given up: see `iotsocketd deadletters list`")
        }
        _ => return None,
    };
    Some((Rule::Destination, name.clone(), sentence))
}

/// The nearest of the days at which its end is told.
fn certificate(certificate: &Certificate) -> Option<(Rule, String, String)> {
    let Certificate { not_after, days_left } = certificate;
    let (_, subject) = CERTIFICATE_DAYS.into_iter().find(|(days, _)| days_left < days)?;
    let sentence = match days_left {
        i64::MIN..0 => format!("the certificate ended at {not_after}: replace it, clients refuse it"),
        _ => format!("the certificate ends at {not_after}: replace it"),
    };
    Some((Rule::Certificate, subject.to_owned(), sentence))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::status::{Disk, Queue, Wear};
    use crate::wire::Uid;

    const THRESHOLDS: Thresholds =
        Thresholds { central_key_is_weak: false, queue_percent: 80, disk_percent: 90 };

    struct World {
        status: Status,
        health: Health,
        webhooks: Failing,
        weak: WeakObjects,
        counts: [u64; 3],
        hottest: Option<i64>,
        is_under_voltage: bool,
    }

    /// Where all is well.
    fn well() -> World {
        let status = Status {
            clock_is_set: true,
            queue: Queue { bytes: 79, limit: 100, ..Queue::default() },
            disk: Disk { total: 1000, free: 101 },
            certificate: Some(Certificate { not_after: "then".to_owned(), days_left: 30 }),
            uptime_seconds: CLOCK_UNSET_SECONDS,
            wear: Some(Wear {
                life_used_percent: Some(WORN_PERCENT - 1),
                reserve: Some("normal"),
                ..Wear::default()
            }),
            ..Status::default()
        };
        World {
            status,
            health: Health::default(),
            webhooks: Failing::default(),
            weak: WeakObjects::default(),
            counts: [FAILED_LOGINS - 1, 1000, SLOW - 1],
            hottest: Some(HOT - 1),
            is_under_voltage: false,
        }
    }

    fn found(world: &World, up: &[Rule]) -> Vec<(Rule, String)> {
        found_by(world, &THRESHOLDS, up)
    }

    fn found_by(world: &World, thresholds: &Thresholds, up: &[Rule]) -> Vec<(Rule, String)> {
        let [failed_logins, delivered, slow] = world.counts;
        let observed = Observed {
            status: &world.status,
            health: &world.health,
            webhooks: &world.webhooks,
            weak_objects: world.weak,
            failed_logins,
            delivered,
            slow,
            hottest: world.hottest,
            is_under_voltage: world.is_under_voltage,
        };
        let found = conditions(&observed, thresholds, |rule| up.contains(&rule));
        assert!(found.iter().all(|(rule, _, sentence)| RULES.contains(rule) && sentence.len() > 20));
        found.into_iter().map(|(rule, subject, _)| (rule, subject)).collect()
    }

    /// What this change of a world in which all is well makes wrong.
    fn changed(change: impl FnOnce(&mut World)) -> Vec<Rule> {
        let mut world = well();
        change(&mut world);
        found(&world, &[]).into_iter().map(|(rule, _)| rule).collect()
    }

    #[test]
    fn nothing_is_wrong_while_all_is_well() {
        assert_eq!(changed(|_| ()), []);
        assert_eq!(found(&World { hottest: None, ..well() }, &[]), []);
        let empty = World { status: Status { clock_is_set: true, ..Status::default() }, ..well() };
        assert_eq!(found(&empty, &[]), [], "a disk or a queue of no size");
    }

    #[test]
    fn every_fault_is_found_by_its_rule_at_its_limit() {
        type Fault = (Rule, fn(&mut World));
        let faults: [Fault; 22] = [
            (Rule::Queue, |world| world.status.queue.bytes = 80),
            (Rule::Disk, |world| world.status.disk.free = 100),
            (Rule::MediumWorn, |world| {
                world.status.wear = Some(Wear { life_used_percent: Some(80), ..Wear::default() });
            }),
            (Rule::MediumWorn, |world| {
                world.status.wear = Some(Wear { reserve: Some("low"), ..Wear::default() });
            }),
            (Rule::WeakObjectKeys, |world| {
                world.weak = WeakObjects { count: 1, first: Some(Uid::CENTRAL) };
            }),
            (Rule::JournalReadOnly, |world| world.health.read_only = Some("no medium".to_owned())),
            (Rule::Archive, |world| world.health.archive_failed = Some("no room".to_owned())),
            (Rule::JournalFull, |world| world.health.is_full = true),
            (Rule::JournalWritesFailed, |world| world.health.failed_writes = 1),
            (Rule::JournalDamaged, |world| world.health.found_damaged = true),
            (Rule::Books, |world| world.health.books_differ = true),
            (Rule::RequestWebhook, |world| world.webhooks.request = true),
            (Rule::TelemetryWebhook, |world| world.webhooks.telemetry = true),
            (Rule::ResultWebhook, |world| world.webhooks.result = true),
            (Rule::Backup, |world| {
                world.status.backup =
                    Some(Backups { error: Some("no room".to_owned()), ..Backups::default() });
            }),
            (Rule::Backup, |world| {
                world.status.backup = Some(Backups { is_old: true, ..Backups::default() });
            }),
            (Rule::BackupCopy, |world| {
                let copy_error = Some("not mounted".to_owned());
                world.status.backup = Some(Backups { copy_error, ..Backups::default() });
            }),
            (Rule::ClockUnset, |world| world.status.clock_is_set = false),
            (Rule::UnderVoltage, |world| world.is_under_voltage = true),
            (Rule::Temperature, |world| world.hottest = Some(HOT)),
            (Rule::LoginFailures, |world| world.counts[0] = FAILED_LOGINS),
            (Rule::Latency, |world| world.counts[2] = SLOW),
        ];
        for (rule, fault) in faults {
            assert_eq!(changed(fault), [rule]);
        }
        let weak = Thresholds { central_key_is_weak: true, ..THRESHOLDS };
        let world = well();
        let observed = Observed {
            status: &world.status,
            health: &world.health,
            webhooks: &world.webhooks,
            weak_objects: world.weak,
            failed_logins: 0,
            delivered: 0,
            slow: 0,
            hottest: None,
            is_under_voltage: false,
        };
        assert_eq!(conditions(&observed, &weak, |_| false)[0].0, Rule::WeakCentralKey);
    }

    #[test]
    fn each_subscriber_has_an_alert_of_its_own() {
        let destination = |name: &str, state, dead_letters| Destination {
            name: name.to_owned(),
            state,
            dead_letters,
            ..Destination::default()
        };
        let mut world = well();
        world.status.destinations = vec![
            destination(central::NAME, "failing", 0),
            destination("a", "up", 0),
            destination("b", "failing", 0),
            destination("c", "suspended", 1),
            destination("d", "up", 1),
        ];
        let subjects: Vec<_> = found(&world, &[]).into_iter().collect();
        let expected = ["b", "c", "d"].map(|name| (Rule::Destination, name.to_owned()));
        assert_eq!(subjects, expected);
    }

    #[test]
    fn what_is_up_falls_below_its_limit_before_it_is_over() {
        let mut world = well();
        world.status.queue.bytes = 75;
        world.status.disk.free = 150;
        world.hottest = Some(COOL);
        let all = [Rule::Queue, Rule::Disk, Rule::Temperature];
        assert_eq!(found(&world, &all).len(), 3);
        world.status.queue.bytes = 74;
        world.status.disk.free = 151;
        world.hottest = Some(COOL - 1);
        assert_eq!(found(&world, &all), []);
    }

    /// An empty queue is never too full.
    #[test]
    fn a_small_limit_can_be_fallen_below() {
        for queue_percent in 1..=10 {
            let mut world = well();
            world.status.queue.bytes = 0;
            let thresholds = Thresholds { queue_percent, ..THRESHOLDS };
            assert_eq!(found_by(&world, &thresholds, &[Rule::Queue]), [], "{queue_percent}");
            world.status.queue.bytes = queue_percent;
            assert_eq!(found_by(&world, &thresholds, &[Rule::Queue]).len(), 1, "{queue_percent}");
        }
    }

    #[test]
    fn the_clock_has_its_time_and_slow_messages_their_share() {
        let early = |world: &mut World| {
            world.status.clock_is_set = false;
            world.status.uptime_seconds -= 1;
        };
        assert_eq!(changed(early), []);
        let few = |world: &mut World| world.counts = [0, SLOW * SLOW_SHARE + 1, SLOW];
        assert_eq!(changed(few), []);
    }

    #[test]
    fn the_certificates_end_is_told_once_for_each_stage() {
        let stage = |days_left| {
            let mut world = well();
            world.status.certificate = Some(Certificate { not_after: "then".to_owned(), days_left });
            found(&world, &[]).into_iter().map(|(_, subject)| subject).collect::<Vec<_>>()
        };
        let stages = [30, 29, 7, 6, 1, 0, -3].map(stage);
        assert_eq!(
            stages.map(|stages| stages.join(",")),
            ["", "30 days", "30 days", "7 days", "7 days", "1 day", "1 day"]
        );
    }
}
