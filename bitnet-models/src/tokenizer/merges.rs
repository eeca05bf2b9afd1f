//! Checks of a BPE's merges.

/// Checks merge number `index`: it joins two tokens to a third, all of which `vocabulary` has to know. The library would
/// write past its buffer where the third is longer than every token. `prefix` marks tokens inside a word
/// (`continuing_subword_prefix`); the third has it only in front.
pub(super) fn check(
    index: usize,
    (left, right): (&str, &str),
    prefix: &str,
    vocabulary: impl Fn(&str) -> bool,
) -> Result<(), String> {
    let Some(rest) = right.strip_prefix(prefix) else {
        return Err(format!("merge {index}: {right:?} does not begin with {prefix:?}"));
    };
    let joined = [left, rest].concat();
    match [left, right, &joined].into_iter().find(|token| !vocabulary(token)) {
        Some(unknown) => {
            Err(format!("merge {index} joins {left:?} and {right:?}, and the vocabulary has no token {unknown:?}"))
        }
        None => Ok(()),
    }
}

/// The two tokens of a merge that is written as one text, as in `Ġ t`.
pub(super) fn parts(index: usize, merge: &str) -> Result<(&str, &str), String> {
    match merge.split_once(' ') {
        Some((left, right)) if !left.is_empty() && !right.is_empty() && !right.contains(' ') => Ok((left, right)),
        _ => Err(format!("merge {index} is {merge:?}; expected two tokens with a space between them")),
    }
}
