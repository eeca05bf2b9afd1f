//! The attribute of [`bitnet-trace`](https://docs.rs/bitnet-trace), which re-exports it; depend on
//! that crate, not on this one.
//!
//! The attribute exists twice. [`traced_off`] returns the item token for token and needs no
//! dependency. `traced` rewrites the function and exists only with the feature `trace`.
//! `bitnet-trace` chooses between them by its own feature, so that one switch governs both the
//! expansion and the runtime that the expansion calls. The same holds for the derives `Traced` and
//! `TracedOff`. All are documented in `bitnet-trace`, where the examples can run: rustdoc would show
//! documentation from here a second time there.

#![allow(missing_docs)]

#[cfg(feature = "trace")]
mod args;
#[cfg(feature = "trace")]
mod asynchronous;
#[cfg(feature = "trace")]
mod blocks;
#[cfg(feature = "trace")]
mod bounds;
#[cfg(feature = "trace")]
mod derive;
mod derive_off;
#[cfg(feature = "trace")]
mod expand;
#[cfg(feature = "trace")]
mod func;
#[cfg(feature = "trace")]
mod locals;
#[cfg(feature = "trace")]
mod nearest;
#[cfg(feature = "trace")]
mod picks;
#[cfg(feature = "trace")]
mod record;
#[cfg(all(test, feature = "trace"))]
mod tests;

use proc_macro::TokenStream;

#[cfg(feature = "trace")]
#[proc_macro_attribute]
pub fn traced(args: TokenStream, item: TokenStream) -> TokenStream {
    expand::attribute(args.into(), &item.into()).into()
}

#[proc_macro_attribute]
pub fn traced_off(_args: TokenStream, item: TokenStream) -> TokenStream {
    item
}

#[cfg(feature = "trace")]
#[proc_macro_derive(Traced, attributes(traced))]
pub fn traced_derive(item: TokenStream) -> TokenStream {
    derive::derive(item.into()).into()
}

#[proc_macro_derive(TracedOff, attributes(traced))]
pub fn traced_derive_off(item: TokenStream) -> TokenStream {
    derive_off::derive(item)
}
