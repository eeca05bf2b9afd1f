//! The first divergence on one screen of plain text.

use std::fmt;

use super::columns::Columns;
use super::printable;
use super::text::significant;
use crate::compare::{Adapted, Comparison, Conclusion, Details, Difference, Evidence, Pair, Verdict};

/// The number of divergences after the first, of stages without a partner and of problems that are listed.
const LISTED: usize = 12;

/// The layout of the lists. Names beyond the widest column do not move the columns after them.
const ROWS: Columns<4> = Columns { right: [false; 4], indent: "  ", widest: 80 };

/// The number of stages that are named for an adaptation.
const NAMED: usize = 4;

/// A comparison as text for a terminal: what differs first, by how much, and where in the source.
#[derive(Debug, Clone, Copy)]
pub struct Screen<'a> {
    comparison: &'a Comparison,
    names: [&'a str; 2],
    all: bool,
}

impl<'a> Screen<'a> {
    /// The screen of a comparison. The sides are named `reference` and `trace`.
    #[must_use]
    pub fn new(comparison: &'a Comparison) -> Self {
        Self { comparison, names: ["reference", "trace"], all: false }
    }

    /// Replaces the names of reference and trace.
    #[must_use]
    pub fn with_names(self, names: [&'a str; 2]) -> Self {
        Self { names, ..self }
    }

    /// Sets whether every pair is listed, or only the divergences after the first.
    #[must_use]
    pub fn with_all(self, all: bool) -> Self {
        Self { all, ..self }
    }
}

impl fmt::Display for Screen<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { comparison, names: [reference, trace], all } = *self;
        writeln!(f, "reference  {reference}\ntrace      {trace}")?;
        for adapted in &comparison.adaptations {
            writeln!(f, "aligned    {}", printable(&adaptation(adapted)))?;
        }
        writeln!(f)?;
        self.headline(f)?;
        if let Some(first) = comparison.first_divergence() {
            if let Some(details) = &first.details {
                write!(f, "{}", Fields(details))?;
            }
            if !all {
                self.others(f)?;
            }
        }
        if all {
            writeln!(f, "\nall pairs")?;
            ROWS.write(f, &comparison.pairs.iter().map(row).collect::<Vec<_>>())?;
        }
        self.coverage(f)?;
        writeln!(f)?;
        self.summary(f)?;
        for hint in &comparison.hints {
            writeln!(f, "hint       {}", printable(hint))?;
        }
        for problem in comparison.problems.iter().take(LISTED) {
            writeln!(f, "problem    {}", printable(problem))?;
        }
        match comparison.problems.len().saturating_sub(LISTED) {
            0 => Ok(()),
            more => writeln!(f, "problem    ... {more} more"),
        }
    }
}

/// Writes an adaptation as `545 pairs: what was done (stages)`.
fn adaptation(adapted: &Adapted) -> String {
    let stages: Vec<_> = adapted.stages.keys().take(NAMED).map(String::as_str).collect();
    let more = if adapted.stages.len() > NAMED { ", ..." } else { "" };
    let pairs = if adapted.pairs == 1 { "pair" } else { "pairs" };
    format!("{} {pairs}: {} ({}{more})", adapted.pairs, adapted.adaptation, stages.join(", "))
}

impl Screen<'_> {
    /// The first line, which sums up the comparison.
    fn headline(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let comparison = self.comparison;
        let (compared, alone) = (comparison.compared(), comparison.without_partner());
        if let Some(first) = comparison.first_divergence() {
            return writeln!(f, "first divergence  {}  {}", printable(&first.key.title()), first.verdict);
        }
        match comparison.conclusion() {
            Conclusion::Matches => writeln!(f, "match: no divergence in {compared} pairs"),
            Conclusion::Missing => {
                writeln!(f, "no divergence in {compared} pairs, but {alone} records have no partner")
            }
            Conclusion::NotAllCompared => {
                let not = comparison.not_compared() + comparison.whole;
                writeln!(f, "no divergence in {compared} pairs, but {not} records could not be compared")
            }
            Conclusion::NotAllRead => {
                writeln!(f, "no divergence in {compared} pairs, but not everything could be read")
            }
            _ => writeln!(f, "nothing was compared: no record of one side could be compared with one of the other"),
        }
    }

    /// The records that were not compared, by stage, and the stages that are probably the same.
    fn coverage(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Comparison { coverage, suggestions, .. } = self.comparison;
        if !coverage.is_empty() {
            writeln!(f, "\nnot compared")?;
            let rows: Vec<[String; 4]> = coverage
                .iter()
                .take(LISTED)
                .map(|group| {
                    let note = group.note.as_deref().unwrap_or_default();
                    let cells = [printable(&group.stage).into_owned(), group.side.to_string(), group.extent()];
                    let [stage, side, extent] = cells;
                    [stage, side, extent, printable(note).into_owned()]
                })
                .collect();
            ROWS.write(f, &rows)?;
            if let more @ 1.. = coverage.len().saturating_sub(LISTED) {
                writeln!(f, "  ... {more} more stages")?;
            }
        }
        for suggestion in suggestions.iter().take(LISTED) {
            let identical = match suggestion.identical {
                0 => String::new(),
                identical => format!(", {identical} of them with equal digests"),
            };
            writeln!(
                f,
                "\nprobably the same: {} of the reference and {} of the trace ({} records in the same place, of the \
                 same shape{identical}); a map file with this rule compares them:",
                printable(&suggestion.reference),
                printable(&suggestion.trace),
                suggestion.records
            )?;
            suggestion.rule.lines().try_for_each(|line| writeln!(f, "  {}", printable(line)))?;
        }
        Ok(())
    }

    fn summary(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let comparison = self.comparison;
        let counts = Verdict::ALL.iter().copied().filter(|verdict| comparison.count(*verdict) > 0);
        let not_compared = comparison.not_compared();
        // Pairs that could not be compared have the verdict `diverged`, but are counted by themselves.
        let count = |verdict| match verdict {
            Verdict::Diverged => comparison.count(verdict) - not_compared,
            verdict => comparison.count(verdict),
        };
        let counts = counts.map(|verdict| (count(verdict), verdict.name())).chain([(not_compared, "not compared")]);
        let counts = counts.filter(|(count, _)| *count > 0).map(|(count, name)| format!("{count} {name}"));
        let counts: Vec<_> = counts.collect();
        writeln!(f, "pairs      {}: {}", comparison.pairs.len(), counts.join(", "))?;
        if comparison.ignored != [0, 0] {
            writeln!(
                f,
                "left out   by the map: {} of the reference, {} of the trace",
                comparison.ignored[0], comparison.ignored[1]
            )?;
        }
        match comparison.smallest_limits.filter(|needed| needed.rel_l2_alone() != Some(0.0)) {
            None => Ok(()),
            Some(needed) => writeln!(f, "tolerance  {needed} would have been enough for all compared pairs"),
        }
    }

    fn others(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let comparison = self.comparison;
        let first = comparison.first.unwrap_or(0);
        let others = comparison.pairs[first + 1..].iter().filter(|pair| pair.is_divergence());
        let others: Vec<&Pair> = others.collect();
        if others.is_empty() {
            return Ok(());
        }
        writeln!(f, "\nthen")?;
        let rows: Vec<[String; 4]> = others.iter().take(LISTED).map(|pair| row(pair)).collect();
        ROWS.write(f, &rows)?;
        match others.len().saturating_sub(LISTED) {
            0 => Ok(()),
            more => writeln!(f, "  ... {more} more"),
        }
    }
}

/// A gain with three decimals, or two significant digits if three decimals would show less.
fn times(gain: f64) -> String {
    const SMALL: f64 = 0.01;
    if gain < SMALL { significant(gain, 2) } else { format!("{gain:.3}") }
}

fn row(pair: &Pair) -> [String; 4] {
    let details = pair.details.as_deref();
    let error = details.and_then(|details| details.difference.as_ref()).and_then(|difference| difference.rel_l2);
    let gain = details.and_then(|details| details.gain).map(|gain| format!("x{}", times(gain))).unwrap_or_default();
    let note = match details.and_then(|details| details.cause.as_ref()) {
        Some(cause) => format!("{gain} {cause}"),
        None => gain,
    };
    [
        printable(&pair.key.title()).into_owned(),
        if pair.compared || pair.verdict.has_no_partner() { pair.verdict.name() } else { "not compared" }.to_owned(),
        error.map(|error| format!("{error:.2e}")).unwrap_or_default(),
        printable(note.trim()).into_owned(),
    ]
}

/// The details of a pair, one on each line.
pub(crate) struct Fields<'a>(pub(crate) &'a Details);

impl fmt::Display for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Details { names, shapes, dtypes, site, difference, cause, origin, gain, note, .. } = self.0;
        if let Some(site) = site {
            writeln!(f, "  source   {}", printable(site))?;
        }
        if let [Some(reference), Some(trace)] = names
            && reference != trace
        {
            writeln!(f, "  names    {} / {}", printable(reference), printable(trace))?;
        }
        let text = |shape: &Option<Vec<usize>>, dtype: &Option<String>| match (shape, dtype) {
            (Some(shape), Some(dtype)) => format!("{} {shape:?}", printable(dtype)),
            _ => "-".to_owned(),
        };
        let (reference, trace) = (text(&shapes[0], &dtypes[0]), text(&shapes[1], &dtypes[1]));
        if reference == trace {
            writeln!(f, "  tensor   {trace}")?;
        } else {
            writeln!(f, "  tensor   reference {reference}, trace {trace}")?;
        }
        if let Some(difference) = difference {
            numbers(f, difference, self.0)?;
        }
        if let Some(origin) = origin {
            let gain = gain.map(|gain| format!(" ({} times the largest error before it)", times(gain)));
            let gain = gain.unwrap_or_default();
            writeln!(f, "  origin   {}{gain}", printable(&origin.to_string()))?;
        }
        if let Some(cause) = cause {
            writeln!(f, "  cause    {}", printable(&cause.to_string()))?;
        }
        if let Some(note) = note {
            writeln!(f, "  note     {}", printable(note))?;
        }
        Ok(())
    }
}

fn numbers(f: &mut fmt::Formatter<'_>, difference: &Difference, details: &Details) -> fmt::Result {
    let evidence = match difference.evidence {
        Evidence::Values if difference.rel_l2.is_none() => "no element is finite on both sides",
        Evidence::Values if details.nonfinite != [0, 0] => "of every element that is finite on both sides",
        Evidence::Values => "of every element",
        Evidence::Sketch => "estimated from the sketches, within 20 %",
        Evidence::Statistics => "unknown: neither values nor sketches on both sides",
    };
    let number = |name: &str, value: Option<f64>| value.map(|value| format!("{name} {value:.3e}"));
    let cosine = difference.cosine.map(|cosine| format!("cosine {cosine:.6}"));
    let all: Vec<_> = [number("relative L2", difference.rel_l2), cosine].into_iter().flatten().collect();
    writeln!(f, "  error    {}{}{evidence}", all.join(", "), if all.is_empty() { "" } else { ", " })?;
    let ulp = difference.max_ulp.map(|ulp| format!("max ulp {ulp}"));
    let differing = difference.differing.map(|count| format!("{count} elements differ"));
    let more = [
        number("max abs", difference.max_abs),
        number("mean abs", difference.mean_abs),
        number("max rel", difference.max_rel),
        ulp,
        differing,
    ];
    let more: Vec<_> = more.into_iter().flatten().collect();
    if !more.is_empty() {
        writeln!(f, "           {}", more.join(", "))?;
    }
    if let Some(worst) = &difference.worst {
        writeln!(f, "  worst    {:?}: reference {}, trace {}", worst.index, worst.reference, worst.trace)?;
    }
    if let [Some(reference), Some(trace)] = details.rms
        && difference.evidence != Evidence::Values
    {
        writeln!(f, "  rms      reference {reference}, trace {trace}")?;
    }
    for (name, shares) in [("tokens", &difference.tokens), ("channels", &difference.channels)] {
        if !shares.is_empty() {
            let shares: Vec<_> = shares.iter().map(|share| format!("{} ({:.2e})", share.index, share.rel_l2)).collect();
            writeln!(f, "  {name:<8} worst: {}", shares.join(", "))?;
        }
    }
    if let Some(rows) = difference.rows.as_ref().filter(|rows| !rows.is_empty()) {
        writeln!(f, "  rows     {} differ, the first is {}", rows.len(), rows[0])?;
    }
    Ok(())
}

/// Writes the screen of the comparison, without colours.
impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Screen::new(self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::times;
    use crate::compare::{Tolerance, diff};
    use crate::digest::{Dtype, TensorSource, Wanted, digest};
    use crate::record::TraceRecord;
    use crate::trace::{Trace, Values};

    /// A trace in memory with one tensor, whose values are captured.
    fn trace(elements: &[f32]) -> Trace {
        let bytes = elements.iter().flat_map(|element| element.to_le_bytes()).collect();
        let values = Values { dtype: Dtype::F32, shape: vec![elements.len()], bytes };
        let mut found = None;
        let read = values.with_view(&mut |view| {
            found = Some(digest(view, Wanted::default()));
            Ok(())
        });
        read.expect("a view");
        let found = found.expect("a digest");
        let record = serde_json::json!({
            "name": "proj", "stage": "proj", "order": 0, "shape": values.shape, "num_elements": elements.len(),
            "dtype": "F32", "blake3": found.blake3_text(), "rms": found.statistics.rms(),
            "nan_count": found.statistics.nan_count,
        });
        let record: TraceRecord = serde_json::from_value(record).expect("a record");
        Trace::in_memory(vec![(record, Some(values))])
    }

    #[test]
    fn an_error_is_claimed_only_of_elements_that_are_finite_on_both_sides() {
        let reference = trace(&[1.0, 2.0, 3.0]);
        let screen = |elements: &[f32]| diff(&reference, &trace(elements), &Tolerance::default()).to_string();
        let all = screen(&[f32::NAN; 3]);
        assert!(all.contains("first divergence  proj  nonfinite"), "{all}");
        assert!(all.contains("  error    no element is finite on both sides\n"), "{all}");
        assert!(!all.contains("cosine") && !all.contains("max abs") && !all.contains("mean abs"), "{all}");
        let some = screen(&[1.0, f32::NAN, 3.0]);
        let expected = "relative L2 0.000e0, cosine 1.000000, of every element that is finite on both sides\n";
        assert!(some.contains(expected), "{some}");
        let none = screen(&[1.0, 2.0, 4.0]);
        assert!(none.contains(", of every element\n"), "{none}");
    }

    #[test]
    fn small_gains_are_not_rounded_to_zero() {
        for (gain, expected) in
            [(1.0554, "1.055"), (12.0, "12.000"), (0.01, "0.010"), (0.003_82, "0.0038"), (3.2e-7, "3.2e-7"), (0.0, "0")]
        {
            assert_eq!(times(gain), expected);
        }
        assert_eq!(times(f64::INFINITY), "inf");
    }
}
