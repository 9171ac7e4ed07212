//! What packages ship: completions and man pages, made from the same definition as `--help`.

use std::io;
use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::failure::Failure;
use crate::output::Output;

/// Writes `shell`'s completions to stdout.
///
/// # Errors
/// Stdout's.
pub(crate) fn completions(shell: Shell, output: &mut Output) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "hob", &mut script);
    output.write(&String::from_utf8_lossy(&script))
}

/// Writes `hob.1` and one page for each subcommand into `folder`.
///
/// # Errors
/// The folder's.
pub(crate) fn man(folder: &Path) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::io(&folder.display().to_string(), &error);
    clap_mangen::generate_to(Cli::command(), folder).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_visible_subcommand_gets_a_page() {
        let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(man(folder.path()), Ok(()));
        assert!(folder.path().join("hob.1").is_file());
        for command in Cli::command()
            .get_subcommands()
            .filter(|c| !c.is_hide_set())
        {
            let page = folder.path().join(format!("hob-{}.1", command.get_name()));
            assert!(page.is_file(), "{}", page.display());
        }
    }

    #[test]
    fn completions_know_the_commands() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "hob", &mut script);
            let script = String::from_utf8_lossy(&script);
            assert!(
                script.contains("doctor") && script.contains("max-tokens"),
                "{shell}"
            );
        }
    }
}
