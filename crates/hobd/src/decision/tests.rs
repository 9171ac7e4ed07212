use std::time::Duration;

use hob_api::chat::Class;
use proptest::prelude::*;

use super::*;
use crate::request::Caller;

fn deciding(questions: &[(&str, Question)]) -> ValidDecision {
    let questions = questions.iter().cloned();
    ValidDecision {
        caller: Caller { uid: 7 },
        model: None,
        state: "It rains.".to_owned(),
        questions: questions
            .map(|(id, question)| (id.to_owned(), question))
            .collect(),
        timeout: Duration::from_secs(1),
        class: Class::Chat,
        cache: true,
        keep_alive: None,
    }
}

fn choice(options: &[&str]) -> Question {
    Question::Choice {
        instructions: "Which?".to_owned(),
        criteria: options
            .iter()
            .map(|name| ((*name).to_owned(), None))
            .collect(),
    }
}

fn likelihood(log_probability: f64) -> Likelihood {
    Likelihood {
        log_probability,
        tokens: 1,
        greedy: false,
        end: None,
        token_log_probabilities: None,
    }
}

fn text(part: &ScorePart) -> &str {
    match &part.prompt {
        Prompt::Chat(messages) => &messages[0].content,
        Prompt::Text(text) => text,
        Prompt::Dialogue(_) => panic!("a decision has words alone"),
    }
}

#[test]
fn every_option_stands_in_every_place_once() {
    let (_, parts) = Plan::new(&deciding(&[("q", choice(&["a", "b", "c"]))]), true);
    assert_eq!(parts.len(), 8, "with the state and without");
    let order = |part: &ScorePart| -> String {
        let lines = text(part).lines();
        lines.filter_map(|line| line.strip_prefix("- ")).collect()
    };
    let orders: Vec<_> = parts.iter().map(order).collect();
    assert_eq!(orders, ["abc", "bca", "cab", "", "abc", "bca", "cab", ""]);
    for (number, part) in parts.iter().enumerate() {
        let state = if number < 4 { "It rains.\n" } else { NO_STATE };
        assert!(text(part).starts_with(state), "the state first");
        assert_eq!(part.continuations, ["a", "b", "c"], "in their own order");
    }
    let names: Vec<String> = (0..64).map(|n| format!("option {n:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (_, parts) = Plan::new(&deciding(&[("q", choice(&names))]), false);
    assert_eq!(parts.len(), 2 * (ORDERS_MAX + 1));
    assert_eq!(parts[0].continuations[63], " option 63");
}

#[test]
fn each_type_has_its_answer() {
    let noul = Question::Noul {
        instructions: "Wet?".to_owned(),
        criteria: None,
    };
    let score = Question::Score {
        instructions: "How wet?".to_owned(),
        criteria: vec!["dry".to_owned(), "damp".to_owned(), "wet".to_owned()],
    };
    let asked = [("a", choice(&["x", "y"])), ("b", noul), ("c", score)];
    let (plan, parts) = Plan::new(&deciding(&asked), true);
    let told = parts.iter().map(|part| {
        let known = !text(part).starts_with(NO_STATE);
        match part.continuations.len() {
            // The state makes the first four times as likely, against what is said without it.
            2 if known => vec![likelihood(-3.0 + 4.0_f64.ln()), likelihood(-1.0)],
            2 => vec![likelihood(-3.0), likelihood(-1.0)],
            _ => vec![likelihood(-5.0), likelihood(-1.0), likelihood(-9.0)],
        }
    });
    let told: Vec<_> = told.collect();
    let answers = plan.answers(told);
    let near = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-9, "{found}");
    let Answer::Choice {
        choice,
        probabilities,
        confidence,
    } = &answers["a"]
    else {
        panic!("{answers:?}");
    };
    assert_eq!(choice, "x");
    near(probabilities["x"], 0.8);
    near(*confidence, 0.6);
    let Answer::Noul { noul } = answers["b"] else {
        panic!("{answers:?}");
    };
    near(noul, 0.8);
    let Answer::Score {
        score,
        legend,
        confidence,
        ..
    } = &answers["c"]
    else {
        panic!("{answers:?}");
    };
    near(*score, 1.0);
    assert_eq!(legend["2"], "wet");
    assert!(*confidence < 0.5, "{confidence}");
}

/// A model that favours whatever is shown first.
fn biased(parts: &[ScorePart], merits: &[f64]) -> Vec<Vec<Likelihood>> {
    let each = parts.iter().map(|part| {
        let shown: Vec<&str> = text(part)
            .lines()
            .filter_map(|l| l.strip_prefix("- "))
            .collect();
        let options = part.continuations.iter().zip(merits);
        let known = !text(part).starts_with(NO_STATE);
        let each = options.map(|(said, merit)| {
            let place = shown.iter().position(|shown| *shown == said.trim());
            let place = place.map_or(0.0, as_f64);
            // The state makes a good place still better.
            likelihood(if known { merit - 2.0 * place } else { -place })
        });
        each.collect()
    });
    each.collect()
}

#[test]
fn a_favourite_place_does_not_decide() {
    let (plan, parts) = Plan::new(&deciding(&[("q", choice(&["a", "b", "c"]))]), true);
    let told = biased(&parts, &[-1.0, -1.0, -1.0]);
    assert!(told[0][0].log_probability > told[0][2].log_probability + 3.0);
    let Answer::Choice { probabilities, .. } = &plan.answers(told)["q"] else {
        panic!("another type");
    };
    for probability in probabilities.values() {
        assert!((probability - 1.0 / 3.0).abs() < 1e-9, "{probabilities:?}");
    }
}

proptest! {
    #[test]
    fn probabilities_are_probabilities(
        merits in proptest::collection::vec(-1000.0..0.0_f64, 1..64),
    ) {
        let names: Vec<String> = (0..merits.len()).map(|n| format!("{n:02}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let (plan, parts) = Plan::new(&deciding(&[("q", choice(&names))]), true);
        let answers = plan.answers(biased(&parts, &merits));
        let Answer::Choice { choice, probabilities, confidence } = &answers["q"] else {
            panic!("another type");
        };
        let sum: f64 = probabilities.values().sum();
        prop_assert!((sum - 1.0).abs() < 1e-9);
        prop_assert!(probabilities.values().all(|p| (0.0..=1.0).contains(p)));
        prop_assert!((0.0..=1.0).contains(confidence));
        let highest = probabilities.values().copied().fold(0.0, f64::max);
        prop_assert!((probabilities[choice] - highest).abs() < 1e-12);
    }
}
