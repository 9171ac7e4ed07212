//! Checks that ask the daemon.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use hob_api::status::{State, Status};
use hob_api::tuning::Speed;

use super::Check;
use crate::client::Client;
use crate::failure::Failure;
use crate::render::{bytes, counted};
use crate::status::state;

/// Socket, daemon, state, models and sandbox; and the status if there is one.
pub(super) async fn checks(socket: Option<&Path>) -> (Vec<Check>, Option<Status>) {
    let client = match Client::find(socket).await {
        Ok(client) => client,
        Err(error) => {
            let failure = Failure::from(error);
            let check = Check::problem("socket", failure.message).maybe_hint(failure.hint);
            return (vec![check], None);
        }
    };
    let mut checks = vec![socket_check(client.socket())];
    let status = match client.status().await {
        Ok(status) => status,
        Err(error) => {
            let failure = Failure::from(error);
            checks.push(Check::problem("daemon", failure.message).maybe_hint(failure.hint));
            return (checks, None);
        }
    };
    checks.extend(loopback(&status));
    checks.push(version(&status));
    checks.push(readiness(&status));
    checks.push(models(&client).await);
    checks.extend(kernels(&status));
    checks.extend(gpu(&status));
    checks.extend(control(&status));
    checks.extend(sandbox(&status));
    checks.extend(losses(&status));
    checks.extend(tuning(&status));
    (checks, Some(status))
}

fn socket_check(socket: &Path) -> Check {
    let shown = socket.display();
    match socket.metadata() {
        Ok(file) if file.mode() & 0o002 != 0 => Check::warning(
            "socket",
            format!("{shown} lets every user of this machine ask"),
        )
        .hint("the socket should be 0660 with group hob, or 0600 for one user"),
        Ok(file) => {
            let mode = file.mode() & 0o777;
            Check::ok(
                "socket",
                format!("{shown} (mode {mode:04o}, owner {})", file.uid()),
            )
        }
        // It answered, so it is there: its folder just may not be read.
        Err(_) => Check::ok("socket", shown.to_string()),
    }
}

/// The door over TCP, where it is open.
fn loopback(status: &Status) -> Option<Check> {
    let address = status.loopback.as_ref()?;
    let finding = format!("http://{address}/ serves who has the token of http.token_file");
    Some(Check::ok("loopback", finding))
}

fn version(status: &Status) -> Check {
    let own = env!("CARGO_PKG_VERSION");
    if status.version == own {
        Check::ok("daemon", format!("hobd {own} answers"))
    } else {
        Check::warning(
            "daemon",
            format!("hobd is {}, hob is {own}", status.version),
        )
        .hint("restart hobd after an upgrade")
    }
}

fn readiness(status: &Status) -> Check {
    let finding = state(status);
    match (status.state, &status.problem) {
        (State::Ready | State::Sleeping, _) => Check::ok("state", finding),
        (State::Loading | State::Unknown, _) => {
            Check::warning("state", finding).hint("questions wait until it is ready")
        }
        (_, Some(problem)) => Check::problem("state", format!("{finding}: {}", problem.message))
            .maybe_hint(problem.hint.clone()),
        (_, None) => Check::problem("state", finding).hint("look at hobd's log"),
    }
}

async fn models(client: &Client) -> Check {
    match client.models().await {
        Ok(list) if list.data.is_empty() => {
            Check::problem("models", "none is installed").hint(format!(
                "install the default one with `hob models pull{}`",
                client.models_option()
            ))
        }
        Ok(list) => {
            let size = list.data.iter().map(|model| model.size_bytes).sum();
            Check::ok(
                "models",
                format!("{} installed, {}", list.data.len(), bytes(size)),
            )
        }
        Err(error) => {
            let failure = Failure::from(error);
            Check::problem("models", failure.message).maybe_hint(failure.hint)
        }
    }
}

/// What computes; nothing before that is known.
fn kernels(status: &Status) -> Option<Check> {
    crate::status::kernels(&status.kernels).map(|kernels| Check::ok("kernels", kernels))
}

/// What a GPU computes, where one is asked for.
fn gpu(status: &Status) -> Option<Check> {
    let finding = crate::status::gpu(&status.gpu)?;
    Some(if status.gpu.problem.is_none() {
        Check::ok("gpu", finding)
    } else {
        Check::warning("gpu", finding)
            .hint("docs/boards.md tells what a GPU needs; engine.gpu = \"off\" does without")
    })
}

/// The control vector, where one lies beside the model.
fn control(status: &Status) -> Option<Check> {
    let finding = crate::status::control(&status.control_vector)?;
    Some(if status.control_vector.problem.is_none() {
        Check::ok("vector", finding)
    } else {
        Check::warning("vector", finding).hint(
            "`hob fairness mitigate MODEL --remove` takes it away; `hob fairness mitigate --help` tells how \
             another one is verified.",
        )
    })
}

/// What was measured on this board; nothing if nothing was.
fn tuning(status: &Status) -> Option<Check> {
    let tuning = status.tuning.as_ref()?;
    let speed = |speed: &Speed| {
        let Speed {
            read_per_second,
            written_per_second,
        } = speed;
        format!("reads {read_per_second:.1} and writes {written_per_second:.1} tokens a second")
    };
    let (then, version) = (speed(&tuning.speed), &tuning.version);
    if let Some(slower) = tuning.checked.as_ref().filter(|checked| checked.slower) {
        let now = speed(&slower.speed);
        let finding = format!("{} {now}, and {version} {then}", slower.version);
        return Some(
            Check::warning("tuning", finding)
                .hint("this version is slower here: `hob tune` measures anew"),
        );
    }
    let model = status
        .model
        .as_ref()
        .filter(|model| !model.sha256.is_empty());
    if model.is_some_and(|model| model.sha256 != tuning.sha256) {
        let finding = format!("measured with {}, which is not loaded", tuning.model);
        return Some(Check::warning("tuning", finding).hint("`hob tune` measures anew"));
    }
    Some(Check::ok("tuning", format!("{} {then}", tuning.model)))
}

/// The sandbox in force; nothing while there is no engine to be in it.
fn sandbox(status: &Status) -> Option<Check> {
    let engine = status.engine.as_ref()?;
    let layers = engine.sandbox.join(", ");
    let has = |layer: &str| engine.sandbox.iter().any(|name| name.starts_with(layer));
    Some(if has("landlock") && has("seccomp") {
        let weaker = if has("seccomp-gpu") {
            "; weaker, as a GPU's driver runs in it"
        } else {
            ""
        };
        Check::ok("sandbox", format!("in force: {layers}{weaker}"))
    } else {
        let layers = if layers.is_empty() {
            "nothing"
        } else {
            &layers
        };
        let setting = &status.sandbox_setting;
        Check::warning(
            "sandbox",
            format!("in force: {layers} (setting: {setting})"),
        )
        .hint("a broken model file could do more harm than it should; set sandbox = \"required\"")
    })
}

fn losses(status: &Status) -> Option<Check> {
    let losses = status.engine_losses;
    (losses > 0).then(|| {
        Check::warning(
            "engine",
            format!(
                "ended unasked {} since hobd started",
                counted(losses, "time")
            ),
        )
        .hint("its last words are in hobd's log; `hob models verify` checks the model")
    })
}

#[cfg(test)]
mod tests {
    use hob_api::status::EngineStatus;

    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_missing_layer_is_a_warning() {
        let with = |layers: &[&str]| {
            let engine = EngineStatus {
                sandbox: layers.iter().map(|&layer| layer.to_owned()).collect(),
                ..Default::default()
            };
            sandbox(&Status {
                engine: Some(engine),
                ..Default::default()
            })
            .map(|c| c.verdict)
        };
        assert_eq!(with(&["landlock-abi-4", "seccomp"]), Some(Verdict::Ok));
        assert_eq!(with(&["seccomp"]), Some(Verdict::Warning));
        assert_eq!(with(&[]), Some(Verdict::Warning));
        assert_eq!(sandbox(&Status::default()), None);
    }

    #[test]
    fn a_gpu_is_told_of_where_one_is_asked_for() {
        let mut status = Status::default();
        assert!(gpu(&status).is_none());
        status.gpu.problem = Some("no driver offers a device".to_owned());
        let check = gpu(&status);
        assert_eq!(check.map(|c| c.verdict), Some(Verdict::Warning));
        status.gpu.problem = None;
        (status.gpu.layers, status.gpu.layers_all) = (12, 30);
        let check = gpu(&status);
        assert!(check.is_some_and(|c| c.verdict == Verdict::Ok && c.finding.contains("12 of 30")));
    }

    #[test]
    fn an_open_door_over_tcp_is_told_of() {
        assert_eq!(loopback(&Status::default()), None);
        let status = Status {
            loopback: Some("127.0.0.1:8181".to_owned()),
            ..Default::default()
        };
        let finding = loopback(&status).map(|check| check.finding);
        assert!(finding.is_some_and(|finding| finding.contains("http://127.0.0.1:8181/")));
    }

    #[test]
    fn no_model_is_a_problem() {
        let status = Status {
            state: State::NoModel,
            ..Default::default()
        };
        assert_eq!(readiness(&status).verdict, Verdict::Problem);
    }
}
