//! Filters of lists, dictionaries and whatever can be gone through.

use std::cmp::Ordering;

use super::super::calls::{Call, flag, integer, required, some, string};
use super::super::compare;
use super::super::fault::Fault;
use super::super::heap::Heap;
use super::super::items;
use super::super::operators;
use super::super::predicates;
use super::super::print;
use super::super::sort;
use super::super::syntax::Operator;
use super::super::value::{Missing, Number, Text, Value, View};
use super::keys::{Keys, Path};

pub(super) fn call(name: &str, value: Value, call: Call, heap: &Heap) -> Result<Value, Fault> {
    match name {
        "length" | "count" => {
            call.positional::<0>(name)?;
            Ok(Value::Int(value.len(heap)? as i128))
        }
        "list" => {
            call.positional::<0>(name)?;
            heap.list(value.collect(heap)?)
        }
        "first" => {
            call.positional::<0>(name)?;
            let first = value.iter()?.next(heap)?;
            Ok(first
                .unwrap_or_else(|| Value::undefined(Missing::Other("no first item, the sequence was empty"))))
        }
        "last" => {
            call.positional::<0>(name)?;
            let mut items = reversible(&value, heap)?
                .ok_or_else(|| Fault::new(format!("`{}` object has no last item", value.type_name())))?;
            Ok(items
                .pop()
                .unwrap_or_else(|| Value::undefined(Missing::Other("no last item, the sequence was empty"))))
        }
        "reverse" => {
            call.positional::<0>(name)?;
            reverse(&value, heap)
        }
        "default" | "d" => {
            let [default, boolean] = call.bind(name, ["default_value", "boolean"])?;
            let missing = matches!(value, Value::Undefined(_)) || flag(boolean, false) && !value.is_true();
            if !missing {
                return Ok(value);
            }
            default.map_or_else(|| heap.text(""), Ok)
        }
        "join" => join(&value, call, heap),
        "items" => {
            call.positional::<0>(name)?;
            match &value {
                Value::Undefined(_) => Value::generator(heap, Vec::new()),
                Value::Dict(dict) => {
                    Value::generator(heap, Value::View(View::Items, dict.clone()).collect(heap)?)
                }
                _ => Err(Fault::new("items takes a mapping")),
            }
        }
        "attr" => {
            let [attribute] = call.bind(name, ["name"])?;
            let attribute = string(name, attribute)?;
            let found = items::own_attribute(&value, &attribute, heap)?;
            Ok(found.unwrap_or_else(|| Value::undefined(Missing::Attribute(value.type_name(), attribute))))
        }
        "map" => map(&value, call, heap),
        "select" | "reject" | "selectattr" | "rejectattr" => select(name, &value, call, heap),
        "sort" => {
            let [reverse, case, attribute] = call.bind(name, ["reverse", "case_sensitive", "attribute"])?;
            let keys = Keys::new(attribute.as_ref(), !flag(case, false), true, heap)?;
            heap.list(sorted(&value, &keys, integer(name, reverse)?.unwrap_or(0) != 0, heap)?)
        }
        "dictsort" => dictsort(&value, call, heap),
        "groupby" => groupby(&value, call, heap),
        "unique" => {
            let [case, attribute] = call.bind(name, ["case_sensitive", "attribute"])?;
            let keys = Keys::new(attribute.as_ref(), !flag(case, false), false, heap)?;
            let mut seen: Vec<(Value, Value)> = Vec::new();
            let mut unique = Vec::new();
            for item in value.collect(heap)? {
                let before = seen.len();
                compare::set(&mut seen, keys.first(&item, heap)?, Value::None, heap)?;
                if seen.len() > before {
                    heap.push(&mut unique, item)?;
                }
            }
            Value::generator(heap, unique)
        }
        "min" | "max" => {
            let [case, attribute] = call.bind(name, ["case_sensitive", "attribute"])?;
            let keys = Keys::new(attribute.as_ref(), !flag(case, false), false, heap)?;
            let mut best: Option<(Value, Value)> = None;
            for item in value.collect(heap)? {
                let key = keys.first(&item, heap)?;
                let better = match &best {
                    None => true,
                    Some((found, _)) => {
                        let wanted = if name == "min" { Ordering::Less } else { Ordering::Greater };
                        compare::order(&key, found, heap)? == Some(wanted)
                    }
                };
                if better {
                    best = Some((key, item));
                }
            }
            let empty = Missing::Other("no aggregated item, the sequence was empty");
            Ok(best.map_or_else(|| Value::undefined(empty), |(_, item)| item))
        }
        "sum" => sum(&value, call, heap),
        "batch" | "slice" => cut(name, &value, call, heap),
        _ => {
            call.positional::<0>(name)?;
            match value.as_number() {
                Some(Number::Float(float)) => Ok(Value::Float(float.abs())),
                Some(Number::Int(whole)) if whole < 0 => operators::signed(true, &value),
                Some(Number::Int(whole)) => Ok(Value::Int(whole)),
                None => Err(match value {
                    Value::Undefined(missing) => missing.fault(),
                    _ => Fault::new(format!("abs takes a number, found `{}`", value.type_name())),
                }),
            }
        }
    }
}

/// The items of what Python's `reversed` takes.
fn reversible(value: &Value, heap: &Heap) -> Result<Option<Vec<Value>>, Fault> {
    match value {
        Value::Undefined(_)
        | Value::Str(_)
        | Value::List(_)
        | Value::Tuple(_)
        | Value::Dict(_)
        | Value::View(..)
        | Value::Range(_) => value.collect(heap).map(Some),
        _ => Ok(None),
    }
}

fn reverse(value: &Value, heap: &Heap) -> Result<Value, Fault> {
    if let Value::Str(text) = value {
        heap.read(text.len() * 8)?;
        let mut out = heap.writer();
        out.extend(text.chars().rev())?;
        return out.finish();
    }
    match reversible(value, heap)? {
        Some(mut items) => {
            items.reverse();
            Value::generator(heap, items)
        }
        None => {
            let mut items = value.collect(heap)?;
            items.reverse();
            heap.list(items)
        }
    }
}

fn join(value: &Value, call: Call, heap: &Heap) -> Result<Value, Fault> {
    let [separator, attribute] = call.bind("join", ["d", "attribute"])?;
    let separator = match separator {
        None => Text::from(""),
        Some(separator) => print::text(&separator, heap)?,
    };
    let path = some(attribute).map(|attribute| Path::new(&attribute, heap)).transpose()?;
    let mut out = heap.writer();
    let mut cursor = value.iter()?;
    let mut first = true;
    while let Some(item) = cursor.next(heap)? {
        if !first {
            out.push(&separator)?;
        }
        first = false;
        match &path {
            Some(path) => print::write(&path.get(&item, None, heap)?, &mut out)?,
            None => print::write(&item, &mut out)?,
        }
    }
    out.finish()
}

fn map(value: &Value, mut call: Call, heap: &Heap) -> Result<Value, Fault> {
    let mut mapped = Vec::new();
    if !value.is_true() {
        return Value::generator(heap, mapped);
    }
    if call.args.is_empty() {
        let [attribute, default] = call.bind("map", ["attribute", "default"])?;
        let attribute = attribute.ok_or_else(|| Fault::new("map takes the name of a filter"))?;
        let path = Path::new(&attribute, heap)?;
        let default = some(default);
        let mut cursor = value.iter()?;
        while let Some(item) = cursor.next(heap)? {
            heap.push(&mut mapped, path.get(&item, default.as_ref(), heap)?)?;
        }
    } else {
        let filter = string("map", Some(call.args.remove(0)))?;
        let mut cursor = value.iter()?;
        while let Some(item) = cursor.next(heap)? {
            heap.push(&mut mapped, super::call(&filter, item, again(&call, heap)?, heap)?)?;
        }
    }
    Value::generator(heap, mapped)
}

/// The arguments once more.
fn again(call: &Call, heap: &Heap) -> Result<Call, Fault> {
    heap.step(call.args.len() + call.kwargs.len())?;
    Ok(Call { args: call.args.clone(), kwargs: call.kwargs.clone() })
}

fn select(name: &str, value: &Value, mut call: Call, heap: &Heap) -> Result<Value, Fault> {
    let mut selected = Vec::new();
    if !value.is_true() {
        return Value::generator(heap, selected);
    }
    let path = if name.ends_with("attr") {
        if call.args.is_empty() {
            return Err(Fault::new(format!("{name} takes the name of an attribute")));
        }
        Some(Path::new(&call.args.remove(0), heap)?)
    } else {
        None
    };
    let test = if call.args.is_empty() { None } else { Some(string(name, Some(call.args.remove(0)))?) };
    let mut cursor = value.iter()?;
    while let Some(item) = cursor.next(heap)? {
        let tested = match &path {
            Some(path) => path.get(&item, None, heap)?,
            None => item.clone(),
        };
        let holds = match &test {
            Some(test) => predicates::call(test, &tested, again(&call, heap)?, heap)?,
            None => tested.is_true(),
        };
        if holds != name.starts_with("reject") {
            heap.push(&mut selected, item)?;
        }
    }
    Value::generator(heap, selected)
}

fn sorted(value: &Value, keys: &Keys, reverse: bool, heap: &Heap) -> Result<Vec<Value>, Fault> {
    let mut items = Vec::new();
    for item in value.collect(heap)? {
        heap.push(&mut items, (keys.all(&item, heap)?, item))?;
    }
    let items = sort::by(items, reverse, heap, |(a, _), (b, _)| compare::order(a, b, heap))?;
    let mut sorted = Vec::new();
    for (_, item) in items {
        heap.push(&mut sorted, item)?;
    }
    Ok(sorted)
}

fn dictsort(value: &Value, call: Call, heap: &Heap) -> Result<Value, Fault> {
    let [case, by, reverse] = call.bind("dictsort", ["case_sensitive", "by", "reverse"])?;
    let Value::Dict(dict) = value else { return Err(Fault::new("dictsort takes a mapping")) };
    let path = match by {
        None => 0,
        Some(by) => match &*string("dictsort", Some(by))? {
            "key" => 0,
            "value" => 1,
            _ => return Err(Fault::new("dictsort sorts by `key` or `value`")),
        },
    };
    let keys = Keys::new(Some(&Value::Int(path)), !flag(case, false), false, heap)?;
    let pairs = Value::View(View::Items, dict.clone());
    heap.list(sorted(&pairs, &keys, integer("dictsort", reverse)?.unwrap_or(0) != 0, heap)?)
}

fn groupby(value: &Value, call: Call, heap: &Heap) -> Result<Value, Fault> {
    let [attribute, default, case] = call.bind("groupby", ["attribute", "default", "case_sensitive"])?;
    let path = Path::new(&required("groupby", "attribute", attribute)?, heap)?;
    let default = some(default);
    let ignore_case = !flag(case, false);
    let keys = Keys::new(None, ignore_case, false, heap)?;
    let mut items = Vec::new();
    for item in value.collect(heap)? {
        let key = keys.folded(path.get(&item, default.as_ref(), heap)?, heap)?;
        heap.push(&mut items, (key, item))?;
    }
    let items = sort::by(items, false, heap, |(a, _), (b, _)| compare::order(a, b, heap))?;
    let mut groups: Vec<(Value, Vec<Value>)> = Vec::new();
    for (key, item) in items {
        match groups.last_mut() {
            Some((last, members)) if compare::equal(last, &key, heap)? => heap.push(members, item)?,
            _ => {
                let mut members = Vec::new();
                heap.push(&mut members, item)?;
                heap.push(&mut groups, (key, members))?;
            }
        }
    }
    let mut out = Vec::new();
    for (key, members) in groups {
        let key = match members.first() {
            Some(first) if ignore_case => path.get(first, default.as_ref(), heap)?,
            _ => key,
        };
        heap.push(&mut out, heap.group(key, heap.list(members)?)?)?;
    }
    heap.list(out)
}

fn sum(value: &Value, call: Call, heap: &Heap) -> Result<Value, Fault> {
    let [attribute, start] = call.bind("sum", ["attribute", "start"])?;
    let mut total = start.unwrap_or(Value::Int(0));
    if total.as_str().is_some() {
        return Err(Fault::new("sum takes no strings"));
    }
    let path = some(attribute).map(|attribute| Path::new(&attribute, heap)).transpose()?;
    let mut floats = 0;
    let mut cursor = value.iter()?;
    while let Some(item) = cursor.next(heap)? {
        let item = match &path {
            Some(path) => path.get(&item, None, heap)?,
            None => item,
        };
        floats += usize::from(matches!(item, Value::Float(_)));
        if floats > 2 {
            // Python 3.12 keeps what the additions round off, earlier versions do not.
            return Err(Fault::unsupported("the sum of more than two floats"));
        }
        total = operators::binary(Operator::Add, &total, &item, heap)?;
    }
    Ok(total)
}

/// `batch(n, fill)`: lists of n items; `slice(n, fill)`: n lists.
fn cut(name: &str, value: &Value, call: Call, heap: &Heap) -> Result<Value, Fault> {
    let count = if name == "batch" { "linecount" } else { "slices" };
    let [count, fill] = call.bind(name, [count, "fill_with"])?;
    let count =
        integer(name, count)?.and_then(|count| usize::try_from(count).ok()).filter(|count| *count > 0);
    let count = count.ok_or_else(|| Fault::new(format!("{name} takes a positive integer")))?;
    let fill = some(fill);
    let items = value.collect(heap)?;
    let mut lists = Vec::new();
    let mut rest = items.as_slice();
    let (each, more) = (items.len() / count, items.len() % count);
    let mut number = 0;
    while if name == "batch" { !rest.is_empty() } else { number < count } {
        let (length, full) = match name {
            "batch" => (count.min(rest.len()), count),
            _ => (each + usize::from(number < more), each + 1),
        };
        let mut list = Vec::new();
        for item in &rest[..length] {
            heap.push(&mut list, item.clone())?;
        }
        if let Some(fill) = &fill {
            let short = if name == "batch" { full - length } else { usize::from(number >= more) };
            for _ in 0..short {
                heap.push(&mut list, fill.clone())?;
            }
        }
        rest = &rest[length..];
        heap.push(&mut lists, heap.list(list)?)?;
        number += 1;
    }
    Value::generator(heap, lists)
}
