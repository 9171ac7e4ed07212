//! A model's vocabulary, for grammars.

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token_type::LlamaTokenAttr;

use crate::grammar::alphabet::Alphabet;
use crate::prompt::Token;

/// The vocabulary of `model`. Looks at each of its tokens.
pub fn alphabet(model: &'static LlamaModel) -> Alphabet {
    let vocab = model.vocab();
    let spellings = vocab.tokens().map(|token| {
        let mut bytes = Vec::new();
        let steers = LlamaTokenAttr::Control | LlamaTokenAttr::Unknown;
        if !vocab.attr(token).intersects(steers) {
            vocab.token_to_piece_into(token, &mut bytes, false, None);
        }
        bytes
    });
    let spellings = spellings.collect();
    let ends = vocab.tokens().filter(|token| vocab.is_eog(*token));
    let ends: Vec<Token> = ends.map(|token| token.0).collect();
    Alphabet {
        spellings,
        ends,
        tokenize: Box::new(move |text| {
            let tokens = vocab.tokenize(text.as_bytes(), false, false);
            tokens.into_iter().map(|token| token.0).collect()
        }),
    }
}
