//! What a model of a test's own has seen: bytes, each a token.

use hob_engine::prompt::Token;
use hob_engine::serve::{Limits, Row};
use hob_ipc::message::Prompt;

/// The sequences of such a model, and its last step.
pub(crate) struct Sequences {
    limits: Limits,
    seen: Vec<Vec<Token>>,
    rows: Vec<Row>,
    /// Steps so far.
    pub(crate) steps: usize,
}

impl Sequences {
    /// Empty ones, as many as `limits` says.
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            seen: vec![Vec::new(); limits.parallel as usize],
            rows: Vec::new(),
            steps: 0,
        }
    }

    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    /// The bytes of a text.
    pub(crate) fn tokenize(prompt: &Prompt) -> Vec<Token> {
        let Prompt::Text(text) = prompt else {
            unreachable!("these tests send text");
        };
        text.bytes().map(Token::from).collect()
    }

    /// Sees the rows of a step, which must fit.
    pub(crate) fn decode(&mut self, rows: &[Row]) {
        assert!(!rows.is_empty() && rows.len() <= self.limits.n_batch as usize);
        for row in rows {
            let seen = &mut self.seen[row.sequence as usize];
            assert_eq!(seen.len(), row.position as usize, "positions have no gap");
            assert!(row.position < self.limits.n_ctx);
            seen.push(row.token);
        }
        self.rows = rows.to_vec();
        self.steps += 1;
    }

    /// All up to and with a row of the last step, which must have logits.
    pub(crate) fn up_to(&self, row: usize) -> &[Token] {
        let row = self.rows[row];
        assert!(row.logits);
        &self.seen[row.sequence as usize][..=row.position as usize]
    }

    pub(crate) fn keep(&mut self, sequence: u32, tokens: usize) {
        let seen = &mut self.seen[sequence as usize];
        assert!(tokens <= seen.len());
        seen.truncate(tokens);
    }

    pub(crate) fn forget(&mut self, sequence: u32) {
        self.seen[sequence as usize].clear();
    }

    pub(crate) fn known(&self, sequence: u32) -> usize {
        self.seen[sequence as usize].len()
    }
}
