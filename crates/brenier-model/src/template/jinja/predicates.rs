//! The tests of jinja2 (`value is name`), by name.

use super::calls::{Call, required};
use super::case;
use super::compare;
use super::fault::Fault;
use super::filters;
use super::heap::Heap;
use super::operators;
use super::print;
use super::syntax::Operator;
use super::value::Value;

const NAMES: [&str; 39] = [
    "!=",
    "<",
    "<=",
    "==",
    ">",
    ">=",
    "boolean",
    "callable",
    "defined",
    "divisibleby",
    "eq",
    "equalto",
    "escaped",
    "even",
    "false",
    "filter",
    "float",
    "ge",
    "greaterthan",
    "gt",
    "in",
    "integer",
    "iterable",
    "le",
    "lessthan",
    "lower",
    "lt",
    "mapping",
    "ne",
    "none",
    "number",
    "odd",
    "sameas",
    "sequence",
    "string",
    "test",
    "true",
    "undefined",
    "upper",
];

/// Whether jinja2 has a test of this name.
pub(super) fn exists(name: &str) -> bool {
    NAMES.contains(&name)
}

/// `value is name(...)`.
pub(super) fn call(name: &str, value: &Value, call: Call, heap: &Heap) -> Result<bool, Fault> {
    heap.step(1)?;
    let other = match name {
        "divisibleby" => Some("num"),
        "sameas" => Some("other"),
        "in" => Some("seq"),
        "==" | "eq" | "equalto" | "!=" | "ne" | "<" | "lt" | "lessthan" | "<=" | "le" | ">" | "gt"
        | "greaterthan" | ">=" | "ge" => Some(""),
        _ => None,
    };
    if let Some(parameter) = other {
        let [other] = call.bind(name, [parameter])?;
        return binary(name, value, &required(name, "other", other)?, heap);
    }
    call.positional::<0>(name)?;
    Ok(match name {
        "defined" => !matches!(value, Value::Undefined(_)),
        "undefined" => matches!(value, Value::Undefined(_)),
        "none" => matches!(value, Value::None),
        "boolean" => matches!(value, Value::Bool(_)),
        "true" => matches!(value, Value::Bool(true)),
        "false" => matches!(value, Value::Bool(false)),
        "integer" => matches!(value, Value::Int(_)),
        "float" => matches!(value, Value::Float(_)),
        "number" => value.as_number().is_some(),
        "string" => value.as_str().is_some(),
        "escaped" => matches!(value, Value::Markup(_)),
        "mapping" => matches!(value, Value::Dict(_)),
        "sequence" => matches!(
            value,
            Value::Undefined(_)
                | Value::Str(_)
                | Value::Markup(_)
                | Value::List(_)
                | Value::Tuple(_)
                | Value::Dict(_)
                | Value::Range(_)
        ),
        "iterable" => matches!(value, Value::Markup(_) | Value::Loop(_)) || value.iter().is_ok(),
        "callable" => matches!(
            value,
            Value::Undefined(_)
                | Value::Macro(_)
                | Value::Function(_)
                | Value::Method(_)
                | Value::Loop(_)
                | Value::Joiner(_)
        ),
        "odd" | "even" => {
            let rest = operators::binary(Operator::Remainder, value, &Value::Int(2), heap)?;
            compare::equal(&rest, &Value::Int(i128::from(name == "odd")), heap)?
        }
        "lower" => case::is(&print::text(value, heap)?, "islower", heap)?,
        "upper" => case::is(&print::text(value, heap)?, "isupper", heap)?,
        "filter" | "test" => {
            compare::hashable(value, heap)?;
            match value {
                Value::Str(known) if name == "filter" => filters::exists(known),
                Value::Str(known) => exists(known),
                _ => false,
            }
        }
        _ => return Err(Fault::new(format!("no test named `{name}`"))),
    })
}

fn binary(name: &str, value: &Value, other: &Value, heap: &Heap) -> Result<bool, Fault> {
    let order = || compare::order(value, other, heap);
    Ok(match name {
        "divisibleby" => {
            let rest = operators::binary(Operator::Remainder, value, other, heap)?;
            compare::equal(&rest, &Value::Int(0), heap)?
        }
        "sameas" => same(value, other)?,
        "in" => compare::contains(other, value, heap)?,
        "==" | "eq" | "equalto" => compare::equal(value, other, heap)?,
        "!=" | "ne" => !compare::equal(value, other, heap)?,
        "<" | "lt" | "lessthan" => order()?.is_some_and(|order| order.is_lt()),
        "<=" | "le" => order()?.is_some_and(|order| order.is_le()),
        ">" | "gt" | "greaterthan" => order()?.is_some_and(|order| order.is_gt()),
        _ => order()?.is_some_and(|order| order.is_ge()),
    })
}

/// `value is other` of Python, where it does not depend on what Python shares.
fn same(value: &Value, other: &Value) -> Result<bool, Fault> {
    Ok(match (value, other) {
        (Value::None, Value::None) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Int(a), Value::Int(b)) if a != b => false,
        (Value::Float(a), Value::Float(b)) if a != b && !a.is_nan() => false,
        (Value::Str(a), Value::Str(b)) if a != b => false,
        (Value::Namespace(a), Value::Namespace(b)) => a == b,
        (Value::List(a), Value::List(b)) => std::rc::Rc::ptr_eq(a, b),
        (Value::Dict(a), Value::Dict(b)) => std::rc::Rc::ptr_eq(a, b),
        (a, b) if std::mem::discriminant(a) != std::mem::discriminant(b) => false,
        _ => {
            return Err(Fault::unsupported(format_args!(
                "`sameas` of two values of type `{}`",
                value.type_name()
            )));
        }
    })
}

/// `left < right` and the like.
pub(super) fn compares(
    comparison: super::syntax::Comparison,
    left: &Value,
    right: &Value,
    heap: &Heap,
) -> Result<bool, Fault> {
    use super::syntax::Comparison::{Equal, Greater, GreaterOrEqual, In, Less, LessOrEqual, NotEqual, NotIn};
    let name = match comparison {
        Equal => "==",
        NotEqual => "!=",
        Less => "<",
        LessOrEqual => "<=",
        Greater => ">",
        GreaterOrEqual => ">=",
        In => return compare::contains(right, left, heap),
        NotIn => return Ok(!compare::contains(right, left, heap)?),
    };
    binary(name, left, right, heap)
}
