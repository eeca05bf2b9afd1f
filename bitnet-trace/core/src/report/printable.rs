//! Text from a trace, made safe for a terminal.

use std::borrow::Cow;
use std::fmt::Write;

/// Text that came from a trace as it can be printed: control characters are escaped, so that a name
/// can neither command the terminal nor forge a line.
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
