//! Whom a pronoun means, as a language model is asked. Pure.
//!
//! As in Brown et al. 2020, "Language models are few-shot learners", section 6.1: behind the sentence it
//! says that the pronoun "refers to", and how likely either person is there is compared.

use super::question::Question;

/// Pronouns of all three genders in all cases, by gender.
const PRONOUNS: [&[&str]; 3] = [
    &["he", "him", "his", "himself"],
    &["she", "her", "hers", "herself"],
    &["they", "them", "their", "theirs", "themself", "themselves"],
];

/// Whether it is a pronoun that means a person.
pub(super) fn is_pronoun(word: &str) -> bool {
    PRONOUNS.iter().any(|gender| is_one_of(gender, word))
}

fn is_one_of(pronouns: &[&str], word: &str) -> bool {
    pronouns
        .iter()
        .any(|pronoun| pronoun.eq_ignore_ascii_case(word))
}

/// A sentence's first pronoun of a gender: 0 is male, 1 female, 2 neutral.
pub(super) fn pronoun(sentence: &str, gender: usize) -> Option<&str> {
    let mut words = sentence.split(|letter: char| !letter.is_alphabetic());
    words.find(|word| PRONOUNS.get(gender).is_some_and(|all| is_one_of(all, word)))
}

/// The question whom the pronoun means.
pub(super) fn question(sentence: &str, pronoun: &str, people: &[&str; 2]) -> Question {
    let mut letters = pronoun.chars();
    let first = letters
        .next()
        .map(|letter| letter.to_uppercase().to_string());
    let asked = format!(
        "\"{}{}\" refers to",
        first.unwrap_or_default(),
        letters.as_str()
    );
    Question {
        prompts: vec![format!("{sentence}\n{asked}")],
        premise: asked,
        answers: people.map(|person| format!(" {person}")).to_vec(),
    }
}
