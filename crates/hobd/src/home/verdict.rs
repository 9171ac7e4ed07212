//! What speaks for a call once its arguments are known: how much of what was said it explains.

use hob_api::home::Aid;

use super::arguments::{Filled, Source};
use super::evidence::{Comparison, EXPLAINED};
use super::heard::HeardWord;
use super::lexicon;
use super::reading::Pair;
use crate::providers::{CallError, Parameter, Tool, ValidCall};

/// Of each argument that was said.
const ARGUMENT: f64 = 1.5;
/// Against a tool that must have an argument which was not said.
const MISSING: f64 = -3.0;
/// How much a word counts that nobody knows, beside the rarity of those that are known.
const UNKNOWN: f64 = 2.5;
/// How much a word counts that the lexicon alone knows, and the least that any counts.
const KNOWN: f64 = 1.0;
const LEAST: f64 = 0.5;
/// Below this part of what was said, what is explained is too little for a call.
const COVERAGE_MIN: f64 = 0.5;
/// The same for a tool that acts on no target, of which nothing but its examples is known.
const BARE_COVERAGE_MIN: f64 = 0.25;
/// The same for a tool that could do harm.
const CAREFUL_COVERAGE_MIN: f64 = 0.65;
/// What is left of the coverage if words are unexplained and the name has others in their place.
const OTHER_NAME: f64 = 0.7;
/// The same if words of the name were not said.
const UNSAID_NAME: f64 = 0.9;
/// The same if what is unexplained is in names of others.
const OF_OTHERS: f64 = 0.8;
/// The same if it stands right before what names the thing, and so says which: a cooling kitchen fan
/// is not the kitchen fan.
const SAYS_WHICH: f64 = 0.5;

/// What there is to say of a pair once its arguments are known.
pub(super) struct Verdict {
    /// What the arguments say for it, as a logarithm.
    pub(super) arguments: f64,
    pub(super) call: Result<ValidCall, CallError>,
    pub(super) tool: usize,
    pub(super) targets: Vec<usize>,
    /// Enough of what was said is explained.
    pub(super) covered: bool,
    /// How much of it, from 0 to 1.
    pub(super) sure: f64,
    /// Something was said that the tool does.
    pub(super) acts: bool,
    /// The targets were named.
    pub(super) named: bool,
}

pub(super) fn judge(comparison: &Comparison<'_>, text: &str, pair: &Pair) -> Verdict {
    let provider = comparison.provider;
    let tool = &provider.tools()[pair.tool];
    let target = match pair.targets.as_slice() {
        [one] => Some(&provider.targets()[*one]),
        _ => None,
    };
    let filled = Source {
        text,
        heard: comparison.heard,
        named: &pair.explains,
        target,
    }
    .fill(tool);
    let Coverage { part, acts } = Coverage::new(comparison, pair, &filled);
    #[allow(clippy::cast_precision_loss, reason = "at most 16")]
    let found = filled.arguments.len() as f64;
    let missing = |p: &&Parameter| p.required && !filled.arguments.contains_key(&p.name);
    let missing = tool.parameters().iter().filter(missing).count();
    let counts = comparison.options.uses(Aid::Unexplained);
    let call = ValidCall::new(provider, pair.tool, pair.targets.clone(), filled.arguments);
    Verdict {
        arguments: match (missing, &filled.beyond) {
            (0, _) => ARGUMENT * found,
            (_, Some(_)) => 0.0,
            (_, None) => MISSING,
        },
        call: match (call, filled.beyond) {
            (Err(CallError::Missing(_)), Some(beyond)) => Err(beyond),
            (call, _) => call,
        },
        tool: pair.tool,
        targets: pair.targets.clone(),
        covered: !counts || part >= least(tool),
        sure: match (counts, tool.acts_on().is_none()) {
            (false, _) => 1.0,
            (true, true) => part.sqrt(),
            (true, false) => part * part,
        },
        acts,
        named: pair.named,
    }
}

/// The least part of what was said that a call of the tool must explain.
fn least(tool: &Tool) -> f64 {
    match (tool.needs_confirmation(), tool.acts_on().is_none()) {
        (true, _) => CAREFUL_COVERAGE_MIN,
        (false, true) => BARE_COVERAGE_MIN,
        (false, false) => COVERAGE_MIN,
    }
}

/// How much of what was said a call explains.
struct Coverage {
    /// The part, from 0 to 1; less if what is left may name another thing.
    part: f64,
    /// Something was said that the tool does.
    acts: bool,
}

impl Coverage {
    fn new(comparison: &Comparison<'_>, pair: &Pair, filled: &Filled) -> Self {
        let does = comparison.index.profile.meanings(pair.tool);
        let (mut explained, mut said) = (0.0, 0.0);
        let (mut acts, mut foreign, mut of_others, mut more) = (false, false, false, false);
        let mut says_which = false;
        for (place, word) in comparison.heard.words.iter().enumerate() {
            if word.filler {
                continue;
            }
            let known = comparison.knows(pair.tool, word) || word.meanings.meets(does);
            acts |= known || filled.explains[place];
            let begins = said <= 0.0;
            let weight = comparison.weight(word);
            said += weight;
            if known || pair.explains[place] || filled.explains[place] {
                explained += weight;
            } else {
                foreign = true;
                more |= asks_more(word);
                // What it begins with is a verb.
                says_which |= !begins && pair.explains.get(place + 1).is_some_and(|next| *next);
                let mut matches = word.matches.iter();
                of_others |= matches.any(|(_, strength)| *strength >= EXPLAINED);
            }
        }
        let mut part = if said > 0.0 { explained / said } else { 0.0 };
        // Who names one by other words than its own means another, which is not there; and what
        // others are called by, or the rest of its own name, may name another.
        let doubts = [
            (more, COVERAGE_MIN),
            (of_others, OF_OTHERS),
            (pair.unsaid, UNSAID_NAME),
            (says_which, SAYS_WHICH),
            (foreign && !pair.specific, COVERAGE_MIN),
            (foreign && pair.specific && pair.unsaid, OTHER_NAME),
        ];
        for (_, left) in doubts.iter().filter(|(doubtful, _)| *doubtful) {
            part *= left;
        }
        Self { part, acts }
    }
}

/// Whether a word says how something is to be, which is not done by a call that leaves it out.
fn asks_more(word: &HeardWord) -> bool {
    let number = word.word.folded.starts_with(|c: char| c.is_ascii_digit());
    word.matches.is_empty() && (number || lexicon::colour(&word.word.stem).is_some())
}

impl Comparison<'_> {
    /// How much a word counts.
    pub(super) fn weight(&self, word: &HeardWord) -> f64 {
        let known = word.matches.iter().map(|(id, _)| self.rarity(*id));
        if let Some(weight) = known.max_by(f64::total_cmp) {
            return weight;
        }
        let knowing = self.knowing(word);
        if knowing > 0 {
            return self.tool_rarity(knowing);
        }
        let understood =
            !word.meanings.is_empty() || word.families != 0 || lexicon::is_all(&word.word.folded);
        if understood { KNOWN } else { UNKNOWN }
    }

    /// How rare a word is that so many tools know.
    fn tool_rarity(&self, knowing: usize) -> f64 {
        #[allow(clippy::cast_precision_loss, reason = "at most 64")]
        let (all, knowing) = (self.provider.tools().len() as f64, knowing as f64);
        ((all + 1.0) / (knowing + 0.5)).ln().max(LEAST)
    }

    /// How much a word says for a tool that acts on no target: the more, the fewer tools know it.
    pub(super) fn weight_for(&self, tool: usize, word: &HeardWord) -> f64 {
        if word.filler || !self.knows(tool, word) {
            return 0.0;
        }
        self.tool_rarity(self.knowing(word))
    }
}
