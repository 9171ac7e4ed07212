#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::HashMap;

use hob_ipc::constraint::{CallRules, Constraint};
use proptest::prelude::*;

use super::alphabet::Alphabet;
use super::compile::Grammars;
use super::*;

mod hostile;

/// Ends an answer.
const END: Token = 256;
/// Steers the model, and is no text.
const CONTROL: Token = 257;
/// Words that are one token each, from 258 on.
const WORDS: [&str; 7] = ["the", "ther", "temp", "erature", "\": ", "room", "!!!"];

fn first_word() -> Token {
    CONTROL + 1
}

/// Each byte is a token, and so is each of a few words.
fn alphabet() -> Alphabet {
    let bytes = (0..=255).map(|byte| vec![byte]);
    let mut spellings: Vec<Vec<u8>> = bytes.collect();
    spellings.extend([b"<end>".to_vec(), Vec::new()]);
    spellings.extend(WORDS.map(|word| word.as_bytes().to_vec()));
    Alphabet {
        spellings,
        controls: HashMap::from([("<mark>".to_owned(), CONTROL), ("<end>".to_owned(), END)]),
        ends: vec![END],
        tokenize: Box::new(tokenize),
    }
}

fn tokenize(mut text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    while let Some(byte) = text.bytes().next() {
        let words = (first_word()..).zip(WORDS);
        let longest = words
            .filter(|(_, word)| text.starts_with(word))
            .max_by_key(|(_, word)| word.len());
        let (token, length) = longest.map_or((Token::from(byte), 1), |(t, w)| (t, w.len()));
        // All text of these tests is ASCII.
        text = &text[length..];
        tokens.push(token);
    }
    tokens
}

fn spell(tokens: &[Token]) -> String {
    let spellings = alphabet().spellings;
    let bytes = tokens
        .iter()
        .map(|t| &spellings[usize::try_from(*t).unwrap()]);
    String::from_utf8(bytes.flatten().copied().collect()).unwrap()
}

fn grammars() -> Grammars {
    Grammars::new(alphabet()).unwrap()
}

fn compile(constraint: &Constraint) -> Result<Grammar, GrammarError> {
    grammars().compile(&wanted(constraint))
}

fn wanted(constraint: &Constraint) -> Wanted {
    Wanted {
        constraint: constraint.clone(),
        reasoning: false,
    }
}

fn schema(schema: &serde_json::Value) -> Constraint {
    Constraint::JsonSchema(schema.to_string())
}

/// Answers with what `choose` takes of what may come, until nothing may: the tokens, and how many of
/// them had to come.
fn answer(grammar: &mut Grammar, mut choose: impl FnMut(&[Token]) -> Token) -> (Vec<Token>, usize) {
    let mut tokens = grammar.opening().to_vec();
    let mut forced = tokens.len();
    while !grammar.is_complete() {
        assert!(tokens.len() < 5000, "no end: {}", spell(&tokens));
        let set = grammar.allowed().unwrap();
        let all: Vec<_> = (0..=first_word() + 9)
            .filter(|t| set.contains(*t))
            .collect();
        assert!(!all.contains(&CONTROL));
        let token = choose(&all);
        if token == END {
            break;
        }
        tokens.push(token);
        grammar.take(token).unwrap();
        let more = grammar.forced().unwrap();
        assert!(more.iter().all(|token| *token != CONTROL && *token != END));
        forced += more.len();
        tokens.extend(more);
    }
    (tokens, forced)
}

#[test]
fn what_has_to_come_comes_in_the_vocabularys_own_tokens() {
    let wanted = schema(&serde_json::json!({
        "type": "object",
        "properties": {"temperature": {"type": "integer", "minimum": 7, "maximum": 9}},
        "required": ["temperature"],
        "additionalProperties": false,
    }));
    let mut grammar = compile(&wanted).unwrap();
    assert_eq!(spell(grammar.opening()), "{\"temperature\": ");
    let word = |word: &str| {
        let at = WORDS.iter().position(|w| *w == word).unwrap();
        first_word() + Token::try_from(at).unwrap()
    };
    let opening = [
        Token::from(b'{'),
        Token::from(b'"'),
        word("temp"),
        word("erature"),
        word("\": "),
    ];
    assert_eq!(grammar.opening(), opening);
    let (tokens, forced) = answer(&mut grammar, |allowed| {
        assert_eq!(allowed, [b'7', b'8', b'9'].map(Token::from));
        Token::from(b'8')
    });
    assert_eq!(spell(&tokens), "{\"temperature\": 8}");
    assert_eq!((tokens.len(), forced), (7, 6));
}

#[test]
fn what_may_be_one_token_with_what_follows_is_not_forced() {
    // After `the`, an `r` may follow, and `ther` is one token.
    let grammar = compile(&Constraint::Regex("a the(r|x)".to_owned())).unwrap();
    assert_eq!(spell(grammar.opening()), "a ");
}

#[test]
fn an_answer_that_is_whole_may_end_or_go_on() {
    let mut grammar = compile(&Constraint::Regex("[0-9]{1,2}".to_owned())).unwrap();
    assert!(!grammar.allowed().unwrap().contains(END));
    grammar.take(Token::from(b'1')).unwrap();
    let set = grammar.allowed().unwrap();
    assert!(set.contains(END) && set.contains(Token::from(b'2')));
    assert!(!grammar.is_complete());
    grammar.take(Token::from(b'2')).unwrap();
    assert!(grammar.is_complete());
}

#[test]
fn no_text_becomes_the_end_and_no_grammar_names_a_control_token() {
    // The end mark's own letters are text like any other.
    let mut grammar = compile(&Constraint::Regex("x?<end>".to_owned())).unwrap();
    let set = grammar.allowed().unwrap();
    assert!(set.contains(Token::from(b'<')) && !set.contains(END));
    let named = compile(&Constraint::Lark(format!("start: <[{CONTROL}]>")));
    assert!(named.is_err(), "{named:?}");
    let either = compile(&Constraint::Lark(format!("start: <[{CONTROL}]> | \"a\"")));
    if let Ok(mut grammar) = either {
        assert!(!grammar.allowed().unwrap().contains(CONTROL));
    }
}

#[test]
fn what_cannot_be_is_refused_with_a_reason() {
    let refused = |constraint: &Constraint| match compile(constraint) {
        Err(GrammarError::Refused(reason)) => reason,
        other => panic!("{other:?} for {constraint:?}"),
    };
    for schema in [
        "{",
        "7",
        "false",
        r#"{"type": "no such"}"#,
        r#"{"type": "integer", "minimum": 5, "maximum": 3}"#,
        r##"{"$ref": "#/$defs/nowhere"}"##,
        r#"{"$ref": "https://example.org/schema.json"}"#,
        r#"{"enum": []}"#,
        r#"{"type": "string", "pattern": "("}"#,
    ] {
        let reason = refused(&Constraint::JsonSchema(schema.to_owned()));
        assert!(
            !reason.is_empty() && reason.len() <= REASON_BYTES_MAX,
            "{schema}"
        );
        assert!(!reason.contains("panic"), "{schema}: {reason}");
    }
    refused(&Constraint::Regex("(".to_owned()));
    refused(&Constraint::Lark("start: nowhere".to_owned()));
    refused(&Constraint::Lark("no grammar".to_owned()));
}

/// Whether an answer may be `text`, and end there.
fn allows(constraint: &Constraint, text: &str) -> bool {
    let mut grammar = compile(constraint).unwrap();
    let opening = spell(grammar.opening());
    let Some(mut rest) = text.strip_prefix(opening.as_str()) else {
        return false;
    };
    while let Some(byte) = rest.bytes().next() {
        let token = Token::from(byte);
        if grammar.is_complete() || !grammar.allowed().unwrap().contains(token) {
            return false;
        }
        grammar.take(token).unwrap();
        let forced = spell(&grammar.forced().unwrap());
        let Some(behind) = rest[1..].strip_prefix(forced.as_str()) else {
            return false;
        };
        rest = behind;
    }
    grammar.is_complete() || grammar.allowed().unwrap().contains(END)
}

#[test]
fn reasoning_words_and_calls_are_told_apart() {
    // The beginnings of answers that hobd gives to who may talk and call.
    let grammar = r#"start: calls | TEXT | REASONING SPACE? (calls | SAID)
TEXT: /(.|\n)+/ & ~/<tool_call>(.|\n)*/ & ~/<think>(.|\n)*/
REASONING: /<think>(.|\n)*<\/think>/ & ~/(.|\n)*<\/think>(.|\n)+/
SPACE: /[ \t\r\n]+/
SAID: /[^ \t\r\n](.|\n)*/ & ~/<tool_call>(.|\n)*/ & ~/<think>(.|\n)*/
calls: "<tool_call>\n{\"a\": " /[0-9]/ "}\n</tool_call>"
"#;
    let grammar = Constraint::Lark(grammar.to_owned());
    let call = "<tool_call>\n{\"a\": 7}\n</tool_call>";
    for text in [
        "Hello",
        "\n Hello",
        "<",
        "<thing>",
        "a <think>b</think> <tool_call>",
        call,
        &format!("<think>\nI call it.\n</think>\n\n{call}"),
        &format!("<think>a {call} b</think>{call}"),
        "<think></think>\n\nHello <tool_call>",
        "<think>a</think></think>",
    ] {
        assert!(allows(&grammar, text), "{text}");
    }
    for text in [
        "",
        "<think>a",
        "<think>a</think>",
        "<think>a</think>\n",
        "<think>a</think><think>b</think>c",
        "<tool_call>hello",
        "<think>a</think>\n<tool_call>hello",
        &format!("{call} and more"),
    ] {
        assert!(!allows(&grammar, text), "{text}");
    }
}

/// Rules of calls with a mark that this vocabulary has as a token, and one that it has not.
fn calls() -> CallRules {
    CallRules {
        rules: r#"answer: call | TEXT
reasoned: THOUGHT call
call: mark_0 "f(" /[0-9]/ ")" mark_1 mark_2
TEXT: /[a-z<>]+/ & ~/<mark>(.|\n)*/
THOUGHT: /[^.]*\./
"#
        .to_owned(),
        marks: ["<mark>", "<other>", "<end>"].map(str::to_owned).to_vec(),
    }
}

#[test]
fn a_mark_is_one_token_where_the_vocabulary_has_it() {
    let calls = Constraint::Calls(calls());
    let mut grammar = compile(&calls).unwrap();
    let set = grammar.allowed().unwrap();
    assert!(set.contains(CONTROL) && set.contains(Token::from(b'a')));
    // Spelled, it would be words that read as a mark.
    for letter in b"<mark" {
        grammar.take(Token::from(*letter)).unwrap();
        assert!(!grammar.allowed().unwrap().contains(CONTROL));
    }
    assert!(!grammar.allowed().unwrap().contains(Token::from(b'>')));

    let mut grammar = compile(&calls).unwrap();
    grammar.take(CONTROL).unwrap();
    assert_eq!(grammar.mark(CONTROL), Some("<mark>"));
    assert_eq!(spell(&grammar.forced().unwrap()), "f(");
    grammar.take(Token::from(b'7')).unwrap();
    // What ends answers is no mark in the middle of one.
    assert_eq!(spell(&grammar.forced().unwrap()), ")<other><end>");
    assert!(grammar.is_complete());
}

#[test]
fn a_mark_that_has_to_come_is_not_chosen() {
    let rules = "answer: mark_0 \"f\" mark_0\nreasoned: answer\n".to_owned();
    let marks = vec!["<mark>".to_owned()];
    let grammar = compile(&Constraint::Calls(CallRules { rules, marks })).unwrap();
    assert_eq!(grammar.opening(), [CONTROL, Token::from(b'f'), CONTROL]);
    assert!(grammar.is_complete());
}

#[test]
fn what_is_left_of_an_answer_whose_reasoning_was_opened_goes_on_with_it() {
    let wanted = Wanted {
        constraint: Constraint::Calls(calls()),
        reasoning: true,
    };
    let mut grammar = grammars().compile(&wanted).unwrap();
    assert!(!grammar.allowed().unwrap().contains(CONTROL));
    for letter in b"hm." {
        grammar.take(Token::from(*letter)).unwrap();
    }
    assert_eq!(grammar.forced().unwrap()[0], CONTROL);
}

#[test]
fn no_other_constraint_has_marks() {
    let either = Constraint::Lark(format!("start: <[{CONTROL}]> | \"a\""));
    // The same vocabulary just gave it to another one.
    let mut grammars = grammars();
    grammars
        .compile(&wanted(&Constraint::Calls(calls())))
        .unwrap();
    if let Ok(mut grammar) = grammars.compile(&wanted(&either)) {
        assert!(!grammar.allowed().unwrap().contains(CONTROL));
        assert_eq!(grammar.mark(CONTROL), None);
    }
}

#[test]
fn the_same_again_begins_anew() {
    let mut grammars = grammars();
    let wanted = Constraint::Regex("[ab]{3}".to_owned());
    for _ in 0..3 {
        let mut grammar = grammars.compile(&self::wanted(&wanted)).unwrap();
        let (tokens, _) = answer(&mut grammar, |allowed| allowed[0]);
        assert_eq!(spell(&tokens), "aaa");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_is_chosen_the_answer_is_what_it_must_be(
        choices in proptest::collection::vec(any::<usize>(), 400),
        kind in 0_usize..4,
    ) {
        let wanted = [
            serde_json::json!({
                "type": "object",
                "properties": {
                    "room": {"enum": ["the room", "there", "!!!"]},
                    "on": {"type": "boolean"},
                    "level": {"type": "integer", "minimum": 0, "maximum": 100},
                },
                "required": ["room", "on"],
                "additionalProperties": false,
            }),
            serde_json::json!({
                "type": "array", "minItems": 1, "maxItems": 3,
                "items": {"type": "string", "maxLength": 5},
            }),
            serde_json::json!({"anyOf": [{"type": "null"}, {"const": {"a": [1, 2]}}]}),
            serde_json::json!({"type": "string", "pattern": "^[a-c]{2,9}$"}),
        ];
        let mut choices = choices.into_iter();
        let mut grammar = compile(&schema(&wanted[kind])).unwrap();
        let (tokens, _) = answer(&mut grammar, |allowed| {
            allowed[choices.next().unwrap_or(0) % allowed.len()]
        });
        let text = spell(&tokens);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let holds = match kind {
            0 => value["room"].is_string() && value["on"].is_boolean()
                && value.get("level").is_none_or(|level| level.as_i64().is_some_and(|n| (0..=100).contains(&n))),
            1 => value.as_array().is_some_and(|items| (1..=3).contains(&items.len())
                && items.iter().all(|item| item.as_str().is_some_and(|s| s.chars().count() <= 5))),
            2 => value.is_null() || value == serde_json::json!({"a": [1, 2]}),
            _ => value.as_str().is_some_and(|s| (2..=9).contains(&s.len())),
        };
        prop_assert!(holds, "{}", text);
    }
}
