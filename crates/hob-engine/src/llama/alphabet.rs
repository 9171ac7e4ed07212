//! A model's vocabulary, for grammars.

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token_type::LlamaTokenAttr;
use llama_cpp_2::vocab::LlamaVocab;

use crate::grammar::alphabet::Alphabet;
use crate::prompt::Token;

/// Tokens that end an answer.
pub(super) fn ends(vocab: &LlamaVocab<'_>) -> Vec<Token> {
    let ends = vocab.tokens().filter(|token| vocab.is_eog(*token));
    ends.map(|token| token.0).collect()
}

/// The vocabulary of `model`. Looks at each of its tokens.
pub fn alphabet(model: &'static LlamaModel) -> Alphabet {
    let vocab = model.vocab();
    let steers = LlamaTokenAttr::Control | LlamaTokenAttr::Unknown;
    let spellings = vocab.tokens().map(|token| {
        let mut bytes = Vec::new();
        if !vocab.attr(token).intersects(steers) {
            vocab.token_to_piece_into(token, &mut bytes, false, None);
        }
        bytes
    });
    let controls = vocab.tokens().filter_map(|token| {
        let control = vocab.attr(token).intersects(LlamaTokenAttr::Control);
        let text = vocab.text(token).filter(|_| control)?;
        Some((text.to_str().ok()?.to_owned(), token.0))
    });
    Alphabet {
        spellings: spellings.collect(),
        controls: controls.collect(),
        ends: ends(&vocab),
        tokenize: Box::new(move |text| {
            let tokens = vocab.tokenize(text.as_bytes(), false, false);
            tokens.into_iter().map(|token| token.0).collect()
        }),
    }
}
