//! The facts about an annotated function that are known at compile time.

use std::fmt;

/// One `#[traced]` function: its stage and where it stands in the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Site {
    /// The stage of its records.
    pub stage: &'static str,
    /// The function's name.
    pub function: &'static str,
    /// The module that contains it, `crate::module`.
    pub module: &'static str,
    /// Source file, as the compiler was given it (relative to the workspace in a cargo build).
    pub file: &'static str,
    /// Line of the `fn` keyword, from 1.
    pub line: u32,
    /// The names of the positions of a returned tuple.
    pub outputs: &'static [&'static str],
}

impl Site {
    /// A function without names for its outputs.
    #[allow(dead_code)] // only capture makes them
    pub(crate) const fn new(
        stage: &'static str,
        function: &'static str,
        module: &'static str,
        file: &'static str,
        line: u32,
    ) -> Self {
        Self { stage, function, module, file, line, outputs: &[] }
    }
}

/// `file:line function`, the form of a record's `site`.
impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{} {}", self.file, self.line, self.function)
    }
}
