//! The Jinja engine, set up as transformers sets up its own.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::path::PathBuf;

use minijinja::value::{Kwargs, ValueKind, from_args};
use minijinja::{Environment, Error, ErrorKind, State, Value};
use serde::Serialize;
use serde_json::Map;

use super::RenderOptions;
use super::python::{self, Json};
use crate::ModelError;
use crate::error::one_line;

const NAME: &str = "chat_template";
/// Bytes of the longest template that is taken; published ones stay below a tenth of this.
const LONGEST: usize = 1 << 18;
/// Bytes of stack that a byte of source can use up, generously; stack that is not touched costs nothing.
const STACK_PER_BYTE: usize = 2048;

/// Why a template failed, the file not yet known.
pub(super) struct Failure(Error);

impl Failure {
    pub(super) fn on(self, path: PathBuf) -> ModelError {
        let mut reason = self.0.line().map_or(String::new(), |line| format!("line {line}: "));
        let _ = match self.0.detail() {
            Some(detail) => write!(reason, "{}: {}", self.0.kind(), one_line(detail)),
            None => write!(reason, "{}", self.0.kind()),
        };
        let mut source = std::error::Error::source(&self.0);
        while let Some(inner) = source {
            if let Some(Refused(message)) = inner.downcast_ref() {
                return ModelError::TemplateRefused { path, message: one_line(message) };
            }
            let _ = write!(reason, ": {}", one_line(&inner.to_string()));
            source = inner.source();
        }
        ModelError::Template { path, reason }
    }
}

/// Parses a template, on a stack of its own: the parser recurses, and `----...1` of the longest source that is
/// taken needs more than a thread usually has.
pub(super) fn compile(source: &str) -> Result<Environment<'static>, Failure> {
    let failed = |detail: String| Failure(Error::new(ErrorKind::SyntaxError, detail));
    if source.len() > LONGEST {
        return Err(failed(format!("expected at most {LONGEST} bytes, found {}", source.len())));
    }
    std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().stack_size(STACK_PER_BYTE * LONGEST);
        let parser = builder.spawn_scoped(scope, || parse(source)).map_err(|e| failed(e.to_string()))?;
        parser.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn parse(source: &str) -> Result<Environment<'static>, Failure> {
    let mut env = Environment::new();
    env.set_trim_blocks(true);
    env.set_lstrip_blocks(true);
    env.set_debug(false);
    env.set_unknown_method_callback(method);
    env.set_formatter(|out, _, value| {
        out.write_str(&python::text(value)?).map_err(|_| Error::from(ErrorKind::WriteFailure))
    });
    env.add_filter("tojson", tojson);
    env.add_filter("string", |value: Value| python::text(&value));
    env.add_filter("join", join);
    env.add_filter("length", length);
    env.add_filter("count", length);
    env.add_function("raise_exception", raise_exception);
    // Line ends are made one kind, as jinja2's lexer does.
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let source = without_generation_tags(&source).into_owned();
    env.add_template_owned(NAME, source).map_err(Failure)?;
    Ok(env)
}

/// Runs a parsed template.
pub(super) fn render<M: Serialize>(
    env: &Environment<'static>,
    messages: &[M],
    tokens: &Map<String, serde_json::Value>,
    options: &RenderOptions,
) -> Result<String, Failure> {
    let now = options.now.unwrap_or_else(|| chrono::Local::now().naive_local());
    let strftime_now = move |format: &str| -> Result<String, Error> {
        let mut text = String::new();
        write!(text, "{}", now.format(format)).map_err(|_| {
            let message = format!("strftime_now: unknown date format `{format}`");
            Error::new(ErrorKind::InvalidOperation, message)
        })?;
        Ok(text)
    };
    let mut context: Vec<(String, Value)> = vec![
        ("messages".into(), Value::from_serialize(messages)),
        ("tools".into(), Value::from(())),
        ("documents".into(), Value::from(())),
        ("add_generation_prompt".into(), Value::from(options.add_generation_prompt)),
        ("strftime_now".into(), Value::from_function(strftime_now)),
    ];
    for (name, value) in tokens.iter().chain(&options.variables) {
        context.push((name.clone(), Value::from_serialize(value)));
    }
    let template = env.get_template(NAME).map_err(Failure)?;
    template.render(Value::from_iter(context)).map_err(Failure)
}

/// The message of a template's `raise_exception`, carried through the engine's errors.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(String);

fn raise_exception(message: Value) -> Result<Value, Error> {
    let refused = Refused(python::text(&message)?);
    Err(Error::new(ErrorKind::InvalidOperation, "raise_exception").with_source(refused))
}

/// `tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False)` as transformers
/// defines it: Python's `json.dumps`, nothing escaped for HTML.
fn tojson(value: &Value, ensure_ascii: Option<bool>, options: Kwargs) -> Result<String, Error> {
    let ensure_ascii = match ensure_ascii {
        Some(given) => given,
        None => options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
    };
    let indent = match options.get::<Option<Value>>("indent")? {
        None => None,
        Some(v) if v.is_none() => None,
        Some(v) => match v.as_str() {
            Some(text) => Some(text.to_owned()),
            None => Some(" ".repeat(usize::try_from(v)?)),
        },
    };
    let (item, key) = match options.get::<Option<Vec<String>>>("separators")?.as_deref() {
        None if indent.is_some() => (",".to_owned(), ": ".to_owned()),
        None => (", ".to_owned(), ": ".to_owned()),
        Some([item, key]) => (item.clone(), key.clone()),
        Some(_) => {
            return Err(Error::new(ErrorKind::InvalidOperation, "tojson: separators must be a pair"));
        }
    };
    let sort_keys = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    options.assert_all_used()?;
    Json { ensure_ascii, indent, item, key, sort_keys }.write(value)
}

/// `join(sequence, d="", attribute=None)`, items printed as Python prints them.
fn join(sequence: &Value, separator: Option<Cow<'_, str>>, options: Kwargs) -> Result<String, Error> {
    let separator = match separator {
        Some(given) => given.into_owned(),
        None => options.get::<Option<String>>("d")?.unwrap_or_default(),
    };
    let attribute = options.get::<Option<Value>>("attribute")?;
    options.assert_all_used()?;
    let mut texts = Vec::new();
    for item in sequence.try_iter()? {
        texts.push(match &attribute {
            Some(name) => python::text(&item.get_item(name)?)?,
            None => python::text(&item)?,
        });
    }
    Ok(texts.join(&separator))
}

/// `len(value)`; as in jinja2, undefined has none of anything.
fn length(value: &Value) -> Result<usize, Error> {
    match value.len() {
        Some(length) => Ok(length),
        None => Ok(value.try_iter()?.count()),
    }
}

/// Python's methods: those that minijinja-contrib lacks or takes differently, then all others.
fn method(state: &State<'_, '_>, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    let Some(text) = value.as_str().filter(|_| value.kind() == ValueKind::String) else {
        return minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args);
    };
    match name {
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Ok(text.strip_prefix(prefix).unwrap_or(text).into())
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Ok(text.strip_suffix(suffix).unwrap_or(text).into())
        }
        "partition" => {
            let (separator,): (&str,) = from_args(args)?;
            let (before, after) = text.split_once(separator).unwrap_or((text, ""));
            let found = if before.len() < text.len() { separator } else { "" };
            Ok(strings([before, found, after]))
        }
        "rpartition" => {
            let (separator,): (&str,) = from_args(args)?;
            Ok(match text.rsplit_once(separator) {
                Some((before, after)) => strings([before, separator, after]),
                None => strings(["", "", text]),
            })
        }
        "rsplit" => {
            let (separator, most): (&str, Option<usize>) = from_args(args)?;
            let mut parts: Vec<&str> = match most {
                Some(most) => text.rsplitn(most.saturating_add(1), separator).collect(),
                None => text.rsplit(separator).collect(),
            };
            parts.reverse();
            Ok(strings(parts))
        }
        // Python says no for the empty string.
        "isdigit" | "isnumeric" | "isalpha" | "isalnum" | "isspace" | "islower" | "isupper"
            if text.is_empty() =>
        {
            Ok(Value::from(false))
        }
        // In Python these look at cased characters alone: "A1".isupper() holds.
        "isupper" => Ok(Value::from(text == text.to_uppercase() && text != text.to_lowercase())),
        "islower" => Ok(Value::from(text == text.to_lowercase() && text != text.to_uppercase())),
        "join" => {
            let (items,): (Value,) = from_args(args)?;
            let texts = items.try_iter()?.map(|v| python::text(&v)).collect::<Result<Vec<_>, _>>()?;
            Ok(Value::from(texts.join(text)))
        }
        _ => minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args),
    }
}

fn strings<'a>(items: impl IntoIterator<Item = &'a str>) -> Value {
    items.into_iter().map(Value::from).collect()
}

/// Turns `{% generation %}` blocks, with which training marks the model's own words, into plain scopes.
fn without_generation_tags(source: &str) -> Cow<'_, str> {
    let mut out = String::new();
    let mut rest = source;
    while let Some(open) = rest.find("{%") {
        let (before, tag) = rest.split_at(open + 2);
        let Some(close) = tag.find("%}") else { break };
        let (inside, after) = tag.split_at(close);
        let word = inside.trim_start_matches(['-', '+']).trim_end_matches(['-', '+']).trim();
        out.push_str(before);
        match word {
            "generation" => out.push_str(&inside.replace("generation", "with")),
            "endgeneration" => out.push_str(&inside.replace("endgeneration", "endwith")),
            _ => out.push_str(inside),
        }
        rest = after;
    }
    if out.is_empty() {
        return Cow::Borrowed(source);
    }
    out.push_str(rest);
    Cow::Owned(out)
}
