//! JSON objects whose values are kept as they are written.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

/// Keys and values of a JSON object, in their order.
///
/// A value is kept as the JSON text that stands in the file, without white space between its parts. So a number of any
/// length survives, and text keeps its escapes.
///
/// ```
/// use brenier_model::Extra;
///
/// let text = r#"{"id": 123456789012345678901234567890, "tags": [ "a" ]}"#;
/// let extra: Extra = serde_json::from_str(text)?;
/// assert_eq!(extra.text("id"), Some("123456789012345678901234567890"));
/// assert_eq!(extra.get("tags"), Some(serde_json::json!(["a"])));
/// assert_eq!(serde_json::to_string(&extra)?, r#"{"id":123456789012345678901234567890,"tags":["a"]}"#);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct Extra(Vec<(String, Box<RawValue>)>);

impl Extra {
    /// Keys and values, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &RawValue)> {
        self.0.iter().map(|(key, value)| (key.as_str(), &**value))
    }

    /// A value as it is written.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        self.iter().find(|(found, _)| *found == key).map(|(_, value)| value.get())
    }

    /// A value; `None` also where it is no JSON that can be held, such as a number beyond f64.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Value> {
        serde_json::from_str(self.text(key)?).ok()
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes a value out.
    pub(super) fn remove(&mut self, key: &str) -> Option<Box<RawValue>> {
        let at = self.0.iter().position(|(found, _)| found == key)?;
        Some(self.0.remove(at).1)
    }

    /// The first key that stands twice.
    pub(super) fn twice(&self) -> Option<&str> {
        let mut seen = std::collections::HashSet::new();
        self.iter().map(|(key, _)| key).find(|key| !seen.insert(*key))
    }
}

impl<K: Into<String>> FromIterator<(K, Value)> for Extra {
    fn from_iter<T: IntoIterator<Item = (K, Value)>>(values: T) -> Self {
        // A `Value` is JSON text as it stands.
        let raw = |value: Value| RawValue::from_string(value.to_string()).ok();
        Self(values.into_iter().filter_map(|(key, value)| Some((key.into(), raw(value)?))).collect())
    }
}

impl fmt::Debug for Extra {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|(key, value)| (key, value.get()))).finish()
    }
}

impl PartialEq for Extra {
    fn eq(&self, other: &Self) -> bool {
        let texts = |of: &Self| {
            of.iter().map(|(key, value)| (key.to_owned(), value.get().to_owned())).collect::<Vec<_>>()
        };
        texts(self) == texts(other)
    }
}

impl Serialize for Extra {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Extra {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;

        impl<'de> Visitor<'de> for Keys {
            type Value = Extra;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Extra, A::Error> {
                let mut all = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, Box<RawValue>>()? {
                    all.push((key, compact(value)));
                }
                Ok(Extra(all))
            }
        }

        deserializer.deserialize_map(Keys)
    }
}

/// A value without the white space between its parts, so that it fits on a line.
fn compact(value: Box<RawValue>) -> Box<RawValue> {
    let (mut quoted, mut escaped) = (false, false);
    let kept = |c: &char| {
        let keep = quoted || !c.is_ascii_whitespace();
        quoted ^= *c == '"' && !escaped;
        escaped = quoted && *c == '\\' && !escaped;
        keep
    };
    let text: String = value.get().chars().filter(kept).collect();
    // Nothing but white space is gone, so it is the same JSON.
    RawValue::from_string(text).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<f64>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[ \\\\\"\n\ta-c\u{e9}]{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 12, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::hash_map("[ \\\\\"a]{0,3}", inner, 0..3)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn compacting_changes_no_value(value in json()) {
            let pretty = serde_json::to_string_pretty(&value).unwrap();
            let found = compact(RawValue::from_string(pretty).unwrap());
            prop_assert_eq!(found.get(), serde_json::to_string(&value).unwrap());
        }
    }

    #[test]
    fn what_value_cannot_hold_is_kept() {
        let text = r#"{"a":1e9999,"b":"\ud800","c":-0.10,"d":{"x":1,"x":2}}"#;
        let extra: Extra = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&extra).unwrap(), text);
        assert_eq!(extra.get("a"), None);
    }
}
