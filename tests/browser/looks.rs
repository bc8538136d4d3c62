//! Every view in both languages and appearances, on a desk and on a phone.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::fake_history::id;
use super::stage::{Stage, settle, show};
use super::webdriver::{Browser, ENTER};

/// WCAG 2.2, level AA.
const CONTRAST_MIN: f64 = 4.5;
const SIZES: [(&str, u32, u32); 2] = [("desk", 1280, 800), ("phone", 390, 844)];
/// Bytes of everything that the page loads before the first view, at most.
const WEIGHT_MAX: u64 = 100 * 1024;

/// The texts whose contrast is too small, with it. A colour may be partly transparent; a background never is.
const CONTRAST: &str = r#"
    const parse = (text) => text.match(/[\d.]+/g).map(Number);
    const light = (rgb) => {
        const [r, g, b] = rgb.map((part) => part / 255).map((part) => part <= .04045 ? part / 12.92 : ((part + .055) / 1.055) ** 2.4);
        return .2126 * r + .7152 * g + .0722 * b;
    };
    const below = (element) => {
        for (let at = element; at; at = at.parentElement) {
            const [r, g, b, a = 1] = parse(getComputedStyle(at).backgroundColor);
            if (a > 0) return [r, g, b];
        }
        return [255, 255, 255];
    };
    const bad = [];
    let seen = 0;
    for (const element of document.body.querySelectorAll("*")) {
        const hasText = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
        const isShown = element.checkVisibility({ visibilityProperty: true }) && !element.closest(".unseen, noscript");
        if (!isShown || !(hasText || element.matches("input, select"))) continue;
        const style = getComputedStyle(element);
        const colour = element instanceof SVGElement ? style.fill : style.color;
        const [one, other] = [light(parse(colour).slice(0, 3)), light(below(element))].sort((a, b) => b - a);
        const ratio = (one + .05) / (other + .05);
        seen += 1;
        if (ratio < arguments[0]) bad.push(`${ratio.toFixed(2)} ${element.tagName}.${element.getAttribute("class")} ${colour} on ${below(element)}: ${element.textContent.slice(0, 40)}`);
    }
    return { bad, seen };
"#;

const BACKGROUND: &str = "getComputedStyle(document.documentElement).backgroundColor";

fn views() -> Vec<(&'static str, String)> {
    vec![
        ("overview", "overview".to_owned()),
        ("objects", "objects".to_owned()),
        ("object", "objects/pump-0007".to_owned()),
        ("messages", "messages".to_owned()),
        ("trace", format!("messages/{}", id(249))),
        ("destinations", "destinations".to_owned()),
        ("alerts", "alerts".to_owned()),
        ("machine", "machine".to_owned()),
    ]
}

/// Where a picture goes.
pub fn picture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("target/console/{name}.png"))
}

/// What is wrong with the page as it stands.
fn faults(browser: &Browser) -> Vec<String> {
    let contrast = browser.run(CONTRAST, json!([CONTRAST_MIN]));
    assert!(contrast["seen"].as_u64().unwrap() >= 5, "{contrast}");
    let mut faults: Vec<_> = contrast["bad"].as_array().unwrap().iter().map(Value::to_string).collect();
    if browser.get("document.documentElement.scrollWidth > innerWidth") == true {
        faults.push("wider than the window".to_owned());
    }
    faults
}

#[test]
fn every_view_can_be_read_everywhere() {
    let stage = Stage::new();
    let browser = stage.logged_in();
    let mut wrong = Vec::new();
    for (size, width, height) in SIZES {
        browser.size(width, height);
        for language in ["en", "fr"] {
            browser.prefer_language(language);
            // The page as it is for somebody who comes with this preference.
            browser.get("(location.hash = '', location.reload())");
            browser.wait(&format!("document.documentElement.lang === '{language}'"));
            browser.wait("document.querySelector('.tile strong')?.textContent");
            for (name, view) in views() {
                show(&browser, &view);
                if name == "overview" {
                    // Two snapshots make a line.
                    browser.wait("document.querySelector('.chart .line')?.getAttribute('d').includes('L')");
                }
                for (scheme, background) in [("light", "rgb(244, 246, 248)"), ("dark", "rgb(15, 20, 25)")] {
                    browser.prefer_scheme(scheme);
                    let here = format!("{size}-{language}-{scheme}-{name}");
                    assert_eq!(browser.get(BACKGROUND), background, "{here}");
                    wrong.extend(faults(&browser).into_iter().map(|fault| format!("{here}: {fault}")));
                    browser.screenshot(&picture(&here));
                }
            }
        }
    }
    wrong.extend(browser.log());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_login_can_be_read_everywhere() {
    let stage = Stage::new();
    let browser = Browser::start();
    let mut wrong = Vec::new();
    for (size, width, height) in SIZES {
        browser.size(width, height);
        for language in ["en", "fr"] {
            browser.prefer_language(language);
            browser.go(&stage.url());
            browser.wait(&format!("document.documentElement.lang === '{language}'"));
            browser.keys("wrong");
            browser.keys(&ENTER.to_string());
            browser.wait("document.querySelector('[role=alert]')?.textContent");
            for scheme in ["light", "dark"] {
                browser.prefer_scheme(scheme);
                let here = format!("{size}-{language}-{scheme}-login");
                wrong.extend(faults(&browser).into_iter().map(|fault| format!("{here}: {fault}")));
                browser.screenshot(&picture(&here));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn language_and_appearance_can_be_chosen() {
    let stage = Stage::new();
    let browser = stage.logged_in();
    browser.size(1280, 800);
    browser.prefer_scheme("light");
    let choose = |id: &str, value: &str| {
        let script = "const box = document.getElementById(arguments[0]); box.value = arguments[1]; \
                      box.dispatchEvent(new Event('change'));";
        browser.run(script, json!([id, value]));
    };
    let colour = || browser.get(BACKGROUND);
    let light = colour();
    choose("theme", "dark");
    assert_ne!(colour(), light);
    choose("language", "fr");
    browser.wait("document.querySelector('h1')?.textContent === 'Vue d’ensemble'");
    browser.wait("document.querySelector('.banner')?.innerText.includes('libérez de la place')");
    browser.get("location.reload()");
    browser.wait("document.querySelector('h1')?.textContent === 'Vue d’ensemble'");
    assert_ne!(colour(), light, "both are kept");
    choose("theme", "light");
    assert_eq!(colour(), light);
}

#[test]
fn the_page_is_light_and_loads_nothing_from_elsewhere() {
    let stage = Stage::new();
    let browser = stage.logged_in();
    let loaded = browser.get(
        "[...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')] \
         .filter((entry) => !entry.name.includes('/v1/')).map((entry) => [entry.name, entry.transferSize])",
    );
    let loaded = loaded.as_array().unwrap();
    assert!(loaded.iter().all(|entry| entry[0].as_str().unwrap().starts_with(&stage.url())), "{loaded:?}");
    let weight: u64 = loaded.iter().filter_map(|entry| entry[1].as_u64()).sum();
    assert!((1..WEIGHT_MAX).contains(&weight), "{weight}");
}

#[test]
fn what_objects_send_stays_text() {
    let stage = Stage::new();
    let browser = stage.logged_in();
    show(&browser, &format!("messages/{}", id(242)));
    browser.wait("document.querySelector('pre')?.textContent.includes('<script>alert(242)</script>')");
    assert_eq!(browser.get("document.querySelectorAll('body script').length"), 0);
    show(&browser, "objects");
    browser.wait("[...document.querySelectorAll('td a')].some((link) => link.textContent === 'café/1 <b>')");
    browser.get(
        "[...document.querySelectorAll('td a')].find((link) => link.textContent.startsWith('caf')).click()",
    );
    browser.wait("document.querySelector('h1')?.textContent === 'café/1 <b>'");
    settle(&browser);
    browser.wait("document.querySelector('dd')?.textContent === 'awaited back'");
    assert_eq!(browser.log(), [""; 0]);
}

/// A concentrator of another version may give less, or more.
#[test]
fn what_is_missing_is_said_and_what_is_unknown_is_shown() {
    let stage = Stage::new();
    let browser = stage.logged_in();
    browser.get(
        "(window.fetch = async (path) => path === '/v1/status' \
         ? new Response(JSON.stringify({ version: '10', tide: { high_water: 7, is_rising: true } })) \
         : new Response(JSON.stringify({ error: 'no' }), { status: 404 })) && 0",
    );
    browser.wait("document.querySelector('.banner').innerText.includes('All is well')");
    for (view, said) in [
        ("objects", "no"),
        ("objects/pump-0007", "keeps no history"),
        ("messages", "keeps no history"),
        ("destinations", "Not available"),
        ("alerts", "keeps no history"),
        ("machine", "Not available"),
        ("overview", "Nothing was refused"),
    ] {
        show(&browser, view);
        browser.wait(&format!("document.querySelector('main').innerText.includes('{said}')"));
    }
    show(&browser, "machine");
    browser.wait("document.querySelector('main').innerText.match(/Tide: high water\\s*7/)");
    assert_eq!(browser.log(), [""; 0]);
}

#[test]
fn objects_are_found_by_a_part_of_their_name() {
    let stage = Stage::new();
    let browser = stage.logged_in();
    show(&browser, "objects");
    browser.wait("document.querySelectorAll('tbody tr').length === 200");
    assert!(browser.get("document.body.innerText").as_str().unwrap().contains("1,200 of 1,200 objects"));
    browser.get("document.getElementById('search').focus()");
    browser.keys("MP-004");
    browser.wait("document.querySelectorAll('tbody tr').length === 10");
    browser.keys("x");
    browser.wait("document.querySelectorAll('tbody tr').length === 0");
    assert_eq!(browser.get("document.activeElement.id"), Value::from("search"));
}
