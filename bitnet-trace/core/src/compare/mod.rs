//! Compares two traces and finds the first tensor where they differ.
//!
//! A comparison has four steps. `side`, with `builder`, `head`, `scan`, `map` and `rename`, reads each trace into
//! entries: what a record is aligned by, and where the rest of it is. `align` decides which entries belong together.
//! `walk` and `judge` give every pair its verdict; `measure` computes the numbers, and `tolerance` holds the limits.
//! `origin` then says where an error was made. The result is a [`Comparison`].
//!
//! This module imports `trace`, `record` and `digest`. It does not import `report`, which prints a comparison.

mod adaptation;
mod align;
mod builder;
mod captures;
mod comparison;
mod coverage;
mod entry;
mod form;
mod head;
mod judge;
mod key;
mod known_names;
mod map;
mod measure;
mod origin;
mod precision;
mod presets;
mod rename;
#[doc(hidden)] // reads the plans of the command
pub mod rules;
mod scan;
mod shared;
mod side;
mod tolerance;
mod verdict;
mod walk;

pub use adaptation::{Adaptation, Adapted, Coverage, Suggestion, Where};
pub use comparison::{Comparison, Conclusion, Details, Pair};
pub(crate) use coverage::stage_of;
pub use key::Key;
pub use known_names::NameTarget;
pub use map::NameMap;
pub use tolerance::{Needed, Tolerance};
pub use verdict::{Cause, Difference, Element, Evidence, Origin, Share, Verdict};

use std::path::Path;

use crate::error::Error;
use crate::trace::Trace;

use side::Side;

/// How two traces are compared.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct DiffOptions {
    /// How much two tensors may differ.
    pub tolerance: Tolerance,
    /// The map from the record names of another program to stages. The default is empty.
    pub map: NameMap,
    /// Whether records that only one side has are ignored. By default they keep the traces from matching.
    pub only_common: bool,
}

impl DiffOptions {
    /// Replaces the tolerance.
    #[must_use]
    pub fn with_tolerance(self, tolerance: Tolerance) -> Self {
        Self { tolerance, ..self }
    }

    /// Replaces the map of names.
    #[must_use]
    pub fn with_map(self, map: NameMap) -> Self {
        Self { map, ..self }
    }

    /// Sets whether records that only one side has are ignored.
    #[must_use]
    pub fn with_only_common(self, only_common: bool) -> Self {
        Self { only_common, ..self }
    }
}

/// Compares two traces, record by record in execution order.
///
/// ```no_run
/// use bitnet_trace_core::{Tolerance, Trace, diff};
///
/// # fn main() -> Result<(), bitnet_trace_core::Error> {
/// let comparison = diff(&Trace::open("reference")?, &Trace::open("mine")?, &Tolerance::default());
/// if let Some(first) = comparison.first_divergence() {
///     println!("{} {}", first.key, first.verdict);
/// }
/// comparison.assert_match(); // panics with the screen of the first divergence
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn diff(reference: &Trace, trace: &Trace, tolerance: &Tolerance) -> Comparison {
    diff_with(reference, trace, &DiffOptions::default().with_tolerance(tolerance.clone()))
}

/// Does the same as [`diff`] with all options.
#[must_use]
pub fn diff_with(reference: &Trace, trace: &Trace, options: &DiffOptions) -> Comparison {
    let (mut reference, mut trace) = (Side::of(reference, &options.map), Side::of(trace, &options.map));
    shared::restore_shared(&mut reference, &mut trace);
    walk::compare(reference, trace, options, &mut |_, _| ())
}

/// Compares two trace directories or `.jsonl` files without holding their records in memory. `progress` is called with
/// the number of pairs compared so far and the number of all pairs.
///
/// # Errors
///
/// If a side cannot be read or holds no record, or both sides are the same path.
pub fn diff_paths(
    reference: impl AsRef<Path>,
    trace: impl AsRef<Path>,
    options: &DiffOptions,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Comparison, Error> {
    let (reference, trace) = (reference.as_ref(), trace.as_ref());
    let canonical = |path: &Path| path.canonicalize().map_err(Error::io("read", path));
    if canonical(reference)? == canonical(trace)? {
        let reason = format!("{} is given on both sides", reference.display());
        return Err(Error::NothingToCompare(reason));
    }
    let mut sides = std::thread::scope(|scope| {
        let other = scope.spawn(|| Side::open(trace, &options.map));
        let one = Side::open(reference, &options.map);
        // A panic of the other thread is a bug: it is passed on.
        let other = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok::<_, Error>((one?, other?))
    })?;
    shared::restore_shared(&mut sides.0, &mut sides.1);
    for (side, path) in [(&sides.0, reference), (&sides.1, trace)] {
        if side.entries.is_empty() {
            return Err(Error::NothingToCompare(match side.problems.first() {
                Some(problem) => problem.clone(),
                None => format!("the map leaves out all {} records of {}", side.left_out.len(), path.display()),
            }));
        }
    }
    Ok(walk::compare(sides.0, sides.1, options, progress))
}
