//! Finds the known name that an unknown name was probably meant to be.

use strsim::jaro_winkler;

/// Least similarity (Jaro-Winkler) for a suggestion: `stag` and `stage` have 0.96, `size` and `stage` 0.63.
const SIMILAR: f64 = 0.75;

/// The known name that is most similar to the name, even if the similarity is small. The measure gives most weight to
/// the beginning of names: `DIR` is the nearest to `DIRECTORY`.
pub(crate) fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let similarity = |known: &&&str| jaro_winkler(name, known);
    known.iter().max_by(|a, b| similarity(a).total_cmp(&similarity(b))).copied()
}

/// The message for a name that is not among the known ones. `what` is the kind of names: `key`.
#[must_use]
pub fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    let one_of = if known.len() > 1 { " one of" } else { "" };
    let all = known.join(", ");
    match nearest(name, known).filter(|nearest| jaro_winkler(name, nearest) >= SIMILAR) {
        Some(nearest) => format!("unknown {what} `{name}`, did you mean `{nearest}`? Expected{one_of}: {all}"),
        None => format!("unknown {what} `{name}`, expected{one_of}: {all}"),
    }
}
