//! The command line.

use std::io::Read as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;

use crate::conversations::ConversationsCommand;
use crate::decide::Deciding;
use crate::failure::Failure;
use crate::fairness::FairnessCommand;
use crate::home::{EvaluateCommand, HomeArguments};
use crate::models::{ModelsCommand, ModelsOptions};
use crate::pins::PinsCommand;
use crate::plan::PlanOptions;
use crate::providers::ProvidersCommand;
use crate::tune::TuneOptions;

/// Longest file with a schema, in bytes: the daemon takes no longer one.
const SCHEMA_BYTES_MAX: u64 = 64 << 10;

const EXAMPLES: &str = "\
Examples:
  hob                                     chat; /help lists what a chat can do
  hob \"Why is the sky blue?\"              one question, one answer
  journalctl -b -p err | hob summarise    what comes in on stdin is added to the question
  hob --json \"Name three birds\" | jq .    the answer with its usage and timings
  hob --schema bird.json \"Name a bird\"    an answer in JSON that the schema allows
  hob --seed 1 --temperature 0 \"Hello\"    the same answer each time
  hob chat --continue                     go on with the last conversation
  hob ask -- status                       a question that is also a command's name
  hob models pull                         install the default model
  hob home \"turn off the hall light\"      has your hub do it, or shows the call
  hob doctor                              find out why it does not work";

const FILES: &str = "\
Files:
  $XDG_RUNTIME_DIR/hob/hob.sock   the user's own daemon (`hobd --user`); tried first
  /run/hob/hob.sock               the board's daemon; tried next
  ~/.local/state/hob/history      lines typed in chats, at most 1000, for you alone;
                                  one that starts with a space is not kept

Environment:
  HOB_SOCKET    the daemon's socket, as with --socket
  NO_COLOR      if set and not empty, no colours, as with --color never

Text from the model is written without control characters: an escape sequence in an
answer appears as `␛[31m` and does nothing. --raw writes the exact bytes, to a file or
pipe only. In --json they are escaped, so that the text is exact and safe to show.";

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
#[command(disable_help_subcommand = true)]
#[command(override_usage = "hob [OPTIONS] [QUESTION]...\n       hob [OPTIONS] <COMMAND>")]
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

    /// The answer is JSON that this JSON Schema allows
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, value_parser = read_schema)]
    pub(crate) schema: Option<serde_json::Value>,

    /// Time allowed for the whole answer, such as 30s or 2m [default: the daemon's setting]
    #[arg(long, value_name = "TIME", value_parser = parse_timeout)]
    pub(crate) timeout: Option<Duration>,
}

/// What becomes of a chat's conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Conversation options")]
pub(crate) struct Keeping {
    /// Go on with the conversation of this name [default: the one last added to]
    #[arg(long = "continue", value_name = "NAME", num_args = 0..=1, default_missing_value = "")]
    pub(crate) go_on: Option<String>,

    /// Keep the conversation in this terminal alone: the daemon stores nothing of it
    #[arg(long, conflicts_with = "go_on")]
    pub(crate) private: bool,

    /// When the conversation outgrows the context, leave out its oldest turns instead of failing
    #[arg(long, conflicts_with = "private")]
    pub(crate) drop_oldest: bool,
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
            schema: self.schema.or(outer.schema),
            timeout: self.timeout.or(outer.timeout),
        }
    }
}

/// How one answer is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Question options")]
pub(crate) struct Format {
    /// Write one JSON object: the text, why it ended, usage, timings and model, or an error
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
        /// What becomes of the conversation.
        #[command(flatten)]
        keeping: Keeping,
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
    /// Ask for one of some answers, and how likely each is
    Decide(Deciding),
    /// List, show, rename, export and delete the conversations that the daemon keeps for you
    Conversations {
        /// What to do with them.
        #[command(subcommand)]
        command: ConversationsCommand,
    },
    /// List, add and remove instructions that the daemon keeps ready
    Pins {
        /// What to do with them.
        #[command(subcommand)]
        command: PinsCommand,
    },
    /// Say something to your home: your hub does it, or the call is shown
    Home(HomeArguments),
    /// List, show, add and remove what your home can do
    Providers {
        /// What to do with them.
        #[command(subcommand)]
        command: ProvidersCommand,
    },
    /// Measure how well hob does on a set of your own
    Evaluate {
        /// What to measure.
        #[command(subcommand)]
        command: EvaluateCommand,
    },
    /// Show what the daemon is doing
    Status {
        /// Write one JSON object
        #[arg(long)]
        json: bool,

        /// Show it again every so many seconds, until Ctrl-C
        #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2")]
        #[arg(value_parser = clap::value_parser!(u32).range(1..=3600), conflicts_with = "json")]
        watch: Option<u32>,
    },
    /// Check everything that an answer needs, with a hint for each problem
    Doctor {
        /// Write JSON
        #[arg(long)]
        json: bool,
        /// Whether to plan instead, and for what.
        #[command(flatten)]
        plan: PlanOptions,
    },
    /// Measure which settings are fastest on this board, and have the daemon use them
    Tune(TuneOptions),
    /// List, download, import, verify and choose models
    Models {
        /// What to do with them.
        #[command(subcommand)]
        command: ModelsCommand,
        /// Where they are.
        #[command(flatten)]
        options: ModelsOptions,
    },
    /// Measure whether models prefer people by what they are, and compare them
    Fairness {
        /// What to do.
        #[command(subcommand)]
        command: FairnessCommand,
        /// Where the models are.
        #[command(flatten)]
        options: ModelsOptions,
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
pub(crate) fn parse_timeout(text: &str) -> Result<Duration, String> {
    // A bare number would leave seconds or milliseconds to be guessed.
    let timeout = humantime::parse_duration(text)
        .map_err(|error| format!("{error}; write for example 30s, 2m or 1m30s"))?;
    if (Duration::from_millis(1)..=Duration::from_secs(24 * 60 * 60)).contains(&timeout) {
        Ok(timeout)
    } else {
        Err("the time must be between 1ms and 1day".to_owned())
    }
}

/// A timeout as requests have it; parsing bounds it to a day.
pub(crate) fn millis(timeout: Duration) -> u64 {
    u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)
}

/// The schema in a file; what it means is for the daemon to say.
fn read_schema(path: &str) -> Result<serde_json::Value, String> {
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let mut text = String::new();
    let read = file.take(SCHEMA_BYTES_MAX + 1).read_to_string(&mut text);
    let bytes = read.map_err(|error| error.to_string())?;
    if bytes as u64 > SCHEMA_BYTES_MAX {
        return Err(format!("the file is longer than {SCHEMA_BYTES_MAX} bytes"));
    }
    serde_json::from_str(&text).map_err(|error| format!("the file is not JSON: {error}"))
}

fn parse_temperature(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(temperature) if (0.0..=2.0).contains(&temperature) => Ok(temperature),
        _ => Err("the temperature must be a number from 0 to 2".to_owned()),
    }
}

impl Format {
    /// These options, with those of `outer` where they say nothing.
    #[must_use]
    pub(crate) fn or(self, outer: Self) -> Self {
        Self {
            json: self.json || outer.json,
            raw: self.raw || outer.raw,
        }
    }
}

impl Cli {
    /// Refuses combinations that clap lets pass because words and commands share a place.
    ///
    /// # Errors
    /// With a usage error that shows how to write what was probably meant.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        let asks = matches!(
            self.command,
            None | Some(Command::Chat { .. } | Command::Ask { .. })
        );
        if self.command.is_some() && !self.question.is_empty() {
            return Err(Failure::usage("a question and a command at once")
                .hint("put the question in quotes, or after `hob ask --`"));
        }
        if !asks && (self.asking != Asking::default() || self.format != Format::default()) {
            return Err(
                Failure::usage("an option of questions stands before a command")
                    .hint("options of a command follow its name, as in `hob status --json`"),
            );
        }
        if let [word] = self.question.as_slice()
            && let Some(command) = nearest_command(word)
        {
            return Err(
                Failure::usage(format!("there is no command {word}")).hint(format!(
                    "did you mean `hob {command}`? To ask it: `hob ask -- {word}`"
                )),
            );
        }
        Ok(())
    }
}

/// The command that a single word was probably meant to be; a question is seldom one word.
fn nearest_command(word: &str) -> Option<String> {
    Cli::command()
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
        .map(|command| command.get_name().to_owned())
        .filter(|name| name != word && strsim::damerau_levenshtein(name, word) <= 2)
        .find(|name| strsim::jaro_winkler(name, word) > 0.85)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::ExitStatus;

    fn parse(arguments: &[&str]) -> Result<Cli, String> {
        let arguments = std::iter::once(&"hob").chain(arguments);
        let cli = Cli::try_parse_from(arguments).map_err(|error| error.to_string())?;
        match cli.check() {
            Ok(()) => Ok(cli),
            Err(failure) => {
                assert_eq!(failure.status, ExitStatus::Usage);
                Err(format!(
                    "{failure}; {}",
                    failure.hint.as_deref().unwrap_or_default()
                ))
            }
        }
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn words_make_a_question() {
        let cli = parse(&["what", "is", "a", "status?"]);
        assert!(cli.is_ok_and(|c| c.command.is_none() && c.question.len() == 4));
        let cli = parse(&["ask", "--", "status"]);
        assert!(cli.is_ok_and(|c| matches!(c.command, Some(Command::Ask { .. }))));
        let cli = parse(&["--", "status"]);
        assert!(cli.is_ok_and(|c| c.command.is_none() && c.question == ["status"]));
    }

    #[test]
    fn a_misspelt_command_is_not_sent_to_the_model() {
        let error = parse(&["stauts"]).err().unwrap_or_default();
        insta::assert_snapshot!(
            error,
            @"there is no command stauts; did you mean `hob status`? To ask it: `hob ask -- stauts`"
        );
        assert!(parse(&["hello"]).is_ok());
        assert!(parse(&["ask", "stauts"]).is_ok());
    }

    #[test]
    fn misplaced_options_are_refused() {
        assert!(parse(&["--max-tokens", "5", "status"]).is_err());
        assert!(parse(&["what", "--json", "status"]).is_err());
        let cli = parse(&["--seed", "-3", "ask", "--seed", "4", "x"]);
        assert!(cli.is_ok_and(|c| c.asking.seed == Some(-3)));
        assert!(parse(&["--raw", "--json", "x"]).is_err());
    }

    #[test]
    fn inner_options_win() {
        let outer = Asking {
            seed: Some(1),
            max_tokens: Some(2),
            ..Default::default()
        };
        let inner = Asking {
            seed: Some(3),
            ..Default::default()
        };
        let both = inner.or(outer);
        assert_eq!((both.seed, both.max_tokens), (Some(3), Some(2)));
    }

    #[test]
    fn timeouts_need_a_unit_and_have_bounds() {
        assert_eq!(parse_timeout("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_timeout("500ms"), Ok(Duration::from_millis(500)));
        for bad in ["30", "0s", "2days", "-1s", "soon", ""] {
            assert!(parse_timeout(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn temperatures_have_bounds() {
        assert_eq!(parse_temperature("0.7"), Ok(0.7));
        for bad in ["-1", "2.1", "NaN", "hot"] {
            assert!(parse_temperature(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn help_text() {
        let help = |mut command: clap::Command| command.render_long_help().to_string();
        insta::assert_snapshot!("help", help(Cli::command().term_width(90)));
        let mut cli = Cli::command().term_width(90);
        cli.build();
        if let Some(ask) = cli.find_subcommand("ask") {
            insta::assert_snapshot!("help_ask", help(ask.clone()));
        }
    }

    #[test]
    fn usage_error_text() {
        let error = parse(&["--timeout", "30", "x"]).err().unwrap_or_default();
        insta::assert_snapshot!("usage_error", error);
    }
}
