//! A Jinja engine for chat templates: what jinja2 renders in the sandbox of transformers, within limits.
//!
//! A template is a program from the internet. Here it has a bounded number of steps, of bytes that it makes and
//! of levels that it nests ([`heap`], and the parser for its source). And it renders what jinja2 renders, or
//! nothing: what this engine does not do as jinja2 does is an error, never another text.

mod calls;
mod case;
mod clock;
mod compare;
mod escapes;
mod fault;
mod filters;
mod heap;
mod interpolate;
mod items;
mod json;
mod lexer;
mod methods;
mod numbers;
mod operators;
mod parser;
mod pprint;
mod predicates;
mod print;
mod printf;
mod render;
mod scopes;
mod sort;
mod syntax;
mod unicode;
mod value;

use chrono::NaiveDateTime;
use serde_json::{Map, Value as Json};

pub(super) use fault::{Fault, Reason};
use heap::Heap;
use value::{Text, Value};

/// Bytes of stack to parse and render on. The limits allow 500 levels of at most 3 KiB, and of 20 KiB in a build
/// without optimization.
const STACK: usize = 16 << 20;

/// A template, parsed.
#[derive(Debug)]
pub(super) struct Template {
    program: parser::Program,
    /// Bytes of the source.
    size: usize,
}

impl Template {
    /// Parses a source.
    pub(super) fn parse(source: &str) -> Result<Self, Fault> {
        let program = on_own_stack(|| parser::parse(source))?;
        Ok(Self { program, size: source.len() })
    }

    /// Whether the source names a variable or a function.
    pub(super) fn names(&self, name: &str) -> bool {
        self.program.names.find(name).is_some()
    }

    /// Renders with variables; of two with the same name the later counts.
    pub(super) fn render(
        &self,
        variables: &[(&str, &Json)],
        now: Option<NaiveDateTime>,
    ) -> Result<String, Fault> {
        let input = variables.iter().map(|(_, value)| size(value)).sum::<usize>();
        on_own_stack(|| {
            let heap = Heap::new(input.saturating_add(self.size));
            let mut given = Vec::with_capacity(variables.len());
            for (name, value) in variables {
                given.push((Text::from(*name), from_json(value, &heap)?));
            }
            render::render(&self.program, given, now, &heap)
        })
    }
}

/// Runs something on a stack that is large enough for every level that the limits allow, also where the caller's
/// is not.
fn on_own_stack<T: Send>(run: impl FnOnce() -> Result<T, Fault> + Send) -> Result<T, Fault> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, run);
        let thread = thread.map_err(|e| Fault::new(format!("no thread to render in: {e}")))?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// About how many bytes a value takes.
fn size(value: &Json) -> usize {
    let of_map =
        |map: &Map<String, Json>| map.iter().map(|(key, value)| key.len() + 16 + size(value)).sum::<usize>();
    16 + match value {
        Json::String(text) => text.len(),
        Json::Array(items) => items.iter().map(size).sum(),
        Json::Object(map) => of_map(map),
        _ => 0,
    }
}

fn from_json(value: &Json, heap: &Heap) -> Result<Value, Fault> {
    Ok(match value {
        Json::Null => Value::None,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(value), _, _) => Value::Int(value.into()),
            (_, Some(value), _) => Value::Int(value.into()),
            (_, _, Some(value)) => Value::Float(value),
            _ => return Err(Fault::unsupported(format_args!("the number {number}"))),
        },
        Json::String(text) => heap.text(text)?,
        Json::Array(items) => {
            let mut list = Vec::new();
            for item in items {
                heap.push(&mut list, from_json(item, heap)?)?;
            }
            heap.list(list)?
        }
        Json::Object(map) => {
            let mut entries = Vec::new();
            for (key, value) in map {
                heap.push(&mut entries, (heap.text(key)?, from_json(value, heap)?))?;
            }
            heap.dict(entries)?
        }
    })
}
