//! hobd's entry point: flags, settings, logging, signals, exit code.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{ArgAction, CommandFactory, Parser, Subcommand};
use hobd::RunError;
use hobd::frontend::dbus::OpenError;
use hobd::listen::ListenError;
use hobd::notify::Notifier;
use hobd::settings::load::{Config, Flag};
use hobd::settings::{self, Layers, Loaded, Places, Scope};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

mod logging;

const EXIT_FAILURE: u8 = 1;
const EXIT_USAGE: u8 = 2;
const EXIT_IN_USE: u8 = 3;

/// Longest wait for blocking work, such as a file being read, after everything else has ended.
const BLOCKING_GRACE: std::time::Duration = std::time::Duration::from_secs(1);

const AFTER_HELP: &str = "\
Try it without root:
  hob models pull smollm2-135m-instruct
  hobd --user &
  hob \"What is a dew point?\"

Settings come from, each winning over the ones before:
  built-in defaults
  /etc/hob/hobd.toml, or ~/.config/hob/hobd.toml with --user
  hobd.toml.d/*.toml beside it
  the environment: HOB_SOCKET, HOB_MODEL, HOB_ENGINE_N_CTX, and so on for every setting
  flags
hobd --check-config shows all of them and where each comes from.

Signals:
  SIGTERM, SIGINT   accept nothing new, let answers finish within limits.shutdown_grace, end
  SIGINT again      end at once
  SIGHUP            ignored; restart hobd to change settings

Exit codes:
  0  ended as asked
  1  failed; the last line of the log says why
  2  wrong flags or settings
  3  another hobd already has the socket or the bus name";

/// Answer questions on this machine: load a model, and serve it over D-Bus and a Unix socket.
#[derive(Debug, Parser)]
#[command(name = "hobd", version, after_long_help = AFTER_HELP)]
struct Args {
    /// Serve one user instead of the machine: session bus, the user's own folders, no root.
    #[arg(long)]
    user: bool,

    /// Read this settings file instead of the usual one and its drop-ins.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Listen on this Unix socket.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,

    /// Look for models in this folder.
    #[arg(long, value_name = "FOLDER")]
    models_dir: Option<PathBuf>,

    /// Load this model instead of the default one.
    #[arg(long, value_name = "NAME")]
    model: Option<String>,

    /// Stay off the bus: HTTP on the Unix socket only.
    #[arg(long)]
    no_dbus: bool,

    /// Change any other setting, such as limits.queue=8; may be repeated.
    #[arg(long, value_name = "SETTING=VALUE", value_parser = setting)]
    set: Vec<(String, String)>,

    /// What to log: error, warn, info, debug, trace, or directives such as hobd=debug,zbus=info.
    #[arg(long, value_name = "LEVEL", env = "HOB_LOG", default_value = "info")]
    log_level: String,

    /// Log more, whatever --log-level says: -v is debug, -vv trace.
    #[arg(short, action = ArgAction::Count)]
    verbose: u8,

    /// Print the settings in force and where each comes from, then exit.
    #[arg(long)]
    check_config: bool,

    /// End when the process that started this one does, which has this number.
    #[arg(long, value_name = "PID", hide = true)]
    ends_with: Option<i32>,

    #[command(subcommand)]
    generate: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write files that a package installs.
    #[command(hide = true, subcommand)]
    Generate(Generate),
}

#[derive(Debug, Subcommand)]
enum Generate {
    /// The manual page, into this folder.
    Man {
        /// Must exist.
        folder: PathBuf,
    },
    /// The commented default settings file, to the standard output.
    Config,
    /// The reference of all settings in Markdown, to the standard output.
    Reference,
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text
        .split_once('=')
        .ok_or("write it as SETTING=VALUE, such as engine.n_ctx=2048")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(Command::Generate(what)) = &args.generate {
        return exit_code(generate(what));
    }
    if let Some(Err(error)) = args.ends_with.map(end_with) {
        return exit_code(Err(error));
    }
    let filter = match logging::filter(args.verbose, &args.log_level) {
        Ok(filter) => filter,
        Err(error) => return usage(&format!("--log-level or $HOB_LOG: {error}")),
    };
    let loaded = match layers(&args) {
        Ok(layers) => match settings::load(layers) {
            Ok(loaded) => loaded,
            Err(problems) => return usage(&problems),
        },
        Err(error) => return usage(&told(&error)),
    };
    if args.check_config {
        let text = settings::document::effective(&loaded);
        report_warnings(&loaded, |line| say(&format!("warning: {line}")));
        return exit_code(print(&text));
    }
    logging::init(filter);
    report_warnings(&loaded, |line| tracing::warn!("{line}"));
    let result = serve(loaded);
    if let Err(error) = &result {
        tracing::error!("{}", told(error));
    }
    exit_code(result)
}

/// From now on the end of the process that started this one is a SIGTERM to it. One that has ended
/// already is not its parent any more.
fn end_with(parent: i32) -> anyhow::Result<()> {
    use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
    set_parent_process_death_signal(Some(Signal::TERM)).context("prctl(PR_SET_PDEATHSIG)")?;
    let is_there = getppid()
        .map(Pid::as_raw_nonzero)
        .is_some_and(|pid| pid.get() == parent);
    anyhow::ensure!(
        is_there,
        "process {parent} did not start this one, or has ended"
    );
    Ok(())
}

fn layers(args: &Args) -> anyhow::Result<Layers> {
    let scope = if args.user {
        Scope::User
    } else {
        Scope::System
    };
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .collect();
    let hobd = std::env::current_exe().context("hobd's own path is not known")?;
    let (places, folder) = Places::of(scope, &variables, &hobd)?;
    let config = match &args.config {
        Some(file) => Config::Only(file.clone()),
        None => Config::Folder(folder),
    };
    Ok(Layers {
        scope,
        places,
        config,
        variables,
        flags: flags(args)?,
    })
}

fn flags(args: &Args) -> anyhow::Result<Vec<Flag>> {
    let mut flags = Vec::new();
    let mut add = |flag, key: &str, value: String| {
        flags.push(Flag {
            flag,
            key: key.to_owned(),
            value,
        });
    };
    if let Some(path) = &args.socket {
        add("--socket", "socket", absolute(path)?);
    }
    if let Some(path) = &args.models_dir {
        add("--models-dir", "models_dir", absolute(path)?);
    }
    if let Some(model) = &args.model {
        add("--model", "model", model.clone());
    }
    if args.no_dbus {
        add("--no-dbus", "dbus", false.to_string());
    }
    for (key, value) in &args.set {
        add("--set", key, value.clone());
    }
    Ok(flags)
}

/// On the command line, unlike in a file, a relative path has an obvious meaning.
fn absolute(path: &Path) -> anyhow::Result<String> {
    let path = std::path::absolute(path).with_context(|| format!("{}", path.display()))?;
    path.into_os_string()
        .into_string()
        .map_err(|path| anyhow::anyhow!("{} is not UTF-8", path.display()))
}

fn serve(loaded: Loaded) -> anyhow::Result<()> {
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the event loop can't start")?;
    let result = runtime.block_on(async {
        let shutdown = CancellationToken::new();
        let signals = Signals::new().context("signals can't be caught")?;
        tokio::select! {
            biased;
            result = hobd::run(loaded.settings, shutdown.clone()) => Ok(result?),
            () = signals.obey(shutdown.clone()) => anyhow::bail!("interrupted twice: ended at once"),
        }
    });
    runtime.shutdown_timeout(BLOCKING_GRACE);
    result
}

/// Lets hobd have as many files as it may: each connection takes two, and the usual first limit of
/// 1024 is for programs that use `select`.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        // The limits of connections then hold only as far as this one lets them.
        tracing::warn!(%error, "the limit of open files can't be raised");
    }
}

/// The signals that end hobd, caught from construction on.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// Caught, then not looked at: a closed terminal or an old-fashioned "reload" ends nothing.
    _hangup: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            _hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Asks for a graceful end at the first signal; returns when the user can't wait for it.
    async fn obey(mut self, shutdown: CancellationToken) {
        let name = tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        };
        tracing::info!(signal = name, "ending");
        Notifier::from_env().stopping();
        shutdown.cancel();
        self.interrupt.recv().await;
    }
}

fn generate(what: &Generate) -> anyhow::Result<()> {
    match what {
        Generate::Man { folder } => {
            let path = folder.join("hobd.8");
            let mut page = Vec::new();
            clap_mangen::Man::new(Args::command())
                .section("8")
                .render(&mut page)?;
            std::fs::write(&path, page).with_context(|| format!("can't write {}", path.display()))
        }
        Generate::Config => print(&settings::document::default_file()),
        Generate::Reference => print(&settings::document::reference()),
    }
}

fn report_warnings(loaded: &Loaded, say: impl Fn(&str)) {
    for warning in &loaded.warnings {
        say(&warning.to_string());
    }
}

fn usage(error: &dyn std::fmt::Display) -> ExitCode {
    for line in error.to_string().lines() {
        say(&format!("error: {line}"));
    }
    ExitCode::from(EXIT_USAGE)
}

fn exit_code(result: anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    let in_use = matches!(
        error.downcast_ref(),
        Some(
            RunError::Listen(ListenError::AlreadyRunning(_)) | RunError::Bus(OpenError::NameTaken)
        )
    );
    ExitCode::from(if in_use { EXIT_IN_USE } else { EXIT_FAILURE })
}

/// An error with its causes, of which it may name some itself.
fn told(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !text.contains(&cause) {
            let between = if text.is_empty() { "" } else { ": " };
            text.extend([between, &cause]);
        }
    }
    text
}

/// Before logging is set up. A closed standard error leaves nobody to tell.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "hobd: {line}");
}

/// A reader that has seen enough, such as `head`, is no failure.
fn print(text: &str) -> anyhow::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_error_says_of_its_cause_is_said_once() {
        let source = io::Error::other("no such file");
        let error = ListenError::System {
            what: "make",
            path: "/x/hob.sock".into(),
            source,
        };
        let error = anyhow::Error::from(RunError::Listen(error));
        assert_eq!(told(&error), "can't make /x/hob.sock: no such file");
        let error = error.context("hobd can't serve");
        let expected = "hobd can't serve: can't make /x/hob.sock: no such file";
        assert_eq!(told(&error), expected);
    }
}
