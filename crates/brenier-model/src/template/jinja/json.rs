//! `tojson` as transformers defines it: Python's `json.dumps`, nothing escaped for HTML.

use std::fmt::Write as _;

use super::calls::Call;
use super::compare;
use super::fault::Fault;
use super::heap::{Heap, Writer};
use super::print;
use super::sort;
use super::value::{Number, Text, Value};

/// `tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False)`.
pub(super) fn dumps(value: &Value, call: Call, heap: &Heap) -> Result<Value, Fault> {
    let [ensure_ascii, indent, separators, sort_keys] =
        call.bind("tojson", ["ensure_ascii", "indent", "separators", "sort_keys"])?;
    let indent = match &indent {
        None | Some(Value::None) => None,
        Some(Value::Str(text)) => Some((text.clone(), 1)),
        Some(other) => match other.as_index() {
            Some(width) => Some((Text::from(" "), usize::try_from(width).unwrap_or(0))),
            None => return Err(Fault::new("tojson: `indent` must be an integer or a string")),
        },
    };
    let (item, key) = match &separators {
        None | Some(Value::None) if indent.is_some() => (Text::from(","), Text::from(": ")),
        None | Some(Value::None) => (Text::from(", "), Text::from(": ")),
        Some(Value::List(pair) | Value::Tuple(pair)) => match pair.values.as_slice() {
            [Value::Str(item), Value::Str(key)] => (item.clone(), key.clone()),
            _ => return Err(Fault::new("tojson: `separators` must be a pair of strings")),
        },
        Some(_) => return Err(Fault::new("tojson: `separators` must be a pair of strings")),
    };
    let json = Json {
        ensure_ascii: ensure_ascii.is_some_and(|v| v.is_true()),
        sort_keys: sort_keys.is_some_and(|v| v.is_true()),
        indent,
        item,
        key,
    };
    let mut out = heap.writer();
    json.value(value, 0, &mut out)?;
    out.finish()
}

struct Json {
    ensure_ascii: bool,
    /// What a level is indented by: a text, so many times.
    indent: Option<(Text, usize)>,
    item: Text,
    key: Text,
    sort_keys: bool,
}

impl Json {
    fn value(&self, value: &Value, level: usize, out: &mut Writer<'_>) -> Result<(), Fault> {
        out.heap().step(1)?;
        match value {
            Value::None => out.push("null"),
            Value::Bool(true) => out.push("true"),
            Value::Bool(false) => out.push("false"),
            Value::Int(_) | Value::Float(_) => out.push(&number(value)),
            Value::Str(text) | Value::Markup(text) => self.string(text, out),
            Value::List(items) | Value::Tuple(items) => {
                self.block(["[", "]"], &items.values, level, out, |item, out| {
                    self.value(item, level + 1, out)
                })
            }
            Value::Dict(dict) if self.sort_keys => {
                let mut entries = Vec::new();
                for (key, value) in &dict.entries {
                    out.heap().push(&mut entries, (key.clone(), value.clone()))?;
                }
                let entries =
                    sort::by(entries, false, out.heap(), |(a, _), (b, _)| compare::order(a, b, out.heap()))?;
                self.object(&entries, level, out)
            }
            Value::Dict(dict) => self.object(&dict.entries, level, out),
            other => {
                let name = other.type_name();
                Err(Fault::new(format!("tojson: a value of type `{name}` cannot be written as JSON")))
            }
        }
    }

    fn object(&self, entries: &[(Value, Value)], level: usize, out: &mut Writer<'_>) -> Result<(), Fault> {
        self.block(["{", "}"], entries, level, out, |(key, value), out| {
            match key {
                Value::Str(text) | Value::Markup(text) => self.string(text, out)?,
                // The other scalars become strings: 1 -> "1", None -> "null".
                Value::None | Value::Bool(_) | Value::Int(_) | Value::Float(_) => {
                    out.push("\"")?;
                    self.value(key, level, out)?;
                    out.push("\"")?;
                }
                other => {
                    let name = other.type_name();
                    return Err(Fault::new(format!("tojson: a key cannot be of type `{name}`")));
                }
            }
            out.push(&self.key)?;
            self.value(value, level + 1, out)
        })
    }

    /// Items between brackets, each on its own line when indented.
    fn block<T>(
        &self,
        [open, close]: [&str; 2],
        items: &[T],
        level: usize,
        out: &mut Writer<'_>,
        mut write: impl FnMut(&T, &mut Writer<'_>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        out.push(open)?;
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                out.push(&self.item)?;
            }
            self.line(level + 1, out)?;
            write(item, out)?;
        }
        if !items.is_empty() {
            self.line(level, out)?;
        }
        out.push(close)
    }

    fn line(&self, level: usize, out: &mut Writer<'_>) -> Result<(), Fault> {
        if let Some((text, times)) = &self.indent {
            out.push("\n")?;
            out.repeat(text, times.saturating_mul(level))?;
        }
        Ok(())
    }

    fn string(&self, text: &str, out: &mut Writer<'_>) -> Result<(), Fault> {
        out.heap().read(text.len() * 4)?;
        out.push("\"")?;
        let mut escape = String::new();
        let mut plain = 0;
        for (at, c) in text.char_indices() {
            escape.clear();
            match c {
                '"' => escape.push_str("\\\""),
                '\\' => escape.push_str("\\\\"),
                '\n' => escape.push_str("\\n"),
                '\r' => escape.push_str("\\r"),
                '\t' => escape.push_str("\\t"),
                '\x08' => escape.push_str("\\b"),
                '\x0c' => escape.push_str("\\f"),
                c if c < ' ' || self.ensure_ascii && !(' '..='~').contains(&c) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        let _ = write!(escape, "\\u{unit:04x}");
                    }
                }
                _ => continue,
            }
            out.push(&text[plain..at])?;
            out.push(&escape)?;
            plain = at + c.len_utf8();
        }
        out.push(&text[plain..])?;
        out.push("\"")
    }
}

fn number(value: &Value) -> String {
    match value.as_number() {
        Some(Number::Float(value)) => match print::float(value).as_str() {
            "nan" => "NaN".to_owned(),
            "inf" => "Infinity".to_owned(),
            "-inf" => "-Infinity".to_owned(),
            finite => finite.to_owned(),
        },
        Some(Number::Int(value)) => value.to_string(),
        None => String::new(),
    }
}
