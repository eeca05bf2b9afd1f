//! The comparer on traces that are awkward, damaged, foreign or hostile.

mod aligning;
mod causes;
mod earlier;
mod input;
mod pairs;
mod presets;
mod values;
mod worlds;

use std::fs;
use std::path::{Path, PathBuf};

use bitnet_trace::compare::{Comparison, DiffOptions, diff_paths};
use bitnet_trace::{Error, Tolerance, Trace, TraceSession, diff, tap};
use candle_core::{Device, Tensor};

fn tensor(values: &[f32]) -> Tensor {
    Tensor::new(values, &Device::Cpu).expect("a tensor")
}

fn trace(capture: &str, f: impl FnOnce()) -> Trace {
    let session = TraceSession::builder().in_memory().capture(capture).start().expect("a session");
    session.in_scope(f);
    session.finish().expect("nothing lost")
}

fn of(capture: &str, stages: &[(&str, &Tensor)]) -> Trace {
    trace(capture, || stages.iter().for_each(|(stage, tensor)| tap(stage, tensor)))
}

fn compare(reference: &Trace, trace: &Trace) -> Comparison {
    diff(reference, trace, &Tolerance::default())
}

/// Numbers that look like activations.
fn noise(seed: u32, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        f32::from(u16::try_from(state >> 16).expect("16 bits")) / 32768.0 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn record(name: &str, json: &str) -> String {
    format!(
        r#"{{"name":"{name}","shape":[2],"dtype":"F32","num_elements":2,"rms":1.0,"blake3":"{}"{json}}}"#,
        "ab".repeat(32)
    )
}

struct Directory(tempfile::TempDir);

impl Directory {
    fn new(files: &[(&str, &str)]) -> Self {
        let directory = Self(tempfile::tempdir().expect("a temporary directory"));
        for (name, text) in files {
            let path = directory.path(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, text).expect("written");
        }
        directory
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

fn paths(reference: &Path, trace: &Path) -> Result<Comparison, Error> {
    diff_paths(reference, trace, &DiffOptions::default(), &mut |_, _| ())
}
