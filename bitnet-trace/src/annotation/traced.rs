//! Finds the tensors in what a function returns, by its type and not by how the type is written.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use candle_core::Tensor;

/// A value that holds tensors: what a `#[traced]` function may return.
///
/// Implemented for `Tensor`, references, `Option`, `Result` (an `Err` records nothing), tuples,
/// `Vec`, arrays and slices of such values, maps with text keys (in the order of the keys), and
/// `Box`, `Rc`, `Arc`. Beside a tensor, tuples may hold plain numbers, strings and bools, which are
/// passed over.
///
/// For a type of your own, use `#[derive(Traced)]`, or list its parts by hand:
///
/// ```
/// use bitnet_trace::{TensorVisitor, Traced};
/// use candle_core::Tensor;
///
/// struct KeyValue {
///     key: Tensor,
///     value: Option<Tensor>,
/// }
///
/// impl Traced for KeyValue {
///     fn visit_tensors(&self, visitor: &mut TensorVisitor<'_>) {
///         visitor.part("key", &self.key);
///         visitor.part("value", &self.value);
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`#[traced]` cannot record a value of type `{Self}`: it holds no tensor",
    label = "expected a `Tensor`, or an `Option`, `Result`, tuple, `Vec` or array of tensors",
    note = "a type of your own can derive or implement `bitnet_trace::Traced`"
)]
pub trait Traced {
    /// Shows every tensor in `self` to the visitor, in a fixed order.
    #[cfg(feature = "trace")]
    fn visit_tensors(&self, visitor: &mut TensorVisitor<'_>);

    /// Never called without the feature `trace`: derived implementations then do not override it.
    #[cfg(not(feature = "trace"))]
    fn visit_tensors(&self, visitor: &mut TensorVisitor<'_>) {
        let _ = visitor;
    }
}

/// A part of a value, a field or a tuple's element: it holds tensors, or is plain and passed over.
#[diagnostic::on_unimplemented(
    message = "`#[traced]` cannot record a part of type `{Self}`: it holds no tensor and is not a plain number, string or bool",
    label = "expected tensors, or a plain value to pass over",
    note = "a type of your own can derive or implement `bitnet_trace::Traced`; a field of a derived type can be left out with `#[traced(skip)]`"
)]
pub trait Part {
    /// False for plain values.
    const HOLDS_TENSORS: bool;

    /// Shows the tensors, if there are any, to the visitor.
    fn visit_part(&self, visitor: &mut TensorVisitor<'_>);
}

/// Where [`Traced::visit_tensors`] shows its tensors.
pub struct TensorVisitor<'a> {
    /// Labels from the outermost value inwards, joined by dots. Empty for a value that is a tensor.
    path: String,
    /// The names of the positions of a tuple. A position beyond them is labelled with its number.
    names: &'a [&'a str],
    visit: &'a mut dyn FnMut(&str, &Tensor),
}

#[allow(dead_code)] // only capture looks for tensors
impl<'a> TensorVisitor<'a> {
    pub(crate) fn new(visit: &'a mut dyn FnMut(&str, &Tensor)) -> Self {
        Self { path: String::new(), names: &[], visit }
    }

    pub(crate) fn with_names(self, names: &'a [&'a str]) -> Self {
        Self { names, ..self }
    }
}

impl TensorVisitor<'_> {
    /// Shows one tensor.
    pub fn tensor(&mut self, tensor: &Tensor) {
        (self.visit)(&self.path, tensor);
    }

    /// Shows a part of the value under a label: a field's name, an index, a key. Plain numbers,
    /// strings and bools are passed over.
    pub fn part<T: Part + ?Sized>(&mut self, label: impl fmt::Display, part: &T) {
        self.labelled(label, |visitor| part.visit_part(visitor));
    }

    /// Shows an element of a tuple. The names apply to the outermost tuple.
    fn element<T: Part>(&mut self, position: usize, element: &T) {
        match self.names.get(position).filter(|_| self.path.is_empty()).copied() {
            Some(name) => self.part(name, element),
            None => self.part(position, element),
        }
    }

    fn labelled(&mut self, label: impl fmt::Display, show: impl FnOnce(&mut Self)) {
        let outer = self.path.len();
        if outer > 0 {
            self.path.push('.');
        }
        self.path.push_str(&label.to_string());
        show(self);
        self.path.truncate(outer);
    }
}

impl fmt::Debug for TensorVisitor<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TensorVisitor").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Traced for Tensor {
    fn visit_tensors(&self, visitor: &mut TensorVisitor<'_>) {
        visitor.tensor(self);
    }
}

impl<T: Traced + ?Sized> Traced for &T {
    fn visit_tensors(&self, visitor: &mut TensorVisitor<'_>) {
        (**self).visit_tensors(visitor);
    }
}

impl<T: Traced + ?Sized> Traced for &mut T {
    fn visit_tensors(&self, visitor: &mut TensorVisitor<'_>) {
        (**self).visit_tensors(visitor);
    }
}

impl<T: Traced> Traced for Option<T> {
    fn visit_tensors(&self, visitor: &mut TensorVisitor<'_>) {
        if let Some(value) = self {
            value.visit_tensors(visitor);
        }
    }
}

impl<T: Traced, E> Traced for Result<T, E> {
    fn visit_tensors(&self, visitor: &mut TensorVisitor<'_>) {
        if let Ok(value) = self {
            value.visit_tensors(visitor);
        }
    }
}

impl<T: Traced> Traced for [T] {
    fn visit_tensors(&self, visitor: &mut TensorVisitor<'_>) {
        for (index, value) in self.iter().enumerate() {
            visitor.part(index, value);
        }
    }
}

impl<T: Traced> Traced for Vec<T> {
    fn visit_tensors(&self, visitor: &mut TensorVisitor<'_>) {
        self.as_slice().visit_tensors(visitor);
    }
}

impl<T: Traced, const N: usize> Traced for [T; N] {
    fn visit_tensors(&self, visitor: &mut TensorVisitor<'_>) {
        self.as_slice().visit_tensors(visitor);
    }
}

macro_rules! pointers {
    ($($pointer:ident),*) => {$(
        impl<T: Traced + ?Sized> Traced for $pointer<T> {
            fn visit_tensors(&self, visitor: &mut TensorVisitor<'_>) {
                (**self).visit_tensors(visitor);
            }
        }
    )*};
}

pointers!(Box, Rc, Arc);

impl<K: AsRef<str> + Ord, T: Traced> Traced for BTreeMap<K, T> {
    fn visit_tensors(&self, visitor: &mut TensorVisitor<'_>) {
        for (key, value) in self {
            visitor.part(key.as_ref(), value);
        }
    }
}

impl<K: AsRef<str>, T: Traced, S> Traced for HashMap<K, T, S> {
    fn visit_tensors(&self, visitor: &mut TensorVisitor<'_>) {
        let mut entries: Vec<(&str, &T)> = self.iter().map(|(key, value)| (key.as_ref(), value)).collect();
        entries.sort_by_key(|(key, _)| *key);
        for (key, value) in entries {
            visitor.part(key, value);
        }
    }
}

impl<T: Traced + ?Sized> Part for T {
    const HOLDS_TENSORS: bool = true;

    fn visit_part(&self, visitor: &mut TensorVisitor<'_>) {
        self.visit_tensors(visitor);
    }
}

macro_rules! passed_over {
    ($($plain:ty),* $(,)?) => {$(
        passed_over!(@ $plain);
        passed_over!(@ Vec<$plain>);
        passed_over!(@ Option<$plain>);
    )*};
    (@ $plain:ty) => {
        impl Part for $plain {
            const HOLDS_TENSORS: bool = false;

            fn visit_part(&self, _visitor: &mut TensorVisitor<'_>) {}
        }
    };
}

passed_over!((), bool, char, String, &str, f32, f64, u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize,);

impl Part for Cow<'_, str> {
    const HOLDS_TENSORS: bool = false;

    fn visit_part(&self, _visitor: &mut TensorVisitor<'_>) {}
}

macro_rules! tuples {
    ($($element:ident $position:tt),+) => {
        impl<$($element: Part),+> Traced for ($($element,)+) {
            fn visit_tensors(&self, visitor: &mut TensorVisitor<'_>) {
                const {
                    assert!(
                        $($element::HOLDS_TENSORS)||+,
                        "`#[traced]` records tensors, and no element of this tuple holds one"
                    );
                }
                $(visitor.element($position, &self.$position);)+
            }
        }
    };
}

tuples!(A 0);
tuples!(A 0, B 1);
tuples!(A 0, B 1, C 2);
tuples!(A 0, B 1, C 2, D 3);
tuples!(A 0, B 1, C 2, D 3, E 4);
tuples!(A 0, B 1, C 2, D 3, E 4, F 5);
tuples!(A 0, B 1, C 2, D 3, E 4, F 5, G 6);
tuples!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);

#[cfg(all(test, feature = "trace"))]
mod tests {
    use std::collections::{BTreeMap, HashMap};
    use std::rc::Rc;
    use std::sync::Arc;

    use candle_core::{Device, Result, Tensor};

    use super::{TensorVisitor, Traced};

    fn labels(value: &impl Traced) -> Vec<String> {
        let mut found = Vec::new();
        value.visit_tensors(&mut TensorVisitor::new(&mut |label, _| found.push(label.to_owned())));
        found
    }

    fn tensor() -> Tensor {
        Tensor::new(&[1f32, 2.0], &Device::Cpu).expect("a small tensor")
    }

    #[test]
    fn a_single_tensor_has_no_label() {
        let ok: Result<Tensor> = Ok(tensor());
        assert_eq!(labels(&tensor()), [""]);
        assert_eq!(labels(&&tensor()), [""]);
        assert_eq!(labels(&Some(tensor())), [""]);
        assert_eq!(labels(&ok), [""]);
    }

    #[test]
    fn tuples_and_vectors_are_labelled_by_position() {
        assert_eq!(labels(&(tensor(), tensor())), ["0", "1"]);
        assert_eq!(labels(&vec![tensor(), tensor()]), ["0", "1"]);
        assert_eq!(labels(&vec![tensor()]), ["0"]);
        assert_eq!(labels(&(tensor(), (tensor(), [tensor()]))), ["0", "1.0", "1.1.0"]);
    }

    #[test]
    fn maps_are_labelled_by_key_in_order_and_pointers_are_seen_through() {
        let keys = ["c", "a", "b"].map(|key| (key.to_owned(), tensor()));
        assert_eq!(labels(&HashMap::from(keys.clone())), ["a", "b", "c"]);
        assert_eq!(labels(&BTreeMap::from(keys)), ["a", "b", "c"]);
        assert_eq!(labels(&Box::new(Arc::new(tensor()))), [""]);
        assert_eq!(labels(&(Rc::new((tensor(), tensor())), 1)), ["0.0", "0.1"]);
    }

    #[test]
    fn names_are_for_the_positions_of_the_outermost_tuple() {
        let named = |value: &dyn Traced| {
            let mut found = Vec::new();
            let mut visit = |label: &str, _: &Tensor| found.push(label.to_owned());
            value.visit_tensors(&mut TensorVisitor::new(&mut visit).with_names(&["q", "k"]));
            found
        };
        assert_eq!(named(&(tensor(), tensor(), tensor())), ["q", "k", "2"]);
        assert_eq!(named(&(None::<Tensor>, tensor())), ["k"]);
        assert_eq!(named(&(tensor(), (tensor(), vec![tensor()]))), ["q", "k.0", "k.1.0"]);
        assert_eq!(named(&vec![tensor(), tensor()]), ["0", "1"]);
        assert_eq!(named(&tensor()), [""]);
    }

    #[test]
    fn absent_and_plain_elements_do_not_shift_the_positions() {
        let name = String::from("x");
        assert_eq!(labels(&(None::<Tensor>, 3usize, name.as_str(), tensor())), ["3"]);
        let err: std::result::Result<Tensor, String> = Err("no".to_owned());
        assert!(labels(&err).is_empty());
    }
}
