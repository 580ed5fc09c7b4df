//! Methods of strings, lists and dictionaries.

use super::calls::{Call, flag, integer, required, some, string};
use super::case;
use super::compare;
use super::fault::Fault;
use super::heap::{Heap, Writer};
use super::interpolate;
use super::unicode::{self, is_space};
use super::value::{Text, Value, View};

/// Calls a method of a value.
pub(super) fn call(receiver: &Value, name: &'static str, call: Call, heap: &Heap) -> Result<Value, Fault> {
    match receiver {
        Value::Str(text) => text_method(text, name, call, heap),
        Value::List(items) | Value::Tuple(items) => match name {
            "index" | "count" => {
                let [item] = call.positional(name)?;
                let item = required(name, "value", item)?;
                let mut count = 0;
                for (at, candidate) in items.values.iter().enumerate() {
                    if compare::equal(candidate, &item, heap)? {
                        if name == "index" {
                            return Ok(Value::Int(at as i128));
                        }
                        count += 1;
                    }
                }
                if name == "index" {
                    Err(Fault::new("the value is not in the list"))
                } else {
                    Ok(Value::Int(count))
                }
            }
            "copy" => call.positional::<0>(name).map(|_| receiver.clone()),
            _ => unsupported(receiver, name),
        },
        Value::Dict(dict) => match name {
            "get" => {
                let [key, default] = call.positional(name)?;
                let found = dict.get(&required(name, "key", key)?, heap)?;
                Ok(found.cloned().or(default).unwrap_or(Value::None))
            }
            "keys" | "values" | "items" => {
                call.positional::<0>(name)?;
                Ok(Value::View(
                    match name {
                        "keys" => View::Keys,
                        "values" => View::Values,
                        _ => View::Items,
                    },
                    dict.clone(),
                ))
            }
            "copy" => call.positional::<0>(name).map(|_| receiver.clone()),
            _ => unsupported(receiver, name),
        },
        Value::Cycler(cycler) => {
            call.positional::<0>(name)?;
            let at = cycler.at.get();
            if name == "reset" {
                cycler.at.set(0);
                return Ok(Value::None);
            }
            cycler.at.set((at + 1) % cycler.items.len());
            Ok(cycler.items[at].clone())
        }
        Value::Float(number) if name == "is_integer" => {
            call.positional::<0>(name)?;
            Ok(Value::Bool(number.is_finite() && number.fract() == 0.0))
        }
        _ => unsupported(receiver, name),
    }
}

fn unsupported(receiver: &Value, name: &str) -> Result<Value, Fault> {
    Err(Fault::unsupported(format_args!("the method `{name}` of `{}`", receiver.type_name())))
}

fn text_method(text: &Text, name: &'static str, call: Call, heap: &Heap) -> Result<Value, Fault> {
    heap.read(text.len() * 4)?;
    for argument in &call.args {
        heap.read(argument.as_str().map_or(0, |text| text.len() * 4))?;
    }
    match name {
        "upper" | "lower" | "title" | "capitalize" | "swapcase" | "casefold" => {
            call.positional::<0>(name)?;
            case::change(text, name, heap)
        }
        "isalpha" | "isdigit" | "isdecimal" | "isnumeric" | "isalnum" | "isspace" | "islower" | "isupper"
        | "istitle" | "isascii" => {
            call.positional::<0>(name)?;
            Ok(Value::Bool(case::is(text, name, heap)?))
        }
        "strip" | "lstrip" | "rstrip" => {
            let [chars] = call.positional(name)?;
            strip(text, name, chars, heap)
        }
        "split" | "rsplit" => split(text, name, call, heap),
        "splitlines" => {
            let [keep] = call.bind(name, ["keepends"])?;
            let mut lines = Vec::new();
            for line in lines_of(text, flag(keep, false)) {
                heap.push(&mut lines, heap.text(line)?)?;
            }
            heap.list(lines)
        }
        "join" => {
            let [items] = call.positional(name)?;
            let mut cursor = required(name, "iterable", items)?.iter()?;
            let mut out = heap.writer();
            let mut first = true;
            while let Some(item) = cursor.next(heap)? {
                let Value::Str(item) = &item else {
                    return Err(Fault::new(format!("join takes strings, found `{}`", item.type_name())));
                };
                if !first {
                    out.push(text)?;
                }
                first = false;
                out.push(item)?;
            }
            out.finish()
        }
        "replace" => {
            let [old, new, count] = call.positional(name)?;
            let (old, new) = (string(name, old)?, string(name, new)?);
            replace(text, &old, &new, integer(name, count)?.unwrap_or(-1), heap)
        }
        "startswith" | "endswith" => {
            let [affix, start, end] = call.positional(name)?;
            let Some(within) = within(text, start, end)? else { return Ok(Value::Bool(false)) };
            let matches = |affix: &str| match name {
                "startswith" => within.1.starts_with(affix),
                _ => within.1.ends_with(affix),
            };
            match required(name, "prefix", affix)? {
                Value::Tuple(affixes) => {
                    for affix in &affixes.values {
                        heap.step(1)?;
                        if matches(&string(name, Some(affix.clone()))?) {
                            return Ok(Value::Bool(true));
                        }
                    }
                    Ok(Value::Bool(false))
                }
                affix => Ok(Value::Bool(matches(&string(name, Some(affix))?))),
            }
        }
        "find" | "rfind" | "index" | "rindex" | "count" => {
            let [part, start, end] = call.positional(name)?;
            let part = string(name, part)?;
            search(text, name, &part, within(text, start, end)?)
        }
        "partition" | "rpartition" => {
            let [separator] = call.positional(name)?;
            let separator = string(name, separator)?;
            if separator.is_empty() {
                return Err(Fault::new("empty separator"));
            }
            let parts = match name {
                "partition" => match text.split_once(&*separator) {
                    Some((before, after)) => [before, &separator, after],
                    None => [text, "", ""],
                },
                _ => match text.rsplit_once(&*separator) {
                    Some((before, after)) => [before, &separator, after],
                    None => ["", "", text],
                },
            };
            let mut items = Vec::new();
            for part in parts {
                heap.push(&mut items, heap.text(part)?)?;
            }
            heap.tuple(items)
        }
        "removeprefix" | "removesuffix" => {
            let [affix] = call.positional(name)?;
            let affix = string(name, affix)?;
            let rest = match name {
                "removeprefix" => text.strip_prefix(&*affix),
                _ => text.strip_suffix(&*affix),
            };
            heap.text(rest.unwrap_or(text))
        }
        "center" | "ljust" | "rjust" | "zfill" => {
            let [width, fill] = call.positional(name)?;
            let width = integer(name, Some(required(name, "width", width)?))?.unwrap_or(0);
            let width = usize::try_from(width).unwrap_or(0);
            let fill = match fill {
                None => ' ',
                Some(fill) => {
                    let fill = string(name, Some(fill))?;
                    match (fill.chars().next(), fill.chars().count()) {
                        (Some(c), 1) if name != "zfill" => c,
                        _ => return Err(Fault::new(format!("{name} fills with exactly one character"))),
                    }
                }
            };
            pad(text, name, width, fill, heap)
        }
        "format" => interpolate::format(text, &call.args, &call.kwargs, heap),
        "format_map" => match call.args.as_slice() {
            [Value::Dict(dict)] if call.kwargs.is_empty() => {
                let mut named = Vec::new();
                for (key, value) in &dict.entries {
                    if let Value::Str(key) = key {
                        heap.push(&mut named, (key.clone(), value.clone()))?;
                    }
                }
                interpolate::format(text, &[], &named, heap)
            }
            _ => Err(Fault::new("format_map takes one dictionary")),
        },
        _ => Err(Fault::unsupported(format_args!("the method `{name}` of `str`"))),
    }
}

/// `strip`, `lstrip` and `rstrip`: of white space, or of any of the characters.
pub(super) fn strip(text: &Text, name: &str, chars: Option<Value>, heap: &Heap) -> Result<Value, Fault> {
    let chars = some(chars).map(|chars| string(name, Some(chars))).transpose()?;
    if let Some(chars) = &chars {
        heap.step(text.len().saturating_mul(chars.len()) / 128)?;
    }
    let strips = |c: char| match &chars {
        Some(chars) => chars.contains(c),
        None => is_space(c),
    };
    let stripped = match name {
        "lstrip" => text.trim_start_matches(strips),
        "rstrip" => text.trim_end_matches(strips),
        _ => text.trim_matches(strips),
    };
    if stripped.len() == text.len() { Ok(Value::Str(text.clone())) } else { heap.text(stripped) }
}

/// `text.replace(old, new, count)`; a negative count means all.
pub(super) fn replace(text: &str, old: &str, new: &str, count: i128, heap: &Heap) -> Result<Value, Fault> {
    heap.read((text.len() + old.len()) * 4)?;
    let mut out = heap.writer();
    let mut end = 0;
    let most = usize::try_from(count).unwrap_or(if count < 0 { usize::MAX } else { 0 });
    for (at, _) in text.match_indices(old).take(most) {
        out.push(&text[end..at])?;
        out.push(new)?;
        end = at + old.len();
    }
    out.push(&text[end..])?;
    out.finish()
}

/// Lines of a text as `str.splitlines` finds them.
pub(super) fn lines_of(text: &str, keep_ends: bool) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = rest.find(unicode::is_line_end).unwrap_or(rest.len());
        let mark = match rest[end..].chars().next() {
            Some('\r') if rest[end..].starts_with("\r\n") => 2,
            Some(c) => c.len_utf8(),
            None => 0,
        };
        let line = &rest[..if keep_ends { end + mark } else { end }];
        rest = &rest[end + mark..];
        Some(line)
    })
}

fn split(text: &Text, name: &'static str, call: Call, heap: &Heap) -> Result<Value, Fault> {
    let [separator, most] = call.bind(name, ["sep", "maxsplit"])?;
    let most = usize::try_from(integer(name, most)?.unwrap_or(-1)).unwrap_or(usize::MAX);
    let mut parts = Vec::new();
    let mut push = |part: &str| heap.text(part).and_then(|part| heap.push(&mut parts, part));
    match separator {
        None | Some(Value::None) => {
            let mut rest = text.trim_matches(is_space);
            if name == "split" {
                rest = text.trim_start_matches(is_space);
                for _ in 0..most {
                    let Some(end) = rest.find(is_space) else { break };
                    push(&rest[..end])?;
                    rest = rest[end..].trim_start_matches(is_space);
                }
            } else if most != usize::MAX {
                rest = text.trim_end_matches(is_space);
                for _ in 0..most {
                    let Some(start) = rest.rfind(is_space) else { break };
                    let start = start + rest[start..].chars().next().map_or(0, char::len_utf8);
                    push(&rest[start..])?;
                    rest = rest[..start].trim_end_matches(is_space);
                }
            } else {
                for part in rest.split(is_space).filter(|part| !part.is_empty()) {
                    push(part)?;
                }
                return heap.list(parts);
            }
            if !rest.is_empty() {
                push(rest)?;
            }
        }
        separator => {
            let separator = string(name, separator)?;
            if separator.is_empty() {
                return Err(Fault::new("empty separator"));
            }
            let most = most.saturating_add(1);
            if name == "split" {
                text.splitn(most, &*separator).try_for_each(&mut push)?;
            } else {
                text.rsplitn(most, &*separator).try_for_each(&mut push)?;
            }
        }
    }
    if name == "rsplit" {
        parts.reverse();
    }
    heap.list(parts)
}

/// The part of a text between two places, with the place where it begins; `None` where they exclude even the
/// empty text.
fn within(text: &str, start: Option<Value>, end: Option<Value>) -> Result<Option<(usize, &str)>, Fault> {
    let (start, end) = (integer("start", some(start))?, integer("end", some(end))?);
    if start.is_none() && end.is_none() {
        return Ok(Some((0, text)));
    }
    let length = text.chars().count() as i128;
    let place = |index: i128| if index < 0 { index.saturating_add(length).max(0) } else { index };
    let start = place(start.unwrap_or(0));
    let end = place(end.unwrap_or(length)).min(length);
    if start > end {
        return Ok(None);
    }
    let byte = |at: i128| {
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        text.char_indices().nth(at).map_or(text.len(), |(byte, _)| byte)
    };
    Ok(Some((byte(start), &text[byte(start)..byte(end)])))
}

fn search(text: &str, name: &str, part: &str, within: Option<(usize, &str)>) -> Result<Value, Fault> {
    if name == "count" {
        return Ok(Value::Int(within.map_or(0, |(_, within)| within.matches(part).count() as i128)));
    }
    let found = within.and_then(|(start, within)| {
        let found = if name.starts_with('r') { within.rfind(part) } else { within.find(part) };
        found.map(|at| start + at)
    });
    match found {
        Some(at) => Ok(Value::Int(text[..at].chars().count() as i128)),
        None if name.ends_with("index") => Err(Fault::new("substring not found")),
        None => Ok(Value::Int(-1)),
    }
}

/// A text filled up to a width.
pub(super) fn pad(text: &str, name: &str, width: usize, fill: char, heap: &Heap) -> Result<Value, Fault> {
    let missing = width.saturating_sub(text.chars().count());
    let mut buffer = [0; 4];
    let fill: &str = fill.encode_utf8(&mut buffer);
    let mut out: Writer<'_> = heap.writer();
    match name {
        "ljust" => {
            out.push(text)?;
            out.repeat(fill, missing)?;
        }
        "rjust" => {
            out.repeat(fill, missing)?;
            out.push(text)?;
        }
        "zfill" => {
            let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
            out.push(&text[..text.len() - digits.len()])?;
            out.repeat("0", missing)?;
            out.push(digits)?;
        }
        _ => {
            let left = missing / 2 + (missing & width & 1);
            out.repeat(fill, left)?;
            out.push(text)?;
            out.repeat(fill, missing - left)?;
        }
    }
    out.finish()
}
