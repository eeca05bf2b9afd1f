//! What two captured tensors, or two records without them, show of their difference.

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

/// One side: its captured tensor, and what is known of it.
#[derive(Clone, Copy)]
pub(crate) struct Given<'a> {
    pub(crate) captured: &'a Values,
    /// As the record names it.
    pub(crate) dtype: &'a str,
    /// What is done to the tensor before it is compared.
    pub(crate) steps: &'a [Step],
    /// As it was recorded.
    pub(crate) shape: &'a [usize],
}

/// What comparing the elements of two tensors gives.
#[allow(clippy::large_enum_variant)] // one at a time
pub(crate) enum Compared {
    /// They have other dimensions, those of size 1 left out.
    Shapes([Vec<usize>; 2]),
    Elements {
        difference: Difference,
        /// Elements that are not finite on one side, or differently.
        nonfinite: usize,
        cause: Option<Cause>,
    },
}

/// Compares the elements; the error says why they cannot be brought into one form. A cause is looked
/// for where the difference is not `allowed`. `tokens` is the dimension of tokens of both sides as
/// they are compared, dimensions of size 1 left out; `None` where it is not known.
pub(crate) fn compare(
    sides: [Given<'_>; 2],
    tokens: Option<usize>,
    allowed: impl Fn(&Difference) -> bool,
) -> Result<Compared, String> {
    let [reference, trace] = sides;
    let mut left = seen(reference.captured).after(reference.steps, trace.shape)?.squeezed();
    let mut right = seen(trace.captured).after(trace.steps, reference.shape)?.squeezed();
    if left.dims() != right.dims() {
        return Ok(Compared::Shapes([left.dims().to_vec(), right.dims().to_vec()]));
    }
    // A side of f64 against one of another type is compared as the digest sees it.
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
