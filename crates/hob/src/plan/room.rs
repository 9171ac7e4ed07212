//! How much of a board's memory an engine may take.

use std::fs;

use hob_api::status::Status;
use hob_models::fit;
use serde::Serialize;

use crate::doctor::meminfo_bytes;
use crate::failure::Failure;
use crate::render::bytes;

/// What hobd itself takes, in bytes: 19.1 MiB were measured under its unit after an answer
/// (`bench/RESULTS.md`).
pub(super) const HOBD_BYTES: u64 = 20 << 20;
/// What a system without a desktop is supposed to take of a board that is not here, in bytes, and
/// the part of the memory besides for the kernel's own tables, firmware and display. Supposed, not
/// measured.
const SYSTEM: u64 = 128 << 20;
const SYSTEM_PART: u64 = 16;
/// Processors of a board that is not here.
const PROCESSORS: u32 = 4;

/// A board's memory, and what of it an engine may take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Room {
    /// `this board`, or its memory.
    pub(super) board: String,
    /// How [`Room::engine_bytes`] comes about, in words.
    pub(super) because: String,
    /// What an engine may take, in bytes.
    pub(super) engine_bytes: u64,
    /// Processors, for the number of requests at once.
    pub(super) processors: u32,
}

/// A board with so much memory, which is not here.
pub(super) fn supposed(total: u64) -> Room {
    let system = SYSTEM + total / SYSTEM_PART;
    let reserve = fit::reserve(total);
    let because = format!(
        "supposing {} for the system; hobd takes {} and leaves {} free",
        bytes(system),
        bytes(HOBD_BYTES),
        bytes(reserve)
    );
    Room {
        board: whole(total),
        because,
        engine_bytes: total.saturating_sub(system + HOBD_BYTES + reserve),
        processors: PROCESSORS,
    }
}

/// This board: as its hobd found when it last loaded a model, else by what is available now.
///
/// # Errors
/// When neither is known.
pub(super) fn here(status: Option<&Status>) -> Result<Room, Failure> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let room = |engine_bytes, because| Room {
        board: "this board".to_owned(),
        because,
        engine_bytes,
        processors: u32::try_from(processors).unwrap_or(u32::MAX),
    };
    let known = status.and_then(|status| {
        let budget = status.memory.budget_bytes?;
        let because = match status.memory.budget_source.as_str() {
            "setting" => "by hobd's setting engine.memory".to_owned(),
            "cgroup" => "by hobd's control group when it last loaded a model".to_owned(),
            _ => "by what was available when hobd last loaded a model".to_owned(),
        };
        Some(room(budget, because))
    });
    if let Some(room) = known {
        return Ok(room);
    }
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let figure = |name| meminfo_bytes(&meminfo, name);
    let Some((total, available)) = figure("MemTotal").zip(figure("MemAvailable")) else {
        return Err(
            Failure::new("/proc/meminfo does not tell this board's memory")
                .hint("name it, as in --memory 4G"),
        );
    };
    let reserve = fit::reserve(total);
    let because = format!(
        "{} are available now; hobd takes {} and leaves {} free",
        bytes(available),
        bytes(HOBD_BYTES),
        bytes(reserve)
    );
    Ok(room(
        available.saturating_sub(HOBD_BYTES + reserve),
        because,
    ))
}

/// A board's memory as it is sold.
fn whole(total: u64) -> String {
    match total {
        gib if gib.is_multiple_of(1 << 30) => format!("{} GiB", gib >> 30),
        mib => format!("{} MiB", mib >> 20),
    }
}
