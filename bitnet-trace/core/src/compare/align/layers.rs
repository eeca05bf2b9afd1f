//! Takes layers from names: the graph node `ffn_out-7` is `ffn_out` of layer 7.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::super::entry::{Entry, Kind};
use super::super::key::Label;

/// The longest number that is taken for a layer, in digits.
const DIGITS: usize = 5;

/// A name without its trailing number, and the number: `ffn_out-7` is `ffn_out` and 7.
pub(crate) fn trailing_number(name: &str) -> Option<(&str, usize)> {
    let (base, number) = name.rsplit_once('-')?;
    // `x-01` is not taken for layer 1: it would become the same record as `x-1`.
    let zeros = number.len() > 1 && number.starts_with('0');
    let digits = !zeros && !number.is_empty() && number.len() <= DIGITS;
    let digits = digits && number.bytes().all(|byte| byte.is_ascii_digit());
    (digits && !base.is_empty()).then(|| number.parse().ok().map(|number| (base, number)))?
}

/// Gives records without a layer the trailing number of their name, on both sides. A name is left as it is if a side
/// also has its stage with a layer, because the two would become one stage.
pub(crate) fn from_trailing_numbers(reference: &mut [Entry], trace: &mut [Entry]) {
    let numbered = [&*reference, &*trace].map(bases);
    if numbered.iter().all(HashSet::is_empty) {
        return;
    }
    let mut taken = HashSet::new();
    for (side, bases) in [&*reference, &*trace].into_iter().zip(&numbered) {
        for entry in side {
            if entry.position.layer.is_some() && bases.contains(&*entry.kind.label.stage) {
                taken.insert(Arc::clone(&entry.kind.label.stage));
            }
        }
    }
    for side in [reference, trace] {
        let mut renamed = HashMap::new();
        for entry in side.iter_mut().filter(|entry| is_candidate(entry)) {
            let Some((base, layer)) = trailing_number(&entry.kind.label.stage) else { continue };
            if taken.contains(base) {
                continue;
            }
            let kind = renamed.entry(Arc::as_ptr(&entry.kind)).or_insert_with(|| {
                let label = Label { stage: base.into(), ..entry.kind.label.clone() };
                // The old kind is kept too, so that no other kind can get its address, which is the key here.
                (Arc::clone(&entry.kind), Arc::new(Kind { label, ..(*entry.kind).clone() }))
            });
            entry.kind = Arc::clone(&kind.1);
            entry.position.layer = Some(layer);
            entry.layer_from_name = true;
        }
    }
}

fn is_candidate(entry: &Entry) -> bool {
    entry.position.layer.is_none() && !entry.kind.label.is_named_tensor()
}

fn bases(entries: &[Entry]) -> HashSet<Arc<str>> {
    let candidates = entries.iter().filter(|entry| is_candidate(entry));
    candidates.filter_map(|entry| trailing_number(&entry.kind.label.stage)).map(|(base, _)| base.into()).collect()
}

#[cfg(test)]
mod tests {
    use super::trailing_number;

    #[test]
    fn names_with_a_number_at_the_end() {
        assert_eq!(trailing_number("ffn_out-7"), Some(("ffn_out", 7)));
        assert_eq!(trailing_number("a-b-12"), Some(("a-b", 12)));
        for name in ["ffn_out", "ffn_out7", "-7", "a-", "a--", "a-1b", "a-+1", "a-123456", "a-01", "a_7", "a.7"] {
            assert_eq!(trailing_number(name), None, "{name}");
        }
    }
}
