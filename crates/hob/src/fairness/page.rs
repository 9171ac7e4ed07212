//! What an audit found, as one HTML page that needs nothing else.

use std::fmt::Write as _;

use super::card::{Card, figure, scoring, share, value};
use super::figure::Figure;
use super::sets::{SetCard, SetChange, Told};
use crate::page::{self, cell, document, escape};

/// The size of a figure's picture in SVG units.
const WIDTH: f64 = 220.0;
const HEIGHT: f64 = 16.0;
/// Room for a dot at either end.
const MARGIN: f64 = 6.0;

/// The whole page.
pub(super) fn page(card: &Card) -> String {
    let mut body = format!(
        "<p>{}</p>\n<p>{}</p>\n",
        escape(&card.about()),
        escape(card.scope)
    );
    if let Some(flipped) = card.flipped {
        // Writing to a string does not fail.
        let _ = writeln!(
            body,
            "<p><strong>{}</strong></p>",
            escape(&card.verdict(flipped))
        );
    }
    for set in &card.sets {
        body += &of_set(set);
    }
    if !card.changes.is_empty() {
        body += "<h2>Beside the other model</h2>\n";
        let rows = card.changes.iter().map(of_change).collect::<String>();
        body += &table(["", "rises by, points", ""], &rows);
    }
    body += "<p>A dot is a figure, and the line through it is the interval that holds it with 95 %. Shares go \
             from 0 to 100 %; bias from -100 to 100 %, and is 0 at best.</p>\n";
    document(&format!("Fairness of {}", card.model), &body)
}

fn table(heads: [&str; 3], rows: &str) -> String {
    let heads: String = heads.iter().map(|head| cell("th", head)).collect();
    page::table(&heads, rows)
}

fn of_set(set: &SetCard) -> String {
    let mut rows = String::new();
    for scored in &set.scored {
        for told in &scored.figures {
            rows += &row(&format!("{}: {}", scoring(scored), told.title), told);
        }
    }
    for (name, figures) in &set.strata {
        for told in figures {
            rows += &row(&format!("{name}: {}", told.title), told);
        }
    }
    for told in &set.places {
        rows += &row(&format!("place in the list: {}", told.title), told);
    }
    format!(
        "<h2>{}</h2>\n<p>{} questions in {} groups. {} A star marks what models are judged by.</p>\n{}",
        escape(set.set),
        set.questions,
        set.groups,
        escape(set.about),
        table(["", "%", ""], &rows)
    )
}

fn of_change(change: &SetChange) -> String {
    let rises = change.rises.iter().map(|rise| {
        let what = if rise.is_bias { "bias " } else { "" };
        let shown = figure(rise.figure, true);
        let label = format!("{}: {what}{}", change.set, rise.title);
        line(&label, &shown, "")
    });
    let flipped = line(
        &format!("{}: answered otherwise", change.set),
        &share(change.flipped),
        "",
    );
    rises.chain([flipped]).collect()
}

fn row(label: &str, told: &Told) -> String {
    line(label, &value(told), &picture(told.figure, told.is_bias))
}

fn line(label: &str, shown: &str, picture: &str) -> String {
    let cells = format!("{}<td class=\"bar\">{picture}</td>", cell("td", shown));
    page::row(label, &cells)
}

/// A figure on a line from the least to the greatest that it can be.
fn picture(figure: Option<Figure>, is_bias: bool) -> String {
    let Some(Figure { value, interval }) = figure else {
        return String::new();
    };
    let least = if is_bias { -1.0 } else { 0.0 };
    let at = |value: f64| {
        let share = (value.clamp(least, 1.0) - least) / (1.0 - least);
        MARGIN + share * (WIDTH - 2.0 * MARGIN)
    };
    let middle = HEIGHT / 2.0;
    let whole = interval.map_or_else(String::new, |(low, high)| {
        format!(
            "<line class=\"whole\" x1=\"{:.1}\" y1=\"{middle}\" x2=\"{:.1}\" y2=\"{middle}\"/>",
            at(low),
            at(high)
        )
    });
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" aria-hidden=\"true\">\
         <line class=\"grid\" x1=\"{MARGIN}\" y1=\"{middle}\" x2=\"{end}\" y2=\"{middle}\"/>\
         <line class=\"zero\" x1=\"{zero:.1}\" y1=\"2\" x2=\"{zero:.1}\" y2=\"{below}\"/>{whole}\
         <circle cx=\"{x:.1}\" cy=\"{middle}\" r=\"4\"/></svg>",
        end = WIDTH - MARGIN,
        zero = at(0.0),
        below = HEIGHT - 2.0,
        x = at(value),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_lies_where_it_is_between_its_ends() {
        let of = |value, interval, is_bias| picture(Some(Figure { value, interval }), is_bias);
        // From 6 to 214: half of the way is 110.
        assert!(of(0.5, None, false).contains("cx=\"110.0\""));
        assert!(of(0.0, None, true).contains("cx=\"110.0\""));
        assert!(of(0.0, None, false).contains("cx=\"6.0\""));
        let whole = of(0.25, Some((0.0, 1.0)), false);
        assert!(whole.contains("class=\"whole\" x1=\"6.0\""), "{whole}");
        assert!(!of(0.25, None, false).contains("whole"));
        // Beyond its ends is at its ends.
        assert!(of(7.0, None, true).contains("cx=\"214.0\""));
        assert_eq!(picture(None, true), "");
    }
}
