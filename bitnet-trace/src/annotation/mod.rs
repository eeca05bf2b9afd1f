//! What an annotated model is written with, whether or not it is traced: always compiled.

mod site;
mod traced;
mod value;

pub use site::Site;
pub use traced::{Part, TensorVisitor, Traced};
pub use value::Annotation;
