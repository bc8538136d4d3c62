//! Deeds that repeat, counted: at most one record a minute for each who does them from somewhere, and for so many of them
//! only. So neither strangers nor busy programs wear the medium out.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::What;

/// Between two records of the same deed by the same from the same place.
pub const PERIOD: Duration = Duration::from_secs(60);
/// Places that strangers come from, and keys and places together, that are told one by one within a period. All others are
/// told together, as one.
pub const TOLD_APART_MAX: usize = 64;
/// Objects, with the places that they send from, whose messages are refused, told one by one.
pub const OBJECTS_TOLD_APART_MAX: usize = 32;
/// The same of sources of partner networks, and of places that datagrams of nobody come from: whoever sends one can write
/// down what place he likes.
pub const SENDERS_TOLD_APART_MAX: usize = 8;
/// Bytes of a record, roughly.
const RECORD_LEN: usize = 400;
const DAY: u64 = 24 * 3600;
/// Records of refusals and uses of keys within a period at most.
const RECORDS_MAX: u64 =
    (3 * (TOLD_APART_MAX + 1) + (OBJECTS_TOLD_APART_MAX + 1) + 2 * (SENDERS_TOLD_APART_MAX + 1)) as u64;
/// What they can take of the medium a day, whatever comes in.
pub const BYTES_A_DAY_MAX: u64 = RECORDS_MAX * RECORD_LEN as u64 * (DAY / PERIOD.as_secs());
const _: () = assert!(BYTES_A_DAY_MAX < 160 << 20, "a card bears that for years");

/// Who does what from where.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Doer {
    /// What.
    pub what: What,
    /// Empty: nobody that is known, or several.
    pub who: String,
    /// `None`: from here, or several places.
    pub from: Option<IpAddr>,
}

#[derive(Debug)]
struct Tally {
    told: Instant,
    /// Since it was told.
    more: u64,
    detail: String,
}

/// The deeds of the last period: by what was done, then by whom and from where.
#[derive(Debug, Default)]
pub struct Tallies(BTreeMap<What, HashMap<Doer, Tally>>);

impl Tallies {
    /// Counts a deed. What is to be recorded now: by whom, how often.
    pub fn count(&mut self, doer: Doer, detail: &str, max: usize, now: Instant) -> Option<(Doer, u64)> {
        let same = self.0.entry(doer.what).or_default();
        if let Some(tally) = same.get_mut(&doer) {
            tally.detail.clear();
            tally.detail.push_str(detail);
            if now.saturating_duration_since(tally.told) < PERIOD {
                tally.more += 1;
                return None;
            }
            tally.told = now;
            return Some((doer, std::mem::take(&mut tally.more) + 1));
        }
        let others = Doer { who: String::new(), from: None, what: doer.what };
        let told_apart = same.len() - usize::from(same.contains_key(&others));
        if doer != others && told_apart >= max {
            return self.count(others, detail, max, now);
        }
        same.insert(doer.clone(), Tally { told: now, more: 0, detail: detail.to_owned() });
        Some((doer, 1))
    }

    /// Time passed: what is to be recorded of deeds that were counted and not told, with the last detail. `all`: though
    /// their time has not come.
    pub fn due(&mut self, now: Instant, all: bool) -> Vec<(Doer, u64, String)> {
        let mut due = Vec::new();
        for same in self.0.values_mut() {
            same.retain(|doer, tally| {
                if !all && now.saturating_duration_since(tally.told) < PERIOD {
                    return true;
                }
                if tally.more == 0 {
                    return false;
                }
                due.push((doer.clone(), std::mem::take(&mut tally.more), tally.detail.clone()));
                tally.told = now;
                true
            });
        }
        due.sort_unstable();
        due
    }

    /// How many are kept.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.0.values().map(HashMap::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn stranger(number: u32) -> Doer {
        let from = Some(IpAddr::from(Ipv4Addr::from_bits(0x0a00_0000 + number)));
        Doer { what: What::Refused, who: String::new(), from }
    }

    #[test]
    fn one_record_a_minute_for_each_source_with_its_count() {
        let (mut tallies, start) = (Tallies::default(), Instant::now());
        let mut count = |doer: Doer, at| tallies.count(doer, "tls", TOLD_APART_MAX, start + at);
        assert_eq!(count(stranger(1), Duration::ZERO), Some((stranger(1), 1)));
        for _ in 0..1000 {
            assert_eq!(count(stranger(1), PERIOD - Duration::from_millis(1)), None);
        }
        assert_eq!(count(stranger(2), Duration::from_secs(1)), Some((stranger(2), 1)));
        assert_eq!(count(stranger(1), PERIOD), Some((stranger(1), 1001)));
        count(stranger(1), PERIOD);
        assert_eq!(tallies.due(start + PERIOD, false), [], "the second did nothing more");
        let due = tallies.due(start + 2 * PERIOD, false);
        assert_eq!(due, [(stranger(1), 1, "tls".to_owned())]);
        assert_eq!((tallies.due(start + 3 * PERIOD, false), tallies.len()), (vec![], 0));
    }

    #[test]
    fn beyond_so_many_sources_the_others_are_told_as_one() {
        let (mut tallies, start) = (Tallies::default(), Instant::now());
        let max = u32::try_from(TOLD_APART_MAX).unwrap();
        let told = (0..max).filter_map(|number| tallies.count(stranger(number), "", TOLD_APART_MAX, start));
        assert_eq!(told.count(), TOLD_APART_MAX);
        let others = Doer { from: None, ..stranger(0) };
        let mut more =
            (max..10 * max).map(|number| tallies.count(stranger(number), "", TOLD_APART_MAX, start));
        assert_eq!(more.next(), Some(Some((others.clone(), 1))));
        assert!(more.all(|told| told.is_none()));
        let key = Doer { what: What::KeyUsed, who: "erp".to_owned(), from: None };
        assert!(tallies.count(key, "", TOLD_APART_MAX, start).is_some(), "other deeds have their own places");
        assert_eq!(tallies.len(), TOLD_APART_MAX + 2);
        let due = tallies.due(start + PERIOD, false);
        assert_eq!(due, [(others, 9 * u64::from(max) - 1, String::new())]);
    }

    #[test]
    fn at_the_end_everything_is_told() {
        let (mut tallies, start) = (Tallies::default(), Instant::now());
        for _ in 0..3 {
            tallies.count(stranger(1), "last", TOLD_APART_MAX, start);
        }
        assert_eq!(tallies.due(start, true), [(stranger(1), 2, "last".to_owned())]);
    }
}
