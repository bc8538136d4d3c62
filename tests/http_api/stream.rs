//! The stream of messages, as a client of Server-Sent Events sees it.

use std::io::Write;
use std::time::{Duration, Instant};

use iotsocketd::endpoint::http::Cause;
use iotsocketd::hub::history::HistoryError;
use iotsocketd::wire::Format;
use serde_json::Value;

use super::fake_history::{id, message};
use super::world::*;

/// A client that reads a stream's chunks as text.
struct Reader {
    client: Client,
    text: String,
}

impl Reader {
    fn open(world: &World, query: &str, header: &str) -> Self {
        let mut client = world.connect();
        client.send(format!(
            "GET /v1/stream?{query} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer aa11\r\n{header}\r\n"
        ));
        let head = client.receive();
        assert_eq!((head.status, head.headers["content-type"].as_str()), (200, "text/event-stream"));
        let mut reader = Self { client, text: String::new() };
        assert_eq!(reader.block(), "retry: 1000", "the first words come at once");
        reader
    }

    /// The next lines up to an empty one.
    fn block(&mut self) -> String {
        loop {
            if let Some(end) = self.text.find("\n\n") {
                let block = self.text[..end].to_owned();
                self.text.drain(..end + 2);
                return block;
            }
            assert!(self.chunk(), "the stream ended");
        }
    }

    /// `false`: that was the last.
    fn chunk(&mut self) -> bool {
        let length = usize::from_str_radix(&self.client.line(), 16).unwrap();
        while self.client.read.len() < length + 2 {
            assert!(self.client.more() > 0);
        }
        let chunk: Vec<u8> = self.client.read.drain(..length + 2).take(length).collect();
        self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        length > 0
    }

    /// The next event's id and message; comments are skipped.
    fn event(&mut self) -> (u64, Value) {
        loop {
            let block = self.block();
            if block == ":" {
                continue;
            }
            let (id, data) = block.split_once('\n').expect(&block);
            let data = data.strip_prefix("data: ").unwrap();
            return (id.strip_prefix("id: ").unwrap().parse().unwrap(), serde_json::from_str(data).unwrap());
        }
    }

    fn seqs(&mut self, count: usize) -> Vec<u64> {
        (0..count)
            .map(|_| {
                let (id, message) = self.event();
                assert_eq!(message["seq"], id);
                id
            })
            .collect()
    }

    fn ends(&mut self) {
        while self.chunk() {}
    }
}

#[test]
fn a_stream_gives_what_was_and_then_what_comes() {
    let world = world();
    world.history.grow(250);
    let mut reader = Reader::open(&world, "", "");
    assert_eq!(reader.seqs(250), (1..=250).collect::<Vec<_>>());
    world.history.await_waiting(PATIENCE);
    world.history.grow(2);
    assert_eq!(reader.seqs(2), [251, 252]);
    let mut filtered = Reader::open(&world, "after=240&uid=o0&kind=telemetry", "");
    assert_eq!(filtered.seqs(4), [243, 246, 249, 252]);
}

#[test]
fn a_reader_that_comes_back_goes_on_behind_what_it_has() {
    let world = world();
    world.history.grow(9);
    assert_eq!(Reader::open(&world, "", "Last-Event-ID: 7\r\n").seqs(2), [8, 9]);
    let by_id = format!("Last-Event-ID: {}\r\n", id(8));
    assert_eq!(Reader::open(&world, "after=2", &by_id).seqs(1), [9], "the header is the newer one");
    assert_eq!(Reader::open(&world, "after=8", "Last-Event-ID: \r\n").seqs(1), [9]);
    let refused = |token: &str, last: &str| {
        world.ask(&format!(
            "GET /v1/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nLast-Event-ID: {last}\r\n\r\n"
        ))
    };
    assert_eq!(refused("aa11", &id(77).to_string()).status, 404);
    assert_eq!(refused("bb22", &id(1).to_string()).status, 404, "of another group");
    assert!(refused("aa11", "x").error().contains("\"Last-Event-ID\""));
    assert!(world.get("/v1/stream?after=x", "aa11").error().contains("\"after\""));
}

#[test]
fn a_message_is_one_event_whatever_its_payload() {
    let world = world();
    let mut lines = message(1);
    lines.payload = b"{\"a\":\r\n\n [1,\r2]}".to_vec();
    let mut text = message(2);
    (text.format, text.payload) = (Format::Utf8, "id: 9\n\ndata: x\r\u{2028}".into());
    world.history.append([lines, text]);
    let mut reader = Reader::open(&world, "", "");
    assert_eq!(reader.event().1["payload"]["a"], serde_json::json!([1, 2]));
    assert_eq!(reader.event().1["payload"], "id: 9\n\ndata: x\r\u{2028}");
}

#[test]
fn a_silent_stream_says_that_it_lives() {
    let mut short = settings();
    short.max_wait = SHORT;
    let world = world_with(short, limits());
    let mut reader = Reader::open(&world, "", "");
    assert_eq!([reader.block(), reader.block()], [":", ":"]);
    world.history.grow(1);
    assert_eq!(reader.seqs(1), [1]);
}

#[test]
fn a_stream_outlasts_a_history_that_serves_others_first() {
    let world = world();
    let mut reader = Reader::open(&world, "", "");
    world.history.await_waiting(PATIENCE);
    world.history.fail(HistoryError::Busy);
    let asked = world.history.pages();
    world.history.grow(2);
    world.history.await_asked(asked, PATIENCE);
    world.history.recover();
    assert_eq!(reader.seqs(2), [1, 2]);
}

#[test]
fn streams_end_with_the_drain_with_new_settings_and_with_the_history() {
    let mut world = world();
    let mut reader = Reader::open(&world, "", "");
    world.history.await_waiting(PATIENCE);
    world.server.drain();
    reader.ends();
    assert!(reader.client.is_closed());

    let world = world_with(settings(), limits());
    let mut reader = Reader::open(&world, "", "");
    world.history.await_waiting(PATIENCE);
    // Its key may be gone: nothing more is told before it was shown anew.
    world.api.set_settings(settings());
    world.history.grow(1);
    reader.ends();
    assert_eq!(reader.text, "");

    let world = world_with(settings(), limits());
    let mut reader = Reader::open(&world, "", "");
    world.history.await_waiting(PATIENCE);
    world.history.fail(HistoryError::Storage("gone".to_owned()));
    world.history.grow(1);
    reader.ends();
}

/// A reader that takes nothing is dropped; meanwhile it costs no more than what waits for it.
#[test]
fn a_stream_that_is_not_read_is_dropped() {
    let mut short = settings();
    short.write_timeout = SHORT;
    let world = world_with(short, limits());
    let large = (1..=1000).map(|seq| {
        let mut large = message(seq);
        (large.format, large.payload) = (Format::Utf8, vec![b'x'; 20_000]);
        large
    });
    world.history.append(large);
    let mut client = world.connect();
    socket2::SockRef::from(&client.stream).set_recv_buffer_size(4096).unwrap();
    write!(client.stream, "GET /v1/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer aa11\r\n\r\n")
        .unwrap();
    world.await_count(Cause::SlowReader, 1);
    // Two messages make a piece. What the kernel holds of them is a few MB at most.
    assert!(world.history.pages() < 400, "{} pieces were made", world.history.pages());
}

#[test]
fn a_client_that_goes_away_is_no_stream_any_more() {
    let world = world();
    let reader = Reader::open(&world, "", "");
    world.history.await_waiting(PATIENCE);
    assert_eq!(world.server.connections(), 1);
    drop(reader);
    let begun = Instant::now();
    while world.server.connections() > 0 {
        assert!(begun.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(1));
    }
}
