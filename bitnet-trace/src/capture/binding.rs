//! What `#[traced(locals)]` makes of a binding: a record of the variable's value, if its type is one of tensors.
//!
//! `unsafe` is needed here because a value is looked at as the type that its type identity says it has.
#![allow(unsafe_code)]

use candle_core::Tensor;

use super::call_site::CallSite;
use super::record::{record_local, record_value};
use crate::annotation::Traced;

/// The static that the expansion makes for one binding.
#[derive(Debug)]
pub struct Binding {
    site: CallSite,
    /// `q`, or `q.2` for the second binding of `q`; `None` if the stage is the binding's own.
    local: Option<&'static str>,
}

impl Binding {
    /// Called by the expansion of `#[traced(locals)]`.
    #[must_use]
    pub const fn new(site: CallSite, local: Option<&'static str>) -> Self {
        Self { site, local }
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn record(&'static self, value: &dyn Traced) {
        match self.local {
            Some(local) => record_local(&self.site, local, value),
            None => record_value(self.site.stage, Some(&self.site), value),
        }
    }
}

/// Makes a static [`Binding`]. The expansion of `#[traced(locals)]` calls it.
#[doc(hidden)]
#[macro_export]
macro_rules! __binding {
    ($stage:expr, $function:expr, $line:expr) => {
        $crate::private::binding!(@ $stage, $function, $line, ::core::option::Option::None)
    };
    ($stage:expr, $function:expr, $line:expr, $local:expr) => {
        $crate::private::binding!(@ $stage, $function, $line, ::core::option::Option::Some($local))
    };
    (@ $stage:expr, $function:expr, $line:expr, $local:expr) => {{
        use $crate::private::{Binding, CallSite};
        static BINDING: Binding =
            Binding::new(CallSite::new($stage, $function, ::core::module_path!(), ::core::file!(), $line), $local);
        &BINDING
    }};
}

/// Looks at a value as tensors, if its type is a tensor, a reference to one, or an `Option`, `Vec`, slice or tuple of
/// them.
///
/// It asks for the type's identity and for no trait. A trait bound at the binding would make the compiler decide a
/// type that only later code decides, as in `let mut v = Vec::new();`. The identity is asked for when the type is
/// known. `TypeId::of` alone would require `'static`.
#[inline(always)]
#[allow(clippy::inline_always, clippy::ref_option_ref)] // the type decides at compile time what is left of this
pub(crate) fn as_tensors<T>(value: &T) -> Option<&dyn Traced> {
    let id = typeid::of::<T>();
    macro_rules! if_one_of {
        ($($known:ty),* $(,)?) => {$(
            if id == typeid::of::<$known>() {
                // SAFETY: the types are the same but for lifetimes, which the identity does not tell apart. A lifetime in
                // `$known` is that of `value`, and what `value` refers to lives at least as long.
                return Some(unsafe { &*std::ptr::from_ref(value).cast::<$known>() });
            }
        )*};
    }
    macro_rules! if_one_of_or_a_reference {
        ($($known:ty),* $(,)?) => {
            if_one_of!($($known, &$known, &mut $known),*);
        };
    }
    if_one_of_or_a_reference!(
        Tensor,
        Option<Tensor>,
        Vec<Tensor>,
        (Tensor, Tensor),
        (Tensor, Tensor, Tensor),
        (Tensor, Tensor, Tensor, Tensor),
        (Tensor, Tensor, Tensor, Tensor, Tensor),
        (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor),
        Option<(Tensor, Tensor)>,
        Option<Vec<Tensor>>,
        Vec<Option<Tensor>>,
        Vec<Vec<Tensor>>,
        Vec<(Tensor, Tensor)>,
        Vec<Option<(Tensor, Tensor)>>,
    );
    if_one_of!(
        &&Tensor,
        (Tensor,),
        (&Tensor,),
        (Tensor, &Tensor),
        (&Tensor, Tensor),
        (&Tensor, &Tensor, &Tensor, &Tensor),
        Option<Option<Tensor>>,
        Option<Vec<&Tensor>>,
        Option<&[Tensor]>,
        &Option<&Tensor>,
        Vec<(&Tensor, &Tensor)>,
        &mut [Tensor],
        Option<&Tensor>,
        Option<&mut Tensor>,
        Option<&(Tensor, Tensor)>,
        Option<(&Tensor, &Tensor)>,
        Vec<&Tensor>,
        &Vec<&Tensor>,
        &[Tensor],
        &[&Tensor],
        (&Tensor, &Tensor),
        (&Tensor, &Tensor, &Tensor),
    );
    None
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::as_tensors;
    use crate::annotation::TensorVisitor;

    /// The labels and sums of the tensors in a value.
    fn seen<T>(value: &T) -> Option<Vec<(String, f32)>> {
        let mut seen = Vec::new();
        let mut visit = |label: &str, tensor: &Tensor| {
            let sum = tensor.sum_all().and_then(|sum| sum.to_scalar()).expect("a number");
            seen.push((label.to_owned(), sum));
        };
        as_tensors(value)?.visit_tensors(&mut TensorVisitor::new(&mut visit));
        Some(seen)
    }

    fn tensor(value: f32) -> Tensor {
        Tensor::new(value, &Device::Cpu).expect("a tensor")
    }

    #[test]
    fn every_form_is_read_as_what_it_is() {
        let [mut a, b, c] = [1.0, 2.0, 3.0].map(tensor);
        let one = |value: f32| Some(vec![(String::new(), value)]);
        let several = |values: &[f32]| {
            Some(values.iter().enumerate().map(|(index, value)| (index.to_string(), *value)).collect::<Vec<_>>())
        };
        assert_eq!(seen(&b), one(2.0));
        assert_eq!(seen(&&b), one(2.0));
        assert_eq!(seen(&&mut a), one(1.0));
        assert_eq!(seen(&&mut Some((b.clone(), c.clone()))), several(&[2.0, 3.0]));
        assert_eq!(seen(&Some(&mut a)), one(1.0));
        assert_eq!(seen(&Some(&b)), one(2.0));
        assert_eq!(seen(&None::<&Tensor>), Some(vec![]));
        assert_eq!(seen(&&Some(b.clone())), one(2.0));
        assert_eq!(seen(&(&b, &c)), several(&[2.0, 3.0]));
        assert_eq!(seen(&[b.clone(), c.clone()].as_slice()), several(&[2.0, 3.0]));
        assert_eq!(seen(&[&b, &c].as_slice()), several(&[2.0, 3.0]));
        assert_eq!(seen(&&vec![b.clone(), c.clone()]), several(&[2.0, 3.0]));
        assert_eq!(seen(&vec![&b, &c]), several(&[2.0, 3.0]));
        assert_eq!(seen(&(b.clone(), c.clone(), a.clone())), several(&[2.0, 3.0, 1.0]));
        assert_eq!(seen(&Some((&b, &c))), several(&[2.0, 3.0]));
        assert_eq!(seen(&Some((b, c))), several(&[2.0, 3.0]));
    }

    #[test]
    fn what_is_no_tensor_is_passed_over() {
        let x = tensor(1.0);
        assert_eq!(seen(&1), None);
        assert_eq!(seen(&"x"), None);
        assert_eq!(seen(&x.dims()), None);
        assert_eq!(seen(&x.sum_all()), None);
        assert_eq!(seen(&|| &x), None);
    }
}
