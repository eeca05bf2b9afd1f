//! The attribute of [`bitnet-trace`](https://docs.rs/bitnet-trace), which re-exports it; depend on
//! that crate, not on this one.
//!
//! Two macros stand here. [`traced_off`] hands the item back token for token and needs no
//! dependency. `traced` rewrites the function and exists only with the feature `trace`.
//! `bitnet-trace` chooses between them by its own feature, so that one switch governs both the
//! expansion and the runtime that the expansion calls.

#[cfg(feature = "trace")]
mod args;
#[cfg(feature = "trace")]
mod derive;
mod derive_off;
#[cfg(feature = "trace")]
mod expand;
#[cfg(feature = "trace")]
mod func;
#[cfg(feature = "trace")]
mod nearest;
#[cfg(all(test, feature = "trace"))]
mod tests;

use proc_macro::TokenStream;

/// Records the tensors that the function returns.
///
/// # Stage
///
/// The stage is the fine name of a computation. Left out, it is the function's name.
///
/// ```ignore
/// #[traced(stage = "attn_norm")]
/// fn attn_norm(&self, x: &Tensor) -> Result<Tensor> {
///     self.attn_norm.forward(x)
/// }
/// ```
///
/// # Layer and sequence index
///
/// `layer` and `seq` open a scope round the whole function: its own record and everything that is
/// called inside carry the value. Both take an integer or an `Option` of one; `None` (or a negative
/// number) leaves the outer scope as it is.
///
/// ```ignore
/// #[traced(stage = "block_out", layer = self.index)]
/// fn forward(&self, x: &Tensor) -> Result<Tensor> {
///     let h = self.attention(x)?;
///     self.feed_forward(&h)
/// }
/// ```
///
/// # Several tensors, arguments, conditions
///
/// `outputs` names the positions of a returned tuple. `inputs` records arguments as well, before
/// the body runs and without moving them. `when` records only while it is true.
///
/// ```ignore
/// #[traced(stage = "qkv", outputs("q", "k", "v"), inputs(x), when = self.debug)]
/// fn qkv(&self, x: &Tensor) -> Result<(Tensor, Tensor, Tensor)> {
///     // records qkv.in.x, then qkv.q, qkv.k, qkv.v
/// }
/// ```
///
/// # Futures
///
/// An `async fn` takes its context at the first poll and enters it at every poll; a function that
/// returns a boxed future (what `#[async_trait]` makes of an `async fn`) takes it when the future is
/// made. Both are recorded when the future is ready; one that is dropped before records nothing.
///
/// # What it expands to
///
/// The signature, the attributes and the body stay as they are written; the body becomes a closure
/// that is handed to the library together with what is known of the function at compile time:
///
/// ```ignore
/// fn attn_norm(&self, x: &Tensor) -> Result<Tensor> {
///     ::bitnet_trace::private::traced(
///         ::bitnet_trace::private::site!("attn_norm", "attn_norm", ::core::line!()),
///         move || -> Result<Tensor> { self.attn_norm.forward(x) },
///     )
/// }
/// ```
///
/// # What it refuses
///
/// `const fn`, `#[track_caller]`, a function without a body, an `impl Trait` that is the whole return
/// value, anything that is not a function, and (through the trait bound of the expansion) a return type that holds no tensor.
/// The item itself is always kept, so that one mistake gives one error.
#[cfg(feature = "trace")]
#[proc_macro_attribute]
pub fn traced(args: TokenStream, item: TokenStream) -> TokenStream {
    expand::attribute(args.into(), &item.into()).into()
}

/// The identity: what `#[traced]` is when tracing is not built in.
#[proc_macro_attribute]
pub fn traced_off(_args: TokenStream, item: TokenStream) -> TokenStream {
    item
}

/// Makes a type `Traced`: its tensors are shown in the order of its fields, each under its field's
/// name.
#[cfg(feature = "trace")]
#[proc_macro_derive(Traced, attributes(traced))]
pub fn traced_derive(item: TokenStream) -> TokenStream {
    derive::derive(item.into()).into()
}

/// Makes a type `Traced` that shows nothing: what `#[derive(Traced)]` is when tracing is not built
/// in.
#[proc_macro_derive(TracedOff, attributes(traced))]
pub fn traced_derive_off(item: TokenStream) -> TokenStream {
    derive_off::derive(item)
}
