//! What things are called: families of things that many words name, and compounds that end in one.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::{folded, stem};

/// What things are called, each family by all its words.
const FAMILIES: &[&str] = &[
    "light lights lamp lighting bulb chandelier sconce spotlight floodlight illuminate brighten dimmer \
     licht lampe leuchte beleuchtung kronleuchter glühbirne strahler",
    "fan ventilator lüfter lüftung",
    "blind blinds cover shade shutter curtain drape jalousie rollo rollladen rolladen vorhang markise",
    "lock unlock locked unlocked deadbolt schloss türschloss verriegeln entriegeln",
    "door gate tür tor garagentor",
    "media player speaker music volume radio stereo audio tv television track song soundbar \
     soundsystem jukebox playlist playback song wiedergabe medien lautsprecher musik lautstärke fernseher mediaplayer lied titel",
    "vacuum cleaner hoover roomba cleanup clean cleaned cleaning sweep staubsauger saugroboter saugen \
     staubsaugen reinigen",
    "switch outlet plug socket steckdose schalter",
    "climate thermostat temperature heating heater heat hvac humidity cooling ac heizung klimaanlage \
     temperatur thermostat klima",
    "timer alarm countdown wecker",
    "todo list shopping liste einkaufsliste",
    "window fenster",
    "coffee espresso cappuccino latte kaffee",
];

/// Kinds of things, as stems, and what they are of: who speaks of the lock of a door may call it the
/// door, and who speaks of a switch, the lamp.
const SERVING: &[(&str, &str)] = &[("lock", "door"), ("switch", "lamp"), ("switch", "fan")];

/// What any thing may be called, what is changed of any thing, what is so of anything now, and a verb
/// that says nothing without its particle.
const GENERAL: &[&str] = &[
    "system",
    "systems",
    "unit",
    "device",
    "devices",
    "room",
    "area",
    "zone",
    "geraet",
    "geraete",
    "anlage",
    "einheit",
    "zimmer",
    "raum",
    "bereich",
    "state",
    "status",
    "zustand",
    "turn",
    "current",
    "currently",
    "moment",
    "aktuell",
    "aktuelle",
    "aktuellen",
    "momentan",
    "gerade",
];

/// Shortest last part of a compound in bytes.
const PART_BYTES_MIN: usize = 4;
/// Shortest first part of a compound in bytes.
const START_BYTES_MIN: usize = 3;

static FAMILIES_OF: LazyLock<HashMap<String, u32>> = LazyLock::new(|| {
    let mut map = HashMap::new();
    for (bit, words) in FAMILIES.iter().enumerate() {
        for word in folded(words) {
            *map.entry(stem(&word).to_owned()).or_default() |= 1 << bit;
        }
    }
    map
});

/// The families of things that a word names, as a set of bits.
pub(in super::super) fn families(stem: &str) -> u32 {
    FAMILIES_OF.get(stem).copied().unwrap_or_default()
}

/// The families of what a kind of thing belongs to.
pub(in super::super) fn families_served(stem: &str) -> u32 {
    let of = SERVING.iter().filter(|(kind, _)| *kind == stem);
    of.fold(0, |all, (_, served)| all | families(served))
}

/// Whether a word says no more than that there is a thing.
pub(in super::super) fn is_general(folded: &str) -> bool {
    GENERAL.contains(&folded)
}

/// A compound's two stems, if it ends in the name of a family: Küchenlicht, floodlight.
pub(in super::super) fn parted(folded: &str) -> Option<(String, String)> {
    let end = stem(folded);
    let longest = FAMILIES_OF.keys().filter(|word| {
        word.len() >= PART_BYTES_MIN
            && end.len() >= word.len() + START_BYTES_MIN
            && end.ends_with(word.as_str())
    });
    let last = longest.max_by_key(|word| word.len())?;
    let first = &end[..end.len() - last.len()];
    Some((stem(first).to_owned(), last.clone()))
}

/// The stems of all parts of a compound, the first one first: Hintertürschloss has three.
pub(in super::super) fn parts(folded: &str) -> Option<Vec<String>> {
    let (first, last) = parted(folded)?;
    let mut parts = parts(&first).unwrap_or_else(|| vec![first]);
    parts.push(last);
    Some(parts)
}

/// The family of the thing with which a compound begins: Lüfterstufe.
pub(in super::super) fn leading_families(folded: &str) -> u32 {
    let begins = |word: &&String| {
        word.len() >= PART_BYTES_MIN
            && folded.len() > word.len()
            && folded.starts_with(word.as_str())
    };
    let longest = FAMILIES_OF
        .keys()
        .filter(begins)
        .max_by_key(|word| word.len());
    longest.map_or(0, |word| families(word))
}
