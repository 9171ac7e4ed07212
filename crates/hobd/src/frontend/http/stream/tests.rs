use super::*;
use axum::body::to_bytes;
use hob_api::chat::{ChatChunk, ChatCompletion};
use hob_api::completion::Completion;
use hob_api::event::{Done, FinishReason, Timings, Usage};
use hob_ipc::RequestId;
use http_body_util::BodyExt;

use crate::frontend::http::openai::Api;

fn heading(api: Api) -> impl FnOnce() -> Heading {
    move || Heading {
        api,
        id: RequestId(7),
        created: 1_700_000_000,
        model: "smol".to_owned(),
    }
}

fn answer() -> Vec<Event> {
    vec![
        Event::Queued { position: 1 },
        Event::Prefill {
            processed: 3,
            total: 3,
        },
        delta("Hel"),
        delta("lo\n"),
        done(),
    ]
}

fn delta(text: &str) -> Event {
    Event::Delta {
        text: text.to_owned(),
    }
}

fn done() -> Event {
    Event::Done(Done {
        reason: FinishReason::Length,
        usage: Usage::new(3, 1, 2),
        timings: Timings {
            decode_ms: 4.0,
            ..Timings::default()
        },
        model: "smol-q4".to_owned(),
        kept: None,
        home: None,
    })
}

fn failure() -> Event {
    Event::Error {
        error: ApiError::new(ErrorCode::EngineLost, "the engine died"),
    }
}

async fn text_of(response: Response) -> String {
    let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What the `data:` lines of a stream hold.
fn data(text: &str) -> Vec<&str> {
    assert!(text.ends_with("\n\n"));
    text.split("\n\n")
        .filter_map(|record| record.strip_prefix("data: "))
        .collect()
}

async fn sse(events: Vec<Event>, api: Api, include_usage: bool) -> String {
    let response = server_sent(stream::iter(events), heading(api), include_usage)
        .await
        .unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert_eq!(response.headers()["cache-control"], "no-store");
    text_of(response).await
}

#[tokio::test]
async fn a_chat_streams_its_role_its_text_its_end_and_its_usage() {
    let text = sse(answer(), Api::Chat, true).await;
    let data = data(&text);
    let (last, records) = data.split_last().unwrap();
    assert_eq!(*last, "[DONE]");
    let chunks: Vec<ChatChunk> = records
        .iter()
        .map(|record| serde_json::from_str(record).unwrap())
        .collect();
    assert_eq!(chunks.len(), 5);
    assert!(chunks.iter().all(|chunk| chunk.id == "chatcmpl-7"
        && chunk.object == "chat.completion.chunk"
        && chunk.model == "smol"));
    let first = &chunks[0].choices[0].delta;
    assert_eq!(first.role, Some(hob_api::chat::Role::Assistant));
    assert_eq!(first.content.as_deref(), Some(""));
    let texts: String = chunks[1..3]
        .iter()
        .filter_map(|chunk| chunk.choices[0].delta.content.clone())
        .collect();
    assert_eq!(texts, "Hello\n");
    assert!(
        chunks[..3]
            .iter()
            .all(|chunk| chunk.choices[0].finish_reason.is_none())
    );
    assert_eq!(
        chunks[3].choices[0].finish_reason,
        Some(FinishReason::Length)
    );
    assert!(chunks[3].timings.is_some() && chunks[3].usage.is_none());
    assert!(chunks[4].choices.is_empty());
    assert_eq!(chunks[4].usage, Some(Usage::new(3, 1, 2)));
}

#[tokio::test]
async fn usage_is_sent_only_to_those_who_ask() {
    let text = sse(answer(), Api::Chat, false).await;
    assert_eq!(data(&text).len(), 5);
    assert!(!text.contains("\"usage\""));
}

#[tokio::test]
async fn an_answer_without_text_still_has_a_role_and_an_end() {
    let text = sse(vec![done()], Api::Chat, false).await;
    let data = data(&text);
    assert_eq!(data.len(), 3);
    assert!(data[0].contains("assistant") && data[1].contains("length"));
}

#[tokio::test]
async fn a_completion_streams_text_alone() {
    let text = sse(answer(), Api::Completion, true).await;
    let data = data(&text);
    let records: Vec<Completion> = data[..data.len() - 1]
        .iter()
        .map(|record| serde_json::from_str(record).unwrap())
        .collect();
    assert_eq!(records.len(), 4);
    assert!(records.iter().all(|record| record.id == "cmpl-7"));
    assert_eq!(records[0].choices[0].text, "Hel");
    assert_eq!(
        records[2].choices[0].finish_reason,
        Some(FinishReason::Length)
    );
    assert_eq!(records[3].usage, Some(Usage::new(3, 1, 2)));
}

#[tokio::test]
async fn an_error_before_text_is_the_answers_status_and_one_after_it_a_record() {
    let events = stream::iter(vec![Event::Queued { position: 0 }, failure()]);
    let error = server_sent(events, heading(Api::Chat), false)
        .await
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::EngineLost);

    let text = sse(vec![delta("Hel"), failure()], Api::Chat, true).await;
    let data = data(&text);
    assert_eq!(data.len(), 3);
    let body: ErrorBody = serde_json::from_str(data[2]).unwrap();
    assert_eq!(body.error.code, ErrorCode::EngineLost);
    assert!(!text.contains("[DONE]"));
}

#[tokio::test]
async fn a_stream_that_is_cut_says_so() {
    let text = sse(vec![delta("Hel")], Api::Chat, false).await;
    assert!(data(&text)[2].contains("\"internal\""));
    let error = gathered(stream::iter(vec![delta("Hel")]), heading(Api::Chat))
        .await
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::Internal);
}

#[tokio::test(start_paused = true)]
async fn a_long_prefill_sends_the_head_and_then_signs_of_life() {
    let start = Instant::now();
    let events =
        stream::iter(vec![Event::Queued { position: 0 }]).chain(stream::once(Box::pin(async {
            tokio::time::sleep(Duration::from_secs(12)).await;
            failure()
        })));
    let response = server_sent(events, heading(Api::Chat), false)
        .await
        .unwrap();
    assert!(start.elapsed() < Duration::from_secs(2));
    let text = text_of(response).await;
    assert_eq!(text.matches(": ping\n\n").count(), 2);
    assert!(data(&text)[0].contains("engine_lost"));
}

#[tokio::test(start_paused = true)]
async fn progress_is_a_comment() {
    let events = stream::once(Box::pin(async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        Event::Prefill {
            processed: 512,
            total: 2048,
        }
    }))
    .chain(stream::iter(vec![delta("x"), done()]));
    let response = server_sent(events, heading(Api::Chat), false)
        .await
        .unwrap();
    let text = text_of(response).await;
    assert!(text.starts_with(": prefill 512/2048\n\n"), "{text}");
}

#[tokio::test]
async fn event_lines_are_the_events_themselves() {
    let response = event_lines(stream::iter(answer())).await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/x-ndjson");
    let events: Vec<Event> = text_of(response)
        .await
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(events, answer());
}

#[tokio::test(start_paused = true)]
async fn event_lines_begin_soon_unless_the_answer_failed_at_once() {
    let events = stream::iter(vec![Event::Queued { position: 0 }, failure()]);
    let error = event_lines(events).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::EngineLost);

    let start = Instant::now();
    let queued = Event::Queued { position: 3 };
    let events = stream::iter(vec![queued.clone()]).chain(stream::once(Box::pin(async {
        tokio::time::sleep(Duration::from_secs(9)).await;
        failure()
    })));
    let response = event_lines(events).await.unwrap();
    assert!(start.elapsed() < Duration::from_millis(300));
    let events: Vec<Event> = text_of(response)
        .await
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(events, [queued, failure()]);
}

#[tokio::test]
async fn an_answer_is_gathered_whole() {
    let whole = gathered(stream::iter(answer()), heading(Api::Chat))
        .await
        .unwrap();
    let chat: ChatCompletion =
        serde_json::from_value(serde_json::to_value(whole).unwrap()).unwrap();
    assert_eq!(chat.id, "chatcmpl-7");
    assert_eq!(chat.model, "smol-q4");
    assert_eq!(chat.choices[0].message.content.as_deref(), Some("Hello\n"));
    assert_eq!(chat.choices[0].finish_reason, FinishReason::Length);
    assert_eq!(chat.usage, Usage::new(3, 1, 2));

    let whole = gathered(stream::iter(answer()), heading(Api::Completion))
        .await
        .unwrap();
    let text: Completion = serde_json::from_value(serde_json::to_value(whole).unwrap()).unwrap();
    assert_eq!(text.choices[0].text, "Hello\n");
    assert_eq!(text.usage, Some(Usage::new(3, 1, 2)));
}

#[tokio::test]
async fn an_answer_without_bound_is_given_up() {
    let endless = stream::repeat_with(|| delta(&"x".repeat(60_000)));
    let error = gathered(endless, heading(Api::Chat)).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::ModelFailed);
}

#[tokio::test]
async fn dropping_the_body_drops_the_answer() {
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let events = Box::pin(stream::unfold(receiver, |mut receiver| async {
        Some((receiver.recv().await?, receiver))
    }));
    sender.send(delta("x")).await.unwrap();
    let response = server_sent(events, heading(Api::Chat), false)
        .await
        .unwrap();
    let mut body = response.into_body();
    body.frame().await.unwrap().unwrap();
    assert!(!sender.is_closed());
    drop(body);
    assert!(sender.is_closed());
}
