//! HTML pages that need nothing else, for any browser.

use std::path::Path;

use crate::failure::Failure;
use crate::output::Output;

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
svg .grid{stroke:var(--line)}svg circle{fill:var(--dot);fill-opacity:.55;stroke:var(--dot)}\
h2{font-size:1.1rem;margin-top:2rem}.bar svg{min-width:0;display:block}\
svg .whole{stroke:var(--dot);stroke-width:2}svg .zero{stroke:var(--soft)}";

/// A page with this title, which is its heading too, and this content.
pub(crate) fn document(title: &str, body: &str) -> String {
    let title = escape(title);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n{body}\
         </body>\n</html>\n"
    )
}

/// Refuses a place where no page can be written, before the work and not behind it.
pub(crate) fn check_place(page: &Path) -> Result<(), Failure> {
    let folder = page
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let there = folder.is_none_or(Path::is_dir);
    let file = std::fs::metadata(page).map_or(true, |found| found.is_file());
    if there && file && page.file_name().is_some() {
        return Ok(());
    }
    let problem = format!("{} can't be written", page.display());
    Err(Failure::usage(problem).hint("Name a file in a folder that exists."))
}

/// Writes a page, and says where it is.
pub(crate) fn write(path: &Path, page: &str, output: &mut Output) -> Result<(), Failure> {
    std::fs::write(path, page)
        .map_err(|error| Failure::io(&format!("{} can't be written", path.display()), &error))?;
    output.remark(&format!("The page is {}.", path.display()));
    Ok(())
}

/// An element with a text.
pub(crate) fn cell(tag: &str, text: &str) -> String {
    format!("<{tag}>{}</{tag}>", escape(text))
}

/// A table with these cells as its head, and these rows.
pub(crate) fn table(heads: &str, rows: &str) -> String {
    format!(
        "<div class=\"wide\"><table>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table></div>\n"
    )
}

/// A row of a table: what it is about, and its cells.
pub(crate) fn row(label: &str, cells: &str) -> String {
    format!("<tr><th scope=\"row\">{}</th>{cells}</tr>\n", escape(label))
}

/// A sentence, with what is to be typed as code.
pub(crate) fn paragraph(text: &str) -> String {
    let parts = text.split('`').enumerate();
    let parts = parts.map(|(at, part)| match at % 2 {
        0 => escape(part),
        _ => cell("code", part),
    });
    parts.collect()
}

/// Text as HTML shows it, in elements and in quoted attributes.
pub(crate) fn escape(text: &str) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
