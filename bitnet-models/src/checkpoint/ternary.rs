//! How ternary weights are packed into bytes.

/// Ternary values in a byte.
pub(super) const PACKED: usize = 4;

/// Hugging Face's packing (`integrations/bitnet.py`, `unpack_weights`): `packed` is
/// `[rows / 4, columns]`; bits 2i and 2i+1 of a byte are the value of the row i quarters further
/// down, plus one.
///
/// # Errors
///
/// The index of a byte that holds the code 3, which is not the code of any value.
pub(super) fn unpack(packed: &[u8]) -> Result<Vec<i8>, usize> {
    let mut values = Vec::with_capacity(packed.len() * PACKED);
    for quarter in 0..PACKED {
        for (index, byte) in packed.iter().enumerate() {
            values.push(match byte >> (2 * quarter) & 0b11 {
                0 => -1,
                1 => 0,
                2 => 1,
                _ => return Err(index),
            });
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::unpack;

    /// One column, eight rows: byte 0 holds rows 0, 2, 4, 6 and byte 1 rows 1, 3, 5, 7.
    #[test]
    fn a_byte_holds_rows_a_quarter_apart() {
        let (minus, zero, plus) = (0, 1, 2);
        let byte = |a: u8, b: u8, c: u8, d: u8| a | b << 2 | c << 4 | d << 6;
        let packed = [byte(minus, zero, plus, plus), byte(plus, minus, zero, zero)];
        assert_eq!(unpack(&packed), Ok(vec![-1, 1, 0, -1, 1, 0, 1, 0]));
    }

    #[test]
    fn the_fourth_code_is_refused() {
        assert_eq!(unpack(&[0b01, 0b1100]), Err(1));
    }
}
