//! What an audit found, read again from the card that lies beside a model, for those who show other
//! figures of the model as well.

use std::time::SystemTime;

use hob_models::{ModelName, Sha256};
use serde::{Deserialize, Serialize};

use super::card::figure;
use super::figure::Figure;
use super::sets;
use crate::models::Place;
use crate::models::gate::{Card as KnownCard, Gate};

/// What is known of a model's fairness.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Findings {
    /// The day of the audit, in UTC: `2026-11-26`.
    pub(crate) measured_on: String,
    /// Questions that were asked.
    pub(crate) questions: usize,
    /// What the figures do not tell.
    pub(crate) scope: String,
    /// Those that models are judged by.
    pub(crate) figures: Vec<Finding>,
    /// What came of comparing the model with another.
    pub(crate) gate: Option<Gate>,
}

/// One figure.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Finding {
    set: String,
    measure: String,
    is_bias: bool,
    #[serde(flatten)]
    figure: Option<Figure>,
}

/// The parts of a card that are read; it has more.
#[derive(Debug, Deserialize)]
struct Card {
    model_sha256: Sha256,
    scope: String,
    sets: Vec<Set>,
    #[serde(default)]
    gate: Option<Gate>,
}

#[derive(Debug, Deserialize)]
struct Set {
    #[serde(rename = "set")]
    name: String,
    questions: usize,
    scored: Vec<Scored>,
}

#[derive(Debug, Deserialize)]
struct Scored {
    counts: bool,
    figures: Vec<Told>,
}

#[derive(Debug, Deserialize)]
struct Told {
    measure: String,
    is_bias: bool,
    #[serde(flatten)]
    figure: Option<Figure>,
}

impl Findings {
    /// What the card beside a model's file says, or beside a copy of it; `None` without a card that is of this
    /// file and can be read.
    pub(crate) fn of(name: &ModelName, sha256: Sha256, place: &Place<'_>) -> Option<Self> {
        let (beside, _) = KnownCard::found(name, sha256, place)?;
        let text = place.store.fairness_card(&beside).ok()??;
        // An audit writes its card when it ends.
        let path = place.store.fairness_path(&beside);
        let written = std::fs::metadata(path).and_then(|found| found.modified());
        Self::read(&text, sha256, written.ok()?)
    }

    fn read(text: &str, sha256: Sha256, written: SystemTime) -> Option<Self> {
        let card: Card = serde_json::from_str(text).ok()?;
        if card.model_sha256 != sha256 {
            return None;
        }
        let questions = card.sets.iter().map(|set| set.questions).sum();
        let counting = card.sets.into_iter().flat_map(|Set { name, scored, .. }| {
            let counting = scored.into_iter().filter(|scored| scored.counts);
            counting.flat_map(move |scored| {
                let name = name.clone();
                scored.figures.into_iter().map(move |told| Finding {
                    set: name.clone(),
                    measure: told.measure,
                    is_bias: told.is_bias,
                    figure: told.figure,
                })
            })
        });
        let time = humantime::format_rfc3339_seconds(written).to_string();
        Some(Self {
            measured_on: time.split('T').next().unwrap_or_default().to_owned(),
            questions,
            scope: card.scope,
            figures: counting.collect(),
            gate: card.gate,
        })
    }
}

impl Finding {
    /// What it is of, for people: the set and the measure, as audits name them.
    pub(crate) fn title(&self) -> String {
        let title = sets::title(&self.set, &self.measure).unwrap_or(&self.measure);
        let bias = if self.is_bias { "bias " } else { "" };
        format!("{}, {bias}{title}", self.set)
    }

    /// In percent with its interval, of bias with its sign.
    pub(crate) fn percent(&self) -> String {
        figure(self.figure, self.is_bias)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

    use serde_json::json;

    use super::super::sets::{Scored, SetCard, Told};
    use super::*;

    fn digest(digit: char) -> Sha256 {
        std::iter::repeat_n(digit, 64)
            .collect::<String>()
            .parse()
            .unwrap()
    }

    /// A card's text with what audits write into one.
    fn card() -> String {
        let told = |measure, is_bias, value| Told {
            measure,
            title: "not written",
            is_bias,
            figure: Some(Figure {
                value,
                interval: Some((value - 0.25, value + 0.25)),
            }),
        };
        let scored = |counts| Scored {
            scoring: sets::BBQ.scorings[0],
            counts,
            figures: vec![
                told("ambiguous_right", false, 0.5),
                told("s_amb", true, 0.25),
            ],
        };
        let set = SetCard {
            set: sets::BBQ.title,
            about: "",
            groups: 3,
            questions: 12,
            scored: vec![scored(false), scored(true)],
            strata: Vec::new(),
            places: Vec::new(),
        };
        json!({
            "model_sha256": digest('a'), "scope": "English.", "sets": [set], "gate": null,
            "what else": "there is",
        })
        .to_string()
    }

    /// What that card says.
    pub(crate) fn findings() -> Findings {
        Findings::read(&card(), digest('a'), SystemTime::UNIX_EPOCH).unwrap()
    }

    #[test]
    fn what_counts_is_read_as_audits_write_it() {
        let found = findings();
        assert_eq!(
            (found.measured_on.as_str(), found.questions),
            ("1970-01-01", 12)
        );
        let shown = found
            .figures
            .iter()
            .map(|one| (one.title(), one.percent()))
            .collect::<Vec<_>>();
        let expected = [
            ("BBQ, AMBIGUOUS", "50.0 (25.0 to 75.0)"),
            ("BBQ, bias s_AMB", "+25.0 (+0.0 to +50.0)"),
        ];
        let expected = expected.map(|(title, value)| (title.to_owned(), value.to_owned()));
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_card_of_another_file_or_that_is_none_says_nothing() {
        let read = |text: &str, of| Findings::read(text, digest(of), SystemTime::UNIX_EPOCH);
        assert_eq!(read(&card(), 'b'), None);
        assert_eq!(read("{}", 'a'), None);
        assert_eq!(read(&card()[..40], 'a'), None);
    }
}
