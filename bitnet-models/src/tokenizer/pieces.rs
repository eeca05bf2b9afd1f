//! Checks of the normalizer, the pre-tokenizer and the decoder of a `tokenizer.json`: what the library would panic over,
//! and what would make a text many times as long.

use std::collections::HashSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tokenizers::utils::SysRegex;

/// Most steps of a normalizer or decoder. Published ones have up to 10.
const MOST_STEPS: usize = 256;

/// Most bytes of a text that a step looks for, puts in its place, or prepends.
const LONGEST_TEXT: usize = 1024;

/// How many times as long a normalizer or decoder may make a text. Published ones turn a space into the 3 bytes of `▁`,
/// and by the table of `SentencePiece` 3 bytes into 33; the library needs some 60 bytes of memory for one of a text.
const MOST_GROWTH: usize = 256;

/// Checks what a text goes through before the model.
pub(super) fn check_normalizer(normalizer: &Value) -> Result<(), String> {
    let steps = flat(normalizer, "normalizers");
    for step in &steps {
        match step["prepend"].as_str() {
            Some("") => return Err("the normalizer prepends an empty text".to_owned()),
            Some(text) if text.len() > LONGEST_TEXT => return Err(too_long("normalizer", text)),
            _ => {}
        }
    }
    check_growth("normalizer", &steps)
}

/// Checks how a text is cut into words.
pub(super) fn check_pre_tokenizer(pre_tokenizer: &Value) -> Result<(), String> {
    match flat(pre_tokenizer, "pretokenizers").iter().find(|step| step["length"] == 0) {
        Some(_) => Err("the pre-tokenizer cuts a text into words of 0 characters".to_owned()),
        None => Ok(()),
    }
}

/// Checks how tokens become a text.
pub(super) fn check_decoder(decoder: &Value) -> Result<(), String> {
    let steps = flat(decoder, "decoders");
    if let Some(stop) = steps.iter().filter_map(|step| step["stop"].as_u64()).find(|stop| *stop > 0) {
        // The library looks for characters before the first one.
        return Err(format!(
            "the decoder strips {stop} characters off the end; expected 0, the only number that works"
        ));
    }
    check_growth("decoder", &steps)
}

/// The steps of sequences in sequences; `list` is the key of a sequence's steps.
fn flat<'a>(value: &'a Value, list: &str) -> Vec<&'a Value> {
    match value[list].as_array() {
        Some(steps) => steps.iter().flat_map(|step| flat(step, list)).collect(),
        None => vec![value],
    }
}

fn too_long(name: &str, text: &str) -> String {
    format!("the {name} has a text of {} bytes; expected at most {LONGEST_TEXT}", text.len())
}

/// A step that puts texts in the place of others.
struct Step {
    /// The characters that it looks for; `None` if it may be any.
    from: Option<HashSet<char>>,
    /// The characters that it writes; `None` if it may be any.
    to: Option<HashSet<char>>,
    /// How many times as long it makes what it finds.
    growth: usize,
}

impl Step {
    fn of(name: &str, step: &Value) -> Result<Self, String> {
        if let Some(table) = step["precompiled_charsmap"].as_str() {
            let longest = charsmap(table).map_err(|reason| format!("the {name}'s `precompiled_charsmap` {reason}"))?;
            return Ok(Self { from: None, to: None, growth: longest.max(1) });
        }
        // Others give a character another form, such as a small letter.
        let Some(content) = step["content"].as_str().filter(|_| step["pattern"].is_object()) else {
            return Ok(Self { from: None, to: None, growth: 1 });
        };
        let (text, regex) = (step["pattern"]["String"].as_str(), step["pattern"]["Regex"].as_str());
        let mut texts = [Some(content), text, regex].into_iter().flatten();
        if let Some(text) = texts.find(|text| text.len() > LONGEST_TEXT) {
            return Err(too_long(name, text));
        }
        if text == Some("") || regex.is_some_and(matches_end) {
            return Err(format!("the {name} replaces the empty text"));
        }
        Ok(Self {
            from: text.map(|text| text.chars().collect()),
            to: Some(content.chars().collect()),
            growth: content.len().div_ceil(text.map_or(1, str::len)).max(1),
        })
    }

    /// Whether this step may find something in what another one wrote.
    fn reads(&self, other: &Self) -> bool {
        match (&self.from, &other.to) {
            (Some(from), Some(to)) => !from.is_disjoint(to),
            _ => true,
        }
    }
}

/// Whether an expression may match the empty text at the end of a text, behind which the library looks.
fn matches_end(regex: &str) -> bool {
    let Ok(regex) = SysRegex::new(regex) else { return false };
    ["", "a", "1", " ", "."].iter().any(|text| regex.find_iter(text).any(|(start, _)| start == text.len()))
}

/// Bounds how many times as long the steps make a text, one after the other. What one wrote grows further only by those
/// that look for a character of it.
fn check_growth(name: &str, steps: &[&Value]) -> Result<(), String> {
    if steps.len() > MOST_STEPS {
        return Err(format!("the {name} has {} steps; expected at most {MOST_STEPS}", steps.len()));
    }
    let steps = steps.iter().map(|step| Step::of(name, step)).collect::<Result<Vec<_>, _>>()?;
    // From the last one on: what it and those behind it make of what it finds.
    let mut grown: Vec<usize> = vec![1; steps.len()];
    for (at, step) in steps.iter().enumerate().rev() {
        let later = (at + 1..steps.len()).filter(|later| steps[*later].reads(step)).map(|later| grown[later]).max();
        grown[at] = step.growth.saturating_mul(later.unwrap_or(1));
        if grown[at] > MOST_GROWTH {
            return Err(format!(
                "the {name} may make a text {} times as long; expected at most {MOST_GROWTH}",
                grown[at]
            ));
        }
    }
    Ok(())
}

/// Checks the table of a normalizer of `SentencePiece`, a trie (darts-clone) and the texts that its values point to, as
/// the crate `spm_precompiled` reads it. Returns the bytes of its longest text; the error continues a sentence.
fn charsmap(table: &str) -> Result<usize, String> {
    let malformed = |reason: &str| format!("is malformed: {reason}");
    let bytes = STANDARD.decode(table).map_err(|error| malformed(&error.to_string()))?;
    let (size, rest) = bytes.split_first_chunk().ok_or_else(|| malformed("it is empty"))?;
    let size = usize::try_from(u32::from_le_bytes(*size)).unwrap_or(usize::MAX) / 4 * 4;
    let (trie, texts) = rest.split_at_checked(size).ok_or_else(|| malformed("it ends inside the trie"))?;
    let texts = std::str::from_utf8(texts).map_err(|error| malformed(&error.to_string()))?;
    let units: Vec<u32> = trie.as_chunks().0.iter().map(|unit| u32::from_le_bytes(*unit)).collect();
    let unit = |at: u32| usize::try_from(at).ok().and_then(|at| units.get(at).copied());
    let outside = || malformed("the trie points outside of itself");

    // The bits of a unit: label (8), whether a value follows, whether the offset is in steps of 256, offset (22).
    let offset = |unit: u32| (unit >> 10) << ((unit & (1 << 9)) >> 6);
    let mut pending = vec![offset(unit(0).ok_or_else(|| malformed("it has no trie"))?)];
    let mut seen: HashSet<u32> = pending.iter().copied().collect();
    while let Some(node) = pending.pop() {
        for byte in 1..=u32::from(u8::MAX) {
            let at = node ^ byte;
            let child = unit(at).ok_or_else(outside)?;
            if child & ((1 << 31) | 0xFF) != byte {
                continue;
            }
            let next = at ^ offset(child);
            if child & (1 << 8) != 0 {
                let value = unit(next).ok_or_else(outside)? & !(1 << 31);
                if !usize::try_from(value).is_ok_and(|value| texts.is_char_boundary(value)) {
                    return Err(malformed("a value of the trie points to no text"));
                }
            }
            if seen.insert(next) {
                pending.push(next);
            }
        }
    }
    Ok(texts.split('\0').map(str::len).max().unwrap_or(0))
}

#[cfg(test)]
mod tests;
