//! Snapshots that were damaged, or belong to something else.

use super::*;

/// A generator of numbers that is the same in each run (Knuth's MMIX constants).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        let Self(state) = self;
        *state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(*state >> 33).unwrap() % bound
    }
}

/// Has the engine end and the model loaded again, with `file` damaged meanwhile.
async fn reload_with(daemon: &Daemon, file: &PathBuf, bytes: &[u8]) {
    daemon.client().post("/hob/v1/unload", &json!({})).await;
    daemon.until(State::Sleeping).await;
    fs::write(file, bytes).unwrap();
    let client = daemon.client();
    let loaded = client
        .post("/hob/v1/load", &json!({"model": TEST_MODEL}))
        .await;
    assert_eq!(loaded.status, 200);
}

#[tokio::test]
async fn a_damaged_snapshot_is_computed_again() {
    let daemon = Setup::real().ready().await;
    let fresh = fresh_answer(&daemon).await;
    put(&daemon, "persona", &persona()).await;
    ready(&daemon, "persona", true).await;
    let [file] = &snapshots(&daemon)[..] else {
        panic!("one snapshot");
    };
    let whole = fs::read(file).unwrap();
    let mut numbers = Numbers(7);
    // Ends, and some of the cuts at every 4 KiB; `hobd`'s own tests try all.
    let pages = whole.len() / 4096;
    let mut damages = vec![Vec::new(), whole[..whole.len() - 1].to_vec()];
    for _ in 0..3 {
        damages.push(whole[..4096 * numbers.below(pages)].to_vec());
        let mut flipped = whole.clone();
        flipped[numbers.below(whole.len())] ^= 1 << numbers.below(8);
        damages.push(flipped);
    }
    for (turn, damaged) in (1..).zip(&damages) {
        reload_with(&daemon, file, damaged).await;
        let (text, _) = ask(&daemon, QUESTION, json!({})).await;
        assert_eq!(text, fresh, "{} bytes", damaged.len());
        let again = ready(&daemon, "persona", true).await;
        assert_eq!(again.source, Some(PinSource::Computed));
        let cache = daemon.status().await.cache;
        assert_eq!((cache.damaged, cache.restored), (turn, 0));
        let written = fs::metadata(file).unwrap().len();
        assert_eq!(written, whole.len() as u64, "it is written again");
    }
    reload_with(&daemon, file, &whole).await;
    let (text, _) = ask(&daemon, QUESTION, json!({})).await;
    assert_eq!(text, fresh);
    assert_eq!(daemon.status().await.cache.restored, 1);
}

#[tokio::test]
async fn a_pin_larger_than_the_snapshots_bound_is_computed_each_time() {
    let daemon = Setup::real()
        .toml("[snapshots]\nbytes = 100000")
        .ready()
        .await;
    put(&daemon, "persona", &persona()).await;
    let before = ready(&daemon, "persona", false).await;
    assert!(before.bytes > 100_000);
    assert!(snapshots(&daemon).is_empty());
}

#[tokio::test]
async fn a_snapshot_of_another_model_under_the_same_name_is_not_used() {
    let file = test_store().join(format!("{TEST_MODEL}.gguf"));
    let first = fs::read(file).unwrap();
    let mut second = first.clone();
    // A weight's last bits: another model, whose numbers are others.
    *second.last_mut().unwrap() ^= 1;
    let daemon = Setup::empty()
        .with_real_engine()
        .install("m", &first)
        .toml("model = \"m\"")
        .env("HOB_ENGINE_THREADS", "1")
        .ready()
        .await;
    put(&daemon, "persona", &persona()).await;
    ready(&daemon, "persona", true).await;
    let swap = async |bytes: &[u8]| {
        daemon.client().post("/hob/v1/unload", &json!({})).await;
        daemon.until(State::Sleeping).await;
        let file = daemon.home().join("m.gguf");
        fs::write(&file, bytes).unwrap();
        for arguments in [
            vec!["remove", "m", "--yes"],
            vec!["import", file.to_str().unwrap(), "--name", "m"],
        ] {
            let mut hob = daemon.hob();
            let output = hob.arg("models").args(arguments).output().unwrap();
            assert!(output.status.success(), "{output:?}");
        }
        let client = daemon.client();
        let loaded = client.post("/hob/v1/load", &json!({"model": "m"})).await;
        assert_eq!(loaded.status, 200, "{}", loaded.text());
        ready(&daemon, "persona", true).await.source
    };
    assert_eq!(swap(&second).await, Some(PinSource::Computed));
    assert_eq!(snapshots(&daemon).len(), 2);
    assert_eq!(swap(&first).await, Some(PinSource::Restored));
    assert_eq!(daemon.status().await.cache.damaged, 0);
}
