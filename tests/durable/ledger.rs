//! What the concentrator said that it has, to be held against what it says later.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::{Http, Site, eventually};

/// A message as it was shown, but for its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    pub id: String,
    pub time: String,
    pub uid: String,
    pub payload: String,
}

/// Messages that were shown.
#[derive(Default)]
pub struct Ledger {
    pub shown: BTreeMap<u64, Shown>,
    /// What is older may be gone by policy.
    pub first: u64,
    /// Segments may be gone from between others.
    pub may_have_gaps: bool,
    /// What became of those that are there, as of the last look at all.
    pub states: BTreeMap<String, u64>,
}

impl Ledger {
    /// How much telemetry there was, as of the last look at all.
    pub fn telemetry(&self) -> u64 {
        self.states.values().sum()
    }

    /// Looks at everything, and at how much telemetry there is.
    pub fn count(&mut self, site: &Site) -> u64 {
        self.look(&mut site.http(), 0);
        self.telemetry()
    }

    /// Looks at everything behind this number until the books are of the same moment. Gives the last number, and them.
    pub fn agrees(&mut self, site: &Site, from: u64) -> (u64, Books) {
        let mut found = (0, Books::of(site));
        eventually("books and history agree", || {
            found = (self.look(&mut site.http(), from), Books::of(site));
            found.0 == found.1.numbered
        });
        found
    }

    /// Looks at everything behind this number: numbers follow without a gap, what was shown before is the same, what is
    /// gone is the oldest. `from` 0: everything. Gives the last number.
    pub fn look(&mut self, http: &mut Http, from: u64) -> u64 {
        let (mut after, mut last) = (from, from);
        let mut states = BTreeMap::new();
        let mut first = None;
        loop {
            let reply = http.get(&format!("/v1/messages?after={after}&limit=1000"));
            assert_eq!(reply.status, 200, "{}", reply.text());
            let page = reply.json();
            let messages = page["messages"].as_array().unwrap();
            for message in messages {
                let seq = message["seq"].as_u64().unwrap();
                assert!(seq > last, "{seq} behind {last}");
                assert!(first.is_none() || self.may_have_gaps || seq == last + 1, "{seq} behind {last}");
                first = first.or(Some(seq));
                last = seq;
                if message["kind"] != "telemetry" {
                    continue;
                }
                *states.entry(text(&message["state"])).or_default() += 1;
                self.take(seq, message);
            }
            after = page["next"].as_u64().unwrap();
            if messages.is_empty() {
                assert!(after >= last);
                break;
            }
        }
        let newest = self.shown.keys().next_back().copied().unwrap_or(0);
        assert!(last.max(from) >= newest, "{newest} was shown, now {last} is the last");
        if from == 0 {
            let first = first.unwrap_or(last + 1);
            assert!(first >= self.first, "{first} came back, from {}", self.first);
            self.first = first;
            self.states = states;
        } else if first.is_some_and(|first| first > from + 1) {
            self.first = self.first.max(first.unwrap_or(0));
        }
        last.max(after)
    }

    /// Looks at what is there behind this number, if anybody answers.
    pub fn glance(&mut self, site: &Site, from: u64) {
        let Ok(mut http) = Http::connect(site, None) else { return };
        let newest = self.shown.keys().next_back().copied().unwrap_or(from);
        let path = format!("/v1/messages?after={newest}&limit=1000");
        let Ok(reply) = http.try_call("GET", &path, b"") else { return };
        assert_eq!(reply.status, 200, "{}", reply.text());
        let page = reply.json();
        let messages = page["messages"].as_array().unwrap().iter();
        for message in messages.filter(|message| message["kind"] == "telemetry") {
            self.take(message["seq"].as_u64().unwrap(), message);
        }
    }

    fn take(&mut self, seq: u64, message: &Value) {
        let [id, time, uid, payload] =
            [&message["id"], &message["time"], &message["uid"], &message["payload"]].map(text);
        assert!(payload.starts_with(&format!("{uid}/")), "nobody sent {message}");
        let shown = Shown { id, time, uid, payload };
        let before = self.shown.entry(seq).or_insert_with(|| shown.clone());
        assert_eq!(*before, shown, "{seq} was another one");
    }

    /// Whether what was shown is all different: no message twice, under two numbers.
    pub fn is_distinct(&self) -> bool {
        let payloads: std::collections::BTreeSet<_> =
            self.shown.values().map(|shown| &shown.payload).collect();
        payloads.len() == self.shown.len()
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} instead of a text")).to_owned()
}

/// The books as `status` shows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Books {
    pub received: u64,
    pub delivered: u64,
    pub waiting: u64,
    pub expired: u64,
    pub made_room: u64,
    pub refused: u64,
    pub damaged: u64,
    /// Messages of all kinds that have a number.
    pub numbered: u64,
}

impl Books {
    /// Reads them; they must balance.
    pub fn of(site: &Site) -> Self {
        Self::read(&site.status())
    }

    pub fn read(status: &Value) -> Self {
        let number = |name: &str| {
            let value = status.pointer(&format!("/books/{name}")).and_then(Value::as_u64);
            value.unwrap_or_else(|| panic!("{name} in {status:#}"))
        };
        let recorded =
            || status["recorded"].as_object().unwrap().values().map(|count| count.as_u64().unwrap());
        let books = Self {
            received: number("received"),
            delivered: number("delivered"),
            waiting: number("waiting"),
            expired: number("dropped/expired"),
            made_room: number("dropped/oldest_for_room"),
            refused: number("dropped/refused_for_room"),
            damaged: number("dropped/damaged"),
            numbered: recorded().sum(),
        };
        let telemetry = status["recorded"]["telemetry"].as_u64().unwrap_or(0);
        assert_eq!(books.taken(), telemetry, "{books:?}");
        let dropped = books.expired + books.made_room + books.refused + books.damaged;
        assert_eq!(books.received, books.delivered + books.waiting + dropped, "{books:?}");
        books
    }

    /// Telemetry that has a number.
    pub fn taken(&self) -> u64 {
        self.received - self.refused
    }
}
