//! What was measured, as one HTML page that needs nothing else.

use std::fmt::Write as _;

use super::card::{self, Row};
use super::measure::{Measured, Work};
use crate::page::{self, cell, escape, paragraph};

/// The plot's size and margins in SVG units.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 380.0;
const LEFT: f64 = 64.0;
const BOTTOM: f64 = 48.0;
const TOP: f64 = 24.0;
const RIGHT: f64 = 32.0;
/// Radii of the slowest dot that can be, and of the fastest model's.
const RADIUS: (f64, f64) = (4.0, 18.0);
/// Lines of the grid each way.
const TICKS: u32 = 4;

/// The whole page.
pub(super) fn page(measured: &[Measured], work: &Work) -> String {
    let heads = measured.iter().map(|one| cell("th", one.name.as_str()));
    let rows = card::rows(measured, work)
        .into_iter()
        .map(|Row { label, cells }| {
            let cells = cells
                .iter()
                .map(|text| cell("td", text))
                .collect::<String>();
            page::row(&label, &cells)
        });
    let notes = card::notes(measured, work);
    let notes = notes
        .iter()
        .map(|note| format!("<p>{}</p>\n", paragraph(note)));
    let heads = format!("<td></td>{}", heads.collect::<String>());
    let body = [
        plot(measured),
        page::table(&heads, &rows.collect::<String>()),
        notes.collect(),
    ];
    page::document("Models measured by hob", &body.concat())
}

/// One axis: from its least value to its greatest, along so many units.
struct Axis {
    least: f64,
    greatest: f64,
    start: f64,
    end: f64,
}

impl Axis {
    /// With room around the values, and never of no length.
    fn around(values: impl Iterator<Item = f64> + Clone, start: f64, end: f64) -> Self {
        let least = values.clone().fold(f64::INFINITY, f64::min);
        let greatest = values.fold(f64::NEG_INFINITY, f64::max);
        let room = ((greatest - least) * 0.15)
            .max(greatest.abs() * 0.02)
            .max(1e-6);
        Self {
            least: (least - room).max(0.0),
            greatest: greatest + room,
            start,
            end,
        }
    }

    fn at(&self, value: f64) -> f64 {
        let share = (value - self.least) / (self.greatest - self.least);
        self.start + share * (self.end - self.start)
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        let step = (self.greatest - self.least) / f64::from(TICKS);
        (0..=TICKS).map(move |n| self.least + f64::from(n) * step)
    }
}

/// Size against quality, with dots as large as the model is fast; nothing where quality is not known.
fn plot(measured: &[Measured]) -> String {
    #[allow(clippy::cast_precision_loss, reason = "shown with few digits")]
    let points: Vec<_> = measured
        .iter()
        .filter_map(|one| {
            let bits = card::bits(one)?.value;
            Some((one, one.size_bytes as f64 / f64::from(1 << 20), bits))
        })
        .collect();
    if points.is_empty() {
        return String::new();
    }
    let across = Axis::around(points.iter().map(|(_, size, _)| *size), LEFT, WIDTH - RIGHT);
    let up = Axis::around(points.iter().map(|(.., bits)| *bits), HEIGHT - BOTTOM, TOP);
    let speed = |one: &Measured| one.speed.decode.unwrap_or(0.0);
    let fastest = points
        .iter()
        .map(|(one, ..)| speed(one))
        .fold(1e-9, f64::max);
    let mut svg = format!(
        "<div class=\"wide\"><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\" \
         aria-label=\"Size against bits per byte; larger dots write faster\">\n"
    );
    grid(&mut svg, &across, &up);
    for (one, size, bits) in &points {
        // Areas are in proportion, as those are what is seen.
        let share = (speed(one) / fastest).sqrt();
        let radius = RADIUS.0 + share * (RADIUS.1 - RADIUS.0);
        let (x, y) = (across.at(*size), up.at(*bits));
        let name = escape(one.name.as_str());
        // Names stay within the plot.
        let (tx, anchor) = if x > WIDTH / 2.0 {
            (x - radius - 4.0, "end")
        } else {
            (x + radius + 4.0, "start")
        };
        // Writing to a string does not fail.
        let _ = writeln!(
            svg,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\"><title>{name}: {size:.0} MiB, {bits:.4} bits \
             per byte, {speed:.1} tokens/s</title></circle>\n\
             <text class=\"name\" x=\"{tx:.1}\" y=\"{ty:.1}\" text-anchor=\"{anchor}\">{name}</text>",
            speed = speed(one),
            ty = y + 4.0,
        );
    }
    svg + "</svg></div>\n<p>To the left: smaller. Below: better. Larger dots write faster.</p>\n"
}

/// Lines and numbers behind the dots.
fn grid(svg: &mut String, across: &Axis, up: &Axis) {
    let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
    for value in across.ticks() {
        let x = across.at(value);
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{bottom}\"/>\
             <text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{value:.0}</text>",
            y = bottom + 18.0,
        );
    }
    for value in up.ticks() {
        let y = up.at(value);
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\"/>\
             <text x=\"{x:.1}\" y=\"{ty:.1}\" text-anchor=\"end\">{value:.3}</text>",
            x = LEFT - 6.0,
            ty = y + 4.0,
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">size, MiB</text>\
         <text x=\"6\" y=\"14\">bits per byte</text>",
        x = f64::midpoint(LEFT, right),
        y = HEIGHT - 8.0,
    );
}

#[cfg(test)]
mod tests {
    use super::super::card::tests::{measured, work};
    use super::*;

    #[test]
    fn the_page_needs_nothing_else_and_is_whole() {
        let page = page(&[measured("base", 1.0), measured("small", 1.1)], &work());
        for foreign in [
            "http:", "https:", "src=", "href=", "url(", "<script", "@import",
        ] {
            assert!(!page.contains(foreign), "{foreign}");
        }
        assert_eq!(page.matches("<circle").count(), 2);
        assert!(page.contains("prefers-color-scheme:dark"));
        assert!(!page.contains("NaN") && !page.contains("inf"));
        for tag in ["svg", "table", "tbody", "html", "body"] {
            assert!(page.contains(&format!("</{tag}>")), "{tag}");
        }
    }

    #[test]
    fn a_single_model_and_one_without_quality_have_places() {
        let page_of_one = page(&[measured("base", 1.0)], &work());
        assert!(page_of_one.contains("<circle") && !page_of_one.contains("NaN"));
        let mut bare = measured("bare", 1.0);
        bare.pieces.clear();
        assert!(!page(&[bare], &work()).contains("<svg"));
    }
}
