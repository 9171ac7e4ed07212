//! How often what is said at a home becomes the call that is meant: by its words alone, which is the same
//! whatever the model, and by the model. A hobd of hob's own reads it, and nothing is done.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use hob_api::home::{HomeAnswer, HomeRequest, Reader};
use hob_models::ModelName;
use serde_json::{Value, json};

use super::super::Place;
use super::super::estimate::{self, Share};
use super::super::progress::Meter;
use super::card::{BEYOND, Row};
use super::measure::Measured;
use crate::daemon::Daemon;
use crate::evaluate::sentence::{self, Sentence, Verdict};
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::{providers, source};

/// What the home is called in the daemon that is asked.
const PROVIDER: &str = "home";

/// A home, and what is said there.
#[derive(Debug)]
pub(super) struct Home {
    definition: Bytes,
    definition_file: PathBuf,
    sentences: Vec<Sentence>,
    sentences_file: PathBuf,
}

/// How each sentence was read, in their order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Readings {
    /// By its words alone.
    words: Vec<Verdict>,
    /// By the model.
    model: Vec<Verdict>,
    /// How long the model's reading took, in microseconds.
    read_us: Vec<u64>,
}

impl Home {
    /// The definition and the sentences in these two files; `None` of no files.
    ///
    /// # Errors
    /// When one can't be read, or a sentence means what the home does not have.
    pub(super) fn read(files: &[PathBuf]) -> Result<Option<Self>, Failure> {
        let [definition_file, sentences_file] = files else {
            return Ok(None);
        };
        let definition = providers::read(definition_file)?;
        let sentences = sentence::read(sentences_file)?;
        sentence::check(&sentences, sentences_file, &definition)?;
        Ok(Some(Self {
            definition,
            definition_file: definition_file.clone(),
            sentences,
            sentences_file: sentences_file.clone(),
        }))
    }

    /// Has all sentences read with a model.
    ///
    /// # Errors
    /// When the daemon can't be started, takes the definition for none, or can't read a sentence; on Ctrl-C.
    pub(super) fn ask(
        &self,
        model: &ModelName,
        place: &Place<'_>,
        interrupt: &Interrupt,
        meter: &mut Meter,
    ) -> Result<Readings, Failure> {
        meter.share("starting a hobd for the home", 1);
        let mut daemon = Daemon::start(place.store.root(), model, interrupt)?;
        crate::runtime()?.block_on(async {
            daemon.ready(model).await?;
            let definition = self.definition.clone();
            let registered =
                daemon.ask(|client| async move { client.put_provider(PROVIDER, definition).await });
            registered
                .await
                .map_err(|failure| within(&self.definition_file, None, failure))?;
            meter.share("reading what is said at home", self.sentences.len() as u64);
            let mut readings = Readings::default();
            for sentence in &self.sentences {
                let words = self.read_one(&mut daemon, sentence, Reader::Words).await?;
                let model = self.read_one(&mut daemon, sentence, Reader::Model).await?;
                readings.words.push(sentence.judge(&words));
                readings.model.push(sentence.judge(&model));
                readings.read_us.push(model.read_us);
                meter.advance(1);
            }
            Ok(readings)
        })
    }

    async fn read_one(
        &self,
        daemon: &mut Daemon,
        sentence: &Sentence,
        reader: Reader,
    ) -> Result<HomeAnswer, Failure> {
        let request = HomeRequest {
            text: sentence.text.clone(),
            provider: Some(PROVIDER.to_owned()),
            area: sentence.area.clone(),
            reader,
            ..HomeRequest::default()
        };
        let answer = daemon.ask(|client| async move { client.home(&request).await });
        let at = |failure| within(&self.sentences_file, Some(sentence.line), failure);
        answer.await.map_err(at)
    }

    /// What is to be known of the figures.
    pub(super) fn note(&self) -> String {
        let (count, sentences) = (self.sentences.len(), source::shown(&self.sentences_file));
        let definition = source::shown(&self.definition_file);
        format!(
            "Home: {count} sentences of {sentences}, read and not done; of a share the interval of 95 % is \
             given. `hob evaluate home {sentences} --provider {definition} --reader model --misses` shows with \
             the running hobd which are read otherwise."
        )
    }
}

/// A failure, with the place in the files that it is about. Ctrl-C is about none.
fn within(file: &Path, line: Option<usize>, failure: Failure) -> Failure {
    if failure.status == crate::exit::ExitStatus::Interrupted {
        return failure;
    }
    let line = line.map_or_else(String::new, |line| format!(", line {line}"));
    let message = format!("{}{line}: {}", source::shown(file), failure.message);
    Failure { message, ..failure }
}

/// How many sentences were read in each way.
fn count(readings: &[Verdict], verdict: Verdict) -> usize {
    readings.iter().filter(|found| **found == verdict).count()
}

impl Readings {
    /// Of those that the words do not tell: how many the model reads as they are meant, and how many there are.
    fn where_words_fail(&self) -> (usize, usize) {
        let both = self.words.iter().zip(&self.model);
        let rest: Vec<&Verdict> = both
            .filter(|(words, _)| **words != Verdict::Exact)
            .map(|(_, model)| model)
            .collect();
        let exact = rest.iter().filter(|model| ***model == Verdict::Exact);
        (exact.count(), rest.len())
    }

    /// How many sentences this model reads as they are meant and the other does not, and the other way round.
    fn beside(&self, base: &Self) -> (usize, usize) {
        let exact = |verdict: &Verdict| *verdict == Verdict::Exact;
        let pairs = || base.model.iter().zip(&self.model);
        let gained = pairs().filter(|(base, own)| !exact(base) && exact(own));
        let lost = pairs().filter(|(base, own)| exact(base) && !exact(own));
        (gained.count(), lost.count())
    }

    /// The median of how long the model took, in milliseconds.
    fn median_ms(&self) -> Option<f64> {
        let mut times = self.read_us.clone();
        times.sort_unstable();
        let middle = times.get(times.len().checked_sub(1)? / 2)?;
        #[allow(clippy::cast_precision_loss, reason = "a few minutes at most")]
        let ms = *middle as f64 / 1000.0;
        Some(ms)
    }
}

/// The card's lines: as what is said was read by words, by each model, and what is wrong with it.
pub(super) fn rows(measured: &[Measured]) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut row = |label: String, cell: &dyn Fn(&Measured, &Readings) -> String| {
        let cell = |one: &Measured| {
            one.home
                .as_ref()
                .map_or_else(String::new, |of| cell(one, of))
        };
        let cells: Vec<String> = measured.iter().map(cell).collect();
        if cells.iter().any(|cell| !cell.is_empty()) {
            rows.push(Row { label, cells });
        }
    };
    let share = |part: usize, of: usize| {
        estimate::share(part, of).map_or_else(String::new, |Share { value, low, high }| {
            let [value, low, high] = [value, low, high].map(|share| 100.0 * share);
            format!("{value:.1} ({low:.1} to {high:.1})")
        })
    };
    let of = |readings: &[Verdict], verdict| share(count(readings, verdict), readings.len());
    row(
        "home: as meant, % (by words alone)".to_owned(),
        &|_, home| of(&home.words, Verdict::Exact),
    );
    row("home: as meant, % (by the model)".to_owned(), &|_, home| {
        of(&home.model, Verdict::Exact)
    });
    if let Some(first) = measured.first() {
        row(
            format!("  more than {}", first.name),
            &|one, home| match first.home.as_ref().filter(|_| one.name != first.name) {
                None => String::new(),
                Some(base) => beside(home, base),
            },
        );
    }
    row(
        "  of those that words do not tell".to_owned(),
        &|_, home| {
            let (exact, all) = home.where_words_fail();
            format!("{exact} of {all}")
        },
    );
    row(
        "home: wrong calls, % (by words alone)".to_owned(),
        &|_, home| of(&home.words, Verdict::WrongCall),
    );
    row(
        "home: wrong calls, % (by the model)".to_owned(),
        &|_, home| of(&home.model, Verdict::WrongCall),
    );
    row(
        "home: ms a sentence (by the model)".to_owned(),
        &|_, home| {
            home.median_ms()
                .map_or_else(String::new, |ms| format!("{ms:.0}"))
        },
    );
    rows
}

fn beside(home: &Readings, base: &Readings) -> String {
    let (gained, lost) = home.beside(base);
    let mark = if estimate::differ(gained, lost) {
        BEYOND
    } else {
        ""
    };
    format!("+{gained} -{lost} sentences{mark}")
}

/// The same for programs.
pub(super) fn object(first: &Measured, one: &Measured) -> Value {
    let Some(home) = &one.home else {
        return Value::Null;
    };
    let reader = |readings: &[Verdict]| {
        let exact = count(readings, Verdict::Exact);
        let share = estimate::share(exact, readings.len());
        json!({
            "exact": exact,
            "wrong_call": count(readings, Verdict::WrongCall),
            "not_done": count(readings, Verdict::NotDone),
            "exact_share": share.map(|share| json!({
                "value": share.value, "low_95": share.low, "high_95": share.high,
            })),
        })
    };
    let (exact, of) = home.where_words_fail();
    let base = first.home.as_ref().filter(|_| first.name != one.name);
    json!({
        "sentences": home.model.len(),
        "words": reader(&home.words),
        "model": reader(&home.model),
        "where_words_fail": { "sentences": of, "exact": exact },
        "difference": base.map(|base| {
            let (gained, lost) = home.beside(base);
            json!({ "gained": gained, "lost": lost, "beyond_chance": estimate::differ(gained, lost) })
        }),
        "model_ms_median": home.median_ms(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::card::tests::measured;
    use super::*;

    /// One letter a sentence: `x` exact, `w` a wrong call, `n` nothing done.
    fn readings(words: &str, model: &str) -> Readings {
        let verdicts = |letters: &str| {
            let each = letters.chars().map(|letter| match letter {
                'x' => Verdict::Exact,
                'w' => Verdict::WrongCall,
                _ => Verdict::NotDone,
            });
            each.collect::<Vec<_>>()
        };
        Readings {
            words: verdicts(words),
            model: verdicts(model),
            read_us: vec![400_000, 200_000, 900_000],
        }
    }

    fn with(name: &str, home: Readings) -> Measured {
        let mut one = measured(name, 1.0);
        one.home = Some(home);
        one
    }

    #[test]
    fn the_models_part_is_told_from_that_of_the_words() {
        let base = with("base", readings("xxxxxxxnnw", "xxxxxwnxwn"));
        let other = with("other", readings("xxxxxxxnnw", "xxxxxxxxxx"));
        let rows = rows(&[base, other]);
        let cells: Vec<_> = rows.iter().map(|row| row.cells.clone()).collect();
        // Wilson's interval of 7, 6, 10 and 1 of 10.
        assert_eq!(cells[0], ["70.0 (39.7 to 89.2)", "70.0 (39.7 to 89.2)"]);
        assert_eq!(cells[1], ["60.0 (31.3 to 83.2)", "100.0 (72.2 to 100.0)"]);
        assert_eq!(cells[2], ["", "+4 -0 sentences"]);
        assert_eq!(cells[3], ["1 of 3", "3 of 3"]);
        assert_eq!(cells[4][0], "10.0 (1.8 to 40.4)");
        assert_eq!(cells[5], ["20.0 (5.7 to 51.0)", "0.0 (0.0 to 27.8)"]);
        assert_eq!(cells[6], ["400", "400"]);
    }

    #[test]
    fn programs_get_the_counts() {
        let base = with("base", readings("xn", "nx"));
        let other = with("other", readings("xn", "xw"));
        let found = object(&base, &other);
        assert_eq!(found["words"]["exact"], 1);
        assert_eq!(found["model"]["wrong_call"], 1);
        assert_eq!(
            found["where_words_fail"],
            json!({ "sentences": 1, "exact": 0 })
        );
        assert_eq!(
            found["difference"],
            json!({ "gained": 1, "lost": 1, "beyond_chance": false })
        );
        assert_eq!(object(&base, &base)["difference"], Value::Null);
        assert_eq!(object(&base, &measured("bare", 1.0)), Value::Null);
    }
}
