//! What a model reads: tools at the end of its instructions, calls as it writes them, and results.

use hob_api::chat::Role;
use hob_api::tools::Tool;
use hob_ipc::message::Turn;

use super::{Form, Listing, Parts, Results, notation};
use crate::request::{Called, Calling, Spoken};

/// The conversation in `form`.
pub(super) fn turns(form: &Form, calling: &Calling) -> Vec<Turn> {
    let mut turns: Vec<Turn> = Vec::new();
    let mut after_result = false;
    for spoken in &calling.spoken {
        let mut parts = Parts::default();
        match spoken {
            Spoken::Words { role, text } => {
                parts.text(text);
                turns.push(parts.into_turn(*role));
            }
            Spoken::Calls { text, calls } => {
                if !text.is_empty() {
                    parts.text(text);
                    parts.text("\n");
                }
                tell_calls(form, calls, &mut parts);
                turns.push(parts.into_turn(Role::Assistant));
            }
            Spoken::Result { tool, text } => {
                tell_result(form, tool, text, &mut parts);
                add_result(form.results, after_result, parts, &mut turns);
            }
        }
        after_result = matches!(spoken, Spoken::Result { .. });
    }
    if let Some(tools) = &calling.tools {
        instruct(&mut turns, instructions(form, &tools.told));
    }
    turns
}

fn tell_calls(form: &Form, calls: &[Called], parts: &mut Parts) {
    parts.pieces(form.opening);
    for (at, called) in calls.iter().enumerate() {
        if at > 0 {
            parts.text(form.between);
        }
        tell_call(form, called, parts);
    }
    parts.pieces(form.closing);
}

fn tell_call(form: &Form, called: &Called, parts: &mut Parts) {
    parts.pieces(form.before_name);
    parts.text(&called.name);
    parts.text(form.before_arguments);
    notation::write_arguments(form.notation, called, parts);
    parts.pieces(form.after_arguments);
}

fn tell_result(form: &Form, tool: &str, text: &str, parts: &mut Parts) {
    match form.results {
        Results::FromUser { open, named, close } => {
            parts.pieces(open);
            if named {
                parts.text(tool);
                parts.text(":\n");
            }
            parts.text(text);
            parts.pieces(close);
        }
        Results::FromTool { open, close } => {
            parts.pieces(open);
            parts.text(text);
            parts.pieces(close);
        }
        Results::WithCalls { open, close } => {
            parts.mark(open);
            parts.text(&format!("response:{tool}{{value:"));
            notation::write(form.notation, &text.into(), parts);
            parts.text("}");
            parts.mark(close);
        }
    }
}

/// Puts a result where the model looks for it.
fn add_result(results: Results, after_result: bool, parts: Parts, turns: &mut Vec<Turn>) {
    let (role, joined, between) = match results {
        Results::FromUser { .. } => (Role::User, after_result, "\n"),
        Results::FromTool { .. } => (Role::Tool, false, ""),
        Results::WithCalls { .. } => (Role::Assistant, true, ""),
    };
    match turns.last_mut() {
        Some(last) if joined && last.role == role => {
            append(last, between, parts);
        }
        _ => turns.push(parts.into_turn(role)),
    }
}

/// Makes a message longer.
fn append(turn: &mut Turn, between: &str, parts: Parts) {
    let mut whole = Parts(std::mem::take(&mut turn.parts));
    whole.text(between);
    whole.append(parts.0);
    turn.parts = whole.0;
}

/// What the model is told of tools.
fn instructions(form: &Form, tools: &[Tool]) -> Parts {
    let mut parts = Parts::default();
    // hob-api's types always encode.
    let line = |tool: &Tool| serde_json::to_string(tool).unwrap_or_default() + "\n";
    let lines = || tools.iter().map(line).collect::<String>();
    let function = |tool: &Tool| serde_json::to_string(&tool.function).unwrap_or_default();
    match form.listing {
        Listing::Tags => {
            parts.text(
                "# Tools\n\nYou can call these functions. Each line describes one in \
                 JSON:\n<tools>\n",
            );
            parts.text(&lines());
            parts.text(
                "</tools>\n\nTo call one, write its name and its arguments as JSON between these \
                 tags:\n",
            );
            tell_call(form, &example(), &mut parts);
        }
        Listing::Lines => {
            parts.text("You can call these functions. Each line describes one in JSON:\n");
            parts.text(&lines());
            parts.text("\nTo call one, answer with its name and its arguments like this:\n");
            tell_call(form, &example(), &mut parts);
        }
        Listing::List { open, close } => {
            parts.pieces(open);
            let listed: Vec<_> = tools.iter().map(function).collect();
            parts.text(&format!("[{}]", listed.join(", ")));
            parts.pieces(close);
        }
        Listing::Declarations { open, close } => {
            parts.text("You can call these functions:\n");
            for tool in tools {
                parts.mark(open);
                notation::declare(form.notation, &tool.function, &mut parts);
                parts.mark(close);
            }
        }
    }
    parts
}

fn example() -> Called {
    Called {
        name: "NAME".to_owned(),
        arguments: [("ARGUMENT".to_owned(), "VALUE".into())]
            .into_iter()
            .collect(),
        text: "{\"ARGUMENT\": \"VALUE\"}".to_owned(),
    }
}

/// Puts the instructions where the model looks for them: at the end of the first message, if that is
/// the system's, else before all.
fn instruct(turns: &mut Vec<Turn>, instructions: Parts) {
    match turns.first_mut() {
        Some(first) if first.role == Role::System => {
            append(first, "\n\n", instructions);
        }
        _ => turns.insert(0, instructions.into_turn(Role::System)),
    }
}
