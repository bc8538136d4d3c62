//! Webhooks that misbehave: the object gets 0x01 in time, and nobody else notices.

use std::time::{Duration, Instant};

use iotsocketd::wire::{CloseCode, Format};
use serde_json::{Value, json};

use crate::support::{Act, Hook, Hooks, Site, eventually, request};
use crate::undisturbed::undisturbed;

/// The webhooks' timeout in these tests.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Does what the payload of the call says.
fn misbehave(hook: &Hook) -> Act {
    let away = "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n";
    match hook.body["Payload"].as_str().unwrap() {
        "hang" => Act::Hang,
        "hang within the body" => Act::Say(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{".to_vec()),
        "redirect" => Act::Say(away.as_bytes().to_vec()),
        "garbage" => Act::Say(vec![0xFF; 5000]),
        "garbage in the body" => Act::Answer(200, "{no json".to_owned()),
        "error" => Act::Answer(500, "{}".to_owned()),
        "nothing" => Act::Answer(204, String::new()),
        "code 256" => Act::Answer(200, r#"{"Code":256,"Payload":1,"Format":"JSON"}"#.to_owned()),
        "wrong format" => Act::Answer(200, r#"{"Code":0,"Payload":[256],"Format":"BINARY"}"#.to_owned()),
        "gigabyte" => Act::Gigabyte,
        _ => Act::respond(0, json!("fine"), "UTF8"),
    }
}

/// A site with a request webhook.
fn site_with(hooks: &Hooks) -> Site {
    let site = Site::new();
    site.set("central.webhooks", "request", &hooks.url("/request"));
    site.set("central.webhooks", "timeout", "\"2s\"");
    site
}

/// B15, B16: no answer in time, not 2xx, or not an answer: code 0x01, empty. B18: a code over 255 is not swallowed.
#[test]
fn a_webhook_that_misbehaves_is_code_1_within_the_timeout() {
    let hooks = Hooks::start(misbehave);
    let site = site_with(&hooks);
    let pump = site.device("pump-1", "Devices");
    site.start();
    let (mut object, _) = site.login_with_token(pump);
    let before = site.open_files();
    let ways = [
        "redirect",
        "garbage",
        "garbage in the body",
        "hang within the body",
        "error",
        "nothing",
        "code 256",
        "wrong format",
        "gigabyte",
    ];
    for (number, way) in (0..).zip(ways) {
        // A good answer in between, so that the breaker does not answer instead.
        eventually("the webhook answers", || object.ask(None, 99, b"be good") == (0, b"fine".to_vec()));
        let start = Instant::now();
        assert_eq!(object.ask(None, number, way.as_bytes()), (1, vec![]), "{way}");
        assert!(start.elapsed() < TIMEOUT + Duration::from_secs(1), "{way}: {:?}", start.elapsed());
        assert!(hooks.seen().iter().any(|hook| hook.body["Payload"] == *way), "{way} was not even sent");
    }
    object.is_alive();
    for cause in ["redirect", "protocol", "garbage", "status", "too_large"] {
        assert!(site.refused(&format!("webhook_request.{cause}")) > 0, "{cause}");
    }
    assert!(site.memory_kib() < 64 * 1024, "{} KiB", site.memory_kib());
    eventually("no descriptor leaks", || site.open_files() <= before + 8);
}

/// B16: one that hangs delays only the objects that asked it.
#[test]
fn a_webhook_that_hangs_disturbs_no_other_way() {
    let hooks = Hooks::start(|_| Act::Hang);
    let site = site_with(&hooks);
    site.set("central.webhooks", "telemetry", &hooks.url("/telemetry"));
    let good = site.device("good", "Devices");
    let devices: Vec<_> = (0..20).map(|n| site.device(&format!("object-{n}"), "Devices")).collect();
    site.start();
    let mut objects: Vec<_> = devices.iter().map(|device| site.login_with_token(*device).0).collect();
    let start = Instant::now();
    for object in &mut objects {
        object.send(&request(None, 1, b"anybody?"));
    }
    hooks.wait(1);
    undisturbed(&site, good, || {
        for object in &mut objects {
            assert_eq!(object.response(), (1, 1, vec![]));
        }
        assert!(start.elapsed() < TIMEOUT + Duration::from_secs(2), "{:?}", start.elapsed());
    });
    let (mut object, token) = site.login_with_token(good);
    // The central of before is kept only: telemetry goes to the webhook, which hangs, and waits.
    site.telemetry(token, Format::Utf8, b"waits");
    eventually("it was taken", || site.number("/books/received") == 1);
    object.is_alive();
    assert_eq!(site.login(site.central()).telemetry(), (good.uid, b"waits".to_vec()));
}

#[test]
fn telemetry_that_the_webhook_refused_is_delivered_when_it_recovers() {
    let is_well = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let well = std::sync::Arc::clone(&is_well);
    let hooks = Hooks::start(move |_| {
        let status = if well.load(std::sync::atomic::Ordering::Relaxed) { 200 } else { 503 };
        Act::Answer(status, String::new())
    });
    let site = Site::new();
    site.set("central.webhooks", "telemetry", &hooks.url("/telemetry"));
    let pump = site.device("pump-1", "Devices");
    site.start();
    let (_object, token) = site.login_with_token(pump);
    for number in 0..5_u8 {
        site.telemetry(token, Format::Binary, &[number]);
    }
    hooks.wait(2);
    assert_eq!(site.number("/books/delivered"), 0);
    is_well.store(true, std::sync::atomic::Ordering::Relaxed);
    eventually("all are delivered", || site.number("/books/delivered") == 5);
    let mut payloads: Vec<_> = hooks.seen().iter().map(|hook| hook.body["Payload"][0].clone()).collect();
    payloads.dedup();
    assert_eq!(payloads, (0..5).map(Value::from).collect::<Vec<_>>(), "in order");
}

#[test]
fn a_request_while_the_central_is_kept_waits_for_it_and_goes_to_no_webhook() {
    let hooks = Hooks::start(misbehave);
    let site = site_with(&hooks);
    let pump = site.device("pump-1", "Devices");
    site.start();
    let (mut object, _) = site.login_with_token(pump);
    site.login(site.central()).leave(CloseCode::Sleep);
    eventually("the central is away", || site.status()["sessions"]["central"] == Value::Bool(false));
    object.send(&request(None, 1, b"waits"));
    object.is_alive();
    let mut central = site.login(site.central());
    assert_eq!(central.request(), (1, b"waits".to_vec()));
    assert!(hooks.seen().is_empty());
}
