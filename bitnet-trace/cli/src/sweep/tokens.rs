//! Checks that both sides computed the same tokens, from what they annotated in `run.json`.

use std::collections::BTreeSet;

use bitnet_trace_core::compare::Comparison;
use bitnet_trace_core::trace::Manifest;
use serde_json::Value;

/// Annotations with the tokens that a run was given.
const GIVEN: [&str; 3] = ["prompt_tokens", "tokens", "token_ids"];

/// The annotation with the tokens that a run chose.
const GENERATED: &str = "generated_tokens";

/// The annotation with the tokens that a run would have chosen that decoded those of another.
const CHOSEN: &str = "chosen_tokens";

/// The largest number of tokens that a message shows.
const SHOWN: usize = 12;

/// How the given tokens of the two runs differ. `None` if they are equal, or if not both runs name them.
pub(crate) fn given_differ(manifests: [&Manifest; 2]) -> Option<String> {
    GIVEN.iter().find_map(|name| {
        let [reference, trace] = lists(manifests, name)?;
        let at = first_difference(reference, trace)?;
        let of = |side: &str, tokens: &[Value]| format!("{side} {}", shown(tokens));
        Some(format!("`{name}` differ from index {at}: {}, {}", of("reference", reference), of("trace", trace)))
    })
}

/// How the generated tokens of the two runs differ, with the index of the first that does.
pub(crate) fn generated_differ(manifests: [&Manifest; 2]) -> Option<(usize, String)> {
    let [reference, trace] = lists(manifests, GENERATED)?;
    let at = first_difference(reference, trace)?;
    let of = |tokens: &[Value]| tokens.get(at).map_or_else(|| "none".to_owned(), Value::to_string);
    let message = format!("generated token {at} differs: reference {}, trace {}", of(reference), of(trace));
    Some((at, message))
}

/// Where a trace that decoded the tokens of the reference would have left them. `None` if it would not, or if it does not
/// say what it would have chosen.
pub(crate) fn would_leave([reference, trace]: [&Manifest; 2]) -> Option<String> {
    let list = |manifest: &'_ Manifest, name| manifest.annotations.get(name).and_then(Value::as_array).cloned();
    let (decoded, chosen) = (list(reference, GENERATED)?, list(trace, CHOSEN)?);
    let (at, (decoded, chosen)) = decoded.iter().zip(&chosen).enumerate().find(|(_, (one, other))| one != other)?;
    Some(format!("the trace would have left the tokens at {at}: reference {decoded}, trace {chosen}"))
}

/// Whether the first divergence comes before the runs computed different tokens, so that it explains them. `differing`
/// is the index of the first generated token that differs: it is the input of the step after the one that chose it.
pub(crate) fn explained(comparison: &Comparison, manifests: [&Manifest; 2], differing: usize) -> bool {
    let (Some(first), Some(index)) = (comparison.first_divergence(), comparison.first) else { return false };
    let length =
        |name: &str| lists(manifests, name).map_or(0, |lists| lists.map(<[Value]>::len).into_iter().max().unwrap_or(0));
    if let Some(token) = first.key.token {
        return token < length("prompt_tokens") + differing;
    }
    let steps = |pairs: usize| -> BTreeSet<usize> {
        comparison.pairs[..pairs].iter().filter_map(|pair| pair.key.seq).collect()
    };
    // Each generated token takes a step; steps beyond their number read the prompt.
    let all = steps(comparison.pairs.len());
    let reading = all.len().saturating_sub(length(GENERATED));
    let before = first.key.seq.map_or(0, |seq| steps(index).into_iter().filter(|step| *step != seq).count());
    before <= reading + differing
}

fn lists<'a>(manifests: [&'a Manifest; 2], name: &str) -> Option<[&'a [Value]; 2]> {
    let [reference, trace] = manifests.map(|manifest| manifest.annotations.get(name)?.as_array());
    Some([reference?, trace?])
}

fn first_difference(one: &[Value], other: &[Value]) -> Option<usize> {
    let length = one.len().max(other.len());
    (0..length).find(|index| one.get(*index) != other.get(*index))
}

fn shown(tokens: &[Value]) -> String {
    let first: Vec<_> = tokens.iter().take(SHOWN).map(Value::to_string).collect();
    let more = if tokens.len() > SHOWN { ", .." } else { "" };
    format!("[{}{more}]", first.join(", "))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use bitnet_trace_core::compare::{Comparison, DiffOptions, diff_paths};
    use bitnet_trace_core::trace::Manifest;
    use serde_json::json;

    use super::{explained, generated_differ};

    /// Two runs of so many steps, the second of which differs from a step on.
    fn comparison(steps: usize, differing: usize) -> Comparison {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let sides = [("reference", steps), ("trace", differing)].map(|(side, differing)| {
            let path = directory.path().join(side).with_extension("jsonl");
            let record = |step: usize| {
                let hash = format!("{:064}", u8::from(step >= differing));
                json!({
                    "name": format!("t{step}/logits"), "seq": step, "stage": "logits", "order": step, "shape": [2],
                    "dtype": "F32", "num_elements": 2, "rms": 1.0, "blake3": hash,
                })
            };
            let lines: Vec<_> = (0..steps).map(|step| record(step).to_string()).collect();
            fs::write(&path, lines.join("\n")).expect("written");
            path
        });
        diff_paths(&sides[0], &sides[1], &DiffOptions::default(), &mut |_, _| {}).expect("a comparison")
    }

    #[test]
    fn a_divergence_explains_the_tokens_that_were_chosen_after_it() {
        for (prompt, steps, tokens, at, first, expected) in [
            // The prompt takes one step. Step 1 chooses token 1, which is the input of step 2.
            (&[1, 2, 3][..], 3, [[7, 8, 9], [7, 1, 2]], 1, 0, true),
            (&[1, 2, 3], 3, [[7, 8, 9], [7, 1, 2]], 1, 1, true),
            (&[1, 2, 3], 3, [[7, 8, 9], [7, 1, 2]], 1, 2, false),
            // Each token of the prompt takes a step of its own. Step 2 chooses token 0.
            (&[1, 2, 3], 5, [[7, 8, 9], [6, 1, 2]], 0, 2, true),
            (&[1, 2, 3], 5, [[7, 8, 9], [6, 1, 2]], 0, 3, false),
            // Nothing diverged.
            (&[1, 2, 3], 3, [[7, 8, 9], [6, 1, 2]], 0, 3, false),
        ] {
            let manifests = tokens.map(|tokens| -> Manifest {
                let annotations = json!({ "prompt_tokens": prompt, "generated_tokens": tokens });
                serde_json::from_value(json!({ "annotations": annotations })).expect("a manifest")
            });
            let manifests = [&manifests[0], &manifests[1]];
            let case = format!("{steps} steps, {tokens:?}, differing from step {first}");
            assert_eq!(generated_differ(manifests).map(|(at, _)| at), Some(at), "{case}");
            assert_eq!(explained(&comparison(steps, first), manifests, at), expected, "{case}");
        }
    }
}
