//! Answers as values.

use serde::Serialize;

/// An answer of the API, before it meets a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Of the body.
    pub content_type: &'static str,
    /// A header beside it.
    pub header: Option<(&'static str, &'static str)>,
    /// Headers that every answer of its kind has.
    pub headers: &'static [(&'static str, &'static str)],
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    /// A body that is JSON text already.
    pub fn json_text(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, content_type: "application/json", header: None, headers: &[], body: body.into() }
    }

    /// A value as JSON.
    pub fn json(status: u16, value: &impl Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(body) => Self::json_text(status, body),
            // Values here are plain structs with text keys, which always have a JSON form.
            Err(_) => Self::json_text(500, *b"{\"error\":\"the answer has no JSON form\"}"),
        }
    }

    /// Adds a member to the JSON object that the body is.
    pub(super) fn add_member(&mut self, name: &str, value: &impl Serialize) {
        if self.body.last() == Some(&b'}')
            && let Ok(value) = serde_json::to_vec(value)
        {
            self.body.pop();
            for part in [b",\"", name.as_bytes(), b"\":", &value, b"}"] {
                self.body.extend(part);
            }
        }
    }

    /// Plain text.
    pub fn text(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            content_type: "text/plain; charset=utf-8",
            header: None,
            headers: &[],
            body: body.into(),
        }
    }
}
