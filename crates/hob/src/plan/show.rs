//! Plans as text.

use std::fmt::Write as _;

use hob_ipc::memory::KvType;

use super::{Known, Load, Plan, Planned, Proposal};
use crate::clean::clean_line;
use crate::output::Style;
use crate::render::bytes;
use crate::table::Table;

/// What stands below every table.
const LEGEND: &str = "* installed   ~ estimated from the model's dimensions, as its file is not here\n\
                      ? not known before the file is here: `hob doctor --plan FILE` tells\n\
                      -  does not fit, even with 1024 tokens of q4_0\n";

/// What a cell of several boards side by side means.
const CELLS: &str = "f16 4 × 4096: contexts of type f16, 4 requests at once, each of 4096 tokens\n";

/// All models for a board, or for several side by side.
pub(super) fn boards(plans: &[Plan], color: bool) -> String {
    match plans {
        [plan] => rooms(plans, color) + "\n" + &one(plan) + "\n" + LEGEND,
        several => rooms(several, color) + "\n" + &side_by_side(several) + "\n" + CELLS + LEGEND,
    }
}

/// What there is room for, a line a board.
fn rooms(plans: &[Plan], color: bool) -> String {
    let line = |plan: &Plan| {
        let room = &plan.room;
        let board = format!("{}:", room.board);
        let engine = bytes(room.engine_bytes);
        format!(
            "{} the engine may take {engine} ({})\n",
            Style::Bold.paint(&board, color),
            room.because
        )
    };
    plans.iter().map(line).collect::<Vec<_>>().concat()
}

fn one(plan: &Plan) -> String {
    let mut table = Table::new(["", "MODEL", "CONTEXT", "AT ONCE", "KV", "WEIGHTS", "ENGINE"]);
    for model in &plan.models {
        let weights = model.loads.first().map(|load| bytes(load.weights_bytes));
        let about = if model.known == Some(Known::Dimensions) {
            "~"
        } else {
            ""
        };
        let figure = |text: String| format!("{about}{text}");
        let proposal = model.proposal;
        let or = |text: Option<String>| text.unwrap_or_else(|| nothing(model).to_owned());
        table.add([
            mark(model).to_owned(),
            clean_line(&model.name),
            or(proposal.map(|it| it.n_ctx.to_string())),
            or(proposal.map(|it| it.parallel.to_string())),
            or(proposal.map(|it| it.kv_type.to_owned())),
            weights.map_or_else(|| nothing(model).to_owned(), figure),
            or(proposal.map(|it| figure(bytes(it.engine_bytes)))),
        ]);
    }
    table.text(&[2, 3, 5, 6])
}

/// A row a model and a column a board: the context and its type.
fn side_by_side(plans: &[Plan]) -> String {
    let mut heads = vec![String::new(), "MODEL".to_owned()];
    heads.extend(plans.iter().map(|plan| plan.room.board.clone()));
    let mut table = Table::new(heads);
    let models = plans.first().map_or(&[][..], |plan| &plan.models);
    for (index, model) in models.iter().enumerate() {
        let mut row = vec![mark(model).to_owned(), clean_line(&model.name)];
        row.extend(plans.iter().map(|plan| match plan.models[index].proposal {
            Some(it) => format!("{} {} × {}", it.kv_type, it.parallel, it.n_ctx),
            None => nothing(model).to_owned(),
        }));
        table.add(row);
    }
    table.text(&[])
}

fn mark(model: &Planned) -> &'static str {
    match (model.installed, model.known) {
        (true, _) => "*",
        (false, Some(Known::Dimensions)) => "~",
        (false, _) => "",
    }
}

fn nothing(model: &Planned) -> &'static str {
    if model.known.is_none() { "?" } else { "-" }
}

/// One model, every context, and the settings to paste.
pub(super) fn model(plans: &[Plan], color: bool) -> String {
    let mut text = String::new();
    for plan in plans {
        text += &rooms(std::slice::from_ref(plan), color);
        for model in &plan.models {
            text += &contexts(model);
        }
        text.push('\n');
    }
    text
}

fn contexts(model: &Planned) -> String {
    let name = clean_line(&model.name);
    if model.loads.is_empty() {
        return format!("\n{name}: not known before its file is here.\n");
    }
    let heads = [
        "CONTEXT",
        "KV",
        "WEIGHTS",
        "CONTEXTS",
        "COMPUTING",
        "CACHE",
        "HOBD",
        "ALL",
        "FITS",
    ];
    let mut table = Table::new(heads);
    for load in &model.loads {
        let Load { n_ctx, kv_type, .. } = load;
        table.add([
            n_ctx.to_string(),
            (*kv_type).to_owned(),
            bytes(load.weights_bytes),
            bytes(load.kv_bytes),
            bytes(load.compute_bytes),
            bytes(load.cache_bytes),
            bytes(load.hobd_bytes),
            bytes(load.total_bytes),
            if load.fits { "yes" } else { "no" }.to_owned(),
        ]);
    }
    let note = match model.known {
        Some(Known::Dimensions) => " Its weights are estimated.",
        _ => "",
    };
    let table = table.text(&[0, 2, 3, 4, 5, 6, 7]);
    let settings = model
        .proposal
        .as_ref()
        .map_or_else(|| "\nIt does not fit.\n".to_owned(), settings);
    format!("\n{name}, one request at a time; computing errs upwards.{note}\n{table}{settings}")
}

/// What to paste into `hobd.toml`.
fn settings(proposal: &Proposal) -> String {
    let Proposal {
        n_ctx,
        parallel,
        kv_type,
        cache,
        engine_bytes,
    } = proposal;
    // Writing to a string can't fail.
    let mut text = format!(
        "\nTo paste into hobd.toml (the engine then takes {}):\n\n",
        bytes(*engine_bytes)
    );
    let _ = write!(
        text,
        "[engine]\nn_ctx = {n_ctx}\nparallel = {parallel}\nkv_type = \"{kv_type}\"\ncache = {cache}\n"
    );
    if *kv_type != KvType::default().as_str() {
        text += "\nContexts of this type are less exact, and slower on most processors.\n";
    }
    text
}
