//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;

const EXAMPLES: &str = "\
Examples:
  hob                                     chat; /help lists what a chat can do
  hob \"Why is the sky blue?\"              one question, one answer
  journalctl -b -p err | hob summarise    what comes in on stdin is added to the question
  hob --json \"Name three birds\" | jq .    the answer with its usage and timings
  hob --seed 1 --temperature 0 \"Hello\"    the same answer each time
  hob ask -- status                       a question that is also a command's name
  hob models pull                         install the default model
  hob doctor                              find out why it does not work";

const FILES: &str = "\
Files:
  $XDG_RUNTIME_DIR/hob/hob.sock   the user's own daemon (`hobd --user`); tried first
  /run/hob/hob.sock               the board's daemon; tried next
  ~/.local/state/hob/history      lines typed in chats (at most 1000, readable by you alone);
                                  a line that starts with a space is not kept

Environment:
  HOB_SOCKET    the daemon's socket, as with --socket
  NO_COLOR      if set and not empty, no colours, as with --color never

Text from the model is shown without control characters: an escape sequence in an answer
appears as `␛[31m` and does nothing. --raw writes the exact bytes, to a file or pipe only.";

/// What stands below the options in `hob --help` and in the man page.
pub(crate) fn after_help() -> String {
    format!(
        "{EXAMPLES}\n\nExit codes:\n{}\n{FILES}",
        crate::exit::table()
    )
}

/// Ask the assistant that runs on this board.
///
/// hob talks to hobd, the daemon that runs a language model on this machine. Nothing leaves the
/// machine. Without arguments it opens a chat; with a question it prints the answer as it comes.
#[derive(Debug, Parser)]
#[command(name = "hob", version, after_long_help = after_help(), after_help = EXAMPLES)]
#[command(subcommand_negates_reqs = true, disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// What to do; without it, ask or chat.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    /// The question; several words are joined with spaces
    #[arg(value_name = "QUESTION", value_hint = ValueHint::Other)]
    pub(crate) question: Vec<String>,

    /// How to ask.
    #[command(flatten)]
    pub(crate) asking: Asking,

    /// How to write the answer.
    #[command(flatten)]
    pub(crate) format: Format,

    /// What goes with every command.
    #[command(flatten)]
    pub(crate) global: Global,
}

/// Options of every command.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// The daemon's socket [default: the user's, else the board's]
    #[arg(
        long,
        value_name = "PATH",
        env = "HOB_SOCKET",
        hide_env_values = true,
        global = true
    )]
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) socket: Option<PathBuf>,

    /// When to use colours
    #[arg(long, value_name = "WHEN", default_value = "auto", global = true)]
    pub(crate) color: ColorChoice,

    /// Say more: which daemon is used, and how fast the answer was
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorChoice {
    /// On a terminal, unless `NO_COLOR` is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// Options of a question.
#[derive(Clone, Debug, Default, PartialEq, Args)]
#[command(next_help_heading = "Question options")]
pub(crate) struct Asking {
    /// Ask this model; it must be the one that is loaded [default: the one that is loaded]
    #[arg(long, value_name = "NAME")]
    pub(crate) model: Option<String>,

    /// Instructions to the model, before the question
    #[arg(long, value_name = "TEXT")]
    pub(crate) system: Option<String>,

    /// Longest answer, in tokens [default: the daemon's setting]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_tokens: Option<u32>,

    /// Randomness, from 0 (always the likeliest word) to 2 [default: the daemon's setting]
    #[arg(long, value_name = "T", value_parser = parse_temperature)]
    pub(crate) temperature: Option<f64>,

    /// Seed of the randomness: the same seed gives the same answer
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) seed: Option<i64>,

    /// Time allowed for the whole answer, such as 30s or 2m [default: the daemon's setting]
    #[arg(long, value_name = "TIME", value_parser = parse_timeout)]
    pub(crate) timeout: Option<Duration>,
}

impl Asking {
    /// These options, with those of `outer` (given before the command's name) where they say
    /// nothing.
    #[must_use]
    pub(crate) fn or(self, outer: Self) -> Self {
        Self {
            model: self.model.or(outer.model),
            system: self.system.or(outer.system),
            max_tokens: self.max_tokens.or(outer.max_tokens),
            temperature: self.temperature.or(outer.temperature),
            seed: self.seed.or(outer.seed),
            timeout: self.timeout.or(outer.timeout),
        }
    }
}

/// How one answer is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Question options")]
pub(crate) struct Format {
    /// Write one JSON object: text, finish_reason, usage, timings, model (or error)
    #[arg(long)]
    pub(crate) json: bool,

    /// Write the exact bytes of the answer, control characters too; not to a terminal
    #[arg(long, conflicts_with = "json")]
    pub(crate) raw: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Chat in the terminal
    Chat {
        /// How to ask.
        #[command(flatten)]
        asking: Asking,
    },
    /// Ask one question
    Ask {
        /// The question; several words are joined with spaces
        #[arg(value_name = "QUESTION", value_hint = ValueHint::Other)]
        question: Vec<String>,
        /// How to ask.
        #[command(flatten)]
        asking: Asking,
        /// How to write the answer.
        #[command(flatten)]
        format: Format,
    },
    /// Show what the daemon is doing
    Status {
        /// Write one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Check everything that an answer needs, with a hint for each problem
    Doctor {
        /// Write one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Print a shell's completions
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Write what packages ship
    #[command(hide = true)]
    Generate {
        /// What to write
        #[command(subcommand)]
        what: Generate,
    },
}

/// What packages ship.
#[derive(Debug, Subcommand)]
pub(crate) enum Generate {
    /// Man pages
    Man {
        /// An existing folder
        folder: PathBuf,
    },
}

/// A timeout of at least a millisecond and at most a day.
fn parse_timeout(text: &str) -> Result<Duration, String> {
    // A bare number would leave seconds or milliseconds to be guessed.
    let timeout = humantime::parse_duration(text)
        .map_err(|error| format!("{error}; write for example 30s, 2m or 1m30s"))?;
    if (Duration::from_millis(1)..=Duration::from_secs(24 * 60 * 60)).contains(&timeout) {
        Ok(timeout)
    } else {
        Err("the time must be between 1ms and 1day".to_owned())
    }
}

fn parse_temperature(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(temperature) if (0.0..=2.0).contains(&temperature) => Ok(temperature),
        _ => Err("the temperature must be a number from 0 to 2".to_owned()),
    }
}
