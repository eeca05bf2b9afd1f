//! What an annotated model uses, traced or not. Always compiled.

mod as_tensor;
mod site;
mod traced;
mod value;

pub use as_tensor::AsTensor;
pub use site::Site;
pub use traced::{Part, TensorVisitor, Traced};
pub use value::Annotation;
