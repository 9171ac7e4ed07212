//! `hob status`: what the daemon is doing.

mod watch;

use hob_api::conversation::ConversationsStatus;
use hob_api::status::{
    CacheStatus, ControlStatus, EngineStatus, GpuStatus, KernelsStatus, MemoryStatus, ModelStatus,
    State, Status,
};

use crate::ask::to_json;
use crate::clean::clean_line;
use crate::cli::Global;
use crate::client::Client;
use crate::exit::ExitStatus;
use crate::failure::Failure;
use crate::output::{Output, Style};
use crate::render::{bytes, count, counted, span};

use std::time::Duration;

/// Shows the daemon's status. Succeeds if a question would be answered now.
///
/// # Errors
/// No daemon.
pub(crate) async fn run(
    json: bool,
    watch: Option<u32>,
    global: &Global,
    output: &mut Output,
) -> Result<ExitStatus, Failure> {
    let client = Client::find(global.socket.as_deref()).await?;
    if let Some(seconds) = watch {
        let every = Duration::from_secs(seconds.into());
        return watch::run(&client, every, output).await;
    }
    let status = client.status().await?;
    let socket = client.socket().display().to_string();
    if json {
        output.write(&to_json(&status)?)?;
    } else {
        output.write(&table(&status, &socket, output.color()))?;
    }
    Ok(exit_status(status.state))
}

/// Ready and sleeping daemons answer; a loading one will; the others need help first.
pub(crate) fn exit_status(state: State) -> ExitStatus {
    match state {
        State::Ready | State::Sleeping => ExitStatus::Success,
        State::Loading | State::Unknown => ExitStatus::NotReady,
        State::NoModel | State::Failed => ExitStatus::Model,
    }
}

/// The state in words.
pub(crate) fn state(status: &Status) -> String {
    match status.state {
        State::Unknown => "starting".to_owned(),
        State::NoModel => "no model".to_owned(),
        State::Loading => format!("loading, {} %", status.load_percent),
        State::Ready => "ready".to_owned(),
        State::Sleeping => "sleeping; the next question loads the model".to_owned(),
        State::Failed => "failed".to_owned(),
    }
}

/// The status as a table for people.
fn table(status: &Status, socket: &str, color: bool) -> String {
    let mut rows = vec![("state", state(status))];
    if let Some(problem) = &status.problem {
        rows.push(("problem", problem.message.clone()));
        rows.extend(problem.hint.iter().map(|hint| ("hint", hint.clone())));
    }
    rows.extend(
        status
            .model
            .as_ref()
            .map(|model| ("model", self::model(model))),
    );
    if let Some(engine) = &status.engine {
        rows.push(("engine", self::engine(engine)));
        rows.extend(kernels(&status.kernels).map(|kernels| ("kernels", kernels)));
        rows.extend(gpu(&status.gpu).map(|gpu| ("gpu", gpu)));
        rows.extend(control(&status.control_vector).map(|control| ("vector", control)));
        rows.push(("sandbox", sandbox(engine, &status.sandbox_setting)));
        rows.extend(memory(&status.memory));
    }
    rows.extend(scarcity(&status.memory).map(|words| ("scarcity", words.to_owned())));
    let (active, queued, queue_max) = (status.active, status.queued, status.queue_max);
    rows.push((
        "questions",
        format!("{active} running, {queued} waiting (at most {queue_max})"),
    ));
    rows.extend(cache(&status.cache).map(|value| ("cache", value)));
    rows.extend(conversations(&status.conversations).map(|value| ("chats", value)));
    if status.engine_losses > 0 {
        let losses = status.engine_losses;
        rows.push((
            "losses",
            format!(
                "the engine ended unasked {}; see the log",
                counted(losses, "time")
            ),
        ));
    }
    rows.push((
        "hobd",
        format!(
            "{}, up {}, {} of memory, {socket}",
            status.version,
            span(status.uptime_s),
            bytes(status.hobd_rss_bytes)
        ),
    ));
    let mut text = String::new();
    for (name, value) in rows {
        text.push_str(&Style::Bold.paint(&format!("{name:<10}"), color));
        text.push_str(&clean_line(&value));
        text.push('\n');
    }
    text
}

fn model(model: &ModelStatus) -> String {
    let mut parts = vec![model.name.clone()];
    if model.parameters > 0 {
        parts.push(format!("{} parameters", count(model.parameters)));
    }
    parts.push(bytes(model.size_bytes));
    if model.n_ctx > 0 {
        let (n_ctx, trained) = (model.n_ctx, model.n_ctx_train);
        parts.push(format!("{n_ctx} tokens of context (trained for {trained})"));
        if !model.chat {
            parts.push("no chat template".to_owned());
        }
    }
    parts.join(", ")
}

fn engine(engine: &EngineStatus) -> String {
    let loaded = match engine.load_ms {
        0 => "loading".to_owned(),
        ms => format!("loaded in {}.{} s", ms / 1000, ms % 1000 / 100),
    };
    format!(
        "process {}, {} of memory, {}, {} at once, {loaded}",
        engine.pid,
        bytes(engine.rss_bytes),
        counted(engine.threads.into(), "thread"),
        engine.parallel,
    )
}

/// What computes, and why; nothing before that is known.
pub(crate) fn kernels(kernels: &KernelsStatus) -> Option<String> {
    let KernelsStatus { level, reason } = kernels;
    (!level.is_empty()).then(|| format!("{level} ({reason})"))
}

/// What a GPU computes, or why none does; nothing where none is asked for.
pub(crate) fn gpu(gpu: &GpuStatus) -> Option<String> {
    if let Some(problem) = &gpu.problem {
        return Some(format!("computes nothing: {problem}"));
    }
    if gpu.layers == 0 {
        return None;
    }
    let shared = if gpu.shared {
        ", shared with the processor"
    } else {
        ""
    };
    Some(format!(
        "{} ({}), {} of {} layers, about {} of its {}{shared}; {} were free",
        gpu.device,
        gpu.backend,
        gpu.layers,
        gpu.layers_all,
        bytes(gpu.model_bytes),
        bytes(gpu.memory_bytes),
        bytes(gpu.free_bytes),
    ))
}

/// What is added to what the model's layers hand on, or why not; nothing where nothing is to be.
pub(crate) fn control(control: &ControlStatus) -> Option<String> {
    let not_added = control.problem.as_ref();
    let not_added = not_added.map(|problem| format!("not added: {problem}"));
    let added = control.layer;
    not_added.or(added.map(|layer| format!("a verified one is added behind layer {layer}")))
}

/// What the engine's memory is for; nothing before that is known.
fn memory(memory: &MemoryStatus) -> Vec<(&'static str, String)> {
    if memory.weights_bytes == 0 {
        return Vec::new();
    }
    let parts = format!(
        "weights {} ({}), contexts {} ({}), computing {}",
        bytes(memory.weights_bytes),
        memory.weights,
        bytes(memory.kv_bytes),
        memory.kv_type,
        bytes(memory.compute_bytes),
    );
    vec![("memory", parts), ("budget", budget(memory))]
}

/// What the engine may take, and who says so.
fn budget(memory: &MemoryStatus) -> String {
    let available = bytes(memory.available_bytes);
    let Some(budget) = memory.budget_bytes else {
        return format!("not known; {available} available");
    };
    let by = match memory.budget_source.as_str() {
        "setting" => "engine.memory",
        "cgroup" => "hobd's control group",
        _ => "what the machine had",
    };
    let cache = match memory.cache_bytes {
        0 => String::new(),
        cache => format!(", cache {}", bytes(cache)),
    };
    format!("{} ({by}){cache}; {available} available now", bytes(budget))
}

/// What is given up for want of memory.
pub(crate) fn scarcity(memory: &MemoryStatus) -> Option<&'static str> {
    match memory.given_up.as_str() {
        "cache" => Some("memory is scarce: the prefix cache is given up"),
        "admission" => Some("memory is scarce: new questions are refused"),
        "model" => Some("memory is scarce: the model is unloaded when idle, questions are refused"),
        _ => None,
    }
}

/// Shown while there is something in it, or pinned.
fn cache(cache: &CacheStatus) -> Option<String> {
    if cache.entries == 0 && cache.pins == 0 {
        return None;
    }
    let held = format!("{} of {}", bytes(cache.bytes), bytes(cache.bytes_max));
    let pins = match cache.pins {
        0 => String::new(),
        pins => format!(
            ", {} of {} ready",
            cache.pins_ready,
            counted(pins.into(), "pin")
        ),
    };
    Some(held + &pins)
}

/// What is not as usual about the conversations that hobd keeps.
fn conversations(status: &ConversationsStatus) -> Option<String> {
    let mut parts = Vec::new();
    if let Some(problem) = &status.problem {
        parts.push(format!("conversations can't be kept: {problem}"));
    }
    if let Some(file) = &status.set_aside {
        parts.push(format!(
            "the conversations were damaged and are set aside as {file}"
        ));
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}

fn sandbox(engine: &EngineStatus, setting: &str) -> String {
    match engine.sandbox.as_slice() {
        [] => format!("none (setting: {setting})"),
        layers => format!("{} (setting: {setting})", layers.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use hob_api::{ApiError, ErrorCode};

    use super::*;

    fn ready() -> Status {
        Status {
            version: "0.1.0".to_owned(),
            state: State::Ready,
            model: Some(ModelStatus {
                name: "smollm2-135m\x1b[2J".to_owned(),
                size_bytes: 98_000_000,
                parameters: 134_515_008,
                n_ctx: 4096,
                n_ctx_train: 8192,
                chat: true,
                ..Default::default()
            }),
            engine: Some(EngineStatus {
                pid: 4711,
                rss_bytes: 200_000_000,
                threads: 2,
                parallel: 2,
                load_ms: 345,
                sandbox: vec!["seccomp".to_owned(), "landlock-abi-4".to_owned()],
            }),
            active: 1,
            queue_max: 16,
            uptime_s: 3700,
            hobd_rss_bytes: 9_000_000,
            sandbox_setting: "required".to_owned(),
            kernels: KernelsStatus {
                level: "x86-64-v3".to_owned(),
                reason: "the best for this processor of x86-64-v2, x86-64-v3".to_owned(),
            },
            ..Default::default()
        }
    }

    #[test]
    fn ready_table() {
        insta::assert_snapshot!(table(&ready(), "/run/hob/hob.sock", false));
    }

    #[test]
    fn a_vector_is_told_of_where_one_lies_beside_the_model() {
        let mut status = ControlStatus {
            setting: "verified".to_owned(),
            ..ControlStatus::default()
        };
        assert_eq!(control(&status), None);
        status.layer = Some(12);
        let added = "a verified one is added behind layer 12";
        assert_eq!(control(&status).as_deref(), Some(added));
        status.problem = Some("it is damaged".to_owned());
        let problem = "not added: it is damaged";
        assert_eq!(control(&status).as_deref(), Some(problem));
    }

    #[test]
    fn failed_table_has_cause_and_hint() {
        let status = Status {
            state: State::Failed,
            engine: None,
            engine_losses: 3,
            problem: Some(
                ApiError::new(ErrorCode::ModelFailed, "The model crashed three times.")
                    .hint("Verify it with `hob models verify`."),
            ),
            ..ready()
        };
        insta::assert_snapshot!(table(&status, "/run/hob/hob.sock", false));
        assert_eq!(exit_status(status.state), ExitStatus::Model);
    }
}
