//! The calls that an utterance may mean, for whoever chooses among them.

use super::evidence::Comparison;
use super::heard::Heard;
use super::index::Index;
use super::reading::{pairs, targets};
use super::verdict::judge;
use super::{Options, clauses};
use crate::decode::Likely;
use crate::providers::Provider;

/// At most so many calls of each command, the likeliest first, one command after another; and how
/// many commands there are. Whether any of them is meant at all is not asked.
pub fn shortlist(
    provider: &Provider,
    index: &Index,
    text: &str,
    options: &Options,
    most: usize,
) -> (Vec<Likely>, usize) {
    let clauses = clauses::split(text, index, options);
    let each = most.div_ceil(clauses.len().max(1));
    let likely = clauses.iter().flat_map(|clause| {
        let heard = Heard::new(clause, index, options);
        let comparison = Comparison::new(provider, index, &heard, options);
        let (fits, group) = targets(&comparison);
        let mut pairs = pairs(&comparison, &fits, group.as_ref());
        // Who names a thing does not mean the others of its kind.
        let by_name = pairs.iter().any(|p| p.specific && !p.targets.is_empty());
        pairs.truncate(each);
        let likely = pairs.into_iter().map(|pair| Likely {
            call: judge(&comparison, clause, &pair).call.ok(),
            tool: pair.tool,
            named: if by_name { pair.specific } else { pair.named },
            targets: pair.targets,
        });
        likely.collect::<Vec<_>>()
    });
    let mut likely: Vec<Likely> = likely.collect();
    likely.truncate(most);
    (likely, clauses.len())
}
