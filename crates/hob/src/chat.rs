//! `hob chat`: a conversation in the terminal, which the daemon stores if it may.

mod command;
mod conversation;
mod input;
mod stored;

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use hob_api::ErrorCode;
use hob_api::conversation::Truncate;
use hob_api::event::Done;
use hob_api::model::DEFAULT_MODEL;
use hob_api::status::{State, Status};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

use crate::answer::{self, End};
use crate::clean::{clean, clean_line};
use crate::cli::{Asking, Global, Keeping};
use crate::client::{Client, ClientError};
use crate::exit::ExitStatus;
use crate::failure::Failure;
use crate::output::{Output, Style};
use crate::render;
use crate::terminal::Quiet;
use command::{COMMANDS, Command, Entry};
use conversation::Conversation;
use input::{Input, Typed};

/// How often the progress of a load is asked for.
const LOAD_POLL: Duration = Duration::from_millis(300);

/// Whether the chat goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Prompt,
    Leave,
}

/// Chats until Ctrl-D or `/quit`.
///
/// # Errors
/// No terminal, no daemon at the start, or no model that could answer.
pub(crate) fn run(
    runtime: &Runtime,
    asking: Asking,
    keeping: &Keeping,
    global: &Global,
    output: &mut Output,
) -> Result<ExitStatus, Failure> {
    if !io::stdin().is_terminal() || !output.stdout_is_terminal() {
        return Err(
            Failure::usage("a chat needs a terminal").hint("ask a single question with `hob ask`")
        );
    }
    let client = runtime.block_on(Client::find(global.socket.as_deref()))?;
    let status = runtime.block_on(client.status())?;
    if let (State::NoModel, Some(problem)) = (status.state, &status.problem) {
        return Err(problem.clone().into());
    }
    let (input, remark) = Input::new(output.color())?;
    let mut chat = Chat {
        runtime,
        client,
        conversation: Conversation::new(asking.system.clone()),
        asking,
        input,
        last: None,
        storing: status.conversations.enabled && !keeping.private,
        truncate: keeping.drop_oldest.then_some(Truncate::Oldest),
        verbose: global.verbose,
        output,
    };
    chat.greet(&status)?;
    if let Some(remark) = remark {
        chat.output.remark(&remark);
    }
    chat.complete_models();
    chat.complete_conversations();
    if let Some(name) = &keeping.go_on {
        chat.resume(Some(name.as_str()).filter(|name| !name.is_empty()))?;
        if let Some(system) = chat.asking.system.clone() {
            chat.conversation.instruct(Some(system));
        }
    }
    chat.converse()?;
    Ok(ExitStatus::Success)
}

/// A chat and all it works with.
struct Chat<'a> {
    runtime: &'a Runtime,
    client: Client,
    asking: Asking,
    conversation: Conversation,
    input: Input,
    /// About the last complete answer.
    last: Option<Done>,
    /// Whether the daemon is to store the conversation.
    storing: bool,
    /// What the daemon does with a conversation that has outgrown the context.
    truncate: Option<Truncate>,
    verbose: bool,
    output: &'a mut Output,
}

impl Chat<'_> {
    fn converse(&mut self) -> Result<(), Failure> {
        loop {
            let entry = match self.input.read()? {
                Typed::Entry(entry) => entry,
                Typed::Interrupt => {
                    self.output.remark("(Ctrl-D or /quit leaves the chat)");
                    continue;
                }
                Typed::End => return Ok(()),
            };
            let outcome = match command::parse(&entry) {
                Ok(Entry::Blank) => Ok(Next::Prompt),
                Ok(Entry::Question(question)) => self.ask(question).map(|()| Next::Prompt),
                Ok(Entry::Command(command)) => self.obey(command),
                Err(error) => {
                    Err(Failure::usage(error.to_string()).hint("/help lists the commands"))
                }
            };
            match outcome {
                Ok(Next::Prompt) => {}
                Ok(Next::Leave) => return Ok(()),
                // The reader of stdout is gone: there is nobody to chat with.
                Err(failure) if failure.status == ExitStatus::Success => return Err(failure),
                Err(failure) => self.output.failure(&failure),
            }
        }
    }

    /// One line about who answers, and one about how to go on.
    fn greet(&mut self, status: &Status) -> Result<(), Failure> {
        let mut parts = vec![format!("hob {}", status.version)];
        if let Some(model) = &status.model {
            parts.push(clean_line(&model.name));
            if model.n_ctx > 0 {
                parts.push(format!("{} tokens of context", model.n_ctx));
            }
        }
        parts.push(match &status.engine {
            Some(engine) if engine.sandbox.is_empty() => "no sandbox".to_owned(),
            Some(engine) => format!("sandbox: {}", clean_line(&engine.sandbox.join(", "))),
            None => "the model loads with the first question".to_owned(),
        });
        let color = self.output.color();
        let line = parts.join(" · ");
        self.output
            .write(&format!("{}\n", Style::Bold.paint(&line, color)))?;
        let hint = "Ask anything. /help lists commands, Ctrl-C stops an answer, Ctrl-D leaves.";
        self.output
            .write(&format!("{}\n", Style::Dim.paint(hint, color)))
    }

    /// Asks within the conversation. A question that fails does not become part of it.
    fn ask(&mut self, question: String) -> Result<(), Failure> {
        self.open_conversation();
        let mut text = String::new();
        let mut end = self.answer(&question, &mut text);
        // An answer does not fail because it can't be stored.
        if end.is_err() && text.is_empty() && self.conversation.id.is_some() && self.is_lost() {
            end = self.answer(&question, &mut text);
        }
        if !text.is_empty() && !text.ends_with('\n') {
            self.output.write("\n")?;
        }
        let done = match end {
            Ok(End::Done(done)) => done,
            Ok(End::Stopped) => {
                self.output.remark("(stopped)");
                if !text.trim().is_empty() {
                    self.conversation.push(question, text, true);
                    // Its figures no longer tell how full the context is.
                    self.last = None;
                }
                return Ok(());
            }
            Err(failure) => return Err(self.explain(failure, &text)),
        };
        if let Some(remark) = render::incomplete(done.reason) {
            self.output.remark(remark);
        }
        if self.verbose {
            self.output
                .remark(&render::cost(&done.usage, &done.timings));
        }
        self.output.write("\n")?;
        self.conversation.push(question, text, false);
        self.tell_kept(done.kept.as_ref());
        self.last = Some(done);
        Ok(())
    }

    fn answer(&mut self, question: &str, text: &mut String) -> Result<End, Failure> {
        let mut request = answer::request(self.conversation.messages(question), &self.asking);
        request.conversation.clone_from(&self.conversation.id);
        request.truncate = self.truncate.filter(|_| request.conversation.is_some());
        let _quiet = Quiet::stdin();
        self.runtime.block_on(answer::stream(
            &self.client,
            &request,
            self.output,
            text,
            Output::write_clean,
        ))
    }

    /// The failure with what it means for the conversation.
    fn explain(&self, failure: Failure, partial: &str) -> Failure {
        let turns = self.conversation.len();
        if failure.status == ExitStatus::ContextOverflow && turns > 0 {
            return failure.hint(format!(
                "the conversation ({}) goes before each question; /save keeps it in a file, \
                 /new starts over, and `hob chat --drop-oldest` leaves its oldest turns out",
                render::counted(turns as u64, "turn")
            ));
        }
        if partial.is_empty() {
            return failure;
        }
        let hint = failure.hint.clone().unwrap_or_default();
        let hint = format!("{hint} (the broken answer is not part of the conversation)");
        failure.hint(hint.trim_start().to_owned())
    }

    fn obey(&mut self, command: Command) -> Result<Next, Failure> {
        match command {
            Command::Help => self.help()?,
            Command::Model(None) => self.list_models()?,
            Command::Model(Some(name)) => self.load(&name)?,
            Command::New => {
                self.conversation = Conversation::new(self.conversation.system.take());
                self.last = None;
                self.output.remark("(a new conversation)");
            }
            Command::System(None) => {
                let remark = match &self.conversation.system {
                    Some(system) => format!("(instructions: {system})"),
                    None => "(no instructions; /system TEXT sets them)".to_owned(),
                };
                self.output.remark(&remark);
            }
            Command::System(Some(text)) => {
                self.conversation
                    .instruct(Some(text).filter(|text| text != "off"));
                self.output
                    .remark("(it holds for the whole conversation, from the next answer on)");
            }
            Command::Resume(None) => self.list_conversations()?,
            Command::Resume(Some(name)) => self.resume(Some(&name))?,
            Command::Rename(name) => self.rename(&name)?,
            Command::Save(file) => self.save(&expand_home(file))?,
            Command::Stats => self.stats()?,
            Command::Quit => return Ok(Next::Leave),
        }
        Ok(Next::Prompt)
    }

    fn help(&mut self) -> Result<(), Failure> {
        // Here and below: writing to a string can't fail.
        let mut text = String::new();
        for (name, argument, meaning) in COMMANDS {
            let _ = writeln!(text, "  {:<16}{meaning}", format!("{name} {argument}"));
        }
        text.push_str(
            "Several lines: end a line with \\, press Alt-Enter, or enclose them in \"\"\".\n\
             A question that starts with a slash: write it twice, as in //etc.\n\
             A line that starts with a space is not kept in the history.\n",
        );
        self.output.write(&text)
    }

    fn list_models(&mut self) -> Result<(), Failure> {
        let list = self.runtime.block_on(self.client.models())?;
        if list.data.is_empty() {
            let option = self.client.models_option();
            return Err(Failure::new("no model is installed").hint(format!(
                "install the default one with `hob models pull{option}`"
            )));
        }
        let mut text = String::new();
        for model in &list.data {
            let mark = if model.loaded { '*' } else { ' ' };
            let size = render::bytes(model.size_bytes);
            let _ = writeln!(text, "{mark} {}  {size}", clean_line(&model.id));
        }
        self.input.set_models(
            list.data
                .iter()
                .map(|model| clean_line(&model.id))
                .collect(),
        );
        self.output.write(&text)
    }

    /// Loads a model with its progress; Ctrl-C stops waiting for it.
    fn load(&mut self, name: &str) -> Result<(), Failure> {
        let stopped = self
            .runtime
            .block_on(load(&self.client, name, self.output))?;
        if stopped {
            self.output
                .remark("(stopped waiting; hobd may still be loading it)");
            return Ok(());
        }
        // From now on the answers of another model would be a surprise.
        self.asking.model = Some(name.to_owned()).filter(|name| name != DEFAULT_MODEL);
        self.output.remark(&format!(
            "({name} is loaded; the conversation goes on with it)"
        ));
        Ok(())
    }

    fn save(&mut self, file: &Path) -> Result<(), Failure> {
        if self.conversation.len() == 0 {
            return Err(Failure::new(
                "nothing has been said yet, so nothing is saved",
            ));
        }
        let failed = |error: io::Error| Failure::io(&file.display().to_string(), &error);
        let mut opened = match File::create_new(file) {
            Ok(opened) => opened,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if !self
                    .input
                    .confirm(&format!("{} exists; overwrite it?", file.display()))?
                {
                    self.output.remark("(not saved)");
                    return Ok(());
                }
                let options = OpenOptions::new().write(true).truncate(true).open(file);
                options.map_err(failed)?
            }
            Err(error) => return Err(failed(error)),
        };
        let model = self.last.as_ref().map_or("a model", |done| &done.model);
        let time = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let text = self.conversation.to_markdown(model, &time);
        opened.write_all(text.as_bytes()).map_err(failed)?;
        self.output
            .remark(&format!("(saved to {})", file.display()));
        Ok(())
    }

    fn stats(&mut self) -> Result<(), Failure> {
        let Some(last) = &self.last else {
            self.output
                .remark("(no figures: there is no answer yet, or the last one was stopped)");
            return Ok(());
        };
        let status = self.runtime.block_on(self.client.status())?;
        let n_ctx = status.model.map_or(0, |model| model.n_ctx);
        let used = last.usage.total_tokens;
        let mut text = format!("model    {}\n", clean_line(&last.model));
        let _ = writeln!(
            text,
            "last     {}",
            render::cost(&last.usage, &last.timings)
        );
        let _ = writeln!(text, "turns    {}", self.conversation.len());
        if n_ctx > 0 {
            let percent = u64::from(used) * 100 / u64::from(n_ctx);
            let _ = writeln!(text, "context  {used} of {n_ctx} tokens ({percent} %)");
        }
        self.output.write(&text)
    }

    /// Fetches the names for tab completion; without them there is just none.
    fn complete_models(&mut self) {
        if let Ok(list) = self.runtime.block_on(self.client.models()) {
            let names = list.data.iter().map(|model| clean(&model.id).into_owned());
            self.input.set_models(names.collect());
        }
    }
}

/// Has the daemon load `name`, with its progress; true if Ctrl-C came first.
///
/// # Errors
/// The daemon's.
pub(crate) async fn load(
    client: &Client,
    name: &str,
    output: &mut Output,
) -> Result<bool, Failure> {
    let mut interrupts = signal(SignalKind::interrupt())
        .map_err(|error| Failure::io("Ctrl-C could not be watched for", &error))?;
    let loading = client.load(name);
    tokio::pin!(loading);
    let result = loop {
        tokio::select! {
            result = &mut loading => break result,
            _ = interrupts.recv() => return Ok(true),
            () = sleep(LOAD_POLL) => {
                if let Ok(status) = client.status().await {
                    output.show_status(&render::waiting(None, Some(&status)));
                }
            }
        }
    };
    output.clear_status();
    match result {
        Ok(()) => Ok(false),
        Err(ClientError::Api(error)) if error.code == ErrorCode::ModelNotFound => {
            let failure = Failure::from(*error);
            let hint = failure.hint.clone();
            Err(failure.hint(hint.unwrap_or_else(|| "/model lists what is installed".to_owned())))
        }
        Err(error) => Err(error.into()),
    }
}

/// `~/…` as shells read it; there is no shell between the prompt and hob.
fn expand_home(file: PathBuf) -> PathBuf {
    match (file.strip_prefix("~"), std::env::home_dir()) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => file,
    }
}
