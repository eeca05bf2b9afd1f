//! Feeds what reads checkpoints with inputs that libFuzzer derives from the corpus: the first byte chooses the reader, the
//! rest is the file. A reader may refuse its input; it must not panic, overflow, hang or take memory without bound.
//!
//! `tests/fuzz/models/run 1800` builds it and runs it for half an hour.

#![no_main]

mod readers;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| readers::read(data));
