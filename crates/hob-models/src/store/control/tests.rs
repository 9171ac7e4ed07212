#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::os::unix::fs::{PermissionsExt as _, symlink};

use proptest::prelude::*;

use super::super::tests::{files, install, name, sha256, store};
use super::*;
use crate::gguf::sample::Sample;

/// As the tiny model is.
const WIDTH: usize = 64;

fn header() -> Header {
    let bytes = Sample::tiny().bytes();
    let size = bytes.len() as u64;
    Header::read(std::io::Cursor::new(bytes), size).unwrap()
}

fn own() -> Sha256 {
    sha256(&Sample::tiny().bytes())
}

fn verification() -> Verification {
    Verification {
        verified: 1_764_201_600,
        contrast: "\"unknown\" against names,\n3.0 times".to_owned(),
        data_sha256: sha256(b"questions"),
        questions: 480,
        categories: vec!["Age".to_owned(), "Religion".to_owned()],
        text_loss_basis_points: -12,
        ambiguous: Change {
            before: 1234,
            after: 5678,
        },
        disambiguated: Change {
            before: 6000,
            after: 5990,
        },
    }
}

fn vector(layer: u32, numbers: Vec<f32>) -> Result<ControlVector, ControlFault> {
    ControlVector::new((own(), &header()), layer, numbers, verification())
}

fn numbers() -> Vec<f32> {
    (0..64_u8).map(|at| f32::from(at) / 7.0 - 3.0).collect()
}

/// A store with the model `x` and a vector beside it.
fn with_vector() -> (tempfile::TempDir, Store, ControlVector) {
    let (folder, store) = store();
    install(&store, "x");
    let vector = vector(1, numbers()).unwrap();
    store.keep_control_vector(&name("x"), &vector).unwrap();
    (folder, store, vector)
}

fn read(store: &Store) -> Result<Option<ControlVector>, StoreError> {
    store.control_vector(&name("x"), (own(), &header()))
}

/// What is wrong with this text in the place of a vector.
fn fault(store: &Store, text: &[u8]) -> ControlFault {
    fs::write(store.control_path(&name("x")), text).unwrap();
    match read(store) {
        Err(StoreError::ControlDamaged { fault, .. }) => fault,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_vector_is_of_one_file_and_goes_with_its_model() {
    let (_folder, store) = store();
    let x = name("x");
    let vector = vector(0, numbers()).unwrap();
    let refused = store.keep_control_vector(&x, &vector).unwrap_err();
    assert!(matches!(refused, StoreError::NotInstalled { .. }));
    assert!(!store.root().exists());
    install(&store, "x");
    assert_eq!(read(&store).unwrap(), None);
    assert!(!store.remove_control_vector(&x).unwrap());
    store.keep_control_vector(&x, &vector).unwrap();
    assert_eq!(read(&store).unwrap(), Some(vector));
    assert_eq!(files(&store), ["x.control", "x.gguf", "x.toml"]);
    // It is no model.
    assert_eq!(store.list().unwrap().len(), 1);
    let mode = fs::metadata(store.control_path(&x)).unwrap().permissions();
    assert_eq!(mode.mode() & 0o7777, 0o644);
    let other = (sha256(b"other"), &header());
    let other = ControlVector::new(other, 0, numbers(), verification()).unwrap();
    let refused = store.keep_control_vector(&x, &other).unwrap_err();
    assert!(matches!(refused, StoreError::Changed { .. }), "{refused}");
    // While somebody changes the model, nobody changes what is beside it.
    let lock = disk::try_lock(&store.path(&x, Part::Lock)).unwrap();
    for busy in [
        store.check_changeable(&x).unwrap_err(),
        store.remove_control_vector(&x).unwrap_err(),
    ] {
        assert!(matches!(busy, StoreError::Busy { .. }), "{busy}");
    }
    drop(lock);
    store.check_changeable(&x).unwrap();
    assert!(store.remove_control_vector(&x).unwrap());
    assert_eq!(files(&store), ["x.gguf", "x.toml"]);
    let again = ControlVector::new((own(), &header()), 1, numbers(), verification()).unwrap();
    store.keep_control_vector(&x, &again).unwrap();
    store.remove(&x).unwrap();
    assert!(files(&store).is_empty());
}

#[test]
fn what_does_not_fit_the_model_is_no_vector() {
    let layers = |layer| ControlFault::Layer { layer, layers: 2 };
    assert_eq!(vector(2, numbers()), Err(layers(2)));
    assert_eq!(vector(u32::MAX, numbers()), Err(layers(u32::MAX)));
    for found in [0, WIDTH - 1, WIDTH + 1] {
        let refused = vector(1, vec![0.0; found]);
        assert_eq!(refused, Err(ControlFault::Width { found, width: 64 }));
    }
    for none in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut numbers = numbers();
        numbers[63] = none;
        assert_eq!(vector(1, numbers), Err(ControlFault::NoNumber { at: 63 }));
    }
}

#[test]
fn a_stale_vector_is_told_from_a_damaged_one() {
    let (_folder, store, _) = with_vector();
    let other = sha256(b"another file of that name");
    let stale = store.control_vector(&name("x"), (other, &header()));
    let stale = stale.unwrap_err();
    let from = own();
    assert!(
        matches!(&stale, StoreError::ControlStale { learned_from, .. } if *learned_from == from),
        "{stale}"
    );
    assert!(stale.hint().unwrap().contains("mitigate x --remove"));
    // What is damaged is damaged, whichever file it was learned from.
    fs::write(store.control_path(&name("x")), "model_sha256 = 1\n").unwrap();
    let damaged = store.control_vector(&name("x"), (other, &header()));
    let damaged = damaged.unwrap_err();
    assert!(
        matches!(damaged, StoreError::ControlDamaged { .. }),
        "{damaged}"
    );
    assert!(damaged.hint().unwrap().contains("mitigate x --remove"));
}

#[test]
fn each_kind_of_damage_is_named() {
    let (_folder, store, whole) = with_vector();
    let path = store.control_path(&name("x"));
    let text = fs::read_to_string(&path).unwrap();
    let altered = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}: {text}");
        text.replacen(from, to, 1).into_bytes()
    };
    let first = format!("{:08x}", whole.numbers()[0].to_bits());
    let at_0 = ControlFault::NoNumber { at: 0 };
    let layer = ControlFault::Layer {
        layer: 2,
        layers: 2,
    };
    let width = ControlFault::Width {
        found: 63,
        width: 64,
    };
    for (damaged, expected) in [
        (altered("layer = 1", "layer = 0"), ControlFault::Digest),
        (altered("layer = 1", "layer = 2"), layer),
        (altered(&first, ""), width),
        (altered(&first, "00000000"), ControlFault::Digest),
        (altered(&first, "7fc00000"), at_0.clone()),
        (altered(&first, "+1234567"), at_0.clone()),
        (altered(&first, "12345 78"), at_0),
        (altered(&first, "1234"), ControlFault::NoNumber { at: 63 }),
        (
            altered("after = 5678", "after = 10001"),
            ControlFault::NoShare,
        ),
        (vec![b' '; (1 << 20) + 1], ControlFault::TooLong),
    ] {
        assert_eq!(fault(&store, &damaged), expected);
    }
    for (damaged, at, words) in [
        (
            altered("[verification]", "surprise = 1\n[verification]"),
            6,
            "surprise",
        ),
        (altered("layer = 1", "layer = -1"), 2, "u32"),
        (b"caf\xe9".to_vec(), 1, "no text"),
        (Vec::new(), 1, "missing field"),
    ] {
        let ControlFault::Text { line, why } = fault(&store, &damaged) else {
            panic!("{words}");
        };
        assert!(line == at && why.contains(words), "{line}: {why}");
    }
}

#[test]
fn what_is_quoted_of_a_file_is_short_and_plain() {
    let (_folder, store, _) = with_vector();
    let long = format!("\"\\u001b{}\" = 1\n", "x".repeat(900_000));
    let ControlFault::Text { why, .. } = fault(&store, long.as_bytes()) else {
        panic!("a key that nobody knows");
    };
    assert!(why.chars().count() <= 200 && !why.chars().any(char::is_control));
}

#[test]
fn nothing_but_a_file_of_the_folder_s_own_is_read() {
    let (_folder, store, whole) = with_vector();
    let path = store.control_path(&name("x"));
    let text = fs::read_to_string(&path).unwrap();
    fs::write(store.root().join("elsewhere"), &text).unwrap();
    fs::remove_file(&path).unwrap();
    symlink("elsewhere", &path).unwrap();
    assert!(matches!(read(&store), Err(StoreError::NotAFile(_))));
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(matches!(read(&store), Err(StoreError::NotAFile(_))));
    let folder = store.remove_control_vector(&name("x"));
    assert!(matches!(folder, Err(StoreError::NotAFile(_))));
    fs::remove_dir(&path).unwrap();
    fs::write(&path, &text).unwrap();
    assert_eq!(read(&store).unwrap(), Some(whole));
}

proptest! {
    #[test]
    fn what_is_kept_is_read_bit_for_bit(
        bits in proptest::collection::vec(any::<u32>(), WIDTH),
        layer in 0..2_u32,
    ) {
        let numbers: Vec<f32> = bits.into_iter().map(f32::from_bits).collect();
        match vector(layer, numbers.clone()) {
            Err(fault) => {
                let at = numbers.iter().position(|number| !number.is_finite()).unwrap();
                prop_assert_eq!(fault, ControlFault::NoNumber { at });
            }
            Ok(vector) => {
                let text = vector.to_text().unwrap();
                let again = Stored::parse(text.as_bytes()).unwrap().checked(&header()).unwrap();
                prop_assert_eq!(again.digest(), vector.digest());
                prop_assert_eq!(again, vector);
            }
        }
    }

    #[test]
    fn a_changed_byte_makes_no_other_vector(at in 0..4096_usize, byte in any::<u8>()) {
        let whole = vector(1, numbers()).unwrap();
        let mut text = whole.to_text().unwrap().into_bytes();
        let at = at % text.len();
        text[at] = byte;
        let read = Stored::parse(&text).and_then(|stored| stored.checked(&header()));
        if let Ok(read) = read {
            prop_assert_eq!((read.layer(), read.numbers()), (whole.layer(), whole.numbers()));
        }
    }
}
