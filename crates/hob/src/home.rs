//! `hob home`: what a sentence means to this user's home, and having it done.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum, ValueHint};
use hob_api::ErrorCode;
use hob_api::home::{Aid, Call, CallStatus, Decoded, HomeAnswer, HomeRequest, Outcome, Reader};
use hob_api::provider::Scalar;

use crate::ask::to_json;
use crate::clean::clean_line;
use crate::cli::{Global, millis, parse_timeout};
use crate::client::{Client, ClientError};
use crate::exit::ExitStatus;
use crate::failure::Failure;
use crate::output::{Output, Style};

/// How long an answer may take before somebody is told that it is waited for.
const SOON: Duration = Duration::from_millis(700);
/// Characters of a row's name.
const LABEL: usize = 10;
/// On narrower terminals lines end where they end.
const WIDTH_MIN: usize = 20;
/// Most alternatives that are shown.
const ALTERNATIVES_SHOWN: usize = 4;

/// What stands below the options in `hob home --help`.
const AFTER_HELP: &str = "\
Examples:
  hob home \"turn off the hall light\"            your hub does it, or shows the call
  hob home --dry-run \"lock the front door\"      the call alone
  hob home \"open the blinds\" || echo \"not done\"

Exit codes:
  0  done, answered, or not about the home; with --dry-run also a call that is shown
  1  not done: by the hub, for want of one, as it is not clear what is meant, or as
     the home can't do it
  The others are those of `hob --help`.";

/// What to read, and how.
#[derive(Clone, Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct HomeArguments {
    /// What somebody said; several words are joined with spaces
    #[arg(value_name = "TEXT", value_hint = ValueHint::Other, required = true)]
    pub(crate) text: Vec<String>,

    /// The provider that is meant [default: whichever of yours fits best]
    #[arg(long, value_name = "NAME")]
    pub(crate) provider: Option<String>,

    /// The room in which it is said
    #[arg(long, value_name = "NAME")]
    pub(crate) area: Option<String>,

    /// Who reads it: its words alone, or the model
    #[arg(long, value_name = "READER", default_value = "words")]
    pub(crate) reader: ReaderName,

    /// Show the call and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// With `--reader model`: tell the model so often what came of its calls, and ask for further ones
    #[arg(long, value_name = "TIMES", conflicts_with = "dry_run")]
    pub(crate) follow_ups: Option<u32>,

    /// Give up after this long, such as 30s [default: the daemon's]
    #[arg(long, value_name = "TIME", value_parser = parse_timeout, conflicts_with = "dry_run")]
    pub(crate) timeout: Option<Duration>,

    /// Read without this aid, to see what it is worth; may be given several times
    #[arg(long, value_name = "AID")]
    pub(crate) without: Vec<AidName>,

    /// Write one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// What to evaluate.
#[derive(Debug, Subcommand)]
pub(crate) enum EvaluateCommand {
    /// How many sentences are read as they are meant
    Home(EvaluateHome),
}

/// What to read, and against what.
#[derive(Clone, Debug, Args)]
pub(crate) struct EvaluateHome {
    /// One JSON object a line: `text`, and what is meant: `tool`, `targets`, `arguments`, or
    /// another `outcome` than call
    #[arg(value_name = "DATA", value_hint = ValueHint::FilePath)]
    pub(crate) data: PathBuf,

    /// Register this definition for as long as it takes [default: your providers as they are]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) provider: Option<PathBuf>,

    /// Who reads them: their words alone, or the model
    #[arg(long, value_name = "READER", default_value = "words")]
    pub(crate) reader: ReaderName,

    /// Read without this aid, to see what it is worth; may be given several times
    #[arg(long, value_name = "AID")]
    pub(crate) without: Vec<AidName>,

    /// Show each sentence that was not read as it was meant
    #[arg(long)]
    pub(crate) misses: bool,

    /// Write one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// An [`Aid`] on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AidName(pub(crate) Aid);

impl ValueEnum for AidName {
    fn value_variants<'a>() -> &'a [Self] {
        const ALL: [AidName; Aid::ALL.len()] = {
            let mut all = [AidName(Aid::Examples); Aid::ALL.len()];
            let mut place = 0;
            while place < all.len() {
                all[place] = AidName(Aid::ALL[place]);
                place += 1;
            }
            all
        };
        &ALL
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        Some(clap::builder::PossibleValue::new(self.0.as_str()))
    }
}

/// A [`Reader`] on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReaderName(pub(crate) Reader);

impl ValueEnum for ReaderName {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self(Reader::Words), Self(Reader::Model)]
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        Some(clap::builder::PossibleValue::new(self.0.as_str()))
    }
}

/// Has a sentence done by the hub, or reads it if there is none, and shows what came of it.
///
/// # Errors
/// No daemon, no provider, or what the daemon refuses.
pub(crate) async fn run(
    arguments: HomeArguments,
    global: &Global,
    output: &mut Output,
) -> Result<ExitStatus, Failure> {
    let client = Client::find(global.socket.as_deref()).await?;
    let mut request = HomeRequest {
        text: arguments.text.join(" "),
        provider: arguments.provider,
        area: arguments.area,
        reader: arguments.reader.0,
        without: arguments.without.iter().map(|aid| aid.0).collect(),
        execute: !arguments.dry_run,
        follow_ups: arguments.follow_ups,
        timeout_ms: arguments.timeout.map(millis),
        ..HomeRequest::default()
    };
    let answer = match told_of_waiting(client.home(&request), &request, output).await {
        Err(ClientError::Api(error)) if error.code == ErrorCode::NoHub => {
            request = HomeRequest {
                execute: false,
                follow_ups: None,
                timeout_ms: None,
                ..request
            };
            client.home(&request).await?
        }
        answer => answer?,
    };
    if arguments.json {
        output.write(&to_json(&answer)?)?;
    } else {
        let look = Look {
            color: output.color(),
            columns: output.columns(),
        };
        output.write(&shown(&answer, request.execute, look))?;
    }
    Ok(if undone(&answer, arguments.dry_run) {
        ExitStatus::Failure
    } else {
        ExitStatus::Success
    })
}

/// The answer. Somebody who waits for long is told for what it may be.
async fn told_of_waiting<T>(
    answer: impl Future<Output = T>,
    request: &HomeRequest,
    output: &mut Output,
) -> T {
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        answer = &mut answer => return answer,
        () = tokio::time::sleep(SOON) => {}
    }
    output.show_status(if request.execute {
        "waiting for the home; it may ask somebody to confirm (Ctrl-C gives up)"
    } else {
        "waiting for the model (Ctrl-C gives up)"
    });
    answer.await
}

/// Whether something that was said is not known to be done; in a dry run, whether it could not be.
fn undone(answer: &HomeAnswer, dry_run: bool) -> bool {
    let done = |call: &Call| {
        let result = call.result.as_ref();
        result.is_some_and(|result| result.status == CallStatus::Done)
    };
    match answer.outcome {
        Outcome::Call => !dry_run && !answer.calls.iter().all(done),
        Outcome::Unsure | Outcome::Cannot => true,
        Outcome::Question | Outcome::Talk => false,
    }
}

/// How things are shown.
#[derive(Clone, Copy, Debug, Default)]
struct Look {
    color: bool,
    /// Characters of a line; `None` where lines have no end.
    columns: Option<usize>,
}

/// The answer for people; `executed` if a hub was there for what is a call.
fn shown(answer: &HomeAnswer, executed: bool, look: Look) -> String {
    let mut text = String::new();
    let mut row = |name: &str, value: &str| {
        let width = look.columns.map(|all| all.saturating_sub(LABEL));
        for (place, line) in wrapped(&clean_line(value), width).iter().enumerate() {
            let name = if place == 0 { name } else { "" };
            let name = format!("{name:<LABEL$}");
            // Writing to a string can't fail.
            let _ = writeln!(text, "{}{line}", Style::Bold.paint(&name, look.color));
        }
    };
    let reply = answer.reply.as_deref().unwrap_or_default();
    for (place, line) in reply.lines().enumerate() {
        row(if place == 0 { "reply" } else { "" }, line);
    }
    for call in &answer.calls {
        row("call", &called(call));
        if let Some(error) = call
            .result
            .as_ref()
            .and_then(|result| result.error.as_ref())
        {
            row("", error);
        }
    }
    if !executed && answer.outcome == Outcome::Call {
        row("done", "nothing");
    }
    if answer.outcome != Outcome::Call {
        row("outcome", answer.outcome.as_str());
    }
    if !answer.targets.is_empty() {
        row("about", &answer.targets.join(", "));
    }
    for part in &answer.left_out {
        row("left out", part);
    }
    if let Some(reason) = &answer.reason {
        row("reason", reason);
    }
    for call in answer.alternatives.iter().take(ALTERNATIVES_SHOWN) {
        row("or", &called(call));
    }
    #[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
    let ms = answer.read_us as f64 / 1000.0;
    row("read in", &format!("{ms:.1} ms"));
    if let Some(decoded) = &answer.decoded {
        row("model", &modelled(decoded));
    }
    text
}

/// `text` in lines of at most `width` characters, parted between words as far as words allow.
fn wrapped(text: &str, width: Option<usize>) -> Vec<String> {
    let Some(width) = width.filter(|width| *width >= WIDTH_MIN) else {
        return vec![text.to_owned()];
    };
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split_inclusive(' ') {
        let length = word.trim_end().chars().count();
        if used > 0 && used + length > width {
            lines.push(String::new());
            used = 0;
        }
        if let Some(line) = lines.last_mut() {
            line.push_str(word);
            used += word.chars().count();
        }
    }
    for line in &mut lines {
        line.truncate(line.trim_end().len());
    }
    lines
}

/// What the model did, on one line.
fn modelled(decoded: &Decoded) -> String {
    let usage = &decoded.usage;
    format!(
        "{}: {} tokens in {} steps, {} of {} prompt tokens cached",
        decoded.model,
        usage.completion_tokens,
        usage.completion_tokens_details.forward_passes,
        usage.prompt_tokens_details.cached_tokens,
        usage.prompt_tokens,
    )
}

/// One call on one line.
fn called(call: &Call) -> String {
    let mut text = call.tool.clone();
    if !call.targets.is_empty() {
        text += " ";
        text += &call.targets.join(", ");
    }
    if !call.arguments.is_empty() {
        // Writing to a string can't fail.
        let _ = write!(text, " ({})", arguments(&call.arguments));
    }
    let asks = if call.needs_confirmation {
        ", needs a confirmation"
    } else {
        ""
    };
    let ended = call.result.as_ref().map_or(String::new(), |result| {
        format!(", {}", result.status.as_str())
    });
    format!("{text}  {:.0} %{asks}{ended}", 100.0 * call.probability)
}

fn arguments(arguments: &BTreeMap<String, Scalar>) -> String {
    let shown = arguments.iter().map(|(name, value)| match value {
        Scalar::Boolean(value) => format!("{name} {value}"),
        Scalar::Integer(value) => format!("{name} {value}"),
        Scalar::Number(value) => format!("{name} {value}"),
        Scalar::Text(value) => format!("{name} \"{value}\""),
    });
    shown.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use hob_api::home::CallResult;

    use super::*;

    fn call(tool: &str, probability: f64) -> Call {
        Call {
            provider: "home".to_owned(),
            tool: tool.to_owned(),
            targets: vec!["light.\u{7}hall".to_owned()],
            probability,
            ..Call::default()
        }
    }

    #[test]
    fn a_call_for_people() {
        let mut first = call("lock.lock", 0.914);
        first.needs_confirmation = true;
        let value = ("brightness".to_owned(), Scalar::Integer(40));
        first.arguments.extend([value]);
        let answer = HomeAnswer {
            outcome: Outcome::Call,
            calls: vec![first],
            alternatives: vec![call("lock.unlock", 0.02)],
            read_us: 1250,
            ..HomeAnswer::default()
        };
        insta::assert_snapshot!(shown(&answer, true, Look::default()), @r"
        call      lock.lock light.␇hall (brightness 40)  91 %, needs a confirmation
        or        lock.unlock light.␇hall  2 %
        read in   1.2 ms
        ");
    }

    #[test]
    fn what_was_done_is_said_first_and_nothing_of_a_hub_reaches_the_terminal_raw() {
        let mut made = call("light.on", 0.9);
        made.result = Some(CallResult {
            status: CallStatus::Failed,
            error: Some("no power\u{1b}[31m".to_owned()),
            ..CallResult::default()
        });
        let mut answer = HomeAnswer {
            outcome: Outcome::Call,
            calls: vec![made],
            reply: Some("That did not\u{1b}]0;x\u{7} work.\nAt all.".to_owned()),
            ..HomeAnswer::default()
        };
        insta::assert_snapshot!(shown(&answer, true, Look::default()), @r"
        reply     That did not␛]0;x␇ work.
                  At all.
        call      light.on light.␇hall  90 %, failed
                  no power␛[31m
        read in   0.0 ms
        ");
        assert!(undone(&answer, false));
        answer.reply = None;
        answer.calls[0].result = None;
        insta::assert_snapshot!(shown(&answer, false, Look::default()), @r"
        call      light.on light.␇hall  90 %
        done      nothing
        read in   0.0 ms
        ");
        // Without a hub it was to be done and is not; a dry run is to do nothing.
        assert!(undone(&answer, false));
        assert!(!undone(&answer, true));
    }

    #[test]
    fn long_lines_are_parted_between_words() {
        let answer = HomeAnswer {
            outcome: Outcome::Call,
            reply: Some("Done: Desk Lamp, Hall Light.".to_owned()),
            ..HomeAnswer::default()
        };
        let look = Look {
            columns: Some(32),
            ..Look::default()
        };
        insta::assert_snapshot!(shown(&answer, true, look), @r"
        reply     Done: Desk Lamp, Hall
                  Light.
        read in   0.0 ms
        ");
        let word = "x".repeat(50);
        for (text, width, lines) in [
            ("", Some(20), vec![""]),
            ("a b", Some(19), vec!["a b"]),
            (&word, Some(20), vec![word.as_str()]),
            (
                "ab cd ef gh ij kl mn op",
                Some(20),
                vec!["ab cd ef gh ij kl mn", "op"],
            ),
            (
                "über die straße gehen",
                Some(20),
                vec!["über die straße", "gehen"],
            ),
        ] {
            assert_eq!(wrapped(text, width), lines);
        }
    }

    #[test]
    fn what_is_not_clear_or_not_possible_is_not_done() {
        for (outcome, expected) in [
            (Outcome::Unsure, true),
            (Outcome::Cannot, true),
            (Outcome::Question, false),
            (Outcome::Talk, false),
        ] {
            let answer = HomeAnswer {
                outcome,
                ..HomeAnswer::default()
            };
            for dry_run in [false, true] {
                assert_eq!(undone(&answer, dry_run), expected, "{outcome:?}");
            }
        }
    }

    #[test]
    fn what_is_no_call_says_why() {
        let answer = HomeAnswer {
            outcome: Outcome::Talk,
            reason: Some("nothing of the home was named".to_owned()),
            ..HomeAnswer::default()
        };
        insta::assert_snapshot!(shown(&answer, true, Look::default()), @r"
        outcome   talk
        reason    nothing of the home was named
        read in   0.0 ms
        ");
    }

    #[test]
    fn what_the_model_did_is_told() {
        let answer = HomeAnswer {
            outcome: Outcome::Talk,
            decoded: Some(Decoded {
                model: "tiny".to_owned(),
                usage: hob_api::event::Usage::new(300, 280, 9).with_passes(6, 4),
                ..Decoded::default()
            }),
            ..HomeAnswer::default()
        };
        insta::assert_snapshot!(shown(&answer, false, Look::default()), @r"
        outcome   talk
        read in   0.0 ms
        model     tiny: 9 tokens in 4 steps, 280 of 300 prompt tokens cached
        ");
        for reader in ReaderName::value_variants() {
            let value = reader.to_possible_value();
            let name = value.as_ref().map(clap::builder::PossibleValue::get_name);
            assert_eq!(name, Some(reader.0.as_str()));
        }
    }

    #[test]
    fn aids_have_their_names_on_the_wire() {
        for aid in AidName::value_variants() {
            let value = aid.to_possible_value();
            let name = value.as_ref().map(clap::builder::PossibleValue::get_name);
            assert_eq!(name, Some(aid.0.as_str()));
        }
    }
}
