//! What can be wrong: the names of alerts, how much they press, and when each is over.

use std::time::Duration;

/// Something that can be wrong. README has the same table, with who must act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// The central's key is one that everybody knows.
    WeakCentralKey,
    /// Objects have keys that everybody knows.
    WeakObjectKeys,
    /// Messages for the central fill the queue.
    Queue,
    /// Nothing is recorded any more.
    JournalReadOnly,
    /// The journal takes nothing new.
    JournalFull,
    /// A write failed and was made good.
    JournalWritesFailed,
    /// Parts of the journal cannot be read.
    JournalDamaged,
    /// What is to be archived cannot be.
    Archive,
    /// The books are not what lies in the journal.
    Books,
    /// The disk is nearly full.
    Disk,
    /// The medium says that its life is nearly used up.
    MediumWorn,
    /// The central's webhook for requests fails.
    RequestWebhook,
    /// The central's webhook for telemetry fails.
    TelemetryWebhook,
    /// The central's webhook for results fails.
    ResultWebhook,
    /// Another destination fails; its name.
    Destination,
    /// The machine does not know the time.
    ClockUnset,
    /// The certificate ends; how soon.
    Certificate,
    /// Many logins fail.
    LoginFailures,
    /// An object is not heard of as usual; its UID.
    ObjectSilent,
    /// An object sends far more than usual; its UID.
    ObjectChatty,
    /// An object speaks from two addresses in turn; its UID.
    ObjectTwoAddresses,
    /// Most objects are silent at once.
    Uplink,
    /// The run before did not stop in order.
    Restarted,
    /// A new version was given up.
    UpgradeRolledBack,
    /// The backup, or its trial restore, failed.
    Backup,
    /// The newest backup is not in its second place.
    BackupCopy,
    /// A partner network's messages cannot be mapped; source and shape.
    Quarantine,
    /// The supply's voltage is too low.
    UnderVoltage,
    /// The machine is too hot.
    Temperature,
    /// Messages take long to their destination.
    Latency,
    /// Availability is at risk; over how many days.
    Availability,
    /// The start of the image found something wrong; what it is about.
    Gateway,
    /// The file of the access list cannot be taken up.
    AccessList,
    /// There are fewer descriptors than the configured connections need.
    OpenFiles,
    /// The configuration as it lies there cannot be taken up.
    Configuration,
}

/// How much an alert presses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// Somebody should look within days.
    Soon,
    /// Something is lost, or about to be.
    Now,
}

/// When an alert is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// When it was found to be over, for so long.
    Over(Duration),
    /// So long after it was raised the last time: it tells of something that happened.
    After(Duration),
}

/// How long what was wrong must be over. Shorter pauses are the same alert.
pub const QUIET: Duration = Duration::from_secs(10);
/// The same for what comes and goes by its nature.
const LONG_QUIET: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// In the order of [`Rule`].
const TABLE: [(Rule, &str, Weight, End); 35] = {
    use End::{After, Over};
    use Rule::*;
    use Weight::{Now, Soon};
    [
        (WeakCentralKey, "weak_central_key", Soon, Over(QUIET)),
        (WeakObjectKeys, "weak_object_keys", Soon, Over(QUIET)),
        (Queue, "queue", Soon, Over(QUIET)),
        (JournalReadOnly, "journal_read_only", Now, Over(QUIET)),
        (JournalFull, "journal_full", Now, Over(QUIET)),
        (JournalWritesFailed, "journal_writes_failed", Now, Over(QUIET)),
        (JournalDamaged, "journal_damaged", Now, Over(QUIET)),
        (Archive, "archive", Soon, Over(QUIET)),
        (Books, "books", Now, Over(QUIET)),
        (Disk, "disk", Now, Over(QUIET)),
        (MediumWorn, "medium_worn", Soon, Over(QUIET)),
        (RequestWebhook, "request_webhook", Now, Over(QUIET)),
        (TelemetryWebhook, "telemetry_webhook", Now, Over(QUIET)),
        (ResultWebhook, "result_webhook", Soon, Over(QUIET)),
        (Destination, "destination", Soon, Over(QUIET)),
        (ClockUnset, "clock_unset", Soon, Over(QUIET)),
        (Certificate, "certificate", Soon, Over(QUIET)),
        (LoginFailures, "login_failures", Soon, Over(LONG_QUIET)),
        (ObjectSilent, "object_silent", Soon, Over(QUIET)),
        (ObjectChatty, "object_chatty", Soon, Over(LONG_QUIET)),
        (ObjectTwoAddresses, "object_two_addresses", Soon, After(HOUR)),
        (Uplink, "uplink", Now, Over(QUIET)),
        (Restarted, "restarted", Soon, After(HOUR)),
        (UpgradeRolledBack, "upgrade_rolled_back", Now, After(DAY)),
        (Backup, "backup", Soon, Over(QUIET)),
        (BackupCopy, "backup_copy", Soon, Over(QUIET)),
        (Quarantine, "quarantine", Soon, After(DAY)),
        (UnderVoltage, "under_voltage", Now, Over(LONG_QUIET)),
        (Temperature, "temperature", Now, Over(LONG_QUIET)),
        (Latency, "latency", Soon, Over(LONG_QUIET)),
        (Availability, "availability", Soon, Over(QUIET)),
        (Gateway, "gateway", Now, Over(QUIET)),
        (AccessList, "access_list", Soon, Over(QUIET)),
        (OpenFiles, "open_files", Soon, Over(QUIET)),
        (Configuration, "configuration", Soon, Over(QUIET)),
    ]
};

impl Rule {
    /// Every rule.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|(rule, ..)| *rule)
    }

    /// Its name, which never changes.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// The rule of this name.
    pub fn find(name: &str) -> Option<Self> {
        Self::all().find(|rule| rule.name() == name)
    }

    /// How much it presses.
    pub fn weight(self) -> Weight {
        self.row().2
    }

    /// When it is over.
    pub fn end(self) -> End {
        self.row().3
    }

    /// Whether its subject is an object's UID.
    pub fn is_of_object(self) -> bool {
        matches!(self, Self::ObjectSilent | Self::ObjectChatty | Self::ObjectTwoAddresses)
    }

    fn row(self) -> (Self, &'static str, Weight, End) {
        // The table is in the order of the rules: there is one for each.
        TABLE.get(self as usize).copied().unwrap_or((self, "", Weight::Soon, End::Over(QUIET)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_stands_at_its_place_and_is_found_by_its_name() {
        for (at, rule) in Rule::all().enumerate() {
            assert_eq!(rule as usize, at);
            assert_eq!(Rule::find(rule.name()), Some(rule));
        }
        assert_eq!(Rule::Configuration as usize + 1, TABLE.len(), "the last one");
    }

    #[test]
    fn the_table_of_readme_is_that_of_the_rules() {
        let readme = include_str!("../../../README.md");
        let section = readme.split_once("\n## Alerts\n").unwrap().1;
        let section = section.split_once("\n## ").unwrap().0;
        let names: Vec<_> =
            section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
        let mut expected: Vec<_> = Rule::all().map(Rule::name).collect();
        expected.sort_unstable();
        assert_eq!(names, expected);
    }
}
