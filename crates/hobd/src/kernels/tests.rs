#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fs;

use proptest::prelude::*;

use super::*;

/// Those of `levels`, each in a folder of its name, whatever this machine is.
fn engines(levels: &[Level]) -> Engines {
    let engine = |level: &Level| (*level, PathBuf::from(format!("/e/{}", level.as_str())));
    Engines::Levels(levels.iter().map(engine).collect())
}

const X86: [Level; 4] = [
    Level::X86V2,
    Level::X86V3,
    Level::X86V3Vnni,
    Level::X86V4Vnni,
];
const ARM: [Level; 3] = [Level::Arm80, Level::Arm82, Level::Arm86];

#[test]
fn each_processor_gets_the_best_that_it_has() {
    for levels in [&X86[..], &ARM] {
        for level in levels {
            let choice = choose(&engines(levels), None, &level.needs()).unwrap();
            assert_eq!(choice.level, Some(*level));
            assert!(choice.binary.ends_with(level.as_str()));
            assert!(choice.reason.contains("the best"), "{}", choice.reason);
        }
    }
    // A processor may have more than a level, and lack one thing of the next.
    let mut has: Vec<_> = Feature::ALL.into_iter().collect();
    has.retain(|feature| *feature != Feature::Avx512Vnni);
    let choice = choose(&engines(&X86), None, &has.into_iter().collect()).unwrap();
    assert_eq!(choice.level, Some(Level::X86V3Vnni));
}

#[test]
fn a_level_that_is_named_is_taken_or_refused() {
    let has = Level::X86V3.needs();
    let choice = choose(&engines(&X86), Some(Level::X86V2), &has).unwrap();
    assert_eq!(choice.level, Some(Level::X86V2));
    let refused = choose(&engines(&X86), Some(Level::X86V4Vnni), &has).unwrap_err();
    let error = refused.error();
    assert_eq!(error.code, ErrorCode::ModelFailed);
    assert!(error.message.contains("lacks AVX-512"), "{}", error.message);
    assert!(error.hint.unwrap().contains("\"auto\""));
    let refused = choose(&engines(&X86[..2]), Some(Level::X86V4Vnni), &has).unwrap_err();
    let hint = refused.error().hint.unwrap();
    assert!(hint.contains("x86-64-v2, x86-64-v3"), "{hint}");
}

#[test]
fn a_processor_below_all_levels_is_told_what_it_lacks() {
    let refused = choose(&engines(&X86), None, &Features::default()).unwrap_err();
    let missing = "SSE4.2".to_owned();
    let level = Level::X86V2;
    assert_eq!(refused, NoEngine::Lacking { level, missing });
    let refused = choose(&engines(&[]), None, &Features::here()).unwrap_err();
    assert_eq!(refused, NoEngine::NoneInstalled);
}

#[test]
fn a_single_engine_is_taken_as_it_is() {
    let one = Engines::One("/e/hob-engine".into());
    let choice = choose(&one, None, &Features::default()).unwrap();
    assert_eq!(choice.level, None);
    assert_eq!(choice.kernels(), gguf::Kernels::here());
    let refused = choose(&one, Some(Level::X86V2), &Features::here()).unwrap_err();
    assert_eq!(refused, NoEngine::NoFolder(Level::X86V2));
}

#[test]
fn weights_are_reordered_for_the_kernels_that_were_chosen() {
    let of = |level| {
        choose(&engines(&[level]), None, &level.needs())
            .unwrap()
            .kernels()
    };
    assert_eq!(of(Level::X86V2), gguf::Kernels::default());
    assert!(of(Level::X86V3).avx2 && !of(Level::X86V3).avx512);
    assert!(of(Level::X86V4Vnni).avx512);
    assert_eq!(of(Level::Arm80), gguf::Kernels::default());
    assert!(of(Level::Arm82).dotprod);
}

#[test]
fn what_lies_at_a_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    assert_eq!(Engines::at(path), Engines::Levels(Vec::new()));
    fs::write(path.join(ENGINE), "").unwrap();
    let single = Engines::One(path.join(ENGINE));
    assert_eq!(Engines::at(path), single);
    assert_eq!(Engines::at(&path.join(ENGINE)), single);
    let native: Vec<_> = Level::ALL
        .into_iter()
        .filter(|level| level.is_native())
        .collect();
    for level in Level::ALL {
        fs::create_dir(path.join(level.as_str())).unwrap();
        fs::write(path.join(level.as_str()).join(ENGINE), "").unwrap();
    }
    // A folder without an engine, and those of other architectures, do not count.
    fs::remove_file(path.join(native[0].as_str()).join(ENGINE)).unwrap();
    let Engines::Levels(found) = Engines::at(path) else {
        panic!("levels were not found");
    };
    let found: Vec<_> = found.into_iter().map(|(level, _)| level).collect();
    assert_eq!(found, native[1..]);
}

proptest! {
    /// Whatever is installed, asked for and there: no engine is started that needs what is missing.
    #[test]
    fn no_engine_needs_more_than_the_processor_has(
        installed in prop::sample::subsequence(Level::ALL.to_vec(), 0..=7),
        wanted in prop::option::of(prop::sample::select(Level::ALL.to_vec())),
        has in prop::sample::subsequence(Feature::ALL.to_vec(), 0..=15),
    ) {
        let has: Features = has.into_iter().collect();
        match choose(&engines(&installed), wanted, &has) {
            Ok(choice) => {
                let level = choice.level.unwrap();
                prop_assert!(installed.contains(&level));
                prop_assert!(wanted.is_none_or(|wanted| wanted == level));
                prop_assert_eq!(has.lack(&level.needs()), None);
            }
            Err(NoEngine::NoneInstalled) => prop_assert!(installed.is_empty()),
            Err(NoEngine::NotInstalled { wanted: level, .. }) => {
                prop_assert!(wanted == Some(level) && !installed.contains(&level));
            }
            Err(NoEngine::Lacking { level, .. }) => {
                prop_assert!(has.lack(&level.needs()).is_some());
                prop_assert!(wanted.is_none_or(|wanted| wanted == level));
            }
            Err(NoEngine::NoFolder(_) | NoEngine::Gpu(_)) => prop_assert!(false),
        }
    }
}
