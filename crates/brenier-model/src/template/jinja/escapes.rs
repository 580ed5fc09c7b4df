//! Escape sequences of string literals.

/// The text of a literal without its quotes, as Python's `unicode-escape` reads it; the error says what is
/// wrong with it.
pub(super) fn unescape(literal: &str) -> Result<String, String> {
    let mut out = String::with_capacity(literal.len());
    let mut rest = literal;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let escape = &rest[at + 1..];
        let Some(c) = escape.chars().next() else { return Err("a string ends in a backslash".to_owned()) };
        let mut read = c.len_utf8();
        match c {
            '\n' => {}
            '\\' | '\'' | '"' => out.push(c),
            'a' => out.push('\x07'),
            'b' => out.push('\x08'),
            'f' => out.push('\x0c'),
            'n' => out.push('\n'),
            'r' => out.push('\r'),
            't' => out.push('\t'),
            'v' => out.push('\x0b'),
            '0'..='7' => {
                read = escape.bytes().take(3).take_while(|b| (b'0'..=b'7').contains(b)).count();
                out.push(code(&escape[..read], 8)?);
            }
            'x' | 'u' | 'U' => {
                let digits = match c {
                    'x' => 2,
                    'u' => 4,
                    _ => 8,
                };
                match escape.get(1..=digits) {
                    Some(hex) if hex.bytes().all(|b| b.is_ascii_hexdigit()) => out.push(code(hex, 16)?),
                    _ => return Err(format!("`\\{c}` needs {digits} hexadecimal digits")),
                }
                read = 1 + digits;
            }
            'N' => return Err("characters by name (`\\N{...}`) are not supported".to_owned()),
            // jinja2 writes these characters as escapes first, and so their backslash stays with the digits.
            c if !c.is_ascii() => {
                let code = u32::from(c);
                out.push_str(&match code {
                    0..=0xff => format!("\\x{code:02x}"),
                    0x100..=0xffff => format!("\\u{code:04x}"),
                    _ => format!("\\U{code:08x}"),
                });
            }
            c => {
                out.push('\\');
                out.push(c);
            }
        }
        rest = &escape[read..];
    }
    out.push_str(rest);
    Ok(out)
}

fn code(digits: &str, radix: u32) -> Result<char, String> {
    let code = u32::from_str_radix(digits, radix).ok().and_then(char::from_u32);
    code.ok_or_else(|| format!("there is no character {digits}"))
}
