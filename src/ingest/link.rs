//! What links a record to a message of a partner network that came before it: the first member of what is kept of the
//! network beside the record.

use super::draft::Members;
use super::time;
use crate::journal::stamp::MessageId;

/// Characters of an id.
const ID_LEN: usize = 36;

/// What a record has to do with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// The network delivered that message once more.
    Duplicate(MessageId),
    /// More about that message.
    Merged(MessageId),
    /// It is that message, which came then (microseconds since 1970), went to the quarantine, and could be mapped later.
    Remapped(MessageId, i64),
    /// That message is in quarantine no more.
    Released(MessageId),
}

/// A link with nothing behind its id.
type Make = fn(MessageId) -> Link;
const PLAIN: [(&str, Make); 3] =
    [("duplicate", Link::Duplicate), ("merged", Link::Merged), ("released", Link::Released)];
const REMAPPED: &str = "remapped";
const ARRIVED: &str = "arrived";

impl Link {
    /// The network's JSON with the link in it.
    pub fn put_before(self, network: &str) -> String {
        let mut members = Members::default();
        match self {
            Self::Remapped(id, arrived_us) => {
                members.text(REMAPPED, Some(&id.to_string()));
                members.text(ARRIVED, Some(&time::to_text(arrived_us).unwrap_or_default()));
            }
            Self::Duplicate(id) => members.text("duplicate", Some(&id.to_string())),
            Self::Merged(id) => members.text("merged", Some(&id.to_string())),
            Self::Released(id) => members.text("released", Some(&id.to_string())),
        }
        let mut text = members.end();
        if let Some(rest) = network.strip_prefix('{').filter(|rest| *rest != "}") {
            text.pop();
            text.push(',');
            text.push_str(rest);
        }
        text
    }

    /// The link in what is stored; no network's own JSON begins like one.
    pub fn of_stored(network: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(network).ok()?.strip_prefix("{\"")?;
        let id = |name: &str| {
            let (id, rest) = text.strip_prefix(name)?.strip_prefix("\":\"")?.split_at_checked(ID_LEN)?;
            Some((MessageId::parse(id)?, rest.strip_prefix('"')?))
        };
        if let Some((id, rest)) = id(REMAPPED) {
            let arrived = rest.strip_prefix(",\"")?.strip_prefix(ARRIVED)?.strip_prefix("\":\"")?;
            return Some(Self::Remapped(id, time::of_text(arrived.split('"').next()?)?));
        }
        PLAIN.iter().find_map(|(name, make)| id(name).map(|(id, _)| make(id)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::seen::dedup_of_stored;
    use super::*;
    use crate::journal::stamp::JournalId;

    #[test]
    fn a_link_is_read_back_and_what_stands_behind_it_stays() {
        let id = MessageId::new(1_795_287_162_123_456, 77, JournalId([7; 16]));
        for link in [
            Link::Duplicate(id),
            Link::Merged(id),
            Link::Remapped(id, 1_795_287_162_123_456),
            Link::Released(id),
        ] {
            for network in ["{}", r#"{"port":2,"dedup":"a"}"#] {
                let linked = link.put_before(network);
                assert_eq!(Link::of_stored(linked.as_bytes()), Some(link), "{linked}");
                let value: serde_json::Value = serde_json::from_str(&linked).unwrap();
                assert_eq!(value.get("port").is_some(), network != "{}");
            }
            let linked = link.put_before(r#"{"dedup":"a"}"#);
            assert_eq!(dedup_of_stored(linked.as_bytes()).as_deref(), Some("a"));
        }
    }

    #[test]
    fn what_a_network_says_is_no_link() {
        let id = "01930a2b-4c5d-7abc-8def-0123456789ab";
        for none in [
            "",
            "{}",
            r#"{"port":2}"#,
            r#"{"duplicate":"x"}"#,
            &format!("{{\"remapped\":\"{id}\"}}"),
            &format!("{{\"remapped\":\"{id}\",\"arrived\":\"then\"}}"),
            &format!("{{\"port\":2,\"duplicate\":\"{id}\"}}"),
        ] {
            assert_eq!(Link::of_stored(none.as_bytes()), None, "{none}");
        }
    }
}
