//! One model measured: what it costs, how well it foresees the text, and how far it is from a reference.

use std::time::{Duration, Instant};

use hob_ipc::passages::Cut;
use hob_models::ModelName;

use super::super::Place;
use super::super::estimate::Piece;
use super::super::progress::Meter;
use super::super::samples::SAMPLES;
use super::home::{Home, Readings};
use super::kept::{self, Fewer, Kept};
use super::text::Texts;
use crate::engine::{Engine, EngineError, Footprint, Foreseen, Pace};
use crate::failure::Failure;
use crate::fairness::Findings;
use crate::interrupt::Interrupt;
use crate::render::span;

/// Tokens of a window: what llama.cpp's tool takes.
pub(super) const WINDOW: u32 = 512;
/// Tokens of a window that are scored.
pub(super) const WINDOW_SCORED: u32 = WINDOW - WINDOW / 2 - 1;
/// Tokens of an answer that speed is measured by.
const ANSWER_TOKENS: u32 = 33;
/// Bytes of the prompt of such an answer: some hundred tokens.
const PROMPT_BYTES: usize = 1200;
/// What takes less is not worth a word beforehand.
const WORTH_TELLING: Duration = Duration::from_secs(10);

/// What is to be done with each model.
#[derive(Debug)]
pub(super) struct Work {
    /// The model whose expectations are compared with, which has all tokens of the others.
    pub(super) reference: Option<ModelName>,
    /// Those that have fewer than the reference, and the numbers that their tokens have there.
    pub(super) kept: Fewer,
    /// What is read.
    pub(super) texts: Texts,
    /// Answers that speed is measured by, at least 1.
    pub(super) answers: usize,
    /// How busy the machine was before, if the kernel tells.
    pub(super) load: Option<super::card::Load>,
    /// A home and what is said there, if models are to read that.
    pub(super) home: Option<Home>,
    /// What other commands need behind them to mean this store.
    pub(super) store_option: String,
    /// Ctrl-C.
    pub(super) interrupt: Interrupt,
}

/// What one model was measured at.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) name: ModelName,
    pub(super) size_bytes: u64,
    pub(super) vocabulary: u32,
    pub(super) speed: Pace,
    pub(super) footprint: Option<Footprint>,
    /// Bytes and tokens of the sample of each language.
    pub(super) languages: Vec<(&'static str, u64, u64)>,
    /// Bits of each piece; empty without a text.
    pub(super) pieces: Vec<Piece>,
    /// Tokens that were scored in all pieces.
    pub(super) tokens: u64,
    /// Perplexity; none of a text shorter than a window.
    pub(super) windows: Option<Windows>,
    /// How far it is from a reference that has more tokens.
    pub(super) kept: Option<Kept>,
    /// How what is said at a home was read, if that was asked for.
    pub(super) home: Option<Readings>,
    /// What an audit of this file found, if there was one.
    pub(super) fairness: Option<Findings>,
}

/// What windows told.
#[derive(Debug, Default)]
pub(super) struct Windows {
    /// A digest of the tokens that were read.
    pub(super) digest: u64,
    /// Nats of each window, for each token of it.
    pub(super) own: Vec<Piece>,
    /// Against the reference: its nats, divergence and tokens that both find likeliest, of each window.
    pub(super) apart: Option<Apart>,
}

/// How far a model is from the reference, of each window for each token of it.
#[derive(Debug, Default)]
pub(super) struct Apart {
    /// The reference's nats.
    pub(super) reference: Vec<Piece>,
    /// Nats of divergence.
    pub(super) divergence: Vec<Piece>,
    /// Tokens that both find likeliest.
    pub(super) agree: Vec<Piece>,
}

/// An amount for each token.
pub(super) fn per_token(tokens: u32, amount: f64) -> Piece {
    Piece {
        bytes: f64::from(tokens),
        bits: amount,
    }
}

impl Work {
    /// Measures one model.
    pub(super) fn measure(&self, name: &ModelName, place: &Place<'_>) -> Result<Measured, Failure> {
        let mut meter = Meter::new(name.as_str());
        let measured = self
            .measure_with(name, place, &mut meter)
            .and_then(|measured| {
                // Its own engine is gone by now: the daemon's needs the memory.
                let home = self.home.as_ref();
                let read = home.map(|home| home.ask(name, place, &self.interrupt, &mut meter));
                let home = read.transpose()?;
                Ok(Measured { home, ..measured })
            });
        meter.finish();
        measured
    }

    fn measure_with(
        &self,
        name: &ModelName,
        place: &Place<'_>,
        meter: &mut Meter,
    ) -> Result<Measured, Failure> {
        let open = place.open(name, meter)?;
        let mut engine = Engine::load(&open.file, open.header.vocabulary, &self.interrupt)?;
        let speed = self.speed(&mut engine, meter)?;
        // Before texts are read: their scores take memory that answers never do.
        let footprint = engine.footprint();
        let languages = SAMPLES.iter().map(|(language, text)| {
            let tokens = engine.tokenize(text)?.tokens.len();
            Ok((*language, text.len() as u64, tokens as u64))
        });
        let languages = languages.collect::<Result<Vec<_>, Failure>>()?;
        let mut measured = Measured {
            name: name.clone(),
            size_bytes: open.size_bytes,
            vocabulary: open.header.vocabulary,
            speed,
            footprint,
            languages,
            pieces: Vec::new(),
            tokens: 0,
            windows: None,
            kept: None,
            home: None,
            fairness: Findings::of(name, open.sha256, place),
        };
        if !self.texts.pieces.is_empty() {
            self.read_pieces(&mut engine, &mut measured, meter)?;
            measured.windows = self.read_windows(&mut engine, name, place, meter)?;
            measured.kept = self.read_kept(&mut engine, name, place, meter)?;
        }
        Ok(measured)
    }

    /// The median of a few answers.
    fn speed(&self, engine: &mut Engine, meter: &mut Meter) -> Result<Pace, Failure> {
        meter.share(
            "measuring speed",
            (self.answers as u64 + 1) * PROMPT_BYTES as u64,
        );
        let given = self.texts.whole.as_str();
        let english = SAMPLES[0].1.repeat(PROMPT_BYTES / SAMPLES[0].1.len() + 1);
        let text = if given.len() < PROMPT_BYTES {
            &english
        } else {
            given
        };
        let end = text
            .char_indices()
            .map(|(at, _)| at)
            .take_while(|at| *at <= PROMPT_BYTES);
        let prompt = &text[..end.last().unwrap_or(0)];
        // The first one reads the weights into memory, and does not count.
        engine.pace(prompt, 2)?;
        meter.advance(PROMPT_BYTES as u64);
        let mut paces = Vec::with_capacity(self.answers);
        for _ in 0..self.answers {
            paces.push(engine.pace(prompt, ANSWER_TOKENS)?);
            meter.advance(PROMPT_BYTES as u64);
        }
        let decode = paces.iter().filter_map(|pace| pace.decode);
        Ok(Pace {
            prefill: median(paces.iter().map(|pace| pace.prefill)).unwrap_or(0.0),
            decode: median(decode),
        })
    }

    fn read_pieces(
        &self,
        engine: &mut Engine,
        measured: &mut Measured,
        meter: &mut Meter,
    ) -> Result<(), Failure> {
        let Texts { text, pieces, .. } = &self.texts;
        let opened = engine.open_text(text, Cut::Pieces(pieces.clone()))?;
        meter.stage("reading pieces of the text", text.len() as u64);
        let begun = Instant::now();
        for (number, piece) in (0..).zip(pieces) {
            self.interrupt.check()?;
            let found = engine.read_passage(number)?;
            let foreseen = Piece::foreseen(piece.scored, found.log_probability);
            measured.pieces.push(foreseen);
            measured.tokens += u64::from(found.tokens);
            meter.advance(u64::from(piece.before + piece.scored));
            if number == 0 {
                let whole = begun.elapsed() * opened.passages;
                self.announce(&measured.name, whole, opened.tokens, meter);
            }
        }
        Ok(())
    }

    /// Says how long it all takes, by how long the pieces do.
    fn announce(&self, name: &ModelName, pieces: Duration, tokens: u32, meter: &Meter) {
        let Texts { text, whole, .. } = &self.texts;
        #[allow(clippy::cast_precision_loss, reason = "an estimate")]
        let (share, most) = (
            whole.len() as f64 / text.len().max(1) as f64,
            self.texts.windows as f64 * f64::from(WINDOW) / f64::from(tokens.max(1)),
        );
        // What is compared is read twice, once by the reference: windows, or all pieces once more.
        let windows = share.min(most);
        let times = match (&self.reference, self.numbers(name)) {
            (_, Some(_)) => 3.0 + windows,
            (Some(_), None) => 1.0 + windows * 2.0,
            (None, None) => 1.0 + windows,
        };
        let whole = pieces.mul_f64(times);
        if whole > WORTH_TELLING {
            meter.say(&format!("this takes about {}", span(whole.as_secs())));
        }
    }

    /// The numbers that the model's tokens have in the reference, if that has more.
    fn numbers(&self, name: &ModelName) -> Option<&[u32]> {
        let kept = self.kept.iter().find(|(fewer, _)| fewer == name);
        kept.map(|(_, numbers)| numbers.as_slice())
    }

    /// Compares a model that has fewer tokens than the reference with it.
    fn read_kept(
        &self,
        engine: &mut Engine,
        name: &ModelName,
        place: &Place<'_>,
        meter: &mut Meter,
    ) -> Result<Option<Kept>, Failure> {
        let Some((reference, numbers)) = self.reference.as_ref().zip(self.numbers(name)) else {
            return Ok(None);
        };
        let mut reference = self.load(reference, place, meter)?;
        meter.share(
            "comparing pieces of the text",
            self.texts.pieces.len() as u64,
        );
        let advance = || {
            meter.advance(1);
            self.interrupt.check()
        };
        kept::compare(&self.texts, numbers, engine, &mut reference, advance).map(Some)
    }

    fn load(
        &self,
        name: &ModelName,
        place: &Place<'_>,
        meter: &mut Meter,
    ) -> Result<Engine, Failure> {
        let open = place.open(name, meter)?;
        Ok(Engine::load(
            &open.file,
            open.header.vocabulary,
            &self.interrupt,
        )?)
    }

    fn read_windows(
        &self,
        engine: &mut Engine,
        name: &ModelName,
        place: &Place<'_>,
        meter: &mut Meter,
    ) -> Result<Option<Windows>, Failure> {
        if self.texts.windows == 0 {
            return Ok(None);
        }
        let cut = Cut::Windows { tokens: WINDOW };
        let opened = match engine.open_text(&self.texts.whole, cut.clone()) {
            Ok(opened) => opened,
            // Fewer tokens than a window has.
            Err(EngineError::Failed(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // Beside itself it would differ in nothing, and take twice the memory.
        let reference = self.reference.as_ref();
        let reference = reference.filter(|other| *other != name && self.numbers(name).is_none());
        let mut reference = match reference {
            None => None,
            Some(reference) => {
                let mut engine = self.load(reference, place, meter)?;
                let theirs = engine.open_text(&self.texts.whole, cut)?;
                if (theirs.digest, theirs.passages) != (opened.digest, opened.passages) {
                    let problem =
                        format!("{name} and {reference} make other tokens of the same text");
                    return Err(Failure::new(problem).hint(
                        "Leave --against out: bits per byte compare models of any vocabulary.",
                    ));
                }
                Some(engine)
            }
        };
        let mut windows = Windows {
            digest: opened.digest,
            own: Vec::new(),
            apart: reference.is_some().then(Apart::default),
        };
        let chosen = spread(opened.passages, self.texts.windows);
        meter.share(
            "reading windows of the text",
            chosen.len() as u64 * u64::from(WINDOW),
        );
        for number in chosen {
            self.interrupt.check()?;
            windows.read(number, engine, reference.as_mut())?;
            meter.advance(u64::from(WINDOW));
        }
        Ok(Some(windows))
    }
}

impl Windows {
    /// Reads one window more.
    fn read(
        &mut self,
        number: u32,
        engine: &mut Engine,
        reference: Option<&mut Engine>,
    ) -> Result<(), Failure> {
        let own = match (reference, &mut self.apart) {
            (Some(reference), Some(apart)) => {
                let (theirs, own) = engine.read_passage_beside(reference, number, WINDOW_SCORED)?;
                apart.take(&theirs, &own);
                own
            }
            _ => engine.read_passage(number)?,
        };
        self.own.push(per_token(own.tokens, -own.log_probability));
        Ok(())
    }
}

impl Apart {
    /// Adds a passage, as the reference found it and as the model did.
    pub(super) fn take(&mut self, theirs: &Foreseen, own: &Foreseen) {
        let tokens = own.tokens;
        self.reference
            .push(per_token(tokens, -theirs.log_probability));
        self.divergence
            .push(per_token(tokens, own.apart.divergence));
        self.agree
            .push(per_token(tokens, f64::from(own.apart.agree)));
    }
}

/// At most `most` of `count` numbers from 0 on, evenly spread.
fn spread(count: u32, most: usize) -> Vec<u32> {
    let most = u32::try_from(most).unwrap_or(u32::MAX).min(count);
    let at = |n: u32| u64::from(n) * u64::from(count) / u64::from(most.max(1));
    (0..most)
        .filter_map(|n| u32::try_from(at(n)).ok())
        .collect()
}

/// The middle one, or the lower of two.
fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), Some(2.0));
        assert_eq!(median([3.0, 1.0].into_iter()), Some(1.0));
        assert_eq!(median(std::iter::empty()), None);
    }

    proptest! {
        #[test]
        fn windows_are_spread_and_each_is_read_once(count in 0u32..500, most in 0usize..500) {
            let found = spread(count, most);
            prop_assert_eq!(found.len(), most.min(count as usize));
            prop_assert!(found.windows(2).all(|pair| pair[0] < pair[1]));
            prop_assert!(found.iter().all(|number| *number < count));
        }
    }
}
