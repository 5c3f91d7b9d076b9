//! Connections: how many there may be, and how long each may say nothing.
//!
//! A connection costs a file, and without files the queue can't be written. So their number stays
//! below the process's limit. Where a new one has no room, the one that has waited for a request
//! the longest makes it: whoever opens connections and says nothing keeps nobody out.
//!
//! HTTP/1.1 only. Providers and proxies speak it to every server, and of HTTP/2 nothing is needed.

use std::{
    collections::HashMap,
    convert::Infallible,
    io::ErrorKind,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body, extract::Request, response::Response};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, watch},
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use tower::ServiceExt;

use super::REQUEST_TIMEOUT;

/// How long the first request's header may take.
const HEADER: Duration = Duration::from_secs(10);

/// How long a connection is kept after an answer. Longer than proxies keep theirs (nginx and AWS's
/// load balancers: 60 seconds), so that it is they who close, and never just as they send.
const IDLE: Duration = Duration::from_secs(65);

/// The largest header, in bytes, and the buffer of a connection. An OIDC token takes 16 KiB.
const BUFFER: usize = 32 * 1024;

/// How long nothing is accepted after there was no file for it.
const PAUSE: Duration = Duration::from_millis(100);

/// The shortest time between two warnings about the number of connections.
const WARNING: Duration = Duration::from_secs(60);

/// Serves `router` to at most `limit` connections until it is told to stop, then finishes the
/// requests that were begun.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    limit: usize,
    mut stop: watch::Receiver<bool>,
) {
    let connections = Arc::new(Connections::new(limit));
    let mut open = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            Some(_) = open.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let slot = connections.enter();
                open.spawn(connection(stream, router.clone(), slot, stop.clone()));
            }
            // The peer's doing: it has gone already.
            Err(error) if is_of_the_peer(error.kind()) => {}
            Err(error) => {
                connections.warn(&format!("no connection can be accepted ({error})"));
                connections.make_room();
                sleep(PAUSE).await;
            }
        }
    }
    drop(listener);
    while open.join_next().await.is_some() {}
}

fn is_of_the_peer(kind: ErrorKind) -> bool {
    use ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(kind, ConnectionAborted | ConnectionRefused | ConnectionReset)
}

async fn connection(
    stream: TcpStream,
    router: Router,
    slot: Slot,
    mut stop: watch::Receiver<bool>,
) {
    let state = Arc::clone(&slot.state);
    let service = service_fn(move |request: Request<Incoming>| {
        let (router, busy) = (router.clone(), Busy::begin(&state));
        async move {
            let answer: Result<Response, Infallible> = router.oneshot(request.map(Body::new)).await;
            drop(busy);
            answer
        }
    });
    let http =
        http1::Builder::new().max_buf_size(BUFFER).serve_connection(TokioIo::new(stream), service);
    let mut http = pin!(http);
    let mut stopping = false;
    loop {
        let deadline = slot.state.deadline();
        tokio::select! {
            // What went wrong is the peer's to know.
            _ = &mut http => return,
            () = slot.state.leave.notified() => return,
            () = sleep_until(deadline) => if slot.state.deadline() <= Instant::now() { return },
            _ = stop.wait_for(|stop| *stop), if !stopping => {
                stopping = true;
                http.as_mut().graceful_shutdown();
            }
        }
    }
}

/// All that are open.
struct Connections {
    limit: usize,
    open: Mutex<HashMap<u64, Arc<State>>>,
    next: AtomicU64,
    warned: Mutex<Option<Instant>>,
}

impl Connections {
    fn new(limit: usize) -> Self {
        let (open, warned) = (Mutex::default(), Mutex::default());
        Self { limit, open, next: AtomicU64::new(0), warned }
    }

    fn enter(self: &Arc<Self>) -> Slot {
        let full = self.open.lock().unwrap_or_else(PoisonError::into_inner).len() >= self.limit;
        if full {
            self.warn("there are as many connections as there may be");
            self.make_room();
        }
        let (state, id) = (Arc::new(State::default()), self.next.fetch_add(1, Ordering::Relaxed));
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.insert(id, Arc::clone(&state));
        Slot { connections: Arc::clone(self), id, state }
    }

    /// Ends the connection that has waited for a request the longest; while all are in the middle
    /// of one, the one that is the longest.
    fn make_room(&self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let longest = open.iter().min_by_key(|(_, state)| state.rank()).map(|(id, _)| *id);
        if let Some(state) = longest.and_then(|id| open.remove(&id)) {
            state.leave.notify_one();
        }
    }

    fn warn(&self, what: &str) {
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.is_none_or(|it| it.elapsed() >= WARNING) {
            *warned = Some(Instant::now());
            let limit = self.limit;
            tracing::warn!(
                limit,
                "{what}; the one that is idle the longest is closed for each new one; \
                 raise the limit of open files (ulimit -n) if these are no attack"
            );
        }
    }
}

/// One connection's place; free again when it is dropped.
struct Slot {
    connections: Arc<Connections>,
    id: u64,
    state: Arc<State>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.connections.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

/// What a connection does, and since when.
struct State {
    phase: Mutex<(Phase, Instant)>,
    leave: Notify,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// Nothing was asked yet.
    Opened,
    /// The last answer is made.
    Idle,
    /// A request is worked on, or its body is read.
    Busy,
}

impl Default for State {
    fn default() -> Self {
        Self { phase: Mutex::new((Phase::Opened, Instant::now())), leave: Notify::new() }
    }
}

impl State {
    fn set(&self, phase: Phase) {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = (phase, Instant::now());
    }

    fn get(&self) -> (Phase, Instant) {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lowest goes first.
    fn rank(&self) -> (bool, Instant) {
        let (phase, since) = self.get();
        (phase == Phase::Busy, since)
    }

    /// When there must have been another request. A request itself has its own limit, and an
    /// answer that nobody reads counts as idle.
    fn deadline(&self) -> Instant {
        let (phase, since) = self.get();
        since
            + match phase {
                Phase::Opened => HEADER,
                Phase::Idle => IDLE,
                Phase::Busy => REQUEST_TIMEOUT + IDLE,
            }
    }
}

/// A request that is worked on.
struct Busy(Arc<State>);

impl Busy {
    fn begin(state: &Arc<State>) -> Self {
        state.set(Phase::Busy);
        Self(Arc::clone(state))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.set(Phase::Idle);
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::{get, post};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        time::{advance, timeout},
    };

    use super::*;

    const ASK: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

    async fn start(limit: usize) -> (std::net::SocketAddr, watch::Sender<bool>) {
        let router = Router::new()
            .route("/", get(async || "answer"))
            .route("/body", post(async |body: axum::body::Bytes| body));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(serve(listener, router, limit, stopped));
        (address, stop)
    }

    async fn open(address: std::net::SocketAddr, sent: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(sent).await.unwrap();
        stream
    }

    async fn answered(stream: &mut TcpStream) -> bool {
        let mut answer = [0; 512];
        let length = stream.read(&mut answer).await.unwrap_or(0);
        answer[..length].starts_with(b"HTTP/1.1 200")
    }

    /// Whatever is said before, such as that the request is bad.
    async fn is_closed(stream: &mut TcpStream) -> bool {
        let mut said = Vec::new();
        timeout(Duration::from_secs(200), stream.read_to_end(&mut said)).await.is_ok()
    }

    #[tokio::test]
    async fn connections_that_say_nothing_keep_nobody_out() {
        let (address, _stop) = start(8).await;
        let mut silent = Vec::new();
        for sent in [b"".as_slice(), b"GET / HT", b"PRI * HTTP/2.0\r\n", b"POST /body HTTP/1.1\r\n"]
        {
            for _ in 0..20 {
                silent.push(open(address, sent).await);
            }
        }
        let mut asking = open(address, ASK).await;
        assert!(answered(&mut asking).await, "the newest is served");
        for stream in &mut silent[..72] {
            assert!(is_closed(stream).await, "the oldest have made room");
        }
    }

    #[tokio::test]
    async fn a_header_has_a_bound() {
        let (address, _stop) = start(8).await;
        // What was read with the last of the buffer still counts.
        for (bytes, taken) in [(BUFFER / 2, true), (2 * BUFFER, false)] {
            let head = format!("GET / HTTP/1.1\r\nhost: x\r\nlong: {}\r\n\r\n", "x".repeat(bytes));
            let mut stream = open(address, head.as_bytes()).await;
            assert_eq!(answered(&mut stream).await, taken, "{bytes} bytes");
        }
    }

    #[tokio::test]
    async fn a_request_that_was_begun_is_the_last_to_make_room() {
        let (address, _stop) = start(2).await;
        let head =
            b"POST /body HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n";
        let mut begun = open(address, head).await;
        // That it is asked to go on shows that the request has begun.
        let mut on = [0; 12];
        begun.read_exact(&mut on).await.unwrap();
        assert_eq!(&on, b"HTTP/1.1 100");
        for _ in 0..20 {
            assert!(answered(&mut open(address, ASK).await).await);
        }
        begun.write_all(b"ok").await.unwrap();
        begun.read_exact(&mut [0; 13]).await.unwrap(); // the rest of the line
        assert!(answered(&mut begun).await, "it is served all the same");
    }

    #[tokio::test]
    async fn what_was_begun_is_finished_when_it_stops() {
        let (address, stop) = start(8).await;
        let mut idle = open(address, ASK).await;
        assert!(answered(&mut idle).await);
        let mut begun =
            open(address, b"POST /body HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\no").await;
        // Its beginning has arrived when a later connection is answered.
        assert!(answered(&mut open(address, ASK).await).await);
        stop.send(true).unwrap();
        assert!(is_closed(&mut idle).await);
        begun.write_all(b"k").await.unwrap();
        assert!(answered(&mut begun).await);
        assert!(is_closed(&mut begun).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_has_a_deadline_in_each_phase() {
        let state = Arc::new(State::default());
        let left = || state.deadline() - Instant::now();
        assert_eq!(left(), HEADER);
        advance(Duration::from_secs(9)).await;
        assert_eq!(left(), Duration::from_secs(1), "a header that begins gains no time");
        let busy = Busy::begin(&state);
        assert_eq!(left(), REQUEST_TIMEOUT + IDLE);
        assert!(state.rank() > State::default().rank(), "others make room first");
        drop(busy);
        assert_eq!(left(), IDLE);
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_ask_in_time_is_closed() {
        let (address, _stop) = start(8).await;
        // With a paused clock the next deadline is reached as soon as nothing else happens.
        for sent in [b"".as_slice(), b"GET / HT", b"PRI * HTTP/2.0\r\n"] {
            assert!(is_closed(&mut open(address, sent).await).await);
        }
        let mut idle = open(address, ASK).await;
        assert!(answered(&mut idle).await);
        assert!(is_closed(&mut idle).await);
    }
}
