//! HTTPS with the certificates that are trusted and those that are not.

use std::io::Write;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use iotsocketd::endpoint::webhook::{Failure, Settings};

use super::authority::authority;
use super::support::*;

fn https(server: &Server, ca_pem: &[u8]) -> Settings {
    let url = format!("https://{}/hook", server.address);
    Settings { request: Some(url), ca_pem: Some(ca_pem.to_vec()), timeout: SECOND * 5, ..settings() }
}

/// Also shows that the threads' stacks suffice for a handshake without optimisation.
#[test]
fn https_with_the_configured_authority() {
    let authority = authority(&["127.0.0.1"]);
    let server = Server::start_with(Some(authority.server), |_, stream| ok(stream));
    let (pool, recorder) = start(&https(&server, &authority.pem));
    for ticket in 0..20 {
        request(&pool, 1, ticket);
    }
    let events = recorder.wait(20);
    assert!(events.iter().all(|event| matches!(event, Event::Answered(_, Ok(_)))), "{events:?}");
    assert_eq!(server.connections.load(Ordering::SeqCst), 1, "one handshake for all");
}

/// B16: without verification whoever is in between reads the central's key.
#[test]
fn a_certificate_that_is_not_trusted_gets_no_key() {
    let (right, other) = (authority(&["127.0.0.1"]), authority(&["127.0.0.1"]));
    let wrong_name = authority(&["central.example"]);
    for (config, ca) in [
        (other.server.clone(), Some(&right.pem)),
        (wrong_name.server, Some(&wrong_name.pem)),
        // The system's authorities do not know this one.
        (other.server, None),
    ] {
        let requests = Arc::new(AtomicUsize::new(0));
        let count = requests.clone();
        let server = Server::start_with(Some(config), move |_, stream| {
            count.fetch_add(1, Ordering::SeqCst);
            ok(stream)
        });
        let (pool, recorder) = start(&Settings { ca_pem: ca.cloned(), ..https(&server, b"") });
        request(&pool, 1, 1);
        assert_eq!(recorder.wait(1), [Event::Answered(1, Err(Failure::Tls))]);
        assert_eq!(requests.load(Ordering::SeqCst), 0);
        eventually("the counter", || pool.counters().request.causes.tls == 1);
    }
}

/// Plain HTTP where TLS is configured, and TLS that trickles.
#[test]
fn a_handshake_that_does_not_end_is_a_failure() {
    let plain = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = plain.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut socket in plain.incoming().map_while(Result::ok) {
            // A record head that promises much, then a byte now and then.
            let _ = socket.write_all(b"\x16\x03\x03\x3f\xff");
            while socket.write_all(b"\x02").is_ok() {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    });
    let ca = authority(&["127.0.0.1"]).pem;
    let url = format!("https://{address}/");
    let (pool, recorder) = start(&Settings { request: Some(url), ca_pem: Some(ca), ..settings() });
    let begin = Instant::now();
    request(&pool, 1, 1);
    let events = recorder.wait(1);
    assert!(matches!(events[0], Event::Answered(1, Err(_))), "{events:?}");
    assert!(begin.elapsed() < SECOND * 4, "{:?}", begin.elapsed());
}
