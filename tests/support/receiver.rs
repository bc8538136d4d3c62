//! A subscriber's endpoint: believes nothing that is not signed, and keeps what it got.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use ring::hmac;
use serde_json::Value;

use super::{Act, Hook, Hooks, eventually};

/// Secrets for tests: `whsec_` and 32 bytes in base64.
pub const SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
pub const OTHER_SECRET: &str = "whsec_ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=";

/// The bytes of one of the secrets above.
pub fn key_of(secret: &str) -> [u8; 32] {
    let first = if secret == SECRET { 0 } else { 32 };
    std::array::from_fn(|at| first + u8::try_from(at).unwrap())
}

/// The value of a header of a call.
pub fn header(hook: &Hook, name: &str) -> String {
    let lines = hook.head.lines().filter_map(|line| line.split_once(": "));
    let mut found = lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    found.next_back().unwrap_or_else(|| panic!("no {name} in {}", hook.head)).to_owned()
}

/// How many signatures a call has that this secret made; all of them must be of the known secrets.
pub fn signatures_of(hook: &Hook, secret: &str) -> usize {
    let (id, timestamp) = (header(hook, "webhook-id"), header(hook, "webhook-timestamp"));
    let signed = format!("{id}.{timestamp}.{}", hook.text);
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key_of(secret)), signed.as_bytes());
    let made = format!("v1,{}", base64(tag.as_ref()));
    header(hook, "webhook-signature").split(' ').filter(|signature| *signature == made).count()
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = (0..3).fold(0, |bits, at| bits << 8 | u32::from(*chunk.get(at).unwrap_or(&0)));
        for place in 0..4 {
            let digit = usize::try_from(bits >> (18 - 6 * place) & 63).unwrap();
            text.push(if place > chunk.len() { '=' } else { DIGITS[digit].into() });
        }
    }
    text
}

#[derive(Default)]
struct Got {
    /// By id, in the order in which they came first: object, what it brought, and the number.
    order: Vec<(String, String, Value, u64)>,
    times: BTreeMap<String, u64>,
    calls: u64,
}

/// The endpoint, checked by these secrets.
pub struct Receiver {
    pub hooks: Hooks,
    got: Arc<Mutex<Got>>,
}

impl Receiver {
    /// Takes everything that is signed by this secret and is of now.
    pub fn start(secret: &'static str) -> Self {
        Self::start_with(secret, |_, _| None)
    }

    /// The same; whatever `refuse` says of a call, by how many came before, is answered instead, and not kept.
    pub fn start_with(
        secret: &'static str,
        refuse: impl Fn(&Hook, u64) -> Option<Act> + Send + Sync + 'static,
    ) -> Self {
        let got = Arc::<Mutex<Got>>::default();
        let kept = Arc::clone(&got);
        let hooks = Hooks::start(move |hook| {
            let mut got = kept.lock().unwrap();
            got.calls += 1;
            if let Some(act) = refuse(hook, got.calls - 1) {
                return act;
            }
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
            let timestamp: u64 = header(hook, "webhook-timestamp").parse().unwrap();
            if signatures_of(hook, secret) != 1 || timestamp.abs_diff(now) > 300 {
                return Act::Answer(401, String::new());
            }
            let id = header(hook, "webhook-id");
            let messages = match hook.body.get("messages") {
                Some(list) => list.as_array().unwrap().clone(),
                None => {
                    assert_eq!(hook.body["id"], *id, "of one message it is its id");
                    vec![hook.body.clone()]
                }
            };
            for message in messages {
                let id = message["id"].as_str().unwrap().to_owned();
                let times = got.times.entry(id.clone()).or_default();
                *times += 1;
                if *times == 1 {
                    let uid = message["uid"].as_str().unwrap().to_owned();
                    let seq = message["seq"].as_u64().unwrap();
                    got.order.push((id, uid, message["payload"].clone(), seq));
                }
            }
            Act::Answer(200, String::new())
        });
        Self { hooks, got }
    }

    /// `[subscribers.NAME]` with this endpoint and the first secret, and more lines.
    pub fn table(&self, name: &str, more: &str) -> String {
        format!(
            "[subscribers.{name}]\nurl = {}\nsecret = \"{SECRET}\"\n{more}\n",
            self.hooks.url(&format!("/{name}"))
        )
    }

    /// What came of an object, once each, in the order in which it came first.
    pub fn of(&self, uid: &str) -> Vec<Value> {
        let got = self.got.lock().unwrap();
        got.order.iter().filter(|(_, of, ..)| of == uid).map(|(_, _, payload, _)| payload.clone()).collect()
    }

    /// What came, once each: id, object and payload, in the order in which it came first.
    pub fn all(&self) -> Vec<(String, String, Value)> {
        let got = self.got.lock().unwrap();
        let one =
            |(id, uid, payload, _): &(String, String, Value, u64)| (id.clone(), uid.clone(), payload.clone());
        got.order.iter().map(one).collect()
    }

    /// The numbers of what came, in the order in which it came first.
    pub fn seqs(&self) -> Vec<u64> {
        self.got.lock().unwrap().order.iter().map(|(.., seq)| *seq).collect()
    }

    /// How many different messages came.
    pub fn count(&self) -> usize {
        self.got.lock().unwrap().order.len()
    }

    /// How many came more than once.
    pub fn repeated(&self) -> usize {
        self.got.lock().unwrap().times.values().filter(|times| **times > 1).count()
    }

    /// Waits until so many different messages are there.
    pub fn wait(&self, count: usize) {
        eventually(&format!("{count} messages are there"), || self.count() >= count);
    }
}
