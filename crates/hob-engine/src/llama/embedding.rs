//! The context in which embeddings are made. It is made when first asked for, holds the inputs of
//! one step or one long input, and stays until the engine ends.

use std::num::NonZeroU32;

use hob_ipc::embedding::{EmbedFailure, EmbedInput};
use hob_ipc::message::{FailureCode, Load};
use llama_cpp_2::DecodeError;
use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::{LlamaContextParams, LlamaPoolingType};
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_sys_2::LLAMA_FLASH_ATTN_TYPE_DISABLED;

use super::{DECODE_STOPPED, Llama};
use crate::embed::{Embedder, Pooling, ROWS_MAX, SEQUENCES, failure};
use crate::prompt::{self, Token};
use crate::raw;
use crate::serve::{Failure, Row, Step};

/// What the context is made of, and the context once somebody asked for it.
#[derive(Debug)]
pub(super) struct Embeddings<'m> {
    backend: &'m LlamaBackend,
    model: &'m LlamaModel,
    /// `None` if the model makes none.
    pooling: Option<Pooling>,
    /// Whether there is memory for it.
    allowed: bool,
    n_ctx: u32,
    threads: u32,
    watch: raw::Watch,
    open: Option<Open<'m>>,
}

#[derive(Debug)]
struct Open<'m> {
    context: LlamaContext<'m>,
    batch: LlamaBatch<'static>,
    /// Rows of the last step.
    rows: usize,
}

impl<'m> Embeddings<'m> {
    pub(super) fn new(
        backend: &'m LlamaBackend,
        model: &'m LlamaModel,
        load: &Load,
        n_ctx: u32,
        threads: u32,
        watch: &raw::Watch,
    ) -> Self {
        Self {
            backend,
            model,
            pooling: pooling(model),
            allowed: load.embeddings,
            n_ctx,
            threads,
            watch: watch.clone(),
            open: None,
        }
    }

    /// Makes the context, if there is none yet.
    pub(super) fn open(&mut self) -> Result<(), Failure> {
        if self.pooling.is_none() {
            let message = "this model makes no embeddings";
            return Err(failure(EmbedFailure::Unsupported, message));
        }
        if self.open.is_some() {
            return Ok(());
        }
        let no_room = || failure(EmbedFailure::Memory, "there is no room for the context");
        let cells = self.n_ctx.checked_next_multiple_of(256);
        let cells = cells.filter(|_| self.allowed).ok_or_else(no_room)?;
        let context = self
            .model
            .new_context(self.backend, self.params(cells))
            .map_err(|_| no_room())?;
        self.open = Some(Open {
            context,
            batch: LlamaBatch::new(ROWS_MAX, 1),
            rows: 0,
        });
        Ok(())
    }

    fn params(&self, cells: u32) -> LlamaContextParams {
        // Both are constants of a few dozens.
        let rows = u32::try_from(ROWS_MAX).unwrap_or(u32::MAX);
        let sequences = u32::try_from(SEQUENCES).unwrap_or(u32::MAX);
        let threads = i32::try_from(self.threads).unwrap_or(i32::MAX);
        // The cells are for all sequences together: a long input takes as many as there are, or
        // several short ones take a step's.
        let params = LlamaContextParams::default()
            .with_n_ctx(NonZeroU32::new(cells))
            .with_n_seq_max(sequences)
            .with_kv_unified(true)
            .with_swa_full(false)
            .with_flash_attention_policy(LLAMA_FLASH_ATTN_TYPE_DISABLED)
            .with_n_batch(rows)
            .with_n_ubatch(rows)
            .with_n_threads(threads)
            .with_n_threads_batch(threads)
            .with_embeddings(true)
            .with_pooling_type(LlamaPoolingType::None)
            .with_no_perf(true);
        raw::watched(params, self.watch.clone())
    }
}

/// How the model pools, by its header: `None` if its tokens look at those after them, as they are
/// read in pieces here, or if it pools in a way that is not offered. Models that were made to answer
/// say nothing, and the mean is the usual choice for them.
fn pooling(model: &LlamaModel) -> Option<Pooling> {
    let architecture = model.meta_val_str("general.architecture").ok()?;
    let value = |key: &str| model.meta_val_str(&format!("{architecture}.{key}")).ok();
    if value("attention.causal").is_some_and(|causal| causal == "false") {
        return None;
    }
    // Numbers of llama.h's `llama_pooling_type`.
    match value("pooling_type").as_deref() {
        None | Some("0" | "1") => Some(Pooling::Mean),
        Some("3") => Some(Pooling::Last),
        Some(_) => None,
    }
}

fn decode(message: impl std::fmt::Display) -> Failure {
    Failure::new(FailureCode::Decode, message)
}

impl Llama<'_> {
    /// Tokens of plain text, with those that the model wants around it.
    fn embedding_text(&self, text: &str) -> Vec<Token> {
        let mut tokens = prompt::encode_text(&self.words, text);
        let eos = self.words.vocab.eos().0;
        let known = (0..self.words.n_vocab).contains(&eos);
        if self.words.vocab.should_add_eos() && known && !tokens.is_empty() {
            tokens.push(eos);
        }
        tokens
    }
}

impl Embedder for Llama<'_> {
    fn pooling(&self) -> Pooling {
        self.embeddings.pooling.unwrap_or(Pooling::Mean)
    }

    fn dimensions(&self) -> usize {
        usize::try_from(self.embeddings.model.n_embd_out()).unwrap_or(0)
    }

    fn tokens(&self, input: EmbedInput, index: u32) -> Result<Vec<Token>, Failure> {
        let too_long = |tokens: usize| Failure {
            prompt_tokens: u32::try_from(tokens).unwrap_or(u32::MAX),
            ..failure(
                EmbedFailure::TooLong { index },
                format!("input {index} has {tokens} tokens or more"),
            )
        };
        let n_ctx = self.limits.n_ctx as usize;
        let tokens = match input {
            EmbedInput::Tokens(tokens) => tokens,
            EmbedInput::Text(text) => {
                // What can't fit is not worth the time to count it.
                let at_least = text.len() / self.words.longest;
                if at_least > n_ctx {
                    return Err(too_long(at_least));
                }
                self.embedding_text(&text)
            }
        };
        if tokens.len() > n_ctx {
            return Err(too_long(tokens.len()));
        }
        if tokens.is_empty() {
            let message = format!("input {index} has no tokens");
            return Err(failure(EmbedFailure::Empty { index }, message));
        }
        if !tokens.iter().all(|t| (0..self.words.n_vocab).contains(t)) {
            let message = format!("input {index} has a token outside the vocabulary");
            return Err(failure(EmbedFailure::Token { index }, message));
        }
        Ok(tokens)
    }

    fn start_over(&mut self) {
        if let Some(open) = &mut self.embeddings.open {
            for sequence in (0..).take(SEQUENCES) {
                // Removing a whole sequence never fails; the error is a number above i32::MAX.
                let _ = open.context.clear_kv_cache_seq(Some(sequence), None, None);
            }
        }
    }

    fn read(&mut self, rows: &[Row]) -> Result<Step, Failure> {
        let fits = |row: &Row| {
            (row.sequence as usize) < SEQUENCES
                && row.position < self.limits.n_ctx
                && (0..self.words.n_vocab).contains(&row.token)
        };
        let within = (1..=ROWS_MAX).contains(&rows.len()) && rows.iter().all(fits);
        let open = self.embeddings.open.as_mut().filter(|_| within);
        let open = open.ok_or_else(|| decode("a batch is out of the context's bounds"))?;
        open.rows = 0;
        open.batch.clear();
        for row in rows {
            let position = i32::try_from(row.position).map_err(decode)?;
            let sequence = i32::try_from(row.sequence).map_err(decode)?;
            open.batch
                .add(LlamaToken(row.token), position, &[sequence], true)
                .map_err(decode)?;
        }
        match open.context.decode(&mut open.batch) {
            Ok(()) => {}
            Err(DecodeError::Unknown(DECODE_STOPPED)) => return Ok(Step::Stopped),
            Err(error) => return Err(decode(error)),
        }
        open.rows = rows.len();
        Ok(Step::Done)
    }

    fn state(&self, row: usize) -> Result<&[f32], Failure> {
        let open = self.embeddings.open.as_ref().filter(|open| row < open.rows);
        let open = open.ok_or_else(|| decode("an embedding was asked of no row"))?;
        let row = i32::try_from(row).map_err(decode)?;
        open.context.embeddings_ith(row).map_err(decode)
    }
}
