//! What an utterance's words may be: words of targets, of tools, of common language.

use std::collections::{HashMap, HashSet};

use hob_api::home::Aid;

use super::Options;
use super::evidence::EXPLAINED;
use super::index::{Index, WordId};
use super::lexicon::{self, Meanings};
use super::matches::matched;
use super::profile::features_of;
use super::words::{self, Word};

/// One word, and what it may be.
#[derive(Debug)]
pub(super) struct HeardWord {
    pub(super) word: Word,
    /// Its place among all.
    pub(super) place: usize,
    /// It says nothing.
    pub(super) filler: bool,
    pub(super) meanings: Meanings,
    pub(super) families: u32,
    /// Words of targets, each with how sure that is, from 0 to 1.
    pub(super) matches: Vec<(WordId, f64)>,
    /// What is counted of it for tools.
    pub(super) features: Vec<String>,
}

/// How a word of a target was said.
#[derive(Clone, Copy, Debug)]
pub(super) struct Said {
    /// How sure that is, from 0 to 1.
    pub(super) strength: f64,
    /// The place of the word that is it most surely.
    pub(super) place: usize,
    /// The places of all words that may well be it, as a set of bits.
    pub(super) places: u64,
}

impl Said {
    /// Whether the word at `place` is it, or may well be: some say a name twice.
    pub(super) fn is_at(&self, place: usize) -> bool {
        place == self.place || self.places & bit(place) != 0
    }
}

/// The place of a word as a bit; none for what is so far behind that no command has it.
fn bit(place: usize) -> u64 {
    u32::try_from(place)
        .ok()
        .and_then(|place| 1_u64.checked_shl(place))
        .unwrap_or_default()
}

/// A clause, and what its words may be.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) words: Vec<HeardWord>,
    /// By word of a target: how it was said.
    pub(super) strengths: HashMap<WordId, Said>,
    pub(super) forms: HashSet<String>,
    pub(super) meanings: Meanings,
    pub(super) families: u32,
    /// Somebody says that all are meant.
    pub(super) all: bool,
    /// The places of words that say what is to be done, as a set of bits.
    pub(super) acting: u64,
    /// Somebody says what is not to be done.
    pub(super) forbids: bool,
    /// A thing of some family is named in the plural.
    pub(super) plural: bool,
}

impl Heard {
    /// All words in lower case of ASCII.
    pub(super) fn folded(&self) -> Vec<&str> {
        self.words.iter().map(HeardWord::folded).collect()
    }

    pub(super) fn new(text: &str, index: &Index, options: &Options) -> Self {
        let words = words::said(text, options.uses(Aid::Ordinals));
        let count = words.len();
        let mut heard = Self {
            words: Vec::with_capacity(count),
            strengths: HashMap::new(),
            forms: HashSet::new(),
            meanings: Meanings::default(),
            families: 0,
            all: false,
            acting: 0,
            forbids: false,
            plural: false,
        };
        let mut content = 0;
        let mut power = false;
        for (place, word) in words.into_iter().enumerate() {
            let bare = index.bare_names.contains(&word.folded) && heard.awaits_name();
            let last = place + 1 == count && count > 1;
            let down = power && word.folded == "down";
            power = lexicon::is_power(&word.folded);
            let mut known = heard_word(word, last, content == 0, index, options);
            if bare && known.filler {
                known.filler = false;
                let id = index.id(&known.word.stem);
                known.matches.extend(id.map(|id| (id, 1.0)));
            }
            if down && options.uses(Aid::Lexicon) {
                known.mean(lexicon::meanings("off"));
            }
            content += usize::from(!known.filler);
            heard.take(place, known);
        }
        if options.uses(Aid::Lexicon) {
            heard.read_together();
        }
        let words = heard.words.iter();
        heard.meanings = words.fold(Meanings::default(), |all, word| all.with(word.meanings));
        heard.families = heard.words.iter().fold(0, |all, word| all | word.families);
        let acting = heard.words.iter().filter(|word| !word.meanings.is_empty());
        heard.acting = acting.fold(0, |all, word| all | bit(word.place));
        heard
    }

    /// Whether a thing's name comes next: who opens the bin means no word of grammar.
    fn awaits_name(&self) -> bool {
        self.words.last().is_some_and(|before| {
            lexicon::is_article(before.folded()) || !before.meanings.is_empty()
        })
    }

    /// What words say together and not alone.
    fn read_together(&mut self) {
        self.join_verb();
        self.join_on_or_off();
        self.join_light_up();
        self.join_state();
        self.read_nouns();
        self.read_negation();
    }

    /// "Turn it on or off": to what it is not.
    fn join_on_or_off(&mut self) {
        let is = |word: &HeardWord, any: &[&str]| any.contains(&word.word.folded.as_str());
        let on = |word: &HeardWord| is(word, &["on", "ein", "an"]);
        let off = |word: &HeardWord| is(word, &["off", "aus"]);
        let or = |word: &HeardWord| is(word, &["or", "oder"]);
        if self.words.iter().any(or) && self.words.iter().any(on) && self.words.iter().any(off) {
            let toggle = lexicon::meanings(words::stem("toggle"));
            for word in self.words.iter_mut().filter(|word| on(word) || off(word)) {
                word.filler = false;
                word.mean(toggle);
            }
        }
    }

    /// Who lights something up speaks of no lamp and of nothing that goes up.
    fn join_light_up(&mut self) {
        for place in 1..self.words.len() {
            let [verb, up] = &mut self.words[place - 1..=place] else {
                continue;
            };
            if verb.word.folded == "light" && up.word.folded == "up" {
                verb.mean(lexicon::meanings("on"));
                verb.matches.clear();
                verb.families = 0;
                up.mean(Meanings::default());
                up.filler = true;
            }
        }
    }

    /// "Switch the state of the lamp": to what it is not.
    fn join_state(&mut self) {
        let state = |word: &HeardWord| matches!(word.word.folded.as_str(), "state" | "status");
        let plain = self.words.iter().all(|word| word.meanings.is_empty());
        if !plain || !self.words.iter().any(state) {
            return;
        }
        let mut words = self.words.iter_mut();
        if let Some(verb) = words.find(|word| word.word.folded == "switch") {
            verb.mean(lexicon::meanings(words::stem("toggle")));
            verb.filler = false;
        }
    }

    /// "Open the door's lock" and "stop the vacuum" name a thing last, and nothing more to be done; "and
    /// lock the door" does.
    fn read_nouns(&mut self) {
        let ends = |word: &HeardWord| {
            let word = word.word.folded.as_str();
            matches!(
                word,
                "of" | "in" | "at" | "to" | "on" | "for" | "and" | "please" | "now"
            )
        };
        let joins = |word: &HeardWord| matches!(word.word.folded.as_str(), "and" | "then" | "to");
        let Some(first) = self.words.iter().position(|word| !word.meanings.is_empty()) else {
            return;
        };
        for place in first + 1..self.words.len() {
            let noun = matches!(
                self.words[place].word.folded.as_str(),
                "lock" | "locks" | "vacuum" | "vacuums"
            );
            if noun && !joins(&self.words[place - 1]) && self.words.get(place + 1).is_none_or(ends)
            {
                self.words[place].mean(Meanings::default());
            }
        }
    }

    /// What nobody needs any more is to be off; of anything else that is not to be, nothing is done.
    fn read_negation(&mut self) {
        let negates =
            |word: &HeardWord| lexicon::is_negation(&word.word.folded) && word.matches.is_empty();
        let Some(negation) = self.words.iter().position(negates) else {
            return;
        };
        let needs = |word: &HeardWord| lexicon::is_need(&word.word.folded);
        let asks = negation > 0 && self.words[negation - 1].word.folded == "why";
        if self.words.iter().any(needs) {
            for word in &mut self.words {
                word.mean(Meanings::default());
                word.filler |= needs(word);
            }
            self.words[negation].filler = false;
            self.words[negation].mean(lexicon::meanings("off"));
        } else if asks {
            // "Why don't you" asks for it.
            self.words[negation - 1].filler = true;
            self.words[negation].filler = true;
        } else {
            self.forbids = true;
        }
    }

    /// German verbs are written apart: »halten Sie die Musik an« does the opposite of »schalten Sie
    /// die Musik an«.
    fn join_verb(&mut self) {
        let Some((last, before)) = self.words.split_last_mut() else {
            return;
        };
        let joined = before.iter_mut().find_map(|word| {
            let meanings = lexicon::joined_meanings(&word.word.stem, &last.word.folded);
            (!meanings.is_empty()).then_some((word, meanings))
        });
        if let Some((verb, meanings)) = joined {
            // It means what both mean, and not what it does alone: »sperr die Tür auf«.
            verb.mean(Meanings::default());
            verb.filler = true;
            last.mean(meanings);
            last.filler = false;
        }
    }

    fn take(&mut self, place: usize, mut word: HeardWord) {
        word.place = place;
        // Of two things in a row, as in "light switch", the first says which of the second.
        if let Some(before) = self.words.last_mut()
            && word.families != 0
            && before.families & word.families == 0
            && before.meanings.is_empty()
        {
            before.families = 0;
        }
        for (id, strength) in &word.matches {
            let nothing = Said {
                strength: 0.0,
                place,
                places: 0,
            };
            let known = self.strengths.entry(*id).or_insert(nothing);
            if *strength > known.strength {
                (known.strength, known.place) = (*strength, place);
            }
            if *strength >= EXPLAINED {
                known.places |= bit(place);
            }
        }
        self.all |= lexicon::is_all(&word.word.folded);
        let compound = lexicon::parted(&word.word.folded).is_some();
        let genitive = self.words.last().is_some_and(|before| {
            matches!(
                before.word.folded.as_str(),
                "des" | "eines" | "meines" | "unseres"
            )
        });
        self.plural |= word.families != 0 && is_plural(&word.word.folded) && !compound && !genitive;
        self.forms.insert(word.word.folded.clone());
        self.words.push(word);
    }

    /// Whether the word of a target was said, more or less.
    pub(super) fn strength(&self, id: WordId) -> f64 {
        self.strengths.get(&id).map_or(0.0, |said| said.strength)
    }
}

impl HeardWord {
    /// The word in lower case of ASCII.
    pub(super) fn folded(&self) -> &str {
        &self.word.folded
    }

    /// Lets it say something else than it does alone.
    fn mean(&mut self, meanings: Meanings) {
        self.features.retain(|feature| !feature.starts_with('#'));
        self.features.extend(meanings.names().map(str::to_owned));
        self.meanings = meanings;
    }
}

fn heard_word(
    word: Word,
    last: bool,
    first_content: bool,
    index: &Index,
    options: &Options,
) -> HeardWord {
    let lexicon = options.uses(Aid::Lexicon);
    let mut meanings = Meanings::default();
    if lexicon {
        meanings = lexicon::meanings(&word.stem);
        if last {
            meanings = meanings.with(lexicon::end_meanings(&word.folded));
        }
    }
    // »Switch off the fan« speaks of no switch, nor does »schalte das Licht aus«.
    let verb = (first_content && word.folded == "switch")
        || matches!(word.folded.as_str(), "schalte" | "schalten" | "schaltet");
    let mut filler =
        (lexicon::is_filler(&word.folded) || lexicon::is_filler(&word.stem)) && meanings.is_empty();
    let mut families = lexicon::families(&word.stem);
    let mut matches = Vec::new();
    if !filler && !verb && !lexicon::is_filler(&word.folded) {
        matches = matched(&word, index, options);
        if families == 0 && meanings.is_empty() {
            families = match lexicon::parted(&word.folded) {
                Some((_, thing)) => lexicon::families(&thing),
                None => lexicon::leading_families(&word.folded),
            };
        }
    }
    // It may be a part of a name, and says nothing where it is none.
    filler |= verb || lexicon::is_general(&word.folded);
    if verb || !options.uses(Aid::Kinds) {
        families = 0;
    }
    let mut features = features_of(&word.stem, lexicon);
    for name in meanings.names() {
        if !features.iter().any(|known| known == name) {
            features.push(name.to_owned());
        }
    }
    HeardWord {
        word,
        place: 0,
        filler,
        meanings,
        families,
        matches,
        features,
    }
}

fn is_plural(folded: &str) -> bool {
    (folded.ends_with('s') && !folded.ends_with("ss")) || folded.ends_with("en") || {
        // German plurals that end otherwise.
        matches!(folded, "lichter" | "rollos" | "fenster" | "schloesser")
    }
}
