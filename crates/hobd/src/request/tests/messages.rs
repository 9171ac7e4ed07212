//! What a conversation in a request may hold.

use super::*;

#[test]
fn a_message_is_checked_part_by_part() {
    use ErrorCode::{InvalidRequest, Unsupported};
    for (messages, code, param, part) in [
        (
            json!([{"role": "robot", "content": "hi"}]),
            InvalidRequest,
            "messages[0].role",
            "one of system, developer, user, assistant, tool, not \"robot\"",
        ),
        (
            json!([{"content": "hi"}]),
            InvalidRequest,
            "messages[0].role",
            "missing",
        ),
        (
            json!([{"role": "user"}]),
            InvalidRequest,
            "messages[0].content",
            "missing",
        ),
        (
            json!([{"role": "user", "content": null}]),
            InvalidRequest,
            "messages[0].content",
            "missing",
        ),
        (
            json!(["hi"]),
            InvalidRequest,
            "messages[0]",
            "must be an object, not \"hi\"",
        ),
        (
            json!([null]),
            InvalidRequest,
            "messages[0]",
            "must be an object, not null",
        ),
        (
            json!([{"role": "user", "content": "a"}, {"role": "user", "content": 3}]),
            InvalidRequest,
            "messages[1].content",
            "must be text, or a list",
        ),
        (
            json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]),
            Unsupported,
            "messages[0].content[0].type",
            "only \"text\" is read",
        ),
        (
            json!([{"role": "user", "content": [{"type": "text"}]}]),
            InvalidRequest,
            "messages[0].content[0].text",
            "missing",
        ),
        (
            json!([{"role": "tool", "tool_call_id": "1", "content": "21"}]),
            InvalidRequest,
            "messages[0].tool_call_id",
            "no call",
        ),
        (
            json!([{"role": "assistant", "content": null, "tool_calls": [{"id": "1"}]}]),
            InvalidRequest,
            "messages[0].tool_calls[0].type",
            "missing",
        ),
        (
            json!([{"role": "user", "content": "a\u{0}b"}]),
            InvalidRequest,
            "messages[0].content",
            "NUL character at byte 1",
        ),
        (
            json!([]),
            InvalidRequest,
            "messages",
            "1 to 1000 messages, not 0",
        ),
        (
            json!([{"role": "user", "content": ""}, {"role": "user", "content": []}]),
            InvalidRequest,
            "messages",
            "no text",
        ),
    ] {
        assert_refused(chat_of(&messages), code, Some(param), part);
    }
    assert_refused(chat("{}"), InvalidRequest, Some("messages"), "missing");
}

#[test]
fn too_many_messages_and_too_much_text_are_refused() {
    let many = json!(vec![json!({"role": "user", "content": "a"}); 1001]);
    assert_refused(
        chat_of(&many),
        ErrorCode::InvalidRequest,
        Some("messages"),
        "not 1001",
    );
    let most = json!(vec![json!({"role": "user", "content": "a"}); 1000]);
    chat_of(&most).unwrap();
    let half = "a".repeat(TEXT_BYTES_MAX / 2 + 1);
    let long = json!([{"role": "user", "content": half}, {"role": "user", "content": half}]);
    assert_refused(
        chat_of(&long),
        ErrorCode::InvalidRequest,
        Some("messages"),
        "at most 1048576 bytes of text, not 1048578",
    );
}
