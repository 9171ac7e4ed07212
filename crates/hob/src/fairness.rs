//! `hob fairness`: whether a model prefers people by what they are, and what can be done about it.
//!
//! [`data`] reads published questions into groups ([`bbq`], [`winobias`], [`winogender`]); [`mod@measure`] asks
//! the sandboxed engine how likely it finds each answer, and [`kept`] keeps that; [`sets`] counts and
//! [`figure`] tells how sure it is; [`verdict`] judges of two models, and [`card`] shows all of it, which
//! [`findings`] reads again.
//! What could be done is tried by [`mitigation`]: [`mod@mitigate`] abstains, and [`steering`] chooses control
//! vectors, which are learned from [`contrast`] and tried by [`control`]; [`apply`] says which passes. All but `data`,
//! `measure`, `kept`, `control`, `mitigation` and the showing are pure.

mod apply;
mod bbq;
mod card;
mod contrast;
mod control;
mod coreference;
mod data;
mod figure;
pub(crate) mod findings;
mod kept;
mod measure;
mod mitigate;
mod mitigation;
mod page;
mod question;
mod sets;
mod steering;
mod verdict;
mod winobias;
mod winogender;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueHint};
use hob_models::locations;
use hob_models::{ModelName, Sha256};
use serde::Serialize;

use crate::exit::ExitStatus;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::models::gate::{Card as KnownCard, Gate};
use crate::models::progress::Meter;
use crate::models::{ModelsOptions, Place, let_others_go_first};
use crate::output::Output;
use card::Card;
use data::{Data, draw};
pub(crate) use findings::Findings;
use kept::Kept;
use measure::{Results, interleave, tasks};
use mitigation::MitigateOptions;
use question::Group;
use sets::{BBQ, SetCard, SetChange, WINOBIAS, WINOGENDER};

/// Groups of each set that a quick audit draws: some minutes on two cores for a model of 135 million
/// parameters.
const QUICK_GROUPS: usize = 60;
/// The seed of drawing: two models, or two audits of one, see the same questions.
const SEED: u64 = 2022;

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum FairnessCommand {
    /// Measure whether a model prefers people by what they are: by age, disability, looks, religion, gender
    ///
    /// Asks published questions. The model writes nothing: how likely it finds each given answer is
    /// measured. Ctrl-C shows what is known until then, and the same command goes on. The
    /// data is not part of hob: FOLDER has any of bbq/*.jsonl (nyu-mll/BBQ, CC BY 4.0),
    /// winobias/*.txt (uclanlp/corefBias, MIT) and winogender/*.tsv (rudinger/winogender-schemas, MIT). The questions are in English, and
    /// tell of stereotypes of the USA; a model that does well here may still do harm elsewhere.
    Audit {
        /// An installed model [default: the default model]
        #[arg(value_name = "MODEL")]
        model: Option<String>,
        /// Compare with this installed model, and tell by the exit code (8) if MODEL may not take its place
        #[arg(long, value_name = "MODEL")]
        against: Option<String>,
        /// Write a page with all of it, for any browser; it needs nothing else
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        html: Option<PathBuf>,
        /// Where the questions are, and how many are asked.
        #[command(flatten)]
        questions: Questions,
    },
    /// Try whether a model can be made to say that it does not know, when it can't
    ///
    /// Fits, on all of BBQ's categories but one, how doubtful a model must be for "unknown" to be taken
    /// for its answer, and tells how well that does on the one left out; and the same with control vectors,
    /// if asked to. It changes nothing but with --apply and --remove.
    Mitigate(MitigateOptions),
}

/// Which questions.
#[derive(Clone, Debug, Args)]
pub(crate) struct Questions {
    /// The folder of questions
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    data: PathBuf,
    /// Draw 60 groups of questions from each set, evenly over its categories, and list answers in three
    /// orders: minutes (the default)
    #[arg(long)]
    quick: bool,
    /// Ask every question, with its answers in all orders: hours
    #[arg(long, conflicts_with = "quick")]
    full: bool,
    /// Draw so many groups from each set instead
    #[arg(long, value_name = "N", conflicts_with_all = ["quick", "full"])]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    groups: Option<u32>,
}

/// How much was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Extent {
    /// Most groups of each set; `None` for all.
    groups_max: Option<usize>,
    /// Orders in which BBQ's answers are listed.
    orders: usize,
}

impl Questions {
    fn extent(&self) -> Extent {
        let groups = self
            .groups
            .map(|groups| usize::try_from(groups).unwrap_or(usize::MAX));
        Extent {
            groups_max: (!self.full).then(|| groups.unwrap_or(QUICK_GROUPS)),
            orders: if self.full { 6 } else { 3 },
        }
    }
}

/// Does what the command says.
///
/// # Errors
/// When the data or a model can't be used, when a comparison is not passed, or on Ctrl-C.
pub(crate) fn run(
    command: FairnessCommand,
    options: &ModelsOptions,
    output: &mut Output,
) -> Result<ExitStatus, Failure> {
    // Nothing here asks anybody.
    let mut place = Place::new(options, false, output)?;
    match command {
        FairnessCommand::Audit {
            model,
            against,
            html,
            questions,
        } => {
            let models = (model.as_deref(), against.as_deref());
            audit(models, html.as_deref(), &questions, &mut place)
        }
        FairnessCommand::Mitigate(options) => mitigation::run(&options, &mut place),
    }
}

/// The questions that are asked.
struct Asked {
    data: Data,
    extent: Extent,
}

impl Asked {
    fn draw(questions: &Questions) -> Result<Self, Failure> {
        let extent = questions.extent();
        let mut data = Data::read(&questions.data, extent.orders > bbq::ANSWERS)?;
        if let Some(most) = extent.groups_max {
            data.bbq = draw(&data.bbq, most, SEED);
            data.winobias = draw(&data.winobias, most, SEED);
            data.winogender = draw(&data.winogender, most, SEED);
        }
        Ok(Self { data, extent })
    }

    fn questions(&self) -> usize {
        fn count<F>(groups: &[Group<F>]) -> usize {
            groups.iter().map(|group| group.questions.len()).sum()
        }
        count(&self.data.bbq) + count(&self.data.winobias) + count(&self.data.winogender)
    }

    /// The figures of a model, of those sets that there are.
    fn cards(&self, results: &Results) -> Vec<SetCard> {
        let data = &self.data;
        let mut bbq = BBQ.card(&results.of(&data.bbq));
        bbq.places = sets::places(&results.of(&data.bbq));
        let cards = [
            bbq,
            WINOBIAS.card(&results.of(&data.winobias)),
            WINOGENDER.card(&results.of(&data.winogender)),
        ];
        cards.into_iter().filter(|card| card.groups > 0).collect()
    }

    /// What differs between two models.
    fn changes(&self, base: &Results, other: &Results) -> Vec<SetChange> {
        let data = &self.data;
        let changes = [
            BBQ.change(&base.of(&data.bbq), &other.of(&data.bbq)),
            WINOBIAS.change(&base.of(&data.winobias), &other.of(&data.winobias)),
            WINOGENDER.change(&base.of(&data.winogender), &other.of(&data.winogender)),
        ];
        let there = changes.into_iter().flatten();
        there.filter(|change| change.flipped.of > 0).collect()
    }
}

/// A model that was measured.
struct Measured {
    name: ModelName,
    sha256: Sha256,
    results: Results,
}

/// Measures a model, which others go before.
fn measure(
    name: &ModelName,
    asked: &Asked,
    bbq_only: bool,
    interrupt: &Interrupt,
    place: &Place<'_>,
) -> Result<Measured, Failure> {
    let folder = locations::audits_dir().map_err(|error| Failure::new(error.to_string()))?;
    let mut meter = Meter::new(name.as_str());
    let open = place
        .open(name, &mut meter)
        .inspect_err(|_| meter.finish())?;
    let data = &asked.data;
    let mut sets = vec![tasks(0, &data.bbq)];
    if !bbq_only {
        sets.extend([tasks(1, &data.winobias), tasks(2, &data.winogender)]);
    }
    let results =
        Kept::open(&folder, open.sha256, data.sha256, asked.extent.orders).and_then(|mut kept| {
            measure::run(
                &interleave(sets),
                &open,
                None,
                &mut kept,
                interrupt,
                &mut meter,
            )
        });
    meter.finish();
    Ok(Measured {
        name: name.clone(),
        sha256: open.sha256,
        results: results?,
    })
}

fn audit(
    (model, against): (Option<&str>, Option<&str>),
    html: Option<&Path>,
    questions: &Questions,
    place: &mut Place<'_>,
) -> Result<ExitStatus, Failure> {
    let name = named(model, place)?;
    let base = against.map(|name| place.installed_name(name)).transpose()?;
    if base.as_ref() == Some(&name) {
        return Err(Failure::usage(format!(
            "{name} can't be compared with itself"
        )));
    }
    if let Some(path) = html {
        crate::page::check_place(path)?;
    }
    let_others_go_first();
    let asked = Asked::draw(questions)?;
    let interrupt = Interrupt::watch()?;
    let measured = measure(&name, &asked, false, &interrupt, place)?;
    let base = match &base {
        // What is known of one alone is told as that.
        Some(base) if !measured.results.stopped => {
            Some(measure(base, &asked, false, &interrupt, place)?)
        }
        _ => None,
    };
    let card = Card::new(&asked, &measured, base.as_ref());
    card.show(place)?;
    if let Some(path) = html {
        crate::page::write(path, &page::page(&card), place.output)?;
    }
    if !card.complete {
        return Ok(stopped(place));
    }
    keep(card, place)
}

/// Keeps a card beside its model, and tells by the exit code whether the model may take the other's place.
fn keep(mut card: Card, place: &mut Place<'_>) -> Result<ExitStatus, Failure> {
    let source = place.store.get(&card.model)?.manifest.lineage;
    let source = source.map(|lineage| lineage.source_sha256);
    let of_source = |gate: &Gate| source == Some(gate.against_sha256);
    let known = KnownCard::of(&card.model, card.model_sha256, place);
    let known = known.and_then(|card| card.gate).filter(of_source);
    let verdict = match card.gate.take() {
        Some(gate) if of_source(&gate) => {
            let own = gate.clone();
            let gate = gate.or_of_more(known);
            if gate != own {
                let verdict = if gate.passed { "passed" } else { "not passed" };
                let remark = format!(
                    "(what counts is an audit of {} questions: {verdict})",
                    gate.questions
                );
                place.output.remark(&remark);
            }
            card.gate = Some(gate.clone());
            Some(gate)
        }
        // What came of comparing the same file with its source holds, whatever else it is compared with.
        other => {
            card.gate = known.or(other.clone());
            other
        }
    };
    let text = crate::ask::to_json(&card)?;
    let kept = place
        .store
        .keep_fairness_card(&card.model, card.model_sha256, &text);
    if let Err(error) = kept {
        let remark = format!("(the card could not be kept beside the model: {error})");
        place.output.remark(&remark);
    }
    match verdict {
        Some(verdict) if !verdict.passed => Ok(ExitStatus::Gate),
        _ => Ok(ExitStatus::Success),
    }
}

fn stopped(place: &mut Place<'_>) -> ExitStatus {
    let remark = "(stopped; what was measured is kept, and the same command goes on)";
    place.output.remark(remark);
    ExitStatus::Interrupted
}

/// The model that is meant.
fn named(model: Option<&str>, place: &Place<'_>) -> Result<ModelName, Failure> {
    match model {
        Some(name) => place.installed_name(name),
        None => Ok(place.store.default_model()?),
    }
}
