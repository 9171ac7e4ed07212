//! `hob fairness mitigate`: what can be done about a model that says what it can't know. It is measured, and with
//! `--apply` what passed is put beside the model.

use std::path::PathBuf;

use clap::{Args, ValueHint};
use hob_models::locations;
use hob_models::store::{ControlVector, OpenModel, Store, StoreError};
use hob_models::{ModelName, Sha256};
use serde_json::json;

use super::apply::{Application, Learnt, verification};
use super::kept::Kept;
use super::measure::Results;
use super::{Asked, Questions, card, control, measure, mitigate, named, steering, stopped};
use crate::exit::ExitStatus;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::models::ordinary::Ordinary;
use crate::models::progress::Meter;
use crate::models::{Place, let_others_go_first};

/// What is tried, and what becomes of it.
#[derive(Clone, Debug, Args)]
pub(crate) struct MitigateOptions {
    /// An installed model [default: the default model]
    #[arg(value_name = "MODEL")]
    model: Option<String>,
    /// Try control vectors, too: learn how a model's layers tell one kind of answer from another, add that
    /// to what they hand on, and ask again; half an hour for SmolLM2 on two cores
    #[arg(long, requires = "text")]
    control_vector: bool,
    /// Ordinary UTF-8 text, which a vector may not make more than 1 % harder to foresee; ten kilobytes or
    /// more
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "control_vector")]
    #[arg(value_hint = ValueHint::FilePath)]
    text: Vec<PathBuf>,
    /// Put a vector beside the model if it helps on what was left out, for hobd to add whenever it loads the
    /// model; otherwise tell by the exit code (8) that none does
    #[arg(long, requires = "control_vector")]
    apply: bool,
    /// Take away what --apply has put beside the model, and measure nothing
    #[arg(long, conflicts_with_all = ["control_vector", "text", "apply", "Questions"])]
    remove: bool,
    /// Where the questions are, and how many are asked.
    #[command(flatten)]
    questions: Option<Questions>,
}

/// Does what the command says.
///
/// # Errors
/// When the data or the model can't be used, when what passed can't be kept, or on Ctrl-C.
pub(super) fn run(options: &MitigateOptions, place: &mut Place<'_>) -> Result<ExitStatus, Failure> {
    let name = named(options.model.as_deref(), place)?;
    if options.remove {
        return remove(&name, place);
    }
    let Some(questions) = &options.questions else {
        return Err(Failure::usage("no questions are named").hint(
            "--data FOLDER says where they are; `hob fairness audit --help` tells of them.",
        ));
    };
    let text = options
        .control_vector
        .then(|| Ordinary::read(&options.text));
    let text = text.transpose()?;
    if options.apply {
        // Before an hour of work, and not behind it.
        place.store.check_changeable(&name)?;
    }
    let_others_go_first();
    let asked = Asked::draw(questions)?;
    mitigate::check(&asked.data.bbq)?;
    let interrupt = Interrupt::watch()?;
    let measured = measure(&name, &asked, true, &interrupt, place)?;
    if measured.results.stopped {
        return Ok(stopped(place));
    }
    let report = mitigate::Report::new(&measured.results.of(&asked.data.bbq));
    let steered = match &text {
        None => None,
        Some(text) => {
            let steer = Steer {
                name: &name,
                sha256: measured.sha256,
                asked: &asked,
                text,
                apply: options.apply,
            };
            match steer.run(&measured.results, &interrupt, place)? {
                None => return Ok(stopped(place)),
                steered => steered,
            }
        }
    };
    card::show_mitigation(&name, &asked, &report, steered.as_ref(), place)?;
    let application = steered.and_then(|(_, application)| application);
    Ok(match application {
        Some(Application::Refused { .. }) => ExitStatus::Gate,
        Some(Application::Applied { .. }) | None => ExitStatus::Success,
    })
}

fn remove(name: &ModelName, place: &mut Place<'_>) -> Result<ExitStatus, Failure> {
    let removed = place.store.remove_control_vector(name)?;
    let sentence = if removed {
        format!(
            "{name} has no control vector any more. A hobd that has the model loaded keeps it until it loads a \
             model again, as after a restart of hobd."
        )
    } else {
        format!("{name} has no control vector.")
    };
    place.report(&sentence, &json!({ "name": name, "removed": removed }))?;
    Ok(ExitStatus::Success)
}

/// What is tried with control vectors.
struct Steer<'a> {
    name: &'a ModelName,
    /// The file that was asked without a vector.
    sha256: Sha256,
    asked: &'a Asked,
    text: &'a Ordinary,
    apply: bool,
}

impl Steer<'_> {
    /// Tries vectors, and puts the one that passes beside the model if that is wanted; `None` if Ctrl-C ended it.
    fn run(
        &self,
        unsteered: &Results,
        interrupt: &Interrupt,
        place: &Place<'_>,
    ) -> Result<Option<(steering::Report, Option<Application>)>, Failure> {
        let folder = locations::audits_dir().map_err(|error| Failure::new(error.to_string()))?;
        let mut meter = Meter::new(self.name.as_str());
        let open = place
            .open(self.name, &mut meter)
            .inspect_err(|_| meter.finish())?;
        if open.sha256 != self.sha256 {
            meter.finish();
            let name = self.name.clone();
            return Err(StoreError::Changed { name }.into());
        }
        // Answers are not listed, in no order.
        let data = &self.asked.data;
        let found = Kept::open(&folder, open.sha256, data.sha256, 0).and_then(|kept| {
            let mut bench = control::Bench {
                model: &open,
                kept,
                text: self.text,
                apply: self.apply,
                interrupt,
                meter: &mut meter,
            };
            bench.run(&data.bbq, unsteered)
        });
        meter.finish();
        let Some((report, learnt)) = found? else {
            return Ok(None);
        };
        let application = match learnt {
            None => None,
            Some(Err(why)) => Some(Application::Refused {
                why,
                earlier: place.store.has_control_vector(self.name),
            }),
            Some(Ok(learnt)) => {
                let asked: usize = data.bbq.iter().map(|group| group.questions.len()).sum();
                let asked = (data.sha256, u32::try_from(asked).unwrap_or(u32::MAX));
                Some(keep(&report, asked, learnt, &open, &place.store)?)
            }
        };
        Ok(Some((report, application)))
    }
}

/// Puts what was learned beside the model that is open.
fn keep(
    report: &steering::Report,
    asked: (Sha256, u32),
    learnt: Learnt,
    open: &OpenModel,
    store: &Store,
) -> Result<Application, Failure> {
    let verified = verification(report, &learnt, asked);
    let model = (open.sha256, &open.header);
    let Learnt {
        setting,
        control,
        text_loss,
    } = learnt;
    let vector = ControlVector::new(model, control.layer, control.vector, verified);
    // Text was read with it, so that it is one.
    let vector = vector.map_err(|fault| Failure::new(format!("no control vector: {fault}")))?;
    store.keep_control_vector(&open.name, &vector)?;
    Ok(Application::Applied {
        file: store.control_path(&open.name),
        setting,
        text_loss,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

    use hob_models::store::{Expected, Provenance, Verified};

    use super::super::apply::tests::report;
    use super::*;
    use crate::engine::Control;
    use crate::models::tests::gguf;
    use steering::Setting;

    #[test]
    fn what_passed_lies_beside_the_model_that_it_was_learned_from() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path());
        let name = ModelName::new("small").unwrap();
        let provenance = Provenance {
            origin: "test".to_owned(),
            licence: None,
        };
        let mut installing = store
            .install(&name, provenance, Expected::default())
            .unwrap();
        installing.add(&gguf()).unwrap();
        installing.finish().unwrap();
        let open = store.open_verified(&name, &Verified::default()).unwrap();
        let report = report([0.5, 0.6], &[Some(1), Some(1)]);
        let learnt = |width| Learnt {
            setting: Setting::all(64)[1],
            control: Control {
                layer: 25,
                vector: vec![0.5; width],
            },
            text_loss: 0.002,
        };
        let digest = (open.sha256, 480);
        let applied = keep(&report, digest, learnt(64), &open, &store).unwrap();
        let expected = Application::Applied {
            file: store.control_path(&name),
            setting: Setting::all(64)[1],
            text_loss: 0.002,
        };
        assert_eq!(applied, expected);
        let read = store.control_vector(&name, (open.sha256, &open.header));
        let read = read.unwrap().unwrap();
        assert_eq!((read.layer(), read.numbers()), (25, &[0.5; 64][..]));
        assert_eq!(read.digest(), learnt(64).control.digest());
        assert_eq!(read.verified().categories, ["category 0", "category 1"]);
        assert!(keep(&report, digest, learnt(63), &open, &store).is_err());
    }
}
