//! The filters of jinja2, by name.

mod keys;
mod sequences;
mod texts;

use super::calls::Call;
use super::fault::Fault;
use super::heap::Heap;
use super::value::Value;
use super::{json, pprint};

/// Filters that jinja2 has and this engine refuses.
const REFUSED: [&str; 7] =
    ["filesizeformat", "random", "striptags", "urlencode", "urlize", "wordwrap", "xmlattr"];
const TEXTS: [&str; 19] = [
    "capitalize",
    "center",
    "e",
    "escape",
    "float",
    "forceescape",
    "format",
    "indent",
    "int",
    "lower",
    "replace",
    "round",
    "safe",
    "string",
    "title",
    "trim",
    "truncate",
    "upper",
    "wordcount",
];
const SEQUENCES: [&str; 27] = [
    "abs",
    "attr",
    "batch",
    "count",
    "d",
    "default",
    "dictsort",
    "first",
    "groupby",
    "items",
    "join",
    "last",
    "length",
    "list",
    "map",
    "max",
    "min",
    "reject",
    "rejectattr",
    "reverse",
    "select",
    "selectattr",
    "slice",
    "sort",
    "sum",
    "unique",
    "pprint",
];

/// Whether jinja2 has a filter of this name.
pub(super) fn exists(name: &str) -> bool {
    name == "tojson" || TEXTS.contains(&name) || SEQUENCES.contains(&name) || REFUSED.contains(&name)
}

/// `value | name(...)`.
pub(super) fn call(name: &str, value: Value, call: Call, heap: &Heap) -> Result<Value, Fault> {
    heap.step(1)?;
    match name {
        "tojson" => json::dumps(&value, call, heap),
        "pprint" => call.positional::<0>(name).and_then(|_| pprint::pformat(&value, heap)),
        _ if TEXTS.contains(&name) => texts::call(name, value, call, heap),
        _ if SEQUENCES.contains(&name) => sequences::call(name, value, call, heap),
        _ if REFUSED.contains(&name) => Err(Fault::unsupported(format_args!("the filter `{name}`"))),
        _ => Err(Fault::new(format!("no filter named `{name}`"))),
    }
}
