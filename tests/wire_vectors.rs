//! Holds `src/wire` against the bytes in `tests/vectors/`, which were written by hand from the specification.
#![cfg(test)]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use iotsocketd::wire::{
    ACL_ITEM_LEN, AclItem, AuthKey, Datagram, Decoded, Initiation, InitiationReply, PROOF_LEN, Payload,
    Proof, Transmission, Uid, WireError, verdict_byte, verdict_from_byte,
};
use ring::hmac;

/// One line of a file: its cells, and where it stands.
struct Vector {
    at: String,
    cells: Vec<String>,
}

impl Vector {
    fn cell(&self, index: usize) -> &str {
        self.cells.get(index).unwrap_or_else(|| panic!("{}: cell {index} is missing", self.at))
    }

    fn bytes(&self) -> Vec<u8> {
        unhex(self.cell(1), &self.at)
    }

    /// The bytes that we would write: the last cell if there is a fourth, else the ones that are read.
    fn written(&self) -> Vec<u8> {
        unhex(self.cells.get(3).map_or(self.cell(1), String::as_str), &self.at)
    }

    /// The expectation with `data=61*300` written out.
    fn expected(&self) -> String {
        let words = self.cell(2).split(' ').map(|word| match word.strip_prefix("data=") {
            Some(data) => format!("data={}", hex(&unhex(data, &self.at))),
            None => word.to_owned(),
        });
        words.collect::<Vec<_>>().join(" ")
    }

    /// The value of `name=…` in the expectation.
    fn value(&self, name: &str) -> &str {
        let found = self.cell(2).split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        found.unwrap_or_else(|| panic!("{}: no {name}= in the expectation", self.at))
    }
}

fn vectors(file: &str) -> Vec<Vector> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    let lines = text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let vectors: Vec<Vector> = lines
        .map(|(index, line)| Vector {
            at: format!("tests/vectors/{file}:{}", index + 1),
            cells: line.split('|').map(|cell| cell.trim().to_owned()).collect(),
        })
        .collect();
    assert!(!vectors.is_empty(), "{file} holds no vector");
    vectors
}

fn unhex(text: &str, at: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for token in text.split_whitespace() {
        let (digits, times) = match token.split_once('*') {
            Some((digits, times)) => (digits, times.parse().unwrap()),
            None => (token, 1),
        };
        let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
        assert!(rest.is_empty(), "{at}: half a byte in {token}");
        let unit: Vec<u8> = pairs
            .iter()
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16))
            .collect::<Result<_, _>>()
            .unwrap_or_else(|error| panic!("{at}: {token}: {error}"));
        bytes.extend(unit.repeat(times));
    }
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn show_payload(payload: &Payload<'_>) -> String {
    format!("format={} data={}", payload.format().name(), hex(payload.data()))
}

fn show_uid(uid: Option<Uid>) -> String {
    uid.map_or("none".to_owned(), |uid| format!("{:?}", uid.as_str()))
}

fn show_transmission(transmission: &Transmission<'_>) -> String {
    match transmission {
        Transmission::AclHead { count } => format!("acl count={count}"),
        Transmission::Ping => "ping".to_owned(),
        Transmission::Pong => "pong".to_owned(),
        Transmission::Request { uid, number, payload } => {
            format!("request uid={} number={number} {}", show_uid(*uid), show_payload(payload))
        }
        Transmission::Response { uid, number, code, payload } => {
            let uid = show_uid(*uid);
            format!("response uid={uid} number={number} code=0x{code:02x} {}", show_payload(payload))
        }
        Transmission::Token(token) => format!("token {}", hex(&token.0)),
        Transmission::Telemetry { uid, payload } => {
            format!("telemetry uid={} {}", show_uid(Some(*uid)), show_payload(payload))
        }
        Transmission::Close(code) => {
            format!("close 0x{:02x} {}", code.byte(), if code.keeps_session() { "keeps" } else { "ends" })
        }
    }
}

fn show_reply(reply: &InitiationReply<'_>) -> String {
    match reply {
        InitiationReply::Welcome => "welcome".to_owned(),
        InitiationReply::Refused => "refused".to_owned(),
        InitiationReply::Redirect(to) => format!("redirect host={:?} port={}", to.host, to.port),
    }
}

/// What every streaming decoder owes: each proper prefix asks for more, never for less than before, never for more
/// than there is; the whole is done; and what stands behind it is left alone. Returns the value, shown.
fn walk<'a, T>(
    at: &str,
    bytes: &'a [u8],
    decode: impl Fn(&'a [u8]) -> Result<Decoded<T>, WireError>,
    show: impl Fn(&T) -> String,
) -> String {
    let mut needed = 0;
    for len in 0..bytes.len() {
        match decode(&bytes[..len]) {
            Ok(Decoded::Need(n)) => {
                assert!(n > len, "{at}: at {len} bytes it asks for {n}");
                assert!(n >= needed, "{at}: at {len} bytes it asks for {n}, before for {needed}");
                assert!(n <= bytes.len(), "{at}: at {len} bytes it asks for {n}, more than there is");
                needed = n;
            }
            Ok(Decoded::Done(..)) => panic!("{at}: done at {len} bytes"),
            Err(error) => panic!("{at}: {error} at {len} bytes"),
        }
    }
    match decode(bytes) {
        Ok(Decoded::Done(value, used)) => {
            assert_eq!(used, bytes.len(), "{at}: bytes used");
            show(&value)
        }
        Ok(Decoded::Need(n)) => panic!("{at}: asks for {n} of {}", bytes.len()),
        Err(error) => panic!("{at}: {error}"),
    }
}

/// Decodes the bytes with others behind them.
fn before_others<T>(
    bytes: &[u8],
    decode: impl Fn(&[u8]) -> Result<Decoded<T>, WireError>,
    check: impl Fn(T),
) {
    for behind in [0x00, 0xff] {
        let mut longer = bytes.to_vec();
        longer.resize(bytes.len() + 20, behind);
        match decode(&longer) {
            Ok(Decoded::Done(value, used)) => {
                assert_eq!(used, bytes.len());
                check(value);
            }
            Ok(Decoded::Need(n)) => panic!("asks for {n}"),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn initiations() {
    for vector in vectors("initiation.txt") {
        let initiation = Initiation::decode(vector.bytes().try_into().unwrap());
        let Initiation { tls, version, largest } = initiation;
        let shown = format!("tls={} version={version} largest={largest}", if tls { "yes" } else { "no" });
        assert_eq!(shown, vector.expected(), "{}", vector.at);
        assert_eq!(initiation.encode().as_slice(), vector.written(), "{}", vector.at);
    }
}

#[test]
fn replies() {
    for vector in vectors("reply.txt") {
        let bytes = vector.bytes();
        let shown = walk(&vector.at, &bytes, InitiationReply::decode, show_reply);
        assert_eq!(shown, vector.expected(), "{}", vector.at);
        before_others(
            &bytes,
            |input| InitiationReply::decode(input).map(own_reply),
            |encoded| {
                assert_eq!(encoded, vector.written(), "{}", vector.at);
            },
        );
    }
    assert_eq!(InitiationReply::WELCOME, [0x80, 0x00]);
    assert_eq!(InitiationReply::REFUSED, [0x00, 0x00]);
}

fn own_reply(decoded: Decoded<InitiationReply<'_>>) -> Decoded<Vec<u8>> {
    match decoded {
        Decoded::Need(n) => Decoded::Need(n),
        Decoded::Done(reply, used) => Decoded::Done(reply.encode().unwrap().to_vec(), used),
    }
}

#[test]
fn proofs() {
    for vector in vectors("proof.txt") {
        let bytes: [u8; PROOF_LEN] = vector.bytes().try_into().unwrap();
        let proof = Proof::decode(&bytes);
        assert_eq!(show_uid(proof.uid), vector.value("uid"), "{}", vector.at);
        let key = AuthKey::parse(vector.value("key")).unwrap();
        let challenge = unhex(vector.value("challenge"), &vector.at);
        hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, &key.0), &challenge, &proof.mac).unwrap();
        if let Some(uid) = proof.uid {
            assert_eq!(Proof::encode(uid, &proof.mac), bytes, "{}", vector.at);
        }
    }
}

#[test]
fn verdicts() {
    for vector in vectors("verdict.txt") {
        let byte = vector.bytes()[0];
        let accepted = verdict_from_byte(byte).unwrap();
        assert_eq!(accepted, vector.expected() == "accepted", "{}", vector.at);
        assert_eq!(verdict_byte(accepted), byte, "{}", vector.at);
    }
}

#[test]
fn payloads() {
    for vector in vectors("payload.txt") {
        let bytes = vector.bytes();
        let shown = walk(&vector.at, &bytes, Payload::decode, show_payload);
        assert_eq!(shown, vector.expected(), "{}", vector.at);
        let Ok(Decoded::Done(payload, _)) = Payload::decode(&bytes) else { panic!("{}", vector.at) };
        assert_eq!(Payload::new(payload.format(), payload.data()), Some(payload), "{}", vector.at);
        let encoded = [payload.encode_head().as_slice(), payload.data()].concat();
        assert_eq!(hex(&encoded), hex(&vector.written()), "{}", vector.at);
        assert_eq!(payload.wire_len(), encoded.len(), "{}", vector.at);
    }
    assert!(
        Payload::new(iotsocketd::wire::Format::Binary, &[0; 65_536]).is_none(),
        "65,536 bytes do not fit"
    );
}

#[test]
fn transmissions() {
    for vector in vectors("transmission.txt") {
        let bytes = vector.bytes();
        let shown = walk(&vector.at, &bytes, Transmission::decode, show_transmission);
        assert_eq!(shown, vector.expected(), "{}", vector.at);
        before_others(
            &bytes,
            |input| Transmission::decode(input).map(own_transmission),
            |(encoded, len)| {
                assert_eq!(hex(&encoded), hex(&vector.written()), "{}", vector.at);
                assert_eq!(len, encoded.len(), "{}", vector.at);
            },
        );
    }
}

fn own_transmission(decoded: Decoded<Transmission<'_>>) -> Decoded<(Vec<u8>, usize)> {
    match decoded {
        Decoded::Need(n) => Decoded::Need(n),
        Decoded::Done(transmission, used) => {
            let mut encoded = Vec::new();
            transmission.encode(&mut encoded);
            Decoded::Done((encoded, transmission.wire_len()), used)
        }
    }
}

#[test]
fn access_lists() {
    for vector in vectors("acl.txt") {
        let bytes = vector.bytes();
        let Ok(Decoded::Done(head @ Transmission::AclHead { count }, used)) = Transmission::decode(&bytes)
        else {
            panic!("{}: no ACL", vector.at)
        };
        let (items, rest) = bytes[used..].as_chunks::<ACL_ITEM_LEN>();
        assert_eq!((items.len(), rest.len()), (count as usize, 0), "{}", vector.at);
        let mut encoded = head.encode_head().to_vec();
        let mut shown = Vec::new();
        for item in items {
            let item = AclItem::decode(item).unwrap();
            encoded.extend(item.encode());
            shown.push(format!("{:?}/{:?}/{}", item.group, item.uid, hex(&item.key.0)));
        }
        assert_eq!(shown.join(", "), vector.expected(), "{}", vector.at);
        assert_eq!(hex(&encoded), hex(&vector.written()), "{}", vector.at);
    }
}

#[test]
fn datagrams() {
    for vector in vectors("datagram.txt") {
        let bytes = vector.bytes();
        let datagram = Datagram::decode(&bytes).unwrap_or_else(|error| panic!("{}: {error}", vector.at));
        let shown = format!("token={} {}", hex(&datagram.token.0), show_payload(&datagram.payload));
        assert_eq!(shown, vector.expected(), "{}", vector.at);
        let encoded = [datagram.encode_head().as_slice(), datagram.payload.data()].concat();
        assert_eq!(hex(&encoded), hex(&vector.written()), "{}", vector.at);
        for len in 0..bytes.len() {
            assert_eq!(
                Datagram::decode(&bytes[..len]),
                Err(WireError::LengthMismatch),
                "{}: at {len} bytes",
                vector.at
            );
        }
        let longer = [bytes.as_slice(), &[0]].concat();
        assert_eq!(Datagram::decode(&longer), Err(WireError::LengthMismatch), "{}", vector.at);
    }
}

/// What the decoder of that name says of the input; `None` if it wants more.
fn error_of(decoder: &str, input: &[u8]) -> Option<WireError> {
    fn streaming<T>(decoded: Result<Decoded<T>, WireError>) -> Option<WireError> {
        match decoded {
            Ok(Decoded::Need(_)) => None,
            Ok(Decoded::Done(..)) => panic!("it was read"),
            Err(error) => Some(error),
        }
    }
    match decoder {
        "transmission" => streaming(Transmission::decode(input)),
        "payload" => streaming(Payload::decode(input)),
        "reply" => streaming(InitiationReply::decode(input)),
        "datagram" => Datagram::decode(input).err(),
        "acl item" => input.first_chunk().and_then(|bytes| AclItem::decode(bytes).err()),
        "verdict" => input.first().and_then(|byte| verdict_from_byte(*byte).err()),
        other => panic!("no decoder is called {other}"),
    }
}

#[test]
fn broken_rules() {
    let mut seen = BTreeSet::new();
    for vector in vectors("refused.txt") {
        let (decoder, bytes) = (vector.cell(1), unhex(vector.cell(2), &vector.at));
        let error =
            error_of(decoder, &bytes).unwrap_or_else(|| panic!("{}: not refused at its end", vector.at));
        assert_eq!(format!("{error:?}"), vector.cell(3), "{}", vector.at);
        seen.insert(rule(error));
        if decoder == "datagram" {
            continue;
        }
        // Until the offending byte is there more is wanted, and the verdict does not change with what follows.
        for len in 0..bytes.len() {
            assert!(error_of(decoder, &bytes[..len]).is_none_or(|early| early == error), "{}", vector.at);
        }
        for behind in [0x00, 0xff] {
            let mut longer = bytes.clone();
            longer.resize(bytes.len() + 64, behind);
            assert_eq!(error_of(decoder, &longer), Some(error), "{}", vector.at);
        }
    }
    assert_eq!(seen.len(), RULES, "refused.txt breaks only {seen:?}");
}

/// How many rules there are; the match below does not compile when one is added.
const RULES: usize = 8;

fn rule(error: WireError) -> &'static str {
    match error {
        WireError::UnknownType(_) => "unknown type",
        WireError::UnknownFormat(_) => "unknown format",
        WireError::UnknownOption(_) => "unknown option",
        WireError::MisplacedRte => "misplaced RTE",
        WireError::NotUtf8 => "not UTF-8",
        WireError::LengthMismatch => "length mismatch",
        WireError::UnknownVerdict(_) => "unknown verdict",
        WireError::UnknownRule(_) => "unknown rule",
    }
}
