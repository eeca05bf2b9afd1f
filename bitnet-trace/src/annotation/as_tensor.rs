//! What `record_weights` and `record_gradients` take: tensors and variables, owned or borrowed.

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;

use candle_core::{Tensor, Var};

/// A tensor or a variable, or a pointer to one.
///
/// [`record_weights`](crate::record_weights) and [`record_gradients`](crate::record_gradients) take the entries of a
/// `HashMap<String, Tensor>`, and those of candle-nn's `VarMap`, which are variables.
pub trait AsTensor {
    /// The tensor itself.
    fn as_tensor(&self) -> &Tensor;
}

impl AsTensor for Tensor {
    fn as_tensor(&self) -> &Tensor {
        self
    }
}

impl AsTensor for Var {
    fn as_tensor(&self) -> &Tensor {
        Var::as_tensor(self)
    }
}

macro_rules! pointers {
    ($($pointer:ty),* $(,)?) => {$(
        impl<T: AsTensor + ?Sized> AsTensor for $pointer {
            fn as_tensor(&self) -> &Tensor {
                (**self).as_tensor()
            }
        }
    )*};
}

pointers!(&T, &mut T, Box<T>, Rc<T>, Arc<T>);

impl<T: AsTensor + ToOwned> AsTensor for Cow<'_, T> {
    fn as_tensor(&self) -> &Tensor {
        (**self).as_tensor()
    }
}
