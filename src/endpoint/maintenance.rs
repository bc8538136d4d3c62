//! The maintenance socket: a plain synchronous server on a Unix socket and a thread of its own, outside the
//! executor. It answers when everything else is stuck, and nothing from the network may ever reach it. Whoever may
//! open the socket (its owner and group) has every right.
//!
//! What has to be read from the journal may take a while, or hang with the medium: a second thread waits for it, and a third
//! one for what has to be done. A copy of everything takes longer still, and hangs with whoever takes it: a fourth one hands
//! it out, one at a time.

use std::fmt;
use std::io::{self, Cursor, ErrorKind, Read, Write as _};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{fs, future};

use async_io::Timer;
use smol::future::FutureExt;
use tiny_http::{Header, Request, Response};

use super::http::acts::Act;
use super::http::api::{Api, BodySize, Decision, Head, Source};
use super::http::{ApiError, Cause, Recall, Reply};
use super::local_requests::LocalRequests;
use crate::logfmt::Quoted;

/// Owner and group.
const MODE: u32 = 0o660;
/// Commands that wait for their turn.
const BACKLOG: i32 = 16;
/// Questions to the journal that wait for their turn.
const RECALLS_MAX: usize = 8;
/// What is to be done and waits for its turn.
const ERRANDS_MAX: usize = 8;
/// What is asked for a copy of everything, and bytes of it that are handed out at a time.
const COPY_PATH: &str = "/v1/backup";
const COPY_CHUNK: usize = 256 * 1024;
/// Where new versions are uploaded.
pub const UPGRADE_PATH: &str = "/v1/upgrade";
/// Where the running one is asked to show that it works; answered as an upload is.
pub const PROVE_PATH: &str = "/v1/prove";
/// Bytes of an upload at most: a version, its signature, and a little more.
const UPLOAD_MAX: u64 = 40 << 20;
/// What lines of the answer to an upload begin with that say how far it is.
pub const UPGRADE_STEP: &str = "step: ";
/// What the last one begins with when the version is in force.
pub const UPGRADE_DONE: &str = "done: ";
/// What the last one begins with when it is not.
pub const UPGRADE_FAILED: &str = "failed: ";
/// How long the journal may take for one.
const RECALL_TIMEOUT: Duration = Duration::from_secs(30);

/// The listening socket. Dropping it ends the thread and takes the socket's file away.
pub struct Maintenance {
    requests: Arc<LocalRequests>,
    is_ending: Arc<AtomicBool>,
    /// Closed, it interrupts what waits for the journal.
    ending: smol::channel::Sender<()>,
    threads: Vec<JoinHandle<()>>,
}

/// What answers `GET /v1/backup`.
pub trait Copies: Send + Sync + 'static {
    /// Begins a copy of journal, access list and tokens as of now; the sentence says why there is none.
    fn begin(&self) -> Result<CopyStream, String>;
}

/// What answers `POST /v1/upgrade` and `POST /v1/prove`.
pub trait Uploads: Send + Sync + 'static {
    /// Takes an uploaded version, says how far it is, and gives the verdict.
    fn take(&self, upload: &mut dyn Read, say: &mut dyn FnMut(&str)) -> Result<String, String>;
    /// Shows that the running version works, or says what does not.
    fn prove(&self, say: &mut dyn FnMut(&str)) -> Result<String, String>;
}

/// A copy, byte by byte.
pub struct CopyStream {
    /// How many there are. If there are fewer it is not whole.
    pub len: u64,
    /// They.
    pub bytes: Box<dyn Read + Send>,
}

impl fmt::Debug for CopyStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CopyStream({} bytes)", self.len)
    }
}

/// A question to the journal, and who asks.
struct Question {
    request: Request,
    recall: Recall,
}

/// Something that is to be done, and who asks.
struct Errand {
    request: Request,
    act: Act,
}

/// Why the socket cannot be had. Each sentence names the file.
#[derive(Debug)]
pub enum MaintenanceError {
    /// Another process answers on it.
    InUse(PathBuf),
    /// Something that is no socket stands there.
    NotASocket(PathBuf),
    /// It cannot be made.
    Io(PathBuf, io::Error),
}

impl fmt::Display for MaintenanceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse(path) => write!(
                f,
                "another iotsocketd answers on {}: stop it, or give this one a state_dir of its own",
                path.display()
            ),
            Self::NotASocket(path) => write!(
                f,
                "{} exists and is no socket: move it away, or set [maintenance] socket to another path",
                path.display()
            ),
            Self::Io(path, error) => write!(
                f,
                "the maintenance socket {} cannot be made ({error}): its folder must be there and belong to the service's user",
                path.display()
            ),
        }
    }
}

impl std::error::Error for MaintenanceError {}

impl fmt::Debug for Maintenance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Maintenance")
    }
}

impl Maintenance {
    /// Listens on this path. Without somebody who makes copies it hands none out, and takes no uploads without somebody who
    /// does.
    pub fn start(
        path: &Path,
        api: Arc<Api>,
        copies: Option<Arc<dyn Copies>>,
        uploads: Option<Arc<dyn Uploads>>,
    ) -> Result<Self, MaintenanceError> {
        let failed = |error| MaintenanceError::Io(path.to_owned(), error);
        remove_stale(path)?;
        let requests = LocalRequests::listen(bind(path).map_err(failed)?).map_err(failed)?;
        let (requests, is_ending) = (Arc::new(requests), Arc::new(AtomicBool::new(false)));
        let (questions, asked) = mpsc::sync_channel(RECALLS_MAX);
        let (errands, wanted) = mpsc::sync_channel(ERRANDS_MAX);
        let (copy_requests, copies_wanted) = mpsc::sync_channel(1);
        let is_copying = Arc::new(AtomicBool::new(false));
        let (ending, ended) = smol::channel::bounded(1);
        let reader = {
            let (api, ended) = (Arc::clone(&api), ended.clone());
            move || answer_questions(&api, &asked, &ended)
        };
        let doer = {
            let api = Arc::clone(&api);
            move || run_errands(&api, &wanted, &ended)
        };
        let is_uploading = Arc::new(AtomicBool::new(false));
        let server_thread = {
            let (requests, is_ending) = (Arc::clone(&requests), Arc::clone(&is_ending));
            let is_copying = Arc::clone(&is_copying);
            move || {
                while !is_ending.load(Ordering::Relaxed) {
                    match requests.next() {
                        Some(request) if request.url() == COPY_PATH => {
                            api.audit_operator("GET", COPY_PATH);
                            want_copy(request, &copy_requests, &is_copying);
                        }
                        Some(request) if [UPGRADE_PATH, PROVE_PATH].contains(&request.url()) => {
                            want_upload(request, uploads.as_ref(), &is_uploading);
                        }
                        Some(request) => answer(&api, request, &questions, &errands),
                        None => {}
                    }
                }
            }
        };
        let spawn = |name: &str| thread::Builder::new().name(name.to_owned());
        let threads = vec![
            spawn("maintenance").spawn(server_thread).map_err(failed)?,
            spawn("recall").spawn(reader).map_err(failed)?,
            spawn("errands").spawn(doer).map_err(failed)?,
        ];
        if let Some(copies) = copies {
            let is_ending = Arc::clone(&is_ending);
            let hand_out = move || {
                while let Ok(request) = copies_wanted.recv() {
                    hand_out_copy(&*copies, request, &is_ending, &is_copying);
                }
            };
            // Not waited for at the end: whoever takes a copy may have stopped taking it.
            let _detached = spawn("copies").spawn(hand_out).map_err(failed)?;
        }
        Ok(Self { requests, is_ending, ending, threads })
    }
}

impl Drop for Maintenance {
    fn drop(&mut self) {
        self.is_ending.store(true, Ordering::Relaxed);
        self.ending.close();
        self.requests.interrupt();
        for thread in self.threads.drain(..) {
            // A panic of that thread was told when it happened.
            let _ended = thread.join();
        }
    }
}

/// Takes a socket away that a killed process left behind.
fn remove_stale(path: &Path) -> Result<(), MaintenanceError> {
    let failed = |error| MaintenanceError::Io(path.to_owned(), error);
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(MaintenanceError::NotASocket(path.to_owned()));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(failed),
        Err(error) => Err(failed(error)),
        Ok(_) => Err(MaintenanceError::InUse(path.to_owned())),
    }
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
    socket.bind(&socket2::SockAddr::unix(path)?)?;
    // Nobody can connect before it listens, so nobody slips in before the mode is right.
    fs::set_permissions(path, fs::Permissions::from_mode(MODE))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn answer(api: &Api, request: Request, questions: &SyncSender<Question>, errands: &SyncSender<Errand>) {
    let reply = match judge(api, &request) {
        Ok(Decision::Reply(reply)) => reply,
        Ok(Decision::Recall(recall)) => match questions.try_send(Question { request, recall }) {
            Ok(()) => return,
            Err(mpsc::TrySendError::Full(question) | mpsc::TrySendError::Disconnected(question)) => {
                return respond(question.request, no_answer("too many read the journal at the moment"));
            }
        },
        Ok(Decision::Act(act)) => match errands.try_send(Errand { request, act }) {
            Ok(()) => return,
            Err(mpsc::TrySendError::Full(errand) | mpsc::TrySendError::Disconnected(errand)) => {
                return respond(errand.request, no_answer("too much is to be done at the moment"));
            }
        },
        // Calls and streams would be held, and this thread serves everybody.
        Ok(Decision::Body(_)) => ApiError::new(Cause::Route, 405, "this socket takes no bodies").reply(),
        Ok(Decision::Follow(_)) => {
            ApiError::new(Cause::Route, 404, "this socket has no stream: ask for /v1/messages").reply()
        }
        Err(error) => error.reply(),
    };
    respond(request, reply);
}

fn judge(api: &Api, request: &Request) -> Result<Decision, ApiError> {
    let (path, query) = request.url().split_once('?').unwrap_or((request.url(), ""));
    let head = Head {
        method: request.method().as_str(),
        path,
        query,
        authorization: None,
        content_type: None,
        last_event_id: None,
        headers: &[],
        body: BodySize::Absent,
    };
    api.judge(&head, Source::Local).outcome
}

/// Until nobody can ask any more.
fn answer_questions(api: &Api, asked: &Receiver<Question>, ended: &smol::channel::Receiver<()>) {
    while let Ok(Question { request, recall }) = asked.recv() {
        // Nothing waits for what is still to come: others have their questions, too.
        let recalled = api.recall(recall, future::ready(()));
        let late = async {
            Timer::after(RECALL_TIMEOUT).await;
            Ok(no_answer("the journal did not answer in time"))
        };
        let ending = async {
            let _closed = ended.recv().await;
            Ok(no_answer("the concentrator is stopping"))
        };
        let reply = smol::block_on(recalled.or(late).or(ending)).unwrap_or_else(|error| error.reply());
        respond(request, reply);
    }
}

/// Until nobody can ask any more. It takes as long as it takes.
fn run_errands(api: &Api, wanted: &Receiver<Errand>, ended: &smol::channel::Receiver<()>) {
    while let Ok(Errand { request, act }) = wanted.recv() {
        let ending = async {
            let _closed = ended.recv().await;
            Ok(no_answer("the concentrator is stopping"))
        };
        let reply = smol::block_on(act.run(api).or(ending)).unwrap_or_else(|error| error.reply());
        respond(request, reply);
    }
}

/// Has the copy made, unless one is under way, or nobody makes any.
fn want_copy(request: Request, wanted: &SyncSender<Request>, is_copying: &AtomicBool) {
    if is_copying.swap(true, Ordering::Relaxed) {
        return respond(request, no_answer("another backup is under way: wait for its end"));
    }
    match wanted.try_send(request) {
        Ok(()) => {}
        Err(mpsc::TrySendError::Full(request) | mpsc::TrySendError::Disconnected(request)) => {
            is_copying.store(false, Ordering::Relaxed);
            respond(request, ApiError::new(Cause::Route, 404, "no copies are made here").reply());
        }
    }
}

fn hand_out_copy(copies: &dyn Copies, request: Request, is_ending: &AtomicBool, is_copying: &AtomicBool) {
    let CopyStream { len, mut bytes } = match copies.begin() {
        Ok(stream) => stream,
        Err(sentence) => {
            is_copying.store(false, Ordering::Relaxed);
            return respond(request, ApiError::new(Cause::Storage, 503, sentence).reply());
        }
    };
    // Not as a response of the server, which knows no length beyond the machine's word.
    let mut writer = request.into_writer();
    let head =
        format!("HTTP/1.0 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {len}\r\n\r\n");
    let mut chunk = vec![0; COPY_CHUNK];
    let mut hand_out = || {
        writer.write_all(head.as_bytes())?;
        loop {
            let read = bytes.read(&mut chunk)?;
            if read == 0 || is_ending.load(Ordering::Relaxed) {
                return writer.flush();
            }
            writer.write_all(chunk.get(..read).unwrap_or_default())?;
        }
    };
    // Cut short, it is no copy: whoever takes it counts, and checks it.
    if let Err(error) = hand_out() {
        log::warn!("event=backup_cut_short error={}", Quoted(error));
    }
    // Before its end can be seen, so that the next one finds nobody in its way.
    is_copying.store(false, Ordering::Relaxed);
}

/// Takes an upload on a thread of its own, which lives on until the verdict, whatever becomes of this server.
fn want_upload(request: Request, uploads: Option<&Arc<dyn Uploads>>, is_uploading: &Arc<AtomicBool>) {
    let Some(uploads) = uploads.cloned() else {
        return respond(request, no_answer("this concentrator takes no new versions"));
    };
    if is_uploading.swap(true, Ordering::Relaxed) {
        return respond(request, no_answer("another version is just being taken"));
    }
    let is_uploading = Arc::clone(is_uploading);
    let take = move || {
        if let Err(error) = take_upload(request, &*uploads) {
            log::warn!("event=upgrade_not_watched error={}", Quoted(error));
        }
        is_uploading.store(false, Ordering::Relaxed);
    };
    if let Err(error) = thread::Builder::new().name("upload".to_owned()).spawn(take) {
        log::error!("event=upgrade_not_taken error={}", Quoted(error));
    }
}

/// The answer is one line for each step, and one for the verdict.
fn take_upload(mut request: Request, uploads: &dyn Uploads) -> io::Result<()> {
    let mut body = Vec::new();
    request.as_reader().take(UPLOAD_MAX).read_to_end(&mut body)?;
    let is_proof = request.url() == PROVE_PATH;
    let mut writer = request.into_writer();
    writer.write_all(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n")?;
    let mut line = |kind: &str, sentence: &str| {
        writer.write_all(format!("{kind}{}\n", sentence.replace('\n', "; ")).as_bytes())?;
        writer.flush()
    };
    let mut say = |step: &str| {
        // Whoever watched may be gone; it goes on.
        let _gone = line(UPGRADE_STEP, step);
    };
    let verdict =
        if is_proof { uploads.prove(&mut say) } else { uploads.take(&mut body.as_slice(), &mut say) };
    match verdict {
        Ok(sentence) => line(UPGRADE_DONE, &sentence),
        Err(sentence) => line(UPGRADE_FAILED, &sentence),
    }
}

fn no_answer(sentence: &'static str) -> Reply {
    ApiError::new(Cause::Storage, 503, sentence).reply()
}

fn respond(request: Request, reply: Reply) {
    let headers = [("content-type", reply.content_type)]
        .into_iter()
        .chain(reply.header)
        .chain(reply.headers.iter().copied())
        .filter_map(|(name, value)| Header::from_bytes(name, value).ok())
        .collect();
    let length = reply.body.len();
    let response = Response::new(reply.status.into(), headers, Cursor::new(reply.body), Some(length), None);
    // A command that went away needs no answer.
    let _gone = request.respond(response);
}
