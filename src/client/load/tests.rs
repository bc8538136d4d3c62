//! Loads against the fake concentrator.

use super::*;
use crate::client::fake::{self, Fake, Rules};

fn target(fake: &Fake, rules: &Rules, objects: usize) -> Target {
    let tls = rules.tls.as_ref().map(|it| Tls::pinned(it.certificate.clone(), "127.0.0.1").unwrap());
    Target {
        sessions: fake.sessions,
        tls,
        telemetry: Some(fake.telemetry),
        api: Some(Api { address: fake.api, tls: None, bearer: rules.key }),
        central: Some(rules.key),
        objects: (0..objects).map(|i| (Uid::parse(&format!("obj-{i:04}")).unwrap(), rules.key)).collect(),
    }
}

/// Lets the load run until so many of a kind are counted, for a minute at most.
fn run_until(target: Target, plan: Plan, goals: &[(Kind, u64)]) -> Report {
    let load = Load::start(target, plan).unwrap();
    let started = Instant::now();
    while !goals.iter().all(|(kind, count)| load.snapshot().get(*kind) >= *count) {
        let seen = load.snapshot();
        assert!(started.elapsed() < Duration::from_secs(60), "{goals:?} not reached: {:?}", counts(&seen));
        std::thread::sleep(Duration::from_millis(5));
    }
    load.stop()
}

fn counts(snapshot: &Snapshot) -> Vec<(&'static str, u64)> {
    Kind::ALL.iter().map(|kind| (kind.name(), snapshot.get(*kind))).collect()
}

fn assert_no_errors(report: &Report) {
    assert_eq!(report.all.errors().collect::<Vec<_>>(), []);
}

#[test]
fn calls_requests_of_objects_and_telemetry_flow_at_once() {
    let rules = Rules { tls: Some(fake::identity()), ..Rules::plain() };
    let fake = fake::start(rules.clone());
    let plan = Plan {
        in_flight: 8,
        rate: Rate::PerSecond(500.0),
        asks: Rate::PerSecond(200.0),
        telemetry: Rate::PerSecond(500.0),
        threads: 2,
        ..Plan::default()
    };
    let goals = [(Kind::Answered, 100), (Kind::AskAnswered, 30), (Kind::TelemetryReceived, 100)];
    let report = run_until(target(&fake, &rules, 10), plan, &goals);
    assert_no_errors(&report);
    assert_eq!((report.all.online, report.all.get(Kind::LoggedIn)), (10, 10));
    assert!(report.all.calls.count().abs_diff(report.all.get(Kind::Answered)) <= 8);
    assert!(report.all.calls.percentile(0.5) > Duration::ZERO);
    assert!(report.login_time.is_some());
}

#[test]
fn the_rate_of_calls_is_kept() {
    let rules = Rules::plain();
    let fake = fake::start(rules.clone());
    let plan = Plan { rate: Rate::PerSecond(200.0), in_flight: 32, ..Plan::default() };
    let report = run_until(target(&fake, &rules, 4), plan, &[(Kind::Answered, 60)]);
    assert_no_errors(&report);
    // What is not sent in time is made up for; nothing is ever sent before its time.
    let sent = report.all.get(Kind::Called) as f64;
    assert!(sent <= report.all.elapsed.as_secs_f64() * 200.0 + 2.0, "{sent} in {:?}", report.all.elapsed);
}

#[test]
fn answers_can_be_late() {
    let rules = Rules::plain();
    let fake = fake::start(rules.clone());
    let answer_after = Duration::from_millis(30);
    let plan = Plan { in_flight: 4, answer_after, ..Plan::default() };
    let report = run_until(target(&fake, &rules, 1), plan, &[(Kind::Answered, 8)]);
    assert_no_errors(&report);
    assert!(report.all.calls.percentile(0.01) >= answer_after);
}

#[test]
fn callers_call_over_http() {
    let rules = Rules::plain();
    let fake = fake::start(rules.clone());
    let plan = Plan { central: false, callers: 4, ..Plan::default() };
    let report = run_until(target(&fake, &rules, 3), plan, &[(Kind::Answered, 200)]);
    assert_no_errors(&report);
}

#[test]
fn logins_are_repeated() {
    let rules = Rules { tls: Some(fake::identity()), ..Rules::plain() };
    let fake = fake::start(rules.clone());
    let plan = Plan { central: false, logins: true, logins_at_once: 4, ..Plan::default() };
    let report = run_until(target(&fake, &rules, 8), plan, &[(Kind::LoggedIn, 40)]);
    assert_no_errors(&report);
    // Counted and measured one after the other, and read in between: as many are apart as can be under way.
    assert!(report.all.logins.count().abs_diff(report.all.get(Kind::LoggedIn)) <= 4);
}

#[test]
fn what_is_refused_is_counted_and_does_not_hold_up_the_others() {
    let rules = Rules::plain();
    let fake = fake::start(rules.clone());
    let mut target = target(&fake, &rules, 3);
    target.objects[1].1 = AuthKey([1; 16]);
    let report = run_until(target, Plan::default(), &[(Kind::Answered, 20)]);
    let errors: Vec<_> = report.all.errors().collect();
    assert!(matches!(errors[..], [(Kind::LoginRefused, 1.., Some(_))]), "{errors:?}");
    assert_eq!(report.all.online, 2);
}

#[test]
fn plans_that_cannot_work_are_refused() {
    let rules = Rules::plain();
    let fake = fake::start(rules.clone());
    let mut bare = target(&fake, &rules, 0);
    (bare.central, bare.telemetry, bare.api) = (None, None, None);
    for plan in [
        Plan::default(),
        Plan { central: false, callers: 1, ..Plan::default() },
        Plan { central: false, telemetry: Rate::Max, ..Plan::default() },
        Plan { central: false, logins: true, ..Plan::default() },
        Plan { central: false, payload: 65_536, ..Plan::default() },
        Plan { central: false, threads: 0, ..Plan::default() },
    ] {
        assert!(Load::start(bare.clone(), plan).is_err());
    }
}
