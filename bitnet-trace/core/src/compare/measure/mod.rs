//! Measures the difference of two tensors, from their captured values or from their records alone.

mod cause;
mod estimate;
mod factor;
mod metric;
mod number;
mod order;
mod sums;
#[cfg(test)]
mod tests;
mod ulp;
mod view;

pub(crate) use estimate::measure as estimate;
pub(crate) use metric::{is_float, smaller};
pub(crate) use view::{Step, squeezed};

use std::borrow::Cow;

use crate::digest::strided::Strided;
use crate::trace::Values;

use super::verdict::{Cause, Difference};
use metric::Measured;
use number::Number;
use view::View;

/// One side: its captured tensor, and what its record says about it.
#[derive(Clone, Copy)]
pub(crate) struct MeasuredSide<'a> {
    pub(crate) captured: &'a Values,
    /// The type as the record names it.
    pub(crate) dtype: &'a str,
    /// The steps that make the tensor comparable.
    pub(crate) steps: &'a [Step],
    /// The shape as it was recorded.
    pub(crate) shape: &'a [usize],
}

/// The result of comparing the elements of two tensors.
#[allow(clippy::large_enum_variant)] // there is only one at a time
pub(crate) enum Compared {
    /// The shapes differ. These are the shapes without dimensions of size 1.
    Shapes([Vec<usize>; 2]),
    Elements {
        difference: Difference,
        /// The number of elements that are not finite on one side, or differently on both.
        nonfinite: usize,
        cause: Option<Cause>,
    },
}

/// Compares the elements. The error says why the tensors cannot be brought into one form. A cause is looked for if the
/// difference is not `allowed`. `tokens` is the dimension that holds the tokens, after the steps and not counting
/// dimensions of size 1; `None` if it is not known.
pub(crate) fn compare(
    sides: [MeasuredSide<'_>; 2],
    tokens: Option<usize>,
    allowed: impl Fn(&Difference) -> bool,
) -> Result<Compared, String> {
    let [reference, trace] = sides;
    let mut left = seen(reference.captured).after(reference.steps, trace.shape)?.squeezed();
    let mut right = seen(trace.captured).after(trace.steps, reference.shape)?.squeezed();
    if left.dims() != right.dims() {
        return Ok(Compared::Shapes([left.dims().to_vec(), right.dims().to_vec()]));
    }
    // If the types differ, elements of f64 are rounded to f32, as the digest does.
    if left.dtype != right.dtype {
        (left.narrow, right.narrow) = (true, true);
    }
    let integers = left.dtype.precision().is_none() && right.dtype.precision().is_none();
    let elements = if integers { elements::<i64> } else { elements::<f64> };
    Ok(elements([&left, &right], [reference.dtype, trace.dtype], tokens, &allowed))
}

fn seen(values: &Values) -> View<'_> {
    View::new(values.dtype, Cow::Borrowed(&values.bytes), Strided::contiguous(&values.shape))
}

fn elements<T: Number>(
    views: [&View<'_>; 2],
    dtypes: [&str; 2],
    tokens: Option<usize>,
    allowed: &dyn Fn(&Difference) -> bool,
) -> Compared {
    let measured = metric::measure::<T>(views, dtypes);
    let Measured { difference, nonfinite, .. } = &measured;
    let cause = match difference.rounding {
        _ if *nonfinite > 0 || difference.differing == Some(0) || allowed(difference) => None,
        Some(dtype) => Some(Cause::Rounding(dtype)),
        None => cause::of_values::<T>(views, &measured, tokens),
    };
    Compared::Elements { nonfinite: *nonfinite, cause, difference: measured.difference }
}
