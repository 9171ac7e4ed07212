//! Excerpts of a corpus, for what a model must read to tell more of it than which tokens it has.

/// Most excerpts, spread evenly over the corpus.
const EXCERPTS_MAX: u64 = 16;
/// Most bytes of each.
pub(super) const EXCERPT_BYTES: usize = 2 << 10;

/// Excerpts of a text that comes piece by piece; of a short one, all of it.
pub(super) struct Excerpts {
    /// From the beginning of one to that of the next.
    every: u64,
    /// Bytes that came.
    seen: u64,
    texts: Vec<String>,
}

impl Excerpts {
    /// Of a text of about so many bytes.
    pub(super) fn of(bytes: u64) -> Self {
        Self {
            every: bytes.div_ceil(EXCERPTS_MAX).max(EXCERPT_BYTES as u64),
            seen: 0,
            texts: Vec::new(),
        }
    }

    /// Takes what the next piece has of them.
    pub(super) fn add(&mut self, piece: &str) {
        let (start, end) = (self.seen, self.seen + piece.len() as u64);
        self.seen = end;
        // The text may be longer than was said.
        let last = (end / self.every).min(EXCERPTS_MAX - 1);
        for excerpt in start / self.every..=last {
            let begins = excerpt * self.every;
            let from = begins.max(start);
            let to = (begins + EXCERPT_BYTES as u64).min(end);
            if from < to {
                let part = between(piece, from - start, to - start);
                if from == begins || self.texts.is_empty() {
                    self.texts.push(part.to_owned());
                } else if let Some(text) = self.texts.last_mut() {
                    text.push_str(part);
                }
            }
        }
    }

    /// Those that came, none of them empty.
    pub(super) fn texts(mut self) -> Vec<String> {
        self.texts.retain(|text| !text.is_empty());
        self.texts
    }
}

/// A part of a text, with a character that it begins in, and without one that it ends in.
fn between(text: &str, first: u64, last: u64) -> &str {
    let at = |bytes: u64| {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX).min(text.len());
        (0..=bytes).rev().find(|at| text.is_char_boundary(*at))
    };
    let (first, last) = (at(first).unwrap_or(0), at(last).unwrap_or(0));
    text.get(first..last).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: usize = 16 * EXCERPT_BYTES;

    #[test]
    fn a_long_text_is_sampled_all_over() {
        let lines: Vec<String> = (0..100_000).map(|line| format!("line {line}\n")).collect();
        let text = lines.concat();
        let mut excerpts = Excerpts::of(text.len() as u64);
        for piece in text.split_inclusive("000\n") {
            excerpts.add(piece);
        }
        let found = excerpts.texts();
        assert_eq!(found.len(), 16);
        assert!(found.iter().all(|text| text.len() == EXCERPT_BYTES));
        for part in 0..10 {
            let line = format!("line {part}");
            assert!(found.concat().contains(&line), "{line}");
        }
    }

    proptest! {
        #[test]
        fn a_short_text_is_taken_whole_however_it_comes(
            pieces in proptest::collection::vec("[a-zäöü€ \n]{0,3000}", 0..20),
            said in 0u64..60_000,
        ) {
            let text = pieces.concat();
            let fits = text.len() <= ALL;
            let said = if fits { text.len() as u64 } else { said };
            let mut excerpts = Excerpts::of(said);
            for piece in &pieces {
                excerpts.add(piece);
            }
            let found = excerpts.texts();
            prop_assert!(found.len() <= 16);
            // A character that it begins in may be one more than its bytes.
            prop_assert!(found.iter().all(|text| (1..=EXCERPT_BYTES + 3).contains(&text.len())));
            if fits {
                prop_assert_eq!(found.concat(), text);
            }
        }
    }
}
