//! What a model that is made says of what it was made of: its file briefly, its manifest all.

use hob_models::Sha256;
use hob_models::gguf::Descent;
use hob_models::store::{Lineage, OpenModel};

use super::cutting::Cutting;

/// What a model of which `lineage` is known is to those that are made of it.
pub(super) fn of(open: &OpenModel, lineage: Option<&Lineage>) -> Descent {
    let further = lineage.into_iter().flat_map(Lineage::ancestors);
    Descent {
        source: open.name.clone(),
        source_sha256: open.sha256,
        further_sha256: further.copied().collect(),
    }
}

/// What was `done` to a model, which was itself made as `before_that` says.
pub(super) fn lineage(
    descent: &Descent,
    before_that: Option<Lineage>,
    done: Vec<String>,
    corpus: Option<Sha256>,
    [before, after]: [&Cutting; 2],
) -> Lineage {
    let mut steps = before_that.map_or(Vec::new(), |lineage| lineage.steps);
    steps.extend(done);
    Lineage {
        source: descent.source.clone(),
        source_sha256: descent.source_sha256,
        further_sha256: descent.further_sha256.clone(),
        steps,
        corpus_sha256: corpus,
        corpus_bytes: corpus.map(|_| before.bytes()),
        corpus_tokens_before: corpus.map(|_| before.tokens()),
        corpus_tokens: corpus.map(|_| after.tokens()),
        loss: None,
    }
}
