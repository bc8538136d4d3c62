//! Joins the webhook threads to the hub.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};

use super::{Answer, Failure, Outcomes, Pool, Refused, Settings, SettingsError};
use crate::delivery::commands::Outcome;
use crate::hub::{Hub, WebhookSink, lock};
use crate::journal::Seq;
use crate::journal::stamp::MessageId;
use crate::router::{Serial, WebhookRefusal, WebhookRequest};
use crate::wire::{Format, Payload, Uid};

/// The requests under way: whose, and under which number.
type Requests = Mutex<HashMap<Serial, (Uid, u16)>>;

/// Takes requests and telemetry from the hub, and outcomes from the threads.
pub struct Webhooks {
    pool: Pool,
    requests: Arc<Requests>,
}

impl std::fmt::Debug for Webhooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Webhooks")
    }
}

struct ToHub {
    hub: Weak<Hub>,
    requests: Arc<Requests>,
}

impl Webhooks {
    /// Starts the threads and connects them to the hub.
    pub fn start(settings: &Settings, hub: &Arc<Hub>) -> Result<Arc<Self>, SettingsError> {
        let requests = Arc::new(Requests::default());
        let outcomes = ToHub { hub: Arc::downgrade(hub), requests: Arc::clone(&requests) };
        let webhooks = Arc::new(Self { pool: Pool::start(settings, Arc::new(outcomes))?, requests });
        hub.set_webhooks(Arc::clone(&webhooks) as Arc<dyn WebhookSink>);
        Ok(webhooks)
    }

    /// The threads.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }
}

impl WebhookSink for Webhooks {
    fn request(&self, request: WebhookRequest<'_>) -> Result<(), WebhookRefusal> {
        let WebhookRequest { uid, number, serial, payload, deadline } = request;
        // Noted first: the answer may be there before the call below returns.
        lock(&self.requests).insert(serial, (uid, number));
        let taken = self.pool.request(uid, serial, payload.format(), payload.data(), deadline);
        taken.map_err(|refused| {
            lock(&self.requests).remove(&serial);
            match refused {
                Refused::Full | Refused::NotConfigured | Refused::Stopping => WebhookRefusal::NoRoom,
                Refused::Shut => WebhookRefusal::Failing,
            }
        })
    }

    fn telemetry(&self, uid: Uid, seq: Seq, format: Format, data: &[u8]) -> bool {
        self.pool.telemetry(uid, seq, format, data).is_ok()
    }

    fn recall_telemetry(&self) -> Vec<Seq> {
        self.pool.clear_telemetry()
    }

    fn has_telemetry_room(&self) -> bool {
        self.pool.room() > 0
    }

    fn result(&self, uid: Uid, seq: Seq, id: MessageId, outcome: &Outcome) -> bool {
        let id = id.to_string();
        let queued = match outcome.payload() {
            Some((format, data)) => self.pool.result(uid, seq, &id, outcome.code, format, data),
            None => self.pool.result(uid, seq, &id, outcome.code, Format::Json, *b"null"),
        };
        queued.is_ok()
    }
}

impl Outcomes for ToHub {
    fn answered(&self, ticket: u64, answer: Result<Answer, Failure>) {
        let request = lock(&self.requests).remove(&ticket);
        if let (Some((uid, number)), Some(hub)) = (request, self.hub.upgrade()) {
            let answer = answer.ok();
            let answer = answer
                .as_ref()
                .and_then(|answer| Some((answer.code, Payload::new(answer.format, &answer.payload)?)));
            hub.webhook_answered(uid, number, ticket, answer);
        }
    }

    fn telemetry_delivered(&self, seq: u64) {
        if let Some(hub) = self.hub.upgrade() {
            hub.webhook_delivered(seq);
        }
    }

    fn telemetry_forgotten(&self, seq: u64) {
        if let Some(hub) = self.hub.upgrade() {
            hub.webhook_returned(seq);
        }
    }

    fn telemetry_room(&self) {
        if let Some(hub) = self.hub.upgrade() {
            hub.pump();
        }
    }

    fn result_delivered(&self, seq: u64) {
        if let Some(hub) = self.hub.upgrade() {
            hub.result_delivered(seq);
        }
    }
}
