//! Strided tensors in logical order, gathered run by run into a buffer.

use candle_core::Layout;

/// Calls `chunk` with the tensor's elements in logical order: `gathered.len()` of them each time,
/// the last time fewer.
pub(super) fn gather<T: Copy>(data: &[T], layout: &Layout, gathered: &mut [T], mut chunk: impl FnMut(&[T])) {
    let rows = Rows::new(layout);
    let (row_len, stride) = (rows.len, rows.stride);
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

/// The storage offsets at which the innermost rows of a strided tensor begin, in logical order.
///
/// Neighbouring dimensions that lie in storage like one are taken as one first, so that rows are as
/// long as they can be.
struct Rows {
    /// Elements in a row, and the distance between two of them.
    len: usize,
    stride: usize,
    /// (size, stride, position) of the dimensions outside the row, slowest first.
    outer: Vec<(usize, usize, usize)>,
    /// Where the next row begins.
    next: Option<usize>,
}

impl Rows {
    fn new(layout: &Layout) -> Self {
        let mut dimensions: Vec<(usize, usize)> = Vec::new();
        for (&size, &stride) in layout.dims().iter().zip(layout.stride()) {
            match dimensions.last_mut() {
                _ if size == 1 => {}
                Some((outer, outer_stride)) if *outer_stride == size * stride => {
                    (*outer, *outer_stride) = (*outer * size, stride);
                }
                _ => dimensions.push((size, stride)),
            }
        }
        let (len, stride) = dimensions.pop().unwrap_or((1, 1));
        let empty = layout.dims().contains(&0);
        Self {
            len,
            stride,
            outer: dimensions.into_iter().map(|(size, stride)| (size, stride, 0)).collect(),
            next: (!empty).then_some(layout.start_offset()),
        }
    }
}

impl Iterator for Rows {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let start = self.next?;
        let mut offset = start;
        // An odometer: the fastest dimension that has not come round moves on.
        self.next = self.outer.iter_mut().rev().find_map(|(size, stride, position)| {
            *position += 1;
            offset += *stride;
            if *position < *size {
                return Some(offset);
            }
            offset -= *size * *stride;
            *position = 0;
            None
        });
        Some(start)
    }
}
