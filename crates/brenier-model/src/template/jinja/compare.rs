//! `==`, `<`, `in` and what may be the key of a dictionary, as Python decides them.

use std::cmp::Ordering;

use super::fault::Fault;
use super::heap::Heap;
use super::value::{Cursor, Dict, Number, Value, View};

/// `left == right`.
pub(super) fn equal(left: &Value, right: &Value, heap: &Heap) -> Result<bool, Fault> {
    heap.step(1)?;
    if let (Some(a), Some(b)) = (left.as_number(), right.as_number()) {
        return Ok(order_numbers(a, b) == Some(Ordering::Equal));
    }
    if let (Some(a), Some(b)) = (left.as_str(), right.as_str()) {
        heap.read(a.len().min(b.len()))?;
        return Ok(a == b);
    }
    Ok(match (left, right) {
        (Value::Undefined(_), Value::Undefined(_)) | (Value::None, Value::None) => true,
        (Value::List(a), Value::List(b)) | (Value::Tuple(a), Value::Tuple(b)) => {
            if a.values.len() != b.values.len() {
                return Ok(false);
            }
            for (a, b) in a.values.iter().zip(&b.values) {
                if !equal(a, b, heap)? {
                    return Ok(false);
                }
            }
            true
        }
        (Value::Dict(a), Value::Dict(b)) => {
            if a.entries.len() != b.entries.len() {
                return Ok(false);
            }
            for (key, value) in &a.entries {
                match b.get(key, heap)? {
                    Some(other) if equal(value, other, heap)? => {}
                    _ => return Ok(false),
                }
            }
            true
        }
        (Value::Range(a), Value::Range(b)) => {
            let (n, m) = (a.len(), b.len());
            n == m && (n == 0 || a.start == b.start && (n == 1 || a.step == b.step))
        }
        (Value::Namespace(a), Value::Namespace(b)) => a == b,
        (Value::Loop(a), Value::Loop(b)) => a == b,
        (Value::Macro(a), Value::Macro(b)) => a == b,
        (Value::Function(a), Value::Function(b)) => a == b,
        (Value::View(..), Value::View(..))
        | (Value::Method(_), Value::Method(_))
        | (Value::Generator(_), Value::Generator(_))
        | (Value::Cycler(_), Value::Cycler(_))
        | (Value::Joiner(_), Value::Joiner(_)) => {
            return Err(Fault::unsupported(format_args!(
                "comparing two values of type `{}`",
                left.type_name()
            )));
        }
        _ => false,
    })
}

/// How `<`, `<=`, `>` and `>=` see two values; `None` where one is not a number (NaN).
pub(super) fn order(left: &Value, right: &Value, heap: &Heap) -> Result<Option<Ordering>, Fault> {
    heap.step(1)?;
    if let (Some(a), Some(b)) = (left.as_number(), right.as_number()) {
        return Ok(order_numbers(a, b));
    }
    match (left, right) {
        (Value::Str(a), Value::Str(b)) => {
            heap.read(a.len().min(b.len()))?;
            // UTF-8 sorts as its code points do.
            Ok(Some(a.cmp(b)))
        }
        (Value::List(a), Value::List(b)) | (Value::Tuple(a), Value::Tuple(b)) => {
            for (a, b) in a.values.iter().zip(&b.values) {
                if !equal(a, b, heap)? {
                    return order(a, b, heap);
                }
            }
            Ok(Some(a.values.len().cmp(&b.values.len())))
        }
        (Value::Undefined(missing), _) | (_, Value::Undefined(missing)) => Err(missing.fault()),
        (Value::Markup(_), _) | (_, Value::Markup(_)) => Err(Fault::unsupported("ordering markup")),
        (Value::View(..), Value::View(..)) => Err(Fault::unsupported("ordering views of dictionaries")),
        _ => Err(Fault::new(format!("`{}` and `{}` cannot be ordered", left.type_name(), right.type_name()))),
    }
}

fn order_numbers(left: Number, right: Number) -> Option<Ordering> {
    match (left, right) {
        (Number::Int(a), Number::Int(b)) => Some(a.cmp(&b)),
        (Number::Float(a), Number::Float(b)) => a.partial_cmp(&b),
        (Number::Int(a), Number::Float(b)) => order_mixed(a, b),
        (Number::Float(a), Number::Int(b)) => order_mixed(b, a).map(Ordering::reverse),
    }
}

/// Compares exactly, where a conversion would round.
fn order_mixed(int: i128, float: f64) -> Option<Ordering> {
    if float.is_nan() {
        return None;
    }
    // 2^127, the first float beyond the integers.
    const END: f64 = 1.701_411_834_604_692_3e38;
    if float >= END {
        return Some(Ordering::Less);
    }
    if float < -END {
        return Some(Ordering::Greater);
    }
    let whole = float.floor();
    Some(match int.cmp(&(whole as i128)) {
        Ordering::Equal if float > whole => Ordering::Less,
        ordering => ordering,
    })
}

/// `item in container`.
pub(super) fn contains(container: &Value, item: &Value, heap: &Heap) -> Result<bool, Fault> {
    match container {
        Value::Str(text) | Value::Markup(text) => match item.as_str() {
            Some(part) => {
                heap.read(text.len() + part.len())?;
                Ok(text.contains(&**part))
            }
            None => Err(Fault::new(format!(
                "`in` of a string needs a string on its left, not `{}`",
                item.type_name()
            ))),
        },
        Value::Dict(dict) | Value::View(View::Keys, dict) => Ok(dict.get(item, heap)?.is_some()),
        Value::Range(range) => match item.as_number() {
            None => Ok(false),
            Some(number) => {
                let whole = match number {
                    Number::Int(value) => value,
                    Number::Float(value) if value == value.trunc() && value.abs() < 1e18 => value as i128,
                    Number::Float(_) => return Ok(false),
                };
                let (low, high) = if range.step > 0 {
                    (range.start, range.stop)
                } else {
                    (range.stop.saturating_add(1), range.start.saturating_add(1))
                };
                let offset = whole.checked_sub(range.start);
                Ok((low..high).contains(&whole) && offset.is_some_and(|o| o % range.step == 0))
            }
        },
        _ => {
            let mut cursor: Cursor = container.iter().map_err(|_| {
                Fault::new(format!("argument of type `{}` is not iterable", container.type_name()))
            })?;
            while let Some(found) = cursor.next(heap)? {
                if equal(&found, item, heap)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
    }
}

impl Dict {
    /// The value of a key.
    pub(super) fn get(&self, key: &Value, heap: &Heap) -> Result<Option<&Value>, Fault> {
        hashable(key, heap)?;
        Ok(match place(&self.entries, key, heap)? {
            Some(at) => Some(&self.entries[at].1),
            None => None,
        })
    }
}

/// Sets a key of a dictionary that is being made.
pub(super) fn set(
    entries: &mut Vec<(Value, Value)>,
    key: Value,
    value: Value,
    heap: &Heap,
) -> Result<(), Fault> {
    hashable(&key, heap)?;
    match place(entries, &key, heap)? {
        Some(at) => {
            entries[at].1 = value;
            Ok(())
        }
        None => heap.push(entries, (key, value)),
    }
}

fn place(entries: &[(Value, Value)], key: &Value, heap: &Heap) -> Result<Option<usize>, Fault> {
    if let Some(text) = key.as_str() {
        return heap.position(text, entries.iter().map(|(known, _)| known.as_str()));
    }
    for (at, (known, _)) in entries.iter().enumerate() {
        if equal(known, key, heap)? {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

/// Checks that a value may be the key of a dictionary (or a member of a set).
pub(super) fn hashable(key: &Value, heap: &Heap) -> Result<(), Fault> {
    heap.step(1)?;
    match key {
        Value::List(_) | Value::Dict(_) | Value::View(..) => {
            Err(Fault::new(format!("a key cannot be of type `{}`", key.type_name())))
        }
        Value::Tuple(items) => items.values.iter().try_for_each(|item| hashable(item, heap)),
        _ => Ok(()),
    }
}
