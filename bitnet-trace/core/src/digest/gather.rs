//! Copies the elements of a strided tensor into a buffer in logical order.

use super::view::TensorView;

/// Calls `chunk` with the tensor's elements in logical order, `gathered.len()` at a time; the last call may have
/// fewer.
pub(super) fn gather<T: Copy>(data: &[T], view: &TensorView<'_>, gathered: &mut [T], mut chunk: impl FnMut(&[T])) {
    let rows = view.rows();
    let (row_len, stride) = (rows.length, rows.stride);
    let mut filled = 0;
    for start in rows {
        let mut taken = 0;
        while taken < row_len {
            let fits = (row_len - taken).min(gathered.len() - filled);
            let to = &mut gathered[filled..filled + fits];
            let from = start + taken * stride;
            match stride {
                0 => to.fill(data[from]),
                1 => to.copy_from_slice(&data[from..from + fits]),
                _ => to.iter_mut().zip(data[from..].iter().step_by(stride)).for_each(|(to, from)| *to = *from),
            }
            taken += fits;
            filled += fits;
            if filled == gathered.len() {
                chunk(gathered);
                filled = 0;
            }
        }
    }
    if filled > 0 {
        chunk(&gathered[..filled]);
    }
}
