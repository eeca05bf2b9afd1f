//! Chat templates: the text that a chat model was trained to answer, made of messages.
//!
//! A template is a Jinja program that comes with the checkpoint. It is rendered as transformers renders it
//! (`utils/chat_template_utils.py`): `trim_blocks`, `lstrip_blocks`, `raise_exception`, `tojson` without escapes for
//! HTML, Python's methods of strings and dictionaries. `strftime_now` is not defined, so that a prompt does not depend on
//! the day; the templates that know it check for that and have a fixed date instead.

mod bounds;
mod cost;
mod json;
mod python;

use std::thread;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{AutoEscape, Environment, ErrorKind, context, escape_formatter};

use crate::error::{Error, Result};

/// The role of the first message, which tells the model how to behave.
pub const SYSTEM: &str = "system";
/// The role of a message that the model answers.
pub const USER: &str = "user";

/// Most bytes of a template. Published ones have up to some 20 kB.
pub(crate) const LARGEST_TEMPLATE: u64 = 64 << 10;

/// The work that a template may do: one step costs 1, as do 64 bytes of text and each item of a list that is looked through
/// or kept in a variable. One with tools takes some 1,000 steps for a message.
const FUEL: u64 = 1_000_000;

/// The bytes of messages that allow a template one step more: it reads them several times.
const BYTES_PER_FUEL: usize = 4;

/// The stack of the thread on which templates are parsed and rendered, as address space. Of the largest template with the
/// deepest syntax 32 MB are used, without optimization several times as much.
const STACK: usize = 256 << 20;

/// One message of a chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who speaks: `system`, `user` or `assistant`.
    pub role: String,
    /// What they say.
    pub content: String,
}

impl Message {
    /// A message of a role.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }
}

/// A checkpoint's chat template.
///
/// ```
/// use bitnet_models::chat::{ChatTemplate, Message};
///
/// # fn main() -> bitnet_models::Result<()> {
/// let source = "{% for message in messages %}{{ message['role'] | capitalize }}: {{ message['content'] }}\n{% endfor %}\
///               {% if add_generation_prompt %}Assistant: {% endif %}";
/// let template = ChatTemplate::new(source, "chat_template.jinja")?;
/// assert_eq!(template.render(&[Message::new("user", "Hello")])?, "User: Hello\nAssistant: ");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    source: String,
    /// The source with the calls of [`bounds`]: it is rendered first, and the prompt is what `source` itself gives.
    bounded: String,
    file: String,
    begin: Option<String>,
    end: Option<String>,
}

impl ChatTemplate {
    /// Checks the syntax of a template; `file` names it in errors.
    ///
    /// # Errors
    ///
    /// If it is not a Jinja template.
    pub fn new(source: impl Into<String>, file: impl Into<String>) -> Result<Self> {
        let (source, file) = (source.into(), file.into());
        let refused = |reason: String| Error::Chat { file: file.clone(), reason };
        let size = source.len();
        if u64::try_from(size).is_ok_and(|size| size > LARGEST_TEMPLATE) {
            return Err(refused(format!("the chat template has {size} bytes; expected at most {LARGEST_TEMPLATE}")));
        }
        // As Jinja2 reads it.
        let source = source.replace("\r\n", "\n").replace('\r', "\n");
        let bounded = bounds::write_into(&source).map_err(|reason| refused(format!("chat template, {reason}")))?;
        let template = Self { source, bounded, file, begin: None, end: None };
        template.on_large_stack(|| {
            let environment = Self::environment(FUEL);
            let parse = |source| environment.template_from_named_str(&template.file, source).map(|_| ());
            let parsed = parse(&template.source).and_then(|()| parse(&template.bounded));
            parsed.map_err(|error| template.error(&error))
        })?;
        Ok(template)
    }

    /// Sets what a template calls `bos_token` and `eos_token`; undefined if `None`.
    #[must_use]
    pub fn with_tokens(mut self, begin: Option<String>, end: Option<String>) -> Self {
        (self.begin, self.end) = (begin, end);
        self
    }

    /// Renders the prompt of messages, up to where the model's answer begins (`add_generation_prompt`). Special tokens
    /// are in it: encode it with [`Tokenizer::encode_as_written`](crate::Tokenizer::encode_as_written).
    ///
    /// # Errors
    ///
    /// If the template refuses the messages, fails, or does more work than a template should.
    pub fn render(&self, messages: &[Message]) -> Result<String> {
        self.on_large_stack(|| self.render_here(messages))
    }

    fn render_here(&self, messages: &[Message]) -> Result<String> {
        let bytes: usize = messages.iter().map(|message| message.content.len()).sum();
        let more = u64::try_from(bytes / BYTES_PER_FUEL).unwrap_or(u64::MAX);
        let environment = Self::environment(FUEL.saturating_add(more));
        let messages: Vec<Value> =
            messages.iter().map(|message| context!(role => &message.role, content => &message.content)).collect();
        let undefined = |token: &Option<String>| token.as_ref().map_or(Value::UNDEFINED, Value::from);
        let values = context!(
            messages => messages,
            add_generation_prompt => true,
            // None rather than undefined, as in transformers: templates tell the two apart.
            tools => (),
            documents => (),
            bos_token => undefined(&self.begin),
            eos_token => undefined(&self.end),
        );
        let render = |source| environment.template_from_named_str(&self.file, source)?.render(&values);
        // What stays within bounds here does so without the calls.
        let bounded = render(&self.bounded).map_err(|error| self.error(&error))?;
        let prompt = render(&self.source).map_err(|error| self.error(&error))?;
        debug_assert_eq!(bounded, prompt, "the calls change nothing");
        Ok(prompt)
    }

    /// Parses or renders where there is room for the syntax and the values that a template of its size and fuel can nest.
    fn on_large_stack<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        thread::scope(|scope| {
            let started = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work);
            let started = started.map_err(|source| Error::Threads { threads: 1, source })?;
            started.join().unwrap_or_else(|_| {
                Err(Error::Chat {
                    file: self.file.clone(),
                    reason: "chat template: the library `minijinja` panicked".to_owned(),
                })
            })
        })
    }

    fn environment<'source>(fuel: u64) -> Environment<'source> {
        let mut environment = Environment::new();
        // Neither setting has delimiters that could contradict each other, the only error there is.
        if let Ok(syntax) = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build() {
            environment.set_syntax(syntax);
        }
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_fuel(Some(fuel));
        // Without the values of its variables: they may be deep.
        environment.set_debug(false);
        environment.set_formatter(|out, state, value| {
            cost::of(state, value)?;
            escape_formatter(out, state, value)
        });
        // It prints all that there is.
        environment.remove_global("debug");
        bounds::add_to(&mut environment);
        environment.set_unknown_method_callback(python::method);
        environment.add_function(
            "raise_exception",
            |message: String| -> std::result::Result<Value, minijinja::Error> {
                Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
            },
        );
        environment.add_filter("tojson", json::to_json);
        environment.add_filter("wordcount", |text: &str| {
            text.split(|character: char| !character.is_alphanumeric() && character != '_')
                .filter(|word| !word.is_empty())
                .count()
        });
        environment
    }

    fn error(&self, error: &minijinja::Error) -> Error {
        let what = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
        let reason = match error.line() {
            Some(line) => format!("chat template, line {line}: {what}"),
            None => format!("chat template: {what}"),
        };
        Error::Chat { file: self.file.clone(), reason }
    }
}

#[cfg(test)]
mod tests;
