//! Upper and lower case, and what kind of characters a text has.

use super::fault::Fault;
use super::heap::Heap;
use super::unicode;
use super::value::Value;

/// `upper`, `lower`, `title`, `capitalize`, `swapcase` and `casefold` of a string.
pub(super) fn change(text: &str, name: &str, heap: &Heap) -> Result<Value, Fault> {
    heap.read(text.len() * 8)?;
    let mut out = heap.writer();
    match name {
        "upper" => out.extend(text.chars().flat_map(char::to_uppercase))?,
        "lower" => lower(text, &mut out)?,
        "capitalize" => {
            let Some(first) = text.chars().next() else { return heap.text("") };
            out.push_char(unicode::title(first)?)?;
            // What the rest becomes may depend on what comes before (a final sigma).
            let mut all = heap.writer();
            lower(text, &mut all)?;
            let own: usize = first.to_lowercase().map(char::len_utf8).sum();
            out.push(&all.as_str()[own..])?;
        }
        "title" => {
            if text.contains('Σ') {
                return Err(Fault::unsupported("title of a text with a capital sigma"));
            }
            let mut in_word = false;
            for c in text.chars() {
                if in_word {
                    out.extend(c.to_lowercase())?;
                } else {
                    out.push_char(if is_cased(c) { unicode::title(c)? } else { c })?;
                }
                in_word = is_cased(c);
            }
        }
        _ if !text.is_ascii() => {
            return Err(Fault::unsupported(format_args!("{name} of a text that is not ASCII")));
        }
        "casefold" => lower(text, &mut out)?,
        _ => {
            out.extend(text.chars().map(|c| {
                if c.is_ascii_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() }
            }))?
        }
    }
    out.finish()
}

/// The filter `title`, which takes other characters for the ends of words than the method does.
pub(super) fn title_filter(text: &str, heap: &Heap) -> Result<Value, Fault> {
    heap.read(text.len() * 8)?;
    let is_break = |c: char| unicode::is_space(c) || matches!(c, '-' | '(' | '{' | '[' | '<');
    let mut out = heap.writer();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let breaks = is_break(first);
        let end = rest.find(|c| is_break(c) != breaks).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        out.extend(first.to_uppercase())?;
        lower(&word[first.len_utf8()..], &mut out)?;
        rest = after;
    }
    out.finish()
}

fn lower(text: &str, out: &mut super::heap::Writer<'_>) -> Result<(), Fault> {
    if !text.contains('Σ') {
        return out.extend(text.chars().flat_map(char::to_lowercase));
    }
    // Only the standard library's own method knows a final sigma.
    out.heap().allocate(text.len() * 2)?;
    out.push(&text.to_lowercase())
}

fn is_cased(c: char) -> bool {
    c.is_lowercase() || c.is_uppercase() || unicode::is_title(c)
}

/// `isalpha`, `isdigit`, ... of a string.
pub(super) fn is(text: &str, name: &str, heap: &Heap) -> Result<bool, Fault> {
    heap.read(text.len() * 16)?;
    let all = |test: &dyn Fn(char) -> Result<bool, Fault>| -> Result<bool, Fault> {
        for c in text.chars() {
            if !test(c)? {
                return Ok(false);
            }
        }
        Ok(!text.is_empty())
    };
    match name {
        "isascii" => Ok(text.is_ascii()),
        "isspace" => all(&|c| Ok(unicode::is_space(c))),
        "isalpha" => all(&unicode::is_alpha),
        "isalnum" => all(&unicode::is_alnum),
        "islower" => Ok(text.chars().any(char::is_lowercase)
            && !text.chars().any(|c| c.is_uppercase() || unicode::is_title(c))),
        "isupper" => Ok(text.chars().any(char::is_uppercase)
            && !text.chars().any(|c| c.is_lowercase() || unicode::is_title(c))),
        "istitle" => {
            let mut in_word = false;
            let mut found = false;
            for c in text.chars() {
                if c.is_uppercase() || unicode::is_title(c) {
                    if in_word {
                        return Ok(false);
                    }
                    (in_word, found) = (true, true);
                } else if c.is_lowercase() {
                    if !in_word {
                        return Ok(false);
                    }
                } else {
                    in_word = false;
                }
            }
            Ok(found)
        }
        _ => all(&unicode::is_digit),
    }
}
