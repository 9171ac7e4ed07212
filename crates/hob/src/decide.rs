//! `hob decide`: one typed question, answered with probabilities.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use clap::{Args, ValueHint};
use hob_api::decision::{Answer, DecisionRequest, Decisions, Question};

use crate::ask::to_json;
use crate::clean::clean_line;
use crate::cli::{Global, millis, parse_timeout};
use crate::client::Client;
use crate::exit::ExitStatus;
use crate::failure::Failure;
use crate::output::{Output, Style};

/// The question's id in the request; nobody sees it.
const ID: &str = "answer";
/// Characters of the longest bar.
const BAR: f64 = 20.0;

/// What to decide, and how.
#[derive(Debug, Args)]
pub(crate) struct Deciding {
    /// What it is about; several words are joined with spaces, and stdin goes below
    #[arg(value_name = "TEXT", value_hint = ValueHint::Other)]
    pub(crate) text: Vec<String>,

    /// What is asked about it [default: which of the options fits best]
    #[arg(long, value_name = "TEXT")]
    question: Option<String>,

    /// Which of these; `name=meaning` says more about one
    #[arg(long, value_name = "A,B,…", value_delimiter = ',', required_unless_present_any = ["score", "noul"])]
    choice: Vec<String>,

    /// How far on this scale, the lowest level first
    #[arg(
        long,
        value_name = "LOW,…,HIGH",
        value_delimiter = ',',
        conflicts_with = "choice"
    )]
    score: Vec<String>,

    /// Whether it is so: how likely yes
    #[arg(long, conflicts_with_all = ["choice", "score"], requires = "question")]
    noul: bool,

    /// Ask this model; it must be the one that is loaded [default: the one that is loaded]
    #[arg(long, value_name = "NAME")]
    model: Option<String>,

    /// Time allowed, such as 30s or 2m [default: the daemon's setting]
    #[arg(long, value_name = "TIME", value_parser = parse_timeout)]
    timeout: Option<Duration>,

    /// Write one JSON object
    #[arg(long)]
    json: bool,
}

/// Asks about `state`, and writes the answer.
///
/// # Errors
/// No daemon, its error, an option given twice, or stdout's.
pub(crate) async fn run(
    state: String,
    deciding: Deciding,
    global: &Global,
    output: &mut Output,
) -> Result<ExitStatus, Failure> {
    let (json, model, timeout) = (deciding.json, deciding.model.clone(), deciding.timeout);
    let request = DecisionRequest {
        model,
        state,
        questions: BTreeMap::from([(ID.to_owned(), deciding.into_question()?)]),
        class: None,
        cache_prompt: None,
        keep_alive_ms: None,
        timeout_ms: timeout.map(millis),
    };
    let client = Client::find(global.socket.as_deref()).await?;
    let decisions = client.decide(&request).await?;
    if json {
        output.write(&to_json(&decisions)?)?;
        return Ok(ExitStatus::Success);
    }
    if let Some(answer) = decisions.answers.get(ID) {
        output.write(&table(answer, output.color()))?;
    }
    if global.verbose {
        output.remark(&cost(&decisions));
    }
    Ok(ExitStatus::Success)
}

impl Deciding {
    fn into_question(self) -> Result<Question, Failure> {
        let usual = "Which of these fits the text best?";
        let instructions = self.question.unwrap_or_else(|| usual.to_owned());
        if self.noul {
            return Ok(Question::Noul {
                instructions,
                criteria: None,
            });
        }
        if !self.score.is_empty() {
            return Ok(Question::Score {
                instructions,
                criteria: self.score,
            });
        }
        let mut criteria = BTreeMap::new();
        for option in self.choice {
            let (name, meaning) = match option.split_once('=') {
                Some((name, meaning)) => (name.to_owned(), Some(meaning.to_owned())),
                None => (option, None),
            };
            let twice = format!("the option {} is given twice", clean_line(&name));
            if criteria.insert(name, meaning).is_some() {
                let hint = "give each once, as in `--choice on,off`";
                return Err(Failure::usage(twice).hint(hint));
            }
        }
        Ok(Question::Choice {
            instructions,
            criteria,
        })
    }
}

/// The answer for people: the likeliest option first, levels in their order.
fn table(answer: &Answer, color: bool) -> String {
    match answer {
        Answer::Choice {
            probabilities,
            choice,
            ..
        } => {
            let mut rows: Vec<_> = probabilities
                .iter()
                .map(|(name, p)| (name.as_str(), *p))
                .collect();
            rows.sort_by(|one, other| other.1.total_cmp(&one.1));
            lines(&rows, Some(choice), color)
        }
        Answer::Score {
            score,
            legend,
            probabilities,
            ..
        } => {
            let level = |number: &String| number.parse::<u32>().unwrap_or(u32::MAX);
            let mut levels: Vec<_> = probabilities.iter().collect();
            levels.sort_by_key(|(number, _)| level(number));
            let meaning = |number: &String| legend.get(number).map_or("", String::as_str);
            let rows: Vec<_> = levels
                .iter()
                .map(|(number, p)| (meaning(number), **p))
                .collect();
            let highest = levels.len().saturating_sub(1);
            let mut text = lines(&rows, None, color);
            // Writing to a string can't fail.
            let _ = writeln!(text, "{score:.2} of 0 to {highest}");
            text
        }
        Answer::Noul { noul } => lines(&[("yes", *noul), ("no", 1.0 - noul)], None, color),
    }
}

/// One line for each: its name, how likely it is, and a bar.
fn lines(rows: &[(&str, f64)], choice: Option<&str>, color: bool) -> String {
    let names: Vec<String> = rows.iter().map(|(name, _)| clean_line(name)).collect();
    let widest = names
        .iter()
        .map(|name| name.chars().count())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for (shown, (name, probability)) in names.iter().zip(rows) {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "from 0 to the longest bar"
        )]
        let bar = "█".repeat((probability.clamp(0.0, 1.0) * BAR).round() as usize);
        let gap = " ".repeat(widest - shown.chars().count());
        let painted = if choice == Some(name) {
            Style::Bold.paint(shown, color)
        } else {
            shown.into()
        };
        let percent = probability * 100.0;
        let line = format!("{painted}{gap}  {percent:5.1} %  {bar}");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// What it took, in brackets.
fn cost(decisions: &Decisions) -> String {
    let usage = decisions.usage;
    let seconds = decisions.timings.prefill_ms / 1e3;
    format!(
        "({} tokens, {} of them computed, in {} steps and {seconds:.2} s by {})",
        usage.input_tokens,
        usage.input_tokens.saturating_sub(usage.cached_tokens),
        usage.forward_passes,
        clean_line(&decisions.model),
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser as _;

    fn question(arguments: &[&str]) -> Result<Question, String> {
        let arguments = ["hob", "decide", "The lamp is on"].iter().chain(arguments);
        let cli = Cli::try_parse_from(arguments).map_err(|error| error.to_string())?;
        let Some(Command::Decide(deciding)) = cli.command else {
            panic!("another command");
        };
        deciding.into_question().map_err(|error| error.to_string())
    }

    #[test]
    fn options_make_a_question() {
        let choice = question(&["--choice", "on,off=it is dark,unsure"]).unwrap();
        let Question::Choice { criteria, .. } = choice else {
            panic!("{choice:?}");
        };
        let options: Vec<_> = criteria
            .iter()
            .map(|(k, m)| (k.as_str(), m.as_deref()))
            .collect();
        assert_eq!(
            options,
            [("off", Some("it is dark")), ("on", None), ("unsure", None)]
        );
        let score = question(&["--score", "low,high", "--question", "How bright?"]).unwrap();
        assert!(matches!(score, Question::Score { criteria, .. } if criteria == ["low", "high"]));
        let noul = question(&["--noul", "--question", "Is it on?"]).unwrap();
        assert!(matches!(noul, Question::Noul { instructions, .. } if instructions == "Is it on?"));
        for wrong in [
            &[][..],
            &["--noul"],
            &["--choice", "a,a"],
            &["--choice", "a,b", "--score", "a,b"],
            &["--choice", "a,b", "--noul", "--question", "x"],
        ] {
            assert!(question(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn tables_for_people() {
        let probabilities = |each: &[(&str, f64)]| {
            let each = each.iter().map(|(name, p)| ((*name).to_owned(), *p));
            each.collect::<BTreeMap<_, _>>()
        };
        let choice = Answer::Choice {
            choice: "on".to_owned(),
            probabilities: probabilities(&[("off", 0.049), ("on", 0.95), ("\u{1b}[2Jün", 0.001)]),
            confidence: 0.9,
        };
        insta::assert_snapshot!(table(&choice, false), @r"
        on       95.0 %  ███████████████████
        off       4.9 %  █
        ␛[2Jün    0.1 %
        ");
        let legend = [("0", "can wait"), ("1", "today"), ("2", "now")];
        let legend = legend.map(|(level, meaning)| (level.to_owned(), meaning.to_owned()));
        let score = Answer::Score {
            score: 1.1,
            legend: BTreeMap::from(legend),
            probabilities: probabilities(&[("0", 0.2), ("1", 0.5), ("2", 0.3)]),
            confidence: 0.5,
        };
        insta::assert_snapshot!(table(&score, false), @r"
        can wait   20.0 %  ████
        today      50.0 %  ██████████
        now        30.0 %  ██████
        1.10 of 0 to 2
        ");
        insta::assert_snapshot!(table(&Answer::Noul { noul: 1.0 }, false), @r"
        yes  100.0 %  ████████████████████
        no     0.0 %
        ");
    }
}
