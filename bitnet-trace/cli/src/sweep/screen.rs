//! The results as a table of plain text.

use std::fmt;

use bitnet_trace_core::report::{Columns, printable};

use super::result::{Failure, ScenarioResult, summary};

/// The results, one line each; then what failed, with the last lines of the logs.
pub(crate) struct Screen<'a>(pub(crate) &'a [ScenarioResult]);

/// The largest number of notes on a scenario. A damaged trace has one for each of its lines.
pub(crate) const NOTES: usize = 3;

const LAYOUT: Columns<5> = Columns { right: [false, false, false, true, false], indent: "", widest: 40 };

/// The cells of a result: scenario, verdict, first divergence, its error, the tolerance that would have been enough.
pub(crate) fn cells(result: &ScenarioResult) -> [String; 5] {
    let first = result.first.as_ref();
    let error = |error: Option<f64>| error.map_or_else(|| "-".to_owned(), |error| format!("{error:.3e}"));
    [
        result.name.clone(),
        result.verdict.words().to_owned(),
        first.map_or_else(|| "-".to_owned(), |first| first.name.clone()),
        error(first.and_then(|first| first.rel_l2)),
        result.needed_tolerance.clone().unwrap_or_else(|| "-".to_owned()),
    ]
}

/// The titles of these cells.
pub(crate) const TITLES: [&str; 5] = ["scenario", "verdict", "first divergence", "relative L2", "needed tolerance"];

impl fmt::Display for Screen<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows = vec![TITLES.map(str::to_owned)];
        rows.extend(self.0.iter().map(|result| cells(result).map(|cell| printable(&cell).into_owned())));
        LAYOUT.write(f, &rows)?;
        for result in self.0 {
            let failure = result.failure.as_ref().map(Failure::message);
            for message in failure.iter().chain(result.notes.iter().take(NOTES)) {
                writeln!(f, "\n{}: {}", result.name, printable(message))?;
            }
            if result.notes.len() > NOTES {
                writeln!(f, "{}: {} more, in its report", result.name, result.notes.len() - NOTES)?;
            }
            for line in result.failure.iter().flat_map(|failure| &failure.log) {
                writeln!(f, "  | {}", printable(line))?;
            }
        }
        writeln!(f, "\n{}", summary(self.0))
    }
}
