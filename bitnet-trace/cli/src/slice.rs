//! Slices in the manner of numpy and PyTorch: `0,-1,2:8:2`, `...,:4`.

use ndarray::{ArrayViewD, Axis, Slice};

/// What is taken of a dimension.
enum Part {
    /// One place; the dimension goes.
    At(usize),
    /// From the first, before the last, every so many.
    Range(usize, usize, usize),
}

/// The slice of a tensor: for each dimension an index, a range `from:to:step` or `:`, negative numbers
/// from the end, `...` for all dimensions between.
pub(crate) fn sliced<'a, T>(tensor: ArrayViewD<'a, T>, slice: &str) -> Result<ArrayViewD<'a, T>, String> {
    let dims = tensor.shape().to_vec();
    let parts: Vec<&str> = slice.split(',').map(str::trim).collect();
    let given = parts.iter().filter(|part| **part != "...").count();
    if given > dims.len() {
        return Err(format!("--slice {slice} has {given} dimensions, the tensor has {dims:?}"));
    }
    if parts.len() > given + 1 {
        return Err(format!("--slice {slice} has more than one `...`"));
    }
    let mut wanted = Vec::new();
    for part in parts {
        if part == "..." {
            let between = dims.len() - given;
            wanted.extend(dims[wanted.len()..][..between].iter().map(|length| Part::Range(0, *length, 1)));
        } else {
            wanted.push(parse(part, wanted.len(), dims[wanted.len()])?);
        }
    }
    Ok(take(tensor, &wanted))
}

fn parse(part: &str, dim: usize, length: usize) -> Result<Part, String> {
    let wrong = || format!("--slice has {part:?}, expected an index or a range such as `3`, `-1`, `:8`, `2:5`, `::2`");
    let outside = || format!("--slice has {part:?}, dimension {dim} has {length}");
    let number = |text: &str| text.trim().parse::<i64>().map_err(|_| wrong());
    // Negative numbers count from the end.
    let place = |number: i64| match usize::try_from(number) {
        Ok(place) => Some(place),
        Err(_) => usize::try_from(number.unsigned_abs()).ok().and_then(|back| length.checked_sub(back)),
    };
    let Some((start, rest)) = part.split_once(':') else {
        let index = place(number(part)?).filter(|index| *index < length).ok_or_else(outside)?;
        return Ok(Part::At(index));
    };
    let (end, step) = rest.split_once(':').unwrap_or((rest, ""));
    let bound = |text: &str, or: usize| match text.trim() {
        "" => Ok(or),
        text => number(text).map(|number| place(number).unwrap_or(0).min(length)),
    };
    let (start, end) = (bound(start, 0)?, bound(end, length)?);
    let step = if step.trim().is_empty() { 1 } else { step.trim().parse::<usize>().map_err(|_| wrong())? };
    if step == 0 {
        return Err(wrong());
    }
    // numpy gives nothing here; a person who asks for values does not mean nothing.
    if start >= end && length > 0 {
        return Err(outside());
    }
    Ok(Part::Range(start, end.max(start), step))
}

fn take<'a, T>(mut tensor: ArrayViewD<'a, T>, parts: &[Part]) -> ArrayViewD<'a, T> {
    let mut dim = 0;
    for part in parts {
        match *part {
            Part::At(index) => tensor.index_axis_inplace(Axis(dim), index),
            Part::Range(start, end, step) => {
                // An end beyond isize would be that of more elements than a memory holds.
                let [start, end, step] = [start, end, step].map(|place| isize::try_from(place).unwrap_or(isize::MAX));
                tensor.slice_axis_inplace(Axis(dim), Slice::new(start, Some(end), step));
                dim += 1;
            }
        }
    }
    tensor
}

#[cfg(test)]
mod tests {
    use ndarray::ArrayD;

    use super::sliced;

    /// 0 to 23 in [2, 3, 4]; shape and elements of the slice.
    fn of(slice: &str) -> Result<(Vec<usize>, Vec<f32>), String> {
        let elements = (0..24u8).map(f32::from).collect();
        let tensor = ArrayD::from_shape_vec(&[2, 3, 4][..], elements).expect("a tensor");
        let slice = sliced(tensor.view(), slice)?;
        Ok((slice.shape().to_vec(), slice.iter().copied().collect()))
    }

    /// What numpy gives for `numpy.arange(24).reshape(2, 3, 4)[slice]`.
    #[test]
    fn as_numpy() {
        for (slice, shape, elements) in [
            ("1,2,3", &[][..], &[23.0][..]),
            ("-1,-3,-4", &[], &[12.0]),
            ("0,1", &[4], &[4.0, 5.0, 6.0, 7.0]),
            ("0,0,1:3", &[2], &[1.0, 2.0]),
            ("0,0,-2:", &[2], &[2.0, 3.0]),
            ("0,0,:-3", &[1], &[0.0]),
            ("0,0,::2", &[2], &[0.0, 2.0]),
            ("0,0,1:99:2", &[2], &[1.0, 3.0]),
            ("0,0,-99:1", &[1], &[0.0]),
            ("...,0", &[2, 3], &[0.0, 4.0, 8.0, 12.0, 16.0, 20.0]),
            ("0,...,0", &[3], &[0.0, 4.0, 8.0]),
            ("1,2,3,...", &[], &[23.0]),
            (":,::2,0", &[2, 2], &[0.0, 8.0, 12.0, 20.0]),
        ] {
            assert_eq!(of(slice), Ok((shape.to_vec(), elements.to_vec())), "{slice}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (slice, part) in [
            ("2", "dimension 0 has 2"),
            ("-3", "dimension 0 has 2"),
            ("0,3:", "dimension 1 has 3"),
            ("0,0,0,0", "has 4 dimensions"),
            ("...,...", "more than one"),
            ("x", "expected an index"),
            ("::0", "expected an index"),
            ("::-1", "expected an index"),
            ("1:2:3:4", "expected an index"),
            ("99999999999999999999", "expected an index"),
            ("-9223372036854775808", "dimension 0 has 2"),
        ] {
            let error = of(slice).expect_err(slice);
            assert!(error.contains(part), "{slice}: {error}");
        }
    }
}
