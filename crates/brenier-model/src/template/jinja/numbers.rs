//! Numbers read from texts, and rounded, as Python does.

use super::fault::Fault;
use super::unicode::is_space;

/// `int(float)`.
pub(super) fn truncate(value: f64) -> Result<i128, Fault> {
    if value.is_nan() {
        return Err(Fault::new("NaN is no integer"));
    }
    if value.abs() >= 1e38 {
        return Err(Fault::new("a float this large is no integer here"));
    }
    Ok(value.trunc() as i128)
}

/// `int(text, base)`; `None` where the text is no integer.
pub(super) fn integer(text: &str, base: u32) -> Result<Option<i128>, Fault> {
    let text = text.trim_matches(is_space);
    plain(text)?;
    let (negative, digits) = match text.strip_prefix(['-', '+']) {
        Some(digits) => (text.starts_with('-'), digits),
        None => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let (base, digits) = [("0x", 16), ("0o", 8), ("0b", 2)]
        .into_iter()
        .find(|(prefix, own)| lower.starts_with(prefix) && (base == *own || base == 0))
        .map_or((base, digits), |(prefix, own)| {
            let digits = &digits[prefix.len()..];
            (own, digits.strip_prefix('_').unwrap_or(digits))
        });
    if base == 0 && digits.starts_with('0') && digits.bytes().any(|b| b != b'0' && b != b'_') {
        return Ok(None);
    }
    let base = if base == 0 { 10 } else { base };
    let bytes = digits.as_bytes();
    let sound = !bytes.is_empty()
        && bytes.iter().enumerate().all(|(at, b)| match b {
            b'_' => at > 0 && at + 1 < bytes.len() && bytes[at - 1] != b'_',
            b => char::from(*b).is_digit(base),
        });
    if !sound {
        return Ok(None);
    }
    match i128::from_str_radix(&digits.replace('_', ""), base) {
        Ok(value) => Ok(Some(if negative { -value } else { value })),
        Err(_) => Err(Fault::unsupported("an integer this large")),
    }
}

/// `float(text)`; `None` where the text is no number.
pub(super) fn float(text: &str) -> Result<Option<f64>, Fault> {
    let text = text.trim_matches(is_space);
    plain(text)?;
    let bytes = text.as_bytes();
    let digit = |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_digit);
    let sound = bytes
        .iter()
        .enumerate()
        .all(|(at, b)| *b != b'_' || digit(at.checked_sub(1)) && digit(at.checked_add(1)));
    Ok(if sound { text.replace('_', "").parse().ok() } else { None })
}

/// Python reads the digits of all scripts.
fn plain(text: &str) -> Result<(), Fault> {
    match text.chars().find(|c| !c.is_ascii() && c.is_numeric()) {
        Some(c) => Err(Fault::unsupported(format_args!("the digit U+{:04X}", u32::from(c)))),
        None => Ok(()),
    }
}

/// `round(value, digits)` of a float: to the nearest, from the middle to the even digit.
pub(super) fn round_float(value: f64, digits: i128) -> Result<f64, Fault> {
    if !value.is_finite() || value == 0.0 {
        return Ok(value);
    }
    match usize::try_from(digits) {
        // More digits than a float has.
        Ok(digits) if digits > 400 => Ok(value),
        Ok(digits) => format!("{value:.digits$}").parse().map_err(|_| Fault::new("round failed")),
        Err(_) if value.fract() == 0.0 && value.abs() < 1e15 => {
            Ok((round_integer(value as i128, digits)? as f64).copysign(value))
        }
        Err(_) => Err(Fault::unsupported("rounding a fraction to tens")),
    }
}

/// `round(value, digits)` of an integer.
pub(super) fn round_integer(value: i128, digits: i128) -> Result<i128, Fault> {
    if digits >= 0 {
        return Ok(value);
    }
    let Some(unit) = u32::try_from(-digits).ok().and_then(|d| 10_i128.checked_pow(d)) else { return Ok(0) };
    let below = value.div_euclid(unit) * unit;
    let rest = value - below;
    let up = rest > unit - rest || rest == unit - rest && (below / unit) % 2 != 0;
    let rounded = if up { below.checked_add(unit) } else { Some(below) };
    rounded.ok_or_else(|| Fault::unsupported("an integer this large"))
}
