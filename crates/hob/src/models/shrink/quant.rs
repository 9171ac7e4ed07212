//! Which weights are stored more coarsely, and whether that makes sense. Pure.

use hob_ipc::quantize::{Block, Scheme};
use hob_models::gguf::{Document, Tensor};

use super::matrices::{Matrices, Mix, roles};
use crate::failure::Failure;

/// The tables with a row for each token.
pub(super) const TABLES: [&str; 2] = ["token_embd.weight", "output.weight"];
/// Weights of fewer bits are not stored anew unless somebody insists: what was rounded away is gone, and
/// rounding what is left once more loses more than storing the original so would.
const BITS_ENOUGH: u64 = 8;

/// What is stored more coarsely.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Quant {
    /// All matrices.
    pub(super) weights: Option<Scheme>,
    /// Those of the layers that are named, after that.
    pub(super) mix: Mix,
    /// The tables with a row for each token, after that.
    pub(super) embedding: Option<Scheme>,
}

/// `keep`, or a scheme, `embedding=` and a type, and names of matrices and their types, with commas.
pub(super) fn parse(text: &str) -> Result<Quant, String> {
    let mut quant = Quant::default();
    if text == "keep" {
        return Ok(quant);
    }
    for part in text.split(',').map(str::trim) {
        let first = match part.split_once('=') {
            None => {
                let scheme =
                    Scheme::named(part).ok_or_else(|| format!("there is no type {part}"))?;
                quant.weights.replace(scheme).is_none()
            }
            Some(("embedding", name)) => quant.embedding.replace(of_one_type(name)?).is_none(),
            Some((matrices, name)) => {
                let matrices = Matrices::parse(matrices.trim_end())?;
                quant.mix.add(matrices, of_one_type(name.trim_start())?)
            }
        };
        if !first {
            return Err(format!("{part} is one too many"));
        }
    }
    Ok(quant)
}

/// Schemes of which all matrices are stored in one type where somebody asks for that
/// ([`hob_ipc::quantize::Quantize::uniform`]), one for each type, the finest first.
pub(super) fn types() -> impl Iterator<Item = Scheme> {
    let all = Scheme::ALL.iter().enumerate();
    let last = all.filter(|(place, scheme)| {
        let later = Scheme::ALL.iter().skip(place + 1);
        later.clone().all(|other| other.block() != scheme.block())
    });
    last.map(|(_, scheme)| *scheme)
}

fn of_one_type(name: &str) -> Result<Scheme, String> {
    let called = |scheme: &Scheme| scheme.block().name.eq_ignore_ascii_case(name);
    types()
        .find(called)
        .ok_or_else(|| match Scheme::named(name) {
            Some(scheme) => format!(
                "{scheme} mixes types, and here one is needed: say {}",
                names(types())
            ),
            None => format!("there is no type {name}"),
        })
}

fn names(schemes: impl Iterator<Item = Scheme>) -> String {
    let names: Vec<&str> = schemes.map(|scheme| scheme.block().name).collect();
    names.join(", ")
}

/// For `--help`.
pub(super) const LONG_HELP: &str = "How weights are stored: \"keep\", or one of llama.cpp's types, the \
    finest first: Q8_0, Q6_K, Q5_K_M, Q5_K_S, Q5_1, Q5_0, Q4_K_M, Q4_K_S, Q4_1, Q4_0, IQ4_NL, IQ4_XS, \
    Q3_K_L, Q3_K_M, Q3_K_S. \"embedding=Q5_1\" stores the table of tokens alone so, which is up to half of \
    a small model, and \"Q4_K_M,embedding=Q8_0\" both. Matrices of the layers have a type of their own by \
    name: \"attn_q=Q4_K,ffn_down=Q6_K\" (attn_q, attn_k, attn_v, attn_qkv, attn_output, ffn_gate, ffn_up, \
    ffn_down, and with _exps those of experts), in all layers or, as \"ffn_down:0-3=Q6_K\", in some. Weights \
    of fewer than 8 bits are not stored anew without --requantize";

impl Quant {
    /// Whether all stays as it is.
    pub(super) fn is_keep(&self) -> bool {
        *self == Self::default()
    }

    /// All that is stored in some type.
    pub(super) fn schemes(&self) -> impl Iterator<Item = Scheme> {
        let tables = self.weights.into_iter().chain(self.embedding);
        tables.chain(self.mix.iter().map(|(_, scheme)| scheme))
    }

    /// What is done, for a model's lineage.
    pub(super) fn steps(&self) -> Vec<String> {
        let weights = self
            .weights
            .map(|scheme| format!("weights stored as {scheme}"));
        let mix = (!self.mix.is_empty())
            .then(|| format!("matrices of the layers stored anew: {}", self.mix));
        let embedding = self.embedding;
        let embedding =
            embedding.map(|scheme| format!("table of tokens stored as {}", scheme.block().name));
        weights.into_iter().chain(mix).chain(embedding).collect()
    }

    /// The same with the types that matrices by name really get.
    pub(super) fn settled(mut self, document: &Document) -> Self {
        self.mix = self.mix.map(|matrices, scheme| {
            let first = matrices.of(document).into_iter().next();
            let settled = first.and_then(|matrix| settled(scheme, matrix));
            settled.unwrap_or(scheme)
        });
        self
    }

    /// Whether this can be done with a model, and makes sense unless somebody insists. What should be
    /// known beforehand.
    pub(super) fn check(&self, document: &Document, insist: bool) -> Result<Vec<String>, Failure> {
        let mut remarks = Vec::new();
        if let Some(scheme) = self.weights {
            let named = |tensor: &Tensor| {
                let table = self.embedding.is_some() && is_table(tensor);
                table || self.mix.of(tensor).is_some()
            };
            let matrices = document.tensors().iter().filter(|t| is_matrix(t));
            let matrices = matrices.filter(|tensor| !named(tensor));
            let matrices: Vec<&Tensor> = matrices.collect();
            if !insist {
                check_fine(scheme.as_str(), &matrices)?;
                check_smaller(scheme, scheme.as_str(), &matrices)?;
            }
            remarks.extend(rows_remark(scheme, document.tensors()));
        }
        for (matrices, scheme) in self.mix.iter() {
            remarks.extend(check_named(matrices, scheme, document, insist)?);
        }
        if let Some(scheme) = self.embedding {
            let tables: Vec<_> = document.tensors().iter().filter(|t| is_table(t)).collect();
            let block = scheme.block();
            let odd = tables
                .iter()
                .find(|table| !row(table).is_multiple_of(block.weights));
            if let Some(table) = odd {
                let fit = types().filter(|s| row(table).is_multiple_of(s.block().weights));
                return Err(Failure::usage(format!(
                    "the table of tokens cannot be stored as {}: its rows of {} weights are not \
                     whole blocks of {}",
                    block.name,
                    row(table),
                    block.weights
                ))
                .hint(format!("Choose one of {}.", names(fit))));
            }
            check_smaller(scheme, block.name, &tables)?;
            if !insist {
                check_fine(block.name, &tables)?;
            }
        }
        Ok(remarks)
    }
}

/// Whether matrices can be stored so, and what should be known beforehand.
fn check_named(
    named: Matrices,
    scheme: Scheme,
    document: &Document,
    insist: bool,
) -> Result<Option<String>, Failure> {
    let matrices = named.of(document);
    let called = scheme.block().name;
    let layers = document.header().n_layer;
    if matrices.is_empty() || !named.layers.is_of(layers) {
        let theirs = roles(document).join(", ");
        let what = if matrices.is_empty() {
            format!("no layer of the model has `{named}`")
        } else {
            format!("the model has not all layers of `{named}`")
        };
        let hint = format!("Its {layers} layers, counted from 0, have {theirs}.");
        return Err(Failure::usage(what).hint(hint));
    }
    if matrices
        .iter()
        .any(|matrix| settled(scheme, matrix).is_none())
    {
        return Err(Failure::usage(format!(
            "`{named}` cannot be stored as {called}: its rows are not whole blocks"
        )));
    }
    check_smaller(scheme, called, &matrices)?;
    if !insist {
        check_fine(called, &matrices)?;
    }
    Ok(rows_remark(scheme, matrices))
}

/// Whether a matrix is stored with so few bits that storing it anew loses more than it should.
pub(super) fn is_coarse(tensor: &Tensor) -> bool {
    tensor.is_quantized() && tensor.bits() < BITS_ENOUGH
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

/// The type that a matrix gets where this one is asked for; `None` if its rows are whole blocks of none.
pub(super) fn settled(scheme: Scheme, tensor: &Tensor) -> Option<Scheme> {
    let block = stored(scheme, tensor);
    let fits = row(tensor).is_multiple_of(block.weights);
    types().find(|other| fits && other.block() == block)
}

/// The bytes of a matrix that is stored so.
pub(super) fn bytes_as(scheme: Scheme, tensor: &Tensor) -> u64 {
    let block = stored(scheme, tensor);
    tensor.elements() / block.weights * block.bytes
}

/// Whether these are stored finely enough to be stored anew, in what somebody called `name`.
fn check_fine(name: &str, tensors: &[&Tensor]) -> Result<(), Failure> {
    if let Some(tensor) = tensors.iter().find(|tensor| is_coarse(tensor)) {
        return Err(Failure::usage(format!(
            "`{}` is stored with {} bits a weight already ({}), and would lose more by being stored as \
             {name} than the original would",
            tensor.name(),
            tensor.bits(),
            tensor.type_name()
        ))
        .hint(
            "Begin with a finer file of this model, store the table of tokens alone (--quant \
             embedding=Q5_1) or insist with --requantize.",
        ));
    }
    Ok(())
}

/// Whether some of these would be smaller in a type, which somebody called `name`.
fn check_smaller(scheme: Scheme, name: &str, tensors: &[&Tensor]) -> Result<(), Failure> {
    if tensors.iter().any(|t| bytes_as(scheme, t) < t.bytes()) {
        return Ok(());
    }
    Err(
        Failure::usage(format!("stored as {name} nothing would be smaller"))
            .hint("Choose a coarser type; `hob models show` tells which the model has."),
    )
}

/// That many rows are not whole blocks.
fn rows_remark<'t>(
    scheme: Scheme,
    tensors: impl IntoIterator<Item = &'t Tensor>,
) -> Option<String> {
    let other = scheme.fallback()?;
    let block = scheme.block();
    let matrices = tensors.into_iter().filter(|tensor| is_matrix(tensor));
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
        let bytes = if is_matrix(tensor) {
            bytes_as(scheme, tensor)
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
        Quant {
            weights,
            embedding,
            ..Quant::default()
        }
    }

    #[test]
    fn what_is_stored_is_named_as_in_llama_cpp() {
        assert_eq!(parse("keep").unwrap(), Quant::default());
        let fine = Some(Scheme::Q8_0);
        assert_eq!(parse("q8_0").unwrap(), quant(fine, None));
        assert_eq!(parse("embedding=Q8_0").unwrap(), quant(None, fine));
        let mixed = quant(Some(Scheme::Q4_K_M), fine);
        assert_eq!(parse("Q4_K_M,embedding=Q8_0").unwrap(), mixed);
        let named = parse("ffn_down:4-9=q6_k,attn_q=Q4_K,embedding=Q5_K").unwrap();
        assert_eq!(
            named.steps(),
            [
                "matrices of the layers stored anew: attn_q as Q4_K, ffn_down:4-9 as Q6_K",
                "table of tokens stored as Q5_K"
            ]
        );
        for (wrong, reason) in [
            ("", "no type"),
            ("Q9", "no type Q9"),
            ("Q8_0,Q4_0", "too many"),
            ("head=Q8_0", "embedding="),
            ("embedding=Q4_K_M", "mixes"),
            ("attn_q=Q4_K_M", "mixes"),
            ("attn_q=Q9", "no type Q9"),
            ("attn_q=Q4_K,attn_q=Q5_K", "too many"),
            ("attn_q=Q4_K,attn_q:3=Q5_K", "too many"),
            ("attn_q:9-3=Q4_K", "attn_q:0-9"),
            ("keep,Q8_0", "no type keep"),
        ] {
            let error = parse(wrong).unwrap_err();
            assert!(error.contains(reason), "{wrong}: {error}");
        }
    }

    #[test]
    fn each_type_is_one_scheme_s() {
        let all: Vec<&str> = types().map(|scheme| scheme.block().name).collect();
        let known = Scheme::ALL.iter().map(|scheme| scheme.block().name);
        let known: std::collections::BTreeSet<&str> = known.collect();
        assert_eq!(all.len(), known.len(), "{all:?}");
    }

    #[test]
    fn help_names_every_type_that_there_is() {
        for scheme in Scheme::ALL {
            assert!(LONG_HELP.contains(scheme.as_str()), "{scheme}");
        }
        let roles = super::super::matrices::ROLES.into_iter();
        for role in roles.filter(|role| !role.ends_with("_exps")) {
            assert!(LONG_HELP.contains(role), "{role}");
        }
    }
}
