//! `hob evaluate home`: how many sentences of a labelled set are read as they are meant.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Instant;

use hob_api::home::{HomeAnswer, HomeRequest, Outcome};
use serde::Serialize;

use crate::ask::to_json;
use crate::clean::clean_line;
use crate::cli::Global;
use crate::client::Client;
use crate::exit::ExitStatus;
use crate::failure::Failure;
use crate::home::{EvaluateCommand, EvaluateHome};
use crate::output::Output;
use crate::providers;
use sentence::{Sentence, Verdict};

pub(crate) mod sentence;

/// Most rows of the table of what was taken for what.
const CONFUSIONS_SHOWN: usize = 12;

/// How one intent was read.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Intent {
    /// Sentences that mean it.
    sentences: usize,
    /// Of them, those read exactly: outcome, tool, targets and arguments.
    exact: usize,
    /// Of them, those with the right tool, or the right outcome if that is no call.
    right: usize,
}

/// What came out.
#[derive(Debug, Default, Serialize)]
struct Figures {
    /// All sentences.
    sentences: usize,
    /// Read exactly.
    exact: usize,
    /// Exactly, or as the first alternative of an `unsure`.
    exact_first: usize,
    /// With the right tool, or the right outcome if that is no call.
    intent: usize,
    /// Sentences that mean a call and were answered by none.
    missed: usize,
    /// Sentences that mean no call and were answered by one.
    called_wrongly: usize,
    /// Answered by `unsure`.
    unsure: usize,
    /// By intent.
    by_intent: BTreeMap<String, Intent>,
    /// How often a sentence of one outcome was read as another.
    outcomes: BTreeMap<String, BTreeMap<String, usize>>,
    /// What was taken for what, the most frequent first.
    confusion: Vec<(String, String, usize)>,
    /// How many calls with a probability of at least so many tenths were right, and how many there
    /// were.
    calibration: BTreeMap<String, (usize, usize)>,
    /// The reading itself, in microseconds: half of them took less, and 95 of 100.
    read_us: (u64, u64),
    /// A whole exchange with the daemon, in microseconds: likewise.
    exchange_us: (u64, u64),
}

/// Does what the command says.
///
/// # Errors
/// No daemon, a file that can't be read, or what the daemon refuses.
pub(crate) async fn run(
    command: EvaluateCommand,
    global: &Global,
    output: &mut Output,
) -> Result<ExitStatus, Failure> {
    let EvaluateCommand::Home(arguments) = command;
    let sentences = sentence::read(&arguments.data)?;
    let client = Client::find(global.socket.as_deref()).await?;
    let name = match &arguments.provider {
        None => None,
        Some(file) => {
            let name = format!("evaluation-{}", std::process::id());
            client.put_provider(&name, providers::read(file)?).await?;
            Some(name)
        }
    };
    let read = read_all(&client, &sentences, &arguments, name.as_deref(), output).await;
    if let Some(name) = &name {
        client.delete_provider(name).await?;
    }
    let figures = read?;
    if arguments.json {
        output.write(&to_json(&figures)?)?;
    } else {
        output.write(&shown(&figures))?;
    }
    Ok(ExitStatus::Success)
}

async fn read_all(
    client: &Client,
    sentences: &[Sentence],
    arguments: &EvaluateHome,
    provider: Option<&str>,
    output: &mut Output,
) -> Result<Figures, Failure> {
    let mut tally = Tally::default();
    for (place, sentence) in sentences.iter().enumerate() {
        output.show_status(&format!("sentence {} of {}", place + 1, sentences.len()));
        let request = HomeRequest {
            text: sentence.text.clone(),
            provider: provider.map(str::to_owned),
            area: sentence.area.clone(),
            reader: arguments.reader.0,
            without: arguments.without.iter().map(|aid| aid.0).collect(),
            ..HomeRequest::default()
        };
        let started = Instant::now();
        let answer = client.home(&request).await?;
        let exchange = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let exact = tally.add(sentence, &answer, exchange);
        if arguments.misses && !exact {
            output.write(&miss(sentence, &answer))?;
        }
    }
    output.clear_status();
    Ok(tally.figures())
}

/// What is counted on the way.
#[derive(Default)]
struct Tally {
    figures: Figures,
    confusion: BTreeMap<(String, String), usize>,
    read_us: Vec<u64>,
    exchange_us: Vec<u64>,
}

impl Tally {
    /// Counts one answer; true if it is exactly what was meant.
    fn add(&mut self, sentence: &Sentence, answer: &HomeAnswer, exchange_us: u64) -> bool {
        let meant = sentence.outcome();
        let means_call = meant == Outcome::Call;
        let answered = answer.outcome == Outcome::Call;
        let exact = sentence.judge(answer) == Verdict::Exact;
        let first = means_call
            && !answered
            && sentence.is_exactly(answer.alternatives.get(..1).unwrap_or_default());
        let got = read_intent(answer);
        let intent = got == sentence.intent();
        let figures = &mut self.figures;
        figures.sentences += 1;
        figures.exact += usize::from(exact);
        figures.exact_first += usize::from(exact || first);
        figures.intent += usize::from(intent);
        figures.missed += usize::from(means_call && !answered);
        figures.called_wrongly += usize::from(!means_call && answered);
        figures.unsure += usize::from(answer.outcome == Outcome::Unsure);
        let by_intent = figures.by_intent.entry(sentence.intent().to_owned());
        let by_intent = by_intent.or_default();
        by_intent.sentences += 1;
        by_intent.exact += usize::from(exact);
        by_intent.right += usize::from(intent);
        let row = figures
            .outcomes
            .entry(meant.as_str().to_owned())
            .or_default();
        *row.entry(answer.outcome.as_str().to_owned()).or_default() += 1;
        if !intent {
            let pair = (sentence.intent().to_owned(), got.to_owned());
            *self.confusion.entry(pair).or_default() += 1;
        }
        if let Some(call) = answer.calls.first() {
            let tenths = (call.probability * 10.0).floor().clamp(0.0, 9.0);
            let tenths = format!("{:.1}", tenths / 10.0);
            let bin = figures.calibration.entry(tenths).or_default();
            bin.0 += usize::from(exact);
            bin.1 += 1;
        }
        self.read_us.push(answer.read_us);
        self.exchange_us.push(exchange_us);
        exact
    }

    fn figures(mut self) -> Figures {
        let mut confusion: Vec<_> = self
            .confusion
            .into_iter()
            .map(|((meant, got), count)| (meant, got, count))
            .collect();
        confusion.sort_by_key(|(.., count)| std::cmp::Reverse(*count));
        self.figures.confusion = confusion;
        self.figures.read_us = spread(&mut self.read_us);
        self.figures.exchange_us = spread(&mut self.exchange_us);
        self.figures
    }
}

/// The tool of the first call, or the outcome that is none.
fn read_intent(answer: &HomeAnswer) -> &str {
    answer
        .calls
        .first()
        .map_or(answer.outcome.as_str(), |call| &call.tool)
}

/// The median and the 95th of 100.
fn spread(values: &mut [u64]) -> (u64, u64) {
    values.sort_unstable();
    let at = |part: usize| values.get(values.len() * part / 100).copied();
    (at(50).unwrap_or_default(), at(95).unwrap_or_default())
}

fn miss(sentence: &Sentence, answer: &HomeAnswer) -> String {
    let got = match answer.calls.as_slice() {
        [] => answer.outcome.as_str().to_owned(),
        calls => {
            let calls = calls.iter();
            let shown = calls.map(|call| format!("{} {}", call.tool, call.targets.join(",")));
            shown.collect::<Vec<_>>().join("; ")
        }
    };
    let first = answer.calls.first().or(answer.alternatives.first());
    let first = first.map_or(String::new(), |call| {
        format!(
            " [{} {} {:.2}]",
            call.tool,
            call.targets.join(","),
            call.probability
        )
    });
    let line = format!(
        "{}  =  {} {}, not {got}{first}",
        sentence.text,
        sentence.intent(),
        sentence.targets.join(",")
    );
    clean_line(&line) + "\n"
}

/// The figures for people.
fn shown(figures: &Figures) -> String {
    let share = |part: usize, all: usize| {
        #[allow(clippy::cast_precision_loss, reason = "a percentage")]
        let percent = 100.0 * part as f64 / all.max(1) as f64;
        format!("{percent:5.1} %  ({part} of {all})")
    };
    let all = figures.sentences;
    let mut text = String::new();
    // Writing to a string can't fail.
    let _ = writeln!(text, "exact         {}", share(figures.exact, all));
    let _ = writeln!(text, "exact, first  {}", share(figures.exact_first, all));
    let _ = writeln!(text, "intent        {}", share(figures.intent, all));
    let _ = writeln!(text, "unsure        {}", share(figures.unsure, all));
    let _ = writeln!(text, "no call       {}", share(figures.missed, all));
    let _ = writeln!(text, "wrong call    {}", share(figures.called_wrongly, all));
    let _ = writeln!(text, "\nby intent");
    for (name, intent) in &figures.by_intent {
        let exact = share(intent.exact, intent.sentences);
        let right = share(intent.right, intent.sentences);
        let _ = writeln!(
            text,
            "  {:<32}  exact {exact:<22}  intent {right}",
            clean_line(name)
        );
    }
    if !figures.confusion.is_empty() {
        let _ = writeln!(text, "\ntaken for");
    }
    for (meant, got, count) in figures.confusion.iter().take(CONFUSIONS_SHOWN) {
        let _ = writeln!(
            text,
            "  {count:4}  {} for {}",
            clean_line(meant),
            clean_line(got)
        );
    }
    let _ = writeln!(text, "\nprobability");
    for (tenths, (right, count)) in &figures.calibration {
        let _ = writeln!(text, "  from {tenths}  right {}", share(*right, *count));
    }
    let ms = |(half, most): (u64, u64)| {
        #[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
        let (half, most) = (half as f64 / 1000.0, most as f64 / 1000.0);
        format!("{half:.1} ms, 95 of 100 within {most:.1} ms")
    };
    let _ = writeln!(text, "\nreading       {}", ms(figures.read_us));
    let _ = writeln!(text, "exchange      {}", ms(figures.exchange_us));
    text
}

#[cfg(test)]
mod tests {
    use hob_api::home::Call;
    use hob_api::provider::Scalar;

    use super::*;

    fn sentence(tool: &str) -> Sentence {
        Sentence {
            text: "x".to_owned(),
            tool: tool.to_owned(),
            targets: vec!["a".to_owned(), "b".to_owned()],
            ..Sentence::default()
        }
    }

    fn answer(tool: &str, targets: &[&str]) -> HomeAnswer {
        HomeAnswer {
            outcome: Outcome::Call,
            calls: vec![Call {
                tool: tool.to_owned(),
                targets: targets.iter().map(|id| (*id).to_owned()).collect(),
                probability: 0.95,
                ..Call::default()
            }],
            ..HomeAnswer::default()
        }
    }

    #[test]
    fn the_order_of_targets_does_not_count_and_all_else_does() {
        let mut tally = Tally::default();
        assert!(tally.add(&sentence("on"), &answer("on", &["b", "a"]), 1));
        assert!(!tally.add(&sentence("on"), &answer("on", &["a"]), 1));
        assert!(!tally.add(&sentence("on"), &answer("off", &["a", "b"]), 1));
        let mut other = answer("on", &["a", "b"]);
        let value = ("x".to_owned(), Scalar::Integer(1));
        other.calls[0].arguments.extend([value]);
        assert!(!tally.add(&sentence("on"), &other, 1));
        let figures = tally.figures();
        assert_eq!(
            (figures.sentences, figures.exact, figures.intent),
            (4, 1, 3)
        );
        assert_eq!(figures.confusion, [("on".to_owned(), "off".to_owned(), 1)]);
        assert_eq!(figures.calibration["0.9"], (1, 4));
    }

    #[test]
    fn a_call_for_talk_is_wrong_and_no_call_is_missed() {
        let mut tally = Tally::default();
        let talk = Sentence {
            outcome: Some(Outcome::Talk),
            ..Sentence::default()
        };
        assert!(!tally.add(&talk, &answer("on", &["a"]), 1));
        assert!(tally.add(&talk, &HomeAnswer::default(), 1));
        assert!(!tally.add(&sentence("on"), &HomeAnswer::default(), 1));
        let figures = tally.figures();
        assert_eq!((figures.called_wrongly, figures.missed), (1, 1));
        assert_eq!(figures.by_intent["talk"].exact, 1);
        assert!(shown(&figures).contains("wrong call     33.3 %  (1 of 3)"));
    }
}
