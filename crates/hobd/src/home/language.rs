//! The language that somebody speaks: English or German.

use hob_api::home::Language;

use super::words;

/// Words that one of the languages has and the other has not, folded, among those that are said at
/// home.
const ENGLISH: &str = "the turn switch on off please and all every is are was what which where when \
    how can could you my me it that this to of with in light lights lamp lamps door window blinds \
    kitchen bedroom bathroom living hall upstairs downstairs open close lock unlock raise lower dim \
    brighter darker warmer colder degrees percent minutes hours set make put start stop play";
const GERMAN: &str = "der die das den dem des ein eine einen einem einer und bitte schalte schalten \
    mach mache machen stell stelle dreh fahr fahre aus auf zu im ist sind war wie was welche welches \
    wo wann wieviel alle alles jede licht lichter lampe lampen leuchte tuer tuere haustuer fenster \
    rollo rollos jalousie jalousien kueche schlafzimmer wohnzimmer badezimmer bad flur keller oben \
    unten oeffne oeffnen schliesse schliessen verriegle entriegle heller dunkler waermer kaelter \
    grad prozent minuten stunden heizung ich du mir mein meine kannst koenntest nicht lauter leiser \
    etwas mehr weniger danke dank hallo guten gute morgen tag abend nacht tschuess hilfe egal schon";

/// The language of `text`, as far as its words tell; English if they do not.
pub fn language(text: &str) -> Language {
    let (mut english, mut german) = (0, 0);
    for word in words::words(text, false) {
        let folded = word.folded.as_str();
        let is = |words: &str| words.split_ascii_whitespace().any(|known| known == folded);
        english += usize::from(is(ENGLISH));
        let umlaut = text[word.span.clone()].contains(['ä', 'ö', 'ü', 'ß', 'Ä', 'Ö', 'Ü']);
        german += usize::from(umlaut || is(GERMAN));
    }
    if german > english {
        Language::German
    } else {
        Language::English
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_language_is_known_by_its_words() {
        for text in [
            "turn off the lights upstairs",
            "is the front door locked?",
            "Küchenlicht on please",
            "desk lamp",
            "свет",
            "",
        ] {
            assert_eq!(language(text), Language::English, "{text}");
        }
        for text in [
            "schalte das Licht in der Küche aus",
            "Licht an",
            "Küchenlicht aus",
            "ist die Haustür zu?",
            "mach die Heizung etwas wärmer",
            "alle Lampen aus bitte",
        ] {
            assert_eq!(language(text), Language::German, "{text}");
        }
    }
}
