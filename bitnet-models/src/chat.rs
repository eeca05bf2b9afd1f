//! Chat templates: the text that a chat model was trained to answer, made of messages.
//!
//! A template is a Jinja program that comes with the checkpoint. It is rendered as transformers renders it
//! (`utils/chat_template_utils.py`): `trim_blocks`, `lstrip_blocks`, `raise_exception`, `tojson` without escapes for
//! HTML, Python's methods of strings and dictionaries. `strftime_now` is not defined, so that a prompt does not depend on
//! the day; the templates that know it check for that and have a fixed date instead.

use std::io;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Value};
use minijinja::{AutoEscape, Environment, ErrorKind, context};
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

use crate::error::{Error, Result};

/// The role of the first message, which tells the model how to behave.
pub const SYSTEM: &str = "system";
/// The role of a message that the model answers.
pub const USER: &str = "user";

/// The work that a template may do: one step costs 1, as do 64 bytes of text. Lists joined by `+` cost nothing in
/// minijinja 3.1: a hostile template can still fill the memory with them.
const FUEL: u64 = 1_000_000;

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
        let template = Self { source: source.into(), file: file.into(), begin: None, end: None };
        match Self::environment().template_from_named_str(&template.file, &template.source) {
            Ok(_) => {}
            Err(error) => return Err(template.error(&error)),
        }
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
        let environment = Self::environment();
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
        let rendered =
            environment.template_from_named_str(&self.file, &self.source).and_then(|template| template.render(values));
        rendered.map_err(|error| self.error(&error))
    }

    fn environment<'source>() -> Environment<'source> {
        let mut environment = Environment::new();
        // Neither setting has delimiters that could contradict each other, the only error there is.
        if let Ok(syntax) = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build() {
            environment.set_syntax(syntax);
        }
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_fuel(Some(FUEL));
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function(
            "raise_exception",
            |message: String| -> std::result::Result<Value, minijinja::Error> {
                Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
            },
        );
        environment.add_filter("tojson", to_json);
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

/// `json.dumps` of Python without escapes of what is not ASCII: `", "` and `": "` between items unless it is indented.
#[allow(clippy::needless_pass_by_value)] // the form of a filter
fn to_json(value: &Value, options: Kwargs) -> std::result::Result<String, minijinja::Error> {
    let indent: Option<usize> = options.get("indent")?;
    options.get::<Option<bool>>("ensure_ascii")?;
    options.assert_all_used()?;
    let mut json = Vec::new();
    let written = match indent.map(|spaces| " ".repeat(spaces.min(MOST_INDENT))) {
        Some(indent) => {
            value.serialize(&mut Serializer::with_formatter(&mut json, PrettyFormatter::with_indent(indent.as_bytes())))
        }
        None => value.serialize(&mut Serializer::with_formatter(&mut json, Spaced)),
    };
    let failed = |error: String| minijinja::Error::new(ErrorKind::InvalidOperation, format!("tojson: {error}"));
    written.map_err(|error| failed(error.to_string()))?;
    String::from_utf8(json).map_err(|error| failed(error.to_string()))
}

/// Most spaces that `tojson` indents a level by.
const MOST_INDENT: usize = 16;

/// The separators of Python.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, to: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { to.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, to: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { to.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, to: &mut W) -> io::Result<()> {
        to.write_all(b": ")
    }
}

#[cfg(test)]
mod tests;
