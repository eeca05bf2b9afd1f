//! From a text to a syntax tree whose positions are bytes of that text.

use std::io;
use std::thread;

use proc_macro2::{LineColumn, TokenStream};

use crate::Error;
use crate::nesting;

/// The longest source text that is read, in bytes: far longer than any that a person wrote, and far below the four bytes
/// that a position has.
pub const MAX_BYTES: usize = 16 << 20;

/// The bytes of stack that a token may need while it is open: see the tests of `nesting`.
const STACK_PER_LEVEL: usize = 24 << 10;

/// The part of a text that is Rust.
#[derive(Clone, Copy)]
pub(crate) struct Text<'a> {
    pub(crate) code: &'a str,
    /// The bytes before it: a byte order mark, a line for the shell.
    pub(crate) skipped: usize,
}

/// Runs the parser, and what walks its tree, where neither can run out of stack.
pub(crate) fn on_its_own_stack<T: Send>(
    source: &str,
    work: impl FnOnce(Text<'_>) -> Result<T, Error> + Send,
) -> Result<T, Error> {
    if source.len() > MAX_BYTES {
        return Err(Error::TooLarge { found: source.len(), limit: MAX_BYTES });
    }
    // The thread also ends the life of what proc-macro2 keeps of every text that it was given.
    thread::scope(|scope| {
        let builder = thread::Builder::new().stack_size(nesting::MAX_LEVELS * STACK_PER_LEVEL);
        let parser =
            builder.spawn_scoped(scope, || work(code_of(source))).map_err(|source| Error::Thread { source })?;
        parser.join().unwrap_or_else(|_| Err(Error::Thread { source: io::Error::other("the parser ended early") }))
    })
}

/// Leaves out what the compiler leaves out: a byte order mark, and a first line `#!/..` that is not an attribute.
fn code_of(source: &str) -> Text<'_> {
    let mut code = source.strip_prefix('\u{feff}').unwrap_or(source);
    if let Some(line) = code.strip_prefix("#!")
        && !line.trim_start().starts_with('[')
    {
        code = &code[code.find('\n').unwrap_or(code.len())..];
    }
    Text { code, skipped: source.len() - code.len() }
}

pub(crate) fn file(text: Text<'_>) -> Result<syn::File, Error> {
    let tokens: TokenStream =
        text.code.parse().map_err(|error: proc_macro2::LexError| syntax(error.span().start(), error.to_string()))?;
    nesting::check(&tokens)?;
    syn::parse2(tokens).map_err(|error| syntax(error.span().start(), error.to_string()))
}

fn syntax(at: LineColumn, message: String) -> Error {
    Error::Syntax { line: at.line, column: at.column + 1, message }
}
