//! The door over TCP: who is let in, as whom, and what those can do who are not.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a failed unwrap is a failed test, and what is printed is shown with it"
)]

use std::collections::BTreeMap;
use std::fs::{Permissions, set_permissions, write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use hob_api::ErrorCode;
use hob_api::error::ErrorBody;
use hob_e2e::{Daemon, Setup, patiently, ran_as_root};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

const TOKEN: &str = "Zk3vYw8QnT5bLs0HcJ7xRf2MgPdA9uEe";
const CHAT: &str = "/v1/chat/completions";
/// Who comes in over TCP, where the test does not say otherwise.
const BEARER: u32 = 12_345;

/// A hobd with a door over TCP.
struct Open {
    daemon: Daemon,
    address: SocketAddr,
}

/// An address that no other test has: the whole of 127.0.0.0/8 is this machine's.
fn free_address() -> SocketAddr {
    let random = std::process::id() ^ std::time::UNIX_EPOCH.elapsed().unwrap().subsec_nanos();
    let [_, a, b, c] = random.to_be_bytes();
    SocketAddr::from(([127, a, b, c.clamp(1, 254)], 8181))
}

fn token_file(setup: &Setup) -> PathBuf {
    let file = setup.home().join("token");
    write(&file, format!("{TOKEN}\n")).unwrap();
    set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    file
}

fn with_door(setup: Setup, uid: &str) -> (Setup, SocketAddr) {
    let address = free_address();
    let file = token_file(&setup);
    let door = format!(
        "[http]\nlisten = \"{address}\"\ntoken_file = \"{}\"\nuid = {uid}",
        file.display()
    );
    (setup.toml(&door), address)
}

impl Open {
    async fn start(setup: Setup) -> Self {
        let (setup, address) = with_door(setup, &BEARER.to_string());
        let daemon = setup.ready().await;
        Self { daemon, address }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// A request as bytes, with the token, and a right `Host` unless `headers` has one.
    fn request(&self, line: &str, headers: &str, body: &str) -> String {
        let token = format!("Authorization: Bearer {TOKEN}\r\n");
        self.bare_request(line, &format!("{token}{headers}"), body)
    }

    fn bare_request(&self, line: &str, headers: &str, body: &str) -> String {
        let host = if headers.contains("Host:") {
            String::new()
        } else {
            format!("Host: {}\r\n", self.address)
        };
        let length = body.len();
        format!("{line} HTTP/1.1\r\n{host}{headers}Content-Length: {length}\r\n\r\n{body}")
    }

    /// Sends `request` and reads until hobd closes.
    async fn raw(&self, request: &str) -> String {
        let mut stream = self.connect().await;
        let _ = stream.write_all(request.as_bytes()).await;
        read_all(&mut stream).await
    }

    /// What a client with the token gets.
    async fn ask(&self, line: &str, body: &Value) -> (u16, Value) {
        let body = match body {
            Value::Null => String::new(),
            body => body.to_string(),
        };
        let request = self.request(line, "Connection: close\r\n", &body);
        parsed(&self.raw(&request).await)
    }

    async fn assert_refused(&self, request: &str, status: u16) -> String {
        let reply = self.raw(request).await;
        let (found, body) = parsed(&reply);
        assert_eq!(found, status, "{request}\n{reply}");
        let body: ErrorBody = serde_json::from_value(body).unwrap();
        assert_eq!(body.error.code, ErrorCode::AccessDenied);
        assert!(body.error.hint.is_some());
        reply
    }
}

async fn read_all(stream: &mut TcpStream) -> String {
    let mut reply = Vec::new();
    // A reset ends it as well.
    let _ = patiently("hobd closes", stream.read_to_end(&mut reply)).await;
    String::from_utf8_lossy(&reply).into_owned()
}

/// The status of a whole reply, 0 for none, and its body.
fn parsed(reply: &str) -> (u16, Value) {
    let Some((head, body)) = reply.split_once("\r\n\r\n") else {
        return (0, Value::Null);
    };
    let status = head.split_whitespace().nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or_default())
}

fn question(text: &str) -> Value {
    json!({"messages": [{"role": "user", "content": text}]})
}

#[tokio::test]
async fn who_has_the_token_is_answered_and_nobody_else() {
    let open = Open::start(Setup::fake().env("HOB_LOG", "trace")).await;
    let (status, answer) = open
        .ask(&format!("POST {CHAT}"), &question("one two"))
        .await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["choices"][0]["message"]["content"], "one two");

    let line = format!("POST {CHAT}");
    let body = question("one two").to_string();
    let started = Instant::now();
    let none = open
        .assert_refused(&open.bare_request(&line, "", &body), 401)
        .await;
    assert!(
        none.contains("www-authenticate: Bearer realm=\"hob\"\r\n"),
        "{none}"
    );
    // hobd closes: one guess a connection, and a pause before each answer.
    assert!(started.elapsed() >= Duration::from_secs(1));
    for wrong in [
        format!("Authorization: Bearer {}\r\n", TOKEN.to_lowercase()),
        format!("Authorization: Bearer {TOKEN}x\r\n"),
        format!("Authorization: Bearer {}\r\n", &TOKEN[1..]),
        "Authorization: Bearer \r\n".to_owned(),
        format!("Authorization: Basic {TOKEN}\r\n"),
        format!("Authorization: {TOKEN}\r\n"),
        format!("Authorization: Bearer {TOKEN}\r\nAuthorization: Bearer {TOKEN}\r\n"),
        format!("X-Api-Key: {TOKEN}\r\n"),
    ] {
        open.assert_refused(&open.bare_request(&line, &wrong, &body), 401)
            .await;
    }
    for path in [
        "/health",
        "/v1/models",
        "/hob/v1/status",
        "/metrics",
        "/nowhere",
    ] {
        open.assert_refused(&open.bare_request(&format!("GET {path}"), "", ""), 401)
            .await;
    }
    // Late: in the address, in the body, or behind the head.
    let late = format!("GET /v1/models?token={TOKEN}");
    open.assert_refused(&open.bare_request(&late, "", TOKEN), 401)
        .await;

    let log = open.daemon.log();
    assert!(
        !log.contains(TOKEN) && !log.contains(&TOKEN[1..]),
        "the token is in the log"
    );
    assert!(
        !log.contains(&TOKEN.to_lowercase()),
        "a guess is in the log"
    );
    assert!(log.contains("did not show its token"));
}

#[tokio::test]
async fn a_web_page_is_refused_even_with_the_token() {
    let open = Open::start(Setup::fake()).await;
    let port = open.address.port();
    for host in [
        "attacker.example".to_owned(),
        format!("attacker.example:{port}"),
        format!("127.0.0.1.attacker.example:{port}"),
        format!("hob:{port}"),
        format!("192.168.1.2:{port}"),
        format!("{}:1", open.address.ip()),
        open.address.ip().to_string(),
        "localhost".to_owned(),
    ] {
        let request = open.request("GET /v1/models", &format!("Host: {host}\r\n"), "");
        let request = request.replace("\r\nContent", "\r\nConnection: close\r\nContent");
        open.assert_refused(&request, 403).await;
    }
    for origin in [
        "http://attacker.example",
        &format!("http://localhost:{port}"),
        "null",
    ] {
        let headers = format!("Origin: {origin}\r\nConnection: close\r\n");
        open.assert_refused(&open.request("GET /v1/models", &headers, ""), 403)
            .await;
    }
    let preflight =
        "Origin: http://a.example\r\nAccess-Control-Request-Method: POST\r\nConnection: close\r\n";
    let reply = open
        .assert_refused(
            &open.bare_request(&format!("OPTIONS {CHAT}"), preflight, ""),
            403,
        )
        .await;
    assert!(
        !reply.to_lowercase().contains("access-control-allow"),
        "{reply}"
    );
    let nameless = format!("GET /v1/models HTTP/1.0\r\nAuthorization: Bearer {TOKEN}\r\n\r\n");
    open.assert_refused(&nameless, 403).await;
    for host in [
        format!("localhost:{port}"),
        format!("127.0.0.1:{port}"),
        format!("[::1]:{port}"),
    ] {
        let headers = format!("Host: {host}\r\nConnection: close\r\n");
        let reply = open
            .raw(&open.request("GET /v1/models", &headers, ""))
            .await;
        assert_eq!(parsed(&reply).0, 200, "{reply}");
    }
}

#[tokio::test]
async fn the_bearer_is_one_user_with_that_users_things_and_limits() {
    if ran_as_root("the_bearer_is_one_user_with_that_users_things_and_limits") {
        return;
    }
    let setup = Setup::fake().toml("[engine]\nparallel = 1\n[limits]\nper_uid = 2");
    let open = Open::start(setup).await;
    open.daemon.open_to_everybody();
    let own = open.daemon.client();
    let same = own.of_uid(BEARER);

    let named = json!({"name": "over TCP"});
    let (status, opened) = open.ask("POST /hob/v1/conversations", &named).await;
    assert_eq!(status, 200, "{opened}");
    let path = format!("/hob/v1/conversations/{}", opened["id"].as_str().unwrap());
    own.get(&path)
        .await
        .error(404, ErrorCode::ConversationNotFound);
    let found: Value = same.get(&path).await.json();
    assert_eq!(found["name"], "over TCP");

    // Loading and unloading is nothing that a token is for.
    let (status, refused) = open.ask("POST /hob/v1/unload", &Value::Null).await;
    assert_eq!(
        (status, &refused["error"]["code"]),
        (403, &json!("access_denied"))
    );

    // The limit of requests is the user's, through whichever door they come.
    let slow = question("fake: slow 50 100000");
    let request = open.request(&format!("POST {CHAT}"), "", &slow.to_string());
    let mut over_tcp = open.connect().await;
    over_tcp.write_all(request.as_bytes()).await.unwrap();
    let running = |status: &hob_api::status::Status| status.active == 1;
    open.daemon.until_status("it runs", running).await;
    let _over_unix = same.ask("fake: slow 50 100000").await;
    let waiting = |status: &hob_api::status::Status| status.queued == 1;
    open.daemon.until_status("the next waits", waiting).await;
    let (status, refused) = open.ask(&format!("POST {CHAT}"), &question("hi")).await;
    assert_eq!((status, &refused["error"]["code"]), (429, &json!("busy")));
}

#[tokio::test]
async fn connections_stay_open_stream_and_cancel_when_they_are_closed() {
    let open = Open::start(Setup::fake().toml("[limits]\nmax_tokens = 100000")).await;
    let mut stream = open.connect().await;
    let mut buffer = vec![0; 65536];
    for _ in 0..3 {
        let request = open.request("GET /v1/models", "", "");
        stream.write_all(request.as_bytes()).await.unwrap();
        let read = patiently("an answer", stream.read(&mut buffer))
            .await
            .unwrap();
        assert!(buffer[..read].starts_with(b"HTTP/1.1 200"));
    }
    for streamed in [true, false] {
        let body = json!({
            "messages": [{"role": "user", "content": "fake: slow 20 100000"}],
            "stream": streamed,
            "max_tokens": 100_000,
        });
        let request = open.request(&format!("POST {CHAT}"), "", &body.to_string());
        // A next request that waits unread hides nothing.
        stream
            .write_all(request.repeat(2).as_bytes())
            .await
            .unwrap();
        let running = |status: &hob_api::status::Status| status.active == 1;
        open.daemon.until_status("it runs", running).await;
        if streamed {
            let read = patiently("text", stream.read(&mut buffer)).await.unwrap();
            let text = String::from_utf8_lossy(&buffer[..read]).into_owned();
            assert!(text.contains("text/event-stream"), "{text}");
        }
        drop(stream);
        let idle = |status: &hob_api::status::Status| (status.active, status.queued) == (0, 0);
        open.daemon.until_status("it was cancelled", idle).await;
        stream = open.connect().await;
    }
    // In the middle of a connection as well, the token is asked for each time.
    stream
        .write_all(open.request("GET /v1/models", "", "").as_bytes())
        .await
        .unwrap();
    let read = patiently("an answer", stream.read(&mut buffer))
        .await
        .unwrap();
    assert!(buffer[..read].starts_with(b"HTTP/1.1 200"));
    let bare = open.bare_request("GET /v1/models", "", "");
    stream.write_all(bare.as_bytes()).await.unwrap();
    assert_eq!(parsed(&read_all(&mut stream).await).0, 401);
}

#[tokio::test]
async fn who_holds_connections_without_a_token_shuts_nobody_out() {
    let setup = Setup::fake().toml("[limits]\nheader_timeout = \"30s\"");
    let open = Open::start(setup).await;
    let files = open.daemon.files();
    // Some say nothing, some send a head for ever.
    let mut held = Vec::new();
    for at in 0..200 {
        let mut stream = open.connect().await;
        if at % 2 == 0 {
            let _ = stream.write_all(b"GET /v1/models HTTP/1.1\r\nX: ").await;
        }
        held.push(stream);
        if at % 20 == 0 {
            let (status, _) = open.ask("GET /v1/models", &Value::Null).await;
            assert_eq!(status, 200, "behind {at} connections");
        }
    }
    for stream in held.iter_mut().step_by(2) {
        let _ = stream.write_all(b"x").await;
    }
    // Two descriptors a connection: the socket, and the watch on it.
    let most = files + 2 * 64 + 16;
    hob_e2e::eventually("most were turned away", async || {
        (open.daemon.files() <= most).then_some(())
    })
    .await;
    let (status, answer) = open
        .ask(&format!("POST {CHAT}"), &question("still here"))
        .await;
    assert_eq!(status, 200, "{answer}");
    open.daemon.assert_serves().await;
    drop(held);
    hob_e2e::eventually("all are closed", async || {
        (open.daemon.files() <= files).then_some(())
    })
    .await;
}

#[tokio::test]
async fn two_hundred_connections_with_the_token_share_the_places_of_one_user() {
    let open = Open::start(Setup::fake()).await;
    let request = open.request("GET /health", "", "");
    let mut connections = Vec::new();
    for _ in 0..200 {
        let mut stream = open.connect().await;
        let _ = stream.write_all(request.as_bytes()).await;
        connections.push(stream);
    }
    let mut statuses = BTreeMap::<u16, usize>::new();
    for mut stream in connections {
        let mut buffer = vec![0; 4096];
        let read = patiently("an answer", stream.read(&mut buffer)).await;
        let reply = String::from_utf8_lossy(&buffer[..read.unwrap_or(0)]).into_owned();
        let status = reply.split_whitespace().nth(1).unwrap_or("0");
        *statuses.entry(status.parse().unwrap()).or_default() += 1;
    }
    eprintln!("{statuses:?}");
    // Half of the 64 places of all at least, and the rest hear why.
    assert!(statuses[&200] >= 32, "{statuses:?}");
    assert_eq!(statuses.values().sum::<usize>(), 200);
    assert!(
        statuses.keys().all(|status| [200, 429].contains(status)),
        "{statuses:?}"
    );
    open.daemon.assert_serves().await;
}

#[tokio::test]
async fn a_head_that_dawdles_is_told_so() {
    let setup =
        Setup::fake().toml("[limits]\nheader_timeout = \"400ms\"\nstall_timeout = \"400ms\"");
    let open = Open::start(setup).await;
    let mut slow_head = open.connect().await;
    for byte in open.request("GET /health", "", "").bytes() {
        if slow_head.write_all(&[byte]).await.is_err() {
            break;
        }
        sleep(Duration::from_millis(20)).await;
    }
    let reply = read_all(&mut slow_head).await;
    assert!(
        reply.is_empty() || reply.starts_with("HTTP/1.1 408"),
        "{reply}"
    );

    let whole = open.request(&format!("POST {CHAT}"), "", &question("hi").to_string());
    let mut slow_body = open.connect().await;
    slow_body
        .write_all(&whole.as_bytes()[..whole.len() - 5])
        .await
        .unwrap();
    let reply = patiently("hobd says so", async {
        let mut buffer = vec![0; 4096];
        let read = slow_body.read(&mut buffer).await.unwrap();
        String::from_utf8_lossy(&buffer[..read]).into_owned()
    })
    .await;
    assert!(reply.starts_with("HTTP/1.1 408"), "{reply}");
    open.daemon.assert_serves().await;
}

#[tokio::test]
async fn another_user_of_the_machine_reads_no_token_and_gets_no_answer() {
    if ran_as_root("another_user_of_the_machine_reads_no_token_and_gets_no_answer") {
        return;
    }
    let open = Open::start(Setup::fake()).await;
    let home = open.daemon.home();
    set_permissions(home, Permissions::from_mode(0o755)).unwrap();
    let as_other = |program: &str, arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=23456", "--regid=23456", "--clear-groups", program]);
        command.args(arguments).output().unwrap()
    };
    let file = home.join("token");
    let read = as_other("cat", &[file.to_str().unwrap()]);
    assert!(!read.status.success() && read.stdout.is_empty(), "{read:?}");
    let other = as_other("ls", &[home.to_str().unwrap()]);
    assert!(other.status.success(), "{other:?}");
    // What hobd tells of itself does not tell it either.
    let pid = open.daemon.pid();
    for told in ["cmdline", "environ", "status"] {
        let seen = std::fs::read(format!("/proc/{pid}/{told}")).unwrap();
        assert!(!String::from_utf8_lossy(&seen).contains(TOKEN), "{told}");
    }
    let url = format!("http://{}/v1/models", open.address);
    let script = "import sys, urllib.request as r, urllib.error as e\n\
                  try: r.urlopen(sys.argv[1])\n\
                  except e.HTTPError as error: print(error.code)\n";
    let python = hob_e2e::python();
    let asked = Command::new(python)
        .args(["-c", script, &url])
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&asked.stdout).trim(),
        "401",
        "{asked:?}"
    );
}

/// hobd's last words about a door that it must not open.
async fn complaint(setup: Setup, code: i32) -> String {
    let output = setup.refused().await;
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn a_door_that_is_not_safe_is_not_opened() {
    for (lines, expected) in [
        (
            "listen = \"0.0.0.0:8181\"",
            "hobd.toml:3:10: http.listen must be \"off\"",
        ),
        (
            "listen = \"192.168.0.1:8181\"",
            "hobd.toml:3:10: http.listen must be \"off\"",
        ),
        (
            "listen = \"127.0.0.1:8181\"",
            "hobd.toml:3:10: http.listen needs http.token_file",
        ),
        ("uid = 0", "hobd.toml:3:7: http.uid must be"),
        (
            "token_file = \"token\"",
            "hobd.toml:3:14: http.token_file must be",
        ),
    ] {
        let stderr = complaint(Setup::empty().toml(&format!("[http]\n{lines}")), 2).await;
        assert!(stderr.contains(expected), "{stderr}");
    }
    let spoil = |mode: u32, text: &str| {
        let (setup, _) = with_door(Setup::empty(), "1");
        let file = setup.home().join("token");
        write(&file, text).unwrap();
        set_permissions(&file, Permissions::from_mode(mode)).unwrap();
        setup
    };
    let exposed = complaint(spoil(0o644, TOKEN), 1).await;
    assert!(
        exposed.contains("is open to others (mode 0644)"),
        "{exposed}"
    );
    let short = complaint(spoil(0o600, "secret"), 1).await;
    assert!(
        short.contains("holds no token") && !short.contains("secret\n"),
        "{short}"
    );
    let (setup, address) = with_door(Setup::empty(), "1");
    let _other = std::net::TcpListener::bind(address).unwrap();
    let taken = complaint(setup, 1).await;
    assert!(taken.contains("choose another port"), "{taken}");
    let (setup, _) = with_door(Setup::empty(), "1");
    std::fs::remove_file(setup.home().join("token")).unwrap();
    let missing = complaint(setup, 1).await;
    assert!(
        missing.contains("can't read") && missing.contains("token"),
        "{missing}"
    );
}

#[tokio::test]
async fn systemd_may_hand_over_both_sockets() {
    let address = free_address();
    let setup = Setup::fake();
    let file = token_file(&setup);
    let socket = setup.socket();
    let mut command = setup.command(Path::new("systemd-socket-activate"));
    command
        .arg("--listen")
        .arg(&socket)
        .arg("--listen")
        .arg(address.to_string());
    let hobd = setup.hobd();
    for (name, value) in hobd.get_envs() {
        if let Some(value) = value {
            command.env(name, value).arg("-E").arg(name);
        }
    }
    command.arg(hobd.get_program()).args(hobd.get_args());
    command.args(["--set", &format!("http.listen={address}")]);
    command.args(["--set", &format!("http.token_file={}", file.display())]);
    let log = std::fs::File::create(setup.home().join("activated.log")).unwrap();
    command.stdout(log.try_clone().unwrap()).stderr(log);
    let mut process = tokio::process::Command::from(command)
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let reply = hob_e2e::eventually("hobd answers over TCP", async || {
        let mut stream = TcpStream::connect(address).await.ok()?;
        let request = format!(
            "GET /hob/v1/status HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
             Authorization: Bearer {TOKEN}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.ok()?;
        let reply = read_all(&mut stream).await;
        (!reply.is_empty()).then_some(reply)
    })
    .await;
    let (status, body) = parsed(&reply);
    assert_eq!(status, 200, "{reply}");
    assert_eq!(body["loopback"], address.to_string());
    let doctor = setup
        .command(&hob_e2e::binary("hob"))
        .arg("doctor")
        .output()
        .unwrap();
    let doctor = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(
        doctor.contains(&format!("http://{address}/ serves who has the token")),
        "{doctor}"
    );
    process.kill().await.unwrap();
}

#[tokio::test]
async fn home_assistants_way_of_asking_works() {
    let (setup, address) = with_door(Setup::real(), &BEARER.to_string());
    let daemon = setup.ready().await;
    let folder = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../examples/home-assistant/try.py"
    );
    let mut command = daemon.command(&hob_e2e::python());
    command
        .arg(folder)
        .arg(format!("http://{address}/v1"))
        .arg(daemon.home().join("token"))
        .arg("turn on the kitchen light");
    let output = tokio::process::Command::from(command).output();
    let output = patiently("the example", output).await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    eprintln!("{said}");
    assert!(
        said.contains("  calls Hass") && said.contains("  says: "),
        "{said}"
    );
    assert!(said.ends_with("without the token: 401\n"), "{said}");
}
