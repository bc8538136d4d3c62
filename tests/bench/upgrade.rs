//! Updates of a concentrator at work, good ones and bad ones: what they cost those who speak with it. It judges and never fails
//! for what it measured: `cargo bench --bench upgrade`, with `-- --quick` for a first look.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "it shares what the tests share: what fails cannot be measured"
)]

#[expect(dead_code, reason = "the other benchmarks use the rest")]
mod machine;
#[path = "../support/mod.rs"]
mod support;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use support::crowd::{Crowd, Plan, Wrong, prepare};
use support::signing::{Maker, signature_of};
use support::{Ran, Site};

/// What is asked of an update, for all sessions together and for one of them.
const BACK_MAX: Duration = Duration::from_secs(30);
const GAP_MEDIAN_MAX: Duration = Duration::from_secs(1);
/// What is asked of a bad one.
const VERDICT_MAX: Duration = Duration::from_secs(60);
const SERVING_MAX: Duration = Duration::from_secs(5);
/// Longer than that is not waited for anything.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long a good one is watched.
const CONFIRM_AFTER: &str = "\"5s\"";
const LOOK_EVERY: Duration = Duration::from_millis(5);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("measures nothing unless it is run by `cargo bench`");
        return ExitCode::SUCCESS;
    }
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let (updates, plan) = match has("--quick") {
        true => (2, Plan { sessions: 200, datagrams: 1000, calls: 200, brought: 50 }),
        false => (20, Plan { sessions: 1000, datagrams: 1000, calls: 200, brought: 50 }),
    };
    println!("{}", machine::facts());
    println!(
        "{} sessions over TLS, {} datagrams, {} calls and {} messages of a partner network a second\n",
        plan.sessions, plan.datagrams, plan.calls, plan.brought
    );
    let only = arguments.iter().find(|argument| !argument.starts_with("--")).map_or("", String::as_str);
    let is_good = has("--bad") || good(updates, plan);
    let is_bad_good = has("--good") || bad(plan, only);
    println!("\n{}", if is_good && is_bad_good { "all as it should be" } else { "MISSED" });
    ExitCode::SUCCESS
}

/// A site at work.
fn busy(seed: u8, plan: Plan) -> (Site, Maker, Crowd) {
    let site = Site::new();
    let maker = Maker::new(seed);
    maker.trusted_by(&site);
    site.set("upgrade", "confirm_after", CONFIRM_AFTER);
    let devices = prepare(&site, plan);
    site.start();
    let crowd = Crowd::start(&site, plan, devices);
    // Some calls before the first one.
    std::thread::sleep(Duration::from_secs(2));
    (site, maker, crowd)
}

/// One version after the other.
fn good(updates: usize, plan: Plan) -> bool {
    let (site, maker, mut crowd) = busy(1, plan);
    let old = site.pid();
    println!(
        "update  verdict  refused  broken  unanswered  failed  put off  answered  receipts lost  datagrams lost (kernel)  back  gap median  max"
    );
    let mut all_good = true;
    for number in 1..=updates {
        let begun = Instant::now();
        let ran = site.run(&["upgrade", maker.good(&site, &format!("1.0.{number}")).to_str().unwrap()]);
        assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
        let verdict = begun.elapsed();
        let is_back = wait(|| crowd.is_whole()).is_some();
        all_good &= told(&format!("{number:6}"), verdict, &site, &mut crowd, is_back).is_nothing;
    }
    drop(crowd);
    site.adopt(old);
    all_good
}

/// What an update cost.
struct Cost {
    /// Nobody noticed more than that his session came back.
    is_nothing: bool,
    /// Nobody was refused or lost a connection without a word, and every call was answered.
    is_answered: bool,
    /// Everybody is back, and what was acknowledged is there, once. More cannot be asked of a process that is killed while it
    /// serves: the connections that it had are gone with it.
    is_kept: bool,
}

/// A line about what was met.
fn told(name: &str, verdict: Duration, site: &Site, crowd: &mut Crowd, is_back: bool) -> Cost {
    let datagrams = crowd.datagrams(site);
    let (receipts, lost) = crowd.lost(site);
    let tally = &crowd.tally;
    let mut gaps = std::mem::take(&mut *tally.gaps.lock().unwrap());
    gaps.sort_unstable();
    let longest = gaps.last().copied().unwrap_or_default();
    let median = gaps.get(gaps.len() / 2).copied().unwrap_or_default();
    let mut notes = Vec::new();
    let mut count = |what: &str, wrong: &Wrong| {
        let (count, first) = wrong.take();
        if count > 0 {
            notes.push(format!("        {what}: {first}"));
        }
        count
    };
    let refused = count("refused", &tally.refused);
    let broken = count("broken", &tally.broken);
    let unanswered = count("unanswered", &tally.unanswered);
    let failed = count("failed", &tally.failed);
    let put_off = count("put off", &tally.put_off);
    println!(
        "{name}  {:5.1} s  {refused:7}  {broken:6}  {unanswered:10}  {failed:6}  {put_off:7}  {:8}  {receipts:8} {:4}  {:9} {:4} {:8}  {:2.1} s  {:7.0} ms  {:.1} s",
        verdict.as_secs_f64(),
        tally.answered.swap(0, Ordering::Relaxed),
        lost.len(),
        datagrams.sent,
        datagrams.lost(),
        format!("({})", datagrams.dropped),
        longest.as_secs_f64(),
        median.as_secs_f64() * 1000.0,
        longest.as_secs_f64(),
    );
    notes.iter().for_each(|note| println!("{note}"));
    let is_kept = is_back && lost.is_empty() && datagrams.repeated == 0;
    let is_answered = refused + broken + unanswered + failed == 0;
    let is_soon = longest < BACK_MAX && median < GAP_MEDIAN_MAX;
    Cost { is_nothing: is_kept && is_answered && datagrams.lost() == 0 && is_soon, is_answered, is_kept }
}

/// Versions that are no good, each in its way; those whose name has this word.
fn bad(plan: Plan, only: &str) -> bool {
    let (site, maker, mut crowd) = busy(2, plan);
    println!("\nbad update                                        verdict  serving again");
    let mut all_good = true;
    let program = env!("CARGO_BIN_EXE_iotsocketd");
    let broken = site.read("iotsocketd.toml").replace("max_datagram = \"4KiB\"", "max_datagram = \"12B\"");
    std::fs::write(site.path("broken.toml"), broken).unwrap();
    let fails = format!("#!/bin/sh\nexec {program} run --config {}\n", site.path("broken.toml").display());
    let damaged = maker.good(&site, "1.9.0");
    std::fs::write(&damaged, "something else").unwrap();
    let forged = Maker::new(9).good(&site, "1.9.1");
    let version = |number: &str, text: &str| maker.version(&site, number, text);
    // Whether it ends without a word while it serves.
    let mut files: Vec<(String, PathBuf, bool)> = vec![
        ("damaged".to_owned(), damaged, false),
        ("signed by somebody else".to_owned(), forged, false),
        ("older".to_owned(), maker.good(&site, "0.0.9"), false),
        ("ends at once".to_owned(), version("1.0.1", "#!/bin/sh\nexit 3\n"), false),
        ("hangs before it begins".to_owned(), version("1.0.2", "#!/bin/sh\nexec sleep 600\n"), false),
        // By refusing datagrams, all the time that it serves.
        ("starts, and fails its proof".to_owned(), version("1.0.3", &fails), false),
    ];
    for (number, (name, step)) in Maker::STEPS.into_iter().enumerate() {
        for (way, what) in [("killed", "kill -KILL $me"), ("stopped", "kill -STOP $me")] {
            let version = format!("1.{number}.{}", if way == "killed" { 10 } else { 11 });
            let file = maker.sabotaged(&site, &version, step, what);
            files.push((format!("{way} {name}"), file, number > 1));
        }
    }
    files.retain(|(name, ..)| name.contains(only));
    for (name, file, is_abrupt) in files {
        assert!(signature_of(&file).exists());
        let rejections = site.log().matches("event=upgrade_rejected").count();
        let begun = Instant::now();
        let ((verdict, serving), ran): (_, Ran) = std::thread::scope(|scope| {
            let running = scope.spawn(|| site.run(&["upgrade", file.to_str().unwrap()]));
            let is_decided =
                || running.is_finished() || site.log().matches("event=upgrade_rejected").count() > rejections;
            let verdict = wait(is_decided).unwrap_or(PATIENCE);
            let decided = Instant::now();
            // A connection made now is answered as soon as somebody serves.
            let reply = site.http().get("/v1/status");
            assert_eq!(reply.status, 200);
            ((verdict, decided.elapsed()), running.join().unwrap())
        });
        assert_eq!(ran.code, 1, "{name}: {}{}", ran.out, ran.err);
        println!("{name:48}{:7.1} s  {:11.2} s", verdict.as_secs_f64(), serving.as_secs_f64());
        let is_back = wait(|| crowd.is_whole()).is_some();
        let cost = told("      ", begun.elapsed(), &site, &mut crowd, is_back);
        let is_good = cost.is_kept && (is_abrupt || cost.is_answered);
        all_good &= is_good && verdict < VERDICT_MAX && serving < SERVING_MAX;
    }
    drop(crowd);
    all_good
}

/// How long it took until it was so.
fn wait(mut is_so: impl FnMut() -> bool) -> Option<Duration> {
    let begun = Instant::now();
    while !is_so() {
        if begun.elapsed() > PATIENCE {
            return None;
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Some(begun.elapsed())
}
