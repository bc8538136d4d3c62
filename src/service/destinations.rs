//! Where messages go, as the snapshot shows it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use jiff::Timestamp;

use super::view::RATE_SAMPLES;
use crate::delivery::subscriber::Subscriber;
use crate::hub::Hub;
use crate::hub::backend::{DeadLetterList, DeadLetterRange, Pending, Steered};
use crate::hub::durable::NeverDurable;
use crate::hub::status::{Books, Destination, Rates, dropped};
use crate::journal::Seq;

/// What is known of the way to the central.
#[derive(Debug, Clone, Copy)]
pub struct CentralWay {
    /// Its session is live.
    pub session: bool,
    /// It has a telemetry webhook.
    pub webhook: bool,
    /// That webhook fails.
    pub is_failing: bool,
    /// Attempts of that webhook that failed.
    pub failures: u64,
}

/// The central with what waits for it, at these rates.
pub fn central(way: CentralWay, waiting: u64, delivered: u64, rates: &Rates) -> Destination {
    let (via, state) = match way {
        CentralWay { session: true, .. } => ("session", "up"),
        CentralWay { webhook: true, is_failing: true, .. } => ("webhook", "failing"),
        CentralWay { webhook: true, .. } => ("webhook", "up"),
        _ => ("none", "away"),
    };
    Destination {
        name: "central".to_owned(),
        via,
        state,
        waiting,
        delivered,
        delivered_per_second: rates.delivered_per_second,
        failures: way.failures,
        drain_seconds: drain(waiting, rates.delivered_per_second - rates.telemetry_per_second),
        ..Destination::default()
    }
}

/// What each subscriber got and what waited for it, over the last seconds.
#[derive(Debug, Default)]
pub struct Meter(VecDeque<(Instant, BTreeMap<String, [u64; 2]>)>);

impl Meter {
    /// Takes the numbers of now; to be called every second.
    pub fn sample(&mut self, hub: &Hub, now: Instant) {
        let sample = hub.look_at_subscribers(|subscribers| {
            let of = |subscriber: &Subscriber| {
                let sum = subscriber.books().sum();
                [sum.delivered + subscriber.counters().replayed, sum.waiting()]
            };
            subscribers.iter().map(|(name, subscriber)| (name.to_owned(), of(subscriber))).collect()
        });
        self.0.push_back((now, sample));
        if self.0.len() > RATE_SAMPLES + 1 {
            self.0.pop_front();
        }
    }

    /// How many messages a subscriber got, and by how many what waits became less, in a second.
    fn rates(&self, name: &str) -> (f64, f64) {
        let (Some((first, before)), Some((last, after))) = (self.0.front(), self.0.back()) else {
            return (0.0, 0.0);
        };
        let seconds = last.duration_since(*first).as_secs_f64();
        match (before.get(name), after.get(name)) {
            (Some([got_before, waited]), Some([got, wait])) if seconds > 0.0 => {
                let rate = |less: u64, more: u64| (more as f64 - less as f64) / seconds;
                (rate(*got_before, *got).max(0.0), rate(*wait, *waited))
            }
            _ => (0.0, 0.0),
        }
    }

    /// All subscribers with what waits for them.
    pub fn subscribers(&self, hub: &Hub) -> Vec<Destination> {
        hub.look_at_subscribers(|subscribers| {
            subscribers.iter().map(|(name, subscriber)| self.subscriber(name, subscriber)).collect()
        })
    }

    fn subscriber(&self, name: &str, subscriber: &Subscriber) -> Destination {
        let line = subscriber.books().sum();
        let (per_second, less) = self.rates(name);
        Destination {
            name: name.to_owned(),
            via: "webhook",
            state: match (subscriber.is_suspended(), subscriber.is_failing()) {
                (true, _) => "suspended",
                (false, true) => "failing",
                (false, false) => "up",
            },
            waiting: line.waiting(),
            delivered: line.delivered,
            delivered_per_second: per_second,
            failures: subscriber.counters().failures,
            last_failure: subscriber.last_failure().map(|failure| failure.reason.clone()),
            dropped: dropped(&line),
            groups: Books::of(subscriber.books()).groups,
            dead_letters: subscriber.dead().count(),
            drain_seconds: drain(line.waiting(), less),
        }
    }
}

/// What subscribers never took.
pub fn dead_letters(hub: &Hub) -> DeadLetterList {
    let of = |(name, subscriber): (&str, &Subscriber)| {
        let ranges = subscriber.dead().ranges().iter();
        let ranges = ranges.map(|tried| DeadLetterRange {
            subscriber: name.to_owned(),
            from: tried.from,
            to: tried.to,
            messages: tried.count,
            attempts: tried.attempts,
            time: Timestamp::from_microsecond(tried.at_us).unwrap_or_default().to_string(),
            reason: tried.reason.clone(),
        });
        ranges.collect::<Vec<_>>()
    };
    hub.look_at_subscribers(|subscribers| DeadLetterList {
        dead_letters: subscribers.iter().flat_map(of).collect(),
    })
}

/// Does something with a subscriber's messages; how many of them were dead, once that is on flash.
pub fn steer(
    hub: &Hub,
    name: &str,
    from: Seq,
    to: Seq,
    work: Steered,
) -> Option<Pending<Result<u64, NeverDurable>>> {
    let (count, on_flash) = hub.with_subscriber(name, &|subscriber| match work {
        Steered::Replay => {
            subscriber.replay(from, to);
            0
        }
        Steered::ReplayDead => subscriber.settle_dead(from, to, true),
        Steered::DropDead => subscriber.settle_dead(from, to, false),
    })?;
    log::info!("event=subscriber_steered subscriber={name} what={work:?} from={from} to={to} dead={count}");
    Some(Box::pin(async move { on_flash.await.map(|()| count) }))
}

/// Until nothing waits, if it becomes less by so much a second.
fn drain(waiting: u64, less_per_second: f64) -> Option<f64> {
    match waiting {
        0 => Some(0.0),
        _ if less_per_second > 0.0 => Some(waiting as f64 / less_per_second),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_is_that_of_the_way_that_is_open() {
        let way = |session, webhook, is_failing| {
            let way = CentralWay { session, webhook, is_failing, failures: 3 };
            let shown = central(way, 0, 7, &Rates::default());
            (shown.via, shown.state)
        };
        assert_eq!(way(true, true, true), ("session", "up"));
        assert_eq!(way(false, true, true), ("webhook", "failing"));
        assert_eq!(way(false, true, false), ("webhook", "up"));
        assert_eq!(way(false, false, false), ("none", "away"));
    }

    #[test]
    fn the_time_to_drain_goes_by_what_leaves_less_what_comes() {
        let rates = Rates { telemetry_per_second: 10.0, delivered_per_second: 30.0, ..Rates::default() };
        let way = CentralWay { session: true, webhook: false, is_failing: false, failures: 0 };
        assert_eq!(central(way, 100, 0, &rates).drain_seconds, Some(5.0));
        assert_eq!(central(way, 0, 0, &Rates::default()).drain_seconds, Some(0.0));
        assert_eq!(central(way, 1, 0, &Rates::default()).drain_seconds, None);
    }
}
