//! How types are written to files and read from them, without a proc macro.
//!
//! The derives of serde need syn, which whoever links this crate would have to build. [`impl_serde!`] takes a table of
//! a type's fields instead, which stands below the type, and writes the same implementations.

use std::fmt;
use std::marker::PhantomData;

use serde_core::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_core::ser::{Serialize, SerializeMap, SerializeStruct, Serializer};

/// Implements `Serialize`, `Deserialize` or both as serde's derive does, for a struct or for an enum without data.
///
/// ```ignore
/// impl_serde! {
///     Serialize, Deserialize for Record {
///         name,
///         seq_index or "seq" [optional],
///         layer_idx or "layer" as NegativeIsNone [optional],
///         mean [default],
///     }
/// }
/// ```
///
/// The key of a field is its name, and a table that leaves a field out does not compile. Beside the name may stand
/// * `or "seq"`: another key that is read (`alias`),
/// * `as NegativeIsNone`: a struct around the field's value that is written and read in its place (`with`),
/// * `[default]`: a field that is not there has its default value,
/// * `[optional]`: the same, and a field that has its default value is not written (`skip_serializing_if`),
/// * `[skip]`: the field is not written; only for types that are not read.
///
/// Unknown keys are ignored, or refused with `Deserialize for Rule, deny_unknown_fields { .. }`. After that,
/// `expecting = "a table with the keys of a rule"` names what was expected where the file has something else.
///
/// Of an enum the table has the names: `Serialize for enum Where { Reference = "reference", Trace = "trace" }`.
macro_rules! impl_serde {
    (Serialize, Deserialize for $($table:tt)+) => {
        impl_serde! { Serialize for $($table)+ }
        impl_serde! { Deserialize for $($table)+ }
    };

    (Serialize for enum $type:ident { $($variant:ident = $name:literal),+ $(,)? }) => {
        impl serde_core::Serialize for $type {
            fn serialize<S: serde_core::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let name = match self {
                    $(Self::$variant => $name,)+
                };
                serializer.serialize_unit_variant(stringify!($type), *self as u32, name)
            }
        }
    };

    (Serialize for $type:ident {
        $($field:ident $(or $alias:literal)? $(as $form:ident)? $([$kind:ident])?),+ $(,)?
    }) => {
        impl $crate::serial::ToFields for $type {
            const NAME: &'static str = stringify!($type);

            fn count(&self) -> usize {
                let Self { $($field),+ } = self;
                0 $(+ usize::from(impl_serde!(@is_written $field $($kind)?)))+
            }

            fn write<S: serde_core::ser::SerializeStruct>(&self, to: &mut S) -> Result<(), S::Error> {
                let Self { $($field),+ } = self;
                $(
                    if impl_serde!(@is_written $field $($kind)?) {
                        to.serialize_field(stringify!($field), impl_serde!(@written $field $($form)?))?;
                    }
                )+
                Ok(())
            }
        }

        impl serde_core::Serialize for $type {
            fn serialize<S: serde_core::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                $crate::serial::write(self, serializer)
            }
        }
    };

    (Deserialize for $type:ident $(<$life:lifetime>)? { $($fields:tt)+ }) => {
        impl_serde! { @read $type $(<$life>)?, false, None, $($fields)+ }
    };
    (Deserialize for $type:ident, deny_unknown_fields { $($fields:tt)+ }) => {
        impl_serde! { @read $type, true, None, $($fields)+ }
    };
    (Deserialize for $type:ident, deny_unknown_fields, expecting = $expected:literal { $($fields:tt)+ }) => {
        impl_serde! { @read $type, true, Some($expected), $($fields)+ }
    };

    (@read $type:ident $(<$life:lifetime>)?, $strict:literal, $expected:expr,
        $($field:ident $(or $alias:literal)? $(as $form:ident)? $([$kind:ident])?),+ $(,)?
    ) => {
        const _: () = {
            #[allow(non_camel_case_types)]
            enum Field { $($field),+ }

            impl<'de $(: $life, $life)?> $crate::serial::FromFields<'de> for $type $(<$life>)? {
                const NAME: &'static str = stringify!($type);
                const EXPECTED: Option<&'static str> = $expected;
                const KEYS: &'static [&'static str] = &[$(stringify!($field), $($alias,)?)+];
                const COUNT: usize = [$(stringify!($field)),+].len();
                const STRICT: bool = $strict;

                fn from_map<M: serde_core::de::MapAccess<'de>>(mut map: M) -> Result<Self, M::Error> {
                    let field_of = |key: &str| match key {
                        $(stringify!($field) $(| $alias)? => Some(Field::$field),)+
                        _ => None,
                    };
                    $(let mut $field = None;)+
                    while let Some(field) = $crate::serial::next_field::<Self, _, _>(&mut map, field_of)? {
                        match field {
                            $(Some(Field::$field) => {
                                if $field.is_some() {
                                    return Err(serde_core::de::Error::duplicate_field(stringify!($field)));
                                }
                                $field = Some(impl_serde!(@inside map.next_value()?, $($form)?));
                            })+
                            None => _ = map.next_value::<serde_core::de::IgnoredAny>()?,
                        }
                    }
                    Ok(Self {
                        $($field: impl_serde!(
                            @or $field, serde_core::de::Error::missing_field(stringify!($field)), $($kind)?
                        ),)+
                    })
                }

                fn from_sequence<S: serde_core::de::SeqAccess<'de>>(mut sequence: S) -> Result<Self, S::Error> {
                    Ok(Self {
                        $($field: {
                            let value = sequence.next_element()?.map(|value| impl_serde!(@inside value, $($form)?));
                            impl_serde!(@or value, $crate::serial::too_short::<Self, _>(Field::$field as usize), $($kind)?)
                        },)+
                    })
                }
            }

            impl<'de $(: $life, $life)?> serde_core::Deserialize<'de> for $type $(<$life>)? {
                fn deserialize<D: serde_core::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                    $crate::serial::read(deserializer)
                }
            }
        };
    };

    // Whether a field is written, and what is written.
    (@is_written $field:ident optional) => { !$crate::serial::is_default($field) };
    (@is_written $field:ident skip) => {{ let _ = $field; false }};
    (@is_written $field:ident $($default:ident)?) => {{ let _ = $field; true }};
    (@written $field:ident) => { $field };
    (@written $field:ident $form:ident) => { &$form(*$field) };

    // The value inside its form, and the value of a field that may not be there.
    (@inside $value:expr,) => { $value };
    (@inside $value:expr, $form:ident) => {{ let $form(value) = $value; value }};
    (@or $value:expr, $missing:expr,) => { $value.ok_or_else(|| $missing)? };
    (@or $value:expr, $missing:expr, $default:ident) => { $value.unwrap_or_default() };
}

pub(crate) use impl_serde;

#[cfg(test)]
mod tests;

/// A struct that is written as a map.
pub(crate) trait ToFields {
    const NAME: &'static str;

    /// The number of fields that are written.
    fn count(&self) -> usize;

    fn write<S: SerializeStruct>(&self, to: &mut S) -> Result<(), S::Error>;
}

/// Writes a struct.
pub(crate) fn write<T: ToFields, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    let mut fields = serializer.serialize_struct(T::NAME, value.count())?;
    value.write(&mut fields)?;
    fields.end()
}

pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A map to which the fields of a struct are added (`flatten`).
pub(crate) struct Entries<'a, M>(pub(crate) &'a mut M);

impl<M: SerializeMap> SerializeStruct for Entries<'_, M> {
    type Ok = ();
    type Error = M::Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), M::Error> {
        self.0.serialize_entry(key, value)
    }

    fn end(self) -> Result<(), M::Error> {
        Ok(())
    }
}

/// A struct that is read from a map, or from a sequence of its values.
pub(crate) trait FromFields<'de>: Sized {
    const NAME: &'static str;
    /// What is expected where the file has something else; by default the struct's name.
    const EXPECTED: Option<&'static str>;
    /// All keys that are read.
    const KEYS: &'static [&'static str];
    /// The number of fields.
    const COUNT: usize;
    /// Whether other keys are refused.
    const STRICT: bool;

    fn from_map<M: MapAccess<'de>>(map: M) -> Result<Self, M::Error>;

    fn from_sequence<S: SeqAccess<'de>>(sequence: S) -> Result<Self, S::Error>;
}

/// Reads a struct.
pub(crate) fn read<'de, T: FromFields<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_struct(T::NAME, T::KEYS, Struct(PhantomData))
}

struct Struct<T>(PhantomData<T>);

impl<'de, T: FromFields<'de>> Visitor<'de> for Struct<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match T::EXPECTED {
            Some(expected) => f.write_str(expected),
            None => write!(f, "struct {}", T::NAME),
        }
    }

    fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<T, M::Error> {
        T::from_map(map)
    }

    fn visit_seq<S: SeqAccess<'de>>(self, sequence: S) -> Result<T, S::Error> {
        T::from_sequence(sequence)
    }
}

/// The error of a sequence that ends before the value with this index.
pub(crate) fn too_short<'de, T: FromFields<'de>, E: Error>(length: usize) -> E {
    let plural = if T::COUNT == 1 { "" } else { "s" };
    let expected = || format!("struct {} with {} element{plural}", T::NAME, T::COUNT);
    E::invalid_length(length, &T::EXPECTED.map_or_else(expected, str::to_owned).as_str())
}

/// Reads the next key of a map. Gives its field, `Some(None)` for an unknown key, and `None` at the end of the map.
#[allow(clippy::option_option)] // as documented
pub(crate) fn next_field<'de, T: FromFields<'de>, F, M: MapAccess<'de>>(
    map: &mut M,
    field_of: impl Fn(&str) -> Option<F>,
) -> Result<Option<Option<F>>, M::Error> {
    map.next_key_seed(Key { field_of, owner: PhantomData::<T> })
}

struct Key<T, O> {
    field_of: O,
    owner: PhantomData<T>,
}

impl<'de, T: FromFields<'de>, F, O: Fn(&str) -> Option<F>> DeserializeSeed<'de> for Key<T, O> {
    type Value = Option<F>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<F>, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl<'de, T: FromFields<'de>, F, O: Fn(&str) -> Option<F>> Visitor<'de> for Key<T, O> {
    type Value = Option<F>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("field identifier")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Option<F>, E> {
        match (self.field_of)(key) {
            None if T::STRICT => Err(E::unknown_field(key, T::KEYS)),
            field => Ok(field),
        }
    }
}
