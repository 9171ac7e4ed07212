//! Excerpts of a corpus, for what a model must read to tell more of it than which tokens it has.

/// Most excerpts, of as many files, spread evenly over each.
const EXCERPTS_MAX: u64 = 16;
/// Most bytes of each.
pub(super) const EXCERPT_BYTES: u64 = 2 << 10;

/// An excerpt of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Excerpt {
    pub(super) file: usize,
    /// Never empty.
    pub(super) text: String,
}

/// Excerpts of files that come piece by piece; of one that is short, all of it.
pub(super) struct Excerpts {
    /// The files' lengths.
    lengths: Vec<u64>,
    /// The file that comes, and how much of it came.
    file: usize,
    seen: u64,
    found: Vec<Excerpt>,
}

impl Excerpts {
    /// Of files of about these lengths.
    pub(super) fn of(lengths: &[u64]) -> Self {
        Self {
            lengths: lengths.to_vec(),
            file: 0,
            seen: 0,
            found: Vec::new(),
        }
    }

    /// Takes what the next piece of a file has of them.
    pub(super) fn add(&mut self, file: usize, piece: &str) {
        if file != self.file {
            (self.file, self.seen) = (file, 0);
        }
        let (start, end) = (self.seen, self.seen + piece.len() as u64);
        self.seen = end;
        let count = self.count(file);
        let length = self.lengths.get(file).copied().unwrap_or(0);
        let every = length.div_ceil(count.max(1)).max(EXCERPT_BYTES);
        // A file may be longer than was said.
        for place in (start / every..=end / every).take_while(|place| *place < count) {
            let begins = place * every;
            let (from, to) = (begins.max(start), (begins + EXCERPT_BYTES).min(end));
            let text = between(piece, from.saturating_sub(start), to.saturating_sub(start));
            match self.found.last_mut() {
                _ if text.is_empty() => {}
                Some(last) if last.file == file && from > begins => last.text.push_str(text),
                _ => self.found.push(Excerpt {
                    file,
                    text: text.to_owned(),
                }),
            }
        }
    }

    /// How many a file has: as many as every other, or one of only some files.
    fn count(&self, file: usize) -> u64 {
        let files = self.lengths.len().max(1) as u64;
        let one_of = files.div_ceil(EXCERPTS_MAX);
        if (file as u64).is_multiple_of(one_of) {
            (EXCERPTS_MAX / files).max(1)
        } else {
            0
        }
    }

    /// Those that came.
    pub(super) fn found(self) -> Vec<Excerpt> {
        self.found
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

    const ALL: u64 = EXCERPTS_MAX * EXCERPT_BYTES;

    #[test]
    fn long_texts_are_sampled_all_over_and_alike() {
        let lines: Vec<String> = (0..100_000).map(|line| format!("line {line}\n")).collect();
        let texts = [lines.concat(), lines[..20_000].concat()];
        let mut excerpts = Excerpts::of(&texts.clone().map(|text| text.len() as u64));
        for (file, text) in texts.iter().enumerate() {
            for piece in text.split_inclusive("000\n") {
                excerpts.add(file, piece);
            }
        }
        let found = excerpts.found();
        assert!(
            found
                .iter()
                .all(|excerpt| excerpt.text.len() as u64 == EXCERPT_BYTES)
        );
        for file in [0, 1] {
            let of_file = found.iter().filter(|excerpt| excerpt.file == file);
            let texts: Vec<&str> = of_file.map(|excerpt| excerpt.text.as_str()).collect();
            assert_eq!(texts.len(), 8);
            for part in 0..8 {
                let line = format!("line {}", part + [1, 10][file] % 10);
                assert!(texts.concat().contains(&line), "{line}");
            }
        }
    }

    #[test]
    fn of_many_files_some_are_sampled() {
        let text = "word ".repeat(1000);
        let mut excerpts = Excerpts::of(&[text.len() as u64; 100]);
        for file in 0..100 {
            excerpts.add(file, &text);
        }
        let files: Vec<usize> = excerpts
            .found()
            .iter()
            .map(|excerpt| excerpt.file)
            .collect();
        assert_eq!(files.len(), 15, "{files:?}");
        assert_eq!((files[0], files[14]), (0, 98));
    }

    proptest! {
        #[test]
        fn a_short_text_is_taken_whole_however_it_comes(
            pieces in proptest::collection::vec("[a-zäöü€ \n]{0,3000}", 0..20),
            said in 0u64..60_000,
        ) {
            let text = pieces.concat();
            let fits = text.len() as u64 <= ALL;
            let said = if fits { text.len() as u64 } else { said };
            let mut excerpts = Excerpts::of(&[said]);
            for piece in &pieces {
                excerpts.add(0, piece);
            }
            let found = excerpts.found();
            prop_assert!(found.len() <= 16);
            // A character that it begins in may be one more than its bytes.
            let most = EXCERPT_BYTES + 3;
            prop_assert!(found.iter().all(|found| (1..=most).contains(&(found.text.len() as u64))));
            if fits {
                let texts: String = found.iter().map(|excerpt| excerpt.text.as_str()).collect();
                prop_assert_eq!(texts, text);
            }
        }
    }
}
