//! What a control vector is learned from: how the residual stream differs behind two answers to the same
//! question (contrastive activation addition, Rimsky et al. 2024, "Steering Llama 2"). Pure.
//!
//! Both answers stand behind the same text, so that neither its length nor its words tell them apart.

use serde::Serialize;

use super::bbq::{ANSWERS, Facts};
use crate::engine::Control;

/// Which answers are set against which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Contrast {
    /// Of ambiguous texts, "unknown" against the names: what it is to say that one does not know.
    Unknown,
    /// The same, and of the others the right name against "unknown": what the answers' own words leave in the
    /// stream is taken out again, and what stays is whether an answer fits its text.
    Fitting,
}

impl Contrast {
    /// Both.
    pub(super) const ALL: [Self; 2] = [Self::Unknown, Self::Fitting];

    /// For people.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Unknown => "\"unknown\" against names",
            Self::Fitting => "fitting against not fitting",
        }
    }

    /// What each answer weighs, together nothing; `None` of a question that tells nothing.
    fn weights(self, facts: Facts) -> Option<[f64; ANSWERS]> {
        let mut weights = [0.0; ANSWERS];
        match (self, facts.ambiguous) {
            (_, true) => {
                weights = [-0.5; ANSWERS];
                weights[facts.unknown] = 1.0;
            }
            (Self::Unknown, false) => return None,
            (Self::Fitting, false) => {
                weights[facts.right] = 1.0;
                weights[facts.unknown] = -1.0;
            }
        }
        Some(weights)
    }
}

/// The sum of what differs, behind each layer, over some questions.
#[derive(Clone, Debug, Default)]
pub(super) struct Sum {
    numbers: Vec<f64>,
    questions: u32,
}

impl Sum {
    /// Takes a question's streams, one behind each answer.
    pub(super) fn take(&mut self, contrast: Contrast, facts: Facts, streams: &[Vec<f32>; ANSWERS]) {
        let Some(weights) = contrast.weights(facts) else {
            return;
        };
        self.numbers.resize(streams[0].len(), 0.0);
        for (stream, weight) in streams.iter().zip(weights) {
            for (sum, number) in self.numbers.iter_mut().zip(stream) {
                *sum += weight * f64::from(*number);
            }
        }
        self.questions += 1;
    }

    /// The mean of what differs behind a layer, over the questions of several sums, so many times; `None`
    /// without any.
    pub(super) fn control<'s>(
        sums: impl Iterator<Item = &'s Self>,
        layer: u32,
        width: u32,
        strength: f64,
    ) -> Option<Control> {
        let (layer_at, width) = (usize::try_from(layer).ok()?, usize::try_from(width).ok()?);
        let mut all = vec![0.0; width];
        let mut questions = 0;
        for sum in sums.filter(|sum| sum.questions > 0) {
            let behind = sum.numbers.get(layer_at * width..(layer_at + 1) * width)?;
            all.iter_mut()
                .zip(behind)
                .for_each(|(all, one)| *all += one);
            questions += sum.questions;
        }
        let weight = strength / f64::from(questions);
        #[allow(
            clippy::cast_possible_truncation,
            reason = "the stream has 32-bit floats"
        )]
        let vector = all
            .into_iter()
            .map(|number| (number * weight) as f32)
            .collect();
        (questions > 0).then_some(Control { layer, vector })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

    use super::*;

    fn facts(ambiguous: bool, right: usize) -> Facts {
        Facts {
            ambiguous,
            right,
            unknown: 2,
            biased: 0,
        }
    }

    /// Streams of two layers of width 2: the answer's own mark behind the first, and 1 behind the second if it
    /// fits the text.
    fn streams(facts: Facts) -> [Vec<f32>; ANSWERS] {
        [0, 1, 2].map(|answer| {
            let mark = if answer == facts.unknown { 3.0 } else { 0.0 };
            let fits = if answer == facts.right { 1.0 } else { 0.0 };
            vec![mark, 0.5, fits, 0.5]
        })
    }

    fn control(contrast: Contrast, layer: u32, strength: f64) -> Option<Control> {
        let sums = [0, 1].map(|right| {
            let mut sum = Sum::default();
            for facts in [facts(true, 2), facts(false, right)] {
                sum.take(contrast, facts, &streams(facts));
            }
            sum
        });
        Sum::control(sums.iter(), layer, 2, strength)
    }

    #[test]
    fn what_an_answers_words_leave_is_in_one_vector_alone() {
        let vector = |contrast, layer| control(contrast, layer, 1.0).unwrap().vector;
        assert_eq!(vector(Contrast::Unknown, 0), [3.0, 0.0]);
        assert_eq!(vector(Contrast::Unknown, 1), [1.0, 0.0]);
        assert_eq!(vector(Contrast::Fitting, 0), [0.0, 0.0]);
        assert_eq!(vector(Contrast::Fitting, 1), [1.0, 0.0]);
        assert_eq!(
            control(Contrast::Unknown, 0, 2.0).unwrap().vector,
            [6.0, 0.0]
        );
    }

    #[test]
    fn nothing_is_learned_of_nothing() {
        assert_eq!(Sum::control([].into_iter(), 0, 2, 1.0), None);
        let mut sum = Sum::default();
        let known = facts(false, 0);
        sum.take(Contrast::Unknown, known, &streams(known));
        assert_eq!(Sum::control([sum].iter(), 0, 2, 1.0), None);
        // Nor of a layer that is not there.
        assert_eq!(control(Contrast::Unknown, 2, 1.0), None);
    }
}
