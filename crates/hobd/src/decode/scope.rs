//! How much of a home an answer may be about: all of it, or what the words of an utterance suggest.

use std::collections::BTreeSet;

use super::prompt::seen;
use crate::providers::{Provider, ValidCall};

/// Most calls that an utterance is narrowed to.
pub const SHORTLIST_MAX: usize = 12;
/// Most calls of one answer.
pub(super) const CALLS_MAX: usize = 4;
/// Most targets of one call that are named one by one.
pub(super) const LISTED_MAX: usize = 8;

/// A call that the words of an utterance suggest.
#[derive(Clone, Debug, PartialEq)]
pub struct Likely {
    /// The tool's place.
    pub tool: usize,
    /// The targets' places.
    pub targets: Vec<usize>,
    /// The whole of it, if all arguments that it must have were found.
    pub call: Option<ValidCall>,
}

/// What an answer may be about.
#[derive(Clone, Debug, PartialEq)]
pub struct Scope {
    pub(super) tools: BTreeSet<usize>,
    pub(super) targets: BTreeSet<usize>,
    /// Groups by their targets; `None` for all.
    pub(super) groups: Option<BTreeSet<Vec<usize>>>,
    /// Arguments that a call need not have and may have, by tool; `None` for all.
    pub(super) optional: Option<BTreeSet<(usize, String)>>,
    /// What texts as arguments are part of; `None` for any.
    pub(super) words: Option<String>,
    /// Most calls, from 1.
    pub(super) calls: usize,
    /// Most targets that a call names one by one, from 1.
    pub(super) listed: usize,
    /// What suggested it, the likeliest first.
    pub(super) likely: Vec<Likely>,
}

impl Scope {
    /// Everything.
    pub(super) fn whole(provider: &Provider) -> Self {
        Self {
            tools: (0..provider.tools().len()).collect(),
            targets: (0..provider.targets().len()).collect(),
            groups: None,
            optional: None,
            words: None,
            calls: CALLS_MAX,
            listed: LISTED_MAX,
            likely: Vec::new(),
        }
    }

    /// What an utterance of so many commands suggests: the tools and targets of `likely`, each tool
    /// on each target, with the arguments of which something was said.
    pub fn narrow(likely: Vec<Likely>, text: &str, commands: usize) -> Self {
        let mut scope = Self {
            tools: BTreeSet::new(),
            targets: BTreeSet::new(),
            groups: Some(BTreeSet::new()),
            optional: Some(BTreeSet::new()),
            words: Some(spoken(text)),
            calls: commands.clamp(1, CALLS_MAX),
            listed: 1,
            likely: Vec::new(),
        };
        for one in &likely {
            scope.tools.insert(one.tool);
            scope.targets.extend(&one.targets);
            if one.targets.len() > 1 {
                let mut sorted = one.targets.clone();
                sorted.sort_unstable();
                scope.listed = scope.listed.max(sorted.len().min(LISTED_MAX));
                scope.groups.get_or_insert_default().insert(sorted);
            }
            let arguments = one.call.iter().flat_map(|call| call.arguments().keys());
            let optional = scope.optional.get_or_insert_default();
            optional.extend(arguments.map(|name| (one.tool, name.clone())));
        }
        scope.likely = likely;
        scope
    }

    /// Whether a call of a tool may have an argument that it need not have.
    pub(super) fn allows(&self, tool: usize, argument: &str) -> bool {
        let optional = self.optional.as_ref();
        optional.is_none_or(|all| all.contains(&(tool, argument.to_owned())))
    }

    /// Whether an answer may name a group of these targets.
    pub(super) fn has_group(&self, targets: &[usize]) -> bool {
        self.groups.as_ref().is_none_or(|all| all.contains(targets))
    }
}

/// What was said without what would end an argument, or what nobody sees.
fn spoken(text: &str) -> String {
    seen(text).replace(['"', '\\'], " ")
}
