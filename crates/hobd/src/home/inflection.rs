//! What verbs of English and German are forms of, as far as commands need it: participles, what
//! goes on, and German verbs that are written apart or have a syllable inside.

/// German prefixes that part from their verb, longer ones before those that they begin with.
const PREFIXES: &[&str] = &[
    "herunter", "hinunter", "zurueck", "herauf", "weiter", "runter", "stumm", "hoch", "frei",
    "auf", "aus", "ein", "vor", "los", "ab", "an", "um", "zu",
];
/// German endings of verbs, longer ones first.
const ENDINGS: &[&str] = &["et", "en", "st", "t", "e", "n"];
/// Shortest rest of a word without what its form added, in bytes.
const REST_BYTES_MIN: usize = 3;

/// What `stem` may be another form of, the likeliest first; each is a stem.
pub(super) fn bases(stem: &str) -> Vec<String> {
    let mut bases = Vec::new();
    for ending in ["ing", "ed"] {
        if let Some(rest) = stem.strip_suffix(ending)
            && rest.len() >= REST_BYTES_MIN
        {
            bases.push(rest.to_owned());
            bases.push(super::words::stem(rest).to_owned());
            bases.extend(undoubled(rest));
        }
    }
    if let Some(rest) = stem.strip_prefix("ge")
        && rest.len() > REST_BYTES_MIN
    {
        bases.extend(verb_stems(rest));
    }
    for prefix in PREFIXES {
        if let Some(rest) = stem.strip_prefix(prefix) {
            for within in ["zu", "ge", ""] {
                if let Some(verb) = rest.strip_prefix(within)
                    && verb.len() >= REST_BYTES_MIN
                {
                    bases.extend(
                        verb_stems(verb)
                            .into_iter()
                            .map(|verb| format!("{prefix}{verb}")),
                    );
                }
            }
        }
    }
    bases
}

/// The stem of a German verb of which the prefix `end` stands at the end: "halten … an".
pub(super) fn joined(verb: &str, end: &str) -> Option<Vec<String>> {
    let stems = verb_stems(verb);
    PREFIXES.contains(&end).then(|| {
        stems
            .into_iter()
            .map(|verb| format!("{end}{verb}"))
            .collect()
    })
}

fn verb_stems(verb: &str) -> Vec<String> {
    let mut stems = vec![verb.to_owned()];
    let short = ENDINGS.iter().find_map(|ending| verb.strip_suffix(ending));
    stems.extend(
        short
            .filter(|short| short.len() >= REST_BYTES_MIN)
            .map(str::to_owned),
    );
    stems
}

/// "stopp" of "stopped" without its second p.
fn undoubled(word: &str) -> Option<String> {
    let mut last = word.bytes().rev();
    (last.next() == last.next()).then(|| word[..word.len() - 1].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_form_of(word: &str, base: &str) {
        let (word, base) = (
            super::super::words::stem(word),
            super::super::words::stem(base),
        );
        assert!(
            bases(word).iter().any(|found| found == base),
            "{word} {base}"
        );
    }

    #[test]
    fn forms_of_verbs_are_known() {
        for (word, base) in [
            ("toggled", "toggle"),
            ("stopped", "stop"),
            ("vacuuming", "vacuum"),
            ("pausing", "pause"),
            ("gestartet", "starten"),
            ("umzuschalten", "umschalten"),
            ("umgeschaltet", "umschalten"),
            ("herunterzufahren", "herunterfahren"),
        ] {
            is_form_of(word, base);
        }
    }

    #[test]
    fn a_verb_is_put_together_again() {
        let found = joined("halt", "an").unwrap_or_default();
        assert!(found.iter().any(|verb| verb == "anhalt"));
        assert_eq!(joined("halt", "lampe"), None);
    }

    #[test]
    fn a_word_of_any_script_has_no_form_that_breaks_it() {
        for word in ["ge", "geé", "ing", "éed", "zu", "日本ing"] {
            let _ = bases(word);
        }
    }
}
