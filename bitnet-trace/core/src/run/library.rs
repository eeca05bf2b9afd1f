//! The facts for `run.json` that only the adapter of a tensor library knows.

use crate::record::Function;

/// A tensor library, as `run.json` describes it. The defaults say that nothing is known.
pub trait TensorLibrary {
    /// Number of threads that the library computes with; `None` if it is not known.
    #[must_use]
    fn threads() -> Option<usize> {
        None
    }

    /// The enabled features that change what the library computes: `candle-core/cuda`.
    #[must_use]
    fn features() -> Vec<String> {
        Vec::new()
    }

    /// The annotated functions of this binary, each with its number, which is the argument of
    /// [`Session::reach`](crate::session::Session::reach).
    #[must_use]
    fn functions() -> Vec<(usize, Function)> {
        Vec::new()
    }
}

/// The library of callers that pass plain [`TensorView`](crate::digest::TensorView)s: nothing is known of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Plain;

impl TensorLibrary for Plain {}

/// The functions of a [`TensorLibrary`], called when `run.json` is written.
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
