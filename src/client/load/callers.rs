//! HTTP callers as load: each has one request to an object in flight over a kept connection.

use std::time::Instant;

use async_io::Timer;

use super::pace::{Next, Pace};
use super::shared::Shared;
use super::{Api, RECONNECT_AFTER};
use crate::client::connect::Stream;
use crate::client::counters::Kind;
use crate::client::http::{Connection, HttpError, post_head};
use crate::wire::{RESPONSE_NOT_FOUND, RESPONSE_TIMED_OUT, RESPONSE_VALID, Uid};

/// Calls objects until the load ends.
pub(super) async fn live(shared: &Shared, api: &Api) {
    shared.begun.wait().await;
    let head = post_head("/request", &api.address.to_string(), api.bearer);
    let mut pace = Pace::new(shared.plan.rate.share(shared.plan.callers), Instant::now());
    while !shared.ended.is_open() {
        match Stream::open(api.address, api.tls.as_ref()).await {
            Ok(stream) => {
                if let Err(error) = call(shared, &head, &mut pace, Connection::new(stream)).await {
                    shared.counters.fail(Kind::ApiFailed, &error);
                }
            }
            Err(error) => shared.counters.fail(Kind::ApiFailed, &error),
        }
        smol::future::or(shared.ended.wait(), async {
            Timer::after(RECONNECT_AFTER).await;
        })
        .await;
    }
}

async fn call(
    shared: &Shared,
    head: &[u8],
    pace: &mut Pace,
    mut connection: Connection<Stream>,
) -> Result<(), HttpError> {
    let counters = &shared.counters;
    let mut body = Vec::new();
    while !shared.ended.is_open() {
        match pace.take(Instant::now()) {
            Next::Now => {}
            Next::At(at) => {
                Timer::at(at).await;
                continue;
            }
            Next::Never => shared.ended.wait().await,
        }
        let Some(uid) = shared.next_online() else {
            Timer::after(RECONNECT_AFTER).await;
            continue;
        };
        write_body(&mut body, uid, shared);
        let sent = Instant::now();
        counters.add(Kind::Called, 1);
        let answer = connection.post(head, &body).await?;
        if answer.status != 200 {
            return Err(HttpError::Status(answer.status));
        }
        match code(answer.body) {
            Some(RESPONSE_VALID) if contains(answer.body, shared.payload().data()) => {
                counters.calls.record(sent.elapsed());
                counters.add(Kind::Answered, 1);
            }
            Some(RESPONSE_VALID) => counters.add(Kind::CallWrong, 1),
            Some(RESPONSE_NOT_FOUND) => counters.add(Kind::CallNotFound, 1),
            Some(RESPONSE_TIMED_OUT) => counters.add(Kind::CallTimedOut, 1),
            Some(_) => counters.add(Kind::CallOtherCode, 1),
            None => return Err(HttpError::Unreadable),
        }
    }
    Ok(())
}

/// The load's payload is letters only, so nothing but the UID needs JSON's care.
fn write_body(body: &mut Vec<u8>, uid: Uid, shared: &Shared) {
    body.clear();
    body.extend_from_slice(b"{\"UID\":");
    // Writing to memory cannot fail.
    let _written = serde_json::to_writer(&mut *body, uid.as_str());
    body.extend_from_slice(b",\"Payload\":\"");
    body.extend_from_slice(shared.payload().data());
    body.extend_from_slice(b"\",\"Format\":\"ASCII\"}");
}

/// The number behind `"Code":`, without parsing the rest: callers shall cost little beside what they measure.
fn code(body: &[u8]) -> Option<u8> {
    const NAME: &[u8] = b"\"Code\":";
    let at = body.windows(NAME.len()).position(|window| window == NAME)? + NAME.len();
    let rest = body.get(at..)?.trim_ascii_start();
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    str::from_utf8(rest.get(..digits)?).ok()?.parse().ok()
}

fn contains(body: &[u8], data: &[u8]) -> bool {
    data.is_empty() || body.windows(data.len()).any(|window| window == data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_found_wherever_it_stands() {
        assert_eq!(code(br#"{"Code":0,"Payload":"x","Format":"ASCII"}"#), Some(0));
        assert_eq!(code(br#"{"Payload":null,"Format":"JSON","Code": 161}"#), Some(161));
        assert_eq!(code(br#"{"Code":256}"#), None);
        assert_eq!(code(b"{}"), None);
    }
}
