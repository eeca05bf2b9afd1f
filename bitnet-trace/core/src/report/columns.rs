//! Prints rows of text in aligned columns. `comfy-table` draws frames and wraps cells to the width of the terminal, but
//! these lines are searched with grep and compared, so they must have neither.

use std::fmt;

/// The space between two columns.
const GAP: &str = "  ";

/// The layout of a table.
#[derive(Debug, Clone, Copy)]
pub struct Columns<const N: usize> {
    /// Which columns are right-aligned.
    pub right: [bool; N],
    /// The text before each row.
    pub indent: &'static str,
    /// The largest width of a column, in characters. Wider cells stick out of their column.
    pub widest: usize,
}

impl<const N: usize> Columns<N> {
    /// Writes one line for each row, without trailing spaces.
    ///
    /// # Errors
    ///
    /// If the formatter fails.
    pub fn write(&self, f: &mut fmt::Formatter<'_>, rows: &[[String; N]]) -> fmt::Result {
        let mut widths = [0; N];
        for row in rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.chars().count().min(self.widest).max(*width);
            }
        }
        for row in rows {
            let cells = row.iter().zip(widths).zip(self.right).map(|((cell, width), right)| {
                if right { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
            });
            let line = self.indent.to_owned() + &cells.collect::<Vec<_>>().join(GAP);
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::Columns;

    struct Shown<'a>(Columns<3>, &'a [[String; 3]]);

    impl fmt::Display for Shown<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0.write(f, self.1)
        }
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_up_to_a_limit() {
        let columns = Columns { right: [false, true, false], indent: "> ", widest: 4 };
        let rows =
            [["a", "1", ""], ["\u{e4}\u{f6}", "100", "x"], ["abcdef", "20", "y"]].map(|row| row.map(str::to_owned));
        assert_eq!(
            Shown(columns, &rows).to_string(),
            ["> a       1", "> \u{e4}\u{f6}    100  x", "> abcdef   20  y", ""].join("\n")
        );
        assert_eq!(Shown(columns, &[]).to_string(), "");
    }
}
