//! Who may look, and where the key is kept.

use serde_json::Value;

use super::stage::{BLIND, READER, Stage, log_in};
use super::webdriver::{Browser, ENTER};

#[test]
fn a_key_that_may_not_look_is_told_so() {
    let stage = Stage::new();
    let browser = Browser::start();
    browser.go(&stage.url());
    browser.wait("document.getElementById('key')");
    let theirs = format!("iotsocketd-staging-{}", "5".repeat(64));
    let refusals = [
        ("no such key", "Nobody has this key"),
        (theirs.as_str(), "made for staging, and this concentrator is test"),
        (BLIND, "it needs the right “read”"),
    ];
    for (key, said) in refusals {
        browser.get("document.getElementById('key').focus()");
        browser.keys(key);
        browser.keys(&ENTER.to_string());
        browser.wait(&format!("document.querySelector('[role=alert]').textContent.includes('{said}')"));
        assert_eq!(browser.get("sessionStorage.length"), 0, "a key that is refused is not kept");
    }
    log_in(&browser, READER);
}

#[test]
fn the_key_is_in_this_tabs_session_storage_and_nowhere_else() {
    let stage = Stage::new();
    let browser = stage.logged_in();
    let kept = "[JSON.stringify(sessionStorage).includes(arguments[0]), JSON.stringify(localStorage).includes(arguments[0]), \
                document.cookie, location.href.includes(arguments[0]), document.documentElement.outerHTML.includes(arguments[0])]";
    let look = || browser.run(&format!("return {kept}"), serde_json::json!([READER]));
    assert_eq!(look(), serde_json::json!([true, false, "", false, false]));
    browser.get("location.reload()");
    browser.wait("document.querySelector('.tile strong')?.textContent");
    browser.get("document.getElementById('log_out').click()");
    browser.wait("document.activeElement.id === 'key'");
    assert_eq!(look(), serde_json::json!([false, false, "", false, false]));
}

#[test]
fn a_key_that_ends_leads_back_to_the_login() {
    let stage = Stage::new();
    let browser = stage.logged_in();
    stage.withdraw_keys();
    browser.wait("document.querySelector('[role=alert]')?.textContent.includes('no longer valid')");
    assert_eq!(browser.get("sessionStorage.length"), 0);
    assert_eq!(browser.get("document.querySelector('.tile')"), Value::Null);
}
