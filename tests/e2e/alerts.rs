//! Alerts of the real program: raised once, cleared once, kept over a restart.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

use crate::support::{Act, Hooks, Site, authority, eventually};

/// The alert of this name that is up.
pub fn up(site: &Site, name: &str) -> Option<Value> {
    let status = site.status();
    status["alerts"].as_array().unwrap().iter().find(|alert| alert["name"] == name).cloned()
}

/// What became of the alert of this name, in order.
pub fn steps(site: &Site, name: &str) -> Vec<String> {
    let page = site.http().get("/v1/events?last=100").json();
    let events = page["events"].as_array().unwrap().iter().map(|event| &event["payload"]);
    let of_it = events.filter(|payload| payload["name"] == name);
    of_it.map(|payload| payload["state"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn an_alert_is_raised_and_cleared_once_over_restarts() {
    let site = Site::started();
    assert_eq!(up(&site, "disk"), None);
    site.set("alerts", "disk_percent", "1");
    eventually("the alert is up", || up(&site, "disk").is_some());
    let first = up(&site, "disk").unwrap();
    assert_eq!((&first["urgent"], first.get("subject")), (&Value::Bool(true), None));
    eventually("the event is on flash", || steps(&site, "disk") == ["raised"]);
    let log = site.log();
    assert!(log.contains("level=warn event=alert_raised alert=disk"), "{log}");
    let metrics = String::from_utf8(site.http().get("/metrics").body).unwrap();
    assert!(metrics.contains("iotsocketd_alert_up{alert=\"disk\"} 1\n"), "{metrics}");
    let event = site.run(&["messages", "--kind", "event", "--json"]);
    let event: Value = serde_json::from_str(event.out.lines().next().unwrap()).unwrap();
    assert_eq!(
        [&event["kind"], &event["via"], &event["uid"], &event["payload"]["since"]],
        [&Value::from("event"), &Value::from("local"), &Value::from(""), &first["since"]]
    );

    assert_eq!(up(&site, "restarted"), None);
    site.kill();
    site.start();
    assert_eq!(up(&site, "disk").unwrap()["since"], first["since"]);
    assert!(up(&site, "restarted").is_some(), "it was killed");
    site.set("alerts", "disk_percent", "100");
    eventually("the alert is over", || up(&site, "disk").is_none());
    eventually("the end is on flash", || steps(&site, "disk").len() > 1);
    assert_eq!(steps(&site, "disk"), ["raised", "cleared"]);
    assert!(site.log().contains("level=info event=alert_cleared alert=disk"));
}

#[test]
fn many_failed_logins_are_an_alert() {
    let site = Site::started();
    for _ in 0..20 {
        let stranger = site.stranger("nobody");
        assert!(site.try_login(stranger).is_err());
    }
    eventually("the alert is up", || up(&site, "login_failures").is_some());
}

#[test]
fn an_alert_webhook_with_an_authority_of_its_own_is_trusted() {
    let own = authority(&["localhost"]);
    let hooks = Hooks::start_with(Some(own.server), |_| Act::Answer(200, String::new()));
    let site = Site::new();
    fs::write(site.path("ops-ca.pem"), &own.pem).unwrap();
    site.set("alerts", "webhook", &format!("\"https://localhost:{}/alert\"", hooks.address.port()));
    site.set("alerts", "secret", "\"whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\"");
    site.set("alerts", "ca_file", "\"ops-ca.pem\"");
    site.set("alerts", "disk_percent", "1");
    site.start();
    assert_eq!(hooks.wait(1)[0].body["payload"]["name"], "disk");
    // What cannot be read changes nothing.
    site.set("alerts", "ca_file", "\"none.pem\"");
    eventually("it is refused", || {
        let log = site.log();
        log.contains("event=configuration_refused") && log.contains("none.pem: cannot be read")
    });
}

#[test]
fn the_alert_webhook_gets_each_change_signed_and_again_until_it_takes_it() {
    let hooks = Hooks::start({
        let tries = AtomicUsize::new(0);
        move |_| {
            Act::Answer(if tries.fetch_add(1, Ordering::Relaxed) == 0 { 500 } else { 200 }, String::new())
        }
    });
    let site = Site::new();
    site.set("alerts", "webhook", &hooks.url("/alert"));
    site.set("alerts", "secret", "\"whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\"");
    site.set("alerts", "disk_percent", "1");
    site.start();
    let seen = hooks.wait(2);
    let payload = &seen[1].body["payload"];
    assert_eq!((&payload["name"], &payload["state"]), (&Value::from("disk"), &Value::from("raised")));
    assert_eq!((seen[0].path.as_str(), &seen[0].body), ("/alert", &seen[1].body), "the same again");
    let head = seen[1].head.to_lowercase();
    let id = seen[1].body["id"].as_str().unwrap();
    assert!(head.contains(&format!("webhook-id: {id}")) && head.contains("webhook-signature: v1,"), "{head}");
    eventually("it is the event's id", || site.http().get(&format!("/v1/messages/{id}")).status == 200);
    site.set("alerts", "disk_percent", "100");
    let seen = hooks.wait(3);
    assert_eq!(seen[2].body["payload"]["state"], "cleared");
}
