//! Models that think before they answer, and may be told not to.

use hob_api::event::FinishReason;
use hob_e2e::{Daemon, Gguf, Setup};
use serde_json::{Value, json};

use super::{ask, assert_valid, calls, with_template};

/// Opens the reasoning itself, unless it is told that there is to be none.
const OPENS: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n\
    {% endfor %}<|im_start|>assistant\n\
    {% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n\
    {% else %}<think>\n{% endif %}{# <tool_call> #}";

async fn thinker() -> Daemon {
    with_template(OPENS, &[]).await
}

fn off() -> [Value; 2] {
    [
        json!({"chat_template_kwargs": {"enable_thinking": false}}),
        json!({"reasoning_effort": "none"}),
    ]
}

#[tokio::test]
async fn who_is_told_not_to_think_does_not() {
    let daemon = thinker().await;
    let client = daemon.client();
    let plain = json!({"tools": [], "max_tokens": 8});
    let answer = ask(&client, "Hi", &plain).await;
    let message = &answer.choices[0].message;
    assert!(message.reasoning_content.is_some(), "{message:?}");
    for mut fields in off() {
        fields["tools"] = json!([]);
        fields["max_tokens"] = json!(8);
        let answer = ask(&client, "Hi", &fields).await;
        let message = &answer.choices[0].message;
        assert_eq!(message.reasoning_content, None, "{message:?}");
        assert!(message.content.is_some());
    }
}

#[tokio::test]
async fn a_call_comes_behind_the_thoughts_that_a_template_opened() {
    let daemon = thinker().await;
    let client = daemon.client();
    // However long it thinks, what it says is no call, and no words.
    let thinking = json!({"tool_choice": "required", "max_tokens": 12});
    let answer = ask(&client, "Turn on the light in the kitchen.", &thinking).await;
    let message = &answer.choices[0].message;
    assert_eq!(answer.choices[0].finish_reason, FinishReason::Length);
    assert!(message.reasoning_content.is_some(), "{message:?}");
    assert!(calls(&answer).is_empty());
    for mut fields in off() {
        fields["tool_choice"] = json!("required");
        let answer = ask(&client, "Turn on the light in the kitchen.", &fields).await;
        assert_eq!(answer.choices[0].finish_reason, FinishReason::ToolCalls);
        assert_eq!(answer.choices[0].message.reasoning_content, None);
        calls(&answer).iter().for_each(assert_valid);
    }
}

#[tokio::test]
async fn json_is_no_thought() {
    // A form of the caller's own is the whole answer, wherever the template begins it.
    let daemon = thinker().await;
    let fields = json!({"tools": [], "regex": "[0-9]{3}"});
    let answer = ask(&daemon.client(), "A number!", &fields).await;
    let text = answer.choices[0].message.content.clone().unwrap();
    assert!(text.len() == 3 && text.parse::<u32>().is_ok(), "{text:?}");
}

#[tokio::test]
async fn the_engine_is_told_only_what_somebody_said() {
    let model = Gguf::templated("fake", OPENS).bytes();
    let daemon = Setup::empty().install("fake", &model).ready().await;
    let client = daemon.client();
    let shown = async |mut fields: Value| {
        fields["tools"] = json!([]);
        let answer = ask(&client, "fake: show", &fields).await;
        answer.choices[0].message.content.clone().unwrap()
    };
    assert!(!shown(json!({})).await.contains("thinking"));
    for fields in off() {
        assert!(shown(fields).await.contains("\"thinking\":false"));
    }
    let on = json!({"chat_template_kwargs": {"enable_thinking": true}});
    assert!(shown(on).await.contains("\"thinking\":true"));
}
