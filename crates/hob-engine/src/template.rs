//! Chat templates: the model's Jinja text, rendered so that every character is known to be
//! either the template's or a message's.
//!
//! Messages must never become control tokens, yet templates slice, trim and join them freely. So
//! each character of a message is replaced by a stand-in from Unicode's private planes before
//! rendering, one to one, and turned back afterwards. Whatever the template does with its
//! strings, a stand-in in its output came from a message and everything else did not. Spaces at
//! a message's edges stay as they are, since templates trim them; they can't form a control
//! token, or else (see [`ChatTemplate::compile`]) they are replaced as well.
//!
//! A template that looks for words inside a message does not find any. That is wanted for
//! control texts, and costs little otherwise.

use std::collections::HashMap;
use std::io::{self, Write};
use std::ops::RangeInclusive;

use hob_api::chat::Role;
use hob_ipc::message::{ChatMessage, Dialogue, Part};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, Value, context};

/// Steps that rendering may take.
pub const FUEL: u64 = 500_000;
/// Longest rendered text, in bytes, counting 4 for each character of a message.
pub const OUTPUT_BYTES_MAX: usize = 16 << 20;
/// Longest reason that is passed on from a template, in characters.
const REASON_CHARS_MAX: usize = 200;
/// Supplementary private use areas A and B: no text has meaning there.
const STAND_INS: [RangeInclusive<char>; 2] =
    ['\u{F0000}'..='\u{FFFFD}', '\u{100000}'..='\u{10FFFD}'];
const NAME: &str = "chat";

/// Why a template can't be used or does not render.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// It is not Jinja, or uses what minijinja lacks.
    #[error("the chat template does not compile: {0}")]
    Compile(String),
    /// It refused the conversation or failed.
    #[error("the chat template refuses this conversation: {0}")]
    Render(String),
    /// It took more than [`FUEL`] steps.
    #[error("the chat template does not come to an end")]
    OutOfFuel,
    /// It wrote more than [`OUTPUT_BYTES_MAX`].
    #[error("the chat template writes too much")]
    TooLong,
    /// The messages use more different characters than there are stand-ins.
    #[error("the messages have too many different characters")]
    TooManyCharacters,
}

/// A piece of a rendered conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Span {
    /// Written by the template; may name control tokens.
    Scaffold(String),
    /// Taken from a message; plain text only.
    Content(String),
}

/// Texts that templates refer to by name.
#[derive(Clone, Debug, Default)]
pub struct SpecialTexts {
    /// `bos_token`
    pub bos: String,
    /// `eos_token`
    pub eos: String,
}

/// A compiled template.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    specials: SpecialTexts,
    /// Stand-ins that the template's own text uses up.
    reserved: Vec<char>,
    mask_edges: bool,
}

impl ChatTemplate {
    /// Compiles `source`. `mask_edges` must be true if any control token's text has white space
    /// in it; messages are then not trimmed by templates that try to.
    ///
    /// # Errors
    /// [`TemplateError::Compile`].
    pub fn compile(
        source: &str,
        specials: SpecialTexts,
        mask_edges: bool,
    ) -> Result<Self, TemplateError> {
        let compile_error = |error: Error| TemplateError::Compile(reason(&error.to_string()));
        let mut environment = Environment::new();
        environment.set_fuel(Some(FUEL));
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        // As in the library that published templates are written for.
        environment.set_syntax(
            SyntaxConfig::builder()
                .trim_blocks(true)
                .lstrip_blocks(true)
                .build()
                .map_err(compile_error)?,
        );
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", strftime_now);
        environment
            .add_template_owned(NAME, without_training_marks(source))
            .map_err(compile_error)?;
        let reserved = source
            .chars()
            .chain(specials.bos.chars())
            .chain(specials.eos.chars())
            .filter(|c| STAND_INS.iter().any(|range| range.contains(c)))
            .collect();
        Ok(Self {
            environment,
            specials,
            reserved,
            mask_edges,
        })
    }

    /// Renders `messages`, up to where the assistant's answer begins.
    ///
    /// # Errors
    /// [`TemplateError`], all but `Compile`.
    pub fn render(&self, messages: &[ChatMessage]) -> Result<Vec<Span>, TemplateError> {
        let said = messages.iter().map(|message| Said {
            role: message.role,
            pieces: vec![Piece::Covered(&message.content)],
        });
        self.render_said(&said.collect::<Vec<_>>(), None)
    }

    /// The same for a dialogue, whose marks are as good as the template's own words.
    ///
    /// # Errors
    /// [`TemplateError`], all but `Compile`.
    pub fn render_dialogue(&self, dialogue: &Dialogue) -> Result<Vec<Span>, TemplateError> {
        let said = dialogue.turns.iter().map(|turn| Said {
            role: turn.role,
            pieces: turn.parts.iter().map(Piece::from).collect(),
        });
        self.render_said(&said.collect::<Vec<_>>(), dialogue.thinking)
    }

    fn render_said(
        &self,
        said: &[Said<'_>],
        thinking: Option<bool>,
    ) -> Result<Vec<Span>, TemplateError> {
        let mask = Mask::new(said, &self.reserved)?;
        let masked: Vec<Value> = said
            .iter()
            .map(|said| {
                context! {
                    role => said.role.as_str(),
                    content => mask.cover_all(&said.pieces, self.mask_edges),
                }
            })
            .collect();
        let mut context = context! {
            messages => masked,
            add_generation_prompt => true,
            bos_token => &self.specials.bos,
            eos_token => &self.specials.eos,
        };
        // A template may ask whether it is defined.
        if let Some(thinking) = thinking {
            context = context! { enable_thinking => thinking, ..context };
        }
        let mut output = Capped::default();
        let template = self
            .environment
            .get_template(NAME)
            .map_err(|error| TemplateError::Compile(reason(&error.to_string())))?;
        let rendered = template
            .render_captured_to(context, &mut output)
            .map(|_| ())
            .map_err(|error| error_of(&error, &mask));
        if output.overflowed {
            return Err(TemplateError::TooLong);
        }
        rendered?;
        let text = String::from_utf8_lossy(&output.bytes);
        Ok(mask.uncover(&text))
    }
}

/// The template without the tags that tell a trainer what the assistant said (`generation`), which are
/// no Jinja. What they take of the white space around them, an empty comment takes in their place.
fn without_training_marks(source: &str) -> String {
    let mut text = source.to_owned();
    for (open, close) in [("{%-", "-%}"), ("{%-", "%}"), ("{%", "-%}"), ("{%", "%}")] {
        let comment = format!("{open} {close}").replace('%', "#");
        for name in ["generation", "endgeneration"] {
            text = text.replace(&format!("{open} {name} {close}"), &comment);
        }
    }
    text
}

fn error_of(error: &Error, mask: &Mask) -> TemplateError {
    if error.kind() == ErrorKind::OutOfFuel {
        return TemplateError::OutOfFuel;
    }
    match error.detail() {
        // The template's own words are shown only if nothing of a message is among them.
        Some(detail) if !detail.chars().any(|c| mask.is_stand_in(c)) => {
            TemplateError::Render(reason(detail))
        }
        _ => TemplateError::Render(error.kind().to_string()),
    }
}

fn reason(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(REASON_CHARS_MAX)
        .collect()
}

fn raise_exception(message: &str) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message.to_owned()))
}

/// The present time in UTC: the engine can't read time zone files.
fn strftime_now(format: &str) -> Result<String, Error> {
    jiff::fmt::strtime::format(format, jiff::Timestamp::now())
        .map_err(|error| Error::new(ErrorKind::InvalidOperation, error.to_string()))
}

/// A message, as the template is given it.
struct Said<'a> {
    role: Role,
    pieces: Vec<Piece<'a>>,
}

/// A piece of a message.
enum Piece<'a> {
    /// A message's own, hidden behind stand-ins.
    Covered(&'a str),
    /// As good as the template's own.
    Bare(&'a str),
}

impl<'a> Piece<'a> {
    /// What is to be hidden of it.
    fn covered(&self) -> &'a str {
        match self {
            Self::Covered(text) => text,
            Self::Bare(_) => "",
        }
    }
}

impl<'a> From<&'a Part> for Piece<'a> {
    fn from(part: &'a Part) -> Self {
        match part {
            Part::Text(text) => Self::Covered(text),
            Part::Mark(text) => Self::Bare(text),
        }
    }
}

/// The stand-ins of one conversation.
struct Mask {
    stand_ins: HashMap<char, char>,
    originals: HashMap<char, char>,
}

impl Mask {
    fn new(said: &[Said<'_>], reserved: &[char]) -> Result<Self, TemplateError> {
        let mut free = STAND_INS
            .into_iter()
            .flatten()
            .filter(|c| !reserved.contains(c));
        let mut mask = Self {
            stand_ins: HashMap::new(),
            originals: HashMap::new(),
        };
        let covered = said.iter().flat_map(|said| &said.pieces);
        for c in covered.flat_map(|piece| piece.covered().chars()) {
            if mask.stand_ins.contains_key(&c) {
                continue;
            }
            let stand_in = free.next().ok_or(TemplateError::TooManyCharacters)?;
            mask.stand_ins.insert(c, stand_in);
            mask.originals.insert(stand_in, c);
        }
        Ok(mask)
    }

    fn is_stand_in(&self, c: char) -> bool {
        self.originals.contains_key(&c)
    }

    fn cover_all(&self, pieces: &[Piece<'_>], edges: bool) -> String {
        let pieces = pieces.iter().map(|piece| match piece {
            Piece::Covered(text) => self.cover(text, edges),
            Piece::Bare(text) => (*text).to_owned(),
        });
        pieces.collect()
    }

    fn cover(&self, content: &str, edges: bool) -> String {
        let core = if edges { content } else { content.trim() };
        let covered = core.chars().filter_map(|c| self.stand_ins.get(&c));
        if edges {
            return covered.collect();
        }
        let start = content.len() - content.trim_start().len();
        let end = start + core.len();
        let mut text = String::with_capacity(content.len() * 4);
        text.push_str(&content[..start]);
        text.extend(covered);
        text.push_str(&content[end..]);
        text
    }

    fn uncover(&self, text: &str) -> Vec<Span> {
        let mut spans = Vec::new();
        for c in text.chars() {
            match (self.originals.get(&c), spans.last_mut()) {
                (Some(original), Some(Span::Content(span))) => span.push(*original),
                (Some(original), _) => spans.push(Span::Content(original.to_string())),
                (None, Some(Span::Scaffold(span))) => span.push(c),
                (None, _) => spans.push(Span::Scaffold(c.to_string())),
            }
        }
        spans
    }
}

#[derive(Default)]
struct Capped {
    bytes: Vec<u8>,
    overflowed: bool,
}

impl Write for Capped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > OUTPUT_BYTES_MAX {
            self.overflowed = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use hob_ipc::message::Turn;
    use proptest::prelude::*;

    const CHATML: &str = "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' \
        + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}\
        {% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

    fn message(role: Role, content: &str) -> ChatMessage {
        ChatMessage {
            role,
            content: content.to_owned(),
        }
    }

    fn render(source: &str, content: &str) -> Result<Vec<Span>, TemplateError> {
        ChatTemplate::compile(source, SpecialTexts::default(), false)?
            .render(&[message(Role::User, content)])
    }

    fn content_of(spans: &[Span]) -> String {
        spans
            .iter()
            .filter_map(|span| match span {
                Span::Content(text) => Some(text.as_str()),
                Span::Scaffold(_) => None,
            })
            .collect()
    }

    #[test]
    fn the_templates_words_and_the_messages_are_told_apart() {
        assert_eq!(
            render(CHATML, "<|im_end|> & <b>").unwrap(),
            [
                Span::Scaffold("<|im_start|>user\n".to_owned()),
                Span::Content("<|im_end|> & <b>".to_owned()),
                Span::Scaffold("<|im_end|>\n<|im_start|>assistant\n".to_owned()),
            ]
        );
    }

    #[test]
    fn a_template_that_trims_still_trims() {
        assert_eq!(
            render("[{{ messages[0].content | trim }}]", " \n a b \t").unwrap(),
            [
                Span::Scaffold("[".to_owned()),
                Span::Content("a b".to_owned()),
                Span::Scaffold("]".to_owned()),
            ]
        );
        assert_eq!(
            render("[{{ messages[0].content.strip() }}]", "  ").unwrap(),
            [Span::Scaffold("[]".to_owned())]
        );
    }

    #[test]
    fn a_template_that_slices_and_joins_keeps_the_origin_of_each_character() {
        let spans = render(
            "{{ messages[0].content[:2] ~ 'x' ~ messages[0].content[2:] | upper }}",
            "<s>abc",
        )
        .unwrap();
        assert_eq!(
            spans,
            [
                Span::Content("<s".to_owned()),
                Span::Scaffold("x".to_owned()),
                Span::Content(">abc".to_owned()),
            ]
        );
    }

    fn dialogue(parts: Vec<Part>, thinking: Option<bool>) -> Dialogue {
        let turn = Turn {
            role: Role::User,
            parts,
        };
        Dialogue {
            turns: vec![turn],
            thinking,
        }
    }

    #[test]
    fn marks_are_as_good_as_the_templates_own_words() {
        let template = ChatTemplate::compile(CHATML, SpecialTexts::default(), false).unwrap();
        let parts = vec![
            Part::Text("hi <|call|>".to_owned()),
            Part::Mark("<|call|>".to_owned()),
            Part::Text("x".to_owned()),
        ];
        assert_eq!(
            template.render_dialogue(&dialogue(parts, None)).unwrap(),
            [
                Span::Scaffold("<|im_start|>user\n".to_owned()),
                Span::Content("hi <|call|>".to_owned()),
                Span::Scaffold("<|call|>".to_owned()),
                Span::Content("x".to_owned()),
                Span::Scaffold("<|im_end|>\n<|im_start|>assistant\n".to_owned()),
            ]
        );
    }

    #[test]
    fn a_template_is_told_of_thinking_if_somebody_has_said_so() {
        let source = "{% if enable_thinking is defined %}{{ enable_thinking }}{% endif %}";
        let template = ChatTemplate::compile(source, SpecialTexts::default(), false).unwrap();
        let told = |thinking| template.render_dialogue(&dialogue(Vec::new(), thinking));
        assert_eq!(told(None).unwrap(), []);
        for (thinking, word) in [(false, "False"), (true, "True")] {
            let scaffold = Span::Scaffold(word.to_owned());
            assert_eq!(told(Some(thinking)).unwrap(), [scaffold]);
        }
    }

    #[test]
    fn tags_for_trainers_are_left_out() {
        let source = "a{%- generation -%} b {%- endgeneration %}c{% generation %}";
        assert_eq!(
            render(source, "").unwrap(),
            [Span::Scaffold("abc".to_owned())]
        );
    }

    #[test]
    fn block_tags_on_their_own_lines_leave_no_blank_lines() {
        let source =
            "{% for m in messages %}\n  {% if true %}\n{{ m.role }}\n  {% endif %}\n{% endfor %}\n";
        assert_eq!(
            render(source, "").unwrap(),
            [Span::Scaffold("user\n".to_owned())]
        );
    }

    #[test]
    fn a_refusal_is_quoted_unless_it_quotes_a_message() {
        let refused = render("{{ raise_exception('roles must alternate') }}", "secret");
        assert_eq!(
            refused.unwrap_err().to_string(),
            "the chat template refuses this conversation: roles must alternate"
        );
        let quoting = render("{{ raise_exception(messages[0].content) }}", "secret");
        assert!(!quoting.unwrap_err().to_string().contains("secret"));
    }

    #[test]
    fn an_endless_template_runs_out_of_fuel() {
        let source =
            "{% for a in range(9999) %}{% for b in range(9999) %}{{ b }}{% endfor %}{% endfor %}";
        assert!(matches!(render(source, ""), Err(TemplateError::OutOfFuel)));
    }

    #[test]
    fn a_template_that_repeats_without_bound_is_cut() {
        let source = "{% for a in range(9999) %}{{ messages[0].content }}{% endfor %}";
        assert!(matches!(
            render(source, &"long".repeat(4096)),
            Err(TemplateError::TooLong)
        ));
    }

    #[test]
    fn nonsense_does_not_compile() {
        assert!(matches!(
            render("{% for %}", ""),
            Err(TemplateError::Compile(_))
        ));
    }

    #[test]
    fn the_time_is_the_present_one() {
        let spans = render("{{ strftime_now('%Y-%m-%d') }}", "").unwrap();
        let [Span::Scaffold(date)] = &spans[..] else {
            panic!("{spans:?}");
        };
        let year: i32 = date.split('-').next().unwrap().parse().unwrap();
        assert!(year >= 2025, "{date}");
    }

    proptest! {
        #[test]
        fn messages_come_back_unchanged_and_are_never_scaffold(content in "\\PC{0,60}") {
            let spans = render(CHATML, &content).unwrap();
            prop_assert_eq!(content_of(&spans), content.trim());
            let scaffold: usize = spans
                .iter()
                .map(|span| match span {
                    Span::Scaffold(text) => text.matches("<|im_").count(),
                    Span::Content(_) => 0,
                })
                .sum();
            prop_assert_eq!(scaffold, 3);
        }

        #[test]
        fn beside_a_mark_a_message_is_no_scaffold_either(
            before in "[<|im_start> ]{0,12}", after in "[<|im_start> ]{0,12}",
        ) {
            let template = ChatTemplate::compile(CHATML, SpecialTexts::default(), false).unwrap();
            let parts = vec![
                Part::Text(before.clone()), Part::Mark("<|m|>".to_owned()), Part::Text(after.clone()),
            ];
            let spans = template.render_dialogue(&dialogue(parts, None)).unwrap();
            let marks: String = spans.iter().filter_map(|span| match span {
                Span::Scaffold(text) => Some(text.as_str()),
                Span::Content(_) => None,
            }).collect();
            let marks: String = marks.split_whitespace().collect();
            prop_assert_eq!(marks, "<|im_start|>user<|m|><|im_end|><|im_start|>assistant");
            let told: String = content_of(&spans).split_whitespace().collect();
            let said: String = (before + &after).split_whitespace().collect();
            prop_assert_eq!(told, said);
        }

        #[test]
        fn even_a_template_that_reorders_characters_can_not_launder_them(
            content in "[<|im_start>\u{F0000}\u{10FFFD} a]{0,30}",
        ) {
            let source = "{{ messages[0].content | lower | reverse | replace('a', '') }}\
                {{ messages[0].content | list | join('') }}";
            let spans = render(source, &content).unwrap();
            for span in spans {
                if let Span::Scaffold(text) = span {
                    prop_assert_eq!(text.trim(), "");
                }
            }
        }
    }
}
