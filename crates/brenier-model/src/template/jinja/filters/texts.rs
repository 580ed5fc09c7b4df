//! Filters of texts and numbers.

use super::super::calls::{Call, flag, integer, some, string};
use super::super::case;
use super::super::fault::Fault;
use super::super::heap::Heap;
use super::super::methods;
use super::super::numbers;
use super::super::print;
use super::super::printf;
use super::super::unicode;
use super::super::value::{Number, Text, Value};

pub(super) fn call(name: &str, value: Value, call: Call, heap: &Heap) -> Result<Value, Fault> {
    match name {
        "upper" | "lower" | "capitalize" => {
            call.positional::<0>(name)?;
            case::change(&soft(&value, heap)?, name, heap)
        }
        "title" => {
            call.positional::<0>(name)?;
            case::title_filter(&soft(&value, heap)?, heap)
        }
        "trim" => {
            let [chars] = call.bind(name, ["chars"])?;
            let text = soft(&value, heap)?;
            heap.read(text.len())?;
            methods::strip(&text, name, chars, heap)
        }
        "string" => {
            call.positional::<0>(name)?;
            match value {
                Value::Markup(_) => Ok(value),
                _ => Ok(Value::Str(print::text(&value, heap)?)),
            }
        }
        "safe" => {
            call.positional::<0>(name)?;
            Ok(Value::Markup(print::text(&value, heap)?))
        }
        "e" | "escape" | "forceescape" => {
            call.positional::<0>(name)?;
            if matches!(value, Value::Markup(_)) && name != "forceescape" {
                return Ok(value);
            }
            escape(&print::text(&value, heap)?, heap)
        }
        "replace" => {
            let [old, new, count] = call.bind(name, ["old", "new", "count"])?;
            let (Some(old), Some(new)) = (old, new) else {
                return Err(Fault::new("replace takes two texts"));
            };
            let count = integer(name, some(count))?.unwrap_or(-1);
            let text = print::text(&value, heap)?;
            methods::replace(&text, &print::text(&old, heap)?, &print::text(&new, heap)?, count, heap)
        }
        "center" => {
            let [width] = call.bind(name, ["width"])?;
            let width = usize::try_from(integer(name, width)?.unwrap_or(80)).unwrap_or(0);
            let text = soft(&value, heap)?;
            heap.read(text.len() * 2)?;
            methods::pad(&text, name, width, ' ', heap)
        }
        "indent" => indent(&value, call, heap),
        "truncate" => truncate(&value, call, heap),
        "wordcount" => {
            call.positional::<0>(name)?;
            let text = soft(&value, heap)?;
            heap.read(text.len() * 8)?;
            let (mut count, mut in_word) = (0, false);
            for c in text.chars() {
                let word = c == '_' || unicode::is_alnum(c)?;
                count += i128::from(word && !in_word);
                in_word = word;
            }
            Ok(Value::Int(count))
        }
        "format" => printf::filter(&soft(&value, heap)?, call, heap),
        "int" => int(&value, call, heap),
        "float" => {
            let [default] = call.bind(name, ["default"])?;
            let found = match &value {
                Value::Undefined(missing) => return Err(missing.fault()),
                Value::Str(text) | Value::Markup(text) => {
                    heap.read(text.len() * 8)?;
                    numbers::float(text)?
                }
                other => other.as_number().map(Number::float),
            };
            Ok(found.map_or(default.unwrap_or(Value::Float(0.0)), Value::Float))
        }
        _ => round(&value, call),
    }
}

/// The text of a value (`soft_str`), which is markup where the value is.
fn soft(value: &Value, heap: &Heap) -> Result<Text, Fault> {
    match value {
        Value::Markup(_) => Err(Fault::unsupported("changing markup")),
        _ => print::text(value, heap),
    }
}

fn escape(text: &str, heap: &Heap) -> Result<Value, Fault> {
    heap.read(text.len() * 4)?;
    let mut out = heap.writer();
    let mut plain = 0;
    for (at, sign) in text.match_indices(['&', '<', '>', '"', '\'']) {
        out.push(&text[plain..at])?;
        out.push(match sign {
            "&" => "&amp;",
            "<" => "&lt;",
            ">" => "&gt;",
            "\"" => "&#34;",
            _ => "&#39;",
        })?;
        plain = at + 1;
    }
    out.push(&text[plain..])?;
    match out.finish()? {
        Value::Str(text) => Ok(Value::Markup(text)),
        other => Ok(other),
    }
}

fn indent(value: &Value, call: Call, heap: &Heap) -> Result<Value, Fault> {
    let [width, first, blank] = call.bind("indent", ["width", "first", "blank"])?;
    let text = string("indent", Some(value.clone()))?;
    let (unit, times) = match &width {
        None => (Text::from(" "), 4),
        Some(Value::Str(unit)) => (unit.clone(), 1),
        Some(width) => match width.as_index() {
            Some(width) => (Text::from(" "), usize::try_from(width).unwrap_or(0)),
            None => return Err(Fault::new("indent takes an integer or a string")),
        },
    };
    heap.read(text.len() * 4)?;
    let blank = flag(blank, false);
    let mut out = heap.writer();
    if flag(first, false) {
        out.repeat(&unit, times)?;
    }
    // A text that ends a line keeps its end: jinja2 adds one more before it splits (which makes one of two
    // after a carriage return).
    let ended = text.is_empty() || text.ends_with(unicode::is_line_end) && !text.ends_with('\r');
    let lines = methods::lines_of(&text, false).chain(ended.then_some(""));
    for (i, line) in lines.enumerate() {
        if i > 0 {
            out.push("\n")?;
            if blank || !line.is_empty() {
                out.repeat(&unit, times)?;
            }
        }
        out.push(line)?;
    }
    out.finish()
}

fn truncate(value: &Value, call: Call, heap: &Heap) -> Result<Value, Fault> {
    let [length, killwords, end, leeway] = call.bind("truncate", ["length", "killwords", "end", "leeway"])?;
    let text = string("truncate", Some(value.clone()))?;
    let end = match end {
        None => Text::from("..."),
        end => string("truncate", end)?,
    };
    let length = integer("truncate", length)?.unwrap_or(255);
    let leeway = integer("truncate", some(leeway))?.unwrap_or(5);
    heap.read((text.len() + end.len()) * 2)?;
    let of_end = end.chars().count() as i128;
    if length < of_end || leeway < 0 {
        return Err(Fault::new(format!("truncate: expected a length of at least {of_end}, found {length}")));
    }
    if text.chars().count() as i128 <= length.saturating_add(leeway) {
        return Ok(Value::Str(text));
    }
    let kept = usize::try_from(length - of_end).unwrap_or(usize::MAX);
    let cut = text.char_indices().nth(kept).map_or(&*text, |(at, _)| &text[..at]);
    let cut =
        if flag(killwords, false) { cut } else { cut.rsplit_once(' ').map_or(cut, |(before, _)| before) };
    let mut out = heap.writer();
    out.push(cut)?;
    out.push(&end)?;
    out.finish()
}

fn int(value: &Value, call: Call, heap: &Heap) -> Result<Value, Fault> {
    let [default, base] = call.bind("int", ["default", "base"])?;
    let base = integer("int", base)?.unwrap_or(10);
    let found = match value {
        Value::Undefined(missing) => return Err(missing.fault()),
        Value::Str(text) | Value::Markup(text) => {
            heap.read(text.len() * 8)?;
            let base = u32::try_from(base).ok().filter(|base| *base == 0 || (2..=36).contains(base));
            let whole = match base {
                Some(base) => numbers::integer(text, base)?,
                None => None,
            };
            match whole {
                Some(whole) => Some(whole),
                None => match numbers::float(text)? {
                    Some(float) if float.is_finite() => Some(numbers::truncate(float)?),
                    _ => None,
                },
            }
        }
        other => match other.as_number() {
            Some(Number::Int(whole)) => Some(whole),
            Some(Number::Float(float)) if float.is_nan() => None,
            Some(Number::Float(float)) => Some(numbers::truncate(float)?),
            None => None,
        },
    };
    Ok(found.map_or(default.unwrap_or(Value::Int(0)), Value::Int))
}

fn round(value: &Value, call: Call) -> Result<Value, Fault> {
    let [precision, method] = call.bind("round", ["precision", "method"])?;
    if let (Some(Value::None), None) = (&precision, &method) {
        // Python's `round` of a number alone is an integer.
        return match value.as_number() {
            Some(Number::Float(float)) => Ok(Value::Int(numbers::truncate(numbers::round_float(float, 0)?)?)),
            Some(Number::Int(whole)) => Ok(Value::Int(whole)),
            None => Err(Fault::new("round takes a number")),
        };
    }
    let precision = integer("round", precision)?.unwrap_or(0);
    let method = match method {
        None => Text::from("common"),
        method => string("round", method)?,
    };
    let Some(number) = value.as_number() else {
        return Err(match value {
            Value::Undefined(missing) => missing.fault(),
            _ => Fault::new(format!("round takes a number, found `{}`", value.type_name())),
        });
    };
    match (&*method, number) {
        ("common", Number::Int(whole)) => Ok(Value::Int(numbers::round_integer(whole, precision)?)),
        ("common", Number::Float(float)) => Ok(Value::Float(numbers::round_float(float, precision)?)),
        ("ceil" | "floor", number) => {
            // Beyond this the power is no exact float.
            let Some(power) = i32::try_from(precision).ok().filter(|p| (0..=22).contains(p)) else {
                return Err(Fault::unsupported(format_args!("rounding to {precision} digits")));
            };
            let power = 10_f64.powi(power);
            let scaled = number.float() * power;
            let whole = if &*method == "ceil" { scaled.ceil() } else { scaled.floor() };
            if !whole.is_finite() || whole.abs() >= 9e15 {
                return Err(Fault::unsupported("rounding a number this large"));
            }
            // Python's `ceil` is an integer: there is no negative zero.
            Ok(Value::Float((whole + 0.0) / power))
        }
        _ => Err(Fault::new("round: the method must be common, ceil or floor")),
    }
}
