//! Messages as they come, by the stream and without it; alerts that go.

use serde_json::json;

use super::fake_history::{id, message};
use super::stage::{Stage, show};

const NEWEST: &str = "document.querySelector('tbody tr a')?.hash";

#[test]
fn new_messages_appear_by_themselves_until_the_tail_is_stopped() {
    let stage = Stage::new();
    let browser = stage.logged_in();
    show(&browser, "messages");
    browser.wait("document.querySelectorAll('tbody tr').length === 100");
    browser.wait(&format!("{NEWEST} === '#messages/{}'", id(250)));
    stage.history.append([message(251), message(252)]);
    browser.wait(&format!("{NEWEST} === '#messages/{}'", id(252)));
    assert_eq!(browser.get("document.querySelectorAll('tbody tr').length"), 102);
    browser.get("document.querySelector('[aria-pressed]').click()");
    assert_eq!(browser.get("document.querySelector('[aria-pressed]').ariaPressed"), "false");
    stage.history.append([message(253)]);
    browser.get("document.querySelector('[aria-pressed]').click()");
    browser.wait(&format!("{NEWEST} === '#messages/{}'", id(253)));
    browser.get("[...document.querySelectorAll('main button')].at(-1).click()");
    browser.wait("document.querySelectorAll('tbody tr').length === 203");
    assert_eq!(browser.log(), [""; 0]);
}

#[test]
fn without_the_stream_the_page_asks_again_and_again() {
    let stage = Stage::new();
    let browser = stage.logged_in();
    browser.get(
        "(window.calls = [], window.real = fetch, window.fetch = (path, ...rest) => (calls.push(path), \
         path.startsWith('/v1/stream') ? Promise.resolve(new Response('{}', { status: 404 })) : real(path, ...rest)))\
         && 0",
    );
    show(&browser, "messages");
    browser.wait("calls.some((path) => path.includes('wait='))");
    stage.history.append([message(251)]);
    browser.wait(&format!("{NEWEST} === '#messages/{}'", id(251)));
    assert_eq!(browser.get("calls.filter((path) => path.startsWith('/v1/stream')).length"), 1);
}

#[test]
fn messages_are_filtered_and_traced() {
    let stage = Stage::new();
    let browser = stage.logged_in();
    show(&browser, "messages");
    browser.run(
        "document.getElementById('kind').value = arguments[0]; document.querySelector('.filters').requestSubmit();",
        json!(["audit"]),
    );
    browser.wait("document.querySelectorAll('tbody tr').length === 27");
    browser.get("document.querySelector('tbody a').click()");
    browser.wait("document.querySelectorAll('.timeline li').length === 2");
    let text = browser.get("document.querySelector('.timeline').innerText");
    assert!(text.as_str().unwrap().contains("to central, attempt 2"), "{text}");
    show(&browser, "messages/01930a2b-0000-7000-8000-000000000000");
    browser.wait("document.querySelector('main').innerText.includes('No such message')");
}

#[test]
fn an_alert_that_is_cleared_goes_from_the_page() {
    let stage = Stage::new();
    let browser = stage.logged_in();
    browser.wait("document.querySelector('.tally:not(:empty)')?.textContent === '2'");
    browser.wait("document.querySelector('.banner').innerText.includes('Alerts: 2')");
    stage.hub.alerts.lock().unwrap().clear();
    browser.wait("document.querySelector('.banner').innerText.includes('All is well')");
    assert_eq!(browser.get("document.querySelectorAll('.tally:not(:empty)').length"), 0);
}
