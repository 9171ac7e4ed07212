//! From a rendered conversation to tokens: control tokens come from scaffolding only.
//!
//! Control texts are looked for in scaffolding alone, and everything between two of them, the
//! template's plain words and the messages together, is tokenized as one run without special
//! tokens. So a harmless conversation gets exactly the tokens that the model was trained with,
//! and a message can't name a control token. What is left is a vocabulary whose ordinary merges
//! happen to spell a control token; such a run is tokenized character by character.

use crate::template::Span;

/// A token's number in the vocabulary.
pub type Token = i32;

/// What encoding needs of a model's vocabulary.
pub trait Vocabulary {
    /// Tokens of `text`, with no special token parsed or added.
    fn plain(&self, text: &str) -> Vec<Token>;
    /// Whether the token steers the model rather than stands for text.
    fn is_control(&self, token: Token) -> bool;
    /// The token that begins every prompt, if the model wants one.
    fn bos(&self) -> Option<Token>;
}

/// A token that a template can name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlToken {
    /// Its name in templates.
    pub text: String,
    /// Its number.
    pub token: Token,
    /// Whether white space before it belongs to it.
    pub strips_left: bool,
    /// Whether white space after it belongs to it.
    pub strips_right: bool,
}

/// All tokens that templates can name.
#[derive(Debug)]
pub struct ControlTokens {
    /// Longest text first, so that the first match is the longest.
    tokens: Vec<ControlToken>,
    starts: [bool; 256],
}

impl ControlTokens {
    /// Those of a vocabulary. Tokens with no text can't be named.
    pub fn new(tokens: impl IntoIterator<Item = ControlToken>) -> Self {
        let mut tokens: Vec<_> = tokens.into_iter().filter(|t| !t.text.is_empty()).collect();
        tokens.sort_by_key(|token| std::cmp::Reverse(token.text.len()));
        let mut starts = [false; 256];
        for token in &tokens {
            starts[usize::from(token.text.as_bytes()[0])] = true;
        }
        Self { tokens, starts }
    }

    /// Whether any text has white space in it.
    pub fn contain_space(&self) -> bool {
        self.tokens
            .iter()
            .any(|token| token.text.contains(char::is_whitespace))
    }

    /// The first control token named in `text`, with the bytes before it.
    fn next_in<'a>(&self, text: &'a str) -> Option<(&'a str, &ControlToken)> {
        text.char_indices()
            .filter(|(at, _)| self.starts[usize::from(text.as_bytes()[*at])])
            .find_map(|(at, _)| {
                let found = self
                    .tokens
                    .iter()
                    .find(|token| text[at..].starts_with(&token.text))?;
                Some((&text[..at], found))
            })
    }
}

/// Tokens of plain text that a model is to go on from.
pub fn encode_text(vocabulary: &impl Vocabulary, text: &str) -> Vec<Token> {
    let mut encoder = Encoder::new(vocabulary);
    encoder.run.push_str(text);
    encoder.finish()
}

/// Tokens of plain text that follows other tokens; no control token is among them.
pub fn encode_continuation(vocabulary: &impl Vocabulary, text: &str) -> Vec<Token> {
    let mut encoder = Encoder::new(vocabulary);
    encoder.run.push_str(text);
    encoder.end_run();
    encoder.tokens
}

/// Tokens of a rendered conversation.
pub fn encode_chat(
    vocabulary: &impl Vocabulary,
    controls: &ControlTokens,
    spans: &[Span],
) -> Vec<Token> {
    let mut encoder = Encoder::new(vocabulary);
    for span in spans {
        match span {
            Span::Content(text) => encoder.run.push_str(text),
            Span::Scaffold(text) => encoder.scaffold(controls, text),
        }
    }
    encoder.finish()
}

struct Encoder<'a, V> {
    vocabulary: &'a V,
    tokens: Vec<Token>,
    /// Plain text since the last control token.
    run: String,
    /// Whether the last control token takes the white space after it.
    strips_right: bool,
}

impl<'a, V: Vocabulary> Encoder<'a, V> {
    fn new(vocabulary: &'a V) -> Self {
        Self {
            vocabulary,
            tokens: Vec::new(),
            run: String::new(),
            strips_right: false,
        }
    }

    fn scaffold(&mut self, controls: &ControlTokens, text: &str) {
        let mut rest = text;
        while let Some((before, control)) = controls.next_in(rest) {
            rest = &rest[before.len() + control.text.len()..];
            self.run.push_str(before);
            if control.strips_left {
                self.run.truncate(self.run.trim_end().len());
            }
            self.end_run();
            self.strips_right = control.strips_right;
            self.tokens.push(control.token);
        }
        self.run.push_str(rest);
    }

    fn end_run(&mut self) {
        let run = std::mem::take(&mut self.run);
        let text = if self.strips_right {
            run.trim_start()
        } else {
            &run
        };
        self.strips_right = false;
        if text.is_empty() {
            return;
        }
        let tokens = self.vocabulary.plain(text);
        if tokens.iter().any(|t| self.vocabulary.is_control(*t)) {
            self.tokens.extend(self.one_by_one(text));
        } else {
            self.tokens.extend(tokens);
        }
    }

    fn one_by_one(&self, text: &str) -> Vec<Token> {
        let mut buffer = [0; 4];
        text.chars()
            .flat_map(|c| self.vocabulary.plain(c.encode_utf8(&mut buffer)))
            .filter(|token| !self.vocabulary.is_control(*token))
            .collect()
    }

    /// The tokens, beginning with the one that begins every prompt: once, also if the template
    /// wrote it.
    fn finish(mut self) -> Vec<Token> {
        self.end_run();
        if let Some(bos) = self.vocabulary.bos()
            && self.tokens.first() != Some(&bos)
        {
            self.tokens.insert(0, bos);
        }
        self.tokens
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Letters are tokens, and `[x]` for some letters is a control token above 1000. Spelling
    /// `ctl` merges into control token 1999, as a careless vocabulary might.
    struct Letters {
        bos: Option<Token>,
    }

    const BOS: Token = 1000 + 'b' as Token;

    impl Vocabulary for Letters {
        fn plain(&self, text: &str) -> Vec<Token> {
            let mut tokens = Vec::new();
            let mut rest = text;
            while let Some(c) = rest.chars().next() {
                if let Some(after) = rest.strip_prefix("ctl") {
                    tokens.push(1999);
                    rest = after;
                } else {
                    tokens.push(c as Token % 1000);
                    rest = &rest[c.len_utf8()..];
                }
            }
            tokens
        }

        fn is_control(&self, token: Token) -> bool {
            token >= 1000
        }

        fn bos(&self) -> Option<Token> {
            self.bos
        }
    }

    fn controls() -> ControlTokens {
        ControlTokens::new(['b', 'u', 'e'].map(|c| ControlToken {
            text: format!("[{c}]"),
            token: 1000 + c as Token,
            strips_left: c == 'e',
            strips_right: c == 'u',
        }))
    }

    fn scaffold(text: &str) -> Span {
        Span::Scaffold(text.to_owned())
    }

    fn content(text: &str) -> Span {
        Span::Content(text.to_owned())
    }

    fn encode(bos: Option<Token>, spans: &[Span]) -> Vec<Token> {
        encode_chat(&Letters { bos }, &controls(), spans)
    }

    fn letter(c: char) -> Token {
        c as Token
    }

    #[test]
    fn the_first_token_is_not_doubled() {
        let expected = [BOS, letter('h')];
        assert_eq!(
            encode(Some(BOS), &[scaffold("[b]"), content("h")]),
            expected
        );
        assert_eq!(encode(Some(BOS), &[content("h")]), expected);
        assert_eq!(encode(None, &[content("h")]), [letter('h')]);
        assert_eq!(encode_text(&Letters { bos: Some(BOS) }, "h"), expected);
    }

    #[test]
    fn control_texts_in_content_or_across_its_edge_stay_text() {
        let tokens = encode(None, &[scaffold("[u"), content("][e]["), scaffold("u]")]);
        assert!(tokens.iter().all(|t| *t < 1000), "{tokens:?}");
    }

    #[test]
    fn white_space_goes_where_the_vocabulary_says() {
        assert_eq!(
            encode(
                None,
                &[scaffold("[u] \n"), content(" h "), scaffold(" [e] x")]
            ),
            [
                1000 + letter('u'),
                letter('h'),
                1000 + letter('e'),
                letter(' '),
                letter('x')
            ]
        );
    }

    #[test]
    fn merges_that_spell_a_control_token_are_taken_apart() {
        assert_eq!(
            encode_text(&Letters { bos: None }, "actl"),
            ['a', 'c', 't', 'l'].map(letter)
        );
    }

    proptest! {
        #[test]
        fn no_content_adds_or_moves_a_control_token(text in "[\\[\\]buectl x]{0,30}") {
            let conversation = |text: &str| {
                let spans = [scaffold("[b][u]user"), content(text), scaffold("[e][u]")];
                let tokens = encode(Some(BOS), &spans);
                tokens.into_iter().filter(|t| *t >= 1000).collect::<Vec<_>>()
            };
            prop_assert_eq!(conversation(&text), conversation("x"));
        }
    }
}
