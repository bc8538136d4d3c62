//! Everything can be done without a mouse, and it shows where the focus is.

use serde_json::Value;

use super::stage::{READER, Stage, show};
use super::webdriver::{Browser, ENTER, TAB};

/// What has the focus, and whether that can be seen.
const FOCUSED: &str = "(() => { \
    const it = document.activeElement; const style = getComputedStyle(it); \
    const name = it.id || it.getAttribute('href') || it.textContent.trim().slice(0, 30); \
    return [it === document.body ? '' : name, style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2]; })()";

/// What has the focus after each Tab, until it leaves the page.
fn walk(browser: &Browser) -> Vec<String> {
    browser.get("document.activeElement.blur()");
    // Where the next Tab starts from: the top of the page.
    browser.get(
        "(document.body.tabIndex = -1, document.body.focus(), document.body.removeAttribute('tabindex'))",
    );
    let mut names = Vec::new();
    for _ in 0..300 {
        browser.keys(&TAB.to_string());
        let focused = browser.get(FOCUSED);
        let name = focused[0].as_str().unwrap().to_owned();
        if name.is_empty() || names.first() == Some(&name) {
            return names;
        }
        assert_eq!(focused[1], true, "the focus on {name} cannot be seen");
        names.push(name);
    }
    panic!("the focus goes on for ever: {names:?}");
}

/// What a person without a mouse must come to, in the order of the page.
fn reachable(browser: &Browser) -> Value {
    browser.get(
        "[...document.querySelectorAll('a[href], button, input, select, pre[tabindex]')] \
         .filter((it) => it.checkVisibility({ visibilityProperty: true }) && !it.disabled) \
         .map((it) => it.id || it.getAttribute('href') || it.textContent.trim().slice(0, 30))",
    )
}

#[test]
fn the_way_in_needs_no_mouse() {
    let stage = Stage::new();
    let browser = Browser::start();
    browser.go(&stage.url());
    browser.wait("document.activeElement.id === 'key'");
    assert_eq!(walk(&browser), ["language", "theme", "key", "Log in"]);
    browser.get("document.getElementById('key').focus()");
    browser.keys(READER);
    browser.keys(&TAB.to_string());
    browser.keys(&ENTER.to_string());
    browser.wait("document.querySelector('.tile strong')?.textContent");
    assert_eq!(browser.get("document.activeElement.id"), "content", "reading begins at the content");
}

#[test]
fn every_view_can_be_walked_through() {
    let stage = Stage::new();
    let browser = stage.logged_in();
    for view in ["overview", "objects/pump-0007", "messages", "destinations", "alerts", "machine"] {
        show(&browser, view);
        if view == "messages" {
            browser.wait("document.querySelectorAll('tbody tr').length === 100");
            browser.get("[...document.querySelectorAll('tbody tr')].slice(3).forEach((row) => row.remove())");
        }
        let (walked, wanted) = (walk(&browser), reachable(&browser));
        assert_eq!(Value::from(walked), wanted, "{view}");
    }
}

#[test]
fn the_content_can_be_skipped_to_and_a_view_opened() {
    let stage = Stage::new();
    let browser = stage.logged_in();
    browser.get("location.reload()");
    browser.wait("document.querySelector('.tile strong')?.textContent");
    browser.keys(&TAB.to_string());
    browser.wait("document.activeElement.matches('.skip')");
    browser.wait("document.querySelector('.skip').getBoundingClientRect().left >= 0");
    browser.keys(&ENTER.to_string());
    assert_eq!(browser.get("document.activeElement.id"), "content");
    browser.get("document.querySelector('nav a[href=\"#machine\"]').focus()");
    browser.keys(&ENTER.to_string());
    browser.wait("document.querySelector('h1').textContent === 'Machine'");
    browser.wait("document.activeElement.id === 'content'");
    assert_eq!(browser.get("document.querySelector('nav [aria-current]').hash"), "#machine");
    assert!(browser.get("document.title").as_str().unwrap().starts_with("Machine"));
}
