//! `+`, `-`, `*`, `/`, `//`, `%`, `**` and `~`, as Python computes them.

use super::fault::Fault;
use super::heap::Heap;
use super::print;
use super::printf;
use super::syntax::Operator;
use super::value::{Number, Value};

/// `left operator right`.
pub(super) fn binary(operator: Operator, left: &Value, right: &Value, heap: &Heap) -> Result<Value, Fault> {
    // A format string prints undefined as any other value.
    if let (Operator::Remainder, Value::Str(format)) = (operator, left) {
        return printf::percent(format, right, heap);
    }
    if let Value::Undefined(missing) = left {
        return Err(missing.fault());
    }
    if let Value::Undefined(missing) = right {
        return Err(missing.fault());
    }
    if let (Some(a), Some(b)) = (left.as_number(), right.as_number()) {
        return arithmetic(operator, a, b);
    }
    match (operator, left, right) {
        (_, Value::Markup(_), _) | (_, _, Value::Markup(_)) => {
            Err(Fault::unsupported(format_args!("`{}` of markup", operator.sign())))
        }
        (Operator::Add, Value::Str(a), Value::Str(b)) => {
            let mut out = heap.writer();
            out.push(a)?;
            out.push(b)?;
            out.finish()
        }
        (Operator::Add, Value::List(a), Value::List(b)) => heap.list(joined(&a.values, &b.values, heap)?),
        (Operator::Add, Value::Tuple(a), Value::Tuple(b)) => heap.tuple(joined(&a.values, &b.values, heap)?),
        (Operator::Multiply, value, count) | (Operator::Multiply, count, value)
            if count.as_index().is_some() && repeats(value) =>
        {
            let count = usize::try_from(count.as_index().unwrap_or(0).max(0)).unwrap_or(usize::MAX);
            repeat(value, count, heap)
        }
        _ => Err(Fault::new(format!(
            "`{}` does not take `{}` and `{}`",
            operator.sign(),
            left.type_name(),
            right.type_name()
        ))),
    }
}

/// `a ~ b ~ ...`: the texts of the values, one after the other.
pub(super) fn concat(values: &[Value], heap: &Heap) -> Result<Value, Fault> {
    let mut out = heap.writer();
    for value in values {
        print::write(value, &mut out)?;
    }
    out.finish()
}

/// `-value`, or `+value`.
pub(super) fn signed(negative: bool, value: &Value) -> Result<Value, Fault> {
    match value.as_number() {
        Some(Number::Int(value)) if negative => value.checked_neg().map(Value::Int).ok_or_else(too_large),
        Some(Number::Int(value)) => Ok(Value::Int(value)),
        Some(Number::Float(value)) => Ok(Value::Float(if negative { -value } else { value })),
        None => Err(match value {
            Value::Undefined(missing) => missing.fault(),
            _ => Fault::new(format!("`{}` has no sign", value.type_name())),
        }),
    }
}

fn repeats(value: &Value) -> bool {
    matches!(value, Value::Str(_) | Value::List(_) | Value::Tuple(_))
}

fn repeat(value: &Value, count: usize, heap: &Heap) -> Result<Value, Fault> {
    match value {
        Value::Str(text) => {
            let mut out = heap.writer();
            out.repeat(text, if text.is_empty() { 0 } else { count })?;
            out.finish()
        }
        Value::List(items) => heap.list(repeated(&items.values, count, heap)?),
        Value::Tuple(items) => heap.tuple(repeated(&items.values, count, heap)?),
        _ => Ok(value.clone()),
    }
}

fn joined(left: &[Value], right: &[Value], heap: &Heap) -> Result<Vec<Value>, Fault> {
    let mut items = Vec::new();
    for item in left.iter().chain(right) {
        heap.push(&mut items, item.clone())?;
    }
    Ok(items)
}

fn repeated(values: &[Value], count: usize, heap: &Heap) -> Result<Vec<Value>, Fault> {
    let mut items = Vec::new();
    if values.is_empty() {
        return Ok(items);
    }
    for _ in 0..count {
        for item in values {
            heap.push(&mut items, item.clone())?;
        }
    }
    Ok(items)
}

fn arithmetic(operator: Operator, left: Number, right: Number) -> Result<Value, Fault> {
    use Operator::{Add, Divide, FloorDivide, Multiply, Power, Remainder, Subtract};
    let (a, b) = match (left, right) {
        (Number::Int(a), Number::Int(b)) if operator != Divide => return integers(operator, a, b),
        (Number::Int(a), Number::Int(b)) => (exact(a)?, exact(b)?),
        _ => (left.float(), right.float()),
    };
    if b == 0.0 && matches!(operator, Divide | FloorDivide | Remainder) {
        return Err(Fault::new("division by zero"));
    }
    Ok(Value::Float(match operator {
        Add => a + b,
        Subtract => a - b,
        Multiply => a * b,
        Divide => a / b,
        FloorDivide => floor_divide(a, b),
        Remainder => floor_remainder(a, b),
        Power => return power(a, b),
    }))
}

fn integers(operator: Operator, a: i128, b: i128) -> Result<Value, Fault> {
    let result = match operator {
        Operator::Add => a.checked_add(b),
        Operator::Subtract => a.checked_sub(b),
        Operator::Multiply => a.checked_mul(b),
        Operator::FloorDivide | Operator::Remainder if b == 0 => return Err(Fault::new("division by zero")),
        // Rounded down, unlike Rust's: the remainder has the sign of the divisor.
        Operator::FloorDivide => {
            a.checked_div(b).map(|q| if a % b != 0 && (a < 0) != (b < 0) { q - 1 } else { q })
        }
        Operator::Remainder => a.checked_rem(b).map(|r| if r != 0 && (r < 0) != (b < 0) { r + b } else { r }),
        Operator::Power if b < 0 => return power(exact(a)?, exact(b)?),
        Operator::Power => match (a, u32::try_from(b)) {
            (0 | 1, _) => Some(if b == 0 { 1 } else { a }),
            (-1, _) => Some(if b % 2 == 0 { 1 } else { -1 }),
            (_, Ok(b)) => a.checked_pow(b),
            (_, Err(_)) => None,
        },
        Operator::Divide => None,
    };
    result.map(Value::Int).ok_or_else(too_large)
}

fn floor_remainder(a: f64, b: f64) -> f64 {
    let rest = a % b;
    if rest == 0.0 {
        0.0_f64.copysign(b)
    } else if (rest < 0.0) != (b < 0.0) {
        rest + b
    } else {
        rest
    }
}

fn floor_divide(a: f64, b: f64) -> f64 {
    let rest = a % b;
    let mut quotient = (a - rest) / b;
    if rest != 0.0 && (rest < 0.0) != (b < 0.0) {
        quotient -= 1.0;
    }
    if quotient == 0.0 {
        return 0.0_f64.copysign(a / b);
    }
    let floor = quotient.floor();
    if quotient - floor > 0.5 { floor + 1.0 } else { floor }
}

fn power(a: f64, b: f64) -> Result<Value, Fault> {
    if a == 0.0 && b < 0.0 {
        return Err(Fault::new("0 cannot be raised to a negative power"));
    }
    if a < 0.0 && a.is_finite() && b.is_finite() && b.fract() != 0.0 {
        return Err(Fault::unsupported("a complex number"));
    }
    let result = a.powf(b);
    if result.is_infinite() && a.is_finite() && b.is_finite() {
        return Err(Fault::new("the result of `**` is too large"));
    }
    Ok(Value::Float(result))
}

/// An integer as a float, where no digit is lost.
pub(super) fn exact(value: i128) -> Result<f64, Fault> {
    if value.unsigned_abs() > 1 << 53 { Err(too_large()) } else { Ok(value as f64) }
}

fn too_large() -> Fault {
    Fault::unsupported("an integer this large")
}
