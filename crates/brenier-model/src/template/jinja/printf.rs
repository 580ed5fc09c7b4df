//! `'...' % values`, and the layout of numbers and texts that `str.format` shares with it.

use super::compare;
use super::fault::Fault;
use super::heap::{Heap, Writer};
use super::operators::exact;
use super::print;
use super::value::{Number, Value};

/// `format % values`.
pub(super) fn percent(format: &str, values: &Value, heap: &Heap) -> Result<Value, Fault> {
    let single = [values.clone()];
    let mut arguments = Values {
        mapping: matches!(values, Value::Dict(_) | Value::List(_) | Value::Range(_) | Value::Undefined(_))
            .then_some(values),
        list: match values {
            Value::Tuple(items) => &items.values,
            _ => &single,
        },
        at: 0,
        named: false,
    };
    let mut out = heap.writer();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        heap.step(1)?;
        out.push(&rest[..at])?;
        let (conversion, after) = Conversion::read(&rest[at + 1..], &mut arguments, heap)?;
        conversion.write(&mut arguments, &mut out)?;
        rest = after;
    }
    out.push(rest)?;
    if arguments.at < arguments.list.len() && !arguments.named && arguments.mapping.is_none() {
        return Err(Fault::new("not all arguments converted during string formatting"));
    }
    out.finish()
}

struct Values<'v> {
    mapping: Option<&'v Value>,
    list: &'v [Value],
    at: usize,
    /// Whether a value was taken by its name.
    named: bool,
}

impl Values<'_> {
    fn next(&mut self) -> Result<Value, Fault> {
        let value = self.list.get(self.at).cloned();
        self.at += 1;
        value.ok_or_else(|| Fault::new("not enough arguments for format string"))
    }

    fn length(&mut self) -> Result<i128, Fault> {
        let value = self.next()?;
        value.as_index().ok_or_else(|| Fault::new("`*` in a format takes an integer"))
    }
}

/// One `%` of a format string.
struct Conversion {
    named: Option<Value>,
    layout: Layout,
    letter: char,
}

impl Conversion {
    fn read<'f>(text: &'f str, arguments: &mut Values<'_>, heap: &Heap) -> Result<(Self, &'f str), Fault> {
        let mut rest = text;
        let mut named = None;
        if let Some(inside) = rest.strip_prefix('(') {
            let Some(close) = inside.find(')') else { return Err(Fault::new("incomplete format key")) };
            let key = heap.text(&inside[..close])?;
            let Some(Value::Dict(dict)) = arguments.mapping else {
                return Err(Fault::new("format requires a mapping"));
            };
            if inside[..close].contains('(') {
                return Err(Fault::unsupported("a format key with brackets"));
            }
            let value = dict.get(&key, heap)?.cloned();
            named = Some(
                value.ok_or_else(|| Fault::new(format!("format key `{}` is missing", &inside[..close])))?,
            );
            arguments.named = true;
            rest = &inside[close + 1..];
        }
        let mut layout = Layout::default();
        loop {
            match rest.as_bytes().first() {
                Some(b'-') => layout.align = Some('<'),
                Some(b'+') => layout.sign = Some('+'),
                Some(b' ') if layout.sign.is_none() => layout.sign = Some(' '),
                Some(b' ') => {}
                Some(b'0') => layout.zeros = true,
                Some(b'#') => layout.alternate = true,
                _ => break,
            }
            rest = &rest[1..];
        }
        if let Some(after) = rest.strip_prefix('*') {
            let width = arguments.length()?;
            if width < 0 {
                layout.align = Some('<');
            }
            layout.width = usize::try_from(width.unsigned_abs()).unwrap_or(usize::MAX);
            rest = after;
        } else if let Some((width, after)) = leading_number(rest)? {
            layout.width = width;
            rest = after;
        }
        if let Some(after) = rest.strip_prefix('.') {
            if let Some(after) = after.strip_prefix('*') {
                layout.precision = Some(usize::try_from(arguments.length()?).unwrap_or(0));
                rest = after;
            } else {
                let (precision, after) = leading_number(after)?.unwrap_or((0, after));
                layout.precision = Some(precision);
                rest = after;
            }
        }
        let rest = rest.strip_prefix(['l', 'h', 'L']).unwrap_or(rest);
        let Some(letter) = rest.chars().next() else { return Err(Fault::new("incomplete format")) };
        if letter == '%' && !text.starts_with('%') {
            return Err(Fault::new("`%%` in a format takes no layout"));
        }
        Ok((Self { named, layout, letter }, &rest[letter.len_utf8()..]))
    }

    fn write(mut self, arguments: &mut Values<'_>, out: &mut Writer<'_>) -> Result<(), Fault> {
        if self.letter == '%' {
            return out.push("%");
        }
        let value = match self.named.take() {
            Some(value) => value,
            None => arguments.next()?,
        };
        let heap = out.heap();
        match self.letter {
            's' | 'r' => {
                let text = match self.letter {
                    's' => print::text(&value, heap)?,
                    _ => {
                        let mut quoted = heap.writer();
                        print::repr(&value, 0, &mut quoted)?;
                        quoted.into_string().into()
                    }
                };
                self.layout.zeros = false;
                self.layout.align.get_or_insert('>');
                self.layout.text(&text, out)
            }
            'c' => {
                let text = match &value {
                    Value::Str(text) if text.chars().count() == 1 => text.to_string(),
                    _ => {
                        let code = value.as_index().and_then(|code| u32::try_from(code).ok());
                        let c = code.and_then(char::from_u32);
                        c.ok_or_else(|| Fault::new("%c requires an integer or a character"))?.to_string()
                    }
                };
                self.layout.zeros = false;
                self.layout.align.get_or_insert('>');
                self.layout.precision = None;
                self.layout.text(&text, out)
            }
            'd' | 'i' | 'u' => {
                let whole = match value.as_number() {
                    Some(Number::Int(whole)) => whole,
                    Some(Number::Float(float)) => super::numbers::truncate(float)?,
                    None => return Err(wrong_type(self.letter, &value)),
                };
                self.layout.percent_integer(whole, 'd', out)
            }
            'x' | 'X' | 'o' => match value.as_number() {
                Some(Number::Int(whole)) => self.layout.percent_integer(whole, self.letter, out),
                _ => Err(wrong_type(self.letter, &value)),
            },
            'e' | 'E' | 'f' | 'F' | 'g' | 'G' => match value.as_number() {
                Some(Number::Int(whole)) => self.layout.float(exact(whole)?, self.letter, out),
                Some(Number::Float(float)) => self.layout.float(float, self.letter, out),
                None => Err(wrong_type(self.letter, &value)),
            },
            letter => Err(Fault::unsupported(format_args!("the format `%{letter}`"))),
        }
    }
}

fn wrong_type(letter: char, value: &Value) -> Fault {
    match value {
        Value::Undefined(missing) => missing.fault(),
        _ => Fault::new(format!("%{letter} takes a number, found `{}`", value.type_name())),
    }
}

/// The number that a text begins with.
pub(super) fn leading_number(text: &str) -> Result<Option<(usize, &str)>, Fault> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    if digits == 0 {
        return Ok(None);
    }
    match text[..digits].parse() {
        Ok(number) => Ok(Some((number, &text[digits..]))),
        Err(_) => Err(Fault::new("too many digits in a format")),
    }
}

/// How a number or a text is laid out.
#[derive(Clone, Default)]
pub(super) struct Layout {
    pub(super) fill: Option<char>,
    pub(super) align: Option<char>,
    pub(super) sign: Option<char>,
    pub(super) alternate: bool,
    pub(super) zeros: bool,
    pub(super) width: usize,
    pub(super) group: Option<char>,
    pub(super) precision: Option<usize>,
}

impl Layout {
    /// A text, cut to the precision and filled to the width.
    pub(super) fn text(&self, text: &str, out: &mut Writer<'_>) -> Result<(), Fault> {
        out.heap().read(text.len() * 2)?;
        let cut = match self.precision.and_then(|precision| text.char_indices().nth(precision)) {
            Some((at, _)) => &text[..at],
            None => text,
        };
        let missing = self.width.saturating_sub(cut.chars().count());
        let mut fill = [0; 4];
        let fill: &str = self.fill.unwrap_or(' ').encode_utf8(&mut fill);
        let (before, after) = match self.align {
            Some('>') => (missing, 0),
            Some('^') => (missing / 2, missing - missing / 2),
            _ => (0, missing),
        };
        out.repeat(fill, before)?;
        out.push(cut)?;
        out.repeat(fill, after)
    }

    /// A number's sign, prefix and digits; zeros that fill the width stand after the prefix.
    fn number(&self, sign: &str, prefix: &str, digits: &str, out: &mut Writer<'_>) -> Result<(), Fault> {
        let length = sign.len() + prefix.len() + digits.len();
        if self.zeros && self.align.is_none() || self.align == Some('=') {
            let fill = if self.zeros { '0' } else { self.fill.unwrap_or(' ') };
            if self.group.is_some() && self.width > length && fill == '0' {
                return Err(Fault::unsupported("a number with both zeros in front and separators"));
            }
            out.push(sign)?;
            out.push(prefix)?;
            out.repeat(fill.encode_utf8(&mut [0; 4]), self.width.saturating_sub(length))?;
            return out.push(digits);
        }
        let layout = Self { align: self.align.or(Some('>')), precision: None, ..self.clone() };
        layout.text(&format!("{sign}{prefix}{digits}"), out)
    }

    fn sign_of(&self, negative: bool) -> &'static str {
        match (negative, self.sign) {
            (true, _) => "-",
            (false, Some('+')) => "+",
            (false, Some(' ')) => " ",
            _ => "",
        }
    }

    /// An integer of `%`, where the precision is the least number of digits and `-` wins over `0`.
    fn percent_integer(&self, value: i128, letter: char, out: &mut Writer<'_>) -> Result<(), Fault> {
        let digits = digits(value, letter);
        let least = self.precision.unwrap_or(0);
        let mut padded = out.heap().writer();
        padded.repeat("0", least.saturating_sub(digits.len()))?;
        padded.push(&digits)?;
        let mut layout = self.clone();
        layout.zeros = self.zeros && self.align.is_none();
        layout.number(self.sign_of(value < 0), self.prefix(letter), padded.as_str(), out)
    }

    /// An integer of `str.format`.
    pub(super) fn integer(&self, value: i128, letter: char, out: &mut Writer<'_>) -> Result<(), Fault> {
        let digits = self.grouped(&digits(value, letter));
        self.number(self.sign_of(value < 0), self.prefix(letter), &digits, out)
    }

    fn prefix(&self, letter: char) -> &'static str {
        match letter {
            'x' if self.alternate => "0x",
            'X' if self.alternate => "0X",
            'o' if self.alternate => "0o",
            'b' if self.alternate => "0b",
            _ => "",
        }
    }

    /// Digits in threes, where the layout has a separator.
    fn grouped(&self, digits: &str) -> String {
        let Some(separator) = self.group else { return digits.to_owned() };
        let (whole, rest) = digits.split_at(digits.find(['.', 'e']).unwrap_or(digits.len()));
        let mut grouped = String::new();
        for (i, digit) in whole.chars().enumerate() {
            if i > 0 && (whole.len() - i) % 3 == 0 {
                grouped.push(separator);
            }
            grouped.push(digit);
        }
        grouped + rest
    }

    /// A float in one of the formats `e`, `f`, `g` and `%`.
    pub(super) fn float(&self, value: f64, letter: char, out: &mut Writer<'_>) -> Result<(), Fault> {
        let precision = self.precision.unwrap_or(6);
        // Beyond this all digits are zeros, and nobody asks for them.
        if precision > 1000 {
            return Err(Fault::unsupported("a precision of more than 1000 digits"));
        }
        if self.alternate {
            return Err(Fault::unsupported("`#` with a float"));
        }
        if !value.is_finite() {
            if self.zeros {
                return Err(Fault::unsupported("zeros in front of a number that is not finite"));
            }
            let name = if value.is_nan() { "nan" } else { "inf" };
            let name = if letter.is_uppercase() { name.to_uppercase() } else { name.to_owned() };
            return self.number(self.sign_of(value < 0.0), "", &name, out);
        }
        let size = value.abs();
        let digits = match letter.to_ascii_lowercase() {
            'e' => exponential(size, precision),
            'g' => general(size, precision.max(1)),
            '%' => format!("{:.precision$}%", size * 100.0),
            _ => format!("{size:.precision$}"),
        };
        let digits = if letter.is_ascii_uppercase() { digits.to_uppercase() } else { digits };
        self.number(self.sign_of(value.is_sign_negative()), "", &self.grouped(&digits), out)
    }
}

fn digits(value: i128, letter: char) -> String {
    let size = value.unsigned_abs();
    match letter {
        'x' => format!("{size:x}"),
        'X' => format!("{size:X}"),
        'o' => format!("{size:o}"),
        'b' => format!("{size:b}"),
        _ => size.to_string(),
    }
}

fn exponential(value: f64, precision: usize) -> String {
    let text = format!("{value:.precision$e}");
    match text.split_once('e') {
        Some((digits, exponent)) => match exponent.strip_prefix('-') {
            Some(exponent) => format!("{digits}e-{exponent:0>2}"),
            None => format!("{digits}e+{exponent:0>2}"),
        },
        None => text,
    }
}

fn general(value: f64, precision: usize) -> String {
    let scientific = exponential(value, precision - 1);
    let exponent: i64 = scientific.split_once('e').and_then(|(_, e)| e.parse().ok()).unwrap_or(0);
    let trimmed = |digits: &str| match digits.contains('.') {
        true => digits.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => digits.to_owned(),
    };
    if exponent < -4 || exponent >= precision as i64 {
        return match scientific.split_once('e') {
            Some((digits, exponent)) => format!("{}e{exponent}", trimmed(digits)),
            None => scientific,
        };
    }
    let decimals = usize::try_from(precision as i64 - 1 - exponent).unwrap_or(0);
    trimmed(&format!("{value:.decimals$}"))
}

/// `format % values` of a filter: its arguments, positional or by name.
pub(super) fn filter(format: &str, call: super::calls::Call, heap: &Heap) -> Result<Value, Fault> {
    if call.kwargs.is_empty() {
        return percent(format, &heap.tuple(call.args)?, heap);
    }
    if !call.args.is_empty() {
        return Err(Fault::new("format: positional and named arguments do not go together"));
    }
    let mut entries = Vec::new();
    for (name, value) in call.kwargs {
        compare::set(&mut entries, Value::Str(name), value, heap)?;
    }
    percent(format, &heap.dict(entries)?, heap)
}
