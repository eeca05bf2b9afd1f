//! Traces for people to read.

mod columns;
#[cfg(test)]
mod filter_cases;
mod html;
mod printable;
mod screen;
mod text;

pub use html::Html;
pub use printable::printable;
pub use screen::Screen;
pub use text::Table;
