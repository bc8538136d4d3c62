//! Bad input: each gets what the protocol says, is counted by its cause, and disturbs nobody else.

use std::io::{Read, Write};
use std::net::TcpStream;

use iotsocketd::client::LoginError;
use iotsocketd::wire::{Format, Payload, Token, Transmission, Uid};

use crate::support::{Device, PATIENCE, Said, Site, eventually, request};
use crate::undisturbed::undisturbed;

fn connect(site: &Site) -> TcpStream {
    let socket = TcpStream::connect(site.sessions()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Says these bytes on a new connection, and hears everything until its end.
fn say(site: &Site, bytes: &[u8]) -> Vec<u8> {
    let mut socket = connect(site);
    socket.write_all(bytes).unwrap();
    hear(&mut socket)
}

fn hear(socket: &mut TcpStream) -> Vec<u8> {
    let mut heard = Vec::new();
    match socket.read_to_end(&mut heard) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("the connection stays open"),
        Ok(_) | Err(_) => heard,
    }
}

#[test]
fn wrong_versions_and_plain_text_are_refused() {
    let site = Site::new();
    let good = site.device("good", "Devices");
    site.start();
    undisturbed(&site, good, || {
        for version in [0x80, 0x82, 0xFF] {
            assert_eq!(say(&site, &[version, 0, 0, 0]), [0x00, 0x00]);
        }
        // Plain where TLS is required.
        assert_eq!(say(&site, &[0x01, 0, 0, 0]), [0x00, 0x00]);
        let plain = site.login_as(good, None, None, 0);
        assert!(matches!(plain, Err(LoginError::InitiationRefused)));
        // Garbage where TLS should start.
        let heard = say(&site, b"\x81\x00\x00\x00GET / HTTP/1.1\r\n\r\n");
        assert_eq!(heard[..2], [0x80, 0x00]);
        eventually("the end of the handshake is counted", || site.refused("sessions.tls") == 1);
    });
    assert_eq!(site.refused("sessions.wrong_version"), 3);
    assert_eq!(site.refused("sessions.tls_required"), 2);
}

/// B20: the key that everybody knows is none.
#[test]
fn a_wrong_key_and_an_unknown_uid_are_refused_by_the_same_bytes() {
    let site = Site::new();
    let good = site.device("good", "Devices");
    let known = site.device("known", "Devices");
    site.set("sessions", "tls", "\"optional\"");
    site.start();
    let refusal = |uid: [u8; 16]| {
        let mut socket = connect(&site);
        socket.write_all(&[0x01, 0, 0, 0]).unwrap();
        let mut head = [0; 18];
        socket.read_exact(&mut head).unwrap();
        assert_eq!(head[..2], [0x80, 0x00]);
        socket.write_all(&[uid.as_slice(), &[7; 32]].concat()).unwrap();
        (hear(&mut socket), head[2..].to_vec())
    };
    undisturbed(&site, good, || {
        let unknown = Uid::parse("unknown").unwrap().to_wire();
        let mut challenges = std::collections::BTreeSet::new();
        for uid in [known.uid.to_wire(), unknown, [0; 16], [0xFF; 16]] {
            let (heard, challenge) = refusal(uid);
            assert_eq!(heard, [0x00]);
            assert!(challenges.insert(challenge), "a challenge came twice");
        }
        for device in [site.stranger("known"), site.stranger("unknown"), site.stranger("")] {
            assert!(matches!(site.try_login(device), Err(LoginError::NotAccepted)));
        }
        let public = iotsocketd::wire::AuthKey::parse("00112233445566778899aabbccddeeff").unwrap();
        assert!(site.try_login(Device { uid: Uid::CENTRAL, key: public }).is_err());
    });
    assert_eq!(site.refused("sessions.login"), 8);
}

/// B9: a list with the RTE bit is refused whole; nothing inside it is read as something else.
#[test]
fn unknown_and_forbidden_transmissions_close_the_session_and_no_other() {
    let site = Site::new();
    let good = site.device("good", "Devices");
    let bad = site.device("bad", "Devices");
    site.start();
    let acl_with_rte = [&[0x08][..], &[0x10; 40]].concat();
    let telemetry = Transmission::Telemetry { uid: good.uid, payload: Payload::EMPTY };
    let mut telemetry_bytes = Vec::new();
    telemetry.encode(&mut telemetry_bytes);
    let wrong: &[(&str, &[u8])] = &[
        ("unknown_type", &[0x70]),
        ("unknown_type", &[0xE0, 0, 0]),
        ("misplaced_rte", &acl_with_rte),
        ("object_sent_acl", &[0x00, 0, 0, 0, 1]),
        ("object_sent_token", &[0x50, 1, 2, 3, 4, 5, 6, 7, 8]),
        ("object_sent_telemetry", &telemetry_bytes),
        ("unknown_format", &[0x30, 0, 1, 0x30, 0, 0]),
        ("unknown_option", &[0x30, 0, 1, 0x21, 0, 0]),
        ("unknown_format", &[0x40, 0, 1, 0, 0xF0, 0, 0]),
    ];
    undisturbed(&site, good, || {
        for (cause, bytes) in wrong {
            let cause = format!("sessions.{cause}");
            let before = site.refused(&cause);
            let (mut object, _) = site.login_with_token(bad);
            object.send_raw(bytes);
            assert_eq!(object.closed(), 0x00, "{cause}");
            assert_eq!(site.refused(&cause), before + 1, "{cause}");
        }
        // Reserved bits are ignored.
        let (mut object, _) = site.login_with_token(bad);
        object.send_raw(&[0x17]);
        assert_eq!(object.next(), Said::Pong);
    });
}

/// B9: from the central, too.
#[test]
fn an_access_list_with_the_rte_bit_is_refused_and_nothing_of_it_takes_effect() {
    let site = Site::new();
    let good = site.device("good", "Devices");
    site.start();
    let mut central = site.login(site.central());
    // Read without the UID that the bit announces, this is an empty list and pings.
    central.send_raw(&[&[0x08, 0, 0, 0, 0][..], &[0x10; 32]].concat());
    assert_eq!(central.closed(), 0x00);
    assert_eq!(site.refused("sessions.misplaced_rte"), 1);
    site.login_with_token(good).0.is_alive();
}

#[test]
fn a_group_holds_its_objects_to_format_length_and_rate() {
    let site = Site::new();
    let pump = site.device("pump-1", "Devices");
    site.set("groups.Devices", "validate", "\"format\"");
    site.set("groups.Devices", "max_payload", "\"100B\"");
    site.set("groups.Devices", "rate", "\"5/s\"");
    site.start();
    let mut central = site.login(site.central());
    let (mut object, token) = site.login_with_token(pump);
    site.telemetry(token, Format::Json, b"{no");
    site.telemetry(token, Format::Utf8, &[0xFF]);
    site.telemetry(token, Format::Binary, &[0; 101]);
    eventually("all three are counted", || site.refused("telemetry.payload") == 3);
    let lie = Payload::new(Format::Json, b"{no").unwrap();
    object.send(&Transmission::Request { uid: None, number: 1, payload: lie });
    assert_eq!(object.response(), (1, 0xA0, vec![]));
    site.telemetry(token, Format::Json, b"{}");
    assert_eq!(central.telemetry(), (pump.uid, b"{}".to_vec()));
    for _ in 0..100 {
        site.telemetry(token, Format::Binary, b"flood");
    }
    eventually("the flood is held to its rate", || {
        site.refused("telemetry.rate") + site.number("/books/received") == 101
    });
    assert!(site.number("/books/received") < 30);
}

#[test]
fn transmissions_are_taken_however_they_are_cut() {
    let site = Site::new();
    let good = site.device("good", "Devices");
    let bad = site.device("cut", "Devices");
    site.start();
    let mut bytes = Vec::new();
    request(None, 1, b"one").encode(&mut bytes);
    Transmission::Ping.encode(&mut bytes);
    request(None, 2, b"").encode(&mut bytes);
    request(None, 3, &[b'x'; 300]).encode(&mut bytes);
    let expected = |object: &mut crate::support::Peer| {
        assert_eq!(object.response(), (1, 0xA0, vec![]));
        assert_eq!(object.next(), Said::Pong);
        assert_eq!(object.response(), (2, 0xA0, vec![]));
        assert_eq!(object.response(), (3, 0xA0, vec![]));
    };
    let (mut object, _) = site.login_with_token(bad);
    // All at once, in two parts cut anywhere, and byte by byte.
    object.send_raw(&bytes.repeat(3));
    (0..3).for_each(|_| expected(&mut object));
    for at in 1..40 {
        object.send_raw(&bytes[..at]);
        object.send_raw(&bytes[at..]);
        expected(&mut object);
    }
    for byte in &bytes {
        object.send_raw(&[*byte]);
    }
    expected(&mut object);
    drop(object);
    // Cut for good: the session is kept, the half is forgotten.
    undisturbed(&site, good, || {
        for at in 1..9 {
            let (mut object, _) = site.login_with_token(bad);
            object.send_raw(&bytes[..at]);
        }
    });
    let (mut object, _) = site.login_with_token(bad);
    object.is_alive();
}

/// Claims 65,535 bytes and sends fewer: what follows is data, and costs no more memory than that.
#[test]
fn lengths_that_lie_take_only_what_they_claim() {
    let site = Site::new();
    let good = site.device("good", "Devices");
    let liar = site.device("liar", "Devices");
    site.start();
    undisturbed(&site, good, || {
        let (mut object, _) = site.login_with_token(liar);
        object.send_raw(&[0x40, 0, 9, 0, 0x20, 0xFF, 0xFF]);
        for _ in 0..65_535 / 3 {
            object.send_raw(&[0x10, 0x10, 0x10]);
        }
        object.is_alive();
        assert_eq!(site.refused("router.responses_unexpected"), 1);
        // A response that says more than it has, then silence: nobody is held up by it.
        object.send_raw(&[0x40, 0, 9, 0, 0x20, 0xFF, 0xFF, 1]);
    });
    assert!(site.memory_kib() < 64 * 1024, "{} KiB", site.memory_kib());
}

#[test]
fn wrong_datagrams_are_dropped_counted_and_never_answered() {
    let site = Site::new();
    let good = site.device("good", "Devices");
    site.set("telemetry", "max_datagram", "\"1KiB\"");
    site.start();
    let mut central = site.login(site.central());
    let (_object, token) = site.login_with_token(good);
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(site.sessions()).unwrap();
    let with = |token: Token, rest: &[u8]| [token.0.as_slice(), rest].concat();
    let wrong = Token(token.0.map(|byte| !byte));
    let datagrams = [
        (vec![], "telemetry.length"),
        (vec![1], "telemetry.length"),
        (token.0.to_vec(), "telemetry.length"),
        (with(token, &[0x20, 0]), "telemetry.length"),
        (with(token, &[0x20, 0, 5, b'a', b'b']), "telemetry.length"),
        (with(token, &[0x20, 0, 1, b'a', b'b']), "telemetry.length"),
        (with(token, &[0x30, 0, 0]), "telemetry.unknown_format"),
        (with(token, &[0x2F, 0, 0]), "telemetry.unknown_option"),
        (with(token, &[&[0x20, 0x10, 0][..], &[b'x'; 4096]].concat()), "telemetry.oversized"),
        (with(wrong, &[0x20, 0, 1, b'a']), "telemetry.wrong_token"),
        (with(Token([0; 8]), &[0x20, 0, 1, b'a']), "telemetry.wrong_token"),
    ];
    for (datagram, cause) in &datagrams {
        let before = site.refused(cause);
        socket.send(datagram).unwrap();
        eventually(cause, || site.refused(cause) == before + 1);
    }
    // The largest that is allowed, and one byte more.
    site.telemetry(token, Format::Binary, &[1; 1024 - 11 + 1]);
    site.telemetry(token, Format::Binary, &[2; 1024 - 11]);
    assert_eq!(central.telemetry(), (good.uid, vec![2; 1024 - 11]));
    assert_eq!(site.number("/books/received"), 1);
    socket.set_nonblocking(true).unwrap();
    assert!(socket.recv(&mut [0; 16]).is_err(), "a wrong datagram was answered");
}

#[test]
fn wrong_bodies_of_the_api_are_told_by_their_field_and_counted() {
    let site = Site::new();
    let good = site.device("good", "Devices");
    site.start();
    let deep = format!("{}{}", "[".repeat(129), "]".repeat(129));
    let fine = format!("{}1{}", "[".repeat(60), "]".repeat(60));
    let with =
        |payload: &str| format!(r#"{{"UID":"good","Payload":{payload},"Format":"JSON"}}"#).into_bytes();
    let wrong: Vec<(Vec<u8>, &str)> = vec![
        (br#"{"UID":"a-uid-of-17-bytes","Payload":1,"Format":"JSON"}"#.to_vec(), "UID"),
        (br#"{"UID":"","Payload":1,"Format":"JSON"}"#.to_vec(), "UID"),
        (br#"{"UID":"good","Payload":[256],"Format":"BINARY"}"#.to_vec(), "Payload"),
        (br#"{"UID":"good","Payload":[-1],"Format":"BINARY"}"#.to_vec(), "Payload"),
        ("{\"UID\":\"good\",\"Payload\":\"é\",\"Format\":\"ASCII\"}".as_bytes().to_vec(), "Payload"),
        (br#"{"UID":"good","Payload":1,"Format":"XML"}"#.to_vec(), "Format"),
        (br#"{"UID":"good","Payload":1,"Format":"JSON","Timeout":0}"#.to_vec(), "Timeout"),
        (br#"{"UID":"good","UID":"good","Payload":1,"Format":"JSON"}"#.to_vec(), "UID"),
        (br#"{"UID":"good","Format":"JSON"}"#.to_vec(), "Payload"),
        (b"{\"UID\":\"\xFF\",\"Payload\":1,\"Format\":\"JSON\"}".to_vec(), "UTF-8"),
        (with(&deep), "nest"),
        (with(&format!("\"{}\"", "x".repeat(65_535))), "Payload"),
        (b"".to_vec(), "body"),
        (b"[]".to_vec(), "UID"),
        (b"null".to_vec(), "UID"),
    ];
    undisturbed(&site, good, || {
        let mut http = site.http();
        for (body, field) in &wrong {
            let reply = http.post("/request", body);
            assert_eq!(reply.status, 400, "{}", String::from_utf8_lossy(body));
            let sentence = reply.json()["error"].as_str().unwrap().to_owned();
            assert!(sentence.contains(field), "{field} in {sentence}");
        }
        let huge = vec![b' '; 600 * 1024];
        assert_eq!(http.try_call("POST", "/request", &huge).map_or(413, |reply| reply.status), 413);
        let reply = site.http().post("/request", &with(&fine));
        assert_eq!((reply.status, reply.json()["Code"].as_u64()), (200, Some(0)), "{}", reply.text());
        // The other doors.
        let mut http = site.http();
        http.bearer = Some("ff".repeat(16));
        assert_eq!(http.post("/request", &with("1")).status, 401);
        let mut http = site.http();
        http.bearer = None;
        assert_eq!(http.post("/request", &with("1")).status, 401);
        let mut http = site.http();
        assert_eq!(http.get("/nowhere").status, 404);
        let reply = http.get("/request");
        assert_eq!((reply.status, reply.head.contains("allow: post")), (405, true), "{}", reply.head);
    });
    assert!(site.refused("api.content") + site.refused("api.no_body") >= wrong.len() as u64);
    assert_eq!((site.refused("api.key"), site.refused("api.route")), (2, 2));
    assert_eq!(site.refused("api.too_large"), 1);
}
