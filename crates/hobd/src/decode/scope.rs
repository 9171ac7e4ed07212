//! How much of a home an answer may be about: all of it, or what the words of an utterance suggest.

use std::collections::BTreeSet;

use super::prompt::seen;
use crate::providers::{Provider, Tool, ValidCall};

/// Most calls that an utterance is narrowed to.
pub const SHORTLIST_MAX: usize = 8;
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
    /// Whether the targets were named, or their kind and nothing else by name; or it has none.
    pub named: bool,
    /// The whole of it, if all arguments that it must have were found.
    pub call: Option<ValidCall>,
}

/// What an answer may be about.
#[derive(Clone, Debug, PartialEq)]
pub struct Scope {
    pub(super) tools: BTreeSet<usize>,
    pub(super) targets: BTreeSet<usize>,
    /// Which tool may act on which target; `None` for each on whatever it acts on.
    pairs: Option<BTreeSet<(usize, usize)>>,
    /// Which tool may act on which group, by its targets; `None` for each on any.
    groups: Option<BTreeSet<(usize, Vec<usize>)>>,
    /// Arguments that a call need not have and may have, by tool; `None` for all.
    pub(super) optional: Option<BTreeSet<(usize, String)>>,
    /// What texts as arguments are part of; `None` for any.
    pub(super) words: Option<String>,
    /// Most calls, from 1.
    pub(super) calls: usize,
    /// Most targets that a call names one by one, from 1.
    pub(super) listed: usize,
}

impl Scope {
    /// Everything.
    pub(super) fn whole(provider: &Provider) -> Self {
        Self {
            tools: (0..provider.tools().len()).collect(),
            targets: (0..provider.targets().len()).collect(),
            pairs: None,
            groups: None,
            optional: None,
            words: None,
            calls: CALLS_MAX,
            listed: LISTED_MAX,
        }
    }

    /// What an utterance of so many commands suggests: the tools of `likely` on their targets, with the
    /// arguments of which something was said.
    pub fn narrow(likely: &[Likely], text: &str, commands: usize) -> Self {
        let mut scope = Self {
            tools: BTreeSet::new(),
            targets: BTreeSet::new(),
            pairs: Some(BTreeSet::new()),
            groups: Some(BTreeSet::new()),
            optional: Some(BTreeSet::new()),
            words: Some(spoken(text)),
            calls: commands.clamp(1, CALLS_MAX),
            listed: 1,
        };
        for one in likely {
            scope.tools.insert(one.tool);
            scope.targets.extend(&one.targets);
            let pairs = scope.pairs.get_or_insert_default();
            pairs.extend(one.targets.iter().map(|target| (one.tool, *target)));
            if one.targets.len() > 1 {
                let mut sorted = one.targets.clone();
                sorted.sort_unstable();
                scope.listed = scope.listed.max(sorted.len().min(LISTED_MAX));
                let groups = scope.groups.get_or_insert_default();
                groups.insert((one.tool, sorted));
            }
            let arguments = one.call.iter().flat_map(|call| call.arguments().keys());
            let optional = scope.optional.get_or_insert_default();
            optional.extend(arguments.map(|name| (one.tool, name.clone())));
        }
        scope
    }

    /// What may follow from the results of calls: those of `likely` that act on something that was
    /// spoken of, and that nobody need confirm. A hub's words get no more done, nor anybody asked.
    pub fn further(provider: &Provider, likely: Vec<Likely>, text: &str) -> Self {
        let follows = |one: &Likely| {
            let tool = provider.tools().get(one.tool);
            one.named && !one.targets.is_empty() && !tool.is_none_or(Tool::needs_confirmation)
        };
        let likely: Vec<Likely> = likely.into_iter().filter(follows).collect();
        Self::narrow(&likely, text, CALLS_MAX)
    }

    /// Whether no call is about it.
    pub fn is_empty(&self) -> bool {
        self.tools.is_empty()
    }

    /// Whether a tool that acts on a target may do so.
    pub(super) fn pairs(&self, tool: usize, target: usize) -> bool {
        let pairs = self.pairs.as_ref();
        pairs.is_none_or(|pairs| pairs.contains(&(tool, target)))
    }

    /// Whether a call of a tool may have an argument that it need not have.
    pub(super) fn allows(&self, tool: usize, argument: &str) -> bool {
        let optional = self.optional.as_ref();
        optional.is_none_or(|all| all.contains(&(tool, argument.to_owned())))
    }

    /// Whether a call is about nothing else.
    pub(super) fn has(&self, call: &ValidCall) -> bool {
        let tool = call.tool();
        let mut targets = call.targets().iter();
        self.tools.contains(&tool)
            && targets.all(|at| self.targets.contains(at) && self.pairs(tool, *at))
    }

    /// Whether a tool may act on a group of these targets; `None` for any tool.
    pub(super) fn has_group(&self, tool: Option<usize>, targets: &[usize]) -> bool {
        let meant = |(by, of): &(usize, Vec<usize>)| of == targets && tool.is_none_or(|t| t == *by);
        let groups = self.groups.as_ref();
        groups.is_none_or(|groups| groups.iter().any(meant))
    }
}

/// What was said without what would end an argument, or what nobody sees.
fn spoken(text: &str) -> String {
    seen(text).replace(['"', '\\'], " ")
}
