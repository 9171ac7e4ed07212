//! llama.cpp behind the trait that serving needs. This file, `sampler` and `raw` are the only
//! ones that name its binding.
//!
//! llama.cpp answers many mistakes by ending the process, so this side checks what it passes:
//! batch sizes, sequences, positions, tokens, and which rows have logits.

use std::num::NonZeroU32;
use std::os::fd::OwnedFd;

use hob_ipc::RequestId;
use hob_ipc::kernels::Level;
use hob_ipc::memory::{KvType, Weights};
use hob_ipc::message::{FailureCode, Load, LoadFailure, NAME_BYTES_MAX, Prompt, Ready, Sampling};
use llama_cpp_2::DecodeError;
use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::{KvCacheType, LlamaContextParams};
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::token_type::LlamaTokenAttr;
use llama_cpp_2::vocab::LlamaVocab;
use llama_cpp_sys_2::LLAMA_FLASH_ATTN_TYPE_AUTO;

use crate::embed::Embedder;
use crate::gpu::{self, Computing};
use crate::grammar::compiler::{Compiler, Compiling};
use crate::grammar::{GrammarError, TokenSet, Wanted};
use crate::prompt::{self, ControlToken, ControlTokens, Token, Vocabulary};
use crate::raw;
use crate::sampler::Sampler;
use crate::serve::{Failure, Limits, Model, Row, Step};
use crate::template::{ChatTemplate, Span, SpecialTexts, TemplateError};
use crate::text;

mod alphabet;
mod embedding;
mod residual;

pub use alphabet::alphabet;
use embedding::Embeddings;
use residual::Residuals;
pub use residual::Steering;

/// Most tokens in one step. Prefill gains nothing from more on a board's processor, and
/// memory for intermediate results grows with it.
const N_BATCH: u32 = 256;

/// What `llama_decode` returns when its abort callback ended it (llama.h).
const DECODE_STOPPED: i32 = 2;

/// Why a model can't be loaded.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct LoadError {
    /// The kind, for hobd.
    pub code: LoadFailure,
    /// One sentence.
    pub message: String,
}

impl LoadError {
    fn new(code: LoadFailure, message: impl std::fmt::Display) -> Self {
        Self {
            code,
            message: message.to_string(),
        }
    }
}

/// Starts llama.cpp's backend, which reads `/sys` and `/proc`.
///
/// # Errors
/// [`LoadError`] if it was started before.
pub fn start_backend(verbose: bool) -> Result<LlamaBackend, LoadError> {
    raw::set_log(verbose);
    LlamaBackend::init().map_err(|error| LoadError::new(LoadFailure::Model, error))
}

/// Loads the weights. `progress` is told percents and stops the load by returning false.
///
/// # Errors
/// [`LoadError`].
pub fn load(
    file: OwnedFd,
    weights: Weights,
    computing: Computing,
    progress: &mut dyn FnMut(u8) -> bool,
) -> Result<LlamaModel, LoadError> {
    let mut on_progress = |fraction: f32| {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to 0..=100 first; NaN becomes 0"
        )]
        let percent = (fraction * 100.0).clamp(0.0, 100.0) as u8;
        progress(percent)
    };
    raw::load_model(file, weights, computing, &mut on_progress).map_err(|error| {
        let reason = error.to_string();
        // llama.cpp tells this apart in words only.
        let code = if reason.contains("allocate") || reason.contains("bad_alloc") {
            LoadFailure::Memory
        } else {
            LoadFailure::Model
        };
        LoadError::new(code, reason)
    })
}

/// A vocabulary with its control tokens.
#[derive(Debug)]
pub struct Words<'m> {
    vocab: LlamaVocab<'m>,
    controls: ControlTokens,
    n_vocab: Token,
    /// Bytes of the longest token's text, at least 1.
    longest: usize,
    /// Tokens that end an answer.
    ends: Vec<Token>,
}

impl<'m> Words<'m> {
    /// The vocabulary of `model`.
    pub fn new(model: &'m LlamaModel) -> Self {
        let vocab = model.vocab();
        let n_vocab = vocab.n_tokens();
        let controls = ControlTokens::new(vocab.tokens().filter_map(|token| {
            let attributes = vocab.attr(token);
            if !attributes.intersects(LlamaTokenAttr::Control | LlamaTokenAttr::Unknown) {
                return None;
            }
            Some(ControlToken {
                text: vocab.text(token)?.to_str().ok()?.to_owned(),
                token: token.0,
                strips_left: attributes.contains(LlamaTokenAttr::LStrip),
                strips_right: attributes.contains(LlamaTokenAttr::RStrip),
            })
        }));
        let lengths = vocab.tokens().filter_map(|token| vocab.text(token));
        let longest = lengths.map(|text| text.to_bytes().len()).max();
        Self {
            ends: alphabet::ends(&vocab),
            vocab,
            controls,
            n_vocab,
            longest: longest.unwrap_or(1).max(1),
        }
    }

    /// The tokens that templates can name.
    pub fn controls(&self) -> &ControlTokens {
        &self.controls
    }

    /// Appends a token's text, which may be a part of a character, or nothing.
    pub fn spell(&self, token: Token, bytes: &mut Vec<u8>) {
        self.vocab
            .token_to_piece_into(LlamaToken(token), bytes, false, None);
    }

    fn text_of(&self, token: LlamaToken) -> String {
        if !(0..self.n_vocab).contains(&token.0) {
            return String::new();
        }
        self.vocab
            .text(token)
            .map(|text| text.to_string_lossy().into_owned())
            .unwrap_or_default()
    }

    fn special_texts(&self) -> SpecialTexts {
        SpecialTexts {
            bos: self.text_of(self.vocab.bos()),
            eos: self.text_of(self.vocab.eos()),
        }
    }
}

impl Vocabulary for Words<'_> {
    fn plain(&self, text: &str) -> Vec<Token> {
        let tokens = self.vocab.tokenize(text.as_bytes(), false, false);
        tokens.into_iter().map(|token| token.0).collect()
    }

    fn is_control(&self, token: Token) -> bool {
        (0..self.n_vocab).contains(&token) && self.vocab.is_control(LlamaToken(token))
    }

    fn bos(&self) -> Option<Token> {
        let bos = self.vocab.bos().0;
        (self.vocab.should_add_bos() && (0..self.n_vocab).contains(&bos)).then_some(bos)
    }
}

/// A loaded model with its context.
#[derive(Debug)]
pub struct Llama<'m> {
    context: LlamaContext<'m>,
    batch: LlamaBatch<'static>,
    /// Rows of the last batch that have logits.
    logits: Vec<bool>,
    words: Words<'m>,
    template: Option<ChatTemplate>,
    limits: Limits,
    /// Tokens that layers with a sliding window look back on; 0 without such layers.
    window: u32,
    ready: Ready,
    embeddings: Embeddings<'m>,
    residuals: Residuals<'m>,
    grammars: Option<Compiler>,
}

impl<'m> Llama<'m> {
    /// Makes room for `load.parallel` sequences of `load.n_ctx` tokens, in steps that `watch` looks
    /// at and `steering` changes.
    ///
    /// # Errors
    /// [`LoadError`]: too little memory, a template that does not compile, or a model that was
    /// trained for no context at all.
    pub fn new(
        backend: &'m LlamaBackend,
        model: &'m LlamaModel,
        load: &Load,
        threads: u32,
        steering: Option<&Steering>,
        watch: raw::Watch,
    ) -> Result<Self, LoadError> {
        let words = Words::new(model);
        let template = compile_template(model, &words, load.chat_template.as_deref())?;
        let n_ctx_train = model.n_ctx_train();
        let n_ctx = load.n_ctx.min(n_ctx_train);
        if n_ctx < 2 || words.n_vocab == 0 {
            let message = "the model has no context or no vocabulary";
            return Err(LoadError::new(LoadFailure::Model, message));
        }
        let embeddings = Embeddings::new(backend, model, load, n_ctx, threads, &watch);
        let residuals = Residuals::new(backend, model, n_ctx, threads, &watch);
        let params = params(n_ctx, load, threads)?;
        let mut params = raw::watched(params, watch);
        if let Some(steering) = steering {
            params = raw::residual::hooked(params, steering.hook());
        }
        let context = model
            .new_context(backend, params)
            .map_err(|_| memory("llama.cpp can't make room for the context"))?;
        let n_batch = N_BATCH.min(context.n_batch());
        let architecture = model
            .meta_val_str("general.architecture")
            .unwrap_or_default();
        let ready = Ready {
            n_ctx,
            n_ctx_train,
            parameters: model.n_params(),
            architecture: text::beginning(&architecture, NAME_BYTES_MAX).to_owned(),
            chat: template.is_some(),
            threads,
            parallel: load.parallel,
            kernels: Level::of(&raw::kernel_features()),
            state_format: state_format(load.kv_type, load.parallel, steering),
        };
        let mut llama = Self {
            context,
            batch: LlamaBatch::new(n_batch as usize, 1),
            logits: Vec::new(),
            words,
            template,
            limits: Limits {
                n_ctx,
                n_batch,
                parallel: load.parallel,
                goes_back: !raw::is_recurrent(model),
                cache_bytes: usize::try_from(load.cache_bytes_max).unwrap_or(usize::MAX),
            },
            window: raw::sliding_window(model),
            ready,
            embeddings,
            residuals,
            grammars: None,
        };
        if let Some(steering) = steering {
            llama.try_steering(steering)?;
        }
        Ok(llama)
    }

    /// The same with a way to compile what answers must be.
    #[must_use]
    pub fn with_grammars(mut self, compiler: Compiler) -> Self {
        self.grammars = Some(compiler);
        self
    }

    /// The same for a model of which a device computes some layers: it rounds otherwise.
    #[must_use]
    pub fn on(mut self, computing: Computing) -> Self {
        if let (Some(backend), 1..) = (gpu::BACKEND, computing.layers) {
            let layers = computing.layers;
            let on = format!(", {layers} on {}", backend.as_str());
            self.ready.state_format.push_str(&on);
        }
        self
    }

    /// What to tell hobd.
    pub fn ready(&self) -> Ready {
        self.ready.clone()
    }

    /// Refuses a text of so many bytes that can't fit whatever its tokens are: counting them would take seconds
    /// from the answers under way.
    fn refuse_hopeless(&self, bytes: usize) -> Result<(), Failure> {
        let prompt_tokens = u32::try_from(bytes / self.words.longest).unwrap_or(u32::MAX);
        if prompt_tokens < self.limits.n_ctx {
            return Ok(());
        }
        Err(Failure {
            code: FailureCode::ContextOverflow,
            message: format!("the prompt has at least {prompt_tokens} tokens"),
            prompt_tokens,
        })
    }

    /// A sequence's number for llama.cpp, if there is such a sequence.
    fn sequence(&self, sequence: u32) -> Option<i32> {
        let there = sequence < self.limits.parallel;
        i32::try_from(sequence).ok().filter(|_| there)
    }

    fn check(&self, rows: &[Row]) -> Result<(), Failure> {
        let fits = |row: &Row| {
            row.sequence < self.limits.parallel
                && row.position < self.limits.n_ctx
                && (0..self.words.n_vocab).contains(&row.token)
        };
        if rows.is_empty() || rows.len() > self.limits.n_batch as usize || !rows.iter().all(fits) {
            return Err(Failure::new(
                FailureCode::Decode,
                "a batch is out of the context's bounds",
            ));
        }
        Ok(())
    }
}

/// What the bytes of a saved state depend on, beside the model's file: whatever changes them, or what
/// the numbers in them mean, must change this.
fn state_format(kv_type: KvType, parallel: u32, steering: Option<&Steering>) -> String {
    let (binding, protocol) = (raw::BINDING_VERSION, hob_ipc::VERSION);
    // Kernels of another level round otherwise.
    let kernels = Level::of(&raw::kernel_features()).map_or(std::env::consts::ARCH, Level::as_str);
    // Flash attention, which lays values out otherwise, follows from model and processor.
    let kv_type = kv_type.as_str();
    // The state of one sequence names the number of all, and llama.cpp refuses another.
    let format =
        format!("binding {binding}, protocol {protocol}, {kernels}, kv {kv_type}, of {parallel}");
    match steering {
        None => format,
        Some(steering) => format!("{format}, control {:016x}", steering.digest()),
    }
}

fn compile_template(
    model: &LlamaModel,
    words: &Words,
    instead: Option<&str>,
) -> Result<Option<ChatTemplate>, LoadError> {
    let own = model.chat_template(None).ok();
    let own = own.as_ref().and_then(|template| template.to_str().ok());
    let Some(source) = instead.or(own) else {
        return Ok(None);
    };
    ChatTemplate::compile(
        source,
        words.special_texts(),
        words.controls.contain_space(),
    )
    .map(Some)
    .map_err(|error| LoadError::new(LoadFailure::Template, error))
}

fn memory(message: &str) -> LoadError {
    LoadError::new(LoadFailure::Memory, message)
}

fn params(n_ctx: u32, load: &Load, threads: u32) -> Result<LlamaContextParams, LoadError> {
    let cells = n_ctx
        .checked_next_multiple_of(256)
        .and_then(|cells| cells.checked_mul(load.parallel))
        .ok_or_else(|| memory("the contexts are larger than llama.cpp can count"))?;
    let n_batch = N_BATCH.min(n_ctx.max(load.parallel));
    let threads = i32::try_from(threads).unwrap_or(i32::MAX);
    let kv_type = match load.kv_type {
        KvType::F16 => KvCacheType::F16,
        KvType::Q8_0 => KvCacheType::Q8_0,
        KvType::Q4_0 => KvCacheType::Q4_0,
    };
    // Each sequence has cells of its own: one request can't take another's, and attention
    // reads only its own. Layers with a sliding window keep that window alone.
    let params = LlamaContextParams::default()
        .with_n_ctx(NonZeroU32::new(cells))
        .with_n_seq_max(load.parallel)
        .with_kv_unified(false)
        .with_swa_full(false)
        // On, unless the model's architecture can't.
        .with_flash_attention_policy(LLAMA_FLASH_ATTN_TYPE_AUTO)
        .with_type_k(kv_type)
        .with_type_v(kv_type)
        .with_n_batch(n_batch)
        .with_n_ubatch(n_batch)
        .with_n_threads(threads)
        .with_n_threads_batch(threads)
        .with_no_perf(true);
    Ok(params)
}

impl Model for Llama<'_> {
    type Sampler = Sampler;

    fn limits(&self) -> Limits {
        self.limits
    }

    fn tokenize(&self, prompt: &Prompt) -> Result<Vec<Token>, Failure> {
        self.refuse_hopeless(prompt.texts().iter().map(|text| text.len()).sum())?;
        let template = || {
            self.template.as_ref().ok_or_else(|| {
                Failure::new(
                    FailureCode::NoChatTemplate,
                    "the model has no chat template",
                )
            })
        };
        let rendered: Result<Vec<Span>, TemplateError> = match prompt {
            Prompt::Text(text) => return Ok(prompt::encode_text(&self.words, text)),
            Prompt::Chat(messages) => template()?.render(messages),
            Prompt::Dialogue(dialogue) => template()?.render_dialogue(dialogue),
        };
        let spans = rendered.map_err(|error| Failure::new(FailureCode::Template, error))?;
        Ok(prompt::encode_chat(
            &self.words,
            &self.words.controls,
            &spans,
        ))
    }

    fn text(&self, text: &str) -> Result<Vec<Token>, Failure> {
        Ok(prompt::encode_text(&self.words, text))
    }

    fn continuation(&self, text: &str) -> Result<Vec<Token>, Failure> {
        self.refuse_hopeless(text.len())?;
        Ok(prompt::encode_continuation(&self.words, text))
    }

    fn sampler(&self, sampling: &Sampling, prompt: &[Token]) -> Sampler {
        Sampler::new(sampling, prompt)
    }

    fn decode(&mut self, rows: &[Row]) -> Result<Step, Failure> {
        self.logits.clear();
        self.check(rows)?;
        let failed = |error: &dyn std::fmt::Display| Failure::new(FailureCode::Decode, error);
        self.batch.clear();
        for row in rows {
            let position = i32::try_from(row.position).map_err(|error| failed(&error))?;
            let sequence = i32::try_from(row.sequence).map_err(|error| failed(&error))?;
            self.batch
                .add(LlamaToken(row.token), position, &[sequence], row.logits)
                .map_err(|error| failed(&error))?;
        }
        match self.context.decode(&mut self.batch) {
            Ok(()) => {}
            Err(DecodeError::Unknown(DECODE_STOPPED)) => return Ok(Step::Stopped),
            Err(error) => return Err(failed(&error)),
        }
        self.logits.extend(rows.iter().map(|row| row.logits));
        Ok(Step::Done)
    }

    fn sample(
        &mut self,
        row: usize,
        sampler: &mut Sampler,
        allowed: Option<&TokenSet>,
    ) -> Result<Token, Failure> {
        let failed = |message: &str| Failure::new(FailureCode::Decode, message);
        sampler
            .choose(self.scores(row)?, allowed)
            .ok_or_else(|| failed("the model computed numbers that are not"))
    }

    fn scores(&self, row: usize) -> Result<&[f32], Failure> {
        let failed = |message: &str| Failure::new(FailureCode::Decode, message);
        if self.logits.get(row) != Some(&true) {
            return Err(failed("scores were asked of a row without logits"));
        }
        let row = i32::try_from(row).map_err(|_| failed("a row's number is too large"))?;
        Ok(self.context.get_logits_ith(row))
    }

    fn end_tokens(&self) -> &[Token] {
        &self.words.ends
    }

    fn is_end(&self, token: Token) -> bool {
        self.words.vocab.is_eog(LlamaToken(token))
    }

    fn piece(&self, token: Token, bytes: &mut Vec<u8>) {
        self.words.spell(token, bytes);
    }

    fn keep(&mut self, sequence: u32, tokens: usize) -> bool {
        let (Ok(id), Ok(tokens)) = (i32::try_from(sequence), u32::try_from(tokens)) else {
            return false;
        };
        let known = self.context.kv_cache_seq_pos_max(id) + 1;
        let known = u32::try_from(known).unwrap_or(0);
        if known <= tokens {
            return known == tokens;
        }
        // Layers with a window have let go of what lies far before it; the next token would look
        // back on one token less than the window has.
        let oldest = self.context.kv_cache_seq_pos_min(id);
        let needed = (tokens + 1).saturating_sub(self.window);
        if self.window > 0 && u32::try_from(oldest).is_ok_and(|oldest| oldest > needed) {
            return false;
        }
        // Fails for recurrent models, whose state can't be taken back.
        let removed = self
            .context
            .clear_kv_cache_seq(Some(sequence), Some(tokens), None);
        matches!(removed, Ok(true))
    }

    fn forget(&mut self, sequence: u32) {
        // Removing a whole sequence never fails; the error is a number above i32::MAX.
        let _ = self.context.clear_kv_cache_seq(Some(sequence), None, None);
    }

    fn cuts(&self, held: usize, to: usize) -> bool {
        // Beside its window, llama.cpp keeps up to a step's worth of what lies before.
        let (window, step) = (self.window as usize, self.limits.n_batch as usize);
        let known = held <= window + step || held.saturating_sub(to) <= step;
        self.limits.goes_back && (window == 0 || known)
    }

    fn saved_bytes(&self, sequence: u32) -> usize {
        let id = self.sequence(sequence);
        id.map_or(0, |id| raw::saved_bytes(&self.context, id))
    }

    fn save(&mut self, sequence: u32) -> Option<Vec<u8>> {
        let id = self.sequence(sequence)?;
        raw::save_sequence(&self.context, id)
    }

    fn restore(&mut self, sequence: u32, tokens: usize, state: &[u8]) -> bool {
        let Ok(id) = i32::try_from(sequence) else {
            return false;
        };
        if sequence >= self.limits.parallel || tokens >= self.limits.n_ctx as usize {
            return false;
        }
        self.forget(sequence);
        let restored = raw::restore_sequence(&mut self.context, id, state);
        let known = self.context.kv_cache_seq_pos_max(id) + 1;
        restored && usize::try_from(known) == Ok(tokens)
    }

    fn compile(&mut self, id: RequestId, wanted: Wanted) -> Result<Compiling, GrammarError> {
        let compiler = self.grammars.as_ref().ok_or(GrammarError::Unsupported)?;
        compiler.begin(id, wanted)
    }

    fn residual(&mut self, tokens: &[Token]) -> Result<Option<Vec<f32>>, Failure> {
        self.read_residual(tokens)
    }

    fn embedder(&mut self) -> Result<&mut dyn Embedder, Failure> {
        self.embeddings.open()?;
        Ok(self)
    }
}
