//! `strftime_now`: a moment written as Python's `strftime` writes it in the C locale.

use std::fmt::Write as _;

use chrono::{NaiveDateTime, Timelike};

use super::fault::Fault;
use super::heap::Heap;
use super::value::Value;

/// Directives that chrono writes as C does.
const SHARED: &str = "aAbBCdDeFgGhHIjklmMnprRStTuUVwWxXyY";

/// `now.strftime(format)` of a moment without a time zone.
pub(super) fn strftime(now: NaiveDateTime, format: &str, heap: &Heap) -> Result<Value, Fault> {
    let unknown = |directive: &str| Fault::new(format!("strftime_now: unknown date format `{directive}`"));
    let mut out = heap.writer();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        heap.step(16)?;
        out.push(&rest[..at])?;
        rest = &rest[at..];
        let flag = rest[1..].chars().next().filter(|c| matches!(c, '-' | '_' | '0'));
        let Some(letter) = rest[1 + usize::from(flag.is_some())..].chars().next() else {
            return Err(unknown(rest));
        };
        let (directive, after) = rest.split_at(1 + usize::from(flag.is_some()) + letter.len_utf8());
        match letter {
            '%' if flag.is_none() => out.push("%")?,
            'f' if flag.is_none() => out.push(&format!("{:06}", now.nanosecond() / 1000 % 1_000_000))?,
            // A moment without a zone has neither a name nor an offset.
            'z' | 'Z' if flag.is_none() => {}
            'P' if flag.is_none() => out.push(if now.hour() < 12 { "am" } else { "pm" })?,
            'c' if flag.is_none() => write(now, "%a %b %e %H:%M:%S %Y", &mut out)?,
            // Letters and whole dates have nothing to pad.
            _ if SHARED.contains(letter) && (flag.is_none() || "CdegGHIjklmMSuUVwWyY".contains(letter)) => {
                write(now, directive, &mut out)?;
            }
            _ => return Err(unknown(directive)),
        }
        rest = after;
    }
    out.push(rest)?;
    out.finish()
}

fn write(now: NaiveDateTime, directive: &str, out: &mut super::heap::Writer<'_>) -> Result<(), Fault> {
    let mut text = String::new();
    write!(text, "{}", now.format(directive))
        .map_err(|_| Fault::new(format!("strftime_now: unknown date format `{directive}`")))?;
    out.push(&text)
}
