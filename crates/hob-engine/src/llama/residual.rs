//! The context in which the residual stream is read, made when first asked for, and the control vector that
//! is added to the stream of the context in which answers are computed.

use std::fs::File;
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};

use hob_ipc::message::{FailureCode, LoadFailure};
use hob_ipc::residual::Control;
use hob_ipc::shared;
use llama_cpp_2::DecodeError;
use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;

use super::{DECODE_STOPPED, Llama, LoadError, N_BATCH};
use crate::digest;
use crate::prompt::Token;
use crate::raw;
use crate::raw::residual::{Hook, LastRows, hooked};
use crate::serve::{Failure, Model as _, Row, Step};

/// A control vector with what identifies it.
#[derive(Debug)]
pub struct Steering {
    layer: u32,
    vector: Vec<f32>,
    added: Arc<AtomicBool>,
}

impl Steering {
    /// A control vector for `model`, from the memory that it lies in.
    ///
    /// # Errors
    /// [`LoadFailure::Control`] if it can't be one for this model.
    pub fn read(control: Control, memory: OwnedFd, model: &LlamaModel) -> Result<Self, LoadError> {
        let refused = |message: String| LoadError::new(LoadFailure::Control, message);
        if control.layer >= model.n_layer() {
            return Err(refused(format!("the model has no layer {}", control.layer)));
        }
        let width = usize::try_from(model.n_embd()).unwrap_or(0);
        let length = rustix::fs::fstat(&memory).map(|memory| memory.st_size);
        if length.ok().and_then(|length| usize::try_from(length).ok())
            != Some(width * size_of::<f32>())
        {
            return Err(refused(format!(
                "the control vector is not {width} numbers"
            )));
        }
        let vector = shared::floats(&File::from(memory), width, 0)
            .map_err(|error| refused(format!("the control vector can't be read: {error}")))?;
        if !vector.iter().all(|number| number.is_finite()) {
            return Err(refused(
                "the control vector has numbers that are none".to_owned(),
            ));
        }
        Ok(Self {
            layer: control.layer,
            vector,
            added: Arc::default(),
        })
    }

    /// What a step adds.
    pub(super) fn hook(&self) -> Hook {
        Hook::Add {
            layer: self.layer as usize,
            vector: self.vector.clone(),
            added: Arc::clone(&self.added),
        }
    }

    /// A digest of it, for what is computed with it.
    pub(super) fn digest(&self) -> u64 {
        let numbers = self.vector.iter().flat_map(|number| number.to_le_bytes());
        digest::fnv(self.layer.to_le_bytes().into_iter().chain(numbers))
    }
}

/// What the context is made of, and the context once somebody asked for it.
#[derive(Debug)]
pub(super) struct Residuals<'m> {
    backend: &'m LlamaBackend,
    model: &'m LlamaModel,
    n_ctx: u32,
    threads: u32,
    watch: raw::Watch,
    open: Option<Open<'m>>,
}

#[derive(Debug)]
struct Open<'m> {
    context: LlamaContext<'m>,
    batch: LlamaBatch<'static>,
    last: LastRows,
    /// What the context's one sequence has seen.
    seen: Vec<Token>,
}

impl<'m> Residuals<'m> {
    pub(super) fn new(
        backend: &'m LlamaBackend,
        model: &'m LlamaModel,
        n_ctx: u32,
        threads: u32,
        watch: &raw::Watch,
    ) -> Self {
        Self {
            backend,
            model,
            n_ctx,
            threads,
            watch: watch.clone(),
            open: None,
        }
    }

    fn open(&mut self) -> Result<&mut Open<'m>, Failure> {
        if self.open.is_none() {
            let layers = self.model.n_layer() as usize;
            let last: LastRows = LastRows::default();
            let threads = i32::try_from(self.threads).unwrap_or(i32::MAX);
            let params = LlamaContextParams::default()
                .with_n_ctx(NonZeroU32::new(self.n_ctx.next_multiple_of(256)))
                .with_n_seq_max(1)
                // Goes back to where two answers part, in layers with a window, too.
                .with_swa_full(true)
                .with_n_batch(N_BATCH)
                .with_n_ubatch(N_BATCH)
                .with_n_threads(threads)
                .with_n_threads_batch(threads)
                .with_no_perf(true);
            let params = raw::watched(params, self.watch.clone());
            let params = hooked(params, Hook::Read(Arc::clone(&last)));
            let context = self.model.new_context(self.backend, params);
            let context = context.map_err(|_| decode("there is no room for the context"))?;
            last.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .resize(layers, Vec::new());
            self.open = Some(Open {
                context,
                batch: LlamaBatch::new(N_BATCH as usize, 1),
                last,
                seen: Vec::new(),
            });
        }
        self.open
            .as_mut()
            .ok_or_else(|| decode("there is no context"))
    }
}

fn decode(message: impl std::fmt::Display) -> Failure {
    Failure::new(FailureCode::Decode, message)
}

impl Open<'_> {
    /// Goes back to what the sequence has in common with `tokens`, but for the last one; how many those are.
    fn go_back(&mut self, tokens: &[Token]) -> usize {
        let alike = self.seen.iter().zip(tokens).take_while(|(a, b)| a == b);
        let common = alike.count().min(tokens.len().saturating_sub(1));
        let from = u32::try_from(common).ok();
        let cut = self.context.clear_kv_cache_seq(Some(0), from, None);
        if common > 0 && matches!(cut, Ok(true)) {
            self.seen.truncate(common);
        } else {
            // Removing a whole sequence never fails; the error is a number above i32::MAX.
            let _ = self.context.clear_kv_cache_seq(Some(0), None, None);
            self.seen.clear();
        }
        self.seen.len()
    }

    /// Reads on up to the end of `tokens`. False if it was stopped.
    fn read_on(&mut self, tokens: &[Token]) -> Result<bool, Failure> {
        let from = self.go_back(tokens);
        for (start, step) in (from..)
            .step_by(N_BATCH as usize)
            .zip(tokens[from..].chunks(N_BATCH as usize))
        {
            self.batch.clear();
            for (at, token) in (start..).zip(step) {
                let position = i32::try_from(at).map_err(decode)?;
                let is_last = at + 1 == tokens.len();
                self.batch
                    .add(LlamaToken(*token), position, &[0], is_last)
                    .map_err(decode)?;
            }
            match self.context.decode(&mut self.batch) {
                Ok(()) => self.seen.extend(step),
                Err(DecodeError::Unknown(DECODE_STOPPED)) => {
                    self.seen.clear();
                    return Ok(false);
                }
                Err(error) => return Err(decode(error)),
            }
        }
        Ok(true)
    }
}

impl Llama<'_> {
    /// The residual stream behind each layer at the last of these tokens, one layer behind the other; `None`
    /// if it was stopped.
    pub(super) fn read_residual(&mut self, tokens: &[Token]) -> Result<Option<Vec<f32>>, Failure> {
        let known = |token: &Token| (0..self.words.n_vocab).contains(token);
        let fits = (1..=self.limits.n_ctx as usize).contains(&tokens.len());
        if !fits || !tokens.iter().all(known) {
            return Err(decode("the tokens are out of the context's bounds"));
        }
        let width = usize::try_from(self.residuals.model.n_embd()).unwrap_or(0);
        let open = self.residuals.open()?;
        if !open.read_on(tokens)? {
            return Ok(None);
        }
        let last = open.last.lock().unwrap_or_else(PoisonError::into_inner);
        if !last.iter().all(|row| row.len() == width) {
            return Err(decode("the layers of this architecture can't be looked at"));
        }
        Ok(Some(last.concat()))
    }

    /// Computes one token, to see whether the control vector is added to anything.
    pub(super) fn try_steering(&mut self, steering: &Steering) -> Result<(), LoadError> {
        let row = Row {
            token: 0,
            position: 0,
            sequence: 0,
            logits: true,
        };
        let done = self.decode(&[row]);
        self.forget(0);
        let added = steering.added.load(Ordering::Relaxed);
        if matches!(done, Ok(Step::Done)) && added {
            return Ok(());
        }
        let message = "a control vector can't be added in this architecture";
        Err(LoadError::new(LoadFailure::Control, message))
    }
}
