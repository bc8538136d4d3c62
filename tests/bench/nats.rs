//! The protocol of NATS, as much of it as the benchmark says and hears.

use super::link::{Decoded, Event};

/// The answer to a ping.
pub const PONG: &[u8] = b"PONG\r\n";
/// A line is no longer than this, or it is none.
const LINE_MAX: usize = 64 * 1024;

/// Logs in, without a password; the server answers the ping when it is through.
pub fn connect(out: &mut Vec<u8>, name: &str, tls: bool) {
    let options = format!(
        "CONNECT {{\"verbose\":false,\"pedantic\":false,\"headers\":false,\"tls_required\":{tls},\
         \"name\":\"{name}\",\"lang\":\"rust\",\"version\":\"0\",\"protocol\":1}}\r\nPING\r\n"
    );
    out.extend_from_slice(options.as_bytes());
}

/// Subscribes; the server answers the ping when that is in force.
pub fn subscribe(out: &mut Vec<u8>, subject: &str) {
    out.extend_from_slice(format!("SUB {subject} 1\r\nPING\r\n").as_bytes());
}

/// A message, with the subject of its answer unless that is empty.
pub fn publish(out: &mut Vec<u8>, subject: &str, reply: &str, payload: &[u8]) {
    out.extend_from_slice(b"PUB ");
    for word in [subject, reply].into_iter().filter(|word| !word.is_empty()) {
        out.extend_from_slice(word.as_bytes());
        out.push(b' ');
    }
    out.extend_from_slice(format!("{}\r\n", payload.len()).as_bytes());
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
}

/// Makes a stream on files; the server's answer comes to `reply`.
pub fn make_stream(out: &mut Vec<u8>, name: &str, subjects: &str, reply: &str) {
    let wanted = format!("{{\"name\":\"{name}\",\"subjects\":[\"{subjects}\"],\"storage\":\"file\"}}");
    publish(out, &format!("$JS.API.STREAM.CREATE.{name}"), reply, wanted.as_bytes());
}

/// Whether an answer of JetStream says that it was done.
pub fn is_stored(answer: &[u8]) -> Result<(), String> {
    let is_error = answer.windows(7).any(|word| word == b"\"error\"");
    if is_error || answer.is_empty() {
        return Err(format!("JetStream answered {}", String::from_utf8_lossy(answer)));
    }
    Ok(())
}

/// The first word of the server in `bytes`, which lie at `at` of their buffer.
pub fn decode(bytes: &[u8], at: usize) -> Decoded {
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
        let is_endless = bytes.len() > LINE_MAX;
        return if is_endless { Err("a line of NATS without an end".to_owned()) } else { Ok(None) };
    };
    let line = bytes.get(..end).unwrap_or_default().trim_ascii_end();
    let event = match line {
        [b'M', b'S', b'G', ..] => return message(bytes, line, end + 1, at),
        b"PING" => Event::Ping,
        b"PONG" => Event::Done,
        [b'-', ..] => return Err(format!("the peer says {}", String::from_utf8_lossy(line))),
        _ => Event::Noise,
    };
    Ok(Some((event, end + 1)))
}

/// `MSG subject sid [reply] length`, then the payload and an end of line.
fn message(bytes: &[u8], line: &[u8], head: usize, at: usize) -> Decoded {
    let unreadable = || format!("the peer says {}", String::from_utf8_lossy(line));
    let mut words = line.split(|byte| *byte == b' ').skip(3);
    let (first, second) = (words.next().ok_or_else(unreadable)?, words.next());
    let (reply, len) = second.map_or((0, first), |len| (first.len(), len));
    let digits = str::from_utf8(len).map_err(|_| unreadable())?;
    let len: usize = digits.parse().map_err(|_| unreadable())?;
    if bytes.len() < head + len + 2 {
        return Ok(None);
    }
    // The answer's subject ends in front of the length and a space.
    let reply_end = at + line.len() - digits.len() - 1;
    let reply = reply_end - reply..reply_end;
    Ok(Some((Event::Message { reply, payload: at + head..at + head + len }, head + len + 2)))
}
