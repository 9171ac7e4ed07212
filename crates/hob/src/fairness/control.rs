//! Learns control vectors with an engine, and asks models that they are added to.

use std::collections::BTreeMap;

use hob_models::store::OpenModel;

use super::apply::{self, Learnt, check_text};
use super::bbq::{ANSWERS, Facts};
use super::kept::Kept;
use super::measure::{self, Results, tasks};
use super::question::Group;
use super::steering::{
    Answering, Candidate, Chosen, Held, Learned, Report, Setting, Tried, candidates, keeps_text,
    open_groups, open_scores, to_fit,
};
use crate::engine::{Control, Engine, EngineError};
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::models::ordinary::{Foreseen, Ordinary};
use crate::models::progress::Meter;

/// What vectors are tried with.
pub(super) struct Bench<'a> {
    /// The model.
    pub(super) model: &'a OpenModel,
    /// What is measured, kept.
    pub(super) kept: Kept,
    /// Ordinary text.
    pub(super) text: &'a Ordinary,
    /// Whether what passes is learned from all categories, too.
    pub(super) apply: bool,
    /// Ctrl-C.
    pub(super) interrupt: &'a Interrupt,
    /// Progress.
    pub(super) meter: &'a mut Meter,
}

/// What is known once the model was looked at without a vector.
struct Known<'a> {
    learned: Learned,
    foreseen: Foreseen,
    /// Groups by category, asked without a list.
    categories: &'a BTreeMap<String, Vec<Group<Facts>>>,
    unsteered: &'a Results,
    /// By the digests of vectors, how much more ordinary text takes.
    losses: BTreeMap<String, f64>,
}

/// What was chosen for a category that was left out, and what was measured under it; nothing is where no vector
/// was chosen.
type Choice = Option<(Chosen, Option<Results>)>;

/// What was verified, and the vector of all categories, or why there is none; that is `None` if nobody wants one.
type Found = (Report, Option<Result<Learnt, String>>);

impl Bench<'_> {
    /// Learns, chooses and verifies, given what the model answers without a vector; `None` if Ctrl-C ended it.
    ///
    /// # Errors
    /// When an engine fails, or what it says can't be kept.
    pub(super) fn run(
        &mut self,
        groups: &[Group<Facts>],
        unsteered: &Results,
    ) -> Result<Option<Found>, Failure> {
        let unsteered = unsteered.map(open_scores);
        let mut categories: BTreeMap<String, Vec<Group<Facts>>> = BTreeMap::new();
        for group in open_groups(groups) {
            categories
                .entry(group.stratum.clone())
                .or_default()
                .push(group);
        }
        let (learned, foreseen) = match self.learn(&categories) {
            Err(EngineError::Stopped(_)) => return Ok(None),
            other => other?,
        };
        let mut known = Known {
            learned,
            foreseen,
            categories: &categories,
            unsteered: &unsteered,
            losses: BTreeMap::new(),
        };
        let mut folds: Vec<(&String, Vec<Choice>)> = Vec::new();
        for (at, category) in categories.keys().enumerate() {
            self.meter.say(&format!(
                "{category} is left out ({} of {})",
                at + 1,
                categories.len()
            ));
            match self.leave_out(category, &mut known)? {
                None => return Ok(None),
                Some(chosen) => folds.push((category, chosen)),
            }
        }
        let held: Vec<_> = folds
            .iter()
            .map(|(category, chosen)| {
                let groups = &categories[*category];
                Held {
                    category: (*category).clone(),
                    unsteered: unsteered.of(groups),
                    chosen: chosen
                        .iter()
                        .map(|choice| {
                            let (chosen, steered) = choice.as_ref()?;
                            let results = steered.as_ref().unwrap_or(&unsteered);
                            Some((*chosen, results.of(groups)))
                        })
                        .collect(),
                }
            })
            .collect();
        let report = Report::new(&held);
        let whole = self.apply.then(|| self.learn_whole(&report, &mut known));
        Ok(Some((report, whole.transpose()?)))
    }

    /// The vector of all categories, if what was chosen passes on those left out.
    fn learn_whole(
        &mut self,
        report: &Report,
        known: &mut Known<'_>,
    ) -> Result<Result<Learnt, String>, Failure> {
        let setting = match apply::setting(report) {
            Ok(setting) => setting,
            Err(why) => return Ok(Err(why)),
        };
        let width = self.model.header.n_embd;
        let Some(control) = known.learned.whole(setting, width) else {
            return Ok(Err("nothing can be learned from the questions".to_owned()));
        };
        let text_loss = self.text_loss(&control, known)?;
        Ok(check_text(Learnt {
            setting,
            control,
            text_loss,
        }))
    }

    /// Reads the streams behind all answers, and ordinary text.
    fn learn(
        &mut self,
        categories: &BTreeMap<String, Vec<Group<Facts>>>,
    ) -> Result<(Learned, Foreseen), EngineError> {
        let header = &self.model.header;
        let shape = (header.n_layer, header.n_embd);
        let mut engine = Engine::load(&self.model.file, header.vocabulary, self.interrupt)?;
        let questions = categories.values().flatten();
        let count: usize = questions.map(|group| group.questions.len()).sum();
        self.meter.share("learning", count as u64);
        let mut learned = Learned::default();
        for (category, groups) in categories {
            for group in groups {
                for (question, facts) in group.questions.iter().zip(&group.facts) {
                    let prompt = question.prompts.first().map_or("", String::as_str);
                    let mut streams: [Vec<f32>; ANSWERS] = Default::default();
                    for (stream, answer) in streams.iter_mut().zip(&question.answers) {
                        *stream = engine.residual(prompt, answer, shape)?;
                    }
                    learned.take(category, *facts, &streams);
                    self.meter.advance(1);
                }
            }
        }
        self.meter.share("reading text", 1);
        Ok((learned, self.text.foresee(&mut engine)?))
    }

    /// Chooses on all other categories, for each kind of answers; `None` if Ctrl-C ended it.
    fn leave_out(
        &mut self,
        category: &str,
        known: &mut Known<'_>,
    ) -> Result<Option<Vec<Choice>>, Failure> {
        let others = known
            .categories
            .iter()
            .filter(|(name, _)| *name != category);
        let others: Vec<&[Group<Facts>]> = others.map(|(_, groups)| to_fit(groups)).collect();
        let asked = others.concat();
        let mut measured = Vec::new();
        for setting in Setting::all(self.model.header.n_layer) {
            let Some(control) = self.control(category, setting, known) else {
                continue;
            };
            let results = self.ask(&asked, &control)?;
            if results.stopped {
                return Ok(None);
            }
            measured.push((Some(setting), results));
        }
        let unsteered = std::iter::once((None, known.unsteered));
        let each = unsteered.chain(
            measured
                .iter()
                .map(|(setting, results)| (*setting, results)),
        );
        let tried: Vec<_> = each
            .map(|(setting, results)| Tried {
                setting,
                categories: others.iter().map(|groups| results.of(groups)).collect(),
            })
            .collect();
        let mut choices = Vec::new();
        for answering in Answering::ALL {
            let Some(chosen) = self.choose(category, &candidates(&tried, answering), known)? else {
                choices.push(None);
                continue;
            };
            let setting = chosen.candidate.setting;
            let control = setting.and_then(|setting| self.control(category, setting, known));
            let results = match control {
                None => None,
                Some(control) => Some(self.ask(&known.categories[category], &control)?),
            };
            if results.as_ref().is_some_and(|results| results.stopped) {
                return Ok(None);
            }
            choices.push(Some((chosen, results)));
        }
        Ok(Some(choices))
    }

    /// The first candidate under which ordinary text is foreseen as well.
    fn choose(
        &mut self,
        category: &str,
        candidates: &[Candidate],
        known: &mut Known<'_>,
    ) -> Result<Option<Chosen>, Failure> {
        for candidate in candidates {
            let setting = candidate.setting;
            let control = setting.and_then(|setting| self.control(category, setting, known));
            let text_loss = match control {
                None => 0.0,
                Some(control) => self.text_loss(&control, known)?,
            };
            if keeps_text(text_loss) {
                return Ok(Some(Chosen {
                    candidate: *candidate,
                    text_loss,
                }));
            }
        }
        Ok(None)
    }

    fn control(&self, category: &str, setting: Setting, known: &Known<'_>) -> Option<Control> {
        let width = self.model.header.n_embd;
        known.learned.without(category, setting, width)
    }

    fn ask(&mut self, groups: &[Group<Facts>], control: &Control) -> Result<Results, Failure> {
        measure::run(
            &tasks(0, groups),
            self.model,
            Some(control),
            &mut self.kept,
            self.interrupt,
            self.meter,
        )
    }

    fn text_loss(&mut self, control: &Control, known: &mut Known<'_>) -> Result<f64, Failure> {
        let digest = control.digest().to_string();
        if let Some(loss) = known.losses.get(&digest) {
            return Ok(*loss);
        }
        self.meter.share("reading text", 1);
        let (file, vocabulary) = (&self.model.file, self.model.header.vocabulary);
        let mut engine = Engine::load_with(file, vocabulary, Some(control), self.interrupt)?;
        let foreseen = self.text.foresee(&mut engine)?;
        let nothing = || Failure::new("nothing could be measured on the text");
        let loss = foreseen.loss(&known.foreseen).ok_or_else(nothing)?;
        known.losses.insert(digest, loss);
        Ok(loss)
    }
}
