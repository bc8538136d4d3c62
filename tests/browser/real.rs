//! The real program, with objects that work: every view shows what there is.

use std::process::{Command, Stdio};

use iotsocketd::hub::access_file::key_to_hex;

use super::looks::picture;
use super::stage::{log_in, show};
use super::support::{PROGRAM, Site};
use super::webdriver::Browser;

#[test]
fn every_view_of_the_real_program_opens() {
    let site = Site::started();
    let mut objects = Command::new(&*PROGRAM)
        .args(["simulate", "--objects", "8", "--enrol", "Devices", "--central", "none"])
        .args(["--telemetry", "20", "--for", "120s", "--config"])
        .arg(site.config())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let browser = Browser::start();
    browser.go(&format!("https://{}/", site.api()));
    log_in(&browser, &key_to_hex(&site.central_key()));
    browser.wait("document.querySelector('.tile strong').textContent === '8'");
    browser.wait("document.querySelector('.chart').ariaLabel.match(/telemetry in [1-9]/)");
    for view in ["objects", "messages", "destinations", "alerts", "machine", "overview"] {
        show(&browser, view);
        assert_eq!(browser.get("document.querySelectorAll('main h1').length"), 1, "{view}");
    }
    show(&browser, "objects");
    browser.wait("document.querySelectorAll('tbody tr').length === 8");
    browser.wait("document.querySelector('tbody').innerText.includes('connected')");
    show(&browser, "messages");
    browser.wait("document.querySelectorAll('tbody tr').length > 100");
    browser.get("document.querySelector('tbody a').click()");
    browser.wait("document.querySelectorAll('.timeline li').length > 0");
    for view in ["trace", "overview", "machine"] {
        if view != "trace" {
            show(&browser, view);
        }
        browser.screenshot(&picture(&format!("real-{view}")));
    }
    let complaints = browser.log();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    objects.kill().unwrap();
    objects.wait().unwrap();
}
