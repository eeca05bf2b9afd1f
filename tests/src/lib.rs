//! Tests that need more than one crate: see the files in `tests/`.
