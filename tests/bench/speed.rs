//! How much goes through, and how fast: calls, telemetry, logins.

use super::load::{Load, Outcome};
use super::row::{Bound, Figure, Measured, Row, Settings};
use super::site::{Site, number};

/// The rows of this file.
pub const ROWS: &[Row] = &[
    Row {
        name: "calls-1",
        what: "central -> object -> central over TCP, 1 in flight",
        figures: &[
            Figure { name: "calls/s", bound: Bound::AtLeast(4_500.0) },
            Figure { name: "p50 us", bound: Bound::AtMost(210.0) },
            Figure { name: "p99 us", bound: Bound::None },
            SERVER_COST,
            LOAD_COST,
        ],
        measure: |settings| calls(settings, "--objects 1 --in-flight 1", &["p50", "p99"]),
    },
    Row {
        name: "calls-32",
        what: "the same, 32 in flight to 32 objects",
        figures: THIRTY_TWO,
        measure: |settings| calls(settings, "--objects 32 --in-flight 32", &["p99"]),
    },
    Row {
        name: "calls-32-to-1",
        what: "the same, 32 in flight to one object",
        figures: THIRTY_TWO,
        measure: |settings| calls(settings, "--objects 1 --in-flight 32", &["p99"]),
    },
    Row {
        name: "https",
        what: "POST /request to an object and back, 16 callers, HTTPS keep-alive",
        figures: &[
            Figure { name: "calls/s", bound: Bound::AtLeast(15_000.0) },
            Figure { name: "p50 us", bound: Bound::None },
            Figure { name: "p99 us", bound: Bound::None },
            SERVER_COST,
            LOAD_COST,
        ],
        measure: |settings| calls(settings, "--objects 16 --callers 16", &["p50", "p99"]),
    },
    Row {
        name: "telemetry",
        what: "telemetry of 100 objects to the central, as fast as it goes",
        figures: &[
            Figure { name: "received/s", bound: Bound::AtLeast(150_000.0) },
            Figure { name: "lost in user space", bound: Bound::AtMost(0.0) },
            Figure { name: "sent/s", bound: Bound::None },
            Figure { name: "dropped by the kernel/s", bound: Bound::None },
        ],
        measure: telemetry_at_most,
    },
    Row {
        name: "telemetry-steps",
        what: "telemetry at growing rates: the highest of which nothing is lost",
        figures: &[
            Figure { name: "received/s, nothing lost", bound: Bound::AtLeast(150_000.0) },
            Figure { name: "next step: received/s", bound: Bound::None },
            Figure { name: "next step: lost in user space", bound: Bound::None },
            Figure { name: "next step: dropped by the kernel", bound: Bound::None },
            Figure { name: "next step: not sent/s", bound: Bound::None },
        ],
        measure: telemetry_without_loss,
    },
    Row {
        name: "logins",
        what: "TLS logins, 32 at the same moment",
        figures: &[Figure { name: "logins/s", bound: Bound::AtLeast(2_500.0) }, SERVER_COST, LOAD_COST],
        measure: logins,
    },
];

const THIRTY_TWO: &[Figure] = &[
    Figure { name: "calls/s", bound: Bound::AtLeast(45_000.0) },
    Figure { name: "p99 us", bound: Bound::AtMost(3_000.0) },
    SERVER_COST,
    LOAD_COST,
];

/// Hardly depends on what else the machine does: the rate would be two cores' time over the sum of both.
const SERVER_COST: Figure = Figure { name: "processor us of concentrator, each", bound: Bound::None };
const LOAD_COST: Figure = Figure { name: "processor us of load, each", bound: Bound::None };

/// Objects that send telemetry.
const SENDERS: usize = 100;
/// Datagrams a second to try, upwards.
const STEPS: [u32; 14] = [
    10_000, 25_000, 50_000, 75_000, 100_000, 125_000, 150_000, 175_000, 200_000, 250_000, 300_000, 350_000,
    400_000, 500_000,
];
/// A load that lags by more than this share of what it was told to send is itself at its end.
const LAG_MAX: f64 = 0.03;

fn calls(settings: &Settings, options: &str, shares: &[&str]) -> Result<Measured, String> {
    let site = Site::start(32)?;
    let outcome = Load::run(&site, &format!("{options} --for {}", settings.time()))?.without_errors()?;
    let mut values = vec![outcome.rate("calls_answered")];
    for share in shares {
        values.push(outcome.calls_us(share)?);
    }
    values.extend(outcome.cost_us(outcome.count("calls_answered")));
    Ok(Measured { values, busy: Some(outcome.busy) })
}

/// Telemetry of one run: what the load says, and the concentrator's own books.
struct Telemetry {
    outcome: Outcome,
    /// Taken by the concentrator, and not delivered for want of room.
    lost: f64,
    kernel_dropped: f64,
}

fn telemetry(site: &Site, settings: &Settings, rate: &str) -> Result<Telemetry, String> {
    let options =
        format!("--objects {SENDERS} --central tcp --rate 0 --telemetry {rate} --for {}", settings.time());
    let before = site.status()?;
    let outcome = Load::run(site, &options)?;
    let after = site.status()?;
    let more = |pointer: &str| number(&after, pointer) - number(&before, pointer);
    Ok(Telemetry {
        outcome,
        lost: more("/books/dropped/oldest_for_room") + more("/books/dropped/refused_for_room"),
        kernel_dropped: more("/refusals/telemetry.kernel_dropped"),
    })
}

fn telemetry_at_most(settings: &Settings) -> Result<Measured, String> {
    let site = Site::start(SENDERS)?;
    let Telemetry { outcome, lost, kernel_dropped } = telemetry(&site, settings, "max")?;
    let seconds = settings.seconds as f64;
    let values = vec![
        outcome.rate("telemetry_received"),
        lost,
        outcome.rate("telemetry_sent"),
        kernel_dropped / seconds,
    ];
    Ok(Measured { values, busy: Some(outcome.busy) })
}

fn telemetry_without_loss(settings: &Settings) -> Result<Measured, String> {
    let mut measured = Measured { values: vec![0.0; 5], busy: None };
    for step in STEPS {
        let site = Site::start(SENDERS)?;
        let run = telemetry(&site, settings, &step.to_string())?;
        let received = run.outcome.rate("telemetry_received");
        let missing = f64::from(step) - run.outcome.rate("telemetry_sent");
        let keeps_pace = missing <= f64::from(step) * LAG_MAX;
        if run.lost == 0.0 && run.kernel_dropped == 0.0 && keeps_pace {
            measured = Measured { values: vec![received], busy: Some(run.outcome.busy) };
        } else {
            measured.values.truncate(1);
            measured.values.extend([received, run.lost, run.kernel_dropped, missing]);
            break;
        }
    }
    measured.values.resize(5, 0.0);
    Ok(measured)
}

fn logins(settings: &Settings) -> Result<Measured, String> {
    let site = Site::start(200)?;
    let options = format!("--objects 200 --logins --at-once 32 --for {}", settings.time());
    let outcome = Load::run(&site, &options)?.without_errors()?;
    let [server, load] = outcome.cost_us(outcome.count("logged_in"));
    Ok(Measured { values: vec![outcome.rate("logged_in"), server, load], busy: Some(outcome.busy) })
}
