//! How a text is read for what matters: its first word after `fake-observe: `.
//!
//! | word | what happens |
//! | --- | --- |
//! | `nan` | a number that is none |
//! | `negative` | a mean of squares below zero |
//! | `nothing` | no number is written |
//! | `backwards` | more windows than there are |
//! | `fail` | `LoadFailed` |
//! | `exit` | the process exits 0 |

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use anyhow::{Context as _, bail};
use hob_ipc::EngineEvent;
use hob_ipc::importance::{Observe, Observed};
use hob_ipc::message::LoadFailure;

use crate::wire::Wire;

/// What such a text begins with.
pub(crate) const MARK: &str = "fake-observe: ";

pub(crate) fn run(wire: &Wire, order: &Observe, files: &[File]) -> anyhow::Result<()> {
    let [_model, text, numbers] = files else {
        bail!("{} descriptors came with Observe", files.len());
    };
    let mut said = vec![0; usize::try_from(order.text_bytes)?];
    text.read_exact_at(&mut said, 0)?;
    let said = String::from_utf8(said)?;
    let rest = said.strip_prefix(MARK).context("no word for it")?;
    let last = Observed { windows: 1, of: 1 };
    let tell = |observed| wire.send(&EngineEvent::Observed(observed));
    match rest.split_whitespace().next().unwrap_or_default() {
        "nan" => {
            numbers.write_all_at(&f32::NAN.to_le_bytes(), 400)?;
            tell(last);
        }
        "negative" => {
            numbers.write_all_at(&(-1.0f32).to_le_bytes(), 400)?;
            tell(last);
        }
        "nothing" => tell(last),
        "backwards" => tell(Observed { windows: 2, of: 1 }),
        "fail" => wire.send(&EngineEvent::LoadFailed {
            code: LoadFailure::Observe,
            message: "the fake engine was told to fail".to_owned(),
        }),
        "exit" => {}
        other => bail!("no such word: {other}"),
    }
    Ok(())
}
