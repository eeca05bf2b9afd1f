//! Reads the corpus from which fuzzing starts once: each file, and every beginning of it.

#[path = "../fuzz/src/readers.rs"]
mod readers;

use bitnet_trace_tests::repository;

#[test]
fn the_corpus_is_read() {
    let corpus = std::fs::read_dir(repository().join("tests/fuzz/corpus")).expect("the corpus");
    let mut count = 0;
    for file in corpus {
        let path = file.expect("an entry").path();
        let bytes = std::fs::read(&path).expect("readable");
        (1..=bytes.len()).for_each(|end| readers::read(&bytes[..end]));
        count += 1;
    }
    std::fs::remove_dir_all(readers::base()).expect("removed");
    assert!(count >= 9, "{count} files");
}
