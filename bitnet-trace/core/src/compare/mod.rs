//! From two traces to the first tensor where they part.

mod adaptation;
mod align;
mod builder;
mod captures;
mod compare;
mod comparison;
mod coverage;
mod entry;
mod form;
mod head;
mod judge;
mod key;
mod map;
mod measure;
mod origin;
mod precision;
mod rename;
mod rules;
mod scan;
mod side;
mod tolerance;
mod verdict;

pub use adaptation::{Adaptation, Adapted, Coverage, Suggestion, Where};
pub use comparison::{Comparison, Conclusion, Details, Pair};
pub(crate) use coverage::stage_of;
pub use key::Key;
pub use map::NameMap;
pub use tolerance::{Needed, Tolerance};
pub use verdict::{Cause, Difference, Element, Evidence, Origin, Share, Verdict};

use std::path::Path;

use crate::error::Error;
use crate::trace::Trace;

use side::Side;

/// What two traces are compared by.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct DiffOptions {
    /// How much two tensors may differ.
    pub tolerance: Tolerance,
    /// Names of other worlds.
    pub map: NameMap,
    /// Records that only one side has are no difference.
    pub only_common: bool,
}

impl DiffOptions {
    /// With this tolerance.
    #[must_use]
    pub fn with_tolerance(self, tolerance: Tolerance) -> Self {
        Self { tolerance, ..self }
    }

    /// With this map of names.
    #[must_use]
    pub fn with_map(self, map: NameMap) -> Self {
        Self { map, ..self }
    }

    /// Whether records that only one side has are no difference.
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
/// comparison.assert_match(); // panics with the whole story
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn diff(reference: &Trace, trace: &Trace, tolerance: &Tolerance) -> Comparison {
    let options = DiffOptions { tolerance: tolerance.clone(), ..DiffOptions::default() };
    let (mut reference, mut trace) = (Side::of(reference, &options.map), Side::of(trace, &options.map));
    rename::take_back(&mut reference, &mut trace);
    compare::compare(reference, trace, &options, &mut |_, _| ())
}

/// Compares two trace directories or `.jsonl` files without holding their records in memory;
/// `progress` is called with the pairs done and the pairs there are.
///
/// # Errors
///
/// If a side cannot be read or holds no record, or both are the same directory.
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
        // A bug in reading is a bug here.
        let other = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok::<_, Error>((one?, other?))
    })?;
    rename::take_back(&mut sides.0, &mut sides.1);
    for (side, path) in [(&sides.0, reference), (&sides.1, trace)] {
        if side.entries.is_empty() {
            return Err(Error::NothingToCompare(match side.problems.first() {
                Some(problem) => problem.clone(),
                None => format!("the map leaves none of the {} records of {}", side.left_out.len(), path.display()),
            }));
        }
    }
    Ok(compare::compare(sides.0, sides.1, options, progress))
}
