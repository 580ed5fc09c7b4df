//! Typed access to the fields of a JSON object, with errors that name file and field.

use std::path::Path;

use serde_json::{Map, Value};

use crate::error::ModelError;

/// The fields of an object in a file; `null` counts as absent.
pub(crate) struct Fields<'a> {
    path: &'a Path,
    prefix: String,
    object: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(path: &'a Path, object: &'a Map<String, Value>) -> Self {
        Self { path, prefix: String::new(), object }
    }

    pub(crate) fn path(&self) -> &'a Path {
        self.path
    }

    pub(crate) fn value(&self, name: &str) -> Option<&'a Value> {
        self.object.get(name).filter(|value| !value.is_null())
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
        self.typed(name, "a number", Value::as_f64)
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
        Ok(object.map(|object| Fields { path: self.path, prefix: format!("{}{name}.", self.prefix), object }))
    }

    pub(crate) fn wrong(&self, name: &str, expected: &str, found: &str) -> ModelError {
        ModelError::Field {
            path: self.path.to_owned(),
            field: format!("{}{name}", self.prefix),
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
