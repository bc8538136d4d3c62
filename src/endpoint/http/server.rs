//! The sockets of the HTTPS API: places, TLS, deadlines, framing.
//!
//! One task a connection, no thread; a held call costs its connection's buffers and nothing else. What ends a
//! connection: its client, a deadline (handshake, header or idle, body, slow reader), a newcomer in need of its
//! place while it has shown no key, or the drain after its last answer.

use std::convert::Infallible;
use std::fmt;
use std::future::poll_fn;
use std::net::{IpAddr, TcpListener, TcpStream};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use async_io::Timer;
use futures_rustls::TlsAcceptor;
use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{
    AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue,
    TRANSFER_ENCODING,
};
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::{Request, Response, StatusCode};
use smol::channel::{Receiver, Sender};
use smol::future::{FutureExt, yield_now};
use smol::io::AsyncReadExt;
use smol::{Async, Executor, Task};

use super::acts::Act;
use super::api::{Api, BodySize, Decision, Expected, Head, Settings, Source};
use super::error::{ApiError, Cause};
use super::events::{EventBody, events};
use super::framing;
use super::guarded::{Guarded, Watch};
use super::head_timer::HeadTimer;
use super::messages::{Follow, Recall};
use super::reply::Reply;
use super::routes::too_large;
use crate::endpoint::admission::{Admission, Limits, Permit};
use crate::endpoint::stream::{Metered, Stream};
use crate::endpoint::tls::Certificates;
use crate::hub::heartbeats::Loop;
use crate::ingest::HEADERS;

/// Bytes of a request's header at most: more is 431. hyper's buffer of a connection holds as many.
pub const HEADER_MAX: usize = 16 * 1024;
/// What a reader of events says when it comes back.
static LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Where partner networks bring messages.
const INGEST: &str = "/v1/ingest/";
const COMMANDS: &str = "/v1/commands";
/// Pause after a failed accept: without descriptors it would fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// After a refusal the client may still be sending; closing on unread bytes would tear the answer away from it.
/// So long and so many bytes are read and thrown away.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 1 << 20;

/// The listening API. Dropping it stops the listening; connections go on.
pub struct Server {
    accepting: Option<Task<()>>,
    drain: Sender<Infallible>,
    is_leaving: Arc<AtomicBool>,
    admission: Admission,
}

#[derive(Clone)]
struct Shared {
    executor: Arc<Executor<'static>>,
    api: Arc<Api>,
    admission: Admission,
    certificates: Arc<Certificates>,
    /// Closed when the server drains.
    drain: Receiver<Infallible>,
    /// Every answer is the last one of its connection.
    is_leaving: Arc<AtomicBool>,
}

impl Server {
    /// Starts to accept on this listener: HTTPS with these certificates, plain HTTP if the settings say so.
    pub fn start(
        executor: &Arc<Executor<'static>>,
        listener: Async<TcpListener>,
        certificates: Arc<Certificates>,
        admission: Admission,
        api: Arc<Api>,
    ) -> Self {
        let (drain, draining) = smol::channel::bounded(1);
        let executor = Arc::clone(executor);
        let is_leaving = Arc::<AtomicBool>::default();
        let shared = Shared {
            executor,
            api,
            admission: admission.clone(),
            certificates,
            drain: draining,
            is_leaving: Arc::clone(&is_leaving),
        };
        let accepting = shared.executor.clone().spawn(async move {
            let api = Arc::clone(&shared.api);
            match api.heartbeats() {
                Some(heartbeats) => heartbeats.during(Loop::Api, accept(listener, shared)).await,
                None => accept(listener, shared).await,
            }
        });
        Self { accepting: Some(accepting), drain, is_leaving, admission }
    }

    /// Stops listening, and tells clients with their next answer that their connections close. Who is closed while idle may
    /// just be asking something.
    pub fn say_goodbye(&mut self) {
        self.accepting = None;
        self.is_leaving.store(true, Ordering::Relaxed);
    }

    /// Stops listening; idle connections close now, the others after their answer.
    pub fn drain(&mut self) {
        self.accepting = None;
        self.drain.close();
    }

    /// Takes up changed bounds.
    pub fn set_limits(&self, limits: Limits) {
        self.admission.set_limits(limits);
    }

    /// Connections that are open.
    pub fn connections(&self) -> usize {
        self.admission.connections()
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").finish_non_exhaustive()
    }
}

async fn accept(listener: Async<TcpListener>, shared: Shared) {
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                shared.api.refusals.note(Cause::Accept, &"none", &error);
                Timer::after(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let peer = peer.ip().to_canonical();
        match shared.admission.enter(peer, Instant::now()) {
            Ok(permit) => {
                let connection = serve(shared.clone(), stream, peer, permit);
                // The task ends by its own deadlines, and its number is bounded by the permits.
                shared.executor.spawn(connection).detach();
            }
            Err(refusal) => shared.api.refusals.note(Cause::Full, &peer, &refusal),
        }
        // Whoever was pushed out closes before the next one comes, or descriptors would add up.
        yield_now().await;
    }
}

async fn serve(shared: Shared, socket: Async<TcpStream>, peer: IpAddr, permit: Permit) {
    // Answers are written whole; waiting for more to send would only delay them.
    let _best_effort = socket.get_ref().set_nodelay(true);
    let settings = shared.api.settings();
    let socket = Metered::new(socket);
    let stream = if settings.tls {
        // In a box of its own: the handshake's buffers are gone before the first request.
        let handshake = Box::pin(TlsAcceptor::from(shared.certificates.api()).accept(socket));
        match until_evicted(&permit, within(settings.header_timeout, handshake)).await {
            Some(Some(Ok(tls))) => Stream::Tls(Box::new(tls)),
            Some(Some(Err(error))) => return shared.api.refusals.note(Cause::Handshake, &peer, &error),
            Some(None) => {
                return shared.api.refusals.note(Cause::Handshake, &peer, &"it did not end in time");
            }
            None => return note_pushed_out(&shared.api, peer),
        }
    } else {
        Stream::Plain(socket)
    };
    Box::pin(serve_http(shared, settings, stream, peer, permit)).await;
}

async fn serve_http(shared: Shared, settings: Arc<Settings>, stream: Stream, peer: IpAddr, permit: Permit) {
    let Shared { api, admission, drain, is_leaving, .. } = shared;
    let watch = Arc::new(Watch::new(permit));
    let io = Guarded::new(stream, Arc::clone(&watch), settings.write_timeout);
    let mut builder = http1::Builder::new();
    builder
        .timer(HeadTimer::default())
        .header_read_timeout(settings.header_timeout)
        .max_header_size(HEADER_MAX)
        .max_buf_size(HEADER_MAX);
    drop(settings);
    let service = {
        let (api, watch, drain) = (Arc::clone(&api), Arc::clone(&watch), drain.clone());
        hyper::service::service_fn(move |request| {
            let (api, watch, drain) = (Arc::clone(&api), Arc::clone(&watch), drain.clone());
            let (admission, is_leaving) = (admission.clone(), Arc::clone(&is_leaving));
            Box::pin(async move {
                let mut response = respond(&api, &watch, &admission, drain, peer, request).await;
                if is_leaving.load(Ordering::Relaxed) {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(response)
            })
        })
    };
    let mut connection = builder.serve_connection(io, service);
    let mut drained = pin!(drain.recv());
    let mut is_draining = false;
    let ended = poll_fn(|context| {
        if watch.permit.poll_evicted(context).is_ready() {
            return Poll::Ready(None);
        }
        if !is_draining && drained.as_mut().poll(context).is_ready() {
            is_draining = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
        Pin::new(&mut connection).poll(context).map(Some)
    })
    .await;
    let is_refused_by_parser = match ended {
        None => return note_pushed_out(&api, peer),
        Some(Ok(())) => false,
        Some(Err(error)) => note_end(&api, &watch, peer, &error),
    };
    if is_refused_by_parser || watch.is_body_unread.load(Ordering::Relaxed) {
        // A newcomer may have the place at once.
        until_evicted(&watch.permit, linger(connection.into_parts().io.into_stream())).await;
    }
}

/// Counts why a connection ended early. `true`: hyper answered what it could not parse.
fn note_end(api: &Api, watch: &Watch, peer: IpAddr, error: &hyper::Error) -> bool {
    if error.is_parse() {
        api.refusals.note(Cause::Parser, &peer, error);
        return true;
    }
    if watch.is_slow_reader.load(Ordering::Relaxed) {
        api.refusals.note(Cause::SlowReader, &peer, &"the answer was not taken in time");
    } else if error.is_timeout() {
        // An idle client meets this deadline too: no line in the log for each.
        api.refusals.count(Cause::SlowHeader);
    }
    false
}

fn note_pushed_out(api: &Api, peer: IpAddr) {
    api.refusals.note(Cause::PushedOut, &peer, &"it had shown no key and others came");
}

/// Lets the client finish sending, so that it reads its answer instead of an error.
async fn linger(mut stream: Stream) {
    let discard = async {
        let mut buffer = [0; 1024];
        let mut left = LINGER_BYTES;
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            match left.checked_sub(count) {
                Some(rest) => left = rest,
                None => break,
            }
        }
    };
    within(LINGER, discard).await;
}

/// A request that was read to its end.
enum Ready {
    Reply(Reply),
    Finish(Expected, Bytes),
    Recall(Recall),
    Follow(Follow),
    Act(Act),
}

/// An answer that is there, or one that goes on.
enum Answer {
    Whole(Reply),
    Events(EventBody),
}

type AnswerBody = Either<Full<Bytes>, EventBody>;

async fn respond(
    api: &Arc<Api>,
    watch: &Watch,
    admission: &Admission,
    drain: Receiver<Infallible>,
    peer: IpAddr,
    request: Request<Incoming>,
) -> Response<AnswerBody> {
    let (head, mut body) = request.into_parts();
    let judged = judge(api, watch, admission, peer, &head, &body);
    // Held calls keep nothing of their request: its head and body share hyper's buffer.
    drop(head);
    let ready = match judged {
        Ok(Decision::Body(expected)) => {
            let timeout = api.settings().body_timeout;
            // Not in chunks.
            let is_as_it_came = body.size_hint().exact().is_some();
            match read_body(&mut body, &expected, timeout).await {
                Ok(whole) => {
                    if is_as_it_came {
                        watch.take_body(&whole);
                    }
                    Ok(Ready::Finish(expected, whole))
                }
                Err(error) => {
                    api.audit_body(&expected, &error);
                    Err(error)
                }
            }
        }
        Ok(Decision::Reply(reply)) => Ok(Ready::Reply(reply)),
        Ok(Decision::Recall(recall)) => Ok(Ready::Recall(recall)),
        Ok(Decision::Follow(follow)) => Ok(Ready::Follow(follow)),
        Ok(Decision::Act(act)) => Ok(Ready::Act(act)),
        Err(error) => Err(error),
    };
    // What follows an unread body cannot be told from it.
    let is_unread = ready.is_err() && !body.is_end_stream();
    drop(body);
    let replied = match ready {
        Ok(Ready::Reply(reply)) => Ok(Answer::Whole(reply)),
        Ok(Ready::Finish(expected, whole)) => api.finish(expected, whole).await.map(Answer::Whole),
        Ok(Ready::Recall(recall)) => recall_until(api, recall, &drain).await.map(Answer::Whole),
        Ok(Ready::Act(act)) => act.run(api).await.map(Answer::Whole),
        Ok(Ready::Follow(follow)) => events(api, follow, drain, peer).await.map(Answer::Events),
        Err(error) => Err(error),
    };
    let error = match replied {
        Ok(Answer::Whole(reply)) => return response(reply, false),
        Ok(Answer::Events(body)) => return event_response(body),
        Err(error) => error,
    };
    api.refusals.note(error.cause, &peer, &error.sentence);
    if error.cause == Cause::Key {
        // Only what fails is slowed down.
        let delay = admission.fail(peer, Instant::now());
        if !delay.is_zero() {
            Timer::after(delay).await;
        }
    }
    if is_unread {
        watch.is_body_unread.store(true, Ordering::Relaxed);
    }
    response(error.reply(), is_unread)
}

/// Everything that is decided before the body.
fn judge(
    api: &Api,
    watch: &Watch,
    admission: &Admission,
    peer: IpAddr,
    request: &Parts,
    body: &Incoming,
) -> Result<Decision, ApiError> {
    framing::check(request, watch)?;
    let headers = &request.headers;
    let is_chunked = headers.contains_key(TRANSFER_ENCODING);
    let has_length = headers.contains_key(CONTENT_LENGTH);
    if has_length {
        watch.take_content_length();
    }
    let value = |name: &HeaderName| headers.get(name).map(HeaderValue::as_bytes);
    let value_of = |name: &str| headers.get(name).map(HeaderValue::as_bytes);
    let size = match body.size_hint().exact() {
        Some(0) if !has_length && !is_chunked => BodySize::Absent,
        Some(length) => BodySize::Known(length),
        None => BodySize::Chunked,
    };
    // Few ask for something in headers of their own, and only where they bring messages.
    let path = request.uri.path();
    let has_some = || headers.keys().any(|name| HEADERS.contains(&name.as_str()));
    let fields: Vec<(&str, &[u8])> = match (path.starts_with(INGEST) || path == COMMANDS) && has_some() {
        true => HEADERS.iter().filter_map(|name| Some((*name, value_of(name)?))).collect(),
        false => Vec::new(),
    };
    let head = Head {
        method: request.method.as_str(),
        path,
        query: request.uri.query().unwrap_or_default(),
        authorization: value(&AUTHORIZATION),
        content_type: value(&CONTENT_TYPE),
        last_event_id: value(&LAST_EVENT_ID),
        headers: &fields,
        body: size,
    };
    let judgement = api.judge(&head, Source::Network(peer));
    if judgement.key.is_some() && !watch.permit.is_authenticated() && watch.permit.authenticated() {
        admission.succeed(peer);
    }
    judgement.outcome
}

/// The whole body, at most so large, in time.
async fn read_body(body: &mut Incoming, expected: &Expected, timeout: Duration) -> Result<Bytes, ApiError> {
    let read = async {
        let mut whole = Bytes::new();
        let mut parts = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame =
                frame.map_err(|error| ApiError::content(format!("the body is broken off: {error}")))?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            if whole.len() + parts.len() + data.len() > expected.limit {
                return Err(too_large(expected.limit));
            }
            if whole.is_empty() && parts.is_empty() {
                // Most bodies come in one piece, which is not copied.
                whole = data;
            } else {
                if parts.is_empty() {
                    parts.extend_from_slice(&std::mem::take(&mut whole));
                }
                parts.extend_from_slice(&data);
            }
        }
        Ok(if parts.is_empty() { whole } else { parts.into() })
    };
    let body = within(timeout, read)
        .await
        .unwrap_or_else(|| Err(ApiError::new(Cause::SlowBody, 408, "the body did not arrive in time")))?;
    if body.is_empty() {
        return Err(ApiError::new(Cause::NoBody, 400, "the body is empty"));
    }
    Ok(body)
}

/// A page, which waits for its first message as long as its asker wants, or until the server drains.
async fn recall_until(api: &Api, recall: Recall, drain: &Receiver<Infallible>) -> Result<Reply, ApiError> {
    let wait = recall.wait;
    let late = async {
        Timer::after(wait).await;
    };
    let drained = async {
        let _closed = drain.recv().await;
    };
    api.recall(recall, late.or(drained)).await
}

fn event_response(body: EventBody) -> Response<AnswerBody> {
    let mut response = Response::new(Either::Right(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn response(reply: Reply, close: bool) -> Response<AnswerBody> {
    let mut response = Response::new(Either::Left(Full::new(Bytes::from(reply.body))));
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(reply.content_type));
    for &(name, value) in reply.header.iter().chain(reply.headers) {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if close {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The future's output, or `None` after so long. The timer is made only if the future has to wait.
async fn within<T>(timeout: Duration, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let first = poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await;
    match first {
        Poll::Ready(output) => Some(output),
        Poll::Pending => {
            let late = async {
                Timer::after(timeout).await;
                None
            };
            async { Some(future.await) }.or(late).await
        }
    }
}

/// The future's output, or `None` if the place is given away meanwhile.
async fn until_evicted<T>(permit: &Permit, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    poll_fn(|context| {
        if permit.poll_evicted(context).is_ready() {
            return Poll::Ready(None);
        }
        future.as_mut().poll(context).map(Some)
    })
    .await
}
