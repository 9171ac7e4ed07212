#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use proptest::prelude::*;

use super::*;

const ALL: Free = Free {
    threads: true,
    weights: true,
};

/// A board on which threads, weights and types are as fast as `speed` says.
fn search(free: Free, processors: u32, own: u32, speed: impl Fn(Way) -> f64) -> (Search, Vec<Way>) {
    let mut search = Search::new(&EngineSettings::default(), free, processors);
    let mut ways = Vec::new();
    while let Some(way) = search.next_way() {
        let chosen = Chosen {
            threads: way.threads.unwrap_or(own),
            weights: match way.weights {
                WeightsSetting::Copied => Weights::Copied,
                _ => Weights::Mapped,
            },
        };
        let rate = speed(way);
        let speed = Speed {
            read_per_second: rate,
            written_per_second: rate / 4.0,
        };
        search.tried(way, chosen, speed);
        ways.push(way);
    }
    (search, ways)
}

#[test]
fn the_best_threads_and_weights_are_found_one_after_another() {
    let speed = |way: Way| {
        let threads = match way.threads {
            Some(3) => 20.0,
            Some(_) => 8.0,
            None => 10.0,
        };
        threads
            * if way.weights == WeightsSetting::Copied {
                1.5
            } else {
                1.0
            }
    };
    let (search, ways) = search(ALL, 8, 4, speed);
    let (best, fast) = search.best().unwrap();
    assert_eq!(
        (best.threads, best.weights),
        (Some(3), WeightsSetting::Copied)
    );
    assert!((fast.read_per_second - 30.0).abs() < 1e-9);
    let threads: Vec<_> = ways.iter().map(|way| way.threads).collect();
    assert_eq!(threads[..4], [None, Some(2), Some(3), Some(8)]);
    assert_eq!(ways.len(), TRIALS_MAX as usize);
}

#[test]
fn noise_and_less_exact_contexts_change_nothing() {
    let speed = |way: Way| match (way.threads, way.kv_type) {
        (_, KvType::Q4_0) => 100.0,
        (Some(_), _) => 10.4,
        _ => 10.0,
    };
    let (search, _) = search(ALL, 4, 2, speed);
    let (best, _) = search.best().unwrap();
    let first = Way {
        threads: None,
        weights: WeightsSetting::Auto,
        kv_type: KvType::F16,
    };
    assert_eq!(best, first);
}

#[test]
fn what_somebody_set_is_not_changed() {
    let (_, ways) = search(Free::default(), 8, 4, |_| 1.0);
    assert!(ways.iter().all(|way| way.weights == WeightsSetting::Auto));
    assert!(ways.iter().all(|way| way.threads.is_none()));
    assert_eq!(ways.len(), 3);
}

#[test]
fn without_a_first_there_is_nothing() {
    let mut search = Search::new(&EngineSettings::default(), ALL, 4);
    assert!(search.next_way().is_some());
    assert!(search.next_way().is_none());
    assert!(search.best().is_none());
}

#[test]
fn a_quarter_more_time_is_slower() {
    let speed = |rate| Speed {
        read_per_second: rate,
        written_per_second: rate,
    };
    assert!(!is_slower(speed(10.0), speed(8.1)));
    assert!(is_slower(speed(10.0), speed(7.9)));
}

#[test]
fn a_file_is_read_as_it_was_written_and_nonsense_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/tuning.json");
    assert_eq!(file::read(&path).unwrap(), None);
    let tuning = hob_api::tuning::Tuning {
        version: "1".to_owned(),
        model: "m".to_owned(),
        sha256: "0".to_owned(),
        time: 1,
        threads: Some(3),
        weights: Some("copied".to_owned()),
        speed: Speed {
            read_per_second: 1.5,
            written_per_second: 2.5,
        },
        complete: true,
        trials: Vec::new(),
        checked: None,
    };
    file::write(&path, &tuning).unwrap();
    assert_eq!(file::read(&path).unwrap(), Some(tuning.clone()));
    for (threads, weights) in [(Some(0), None), (Some(257), None), (None, Some("locked"))] {
        let weights = weights.map(str::to_owned);
        file::write(
            &path,
            &hob_api::tuning::Tuning {
                threads,
                weights,
                ..tuning.clone()
            },
        )
        .unwrap();
        assert!(file::read(&path).is_err(), "{threads:?}");
    }
    std::fs::write(&path, "{").unwrap();
    assert!(file::read(&path).is_err());
    file::remove(&path).unwrap();
    file::remove(&path).unwrap();
    assert_eq!(file::read(&path).unwrap(), None);
}

proptest! {
    #[test]
    fn a_search_ends_and_its_counts_hold(processors in 1_u32..300, own in 1_u32..300, rates in prop::collection::vec(0.1_f64..1000.0, 7)) {
        let mut search = Search::new(&EngineSettings::default(), ALL, processors);
        let mut number = 0;
        while let Some(way) = search.next_way() {
            number += 1;
            prop_assert!(number <= TRIALS_MAX);
            let (tried, of) = search.count();
            prop_assert!(tried == number && of >= number && of <= TRIALS_MAX);
            let rate = rates[number as usize - 1];
            let chosen = Chosen { threads: way.threads.unwrap_or(own), weights: Weights::Mapped };
            search.tried(way, chosen, Speed { read_per_second: rate, written_per_second: rate });
        }
        let (_, speed) = search.best().unwrap();
        prop_assert!(speed.read_per_second >= rates[0]);
    }
}
