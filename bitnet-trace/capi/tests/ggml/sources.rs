//! Nothing: the package only names where the sources of ggml come from.
