//! Reads a trace directory: its records as a table, and the captured values as candle tensors.
//!
//! ```sh
//! cargo run -p bitnet-trace --features trace --example read_trace -- DIRECTORY
//! ```
//!
//! Without a directory the example records a small trace of its own and reads that. A program that only reads
//! needs no more than the feature `read`.

use std::error::Error;
use std::path::{Path, PathBuf};

use bitnet_trace::report::Table;
use bitnet_trace::{ToTensor, Trace, TraceContext, TraceSession, tap};
use candle_core::{DType, Device, Tensor};

fn main() -> Result<(), Box<dyn Error>> {
    let temporary = tempfile::tempdir()?;
    let directory = match std::env::args_os().nth(1) {
        Some(directory) => PathBuf::from(directory),
        None => record(temporary.path())?,
    };

    let trace = Trace::open(&directory)?;
    print!("{}", Table(trace.records()));
    // What could not be read does not keep the rest from being read.
    for problem in trace.problems() {
        println!("not read: {}", problem.full());
    }

    for record in trace.records() {
        // `None` where values were not captured.
        if let Some(values) = trace.values(record)? {
            let tensor = values.to_tensor(&Device::Cpu)?;
            println!("\n{} {:?}\n{tensor}", record.name, tensor.dtype());
        }
    }
    if trace.records().iter().all(|record| record.values.is_none()) {
        println!("\nThe trace holds no values. Record with BITNET_TRACE_CAPTURE=sketch,values to keep them.");
    }
    Ok(())
}

/// Records two tensors with their values, as `BITNET_TRACE_CAPTURE=sketch,values` does.
fn record(directory: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let session = TraceSession::builder().dir(directory.join("run")).capture("sketch,values").start()?;
    session.in_scope(|| -> candle_core::Result<()> {
        let _layer = TraceContext::seq(0).with_layer(3).enter();
        let x = Tensor::new(&[[1f32, -2.0], [0.5, 4.0]], &Device::Cpu)?;
        tap("q_proj", &x);
        tap("q_proj_bf16", &x.to_dtype(DType::BF16)?);
        Ok(())
    })?;
    let directory = session.directory().ok_or("the session has a directory")?.to_owned();
    session.finish()?;
    Ok(directory)
}
