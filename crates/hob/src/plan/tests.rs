#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use proptest::prelude::*;

use super::*;

const MIB: u64 = 1 << 20;

/// The catalog as a board sees it on which nothing is installed.
fn catalog() -> Vec<Candidate> {
    let nowhere = tempfile::tempdir().unwrap();
    all(&Store::open(nowhere.path()), &Catalog::built_in().unwrap()).unwrap()
}

fn of(name: &str, total: u64) -> Planned {
    let one = |candidate: &Candidate| candidate.name == name;
    let mut candidates = catalog();
    candidates.retain(one);
    plan(room::supposed(total), &candidates).models.remove(0)
}

#[test]
fn boards_say_what_the_plan_says() {
    let candidates = catalog();
    let boards = [512 * MIB, 1 << 30, 2 << 30, 4 << 30, 8 << 30];
    let plans = boards.map(|total| plan(room::supposed(total), &candidates));
    let page = include_str!("../../../../docs/boards.md");
    for line in show::boards(&plans, false).lines() {
        assert!(
            page.lines().any(|other| other == line),
            "docs/boards.md lacks:\n{line}"
        );
    }
}

#[test]
fn sizes_of_memory_have_a_unit() {
    assert_eq!(parse_memory("512M"), Ok(512 * MIB));
    assert_eq!(parse_memory("4GiB"), Ok(4 << 30));
    assert_eq!(parse_memory("1gb"), Ok(1 << 30));
    assert_eq!(parse_memory("1.5G"), Ok(1536 * MIB));
    assert_eq!(parse_memory("0.125g"), Ok(128 * MIB));
    for bad in [
        "",
        "M",
        "512",
        "-1G",
        ".5G",
        "1.G",
        "1.5.5G",
        "1.0000G",
        "1M",
        "99999999999G",
        "4K",
    ] {
        assert!(parse_memory(bad).is_err(), "{bad}");
    }
}

#[test]
fn little_memory_gets_less_context_then_less_exact_ones() {
    let steps = |mib| {
        of("qwen3-0.6b", mib * MIB)
            .proposal
            .map(|it| (it.n_ctx, it.kv_type))
    };
    assert_eq!(steps(2048), Some((4096, "f16")));
    let seen: Vec<_> = (500..1600).filter_map(steps).collect();
    let rank = |step: &(u32, &str)| {
        LADDER
            .iter()
            .position(|(n_ctx, kv)| (*n_ctx, kv.as_str()) == *step)
    };
    let ranks: Vec<_> = seen.iter().map(|step| rank(step).unwrap()).collect();
    // More memory never makes a proposal worse, and every step is the best one somewhere.
    assert!(ranks.is_sorted_by(|less, more| less >= more), "{ranks:?}");
    assert!(
        ranks.contains(&0) && ranks.contains(&(LADDER.len() - 1)),
        "{ranks:?}"
    );
    assert_eq!(steps(512), None);
}

#[test]
fn what_is_not_known_is_not_guessed() {
    let hybrid = of("lfm2.5-230m", 8 << 30);
    assert!(hybrid.known.is_none() && hybrid.proposal.is_none() && hybrid.loads.is_empty());
}

proptest! {
    #[test]
    fn what_is_proposed_fits(mib in 64_u64..20_000) {
        let room = room::supposed(mib * MIB);
        for candidate in catalog() {
            let Some((header, _)) = &candidate.header else { continue };
            for load in loads(header, &room) {
                let parts = load.weights_bytes + load.kv_bytes + load.compute_bytes;
                prop_assert_eq!(parts + load.cache_bytes + load.hobd_bytes, load.total_bytes);
                prop_assert_eq!(parts <= room.engine_bytes, load.fits);
            }
            if let Some(proposal) = propose(header, &room) {
                prop_assert!(proposal.engine_bytes + proposal.cache <= room.engine_bytes);
                prop_assert!(proposal.n_ctx <= header.n_ctx_train);
            }
        }
    }
}
