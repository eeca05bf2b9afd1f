//! Recognises tensors of different shapes that hold the same elements, or of which one is a part of the other.

use crate::record::TraceRecord;

use super::entry::Entry;
use super::head::Hash;
use super::measure::{Step, squeezed};

/// If one side has all tokens and the other only the last: the index of the side with all tokens, and the step that
/// takes its last row. `[1, V]` is a row of `[1, T, V]`. `None` if the shapes, or the positions that the sides
/// computed, allow another reading.
pub(crate) fn last_row(entries: [&Entry; 2]) -> Option<(usize, Step)> {
    let dims = entries.map(|entry| &*entry.kind.shape);
    let squeezed = dims.map(squeezed);
    let side = usize::from(squeezed[1].len() > squeezed[0].len());
    if squeezed[side].len() != squeezed[1 - side].len() + 1 {
        return None;
    }
    let (entry, row) = (entries[side], &squeezed[1 - side]);
    if row.is_empty() {
        return None;
    }
    let ends = entries.map(|entry| entry.tokens.map(|tokens| tokens[1]));
    if ends[0].zip(ends[1]).is_some_and(|(left, right)| left != right) {
        return None;
    }
    let tokens = entry.tokens.and_then(|[start, end]| end.checked_sub(start));
    let fits = |dim: &usize| {
        let count = dims[side][*dim];
        let rest = dims[side].iter().enumerate().filter(|(at, size)| at != dim && **size != 1);
        count > 1 && tokens.is_none_or(|tokens| tokens == count) && rest.map(|(_, size)| *size).eq(row.iter().copied())
    };
    let mut found = (0..dims[side].len()).filter(fits);
    let (dim, None) = (found.next()?, found.next()) else { return None };
    Some((side, Step::Row { dim, index: dims[side][dim] - 1 }))
}

/// Whether the last row of `side` equals the other record, by the 64-bit digests of rows. `None` if these are missing.
pub(crate) fn last_row_by_digest(records: [&TraceRecord; 2], side: usize) -> Option<bool> {
    let (whole, row) = (records[side], records[1 - side]);
    let last = whole.rows.as_ref()?.last()?;
    // The digests are those of rows of the last dimension.
    let width = whole.shape.last()?;
    let digest = row.blake3.get(..16).filter(|_| Hash::parse(&row.blake3).is_digest())?;
    (*width == row.num_elements).then(|| last.eq_ignore_ascii_case(digest))
}

/// In tensors with more dimensions, no exchange is looked for.
const MOST_DIMENSIONS: usize = 8;

/// The pairs of dimensions whose exchange turns the first shape into the second.
pub(crate) fn exchanged(dims: [&[usize]; 2]) -> Vec<(usize, usize)> {
    let rank = dims[0].len();
    if rank > MOST_DIMENSIONS {
        return Vec::new();
    }
    let all = (0..rank).flat_map(|first| (first + 1..rank).map(move |second| (first, second)));
    all.filter(|(first, second)| {
        let mut turned = dims[0].to_vec();
        turned.swap(*first, *second);
        let sizes = [dims[0][*first], dims[0][*second]];
        // Moving a dimension of size 1 moves no element.
        sizes[0] != sizes[1] && !sizes.contains(&1) && squeezed(&turned) == squeezed(dims[1])
    })
    .collect()
}
