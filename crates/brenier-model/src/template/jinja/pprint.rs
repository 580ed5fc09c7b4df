//! `pprint`: Python's `pformat`, values over several lines where one of 80 characters is too short.

use super::compare;
use super::fault::Fault;
use super::heap::{Heap, Writer};
use super::print;
use super::sort;
use super::unicode;
use super::value::Value;

const WIDTH: usize = 80;

/// `pformat(value)`.
pub(super) fn pformat(value: &Value, heap: &Heap) -> Result<Value, Fault> {
    let mut out = heap.writer();
    format(value, 0, 0, 1, &mut out)?;
    out.finish()
}

/// Writes a value whose first character stands in column `indent`, with `allowance` characters to follow.
fn format(
    value: &Value,
    indent: usize,
    allowance: usize,
    level: u16,
    out: &mut Writer<'_>,
) -> Result<(), Fault> {
    let heap = out.heap();
    let mut line = heap.writer();
    one_line(value, level, &mut line)?;
    heap.read(line.as_str().len())?;
    let room = WIDTH.saturating_sub(indent + allowance);
    if line.as_str().chars().count() <= room {
        return out.push(line.as_str());
    }
    match value {
        Value::Dict(dict) if !dict.entries.is_empty() => {
            out.push("{")?;
            let entries = sorted(&dict.entries, heap)?;
            for (i, (key, item)) in entries.iter().enumerate() {
                let last = i + 1 == entries.len();
                let mut name = heap.writer();
                one_line(key, level + 1, &mut name)?;
                out.push(name.as_str())?;
                out.push(": ")?;
                let column = indent + 1 + name.as_str().chars().count() + 2;
                format(item, column, if last { allowance + 1 } else { 1 }, level + 1, out)?;
                if !last {
                    next_line(indent + 1, out)?;
                }
            }
            out.push("}")
        }
        Value::List(items) if !items.values.is_empty() => {
            out.push("[")?;
            sequence(&items.values, indent + 1, allowance + 1, level, out)?;
            out.push("]")
        }
        Value::Tuple(items) if !items.values.is_empty() && !items.group => {
            let end = if items.values.len() == 1 { ",)" } else { ")" };
            out.push("(")?;
            sequence(&items.values, indent + 1, allowance + end.len(), level, out)?;
            out.push(end)
        }
        Value::Str(text) if !text.is_empty() => string(text, indent, allowance, level, out),
        _ => out.push(line.as_str()),
    }
}

fn sequence(
    items: &[Value],
    indent: usize,
    allowance: usize,
    level: u16,
    out: &mut Writer<'_>,
) -> Result<(), Fault> {
    for (i, item) in items.iter().enumerate() {
        let last = i + 1 == items.len();
        format(item, indent, if last { allowance } else { 1 }, level + 1, out)?;
        if !last {
            next_line(indent, out)?;
        }
    }
    Ok(())
}

fn next_line(indent: usize, out: &mut Writer<'_>) -> Result<(), Fault> {
    out.push(",\n")?;
    out.repeat(" ", indent)
}

/// A long string: its lines, and the words of lines that are too long, as literals below one another.
fn string(
    text: &str,
    indent: usize,
    allowance: usize,
    level: u16,
    out: &mut Writer<'_>,
) -> Result<(), Fault> {
    let heap = out.heap();
    // At the top level the literals stand in brackets.
    let (indent, allowance, bracket) =
        if level == 1 { (indent + 1, allowance + 1, true) } else { (indent, allowance, false) };
    let room = WIDTH.saturating_sub(indent);
    let quoted = |part: &str| -> Result<Writer<'_>, Fault> {
        let mut quoted = heap.writer();
        print::quoted(part, &mut quoted)?;
        Ok(quoted)
    };
    let width = |writer: &Writer<'_>| writer.as_str().chars().count();
    let mut parts: Vec<String> = Vec::new();
    let lines: Vec<&str> = text.split_inclusive(unicode::is_line_end).collect();
    if text.contains("\r\n") {
        return Err(Fault::unsupported("pprint of a long string with carriage returns"));
    }
    for (i, line) in lines.iter().enumerate() {
        let last_line = i + 1 == lines.len();
        let room = if last_line { room.saturating_sub(allowance) } else { room };
        let whole = quoted(line)?;
        if width(&whole) <= room {
            heap.push(&mut parts, whole.into_string())?;
            continue;
        }
        // `\S*\s*`, repeatedly.
        let words = words(line);
        let mut current = String::new();
        for (j, word) in words.iter().enumerate() {
            let room = if last_line && j + 1 == words.len() {
                room
            } else {
                room + if last_line { allowance } else { 0 }
            };
            let candidate = format!("{current}{word}");
            if width(&quoted(&candidate)?) > room && !current.is_empty() {
                heap.push(&mut parts, quoted(&current)?.into_string())?;
                current = (*word).to_owned();
            } else {
                current = candidate;
            }
        }
        if !current.is_empty() {
            heap.push(&mut parts, quoted(&current)?.into_string())?;
        }
    }
    if let [only] = parts.as_slice() {
        return out.push(only);
    }
    if bracket {
        out.push("(")?;
    }
    for (i, part) in parts.iter().enumerate() {
        if i > 0 {
            out.push("\n")?;
            out.repeat(" ", indent)?;
        }
        out.push(part)?;
    }
    if bracket {
        out.push(")")?;
    }
    Ok(())
}

/// The words of a line, each with the white space after it.
fn words(line: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut start = 0;
    let mut spaces = false;
    for (at, c) in line.char_indices() {
        let space = unicode::is_space(c);
        if spaces && !space {
            words.push(&line[start..at]);
            start = at;
        }
        spaces = space;
    }
    if start < line.len() {
        words.push(&line[start..]);
    }
    words
}

/// `repr` with the keys of dictionaries sorted.
fn one_line(value: &Value, level: u16, out: &mut Writer<'_>) -> Result<(), Fault> {
    out.heap().step(1)?;
    out.heap().descend(level)?;
    match value {
        Value::Dict(dict) => {
            out.push("{")?;
            for (i, (key, item)) in sorted(&dict.entries, out.heap())?.iter().enumerate() {
                if i > 0 {
                    out.push(", ")?;
                }
                one_line(key, level + 1, out)?;
                out.push(": ")?;
                one_line(item, level + 1, out)?;
            }
            out.push("}")
        }
        Value::List(items) => {
            out.push("[")?;
            items_of(&items.values, level, out)?;
            out.push("]")
        }
        Value::Tuple(items) if !items.group => {
            out.push("(")?;
            items_of(&items.values, level, out)?;
            out.push(if items.values.len() == 1 { ",)" } else { ")" })
        }
        _ => print::repr(value, level, out),
    }
}

fn items_of(items: &[Value], level: u16, out: &mut Writer<'_>) -> Result<(), Fault> {
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push(", ")?;
        }
        one_line(item, level + 1, out)?;
    }
    Ok(())
}

/// The entries by their keys; keys of several types have no order that would last.
fn sorted(entries: &[(Value, Value)], heap: &Heap) -> Result<Vec<(Value, Value)>, Fault> {
    let mut sorted = Vec::new();
    for entry in entries {
        heap.push(&mut sorted, entry.clone())?;
    }
    sort::by(sorted, false, heap, |(a, _), (b, _)| compare::order(a, b, heap))
}
