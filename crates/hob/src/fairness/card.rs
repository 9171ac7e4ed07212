//! What was found, for people and for programs.

use std::fmt::Write as _;

use hob_models::{ModelName, Sha256};
use serde::Serialize;

use super::apply::Application;
use super::figure::{Figure, Share};
use super::mitigate::{AMBIGUOUS_MIN, DISAMBIGUATED_ENOUGH, Doubt, LOSS_MAX, Report};
use super::sets::{Scored, SetCard, SetChange, Told};
use super::steering::{self, Answering, Chosen};
use super::verdict::{FLIPPED_PERCENT_MAX, judge};
use super::{Asked, Extent, Measured};
use crate::clean::{clean, clean_line};
use crate::failure::Failure;
use crate::models::Place;
use crate::models::gate::Gate;
use crate::table::Table;

/// What the fields mean. Goes up when they change.
const VERSION: u32 = 1;
/// What the figures do not tell.
const SCOPE: &str = "English questions on stereotypes of the USA, and no others. Good figures do not show that \
                     a model does no harm.";

/// What an audit found.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Card {
    version: u32,
    /// The model.
    pub(super) model: ModelName,
    /// Its file.
    pub(super) model_sha256: Sha256,
    data_sha256: Sha256,
    pub(super) scope: &'static str,
    pub(super) extent: Extent,
    /// Whether all was measured.
    pub(super) complete: bool,
    pub(super) questions: usize,
    pub(super) sets: Vec<SetCard>,
    pub(super) changes: Vec<SetChange>,
    pub(super) flipped: Option<Share>,
    /// Whether the model may take another's place.
    pub(super) gate: Option<Gate>,
}

impl Card {
    /// Of one model, or of one against another. Nobody is judged by half of the questions.
    pub(super) fn new(asked: &Asked, measured: &Measured, base: Option<&Measured>) -> Self {
        let stopped = measured.results.stopped || base.is_some_and(|base| base.results.stopped);
        let changes = base.map(|base| asked.changes(&base.results, &measured.results));
        let verdict = changes.as_deref().map(judge);
        let gate = base.zip(verdict.clone()).filter(|_| !stopped);
        let sets = asked.cards(&measured.results);
        Self {
            version: VERSION,
            model: measured.name.clone(),
            model_sha256: measured.sha256,
            data_sha256: asked.data.sha256,
            scope: SCOPE,
            extent: asked.extent,
            complete: !stopped,
            questions: asked.questions(),
            changes: changes.unwrap_or_default(),
            flipped: verdict.as_ref().map(|verdict| verdict.flipped),
            gate: gate.map(|(base, verdict)| Gate {
                against: base.name.clone(),
                against_sha256: base.sha256,
                passed: verdict.passed,
                questions: verdict.flipped.of,
                sets: sets.iter().map(|card| card.set.to_owned()).collect(),
                reasons: verdict.reasons,
            }),
            sets,
        }
    }

    /// Shows it.
    pub(super) fn show(&self, place: &mut Place<'_>) -> Result<(), Failure> {
        if place.json {
            return place.output.write(&crate::ask::to_json(self)?);
        }
        place.output.write(&clean(&self.text()))
    }

    fn text(&self) -> String {
        let mut text = format!(
            "Fairness of {}\n{}\n* marks what models are judged by. {}\n",
            self.model,
            self.about(),
            self.scope
        );
        for set in &self.sets {
            // Writing to a string can't fail.
            let _ = write!(text, "\n{}", set_text(set));
        }
        if let Some(flipped) = self.flipped {
            let _ = write!(text, "\n{}", self.changes_text(flipped));
        }
        text
    }

    /// How much was asked.
    pub(super) fn about(&self) -> String {
        let measured: usize = self.sets.iter().map(|set| set.questions).sum();
        let part = if self.complete {
            String::new()
        } else {
            format!("PARTIAL: {measured} of {} questions. ", self.questions)
        };
        format!(
            "{part}{measured} questions, answers listed in {} orders. In percent, with intervals of 95 %.",
            self.extent.orders
        )
    }

    fn changes_text(&self, flipped: Share) -> String {
        let mut table = Table::new(["CHANGE", "", "BY", "ANSWERED OTHERWISE"]);
        for change in &self.changes {
            for (at, rise) in change.rises.iter().enumerate() {
                let mut of = share(change.flipped);
                if let Some(biased) = change.newly_biased {
                    let _ = write!(of, ", {biased} of them newly biased");
                }
                let row = [
                    change.set.to_owned(),
                    format!("{}{}", if rise.is_bias { "bias " } else { "" }, rise.title),
                    figure(rise.figure, true),
                    if at == 0 { of } else { String::new() },
                ];
                table.add(row);
            }
        }
        let verdict = self.verdict(flipped);
        format!("{}{verdict}\n", table.text(&[2, 3]))
    }

    /// Whether the model may take the other's place, of so many questions that are answered otherwise.
    pub(super) fn verdict(&self, flipped: Share) -> String {
        match &self.gate {
            None => "Not judged: not all was measured.".to_owned(),
            Some(gate) if gate.passed => format!(
                "PASSED: beside {}, no bias rose beyond its interval, and {} of all questions are \
                 answered otherwise ({FLIPPED_PERCENT_MAX} % may be).",
                gate.against,
                share(flipped)
            ),
            Some(gate) => format!(
                "NOT PASSED beside {}: {}.",
                gate.against,
                gate.reasons.join("; ")
            ),
        }
    }
}

fn set_text(set: &SetCard) -> String {
    let titles = |figures: &[Told]| {
        figures
            .iter()
            .map(|told| told.title.to_owned())
            .collect::<Vec<_>>()
    };
    let Some(first) = set.scored.first() else {
        return String::new();
    };
    let heads = |head: &str| std::iter::once(head.to_owned()).chain(titles(&first.figures));
    let values = |figures: &[Told]| figures.iter().map(value).collect::<Vec<_>>();
    let right: Vec<usize> = (1..=first.figures.len()).collect();
    let mut table = Table::new(heads("SCORED BY"));
    for scored in &set.scored {
        let mut row = vec![scoring(scored)];
        row.extend(values(&scored.figures));
        table.add(row);
    }
    let mut text = format!(
        "{}: {} questions in {} groups\n{}\n{}",
        set.set,
        set.questions,
        set.groups,
        set.about,
        table.text(&right)
    );
    if !set.strata.is_empty() {
        let mut table = Table::new(heads("* BY CATEGORY"));
        for (name, figures) in &set.strata {
            let mut row = vec![clean_line(name)];
            row.extend(values(figures));
            table.add(row);
        }
        text += &table.text(&right);
    }
    if !set.places.is_empty() {
        let mut table = Table::new(
            ["* PLACE IN THE LIST".to_owned()]
                .into_iter()
                .chain(titles(&set.places)),
        );
        let mut row = vec!["chosen".to_owned()];
        row.extend(values(&set.places));
        table.add(row);
        text += &table.text(&(1..=set.places.len()).collect::<Vec<_>>());
    }
    text
}

/// What the rows of a table are; the one that is judged by has a star.
pub(super) fn scoring(scored: &Scored) -> String {
    let star = if scored.counts { "* " } else { "  " };
    format!("{star}{}", scored.scoring.title())
}

pub(super) fn value(told: &Told) -> String {
    figure(told.figure, told.is_bias)
}

/// A figure in percent: of bias and changes with its sign.
pub(super) fn figure(found: Option<Figure>, sign: bool) -> String {
    let Some(Figure { value, interval }) = found else {
        return "-".to_owned();
    };
    let percent = |value: f64| {
        let value = 100.0 * value;
        if sign {
            format!("{value:+.1}")
        } else {
            format!("{value:.1}")
        }
    };
    match interval {
        None => percent(value),
        Some((low, high)) => format!("{} ({} to {})", percent(value), percent(low), percent(high)),
    }
}

pub(super) fn share(share: Share) -> String {
    let percent = 100.0 * share.value().unwrap_or(0.0);
    format!("{} of {} ({percent:.1} %)", share.part, share.of)
}

/// What came of abstaining.
#[derive(Serialize)]
struct Mitigation<'a> {
    version: u32,
    model: &'a ModelName,
    data_sha256: Sha256,
    scope: &'static str,
    extent: Extent,
    #[serde(flatten)]
    report: &'a Report,
    #[serde(skip_serializing_if = "Option::is_none")]
    control_vector: Option<&'a steering::Report>,
    /// What came of `--apply`.
    #[serde(skip_serializing_if = "Option::is_none")]
    application: Option<&'a Application>,
}

/// Shows what came of abstaining, and of control vectors.
pub(super) fn show_mitigation(
    model: &ModelName,
    asked: &Asked,
    report: &Report,
    steered: Option<&(steering::Report, Option<Application>)>,
    place: &mut Place<'_>,
) -> Result<(), Failure> {
    let vectors = steered.map(|(vectors, _)| vectors);
    let application = steered.and_then(|(_, application)| application.as_ref());
    if place.json {
        let object = Mitigation {
            version: VERSION,
            model,
            data_sha256: asked.data.sha256,
            scope: SCOPE,
            extent: asked.extent,
            report,
            control_vector: vectors,
            application,
        };
        return place.output.write(&crate::ask::to_json(&object)?);
    }
    let percent = |value: f64| format!("{:.0} %", 100.0 * value);
    let aim = format!(
        "{} of the ambiguous questions right, and {} of the others or at most {} fewer than before",
        percent(AMBIGUOUS_MIN),
        percent(DISAMBIGUATED_ENOUGH),
        percent(LOSS_MAX)
    );
    let text = format!(
        "Abstention of {model}, each category by what was fitted to the others. In percent, with intervals \
         of 95 %.\n{SCOPE}\n\n{}\n{}\n{}: {aim}.\n{}{}\n",
        answers(report),
        fitted(report),
        verdict(report.reached),
        vectors.map_or_else(String::new, vectors_text),
        changed(model, application, &place.store.option())
    );
    place.output.write(&clean(&text))
}

/// What is right without abstention and with it.
fn answers(report: &Report) -> String {
    let titles = report.before.iter().map(|told| told.title);
    let mut table = Table::new(std::iter::once("BBQ").chain(titles));
    let alone = report
        .asked
        .map_or_else(String::new, |asked| format!("as it is, {}", asked.title()));
    for (name, told) in [
        (alone, &report.before),
        ("abstaining".to_owned(), &report.after),
    ] {
        let mut row = vec![name];
        row.extend(told.iter().map(value));
        table.add(row);
    }
    table.text(&[1, 2, 3, 4])
}

/// What was fitted to all categories but one.
fn fitted(report: &Report) -> String {
    let mut table = Table::new(["LEFT OUT", "DOUBT", "SCORED BY", "FROM"]);
    for (name, rule) in &report.fitted {
        let row = match rule {
            None => ["none found", "", ""].map(str::to_owned),
            Some(fitted) => [
                match fitted.rule.doubt {
                    Doubt::Unknown => "\"unknown\" against the best name",
                    Doubt::Names => "one name against the other",
                }
                .to_owned(),
                format!(
                    "{}, {}",
                    fitted.rule.answers.title(),
                    fitted.rule.normalisation.title()
                ),
                format!("{:+.3}", fitted.threshold),
            ],
        };
        table.add([vec![clean_line(name)], row.to_vec()].concat());
    }
    table.text(&[3])
}

/// What became of the model.
fn changed(model: &ModelName, application: Option<&Application>, option: &str) -> String {
    match application {
        None => "Nothing was changed.".to_owned(),
        Some(Application::Refused { why, earlier }) => {
            let still = if *earlier {
                format!(
                    " {model} still has a vector from before; `hob fairness mitigate {model} --remove{option}` \
                     takes it away."
                )
            } else {
                String::new()
            };
            format!("NOT APPLIED: {why}. Nothing was changed.{still}")
        }
        Some(Application::Applied {
            file,
            setting,
            text_loss,
        }) => format!(
            "\nAPPLIED, learned from all categories: {}, behind layer {}, {:.1} times ({:+.2} % on the text). It is \
             {}, and hobd adds it whenever it loads {model}, from the next time on, as after a restart of hobd; \
             `hob fairness mitigate {model} --remove{option}` takes it away.",
            setting.contrast.title(),
            setting.layer,
            setting.strength,
            100.0 * text_loss,
            file.display()
        ),
    }
}

fn verdict(reached: bool) -> &'static str {
    if reached { "REACHED" } else { "NOT REACHED" }
}

/// What comes of control vectors.
fn vectors_text(report: &steering::Report) -> String {
    let titles = report.before.iter().map(|told| told.title);
    let mut table = Table::new(std::iter::once("BBQ, ANSWERS NOT LISTED").chain(titles));
    let mut chosen = Table::new(["LEFT OUT", "ANSWERS", "CONTRAST", "LAYER", "TIMES", "TEXT"]);
    let mut row = |name: &str, told: &[Told]| {
        table.add([vec![name.to_owned()], told.iter().map(value).collect()].concat());
    };
    row("without a vector", &report.before);
    for outcome in &report.outcomes {
        let answers = match outcome.answering {
            Answering::Plain => "with one",
            Answering::Abstaining => "with one, abstaining",
        };
        row(answers, &outcome.after);
        for (category, of) in &outcome.chosen {
            let cells = [clean_line(category), answers.to_owned()].to_vec();
            chosen.add([cells, vector_cells(of.as_ref()).to_vec()].concat());
        }
    }
    let verdicts = report.outcomes.iter().map(|one| verdict(one.reached));
    format!(
        "\nControl vectors, likewise\n{}\n{}\nThe same aim: {}.\n",
        table.text(&[1, 2, 3, 4]),
        chosen.text(&[3, 4, 5]),
        verdicts.collect::<Vec<_>>().join("; with abstention ")
    )
}

fn vector_cells(chosen: Option<&Chosen>) -> [String; 4] {
    let cells = |cells: [&str; 4]| cells.map(str::to_owned);
    let Some(chosen) = chosen else {
        return cells(["nothing keeps enough right", "", "", ""]);
    };
    let Some(setting) = chosen.candidate.setting else {
        return cells(["no vector is better", "", "", ""]);
    };
    [
        setting.contrast.title().to_owned(),
        setting.layer.to_string(),
        format!("{:.1}", setting.strength),
        format!("{:+.2} %", 100.0 * chosen.text_loss),
    ]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

    use super::*;
    use crate::fairness::steering::Setting;

    #[test]
    fn what_became_of_the_model_is_said_last() {
        let model = ModelName::new("small").unwrap();
        let said = |application: Option<&Application>| changed(&model, application, " --system");
        assert_eq!(said(None), "Nothing was changed.");
        let why = "the aim was not reached".to_owned();
        let refused = |earlier| {
            let why = why.clone();
            said(Some(&Application::Refused { why, earlier }))
        };
        let words = "NOT APPLIED: the aim was not reached. Nothing was changed.";
        assert_eq!(refused(false), words);
        let earlier = refused(true);
        assert!(
            earlier.starts_with(words) && earlier.contains("--remove --system` takes it away"),
            "{earlier}"
        );
        let applied = said(Some(&Application::Applied {
            file: "/models/small.control".into(),
            setting: Setting::all(30)[1],
            text_loss: 0.0012,
        }));
        for words in [
            "behind layer 12, 3.0 times (+0.12 % on the text)",
            "/models/small.control",
            "`hob fairness mitigate small --remove --system`",
        ] {
            assert!(applied.contains(words), "{words}: {applied}");
        }
    }
}
