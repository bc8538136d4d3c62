//! The hot paths beside what a bare echo takes for as many bytes on as many connections.

use super::echo::Echo;
use super::load::Load;
use super::row::{Row, Settings};
use super::site::{Site, number};
use super::table::shown;
use super::{ingest, machine, paths, say, speed, time};

/// A hot path takes at most so many times what a bare echo takes.
const ECHO_MAX: f64 = 2.0;
/// Telemetry a second on its way to the webhook, and objects that send it: no more than is called at once.
const POSTS: u32 = 2_000;
const OBJECTS: u64 = 32;

/// Measures and tells all of them; whether each could be measured.
pub fn beside_echo(settings: &Settings) -> Result<bool, String> {
    let (address, came) = paths::hook()?;
    let echo = Echo::start(address)?;
    let time = time(settings);
    say(
        "| path, and what a bare echo does instead | us each | bare echo, us | ratio | verdict |\n|---|--:|--:|--:|---|",
    );
    let call = || echo.exchange(32, 90, 90, time);
    let row = |rows, name| measured(rows, name, settings);
    let told = [
        tell(
            "call over TCP, 32 in flight: 2 exchanges of 90 bytes",
            || row(speed::ROWS, "calls-32"),
            || Ok(2.0 * call()?),
        ),
        tell(
            "call over HTTPS, 16 callers: 420 bytes and 330 back, and one exchange of 90",
            || row(speed::ROWS, "https"),
            || Ok(echo.exchange(16, 420, 330, time)? + call()?),
        ),
        tell(
            "telemetry to the central, as fast as one sender can: the datagram over TLS",
            || row(speed::ROWS, "telemetry"),
            || echo.forward(time),
        ),
        tell(
            "telemetry to the webhook, 2,000 a second: a post of 320 bytes for each",
            || posted(settings),
            || echo.post(POSTS, &came, time),
        ),
        tell(
            "ingest, 64 callers: 700 bytes and 200 back",
            || row(ingest::ROWS, "ingest"),
            || echo.exchange(64, 700, 200, time),
        ),
        tell("login, 32 at once: a handshake", || row(speed::ROWS, "logins"), || echo.handshake(32, time)),
    ];
    Ok(told == [true; 6])
}

/// A line of the table; whether it could be measured.
fn tell(
    what: &str,
    own: impl FnOnce() -> Result<f64, String>,
    bare: impl FnOnce() -> Result<f64, String>,
) -> bool {
    match own().and_then(|own| Ok((own, bare()?))) {
        Ok((own, bare)) => {
            let ratio = own / bare.max(1e-9);
            let verdict = if ratio <= ECHO_MAX {
                "met".to_owned()
            } else {
                format!("missed by {:.0} %", (ratio / ECHO_MAX - 1.0) * 100.0)
            };
            say(&format!("| {what} | {} | {} | ×{} | {verdict} |", shown(own), shown(bare), shown(ratio)));
            true
        }
        Err(error) => {
            say(&format!(
                "| {what} | - | - | - | CANNOT BE MEASURED: {} |",
                error.replace('\n', " ").trim_end()
            ));
            false
        }
    }
}

/// Microseconds of the concentrator for each work of a row, whose first figure is how many there were a second.
fn measured(rows: &[Row], name: &str, settings: &Settings) -> Result<f64, String> {
    let row = rows.iter().find(|row| row.name == name).ok_or_else(|| format!("there is no row {name}"))?;
    let measured = (row.measure)(settings)?;
    let busy = measured.busy.ok_or("the row does not say who was busy")?;
    let count = measured.values.first().copied().unwrap_or_default() * f64::from(settings.seconds);
    Ok(busy.server * 1e6 / count.max(1.0))
}

/// The same for a message on its way to the webhook.
fn posted(settings: &Settings) -> Result<f64, String> {
    let (address, came) = paths::hook()?;
    let webhook = format!("\n[central.webhooks]\ntelemetry = \"http://{address}/t\"\n");
    let mut site = Site::start_with(OBJECTS as usize, &webhook)?;
    let before = machine::processor_seconds(site.process())?;
    let options =
        format!("--objects {OBJECTS} --rate 0 --central none --telemetry {POSTS} --for {}", settings.time());
    Load::run(&site, &options)?;
    site.wait_until("nothing waits", |status| number(status, "/books/waiting") == 0.0)?;
    let spent = machine::processor_seconds(site.process())? - before;
    Ok(spent * 1e6 / (came.try_iter().count() as f64).max(1.0))
}
