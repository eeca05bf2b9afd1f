#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

extern crate self as bitnet_trace;

mod annotation;
#[cfg(feature = "trace")]
mod capture;
#[cfg(not(feature = "trace"))]
mod off;
#[cfg(feature = "read")]
mod values;

pub use annotation::{Annotation, AsTensor, Part, Site, TensorVisitor, Traced};
#[cfg(feature = "read")]
pub use bitnet_trace_core::{Error, Tolerance, Trace, TraceRecord, compare, diff, report, tools, trace};
#[cfg(feature = "trace")]
pub use capture::*;
#[cfg(not(feature = "trace"))]
pub use off::*;
#[cfg(feature = "read")]
pub use values::ToTensor;
