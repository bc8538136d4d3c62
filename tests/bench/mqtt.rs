//! MQTT 3.1.1, as much of it as the benchmark says and hears.

use super::link::{Decoded, Event};

/// Seconds after which a server may give up a silent client: longer than any measurement.
const KEEP_ALIVE: u16 = 600;
/// The number of the only thing that a connection subscribes to.
const SUBSCRIPTION: u16 = 1;

/// Logs in, without a password.
pub fn connect(out: &mut Vec<u8>, name: &str, clean: bool) {
    let mut body = b"\0\x04MQTT\x04".to_vec();
    body.push(u8::from(clean) << 1);
    body.extend_from_slice(&KEEP_ALIVE.to_be_bytes());
    text(&mut body, name);
    packet(out, 0x10, &[&body]);
}

/// Subscribes with QoS 1 if `sure`, or 0.
pub fn subscribe(out: &mut Vec<u8>, topic: &str, sure: bool) {
    let mut body = SUBSCRIPTION.to_be_bytes().to_vec();
    text(&mut body, topic);
    body.push(u8::from(sure));
    packet(out, 0x82, &[&body]);
}

/// A message with QoS 0.
pub fn publish(out: &mut Vec<u8>, topic: &str, payload: &[u8]) {
    packet(out, 0x30, &[&length(topic), topic.as_bytes(), payload]);
}

/// A message with QoS 1.
pub fn publish_sure(out: &mut Vec<u8>, topic: &str, payload: &[u8], number: u16) {
    packet(out, 0x32, &[&length(topic), topic.as_bytes(), &number.to_be_bytes(), payload]);
}

/// The first packet of `bytes`, which lie at `at` of their buffer.
pub fn decode(bytes: &[u8], at: usize) -> Decoded {
    let mut len = 0;
    let mut head = 1;
    loop {
        let Some(byte) = bytes.get(head) else { return Ok(None) };
        len |= usize::from(byte & 0x7f) << (7 * (head - 1));
        head += 1;
        if byte & 0x80 == 0 {
            break;
        }
        if head > 4 {
            return Err("a packet of MQTT without an end".to_owned());
        }
    }
    let (Some(kind), Some(body)) = (bytes.first(), bytes.get(head..head + len)) else { return Ok(None) };
    let event = match (kind >> 4, body) {
        (2, [_, 0]) | (9, [_, _, 0 | 1]) => Event::Done,
        (2, _) => return Err("the peer refused the login".to_owned()),
        (3, [high, low, ..]) => {
            let number = if kind & 0x06 == 0 { 0 } else { 2 };
            let payload = head + 2 + usize::from(u16::from_be_bytes([*high, *low])) + number;
            Event::Message { reply: at..at, payload: at + payload..at + head + len }
        }
        (4, [high, low]) => Event::Taken(u16::from_be_bytes([*high, *low])),
        (9, _) => return Err("the peer refused the subscription".to_owned()),
        _ => Event::Noise,
    };
    Ok(Some((event, head + len)))
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&length(text));
    out.extend_from_slice(text.as_bytes());
}

fn length(text: &str) -> [u8; 2] {
    u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes()
}

fn packet(out: &mut Vec<u8>, kind: u8, parts: &[&[u8]]) {
    out.push(kind);
    let mut len: usize = parts.iter().map(|part| part.len()).sum();
    while len > 0x7f {
        out.push(0x80 | (len & 0x7f) as u8);
        len >>= 7;
    }
    out.push(len as u8);
    parts.iter().for_each(|part| out.extend_from_slice(part));
}
