//! Captured tensors, read when a pair asks for them.

use std::rc::Rc;

use crate::captured::Captured;
use crate::record::TraceRecord;

use super::entry::Entry;
use super::side::Side;

/// The captured tensors of both sides. Of each side the one asked for last is kept: the tokens of a
/// prefill are parts of one tensor.
pub(crate) struct Captures<'s> {
    sides: [&'s Side<'s>; 2],
    last: [Option<(Of, Rc<Captured>)>; 2],
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
    ) -> Result<Option<Rc<Captured>>, String> {
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
    #[cfg_attr(not(test), allow(dead_code))] // what tests hold the order of the walk to
    pub(crate) fn reads(&self) -> [usize; 2] {
        self.reads
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::rc::Rc;

    use super::Captures;
    use crate::diff::NameMap;
    use crate::diff::side::Side;

    /// Tokens of a prefill.
    const TOKENS: usize = 512;

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
