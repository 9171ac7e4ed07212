//! What models are measured on: text that chose no token, in two parts. By the one a model is chosen, and
//! what the other says of it is told: of several that are measured, the one that looks best is partly the
//! luckiest, and a text that had no say knows nothing of its luck.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;

use hob_ipc::message::Prompt;
use hob_ipc::score::ScorePart;
use hob_models::Sha256;
use hob_models::digest::Hasher;
use hob_models::locations;
use hob_models::surgery::Token;

use super::{Choice, Shop, Source, write_out};
use crate::failure::Failure;
use crate::kept::Kept;
use crate::models::estimate::{self, BEFORE_BYTES, Estimate, PIECE_BYTES, Piece};

/// Most pieces of each part, spread over what is held out.
const PIECES_MAX: usize = 24;
/// Fewer of both together would tell nothing of how sure a loss is.
const PIECES_MIN: usize = 6;
/// Where a text has not as many pieces, shorter ones are cut, but no shorter than this in bytes.
const PIECES_GOOD: usize = 12;
const PIECE_BYTES_MIN: usize = 512;
/// Pieces that tell one layer, or one type, from another. There are many to tell apart, and what they cost
/// differs more than pieces do.
const LITTLE_PIECES: usize = 6;

/// What the measurements that are kept mean. Goes up with every change of how models are made or measured.
const FORMAT: u32 = 3;
/// Most bytes of what is kept of a model and a corpus: some thousand measurements.
const KEPT_BYTES_MAX: u64 = 4 << 20;

/// Text to measure on.
#[derive(Clone, Debug)]
pub(super) struct Texts {
    /// What goes before, and what is to be foreseen.
    pieces: Vec<(String, String)>,
    digest: Sha256,
}

/// The parts.
#[derive(Clone, Debug)]
pub(super) struct Yardstick {
    /// Models are chosen by this.
    pub(super) choosing: Texts,
    /// Layers and types are told apart by this, some of the former.
    pub(super) little: Texts,
    /// What the chosen model loses is told of this.
    pub(super) telling: Texts,
}

impl Texts {
    fn of(pieces: Vec<(String, String)>) -> Self {
        let mut hasher = Hasher::default();
        for (before, rest) in &pieces {
            for part in [before, rest] {
                hasher.update(&(part.len() as u64).to_le_bytes());
                hasher.update(part.as_bytes());
            }
        }
        let digest = hasher.finish();
        Self { pieces, digest }
    }

    /// At most so many of them, spread over all.
    fn few(&self, most: usize) -> Self {
        let every = self.pieces.len().div_ceil(most).max(1);
        Self::of(self.pieces.iter().step_by(every).cloned().collect())
    }

    /// Bytes that are read.
    pub(super) fn bytes(&self) -> u64 {
        self.pieces.iter().map(length).sum()
    }

    /// All of it, one piece after another.
    pub(super) fn whole(&self) -> String {
        let parts = self.pieces.iter();
        parts
            .flat_map(|(before, rest)| [before.as_str(), rest, "\n"])
            .collect()
    }

    /// Bytes that are to be foreseen.
    pub(super) fn counted(&self) -> u64 {
        self.pieces.iter().map(|(_, rest)| rest.len() as u64).sum()
    }
}

fn length((before, rest): &(String, String)) -> u64 {
    (before.len() + rest.len()) as u64
}

impl Yardstick {
    /// Pieces of all that is held out: every other one for each part.
    pub(super) fn of(texts: &[String]) -> Result<Self, Failure> {
        let all: usize = texts.iter().map(String::len).sum();
        let length = (all / PIECES_GOOD).clamp(PIECE_BYTES_MIN, PIECE_BYTES);
        let mut pieces = Vec::new();
        for text in texts {
            let mut rest = text.as_str();
            while rest.len() >= length {
                let (piece, more) = parted(rest, length);
                let (before, after) = parted(piece, length * BEFORE_BYTES / PIECE_BYTES);
                pieces.push((before.to_owned(), after.to_owned()));
                rest = more;
            }
        }
        if pieces.len() < PIECES_MIN {
            return Err(Failure::new(
                "the corpus is too short to measure a loss on the last tenth of each of its files",
            )
            .hint(
                "Give a hundred kilobytes or more, or say --vocab and --quant without limits, and no \
                 --drop-layers.",
            ));
        }
        let part = |first: usize| {
            let part = pieces.iter().skip(first).step_by(2);
            Texts::of(part.cloned().collect()).few(PIECES_MAX)
        };
        let choosing = part(0);
        Ok(Self {
            little: choosing.few(LITTLE_PIECES),
            choosing,
            telling: part(1),
        })
    }
}

/// Parts a text behind the last character that ends within its first `most` bytes.
pub(super) fn parted(text: &str, most: usize) -> (&str, &str) {
    let ends = (0..=most.min(text.len())).rev();
    let end = ends.into_iter().find(|end| text.is_char_boundary(*end));
    text.split_at(end.unwrap_or(0))
}

/// By how much more bits for a byte the second takes, as a share of what the first does.
pub(super) fn loss(base: &[Piece], other: &[Piece]) -> Result<Estimate, Failure> {
    let nothing = || Failure::new("nothing could be measured on the corpus");
    let all = estimate::rate(base).ok_or_else(nothing)?;
    let apart = estimate::difference(base, other).ok_or_else(nothing)?;
    Ok(Estimate {
        value: apart.value / all.value,
        error: apart.error.map(|error| error / all.value),
    })
}

impl Shop {
    /// Looks for what was measured before of a model with this corpus. Without a place to keep that in, the
    /// search goes on all the same.
    pub(super) fn remember(&mut self, source: Sha256, corpus: Sha256) {
        let mut hasher = Hasher::default();
        let version = env!("CARGO_PKG_VERSION");
        hasher.update(format!("{FORMAT} {version} {source} {corpus}").as_bytes());
        let folder = locations::trials_dir().map_err(|error| Failure::new(error.to_string()));
        let opened = folder.and_then(|folder| Kept::open(&folder, hasher.finish(), KEPT_BYTES_MAX));
        match opened {
            Ok(Some(kept)) => self.kept = Some(kept),
            Ok(None) => self
                .meter
                .say("another search of this model is under way: what is measured now is not kept"),
            Err(error) => self.forget(&error),
        }
    }

    fn forget(&mut self, why: &Failure) {
        self.meter
            .say(&format!("what is measured is not kept: {why}"));
        self.kept = None;
    }

    /// How many bits each text takes the model of a choice; `what` is shown unless something else is.
    pub(super) fn bits(
        &mut self,
        source: &Source<'_>,
        choice: &Choice,
        texts: &Texts,
        what: Option<&'static str>,
    ) -> Result<Vec<Piece>, Failure> {
        if let Some(known) = self.known(choice, texts) {
            self.meter.advance(texts.bytes());
            return Ok(known);
        }
        let (model, tokens) = self.trial(source, choice, what)?;
        if let Some(what) = what {
            self.meter.stage(what, texts.bytes());
        }
        let model = model.as_ref().unwrap_or(&source.open.file);
        let found = self.foresee(model, tokens, texts)?;
        let key = self.key(choice, texts);
        self.keep(&key, found.iter().map(|piece| piece.bits).collect());
        Ok(found)
    }

    /// What was measured before.
    pub(super) fn known(&self, choice: &Choice, texts: &Texts) -> Option<Vec<Piece>> {
        let bits = self.kept.as_ref()?.get(&self.key(choice, texts))?;
        let sane = |bits: &f64| bits.is_finite() && *bits >= 0.0;
        if bits.len() != texts.pieces.len() || !bits.iter().all(sane) {
            return None;
        }
        let pieces = texts.pieces.iter().zip(bits);
        let pieces = pieces.map(|((_, rest), bits)| Piece::of(count(rest), *bits));
        Some(pieces.collect())
    }

    pub(super) fn key(&self, choice: &Choice, texts: &Texts) -> String {
        key(choice, self.importance.is_some(), texts)
    }

    /// Keeps what was measured, if there is a place for that.
    pub(super) fn keep(&mut self, key: &str, found: Vec<f64>) {
        if let Some(kept) = &mut self.kept
            && let Err(error) = kept.add(key, found)
        {
            self.forget(&error);
        }
    }

    /// The model of a choice in a file without a name, unless it is the source itself; and its tokens.
    pub(super) fn trial(
        &mut self,
        source: &Source<'_>,
        choice: &Choice,
        what: Option<&'static str>,
    ) -> Result<(Option<File>, usize), Failure> {
        let tokens = choice.kept.as_ref().map_or(source.all(), Vec::len);
        if *choice == Choice::default() {
            return Ok((None, tokens));
        }
        let rewrite = self.rewrite(source, choice)?;
        let mut file = self.unnamed(source, rewrite.size())?;
        if what.is_some() {
            self.meter.stage("writing", rewrite.size());
        }
        let (meter, interrupt) = (&mut self.meter, &self.interrupt);
        write_out(&rewrite, source.open, interrupt, |bytes| {
            if what.is_some() {
                meter.advance(bytes.len() as u64);
            }
            file.write_all(bytes)
                .map_err(|error| Failure::io("a model to try cannot be written", &error))
        })?;
        Ok((Some(file), tokens))
    }

    /// How often each token of the source comes up in texts.
    pub(super) fn count(
        &self,
        source: &Source<'_>,
        texts: &Texts,
    ) -> Result<BTreeMap<Token, u64>, Failure> {
        let mut engine = self.engine(&source.open.file, source.all())?;
        let mut counts = BTreeMap::new();
        for (_, text) in &texts.pieces {
            self.interrupt.check()?;
            for token in engine.tokenize(text)?.tokens {
                *counts.entry(token).or_default() += 1;
            }
        }
        Ok(counts)
    }

    /// How many bits each text takes a model.
    fn foresee(
        &mut self,
        model: &File,
        vocabulary: usize,
        texts: &Texts,
    ) -> Result<Vec<Piece>, Failure> {
        let mut engine = self.engine(model, vocabulary)?;
        let mut pieces = Vec::new();
        for text in &texts.pieces {
            self.interrupt.check()?;
            let (before, rest) = text;
            let part = ScorePart {
                prompt: Prompt::Text(before.clone()),
                continuations: vec![rest.clone()],
            };
            let found = engine.likelihoods(vec![part], false)?;
            let log_probability: f64 = found.iter().flatten().map(|f| f.log_probability).sum();
            pieces.push(Piece::foreseen(count(rest), log_probability));
            self.meter.advance(length(text));
        }
        Ok(pieces)
    }
}

fn count(text: &str) -> u32 {
    u32::try_from(text.len()).unwrap_or(u32::MAX)
}

/// By what a measurement is found again: all that makes a model another one, also whether it is rounded by
/// what matters for the corpus, and the text.
fn key(choice: &Choice, weighed: bool, texts: &Texts) -> String {
    let mut hasher = Hasher::default();
    let mut out = choice.out.clone();
    out.sort_unstable();
    hasher.update(format!("{:?} {weighed} {out:?} {} ", choice.quant, texts.digest).as_bytes());
    match &choice.kept {
        None => hasher.update(b"all"),
        Some(kept) => kept
            .iter()
            .for_each(|token| hasher.update(&token.to_le_bytes())),
    }
    hasher.finish().to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

    use hob_ipc::quantize::Scheme;
    use proptest::prelude::*;

    use super::*;
    use crate::models::shrink::matrices::{Matrices, Mix};
    use crate::models::shrink::quant::Quant;

    proptest! {
        #[test]
        fn no_piece_chooses_and_tells(lengths in proptest::collection::vec(0usize..60_000, 1..6)) {
            let mut number = 0;
            let text = |length: usize| {
                let sentences = std::iter::repeat_with(|| {
                    number += 1;
                    format!("Sätze {number}. ")
                });
                sentences.take(length / 12).collect::<String>()
            };
            let texts: Vec<String> = lengths.into_iter().map(text).collect();
            let whole = texts.concat().len();
            let Ok(found) = Yardstick::of(&texts) else {
                prop_assert!(whole < (PIECES_MIN + 5) * PIECE_BYTES_MIN);
                return Ok(());
            };
            let Yardstick { choosing, little, telling } = found;
            for texts in [&choosing, &telling] {
                prop_assert!((PIECES_MIN / 2..=PIECES_MAX).contains(&texts.pieces.len()));
                prop_assert!(texts.counted() < texts.bytes());
            }
            prop_assert!(little.pieces.len() <= LITTLE_PIECES);
            prop_assert!(little.pieces.iter().all(|piece| choosing.pieces.contains(piece)));
            prop_assert!(!telling.pieces.iter().any(|piece| choosing.pieces.contains(piece)));
            for (before, rest) in choosing.pieces.iter().chain(&telling.pieces) {
                prop_assert!(!rest.is_empty() && before.len() + rest.len() <= PIECE_BYTES);
            }
        }
    }

    #[test]
    fn another_model_or_text_is_measured_anew() {
        let texts = |text: &str| Texts::of(vec![(String::new(), text.to_owned())]);
        let same = Choice::default();
        let pruned = Choice {
            kept: Some(vec![1, 2]),
            ..Choice::default()
        };
        let stored = Choice {
            quant: Quant {
                embedding: Some(Scheme::Q5_1),
                ..Quant::default()
            },
            ..Choice::default()
        };
        let mut mix = Mix::default();
        let one = Matrices::parse("attn_q:3").unwrap();
        assert!(mix.add(one, Scheme::Q5_1));
        let mixed = Choice::stored(Quant {
            mix,
            ..Quant::default()
        });
        let short = |out: &[u32]| Choice {
            out: out.to_vec(),
            ..Choice::default()
        };
        let choices = [same, pruned, stored, mixed, short(&[4]), short(&[4, 5])];
        let mut keys: Vec<String> = choices.iter().map(|c| key(c, false, &texts("a"))).collect();
        keys.push(key(&choices[0], false, &texts("b")));
        keys.push(key(&choices[2], true, &texts("a")));
        let all = keys.len();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), all);
        // In which order layers were chosen makes no other model.
        let text = texts("a");
        let [one, other] = [[5, 4], [4, 5]].map(|out| key(&short(&out), false, &text));
        assert_eq!(one, other);
    }
}
