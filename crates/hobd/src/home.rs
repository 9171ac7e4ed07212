//! From what somebody says to a call that exists.
//!
//! ```text
//! text ─► clauses ─► heard ─► evidence for targets ┐
//!                       └───► evidence for tools ──┴► candidates ─► arguments ─► outcome
//! ```
//!
//! No model takes part: the words of a provider's own names and examples say which tool and which
//! target are meant, and rare words say more than common ones. A candidate is a
//! [`ValidCall`](crate::providers::ValidCall), so that what is answered exists whatever was said.
//! All of it is pure; [`Index`] is what a provider's words say, computed once when it is registered.
//!
//! `words` makes text comparable, `inflection` knows forms of verbs, `lexicon` common words,
//! `synonyms` both languages' names of rooms, `numbers` finds quantities, `clauses` parts several
//! commands; `index` and `profile` are the provider's side, `heard` the utterance's, `matches` says
//! which of one's words are the other's, `evidence` compares both, `groups` finds several targets at
//! once, `arguments` fills in the schema, `verdict` says how much a call explains, `question` tells what is asked from what is to be done, `asked` answers that from what
//! `states` say,
//! `reading` decides, `relative` helps where nothing was named, and `answer` speaks for several providers. `language` tells in which language a
//! reply is understood.

mod answer;
mod arguments;
mod asked;
mod clauses;
mod evidence;
mod groups;
mod heard;
mod index;
mod inflection;
mod language;
mod lexicon;
mod matches;
mod numbers;
mod profile;
mod question;
mod reading;
mod relative;
mod shortlist;
mod states;
mod synonyms;
#[cfg(test)]
mod tests;
mod verdict;
mod words;

use std::collections::BTreeSet;

use hob_api::home::Aid;

pub use self::answer::{answer, cut, nearest, written};
pub use self::asked::Asked;
pub use self::index::Index;
pub use self::language::language;
pub use self::reading::{Candidate, Limit, MIN_PROBABILITY, Reading, is_too_long, read};
pub use self::shortlist::shortlist;
pub use self::states::STATE;

/// How an utterance is to be read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// The room in which it was said.
    pub area: Option<String>,
    /// Aids that are left out.
    pub without: BTreeSet<Aid>,
    /// The least probability of a call; `None` for [`MIN_PROBABILITY`].
    pub min_probability: Option<f64>,
}

/// The words of a text in lower case of ASCII, without accents and marks.
pub fn folded(text: &str) -> Vec<String> {
    let words = words::words(text, false).into_iter();
    words.map(|word| word.folded).collect()
}

impl Options {
    fn uses(&self, aid: Aid) -> bool {
        !self.without.contains(&aid)
    }
}
