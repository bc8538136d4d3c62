//! The same inside TLS.

use std::sync::Arc;

use super::world::*;
use iotsocketd::endpoint::http::Cause;
use iotsocketd::endpoint::http::api::Settings;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

fn tls_world(settings: Settings) -> (World, Arc<ClientConfig>) {
    let (certificates, pem) = fresh_certificate();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (world_of(Settings { tls: true, ..settings }, limits(), certificates), Arc::new(config))
}

#[test]
fn calls_are_answered_on_one_connection_after_the_other() {
    let (world, config) = tls_world(settings());
    let session = ClientConnection::new(config, ServerName::try_from("localhost").unwrap()).unwrap();
    let mut client = Client { stream: StreamOwned::new(session, world.connect().stream), read: Vec::new() };
    for _ in 0..3 {
        assert_eq!(client.ask(&post("/request", CENTRAL, &request_body("echo"))).status, 200);
    }
    client.send(post("/request", CENTRAL, &request_body("hold")));
    assert_eq!(world.await_held(), Held::Begun("hold".to_owned()));
    drop(client);
    assert_eq!(world.await_held(), Held::Abandoned);
}

#[test]
fn a_silent_handshake_ends_at_its_deadline_and_plain_http_is_refused() {
    let mut short = settings();
    short.header_timeout = SHORT;
    let (world, _) = tls_world(short);
    let mut silent = world.connect();
    let mut plain = world.connect();
    plain.send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(plain.is_closed());
    assert!(silent.is_closed());
    world.await_count(Cause::Handshake, 2);
}
