//! The functions that cannot be annotated, beyond those that the annotator itself passes over.

/// A function that does not compile with `#[traced(locals)]`, and why.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Exception {
    /// Its file in the package, `src/models/llama.rs`.
    pub(crate) file: &'static str,
    /// Its path in the file, `Mlp::forward`.
    pub(crate) function: &'static str,
    pub(crate) reason: &'static str,
}

/// The tool fails if one of these compiles, or is not there.
pub(crate) const EXCEPTIONS: &[Exception] = &[];
