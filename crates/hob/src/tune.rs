//! `hob tune`: the daemon measures this board, and loads models as was fastest from then on.

use std::fmt::Write as _;
use std::time::Duration;

use clap::Args;
use hob_api::tuning::{Speed, TuneEvent, Tuning};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep};

use crate::ask::to_json;
use crate::clean::clean_line;
use crate::cli::Global;
use crate::client::{Client, ClientError};
use crate::exit::ExitStatus;
use crate::failure::Failure;
use crate::output::Output;
use crate::table::Table;

/// How long the daemon may take to keep what was measured until a Ctrl-C, and how often it is asked:
/// the step of the model under way ends first.
const KEEPING: Duration = Duration::from_secs(30);
const ASK_EVERY: Duration = Duration::from_millis(200);

/// Options of `hob tune`.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct TuneOptions {
    /// Forget what was measured, and have the daemon choose by itself again
    #[arg(long)]
    reset: bool,
    /// Show what was measured last, and measure nothing
    #[arg(long, conflicts_with = "reset")]
    show: bool,
    /// Write one JSON object
    #[arg(long)]
    json: bool,
}

/// Measures, forgets, or shows.
///
/// # Errors
/// No daemon, or what it refuses.
pub(crate) async fn run(
    options: TuneOptions,
    global: &Global,
    output: &mut Output,
) -> Result<ExitStatus, Failure> {
    let client = Client::find(global.socket.as_deref()).await?;
    if options.reset {
        let reply = client.forget_tuning().await?;
        if options.json {
            output.write(&to_json(&reply)?)?;
        } else {
            output.remark("(forgotten; models are loaded as hobd chooses by itself)");
        }
        return Ok(ExitStatus::Success);
    }
    let (tuning, status) = if options.show {
        let nothing = || Failure::new("nothing was measured yet").hint("`hob tune` measures");
        let tuning = client.tuning().await?.tuning.ok_or_else(nothing)?;
        (tuning, ExitStatus::Success)
    } else {
        measure(&client, output).await?
    };
    if options.json {
        output.write(&to_json(&tuning)?)?;
    } else {
        output.write(&shown(&tuning))?;
    }
    Ok(status)
}

/// Follows a measurement to its end, or to Ctrl-C.
async fn measure(client: &Client, output: &mut Output) -> Result<(Tuning, ExitStatus), Failure> {
    let mut interrupts = signal(SignalKind::interrupt())
        .map_err(|error| Failure::io("Ctrl-C could not be watched for", &error))?;
    let before = client.tuning().await?.tuning;
    let mut measurement = client.tune().await?;
    let mut measured = 0;
    loop {
        let event = tokio::select! {
            event = measurement.next() => event?,
            _ = interrupts.recv() => break,
        };
        match event {
            TuneEvent::Trying {
                number,
                of,
                seconds_left,
            } => {
                let left = match seconds_left {
                    0 => String::new(),
                    seconds => format!(", about {seconds} s left"),
                };
                output.show_status(&format!(
                    "measuring, {number} of at most {of}{left}; Ctrl-C keeps what is done"
                ));
            }
            TuneEvent::Tried(_) => measured += 1,
            TuneEvent::Done(tuning) => return Ok((tuning, ExitStatus::Success)),
            TuneEvent::Error { error } => return Err(error.into()),
        }
    }
    drop(measurement);
    output.clear_status();
    let stopped = || Failure::new("stopped before anything was measured; nothing changed");
    if measured == 0 {
        return Err(stopped().status(ExitStatus::Interrupted));
    }
    let until = Instant::now() + KEEPING;
    while Instant::now() < until {
        match client.tuning().await?.tuning {
            Some(tuning) if before.as_ref() != Some(&tuning) => {
                return Ok((tuning, ExitStatus::Interrupted));
            }
            _ => sleep(ASK_EVERY).await,
        }
    }
    Err(ClientError::Unresponsive { after: KEEPING }.into())
}

/// What was tried, and what was chosen.
fn shown(tuning: &Tuning) -> String {
    let mut table = Table::new(["", "THREADS", "WEIGHTS", "KV", "READ/S", "WRITTEN/S"]);
    for trial in &tuning.trials {
        let Speed {
            read_per_second,
            written_per_second,
        } = trial.speed;
        let chosen = trial.speed == tuning.speed;
        table.add([
            if chosen { "*" } else { "" }.to_owned(),
            trial.threads.to_string(),
            clean_line(&trial.weights),
            clean_line(&trial.kv_type),
            format!("{read_per_second:.1}"),
            format!("{written_per_second:.1}"),
        ]);
    }
    let mut text = table.text(&[1, 4, 5]);
    let mut set = Vec::new();
    set.extend(
        tuning
            .threads
            .map(|threads| format!("engine.threads = {threads}")),
    );
    let weights = tuning.weights.as_ref();
    set.extend(weights.map(|weights| format!("engine.weights = \"{}\"", clean_line(weights))));
    let chosen = if set.is_empty() {
        "what hobd chooses by itself, or what you set, is the best".to_owned()
    } else {
        format!("in force beneath your settings: {}", set.join(", "))
    };
    // Writing to a string can't fail.
    let _ = writeln!(text, "\n{}: {chosen}.", clean_line(&tuning.model));
    if !tuning.complete {
        text += "It was stopped, or its time was over, before all was tried.\n";
    }
    text += "Other types of contexts are less exact, and yours to choose (engine.kv_type).\n";
    text
}

#[cfg(test)]
mod tests {
    use hob_api::tuning::Trial;

    use super::*;

    #[test]
    fn the_table_marks_what_was_chosen() {
        let trial = |threads, rate| Trial {
            threads,
            weights: "mapped".to_owned(),
            kv_type: "f16".to_owned(),
            speed: Speed {
                read_per_second: rate,
                written_per_second: rate / 2.0,
            },
        };
        let trials = vec![trial(4, 100.0), trial(3, 120.5)];
        let tuning = Tuning {
            version: "0.1.0".to_owned(),
            model: "m\x1b[2J".to_owned(),
            sha256: String::new(),
            time: 0,
            threads: Some(3),
            weights: None,
            speed: trials[1].speed,
            complete: false,
            trials,
            checked: None,
        };
        insta::assert_snapshot!(shown(&tuning));
    }
}
