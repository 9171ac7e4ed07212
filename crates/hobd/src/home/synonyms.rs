//! Words for the same room or thing in English and German: homes are often named in one language
//! and spoken to in another.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::words::{fold_word, stem};

/// Words of one line mean the same. Two that are joined by `+` are said one after the other, and
/// the first of them alone stands for both.
const SAME: &[&str] = &[
    "kitchen küche",
    "living+room wohnzimmer lounge",
    "bedroom schlafzimmer",
    "bathroom bad badezimmer",
    "dining+room esszimmer",
    "dining+area essbereich",
    "basement cellar keller",
    "attic loft dachboden speicher",
    "hallway hall corridor flur korridor diele gang",
    "entrance entry entryway eingang einstieg",
    "foyer eingangshalle",
    "office büro",
    "study arbeitszimmer",
    "nursery kinderzimmer",
    "kids+room kinderzimmer",
    "guest gast gäste",
    "library bibliothek",
    "gym fitnessraum fitnessstudio",
    "laundry+room waschküche",
    "storage lager aufbewahrung",
    "storage+room lagerraum abstellraum",
    "workshop werkstatt",
    "garden garten",
    "yard hof",
    "backyard hinterhof",
    "front+yard vorgarten",
    "driveway einfahrt auffahrt",
    "porch veranda",
    "patio terrace terrasse",
    "balcony balkon",
    "roof rooftop dach",
    "shed schuppen geräteschuppen",
    "barn scheune stall",
    "greenhouse gewächshaus",
    "sunroom conservatory wintergarten",
    "pool schwimmbad schwimmbecken billard",
    "walkway gehweg",
    "stair stairs stairwell stairway staircase treppe treppenhaus",
    "playroom spielzimmer",
    "music musik",
    "theater theatre cinema kino",
    "window fenster",
    "door tür",
    "gate tor",
    "lamp lampe",
    "table tisch",
    "desk schreibtisch",
    "bed bett",
    "bedside nachttisch",
    "ceiling decke",
    "wall wand",
    "floor boden",
    "mirror spiegel",
    "island insel",
    "cave höhle",
    "man+cave männerhöhle",
    "wine wein",
    "main haupt",
    "master haupt",
    "front vorder vordere vorderen",
    "back rear hinter hintere hinteren",
    "side seite seitlich seitliches seitlichen",
    "upper obere oberen",
    "lower untere unteren",
    "left linke linken",
    "right rechte rechten",
    "outdoor outside draußen außen",
    "room zimmer raum",
    "area bereich",
    "spot spotlight strahler",
    "track schiene schienen",
    "tree baum",
    "heater heizer heizung",
    "speaker speakers lautsprecher",
    "television tv fernseher",
    "security sicherheit",
    "camera kamera",
    "house haus",
    "home heim",
    "bar theke",
    "water wasser",
    "bike bicycle fahrrad",
    "car auto",
];

static SAME_AS: LazyLock<HashMap<String, Vec<String>>> = LazyLock::new(|| {
    let mut map = HashMap::<String, Vec<String>>::new();
    for line in SAME {
        let phrases: Vec<Vec<String>> = line
            .split_whitespace()
            .map(|phrase| phrase.split('+').map(stemmed).collect())
            .collect();
        for (place, phrase) in phrases.iter().enumerate() {
            let others = phrases.iter().enumerate();
            let others = others.filter(|(other, _)| *other != place);
            let said = others.flat_map(|(_, words)| words).cloned();
            map.entry(phrase[0].clone()).or_default().extend(said);
        }
    }
    map
});

fn stemmed(word: &str) -> String {
    stem(&fold_word(word)).to_owned()
}

/// The stems of what else is said for what this one's word means.
pub(super) fn synonyms(stem: &str) -> &'static [String] {
    SAME_AS.get(stem).map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_is_known_in_both_languages() {
        for (a, b) in [("Küche", "kitchen"), ("kitchen", "Küche"), ("Flur", "hall")] {
            assert!(synonyms(&stemmed(a)).contains(&stemmed(b)), "{a} {b}");
        }
        assert!(synonyms("lebron").is_empty());
    }

    #[test]
    fn two_words_are_known_by_the_first() {
        let living = synonyms(&stemmed("Wohnzimmer"));
        assert!(living.contains(&stemmed("living")) && living.contains(&stemmed("room")));
        assert!(synonyms(&stemmed("living")).contains(&stemmed("wohnzimmer")));
        assert!(!synonyms(&stemmed("room")).contains(&stemmed("wohnzimmer")));
    }
}
