//! The console: a page in the program itself. It asks for a key and then uses the same routes as everybody else, so
//! nothing here is secret, and nothing but its files is served.

use super::reply::Reply;

/// What no browser may do with the page: load anything from elsewhere, run or style anything that does not stand in a
/// file of ours, be put into a frame, turn text into code.
const HEADERS: &[(&str, &str)] = &[
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    // A newer program has a newer page.
    ("cache-control", "no-cache"),
];

/// A file of the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asset {
    path: &'static str,
    content_type: &'static str,
    text: &'static str,
}

impl Asset {
    /// The file as an answer.
    pub(super) fn reply(&self) -> Reply {
        Reply { content_type: self.content_type, headers: HEADERS, ..Reply::text(200, self.text.as_bytes()) }
    }
}

/// What stands at this path.
pub(super) fn find(path: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.path == path)
}

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The path of a script below `/console/`, which is also its file's name.
macro_rules! script {
    ($name:literal) => {
        Asset {
            path: concat!("/console/", $name),
            content_type: SCRIPT,
            text: include_str!(concat!("console/", $name)),
        }
    };
}

static ASSETS: [Asset; 16] = [
    Asset { path: "/", content_type: "text/html; charset=utf-8", text: include_str!("console/index.html") },
    Asset {
        path: "/console/console.css",
        content_type: "text/css; charset=utf-8",
        text: include_str!("console/console.css"),
    },
    Asset {
        path: "/console/icon.svg",
        content_type: "image/svg+xml",
        text: include_str!("console/icon.svg"),
    },
    script!("alerts.js"),
    script!("api.js"),
    script!("chart.js"),
    script!("destinations.js"),
    script!("dom.js"),
    script!("format.js"),
    script!("machine.js"),
    script!("main.js"),
    script!("messages.js"),
    script!("objects.js"),
    script!("overview.js"),
    script!("samples.js"),
    script!("words.js"),
];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::hub::alerts::Rule;
    use crate::hub::auditing::What;

    /// Bytes of all files together, as they are sent.
    const WEIGHT_MAX: usize = 100 * 1024;

    #[test]
    fn every_file_is_served_and_together_they_are_light() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/endpoint/http/console");
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), ASSETS.len());
        let weight: usize = ASSETS.iter().map(|asset| asset.text.len()).sum();
        assert!(weight < WEIGHT_MAX, "{weight} bytes");
    }

    #[test]
    fn nothing_is_loaded_from_elsewhere_and_nothing_is_inline() {
        for asset in &ASSETS {
            let text = asset.text.replace("http://www.w3.org/2000/svg", "");
            for bad in ["http:", "https:", "innerHTML", "eval(", " style=", "onclick", "javascript:"] {
                assert!(!text.contains(bad), "{bad} in {}", asset.path);
            }
        }
        let page = find("/").unwrap().text;
        assert_eq!(page.matches("<script").count(), page.matches("<script type=\"module\" src=\"").count());
        assert!(!page.contains("<style"));
    }

    #[test]
    fn every_file_has_the_headers_that_hold_it_in() {
        for asset in &ASSETS {
            let reply = asset.reply();
            let value = |name| reply.headers.iter().find(|(found, _)| *found == name).unwrap().1;
            assert!(value("content-security-policy").starts_with("default-src 'none';"));
            assert!(!value("content-security-policy").contains("unsafe"));
            assert!(value("content-security-policy").contains("frame-ancestors 'none'"));
            assert_eq!(value("x-content-type-options"), "nosniff");
            assert_eq!(value("referrer-policy"), "no-referrer");
        }
    }

    /// What the audit and the alerts may say has words in both languages.
    #[test]
    fn every_deed_and_every_alert_has_its_words() {
        let words = find("/console/words.js").unwrap().text;
        for what in What::ALL {
            let entry = format!("\n  did_{}: [\"", what.name());
            assert!(words.contains(&entry), "{}", what.name());
        }
        let (_, alerts) = words.split_once("const ALERTS_FR = {").unwrap();
        for rule in Rule::all() {
            assert!(alerts.contains(&format!("\n  {}: \"", rule.name())), "{}", rule.name());
        }
    }

    #[test]
    fn what_a_script_imports_is_there() {
        for asset in ASSETS.iter().filter(|asset| asset.content_type == SCRIPT) {
            for part in asset.text.split(" from \"./").skip(1) {
                let name = part.split('"').next().unwrap();
                assert!(find(&format!("/console/{name}")).is_some(), "{name} in {}", asset.path);
            }
        }
        assert_eq!(find("/console/"), None);
        assert_eq!(find("/console/../api.rs"), None);
    }
}
