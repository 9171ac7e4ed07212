//! Which weights are stored more coarsely, and whether that makes sense. Pure.

use hob_ipc::quantize::{Block, Scheme};
use hob_models::gguf::{Document, Tensor};

use crate::failure::Failure;

/// The tables with a row for each token.
pub(super) const TABLES: [&str; 2] = ["token_embd.weight", "output.weight"];
/// Weights of fewer bits are not stored anew unless somebody insists: what was rounded away is gone, and
/// rounding what is left once more loses more than storing the original so would.
const BITS_ENOUGH: u64 = 8;

/// What is stored more coarsely.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Quant {
    /// All matrices.
    pub(super) weights: Option<Scheme>,
    /// The tables with a row for each token, after that.
    pub(super) embedding: Option<Scheme>,
}

/// `keep`, a scheme, `embedding=` and a scheme of one type, or the latter two with a comma.
pub(super) fn parse(text: &str) -> Result<Quant, String> {
    let mut quant = Quant::default();
    if text == "keep" {
        return Ok(quant);
    }
    for part in text.split(',') {
        let (place, name) = match part.split_once('=') {
            None => (&mut quant.weights, part),
            Some(("embedding", name)) => (&mut quant.embedding, name),
            Some((other, _)) => return Err(format!("{other}= is none: say embedding=TYPE")),
        };
        let scheme = Scheme::named(name).ok_or_else(|| format!("there is no type {name}"))?;
        if place.replace(scheme).is_some() {
            return Err(format!("{part} is one too many"));
        }
    }
    match quant.embedding {
        Some(scheme) if scheme.as_str() != scheme.block().name => Err(format!(
            "{scheme} mixes types, and the embedding is one matrix: say {}",
            names(tables_schemes())
        )),
        _ => Ok(quant),
    }
}

/// Schemes that have one type.
pub(super) fn tables_schemes() -> impl Iterator<Item = Scheme> {
    let all = Scheme::ALL.into_iter();
    all.filter(|scheme| scheme.as_str() == scheme.block().name)
}

fn names(schemes: impl Iterator<Item = Scheme>) -> String {
    let names: Vec<&str> = schemes.map(Scheme::as_str).collect();
    names.join(", ")
}

/// For `--help`.
pub(super) const LONG_HELP: &str = "How weights are stored: \"keep\", or one of llama.cpp's types, the \
    finest first: Q8_0, Q6_K, Q5_K_M, Q5_K_S, Q5_1, Q5_0, Q4_K_M, Q4_K_S, Q4_1, Q4_0, IQ4_NL, IQ4_XS, \
    Q3_K_L, Q3_K_M, Q3_K_S. \"embedding=Q5_1\" stores the table of tokens alone so, which is up to half of \
    a small model, and \"Q4_K_M,embedding=Q8_0\" both. Weights of fewer than 8 bits are not stored anew \
    without --requantize";

impl Quant {
    /// Whether all stays as it is.
    pub(super) fn is_keep(self) -> bool {
        self == Self::default()
    }

    /// What is done, for a model's lineage.
    pub(super) fn steps(self) -> Vec<String> {
        let weights = self
            .weights
            .map(|scheme| format!("weights stored as {scheme}"));
        let embedding = self.embedding;
        let embedding = embedding.map(|scheme| format!("table of tokens stored as {scheme}"));
        weights.into_iter().chain(embedding).collect()
    }

    /// Whether this can be done with a model, and makes sense unless somebody insists. What should be
    /// known beforehand.
    pub(super) fn check(self, document: &Document, insist: bool) -> Result<Vec<String>, Failure> {
        let mut remarks = Vec::new();
        if let Some(scheme) = self.weights {
            let apart = self.embedding.is_some();
            let matrices = document.tensors().iter().filter(|t| is_matrix(t));
            let matrices = matrices.filter(|tensor| !(apart && is_table(tensor)));
            check(scheme, matrices.collect(), insist)?;
            remarks.extend(rows_remark(scheme, document));
        }
        if let Some(scheme) = self.embedding {
            let tables: Vec<_> = document.tensors().iter().filter(|t| is_table(t)).collect();
            let block = scheme.block();
            let odd = tables
                .iter()
                .find(|table| !row(table).is_multiple_of(block.weights));
            if let Some(table) = odd {
                let fit = tables_schemes().filter(|s| row(table).is_multiple_of(s.block().weights));
                return Err(Failure::usage(format!(
                    "the table of tokens cannot be stored as {scheme}: its rows of {} weights are not \
                     whole blocks of {}",
                    row(table),
                    block.weights
                ))
                .hint(format!("Choose one of {}.", names(fit))));
            }
            check(scheme, tables, insist)?;
        }
        Ok(remarks)
    }
}

fn row(tensor: &Tensor) -> u64 {
    tensor.dimensions()[0]
}

pub(super) fn is_table(tensor: &Tensor) -> bool {
    TABLES.contains(&tensor.name())
}

/// What llama.cpp stores anew (`tensor_allows_quantization`), but for some matrices of architectures that
/// it leaves alone, too.
pub(super) fn is_matrix(tensor: &Tensor) -> bool {
    let name = tensor.name();
    tensor.dimensions().len() >= 2 && name.ends_with("weight") && !name.contains("_norm.weight")
}

/// As what most of a matrix is stored.
fn stored(scheme: Scheme, tensor: &Tensor) -> Block {
    let block = scheme.block();
    let fits = row(tensor).is_multiple_of(block.weights);
    scheme.fallback().filter(|_| !fits).unwrap_or(block)
}

fn check(scheme: Scheme, tensors: Vec<&Tensor>, insist: bool) -> Result<(), Failure> {
    if insist {
        return Ok(());
    }
    let coarse = |tensor: &&&Tensor| tensor.is_quantized() && tensor.bits() < BITS_ENOUGH;
    if let Some(tensor) = tensors.iter().find(coarse) {
        return Err(Failure::usage(format!(
            "`{}` is stored with {} bits a weight already ({}), and would lose more by being stored as \
             {scheme} than the original would",
            tensor.name(),
            tensor.bits(),
            tensor.type_name()
        ))
        .hint(
            "Begin with a finer file of this model, store the table of tokens alone (--quant \
             embedding=Q5_1) or insist with --requantize.",
        ));
    }
    let smaller = |tensor: &&Tensor| {
        let block = stored(scheme, tensor);
        tensor.elements() / block.weights * block.bytes < tensor.bytes()
    };
    if tensors.into_iter().any(|tensor| smaller(&tensor)) {
        return Ok(());
    }
    Err(
        Failure::usage(format!("stored as {scheme} nothing would be smaller"))
            .hint("Choose a coarser type; `hob models show` tells which the model has."),
    )
}

/// That many rows are not whole blocks.
fn rows_remark(scheme: Scheme, document: &Document) -> Option<String> {
    let other = scheme.fallback()?;
    let block = scheme.block();
    let matrices = document.tensors().iter().filter(|tensor| is_matrix(tensor));
    let (mut odd, mut all) = (0, 0);
    for tensor in matrices {
        all += tensor.elements();
        if !row(tensor).is_multiple_of(block.weights) {
            odd += tensor.elements();
        }
    }
    let share = odd.saturating_mul(100) / all.max(1);
    (odd > 0).then(|| {
        format!(
            "{share} % of the weights lie in rows that are not whole blocks of {} weights, as {} needs \
             them: llama.cpp stores these as {}",
            block.weights, block.name, other.name
        )
    })
}

/// What a file is expected to be long with its matrices stored so, and what it can't exceed: llama.cpp
/// stores no matrix with more than 16 bits that did not have them.
pub(super) fn sizes(document: &Document, scheme: Scheme, header_bytes: u64) -> (u64, u64) {
    let (mut expected, mut most) = (header_bytes, header_bytes);
    for tensor in document.tensors() {
        let padding = 32;
        let block = stored(scheme, tensor);
        let bytes = if is_matrix(tensor) {
            tensor.elements() / block.weights * block.bytes
        } else {
            tensor.bytes()
        };
        expected += bytes + padding;
        most += tensor.bytes().max(tensor.elements().saturating_mul(2)) + padding;
    }
    (expected, most)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

    use super::*;

    fn quant(weights: Option<Scheme>, embedding: Option<Scheme>) -> Quant {
        Quant { weights, embedding }
    }

    #[test]
    fn what_is_stored_is_named_as_in_llama_cpp() {
        assert_eq!(parse("keep").unwrap(), Quant::default());
        let fine = Some(Scheme::Q8_0);
        assert_eq!(parse("q8_0").unwrap(), quant(fine, None));
        assert_eq!(parse("embedding=Q8_0").unwrap(), quant(None, fine));
        let mixed = quant(Some(Scheme::Q4_K_M), fine);
        assert_eq!(parse("Q4_K_M,embedding=Q8_0").unwrap(), mixed);
        for (wrong, reason) in [
            ("", "no type"),
            ("Q9", "no type Q9"),
            ("Q8_0,Q4_0", "too many"),
            ("head=Q8_0", "embedding="),
            ("embedding=Q4_K_M", "mixes"),
            ("keep,Q8_0", "no type keep"),
        ] {
            let error = parse(wrong).unwrap_err();
            assert!(error.contains(reason), "{wrong}: {error}");
        }
    }

    #[test]
    fn help_names_every_type_that_there_is() {
        for scheme in Scheme::ALL {
            assert!(LONG_HELP.contains(scheme.as_str()), "{scheme}");
        }
    }
}
