//! A message as JSON, on one line.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::{Gone, Kind, MessageView, TraceEvent};
use crate::payload_json::{write_json, write_string};
use crate::wire::Format;

impl MessageView {
    /// Appends the message as a JSON object that holds no line break. A payload that is not what its format says is
    /// given as BINARY.
    pub fn write_json(&self, out: &mut String) {
        // Writing into a string cannot fail.
        let _written = write!(out, "{{\"id\":\"{}\",\"seq\":{},\"time\":\"", self.id, self.seq);
        write_time(out, self.time_us);
        for (name, value) in [("\",\"clock\":\"", self.clock.name()), ("\",\"kind\":\"", self.kind.name())] {
            out.push_str(name);
            out.push_str(value);
        }
        out.push_str("\",\"uid\":");
        write_string(out, self.uid.as_str());
        out.push_str(",\"group\":");
        write_string(out, self.group.as_str());
        out.push_str(",\"via\":\"");
        out.push_str(self.via.name());
        let given = match crate::payload_json::is_valid(self.format, &self.payload) {
            true => self.format,
            false => Format::Binary,
        };
        out.push_str("\",\"format\":\"");
        out.push_str(given.name());
        out.push_str("\",\"payload\":");
        write_on_one_line(out, given, &self.payload);
        out.push_str(",\"state\":\"");
        out.push_str(self.state.name());
        out.push('"');
        if let Some(source) = &self.source {
            out.push_str(",\"source\":");
            write_string(out, source);
        }
        if let Some(network) = &self.network {
            // Of a call it says how that went.
            out.push_str(if self.kind == Kind::Request { ",\"call\":" } else { ",\"network\":" });
            write_on_one_line(out, Format::Json, network);
        }
        if let Some(trace) = &self.trace {
            write_trace(out, trace);
        }
        out.push('}');
    }
}

impl Gone {
    /// Appends what is known of it as a JSON object that holds no line break.
    pub fn write_json(&self, out: &mut String) {
        out.push('{');
        // Writing into a string cannot fail.
        if let Some(id) = self.id {
            let _written = write!(out, "\"id\":\"{id}\",");
        }
        let _written = write!(out, "\"seq\":{},\"state\":\"{}\"", self.seq, self.state.name());
        write_trace(out, &self.trace);
        out.push('}');
    }
}

fn write_trace(out: &mut String, trace: &[TraceEvent]) {
    out.push_str(",\"events\":[");
    for (index, event) in trace.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        event.write_json(out);
    }
    out.push(']');
}

impl TraceEvent {
    fn write_json(&self, out: &mut String) {
        out.push_str("{\"time\":\"");
        write_time(out, self.time_us);
        out.push_str("\",\"event\":\"");
        out.push_str(self.event.name());
        out.push('"');
        if let Some(to) = &self.to {
            out.push_str(",\"to\":");
            write_string(out, to);
        }
        if let Some(attempt) = self.attempt {
            let _written = write!(out, ",\"attempt\":{attempt}");
        }
        if let Some(reason) = &self.reason {
            out.push_str(",\"reason\":");
            write_string(out, reason);
        }
        if let Some(answer) = &self.answer {
            let given = match crate::payload_json::is_valid(answer.format, &answer.data) {
                true => answer.format,
                false => Format::Binary,
            };
            let _written =
                write!(out, ",\"code\":{},\"format\":\"{}\",\"payload\":", answer.code, given.name());
            write_on_one_line(out, given, &answer.data);
        }
        if let Some(beside) = &self.beside {
            let _written = write!(out, ",\"id\":\"{}\"", beside.id);
            if let Some(network) = &beside.network {
                out.push_str(",\"network\":");
                write_on_one_line(out, Format::Json, network);
            }
        }
        out.push('}');
    }
}

/// Line breaks in JSON stand between its values only, where a space says the same: a string has them escaped.
fn write_on_one_line(out: &mut String, format: Format, data: &[u8]) {
    let start = out.len();
    if write_json(out, format, data).is_err() {
        out.push_str("null");
    }
    if out.get(start..).is_some_and(|text| text.contains(['\n', '\r'])) {
        let text = out.split_off(start).replace(['\n', '\r'], " ");
        out.push_str(&text);
    }
}

/// RFC 3339 in UTC, always with microseconds, so that texts are ordered as their times are.
fn write_time(out: &mut String, time_us: i64) {
    // What no calendar has is shown as its nearest end.
    let nearest = if time_us < 0 { Timestamp::MIN } else { Timestamp::MAX };
    let time = Timestamp::from_microsecond(time_us).unwrap_or(nearest);
    let _written = write!(out, "{time:.6}");
}

#[cfg(test)]
mod tests {
    use super::super::{Clock, MessageId, Outcome, State, Via};
    use super::*;
    use crate::wire::{GroupName, Uid};

    fn message(format: Format, payload: &[u8]) -> MessageView {
        MessageView {
            id: MessageId::parse("01930a2b-4c5d-7abc-8def-0123456789ab").unwrap(),
            seq: 184_467,
            time_us: 1_795_287_162_123_456,
            clock: Clock::Synced,
            kind: Kind::Telemetry,
            uid: Uid::parse("ObjTest").unwrap(),
            group: GroupName::parse("Devices").unwrap(),
            via: Via::Udp,
            format,
            payload: payload.to_vec(),
            state: State::Delivered,
            source: None,
            network: None,
            trace: None,
        }
    }

    fn json(message: &MessageView) -> String {
        let mut text = String::new();
        message.write_json(&mut text);
        text
    }

    #[test]
    fn a_message_looks_as_it_is_promised() {
        assert_eq!(
            json(&message(Format::Json, br#"{"t": 21.5}"#)),
            r#"{"id":"01930a2b-4c5d-7abc-8def-0123456789ab","seq":184467,"time":"2026-11-21T18:52:42.123456Z","clock":"synced","kind":"telemetry","uid":"ObjTest","group":"Devices","via":"udp","format":"JSON","payload":{"t": 21.5},"state":"delivered"}"#
        );
    }

    #[test]
    fn what_is_not_its_format_is_binary_and_nothing_breaks_the_line() {
        let broken = json(&message(Format::Json, b"{"));
        assert!(broken.contains(r#""format":"BINARY","payload":[123],"#), "{broken}");
        let lines = json(&message(Format::Json, b"{\"a\":\r\n\"x\\ny\"\n}"));
        assert!(lines.contains(r#""payload":{"a":  "x\ny" },"#), "{lines}");
        assert!(json(&message(Format::Utf8, b"a\nb")).contains(r#""payload":"a\nb""#));
    }

    #[test]
    fn ingested_messages_and_traces_have_more_to_say() {
        let mut full = message(Format::Binary, &[]);
        full.time_us = 0;
        full.source = Some("net\"1".to_owned());
        full.network = Some(b"{\"port\":\n2}".to_vec());
        let event = |event, to: Option<&str>, attempt, reason: Option<&str>| TraceEvent {
            to: to.map(str::to_owned),
            attempt,
            reason: reason.map(str::to_owned),
            ..TraceEvent::new(event, 1_000_000)
        };
        full.trace = Some(vec![
            event(Outcome::Received, None, None, None),
            event(Outcome::Refused, Some("central"), Some(2), Some("status 500")),
        ]);
        let text = json(&full);
        assert!(text.contains(r#""time":"1970-01-01T00:00:00.000000Z""#), "{text}");
        assert!(
            text.ends_with(
                r#""state":"delivered","source":"net\"1","network":{"port": 2},"events":[{"time":"1970-01-01T00:00:01.000000Z","event":"received"},{"time":"1970-01-01T00:00:01.000000Z","event":"refused","to":"central","attempt":2,"reason":"status 500"}]}"#
            ),
            "{text}"
        );
    }

    #[test]
    fn times_outside_of_the_calendar_are_its_ends() {
        for time_us in [i64::MIN, i64::MAX] {
            let mut message = message(Format::Binary, &[]);
            message.time_us = time_us;
            assert!(serde_json::from_str::<serde_json::Value>(&json(&message)).is_ok());
        }
    }
}
