//! Puts the attribute `#[traced]` of [`bitnet-trace`](https://docs.rs/bitnet-trace) on the functions of a model's
//! source. This is what `bitnet-trace init` calls.
//!
//! ```
//! use bitnet_trace_annotate::{Style, annotate};
//!
//! let source = "\
//! use candle_core::{Result, Tensor};
//!
//! impl Mlp {
//!     fn forward(&self, x: &Tensor) -> Result<Tensor> {
//!         x.apply(&self.up)?.relu()
//!     }
//! }
//! ";
//! let annotated = annotate(source, Style::Init)?;
//! assert_eq!(annotated.source, "\
//! use bitnet_trace::traced;
//! use candle_core::{Result, Tensor};
//!
//! impl Mlp {
//!     #[traced(stage = \"mlp\", locals)]
//!     fn forward(&self, x: &Tensor) -> Result<Tensor> {
//!         x.apply(&self.up)?.relu()
//!     }
//! }
//! ");
//! # Ok::<(), bitnet_trace_annotate::Error>(())
//! ```
//!
//! Text is only added. Every byte of the source stays, with its line endings, tabs and comments.
//!
//! # Which functions
//!
//! Every function with a body whose return type names `Tensor`, in a form that `#[traced]` records: by itself, behind a
//! reference, in a `Result`, `Option`, `Vec`, array, slice, tuple (beside tensors: numbers, strings and bools), in a
//! `Box`, `Rc` or `Arc`, as the value of a map with text keys, or in a boxed future. Free functions, methods, methods of
//! trait implementations and default methods of traits are annotated, also those in nested modules.
//!
//! Left alone are test functions and modules, functions inside of other functions, and what a macro writes. Type aliases
//! are not resolved: a function that returns `type Output = Result<Tensor>` under its new name is not seen, and neither
//! is `Self` in an implementation for `Tensor`. A function that returns tensors but cannot be annotated is listed in
//! [`Annotated::passed_over`], with the reason.
//!
//! # What is written
//!
//! [`Style::Init`] writes, on a line of its own above the function:
//!
//! * `locals`, always.
//! * `stage = ".."` for a method named `forward`: the name of its type in snake case, or the trait's name for a default
//!   method. Any other function has its own name as its stage, which needs no argument. A stage is used once in a file:
//!   where an earlier function has it, the name of the type is put in front, or that of the module (`cross_attention_attn`),
//!   and if that is taken too, a number after it. Functions of one name of which `cfg` chooses one share a stage.
//! * `layers(layer)` where the body has a `for` loop over the blocks of the model: over a field of `self` or of an
//!   argument, through `iter`, `iter_mut`, `enumerate`, `zip` or `take`, whose name is `h`, `layer` or `block`, or ends
//!   in `layers` or `blocks`. A field whose elements are single operations, such as `Vec<Linear>`, is not meant. If the
//!   loops of a body disagree about the variable, none is written, and [`Function::note`] says so.
//! * `seq = index_pos` where there is such a loop and the function takes its position as a `usize`.
//!
//! `use bitnet_trace::traced;` is put where rustfmt would sort it, among the first `use` lines. In nested modules the
//! attribute is written with its path.
//!
//! [`Style::Locals`] writes `#[traced(locals)]` on the same functions.

mod blocks;
mod edit;
mod error;
mod functions;
mod imports;
mod nesting;
mod parse;
mod returns;
mod scope;
mod stages;

use std::fmt;

pub use error::Error;
pub use parse::MAX_BYTES;

/// What the attributes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Style {
    /// Stages, layers, the position and locals: what a person would write.
    Init,
    /// `#[traced(locals)]` on every function that returns tensors, and nothing else.
    Locals,
}

/// A source text with its attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Annotated {
    /// The text. It is the one that was given if there was nothing to annotate.
    pub source: String,
    /// The functions that were annotated, in the order of the text.
    pub functions: Vec<Function>,
    /// The functions that return tensors and were not annotated, in the order of the text.
    pub passed_over: Vec<PassedOver>,
}

/// A function that was annotated.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Function {
    /// Its path in the file: `forward`, `Mlp::forward`, `inner::Mlp::forward`.
    pub name: String,
    /// The line of its `fn` in the text that was given, from 1.
    pub line: usize,
    /// The attribute, `#[traced(stage = "mlp", locals)]`.
    pub attribute: String,
    /// What a person should look at.
    pub note: Option<String>,
}

/// A function that returns tensors and was not annotated.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PassedOver {
    /// Its path in the file.
    pub function: String,
    /// The line of its `fn` in the text that was given, from 1.
    pub line: usize,
    /// Why it was not annotated.
    pub reason: Reason,
}

/// Why a function that returns tensors was not annotated.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// It has the attribute already.
    Annotated,
    /// It is a `const fn`.
    Const,
    /// It has `#[track_caller]`.
    TrackCaller,
    /// It returns `impl Trait`.
    ImplTrait,
    /// The tensor lies in this type, which `#[traced]` cannot look into unless it implements `Traced`.
    Holder(String),
    /// Beside the tensor there is this type, which `#[traced]` passes over only if it implements `Traced`.
    Beside(String),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Annotated => f.write_str("it is annotated already"),
            Self::Const => f.write_str("a `const fn` cannot record"),
            Self::TrackCaller => f.write_str("`#[traced]` and `#[track_caller]` cannot be combined"),
            Self::ImplTrait => f.write_str("`#[traced]` cannot see into `impl Trait`"),
            Self::Holder(ty) => {
                write!(
                    f,
                    "`#[traced]` records a `{ty}` only if that type implements `Traced`; then annotate it by hand"
                )
            }
            Self::Beside(ty) => {
                write!(f, "it also returns `{ty}`, which `#[traced]` passes over only if that implements `Traced`")
            }
        }
    }
}

/// Adds attributes to the source text of a Rust file.
///
/// Annotating the result again changes nothing.
///
/// # Errors
///
/// If the text is not Rust, is larger than a source file should be, or is nested so deeply that it cannot be parsed.
pub fn annotate(source: &str, style: Style) -> Result<Annotated, Error> {
    parse::on_its_own_stack(source, |text| {
        let file = parse::file(text)?;
        let found = functions::find(&file, text);
        let attributes = stages::attributes(&found.functions, &found.stages, style);
        Ok(edit::apply(source, text, &file, found, attributes))
    })
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
