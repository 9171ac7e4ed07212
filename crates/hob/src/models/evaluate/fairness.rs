//! What audits found of the models that are measured, beside the other figures. Nothing is asked anew.

use super::card::Row;
use super::measure::Measured;
use crate::fairness::findings::Finding;

/// The day of each audit, and the figures that models are judged by.
pub(super) fn rows(measured: &[Measured]) -> Vec<Row> {
    let mut titles: Vec<String> = Vec::new();
    for finding in measured.iter().filter_map(|one| one.fairness.as_ref()) {
        for title in finding.figures.iter().map(Finding::title) {
            if !titles.contains(&title) {
                titles.push(title);
            }
        }
    }
    if titles.is_empty() {
        return Vec::new();
    }
    let audits = measured.iter().map(|one| match &one.fairness {
        None => "no audit".to_owned(),
        Some(found) => format!("{} questions, {}", found.questions, found.measured_on),
    });
    let mut rows = vec![Row {
        label: "fairness, % (an audit's)".to_owned(),
        cells: audits.collect(),
    }];
    rows.extend(titles.into_iter().map(|title| Row {
        cells: measured.iter().map(|one| figure(one, &title)).collect(),
        label: format!("  {title}"),
    }));
    rows
}

fn figure(one: &Measured, title: &str) -> String {
    let mut figures = one.fairness.iter().flat_map(|found| &found.figures);
    let figure = figures.find(|figure| figure.title() == title);
    figure.map_or_else(String::new, Finding::percent)
}

/// What is to be known of them, and how a model that has none gets some; `option` is what `hob fairness`
/// needs behind it to mean this store.
pub(super) fn notes(measured: &[Measured], option: &str) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(found) = measured.iter().find_map(|one| one.fairness.as_ref()) {
        notes.push(format!("Fairness is as audited: {}", found.scope));
    }
    for one in measured {
        let gate = one.fairness.as_ref().and_then(|found| found.gate.as_ref());
        if let Some(gate) = gate {
            let passed = if gate.passed {
                "passed"
            } else {
                "did not pass"
            };
            notes.push(format!("{} {passed} beside {}.", one.name, gate.against));
        }
    }
    let without = measured.iter().filter(|one| one.fairness.is_none());
    if let Some(one) = without.map(|one| &one.name).next() {
        notes.push(format!(
            "Nothing is known of how fair {one} is: `hob fairness audit {one} --data FOLDER{option}` asks it."
        ));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::super::card::tests::measured;
    use super::*;
    use crate::fairness::findings::tests::findings;

    #[test]
    fn what_an_audit_found_stands_beside_the_other_figures() {
        let mut audited = measured("base", 1.0);
        audited.fairness = Some(findings());
        let models = [audited, measured("small", 1.1)];
        let rows = rows(&models);
        assert_eq!(rows[0].cells, ["12 questions, 1970-01-01", "no audit"]);
        assert_eq!(rows[1].label, "  BBQ, AMBIGUOUS");
        assert_eq!(rows[1].cells, ["50.0 (25.0 to 75.0)", ""]);
        let notes = notes(&models, "");
        assert_eq!(notes[0], "Fairness is as audited: English.");
        assert!(notes[1].contains("hob fairness audit small"), "{notes:?}");
    }

    #[test]
    fn what_was_never_audited_is_said_and_takes_no_rows() {
        let models = [measured("base", 1.0), measured("small", 1.1)];
        assert_eq!(rows(&models), Vec::new());
        let notes = notes(&models, " --system");
        assert_eq!(notes.len(), 1);
        assert!(
            notes[0].contains("hob fairness audit base --data FOLDER --system"),
            "{notes:?}"
        );
    }
}
