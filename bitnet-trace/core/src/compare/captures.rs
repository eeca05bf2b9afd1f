//! Captured tensors, read when a pair asks for them.

use std::borrow::Cow;
use std::rc::Rc;

use crate::record::TraceRecord;
use crate::trace::Values;

use super::entry::Entry;
use super::side::Side;

/// The captured tensors of both sides. Of each side the one asked for last is kept: the tokens of a
/// prefill are parts of one tensor.
pub(crate) struct Captures<'s> {
    sides: [&'s Side<'s>; 2],
    last: [Option<(Of, Rc<Cow<'s, Values>>)>; 2],
    reads: [usize; 2],
}

/// File and place of a record.
type Of = (u32, u64);

impl<'s> Captures<'s> {
    /// Of the reference and the trace.
    pub(crate) fn new(sides: [&'s Side<'s>; 2]) -> Self {
        Self { sides, last: [None, None], reads: [0, 0] }
    }

    /// The tensor of a side's entry; `None` where it was not captured.
    pub(crate) fn get(
        &mut self,
        side: usize,
        entry: &Entry,
        record: &TraceRecord,
    ) -> Result<Option<Rc<Cow<'s, Values>>>, String> {
        let place = (entry.place.file, entry.place.at);
        if let Some((of, captured)) = &self.last[side]
            && *of == place
        {
            return Ok(Some(Rc::clone(captured)));
        }
        // Two tensors of one side need not be in memory at once.
        self.last[side] = None;
        let captured = self.sides[side].captured(entry, record).map_err(|error| error.full())?;
        let Some(captured) = captured.map(Rc::new) else { return Ok(None) };
        self.reads[side] += 1;
        self.last[side] = Some((place, Rc::clone(&captured)));
        Ok(Some(captured))
    }

    /// How many tensors of each side were read so far.
    pub(crate) fn reads(&self) -> [usize; 2] {
        self.reads
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::rc::Rc;

    use super::Captures;
    use crate::compare::NameMap;
    use crate::compare::side::Side;

    /// Tokens of a prefill.
    const TOKENS: usize = 512;

    /// Stages and layers of a model of 30 layers.
    const STAGES: usize = 361;

    fn safetensors(shape: &[usize], values: &[f32]) -> Vec<u8> {
        let header = format!(r#"{{"x":{{"dtype":"F32","shape":{shape:?},"data_offsets":[0,{}]}}}}"#, values.len() * 4);
        let bytes = values.iter().flat_map(|value| value.to_le_bytes());
        (header.len() as u64).to_le_bytes().into_iter().chain(header.into_bytes()).chain(bytes).collect()
    }

    /// A prefill against as many decode steps: no tensor is read more than twice, though the pairs are
    /// walked token by token.
    #[test]
    fn a_prefill_of_512_tokens_is_read_once_a_stage() {
        use std::fmt::Write;

        use crate::compare::{DiffOptions, diff_paths};

        let directory = tempfile::tempdir().expect("a temporary directory");
        let rows: Vec<f32> = (0..TOKENS * 2).map(|i| if i % 2 == 0 { 1.0 } else { 2.0 }).collect();
        let lines = |tokens: [usize; 2], seq: usize| {
            let count = tokens[1] - tokens[0];
            (0..STAGES).fold(String::new(), |mut lines, stage| {
                let hash = format!("{count:064x}");
                let order = seq * STAGES + stage;
                writeln!(
                    lines,
                    r#"{{"name":"t{seq}/blk{stage}/x","shape":[1,{count},2],"dtype":"F32","num_elements":{},"rms":1.5,"blake3":"{hash}","seq_index":{seq},"layer_idx":{stage},"stage":"x","order":{order},"tokens":[{},{}],"values":"x.safetensors"}}"#,
                    count * 2, tokens[0], tokens[1],
                )
                .expect("a text");
                lines
            })
        };
        for (name, count, text) in [
            ("prefill", TOKENS, lines([0, TOKENS], 0)),
            ("decode", 1, (0..TOKENS).map(|token| lines([token, token + 1], token)).collect()),
        ] {
            let side = directory.path().join(name);
            fs::create_dir(&side).expect("made");
            fs::write(side.join("x.safetensors"), safetensors(&[1, count, 2], &rows[..count * 2])).expect("written");
            fs::write(side.join("trace.jsonl"), text).expect("written");
        }
        for (reference, trace) in [("prefill", "decode"), ("decode", "prefill")] {
            let [left, right] = [reference, trace].map(|name| directory.path().join(name));
            let comparison = diff_paths(left, right, &DiffOptions::default(), &mut |_, _| ()).expect("readable");
            assert!(comparison.matches(), "{comparison}");
            assert_eq!(comparison.compared(), STAGES * TOKENS);
            let mut reads = comparison.reads;
            reads.sort_unstable();
            assert!(reads[0] <= 2 * STAGES && reads[1] <= 2 * STAGES * TOKENS, "{reads:?}");
            // The pairs are in execution order all the same: every stage of a token before the next token.
            assert_eq!(comparison.pairs[STAGES].key.token, Some(1));
        }
    }

    #[test]
    fn a_tensor_that_is_asked_for_once_a_token_is_read_once() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let hash = "ab".repeat(32);
        let header = r#"{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
        let file = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &1f32.to_le_bytes()].concat();
        fs::write(directory.path().join("x.safetensors"), file).expect("written");
        let lines: Vec<String> = (0..3)
            .map(|order| {
                format!(
                    r#"{{"name":"t{order}/x","shape":[1],"dtype":"F32","num_elements":1,"rms":1.0,"blake3":"{hash}","order":{order},"values":"x.safetensors"}}"#
                )
            })
            .chain([format!(r#"{{"name":"t3/x","shape":[1],"dtype":"F32","num_elements":1,"rms":1.0,"blake3":"{hash}"}}"#)])
            .collect();
        fs::write(directory.path().join("trace.jsonl"), lines.join("\n")).expect("written");
        let side = Side::open(directory.path(), &NameMap::default()).expect("readable");
        let mut captures = Captures::new([&side, &side]);
        let mut get = |side_of: usize, entry: usize| {
            let entry = &side.entries[entry];
            let record = side.record(entry).expect("readable");
            captures.get(side_of, entry, &record).expect("readable")
        };
        for entry in 0..3 {
            let first = get(0, entry).expect("captured");
            assert!((0..TOKENS).all(|_| get(0, entry).is_some_and(|again| Rc::ptr_eq(&first, &again))));
        }
        // Another record's tensor takes its place, one without values does not.
        assert!(get(1, 0).is_some() && get(1, 3).is_none() && get(1, 1).is_some() && get(1, 0).is_some());
        assert_eq!(captures.reads(), [3, 3]);
    }
}
