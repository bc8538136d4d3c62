//! `POST /v1/commands`: a request for an object that sleeps.

use ring::digest::{Context, SHA256};

use super::body;
use super::error::{ApiError, Cause};
use super::reply::Reply;
use crate::delivery::commands::{Once, SUPERSEDES_MAX};
use crate::hub::commands::{CommandRefusal, NewCommand};
use crate::journal::stamp::MessageId;

/// Bytes of an Idempotency-Key at most.
const IDEMPOTENCY_KEY_MAX: usize = 255;

/// The header's value: visible ASCII.
pub(super) fn idempotency_key(headers: &[(&str, &[u8])]) -> Result<Option<String>, ApiError> {
    let mut values = headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("idempotency-key"));
    let Some((_, value)) = values.next() else { return Ok(None) };
    let is_good = (1..=IDEMPOTENCY_KEY_MAX).contains(&value.len()) && value.iter().all(u8::is_ascii_graphic);
    if values.next().is_some() || !is_good {
        let sentence =
            format!("Idempotency-Key must be 1 to {IDEMPOTENCY_KEY_MAX} visible ASCII characters, once");
        return Err(ApiError::content(sentence));
    }
    Ok(Some(String::from_utf8_lossy(value).into_owned()))
}

/// Reads the body. The key means the same command for its sender only, who is known by the name of the API key.
pub(super) fn read(body: &[u8], sender: &str, idempotency_key: Option<&str>) -> Result<NewCommand, ApiError> {
    let body::CommandRequest { uid, format, payload, deadline, supersedes } = body::command_request(body)?;
    if supersedes.as_ref().is_some_and(|name| name.is_empty() || name.len() > SUPERSEDES_MAX) {
        let sentence = format!("\"Supersedes\" must be a string of 1 to {SUPERSEDES_MAX} bytes");
        return Err(ApiError::content(sentence));
    }
    let once = idempotency_key.map(|key| Once {
        key: digest(&[sender.as_bytes(), key.as_bytes()]),
        body: digest(&[
            uid.as_str().as_bytes(),
            &[format.nibble()],
            &payload,
            &deadline.map_or(0, |deadline| deadline.as_secs()).to_be_bytes(),
            supersedes.as_deref().unwrap_or_default().as_bytes(),
        ]),
    });
    Ok(NewCommand { uid, format, payload, deadline, supersedes, by: sender.to_owned(), once })
}

/// What the sender hears once the command is on flash, or why it is not.
pub(super) fn reply(queued: Result<MessageId, CommandRefusal>) -> Result<Reply, ApiError> {
    match queued {
        Ok(id) => Ok(Reply::json_text(202, format!("{{\"id\":\"{id}\"}}"))),
        Err(CommandRefusal::UnknownObject) => {
            Err(ApiError::new(Cause::Object, 404, "\"UID\" names no object that this key may see"))
        }
        Err(CommandRefusal::Payload) => Err(ApiError::content(
            "\"Payload\" is longer than the object's group takes, or not what \"Format\" says",
        )),
        Err(CommandRefusal::Conflict) => {
            let sentence = "this Idempotency-Key was used for another command less than a day ago";
            Err(ApiError::new(Cause::Content, 409, sentence))
        }
        Err(CommandRefusal::NoRoom) => {
            let sentence = "no more commands are taken now: too many wait, or the journal is full, slow or read-only; send it \
                 again later, under an Idempotency-Key lest it is taken twice";
            Err(ApiError::new(Cause::Storage, 503, sentence).with_header("retry-after", "5"))
        }
    }
}

/// Half of the SHA-256 of parts, each with its length ahead.
fn digest(parts: &[&[u8]]) -> [u8; 16] {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let whole = context.finish();
    whole.as_ref().first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::wire::Format;

    fn once(body: &str, sender: &str, key: &str) -> Once {
        read(body.as_bytes(), sender, Some(key)).unwrap().once.unwrap()
    }

    #[test]
    fn a_key_is_its_senders_own_and_stands_for_everything_that_is_asked() {
        let body = r#"{"UID":"o","Payload":"x","Format":"UTF8"}"#;
        let first = once(body, "a", "k");
        assert_eq!(first, once(r#"{"Format":"UTF8", "Payload":"x", "UID":"o"}"#, "a", "k"));
        assert_ne!(first.key, once(body, "b", "k").key);
        assert_ne!(once(body, "ab", "c").key, once(body, "a", "bc").key);
        for other in [
            r#"{"UID":"p","Payload":"x","Format":"UTF8"}"#,
            r#"{"UID":"o","Payload":"y","Format":"UTF8"}"#,
            r#"{"UID":"o","Payload":"x","Format":"ASCII"}"#,
            r#"{"UID":"o","Payload":"x","Format":"UTF8","Deadline":5}"#,
            r#"{"UID":"o","Payload":"x","Format":"UTF8","Supersedes":"s"}"#,
        ] {
            assert_ne!(first.body, once(other, "a", "k").body, "{other}");
        }
    }

    #[test]
    fn what_is_asked_is_read_strictly() {
        let read = |body: &str| read(body.as_bytes(), "a", None);
        let full = r#"{"UID":"o","Payload":[1],"Format":"BINARY","Deadline":3600,"Supersedes":"setpoint"}"#;
        let command = read(full).unwrap();
        assert_eq!((command.deadline, command.format), (Some(Duration::from_secs(3600)), Format::Binary));
        assert_eq!(command.supersedes.as_deref(), Some("setpoint"));
        for (bad, field) in [
            (r#"{"UID":"o","Payload":"x","Format":"UTF8","Deadline":0}"#, "Deadline"),
            (r#"{"UID":"o","Payload":"x","Format":"UTF8","Deadline":"1"}"#, "Deadline"),
            (r#"{"UID":"o","Payload":"x","Format":"UTF8","Supersedes":""}"#, "Supersedes"),
            (r#"{"UID":"o","Payload":"x","Format":"UTF8","Supersedes":7}"#, "Supersedes"),
            (r#"{"UID":"","Payload":"x","Format":"UTF8"}"#, "UID"),
            (r#"{"UID":"o","Payload":"x","Format":"TEXT"}"#, "Format"),
            (r#"{"UID":"o","Format":"UTF8"}"#, "Payload"),
        ] {
            let error = read(bad).unwrap_err();
            assert!(error.sentence.contains(field), "{bad}: {error:?}");
        }
        let long = "s".repeat(SUPERSEDES_MAX + 1);
        let body =
            |name: &str| format!(r#"{{"UID":"o","Payload":"x","Format":"UTF8","Supersedes":"{name}"}}"#);
        assert!(read(&body(&long)).is_err() && read(&body(&long[1..])).is_ok());
    }

    #[test]
    fn a_key_in_the_header_is_visible_ascii_and_there_once() {
        let long = "k".repeat(IDEMPOTENCY_KEY_MAX + 1);
        let of = |value: &str| idempotency_key(&[("Idempotency-Key", value.as_bytes())]);
        assert_eq!(of("abc").unwrap().as_deref(), Some("abc"));
        assert_eq!(idempotency_key(&[("other", b"x")]).unwrap(), None);
        assert!(of("").is_err() && of("a b").is_err() && of("\u{e9}").is_err());
        assert!(of(&long).is_err() && of(&long[1..]).is_ok());
        let twice: [(&str, &[u8]); 2] = [("idempotency-key", b"a"), ("idempotency-key", b"a")];
        assert!(idempotency_key(&twice).is_err());
    }
}
