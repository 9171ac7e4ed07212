//! `org.hobd.Hob1.Assistant`: questions, answers, and what the daemon is doing.

#![allow(
    clippy::doc_markdown,
    reason = "members' comments are served to bus clients as plain text"
)]
#![allow(
    clippy::unused_self,
    reason = "zbus takes a property for a method of an object"
)]

use std::collections::HashMap;

use hob_api::dbus::INTERFACE_VERSION;
use hob_api::status::Status;
use zbus::message::Header;
use zbus::{Connection, OwnedObjectPath, Variant, interface};

use super::Front;
use super::asking::ReaderEnd;
use super::conversation::Conversation;
use super::deciding::{Answers, Deciding};
use super::failure::{Failure, without_nul};
use super::options::{Arguments, Dict, Method, Opening};
use super::request::Details;
use crate::pins::{PinName, owner_of};
use crate::request;

/// The object's main interface.
#[derive(Debug)]
pub(super) struct Assistant {
    front: Front,
}

/// A message of `Complete`: role, and a dictionary with the content.
type WireMessage<'a> = (String, Dict<'a>);

#[interface(name = "org.hobd.Hob1.Assistant")]
impl Assistant {
    /// Answers one question. There is one reply, at the end.
    ///
    /// Most bindings give up waiting after 25 seconds, and a slow board may need longer. Raise or
    /// turn off the timeout of this call (busctl has the option `timeout`, gdbus too), bound the
    /// answer by the option `timeout_ms` instead, or use Stream, which returns at once.
    ///
    /// `text` is the question, at most 65536 bytes of UTF-8.
    ///
    /// `options`, each of which may be left out. A key that is not listed is InvalidArgs, which
    /// names it.
    ///   handle_token s   the last part of the request's path, 1 to 64 of A-Z a-z 0-9 _, not that
    ///                    of another of the caller's requests under way; default: hobd chooses
    ///   max_tokens u     longest answer in tokens; default and bound: hobd's settings
    ///   timeout_ms u     until when the answer must be complete; default and bound: hobd's
    ///                    settings
    ///   class s          how urgent it is: `voice` before `chat` (default) before `batch`
    ///   temperature d    randomness, 0 to 2; default: hobd's settings
    ///   seed x or u      makes the answer repeatable; default: random
    ///   stop as          up to 4 texts of 1 to 256 bytes, before which the answer ends
    ///   system s         instructions to the model, at most 65536 bytes
    ///   enable_thinking b
    ///                    whether a model that can think does so before it answers; default: as its
    ///                    chat template has it
    ///   response_schema s
    ///                    a JSON Schema, as text, that the answer keeps to; cut by max_tokens, it is
    ///                    the beginning of such an answer
    ///   model s          the model to ask, or `default`; default: the one that is loaded
    ///   conversation s   the id of a conversation that hobd keeps for the caller's user: what was
    ///                    said in it goes before the question, which is stored with its answer
    ///   truncate s       with `conversation`, `oldest` leaves out its oldest turns when it has
    ///                    outgrown the context; default: `never`, which is .ContextOverflow then
    ///   provider s       the name of one of the caller's providers, or `*` for all: what was said,
    ///                    at most 2000 bytes, is read as Interpret does, and done by the hub that
    ///                    registered it. Not with `conversation` or `response_schema`
    ///   area s, device s where it was said and to what, with `provider`
    ///   language s       of the reply, with `provider`: `en` or `de`; default: that of the text
    ///   rounds u         most calls, with `provider`: 1 to 16, default 8
    ///   reader s         who reads it, with `provider`: `words` (the default) or `model`
    ///   follow_ups u     how often the model is told what came of its calls, and asked for further
    ///                    ones; with reader `model`: 0 (the default) to 3
    ///
    /// `reply` is the whole answer. A NUL, which D-Bus strings can't hold, becomes U+FFFD.
    ///
    /// `details`: finish_reason s (`stop`, or `length` if cut by max_tokens or the end of the
    /// context), model s, prompt_tokens u, completion_tokens u, cached_tokens u (of the prompt,
    /// not computed again), queue_ms d, prefill_ms d, decode_ms d, request o; and within a
    /// conversation its id as conversation s, stored b (whether the turn is on the disk),
    /// store_problem s (why not), dropped_turns u (how many of the oldest were left out).
    ///
    /// With `provider`, `details` are outcome s, calls aa{sv}, alternatives aa{sv} and targets as, as
    /// of Interpret, and request o; with outcome `talk` the model answers, and all of the above are
    /// there, too. Each call also has call_id s, speech s and data a{sv} (what the hub told), error s
    /// (why it was not done) and status s: `done`, `failed`, `refused` (nobody confirmed it),
    /// `unanswered` (the time was over), `lost` (the hub went) or `skipped` (it was not begun). `reply`
    /// says so in a sentence, answers a `question` from the state that the hub registered, and asks
    /// back if the outcome is `unsure`. It says that something is done if the hub said so, and only
    /// then.
    ///
    /// While the call runs, its object `/org/hobd/Hob1/request/SENDER/TOKEN` can be cancelled.
    /// SENDER is the caller's unique name without its colon, its full stops being underscores. A
    /// caller that leaves the bus cancels all its requests.
    ///
    /// Errors, besides those of D-Bus itself: org.hobd.Hob1.Error.NotReady (hobd ends), .Busy (too
    /// many requests, or another one of the conversation), .ConversationNotFound (the caller's user
    /// has none of this id), .ContextOverflow (the prompt does not fit; both token counts are in the
    /// text), .Cancelled, .DeadlineExceeded, .EngineLost (the engine process ended; ask again),
    /// .ModelFailed, .InsufficientMemory (the model does not fit the memory that there is for it),
    /// .InvalidSchema (`response_schema` can't be used; the text tells why), .NoHub (there is a call,
    /// and the provider was registered by no hub);
    /// and org.freedesktop.DBus.Error.FileNotFound for an unknown model, or none,
    /// .LimitsExceeded for a text that is too long.
    #[zbus(out_args("reply", "details"))]
    async fn ask(
        &self,
        text: String,
        options: Dict<'_>,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(String, Details), Failure> {
        let arguments = Arguments::question(Method::Ask, text, options)?;
        self.front.ask(arguments, &header, connection).await
    }

    /// Answers one question through a file descriptor. Returns as soon as the request is queued.
    ///
    /// `text` and `options` are those of Ask, and one more:
    ///   format s   what `fd` carries, `text` (default) or `events`
    ///
    /// `request` is the request's object. Give `handle_token` to know its path beforehand, and
    /// subscribe to its signal Finished before this call, so as not to miss it.
    ///
    /// `fd` is a stream socket to read from. As `text` it carries the answer as UTF-8 and then the
    /// end of the file, at success and failure alike: Finished tells which. As `events` it carries
    /// one JSON object a line, the records of hobd's HTTP API; the last is `done` or `error`, and
    /// the end of the file without either is a failure. No character is split between two writes.
    /// It blocks unless the reader sets it otherwise. A reader that closes it, writes to it or
    /// reads nothing for long (hobd's setting `limits.stall_timeout`) cancels the request.
    ///
    /// Errors as for Ask, before the request is queued; later ones are in Finished.
    #[zbus(out_args("request", "fd"))]
    async fn stream(
        &self,
        text: String,
        options: Dict<'_>,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(OwnedObjectPath, ReaderEnd), Failure> {
        let arguments = Arguments::question(Method::Stream, text, options)?;
        self.front.stream(arguments, &header, connection).await
    }

    /// Goes on with a conversation that the caller keeps. Otherwise as Stream, of whose options it
    /// has `class`, `enable_thinking`, `format`, `handle_token`, `max_tokens`, `model`,
    /// `response_schema`, `seed`, `stop`, `temperature` and `timeout_ms`: `system` is a message here,
    /// and providers are asked by Stream.
    ///
    /// `messages` are the conversation so far, at most 65536 bytes together. Each has a role
    /// (`system`, `user`, `assistant` or `tool`) and a dictionary with `content s`, its text. The
    /// assistant's may have tool_calls s instead or besides, OpenAI's list in JSON as the events told
    /// them; a tool's result has the id of its call as tool_call_id s.
    ///
    /// More `options`:
    ///   tools s          what the model may call: OpenAI's list of tools in JSON, at most 65536 bytes.
    ///                    `format` must be `events` then, which has calls as `tool_call` and
    ///                    `tool_arguments`
    ///   tool_choice s    `auto` (default), `required`, `none`, or the name of the tool to call
    ///   parallel_tool_calls b
    ///                    whether it may make several calls at once; default: true
    #[zbus(out_args("request", "fd"))]
    async fn complete(
        &self,
        messages: Vec<WireMessage<'_>>,
        options: Dict<'_>,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(OwnedObjectPath, ReaderEnd), Failure> {
        let arguments = Arguments::conversation(messages, options)?;
        self.front.stream(arguments, &header, connection).await
    }

    /// Answers typed questions about a state with probabilities: how likely the model finds each
    /// possible answer. Nothing is written, and the order in which options are shown is averaged out.
    /// There is one reply, at the end, as of Ask, whose remarks on slow boards hold here, too.
    ///
    /// `state` is what the questions are about, at most 65536 bytes.
    ///
    /// `questions` are 1 to 16, by ids of your choice, at most 65536 bytes together. Each is a
    /// dictionary with type s, instructions s (what is asked) and criteria, by the type:
    ///   choice   criteria is a{ss}: 1 to 64 options and what each means, or an empty text
    ///   score    criteria is as: what 2 to 10 levels mean, the lowest first
    ///   noul     whether something is so. criteria may be left out, or is a{ss}: what `true` and
    ///            `false` mean
    ///
    /// `options`, each of which may be left out: class s, handle_token s, model s, timeout_ms u, as of
    /// Ask.
    ///
    /// `answers` has a dictionary for each question's id, with type s and
    ///   choice   choice s (the likeliest option), probabilities a{sd} (they sum to 1), confidence d
    ///            (0 if all are equally likely, to 1)
    ///   score    score d (the expected level, from 0), legend a{ss}, probabilities a{sd} (both by the
    ///            level's number), confidence d
    ///   noul     noul d (how likely it is so)
    ///
    /// While the call runs, its object can be cancelled, as of Ask. Errors as for Ask.
    #[zbus(out_args("answers"))]
    async fn decide(
        &self,
        state: String,
        questions: Dict<'_>,
        options: Dict<'_>,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<Answers, Failure> {
        let deciding = Deciding::read(state, questions, options)?;
        self.front.decide(deciding, &header, connection).await
    }

    /// Opens a conversation that hobd keeps for the caller's user: a new one, or one of before.
    ///
    /// `options`, each of which may be left out:
    ///   id s             the id of the one to go on with; default: a new one
    ///   name s           the new one's name, 1 to 200 bytes; default: its first question's first
    ///                    words
    ///   system s         the new one's instructions to the model, at most 65536 bytes
    ///   handle_token s   the last part of the object's path, as for Ask
    ///
    /// `conversation` is an object `/org/hobd/Hob1/conversation/SENDER/TOKEN`, for the caller alone
    /// until it calls Close there or leaves the bus. The conversation itself stays.
    ///
    /// Errors: org.hobd.Hob1.Error.ConversationNotFound, .QuotaExceeded (too many conversations or
    /// too much text), .Busy (too many objects of the caller), .NotReady (the database can't be
    /// used), and org.freedesktop.DBus.Error.NotSupported if hobd is set to keep none.
    #[zbus(out_args("conversation"))]
    async fn open_conversation(
        &self,
        options: Dict<'_>,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<OwnedObjectPath, Failure> {
        let opening = Opening::read(options)?;
        Conversation::open(&self.front, opening, &header, connection).await
    }

    /// Keeps what conversations begin with ready, for the caller's user: the model reads it when it
    /// has nothing else to do, and a question behind it is then answered at once. It is stored, and
    /// restored after a restart. Of root and of hobd's own user it serves everybody.
    ///
    /// `name` is 1 to 64 of A-Z a-z 0-9 . _ -, not beginning with a dot; what had it before is
    /// replaced. `messages` are as those of Complete, usually one with the role `system`, at most
    /// 65536 bytes together. There are no `options` yet.
    ///
    /// Returns when the pin is stored. Errors: org.hobd.Hob1.Error.QuotaExceeded (8 pins a user, 40
    /// in all), .Busy.
    async fn pin_prefix(
        &self,
        name: String,
        messages: Vec<WireMessage<'_>>,
        options: Dict<'_>,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(), Failure> {
        let name = PinName::parse(&name)?;
        let messages = request::pin_messages(Arguments::prefix(messages, &options)?)?;
        let uid = super::uid_of(connection, &super::sender(&header)?).await?;
        let put = self.front.daemon.put_pin(owner_of(uid), name, messages);
        put.await?;
        Ok(())
    }

    /// Undoes PinPrefix. A name that the caller's user did not pin is
    /// org.freedesktop.DBus.Error.UnknownObject.
    async fn unpin_prefix(
        &self,
        name: String,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(), Failure> {
        let name = PinName::parse(&name)?;
        let uid = super::uid_of(connection, &super::sender(&header)?).await?;
        Ok(self.front.daemon.remove_pin(owner_of(uid), name).await?)
    }

    /// Tells hobd what a hub can do and what is in the home, in place of what the same object
    /// registered before. It holds for the caller's user until the caller unregisters it or leaves
    /// the bus.
    ///
    /// `provider` is the hub's object, which has the interface org.hobd.Hob1.ToolProvider: hobd calls
    /// it when something is to be done. `tools`, 1 to 64, are dictionaries:
    ///   name s                 1 to 64 of A-Z a-z 0-9 . _ -, each once
    ///   description s          what it does
    ///   parameters s           its arguments: a JSON Schema of flat properties of type string,
    ///                          integer, number or boolean, with enum, minimum, maximum, required
    ///   kinds as               kinds of target that it acts on; empty for all
    ///   capabilities as        what a target must be able to do. Without `kinds` and this, the
    ///                          tool acts on no target
    ///   dangerous b            a mistake could do harm: locks, alarms, doors
    ///   needs_confirmation b   a person must confirm it first: hobd calls Confirm
    ///   examples as            what people say, with the slots {target} and {ARGUMENT}; or
    ///                          aa{sv} of text s and target s, the id of the one that is meant
    ///
    /// `targets`, at most 1000, are dictionaries: id s, name s, aliases as, kind s, area s, floor s,
    /// capabilities as, state a{sv}. All but id, name and kind may be left out.
    ///
    /// `options`: name s, the provider's, 1 to 64 of A-Z a-z 0-9 . _ -; default: the object's path
    /// with dots for slashes.
    ///
    /// `generation` counts the changes of your providers. Errors: InvalidArgs names the place;
    /// org.hobd.Hob1.Error.QuotaExceeded (8 providers a user).
    #[zbus(out_args("generation"))]
    #[allow(
        clippy::too_many_arguments,
        reason = "two of them are the call's circumstances"
    )]
    async fn register_provider(
        &self,
        provider: OwnedObjectPath,
        tools: Vec<Dict<'_>>,
        targets: Vec<Dict<'_>>,
        options: Dict<'_>,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<u64, Failure> {
        let front = &self.front;
        let registered = front.register(provider, tools, targets, options, &header, connection);
        Ok(registered.await?)
    }

    /// Changes the targets of what the caller's object `provider` registered: `changed` are new, or
    /// take the place of those with their id, and those with an id of `removed` are gone. All of it
    /// happens, or nothing.
    #[zbus(out_args("generation"))]
    async fn update_targets(
        &self,
        provider: OwnedObjectPath,
        changed: Vec<Dict<'_>>,
        removed: Vec<String>,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<u64, Failure> {
        let updated = self.front.update(provider, changed, removed, &header);
        Ok(updated.await?)
    }

    /// Undoes RegisterProvider; Release is not called. An object of another caller's, or one that
    /// registered nothing, is org.freedesktop.DBus.Error.UnknownObject.
    #[allow(
        clippy::needless_pass_by_value,
        reason = "zbus hands headers over by value"
    )]
    fn unregister_provider(
        &self,
        provider: OwnedObjectPath,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), Failure> {
        Ok(self.front.unregister(provider, &header)?)
    }

    /// Reads what somebody said as calls of the providers of the caller's user. Nothing is done
    /// about it: Ask with the option `provider` does it.
    ///
    /// `text` is at most 2000 bytes. `options`, each of which may be left out:
    ///   provider s          the name of the provider that is meant; default: all of the user's
    ///   area s              the room in which it was said
    ///   reader s            who reads it: `words` (the default; no model takes part) or `model`,
    ///                       which may fail as Ask does
    ///   min_probability d   the least probability of a call, 0 to 1
    ///
    /// `outcome` is `call` (do `calls`, in their order), `question` (about `targets` of `details`),
    /// `unsure` (ask which of the `alternatives` is meant), `cannot` or `talk`.
    ///
    /// A call is a dictionary: provider s, tool s, targets as, arguments a{sv}, probability d,
    /// needs_confirmation b. `details`: alternatives aa{sv}, targets as, read_us t, and reason s
    /// unless there are calls or targets; left_out as, if some of it is not among the calls; of a
    /// question holds as and fails as, the ids of `targets` for which it is so and is not; of a model
    /// also model s, forward_passes u and completion_tokens u.
    #[zbus(out_args("outcome", "calls", "details"))]
    async fn interpret(
        &self,
        text: String,
        options: Dict<'_>,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(&'static str, Vec<Details>, Details), Failure> {
        let read = self.front.interpret(text, options, &header, connection);
        Ok(read.await?)
    }

    /// The version of hob.
    #[zbus(property(emits_changed_signal = "const"))]
    fn version(&self) -> String {
        env!("CARGO_PKG_VERSION").to_owned()
    }

    /// The version of these interfaces; it grows with every addition.
    #[zbus(property(emits_changed_signal = "const"))]
    fn interface_version(&self) -> u32 {
        INTERFACE_VERSION
    }

    /// What this hobd does: `ask`, `stream`, `complete`, `pins`, `providers`, `fulfilment` (what is
    /// said to providers), `response_schema`, `decide`, `tools` (of Complete), and `conversations` if it
    /// keeps any.
    #[zbus(property(emits_changed_signal = "const"))]
    fn capabilities(&self) -> Vec<&'static str> {
        let conversations = self.front.settings.conversations.enabled;
        let conversations = conversations.then_some("conversations");
        let always = [
            "ask",
            "stream",
            "complete",
            "pins",
            "providers",
            "fulfilment",
            "response_schema",
            "decide",
            "tools",
        ];
        always.into_iter().chain(conversations).collect()
    }

    /// The model that is loaded, loading or failed; empty without one. Keys: name s, sha256 s,
    /// size_bytes t, and once it is loaded architecture s, parameters t, n_ctx u, n_ctx_train u,
    /// chat b (whether it has a chat template, without which it can't be asked).
    #[zbus(property)]
    fn model(&self) -> Details {
        model_details(&self.status())
    }

    /// Tokens that prompt and answer may have together; 0 until a model is loaded.
    #[zbus(property)]
    fn context_size(&self) -> u32 {
        context_size(&self.status())
    }

    /// 0 unknown, 1 no model, 2 loading, 3 ready, 4 sleeping (the next request loads the model
    /// again), 5 failed.
    #[zbus(property)]
    fn state(&self) -> u32 {
        self.status().state.as_u32()
    }

    /// How much of the model is loaded, 0 to 100.
    #[zbus(property)]
    fn load_percent(&self) -> u32 {
        self.status().load_percent
    }

    /// What the engine's memory is for, in bytes; empty before the first load. Keys: weights t, kv t,
    /// compute t, cache t, budget t (left out if it is not known), kv_type s, and given_up s, what
    /// is given up for want of memory: `none`, `cache`, `admission` or `model`. No signal tells of
    /// changes.
    #[zbus(property(emits_changed_signal = "false"))]
    fn memory(&self) -> Details {
        memory_details(&self.status())
    }

    /// Requests that are worked on. No signal tells of changes, as they would tell every client
    /// when another one asks.
    #[zbus(property(emits_changed_signal = "false"))]
    fn active(&self) -> u32 {
        self.status().active
    }

    /// Requests that wait. No signal tells of changes.
    #[zbus(property(emits_changed_signal = "false"))]
    fn queued(&self) -> u32 {
        self.status().queued
    }

    /// The layers of the engine's sandbox that are in force; empty without an engine.
    #[zbus(property)]
    fn sandbox(&self) -> Vec<String> {
        sandbox(&self.status())
    }
}

impl Assistant {
    pub(super) fn new(front: Front) -> Self {
        Self { front }
    }

    fn status(&self) -> Status {
        self.front.daemon.status().borrow().clone()
    }
}

fn memory_details(status: &Status) -> Details {
    let memory = &status.memory;
    if memory.weights_bytes == 0 {
        return HashMap::new();
    }
    let mut details = Details::from([
        ("weights", Variant::from(memory.weights_bytes)),
        ("kv", Variant::from(memory.kv_bytes)),
        ("compute", Variant::from(memory.compute_bytes)),
        ("cache", Variant::from(memory.cache_bytes)),
        ("kv_type", Variant::from(memory.kv_type.clone())),
        ("given_up", Variant::from(memory.given_up.clone())),
    ]);
    let budget = memory.budget_bytes;
    details.extend(budget.map(|bytes| ("budget", Variant::from(bytes))));
    details
}

pub(super) fn model_details(status: &Status) -> Details {
    let Some(model) = status.model.clone() else {
        return HashMap::new();
    };
    let mut details = Details::from([
        ("name", Variant::from(without_nul(model.name))),
        ("sha256", Variant::from(without_nul(model.sha256))),
        ("size_bytes", Variant::from(model.size_bytes)),
    ]);
    if model.n_ctx > 0 {
        details.extend([
            (
                "architecture",
                Variant::from(without_nul(model.architecture)),
            ),
            ("parameters", Variant::from(model.parameters)),
            ("n_ctx", Variant::from(model.n_ctx)),
            ("n_ctx_train", Variant::from(model.n_ctx_train)),
            ("chat", Variant::from(model.chat)),
        ]);
    }
    details
}

pub(super) fn context_size(status: &Status) -> u32 {
    status.model.as_ref().map_or(0, |model| model.n_ctx)
}

pub(super) fn sandbox(status: &Status) -> Vec<String> {
    let layers = status.engine.as_ref().map(|engine| engine.sandbox.clone());
    let layers = layers.unwrap_or_default();
    layers.into_iter().map(without_nul).collect()
}
