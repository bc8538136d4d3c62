//! The bodies of webhooks, out and in.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Answer, Failure};
use crate::payload_json::{from_json, write_json, write_string};
use crate::wire::{Format, Uid};

/// A body, and whether its payload had to be sent as BINARY because it is not what its format says.
pub(super) struct Message {
    pub(super) text: String,
    pub(super) is_sent_as_binary: bool,
}

/// The body of a request or of telemetry.
pub(super) fn of_payload(uid: Uid, format: Format, payload: &[u8]) -> Message {
    let mut text = String::with_capacity(128 + payload.len());
    write_uid(&mut text, uid);
    let is_sent_as_binary = write_payload(&mut text, format, payload);
    Message { text, is_sent_as_binary }
}

/// The body of a result of a queued command.
pub(super) fn of_result(uid: Uid, id: &str, code: u8, format: Format, payload: &[u8]) -> Message {
    let mut text = String::with_capacity(128 + payload.len());
    write_uid(&mut text, uid);
    text.push_str("\"Id\":");
    write_string(&mut text, id);
    text.push_str(&format!(",\"Code\":{code},"));
    let is_sent_as_binary = write_payload(&mut text, format, payload);
    Message { text, is_sent_as_binary }
}

fn write_uid(text: &mut String, uid: Uid) {
    text.push_str("{\"UID\":");
    write_string(text, uid.as_str());
    text.push(',');
}

fn write_payload(text: &mut String, format: Format, payload: &[u8]) -> bool {
    text.push_str("\"Payload\":");
    let written = [format, Format::Binary]
        .into_iter()
        .find(|format| write_json(text, *format, payload).is_ok())
        .unwrap_or(Format::Binary);
    text.push_str(",\"Format\":\"");
    text.push_str(written.name());
    text.push_str("\"}");
    written != format
}

/// The answer of a request webhook. Each key once, nothing missing; keys that we do not know are ignored.
#[derive(Deserialize)]
struct AnswerBody<'a> {
    #[serde(rename = "Code")]
    code: u8,
    #[serde(rename = "Payload", borrow)]
    payload: &'a RawValue,
    #[serde(rename = "Format")]
    format: String,
}

/// Reads the answer of a request webhook.
pub fn parse_answer(body: &[u8]) -> Result<Answer, Failure> {
    let text = core::str::from_utf8(body).map_err(|_| Failure::Garbage)?;
    let answer: AnswerBody<'_> = serde_json::from_str(text).map_err(|_| Failure::Garbage)?;
    let format = Format::from_name(&answer.format).ok_or(Failure::Garbage)?;
    let payload = from_json(format, answer.payload).map_err(|_| Failure::Garbage)?;
    Ok(Answer { code: answer.code, format, payload })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uid(text: &str) -> Uid {
        Uid::parse(text).unwrap()
    }

    #[test]
    fn bodies_are_those_of_the_specification() {
        let message = of_payload(uid("Obj\"1\u{7}"), Format::Json, b"{\"t\":21.50}");
        assert_eq!(message.text, r#"{"UID":"Obj\"1\u0007","Payload":{"t":21.50},"Format":"JSON"}"#);
        assert!(!message.is_sent_as_binary);
        assert_eq!(
            of_result(uid("o"), "id-1", 160, Format::Binary, &[1, 2]).text,
            r#"{"UID":"o","Id":"id-1","Code":160,"Payload":[1,2],"Format":"BINARY"}"#
        );
    }

    #[test]
    fn what_is_not_its_format_goes_as_binary() {
        let message = of_payload(uid("o"), Format::Json, b"{");
        assert_eq!(message.text, r#"{"UID":"o","Payload":[123],"Format":"BINARY"}"#);
        assert!(message.is_sent_as_binary);
    }

    #[test]
    fn an_answer_is_read_whatever_the_order_of_its_keys() {
        let answer =
            parse_answer(br#" {"Format":"UTF8","More":[1],"Payload":"\u00e9","Code":255} "#).unwrap();
        assert_eq!(answer, Answer { code: 255, format: Format::Utf8, payload: "é".into() });
        let answer = parse_answer(br#"{"Code":0,"Payload":null,"Format":"JSON"}"#).unwrap();
        assert_eq!(answer.payload, b"null");
    }

    /// B18: a code over 255 must not be swallowed.
    #[test]
    fn garbage_is_no_answer() {
        for body in [
            &b""[..],
            b"ok",
            b"[]",
            br#"{"Code":0,"Payload":1}"#,
            br#"{"Code":0,"Format":"JSON"}"#,
            br#"{"Payload":1,"Format":"JSON"}"#,
            br#"{"Code":256,"Payload":1,"Format":"JSON"}"#,
            br#"{"Code":-1,"Payload":1,"Format":"JSON"}"#,
            br#"{"Code":1.0,"Payload":1,"Format":"JSON"}"#,
            br#"{"Code":"0","Payload":1,"Format":"JSON"}"#,
            br#"{"Code":0,"Payload":1,"Format":"json"}"#,
            br#"{"Code":0,"Payload":1,"Format":"XML"}"#,
            br#"{"Code":0,"Payload":[300],"Format":"BINARY"}"#,
            br#"{"Code":0,"Code":1,"Payload":1,"Format":"JSON"}"#,
            br#"{"Code":0,"Payload":1,"Payload":2,"Format":"JSON"}"#,
            br#"{"Code":0,"Payload":1,"Format":"JSON"} x"#,
            b"{\"Code\":0,\"Payload\":\"\xff\",\"Format\":\"UTF8\"}",
        ] {
            assert_eq!(parse_answer(body), Err(Failure::Garbage), "{}", String::from_utf8_lossy(body));
        }
    }
}
