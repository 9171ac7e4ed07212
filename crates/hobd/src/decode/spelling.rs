//! How a home's targets and values are written in answers: each in one way, and none as another.

use std::collections::{BTreeMap, BTreeSet, HashMap};
// Writing to a string can't fail, and its result is dropped here.
use std::fmt::Write as _;

use hob_api::provider::{Scalar, Target};

use crate::name::is_plain;
use crate::providers::{Provider, Tool, ValidCall};

/// Most groups of targets that have a name of their own.
const GROUPS_MAX: usize = 128;
/// Longest kind that is part of such a name, in bytes.
const KIND_BYTES_MAX: usize = 64;

/// How a provider's things are written.
#[derive(Debug)]
pub(super) struct Spelling {
    /// By place, without quotes.
    names: Vec<String>,
    places: HashMap<String, usize>,
    groups: Vec<Group>,
}

/// Several targets that are spoken of as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group {
    /// As it is written: in brackets, so that none begins as another ends.
    pub(super) text: String,
    /// Places of its targets, in order: two at least.
    pub(super) targets: Vec<usize>,
}

impl Spelling {
    /// That of a provider.
    pub(super) fn new(provider: &Provider) -> Self {
        let names = names(provider.targets());
        let places = names.iter().cloned().zip(0..).collect();
        Self {
            names,
            places,
            groups: groups(provider.targets()),
        }
    }

    /// A target, as it is written.
    pub(super) fn target(&self, place: usize) -> String {
        quoted(&self.names[place])
    }

    /// The target of this name, without its quotes.
    pub(super) fn place(&self, name: &str) -> Option<usize> {
        self.places.get(name).copied()
    }

    /// The groups of which `tool` acts on two targets at least, with those targets; of several with
    /// the same ones, the first.
    pub(super) fn groups_of(&self, provider: &Provider, tool: &Tool) -> Vec<Group> {
        let targets = provider.targets();
        self.groups_where(|place| tool.accepts(&targets[place]))
    }

    /// The groups with two targets at least that `accepted` lets through.
    pub(super) fn groups_where(&self, accepted: impl Fn(usize) -> bool) -> Vec<Group> {
        let mut seen = BTreeSet::new();
        let accepted = |group: &Group| {
            let targets = group.targets.iter().copied();
            Group {
                text: group.text.clone(),
                targets: targets.filter(|place| accepted(*place)).collect(),
            }
        };
        let groups = self.groups.iter().map(accepted);
        groups
            .filter(|group| group.targets.len() > 1 && seen.insert(group.targets.clone()))
            .collect()
    }

    /// A call, as it is written.
    pub(super) fn call(&self, provider: &Provider, call: &ValidCall) -> String {
        let tool = &provider.tools()[call.tool()];
        let mut text = tool.name().to_owned();
        if !call.targets().is_empty() {
            text.push(' ');
            text += &self.targets(provider, tool, call.targets());
        }
        for (name, value) in call.arguments() {
            let _ = write!(text, " {name}={}", value_text(value));
        }
        text
    }

    /// Targets, as they are written for a tool.
    pub(super) fn targets(&self, provider: &Provider, tool: &Tool, targets: &[usize]) -> String {
        let mut sorted = targets.to_vec();
        sorted.sort_unstable();
        if sorted.len() > 1 {
            let groups = self.groups_of(provider, tool).into_iter();
            if let Some(group) = groups.into_iter().find(|group| group.targets == sorted) {
                return group.text;
            }
        }
        let names = targets.iter().map(|place| self.target(*place));
        names.collect::<Vec<_>>().join(", ")
    }
}

/// A value, as it is written.
pub(super) fn value_text(value: &Scalar) -> String {
    match value {
        Scalar::Boolean(value) => value.to_string(),
        Scalar::Integer(value) => value.to_string(),
        Scalar::Number(value) => value.to_string(),
        Scalar::Text(text) => quoted(text),
    }
}

/// Text in quotes, as JSON has it.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A name of its own for each target: what people call it, with the room if several are called so,
/// and with the hub's id where that does not tell them apart.
fn names(targets: &[Target]) -> Vec<String> {
    let forms = |target: &Target| {
        let room = target.area.as_ref().or(target.floor.as_ref());
        [
            Some(target.name.clone()),
            room.map(|room| format!("{} ({room})", target.name)),
            Some(format!("{} ({})", target.name, target.id)),
        ]
    };
    let mut uses: HashMap<String, usize> = HashMap::new();
    for form in targets.iter().flat_map(forms).flatten() {
        *uses.entry(form).or_default() += 1;
    }
    let mut taken = BTreeSet::new();
    let name = |target: &Target| {
        let mut forms = forms(target).into_iter().flatten();
        let own = forms.find(|form| uses.get(form) == Some(&1));
        let mut name = own.unwrap_or_else(|| target.id.clone());
        // Only somebody who names one thing by another's id gets here a second time.
        while !taken.insert(name.clone()) {
            name.push('\'');
        }
        name
    };
    targets.iter().map(name).collect()
}

/// Everything, each kind, each area and floor, and each kind in each of these, if there are two at
/// least.
fn groups(targets: &[Target]) -> Vec<Group> {
    let mut all: BTreeMap<(u8, String), Vec<usize>> = BTreeMap::new();
    for (place, target) in targets.iter().enumerate() {
        let kind = is_plain(&target.kind, KIND_BYTES_MAX).then_some(target.kind.as_str());
        let mut rooms: Vec<&String> = [&target.area, &target.floor]
            .into_iter()
            .flatten()
            .collect();
        rooms.dedup();
        let mut add = |order, text| all.entry((order, text)).or_default().push(place);
        add(0, "[everything]".to_owned());
        for room in &rooms {
            add(2, format!("[everything in {}]", quoted(room)));
        }
        let Some(kind) = kind else { continue };
        add(1, format!("[every {kind}]"));
        for room in &rooms {
            add(3, format!("[every {kind} in {}]", quoted(room)));
        }
    }
    let several = all.into_iter().filter(|(_, targets)| targets.len() > 1);
    several
        .map(|((_, text), targets)| Group { text, targets })
        .take(GROUPS_MAX)
        .collect()
}
