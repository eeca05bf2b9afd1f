//! The known name that an unknown one was probably meant to be.

use strsim::jaro_winkler;

/// Names less alike than this are not suggested: `stag` and `stage` have 0.96, `size` and `stage` 0.63.
const ALIKE: f64 = 0.75;

/// The known name that is most like the name, however little that is. The measure cares most for how names begin:
/// `DIRECTORY` is `DIR`.
pub(crate) fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let like = |known: &&&str| jaro_winkler(name, known);
    known.iter().max_by(|a, b| like(a).total_cmp(&like(b))).copied()
}

/// The message for a name that is not among the known ones; `what` says of what kind the names are: `key`.
pub(crate) fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    let one_of = if known.len() > 1 { " one of" } else { "" };
    let all = known.join(", ");
    match nearest(name, known).filter(|nearest| jaro_winkler(name, nearest) >= ALIKE) {
        Some(nearest) => format!("unknown {what} `{name}`, did you mean `{nearest}`? Expected{one_of}: {all}"),
        None => format!("unknown {what} `{name}`, expected{one_of}: {all}"),
    }
}
