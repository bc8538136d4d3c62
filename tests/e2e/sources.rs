//! Who may come from where, and which key may do what.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use iotsocketd::wire::{Format, Payload, Token};
use serde_json::json;

use crate::support::{Http, Site, eventually};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// Sends a datagram of an object from this address.
pub fn telemetry_from(site: &Site, source: IpAddr, token: Token, data: &[u8]) {
    let head = Payload::new(Format::Utf8, data).unwrap().encode_head();
    let socket = UdpSocket::bind((source, 0)).unwrap();
    socket.send_to(&[token.0.as_slice(), head.as_slice(), data].concat(), site.sessions()).unwrap();
}

#[test]
fn sessions_only_from_their_networks() {
    let site = Site::new();
    let pump = site.device("pump-1", "Devices");
    site.set("sessions", "allow_from", "[\"127.0.0.2/32\", \"::1/128\"]");
    site.start();
    assert!(site.login_as(pump, Some(HERE), Some(&site.tls()), 0).is_err());
    assert_eq!(site.refused("sessions.source"), 1);
    site.login_as(pump, Some(ELSEWHERE), Some(&site.tls()), 0).unwrap().token();
}

#[test]
fn telemetry_only_from_its_networks() {
    let site = Site::new();
    let pump = site.device("pump-1", "Devices");
    site.set("telemetry", "allow_from", "[\"127.0.0.2/32\"]");
    site.start();
    let (_object, token) = site.login_with_token(pump);
    telemetry_from(&site, HERE, token, b"from here");
    eventually("it is dropped", || site.refused("telemetry.source") == 1);
    telemetry_from(&site, ELSEWHERE, token, b"from elsewhere");
    eventually("it is taken", || site.number("/books/received") == 1);
    assert_eq!(site.login(site.central()).telemetry().1, b"from elsewhere");
}

/// B6: a token alone is worth nothing outside its group's networks.
#[test]
fn objects_of_a_group_only_from_its_networks() {
    let site = Site::new();
    let pump = site.device("pump-1", "Devices");
    let station = site.device("station", "Stations");
    site.set("groups.Devices", "allow_from", "[\"127.0.0.2/32\"]");
    site.start();
    let tls = site.tls();
    let refused = site.login_as(pump, Some(HERE), Some(&tls), 0).err().unwrap();
    assert!(matches!(refused, iotsocketd::client::LoginError::NotAccepted), "{refused}");
    assert_eq!(site.refused("sessions.login"), 1);
    site.login_as(station, Some(HERE), Some(&tls), 0).unwrap().is_alive();
    let token = site.login_as(pump, Some(ELSEWHERE), Some(&tls), 0).unwrap().token();
    telemetry_from(&site, HERE, token, b"replayed");
    eventually("it is dropped", || site.refused("telemetry.source") == 1);
    telemetry_from(&site, ELSEWHERE, token, b"good");
    eventually("it is taken", || site.number("/books/received") == 1);
}

#[test]
fn the_api_only_from_its_networks() {
    let site = Site::new();
    site.set("api", "allow_from", "[\"127.0.0.2/32\"]");
    site.start();
    // 403 before any other refusal, or no connection at all.
    let mut http = Http::connect(&site, Some(HERE));
    if let Ok(http) = &mut http
        && let Ok(reply) = http.try_call("GET", "/v1/status", b"")
    {
        assert_eq!(reply.status, 403, "{}", reply.text());
    }
    assert_eq!(site.refused("api.source_network"), 1);
    assert_eq!(Http::connect(&site, Some(ELSEWHERE)).unwrap().get("/v1/status").status, 200);
}

/// SHA-256 of a text, as hex.
fn sha256(text: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn an_api_key_has_its_rights_its_groups_and_its_networks() {
    let site = Site::new();
    let pump = site.device("pump-1", "Devices");
    site.device("station", "Stations");
    for (name, rights, rest) in [
        ("reader", "read", ""),
        ("caller", "request", "groups = [\"Devices\"]"),
        ("admin", "admin", "allow_from = [\"127.0.0.2/32\"]"),
    ] {
        site.keep_secret(format!("{name}-token-of-the-test"));
        site.append(&format!(
            "[[api.key]]\nname = \"{name}\"\nsha256 = \"{}\"\nrights = [\"{rights}\"]\n{rest}",
            sha256(&format!("{name}-token-of-the-test"))
        ));
    }
    site.start();
    let (object, _) = site.login_with_token(pump);
    let with = |name: &str, source: IpAddr| {
        let mut http = Http::connect(&site, Some(source)).unwrap();
        http.bearer = Some(format!("{name}-token-of-the-test"));
        http
    };
    let call = |uid: &str| json!({"UID": uid, "Payload": 1, "Format": "JSON", "Timeout": 1}).to_string();
    assert_eq!(with("reader", HERE).get("/v1/status").status, 200);
    assert_eq!(with("reader", HERE).post("/request", call("pump-1").as_bytes()).status, 403);
    assert_eq!(with("reader", HERE).post("/acl", b"[]").status, 403);
    assert_eq!(with("caller", HERE).get("/v1/status").status, 403);
    let other_group = with("caller", HERE).post("/request", call("station").as_bytes()).status;
    assert!([403, 404].contains(&other_group), "{other_group}");
    assert_eq!(with("caller", HERE).post("/request", call("pump-1").as_bytes()).json()["Code"], 0xA1);
    assert_eq!(with("admin", HERE).post("/acl", b"[]").status, 403);
    // An object's own key opens nothing.
    let mut http = site.http();
    http.bearer = Some(iotsocketd::hub::access_file::key_to_hex(&pump.key));
    assert_eq!(http.post("/request", call("pump-1").as_bytes()).status, 401);
    assert_eq!(with("admin", ELSEWHERE).post("/acl", b"[]").status, 200);
    drop(object);
    assert!(site.try_login(pump).is_err());
}
