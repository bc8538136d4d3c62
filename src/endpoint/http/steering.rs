//! What operators do with subscribers: their dead letters, and what is to go out once more.

use std::fmt;

use serde::Serialize;

use super::acts::Act;
use super::api::{Api, Decision};
use super::error::{ApiError, Cause};
use super::query;
use super::reply::Reply;
use crate::hub::backend::{Backend, Steered};
use crate::hub::history::MessageQuery;
use crate::journal::Seq;

/// A route of subscribers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SteeringRoute<'a> {
    /// The dead letters of all.
    List,
    /// Dead letters go out once more.
    ReplayDead,
    /// Nobody wants these dead letters any more.
    DropDead,
    /// Messages go out once more to the subscriber of this name.
    Replay(&'a str),
}

/// A place among the messages.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Number(Seq),
    /// In microseconds since 1970.
    Moment(i64),
}

/// Something that is to be done with a subscriber.
pub struct Steering {
    subscriber: String,
    from: Place,
    to: Place,
    work: Steered,
}

impl fmt::Debug for Steering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Steering({})", self.subscriber)
    }
}

#[derive(Serialize)]
struct Done {
    subscriber: String,
    from: Seq,
    to: Seq,
    #[serde(skip_serializing_if = "Option::is_none")]
    messages: Option<u64>,
}

/// Reads what is asked.
pub(super) fn read(
    route: SteeringRoute<'_>,
    text: &str,
    backend: &dyn Backend,
) -> Result<Decision, ApiError> {
    let (subscriber, work) = match route {
        SteeringRoute::List => return Ok(Decision::Reply(Reply::json(200, &backend.dead_letters()))),
        SteeringRoute::ReplayDead => (query::value(text, "subscriber")?, Steered::ReplayDead),
        SteeringRoute::DropDead => (query::value(text, "subscriber")?, Steered::DropDead),
        SteeringRoute::Replay(name) => (Some(name.to_owned()), Steered::Replay),
    };
    let subscriber = subscriber.ok_or_else(|| ApiError::content("\"subscriber\" is missing in the query"))?;
    let from = place(text, "from")?;
    if from.is_none() && work == Steered::Replay {
        return Err(ApiError::content("\"from\" is missing in the query"));
    }
    let from = from.unwrap_or(Place::Number(0));
    let to = place(text, "to")?.unwrap_or(Place::Number(Seq::MAX));
    Ok(Decision::Act(Act::Steer(Steering { subscriber, from, to, work })))
}

/// A number of a message, or a time; the name left out or empty: none.
fn place(text: &str, name: &str) -> Result<Option<Place>, ApiError> {
    match query::value(text, name)?.filter(|value| !value.is_empty()) {
        None => Ok(None),
        Some(value) => match query::number(&value) {
            Some(number) => Ok(Some(Place::Number(number))),
            None => Ok(query::time(text, name)?.map(Place::Moment)),
        },
    }
}

impl Steering {
    /// Does it. What was done is on flash.
    pub(super) async fn run(self, api: &Api) -> Result<Reply, ApiError> {
        let from = self.from.to_seq(api, false).await?;
        let to = self.to.to_seq(api, true).await?;
        let subscriber = self.subscriber;
        let done = api.backend.steer(&subscriber, from, to, self.work);
        let done = done
            .ok_or_else(|| ApiError::new(Cause::Object, 404, "no subscriber of this name is configured"))?;
        let messages = done.await.map_err(|_| {
            ApiError::new(
                Cause::Storage,
                503,
                "the journal cannot be written: try again when it was repaired",
            )
        })?;
        let messages = (self.work != Steered::Replay).then_some(messages);
        Ok(Reply::json(200, &Done { subscriber, from, to, messages }))
    }
}

impl Place {
    /// The number of the first message from there on, or of the last one before it.
    async fn to_seq(self, api: &Api, is_end: bool) -> Result<Seq, ApiError> {
        let at = match self {
            Self::Number(seq) => return Ok(seq),
            Self::Moment(at) => at,
        };
        let history = api.history.as_ref().ok_or_else(super::api::no_history)?;
        let all = MessageQuery::all(1, 1);
        let query = match is_end {
            true => MessageQuery { to_us: Some(at), newest: true, ..all },
            false => MessageQuery { from_us: Some(at), ..all },
        };
        let page = history.messages(query).await;
        let page = page.map_err(|error| ApiError::new(Cause::Storage, 503, error.to_string()))?;
        // There is nothing of that time: nothing is meant.
        let nothing = if is_end { 0 } else { Seq::MAX };
        Ok(page.messages.first().map_or(nothing, |message| message.seq))
    }
}
