//! Makes text from a trace safe for a terminal.

use std::borrow::Cow;
use std::fmt::Write;

/// Escapes the control characters of a text that comes from a trace, so that it can neither control the terminal nor
/// forge a line of output.
///
/// ```
/// assert_eq!(bitnet_trace_core::report::printable("q\u{1b}[2J\nmatch"), r"q\u{1b}[2J\nmatch");
/// ```
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if c.is_control() {
            // Writing to a String does not fail.
            let _ = write!(escaped, "{}", c.escape_debug());
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}
