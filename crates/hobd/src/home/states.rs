//! What a target's state says: whether something is so, and how it is.
//!
//! Hubs name states as they like. Known here are the names that are in use among hubs, in English and
//! German; what a hub calls otherwise is found by its own words.

use hob_api::provider::{Scalar, Target};

use super::lexicon::Meanings;
use super::profile::spaced;

/// How a state says that something is so, or not; all words folded.
struct Sign {
    /// Flags that are true if it is so, and flags that are true if it is not.
    flags: [&'static [&'static str]; 2],
    /// Words of values that say that it is so, and that it is not.
    texts: [&'static [&'static str]; 2],
    /// Figures that are above zero if it is so.
    figures: &'static [&'static str],
}

static ON: Sign = Sign {
    flags: [
        &[
            "on",
            "is on",
            "power",
            "active",
            "running",
            "enabled",
            "an",
            "ein",
            "eingeschaltet",
        ],
        &["off", "is off", "aus", "ausgeschaltet"],
    ],
    texts: [
        &[
            "on",
            "an",
            "ein",
            "active",
            "running",
            "playing",
            "paused",
            "cleaning",
            "heating",
            "cooling",
            "heat",
            "cool",
            "auto",
            "returning",
            "eingeschaltet",
        ],
        &[
            "off",
            "aus",
            "idle",
            "standby",
            "inactive",
            "stopped",
            "docked",
            "ausgeschaltet",
        ],
    ],
    figures: &["brightness", "level", "helligkeit", "speed"],
};
static OPEN: Sign = Sign {
    flags: [
        &["open", "is open", "opened", "offen", "geoeffnet"],
        &["closed", "is closed", "shut", "geschlossen", "zu"],
    ],
    texts: [
        &[
            "open",
            "opened",
            "opening",
            "tilted",
            "ajar",
            "offen",
            "geoeffnet",
            "auf",
            "gekippt",
        ],
        &["closed", "closing", "shut", "geschlossen", "zu"],
    ],
    figures: &["position", "current position"],
};
static LOCKED: Sign = Sign {
    flags: [
        &["locked", "is locked", "verriegelt", "abgeschlossen"],
        &["unlocked", "entriegelt"],
    ],
    texts: [
        &["locked", "verriegelt", "abgeschlossen", "verschlossen"],
        &["unlocked", "entriegelt", "unverriegelt", "aufgeschlossen"],
    ],
    figures: &[],
};
static PLAYING: Sign = Sign {
    flags: [&["playing"], &["paused"]],
    texts: [
        &["playing", "spielt"],
        &[
            "paused", "stopped", "idle", "off", "standby", "pausiert", "aus",
        ],
    ],
    figures: &[],
};
static PAUSED: Sign = Sign {
    flags: [&["paused"], &["playing"]],
    texts: [
        &["paused", "pausiert"],
        &["playing", "stopped", "idle", "off", "spielt", "aus"],
    ],
    figures: &[],
};
static MUTED: Sign = Sign {
    flags: [&["muted", "mute", "stumm"], &[]],
    texts: [&["muted", "stumm"], &[]],
    figures: &[],
};

/// The name of a target's own state among its values, which says more than the others.
pub const STATE: &str = "state";

/// Whether what a word says is so, as in "is it open"; `None` if the state does not tell.
pub(super) fn holds(said: Meanings, target: &Target) -> Option<bool> {
    let names: Vec<&str> = said.names().collect();
    let has = |name: &str| names.contains(&name);
    let of = |sign: &Sign, so: bool| sign.of(target).map(|is| is == so);
    let open = match (has("#open"), has("#close")) {
        (true, false) => Some(true),
        (false, true) => Some(false),
        _ => None,
    };
    if let Some(open) = open {
        // What is locked is closed; what is not locked may be either.
        let locked = LOCKED.of(target).filter(|locked| *locked);
        return of(&OPEN, open).or(locked.map(|_| !open));
    }
    let said = names.iter().filter_map(|name| known(name));
    said.map(|(sign, so)| of(sign, so)).find_map(|is| is)
}

/// Whether the state has the word itself: as a flag's name, or as a value.
pub(super) fn has_word(folded: &str, target: &Target) -> Option<bool> {
    let mut values = target.state.iter();
    values.find_map(|(name, value)| match value {
        Scalar::Boolean(flag) if plain(name) == folded => Some(*flag),
        Scalar::Text(text) => super::folded(text)
            .iter()
            .any(|word| word == folded)
            .then_some(true),
        _ => None,
    })
}

/// The name of the value that is asked for by these words, folded, if the target has it.
pub(super) fn asked_value<'a>(said: &[&str], target: &'a Target) -> Option<&'a str> {
    let names = || target.state.keys().filter(|name| name.as_str() != STATE);
    let own = |name: &&String| {
        let flag = matches!(target.state.get(*name), Some(Scalar::Boolean(_)));
        let words = super::folded(&spaced(name));
        !flag && !words.is_empty() && words.iter().all(|word| said.contains(&word.as_str()))
    };
    // The name that has more of what was said says more exactly what is meant.
    if let Some(name) = names().filter(own).max_by_key(|name| name.len()) {
        return Some(name);
    }
    let value = VALUES.iter().filter(|(asked, _)| {
        let mut asked = asked.iter();
        asked.any(|word| said.contains(word))
    });
    let mut called = value.flat_map(|(_, called)| called.iter());
    called.find_map(|called| {
        names()
            .find(|name| plain(name) == *called)
            .map(String::as_str)
    })
}

/// Whether a word asks for a value that hubs are known to have.
pub(super) fn asks_value(folded: &str) -> bool {
    VALUES.iter().any(|(asked, _)| asked.contains(&folded))
}

/// Whether it can be asked whether it is so.
pub(super) fn is_condition(said: Meanings) -> bool {
    let mut names = said.names();
    names.any(|name| matches!(name, "#open" | "#close") || known(name).is_some())
}

/// The sign of what can be so, and how it is meant.
fn known(name: &str) -> Option<(&'static Sign, bool)> {
    Some(match name {
        "#lock" => (&LOCKED, true),
        "#unlock" => (&LOCKED, false),
        "#play" => (&PLAYING, true),
        "#pause" => (&PAUSED, true),
        "#mute" => (&MUTED, true),
        "#on" | "#start" => (&ON, true),
        "#off" | "#stop" => (&ON, false),
        _ => return None,
    })
}

/// Words that ask for a value, folded, and how hubs call it, the most exact name first.
const VALUES: &[(&[&str], &[&str])] = &[
    (
        &["set", "target", "eingestellt", "gestellt"],
        &[
            "target temperature",
            "setpoint",
            "target",
            "temperature",
            "temperatur",
        ],
    ),
    (
        &[
            "temperature",
            "warm",
            "hot",
            "cold",
            "cool",
            "degrees",
            "temperatur",
            "heiss",
            "kalt",
            "kuehl",
            "grad",
        ],
        &[
            "current temperature",
            "measured temperature",
            "measured",
            "temperature",
            "temp",
            "temperatur",
        ],
    ),
    (
        &[
            "humid",
            "humidity",
            "damp",
            "feucht",
            "feuchtigkeit",
            "luftfeuchtigkeit",
        ],
        &[
            "current humidity",
            "humidity",
            "feuchtigkeit",
            "luftfeuchtigkeit",
        ],
    ),
    (
        &["bright", "brightness", "dim", "hell", "helligkeit"],
        &["brightness", "level", "helligkeit"],
    ),
    (
        &["loud", "volume", "laut", "lautstaerke"],
        &["volume", "volume level", "lautstaerke"],
    ),
    (
        &[
            "battery",
            "charge",
            "charged",
            "akku",
            "batterie",
            "geladen",
            "ladestand",
        ],
        &["battery", "battery level", "akku", "batterie"],
    ),
    (
        &["far", "position", "weit"],
        &["current position", "position"],
    ),
    (
        &[
            "song", "track", "title", "playing", "lied", "titel", "spielt",
        ],
        &["title", "media title", "song", "track", "titel"],
    ),
    (
        &["long", "left", "remaining", "lange", "noch"],
        &["remaining", "time left", "duration"],
    ),
    (
        &["fast", "speed", "schnell"],
        &["speed", "level", "percentage"],
    ),
    (
        &[
            "power",
            "consume",
            "watts",
            "verbrauch",
            "verbraucht",
            "strom",
        ],
        &["power", "consumption"],
    ),
    (&["colour", "color", "farbe"], &["colour", "color", "farbe"]),
];

impl Sign {
    fn of(&self, target: &Target) -> Option<bool> {
        let flag = target.state.iter().find_map(|(name, value)| {
            let Scalar::Boolean(flag) = value else {
                return None;
            };
            let name = plain(name);
            let is = |names: &[&str]| names.contains(&name.as_str());
            (is(self.flags[0]) || is(self.flags[1])).then(|| *flag == is(self.flags[0]))
        });
        flag.or_else(|| self.of_texts(target))
            .or_else(|| self.of_figures(target))
    }

    /// What is called `state` comes first.
    fn of_texts(&self, target: &Target) -> Option<bool> {
        let own = target.state.get_key_value(STATE);
        let others = target.state.iter().filter(|(name, _)| *name != STATE);
        own.into_iter().chain(others).find_map(|(_, value)| {
            let Scalar::Text(text) = value else {
                return None;
            };
            let words = super::folded(text);
            let any = |known: &[&str]| words.iter().any(|word| known.contains(&word.as_str()));
            (any(self.texts[0]) || any(self.texts[1])).then(|| any(self.texts[0]))
        })
    }

    fn of_figures(&self, target: &Target) -> Option<bool> {
        target.state.iter().find_map(|(name, value)| {
            let known = self.figures.contains(&plain(name).as_str());
            match value {
                Scalar::Integer(number) if known => Some(*number > 0),
                Scalar::Number(number) if known => Some(*number > 0.0),
                _ => None,
            }
        })
    }
}

/// A value's name as folded words.
fn plain(name: &str) -> String {
    super::folded(&spaced(name)).join(" ")
}
