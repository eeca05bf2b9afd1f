//! Presents comparisons and records to people.
//!
//! [`Screen`] prints a comparison as plain text and [`Html`] as one HTML page; [`Table`] prints records. [`printable`]
//! escapes text that comes from a trace. The page is built from `page.html`, `page.css` and four scripts, and holds the
//! comparison as JSON. Nothing is computed here that a comparison does not hold already.
//!
//! This module imports `compare`, `trace` and `record`. It never prints by itself: callers choose where the text goes.

mod columns;
#[cfg(test)]
mod filter_cases;
mod html;
mod printable;
mod screen;
mod text;

#[doc(hidden)] // for the tables of the command
pub use columns::Columns;
pub use html::Html;
pub use printable::printable;
pub use screen::Screen;
pub use text::Table;
