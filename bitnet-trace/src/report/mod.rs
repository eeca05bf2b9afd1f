//! Traces for people to read.

mod text;

pub use text::Table;
