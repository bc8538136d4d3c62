//! Endpoints that redirect, lie, trickle or never stop sending.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use iotsocketd::endpoint::webhook::Failure;

use super::support::*;

#[test]
fn a_redirect_is_a_failure_and_is_not_followed() {
    let followed = Arc::new(AtomicUsize::new(0));
    let count = followed.clone();
    let target = Server::start(move |_, stream| {
        count.fetch_add(1, Ordering::SeqCst);
        ok(stream)
    });
    for status in [301, 302, 303, 307, 308] {
        let location = format!("Location: {}\r\n", target.url());
        let (failure, ..) = failure_of(requests_to, move |_, stream| {
            reply(stream, &format!("{status} Elsewhere"), &location, "")
        });
        assert_eq!(failure, Failure::Redirect(status));
    }
    assert_eq!(followed.load(Ordering::SeqCst), 0);
}

#[test]
fn garbage_is_no_answer() {
    let (failure, ..) = failure_of(requests_to, |_, stream| reply(stream, "200 OK", "", "hello"));
    assert_eq!(failure, Failure::Garbage);
    let (failure, ..) = failure_of(requests_to, |_, stream| reply(stream, "404 Not Found", "", "{}"));
    assert_eq!(failure, Failure::Status(404));
    let (failure, ..) = failure_of(requests_to, |_, stream| {
        stream.write_all(b"220 mail.example ESMTP\r\n\r\n")?;
        Ok(false)
    });
    assert_eq!(failure, Failure::Protocol);
    let (failure, ..) = failure_of(requests_to, |_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")?;
        Ok(false)
    });
    assert_eq!(failure, Failure::Disconnected);
    let (failure, ..) = failure_of(requests_to, |_, _| Ok(false));
    assert_eq!(failure, Failure::Disconnected);
}

#[test]
fn an_endless_head_is_cut() {
    let (failure, ..) = failure_of(requests_to, |_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n")?;
        loop {
            stream.write_all(b"X-Padding: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n")?;
        }
    });
    assert_eq!(failure, Failure::Protocol);
}

#[test]
fn a_gigabyte_is_not_read() {
    for head in ["Content-Length: 1000000000", "Transfer-Encoding: chunked", "Connection: close"] {
        let written = Arc::new(AtomicUsize::new(0));
        let count = written.clone();
        let (failure, _, server) = failure_of(requests_to, move |_, stream| {
            write!(stream, "HTTP/1.1 200 OK\r\n{head}\r\n\r\n")?;
            let chunk = [b' '; 4096];
            loop {
                if head.contains("chunked") {
                    stream.write_all(b"1000\r\n")?;
                }
                stream.write_all(&chunk)?;
                if head.contains("chunked") {
                    stream.write_all(b"\r\n")?;
                }
                count.fetch_add(chunk.len(), Ordering::SeqCst);
            }
        });
        assert_eq!(failure, Failure::TooLarge, "{head}");
        eventually("the connection is dropped", || server.open.load(Ordering::SeqCst) == 0);
        // What the sockets' buffers take, but not the gigabyte.
        assert!(written.load(Ordering::SeqCst) < 50_000_000, "{head}: {written:?} bytes");
    }
}

#[test]
fn a_body_that_trickles_ends_with_the_timeout() {
    for (head, piece) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", " "),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\n \r\n"),
        ("HTTP/1.1 200 OK\r\n", "X: y\r\n"),
        ("HTTP/1.1 500 Oops\r\nContent-Length: 1000\r\n\r\n", " "),
    ] {
        let (failure, took, server) = failure_of(requests_to, move |_, stream| {
            stream.write_all(head.as_bytes())?;
            loop {
                stream.write_all(piece.as_bytes())?;
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        let expected = if head.contains("500") { Failure::Status(500) } else { Failure::Timeout };
        assert_eq!(failure, expected, "{head}");
        assert!(took < SECOND * 4, "{head}: {took:?}");
        eventually("the connection is dropped", || server.open.load(Ordering::SeqCst) == 0);
    }
}
