//! The key by which records are aligned.

use std::fmt;
use std::sync::Arc;

use serde_core::ser::{Serialize, SerializeMap, Serializer};

/// The `io` of a gradient.
const GRADIENT: &str = "grad";

/// The key of a record. A record and its partner on the other side have the same key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Key {
    /// The number of the process or rank, in the order of the directories; 0 if there is only one.
    pub process: u32,
    /// The number of the request, which tells prompts apart.
    pub request: Option<u64>,
    /// The step: 0 for the prefill, then 1, 2, ... for the decode steps.
    pub seq: Option<usize>,
    /// The position of the token, if the sides are compared token by token.
    pub token: Option<usize>,
    /// The index of the block.
    pub layer: Option<usize>,
    /// The fine name of the computation; of a weight or a gradient the name of the tensor.
    pub stage: Arc<str>,
    /// The label of one of several tensors, or the name of the argument or local.
    pub output: Option<Arc<str>>,
    /// `in` for an input, `let` for a local, `weight` for a weight, `grad` for a gradient; `None` for what a function
    /// returned.
    pub io: Option<Arc<str>>,
    /// How many records with the same key came before.
    pub call: usize,
}

/// The numbers of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Position {
    pub(crate) process: u32,
    pub(crate) request: Option<u64>,
    pub(crate) seq: Option<usize>,
    pub(crate) token: Option<usize>,
    /// The end (excluded) of a range of several tokens that is compared whole.
    pub(crate) until: Option<usize>,
    pub(crate) layer: Option<usize>,
    pub(crate) call: usize,
}

/// The texts of a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Label {
    pub(crate) stage: Arc<str>,
    pub(crate) output: Option<Arc<str>>,
    pub(crate) io: Option<Arc<str>>,
}

impl Key {
    pub(crate) fn new(position: Position, label: &Label) -> Self {
        let Position { process, request, seq, token, layer, call, .. } = position;
        let Label { stage, output, io } = label.clone();
        Self { process, request, seq, token, layer, stage, output, io, call }
    }

    pub(crate) fn position(&self) -> Position {
        let Self { process, request, seq, token, layer, call, .. } = *self;
        Position { process, request, seq, token, until: None, layer, call }
    }
}

impl Label {
    pub(crate) fn is_weight(&self) -> bool {
        self.io.as_deref() == Some("weight")
    }

    /// Whether the stage is a name that the user gave to the tensor: that of a weight, or of what a gradient belongs to.
    pub(crate) fn is_named_tensor(&self) -> bool {
        self.is_weight() || self.is_gradient()
    }

    pub(crate) fn is_gradient(&self) -> bool {
        self.io.as_deref() == Some(GRADIENT)
    }
}

impl Key {
    /// The key as people read it: the name, and whether it is that of a gradient. A weight has the same name.
    pub(crate) fn title(&self) -> String {
        format!("{self}{}", self.mark())
    }

    /// What tells the gradient of a tensor from the tensor.
    pub(crate) fn mark(&self) -> &'static str {
        if self.io.as_deref() == Some(GRADIENT) { " (gradient)" } else { "" }
    }
}

/// Written as this library names records: `t0/blk3/q_proj.in.x#1`.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.process > 0 {
            write!(f, "process {}: ", self.process)?;
        }
        if let Some(request) = self.request {
            write!(f, "request {request}: ")?;
        }
        if let Some(token) = self.token {
            write!(f, "token {token}: ")?;
        }
        if let Some(seq) = self.seq {
            write!(f, "t{seq}/")?;
        }
        if let Some(layer) = self.layer {
            write!(f, "blk{layer}/")?;
        }
        f.write_str(&self.stage)?;
        if let Some(io @ ("in" | "let")) = self.io.as_deref() {
            write!(f, ".{io}")?;
        }
        if let Some(output) = &self.output {
            write!(f, ".{output}")?;
        }
        if self.call > 0 {
            write!(f, "#{}", self.call)?;
        }
        Ok(())
    }
}

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        self.write(&mut map)?;
        map.end()
    }
}

impl Key {
    /// Adds the entries of the key to a map.
    pub(crate) fn write<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        map.serialize_entry("name", &self.to_string())?;
        if self.process > 0 {
            map.serialize_entry("process", &self.process)?;
        }
        map.serialize_entry("request", &self.request)?;
        map.serialize_entry("seq", &self.seq)?;
        if self.token.is_some() {
            map.serialize_entry("token", &self.token)?;
        }
        map.serialize_entry("layer", &self.layer)?;
        map.serialize_entry("stage", &*self.stage)?;
        map.serialize_entry("output", &self.output.as_deref())?;
        map.serialize_entry("io", &self.io.as_deref())?;
        map.serialize_entry("call", &self.call)
    }
}
