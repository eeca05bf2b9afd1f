//! Values that [`annotate_run`](crate::annotate_run) puts into `run.json`.

/// A fact about a run: text, number, truth value, or a list of these.
///
/// `From` converts plain values: write `annotate_run("tokens", &token_ids[..])`.
#[derive(Debug, Clone, PartialEq)]
pub enum Annotation {
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// An unsigned whole number, which may be too large for `Integer`.
    Unsigned(u64),
    /// A number; one that is not finite is written as `null`.
    Float(f64),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Annotation>),
}

macro_rules! from {
    ($($from:ty => $variant:ident),* $(,)?) => {$(
        impl From<$from> for Annotation {
            fn from(value: $from) -> Self {
                Self::$variant(value.into())
            }
        }
    )*};
}

from!(
    bool => Bool, i32 => Integer, i64 => Integer, u8 => Integer, u16 => Integer, u32 => Integer,
    u64 => Unsigned, f32 => Float, f64 => Float, &str => Text, String => Text,
);

impl From<usize> for Annotation {
    fn from(value: usize) -> Self {
        Self::Unsigned(value as u64)
    }
}

impl<T: Into<Annotation> + Clone> From<&[T]> for Annotation {
    fn from(values: &[T]) -> Self {
        Self::List(values.iter().cloned().map(Into::into).collect())
    }
}

impl<T: Into<Annotation>> From<Vec<T>> for Annotation {
    fn from(values: Vec<T>) -> Self {
        Self::List(values.into_iter().map(Into::into).collect())
    }
}
