//! How far a model is from its source where both have the same tokens.
//!
//! What rounding costs is little beside what one text and another differ by, so that a difference in bits per
//! byte takes many pages to be told from chance. The divergence of what both expect at each place never is
//! below zero, and a page tells it to a tenth. It is what is lost on text that is like what the source expects
//! (T. M. Cover and J. A. Thomas, Elements of Information Theory, section 5.4). As a share of what the source
//! itself is surprised by, it can be added to losses of bits per byte.

use std::fs::File;

use hob_ipc::passages::Cut;

use super::yardstick::Texts;
use super::{Choice, Shop, Source};
use crate::engine::{Engine, EngineError};
use crate::failure::Failure;

/// Tokens of a window, of which the second half is scored (`hob_engine::passages`).
const WINDOW: u32 = 128;
const SCORED: u32 = WINDOW - WINDOW / 2 - 1;
/// Most windows that are read.
const WINDOWS: u32 = 8;

impl Shop {
    /// By how much more the model of a choice is surprised than its source, as a share; `None` of text that is no
    /// window long. `reference` is the source's engine once there is one.
    pub(super) fn apart(
        &mut self,
        source: &Source<'_>,
        choice: &Choice,
        texts: &Texts,
        reference: &mut Option<Engine>,
    ) -> Result<Option<f64>, Failure> {
        if let Some(known) = self.known_apart(choice, texts) {
            self.meter.advance(texts.bytes());
            return Ok(Some(known));
        }
        let (model, _) = self.trial(source, choice, None)?;
        let model = model.as_ref().unwrap_or(&source.open.file);
        let Some(share) = self.read_beside(source, model, texts, reference)? else {
            return Ok(None);
        };
        let key = self.key_apart(choice, texts);
        self.keep(&key, vec![share]);
        Ok(Some(share))
    }

    /// What was measured before.
    pub(super) fn known_apart(&self, choice: &Choice, texts: &Texts) -> Option<f64> {
        match self.kept.as_ref()?.get(&self.key_apart(choice, texts))?[..] {
            [share] if share.is_finite() && share >= 0.0 => Some(share),
            _ => None,
        }
    }

    fn key_apart(&self, choice: &Choice, texts: &Texts) -> String {
        format!("{} apart", self.key(choice, texts))
    }

    fn read_beside(
        &mut self,
        source: &Source<'_>,
        model: &File,
        texts: &Texts,
        reference: &mut Option<Engine>,
    ) -> Result<Option<f64>, Failure> {
        let text = texts.whole();
        let theirs = match reference {
            Some(engine) => engine,
            None => match self.open(source, &source.open.file, &text)? {
                None => return Ok(None),
                Some((engine, _)) => reference.insert(engine),
            },
        };
        let Some((mut own, count)) = self.open(source, model, &text)? else {
            return Ok(None);
        };
        let read = WINDOWS.min(count);
        let (mut divergence, mut surprise) = (0.0, 0.0);
        for window in 0..read {
            self.interrupt.check()?;
            let passage = window * count / read;
            let (expected, found) = own.read_passage_beside(theirs, passage, SCORED)?;
            divergence += found.apart.divergence;
            surprise -= expected.log_probability;
            self.meter.advance(texts.bytes() / u64::from(read));
        }
        if surprise > 0.0 {
            return Ok(Some(divergence.max(0.0) / surprise));
        }
        Err(Failure::new("nothing could be measured on the corpus"))
    }

    /// An engine that has the text before it, and how many windows that is; `None` of a text with fewer tokens
    /// than a window.
    fn open(
        &self,
        source: &Source<'_>,
        model: &File,
        text: &str,
    ) -> Result<Option<(Engine, u32)>, Failure> {
        let mut engine = self.engine(model, source.all())?;
        match engine.open_text(text, Cut::Windows { tokens: WINDOW }) {
            Ok(opened) => Ok(Some((engine, opened.passages))),
            Err(EngineError::Failed(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}
