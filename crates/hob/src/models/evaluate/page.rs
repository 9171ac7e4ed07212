//! What was measured, as one HTML page that needs nothing else.

use std::fmt::Write as _;

use super::card::{self, Row};
use super::measure::{Measured, Work};

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

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1c2024;--soft:#5c6670;--line:#d9dee3;--paper:#fff;--dot:#2a6fdb}\
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ec;--soft:#9aa4ae;--line:#39424b;--paper:#14181c;\
--dot:#7fb0ff}}\
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);margin:2rem auto;\
max-width:60rem;padding:0 1rem}\
h1{font-size:1.4rem}.wide{overflow-x:auto}\
table{border-collapse:collapse;font-variant-numeric:tabular-nums}\
th,td{padding:.25rem .8rem;border-bottom:1px solid var(--line);text-align:left;white-space:pre}\
tbody th{font-weight:normal;color:var(--soft)}td{text-align:right}\
p{color:var(--soft);overflow-wrap:anywhere}code{color:var(--ink);font-size:.9em}\
svg{max-width:100%;min-width:34rem;height:auto}\
@media(max-width:45rem){th,td{padding:.25rem .4rem}tbody th{white-space:pre-wrap;min-width:8rem}}\
svg text{fill:var(--soft);font-size:12px}svg .name{fill:var(--ink)}\
svg .grid{stroke:var(--line)}svg circle{fill:var(--dot);fill-opacity:.55;stroke:var(--dot)}";

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
            format!(
                "<tr><th scope=\"row\">{}</th>{cells}</tr>\n",
                escape(&label)
            )
        });
    let notes = card::notes(measured, work);
    let notes = notes
        .iter()
        .map(|note| format!("<p>{}</p>\n", paragraph(note)));
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n\
         <title>Models measured by hob</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <h1>Models measured by hob</h1>\n{plot}<div class=\"wide\"><table>\n\
         <thead><tr><td></td>{heads}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table></div>\n{notes}\
         </body>\n</html>\n",
        plot = plot(measured),
        heads = heads.collect::<String>(),
        rows = rows.collect::<String>(),
        notes = notes.collect::<String>(),
    )
}

fn cell(tag: &str, text: &str) -> String {
    format!("<{tag}>{}</{tag}>", escape(text))
}

/// A sentence, with what is to be typed as code.
fn paragraph(text: &str) -> String {
    let parts = text.split('`').enumerate();
    let parts = parts.map(|(at, part)| match at % 2 {
        0 => escape(part),
        _ => cell("code", part),
    });
    parts.collect()
}

/// Text as HTML shows it, in elements and in quoted attributes.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
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
    fn text_stays_text() {
        assert_eq!(
            escape("<img src=x onerror='a&b'>\""),
            "&lt;img src=x onerror=&#39;a&amp;b&#39;&gt;&quot;"
        );
    }

    #[test]
    fn what_is_to_be_typed_is_code() {
        let shown = paragraph("`hob <x>` asks `a`, and so on.");
        assert_eq!(
            shown,
            "<code>hob &lt;x&gt;</code> asks <code>a</code>, and so on."
        );
        assert_eq!(paragraph("plain"), "plain");
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
