//! A step that takes longer than hobd waits for signs of life, on a slow board, has some.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod driver;

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use hob_engine::gpu::Computing;
use hob_engine::llama::{self, Llama};
use hob_engine::raw::Watch;
use hob_engine::serve::{Model, Row, Step};
use hob_ipc::EngineEvent;
use hob_ipc::memory::Weights;

#[test]
fn the_pulse_advances_while_a_step_is_computed() {
    let backend = llama::start_backend(false).unwrap();
    let file = OwnedFd::from(File::open(driver::test_model()).unwrap());
    let model = llama::load(file, Weights::Mapped, Computing::default(), &mut |_| true).unwrap();
    let watch = Watch::default();
    let pulse = Arc::clone(&watch.pulse);
    let mut llama = Llama::new(&backend, &model, &driver::load(), 1, None, watch).unwrap();
    let progress = || match pulse.heartbeat() {
        EngineEvent::Heartbeat { progress, .. } => progress,
        other => panic!("{other:?} is no heartbeat"),
    };
    let before = progress();
    let row = |position| Row {
        token: 100,
        position,
        sequence: 0,
        logits: position == 31,
    };
    let rows: Vec<_> = (0..32).map(row).collect();
    assert_eq!(llama.decode(&rows), Ok(Step::Done));
    // The model has 30 layers of more than one operation each.
    assert!(progress() - before > 30);
}
