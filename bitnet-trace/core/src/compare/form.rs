//! Tensors of other dimensions that are still the same, or a part of one another.

use crate::record::TraceRecord;

use super::entry::Entry;
use super::head::Hash;
use super::measure::{Step, squeezed};

/// Which side has all tokens where the other has the last one only, and the step that takes its last
/// row: `[1, V]` is a row of `[1, T, V]`. `None` where the shapes, or the positions that the sides say
/// they computed, leave another reading.
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

/// Whether the last row of `side` is the other record, by the digests of its rows: 64 bits each.
pub(crate) fn last_row_by_digest(records: [&TraceRecord; 2], side: usize) -> Option<bool> {
    let (whole, row) = (records[side], records[1 - side]);
    let last = whole.rows.as_ref()?.last()?;
    // A row of digests is one of the last dimension.
    let width = whole.shape.last()?;
    let digest = row.blake3.get(..16).filter(|_| Hash::parse(&row.blake3).is_digest())?;
    (*width == row.num_elements).then(|| last.eq_ignore_ascii_case(digest))
}

/// Of tensors of more dimensions no exchange is looked for.
const MOST_DIMENSIONS: usize = 8;

/// Pairs of dimensions whose exchange turns the first shape into the second.
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
