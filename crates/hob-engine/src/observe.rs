//! An engine that reads a text for what its model's matrices are multiplied with, and does nothing else.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use hob_ipc::importance::{MATRICES_MAX, Matrix, NUMBERS_MAX, Observe, Observed};
use hob_ipc::importance::{WINDOW_TOKENS_MIN, numbers};
use hob_ipc::{EngineEvent, shared};
use llama_cpp_2::llama_backend::LlamaBackend;

use crate::gpu::Computing;
use crate::importance::Inputs;
use crate::llama::{self, Llama, LoadError};
use crate::prompt::Token;
use crate::pulse::Pulse;
use crate::raw;
use crate::serve::{Failure, Model, Row, Step};
use crate::slots;
use crate::wire::{self, Events};

/// What comes with the order.
#[derive(Debug)]
pub struct Files {
    /// The model's open file.
    pub model: OwnedFd,
    /// The text.
    pub text: OwnedFd,
    /// Memory for the numbers.
    pub numbers: OwnedFd,
}

/// Why nothing is told.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// More matrices than may be, or more numbers, or none.
    #[error("no numbers can be told of so many matrices")]
    Matrices,
    /// The text can't be read.
    #[error("the text can't be read: {0}")]
    Text(io::Error),
    /// The text is shorter than a window, or no window can be that short.
    #[error("the text has {tokens} tokens, and a window {window}")]
    Window {
        /// The text's.
        tokens: usize,
        /// The window's.
        window: u32,
    },
    /// llama.cpp could not decode, or was told to stop.
    #[error("the text can't be computed: {0}")]
    Decode(String),
    /// The numbers can't be handed over.
    #[error("the numbers can't be handed over: {0}")]
    Numbers(io::Error),
    /// The model can't be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Who asked is gone.
    #[error(transparent)]
    Socket(io::Error),
}

impl From<Failure> for ObserveError {
    fn from(failure: Failure) -> Self {
        Self::Decode(failure.message)
    }
}

/// Reads the text window by window, each by itself, tells how far it is, and writes the numbers.
///
/// # Errors
/// [`ObserveError`].
pub fn observe(
    order: &Observe,
    files: Files,
    backend: &LlamaBackend,
    threads: u32,
    events: &dyn Events,
    pulse: &Arc<Pulse>,
) -> Result<(), ObserveError> {
    let possible = (1..=MATRICES_MAX).contains(&order.matrices.len())
        && numbers(&order.matrices) <= NUMBERS_MAX
        && order.matrices.iter().all(|matrix| matrix.numbers() > 0);
    if !possible {
        return Err(ObserveError::Matrices);
    }
    let text = wire::text(files.text, order.text_bytes).map_err(ObserveError::Text)?;
    let inputs = Arc::new(Mutex::new(Inputs::new(&order.matrices)));
    let watch = raw::Watch {
        pulse: Arc::clone(pulse),
        inputs: Some(Arc::clone(&inputs)),
        ..raw::Watch::default()
    };
    let model = llama::load(
        files.model,
        order.load.weights,
        Computing::default(),
        &mut |_| {
            pulse.advance();
            true
        },
    )?;
    let mut llama = Llama::new(backend, &model, &order.load, threads, None, watch)?;
    let windows = windows(&llama, &text)?;
    let of = slots::count(windows.len());
    let send = |windows| {
        let observed = Observed { windows, of };
        let sent = events.send(&EngineEvent::Observed(observed));
        sent.map_err(ObserveError::Socket)
    };
    for (number, window) in (1..).zip(&windows) {
        read(&mut llama, window)?;
        if number < of {
            send(number)?;
        }
    }
    let means = inputs
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .means();
    let bytes: Vec<u8> = means.iter().flat_map(|mean| mean.to_le_bytes()).collect();
    raw::fill(files.numbers, &[&bytes]).map_err(ObserveError::Numbers)?;
    send(of)
}

/// The text in windows of the context's length, without what is left over at the end. Where the model wants a
/// token that begins a text, that stands in place of each window's first, as in llama.cpp's tool.
fn windows(llama: &Llama<'_>, text: &str) -> Result<Vec<Vec<Token>>, ObserveError> {
    let window = llama.limits().n_ctx;
    let begins = llama.text("")?.first().copied();
    let tokens = llama.text(text)?;
    if window < WINDOW_TOKENS_MIN || tokens.len() < window as usize {
        let tokens = tokens.len();
        return Err(ObserveError::Window { tokens, window });
    }
    let whole = tokens.chunks_exact(window as usize).map(|window| {
        let mut window = window.to_vec();
        window[0] = begins.unwrap_or(window[0]);
        window
    });
    Ok(whole.collect())
}

/// Reads a window, and computes what the model expects behind each of its tokens: the last matrix is one, too.
fn read(llama: &mut Llama<'_>, window: &[Token]) -> Result<(), ObserveError> {
    llama.forget(0);
    let batch = llama.limits().n_batch as usize;
    for (step, tokens) in window.chunks(batch).enumerate() {
        let row = |(place, token): (usize, &Token)| Row {
            token: *token,
            position: slots::count(step * batch + place),
            sequence: 0,
            logits: true,
        };
        let rows: Vec<Row> = tokens.iter().enumerate().map(row).collect();
        match llama.decode(&rows)? {
            Step::Done => {}
            Step::Stopped => return Err(ObserveError::Decode("it was stopped".to_owned())),
        }
    }
    Ok(())
}

/// The numbers of `matrices` that lie in `memory`, each's by itself.
///
/// # Errors
/// If there are more than may be, or fewer in the memory, or one is no number.
pub fn importance(memory: OwnedFd, matrices: &[Matrix]) -> io::Result<Vec<(String, Vec<f32>)>> {
    let many = matrices.len() > MATRICES_MAX || numbers(matrices) > NUMBERS_MAX;
    if many {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let memory = File::from(memory);
    let mut at = 0;
    let mut all = Vec::with_capacity(matrices.len());
    for matrix in matrices {
        let length = usize::try_from(matrix.numbers()).map_err(io::Error::other)?;
        let means = shared::floats(&memory, length, at)?;
        at += size_of_val(&means[..]) as u64;
        if !means.iter().all(|mean| mean.is_finite()) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        all.push((matrix.name.clone(), means));
    }
    Ok(all)
}
