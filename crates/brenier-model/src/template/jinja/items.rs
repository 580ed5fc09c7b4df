//! Attributes, items and slices of values, as the sandbox of jinja2 gives them out.

use super::fault::Fault;
use super::heap::Heap;
use super::value::{Function, Missing, Text, Value};

const STR: [&str; 47] = [
    "capitalize",
    "casefold",
    "center",
    "count",
    "encode",
    "endswith",
    "expandtabs",
    "find",
    "format",
    "format_map",
    "index",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "isidentifier",
    "islower",
    "isnumeric",
    "isprintable",
    "isspace",
    "istitle",
    "isupper",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "maketrans",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rindex",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "swapcase",
    "title",
    "translate",
    "upper",
    "zfill",
];
const LIST: [&str; 3] = ["copy", "count", "index"];
const TUPLE: [&str; 2] = ["count", "index"];
const DICT: [&str; 6] = ["copy", "fromkeys", "get", "items", "keys", "values"];
const INT: [&str; 6] = ["as_integer_ratio", "bit_count", "bit_length", "conjugate", "from_bytes", "to_bytes"];
const FLOAT: [&str; 5] = ["as_integer_ratio", "conjugate", "fromhex", "hex", "is_integer"];
const CYCLER: [&str; 2] = ["next", "reset"];
const VIEW: [&str; 2] = ["isdisjoint", "mapping"];
const GENERATOR: [&str; 3] = ["close", "send", "throw"];
/// Methods that would change a value.
const LIST_CHANGES: [&str; 8] = ["append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort"];
const DICT_CHANGES: [&str; 5] = ["clear", "pop", "popitem", "setdefault", "update"];

/// `value.name`.
pub(super) fn attribute(value: &Value, name: &Text, heap: &Heap) -> Result<Value, Fault> {
    if let Some(found) = own_attribute(value, name, heap)? {
        return Ok(found);
    }
    if let Value::Dict(dict) = value
        && let Some(found) = dict.get(&Value::Str(name.clone()), heap)?
    {
        return Ok(found.clone());
    }
    Ok(Value::undefined(Missing::Attribute(value.type_name(), name.clone())))
}

/// `value[key]`.
pub(super) fn item(value: &Value, key: &Value, heap: &Heap) -> Result<Value, Fault> {
    match value {
        Value::Undefined(missing) => return Err(missing.fault()),
        Value::Dict(dict) => {
            // A key that cannot be one is not found.
            if !matches!(key, Value::List(_) | Value::Dict(_) | Value::View(..))
                && let Some(found) = dict.get(key, heap)?
            {
                return Ok(found.clone());
            }
        }
        Value::List(items) | Value::Tuple(items) => {
            if let Some(at) = position(key, items.values.len()) {
                return Ok(items.values[at].clone());
            }
        }
        Value::Range(range) => {
            if let Some(at) = position(key, range.len()) {
                return Ok(Value::Int(range.get(at)));
            }
        }
        Value::Str(text) if key.as_index().is_some() => {
            heap.read(text.len() * 2)?;
            if let Some(c) = position(key, text.chars().count()).and_then(|at| text.chars().nth(at)) {
                return heap.text(c.encode_utf8(&mut [0; 4]));
            }
        }
        Value::Markup(_) => return Err(Fault::unsupported("an item of markup")),
        _ => {}
    }
    let Value::Str(name) = key else {
        let shown = match key.as_index() {
            Some(index) => Text::from(index.to_string()),
            None => Text::from(key.type_name()),
        };
        return Ok(Value::undefined(Missing::Element(value.type_name(), shown)));
    };
    match own_attribute(value, name, heap)? {
        Some(found) => Ok(found),
        None => Ok(Value::undefined(Missing::Attribute(value.type_name(), name.clone()))),
    }
}

/// An attribute that is no item.
pub(super) fn own_attribute(value: &Value, name: &Text, heap: &Heap) -> Result<Option<Value>, Fault> {
    let method = |names: &[&'static str]| -> Option<Value> {
        names.iter().find(|known| **known == &**name).map(|known| Value::method(value, known))
    };
    let hidden = || Some(Value::undefined(Missing::Unsafe(value.type_name(), name.clone())));
    if let Value::Undefined(missing) = value {
        return Err(missing.fault());
    }
    if name.starts_with("__") && name.ends_with("__") {
        // Python's own attributes; a dictionary may have a key of that name.
        return match value {
            Value::Dict(dict) if dict.get(&Value::Str(name.clone()), heap)?.is_some() => {
                Err(Fault::unsupported(format_args!("the key `{name}`")))
            }
            _ => Ok(hidden()),
        };
    }
    let unsupported =
        || Err(Fault::unsupported(format_args!("attribute `{name}` of `{}`", value.type_name())));
    Ok(match value {
        Value::Str(_) => method(&STR),
        Value::Markup(_) => return unsupported(),
        Value::List(_) if LIST_CHANGES.contains(&&**name) => hidden(),
        Value::List(_) => method(&LIST),
        Value::Tuple(items) => match (&**name, items.values.as_slice()) {
            ("grouper", [key, _]) if items.group => Some(key.clone()),
            ("list", [_, list]) if items.group => Some(list.clone()),
            _ => method(&TUPLE),
        },
        Value::Dict(_) if DICT_CHANGES.contains(&&**name) => hidden(),
        Value::Dict(_) => method(&DICT),
        Value::Bool(_) | Value::Int(_) => match (&**name, value.as_index()) {
            ("real" | "numerator", Some(number)) => Some(Value::Int(number)),
            ("imag", _) => Some(Value::Int(0)),
            ("denominator", _) => Some(Value::Int(1)),
            _ => method(&INT),
        },
        Value::Float(number) => match &**name {
            "real" => Some(Value::Float(*number)),
            "imag" => Some(Value::Float(0.0)),
            _ => method(&FLOAT),
        },
        Value::Range(range) => match &**name {
            "start" => Some(Value::Int(range.start)),
            "stop" => Some(Value::Int(range.stop)),
            "step" => Some(Value::Int(range.step)),
            _ => method(&TUPLE),
        },
        Value::View(..) => method(&VIEW),
        Value::Generator(_) if name.starts_with("gi_") => return unsupported(),
        Value::Generator(_) => method(&GENERATOR),
        Value::Namespace(number) => heap.attribute(*number, name)?,
        Value::Cycler(cycler) => match &**name {
            "current" => cycler.items.get(cycler.at.get()).cloned(),
            "items" | "pos" => return unsupported(),
            _ => method(&CYCLER),
        },
        Value::Joiner(joiner) => match &**name {
            "sep" => Some(joiner.separator.clone()),
            "used" => Some(Value::Bool(joiner.used.get())),
            _ => None,
        },
        Value::Function(Function::Dict) if &**name == "fromkeys" => {
            Some(Value::Function(Function::DictFromKeys))
        }
        Value::Function(_) | Value::Macro(_) | Value::Loop(_) => return unsupported(),
        Value::None | Value::Method(_) | Value::Undefined(_) => None,
    })
}

/// The place that an index means among so many items; negative ones count from the end.
fn position(key: &Value, length: usize) -> Option<usize> {
    let index = key.as_index()?;
    let index = if index < 0 { index + length as i128 } else { index };
    usize::try_from(index).ok().filter(|index| *index < length)
}

/// `value[start:stop:step]`.
pub(super) fn slice(value: &Value, bounds: [Option<Value>; 3], heap: &Heap) -> Result<Value, Fault> {
    if let Value::Undefined(missing) = value {
        return Err(missing.fault());
    }
    let mut indices = [None; 3];
    for (index, bound) in indices.iter_mut().zip(&bounds) {
        *index = match bound {
            None | Some(Value::None) => None,
            Some(Value::Undefined(missing)) => return Err(missing.fault()),
            Some(bound) => match bound.as_index() {
                Some(bound) => Some(bound),
                None => {
                    return Err(Fault::new(format!("a slice takes integers, found `{}`", bound.type_name())));
                }
            },
        };
    }
    let [start, stop, step] = indices;
    if step == Some(0) {
        return Err(Fault::new("the step of a slice cannot be zero"));
    }
    match value {
        Value::Str(text) => {
            heap.read(text.len() * 2)?;
            let (first, count, step) = span(start, stop, step, text.chars().count());
            let mut out = heap.writer();
            if step == 1 {
                let from = text.char_indices().nth(first).map_or(text.len(), |(at, _)| at);
                let to = text[from..].char_indices().nth(count).map_or(text.len(), |(at, _)| from + at);
                out.push(&text[from..to])?;
            } else if count > 0 {
                heap.allocate(text.len() * 4)?;
                let chars: Vec<char> = text.chars().collect();
                out.extend(places(first, count, step).map(|at| chars[at]))?;
            }
            out.finish()
        }
        Value::List(items) | Value::Tuple(items) => {
            let (first, count, step) = span(start, stop, step, items.values.len());
            let mut sliced = Vec::new();
            for at in places(first, count, step) {
                heap.push(&mut sliced, items.values[at].clone())?;
            }
            if matches!(value, Value::List(_)) { heap.list(sliced) } else { heap.tuple(sliced) }
        }
        Value::Range(_) | Value::Markup(_) => {
            Err(Fault::unsupported(format_args!("a slice of `{}`", value.type_name())))
        }
        _ => Err(Fault::new(format!("`{}` object cannot be sliced", value.type_name()))),
    }
}

/// First place, count and step of a slice over so many items.
fn span(start: Option<i128>, stop: Option<i128>, step: Option<i128>, length: usize) -> (usize, usize, i128) {
    let step = step.unwrap_or(1);
    let length = length as i128;
    let (lowest, highest) = if step > 0 { (0, length) } else { (-1, length - 1) };
    let place = |index: Option<i128>, default: i128| match index {
        None => default,
        Some(index) if index < 0 => index.saturating_add(length).max(lowest),
        Some(index) => index.min(highest),
    };
    let (first, last) = if step > 0 {
        (place(start, lowest), place(stop, highest))
    } else {
        (place(start, highest), place(stop, lowest))
    };
    let distance = if step > 0 { last - first } else { first - last };
    let count = if distance > 0 { (distance - 1) / step.saturating_abs() + 1 } else { 0 };
    (usize::try_from(first).unwrap_or(0), usize::try_from(count).unwrap_or(0), step)
}

fn places(first: usize, count: usize, step: i128) -> impl Iterator<Item = usize> {
    (0..count as i128).map(move |i| (first as i128 + i * step) as usize)
}
