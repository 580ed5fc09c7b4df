//! What items are sorted, grouped and told apart by.

use super::super::calls::Call;
use super::super::fault::Fault;
use super::super::heap::Heap;
use super::super::items;
use super::super::methods;
use super::super::value::Value;

/// Bytes of the longest path to an attribute.
const LONGEST_PATH: usize = 1000;

/// A path to an attribute, as `author.names.0`.
pub(super) struct Path(Vec<Value>);

impl Path {
    pub(super) fn new(attribute: &Value, heap: &Heap) -> Result<Self, Fault> {
        let text = match attribute {
            Value::None => return Ok(Self(Vec::new())),
            Value::Str(text) => text,
            other => return Ok(Self(vec![other.clone()])),
        };
        check_path(text, heap)?;
        let parts = text.split('.').map(|part| {
            let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            match part.parse() {
                Ok(index) if digits => Value::Int(index),
                _ => Value::Str(part.into()),
            }
        });
        Ok(Self(parts.collect()))
    }

    pub(super) fn get(&self, item: &Value, default: Option<&Value>, heap: &Heap) -> Result<Value, Fault> {
        let mut value = item.clone();
        for part in &self.0 {
            heap.step(1)?;
            value = items::item(&value, part, heap)?;
            if let (Value::Undefined(_), Some(default)) = (&value, default) {
                value = default.clone();
            }
        }
        Ok(value)
    }
}

/// Checks the length of a path, or of several.
fn check_path(text: &str, heap: &Heap) -> Result<(), Fault> {
    heap.step(text.len() / 4)?;
    if text.len() > LONGEST_PATH {
        return Err(Fault::new(format!("the path to an attribute is longer than {LONGEST_PATH} bytes")));
    }
    Ok(())
}

/// What items are compared by: attributes of theirs, or themselves.
pub(super) struct Keys {
    paths: Vec<Path>,
    ignore_case: bool,
}

impl Keys {
    /// `several` attributes may stand with commas between them.
    pub(super) fn new(
        attribute: Option<&Value>,
        ignore_case: bool,
        several: bool,
        heap: &Heap,
    ) -> Result<Self, Fault> {
        let paths = match attribute {
            None | Some(Value::None) => vec![Path(Vec::new())],
            Some(Value::Str(text)) if several => {
                check_path(text, heap)?;
                let paths: Result<_, _> =
                    text.split(',').map(|part| Path::new(&Value::Str(part.into()), heap)).collect();
                paths?
            }
            Some(attribute) => vec![Path::new(attribute, heap)?],
        };
        Ok(Self { paths, ignore_case })
    }

    pub(super) fn first(&self, item: &Value, heap: &Heap) -> Result<Value, Fault> {
        match self.paths.first() {
            Some(path) => self.folded(path.get(item, None, heap)?, heap),
            None => Ok(item.clone()),
        }
    }

    pub(super) fn all(&self, item: &Value, heap: &Heap) -> Result<Value, Fault> {
        let mut keys = Vec::new();
        for path in &self.paths {
            heap.push(&mut keys, self.folded(path.get(item, None, heap)?, heap)?)?;
        }
        heap.list(keys)
    }

    pub(super) fn folded(&self, key: Value, heap: &Heap) -> Result<Value, Fault> {
        match &key {
            Value::Str(_) if self.ignore_case => methods::call(&key, "lower", Call::default(), heap),
            _ => Ok(key),
        }
    }
}
