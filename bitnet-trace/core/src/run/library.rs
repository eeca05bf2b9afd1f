//! What a run is told by the tensor library whose tensors it records.

use crate::record::Function;

/// A tensor library, as `run.json` speaks of it. What is not known stays out.
pub trait TensorLibrary {
    /// Threads that it computes with.
    #[must_use]
    fn threads() -> Option<usize> {
        None
    }

    /// The features that change what it computes, `candle-core/cuda`.
    #[must_use]
    fn features() -> Vec<String> {
        Vec::new()
    }

    /// The annotated functions of this binary, each with the number by which
    /// [`Session::reach`](crate::session::Session::reach) knows it.
    #[must_use]
    fn functions() -> Vec<(usize, Function)> {
        Vec::new()
    }
}

/// A library that nothing is known of: tensors shown as views.
#[derive(Debug, Clone, Copy, Default)]
pub struct Plain;

impl TensorLibrary for Plain {}

/// The answers of a library, asked when `run.json` is written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Library {
    pub(crate) threads: fn() -> Option<usize>,
    pub(crate) features: fn() -> Vec<String>,
    pub(crate) functions: fn() -> Vec<(usize, Function)>,
}

impl Library {
    pub(crate) fn of<L: TensorLibrary>() -> Self {
        Self { threads: L::threads, features: L::features, functions: L::functions }
    }
}
