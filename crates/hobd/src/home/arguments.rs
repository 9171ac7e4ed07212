//! From what was heard to a tool's arguments.

use std::collections::BTreeMap;

use hob_api::provider::{Scalar, Target};

use super::heard::Heard;
use super::lexicon;
use super::numbers::{self, Quantity, Unit};
use super::profile::spaced;
use super::words::{self, Word};
use crate::providers::{CallError, Parameter, Tool, Values};

/// How far a value moves that is only to be more or less: a little, as such, and much; of a
/// hundred, and in degrees.
const STEPS_PERCENT: [f64; 3] = [10.0, 20.0, 40.0];
const STEPS_DEGREES: [f64; 3] = [1.0, 1.0, 3.0];
/// The brightness that some hubs call full.
const BYTE_MAX: f64 = 255.0;

/// A tool's arguments, as far as they were said, and the words that said them.
#[derive(Clone, Debug)]
pub(super) struct Filled {
    pub(super) arguments: BTreeMap<String, Scalar>,
    /// By word heard.
    pub(super) explains: Vec<bool>,
    /// An argument that must be, for which a figure was said that is out of its bounds.
    pub(super) beyond: Option<CallError>,
}

/// What arguments are filled from.
pub(super) struct Source<'a> {
    pub(super) text: &'a str,
    pub(super) heard: &'a Heard,
    /// By word heard: whether it names the target, so that it is no argument.
    pub(super) named: &'a [bool],
    /// The target, if there is one: how it is now.
    pub(super) target: Option<&'a Target>,
}

impl Source<'_> {
    /// Fills in what was said.
    pub(super) fn fill(&self, tool: &Tool) -> Filled {
        let words: Vec<Word> = self.heard.words.iter().map(|w| w.word.clone()).collect();
        let mut quantities = numbers::quantities(&words);
        quantities.retain(|quantity| !quantity.words.clone().all(|place| self.named[place]));
        let mut filled = Filled {
            arguments: BTreeMap::new(),
            explains: vec![false; words.len()],
            beyond: None,
        };
        // What a call must have comes first where one quantity would fit several arguments.
        let mut parameters: Vec<&Parameter> = tool.parameters().iter().collect();
        parameters.sort_by_key(|parameter| !parameter.required);
        for parameter in parameters {
            let value = match &parameter.values {
                Values::Choice(choices) => self.choice(choices, &mut filled.explains),
                Values::Boolean => self.flag(parameter, &mut filled.explains),
                Values::Text => self.text(parameter, tool, &mut filled.explains),
                Values::Integer(_) | Values::Number(_) => {
                    Self::quantity(parameter, &mut quantities, &mut filled.explains)
                        .or_else(|| self.relative(parameter, &mut filled.explains))
                }
            };
            if let Some(value) = value {
                filled.arguments.insert(parameter.name.clone(), value);
            } else if parameter.required && filled.beyond.is_none() {
                let measure = Measure::of(parameter);
                let plain = |quantity: &Quantity| {
                    quantity.unit == Unit::None && measure.convert(quantity, parameter).is_some()
                };
                if let Some(said) = quantities.iter().find(|quantity| plain(quantity)) {
                    filled.beyond = CallError::out_of(parameter);
                    for place in said.words.clone() {
                        filled.explains[place] = true;
                    }
                }
            }
        }
        filled
    }

    /// The choice of which most words were said.
    fn choice(&self, choices: &[Scalar], explains: &mut [bool]) -> Option<Scalar> {
        let mut best: Option<(usize, &Scalar, Vec<usize>)> = None;
        for choice in choices {
            let text = match choice {
                Scalar::Text(text) => spaced_text(text),
                Scalar::Integer(number) => number.to_string(),
                Scalar::Number(number) => number.to_string(),
                Scalar::Boolean(_) => continue,
            };
            let Some(said) = self.said(&text) else {
                continue;
            };
            if best.as_ref().is_none_or(|(count, ..)| said.len() > *count) {
                best = Some((said.len(), choice, said));
            }
        }
        let (_, choice, said) = best?;
        for place in said {
            explains[place] = true;
        }
        Some(choice.clone())
    }

    /// Where all words of `text` were said, as words that do not name the target.
    fn said(&self, text: &str) -> Option<Vec<usize>> {
        let stems = words::stems(text);
        let place = |stem: &String| {
            let colour = lexicon::colour(stem);
            let mut heard = self.heard.words.iter().enumerate();
            heard.position(|(place, heard)| {
                let word = &heard.word;
                let same = word.stem == *stem
                    || (colour.is_some() && lexicon::colour(&word.stem) == colour);
                same && !self.named[place]
            })
        };
        let places: Option<Vec<usize>> = stems.iter().map(place).collect();
        places.filter(|places| !places.is_empty())
    }

    /// A flag is true if its name was said, and false with a no before it.
    fn flag(&self, parameter: &Parameter, explains: &mut [bool]) -> Option<Scalar> {
        let said = self.said(&spaced_text(&parameter.name))?;
        let first = said.iter().copied().min()?;
        for place in said {
            explains[place] = true;
        }
        let mut before = self.heard.words[..first].iter();
        let denied = before.any(|word| {
            matches!(
                word.word.folded.as_str(),
                "no" | "not" | "without" | "dont" | "kein" | "keine" | "nicht" | "ohne"
            )
        });
        Some(Scalar::Boolean(!denied))
    }

    /// The first quantity whose unit fits.
    fn quantity(
        parameter: &Parameter,
        quantities: &mut Vec<Quantity>,
        explains: &mut [bool],
    ) -> Option<Scalar> {
        let measure = Measure::of(parameter);
        let value = |quantity: &Quantity| measure.convert(quantity, parameter);
        let fits = |quantity: &Quantity| value(quantity).is_some();
        let inside = |quantity: &Quantity| {
            let range = bound(parameter, true)..=bound(parameter, false);
            value(quantity).is_some_and(|value| range.contains(&value))
        };
        // A bare number beyond what the argument may be is about something else; with a unit it is
        // a wish that can't be met, which is found when the call is checked.
        let best = quantities
            .iter()
            .position(|quantity| quantity.unit != Unit::None && fits(quantity))
            .or_else(|| quantities.iter().position(inside))?;
        let quantity = quantities.remove(best);
        for place in quantity.words.clone() {
            explains[place] = true;
        }
        let value = measure.convert(&quantity, parameter)?;
        Some(typed(value, parameter))
    }

    /// A bit warmer: from how the target is now, or as a step.
    fn relative(&self, parameter: &Parameter, explains: &mut [bool]) -> Option<Scalar> {
        let sign = self.direction()?;
        let size = self.size(explains);
        let measure = Measure::of(parameter);
        let (steps, least, most) = (
            if measure.degrees {
                STEPS_DEGREES
            } else {
                STEPS_PERCENT
            },
            bound(parameter, true),
            bound(parameter, false),
        );
        // Steps of a hundred are parts of what the argument may be, where that has an end.
        let scale = if !measure.degrees && (0.0..=1e6).contains(&most) && most > 0.0 {
            most / 100.0
        } else {
            1.0
        };
        let step = sign * steps[size] * scale;
        if measure.is_step {
            return Some(typed(step.clamp(least, most), parameter));
        }
        let now = self.target?.state.get(&parameter.name)?;
        #[allow(clippy::cast_precision_loss, reason = "a state is no exact figure")]
        let now = match now {
            Scalar::Integer(number) => *number as f64,
            Scalar::Number(number) => *number,
            Scalar::Boolean(_) | Scalar::Text(_) => return None,
        };
        Some(typed((now + step).clamp(least, most), parameter))
    }

    /// Up or down, if one of them was said.
    fn direction(&self) -> Option<f64> {
        let said = |name: &str| self.heard.meanings.names().any(|meaning| meaning == name);
        match (said("#up"), said("#down")) {
            (true, false) => Some(1.0),
            (false, true) => Some(-1.0),
            _ => None,
        }
    }

    fn size(&self, explains: &mut [bool]) -> usize {
        let mut size = 1;
        for (place, word) in self.heard.words.iter().enumerate() {
            let said = match word.word.folded.as_str() {
                "bit" | "little" | "slightly" | "etwas" | "bisschen" | "wenig" => 0,
                "much" | "lot" | "far" | "viel" | "deutlich" => 2,
                _ => continue,
            };
            explains[place] = true;
            size = said;
        }
        size
    }

    /// What stands where an example has the argument's slot.
    fn text(&self, parameter: &Parameter, tool: &Tool, explains: &mut [bool]) -> Option<Scalar> {
        let slot = format!("{{{}}}", parameter.name);
        let captured = tool.examples().iter().filter_map(|example| {
            let (before, after) = example.text.split_once(&slot)?;
            self.captured(before, after)
        });
        // The example that leaves the least to the slot says most about the rest.
        let places = captured.min_by_key(std::ops::Range::len)?;
        for place in places.clone() {
            explains[place] = true;
        }
        let first = self.heard.words[places.start].word.span.start;
        let last = self.heard.words[places.end - 1].word.span.end;
        Some(Scalar::Text(self.text[first..last].to_owned()))
    }

    /// The words between those that an example has around its slot.
    fn captured(&self, before: &str, after: &str) -> Option<std::ops::Range<usize>> {
        let heard = &self.heard.words;
        let start = match words::stems(before).last() {
            None => 0,
            Some(stem) => 1 + heard.iter().position(|word| word.word.stem == *stem)?,
        };
        let target_next = after.trim_start().starts_with("{target}");
        let end = match words::stems(after.split('{').next().unwrap_or_default()).first() {
            Some(stem) => {
                let found = heard
                    .iter()
                    .skip(start)
                    .rposition(|word| word.word.stem == *stem)?;
                start + found
            }
            None if target_next => {
                start + self.named.iter().skip(start).position(|named| *named)?
            }
            None => heard.len(),
        };
        (start < end).then_some(start..end)
    }
}

/// The unit of an argument as it is written, if its name or description tells.
pub(super) fn unit(parameter: &Parameter) -> Option<&'static str> {
    let measure = Measure::of(parameter);
    match measure.seconds {
        _ if measure.fahrenheit => Some("°F"),
        _ if measure.degrees => Some("°C"),
        _ if measure.percent && bound(parameter, false) <= 100.0 => Some("%"),
        Some(60.0) => Some("min"),
        Some(3600.0) => Some("h"),
        Some(_) => Some("s"),
        None => None,
    }
}

/// What an argument counts, by its name and description.
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is said or not, whatever else is"
)]
struct Measure {
    percent: bool,
    degrees: bool,
    fahrenheit: bool,
    /// The seconds of its unit, if it is a time.
    seconds: Option<f64>,
    /// It is a change, and not a value.
    is_step: bool,
}

impl Measure {
    fn of(parameter: &Parameter) -> Self {
        let folded = |text: &str| -> Vec<String> {
            let words = words::words(text, false).into_iter();
            words.map(|word| word.folded).collect()
        };
        let name = folded(&spaced_text(&parameter.name));
        let words = [name.clone(), folded(&parameter.description)].concat();
        let has = |any: &[&str]| words.iter().any(|word| any.contains(&word.as_str()));
        let seconds = if has(&["minutes", "minute", "minuten"]) {
            Some(60.0)
        } else if has(&["hours", "hour", "stunden"]) {
            Some(3600.0)
        } else if has(&["seconds", "second", "sekunden", "duration", "dauer", "time"]) {
            Some(1.0)
        } else {
            None
        };
        Self {
            percent: has(&[
                "percent",
                "percentage",
                "prozent",
                "brightness",
                "position",
                "volume",
                "level",
                "humidity",
                "helligkeit",
                "lautstaerke",
                "pct",
            ]),
            degrees: has(&[
                "temperature",
                "temp",
                "degrees",
                "grad",
                "temperatur",
                "celsius",
            ]),
            seconds,
            fahrenheit: has(&["fahrenheit"]),
            // What describes a value may well say that it changes something.
            is_step: name.iter().any(|word| {
                let word = word.as_str();
                matches!(
                    word,
                    "delta" | "step" | "change" | "offset" | "by" | "relative"
                )
            }),
        }
    }

    /// The quantity in the argument's unit, if it can be.
    fn convert(&self, quantity: &Quantity, parameter: &Parameter) -> Option<f64> {
        let known = self.percent || self.degrees || self.seconds.is_some();
        let value = match quantity.unit {
            Unit::None => Some(quantity.value),
            Unit::Percent if self.percent || !known => {
                let most = bound(parameter, false);
                let scale = if (most - BYTE_MAX).abs() < 0.5 {
                    BYTE_MAX / 100.0
                } else {
                    1.0
                };
                Some(quantity.value * scale)
            }
            Unit::Degrees if self.degrees || !known => Some(quantity.value),
            Unit::Seconds => self.seconds.map(|unit| quantity.value / unit),
            Unit::Fahrenheit if self.fahrenheit => Some(quantity.value),
            Unit::Percent | Unit::Degrees | Unit::Fahrenheit => None,
        };
        value.filter(|value| value.is_finite())
    }
}

/// One end of what a numeric argument may be.
#[allow(clippy::cast_precision_loss, reason = "a bound is no exact figure")]
fn bound(parameter: &Parameter, least: bool) -> f64 {
    match &parameter.values {
        Values::Integer(range) => *(if least { range.start() } else { range.end() }) as f64,
        Values::Number(range) => *(if least { range.start() } else { range.end() }),
        _ => 0.0,
    }
}

/// A number of the argument's type. What does not fit it is found when the call is checked.
#[allow(
    clippy::cast_possible_truncation,
    reason = "a cast of a float stops at the ends of i64, which no argument is near"
)]
fn typed(value: f64, parameter: &Parameter) -> Scalar {
    match parameter.values {
        Values::Integer(_) => Scalar::Integer(value.round() as i64),
        _ => Scalar::Number(value),
    }
}

fn spaced_text(text: &str) -> String {
    if text.is_ascii() {
        spaced(text)
    } else {
        text.replace(['_', '-'], " ")
    }
}
