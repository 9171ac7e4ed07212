//! Texts read passage by passage: how well the model foresees them, and how far what it expects is from
//! what another model does.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd as _;

use hob_ipc::passages::{self, Apart, Cut, OpenText, OpenTokens, ReadText, Scores};
use hob_ipc::passages::{DIVERGENCE_MAX, ROWS_MAX};
use hob_ipc::passages::{TextOpened, TextRead, TokenPassage};
use hob_ipc::score::LOG_PROBABILITY_MIN;
use hob_ipc::{Command, EngineEvent, RequestId, shared};

use super::{Engine, EngineError, N_CTX};

/// Most bytes of scores that two engines hand each other at once. The engine that writes them holds them
/// twice more.
const SCORES_BYTES_MAX: u64 = 32 << 20;
/// Fewest rows of such a step, however large the vocabulary: less would waste the processor.
const ROWS_MIN: u32 = 16;

/// How a model foresaw a passage.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Foreseen {
    /// The sum of the scored tokens' log-probabilities, a natural logarithm.
    pub(crate) log_probability: f64,
    /// The tokens that were scored.
    pub(crate) tokens: u32,
    /// The bytes that these stand for.
    pub(crate) bytes: u64,
    /// How far it is from the reference, if it was compared with one.
    pub(crate) apart: Apart,
    /// The sum over tokens of how probable it found those that another model lacks, if it was asked about one.
    pub(crate) others: f64,
}

impl Engine {
    /// Opens a text, in place of the one before.
    ///
    /// # Errors
    /// [`EngineError`], also for a text that has no such passages.
    pub(crate) fn open_text(&mut self, text: &str, cut: Cut) -> Result<TextOpened, EngineError> {
        let asked = self.next_request();
        let bytes = text.len() as u64;
        let lost = |error: std::io::Error| EngineError::Lost(error.to_string());
        let mut memory = shared::fixed("hob-text", bytes).map_err(lost)?;
        memory.write_all(text.as_bytes()).map_err(lost)?;
        let command = Command::OpenText(OpenText {
            id: asked,
            bytes,
            cut,
        });
        self.send_with(&command, &[memory.as_fd()])?;
        self.text_bytes = bytes;
        self.writes_kept = false;
        self.opened(asked)
    }

    /// Opens a text of so many bytes whose tokens are known, in place of the one before. With `kept`, the
    /// numbers that all tokens of another model have here, it can be the reference of that one.
    ///
    /// # Errors
    /// [`EngineError`], also for passages that are longer than the context.
    pub(crate) fn open_tokens(
        &mut self,
        passages: Vec<TokenPassage>,
        kept: &[u32],
        text_bytes: u64,
    ) -> Result<TextOpened, EngineError> {
        let asked = self.next_request();
        self.send(&Command::OpenTokens(OpenTokens {
            id: asked,
            passages,
            kept: kept.iter().map(|token| token.cast_signed()).collect(),
        }))?;
        self.text_bytes = text_bytes;
        self.writes_kept = !kept.is_empty();
        self.opened(asked)
    }

    fn opened(&mut self, asked: RequestId) -> Result<TextOpened, EngineError> {
        let opened = self.answer(asked, |event| match event {
            EngineEvent::TextOpened(opened) if opened.id == asked => Some(Ok(opened)),
            _ => None,
        })?;
        if (1..=opened.tokens).contains(&opened.passages) {
            Ok(opened)
        } else {
            Err(EngineError::Absurd)
        }
    }

    /// Reads a passage of the open text.
    ///
    /// # Errors
    /// [`EngineError`].
    pub(crate) fn read_passage(&mut self, passage: u32) -> Result<Foreseen, EngineError> {
        let mut all = Foreseen::default();
        let mut left = None;
        while left != Some(0) {
            let read = self.read_on(passage, all.tokens, ROWS_MAX, left, None)?;
            all.add(&read);
            left = Some(read.left);
        }
        Ok(all)
    }

    /// Reads a passage of the text that is open in both engines, which must read the same tokens, and have one
    /// vocabulary, or the reference opened it for this one's: what the reference made of it, and what this one
    /// did, and how far it is from that. `scored` is how many tokens of the passage are scored.
    ///
    /// # Errors
    /// [`EngineError`].
    pub(crate) fn read_passage_beside(
        &mut self,
        reference: &mut Self,
        passage: u32,
        scored: u32,
    ) -> Result<(Foreseen, Foreseen), EngineError> {
        let row = passages::scores_bytes(1, self.vocabulary).max(1);
        let most = u32::try_from(SCORES_BYTES_MAX / row).unwrap_or(ROWS_MAX);
        let most = most.clamp(ROWS_MIN, ROWS_MAX);
        let (mut theirs, mut own) = (Foreseen::default(), Foreseen::default());
        let mut left = scored;
        while left > 0 {
            let (from, rows) = (own.tokens, left.min(most));
            let bytes = passages::scores_bytes(rows, self.vocabulary);
            let memory = shared::fixed("hob-scores", bytes)
                .map_err(|error| EngineError::Lost(error.to_string()))?;
            let known = Some(left);
            let write = Some((Scores::Write, &memory));
            theirs.add(&reference.read_on(passage, from, rows, known, write)?);
            let compare = Some((Scores::Compare, &memory));
            own.add(&self.read_on(passage, from, rows, known, compare)?);
            left -= rows;
        }
        Ok((theirs, own))
    }

    /// Reads a passage of the open text, and adds to `expected` how often the model expected each token of
    /// its vocabulary there; how many tokens were foreseen.
    ///
    /// # Errors
    /// [`EngineError`].
    pub(crate) fn expected(
        &mut self,
        passage: u32,
        expected: &mut [f64],
    ) -> Result<u32, EngineError> {
        let lost = |error: std::io::Error| EngineError::Lost(error.to_string());
        let bytes = passages::scores_bytes(1, self.vocabulary);
        let (mut rows, mut left) = (0, None);
        while left != Some(0) {
            let memory = shared::fixed("hob-expected", bytes).map_err(lost)?;
            let read = self.read_on(
                passage,
                rows,
                ROWS_MAX,
                left,
                Some((Scores::Expect, &memory)),
            )?;
            let sums = shared::floats(&memory, expected.len(), 0).map_err(lost)?;
            let sums: Vec<f64> = sums.into_iter().map(f64::from).collect();
            if !are_probabilities(&sums, read.rows) {
                return Err(EngineError::Absurd);
            }
            expected
                .iter_mut()
                .zip(sums)
                .for_each(|(sum, more)| *sum += more);
            rows += read.rows;
            left = Some(read.left);
        }
        Ok(rows)
    }

    /// Reads one step's worth, of at most `rows` rows and of the `left` that are left, if that is known.
    fn read_on(
        &mut self,
        passage: u32,
        from: u32,
        rows: u32,
        left: Option<u32>,
        exchange: Option<(Scores, &File)>,
    ) -> Result<TextRead, EngineError> {
        let asked = self.next_request();
        let scores = exchange.map_or(Scores::Drop, |(scores, _)| scores);
        let command = Command::ReadText(ReadText {
            id: asked,
            passage,
            from,
            rows,
            scores,
        });
        match exchange {
            Some((_, memory)) => self.send_with(&command, &[memory.as_fd()])?,
            None => self.send(&command)?,
        }
        let read = self.answer(asked, |event| match event {
            EngineEvent::TextRead(read) if read.id == asked => Some(Ok(read)),
            _ => None,
        })?;
        let kept = scores == Scores::Write && self.writes_kept;
        if is_sane(&read, rows, left, self.text_bytes, scores) && tells_others(&read, kept) {
            Ok(read)
        } else {
            Err(EngineError::Absurd)
        }
    }
}

impl Foreseen {
    fn add(&mut self, read: &TextRead) {
        self.log_probability += read.log_probability;
        self.tokens += read.rows;
        self.bytes += read.bytes;
        if let Some(apart) = read.apart {
            self.apart.divergence += apart.divergence;
            self.apart.agree += apart.agree;
        }
        self.others += read.others.unwrap_or(0.0);
    }
}

/// Whether this can be what a step of at most `rows` rows told, of `left` if that is known.
fn is_sane(read: &TextRead, rows: u32, left: Option<u32>, text_bytes: u64, scores: Scores) -> bool {
    let counted = match left {
        Some(left) => read.rows == rows.min(left) && read.left == left - read.rows,
        None => read.left < N_CTX && (read.rows == rows || read.left == 0),
    };
    let count = f64::from(read.rows);
    // None of these ranges holds what is no number.
    let apart = |apart: Apart| {
        (0.0..=count * DIVERGENCE_MAX).contains(&apart.divergence) && apart.agree <= read.rows
    };
    counted
        && (1..=rows).contains(&read.rows)
        && (count * LOG_PROBABILITY_MIN..=0.0).contains(&read.log_probability)
        // A tokenizer may add a space.
        && read.bytes <= text_bytes + 1
        && read.apart.is_some() == (scores == Scores::Compare)
        && read.apart.is_none_or(apart)
}

/// Whether these can be the probabilities of all tokens, summed over so many rows.
fn are_probabilities(sums: &[f64], rows: u32) -> bool {
    let rows = f64::from(rows);
    // What is no number is in no range.
    let sane = sums.iter().all(|sum| (0.0..=rows * 1.001).contains(sum));
    sane && (sums.iter().sum::<f64>() / rows - 1.0).abs() < 0.001
}

/// Whether what is told of tokens that are not kept can be, if there are such.
fn tells_others(read: &TextRead, kept: bool) -> bool {
    // The range does not hold what is no number.
    let possible = |others| (0.0..=f64::from(read.rows)).contains(&others);
    read.others.is_some() == kept && read.others.is_none_or(possible)
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: TextRead = TextRead {
        id: RequestId(1),
        rows: 10,
        left: 5,
        log_probability: -30.0,
        bytes: 40,
        apart: None,
        others: None,
    };

    fn sane(read: TextRead, left: Option<u32>) -> bool {
        let scores = match read.apart {
            Some(_) => Scores::Compare,
            None => Scores::Drop,
        };
        is_sane(&read, 10, left, 40, scores)
    }

    #[test]
    fn what_no_step_tells_is_not_believed() {
        assert!(sane(READ, None) && sane(READ, Some(15)));
        assert!(!sane(READ, Some(16)) && !sane(READ, Some(9)));
        let change = |change: fn(&mut TextRead)| {
            let mut read = READ;
            change(&mut read);
            sane(read, None)
        };
        assert!(!change(|read| read.rows = 11));
        assert!(!change(|read| read.rows = 0));
        assert!(!change(|read| read.rows = 9));
        assert!(!change(|read| read.left = N_CTX));
        assert!(!change(|read| read.bytes = 42));
        assert!(!change(|read| read.log_probability = f64::NAN));
        assert!(!change(|read| read.log_probability = 0.1));
        assert!(!change(|read| read.log_probability = -10_001.0));
        let apart = |divergence, agree| {
            let apart = Some(Apart { divergence, agree });
            sane(TextRead { apart, ..READ }, None)
        };
        assert!(apart(0.0, 10) && apart(10.0, 0));
        assert!(!apart(0.0, 11));
        assert!(!apart(-0.1, 1));
        assert!(!apart(f64::NAN, 1));
        assert!(!apart(10_001.0, 1));
        assert!(!is_sane(&READ, 10, None, 40, Scores::Compare));
        let others = |others, kept| tells_others(&TextRead { others, ..READ }, kept);
        assert!(others(None, false) && others(Some(10.0), true));
        assert!(!others(None, true) && !others(Some(0.0), false));
        assert!(!others(Some(10.1), true) && !others(Some(f64::NAN), true));
    }

    #[test]
    fn what_no_row_adds_up_to_is_not_believed() {
        assert!(are_probabilities(&[1.0, 0.5, 0.5], 2));
        assert!(are_probabilities(&[2.0, 0.0, 0.000_1], 2));
        assert!(!are_probabilities(&[1.0, 0.5, 0.4], 2));
        assert!(!are_probabilities(&[2.5, -0.5], 2));
        assert!(!are_probabilities(&[f64::NAN, 2.0], 2));
        assert!(!are_probabilities(&[f64::INFINITY, 0.0], 2));
        assert!(!are_probabilities(&[], 2));
    }
}
