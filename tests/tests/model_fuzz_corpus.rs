//! Reads the corpus from which the fuzzing of checkpoints starts once: each file, and every beginning of it.

#[path = "../fuzz/models/src/readers.rs"]
mod readers;

use bitnet_models::{Checkpoint, Transformer};
use bitnet_trace_tests::repository;
use bytes::Bytes;

#[test]
fn the_corpus_is_read() {
    let corpus = std::fs::read_dir(repository().join("tests/fuzz/models/corpus")).expect("the corpus");
    let (mut count, mut whole) = (0, 0);
    for file in corpus {
        let path = file.expect("an entry").path();
        let bytes = std::fs::read(&path).expect("readable");
        (1..=bytes.len()).for_each(|end| readers::read(&bytes[..end]));
        count += 1;
        // A corpus whose files are all refused would reach little code.
        let (reader, data) = bytes.split_first().expect("not empty");
        let checkpoint = match reader % 7 {
            0 => Checkpoint::from_gguf("x", &Bytes::copy_from_slice(data)),
            1 => Checkpoint::from_safetensors("x", readers::CONFIG, &Bytes::copy_from_slice(data)),
            _ => continue,
        };
        checkpoint.and_then(|checkpoint| Transformer::load(&checkpoint)).unwrap_or_else(|error| panic!("{error}"));
        whole += 1;
    }
    let _ = std::fs::remove_dir_all(readers::base());
    assert!(count >= 16 && whole >= 5, "{count} files, {whole} whole checkpoints");
}
