#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use axum::body::{Body, to_bytes};
use hob_api::error::ErrorBody;
use hob_models::store::Store;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::*;
use crate::daemon;
use crate::frontend::http::guard;
use crate::notify::Notifier;
use crate::settings::{Places, Scope};

const OWN_UID: u32 = 990;
const QUESTION: &str = r#"{"messages": [{"role": "user", "content": "hi"}]}"#;

/// The routes of a hobd without models, and its socket's folder.
struct Bare {
    router: Router,
    _folder: tempfile::TempDir,
    _stop: tokio_util::sync::DropGuard,
}

impl Bare {
    /// Returns when hobd knows that there is no model; until then, questions wait.
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let places = Places {
            socket: folder.path().join("sock"),
            models_dir: folder.path().join("models"),
            conversations_dir: folder.path().join("conversations"),
            pins_dir: folder.path().join("pins"),
            snapshots_dir: folder.path().join("snapshots"),
            tuning_dir: folder.path().join("tuning"),
            engine: folder.path().join("no-engine"),
        };
        let store = Store::open(&places.models_dir);
        let settings = Arc::new(Settings::defaults(Scope::User, places));
        let shutdown = CancellationToken::new();
        let (daemon, _task) = daemon::start(
            Arc::clone(&settings),
            store,
            Notifier::from_env(),
            shutdown.clone(),
        );
        let mut state = daemon.status();
        state
            .wait_for(|status| status.state == ModelState::NoModel)
            .await
            .unwrap();
        let door = Door {
            daemon,
            settings,
            manager: Some(OWN_UID),
        };
        Self {
            router: guard::guarded(router(door), guard::Hosts::Local),
            _folder: folder,
            _stop: shutdown.drop_guard(),
        }
    }

    async fn send(&self, uid: u32, request: axum::http::request::Builder, body: &str) -> Response {
        let mut request = request.body(Body::from(body.to_owned())).unwrap();
        request.extensions_mut().insert(Caller { uid });
        self.router.clone().oneshot(request).await.unwrap()
    }

    async fn get(&self, path: &str) -> Response {
        self.send(1000, Request::builder().uri(path), "").await
    }

    async fn post(&self, path: &str, body: &str) -> Response {
        self.send(1000, Request::builder().method("POST").uri(path), body)
            .await
    }
}

async fn json_of(response: Response) -> Value {
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(response.headers()["cache-control"], "no-store");
    let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

async fn assert_refused(response: Response, status: u16, code: ErrorCode) -> ApiError {
    assert_eq!(response.status(), status);
    let body: ErrorBody = serde_json::from_value(json_of(response).await).unwrap();
    assert_eq!(body.error.code, code);
    assert!(body.error.hint.is_some(), "no hint: {}", body.error);
    body.error
}

#[tokio::test]
async fn without_a_model_everything_else_answers() {
    let bare = Bare::start().await;
    let status = bare.get("/hob/v1/status").await;
    assert_eq!(status.status(), 200);
    assert_eq!(json_of(status).await["active"], 0);
    let models = bare.get("/v1/models").await;
    assert_eq!(json_of(models).await["data"], serde_json::json!([]));
    assert_refused(bare.get("/health").await, 503, ErrorCode::ModelNotFound).await;
    for path in ["/v1/models/smol", "/v1/models/a/b", "/v1/models/%ff"] {
        assert_refused(bare.get(path).await, 404, ErrorCode::ModelNotFound).await;
    }
}

#[tokio::test]
async fn without_a_model_a_question_is_refused_however_it_is_to_be_answered() {
    let bare = Bare::start().await;
    let questions = [
        ("/v1/chat/completions", QUESTION),
        ("/v1/completions", r#"{"prompt": "hi"}"#),
    ];
    for accept in ["application/json", "application/x-ndjson"] {
        for stream in [false, true] {
            for (path, body) in questions {
                let mut body: Value = serde_json::from_str(body).unwrap();
                body["stream"] = stream.into();
                let request = Request::builder()
                    .method("POST")
                    .uri(path)
                    .header("accept", accept);
                let response = bare.send(1000, request, &body.to_string()).await;
                assert_refused(response, 404, ErrorCode::ModelNotFound).await;
            }
        }
    }
}

#[tokio::test]
async fn a_bad_body_is_refused_by_both_apis() {
    let bare = Bare::start().await;
    for path in ["/v1/chat/completions", "/v1/completions"] {
        for body in ["", "{", "[]", "{}"] {
            assert_refused(bare.post(path, body).await, 400, ErrorCode::InvalidRequest).await;
        }
        let large = " ".repeat((1 << 20) + 1);
        let error = bare.post(path, &large).await;
        assert_refused(error, 413, ErrorCode::PayloadTooLarge).await;
    }
    let options = QUESTION.replace("]}", r#"], "stream_options": {"include_usage": true}}"#);
    let response = bare.post("/v1/chat/completions", &options).await;
    let error = assert_refused(response, 400, ErrorCode::InvalidRequest).await;
    assert_eq!(error.param.as_deref(), Some("stream_options"));
}

#[tokio::test]
async fn wrong_paths_and_methods_are_told_the_right_ones() {
    let bare = Bare::start().await;
    let error = assert_refused(bare.get("/nope").await, 404, ErrorCode::NotFound).await;
    assert!(error.hint.unwrap().contains("/v1/chat/completions"));
    let response = bare.post("/chat/completions", QUESTION).await;
    let error = assert_refused(response, 404, ErrorCode::NotFound).await;
    assert!(error.hint.unwrap().contains("/v1"));
    let response = bare.get("/v1/chat/completions").await;
    assert_eq!(response.headers()["allow"], "POST");
    assert_refused(response, 405, ErrorCode::InvalidRequest).await;
}

#[tokio::test]
async fn requests_of_web_pages_are_refused() {
    let bare = Bare::start().await;
    for (name, value) in [
        ("origin", "http://localhost"),
        ("origin", "null"),
        ("host", "example.com"),
        ("host", "example.com:80"),
    ] {
        let request = Request::builder().uri("/health").header(name, value);
        let response = bare.send(1000, request, "").await;
        assert_refused(response, 403, ErrorCode::AccessDenied).await;
    }
    let request = Request::builder().uri("http://example.com/health");
    let response = bare.send(1000, request, "").await;
    assert_refused(response, 403, ErrorCode::AccessDenied).await;
    let request = Request::builder()
        .uri("/hob/v1/status")
        .header("host", "localhost:1");
    assert_eq!(bare.send(1000, request, "").await.status(), 200);
}

#[tokio::test]
async fn only_root_and_hobd_itself_manage_models() {
    let bare = Bare::start().await;
    for path in ["/hob/v1/load", "/hob/v1/unload"] {
        let request = || Request::builder().method("POST").uri(path);
        let body = r#"{"model": "nope"}"#;
        let response = bare.send(1000, request(), body).await;
        assert_refused(response, 403, ErrorCode::AccessDenied).await;
        for uid in [0, OWN_UID] {
            let response = bare.send(uid, request(), body).await;
            assert!(
                matches!(response.status().as_u16(), 404 | 503),
                "{response:?}"
            );
        }
    }
}

#[tokio::test]
async fn what_can_pass_says_when_to_come_back() {
    let busy = ApiError::new(ErrorCode::Busy, "full").retry_after_ms(1500);
    let response = Refusal(busy).into_response();
    assert_eq!(response.status(), 429);
    assert_eq!(response.headers()["retry-after"], "2");
    assert_eq!(response.headers()["x-should-retry"], "true");
    let lost = ApiError::new(ErrorCode::EngineLost, "lost");
    let response = Refusal(lost).into_response();
    assert_eq!(response.status(), 502);
    assert_eq!(response.headers()["x-should-retry"], "false");
}

#[test]
fn health_follows_the_state() {
    let with = |state| Status {
        state,
        ..Status::default()
    };
    assert!(unhealthy(&with(ModelState::Ready)).is_none());
    assert!(unhealthy(&with(ModelState::Sleeping)).is_none());
    for state in [
        ModelState::Unknown,
        ModelState::NoModel,
        ModelState::Loading,
        ModelState::Failed,
    ] {
        let error = unhealthy(&with(state)).unwrap();
        assert!(error.hint.is_some());
    }
    let known = Status {
        problem: Some(ApiError::new(ErrorCode::ModelFailed, "torn")),
        ..with(ModelState::Failed)
    };
    assert_eq!(unhealthy(&known).unwrap().message, "torn");
}

#[tokio::test]
async fn a_foreign_conversation_is_not_found() {
    let bare = Bare::start().await;
    let opened = bare
        .post("/hob/v1/conversations", r#"{"name": "mine"}"#)
        .await;
    assert_eq!(opened.status(), 200);
    let id = json_of(opened).await["id"].as_str().unwrap().to_owned();
    let path = format!("/hob/v1/conversations/{id}");
    let question =
        format!(r#"{{"messages": [{{"role": "user", "content": "hi"}}], "conversation": "{id}"}}"#);
    let export = format!("{path}/export");
    for uid in [1001, 0, OWN_UID] {
        let requests = [
            ("GET", path.as_str(), ""),
            ("GET", &export, ""),
            ("PATCH", &path, r#"{"name": "theirs"}"#),
            ("DELETE", &path, ""),
            ("POST", "/v1/chat/completions", &question),
        ];
        for (method, path, body) in requests {
            let request = Request::builder().method(method).uri(path);
            let response = bare.send(uid, request, body).await;
            assert_refused(response, 404, ErrorCode::ConversationNotFound).await;
        }
        let list = Request::builder().uri("/hob/v1/conversations");
        let list = json_of(bare.send(uid, list, "").await).await;
        assert_eq!(list["data"], serde_json::json!([]));
        // A name that somebody else has is free.
        let request = Request::builder()
            .method("POST")
            .uri("/hob/v1/conversations");
        let response = bare.send(uid, request, r#"{"name": "mine"}"#).await;
        assert_eq!(response.status(), 200);
        let their_id = json_of(response).await["id"].as_str().unwrap().to_owned();
        let their_path = format!("/hob/v1/conversations/{their_id}");
        let request = Request::builder().method("DELETE").uri(their_path.as_str());
        assert_eq!(bare.send(uid, request, "").await.status(), 200);
    }
    let mine = json_of(bare.get(&path).await).await;
    assert_eq!(mine["name"], "mine");
}
