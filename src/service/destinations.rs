//! Where messages go, as the snapshot shows it.

use crate::hub::status::{Destination, Rates};

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
    }
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
