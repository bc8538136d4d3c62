//! Who may connect: a bound on connections in all, and on those that have not proved who they are,
//! in all and from one source.
//!
//! When a bound is reached, the unauthenticated connection that has been silent longest makes room:
//! of that source if its share is full, of all otherwise. Whoever sends nothing or a byte a second is
//! pushed out by whoever speaks; an authenticated connection is never pushed out by a newcomer.
//!
//! Failed logins have a price, see [`super::failures`]; many at once wait, see [`super::crowd`].

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::crowd::{Crowd, MANY, SPOKE_WITHIN};
use super::failures::Failures;

/// Bounds of one listener. Zero counts as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections in all, authenticated ones included.
    pub max_connections: usize,
    /// Connections that have not authenticated yet.
    pub max_unauthenticated: usize,
    /// The same, from one source: an IPv4 address or an IPv6 /64.
    pub max_unauthenticated_per_source: usize,
}

/// Why a newcomer was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Every place is taken by an authenticated connection.
    Full,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str(
                "every place is taken by an authenticated connection: raise max_connections, or find out who holds them",
            ),
        }
    }
}

impl std::error::Error for Refusal {}

/// What happened since the start, by cause.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections let in.
    pub entered: u64,
    /// Newcomers refused because authenticated connections hold every place.
    pub refused_full: u64,
    /// Unauthenticated connections pushed out because their source's share was full.
    pub evicted_source_full: u64,
    /// Unauthenticated connections pushed out because all places were taken.
    pub evicted_full: u64,
    /// Failed logins.
    pub failed_logins: u64,
    /// Failed logins whose refusal was delayed.
    pub delayed_refusals: u64,
}

/// The bounds of one listener and who is inside them. Cheap to clone; clones share the places.
#[derive(Debug, Clone)]
pub struct Admission {
    state: Arc<Mutex<State>>,
}

/// One connection's place. Dropping it frees the place.
#[derive(Debug)]
pub struct Permit {
    state: Arc<Mutex<State>>,
    id: u64,
    /// Set once; from then on the shared state need not be asked.
    authenticated: AtomicBool,
}

/// An IPv4 address, or the /64 of an IPv6 address: what one subscriber line usually has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Source(u128);

/// When a connection was last heard; the number tells apart what happened in the same instant.
type Silence = (Instant, u64);

#[derive(Debug)]
struct Waiting {
    source: Source,
    heard: Instant,
    /// It said something.
    spoke: bool,
    waker: Option<Waker>,
}

#[derive(Debug)]
struct State {
    limits: Limits,
    next_id: u64,
    /// Places taken, authenticated or not.
    taken: usize,
    /// The unauthenticated ones.
    waiting: HashMap<u64, Waiting>,
    /// The same by silence, longest first; in all and by source.
    silent: BTreeSet<Silence>,
    silent_by_source: HashMap<Source, BTreeSet<Silence>>,
    failures: Failures<Source>,
    crowd: Crowd,
    /// Connections that authenticated since the start.
    logged_in: u64,
    counts: Counts,
}

impl Admission {
    /// An empty house with these bounds.
    pub fn new(limits: Limits) -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                limits,
                next_id: 0,
                taken: 0,
                waiting: HashMap::new(),
                silent: BTreeSet::new(),
                silent_by_source: HashMap::new(),
                failures: Failures::default(),
                crowd: Crowd::default(),
                logged_in: 0,
                counts: Counts::default(),
            })),
        }
    }

    /// Changes the bounds; whoever is inside stays until a newcomer comes.
    pub fn set_limits(&self, limits: Limits) {
        lock(&self.state).limits = limits;
    }

    /// Lets a connection in as unauthenticated; if that takes somebody else's place, that one is woken.
    pub fn enter(&self, source: IpAddr, now: Instant) -> Result<Permit, Refusal> {
        let mut state = lock(&self.state);
        let (entered, pushed_out) = state.enter(Source::of(source), now);
        drop(state);
        pushed_out.into_iter().for_each(Waker::wake);
        let id = entered?;
        Ok(Permit { state: Arc::clone(&self.state), id, authenticated: AtomicBool::new(false) })
    }

    /// Notes a failed login and says how long to wait before telling the refusal.
    pub fn fail(&self, source: IpAddr, now: Instant) -> Duration {
        lock(&self.state).fail(Source::of(source), now)
    }

    /// Notes a successful login: earlier failures of this source are forgotten.
    pub fn succeed(&self, source: IpAddr) {
        lock(&self.state).failures.forget(Source::of(source));
    }

    /// Whether more get in if newcomers wait until others have logged in.
    pub fn is_crowded(&self, now: Instant) -> bool {
        lock(&self.state).is_crowded(now)
    }

    /// Connections inside, authenticated ones included.
    pub fn connections(&self) -> usize {
        lock(&self.state).taken
    }

    /// Connections inside that have not authenticated.
    pub fn unauthenticated(&self) -> usize {
        lock(&self.state).waiting.len()
    }

    /// What happened since the start.
    pub fn counts(&self) -> Counts {
        lock(&self.state).counts
    }
}

impl Permit {
    /// Notes that bytes arrived. Free of charge once authenticated.
    pub fn touch(&self, now: Instant) {
        if !self.authenticated.load(Ordering::Relaxed) {
            lock(&self.state).touch(self.id, now);
        }
    }

    /// Notes that the peer proved who it is; it cannot be pushed out any more.
    /// `false`: it was pushed out before, and must be closed.
    #[must_use]
    pub fn authenticated(&self) -> bool {
        if self.authenticated.load(Ordering::Relaxed) {
            return true;
        }
        // Leaves the unauthenticated, keeps its place. The flag changes under the lock, so that nobody sees
        // a place that is in neither state.
        let mut state = lock(&self.state);
        let left = state.leave_waiting(self.id).is_some();
        state.logged_in += u64::from(left);
        let kept = left || self.authenticated.load(Ordering::Relaxed);
        self.authenticated.store(kept, Ordering::Relaxed);
        kept
    }

    /// Whether the peer proved who it is.
    pub fn is_authenticated(&self) -> bool {
        self.authenticated.load(Ordering::Relaxed)
    }

    /// Ready when another connection took this place: close it, without ceremony.
    pub fn poll_evicted(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.authenticated.load(Ordering::Relaxed) {
            return Poll::Pending;
        }
        match lock(&self.state).waiting.get_mut(&self.id) {
            Some(waiting) => {
                match &mut waiting.waker {
                    Some(waker) => waker.clone_from(context.waker()),
                    none => *none = Some(context.waker().clone()),
                }
                Poll::Pending
            }
            // Asked again under the lock: it may have authenticated meanwhile.
            None if self.authenticated.load(Ordering::Relaxed) => Poll::Pending,
            None => Poll::Ready(()),
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        let waiting = state.leave_waiting(self.id);
        // One that was pushed out gave its place away already.
        if waiting.is_some() || self.authenticated.load(Ordering::Relaxed) {
            state.taken = state.taken.saturating_sub(1);
        }
    }
}

impl State {
    /// The number of the new place, and whom to wake because it took theirs.
    fn enter(&mut self, source: Source, now: Instant) -> (Result<u64, Refusal>, Option<Waker>) {
        let mut pushed_out = None;
        let of_source = self.silent_by_source.get(&source);
        if of_source.map_or(0, BTreeSet::len) >= self.limits.max_unauthenticated_per_source.max(1) {
            if let Some((_, id)) = of_source.and_then(|silent| silent.first().copied()) {
                pushed_out = self.push_out(id);
                self.counts.evicted_source_full += 1;
            }
        } else if self.waiting.len() >= self.limits.max_unauthenticated.max(1)
            || self.taken >= self.limits.max_connections.max(1)
        {
            let Some((_, id)) = self.silent.first().copied() else {
                self.counts.refused_full += 1;
                return (Err(Refusal::Full), None);
            };
            pushed_out = self.push_out(id);
            self.counts.evicted_full += 1;
        }
        let id = self.next_id;
        self.next_id += 1;
        self.taken += 1;
        self.counts.entered += 1;
        self.silent.insert((now, id));
        self.silent_by_source.entry(source).or_default().insert((now, id));
        self.waiting.insert(id, Waiting { source, heard: now, spoke: false, waker: None });
        (Ok(id), pushed_out)
    }

    fn is_crowded(&mut self, now: Instant) -> bool {
        // None must have to make room for another.
        let places = self.limits.max_unauthenticated.min(self.limits.max_unauthenticated_per_source);
        let many = MANY.min(places / 2).max(1);
        let speaks =
            |waiting: &&Waiting| waiting.spoke && now.saturating_duration_since(waiting.heard) < SPOKE_WITHIN;
        self.waiting.len() >= many
            && self.waiting.values().filter(speaks).nth(many - 1).is_some()
            && self.crowd.is_to_wait(self.counts.entered, self.logged_in, now)
    }

    fn push_out(&mut self, id: u64) -> Option<Waker> {
        self.taken = self.taken.saturating_sub(1);
        self.leave_waiting(id)?.waker
    }

    fn leave_waiting(&mut self, id: u64) -> Option<Waiting> {
        let waiting = self.waiting.remove(&id)?;
        self.silent.remove(&(waiting.heard, id));
        if let Some(of_source) = self.silent_by_source.get_mut(&waiting.source) {
            of_source.remove(&(waiting.heard, id));
            if of_source.is_empty() {
                self.silent_by_source.remove(&waiting.source);
            }
        }
        Some(waiting)
    }

    fn touch(&mut self, id: u64, now: Instant) {
        let Some(waiting) = self.waiting.get_mut(&id) else {
            return;
        };
        waiting.spoke = true;
        let before = (std::mem::replace(&mut waiting.heard, now), id);
        self.silent.remove(&before);
        self.silent.insert((now, id));
        if let Some(of_source) = self.silent_by_source.get_mut(&waiting.source) {
            of_source.remove(&before);
            of_source.insert((now, id));
        }
    }

    fn fail(&mut self, source: Source, now: Instant) -> Duration {
        let delay = self.failures.add(source, now);
        self.counts.failed_logins += 1;
        self.counts.delayed_refusals += u64::from(!delay.is_zero());
        delay
    }
}

impl Source {
    fn of(address: IpAddr) -> Self {
        // An IPv4 address takes its mapped form, which no masked IPv6 address can equal.
        Self(match address.to_canonical() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
            IpAddr::V6(v6) => v6.to_bits() & !u128::from(u64::MAX),
        })
    }
}

/// A panic elsewhere aborts the program in release builds; in tests the data is whole between statements.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;

    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn admission(max_connections: usize, unauthenticated: usize, per_source: usize) -> Admission {
        Admission::new(Limits {
            max_connections,
            max_unauthenticated: unauthenticated,
            max_unauthenticated_per_source: per_source,
        })
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn evicted(permit: &Permit) -> bool {
        permit.poll_evicted(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn the_longest_silent_of_a_full_source_makes_room_and_is_woken() {
        let (house, start) = (admission(10, 10, 2), Instant::now());
        let other = house.enter(ip("192.0.2.9"), start).unwrap();
        let first = house.enter(ip("192.0.2.1"), start).unwrap();
        let second = house.enter(ip("192.0.2.1"), start).unwrap();
        assert!(!evicted(&first) && !evicted(&second));
        let woken = Arc::new(Woken(AtomicUsize::new(0)));
        assert!(second.poll_evicted(&mut Context::from_waker(&Waker::from(Arc::clone(&woken)))).is_pending());
        first.touch(start + seconds(1));
        let _third = house.enter(ip("192.0.2.1"), start + seconds(2)).unwrap();
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
        assert!(evicted(&second), "first has spoken since");
        assert!(!evicted(&first) && !evicted(&other), "another source keeps its places");
        assert_eq!(house.counts().evicted_source_full, 1);
        assert!(!second.authenticated(), "a place given away is not authenticated");
    }

    #[test]
    fn when_all_unauthenticated_places_are_taken_the_longest_silent_of_all_goes() {
        let (house, start) = (admission(10, 2, 2), Instant::now());
        let first = house.enter(ip("192.0.2.1"), start).unwrap();
        let second = house.enter(ip("192.0.2.2"), start + seconds(1)).unwrap();
        let _third = house.enter(ip("192.0.2.3"), start + seconds(2)).unwrap();
        assert!(evicted(&first));
        assert!(!evicted(&second));
        assert_eq!((house.unauthenticated(), house.connections()), (2, 2));
        drop(first);
        assert_eq!(house.connections(), 2, "its place was given away, not freed twice");
    }

    #[test]
    fn authenticated_connections_are_never_pushed_out() {
        let (house, start) = (admission(2, 2, 2), Instant::now());
        let first = house.enter(ip("192.0.2.1"), start).unwrap();
        assert!(first.authenticated());
        let second = house.enter(ip("192.0.2.2"), start).unwrap();
        let third = house.enter(ip("192.0.2.3"), start).unwrap();
        assert!(evicted(&second), "of a full house the unauthenticated one goes");
        assert!(!evicted(&first));
        assert!(third.authenticated());
        assert_eq!(house.enter(ip("192.0.2.4"), start).unwrap_err(), Refusal::Full);
        assert_eq!(house.counts().refused_full, 1);
        drop(third);
        assert!(house.enter(ip("192.0.2.4"), start).is_ok(), "a dropped permit frees its place");
    }

    #[test]
    fn successful_logins_have_no_bound_by_source() {
        let (house, start) = (admission(100, 2, 1), Instant::now());
        let inside: Vec<_> = (0..100)
            .map(|_| house.enter(ip("192.0.2.1"), start).unwrap())
            .inspect(|permit| {
                assert!(permit.authenticated());
            })
            .collect();
        assert!(inside.iter().all(|permit| !evicted(permit)));
        assert_eq!((house.connections(), house.unauthenticated()), (100, 0));
        drop(inside);
        assert_eq!(house.connections(), 0);
    }

    /// Half of the places, so that nobody makes room; those who say nothing are none of it.
    #[test]
    fn a_crowd_is_who_speaks_and_is_one_as_long_as_nobody_must_make_room() {
        let (house, start) = (admission(100, 20, 8), Instant::now());
        let permits: Vec<_> =
            (0..8_u8).map(|n| house.enter(IpAddr::from([192, 0, 2, n]), start).unwrap()).collect();
        permits.iter().take(3).for_each(|permit| permit.touch(start));
        assert!(!house.is_crowded(start), "five are silent");
        permits[3].touch(start);
        assert!(house.is_crowded(start));
        assert!(permits[0].authenticated() && !house.is_crowded(start), "one is through");
        permits[4].touch(start + SPOKE_WITHIN / 2);
        assert!(house.is_crowded(start + SPOKE_WITHIN / 2));
        assert!(!house.is_crowded(start + SPOKE_WITHIN), "the others fell silent");
    }

    #[test]
    fn an_ipv6_source_is_its_64_and_a_mapped_address_is_ipv4() {
        let (house, start) = (admission(10, 10, 1), Instant::now());
        let first = house.enter(ip("2001:db8::1"), start).unwrap();
        let second = house.enter(ip("2001:db8::2:1"), start).unwrap();
        assert!(evicted(&first));
        let _other = house.enter(ip("2001:db8:0:1::1"), start).unwrap();
        assert!(!evicted(&second));
        let mapped = house.enter(ip("::ffff:192.0.2.1"), start).unwrap();
        let _next = house.enter(ip("::ffff:192.0.2.2"), start).unwrap();
        assert!(!evicted(&mapped));
        let _same = house.enter(ip("192.0.2.1"), start).unwrap();
        assert!(evicted(&mapped));
    }

    #[test]
    fn nothing_is_left_behind() {
        let (house, start) = (admission(50, 20, 5), Instant::now());
        for n in 0..1000_u32 {
            let permit = house.enter(IpAddr::V4(std::net::Ipv4Addr::from_bits(n % 7)), start).unwrap();
            permit.touch(start + Duration::from_millis(n.into()));
            if n % 3 == 0 {
                assert!(permit.authenticated());
                permit.touch(start);
            }
        }
        let state = lock(&house.state);
        assert_eq!((state.taken, state.waiting.len(), state.silent.len()), (0, 0, 0));
        assert!(state.silent_by_source.is_empty());
    }
}
