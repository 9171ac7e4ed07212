//! How loading goes: the words after `fake-load: ` in the model's `general.name`.
//!
//! | words | what happens |
//! | --- | --- |
//! | (none) | the model is ready at once |
//! | `slow MS` | it takes that long, with progress |
//! | `n_ctx N` | the context holds that many words |
//! | `no-chat` | there is no chat template |
//! | `fail CODE` | `LoadFailed` with that code: `model`, `memory`, `sandbox`, … |
//! | `crash` | the process aborts while it parses the model |
//! | `exit` | the process exits 0 while it parses the model |
//! | `never` | loading goes on for ever, with heartbeats |
//! | `garbage` | a frame that is not JSON instead of `Ready` |
//! | `gpu FREE` | there is a GPU with so many free bytes, if one is asked for |
//! | `gpu-lie` | the same, and it computes more layers than there are |
//! | `gpu-fail CODE`, `gpu-crash` | as above, if a GPU is asked for |
//! | `no-control` | `LoadFailed` with `control`, if a control vector comes with the model |
//! | `control-crash` | the process aborts, if one does |
//! | `expire MS` | ready, and that much later the process aborts |

use std::fs::File;
use std::io::Read;
use std::time::Duration;

use anyhow::Context;
use hob_ipc::EngineEvent;
use hob_ipc::gpu::{Backend, Device, Found, Gpu, Offload};
use hob_ipc::message::{Load, LoadFailure, Ready};

use crate::wire::Wire;

/// Long enough for any test, short enough to leave nothing behind for ever.
pub(crate) const FOREVER: Duration = Duration::from_secs(3600);

const MARK: &[u8] = b"fake-load: ";

pub(crate) fn run(wire: &Wire, load: &Load, model: File) -> anyhow::Result<Ready> {
    wire.send(&EngineEvent::Sandboxed {
        layers: vec!["fake".to_owned()],
    });
    let behaviour = behaviour(model)?;
    let words: Vec<&str> = behaviour.split_whitespace().collect();
    let mut ready = Ready {
        n_ctx: load.n_ctx,
        n_ctx_train: 131_072,
        parameters: 1000,
        architecture: "fake".to_owned(),
        chat: true,
        threads: 1,
        parallel: load.parallel,
        kernels: None,
        state_format: "fake".to_owned(),
    };
    match words.as_slice() {
        [] => {}
        ["slow", ms] => slow(wire, ms.parse()?),
        ["n_ctx", n_ctx] => ready.n_ctx = n_ctx.parse()?,
        ["no-chat"] => ready.chat = false,
        ["fail", code] => fail(wire, serde_json::from_value((*code).into())?),
        [word, rest @ ..] if word.starts_with("gpu") => {
            if let Some(offload) = &load.gpu {
                with_gpu(wire, offload, word, rest)?;
            }
        }
        ["no-control" | "control-crash"] if load.control.is_none() => {}
        ["no-control"] => fail(wire, LoadFailure::Control),
        ["control-crash" | "crash"] => std::process::abort(),
        ["exit"] => std::process::exit(0),
        ["never"] => std::thread::sleep(FOREVER),
        ["garbage"] => {
            wire.send_raw(&[2, 0, 0, 0, b'}', b'{']);
            std::thread::sleep(FOREVER);
        }
        ["expire", ms] => {
            let life = Duration::from_millis(ms.parse()?);
            std::thread::spawn(move || {
                std::thread::sleep(life);
                std::process::abort();
            });
        }
        other => anyhow::bail!("no such load behaviour: {other:?}"),
    }
    Ok(ready)
}

fn fail(wire: &Wire, code: LoadFailure) -> ! {
    wire.send(&EngineEvent::LoadFailed {
        code,
        message: "the fake engine was told to fail".to_owned(),
    });
    std::process::exit(1);
}

fn with_gpu(wire: &Wire, offload: &Offload, word: &str, rest: &[&str]) -> anyhow::Result<()> {
    let found = |free_bytes, layers| {
        let device = Device {
            backend: Backend::Vulkan,
            name: "Fake GPU".to_owned(),
            memory_bytes: 1 << 40,
            free_bytes,
            shared: false,
            layers,
        };
        wire.send(&EngineEvent::Gpu(Found::Device(device)));
        layers
    };
    match (word, rest) {
        ("gpu", [free]) => {
            let free = free.parse()?;
            if found(free, offload.layers_within(free)) == 0 && offload.gpu != Gpu::Auto {
                fail(wire, LoadFailure::Gpu);
            }
        }
        ("gpu-lie", []) => drop(found(1 << 40, offload.layers + 1)),
        ("gpu-fail", [code]) => fail(wire, serde_json::from_value((*code).into())?),
        ("gpu-crash", []) => std::process::abort(),
        other => anyhow::bail!("no such load behaviour: {other:?}"),
    }
    Ok(())
}

fn slow(wire: &Wire, ms: u64) {
    for percent in (0..100).step_by(10) {
        wire.send(&EngineEvent::Loading { percent });
        std::thread::sleep(Duration::from_millis(ms / 10));
    }
}

/// What follows the mark, up to the end of the GGUF string that holds it: the file's next byte
/// is a length's low byte, so strings are read by their own length.
fn behaviour(mut model: File) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    model.read_to_end(&mut bytes).context("reading the model")?;
    let Some(start) = bytes.windows(MARK.len()).position(|window| window == MARK) else {
        return Ok(String::new());
    };
    let length = start
        .checked_sub(8)
        .and_then(|at| bytes[at..].first_chunk())
        .map(|length| u64::from_le_bytes(*length))
        .context("no length before the name")?;
    let end = start + usize::try_from(length)?;
    let text = bytes
        .get(start + MARK.len()..end)
        .context("the name is cut")?;
    Ok(String::from_utf8(text.to_vec())?)
}
