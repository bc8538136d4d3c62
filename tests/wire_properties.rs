//! What holds for every value and every input of `src/wire`, tried on generated ones.
//!
//! The seed is fixed, so a run says the same everywhere; another one is tried with `PROPTEST_RNG_SEED=…`, and more
//! cases with `PROPTEST_CASES=…`. A failure prints its seed and the smallest input found.
#![cfg(test)]

use iotsocketd::wire::{
    ACL_ITEM_LEN, AclItem, AuthKey, CloseCode, Datagram, Decoded, Format, GroupName, Initiation,
    InitiationReply, PAYLOAD_DATA_MAX, PROOF_LEN, Payload, Proof, Redirect, TRANSMISSION_MAX, Token,
    Transmission, Uid, WireError, decode_acl_count, encode_acl_count, verdict_byte, verdict_from_byte,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestCaseError, TestRunner};

/// The seed of every run that does not ask for another.
const SEED: u64 = 0x1075_0c4e;
const CASES: u32 = 512;

/// Runs `property` on values of `strategy`.
fn holds<S: Strategy>(strategy: S, property: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let wanted = ProptestConfig::default();
    let seed = match wanted.rng_seed {
        RngSeed::Fixed(seed) => seed,
        RngSeed::Random => SEED,
    };
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { wanted.cases } else { CASES };
    let config =
        ProptestConfig { cases, rng_seed: RngSeed::Fixed(seed), failure_persistence: None, ..wanted };
    if let Err(error) = TestRunner::new(config).run(&strategy, property) {
        panic!("PROPTEST_RNG_SEED={seed}: {error}");
    }
}

/// A value that owns its bytes; the wire's own types borrow theirs.
#[derive(Debug, Clone)]
struct OwnPayload {
    format: Format,
    data: Vec<u8>,
}

impl OwnPayload {
    fn borrow(&self) -> Payload<'_> {
        Payload::new(self.format, &self.data).unwrap()
    }
}

#[derive(Debug, Clone)]
enum Own {
    AclHead(u32),
    Ping,
    Pong,
    Request(Option<Uid>, u16, OwnPayload),
    Response(Option<Uid>, u16, u8, OwnPayload),
    Token([u8; 8]),
    Telemetry(Uid, OwnPayload),
    Close(u8),
}

impl Own {
    fn borrow(&self) -> Transmission<'_> {
        match self {
            Self::AclHead(count) => Transmission::AclHead { count: *count },
            Self::Ping => Transmission::Ping,
            Self::Pong => Transmission::Pong,
            Self::Request(uid, number, payload) => {
                Transmission::Request { uid: *uid, number: *number, payload: payload.borrow() }
            }
            Self::Response(uid, number, code, payload) => {
                Transmission::Response { uid: *uid, number: *number, code: *code, payload: payload.borrow() }
            }
            Self::Token(token) => Transmission::Token(Token(*token)),
            Self::Telemetry(uid, payload) => Transmission::Telemetry { uid: *uid, payload: payload.borrow() },
            Self::Close(code) => Transmission::Close(CloseCode::from_byte(*code)),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.borrow().encode(&mut bytes);
        bytes
    }
}

/// A name that fits, of letters of one to four bytes, or of any characters.
fn name() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z0-9-]{0,16}", "[aé€🦀]{0,8}", any::<String>()].prop_map(|text| {
        let mut name = text.trim_start_matches('\0').to_owned();
        while name.len() > 16 {
            name.pop();
        }
        name
    })
}

fn uid() -> impl Strategy<Value = Uid> {
    name().prop_map(|name| Uid::parse(&name).unwrap())
}

fn data() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => vec(any::<u8>(), 0..64),
        2 => vec(any::<u8>(), 200..1_500),
        1 => (PAYLOAD_DATA_MAX - 3..=PAYLOAD_DATA_MAX, any::<u8>()).prop_map(|(len, byte)| vec![byte; len]),
    ]
}

fn payload() -> impl Strategy<Value = OwnPayload> {
    (prop::sample::select(&Format::ALL), data()).prop_map(|(format, data)| OwnPayload { format, data })
}

fn transmission() -> impl Strategy<Value = Own> {
    prop_oneof![
        any::<u32>().prop_map(Own::AclHead),
        Just(Own::Ping),
        Just(Own::Pong),
        (prop::option::of(uid()), any::<u16>(), payload()).prop_map(|(u, n, p)| Own::Request(u, n, p)),
        (prop::option::of(uid()), any::<u16>(), any::<u8>(), payload())
            .prop_map(|(u, n, c, p)| Own::Response(u, n, c, p)),
        any::<[u8; 8]>().prop_map(Own::Token),
        (uid(), payload()).prop_map(|(u, p)| Own::Telemetry(u, p)),
        any::<u8>().prop_map(Own::Close),
    ]
}

/// Bytes that get further than pure noise: noise, noise behind a good first byte, and a real transmission with a
/// few bytes changed.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let first = prop::sample::select(&[
        0x00, 0x10, 0x20, 0x30, 0x38, 0x40, 0x48, 0x50, 0x68, 0xf0, 0x80, 0x81, 0xa0u8,
    ]);
    prop_oneof![
        vec(any::<u8>(), 0..80),
        (first, vec(any::<u8>(), 0..80)).prop_map(|(first, mut rest)| {
            rest.insert(0, first);
            rest
        }),
        (transmission(), vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)).prop_map(
            |(transmission, changes)| {
                let mut bytes = transmission.bytes();
                for (index, byte) in changes {
                    let at = index.index(bytes.len());
                    bytes[at] = byte;
                }
                bytes
            }
        ),
    ]
}

/// Whether the answer to `input` keeps the decoder's promises; `max` is the longest structure.
fn sound<T>(input: &[u8], decoded: &Result<Decoded<T>, WireError>, max: usize) -> Result<(), TestCaseError> {
    match decoded {
        Ok(Decoded::Need(n)) => prop_assert!(*n > input.len() && *n <= max, "{n} of {}", input.len()),
        Ok(Decoded::Done(_, used)) => prop_assert!(*used > 0 && *used <= input.len() && *used <= max),
        Err(_) => {}
    }
    Ok(())
}

#[test]
fn transmissions_come_back_as_they_were() {
    holds(transmission(), |own| {
        let bytes = own.bytes();
        let value = own.borrow();
        prop_assert_eq!(value.wire_len(), bytes.len());
        prop_assert!(bytes.len() <= TRANSMISSION_MAX);
        prop_assert_eq!(Transmission::decode(&bytes), Ok(Decoded::Done(value, bytes.len())));
        Ok(())
    });
}

#[test]
fn payloads_come_back_as_they_were() {
    holds(payload(), |own| {
        let value = own.borrow();
        let bytes = [&value.encode_head(), value.data()].concat();
        prop_assert_eq!(value.wire_len(), bytes.len());
        prop_assert_eq!(Payload::decode(&bytes), Ok(Decoded::Done(value, bytes.len())));
        Ok(())
    });
}

#[test]
fn datagrams_come_back_as_they_were_and_fill_exactly() {
    holds((any::<[u8; 8]>(), payload(), any::<u8>()), |(token, own, extra)| {
        let value = Datagram { token: Token(token), payload: own.borrow() };
        let mut bytes = [value.encode_head().as_slice(), value.payload.data()].concat();
        prop_assert_eq!(Datagram::decode(&bytes), Ok(value));
        prop_assert_eq!(Datagram::decode(&bytes[..bytes.len() - 1]), Err(WireError::LengthMismatch));
        bytes.push(extra);
        prop_assert_eq!(Datagram::decode(&bytes), Err(WireError::LengthMismatch));
        Ok(())
    });
}

#[test]
fn set_up_comes_back_as_it_was() {
    holds((any::<bool>(), 0u8..128, any::<u16>()), |(tls, version, largest)| {
        let initiation = Initiation { tls, version, largest };
        prop_assert_eq!(Initiation::decode(initiation.encode()), initiation);
        Ok(())
    });
    holds((any::<String>(), any::<u16>()), |(host, port)| {
        let value = InitiationReply::Redirect(Redirect { host: &host, port });
        match value.encode() {
            Some(bytes) => {
                prop_assert_eq!(InitiationReply::decode(&bytes), Ok(Decoded::Done(value, bytes.len())));
            }
            None => prop_assert!(host.len() > 255),
        }
        Ok(())
    });
    holds((uid(), any::<[u8; 32]>()), |(uid, mac)| {
        let proof = Proof::decode(&Proof::encode(uid, &mac));
        prop_assert_eq!(proof, Proof { uid: Some(uid), mac });
        Ok(())
    });
    for accepted in [true, false] {
        assert_eq!(verdict_from_byte(verdict_byte(accepted)), Ok(accepted));
    }
    for reply in [InitiationReply::Welcome, InitiationReply::Refused] {
        assert_eq!(InitiationReply::decode(&reply.encode().unwrap()), Ok(Decoded::Done(reply, 2)));
    }
}

#[test]
fn access_list_items_come_back_as_they_were() {
    holds((name(), uid(), any::<[u8; 16]>(), any::<u32>()), |(group, uid, key, count)| {
        let item = AclItem { group: GroupName::parse(&group).unwrap(), uid, key: AuthKey(key) };
        prop_assert_eq!(AclItem::decode(&item.encode()), Ok(item));
        prop_assert_eq!(decode_acl_count(encode_acl_count(count)), count);
        Ok(())
    });
}

#[test]
fn names_are_the_same_as_text_and_as_bytes() {
    holds(name(), |name| {
        let uid = Uid::parse(&name).unwrap();
        prop_assert_eq!(uid.as_str(), &name);
        prop_assert_eq!(Uid::from_wire(uid.to_wire()), Ok(uid));
        prop_assert_eq!(uid.is_central(), name.is_empty());
        prop_assert!(uid.to_wire().ends_with(name.as_bytes()));
        prop_assert!(
            !uid.to_string().chars().any(char::is_control),
            "printed names hold no control character"
        );
        Ok(())
    });
    holds(any::<[u8; 16]>(), |bytes| {
        if let Ok(uid) = Uid::from_wire(bytes) {
            prop_assert_eq!(Uid::parse(uid.as_str()), Ok(uid));
            prop_assert_eq!(uid.to_wire(), bytes);
        }
        Ok(())
    });
}

#[test]
fn no_input_makes_a_decoder_panic_or_lie_about_lengths() {
    holds(hostile(), |input| {
        sound(&input, &Transmission::decode(&input), TRANSMISSION_MAX)?;
        sound(&input, &Payload::decode(&input), 3 + PAYLOAD_DATA_MAX)?;
        sound(&input, &InitiationReply::decode(&input), 260)?;
        // What is read as a datagram is the whole datagram.
        if let Ok(datagram) = Datagram::decode(&input) {
            prop_assert_eq!([datagram.encode_head().as_slice(), datagram.payload.data()].concat(), input);
        }
        Ok(())
    });
    holds(any::<[u8; PROOF_LEN]>(), |bytes| {
        let proof = Proof::decode(&bytes);
        if let Some(uid) = proof.uid {
            prop_assert_eq!(Proof::encode(uid, &proof.mac), bytes);
        }
        Ok(())
    });
    holds(any::<[u8; ACL_ITEM_LEN]>(), |bytes| {
        if let Ok(item) = AclItem::decode(&bytes) {
            prop_assert_eq!(item.encode(), bytes);
        }
        Ok(())
    });
}

/// A reader that gives exactly what is asked for comes to an end, for good input and for bad.
#[test]
fn giving_what_is_asked_for_ends() {
    holds(hostile(), |mut input| {
        let given = input.len();
        input.resize(given + TRANSMISSION_MAX, 0);
        let mut len = 0;
        for _step in 0..8 {
            match Transmission::decode(&input[..len]) {
                Ok(Decoded::Need(n)) => {
                    prop_assert!(n > len && n <= TRANSMISSION_MAX);
                    len = n;
                }
                Ok(Decoded::Done(_, used)) => {
                    prop_assert_eq!(used, len, "it asked for more than it used");
                    return Ok(());
                }
                Err(_) => return Ok(()),
            }
        }
        prop_assert!(false, "still asking after eight times");
        Ok(())
    });
}

#[test]
fn frames_behind_each_other_are_read_one_by_one_however_they_are_cut() {
    let cuts = vec(any::<prop::sample::Index>(), 0..6);
    holds((vec(transmission(), 1..6), cuts), |(sent, cuts)| {
        let stream: Vec<u8> = sent.iter().flat_map(Own::bytes).collect();
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len())).collect();
        ends.push(stream.len());
        ends.sort_unstable();
        let (mut at, mut read) = (0, 0);
        for end in ends {
            // `end` bytes have arrived: everything whole in them can be read, nothing else.
            loop {
                match Transmission::decode(&stream[at..end]) {
                    Ok(Decoded::Done(value, used)) => {
                        prop_assert_eq!(value, sent[read].borrow());
                        read += 1;
                        at += used;
                    }
                    Ok(Decoded::Need(n)) => {
                        prop_assert!(n > end - at);
                        break;
                    }
                    Err(error) => prop_assert!(false, "{error}"),
                }
            }
        }
        prop_assert_eq!((read, at), (sent.len(), stream.len()));
        Ok(())
    });
}
