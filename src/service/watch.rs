//! What has to be looked after: time for the router, and files that change.

use std::fmt::Display;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use async_io::Timer;

use super::view::View;
use crate::endpoint::tls::Certificates;
use crate::hub::Hub;
use crate::hub::alerts::Rule;
use crate::hub::heartbeats::{BEAT, Loop};
use crate::logfmt::Quoted;

/// How often files are looked at. A `stat` of a few files costs less than a watch, and sees every kind of change:
/// edits in place, renames over the file, links turned elsewhere.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What [`Rule::Configuration`] is about where it is not the file itself.
pub const CERTIFICATE: &str = "certificate";

/// Why that is an alert: nobody looks into the log before the next start, which then fails.
pub fn not_taken_up(error: &dyn Display) -> String {
    format!("it is not taken up, and a restart would fail: {error}")
}

/// Tells the hub when time has passed, and now and then if it has not.
pub async fn deadlines(hub: Arc<Hub>) {
    let mut timer = Timer::never();
    loop {
        let next_beat = Instant::now() + BEAT;
        poll_fn(|context| {
            let deadline = hub.poll_deadline(context.waker());
            timer.set_at(deadline.map_or(next_beat, |deadline| deadline.min(next_beat)));
            match Pin::new(&mut timer).poll(context) {
                Poll::Ready(_) => Poll::Ready(()),
                Poll::Pending => Poll::Pending,
            }
        })
        .await;
        hub.tick();
        hub.heartbeats.beat(Loop::Router);
    }
}

/// Takes up changed certificates and a changed access list, and samples the rates.
pub async fn every_second(certificates: Arc<Certificates>, view: Arc<View>) {
    loop {
        Timer::after(LOOK_INTERVAL).await;
        view.hub.heartbeats.beat(Loop::Timers);
        view.sample_rates();
        view.hub.expire_commands();
        view.hub.end_late_waits();
        view.hub.send_results();
        match certificates.reload_if_changed() {
            Ok(false) => {}
            Ok(true) => {
                log::info!("event=certificate_reloaded");
                view.hub.alerts.clear(Rule::Configuration, CERTIFICATE);
            }
            Err(error) => {
                log::error!("event=certificate_refused error={}", Quoted(&error));
                view.hub.alerts.raise(Rule::Configuration, CERTIFICATE, not_taken_up(&error));
            }
        }
        match view.access.reload_if_changed().await {
            Ok(None) => {}
            Ok(Some(count)) => log::info!("event=access_list_reloaded objects={count}"),
            Err(error) => log::error!("event=access_list_refused error={}", Quoted(error)),
        }
    }
}
