//! How hobd starts, ends, and lets go.

#![allow(
    clippy::unwrap_used,
    reason = "a failed unwrap is a failed test, and what is printed is shown with it"
)]

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use hob_api::ErrorCode;
use hob_api::status::State;
use hob_e2e::{Daemon, PATIENCE, Setup, eventually};
use rustix::process::Signal;

/// Whether a process still runs; one that ended and was not waited for does not.
fn runs(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|stat| Some(stat.rsplit_once(')')?.1.trim_start().starts_with('Z')))
        .is_some_and(|zombie| !zombie)
}

#[tokio::test]
async fn sigterm_lets_a_running_answer_finish() {
    let mut daemon = Setup::fake()
        .toml("[limits]\nshutdown_grace = \"60s\"")
        .ready()
        .await;
    let client = daemon.client();
    let engine = daemon.engine_pid().await;
    let mut running = client.ask("fake: slow 50 40").await;
    running.first_delta().await;
    daemon.signal(Signal::TERM);
    let answer = running.answer().await;
    assert_eq!(answer.text, "word ".repeat(39));
    answer.done();
    assert_eq!(daemon.ended().await.code(), Some(0));
    assert!(!daemon.socket().exists(), "the socket is left behind");
    assert!(!runs(engine), "the engine is left behind");
}

#[tokio::test]
async fn sigterm_ends_an_answer_that_takes_too_long() {
    let mut daemon = Setup::fake()
        .toml("[engine]\nparallel = 1\n[limits]\nshutdown_grace = \"500ms\"")
        .ready()
        .await;
    let client = daemon.client();
    let mut running = client.ask("fake: slow 50 100000").await;
    running.first_delta().await;
    let waiting = client.ask("never my turn").await;
    daemon
        .until_status("one waits", |status| status.queued == 1)
        .await;
    daemon.signal(Signal::TERM);
    let (running, waiting) = tokio::join!(running.answer(), waiting.answer());
    for answer in [&running, &waiting] {
        assert_eq!(answer.error().code, ErrorCode::NotReady, "{answer:?}");
        assert!(answer.error().hint.is_some(), "{answer:?}");
    }
    assert_eq!(daemon.ended().await.code(), Some(0));
}

#[tokio::test]
async fn sigterm_while_the_model_loads_tells_who_waits() {
    let mut daemon = Setup::fake_load("never").start().await;
    daemon.until(State::Loading).await;
    let waiting = daemon.client().ask("too early").await;
    daemon
        .until_status("one waits", |status| status.queued == 1)
        .await;
    daemon.signal(Signal::TERM);
    let answer = waiting.answer().await;
    assert_eq!(answer.error().code, ErrorCode::NotReady, "{answer:?}");
    assert_eq!(daemon.ended().await.code(), Some(0));
}

#[tokio::test]
async fn sigterm_ends_a_prompt_that_takes_too_long() {
    let mut daemon = Setup::fake()
        .toml("[limits]\nshutdown_grace = \"300ms\"")
        .ready()
        .await;
    let reading = daemon.client().ask("fake: prefill 60000").await;
    daemon
        .until_status("it runs", |status| status.active == 1)
        .await;
    daemon.signal(Signal::TERM);
    let answer = reading.answer().await;
    assert_eq!(answer.error().code, ErrorCode::NotReady, "{answer:?}");
    assert_eq!(daemon.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_hangup_ends_nothing() {
    let daemon = Setup::fake().ready().await;
    let mut running = daemon.client().ask("fake: slow 20 20").await;
    running.first_delta().await;
    for _ in 0..10 {
        daemon.signal(Signal::HUP);
    }
    assert_eq!(running.answer().await.text, "word ".repeat(19));
    assert_eq!(daemon.status().await.engine_losses, 0);
}

#[tokio::test]
async fn sigterm_ends_hobd_whatever_it_does() {
    for (setup, state) in [
        (Setup::fake(), State::Ready),
        (Setup::fake_load("never"), State::Loading),
        (Setup::empty(), State::NoModel),
        (Setup::fake_load("fail model"), State::Failed),
    ] {
        let mut daemon = setup.start().await;
        daemon.until(state).await;
        assert_eq!(daemon.stop().await.code(), Some(0), "{state:?}");
        assert!(!daemon.socket().exists(), "{state:?}");
    }
}

#[tokio::test]
async fn sigterm_ends_even_an_engine_that_hangs() {
    let mut daemon = Setup::fake()
        .toml("[limits]\nshutdown_grace = \"500ms\"")
        .ready()
        .await;
    let engine = daemon.engine_pid().await;
    let mut running = daemon.client().ask("fake: hang").await;
    running.first_delta().await;
    daemon.signal(Signal::TERM);
    running.answer().await.error();
    assert_eq!(daemon.ended().await.code(), Some(0));
    assert!(!runs(engine), "the engine is left behind");
}

#[tokio::test]
async fn the_engine_ends_with_hobd_however_hobd_ends() {
    let mut daemon = Setup::fake().ready().await;
    let engine = daemon.engine_pid().await;
    daemon.signal(Signal::KILL);
    daemon.ended().await;
    eventually("the engine ends", async || (!runs(engine)).then_some(())).await;
}

#[tokio::test]
async fn a_socket_left_behind_by_a_crash_is_no_obstacle() {
    let mut daemon = Setup::fake().ready().await;
    daemon.signal(Signal::KILL);
    daemon.ended().await;
    let socket = daemon.socket();
    assert!(socket.exists());
    let next = Setup::fake().on_socket(socket).ready().await;
    assert_eq!(
        next.client().ask("again").await.answer().await.text,
        "again"
    );
}

#[tokio::test]
async fn a_client_that_leaves_cancels_its_request() {
    let daemon = Setup::fake().toml("[engine]\nparallel = 1").ready().await;
    let client = daemon.client();
    let mut leaving = client.ask("fake: slow 50 100000").await;
    leaving.first_delta().await;
    let waiting = client.ask("my turn").await;
    daemon
        .until_status("one waits", |status| status.queued == 1)
        .await;
    drop(leaving);
    assert_eq!(waiting.answer().await.text, "my turn");
    let status = daemon
        .until_status("idle", |status| status.active == 0)
        .await;
    assert_eq!(status.engine_losses, 0);
}

#[tokio::test]
async fn a_client_that_leaves_while_it_waits_is_forgotten() {
    let daemon = Setup::fake().toml("[engine]\nparallel = 1").ready().await;
    let client = daemon.client();
    let mut running = client.ask("fake: slow 20 100").await;
    running.first_delta().await;
    let waiting = client.ask("never mind").await;
    daemon
        .until_status("one waits", |status| status.queued == 1)
        .await;
    drop(waiting);
    daemon
        .until_status("nobody waits", |status| status.queued == 0)
        .await;
    assert_eq!(running.answer().await.text, "word ".repeat(99));
}

/// What hobd tells a service manager, line by line.
struct Notified {
    socket: UnixDatagram,
    lines: Vec<String>,
}

impl Notified {
    fn listen(path: &PathBuf) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self {
            socket,
            lines: Vec::new(),
        }
    }

    fn said(&mut self, line: &str) -> bool {
        let mut buffer = [0; 4096];
        while let Ok(length) = self.socket.recv(&mut buffer) {
            let text = String::from_utf8(buffer[..length].to_vec()).unwrap();
            self.lines.extend(text.lines().map(str::to_owned));
        }
        self.lines.iter().any(|said| said.starts_with(line))
    }

    async fn until(&mut self, line: &str) {
        let start = std::time::Instant::now();
        while !self.said(line) {
            assert!(start.elapsed() < PATIENCE, "no {line} in {:?}", self.lines);
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn a_service_manager_hears_ready_status_watchdog_and_stopping() {
    let setup = Setup::fake();
    let path = setup.home().join("notify");
    let mut notified = Notified::listen(&path);
    let mut daemon: Daemon = setup
        .env("NOTIFY_SOCKET", path.to_str().unwrap())
        .env("WATCHDOG_USEC", "1000000")
        .ready()
        .await;
    notified.until("READY=1").await;
    notified.until("STATUS=").await;
    notified.until("WATCHDOG=1").await;
    assert!(!notified.said("STOPPING=1"));
    assert_eq!(daemon.stop().await.code(), Some(0));
    notified.until("STOPPING=1").await;
    let words = notified.lines.join("\n");
    assert_eq!(words.matches("READY=1").count(), 1, "{words}");
}

#[tokio::test]
async fn the_engine_gets_no_environment_and_no_file_but_its_own() {
    let daemon = Setup::fake().env("HOB_LOG", "debug").ready().await;
    let engine = daemon.engine_pid().await;
    let environment = std::fs::read(format!("/proc/{engine}/environ")).unwrap();
    let environment = String::from_utf8(environment).unwrap();
    for variable in environment.split('\0').filter(|entry| !entry.is_empty()) {
        let name = variable.split('=').next().unwrap();
        assert!(
            name == "GGML_NO_BACKTRACE" || name.starts_with("OMP_") || name.starts_with("GOMP_"),
            "{name}"
        );
    }
    let files: Vec<PathBuf> = std::fs::read_dir(format!("/proc/{engine}/fd"))
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .collect();
    let listed = format!("{files:?}");
    assert!(!listed.contains("hobd.toml"), "{listed}");
    assert!(!listed.contains("epoll"), "hobd's own: {listed}");
}

#[tokio::test]
async fn without_work_the_engine_goes_and_the_next_request_wakes_it() {
    let daemon = Setup::fake()
        .toml("[engine]\nkeep_alive = \"300ms\"")
        .ready()
        .await;
    let client = daemon.client();
    let engine = daemon.engine_pid().await;
    daemon.until(State::Sleeping).await;
    eventually("the engine is gone", async || (!runs(engine)).then_some(())).await;
    let healthy = client.get("/health").await;
    assert_eq!(healthy.status, 200, "a request would be answered");
    let answer = client.ask("awake again").await.answer().await;
    assert_eq!(answer.text, "awake again");
    // Work keeps it, however long that takes.
    let answer = client.ask("fake: slow 50 20").await.answer().await;
    assert_eq!(answer.text, "word ".repeat(20));
    daemon.until(State::Sleeping).await;
}

#[tokio::test]
async fn a_request_says_how_long_the_model_stays() {
    let daemon = Setup::fake().ready().await;
    let client = daemon.client();
    let body = |ms: u64| {
        serde_json::json!({
            "messages": [{"role": "user", "content": "hello"}],
            "keep_alive_ms": ms,
        })
    };
    let reply = client.post("/v1/chat/completions", &body(100)).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    daemon.until(State::Sleeping).await;
    let reply = client.post("/v1/chat/completions", &body(u64::MAX)).await;
    let error = reply.error(400, ErrorCode::InvalidRequest);
    assert_eq!(error.param.as_deref(), Some("keep_alive_ms"));
}
