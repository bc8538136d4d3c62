//! A simulated central: two webhooks on loopback that answer every request and count telemetry.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use smol::channel::{Receiver, Sender};
use smol::{Async, LocalExecutor};
use smol_hyper::rt::FuturesIo;

use crate::cli::Failure;
use crate::client::{Counters, Kind};

/// What it answers objects.
const ANSWER: &str = r#"{"Code":0,"Payload":{"seen":true},"Format":"JSON"}"#;

/// The simulated central's HTTP server, on a thread of its own.
pub struct Central {
    address: SocketAddr,
    counters: Arc<OnceLock<Arc<Counters>>>,
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Central {
    /// Starts to listen on a port that the system chooses.
    pub fn start() -> Result<Self, Failure> {
        let failed =
            |error: std::io::Error| Failure::Failed(format!("the simulated central cannot start: {error}"));
        let listener = Async::<TcpListener>::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
        let address = listener.get_ref().local_addr().map_err(failed)?;
        let counters = Arc::new(OnceLock::new());
        let (stop, stopped) = smol::channel::bounded(1);
        let thread = {
            let counters = Arc::clone(&counters);
            std::thread::Builder::new()
                .name("demo-central".to_owned())
                .spawn(move || serve(&listener, &counters, &stopped))
                .map_err(failed)?
        };
        Ok(Self { address, counters, stop, thread })
    }

    /// Where its webhooks are.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Counts the telemetry that arrives from now on.
    pub fn count_into(&self, counters: Arc<Counters>) {
        let _only_once = self.counters.set(counters);
    }

    /// Ends it.
    pub fn stop(self) {
        self.stop.close();
        let _ended = self.thread.join();
    }
}

fn serve(listener: &Async<TcpListener>, counters: &OnceLock<Arc<Counters>>, stopped: &Receiver<()>) {
    let executor = LocalExecutor::new();
    let accept = async {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = service_fn(move |request: Request<Incoming>| async move {
                Ok::<_, Infallible>(answer(request, counters).await)
            });
            let connection = http1::Builder::new().serve_connection(FuturesIo::new(stream), answer);
            executor
                .spawn(async move {
                    // The concentrator closes idle connections as it likes.
                    let _closed = connection.await;
                })
                .detach();
        }
    };
    smol::block_on(executor.run(smol::future::or(accept, async {
        let _closed = stopped.recv().await;
    })));
}

async fn answer(request: Request<Incoming>, counters: &OnceLock<Arc<Counters>>) -> Response<Full<Bytes>> {
    let is_telemetry = request.uri().path() == "/telemetry";
    // Read to its end, or the connection could not be used again.
    let _body = request.into_body().collect().await;
    let body = if is_telemetry {
        if let Some(counters) = counters.get() {
            counters.add(Kind::TelemetryReceived, 1);
        }
        ""
    } else {
        ANSWER
    };
    Response::new(Full::new(Bytes::from_static(body.as_bytes())))
}
