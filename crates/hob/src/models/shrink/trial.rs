//! Smaller models tried before one is made: each is written to a file without a name, and measured on the
//! last tenth of each file of the corpus, by which no token was chosen.

use hob_ipc::quantize::Scheme;
use hob_models::store::Loss;
use hob_models::surgery::Demand;

use super::candidates::Among;
use super::depth::{Depth, Greedy};
use super::forecast::Forecast;
use super::layers::Survey;
use super::mixes::Stop;
use super::search::{Candidate, Limits, Search, Tried};
use super::yardstick::{self, Yardstick};
use super::{Choice, Recipe, Shop, Source};
use crate::failure::Failure;
use crate::models::estimate::{Estimate, Piece};
use crate::render::bytes;

/// What was tried, and what is lost by what was chosen.
pub(super) struct Trials {
    /// On text that neither made nor chose it.
    pub(super) loss: Loss,
    pub(super) tried: Vec<Tried>,
    /// How the layers' matrices were stored in what was tried.
    pub(super) stops: Vec<Stop>,
    /// What is known of layers, if any were to go.
    pub(super) layers: Option<Greedy>,
    /// The limit of loss, if there was one.
    pub(super) most: Option<f64>,
}

/// What is looked for, from the first candidate to the last.
pub(super) struct Quest<'q> {
    pub(super) source: &'q Source<'q>,
    pub(super) recipe: &'q Recipe,
    pub(super) demand: &'q Demand,
    pub(super) yardstick: Yardstick,
    /// What the source makes of the text that models are chosen by; measured when it is needed.
    base: Option<Vec<Piece>>,
    tried: Vec<Tried>,
    survey: Option<Survey>,
}

impl Quest<'_> {
    /// The layers that are gone.
    pub(super) fn out(&self) -> Vec<u32> {
        match (&self.survey, &self.recipe.depth) {
            (Some(survey), _) => survey.greedy.out(),
            (None, Depth::These(layers)) => layers.clone(),
            (None, _) => Vec::new(),
        }
    }
}

impl Shop {
    /// The choice without the layers that are to go, and what that loses.
    pub(super) fn leave_out(
        &mut self,
        source: &Source<'_>,
        depth: &Depth,
        choice: Choice,
    ) -> Result<(Choice, Trials), Failure> {
        let yardstick = Yardstick::of(&self.held_out)?;
        let survey = match depth {
            Depth::Count(layers) => Some(self.cheapest(source, *layers, &yardstick.little)?),
            _ => None,
        };
        let choice = match &survey {
            Some(survey) => Choice {
                out: survey.greedy.out(),
                ..choice
            },
            None => choice,
        };
        let trials = Trials {
            loss: self.told(source, &choice, &yardstick)?,
            tried: Vec::new(),
            stops: Vec::new(),
            layers: survey.map(|survey| survey.greedy),
            most: None,
        };
        Ok((choice, trials))
    }

    /// Tries candidates within `limits`, and chooses one. Whether layers should go is tried last, one
    /// layer after another, as each costs several measurements: as long as that loses less, or makes a
    /// smaller model that loses no more.
    pub(super) fn search(
        &mut self,
        source: &Source<'_>,
        recipe: &Recipe,
        demand: &Demand,
        limits: Limits,
    ) -> Result<(Choice, Trials), Failure> {
        let yardstick = Yardstick::of(&self.held_out)?;
        let survey = match &recipe.depth {
            Depth::Count(layers) => Some(self.cheapest(source, *layers, &yardstick.little)?),
            _ => None,
        };
        let mut quest = Quest {
            source,
            recipe,
            demand,
            yardstick,
            base: None,
            tried: Vec::new(),
            survey,
        };
        self.fits(&quest, limits)?;
        let tables = recipe.types(source);
        let known = self.forecast(&quest, &tables, &quest.sizes(limits))?;
        let best = self.best(&mut quest, tables, &known, limits)?;
        let choice = source.choice(best.candidate, &known, demand, &quest.out())?;
        let trials = Trials {
            loss: self.told(source, &choice, &quest.yardstick)?,
            tried: quest.tried,
            stops: known.stops,
            layers: quest.survey.map(|survey| survey.greedy),
            most: limits.loss,
        };
        Ok((choice, trials))
    }

    /// The best that was found with as many layers as are best.
    fn best(
        &mut self,
        quest: &mut Quest<'_>,
        tables: Vec<Option<Scheme>>,
        known: &Forecast,
        limits: Limits,
    ) -> Result<Tried, Failure> {
        let mut limits = limits;
        let mut among = Among {
            tables,
            stops: 0..known.stops.len(),
        };
        let mut best = self.round(quest, &among, known, limits)?;
        loop {
            if let Ok(best) = &best {
                among.tables = vec![best.candidate.embedding];
                among.stops = best.candidate.stop..best.candidate.stop + 1;
                if limits.loss.is_some() {
                    limits.bytes = Some(best.candidate.bytes.saturating_sub(1));
                }
            }
            let most = limits.loss.or(best.as_ref().ok().map(|best| best.loss));
            if !self.one_more(quest, most)? {
                return best;
            }
            match (&best, self.round(quest, &among, known, limits)?) {
                (Err(_), Err(_)) => {}
                (Ok(_), Err(_)) => return best,
                (Ok(so_far), Ok(found)) if limits.loss.is_none() && found.loss >= so_far.loss => {
                    return best;
                }
                (_, found) => best = found,
            }
        }
    }

    /// Lets one layer more go where the search may, if that can pay: without a layer whose absence alone
    /// loses more than `most`, nothing that is better can be made.
    fn one_more(&mut self, quest: &mut Quest<'_>, most: Option<f64>) -> Result<bool, Failure> {
        let (Some(layers), Depth::Auto) = (quest.source.layers, &quest.recipe.depth) else {
            return Ok(false);
        };
        let mut survey = match quest.survey.take() {
            Some(survey) => survey,
            None => self.survey(quest.source, layers, 1, &quest.yardstick.little)?,
        };
        let more = survey.greedy.gone().len() < quest.recipe.depth.most(layers);
        let next = if more {
            self.meter.share("measuring layers", survey.next_bytes());
            self.next_layer(quest.source, &mut survey)?
        } else {
            None
        };
        quest.survey = Some(survey);
        let Some(next) = next else {
            return Ok(false);
        };
        let pays = most.is_none_or(|most| next.loss < most);
        self.meter.say(&format!(
            "without layer {}, all else being kept, {:.2} % is lost: {}",
            next.layer,
            next.loss * 100.0,
            if pays { "that may pay" } else { "it stays" },
        ));
        Ok(pays)
    }

    /// Measures candidates without the layers that are gone, as far as they need be; the best of them.
    fn round(
        &mut self,
        quest: &mut Quest<'_>,
        among: &Among,
        known: &Forecast,
        limits: Limits,
    ) -> Result<Result<Tried, Failure>, Failure> {
        let sizes = quest.sizes(limits);
        let candidates = self.candidates(quest, &sizes, among, known, limits)?;
        let mut search = match Search::new(limits, candidates) {
            Ok(search) => search,
            Err(none) => return Ok(Err(none)),
        };
        let base = match quest.base.take() {
            Some(base) => base,
            None => self.bits(
                quest.source,
                &Choice::default(),
                &quest.yardstick.choosing,
                Some("measuring the source"),
            )?,
        };
        while let Some(candidate) = search.next() {
            let tried = self.try_one(quest, known, candidate, &base, search.left() - 1)?;
            search.note(tried);
        }
        quest.base = Some(base);
        quest.tried.extend(search.tried());
        Ok(search.best())
    }

    fn try_one(
        &mut self,
        quest: &Quest<'_>,
        known: &Forecast,
        candidate: Candidate,
        base: &[Piece],
        left: usize,
    ) -> Result<Tried, Failure> {
        let choice = quest
            .source
            .choice(candidate, known, quest.demand, &quest.out())?;
        let texts = &quest.yardstick.choosing;
        let before = match self.known(&choice, texts) {
            Some(_) => " (measured before)",
            None => "",
        };
        self.meter.say(&format!(
            "trying {} with {} tokens{}{}{}{before}; {left} more at most",
            bytes(candidate.bytes),
            candidate.tokens,
            stored(candidate.embedding),
            rounded(known.stops.get(candidate.stop)),
            fewer(candidate.layers_out),
        ));
        let found = self.bits(quest.source, &choice, texts, Some("measuring"))?;
        let lost = yardstick::loss(base, &found)?;
        let error = lost
            .error
            .map_or_else(String::new, |error| format!(" ±{:.2}", error * 100.0));
        self.meter
            .say(&format!("that loses {:+.2} %{error}", lost.value * 100.0));
        Ok(Tried {
            candidate,
            loss: lost.value,
            error: lost.error,
        })
    }

    /// What a choice loses on text that had no say in it.
    fn told(
        &mut self,
        source: &Source<'_>,
        choice: &Choice,
        yardstick: &Yardstick,
    ) -> Result<Loss, Failure> {
        let texts = &yardstick.telling;
        let what = Some("measuring what is lost");
        let base = self.bits(source, &Choice::default(), texts, what)?;
        let found = self.bits(source, choice, texts, what)?;
        let lost = yardstick::loss(&base, &found)?;
        Ok(loss(lost, texts.counted()))
    }
}

fn stored(embedding: Option<Scheme>) -> String {
    embedding.map_or_else(String::new, |scheme| {
        format!(", their table as {}", scheme.block().name)
    })
}

fn rounded(stop: Option<&Stop>) -> String {
    let told = stop.and_then(Stop::told);
    told.map_or_else(String::new, |bits| format!(", matrices of {bits} a weight"))
}

fn fewer(layers: usize) -> String {
    match layers {
        0 => String::new(),
        1 => ", a layer fewer".to_owned(),
        more => format!(", {more} layers fewer"),
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "casts of fractions saturate, and a width is not negative"
)]
fn loss(lost: Estimate, bytes: u64) -> Loss {
    let points = |share: f64| (share * 10_000.0).round();
    Loss {
        basis_points: points(lost.value) as i32,
        error_basis_points: lost.error.map(|error| points(error) as u32),
        bytes,
    }
}
