//! The vocabulary as grammars see it: the bytes of each token, and how text is cut into tokens.

use std::collections::HashMap;
use std::sync::Arc;

use llguidance::toktrie::{SimpleVob, TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv};

use crate::prompt::Token;

/// Longest token that an answer with a grammar has, in bytes. Longer ones are runs of white space or
/// ruled lines, and are spelled with others.
const TOKEN_BYTES_MAX: usize = 256;

/// A way to cut text into tokens, control tokens never among them.
pub type Tokenize = Box<dyn Fn(&str) -> Vec<Token> + Send + Sync>;

/// Control tokens that are no ends, by their texts.
pub(super) type Controls = HashMap<String, Token>;

/// What grammars need of a vocabulary.
pub struct Alphabet {
    /// The bytes of each token, by its number; none of those that stand for no text.
    pub spellings: Vec<Vec<u8>>,
    /// The control tokens by their texts.
    pub controls: HashMap<String, Token>,
    /// Tokens that end an answer.
    pub ends: Vec<Token>,
    /// How the model's own vocabulary cuts text.
    pub tokenize: Tokenize,
}

impl std::fmt::Debug for Alphabet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Alphabet")
            .field("tokens", &self.spellings.len())
            .field("ends", &self.ends)
            .finish_non_exhaustive()
    }
}

impl Alphabet {
    /// The tree of all spellings, and the tokens that no answer has: those that have none, but for
    /// the ones that end it. `None` if nothing can end an answer.
    pub(super) fn into_tree(self) -> Option<(TokEnv, Arc<SimpleVob>, Controls)> {
        let Self {
            mut spellings,
            mut controls,
            ends,
            tokenize,
        } = self;
        // What ends an answer can't be in the middle of one.
        controls.retain(|_, token| !ends.contains(token));
        let of_vocabulary = |token: &TokenId| (*token as usize) < spellings.len();
        let ends: Vec<TokenId> = ends
            .into_iter()
            .filter_map(|token| TokenId::try_from(token).ok())
            .filter(of_vocabulary)
            .collect();
        for end in &ends {
            // One that also stood for text would end the answer in the middle of it.
            spellings[*end as usize].clear();
        }
        for spelling in &mut spellings {
            if spelling.len() > TOKEN_BYTES_MAX {
                spelling.clear();
            }
        }
        let count = u32::try_from(spellings.len()).ok()?;
        let tree = TokTrie::from(&TokRxInfo::new(count, *ends.first()?), &spellings);
        let mut barred = tree.alloc_token_set();
        for (token, spelling) in (0..).zip(&spellings) {
            if spelling.is_empty() && !ends.contains(&token) {
                barred.allow_token(token);
            }
        }
        let tree = tree.with_eos_tokens(&ends);
        Some((
            Arc::new(Tree { tree, tokenize }),
            Arc::new(barred),
            controls,
        ))
    }
}

struct Tree {
    tree: TokTrie,
    tokenize: Tokenize,
}

impl TokenizerEnv for Tree {
    fn tok_trie(&self) -> &TokTrie {
        &self.tree
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        let own = |text: &str| {
            let tokens = (self.tokenize)(text).into_iter();
            tokens.filter_map(|t| TokenId::try_from(t).ok()).collect()
        };
        let tokens = self.tree.tokenize_with_greedy_fallback(bytes, own);
        // Some vocabularies put a space before every text.
        if self.tree.decode_raw(&tokens) == bytes {
            tokens
        } else {
            self.tree.greedy_tokenize(bytes)
        }
    }
}
