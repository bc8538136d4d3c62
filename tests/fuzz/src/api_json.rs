//! The bodies of `/request` and `/acl`: refused with a sentence, or handed on unchanged.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use iotsocketd::endpoint::http::Reply;
use iotsocketd::endpoint::http::api::{Api, BodySize, Decision, Head, Settings, Source};
use iotsocketd::endpoint::http::auth::Keys;
use iotsocketd::endpoint::http::ingest::Doors;
use iotsocketd::hub::CallAnswer;
use iotsocketd::hub::access_keeper::ReplaceError;
use iotsocketd::hub::backend::{Backend, ObjectView, Pending};
use iotsocketd::hub::commands::{CommandRefusal, NewCommand};
use iotsocketd::hub::status::Status;
use iotsocketd::journal::stamp::MessageId;
use iotsocketd::limits::ACL_ITEMS_MAX;
use iotsocketd::net::AllowFrom;
use iotsocketd::payload_json;
use iotsocketd::wire::{AclItem, AuthKey, Format, GroupName, PAYLOAD_DATA_MAX, Uid};

const MAX_WAIT: Duration = Duration::from_secs(30);

type Call = (Uid, Format, Vec<u8>);

/// A hub that notes what reaches it; every object answers with what it was asked.
#[derive(Default)]
pub struct Echo(Mutex<Option<Call>>);

impl Echo {
    /// The call that reached it, once.
    pub fn take(&self) -> Option<Call> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

struct Shared(Arc<Echo>);

impl Backend for Shared {
    fn call(&self, uid: Uid, format: Format, payload: Vec<u8>, timeout: Duration) -> Pending<CallAnswer> {
        assert!(!uid.is_central() && payload.len() <= PAYLOAD_DATA_MAX);
        assert!(timeout > Duration::ZERO && timeout <= MAX_WAIT);
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((uid, format, payload.clone()));
        Box::pin(async move { CallAnswer { code: 0, format, payload, made_here: false } })
    }

    fn queue_command(&self, _: NewCommand) -> Pending<Result<MessageId, CommandRefusal>> {
        Box::pin(async { Err(CommandRefusal::NoRoom) })
    }

    fn group_of(&self, _: Uid) -> Option<GroupName> {
        None
    }

    fn audit(&self, _: iotsocketd::hub::auditing::Deed<'_>) {}

    fn replace_access(&self, items: Vec<AclItem>) -> Pending<Result<(), ReplaceError>> {
        assert!(items.len() <= ACL_ITEMS_MAX && items.iter().all(|item| !item.uid.is_central()));
        Box::pin(async { Ok(()) })
    }

    fn objects(&self, _: Option<Uid>, _: usize, _: &[GroupName]) -> Vec<ObjectView> {
        Vec::new()
    }

    fn object(&self, _: Uid) -> Option<ObjectView> {
        None
    }

    fn status(&self) -> Status {
        Status::default()
    }

    fn ready(&self) -> Result<(), &'static str> {
        Ok(())
    }
}

thread_local! {
    /// One for each thread: tests that run side by side must not take each other's echo.
    static WORLD: (Api, Arc<Echo>) = api_of(AuthKey([1; 16]));
}

/// An API over such a hub, for the central with this key.
pub fn api_of(central: AuthKey) -> (Api, Arc<Echo>) {
    let echo = Arc::new(Echo::default());
    let settings = Settings {
        tls: false,
        allow_from: AllowFrom::default(),
        keys: Keys::new("test", &central, []),
        ingest: Doors::new(),
        max_body: 512 * 1024,
        max_acl: 4 * 1024 * 1024,
        max_wait: MAX_WAIT,
        header_timeout: MAX_WAIT,
        body_timeout: MAX_WAIT,
        write_timeout: MAX_WAIT,
    };
    (Api::new(Arc::new(Shared(Arc::clone(&echo))), settings), echo)
}

fn post(api: &Api, path: &str, body: &[u8]) -> Option<Reply> {
    let head = Head {
        method: "POST",
        path,
        query: "",
        authorization: None,
        content_type: Some(b"application/json"),
        last_event_id: None,
        headers: &[],
        body: BodySize::Known(body.len() as u64),
    };
    let Ok(Decision::Body(expected)) = api.judge(&head, Source::Local).outcome else { return None };
    // Everything that it waits for is there at once.
    let finished = pin!(api.finish(expected, body)).poll(&mut Context::from_waker(Waker::noop()));
    let Poll::Ready(outcome) = finished else { panic!("an answer that is there was not given") };
    Some(outcome.unwrap_or_else(|error| error.reply()))
}

/// Any bytes as either body.
pub fn api_json(data: &[u8]) {
    WORLD.with(|(api, echo)| check(api, echo, data));
}

fn check(api: &Api, echo: &Echo, data: &[u8]) {
    if let Some(reply) = post(api, "/acl", data) {
        assert!([200, 400].contains(&reply.status));
        assert_eq!(reply.status == 200, reply.body.is_empty());
    }
    let Some(reply) = post(api, "/request", data) else { return };
    let Some((uid, format, payload)) = echo.take() else {
        assert_eq!(reply.status, 400);
        assert!(reply.body.starts_with(b"{\"error\":\""));
        return;
    };
    // What was taken is what its format says, so the same comes back, and means the same when sent again.
    assert_eq!(reply.status, 200);
    let text = payload_json::to_json(format, &payload).expect("it was taken as this format");
    let mut name = String::new();
    payload_json::write_string(&mut name, uid.as_str());
    let again = format!("{{\"UID\":{name},\"Payload\":{text},\"Format\":\"{}\"}}", format.name());
    post(api, "/request", again.as_bytes());
    assert_eq!(echo.take(), Some((uid, format, payload)));
}
