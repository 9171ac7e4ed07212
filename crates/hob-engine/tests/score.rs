//! Likelihoods by the real engine and real models.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod driver;

use std::path::Path;

use driver::{Engine, complete, load, sliding_model, test_model};
use hob_api::chat::{Class, Role};
use hob_api::score::Likelihood;
use hob_ipc::message::{ChatMessage, FailureCode, Finished, Load, Prompt};
use hob_ipc::score::{SINGLE_TOKENS_MAX, Score, ScoreFailure, ScorePart};
use hob_ipc::{Command, EngineEvent, RequestId};

const BINARY: &str = env!("CARGO_BIN_EXE_hob-engine");
const OWNER: u32 = 1000;

fn start(model: &Path, load: &Load) -> Engine {
    Engine::start(BINARY, load, model).0
}

fn part(prompt: &str, continuations: &[&str]) -> ScorePart {
    ScorePart {
        prompt: Prompt::Text(prompt.to_owned()),
        continuations: continuations.iter().map(|c| (*c).to_owned()).collect(),
    }
}

fn request(id: u64, parts: Vec<ScorePart>) -> Score {
    Score {
        id: RequestId(id),
        parts,
        ends: false,
        single_tokens: false,
        cache_owner: None,
        class: Class::Chat,
    }
}

type Outcome = (Vec<Vec<Likelihood>>, Result<Finished, FailureCode>);

fn outcome(engine: &mut Engine, of: u64) -> Outcome {
    let mut parts = Vec::new();
    loop {
        match engine.next_work().unwrap() {
            EngineEvent::Scored(scored) if scored.id.0 == of => {
                assert_eq!(scored.part as usize, parts.len());
                parts.push(scored.likelihoods);
            }
            EngineEvent::Finished(finished) if finished.id.0 == of => return (parts, Ok(finished)),
            EngineEvent::Failed { id, code, .. } if id.0 == of => return (parts, Err(code)),
            EngineEvent::Delta { .. } | EngineEvent::Finished(_) | EngineEvent::Prefill { .. } => {}
            event => panic!("unexpected {event:?}"),
        }
    }
}

fn score(engine: &mut Engine, request: Score) -> (Vec<Vec<Likelihood>>, Finished) {
    let (id, count) = (request.id.0, request.parts.len());
    engine.send(&Command::Score(Box::new(request)));
    let (parts, end) = outcome(engine, id);
    assert_eq!(parts.len(), count);
    (parts, end.unwrap())
}

fn sums(likelihoods: &[Likelihood]) -> Vec<f64> {
    likelihoods.iter().map(|l| l.log_probability).collect()
}

/// Equal but for last digits, which are large of what is unlikely: weights have four bits.
fn assert_near(one: f64, other: f64) {
    let tolerance = 0.1 + 0.05 * one.abs();
    assert!((one - other).abs() < tolerance, "{one} {other}");
}

#[test]
fn sure_things_are_likelier_and_greedy_is_what_is_said() {
    for model in [test_model(), sliding_model()] {
        let mut engine = start(&model, &load());
        let questions = [
            ("The capital of France is", [" Paris", " Berlin", " seven"]),
            ("One, two, three, four,", [" five", " London", " nine"]),
            ("The opposite of hot is", [" cold", " seventeen", " Paris"]),
        ];
        let parts = questions.map(|(prompt, answers)| part(prompt, &answers));
        let (likelihoods, _) = score(&mut engine, request(1, parts.to_vec()));
        for (likelihoods, (prompt, _)) in likelihoods.iter().zip(questions) {
            let sums = sums(likelihoods);
            assert!(sums[0] > sums[1].max(sums[2]), "{prompt} {sums:?}");
        }
        let prompt = "One, two, three, four,";
        let said = engine.ask(complete(2, prompt, 6)).text;
        let (likelihoods, _) = score(
            &mut engine,
            request(3, vec![part(prompt, &[&said, " nine"])]),
        );
        assert!(likelihoods[0][0].greedy, "{said:?} {likelihoods:?}");
        assert!(!likelihoods[0][1].greedy);
    }
}

/// The product rule: what is told of many words at once is what is told of each word behind those
/// before it.
#[test]
fn a_likelihood_is_that_of_each_token_behind_those_before() {
    let words = [
        " the", " dog", " slept", " and", " the", " moon", " shone", " over", " Berlin", ",",
        " Europe", " and", " a", " banana",
    ];
    for model in [test_model(), sliding_model()] {
        let mut engine = start(&model, &load());
        let beginning = "While the cat sat on the mat,";
        let whole = words.concat();
        let mut asked = request(1, vec![part(beginning, &[&whole])]);
        asked.single_tokens = true;
        let (likelihoods, finished) = score(&mut engine, asked);
        let told = &likelihoods[0][0];
        let single = told.token_log_probabilities.clone().unwrap();
        assert_eq!(single.len(), words.len(), "each word is a token");
        assert_eq!(told.tokens as usize, words.len());
        let sum: f64 = single.iter().map(|each| f64::from(*each)).sum();
        assert!((sum - told.log_probability).abs() < 1e-3);
        assert_eq!(
            finished.prompt_tokens - finished.cached_tokens,
            finished.prompt_tokens - 1
        );
        let mut before = beginning.to_owned();
        for (id, (word, told)) in (2..).zip(words.iter().zip(single)) {
            let (likelihoods, _) = score(&mut engine, request(id, vec![part(&before, &[word])]));
            assert_near(likelihoods[0][0].log_probability, told.into());
            before += word;
        }
    }
}

#[test]
fn company_and_order_change_nothing() {
    let endings = [
        " Paris, the city of light",
        " Paris, the city of love",
        " Paris",
        " a",
        " Lyon and nothing else in the whole wide world",
    ];
    for model in [test_model(), sliding_model()] {
        let mut engine = start(&model, &load());
        let prompt = "Everybody knows that the capital of France is";
        let (together, shared) = score(&mut engine, request(1, vec![part(prompt, &endings)]));
        let mut turned = endings;
        turned.reverse();
        let (other_way, _) = score(&mut engine, request(2, vec![part(prompt, &turned)]));
        for (one, other) in together[0].iter().zip(other_way[0].iter().rev()) {
            assert_eq!(one, other, "to the last digit");
        }
        let mut computed = 0;
        for (id, (ending, told)) in (3..).zip(endings.iter().zip(&together[0])) {
            let (alone, finished) = score(&mut engine, request(id, vec![part(prompt, &[ending])]));
            assert_near(alone[0][0].log_probability, told.log_probability);
            assert_eq!(alone[0][0].tokens, told.tokens);
            computed += finished.prompt_tokens - finished.cached_tokens;
        }
        let read = shared.prompt_tokens - shared.cached_tokens;
        assert!(read * 2 < computed, "{read} {computed}");
        assert_eq!(together[0][0].tokens, together[0][1].tokens);
    }
}

#[test]
fn prompts_share_what_they_begin_with_also_beyond_a_window() {
    for (model, sentences) in [(test_model(), 40), (sliding_model(), 60)] {
        let mut engine = start(&model, &load());
        let story =
            "She walked along the harbour and counted the boats one by one. ".repeat(sentences);
        let questions = [
            format!("{story}\nShe walked along the"),
            format!("{story}\nWhat she counted were the"),
        ];
        let answers = [" harbour", " boats", " elephants"];
        let parts: Vec<_> = questions.iter().map(|q| part(q, &answers)).collect();
        let (together, finished) = score(&mut engine, request(1, parts.clone()));
        assert!(
            finished.cached_tokens * 5 > finished.prompt_tokens * 2,
            "{finished:?}"
        );
        assert!(sums(&together[0])[0] > sums(&together[0])[2]);
        assert!(sums(&together[1])[1] > sums(&together[1])[2]);
        for (id, (asked, told)) in (2..).zip(parts.into_iter().zip(&together)) {
            let (alone, _) = score(&mut engine, request(id, vec![asked]));
            for (one, other) in sums(&alone[0]).iter().zip(sums(told)) {
                assert_near(*one, other);
            }
        }
    }
}

#[test]
fn an_answer_ends_where_it_is_whole() {
    let mut engine = start(&test_model(), &load());
    let question = ChatMessage {
        role: Role::User,
        content: "What is 2+2?".to_owned(),
    };
    let prompt = Prompt::Chat(vec![question]);
    let mut answered = complete(1, "", 64);
    answered.prompt = prompt.clone();
    let said = engine.ask(answered).text;
    let half = said.split_once(" is ").map_or("", |(half, _)| half);
    let continuations = [&said, half, "<|im_end|>"].map(str::to_owned).to_vec();
    let mut asked = request(
        2,
        vec![ScorePart {
            prompt,
            continuations,
        }],
    );
    asked.ends = true;
    let (likelihoods, _) = score(&mut engine, asked);
    let [whole, half, control] = &likelihoods[0][..] else {
        panic!("{likelihoods:?}");
    };
    assert!(whole.greedy && half.greedy, "{whole:?} {half:?}");
    assert!(
        whole.end.unwrap() > half.end.unwrap() + 5.0,
        "{whole:?} {half:?}"
    );
    assert!(
        control.tokens > 3,
        "text, and no control token: {control:?}"
    );
}

#[test]
fn what_was_read_serves_its_owner_alone_and_spoils_no_answer() {
    let story = "Clara walked along the harbour and counted the boats one by one. ".repeat(12);
    for model in [test_model(), sliding_model()] {
        let mut engine = start(&model, &load());
        let prompt = format!("{story}\nThe capital of France is");
        let fresh = engine.ask(complete(1, &prompt, 8)).text;
        let asked = |id, owner| {
            let mut asked = request(id, vec![part(&prompt, &[" Paris", " Berlin"])]);
            asked.cache_owner = owner;
            asked
        };
        let (first, cold) = score(&mut engine, asked(2, Some(OWNER)));
        let (again, warm) = score(&mut engine, asked(3, Some(OWNER)));
        assert!(warm.cached_tokens > cold.cached_tokens + 60, "{warm:?}");
        assert_eq!(first, again, "to the last digit");
        let mut question = complete(4, &prompt, 8);
        question.cache_owner = Some(OWNER);
        let answer = engine.ask(question);
        assert!(answer.finished().cached_tokens > 60);
        assert_eq!(answer.text, fresh);
        for (id, owner) in [(5, Some(OWNER + 1)), (6, None)] {
            let (other, finished) = score(&mut engine, asked(id, owner));
            assert_eq!(finished.cached_tokens, cold.cached_tokens, "{owner:?}");
            assert_eq!(first, other);
        }
    }
}

#[test]
fn a_cancel_ends_it_in_the_middle_and_answers_go_on() {
    let mut engine = start(&test_model(), &load());
    let alone = engine.ask(complete(1, "The capital of France is", 12)).text;
    let many: Vec<String> = (0..200)
        .map(|n| format!(" {n}{}", " and on".repeat(30)))
        .collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let long = vec![part("They went on", &many)];
    engine.send(&Command::Score(Box::new(request(2, long.clone()))));
    let beside = engine.ask(complete(3, "The capital of France is", 12));
    assert_eq!(beside.text, alone);
    engine.send(&Command::Cancel { id: RequestId(2) });
    assert_eq!(
        outcome(&mut engine, 2),
        (Vec::new(), Err(FailureCode::Cancelled))
    );
    // Idle, and as good as new.
    let idle = |event: &EngineEvent| matches!(event, EngineEvent::Heartbeat { working: false, .. });
    while !idle(&engine.next().unwrap()) {}
    assert_eq!(
        engine.ask(complete(4, "The capital of France is", 12)).text,
        alone
    );
    for id in 5..=7 {
        engine.send(&Command::Score(Box::new(request(id, long.clone()))));
    }
    assert_eq!(outcome(&mut engine, 7).1, Err(FailureCode::Overcommitted));
}

#[test]
fn what_can_t_be_told_fails_with_a_reason() {
    let mut engine = start(&test_model(), &load());
    let long = " word".repeat(2100);
    let endless = "x".repeat(1 << 20);
    let too_long = ScoreFailure::TooLong { part: 1 };
    for (id, (prompt, continuation, expected)) in (1..).zip([
        (long.as_str(), " a", too_long),
        ("a", long.as_str(), too_long),
        (&endless, " a", too_long),
        ("a", &endless, too_long),
        ("", " a", ScoreFailure::Empty { part: 1 }),
        ("a", "", ScoreFailure::Empty { part: 1 }),
    ]) {
        let parts = vec![part("a", &["b"]), part(prompt, &["b", continuation])];
        engine.send(&Command::Score(Box::new(request(id, parts))));
        let expected = FailureCode::Score(expected);
        assert_eq!(outcome(&mut engine, id), (Vec::new(), Err(expected)));
    }
    let words = " word".repeat(SINGLE_TOKENS_MAX / 2);
    let mut singly = request(7, vec![part("a", &[&words, &words, " a"])]);
    singly.single_tokens = true;
    engine.send(&Command::Score(Box::new(singly)));
    let expected = FailureCode::Score(ScoreFailure::TooManyTokens { part: 0 });
    assert_eq!(outcome(&mut engine, 7).1, Err(expected));
    // One that just fits.
    let prompt = " word".repeat(2000);
    let (likelihoods, _) = score(&mut engine, request(8, vec![part(&prompt, &[" word"])]));
    assert_eq!(likelihoods[0][0].tokens, 1);
}
