//! Tokens of a template, with the whitespace rules of `trim_blocks` and `lstrip_blocks`.

use super::fault::Fault;
use super::unicode::is_space;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    pub(super) line: u32,
    pub(super) kind: TokenKind,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum TokenKind {
    /// Text outside of tags.
    Data(String),
    /// `{{`.
    PrintStart,
    /// `}}` that closes it.
    PrintEnd,
    /// `{%`.
    BlockStart,
    /// `%}` that closes it.
    BlockEnd,
    Name(String),
    Str(String),
    Int(i128),
    Float(f64),
    Sign(&'static str),
    End,
}

/// Longer ones first.
const SIGNS: [&str; 25] = [
    "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}", ">", "<",
    "=", ".", ":", "|", ",",
];

/// The tokens of a source, the last of them `End`.
pub(super) fn tokens(source: &str) -> Result<Vec<Token>, Fault> {
    // Line ends are made one kind, and the last is dropped.
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let source = source.strip_suffix('\n').unwrap_or(&source);
    let mut lexer = Lexer { source, at: 0, line: 1, line_starts: true, tokens: Vec::new() };
    lexer.template()?;
    lexer.push(TokenKind::End);
    Ok(lexer.tokens)
}

struct Lexer<'s> {
    source: &'s str,
    at: usize,
    line: u32,
    /// Whether what was read last ended a line.
    line_starts: bool,
    tokens: Vec<Token>,
}

impl<'s> Lexer<'s> {
    fn rest(&self) -> &'s str {
        &self.source[self.at..]
    }

    fn push(&mut self, kind: TokenKind) {
        self.tokens.push(Token { line: self.line, kind });
    }

    fn advance(&mut self, bytes: usize) {
        let read = &self.rest()[..bytes];
        self.line += read.matches('\n').count() as u32;
        if bytes > 0 {
            self.line_starts = read.ends_with('\n');
        }
        self.at += bytes;
    }

    fn fault(&self, message: impl std::fmt::Display) -> Fault {
        Fault::syntax(self.line, message)
    }

    fn template(&mut self) -> Result<(), Fault> {
        while let Some((text, open)) = self.next_tag() {
            let tag = &self.rest()[text + 2..];
            let sign = tag.chars().next().filter(|c| matches!(c, '-' | '+'));
            self.data(text, sign, open != "{{");
            let raw = if open == "{%" { raw_begin(self.rest()) } else { None };
            if let Some(length) = raw {
                self.advance(length);
                self.raw()?;
                continue;
            }
            self.advance(2 + usize::from(sign.is_some()));
            match open {
                "{#" => self.comment()?,
                "{%" => {
                    self.push(TokenKind::BlockStart);
                    self.tag("%}")?;
                }
                _ => {
                    self.push(TokenKind::PrintStart);
                    self.tag("}}")?;
                }
            }
        }
        let rest = self.rest();
        if !rest.is_empty() {
            self.push(TokenKind::Data(rest.to_owned()));
            self.advance(rest.len());
        }
        Ok(())
    }

    /// Where the next tag opens, and how.
    fn next_tag(&self) -> Option<(usize, &'s str)> {
        let rest = self.rest();
        rest.match_indices('{').find_map(|(at, _)| {
            let open = rest.get(at..at + 2)?;
            matches!(open, "{%" | "{{" | "{#").then_some((at, open))
        })
    }

    /// Text before a tag, without the white space that the tag removes.
    fn data(&mut self, length: usize, sign: Option<char>, block: bool) {
        let text = &self.rest()[..length];
        let kept = match sign {
            Some('-') => text.trim_end_matches(is_space),
            None if block => {
                let line = text.rfind('\n').map_or(0, |at| at + 1);
                if (line > 0 || self.line_starts) && text[line..].chars().all(is_space) {
                    &text[..line]
                } else {
                    text
                }
            }
            _ => text,
        };
        if !kept.is_empty() {
            self.push(TokenKind::Data(kept.to_owned()));
        }
        self.advance(length);
    }

    fn comment(&mut self) -> Result<(), Fault> {
        let rest = self.rest();
        let Some(close) = rest.find("#}") else { return Err(self.fault("a comment is not closed")) };
        let sign = rest[..close].chars().next_back();
        self.advance(close + 2);
        self.after_tag(sign);
        Ok(())
    }

    /// What a closing `%}` or `#}` takes away: one line end, all white space after `-`, nothing after `+`.
    fn after_tag(&mut self, sign: Option<char>) {
        let rest = self.rest();
        match sign {
            Some('-') => self.advance(rest.len() - rest.trim_start_matches(is_space).len()),
            Some('+') => {}
            _ => self.advance(usize::from(rest.starts_with('\n'))),
        }
    }

    /// The text of a `raw` block, up to and with its `endraw`.
    fn raw(&mut self) -> Result<(), Fault> {
        let rest = self.rest();
        for (at, _) in rest.match_indices("{%") {
            let tag = &rest[at + 2..];
            let sign = tag.chars().next().filter(|c| matches!(c, '-' | '+'));
            let inside = tag[usize::from(sign.is_some())..].trim_start_matches(is_space);
            let Some(close) = inside.strip_prefix("endraw").map(|t| t.trim_start_matches(is_space)) else {
                continue;
            };
            let end = close.chars().next().filter(|c| matches!(c, '-' | '+'));
            let Some(after) = close[usize::from(end.is_some())..].strip_prefix("%}") else { continue };
            self.data(at, sign, true);
            self.advance(rest.len() - at - after.len());
            self.after_tag(end);
            return Ok(());
        }
        Err(self.fault("a raw block is not closed"))
    }

    /// The tokens of a tag, up to and with its end.
    fn tag(&mut self, end: &'static str) -> Result<(), Fault> {
        let mut open: Vec<&str> = Vec::new();
        loop {
            let rest = self.rest();
            if open.is_empty() {
                let sign = rest.chars().next().filter(|c| *c == '-' || *c == '+' && end == "%}");
                if rest[usize::from(sign.is_some())..].starts_with(end) {
                    self.push(if end == "%}" { TokenKind::BlockEnd } else { TokenKind::PrintEnd });
                    self.advance(2 + usize::from(sign.is_some()));
                    if end == "%}" || sign.is_some() {
                        self.after_tag(sign);
                    }
                    return Ok(());
                }
            }
            let Some(c) = rest.chars().next() else { return Err(self.fault("unexpected end of template")) };
            if is_space(c) {
                self.advance(rest.len() - rest.trim_start_matches(is_space).len());
            } else if let Some((kind, length)) = self.number(rest)? {
                self.push(kind);
                self.advance(length);
            } else if c == '_' || c.is_alphabetic() {
                let length = rest.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(rest.len());
                self.push(TokenKind::Name(rest[..length].to_owned()));
                self.advance(length);
            } else if c == '\'' || c == '"' {
                self.string(c)?;
            } else {
                let Some(sign) = SIGNS.into_iter().find(|sign| rest.starts_with(sign)) else {
                    return Err(self.fault(format_args!("unexpected character {c:?}")));
                };
                match sign {
                    "(" => open.push(")"),
                    "[" => open.push("]"),
                    "{" => open.push("}"),
                    ")" | "]" | "}" if open.pop() != Some(sign) => {
                        return Err(self.fault(format_args!("unexpected `{sign}`")));
                    }
                    _ => {}
                }
                self.push(TokenKind::Sign(sign));
                self.advance(sign.len());
            }
        }
    }

    /// The number that begins here, with its length.
    fn number(&self, rest: &str) -> Result<Option<(TokenKind, usize)>, Fault> {
        let bytes = rest.as_bytes();
        if !bytes.first().is_some_and(u8::is_ascii_digit) {
            return Ok(None);
        }
        let after_dot = self.source.as_bytes()[..self.at].last() == Some(&b'.');
        let whole = digits(bytes, 0, 10);
        let mut end = whole;
        if bytes.get(end) == Some(&b'.') {
            end = digits(bytes, end + 1, 10).max(end);
        }
        // `1.` is an integer and a dot.
        if end == whole + 1 {
            end = whole;
        }
        if matches!(bytes.get(end), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
            let exponent = digits(bytes, end + 1 + sign, 10);
            if exponent > end + 1 + sign {
                end = exponent;
            }
        }
        if end > whole && !after_dot {
            let value = rest[..end].replace('_', "").parse();
            return value.map(|v| Some((TokenKind::Float(v), end))).map_err(|e| self.fault(e));
        }
        let (radix, prefix) = match (bytes[0], bytes.get(1)) {
            (b'0', Some(b'x' | b'X')) => (16, 2),
            (b'0', Some(b'o' | b'O')) => (8, 2),
            (b'0', Some(b'b' | b'B')) => (2, 2),
            _ => (10, 0),
        };
        let mut start = prefix;
        if prefix > 0 && bytes.get(prefix) == Some(&b'_') {
            start += 1;
        }
        let mut end = digits(bytes, start, radix);
        let (radix, prefix) = if end == start { (10, 0) } else { (radix, prefix) };
        if prefix == 0 {
            // A zero in front stands alone.
            end = if bytes[0] == b'0' { zeros(bytes) } else { digits(bytes, 0, 10) };
        }
        match i128::from_str_radix(&rest[prefix..end].replace('_', ""), radix) {
            Ok(value) => Ok(Some((TokenKind::Int(value), end))),
            Err(_) => Err(self.fault(format_args!("the integer {} is too large", &rest[..end.min(60)]))),
        }
    }

    fn string(&mut self, quote: char) -> Result<(), Fault> {
        let rest = self.rest();
        let mut escaped = false;
        let close = rest[1..].find(|c: char| {
            let ends = c == quote && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        let Some(close) = close else { return Err(self.fault("a string is not closed")) };
        let text = super::escapes::unescape(&rest[1..=close]).map_err(|what| self.fault(what))?;
        self.push(TokenKind::Str(text));
        self.advance(close + 2);
        Ok(())
    }
}

/// The length of `{% raw %}` where a text begins with it.
fn raw_begin(text: &str) -> Option<usize> {
    let tag = text.strip_prefix("{%")?;
    let tag = tag.strip_prefix(['-', '+']).unwrap_or(tag).trim_start_matches(is_space);
    let close = tag.strip_prefix("raw")?.trim_start_matches(is_space);
    let after = match close.strip_prefix("-%}") {
        Some(after) => after.trim_start_matches(is_space),
        None => close.strip_prefix("%}")?,
    };
    Some(text.len() - after.len())
}

/// The end of the digits from `start` on, with single `_` between them.
fn digits(bytes: &[u8], start: usize, radix: u32) -> usize {
    let is_digit = |at: usize| bytes.get(at).is_some_and(|b| char::from(*b).is_digit(radix));
    let mut end = start;
    while is_digit(end) || end > start && bytes.get(end) == Some(&b'_') && is_digit(end + 1) {
        end += 1;
    }
    end
}

/// The end of the zeros that a text begins with.
fn zeros(bytes: &[u8]) -> usize {
    let mut end = 1;
    while bytes.get(end) == Some(&b'0') || bytes.get(end) == Some(&b'_') && bytes.get(end + 1) == Some(&b'0')
    {
        end += 1;
    }
    end
}
