//! `hob-engine`: started by hobd with a socket at descriptor 0, and by nobody else.

use std::process::ExitCode;

fn main() -> ExitCode {
    hob_engine::run::run().into()
}
