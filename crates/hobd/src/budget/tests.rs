#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::supply::Machine;

const MIB: u64 = 1 << 20;

/// SmolLM2-135M's figures.
fn header() -> Header {
    Header {
        architecture: "llama".to_owned(),
        name: None,
        parameters: 134_515_008,
        quantization: "Q4_1".to_owned(),
        main_tensor_type: "Q4_1",
        n_ctx_train: 8192,
        n_layer: 30,
        n_embd: 576,
        n_ff: 1536,
        n_head: 9,
        n_head_kv: vec![3; 30],
        key_length: 64,
        value_length: 64,
        sliding_window: None,
        windowed: vec![false; 30],
        vocabulary: 49_152,
        chat_template: None,
        weights_bytes: 92 * MIB,
        layers_bytes: 62 * MIB,
        bytes_by_type: BTreeMap::from([("Q4_1", 80 * MIB), ("Q4_K", 12 * MIB)]),
        tensors: 272,
        descent: None,
    }
}

fn wish() -> Wish {
    Wish {
        n_ctx: 4096,
        parallel: None,
        processors: 8,
        kv_type: KvType::F16,
        weights: WeightsSetting::Auto,
        kernels: Kernels {
            avx2: true,
            ..Kernels::default()
        },
        cache: 64 * MIB,
    }
}

fn budget(mib: u64) -> Budget {
    Budget::of(Some(mib * MIB), &Supply::default())
}

#[test]
fn the_setting_wins_then_the_least() {
    let machine = Machine {
        total: 2048 * MIB,
        available: 1000 * MIB,
    };
    let supply = Supply {
        machine: Some(machine),
        cgroup_left: Some(700 * MIB),
    };
    let of = |setting, supply: &Supply| {
        let budget = Budget::of(setting, supply);
        (budget.bytes / MIB, budget.source)
    };
    assert_eq!(of(Some(5 * MIB), &supply), (5, Source::Setting));
    assert_eq!(of(None, &supply), (700, Source::Cgroup));
    let alone = Supply {
        cgroup_left: None,
        ..supply
    };
    // A sixteenth of 2 GiB stays free.
    assert_eq!(of(None, &alone), (872, Source::Machine));
    assert_eq!(Budget::of(None, &Supply::default()).bytes, u64::MAX);
}

#[test]
fn with_room_there_are_four_at_once_and_the_whole_cache() {
    let plan = plan(&header(), &wish(), budget(2000)).unwrap();
    assert_eq!((plan.parallel, plan.cache), (4, 64 * MIB));
    let two = Wish {
        processors: 2,
        ..wish()
    };
    assert_eq!(
        super::plan(&header(), &two, budget(2000)).unwrap().parallel,
        2
    );
}

#[test]
fn the_cache_shrinks_first_and_then_the_requests_at_once() {
    let needed = |parallel| header().memory_needed(4096, parallel).total() / MIB + 1;
    let at =
        |mib| plan(&header(), &wish(), budget(mib)).map(|plan| (plan.parallel, plan.cache / MIB));
    // Contexts take at most half: 4 × 90 MiB need 720.
    assert_eq!(at(720).unwrap().0, 4);
    assert_eq!(at(719).unwrap().0, 3);
    let (parallel, cache) = at(needed(1) + 10).unwrap();
    assert_eq!(parallel, 1);
    // Half of what is left: snapshots need the other half in passing.
    assert_eq!(cache, 5);
    assert!(matches!(
        at(needed(1) - 1),
        Err(Refusal::TooLarge {
            too_large: TooLarge { parallel: 1, .. },
            ..
        })
    ));
    // What somebody set is not changed.
    let set = Wish {
        parallel: Some(3),
        ..wish()
    };
    let refusal = plan(&header(), &set, budget(needed(2))).unwrap_err();
    assert!(matches!(
        refusal,
        Refusal::TooLarge {
            too_large: TooLarge {
                parallel: 3,
                fits: Some(4096),
                ..
            },
            ..
        }
    ));
}

#[test]
fn a_refusal_says_what_is_needed_what_there_is_and_what_would_fit() {
    let refusal = plan(&header(), &wish(), budget(200)).unwrap_err();
    let error = refusal.error("big", Some("small"));
    assert_eq!(error.code, ErrorCode::InsufficientMemory);
    let message = &error.message;
    let begins = "big with one request of 4096 tokens needs ";
    assert!(message.starts_with(begins), "{message}");
    let ends = "and engine.memory allows 200 MiB";
    assert!(message.ends_with(ends), "{message}");
    assert!(
        message.contains("weights 92 MiB, contexts 90 MiB"),
        "{message}"
    );
    let hint = error.hint.unwrap();
    assert!(
        hint.ends_with("`hob models use small` chooses one that would fit"),
        "{hint}"
    );
    let Refusal::TooLarge { too_large, .. } = refusal else {
        panic!("{refusal:?}");
    };
    let fits = too_large.fits;
    let fitting = Wish {
        n_ctx: fits.unwrap(),
        parallel: Some(1),
        ..wish()
    };
    assert!(plan(&header(), &fitting, budget(200)).is_ok());
    let larger = Wish {
        n_ctx: fits.unwrap() + 256,
        ..fitting
    };
    assert!(plan(&header(), &larger, budget(200)).is_err());
}

#[test]
fn quantized_contexts_need_whole_blocks() {
    let odd = Header {
        value_length: 80,
        ..header()
    };
    let quantized = Wish {
        kv_type: KvType::Q4_0,
        ..wish()
    };
    let refusal = plan(&odd, &quantized, budget(2000)).unwrap_err();
    assert!(matches!(refusal, Refusal::KvType { head: 80, .. }));
    let error = refusal.error("odd", None);
    assert!(error.hint.unwrap().contains("f16"), "{}", error.message);
    assert!(plan(&odd, &wish(), budget(2000)).is_ok());
    let kv = |wish| plan(&header(), &wish, budget(2000)).unwrap().needed.kv / MIB;
    // 18 bytes hold 32 elements instead of 64.
    assert_eq!((kv(wish()), kv(quantized)), (360, 101));
}

#[test]
fn weights_are_copied_where_most_of_them_have_a_faster_order() {
    use WeightsSetting::{Auto, Copied, Locked, Mapped};

    let mostly = Header {
        bytes_by_type: BTreeMap::from([("Q4_1", 12 * MIB), ("Q4_K", 80 * MIB)]),
        ..header()
    };
    let placed = |header: &Header, weights, avx2| {
        let kernels = Kernels {
            avx2,
            ..Kernels::default()
        };
        let wish = Wish {
            weights,
            kernels,
            ..wish()
        };
        let plan = plan(header, &wish, budget(2000)).unwrap();
        (plan.weights, plan.lock)
    };
    assert_eq!(placed(&header(), Auto, true), (Weights::Mapped, false));
    assert_eq!(placed(&mostly, Auto, true), (Weights::Copied, false));
    assert_eq!(placed(&mostly, Auto, false), (Weights::Mapped, false));
    assert_eq!(placed(&mostly, Mapped, true), (Weights::Mapped, false));
    assert_eq!(placed(&header(), Copied, true), (Weights::Copied, false));
    assert_eq!(placed(&mostly, Locked, true), (Weights::Copied, true));
}

proptest! {
    #[test]
    fn what_is_planned_fits(
        mib in 0u64..4000,
        n_ctx in 1u32..200_000,
        parallel in prop::option::of(1u32..=PARALLEL_MAX),
        processors in 0u32..64,
        cache in 0u64..1 << 30,
    ) {
        let wish = Wish { n_ctx, parallel, processors, cache, ..wish() };
        let fits = budget(mib);
        match plan(&header(), &wish, fits) {
            Ok(plan) => {
                prop_assert!(plan.needed.total() + 2 * plan.cache <= fits.bytes);
                prop_assert!(plan.n_ctx <= 8192 && plan.cache <= cache);
                prop_assert!(parallel.is_none_or(|set| set == plan.parallel));
                prop_assert!(plan.memory_bytes_max().unwrap() > plan.needed.total());
            }
            Err(refusal) => {
                prop_assert!(!refusal.error("m", None).message.is_empty());
            }
        }
    }
}

#[test]
fn a_gpu_is_asked_for_no_less_than_the_model_takes() {
    let plan = plan(&header(), &wish(), budget(1024)).unwrap();
    let off = EngineSettings::default();
    assert_eq!(offload(&header(), &plan, &off), None);
    let settings = EngineSettings {
        gpu: hob_ipc::gpu::Gpu::Auto,
        gpu_memory: Some(100 * MIB),
        ..off
    };
    let offload = offload(&header(), &plan, &settings).unwrap();
    assert_eq!((offload.layers, offload.memory_max), (30, Some(100 * MIB)));
    let all = offload.bytes(offload.layers);
    let needed = plan.needed.total() + plan.needed.unused + plan.embeddings;
    assert!(all >= needed && all < needed + needed / 8, "{all} {needed}");
    // With a part of it, a part of the layers.
    let half = offload.layers_within(all / 2);
    assert!(half < 30, "{half}");
}
