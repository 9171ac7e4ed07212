use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::{Extension, State};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use bytes::Bytes;
use futures_util::stream;
use hob_api::error::ErrorBody;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::*;
use crate::frontend::http::body;

const HEADER_TIMEOUT: Duration = Duration::from_millis(300);
const STALL_TIMEOUT: Duration = Duration::from_millis(400);
const BODY_BYTES_MAX: usize = 1000;
/// Far longer than any of the bounds above, far shorter than a test may hang.
const SOON: Duration = Duration::from_secs(5);

/// A server with routes that show what happens to their futures.
struct Server {
    folder: tempfile::TempDir,
    alive: Arc<AtomicUsize>,
    shutdown: CancellationToken,
    task: JoinHandle<io::Result<()>>,
}

/// Counts the futures and bodies that live.
struct Alive(Arc<AtomicUsize>);

impl Alive {
    fn new(count: Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn limits(connections: usize) -> Limits {
    Limits {
        queue: 1,
        per_uid: 1,
        connections,
        body_bytes: BODY_BYTES_MAX,
        header_timeout: HEADER_TIMEOUT,
        stall_timeout: STALL_TIMEOUT,
        max_tokens: 1,
        timeout_default: SOON,
        timeout_max: SOON,
        shutdown_grace: Duration::from_millis(300),
    }
}

fn router(alive: Arc<AtomicUsize>, limits: Limits) -> Router {
    Router::new()
        .route(
            "/uid",
            get(|Extension(caller): Extension<Caller>| async move { caller.uid.to_string() }),
        )
        .route(
            "/length",
            post(move |request: axum::extract::Request| async move {
                match body::read(request, &limits).await {
                    Ok(body) => body.len().to_string().into_response(),
                    Err(error) => reply::error_with_status(
                        axum::http::StatusCode::from_u16(
                            crate::frontend::error::appearance(error.code).status,
                        )
                        .unwrap(),
                        error,
                    ),
                }
            }),
        )
        .route("/slow", get(slow))
        .route("/never", get(never))
        .route("/endless", get(endless))
        .with_state(alive)
}

async fn slow() -> &'static str {
    sleep(Duration::from_millis(200)).await;
    "done"
}

async fn never(State(alive): State<Arc<AtomicUsize>>) -> &'static str {
    let _alive = Alive::new(alive);
    std::future::pending::<()>().await;
    "never"
}

async fn endless(State(alive): State<Arc<AtomicUsize>>) -> Response {
    let alive = Alive::new(alive);
    let chunks = stream::unfold(alive, |alive| async {
        sleep(Duration::from_millis(1)).await;
        Some((Ok::<_, Infallible>(Bytes::from(vec![b'x'; 4096])), alive))
    });
    reply::body("text/plain", Body::from_stream(chunks))
}

impl Server {
    fn start(connections: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("sock")).unwrap();
        let alive = Arc::new(AtomicUsize::new(0));
        let shutdown = CancellationToken::new();
        let limits = limits(connections);
        let router = router(Arc::clone(&alive), limits.clone());
        let own_uid = rustix::process::geteuid().as_raw();
        let places = Places::new(connections, own_uid);
        let stop = shutdown.clone();
        let task =
            tokio::spawn(async move { serve(listener, router, &limits, places, stop).await });
        Self {
            folder,
            alive,
            shutdown,
            task,
        }
    }

    async fn connect(&self) -> UnixStream {
        UnixStream::connect(self.folder.path().join("sock"))
            .await
            .unwrap()
    }

    /// Sends `request` and reads until the server closes.
    async fn exchange(&self, request: &[u8]) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request).await.unwrap();
        read_all(&mut stream).await
    }

    async fn until_alive(&self, count: usize) {
        let deadline = Instant::now() + SOON;
        while self.alive.load(Ordering::SeqCst) != count {
            assert!(Instant::now() < deadline, "not {count} alive");
            sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn read_all(stream: &mut UnixStream) -> String {
    let mut bytes = Vec::new();
    // A reset after the answer is as good as an end.
    let _ = timeout(SOON, stream.read_to_end(&mut bytes)).await.unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[track_caller]
fn assert_error(response: &str, status: u16, code: ErrorCode) {
    let (head, json) = response.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
    let body: ErrorBody = serde_json::from_str(json).unwrap();
    assert_eq!(body.error.code, code);
    assert!(body.error.hint.is_some());
}

#[tokio::test]
async fn the_kernel_says_who_calls() {
    let server = Server::start(4);
    let response = server
        .exchange(b"GET /uid HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await;
    let uid = rustix::process::geteuid().as_raw();
    assert!(response.ends_with(&format!("\r\n\r\n{uid}")), "{response}");
}

#[tokio::test]
async fn a_silent_client_and_a_dawdling_one_are_told_why_they_are_left() {
    let server = Server::start(4);
    for begun in [b"".as_slice(), b"GET /uid HTTP/1.1\r\nhost:"] {
        let response = server.exchange(begun).await;
        assert_error(&response, 408, ErrorCode::RequestTimeout);
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let server = Server::start(4);
    let response = server
        .exchange(b"GET /uid HTTP/1.1\r\nhost: x\r\n\r\n")
        .await;
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
}

#[tokio::test]
async fn a_head_without_end_is_refused() {
    let server = Server::start(4);
    let mut request = b"GET /uid HTTP/1.1\r\nhost: x\r\na: ".to_vec();
    request.resize(BUFFER_BYTES_MAX + 1, b'a');
    let response = server.exchange(&request).await;
    assert!(response.starts_with("HTTP/1.1 431"), "{response}");
}

#[tokio::test]
async fn bodies_up_to_the_bound_are_read_and_larger_ones_refused() {
    let server = Server::start(8);
    let post = |headers: &str, body: &str| {
        format!("POST /length HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n\r\n{body}")
            .into_bytes()
    };
    let fits = "x".repeat(BODY_BYTES_MAX);
    let response = server.exchange(&post("content-length: 1000", &fits)).await;
    assert!(response.ends_with("\r\n\r\n1000"), "{response}");

    let large = "x".repeat(BODY_BYTES_MAX + 1);
    let response = server.exchange(&post("content-length: 1001", &large)).await;
    assert_error(&response, 413, ErrorCode::PayloadTooLarge);

    let chunked = format!("3e9\r\n{large}\r\n0\r\n\r\n");
    let response = server
        .exchange(&post("transfer-encoding: chunked", &chunked))
        .await;
    assert_error(&response, 413, ErrorCode::PayloadTooLarge);

    // Only announced: refused without a byte of it.
    let response = server
        .exchange(&post(
            "content-length: 99999999999\r\nexpect: 100-continue",
            "",
        ))
        .await;
    assert_error(&response, 413, ErrorCode::PayloadTooLarge);
}

#[tokio::test]
async fn ten_megabytes_sent_blindly_still_get_their_answer() {
    let server = Server::start(4);
    let mut request =
        b"POST /length HTTP/1.1\r\nhost: x\r\ncontent-length: 10000000\r\n\r\n".to_vec();
    request.resize(request.len() + 10_000_000, b'x');
    let response = server.exchange(&request).await;
    assert_error(&response, 413, ErrorCode::PayloadTooLarge);
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let server = Server::start(4);
    let response = server
        .exchange(b"POST /length HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nabc")
        .await;
    assert_error(&response, 408, ErrorCode::RequestTimeout);
}

#[tokio::test]
async fn a_malformed_body_is_refused() {
    let server = Server::start(4);
    let response = server
        .exchange(b"POST /length HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n")
        .await;
    assert!(response.starts_with("HTTP/1.1 400"), "{response}");
}

#[tokio::test]
async fn a_client_that_leaves_drops_what_it_waited_for() {
    let server = Server::start(4);
    for path in ["never", "endless"] {
        let mut stream = server.connect().await;
        let request = format!("GET /{path} HTTP/1.1\r\nhost: x\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        server.until_alive(1).await;
        drop(stream);
        server.until_alive(0).await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_behind_a_second_request_is_noticed() {
    let server = Server::start(4);
    let mut stream = server.connect().await;
    let twice = b"GET /never HTTP/1.1\r\nhost: x\r\n\r\n".repeat(2);
    stream.write_all(&twice).await.unwrap();
    server.until_alive(1).await;
    drop(stream);
    server.until_alive(0).await;
}

#[tokio::test]
async fn a_client_that_has_said_all_still_gets_its_answer() {
    let server = Server::start(4);
    let mut stream = server.connect().await;
    stream
        .write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    stream.shutdown().await.unwrap();
    let response = read_all(&mut stream).await;
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
}

#[tokio::test]
async fn a_client_that_never_reads_is_dropped_after_the_bound() {
    let server = Server::start(4);
    let mut stream = server.connect().await;
    stream
        .write_all(b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    server.until_alive(1).await;
    let start = Instant::now();
    server.until_alive(0).await;
    assert!(start.elapsed() >= STALL_TIMEOUT);
}

#[tokio::test]
async fn clients_beyond_the_bound_are_told_so_at_once() {
    let server = Server::start(1);
    let mut held = Vec::new();
    // The test is hobd's own user, who has the reserved places too.
    for _ in 0..5 {
        let mut stream = server.connect().await;
        stream
            .write_all(b"GET /never HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .unwrap();
        held.push(stream);
    }
    server.until_alive(5).await;
    let request = b"GET /uid HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    for _ in 0..3 {
        let response = server.exchange(request).await;
        assert_error(&response, 429, ErrorCode::Busy);
        assert!(response.contains("\r\nretry-after: 1\r\n"));
    }
    drop(held);
    server.until_alive(0).await;
    let response = server.exchange(request).await;
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
}

#[tokio::test]
async fn shutdown_lets_answers_finish_and_waits_for_nothing_else() {
    let server = Server::start(4);
    let mut idle = server.connect().await;
    let mut busy = server.connect().await;
    busy.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    sleep(Duration::from_millis(50)).await;
    let start = Instant::now();
    server.shutdown.cancel();
    assert_eq!(read_all(&mut idle).await, "");
    assert!(read_all(&mut busy).await.ends_with("done"));
    server.task.await.unwrap().unwrap();
    assert!(start.elapsed() < HEADER_TIMEOUT);
}

#[tokio::test]
async fn shutdown_does_not_wait_for_ever() {
    let server = Server::start(4);
    let mut stream = server.connect().await;
    stream
        .write_all(b"GET /never HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    server.until_alive(1).await;
    server.shutdown.cancel();
    timeout(SOON, server.task).await.unwrap().unwrap().unwrap();
}
