//! Fixtures, and requests made of them.

use iotsocketd::ingest::{self, Fault, Mapped, NetworkFormat, Outcome, Request, Source, Unmapped};
use serde_json::Value;

/// When everything arrives: a second after the fixtures' times.
pub const NOW_US: i64 = 1_795_287_163_000_000;
/// 2026-11-21T18:52:42Z.
pub const SENT_US: i64 = 1_795_287_162_000_000;

/// A request that is filled in by its test.
pub struct Post {
    pub tail: &'static str,
    pub query: String,
    pub headers: Vec<(String, String)>,
    pub content_type: &'static str,
    pub body: Vec<u8>,
}

pub fn fixture(name: &str) -> String {
    let path = format!("{}/tests/fixtures/ingest/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The JSON of a fixture.
pub fn json(name: &str) -> Value {
    serde_json::from_str(&fixture(name)).unwrap()
}

pub fn source(format: NetworkFormat) -> Source {
    Source::new("net", format)
}

/// A request with this body.
pub fn post(body: impl ToString) -> Post {
    let body = body.to_string().into_bytes();
    Post { tail: "", query: String::new(), headers: Vec::new(), content_type: "application/json", body }
}

impl Post {
    pub fn query(self, query: &str) -> Self {
        Self { query: query.to_owned(), ..self }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn of_type(self, content_type: &'static str) -> Self {
        Self { content_type, ..self }
    }

    pub fn request(&self) -> Request<'_> {
        Request {
            tail: self.tail,
            query: &self.query,
            headers: &self.headers,
            content_type: self.content_type,
            body: &self.body,
        }
    }

    /// Every outcome.
    pub fn all(&self, source: &Source) -> Vec<Outcome> {
        ingest::map(source, &self.request(), &|_| true, Some(NOW_US)).unwrap()
    }

    /// The only outcome.
    pub fn outcome(&self, source: &Source) -> Outcome {
        let [outcome] = <[_; 1]>::try_from(self.all(source)).unwrap();
        outcome
    }

    /// The only message.
    pub fn message(&self, source: &Source) -> Mapped {
        message(self.outcome(source))
    }

    /// Why there is none.
    pub fn unmapped(&self, source: &Source) -> Unmapped {
        match self.outcome(source) {
            Outcome::Unmapped(unmapped) => unmapped,
            other => panic!("mapped: {other:?}"),
        }
    }

    pub fn fault(&self, source: &Source) -> Fault {
        self.unmapped(source).fault
    }

    pub fn is_malformed(&self, source: &Source) -> bool {
        ingest::map(source, &self.request(), &|_| true, Some(NOW_US)).is_err()
    }
}

pub fn message(outcome: Outcome) -> Mapped {
    match outcome {
        Outcome::Message(mapped) => mapped,
        other => panic!("no message: {other:?}"),
    }
}

/// What the network says about a message.
pub fn network(mapped: &Mapped) -> Value {
    serde_json::from_str(&mapped.network).unwrap()
}

/// The same value without one member of the object that this pointer leads to.
pub fn without(mut value: Value, object: &str, member: &str) -> Value {
    let removed = value.pointer_mut(object).unwrap().as_object_mut().unwrap().remove(member);
    assert!(removed.is_some(), "{object} has no {member}");
    value
}

/// The same value with one changed.
pub fn with(mut value: Value, pointer: &str, new: impl Into<Value>) -> Value {
    let (object, member) = pointer.rsplit_once('/').unwrap();
    value.pointer_mut(object).unwrap().as_object_mut().unwrap().insert(member.to_owned(), new.into());
    value
}
