//! What is known of objects from when and where they spoke: last seen, the usual interval, and who is not as usual.
//!
//! Every message costs one look-up. Once a second all objects are looked through, a slice at a time ([`Seen::sweep`]), and
//! judged together ([`Seen::judge`]):
//!
//! ```text
//!  learning ──▶ as usual ◀──(heard)── late ──(others are well)──▶ silent: an alert
//!                  └─(nothing came)────▲ └──(most are)──▶ one outage for all, until most are heard again;
//!                                        then who is not begins to be waited for anew
//! ```
//!
//! Only the monotonic clock counts: a wall clock that is set changes nothing.

mod addresses;
mod habit;
mod kept;
mod outage;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::wire::{GroupName, Uid};
use addresses::Addresses;
pub use addresses::Way;
use habit::Habit;
pub use habit::Word;
pub use kept::Snapshot;
pub use outage::Outage;
use outage::Tally;

/// Objects that are looked through at a time: others want the lock, too.
pub const SLICE: usize = 2048;
/// Objects that are told one by one to be silent, or chatty; of the others only their number.
pub const TOLD_MAX: usize = 32;
/// After a start objects need time to find their way back: nobody is late before, in seconds.
pub const START_GRACE: f64 = 300.0;
/// Groups that are told apart; objects of the others are judged with all.
const GROUPS_MAX: usize = 255;

/// An object as it is known at a moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Known {
    /// How long ago its last connection began or ended; `None`: it had none.
    pub changed: Option<Duration>,
    /// When it was heard of last; `None`: that is not known.
    pub heard: Option<When>,
    /// Its usual interval, in seconds; `None`: that is not learned yet.
    pub usual: Option<f64>,
    /// How that goes with what it does now; `None` likewise.
    pub expectation: Option<Expectation>,
}

/// A moment, by the clock that knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// So long ago.
    Ago(Duration),
    /// Before the start: microseconds since 1970.
    At(i64),
}

/// Whether an object does as usual.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Expectation {
    /// It does.
    Met,
    /// It should have been heard of.
    Late,
    /// For so long that it is told, or would be if not most were.
    Silent,
    /// It sends far more.
    Chatty,
}

/// An object that is not as usual.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Unusual {
    /// Which.
    pub uid: Uid,
    /// Its usual interval, in seconds.
    pub usual: f64,
    /// How long ago it said something, in seconds.
    pub gap: f64,
}

/// Who is not as usual.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Verdict {
    /// Objects that are silent, ...
    pub silent: Vec<Unusual>,
    /// ... and how many more.
    pub more_silent: usize,
    /// Objects that are chatty, ...
    pub chatty: Vec<Unusual>,
    /// ... and how many more.
    pub more_chatty: usize,
    /// Of all objects, most are late.
    pub outage: Option<Outage>,
    /// Of the objects of a group, most are late.
    pub outages: Vec<(GroupName, Outage)>,
    /// It is too early to say anything of outages.
    pub is_early: bool,
}

/// When an object was heard of.
#[derive(Debug, Clone, Copy)]
enum Heard {
    /// So many seconds after the start.
    Here(f64),
    /// Before the start: microseconds since 1970.
    Before(i64),
}

/// One object. Moments are seconds since the start.
#[derive(Debug, Clone, Copy)]
struct Object {
    uid: Uid,
    changed: Option<f64>,
    heard: Option<Heard>,
    /// When it said something last, or began to be waited for anew; below zero: before the start, without the time in which
    /// nothing ran.
    said: Option<f64>,
    habit: Habit,
    addresses: Addresses,
    /// Its place in the groups.
    group: u8,
    /// It is told that it is silent.
    is_told: bool,
}

/// All objects that were heard of; those of the access list at most, if others are let go.
#[derive(Debug)]
pub struct Seen {
    start: Instant,
    places: HashMap<Uid, u32>,
    objects: Vec<Object>,
    groups: Vec<GroupName>,
    /// Most objects of these are late: all, and each group.
    is_out: Vec<bool>,
    sweep: Sweep,
}

/// How far a sweep is.
#[derive(Debug, Default)]
struct Sweep {
    next: usize,
    /// Of all objects, and of each group.
    tallies: Vec<Tally>,
    silent: Vec<u32>,
    chatty: Vec<u32>,
}

impl Object {
    fn new(uid: Uid, group: u8) -> Self {
        Self {
            uid,
            changed: None,
            heard: None,
            said: None,
            habit: Habit::default(),
            addresses: Addresses::default(),
            group,
            is_told: false,
        }
    }

    /// `is_out`: most of its like are late.
    fn say(&mut self, word: Word, is_out: bool, now: f64) {
        self.heard = Some(Heard::Here(now));
        let gap = self.said.map(|said| now - said);
        let is_late = || self.habit.late_after().is_some_and(|late| gap.is_some_and(|gap| gap > late));
        let is_interrupted = is_out || self.said.is_some_and(|said| said < 0.0);
        let is_own = !(is_interrupted && is_late());
        if self.habit.said(word, gap, is_own) {
            self.said = Some(now);
            self.is_told = false;
        }
    }

    /// How long ago it said something.
    fn gap(&self, now: f64) -> f64 {
        self.said.map_or(0.0, |said| now - said)
    }

    fn unusual(&self, now: f64) -> Option<Unusual> {
        Some(Unusual { uid: self.uid, usual: self.habit.usual()?, gap: self.gap(now) })
    }

    /// Whether it does as usual; `is_live`: it has a connection.
    fn expectation(&self, is_live: bool, now: f64) -> Option<Expectation> {
        let (late, silent, gap) = (self.habit.late_after()?, self.habit.silent_after()?, self.gap(now));
        Some(match () {
            () if self.is_told => Expectation::Silent,
            () if self.habit.is_chatty(gap) => Expectation::Chatty,
            // One that says nothing of its own accord is well while it is connected.
            () if is_live && !self.habit.has_data() => Expectation::Met,
            () if now < START_GRACE || gap <= late => Expectation::Met,
            () if gap <= silent => Expectation::Late,
            () => Expectation::Silent,
        })
    }
}

impl Seen {
    /// Nobody was heard of. Moments are told from here on.
    pub fn new(start: Instant) -> Self {
        Self {
            start,
            places: HashMap::new(),
            objects: Vec::new(),
            groups: Vec::new(),
            is_out: Vec::new(),
            sweep: Sweep::default(),
        }
    }

    /// The object logged in from there. Whether it speaks from two addresses in turn.
    pub fn logged_in(&mut self, uid: Uid, group: GroupName, source: IpAddr, at: Instant) -> bool {
        let now = self.moment(at);
        let Some((object, is_out)) = self.object(uid, group) else { return false };
        object.changed = Some(now);
        object.say(Word::Login, is_out, now);
        object.addresses.heard(Way::Tcp, source, now, object.habit.usual())
    }

    /// A connection of the object ended.
    pub fn left(&mut self, uid: Uid, at: Instant) {
        let now = self.moment(at);
        if let Some(object) = self.find(uid) {
            (object.changed, object.heard) = (Some(now), Some(Heard::Here(now)));
            if !object.habit.has_data() && object.said.is_some() {
                // It was there until now.
                object.said = Some(now);
            }
        }
    }

    /// The object sent something of its own accord; from there, if it was a datagram. Whether it speaks from two addresses
    /// in turn.
    pub fn sent(&mut self, uid: Uid, group: GroupName, source: Option<IpAddr>, at: Instant) -> bool {
        let now = self.moment(at);
        let Some((object, is_out)) = self.object(uid, group) else { return false };
        object.say(Word::Data, is_out, now);
        source.is_some_and(|source| object.addresses.heard(Way::Udp, source, now, object.habit.usual()))
    }

    /// The object answered. When that is depends on who asks.
    pub fn answered(&mut self, uid: Uid, at: Instant) {
        let now = self.moment(at);
        if let Some(object) = self.find(uid) {
            object.heard = Some(Heard::Here(now));
        }
    }

    /// What is known of an object; `is_live`: it has a connection.
    pub fn get(&self, uid: Uid, is_live: bool, at: Instant) -> Option<Known> {
        let (now, object) = (self.moment(at), self.objects.get(self.place(uid)?)?);
        let ago = |moment: f64| Duration::try_from_secs_f64(now - moment).unwrap_or_default();
        Some(Known {
            changed: object.changed.map(ago),
            heard: object.heard.map(|heard| match heard {
                Heard::Here(moment) => When::Ago(ago(moment)),
                Heard::Before(us) => When::At(us),
            }),
            usual: object.habit.usual(),
            expectation: object.expectation(is_live, now),
        })
    }

    /// Lets go of those that have no group any more, and takes up the groups of the others.
    pub fn regroup(&mut self, group: impl Fn(Uid) -> Option<GroupName>) {
        let was_out: Vec<_> = self.names_of_outages().collect();
        let is_out = self.is_out.first().copied().unwrap_or_default();
        self.groups.clear();
        let mut objects = std::mem::take(&mut self.objects);
        objects.retain_mut(|object| {
            let Some(group) = group(object.uid) else { return false };
            object.group = self.group(group);
            true
        });
        self.objects = objects;
        self.places = self.objects.iter().zip(0..).map(|(object, place)| (object.uid, place)).collect();
        let of_groups = self.groups.iter().map(|name| was_out.contains(name));
        self.is_out = std::iter::once(is_out).chain(of_groups).collect();
        self.sweep = Sweep::default();
    }

    /// What is to be kept for the next run; `taken_us`: microseconds since 1970, if the clock is right.
    pub fn snapshot(&self, taken_us: Option<i64>, at: Instant) -> Snapshot {
        Snapshot { objects: self.objects.clone(), now: self.moment(at), taken_us }
    }

    /// Looks on through the objects, [`SLICE`] of them. Whether that was the last of them.
    pub fn sweep(&mut self, is_live: impl Fn(Uid) -> bool, at: Instant) -> bool {
        let now = self.moment(at);
        let Self { objects, groups, sweep, .. } = self;
        sweep.tallies.resize(groups.len() + 1, Tally::default());
        let from = sweep.next;
        sweep.next += SLICE;
        for (object, place) in objects.iter_mut().zip(0..).skip(from).take(SLICE) {
            let habit = &object.habit;
            let Some(late_after) = habit.late_after() else {
                object.is_told = false;
                continue;
            };
            let gap = object.gap(now);
            // Only of one that would be late, or has to be told, it is asked whether it is connected.
            let is_quiet = gap > late_after && (habit.has_data() || !is_live(object.uid));
            match object.expectation(!is_quiet, now) {
                Some(Expectation::Chatty) => sweep.chatty.push(place),
                Some(Expectation::Silent) => sweep.silent.push(place),
                _ => {}
            }
            if object.is_told {
                if !is_quiet && now >= START_GRACE {
                    object.is_told = false;
                }
                continue;
            }
            let is_late = is_quiet && now >= START_GRACE;
            let of_group = usize::from(object.group) + 1;
            for tally in [0, of_group] {
                if let Some(tally) = sweep.tallies.get_mut(tally) {
                    tally.count(late_after, is_late);
                }
            }
        }
        sweep.next >= objects.len()
    }

    /// Says who is not as usual, once a sweep is over; `None`: it has to begin anew, since the groups changed meanwhile.
    pub fn judge(&mut self, at: Instant) -> Option<Verdict> {
        let now = self.moment(at);
        let sweep = std::mem::take(&mut self.sweep);
        if sweep.next < self.objects.len() {
            return None;
        }
        let mut verdict = Verdict { is_early: now < START_GRACE, ..Verdict::default() };
        if !verdict.is_early {
            let outages: Vec<_> = sweep.tallies.iter().map(Tally::judge).collect();
            self.end_outages(&outages, now);
            self.is_out = outages.iter().map(Option::is_some).collect();
            verdict.outage = outages.first().copied().flatten();
            let of_groups = self.groups.iter().zip(outages.iter().skip(1));
            verdict.outages = of_groups.filter_map(|(name, outage)| Some((*name, (*outage)?))).collect();
        }
        let is_told = |place: &u32| self.objects.get(*place as usize).is_some_and(|object| object.is_told);
        let (told, fresh): (Vec<u32>, Vec<u32>) = sweep.silent.iter().partition(|place| is_told(place));
        // Who is told already stays so: others do not push it out.
        for place in told.into_iter().chain(fresh) {
            let Some(object) = self.objects.get_mut(place as usize) else { continue };
            let is_silent =
                object.is_told || object.habit.silent_after().is_some_and(|after| object.gap(now) > after);
            let is_held_back = !object.is_told && is_out_of(&self.is_out, object.group);
            if !is_silent || is_held_back {
                continue;
            }
            if verdict.silent.len() < TOLD_MAX {
                object.is_told = true;
                verdict.silent.extend(object.unusual(now));
            } else {
                verdict.more_silent += 1;
            }
        }
        let chatty = sweep.chatty.iter().filter_map(|place| self.objects.get(*place as usize)?.unusual(now));
        for object in chatty {
            if verdict.chatty.len() < TOLD_MAX {
                verdict.chatty.push(object);
            } else {
                verdict.more_chatty += 1;
            }
        }
        Some(verdict)
    }

    /// Where an outage is over, who is still late begins to be waited for anew.
    fn end_outages(&mut self, outages: &[Option<Outage>], now: f64) {
        let is_over = self.is_out.iter().zip(outages).map(|(was_out, outage)| *was_out && outage.is_none());
        let is_over: Vec<_> = is_over.collect();
        if !is_over.contains(&true) {
            return;
        }
        for object in self.objects.iter_mut().filter(|object| !object.is_told) {
            let gap = object.gap(now);
            let is_late = object.habit.late_after().is_some_and(|late| gap > late);
            if is_late && is_out_of(&is_over, object.group) {
                object.habit.was_cut_off(gap);
                object.said = Some(now);
            }
        }
    }

    fn names_of_outages(&self) -> impl Iterator<Item = GroupName> {
        let groups = self.groups.iter().zip(self.is_out.iter().skip(1));
        groups.filter(|(_, is_out)| **is_out).map(|(name, _)| *name)
    }

    fn moment(&self, at: Instant) -> f64 {
        at.saturating_duration_since(self.start).as_secs_f64()
    }

    fn place(&self, uid: Uid) -> Option<usize> {
        self.places.get(&uid).map(|place| *place as usize)
    }

    fn find(&mut self, uid: Uid) -> Option<&mut Object> {
        let place = self.place(uid)?;
        self.objects.get_mut(place)
    }

    /// The object, and whether most of its like are late.
    fn object(&mut self, uid: Uid, group: GroupName) -> Option<(&mut Object, bool)> {
        let place = match self.place(uid) {
            Some(place) => place,
            None => {
                let (place, group) = (self.objects.len(), self.group(group));
                self.places.insert(uid, u32::try_from(place).ok()?);
                self.objects.push(Object::new(uid, group));
                place
            }
        };
        let Self { objects, is_out, .. } = self;
        let object = objects.get_mut(place)?;
        let is_out = is_out_of(is_out, object.group);
        Some((object, is_out))
    }

    /// The place of a group.
    fn group(&mut self, name: GroupName) -> u8 {
        let known = self.groups.iter().position(|known| *known == name);
        let place = known.unwrap_or(self.groups.len());
        if known.is_none() && place < GROUPS_MAX {
            self.groups.push(name);
        }
        u8::try_from(place).unwrap_or(u8::MAX)
    }
}

/// Whether this is so of all or of this group.
fn is_out_of(is_out: &[bool], group: u8) -> bool {
    [0, usize::from(group) + 1].into_iter().any(|scope| is_out.get(scope).copied().unwrap_or_default())
}
