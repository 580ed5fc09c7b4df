//! Python's classes of characters.
//!
//! Where the standard library's tables cannot tell what Python's would say, the answer is an error.

use super::fault::Fault;

/// `str.isspace` of one character, what `strip` and `split` take for white space.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// Line ends of `str.splitlines`.
pub(super) fn is_line_end(c: char) -> bool {
    matches!(c, '\n'..='\r' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// `str.isprintable` of one character: `repr` writes the others as escapes.
pub(super) fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return !c.is_ascii_control();
    }
    // After another character only what is not printable is escaped.
    let mut text = [b'a', 0, 0, 0, 0];
    let length = 1 + c.encode_utf8(&mut text[1..]).len();
    match std::str::from_utf8(&text[..length]) {
        Ok(text) => !text.escape_debug().any(|c| c == '\\'),
        Err(_) => false,
    }
}

/// `str.isalpha` of one character.
pub(super) fn is_alpha(c: char) -> Result<bool, Fault> {
    // Letters proper; beyond these ranges "alphabetic" has members that are no letters.
    let letters_alone = matches!(c,
        '\0'..='\u{344}' | '\u{370}'..='\u{481}' | '\u{48a}'..='\u{52f}' | '\u{3041}'..='\u{3096}'
        | '\u{30a1}'..='\u{30fa}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}');
    match (c.is_alphabetic(), letters_alone) {
        (false, _) => Ok(false),
        (true, true) => Ok(true),
        (true, false) => Err(unclear("isalpha", c)),
    }
}

/// `str.isdecimal`, `str.isdigit` and `str.isnumeric` of one character.
pub(super) fn is_digit(c: char) -> Result<bool, Fault> {
    match c.is_ascii() {
        true => Ok(c.is_ascii_digit()),
        // Ideographs may be numerals for Python.
        false if c.is_numeric() || ('\u{3400}'..='\u{9fff}').contains(&c) || c >= '\u{f900}' => {
            Err(unclear("isdigit", c))
        }
        false => Ok(false),
    }
}

/// `str.isalnum` of one character.
pub(super) fn is_alnum(c: char) -> Result<bool, Fault> {
    Ok(is_alpha(c)? || is_digit(c)?)
}

/// Whether a character is of title case, as the digraph `ǅ`.
pub(super) fn is_title(c: char) -> bool {
    matches!(c, '\u{1c5}' | '\u{1c8}' | '\u{1cb}' | '\u{1f2}' | '\u{1f88}'..='\u{1f8f}' | '\u{1f98}'..='\u{1f9f}'
        | '\u{1fa8}'..='\u{1faf}' | '\u{1fbc}' | '\u{1fcc}' | '\u{1ffc}')
}

/// The character in title case, which is upper case but for a few.
pub(super) fn title(c: char) -> Result<char, Fault> {
    let mut upper = c.to_uppercase();
    match (upper.next(), upper.next()) {
        (Some(upper), None) if !is_title(c) && !has_own_title(c) => Ok(upper),
        _ => Err(unclear("title case", c)),
    }
}

fn has_own_title(c: char) -> bool {
    matches!(c, '\u{1c4}'..='\u{1cc}' | '\u{1f1}'..='\u{1f3}' | '\u{10d0}'..='\u{10ff}')
}

fn unclear(what: &str, c: char) -> Fault {
    Fault::unsupported(format_args!("{what} of the character U+{:04X}", u32::from(c)))
}
