//! What some words of English and German mean at home: the verbs of common devices, what devices
//! are called, and the words that mean nothing here.
//!
//! A provider's own names and examples come first; this is for homes that give none.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use super::inflection;
use super::words::stem;

pub(super) use self::things::{
    families, families_served, is_general, leading_families, parted, parts,
};

mod things;

/// Things that words say is to be done, as a set of bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Meanings(u32);

impl Meanings {
    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether something is in both.
    pub(super) fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Without what it says beside its own: "off" may well mean stop, and "open" a lock, but a tool
    /// that turns off or opens is rather meant.
    pub(super) fn primary(self) -> Self {
        let beside = [(0, 10), (1, 9), (3, 6), (4, 5)];
        let has = |bit: usize| self.0 & (1 << bit) != 0;
        let bits = beside
            .iter()
            .filter(|(own, _)| has(*own))
            .map(|(_, other)| 1 << other);
        Self(self.0 & !bits.fold(0, |all: u32, bit: u32| all | bit))
    }

    /// The opposites of what is in it.
    pub(super) fn opposites(self) -> Self {
        let opposite = |pair: &(usize, usize)| {
            let mut bits = 0;
            for (a, b) in [(pair.0, pair.1), (pair.1, pair.0)] {
                if self.0 & (1 << a) != 0 {
                    bits |= 1 << b;
                }
            }
            bits
        };
        Self(
            OPPOSITES
                .iter()
                .map(opposite)
                .fold(0, |all, bits| all | bits),
        )
    }

    /// The names of what is in it, for the counting of words.
    pub(super) fn names(self) -> impl Iterator<Item = &'static str> {
        let meanings = MEANINGS.iter().enumerate();
        meanings.filter_map(move |(bit, (name, _))| (self.0 & (1 << bit) != 0).then_some(*name))
    }
}

/// Meanings, each with the words that have it. A name begins with `#`, so that it is no word.
const MEANINGS: &[(&str, &str)] = &[
    (
        "#on",
        "on enable enabled activate activated illuminate lit running going engage brighten ignite \
         einschalten einschaltet eingeschaltet anschalten anschaltet angeschaltet anmachen anmacht \
         angemacht anzünden aktivieren aktiviere aktiviert beleuchten beleuchte erhellen",
    ),
    (
        "#off",
        "off disable disabled deactivate deactivated extinguish kill douse disengage darken \
         ausschalten ausschaltet ausgeschaltet ausmachen ausmacht ausgemacht abschalten abschaltet \
         abgeschaltet deaktivieren deaktiviere deaktiviert löschen lösche abdrehen",
    ),
    (
        "#toggle",
        "toggle flip alter reverse invert change umschalten umschaltet umdrehen umlegen wechseln wechsle \
         ändern ändere",
    ),
    (
        "#open",
        "open opened raise lift offen öffnen öffne öffnet geöffnet aufmachen hochfahren hochziehen \
         hochlassen anheben heben hebe aufziehen",
    ),
    (
        "#close",
        "close closed shut lower schließen schließe schließt geschlossen zumachen herunterlassen \
         runterlassen herunterfahren runterfahren herunterziehen senken senke absenken zuziehen",
    ),
    (
        "#lock",
        "lock locked locking secure secured engage bolt close shut schließen schließe schließt zumachen verriegeln verriegle verriegelt verschließen verschließe verschlossen abschließen \
         abgeschlossen zusperren absperren sperren sperre sperrt sichern sichere gesichert",
    ),
    (
        "#unlock",
        "unlock unlocked unlocking open öffnen öffne öffnet aufmachen unsecure unbolt unlatch disengage release entsichern entsichere \
         entsichert entriegeln entriegle entriegelt aufschließen aufgeschlossen \
         aufsperren entsperren entsperre entsperrt",
    ),
    (
        "#up",
        "increase raise boost accelerate ramp up louder brighter warmer hotter higher faster more \
         erhöhen erhöhe heller lauter wärmer höher schneller mehr hoch aufdrehen hochdrehen beschleunigen beschleunige",
    ),
    (
        "#down",
        "decrease lower reduce down slow slower quieter dimmer dim darker cooler colder softer less \
         verringern verringere reduzieren reduziere senken senke dunkler leiser kälter kühler \
         niedriger langsamer weniger runter herunter runterdrehen herunterdrehen dimmen dimme verlangsamen verlangsame",
    ),
    (
        "#stop",
        "off disable disabled deactivate deactivated ausschalten ausschaltet ausgeschaltet \
         abschalten deaktivieren deaktiviere stop halt freeze end cease anhalten stoppen stoppe stoppt beenden beende halten",
    ),
    (
        "#start",
        "on enable enabled activate activated running going einschalten einschaltet eingeschaltet anschalten \
         aktivieren aktiviere aktiviert start begin run initiate launch clean cleaned cleaning vacuum sweep \
         tidy laufen läuft ausführen ausgeführt bereinigen aufräumen starten starte startet \
         beginnen beginne reinigen reinige gereinigt saugen sauge putzen staubsaugen",
    ),
    (
        "#next",
        "next skip forward nächste nächsten überspringen überspringe vor",
    ),
    (
        "#previous",
        "previous back last rewind zurück zurückgehen zurückspringen vorherige vorherigen letzte letzten",
    ),
    (
        "#mute",
        "mute muted silence hush stumm stummschalten schweigen",
    ),
    ("#unmute", "unmute unmuted"),
    (
        "#play",
        "play resume spielen spiele abspielen wiedergeben fortsetzen",
    ),
    (
        "#pause",
        "pause hold pausieren pausiere unterbrechen unterbrich",
    ),
    (
        "#return",
        "return dock home base station zurückkehren zurückschicken aufladen ladestation",
    ),
    (
        "#set",
        "set adjust setting stellen stelle setzen setze einstellen",
    ),
    ("#add", "add put append hinzufügen füge ergänzen"),
    ("#remove", "remove delete entfernen entferne streichen"),
    ("#cancel", "cancel abort abbrechen stornieren"),
];

/// Pairs of places in [`MEANINGS`].
const OPPOSITES: &[(usize, usize)] = &[
    (0, 1),
    (3, 4),
    (5, 6),
    (7, 8),
    (9, 10),
    (11, 12),
    (13, 14),
    (15, 16),
    (19, 20),
];

/// German verbs leave these behind at the end: »schalte das Licht aus«.
const ENDS: &[(&str, &str)] = &[
    ("an", "#on #start"),
    ("ein", "#on #start"),
    ("aus", "#off #stop"),
    ("ab", "#off #stop #lock"),
    ("auf", "#open #unlock"),
    ("zu", "#close #lock"),
    ("um", "#toggle"),
    ("stumm", "#mute"),
];

const FILLERS: &str = "the a an please could can you in of to my me for i id im ill d like hey it is \
    this that be would we us our need at let lets and or with are was there make made sure ensure want \
    will shall should must now just so go get have has had do does did hob okay may ask ok thanks thank s t \
    hi hello hallo \
    der die das den dem des ein eine einen einem einer eines bitte könnten können könnte kann kannst \
    könntest sie du wir ich im in am an auf für zum zur und oder mit mir mal doch soll sollen sollte \
    werden wird würde würden von vom dass es ist sind mein meine meinen meinem unser unsere unseren \
    unserem man möchte mach mache machen schalte schalten dafür sicher jetzt mach bringe bring lass \
    lassen darf dürfen bitten muss müssen müsste some right immediately certain time request wish appreciate kindly \
    anymore here there sure when möglich zeit gerne gern ja dort dieses diese dieser \
    possible";

const ALL: &str = "all every everything everywhere both entire whole alle alles allen sämtliche jede \
    jeden jedes überall beide";

const FIGURES: &[(&str, &str)] = &[
    ("1", "one first primary erste ersten erster erstes eins"),
    ("2", "two second zwei zweite zweiten zweiter zweites"),
    ("3", "three third drei dritte dritten dritter drittes"),
    ("4", "four fourth vier vierte vierten vierter viertes"),
    ("5", "five fifth fünf fünfte fünften"),
    ("6", "six sixth sechs sechste"),
    ("7", "seven seventh sieben siebte"),
    ("8", "eight eighth acht achte"),
    ("9", "nine ninth neun neunte"),
    ("10", "ten tenth zehn zehnte"),
    ("11", "eleven elf"),
    ("12", "twelve zwölf"),
];

/// Words that begin a question.
const ASKING: &str = "is are was were does did has have what whats which when where wheres why who how \
    hows status ist sind war waren hat haben was welche welcher welches wann wo warum wer wie wieviel \
    läuft brennt steht any many viele wieviele welchen leuchtet spielt";

/// Words for floors: whoever says the first means a floor that is called by one of the others.
const FLOORS: &[(&str, &str)] = &[
    ("upstairs", "upstairs upper top first obergeschoss oben"),
    (
        "downstairs",
        "downstairs lower ground bottom erdgeschoss unten",
    ),
    ("oben", "upstairs upper obergeschoss oben"),
    ("unten", "downstairs ground erdgeschoss unten"),
];

/// Folds the tables' words as everybody else's, so that they may be written as they are.
fn folded(words: &'static str) -> impl Iterator<Item = String> {
    words.split_whitespace().map(super::words::fold_word)
}

static MEANING_OF: LazyLock<HashMap<String, Meanings>> = LazyLock::new(|| {
    let mut map = HashMap::<String, Meanings>::new();
    for (bit, (_, words)) in MEANINGS.iter().enumerate() {
        for word in folded(words) {
            let known = map.entry(stem(&word).to_owned()).or_default();
            *known = known.with(Meanings(1 << bit));
        }
    }
    map
});

static FIGURE_OF: LazyLock<HashMap<String, &'static str>> = LazyLock::new(|| {
    let figures = FIGURES.iter();
    figures
        .flat_map(|(figure, words)| folded(words).map(|word| (word, *figure)))
        .collect()
});

/// As they are written, and as stems.
static FILLER_SET: LazyLock<HashSet<String>> = LazyLock::new(|| {
    let mut fillers: HashSet<String> = folded(FILLERS).collect();
    fillers.extend(folded(FILLERS).map(|word| stem(&word).to_owned()));
    fillers
});
static ALL_SET: LazyLock<HashSet<String>> = LazyLock::new(|| folded(ALL).collect());
static ASKING_SET: LazyLock<HashSet<String>> = LazyLock::new(|| folded(ASKING).collect());

/// What a word says is to be done.
pub(super) fn meanings(stem: &str) -> Meanings {
    if let Some(known) = MEANING_OF.get(stem) {
        return *known;
    }
    first_known(&inflection::bases(stem))
}

/// What a German verb says of which `end` stands at the end: »halten … an«.
pub(super) fn joined_meanings(verb: &str, end: &str) -> Meanings {
    first_known(&inflection::joined(verb, end).unwrap_or_default())
}

fn first_known(stems: &[String]) -> Meanings {
    let known = stems.iter().find_map(|stem| MEANING_OF.get(stem));
    known.copied().unwrap_or_default()
}

/// What "down" says after these verbs: "power down the heater".
pub(super) fn is_power(folded: &str) -> bool {
    matches!(folded, "power" | "powered" | "shut")
}

/// What a German verb's end says is to be done.
pub(super) fn end_meanings(folded: &str) -> Meanings {
    let Some((_, names)) = ENDS.iter().find(|(end, _)| *end == folded) else {
        return Meanings::default();
    };
    let bit = |name| MEANINGS.iter().position(|(known, _)| *known == name);
    let bits = names.split(' ').filter_map(bit);
    Meanings(bits.fold(0, |all, bit| all | 1 << bit))
}

/// The figure of a number word up to twelve, ordinals included.
pub(super) fn figure(folded: &str) -> Option<&'static str> {
    FIGURE_OF.get(folded).copied()
}

/// Whether a word says nothing about what is meant.
pub(super) fn is_filler(folded: &str) -> bool {
    FILLER_SET.contains(folded)
}

/// Whether a word as it is written or its stem says nothing.
pub(super) fn is_silent(word: &super::words::Word) -> bool {
    is_filler(&word.folded) || is_filler(&word.stem)
}

/// Whether a word stands before a thing's name.
pub(super) fn is_article(folded: &str) -> bool {
    matches!(
        folded,
        "the"
            | "my"
            | "our"
            | "this"
            | "that"
            | "der"
            | "die"
            | "das"
            | "den"
            | "dem"
            | "mein"
            | "meine"
            | "meinen"
            | "unser"
            | "unsere"
            | "unseren"
    )
}

/// Whether a word says that something is not to be.
pub(super) fn is_negation(folded: &str) -> bool {
    matches!(
        folded,
        "not"
            | "dont"
            | "doesnt"
            | "never"
            | "nicht"
            | "nie"
            | "niemals"
            | "kein"
            | "keine"
            | "keinen"
    )
}

/// Whether a word says that something is wanted or needed, or, after a negation, that it was.
pub(super) fn is_need(folded: &str) -> bool {
    matches!(
        folded,
        "need"
            | "needs"
            | "needed"
            | "want"
            | "wants"
            | "require"
            | "anymore"
            | "longer"
            | "brauche"
            | "brauchen"
            | "braucht"
            | "benoetige"
            | "benoetigen"
            | "benoetigt"
            | "mehr"
    )
}

/// Whether the `on` at `place` belongs to a verb, as in "turn the lamp on", and is no preposition, as
/// in "the next track on the stereo".
pub(super) fn is_particle(words: &[&str], place: usize) -> bool {
    let has = |any: &[&str]| words.iter().any(|word| any.contains(word));
    let turns = has(&["turn", "turned", "switch", "switched", "power", "flip"]);
    let goes = place > 0 && matches!(words[place - 1], "go" | "get" | "put");
    let up_or_down = has(&["up", "down", "off"]);
    let or_off = words
        .get(place + 1..)
        .is_some_and(|next| next.starts_with(&["or", "off"]));
    let asks = words.first().is_some_and(|first| is_asking(first));
    // "Are the lights on in the kitchen?"
    let before_place = words.get(place + 1).is_some_and(|next| {
        asks && matches!(
            *next,
            "in" | "at" | "upstairs" | "downstairs" | "outside" | "here" | "right" | "now"
        )
    });
    let verb = place > 0 && matches!(words[place - 1], "turn" | "turned" | "switch" | "switched");
    place == 0
        || place + 1 == words.len()
        || verb
        || before_place
        || goes
        || or_off
        || (turns && !up_or_down)
}

/// Whether a word says that all are meant.
pub(super) fn is_all(folded: &str) -> bool {
    ALL_SET.contains(folded)
}

/// Whether a word speaks of any of several things, or of all.
pub(super) fn is_any(folded: &str) -> bool {
    let any = ["any", "anything", "something", "anywhere", "etwas"].contains(&folded);
    any || folded.starts_with("irgend") || is_all(folded)
}

/// Whether a word begins a question.
pub(super) fn is_asking(folded: &str) -> bool {
    ASKING_SET.contains(folded)
}

/// Colours, each with its names in both languages.
const COLOURS: &[&str] = &[
    "red rot rote roten",
    "green grün grüne grünen",
    "blue blau blaue blauen",
    "yellow gelb gelbe gelben",
    "white weiß weiße weißen",
    "orange",
    "purple violet lila violett",
    "pink rosa",
    "cyan türkis turquoise",
];

static COLOUR_OF: LazyLock<HashMap<String, usize>> = LazyLock::new(|| {
    let colours = COLOURS.iter().enumerate();
    colours
        .flat_map(|(place, words)| folded(words).map(move |word| (stem(&word).to_owned(), place)))
        .collect()
});

/// Which colour a word names.
pub(super) fn colour(stem: &str) -> Option<usize> {
    COLOUR_OF.get(stem).copied()
}

/// What a floor may be called that somebody speaks of as `folded`.
pub(super) fn floor_words(folded: &str) -> impl Iterator<Item = String> {
    let floors = FLOORS.iter().filter(move |(said, _)| *said == folded);
    floors.flat_map(|(_, words)| self::folded(words))
}

#[cfg(test)]
mod tests;
