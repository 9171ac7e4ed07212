//! Smaller models tried before one is made: each is written to a file without a name, and measured on the
//! last tenth of each file of the corpus, by which no token was chosen.

use std::fs::File;
use std::io::Write as _;

use hob_ipc::message::Prompt;
use hob_ipc::quantize::Scheme;
use hob_ipc::score::ScorePart;
use hob_models::store::Loss;
use hob_models::surgery::{self, Budget, Demand, Vocabulary};

use super::quant::{self, Quant};
use super::search::{Candidate, Limits, Search, Tried};
use super::{Choice, Shop, Source, Vocab, write_out};
use crate::engine::Engine;
use crate::failure::Failure;
use crate::models::estimate::{self, BEFORE_BYTES, PIECE_BYTES, Piece};
use crate::render::bytes;

/// Most pieces that are measured, spread over what is held out.
const PIECES_MAX: usize = 24;
/// Fewer would tell nothing of how sure a loss is.
const PIECES_MIN: usize = 4;
/// What a file may be longer than its tables' lengths tell, by a key of the metadata and by padding.
const SLACK: u64 = 256;

/// Sizes of vocabularies that are tried, in sixteenths of the model's own.
const SIXTEENTHS: [usize; 10] = [16, 12, 10, 8, 7, 6, 5, 4, 3, 2];
/// Vocabularies are a multiple of this.
const STEP: usize = 64;

/// What was tried, and what is lost by what was chosen.
pub(super) struct Trials {
    pub(super) loss: Loss,
    pub(super) tried: Vec<Tried>,
}

/// What text is measured, and what the source makes of it.
struct Yardstick {
    texts: Vec<(String, String)>,
    base: Vec<Piece>,
}

impl Shop {
    /// Tries candidates within `limits`, and chooses one.
    pub(super) fn search(
        &mut self,
        source: &Source<'_>,
        vocab: Vocab,
        demand: &Demand,
        quants: &[Option<Scheme>],
        limits: Limits,
    ) -> Result<(Choice, Trials), Failure> {
        let candidates = self.candidates(source, vocab, demand, quants, limits)?;
        let mut search = Search::new(limits, candidates)?;
        let texts = held_out(&self.held_out)?;
        let base = self.foresee(
            "measuring the source",
            &source.open.file,
            source.all(),
            &texts,
        )?;
        let yardstick = Yardstick { texts, base };
        while let Some(candidate) = search.next() {
            self.meter.say(&format!(
                "trying {} with {} tokens{}; {} more at most",
                bytes(candidate.bytes),
                candidate.tokens,
                stored(candidate.embedding),
                search.left() - 1,
            ));
            let tried = self.measure(source, candidate, demand, &yardstick)?;
            self.meter.say(&format!(
                "that loses {:+.2} %{}",
                tried.loss * 100.0,
                tried
                    .error
                    .map_or_else(String::new, |error| format!(" ±{:.2}", error * 100.0)),
            ));
            search.note(tried);
        }
        let best = search.best()?;
        let trials = Trials {
            loss: loss(best, &yardstick.texts),
            tried: search.tried().to_vec(),
        };
        Ok((source.choice(best.candidate, demand)?, trials))
    }

    /// Vocabularies and types, with the sizes that they would make.
    fn candidates(
        &mut self,
        source: &Source<'_>,
        vocab: Vocab,
        demand: &Demand,
        quants: &[Option<Scheme>],
        limits: Limits,
    ) -> Result<Vec<Candidate>, Failure> {
        let mut found = Vec::new();
        let sizes = match (vocab, source.vocabulary) {
            (Vocab::Prune(Budget::Auto), Some(vocabulary)) => {
                sizes(vocabulary, limits.loss.is_none())
            }
            (Vocab::Prune(Budget::Tokens(tokens)), _) => vec![tokens],
            _ => vec![source.all()],
        };
        for tokens in sizes {
            self.interrupt.check()?;
            let mut rewrite = source.copy();
            source.prune(&mut rewrite, source.kept(tokens, demand)?.as_deref())?;
            let whole = rewrite.size();
            for embedding in quants {
                let shorter = |scheme| (whole + SLACK).saturating_sub(source.saved(scheme, tokens));
                let bytes = embedding.map_or(whole, shorter);
                if tokens < source.all() || embedding.is_some() {
                    found.push(Candidate {
                        tokens,
                        embedding: *embedding,
                        bytes,
                    });
                }
            }
        }
        Ok(found)
    }

    fn measure(
        &mut self,
        source: &Source<'_>,
        candidate: Candidate,
        demand: &Demand,
        yardstick: &Yardstick,
    ) -> Result<Tried, Failure> {
        let choice = source.choice(candidate, demand)?;
        let rewrite = self.rewrite(source, &choice)?;
        let mut file = source.installing.unnamed(rewrite.size())?;
        self.meter.stage("writing", rewrite.size());
        let (meter, interrupt) = (&mut self.meter, &self.interrupt);
        write_out(&rewrite, source.open, interrupt, |bytes| {
            meter.advance(bytes.len() as u64);
            file.write_all(bytes)
                .map_err(|error| Failure::io("a model to try cannot be written", &error))
        })?;
        let found = self.foresee("measuring", &file, candidate.tokens, &yardstick.texts)?;
        let nothing = || Failure::new("nothing could be measured on the corpus");
        let base = estimate::rate(&yardstick.base).ok_or_else(nothing)?;
        let apart = estimate::difference(&yardstick.base, &found).ok_or_else(nothing)?;
        Ok(Tried {
            candidate,
            loss: apart.value / base.value,
            error: apart.error.map(|error| error / base.value),
        })
    }

    /// How many bits each text takes a model.
    fn foresee(
        &mut self,
        what: &'static str,
        model: &File,
        vocabulary: usize,
        texts: &[(String, String)],
    ) -> Result<Vec<Piece>, Failure> {
        let length = |(before, rest): &(String, String)| (before.len() + rest.len()) as u64;
        self.meter.stage(what, texts.iter().map(length).sum());
        let tokens = u32::try_from(vocabulary).unwrap_or(u32::MAX);
        let mut engine = Engine::load(model, tokens, &self.interrupt)?;
        let mut pieces = Vec::new();
        for text in texts {
            self.interrupt.check()?;
            let (before, rest) = text;
            let part = ScorePart {
                prompt: Prompt::Text(before.clone()),
                continuations: vec![rest.clone()],
            };
            let found = engine.likelihoods(vec![part], false)?;
            let log_probability: f64 = found.iter().flatten().map(|f| f.log_probability).sum();
            let scored = u32::try_from(rest.len()).unwrap_or(u32::MAX);
            pieces.push(Piece::foreseen(scored, log_probability));
            self.meter.advance(length(text));
        }
        Ok(pieces)
    }
}

/// Types that the table of tokens is tried in, the model's own first.
pub(super) fn quants(source: &Source<'_>) -> Vec<Option<Scheme>> {
    let tables: Vec<_> = source
        .document
        .tensors()
        .iter()
        .filter(|t| quant::is_table(t))
        .collect();
    let coarser = quant::tables_schemes().filter(|scheme| {
        let quant = Quant {
            weights: None,
            embedding: Some(*scheme),
        };
        !tables.is_empty() && quant.check(source.document, false).is_ok()
    });
    std::iter::once(None).chain(coarser.map(Some)).collect()
}

/// Sizes of vocabularies to try: fine steps where all are looked at before any is measured.
fn sizes(vocabulary: &Vocabulary<'_>, fine: bool) -> Vec<usize> {
    let all = vocabulary.len();
    let least = vocabulary.least();
    let mut sizes: Vec<usize> = if fine {
        (1..=64).map(|part| all * part / 64 / STEP * STEP).collect()
    } else {
        SIXTEENTHS
            .iter()
            .map(|part| all * part / 16 / STEP * STEP)
            .collect()
    };
    sizes.retain(|size| (least..all).contains(size));
    sizes.push(all);
    sizes.sort_unstable();
    sizes.dedup();
    sizes
}

/// What goes before and what is to be foreseen, of pieces spread over all that is held out.
fn held_out(texts: &[String]) -> Result<Vec<(String, String)>, Failure> {
    let mut pieces = Vec::new();
    for text in texts {
        let mut rest = text.as_str();
        while rest.len() >= PIECE_BYTES {
            let (piece, more) = parted(rest, PIECE_BYTES);
            let (before, after) = parted(piece, BEFORE_BYTES);
            pieces.push((before.to_owned(), after.to_owned()));
            rest = more;
        }
    }
    if pieces.len() < PIECES_MIN {
        return Err(Failure::new(
            "the corpus is too short to measure a loss on the last tenth of each of its files",
        )
        .hint("Give a hundred kilobytes or more, or say --vocab and --quant without limits."));
    }
    let every = pieces.len().div_ceil(PIECES_MAX);
    Ok(pieces.into_iter().step_by(every).collect())
}

/// Parts a text behind the last character that ends within its first `most` bytes.
pub(super) fn parted(text: &str, most: usize) -> (&str, &str) {
    let ends = (0..=most.min(text.len())).rev();
    let end = ends.into_iter().find(|end| text.is_char_boundary(*end));
    text.split_at(end.unwrap_or(0))
}

fn stored(embedding: Option<Scheme>) -> String {
    embedding.map_or_else(String::new, |scheme| format!(", their table as {scheme}"))
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "casts of fractions saturate, and a width is not negative"
)]
fn loss(tried: Tried, texts: &[(String, String)]) -> Loss {
    let points = |share: f64| (share * 10_000.0).round();
    Loss {
        basis_points: points(tried.loss) as i32,
        error_basis_points: tried.error.map(|error| points(error) as u32),
        bytes: texts.iter().map(|(_, rest)| rest.len() as u64).sum(),
    }
}

impl Source<'_> {
    /// The choice that a candidate stands for.
    fn choice(&self, candidate: Candidate, demand: &Demand) -> Result<Choice, Failure> {
        Ok(Choice {
            kept: self.kept(candidate.tokens, demand)?,
            quant: Quant {
                weights: None,
                embedding: candidate.embedding,
            },
        })
    }

    /// Which tokens stay of a vocabulary of so many; `None` for all.
    fn kept(&self, tokens: usize, demand: &Demand) -> Result<Option<Vec<surgery::Token>>, Failure> {
        match self.vocabulary {
            Some(vocabulary) if tokens < vocabulary.len() => {
                Ok(Some(vocabulary.choose(demand, Budget::Tokens(tokens))?))
            }
            _ => Ok(None),
        }
    }

    /// By how much tables of so many rows are shorter if stored so.
    fn saved(&self, scheme: Scheme, tokens: usize) -> u64 {
        let block = scheme.block();
        let tables = self
            .document
            .tensors()
            .iter()
            .filter(|t| quant::is_table(t));
        let saved = tables.map(|table| {
            let row = table.dimensions()[0];
            let rows = (table.elements() / row).max(1);
            let now = table.bytes() / rows * tokens as u64;
            now.saturating_sub(row / block.weights * block.bytes * tokens as u64)
        });
        saved.sum()
    }
}
