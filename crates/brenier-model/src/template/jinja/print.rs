//! Values written as Python writes them: `str` and `repr`.

use std::fmt::Write as _;

use super::fault::Fault;
use super::heap::{Heap, Writer};
use super::unicode;
use super::value::{Range, Text, Value, View};

/// `str(value)`.
pub(super) fn text(value: &Value, heap: &Heap) -> Result<Text, Fault> {
    if let Some(text) = value.as_str() {
        return Ok(text.clone());
    }
    let mut out = heap.writer();
    write(value, &mut out)?;
    match out.finish()? {
        Value::Str(text) => Ok(text),
        _ => Ok(Text::from("")),
    }
}

/// Writes `str(value)`.
pub(super) fn write(value: &Value, out: &mut Writer<'_>) -> Result<(), Fault> {
    match value {
        Value::Undefined(_) => Ok(()),
        Value::Str(text) | Value::Markup(text) => out.push(text),
        _ => repr(value, 0, out),
    }
}

/// Writes `repr(value)`.
pub(super) fn repr(value: &Value, level: u16, out: &mut Writer<'_>) -> Result<(), Fault> {
    let heap = out.heap();
    heap.step(1)?;
    heap.descend(level)?;
    match value {
        Value::Undefined(_) => out.push("Undefined"),
        Value::None => out.push("None"),
        Value::Bool(true) => out.push("True"),
        Value::Bool(false) => out.push("False"),
        Value::Int(value) => out.push(&value.to_string()),
        Value::Float(value) => out.push(&float(*value)),
        Value::Str(text) => quoted(text, out),
        Value::Markup(text) => {
            out.push("Markup(")?;
            quoted(text, out)?;
            out.push(")")
        }
        Value::List(items) => {
            out.push("[")?;
            sequence(&items.values, level, out)?;
            out.push("]")
        }
        Value::Tuple(items) => {
            out.push("(")?;
            sequence(&items.values, level, out)?;
            out.push(if items.values.len() == 1 { ",)" } else { ")" })
        }
        Value::Dict(dict) => pairs(&dict.entries, level, out),
        Value::Range(range) => {
            let Range { start, stop, step } = **range;
            match step {
                1 => out.push(&format!("range({start}, {stop})")),
                _ => out.push(&format!("range({start}, {stop}, {step})")),
            }
        }
        Value::View(view, dict) => {
            out.push(value.type_name())?;
            out.push("([")?;
            for (i, (key, item)) in dict.entries.iter().enumerate() {
                if i > 0 {
                    out.push(", ")?;
                }
                match view {
                    View::Keys => repr(key, level + 1, out)?,
                    View::Values => repr(item, level + 1, out)?,
                    View::Items => {
                        out.push("(")?;
                        repr(key, level + 1, out)?;
                        out.push(", ")?;
                        repr(item, level + 1, out)?;
                        out.push(")")?;
                    }
                }
            }
            out.push("])")
        }
        Value::Namespace(number) => {
            out.push("<Namespace {")?;
            let mut place = 0;
            while let Some((name, item)) = heap.attribute_at(*number, place) {
                if place > 0 {
                    out.push(", ")?;
                }
                quoted(&name, out)?;
                out.push(": ")?;
                repr(&item, level + 1, out)?;
                place += 1;
            }
            out.push("}>")
        }
        Value::Generator(_)
        | Value::Cycler(_)
        | Value::Joiner(_)
        | Value::Loop(_)
        | Value::Macro(_)
        | Value::Function(_)
        | Value::Method(_) => {
            Err(Fault::unsupported(format_args!("printing a value of type `{}`", value.type_name())))
        }
    }
}

fn sequence(items: &[Value], level: u16, out: &mut Writer<'_>) -> Result<(), Fault> {
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push(", ")?;
        }
        repr(item, level + 1, out)?;
    }
    Ok(())
}

fn pairs(entries: &[(Value, Value)], level: u16, out: &mut Writer<'_>) -> Result<(), Fault> {
    out.push("{")?;
    for (i, (key, value)) in entries.iter().enumerate() {
        if i > 0 {
            out.push(", ")?;
        }
        repr(key, level + 1, out)?;
        out.push(": ")?;
        repr(value, level + 1, out)?;
    }
    out.push("}")
}

/// `repr` of a float: the fewest digits that name it, and of several such numbers the nearest.
pub(super) fn float(number: f64) -> String {
    if !number.is_finite() {
        return if number.is_nan() { "nan".to_owned() } else { number.to_string() };
    }
    let fewest = format!("{number:e}");
    let count = fewest.bytes().take_while(|b| *b != b'e').filter(u8::is_ascii_digit).count();
    // With so many digits once more, for where two numbers are as near this rounds to the even digit.
    let nearest = format!("{number:.*e}", count - 1);
    let (digits, exponent) = nearest.split_once('e').unwrap_or((&nearest, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        // The digits after the point, of which there is at least one.
        let places = usize::try_from(count as i32 - 1 - exponent).unwrap_or(0).max(1);
        return format!("{number:.places$}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// `repr` of a string.
pub(super) fn quoted(text: &str, out: &mut Writer<'_>) -> Result<(), Fault> {
    out.heap().read(text.len() * 16)?;
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push_char(quote)?;
    let mut escape = String::new();
    for c in text.chars() {
        match c {
            '\\' => out.push("\\\\")?,
            '\n' => out.push("\\n")?,
            '\r' => out.push("\\r")?,
            '\t' => out.push("\\t")?,
            c if c == quote => {
                out.push("\\")?;
                out.push_char(c)?;
            }
            c if unicode::is_printable(c) => out.push_char(c)?,
            c => {
                escape.clear();
                let _ = match u32::from(c) {
                    code @ 0..=0xff => write!(escape, "\\x{code:02x}"),
                    code @ 0x100..=0xffff => write!(escape, "\\u{code:04x}"),
                    code => write!(escape, "\\U{code:08x}"),
                };
                out.push(&escape)?;
            }
        }
    }
    out.push_char(quote)
}
