//! What is kept of a request that could not be mapped, beside the element itself: enough to map it later.
//!
//! The element is the payload of what is kept, and this the network's JSON beside it.

use std::collections::BTreeSet;
use std::fmt;

use super::draft::Members;
use super::fields::Fields;
use super::outcome::Unmapped;
use super::request::Request;
use super::shape::Shape;
use crate::wire::GroupName;

/// Everything but the element.
#[derive(Clone, PartialEq, Eq)]
pub struct Kept {
    /// The name of the [`super::Fault`].
    pub fault: String,
    /// The same for people.
    pub sentence: String,
    /// What the element looks like.
    pub shape: Shape,
    /// The only groups that the key which brought it may bring messages of; none: it is not limited.
    pub groups: BTreeSet<GroupName>,
    tail: String,
    query: String,
    content_type: String,
    headers: Vec<(String, String)>,
}

/// Shows what is wrong, and nothing of what was sent.
impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").field("fault", &self.fault).field("shape", &self.shape).finish_non_exhaustive()
    }
}

impl Kept {
    /// What is to be kept of the request that held this element; `groups` are those of the key.
    pub fn new(request: &Request<'_>, unmapped: &Unmapped, groups: &[GroupName]) -> Self {
        Self {
            groups: groups.iter().copied().collect(),
            fault: unmapped.fault.name().to_owned(),
            sentence: unmapped.sentence.clone().into_owned(),
            shape: unmapped.shape,
            tail: request.tail.to_owned(),
            query: request.query.to_owned(),
            // An element that was cut out of a form or of lines is JSON by now.
            content_type: match unmapped.is_json {
                true => "application/json".to_owned(),
                false => request.content_type.to_owned(),
            },
            headers: request.headers.to_vec(),
        }
    }

    /// As JSON, to be kept.
    pub fn to_network(&self) -> String {
        let mut object = Members::default();
        object.text("quarantined", Some(&self.fault));
        object.text("reason", Some(&self.sentence));
        object.text("shape", Some(&self.shape.to_string()));
        for (name, text) in
            [("tail", &self.tail), ("query", &self.query), ("content_type", &self.content_type)]
        {
            object.text(name, Some(text.as_str()).filter(|text| !text.is_empty()));
        }
        let mut headers = Members::default();
        for (name, value) in &self.headers {
            headers.text(name, Some(value));
        }
        let headers = (!headers.is_empty()).then(|| headers.end());
        object.json("headers", headers.as_deref());
        let mut groups = Members::default();
        for group in &self.groups {
            groups.json(group.as_str(), Some("true"));
        }
        let groups = (!groups.is_empty()).then(|| groups.end());
        object.json("groups", groups.as_deref());
        object.end()
    }

    /// Reads what [`Kept::to_network`] wrote; `None`: it is something else.
    pub fn from_network(network: &[u8]) -> Option<Self> {
        let fields = Fields::read(std::str::from_utf8(network).ok()?).ok()?;
        let text = |name| fields.text(name).ok().flatten().map(|text| text.into_owned());
        let headers = fields.object("headers").ok()?;
        let header = |name: &str| Some((name.to_owned(), headers.string(name).ok()??.into_owned()));
        let groups = fields.object("groups").ok()?;
        Some(Self {
            groups: groups.names().map(GroupName::parse).collect::<Result<_, _>>().ok()?,
            fault: text("quarantined")?,
            sentence: text("reason").unwrap_or_default(),
            shape: Shape::parse(&text("shape")?)?,
            tail: text("tail").unwrap_or_default(),
            query: text("query").unwrap_or_default(),
            content_type: text("content_type").unwrap_or_default(),
            headers: headers.names().filter_map(header).collect(),
        })
    }

    /// The request again, with the element that was kept as its body.
    pub fn request<'a>(&'a self, raw: &'a [u8]) -> Request<'a> {
        Request {
            tail: &self.tail,
            query: &self.query,
            headers: &self.headers,
            content_type: &self.content_type,
            body: raw,
        }
    }
}
