//! `hob models evaluate` and `compare`: what models are worth, and what they cost.
//!
//! Pieces of the text tell bits for each byte, which models of different vocabularies can be compared by:
//! each piece is cut in two, the first part is what goes before, and of the rest it is counted how
//! surprised the model is. Windows of tokens tell perplexity, and how far a model is from a reference of
//! the same vocabulary, as llama.cpp's `llama-perplexity` counts them; `kept` tells that of a reference which
//! has more tokens. All models see the same text.
//! `home` has what is said at a home read by them, and `fairness` shows what audits found.

use std::path::PathBuf;

use clap::{Args, ValueHint};
use hob_models::ModelName;

use super::Place;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use home::Home;
use kept::{Fewer, Vocabularies};
use measure::Work;
use text::Texts;

mod card;
mod fairness;
mod home;
mod kept;
mod measure;
mod page;
mod text;

/// Pieces and windows that are read unless told otherwise, and with `--quick`.
const COUNT: usize = 64;
const COUNT_QUICK: usize = 12;
/// Answers that speed is measured by: the median of them counts.
const ANSWERS: usize = 3;

/// What is read, and where it is written.
#[derive(Clone, Debug, Args)]
pub(crate) struct EvaluateOptions {
    /// UTF-8 text that the models were not made for; without, only what a model costs is measured
    #[arg(long, value_name = "FILE", num_args = 1.., value_hint = ValueHint::FilePath)]
    text: Vec<PathBuf>,

    /// How many pieces of the text are read for bits per byte, of up to 1.5 KiB, spread over all of it
    /// [default: 64, or 12 with --quick]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pieces: Option<u16>,

    /// How many windows of 512 tokens are read for perplexity, spread over the first 4 MiB of the text;
    /// 0 for none [default: 64, or 12 with --quick]
    #[arg(long, value_name = "N")]
    windows: Option<u16>,

    /// Read less: quicker, and less sure
    #[arg(long)]
    quick: bool,

    /// Two files: what a home can do (as `hob providers add` takes it), and what is said there with what is
    /// meant by it (as `hob evaluate home` takes it): how often is it read as it is meant, by words alone and by
    /// the model? A hobd of its own is started for it; nothing is done
    #[arg(long, num_args = 2, value_names = ["DEFINITION", "SENTENCES"], value_hint = ValueHint::FilePath)]
    home: Vec<PathBuf>,

    /// Write a page with all of it, for any browser; it needs nothing else
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    html: Option<PathBuf>,
}

/// Which model's expectations the others' are compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Against {
    /// None's.
    Nobody,
    /// An installed model's, which must have all tokens of the others.
    Model(String),
    /// The first one's, if it has all tokens of the others.
    First,
}

/// Measures models on the same text.
pub(super) fn run(
    models: &[String],
    against: &Against,
    options: &EvaluateOptions,
    place: &mut Place<'_>,
) -> Result<(), Failure> {
    let names = models.iter().map(|model| place.installed_name(model));
    let names = names.collect::<Result<Vec<_>, _>>()?;
    if let Some(page) = &options.html {
        crate::page::check_place(page)?;
    }
    let (reference, kept) = reference(&names, against, options, place)?.unzip();
    let work = Work {
        reference,
        kept: kept.unwrap_or_default(),
        texts: Texts::read(&options.text, options.counts())?,
        answers: if options.quick { 1 } else { ANSWERS },
        load: card::load(),
        home: Home::read(&options.home)?,
        store_option: place.store.option(),
        interrupt: Interrupt::watch()?,
    };
    super::let_others_go_first();
    let measured = names.iter().map(|name| work.measure(name, place));
    let measured = measured.collect::<Result<Vec<_>, _>>()?;
    card::show(&measured, &work, place)?;
    if let Some(path) = &options.html {
        crate::page::write(path, &page::page(&measured, &work), place.output)?;
    }
    Ok(())
}

impl EvaluateOptions {
    /// Pieces and windows that are read at most.
    fn counts(&self) -> (usize, usize) {
        let usual = if self.quick { COUNT_QUICK } else { COUNT };
        let count = |given: Option<u16>| given.map_or(usual, usize::from);
        (count(self.pieces), count(self.windows))
    }
}

/// The reference, if there is one: all that are compared with it have its tokens and no others. With the
/// numbers that the tokens of those have there which have fewer.
fn reference(
    names: &[ModelName],
    against: &Against,
    options: &EvaluateOptions,
    place: &Place<'_>,
) -> Result<Option<(ModelName, Fewer)>, Failure> {
    let reference = match against {
        Against::Nobody => return Ok(None),
        Against::First if options.text.is_empty() || options.windows == Some(0) => return Ok(None),
        Against::First => names[0].clone(),
        Against::Model(model) => place.installed_name(model)?,
    };
    if options.text.is_empty() || options.windows == Some(0) {
        let problem = "--against needs windows of a text that both models read";
        return Err(Failure::usage(problem).hint("Give a text with --text FILE."));
    }
    let theirs = text::vocabulary(&reference, place)?;
    let mut fewer = Vec::new();
    for name in names.iter().filter(|name| **name != reference) {
        match Vocabularies::of(&theirs, &text::vocabulary(name, place)?) {
            Vocabularies::Same => {}
            Vocabularies::Kept(numbers) => fewer.push((name.clone(), numbers)),
            Vocabularies::Other if *against == Against::First => return Ok(None),
            Vocabularies::Other => {
                let problem = format!(
                    "{name} has another vocabulary than {reference}, so that what they expect next can't be \
                     compared token by token"
                );
                return Err(Failure::usage(problem)
                    .hint("Leave --against out: bits per byte compare models of any vocabulary."));
            }
        }
    }
    Ok(Some((reference, fewer)))
}
