//! Alerts of the real program: raised once, cleared once, kept over a restart.

use serde_json::Value;

use crate::support::{Site, eventually};

/// The alert of this name that is up.
fn up(site: &Site, name: &str) -> Option<Value> {
    let status = site.status();
    status["alerts"].as_array().unwrap().iter().find(|alert| alert["name"] == name).cloned()
}

/// What became of the alert of this name, in order.
fn steps(site: &Site, name: &str) -> Vec<String> {
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

    site.kill();
    site.start();
    assert_eq!(up(&site, "disk").unwrap()["since"], first["since"]);
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
