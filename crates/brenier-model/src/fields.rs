//! Typed access to the fields of a JSON object, with errors that name file and field.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;
use std::rc::Rc;

use serde_json::{Map, Value};

use crate::error::{ModelError, excerpt};

/// The fields of an object in a file; `null` counts as absent.
///
/// Every name that is asked for is noted, so that in the end [`unread`](Self::unread) tells what the file says
/// beyond that; [`warn`](Self::warn) notes what is worth a warning.
pub(crate) struct Fields<'a> {
    path: &'a Path,
    prefix: String,
    object: &'a Map<String, Value>,
    read: RefCell<BTreeSet<String>>,
    warnings: Rc<RefCell<Vec<String>>>,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(path: &'a Path, object: &'a Map<String, Value>) -> Self {
        Self { path, prefix: String::new(), object, read: RefCell::default(), warnings: Rc::default() }
    }

    pub(crate) fn path(&self) -> &'a Path {
        self.path
    }

    pub(crate) fn value(&self, name: &str) -> Option<&'a Value> {
        self.read.borrow_mut().insert(name.to_owned());
        self.object.get(name).filter(|value| !value.is_null())
    }

    /// Whether the object is `{}`.
    pub(crate) fn is_empty(&self) -> bool {
        self.object.is_empty()
    }

    /// Whether the file says `null`.
    pub(crate) fn is_null(&self, name: &str) -> bool {
        self.object.get(name).is_some_and(Value::is_null)
    }

    /// What the file says under names that nobody asked for.
    pub(crate) fn unread(&self) -> Vec<(&'a str, &'a Value)> {
        let read = self.read.borrow();
        let said = self.object.iter().filter(|(_, value)| !value.is_null());
        said.filter(|(name, _)| !read.contains(*name)).map(|(name, value)| (name.as_str(), value)).collect()
    }

    /// Notes a warning about this file.
    pub(crate) fn warn(&self, text: &str) {
        self.warnings.borrow_mut().push(format!("{}: {text}", self.path.display()));
    }

    /// The warnings noted so far, those of nested objects included.
    pub(crate) fn warnings(&self) -> Vec<String> {
        self.warnings.borrow().clone()
    }

    pub(crate) fn size(&self, name: &str) -> Result<Option<usize>, ModelError> {
        // Some tools write 4096.0.
        let whole = |value: &Value| {
            let float =
                || value.as_f64().filter(|x| x.fract() == 0.0 && (0.0..1e15).contains(x)).map(|x| x as u64);
            value.as_u64().or_else(float).and_then(|size| usize::try_from(size).ok())
        };
        self.typed(name, "a whole number, 0 or more", whole)
    }

    pub(crate) fn required_size(&self, name: &str) -> Result<usize, ModelError> {
        self.size(name)?.ok_or_else(|| self.wrong(name, "a whole number", "nothing"))
    }

    pub(crate) fn number(&self, name: &str) -> Result<Option<f64>, ModelError> {
        self.typed(name, "a number", |value| value.as_f64().filter(|number| number.is_finite()))
    }

    /// A number that divides something: present and positive.
    pub(crate) fn required_number(&self, name: &str) -> Result<f64, ModelError> {
        let number = self.number(name)?.ok_or_else(|| self.wrong(name, "a number", "nothing"))?;
        if number > 0.0 {
            Ok(number)
        } else {
            Err(self.wrong(name, "a positive number", &number.to_string()))
        }
    }

    pub(crate) fn flag(&self, name: &str) -> Result<Option<bool>, ModelError> {
        self.typed(name, "true or false", Value::as_bool)
    }

    pub(crate) fn string(&self, name: &str) -> Result<Option<&'a str>, ModelError> {
        self.typed(name, "a string", Value::as_str)
    }

    /// A token id or a list of them.
    pub(crate) fn ids(&self, name: &str) -> Result<Option<Vec<u32>>, ModelError> {
        let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        self.typed(name, "a token id or a list of them", |value| match value {
            Value::Array(list) => list.iter().map(id).collect(),
            one => Some(vec![id(one)?]),
        })
    }

    pub(crate) fn object(&self, name: &str) -> Result<Option<Fields<'a>>, ModelError> {
        let object = self.typed(name, "an object", Value::as_object)?;
        Ok(object.map(|object| Fields {
            path: self.path,
            prefix: format!("{}{name}.", self.prefix),
            object,
            read: RefCell::default(),
            warnings: Rc::clone(&self.warnings),
        }))
    }

    /// A name as it is reached from the top of the file.
    pub(crate) fn full(&self, name: &str) -> String {
        format!("{}{}", self.prefix, excerpt(name))
    }

    /// Two statements of this file that differ, where nothing decides between them.
    pub(crate) fn contradiction(&self, first: String, second: String) -> ModelError {
        ModelError::Contradiction { path: self.path.to_owned(), first, second }
    }

    pub(crate) fn wrong(&self, name: &str, expected: &str, found: &str) -> ModelError {
        ModelError::Field {
            path: self.path.to_owned(),
            field: self.full(name),
            expected: expected.to_owned(),
            found: found.to_owned(),
        }
    }

    fn typed<T>(
        &self,
        name: &str,
        expected: &str,
        get: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, ModelError> {
        let Some(value) = self.value(name) else { return Ok(None) };
        get(value).map(Some).ok_or_else(|| self.wrong(name, expected, &kind(value)))
    }
}

/// A JSON file that holds an object.
pub(crate) fn read_object(path: &Path) -> Result<Map<String, Value>, ModelError> {
    let text = brenier_files::read_to_string(path).map_err(ModelError::io(path))?;
    match serde_json::from_str(&text).map_err(ModelError::json(path))? {
        Value::Object(object) => Ok(object),
        other => Err(ModelError::Field {
            path: path.to_owned(),
            field: ".".to_owned(),
            expected: "a JSON object".to_owned(),
            found: kind(&other),
        }),
    }
}

/// A few names of many, for a message.
pub(crate) fn few<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    const FEW: usize = 5;
    let more = names.len().saturating_sub(FEW);
    let mut text = names.take(FEW).map(|name| format!("`{}`", excerpt(name))).collect::<Vec<_>>().join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

/// A value in a few words.
pub(crate) fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Array(list) => format!("a list of {}", list.len()),
        Value::Object(_) => "an object".to_owned(),
        Value::String(text) if text.chars().count() > 40 => "a long string".to_owned(),
        scalar => scalar.to_string(),
    }
}
