//! Decoding as Core's own decoder does it (protocol 1.2): `null` and missing keys become the default, quotes around a
//! number or missing around a text do not matter, unknown enum values become the default.

use serde::Deserialize;
use serde::de::value::StrDeserializer;
use serde::de::{DeserializeOwned, Deserializer, Error, Unexpected, Visitor};
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

/// A value that JSON writes without brackets.
pub(crate) trait Scalar: Sized {
    /// For the message of an error.
    const EXPECTED: &'static str;
    /// From a whole number.
    fn from_integer(_: i128) -> Option<Self> {
        None
    }
    /// From a number with a fraction or exponent.
    fn from_float(_: f64) -> Option<Self> {
        None
    }
    /// From `true` or `false`.
    fn from_boolean(_: bool) -> Option<Self> {
        None
    }
    /// From a text.
    fn from_text(text: &str) -> Option<Self>;
}

macro_rules! integer_scalar {
    ($($kind:ty),*) => {$(
        impl Scalar for $kind {
            const EXPECTED: &'static str = "a whole number";
            fn from_integer(number: i128) -> Option<Self> {
                <$kind>::try_from(number).ok()
            }
            fn from_text(text: &str) -> Option<Self> {
                text.parse().ok()
            }
        }
    )*};
}
integer_scalar!(i32, i64, u16, u32, u64);

impl Scalar for f64 {
    const EXPECTED: &'static str = "a number";
    fn from_integer(number: i128) -> Option<Self> {
        Some(number as f64)
    }
    fn from_float(number: f64) -> Option<Self> {
        Some(number)
    }
    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok().filter(|number: &f64| number.is_finite())
    }
}

impl Scalar for bool {
    const EXPECTED: &'static str = "true or false";
    fn from_boolean(value: bool) -> Option<Self> {
        Some(value)
    }
    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Scalar for String {
    const EXPECTED: &'static str = "a text";
    fn from_integer(number: i128) -> Option<Self> {
        Some(number.to_string())
    }
    fn from_float(number: f64) -> Option<Self> {
        Some(number.to_string())
    }
    fn from_boolean(value: bool) -> Option<Self> {
        Some(value.to_string())
    }
    fn from_text(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
}

struct ScalarVisitor<T>(PhantomData<T>);

impl<'de, T: Scalar> Visitor<'de> for ScalarVisitor<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, source: D) -> Result<Self::Value, D::Error> {
        source.deserialize_any(self)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
        T::from_boolean(value).map(Some).ok_or_else(|| E::invalid_value(Unexpected::Bool(value), &self))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
        T::from_integer(value.into()).map(Some).ok_or_else(|| E::invalid_value(Unexpected::Signed(value), &self))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        T::from_integer(value.into()).map(Some).ok_or_else(|| E::invalid_value(Unexpected::Unsigned(value), &self))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
        T::from_float(value).map(Some).ok_or_else(|| E::invalid_value(Unexpected::Float(value), &self))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
        T::from_text(value).map(Some).ok_or_else(|| E::invalid_value(Unexpected::Other("a text"), &self))
    }
}

/// A scalar that may be `null`.
pub(crate) fn optional<'de, D: Deserializer<'de>, T: Scalar>(source: D) -> Result<Option<T>, D::Error> {
    source.deserialize_any(ScalarVisitor(PhantomData))
}

/// A scalar whose `null` is the type's default.
pub(crate) fn scalar<'de, D: Deserializer<'de>, T: Scalar + Default>(source: D) -> Result<T, D::Error> {
    Ok(optional(source)?.unwrap_or_default())
}

/// A scalar that must be there.
pub(crate) fn required<'de, D: Deserializer<'de>, T: Scalar>(source: D) -> Result<T, D::Error> {
    optional(source)?.ok_or_else(|| D::Error::invalid_type(Unexpected::Unit, &T::EXPECTED))
}

/// A number whose `null` is `N`.
pub(crate) fn number_or<'de, D: Deserializer<'de>, const N: i64>(source: D) -> Result<i64, D::Error> {
    Ok(optional(source)?.unwrap_or(N))
}

/// A port whose `null` is `N`.
pub(crate) fn port_or<'de, D: Deserializer<'de>, const N: u16>(source: D) -> Result<u16, D::Error> {
    Ok(optional(source)?.unwrap_or(N))
}

/// A boolean whose `null` is `true`.
pub(crate) fn boolean_or_true<'de, D: Deserializer<'de>>(source: D) -> Result<bool, D::Error> {
    Ok(optional(source)?.unwrap_or(true))
}

/// The default of a boolean that is true unless said otherwise.
pub(crate) fn yes() -> bool {
    true
}

/// The default of a number that is `N` unless said otherwise.
pub(crate) fn number<const N: i64>() -> i64 {
    N
}

/// The default of a port that is `N` unless said otherwise.
pub(crate) fn port<const N: u16>() -> u16 {
    N
}

/// An object whose `null` is the default.
pub(crate) fn object<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(source: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(source)?.unwrap_or_default())
}

/// A list whose `null` is the empty one.
pub(crate) fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(source: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(source)?.unwrap_or_default())
}

/// A map that may be `null`; entries that are `null` are not given.
pub(crate) fn map<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    source: D,
) -> Result<Option<BTreeMap<String, T>>, D::Error> {
    let entries = Option::<BTreeMap<String, Option<T>>>::deserialize(source)?;
    Ok(entries.map(|entries| entries.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()))
}

/// The enum value that `text` names, if it is one.
pub(crate) fn named<T: DeserializeOwned>(text: &str) -> Option<T> {
    T::deserialize(StrDeserializer::<serde::de::value::Error>::new(text)).ok()
}

/// An enum value; unknown ones and `null` are none.
pub(crate) fn known<'de, D: Deserializer<'de>, T: DeserializeOwned>(source: D) -> Result<Option<T>, D::Error> {
    Ok(optional::<D, String>(source)?.and_then(|text| named(&text)))
}

/// An enum value; unknown ones and `null` are the default.
pub(crate) fn known_or_default<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(
    source: D,
) -> Result<T, D::Error> {
    Ok(known(source)?.unwrap_or_default())
}

/// A list of enum values; unknown ones are left out.
pub(crate) fn known_list<'de, D: Deserializer<'de>, T: DeserializeOwned>(source: D) -> Result<Vec<T>, D::Error> {
    Ok(list::<D, String>(source)?.iter().filter_map(|text| named(text)).collect())
}
