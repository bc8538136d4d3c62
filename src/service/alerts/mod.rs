//! The one who looks every second whether something is wrong, tells it, and shows it by a light.
//!
//! It has a thread of its own: a disk that hangs, or an executor that is stuck, must not keep it from the rest. What it
//! finds goes to [`Alerts`](crate::hub::alerts::Alerts), which raises and clears once; others tell their alerts there
//! themselves.

mod central_away;
mod conditions;
mod habits;
mod led;
mod machine;
mod sender;
pub mod uptime;
mod window;

use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use super::config::Config;
use super::settings::{Connections, bounded, open_files};
use super::view::View;
use crate::endpoint::webhook::SignedClient;
use crate::hub::alerts::Rule;
use crate::hub::lock;
use crate::hub::status::Availability;
use central_away::CentralAway;
use conditions::{Observed, RULES, Thresholds, conditions};
use habits::Habits;
use led::Led;
use machine::{IMAGE, Machine, told_by_the_image};
use sender::Sender as WebhookSender;
use uptime::{PERIODS, Uptime};
use window::Window;

/// How often it looks. What is wrong is told within twice that.
const INTERVAL: Duration = Duration::from_secs(1);
/// Where the kernel shows lights and sensors.
const SYS: &str = "/sys";
/// Counters of refusals that are failed logins.
const LOGIN_FAILURES: [&str; 2] = ["sessions.login", "api.key"];

/// The thread. Ends when dropped, and puts the light out.
#[derive(Debug)]
pub struct Lookout {
    settings: Arc<Mutex<Settings>>,
    webhook: Arc<WebhookSender>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    _habits: Habits,
}

#[derive(Debug)]
struct Settings {
    thresholds: Thresholds,
    led: Option<String>,
    /// What there are descriptors for, if that is less than what is configured.
    bounded: Option<Connections>,
}

impl Settings {
    fn new(config: &Config) -> Self {
        let thresholds = Thresholds {
            central_key_is_weak: config.central.auth_key.is_weak(),
            queue_percent: config.alerts.queue_percent.into(),
            disk_percent: config.alerts.disk_percent.into(),
        };
        Self { thresholds, led: config.alerts.led.clone(), bounded: bounded(config, open_files()) }
    }
}

impl Lookout {
    /// Looks once, and from then on every second. `client` sends what is told; `kept`: what the journal keeps as
    /// [`uptime::KEPT`].
    pub fn start(
        view: Arc<View>,
        config: &Config,
        client: Option<SignedClient>,
        kept: Option<&[u8]>,
    ) -> Result<Self, String> {
        let (mut uptime, was_running) = Uptime::unpack(kept);
        view.hub.keep(uptime::KEPT, uptime.begin());
        if was_running {
            let sentence = "the run before did not end in order: it was killed, it crashed, or the power failed; `iotsocketd why` and the system's log know more";
            view.hub.alerts.raise(Rule::Restarted, "", sentence);
        }
        let habits = Habits::start(Arc::clone(&view.hub), &config.state_dir)?;
        let settings = Arc::new(Mutex::new(Settings::new(config)));
        let (stop, stopped) = mpsc::channel::<()>();
        let webhook = Arc::new(WebhookSender::start()?);
        webhook.set_webhook(client);
        let mut looking = Looking {
            view,
            settings: Arc::clone(&settings),
            webhook: Arc::clone(&webhook),
            started: Instant::now(),
            uptime,
            machine: Machine::new(Path::new(SYS)),
            led: Led::default(),
            failed_logins: Window::default(),
            delivered: Window::default(),
            slow: Window::default(),
            central: CentralAway::default(),
        };
        looking.look();
        let look_on = move || {
            while stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                looking.look();
            }
            looking.led.put_out();
            looking.view.hub.keep(uptime::KEPT, looking.uptime.end());
        };
        let thread = Builder::new()
            .name("alerts".to_owned())
            .spawn(look_on)
            .map_err(|error| format!("the system gives no threads: {error}"))?;
        Ok(Self { settings, webhook, stop: Some(stop), thread: Some(thread), _habits: habits })
    }

    /// Takes up a changed configuration.
    pub fn reconfigure(&self, config: &Config, client: Option<SignedClient>) {
        *lock(&self.settings) = Settings::new(config);
        self.webhook.set_webhook(client);
    }
}

impl Drop for Lookout {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

struct Looking {
    view: Arc<View>,
    settings: Arc<Mutex<Settings>>,
    webhook: Arc<WebhookSender>,
    started: Instant,
    uptime: Uptime,
    machine: Machine,
    led: Led,
    failed_logins: Window,
    delivered: Window,
    slow: Window,
    central: CentralAway,
}

impl Looking {
    fn look(&mut self) {
        let (thresholds, led, bounded) = {
            let settings = lock(&self.settings);
            (settings.thresholds, settings.led.clone(), settings.bounded)
        };
        let (status, health) = self.view.look_closely();
        let refused = |name: &&str| status.refusals.get(*name).copied().unwrap_or_default();
        self.failed_logins.add(LOGIN_FAILURES.iter().map(refused).sum());
        let arrivals = &status.latency.telemetry;
        let in_time =
            arrivals.buckets.iter().find(|bucket| bucket.le >= 1.0).map_or(0, |bucket| bucket.count);
        self.delivered.add(arrivals.count);
        self.slow.add(arrivals.count.saturating_sub(in_time));
        self.account(health.read_only.is_none());
        let alerts = &self.view.hub.alerts;
        let mut found = conditions(
            &Observed {
                status: &status,
                health: &health,
                webhooks: &self.view.failing_webhooks(),
                weak_objects: self.view.hub.weak_objects(),
                failed_logins: self.failed_logins.rise(),
                delivered: self.delivered.rise(),
                slow: self.slow.rise(),
                hottest: self.machine.hottest(),
                is_under_voltage: self.machine.is_under_voltage(),
            },
            &thresholds,
            |rule| alerts.is_up(rule, ""),
        );
        found.extend(told_by_the_image(Path::new(IMAGE)));
        found.extend(bounded.map(few_descriptors));
        found.extend(PERIODS.into_iter().filter_map(|days| self.risk(days)));
        alerts.assess(&RULES, found);
        let now = Instant::now();
        self.view.hub.judge_objects(now, self.central.look(&status.destinations, now));
        self.webhook.send(&self.view.hub.tick_alerts(now));
        self.view.hub.tick_audit(false);
        self.led.show(Path::new(SYS), led.as_deref(), alerts.weight());
    }

    /// Counts the time in which it serves.
    fn account(&mut self, serves: bool) {
        let Some(now_us) = self.view.right_us() else { return };
        let running_us = i64::try_from(self.started.elapsed().as_micros()).unwrap_or(i64::MAX);
        if let Some(data) = self.uptime.tick(now_us, running_us, serves) {
            self.view.hub.keep(uptime::KEPT, data);
        }
        let [month, year] = PERIODS.map(|days| self.uptime.share(days));
        self.view.set_availability(Availability { days_30: month, days_365: year });
    }

    fn risk(&self, days: i64) -> Option<(Rule, String, String)> {
        let (down, allowed) = self.uptime.risk(days)?;
        let sentence = format!(
            "it was down for {down} s in {days} days, and 99.9 % allow {allowed} s: `iotsocketd why` tells of the starts and ends"
        );
        Some((Rule::Availability, format!("{days} days"), sentence))
    }
}

/// There are fewer descriptors than the configured connections need.
fn few_descriptors(Connections { sessions, api }: Connections) -> (Rule, String, String) {
    let sentence = format!(
        "there are descriptors for {sessions} sessions and {api} connections of the API only: raise LimitNOFILE, or lower max_connections"
    );
    (Rule::OpenFiles, String::new(), sentence)
}
