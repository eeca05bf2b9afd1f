//! The crate's error type.

use std::io;

/// An error in reading the source text. No text was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text is not Rust.
    #[error("line {line}, column {column}: not Rust that can be read: {message}")]
    Syntax {
        /// The line, from 1.
        line: usize,
        /// The column in characters, from 1.
        column: usize,
        /// What the parser found.
        message: String,
    },
    /// The text is longer than a source file that a person wrote.
    #[error("the file has {found} bytes; expected Rust source text of at most {limit}")]
    TooLarge {
        /// Its length in bytes.
        found: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// Expressions, types or blocks lie inside each other so deeply that a parser would run out of stack.
    #[error("line {line}: the code is nested more than {limit} levels deep")]
    TooDeep {
        /// Where the outermost item begins that is nested too deeply; lines count from 1.
        line: usize,
        /// The limit, in tokens that may be open at the same time.
        limit: usize,
    },
    /// The parser's thread could not be started, or it ended early.
    #[error("cannot run the parser in a thread of its own")]
    Thread {
        /// The system's reason.
        source: io::Error,
    },
}
