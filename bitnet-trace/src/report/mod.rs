//! Traces for people to read.

mod html;
mod screen;
mod text;

pub use html::Html;
pub use screen::Screen;
pub use text::Table;
