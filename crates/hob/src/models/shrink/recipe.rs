//! What is asked for, and whether it fits together. Pure, but for reading the source's tokens.

use hob_models::gguf::Document;
use hob_models::surgery::{Budget, SurgeryError, Vocabulary};

use super::depth::Depth;
use super::importance::Weighing;
use super::quant::Quant;
use super::search::Size;
use crate::failure::Failure;

/// Which tokens stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Vocab {
    Keep,
    Prune(Budget),
}

impl Vocab {
    /// The vocabulary of a model, where some of it may be left out.
    pub(super) fn of(self, document: &Document) -> Result<Option<Vocabulary<'_>>, SurgeryError> {
        let Self::Prune(budget) = self else {
            return Ok(None);
        };
        let vocabulary = Vocabulary::read(document)?;
        vocabulary.may_keep(budget)?;
        Ok(Some(vocabulary))
    }
}

pub(super) fn parse_vocab(text: &str) -> Result<Vocab, String> {
    match (text, text.parse()) {
        ("keep", _) => Ok(Vocab::Keep),
        ("auto", _) => Ok(Vocab::Prune(Budget::Auto)),
        (_, Ok(tokens)) if tokens > 0 => Ok(Vocab::Prune(Budget::Tokens(tokens))),
        _ => Err("say auto, keep, or a number of tokens".to_owned()),
    }
}

/// What is asked for.
#[derive(Clone, Debug)]
pub(super) struct Recipe {
    pub(super) vocab: Vocab,
    pub(super) quant: Quant,
    pub(super) requantize: bool,
    pub(super) weighing: Weighing,
    pub(super) depth: Depth,
    /// Whether, and within what, vocabularies and types are tried.
    pub(super) limits: Option<(Option<Size>, Option<f64>)>,
    /// Whether types of the table of tokens are tried, too.
    pub(super) tries_types: bool,
}

impl Recipe {
    /// Whether models are measured before one is made.
    pub(super) fn measures(&self, corpus: bool) -> bool {
        let without = match &self.depth {
            Depth::Keep => false,
            Depth::These(_) => corpus,
            Depth::Count(_) | Depth::Auto => true,
        };
        self.limits.is_some() || without
    }

    /// Whether what is asked for fits together, with a corpus or without.
    pub(super) fn check(&self, corpus: bool) -> Result<(), Failure> {
        let limited = self.limits.is_some();
        if limited && !self.quant.is_keep() {
            return Err(
                Failure::usage("within limits, types are tried and not named").hint(
                    "Leave --quant out, say --quant keep, or leave --max-size and --max-loss out.",
                ),
            );
        }
        if self.measures(corpus) && !corpus {
            return Err(Failure::usage("no text is given to measure a loss on")
                .hint("Give --corpus FILE, some hundred kilobytes or more."));
        }
        if let Depth::These(out) = &self.depth {
            let mut named = self.quant.mix.iter().map(|(matrices, _)| matrices);
            if let Some(gone) = named.find(|matrices| matrices.layers.within(out)) {
                return Err(Failure::usage(format!(
                    "`{gone}` is to be stored anew, and to be left out"
                ))
                .hint("Leave one of --quant and --drop-layers out for these layers."));
            }
        }
        if self.depth == Depth::Auto && !limited {
            return Err(Failure::usage(
                "without a limit, nothing tells how many layers to leave out",
            )
            .hint("Say how many with --drop-layers, or give --max-size or --max-loss."));
        }
        let tries_types = limited && self.tries_types;
        let same = self.vocab == Vocab::Keep && self.quant.is_keep() && self.depth == Depth::Keep;
        if same && !tries_types {
            return Err(Failure::usage("nothing is to become smaller")
                .hint("Say what with --vocab or --quant, or leave both out for --vocab auto."));
        }
        if self.vocab != Vocab::Keep && !corpus {
            return Err(Failure::usage("no text is given to choose tokens by")
                .hint("Give --corpus FILE, or say --vocab keep."));
        }
        Ok(())
    }
}
