//! Sockets that are passed in.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use iotsocketd::wire::Format;
use serde_json::json;

use crate::support::{Site, eventually};

fn activate(site: &Site) {
    let sessions = site.sessions().to_string();
    let api = site.api().to_string();
    let notify = format!("NOTIFY_SOCKET={}", site.path("notify").display());
    // It starts the program at the first connection.
    let words = ["systemd-socket-activate", "-l", &sessions, "-l", &api, "-E", &notify];
    site.launch(&words);
}

#[test]
fn sessions_and_api_work_on_sockets_that_are_passed_in() {
    let site = Site::new();
    let notified = UnixDatagram::bind(site.path("notify")).unwrap();
    notified.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let pump = site.device("pump", "Devices");
    activate(&site);
    eventually("the sockets are there", || std::net::TcpStream::connect(site.api()).is_ok());
    // What connects before the program is there waits, and is served.
    let (_pump, token) = site.login_with_token(pump);
    let mut told = [0; 64];
    let len = notified.recv(&mut told).unwrap();
    assert_eq!(&told[..len], b"READY=1");
    // The socket for datagrams was not passed in, and is opened.
    site.telemetry(token, Format::Utf8, b"hello");
    eventually("the datagram is taken", || site.number("/books/received") == 1);
    assert_eq!(
        site.post("/request", &json!({"UID": "x", "Payload": "", "Format": "UTF8"})).json()["Code"],
        160
    );
}

#[test]
fn a_datagram_socket_that_is_passed_in_is_used() {
    let site = Site::new();
    let port = site.sessions().to_string();
    site.launch(&["systemd-socket-activate", "--datagram", "-l", &port]);
    // The first datagram starts it, and is not lost: it is refused for its form.
    eventually("it runs", || {
        site.datagram(b"x");
        site.log().contains("event=started")
    });
    eventually("datagrams come in", || site.refused("telemetry.length") > 0);
}

#[test]
fn a_socket_that_nothing_asks_for_is_told() {
    let site = Site::new();
    let other = format!("{}:5999", site.ip);
    site.launch(&["systemd-socket-activate", "-l", &other]);
    eventually("it is started, and says why it ends", || {
        let _started = std::net::TcpStream::connect(&other);
        site.log().contains("TCP") && site.log().contains("5999, and no `listen`")
    });
    assert_eq!(site.wait_exit(Duration::from_secs(20)).code(), Some(1));
}
