//! Text from outside (a model, a daemon, a file's name) made fit for a terminal.
//!
//! A terminal obeys control characters: escape sequences can retitle or repaint it, write to the
//! clipboard, and on some make it type. Nothing is hidden here but carriage returns; what could
//! act is shown instead, as `less` shows it, so that a reader sees that it was there:
//!
//! - C0 controls and DEL become their Unicode pictures (ESC is `␛`), but for newline and tab.
//! - C1 controls, which are escape sequences in one character, become `<U+009B>` and so on.
//! - So do the invisible characters that reorder or smuggle text: bidirectional embeddings,
//!   overrides and isolates, line and paragraph separators, interlinear annotations, deprecated
//!   format characters and tags. Joiners and the plain left-to-right and right-to-left marks pass:
//!   Persian, Indic scripts and emoji need them.
//!
//! Every character is judged alone, so it makes no difference where a stream is split.

use std::borrow::Cow;

/// `text` without anything that a terminal would obey or that would hide its meaning.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|c| c == '\r' || is_unsafe(c)) {
        return Cow::Borrowed(text);
    }
    let mut cleaned = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        push_clean(&mut cleaned, c);
    }
    Cow::Owned(cleaned)
}

/// [`clean`] for a text that belongs on one line, such as a name: newlines and tabs become spaces.
pub(crate) fn clean_line(text: &str) -> String {
    clean(text).replace(['\n', '\t'], " ")
}

/// JSON text in which [`is_unsafe`] characters are escaped, so that it means the same and can be
/// shown. Outside of strings JSON has no such characters.
pub(crate) fn escape_json(json: &str) -> String {
    use std::fmt::Write as _;

    let mut escaped = String::with_capacity(json.len());
    let mut units = [0; 2];
    for c in json.chars() {
        if is_unsafe(c) {
            for unit in c.encode_utf16(&mut units) {
                // Writing to a string can't fail.
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// Whether a terminal may obey `c`, or `c` may make text look like another.
fn is_unsafe(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        // Controls: C0, DEL, C1.
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}'
        // Line and paragraph separators, bidirectional embeddings and overrides.
        | '\u{2028}'..='\u{202e}'
        // Bidirectional isolates, and format characters that Unicode deprecates.
        | '\u{2066}'..='\u{206f}'
        // Interlinear annotations.
        | '\u{fff9}'..='\u{fffb}'
        // Tags: an invisible copy of ASCII.
        | '\u{e0000}'..='\u{e007f}' => true,
        _ => false,
    }
}

fn push_clean(out: &mut String, c: char) {
    use std::fmt::Write as _;

    match c {
        // Models trained on Windows text end lines with CR LF; alone it would overwrite the line.
        '\r' => {}
        '\u{7f}' => out.push('\u{2421}'),
        c if !is_unsafe(c) => out.push(c),
        c if c < ' ' => {
            let picture = char::from_u32(0x2400 + u32::from(c));
            out.push(picture.unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        c => {
            // Writing to a string can't fail.
            let _ = write!(out, "<U+{:04X}>", u32::from(c));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_text_is_borrowed() {
        let text = "Grüße, 世界 👩‍👩‍👧 می‌خواهم\n\tok";
        assert!(matches!(clean(text), Cow::Borrowed(t) if t == text));
    }

    #[test]
    fn shows_what_would_act() {
        assert_eq!(clean("a\x1b[2Jb"), "a␛[2Jb");
        assert_eq!(clean("\x1b]52;c;aGk=\x07"), "␛]52;c;aGk=␇");
        assert_eq!(clean("x\u{9b}31m"), "x<U+009B>31m");
        assert_eq!(clean("a\r\nb\x7f\0"), "a\nb␡␀");
        assert_eq!(
            clean("user\u{202e}nimda\u{202c}"),
            "user<U+202E>nimda<U+202C>"
        );
        assert_eq!(clean("\u{e0041}"), "<U+E0041>");
    }

    #[test]
    fn one_line_stays_one_line() {
        assert_eq!(clean_line("a\nb\tc\x1b"), "a b c␛");
    }

    #[test]
    fn json_keeps_its_meaning() {
        let text = "a\u{9b}b\u{202e}\u{e0041}\x7fü\n";
        let json = serde_json::to_string(text).unwrap_or_default();
        let escaped = escape_json(&json);
        assert!(!escaped.chars().any(is_unsafe), "{escaped}");
        assert_eq!(
            serde_json::from_str::<String>(&escaped).ok().as_deref(),
            Some(text)
        );
    }

    proptest! {
        #[test]
        fn nothing_unsafe_passes(text in any::<String>()) {
            let cleaned = clean(&text);
            prop_assert!(!cleaned.chars().any(|c| is_unsafe(c) || c == '\r'));
        }

        #[test]
        fn only_newline_and_tab_of_all_controls(text in "[\\x00-\\x9f\u{2028}-\u{202e}]{0,40}") {
            for c in clean(&text).chars() {
                prop_assert!(!c.is_control() || c == '\n' || c == '\t');
            }
        }

        #[test]
        fn splits_make_no_difference(pieces in proptest::collection::vec(any::<String>(), 0..6)) {
            let whole = pieces.concat();
            let by_piece: String = pieces.iter().map(|p| clean(p).into_owned()).collect();
            prop_assert_eq!(clean(&whole).into_owned(), by_piece);
        }

        #[test]
        fn cleaning_twice_changes_nothing_more(text in any::<String>()) {
            let once = clean(&text).into_owned();
            prop_assert_eq!(clean(&once), once.as_str());
        }
    }
}
