//! Constraints made to take long or much, within what hobd lets through. An endless one, one that
//! needs a deeper stack and one whose panic gets through end this test.

use std::fmt::Write as _;

use super::super::compiler::STACK_BYTES;
use super::*;

/// `middle` between so many of `open` and of `close`.
fn nest(open: &str, middle: &str, close: &str, levels: usize) -> String {
    open.repeat(levels) + middle + &close.repeat(levels)
}

/// What `write` gives for each number below `count`, joined.
fn list(count: usize, separator: &str, write: impl Fn(usize) -> String) -> String {
    (0..count).map(write).collect::<Vec<_>>().join(separator)
}

/// What no answer can be, or takes too much before it begins.
fn hopeless() -> Vec<Constraint> {
    let tilde = "~".repeat(9_000);
    let schemas = [
        r##"{"$ref": "#"}"##,
        r##"{"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}"##,
        r##"{"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}"##,
        r##"{"allOf": [{"$ref": "#"}, {"type": "integer"}]}"##,
        r##"{"type": "array", "items": {"$ref": "#"}, "minItems": 1}"##,
        r#"{"type": "number", "multipleOf": 1e-300}"#,
        r#"{"type": "integer", "multipleOf": 999983, "minimum": 1}"#,
        r#"{"type": "integer", "minimum": -1e308, "maximum": 1e308}"#,
    ];
    let schemas = schemas.map(|schema| Constraint::JsonSchema(schema.to_owned()));
    let grammars = [
        "start: a\na: b\nb: a".to_owned(),
        format!("start: {tilde}A\nA: /a/"),
        format!("start: A\nA: {tilde}/a/"),
        format!("start: {}", "%lark { start: ".repeat(60)),
        format!("start: {}", nest("(", "\"a\"", ")", 60)),
    ];
    schemas
        .into_iter()
        .chain(grammars.map(Constraint::Lark))
        .collect()
}

/// What may be compiled or not, and may be given up in the middle.
fn heavy() -> Vec<Constraint> {
    let references = list(2200, ",", |n| {
        format!("\"a{n}\": {{\"$ref\": \"#/$defs/a{}\"}}", n + 1)
    });
    let values = |count| list(count, ",", |n| format!("{{\"const\": \"v{n}\"}}"));
    let fields = |count| list(count, ",", |n| format!("\"p{n}\": {{}}"));
    let optional = |count| format!("{{\"properties\": {{{}}}}}", fields(count));
    let schemas = [
        r#"{"type": "string", "minLength": 1000000}"#.to_owned(),
        r#"{"type": "string", "maxLength": 1000000}"#.to_owned(),
        r#"{"type": "string", "pattern": "^([a-z]{1,1000}){1,1000}$"}"#.to_owned(),
        r#"{"type": "string", "pattern": "^(((a{1,100}){1,100}){1,100}){1,100}$"}"#.to_owned(),
        r#"{"type": "string", "pattern": "(a|aa)+(b|bb)+[^c]{500}x"}"#.to_owned(),
        r#"{"type": "array", "minItems": 1000000, "items": {"type": "integer"}}"#.to_owned(),
        r#"{"type": "array", "maxItems": 1000000, "items": {"type": "integer"}}"#.to_owned(),
        nest(r#"{"items": {"anyOf": [true, "#, "true", "]}}", 20),
        nest(r#"{"type": "array", "items": "#, "true", "}", 60),
        format!(r##"{{"$defs": {{{references}, "a2200": {{}}}}, "$ref": "#/$defs/a0"}}"##),
        format!("{{\"anyOf\": [{}]}}", values(3000)),
        format!("{{\"oneOf\": [{}]}}", values(1000)),
        optional(2000),
        format!("{{\"allOf\": [{}]}}", vec![optional(700); 6].join(",")),
    ];
    let expressions = [
        "(a{1,1000000}){1,1000000}".to_owned(),
        "((((a?){500}){500}){500}){500}".to_owned(),
        "[^a]*a[^b]{3000}b.*".to_owned(),
        "(a|b|ab)*c".to_owned(),
        "(.*)(.*)(.*)(.*)(.*)(.*)(.*)(.*)x".to_owned(),
        r"\p{L}{1000}".to_owned(),
        nest("(", "a", ")*", 60),
        list(500, "|", |n| format!("w{n}x")),
    ];
    let mut chain = String::from("start: r0\nr1400: \"a\"\n");
    for n in 0..1400 {
        // Writing to a string does not fail.
        let _ = writeln!(chain, "r{n}:r{}", n + 1);
    }
    let grammars = [
        "start: a\na: a a | \"x\"".to_owned(),
        "start: a\na: a a a a | \"x\" |".to_owned(),
        "start: \"a\"{1,1000000}".to_owned(),
        "start: (\"a\" | \"b\")*".to_owned(),
        format!("start: {}", vec!["\"a\"?"; 3200].join(" ")),
        chain,
    ];
    let schemas = schemas.into_iter().map(Constraint::JsonSchema);
    let expressions = expressions.into_iter().map(Constraint::Regex);
    let grammars = grammars.into_iter().map(Constraint::Lark);
    schemas.chain(expressions).chain(grammars).collect()
}

/// Up to 100 tokens of what it allows, the last allowed one each time.
fn begin(grammars: &mut Grammars, constraint: &Constraint) -> Result<usize, GrammarError> {
    let mut grammar = grammars.compile(&wanted(constraint))?;
    for tokens in 0..100 {
        if grammar.is_complete() {
            return Ok(tokens);
        }
        let set = grammar.allowed()?;
        let token = (0..END).rev().find(|token| set.contains(*token));
        grammar.take(token.unwrap_or(first_word()))?;
        grammar.forced()?;
    }
    Ok(100)
}

#[test]
fn large_constraints_are_none_of_them() {
    let quoted = |separator| list(1000, separator, |n| format!("\"device {n}\""));
    let schemas = [
        format!("{{\"enum\": [{}]}}", quoted(", ")),
        format!(
            "{{\"properties\": {{{}}}}}",
            list(100, ", ", |n| format!("\"p{n}\": {{}}"))
        ),
    ];
    let mut grammars = grammars();
    for schema in schemas {
        begin(&mut grammars, &Constraint::JsonSchema(schema)).unwrap();
    }
    // Many words are one terminal; many rules are as many items.
    let words = format!("start: (NAME \"!\")+\nNAME: {}", quoted(" | "));
    let rules = list(250, "\n", |n| format!("r{n}: \"device {n}\" \" on\""));
    let start = list(250, " | ", |n| format!("r{n}"));
    for grammar in [words, format!("start: ({start})+\n{rules}")] {
        begin(&mut grammars, &Constraint::Lark(grammar)).unwrap();
    }
}

#[test]
fn hostile_constraints_come_to_an_end() {
    // As deep as where they are compiled.
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
    let tried = thread.spawn(|| {
        let mut grammars = grammars();
        for constraint in hopeless() {
            let tokens = begin(&mut grammars, &constraint);
            assert!(tokens.is_err(), "{constraint:?}: {tokens:?}");
        }
        for constraint in heavy() {
            if let Err(error) = begin(&mut grammars, &constraint) {
                assert_ne!(error, GrammarError::Unsupported, "{constraint:?}");
            }
        }
        // None of them costs a later one.
        let plain = Constraint::Regex("[ab]{3}".to_owned());
        assert_eq!(begin(&mut grammars, &plain), Ok(3));
    });
    tried.unwrap().join().unwrap();
}
