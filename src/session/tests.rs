//! Every pair of state and transmission, and every deadline.

use super::*;
use crate::wire::{AclItem, AuthKey, Format, GroupName, Token, WireError};

const SETTINGS: Settings = Settings {
    tls_required: true,
    handshake_timeout: Duration::from_secs(10),
    ping_interval: Duration::from_secs(60),
};

fn outputs(session: &mut Session) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| session.poll_output()).map(|bytes| bytes.to_vec()).collect()
}

fn live(role: Role, now: Instant) -> Session {
    let mut session = Session::new(now, SETTINGS);
    let mut input: &[u8] = &[0x81, 0, 0, 0];
    assert_eq!(session.receive(now, &mut input).unwrap(), Some(Event::StartTls));
    session.established(Challenge([7; 16]));
    let proof = [0; PROOF_LEN];
    let mut input: &[u8] = &proof;
    assert!(matches!(session.receive(now, &mut input).unwrap(), Some(Event::Proof(_))));
    session.verdict(now, Some(role));
    assert_eq!(outputs(&mut session), [vec![0x80, 0], vec![7; 16], vec![1]]);
    session
}

fn bytes(transmission: Transmission<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    transmission.encode(&mut bytes);
    bytes
}

fn uid() -> Uid {
    Uid::parse("ObjTest").unwrap()
}

fn payload() -> Payload<'static> {
    Payload::new(Format::Utf8, b"hello").unwrap()
}

/// Every transmission of the protocol, with and without a UID where the type takes one.
fn every_transmission() -> Vec<Transmission<'static>> {
    let mut all = vec![
        Transmission::AclHead { count: 0 },
        Transmission::Ping,
        Transmission::Pong,
        Transmission::Token(Token([1; 8])),
        Transmission::Telemetry { uid: uid(), payload: payload() },
        Transmission::Close(CloseCode::Sleep),
        Transmission::Close(CloseCode::Unknown(0x77)),
    ];
    for uid in [None, Some(uid())] {
        all.push(Transmission::Request { uid, number: 0, payload: payload() });
        all.push(Transmission::Response { uid, number: 65_535, code: 255, payload: payload() });
    }
    all
}

fn expected(role: Role, transmission: Transmission<'static>) -> Result<Event<'static>, Violation> {
    use Transmission as T;
    match (role, transmission) {
        (_, T::Ping) => Ok(Event::Ping),
        (_, T::Pong) => Ok(Event::Pong),
        (_, T::Close(code)) => Ok(Event::Close(code)),
        (Role::Central, T::AclHead { .. }) => Ok(Event::AccessList(Vec::new())),
        (Role::Object, T::AclHead { .. }) => Err(Violation::ObjectSentAcl),
        (Role::Object, T::Token(_)) => Err(Violation::ObjectSentToken),
        (Role::Central, T::Token(_)) => Err(Violation::CentralSentToken),
        (Role::Object, T::Telemetry { .. }) => Err(Violation::ObjectSentTelemetry),
        (Role::Central, T::Telemetry { .. }) => Err(Violation::CentralSentTelemetry),
        (role, T::Request { uid, number, payload }) => match (role, uid) {
            (Role::Object, Some(_)) => Err(Violation::ObjectSentUid),
            (Role::Central, None) => Err(Violation::CentralWithoutUid),
            _ => Ok(Event::Request { uid, number, payload }),
        },
        (role, T::Response { uid, number, code, payload }) => match (role, uid) {
            (Role::Object, Some(_)) => Err(Violation::ObjectSentUid),
            (Role::Central, None) => Err(Violation::CentralWithoutUid),
            _ => Ok(Event::Response { uid, number, code, payload }),
        },
    }
}

/// B4: an object that names a UID is closed, so nothing reaches another object in its name.
#[test]
fn every_pair_of_role_and_transmission_is_judged() {
    let now = Instant::now();
    for role in [Role::Object, Role::Central] {
        for transmission in every_transmission() {
            let mut session = live(role, now);
            let sent = bytes(transmission);
            let mut input = sent.as_slice();
            let got = session.receive(now, &mut input).map(Option::unwrap).map_err(|end| end.0);
            assert_eq!(got, expected(role, transmission), "{role:?} {transmission:?}");
            if let Err(violation) = expected(role, transmission) {
                assert_eq!(violation.close_code(), CloseCode::ProtocolError);
                assert!(!session.is_live());
            } else {
                assert!(input.is_empty());
            }
        }
    }
}

/// Before the verdict nothing but the set-up is read: each transmission, sent in each earlier state, is left alone
/// or taken as set-up bytes, and never becomes an event of a session.
#[test]
fn no_transmission_takes_effect_before_the_verdict() {
    let now = Instant::now();
    for transmission in every_transmission() {
        let sent = bytes(transmission);
        let mut tls = Session::new(now, SETTINGS);
        let mut initiation: &[u8] = &[0x81, 0, 0, 0];
        tls.receive(now, &mut initiation).unwrap();
        let mut input = sent.as_slice();
        assert_eq!(tls.receive(now, &mut input).unwrap(), None);
        assert_eq!(input.len(), sent.len());

        tls.established(Challenge([0; 16]));
        let mut padded = sent.clone();
        padded.resize(PROOF_LEN.max(sent.len()), 0);
        let mut input = padded.as_slice();
        assert!(matches!(tls.receive(now, &mut input).unwrap(), Some(Event::Proof(_))));

        let mut input = sent.as_slice();
        assert_eq!(tls.receive(now, &mut input).unwrap(), None);
        assert_eq!(input.len(), sent.len());

        tls.verdict(now, None);
        assert_eq!(outputs(&mut tls).pop(), Some(vec![0]));
        let mut input = sent.as_slice();
        assert_eq!(tls.receive(now, &mut input).unwrap(), None);

        let mut first = Session::new(now, SETTINGS);
        let mut input = sent.as_slice();
        if sent.len() >= INITIATION_LEN {
            assert!(matches!(
                first.receive(now, &mut input),
                Err(End(Violation::WrongVersion(_) | Violation::TlsRequired))
            ));
        } else {
            assert_eq!(first.receive(now, &mut input).unwrap(), None);
        }
    }
}

#[test]
fn a_wrong_version_is_refused() {
    let now = Instant::now();
    for version in (0..128).filter(|version| *version != VERSION) {
        let mut session = Session::new(now, SETTINGS);
        let sent = [0x80 | version, 0, 0, 0];
        let mut input = sent.as_slice();
        assert_eq!(session.receive(now, &mut input), Err(End(Violation::WrongVersion(version))));
        assert_eq!(outputs(&mut session), [[0, 0]]);
    }
}

#[test]
fn plain_is_refused_where_tls_is_required_and_taken_where_not() {
    let now = Instant::now();
    let mut session = Session::new(now, SETTINGS);
    let mut input: &[u8] = &[0x01, 0, 0, 0];
    assert_eq!(session.receive(now, &mut input), Err(End(Violation::TlsRequired)));
    assert_eq!(outputs(&mut session), [[0, 0]]);

    let mut session = Session::new(now, Settings { tls_required: false, ..SETTINGS });
    let mut input: &[u8] = &[0x01, 0xff, 0x12, 0x34];
    assert_eq!(session.receive(now, &mut input).unwrap(), Some(Event::StayPlain));
    assert_eq!(session.largest(), 0x1234);
}

#[test]
fn setup_takes_no_byte_more_than_it_wants() {
    let now = Instant::now();
    let mut session = Session::new(now, SETTINGS);
    for (wanted, byte) in [(4, 0x81), (3, 0), (2, 0), (1, 0)] {
        assert_eq!(session.setup_bytes_wanted(), wanted);
        let one = [byte];
        let mut input = one.as_slice();
        session.receive(now, &mut input).unwrap();
    }
    assert_eq!(session.setup_bytes_wanted(), 0);
    session.established(Challenge([0; 16]));
    assert_eq!(session.setup_bytes_wanted(), PROOF_LEN);
}

#[test]
fn the_handshake_deadline_covers_every_state_before_the_verdict() {
    let start = Instant::now();
    let late = start + SETTINGS.handshake_timeout;
    let just_before = late - Duration::from_millis(1);
    let mut session = Session::new(start, SETTINGS);
    let steps: [&dyn Fn(&mut Session); 4] = [
        &|_| {},
        &|session| {
            let mut input: &[u8] = &[0x81, 0, 0, 0];
            session.receive(just_before, &mut input).unwrap();
        },
        &|session| session.established(Challenge([0; 16])),
        &|session| {
            let mut input: &[u8] = &[0; PROOF_LEN];
            session.receive(just_before, &mut input).unwrap();
        },
    ];
    for step in steps {
        step(&mut session);
        assert_eq!(session.deadline(), late, "receiving bytes must not move the deadline");
        assert_eq!(session.tick(just_before), Ok(()));
    }
    assert_eq!(session.tick(late), Err(End(Violation::HandshakeTimeout)));
}

#[test]
fn a_silent_peer_is_pinged_once_and_then_closed_and_kept() {
    let start = Instant::now();
    let mut session = live(Role::Object, start);
    let interval = SETTINGS.ping_interval;
    assert_eq!(session.deadline(), start + interval);
    session.tick(start + interval).unwrap();
    session.tick(start + interval + Duration::from_secs(1)).unwrap();
    assert_eq!(outputs(&mut session), [bytes(Transmission::Ping)]);
    assert_eq!(session.deadline(), start + 2 * interval);
    let end = session.tick(start + 2 * interval).unwrap_err();
    assert_eq!(end.0, Violation::PeerSilent);
    assert!(end.0.close_code().keeps_session());
}

#[test]
fn any_byte_heard_starts_the_silence_anew() {
    let start = Instant::now();
    let mut session = live(Role::Object, start);
    let interval = SETTINGS.ping_interval;
    session.tick(start + interval).unwrap();
    let later = start + interval + Duration::from_secs(5);
    let pong = bytes(Transmission::Pong);
    let mut input = pong.as_slice();
    assert_eq!(session.receive(later, &mut input).unwrap(), Some(Event::Pong));
    assert_eq!(session.deadline(), later + interval);
    session.tick(start + 2 * interval).unwrap();
}

#[test]
fn transmissions_arrive_whole_wherever_the_stream_is_cut() {
    let now = Instant::now();
    let sent: Vec<u8> = [
        Transmission::Ping,
        Transmission::Request { uid: None, number: 3, payload: payload() },
        Transmission::Response { uid: None, number: 4, code: 0, payload: payload() },
        Transmission::Close(CloseCode::Sleep),
    ]
    .into_iter()
    .flat_map(bytes)
    .collect();
    let want = [
        Event::Ping,
        Event::Request { uid: None, number: 3, payload: payload() },
        Event::Response { uid: None, number: 4, code: 0, payload: payload() },
        Event::Close(CloseCode::Sleep),
    ];
    for size in 1..=sent.len() {
        let mut session = live(Role::Object, now);
        let mut seen = 0;
        for piece in sent.chunks(size) {
            let mut input = piece;
            while let Some(event) = session.receive(now, &mut input).unwrap() {
                assert_eq!(event, want[seen]);
                seen += 1;
            }
            assert!(input.is_empty());
            outputs(&mut session);
        }
        assert_eq!(seen, want.len(), "pieces of {size} bytes");
    }
}

fn acl(count: u32, items: usize) -> Vec<u8> {
    let mut sent = bytes(Transmission::AclHead { count });
    for index in 0..items {
        let item = AclItem {
            group: GroupName::parse("Devices").unwrap(),
            uid: Uid::parse(&format!("o{index}")).unwrap(),
            key: AuthKey([3; 16]),
        };
        sent.extend(item.encode());
    }
    sent
}

#[test]
fn an_access_list_is_one_event_once_it_is_whole() {
    let now = Instant::now();
    let sent = [acl(3, 3), bytes(Transmission::Ping)].concat();
    for size in [1, 7, 48, 49, sent.len()] {
        let mut session = live(Role::Central, now);
        let mut lists = 0;
        let mut pings = 0;
        for piece in sent.chunks(size) {
            let mut input = piece;
            while let Some(event) = session.receive(now, &mut input).unwrap() {
                match event {
                    Event::AccessList(items) => {
                        assert_eq!(items.len(), 3);
                        assert_eq!(pings, 0, "the ping behind the list comes after it");
                        lists += 1;
                    }
                    Event::Ping => pings += 1,
                    other => panic!("{other:?}"),
                }
            }
        }
        assert_eq!((lists, pings), (1, 1), "pieces of {size} bytes");
    }
}

/// W7: four billion items are refused at the count, before one of them is awaited or room for it taken.
#[test]
fn an_access_list_over_the_limit_ends_the_session_at_its_count() {
    let now = Instant::now();
    let limit = u32::try_from(ACL_ITEMS_MAX).unwrap();
    for count in [limit + 1, u32::MAX] {
        let mut session = live(Role::Central, now);
        let sent = acl(count, 0);
        let mut input = sent.as_slice();
        assert_eq!(session.receive(now, &mut input), Err(End(Violation::TooManyAclItems(count))));
    }
    let mut session = live(Role::Central, now);
    let sent = acl(limit, 0);
    let mut input = sent.as_slice();
    assert_eq!(session.receive(now, &mut input), Ok(None));
}

/// B9: a list with the RTE bit is refused, not read as something else.
#[test]
fn an_access_list_with_a_uid_ends_the_session() {
    let now = Instant::now();
    let mut session = live(Role::Central, now);
    let mut input: &[u8] = &[0x08, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(session.receive(now, &mut input), Err(End(Violation::Wire(WireError::MisplacedRte))));
}
