//! A headless Chromium, driven by chromedriver: as little of the WebDriver protocol as the tests need.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

/// Nothing that is awaited takes longer.
const PATIENCE: Duration = Duration::from_secs(30);
/// A page looks again so often whether it is so.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// A picture is cut off below this.
const HEIGHT_MAX: u64 = 2500;

/// The key that moves the focus on.
pub const TAB: char = '\u{E004}';
pub const ENTER: char = '\u{E007}';

/// A browser with one page. Dropped, it ends.
pub struct Browser {
    driver: Child,
    port: u16,
    session: String,
    _profile: TempDir,
}

impl Browser {
    /// Starts both; fails if they are not there.
    pub fn start() -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("chromedriver is needed (Debian: chromium-driver): {error}"));
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = loop {
            let line = lines.next().expect("chromedriver says its port").unwrap();
            if let Some((_, port)) = line.split_once("started successfully on port ") {
                break port.trim_end_matches('.').parse().unwrap();
            }
        };
        let mut browser = Self { driver, port, session: String::new(), _profile: profile };
        let folder = format!("--user-data-dir={}", browser._profile.path().display());
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
            &folder,
        ];
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "acceptInsecureCerts": true,
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let made = browser.command("POST", "/session", &wanted);
        browser.session =
            made["sessionId"].as_str().unwrap_or_else(|| panic!("no session: {made}")).to_owned();
        browser
    }

    /// Loads a page.
    pub fn go(&self, url: &str) {
        self.post("/url", json!({ "url": url }));
    }

    /// Runs a script's body in the page; its arguments are `arguments[0]` and so on.
    pub fn run(&self, script: &str, arguments: Value) -> Value {
        self.post("/execute/sync", json!({"script": script, "args": arguments}))
    }

    /// Runs an expression in the page.
    pub fn get(&self, expression: &str) -> Value {
        self.run(&format!("return {expression};"), json!([]))
    }

    /// Waits until an expression is true.
    pub fn wait(&self, expression: &str) {
        let begun = Instant::now();
        while self.get(&format!("Boolean({expression})")) != true {
            if begun.elapsed() > PATIENCE {
                let text = self.get("document.body.innerText");
                panic!(
                    "never so: {expression}\n{}\n{}",
                    text.as_str().unwrap_or_default(),
                    self.log().join("\n")
                );
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Presses and releases keys, one after the other.
    pub fn keys(&self, keys: &str) {
        let actions: Vec<Value> = keys
            .chars()
            .flat_map(|key| ["keyDown", "keyUp"].map(|what| json!({"type": what, "value": key.to_string()})))
            .collect();
        self.post("/actions", json!({"actions": [{"type": "key", "id": "keyboard", "actions": actions}]}));
    }

    /// The size of the page, as a phone has it or a desk.
    pub fn size(&self, width: u32, height: u32) {
        let metrics =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        self.devtools("Emulation.setDeviceMetricsOverride", metrics);
    }

    /// The language that the person prefers.
    pub fn prefer_language(&self, language: &str) {
        let agent = self.get("navigator.userAgent");
        let agent = json!({"userAgent": agent, "acceptLanguage": language});
        self.devtools("Emulation.setUserAgentOverride", agent);
    }

    /// The appearance that the person prefers: light or dark.
    pub fn prefer_scheme(&self, scheme: &str) {
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.devtools("Emulation.setEmulatedMedia", features);
    }

    /// Writes what the whole page looks like to a file.
    pub fn screenshot(&self, path: &Path) {
        let [width, height] =
            ["Width", "Height"].map(|side| self.get(&format!("document.documentElement.scroll{side}")));
        let height = height.as_u64().unwrap().min(HEIGHT_MAX);
        let clip = json!({"x": 0, "y": 0, "width": width, "height": height, "scale": 1});
        let shot =
            self.devtools("Page.captureScreenshot", json!({"captureBeyondViewport": true, "clip": clip}));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, base64(shot["data"].as_str().unwrap())).unwrap();
    }

    /// What the browser complained about since the last time.
    pub fn log(&self) -> Vec<String> {
        let entries = self.post("/se/log", json!({"type": "browser"}));
        let text = |entry: &Value| format!("{}: {}", entry["level"], entry["message"]);
        entries.as_array().unwrap().iter().map(text).collect()
    }

    fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.post("/goog/cdp/execute", json!({"cmd": command, "params": parameters}))
    }

    fn post(&self, path: &str, body: Value) -> Value {
        self.command("POST", &format!("/session/{}{path}", self.session), &body)
    }

    /// One command; its value.
    fn command(&self, method: &str, path: &str, body: &Value) -> Value {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(2 * PATIENCE)).unwrap();
        let body = if method == "POST" { body.to_string() } else { String::new() };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            self.port,
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).unwrap();
        // The driver keeps the connection open, whatever it is asked: its answer ends with its length.
        let mut answer = BufReader::new(stream);
        let (mut line, mut length) = (String::new(), 0);
        while answer.read_line(&mut line).unwrap() > 2 {
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            line.clear();
        }
        let mut text = vec![0; length];
        answer.read_exact(&mut text).unwrap();
        let mut value: Value = serde_json::from_slice(&text).unwrap();
        let value = value["value"].take();
        assert!(value.get("error").is_none(), "{method} {path}: {} {}", value["error"], value["message"]);
        value
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver ends its browser when the session ends; killed, it would leave it behind.
        if !self.session.is_empty() && !std::thread::panicking() {
            self.command("DELETE", &format!("/session/{}", self.session), &Value::Null);
        } else if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) {
            let _asked =
                write!(stream, "GET /shutdown HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
            let _answered = stream.read_to_end(&mut Vec::new());
        }
        let _ended = self.driver.kill();
        let _ended = self.driver.wait();
    }
}

fn base64(text: &str) -> Vec<u8> {
    let value = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for byte in text.bytes().filter(|byte| *byte != b'=') {
        bits = bits << 6 | u32::from(value(byte));
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}
