//! `str.format`.

use super::fault::Fault;
use super::heap::{Heap, Writer};
use super::print;
use super::printf::{Layout, leading_number};
use super::value::{Number, Text, Value};

/// `text.format(*args, **named)`.
pub(super) fn format(
    text: &str,
    args: &[Value],
    named: &[(Text, Value)],
    heap: &Heap,
) -> Result<Value, Fault> {
    let mut out = heap.writer();
    let mut rest = text;
    let mut automatic = 0;
    let mut manual = false;
    while let Some(at) = rest.find(['{', '}']) {
        heap.step(1)?;
        out.push(&rest[..at])?;
        let sign = &rest[at..=at];
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix(sign) {
            out.push(sign)?;
            rest = after;
            continue;
        }
        if sign == "}" {
            return Err(Fault::new("single `}` in a format string"));
        }
        let Some(end) = rest.find(['{', '}']) else {
            return Err(Fault::new("`{` in a format string is not closed"));
        };
        if rest[end..].starts_with('{') {
            return Err(Fault::unsupported("a format within a format"));
        }
        let field = &rest[..end];
        rest = &rest[end + 1..];
        let (field, layout) = field.split_once(':').unwrap_or((field, ""));
        let (name, conversion) = match field.split_once('!') {
            Some((name, conversion)) => (name, Some(conversion)),
            None => (field, None),
        };
        let value = if name.is_empty() {
            automatic += 1;
            args.get(automatic - 1)
        } else if name.contains(['.', '[']) {
            return Err(Fault::unsupported("an attribute in a format string"));
        } else if let Some((number, "")) = leading_number(name)? {
            manual = true;
            args.get(number)
        } else {
            let place = heap.position(name, named.iter().map(|(known, _)| Some(known)))?;
            place.map(|at| &named[at].1)
        };
        if manual && automatic > 0 {
            return Err(Fault::new("a format string cannot mix `{}` and `{0}`"));
        }
        let value = value.ok_or_else(|| Fault::new(format!("no argument for `{{{name}}}`")))?;
        match conversion {
            None => write(value, layout, &mut out)?,
            Some("s") => write(&Value::Str(print::text(value, heap)?), layout, &mut out)?,
            Some("r") => {
                let mut quoted = heap.writer();
                print::repr(value, 0, &mut quoted)?;
                write(&quoted.finish()?, layout, &mut out)?;
            }
            Some(other) => return Err(Fault::unsupported(format_args!("the conversion `!{other}`"))),
        }
    }
    out.push(rest)?;
    out.finish()
}

/// `format(value, layout)`.
fn write(value: &Value, layout: &str, out: &mut Writer<'_>) -> Result<(), Fault> {
    if layout.is_empty() {
        return print::write(value, out);
    }
    let (layout, letter) = read_layout(layout)?;
    let plain =
        layout.sign.is_none() && !layout.alternate && layout.group.is_none() && layout.align != Some('=');
    match (value, letter) {
        (Value::Str(text), None | Some('s')) if plain && !layout.zeros => layout.text(text, out),
        (Value::Int(number), None | Some('d' | 'x' | 'X' | 'o' | 'b')) if layout.precision.is_none() => {
            layout.integer(*number, letter.unwrap_or('d'), out)
        }
        (Value::Float(_) | Value::Int(_), Some('e' | 'E' | 'f' | 'F' | 'g' | 'G' | '%')) => {
            let number = match value.as_number() {
                Some(Number::Int(whole)) => super::operators::exact(whole)?,
                Some(Number::Float(float)) => float,
                None => 0.0,
            };
            layout.float(number, letter.unwrap_or('f'), out)
        }
        (Value::Str(_) | Value::Int(_) | Value::Float(_) | Value::Bool(_), _) => {
            Err(Fault::unsupported(format_args!("this format of `{}`", value.type_name())))
        }
        _ => Err(Fault::new(format!("`{}` takes no format", value.type_name()))),
    }
}

/// `[[fill]align][sign][#][0][width][,][.precision][type]`.
fn read_layout(text: &str) -> Result<(Layout, Option<char>), Fault> {
    let mut layout = Layout::default();
    let mut rest = text;
    let mut chars = text.chars();
    let (first, second) = (chars.next(), chars.next());
    let aligns = |c: Option<char>| matches!(c, Some('<' | '>' | '^' | '='));
    if aligns(second) {
        (layout.fill, layout.align) = (first, second);
        rest = chars.as_str();
    } else if aligns(first) {
        layout.align = first;
        rest = &rest[1..];
    }
    let mut skip = |signs: &[char]| -> Option<char> {
        let found = rest.chars().next().filter(|c| signs.contains(c))?;
        rest = &rest[found.len_utf8()..];
        Some(found)
    };
    layout.sign = skip(&['+', '-', ' ']);
    layout.alternate = skip(&['#']).is_some();
    layout.zeros = skip(&['0']).is_some();
    if let Some((width, after)) = leading_number(rest)? {
        layout.width = width;
        rest = after;
    }
    if let Some(after) = rest.strip_prefix([',', '_']) {
        layout.group = rest.chars().next();
        rest = after;
    }
    if let Some(after) = rest.strip_prefix('.') {
        let Some((precision, after)) = leading_number(after)? else {
            return Err(Fault::new("a format lacks its precision"));
        };
        layout.precision = Some(precision);
        rest = after;
    }
    let letter = rest.chars().next();
    if letter.is_some_and(|c| rest.len() > c.len_utf8()) {
        return Err(Fault::new(format!("invalid format `{text}`")));
    }
    if layout.zeros && layout.align.is_some() {
        return Err(Fault::unsupported("a format with both `0` and an alignment"));
    }
    if layout.group == Some('_') && !matches!(letter, None | Some('d' | 'f' | 'F')) {
        return Err(Fault::unsupported("`_` in this format"));
    }
    if layout.group.is_some() && matches!(letter, Some('x' | 'X' | 'o' | 'b')) {
        return Err(Fault::new("a separator does not go with this format"));
    }
    Ok((layout, letter))
}
