//! JSON of finite numbers.

use ciborium::Value as Tree;
use serde::Serialize;
use serde_json::Value;

use crate::EvalError;

/// A value as JSON. JSON has no NaN and no infinity: serde_json writes `null` for them, as for what was not measured, so
/// a value that holds one is refused here.
///
/// ```
/// assert_eq!(brenier_eval::to_json("sizes", &[1.0, 2.0])?, serde_json::json!([1.0, 2.0]));
/// let error = brenier_eval::to_json("sizes", &[1.0, f64::NAN]).unwrap_err();
/// assert_eq!(error.to_string(), "sizes[1]: found NaN, expected a finite number");
/// # Ok::<(), brenier_eval::EvalError>(())
/// ```
///
/// # Errors
/// [`EvalError::NotFinite`] names the first number that is not finite, by its path.
pub fn to_json<T: Serialize + ?Sized>(what: &str, value: &T) -> Result<Value, EvalError> {
    let failed = |reason: String| EvalError::Json { what: what.to_owned(), reason };
    let tree = Tree::serialized(value).map_err(|error| failed(error.to_string()))?;
    if let Some((path, found)) = not_finite(&tree) {
        return Err(EvalError::NotFinite { what: format!("{what}{path}"), found });
    }
    serde_json::to_value(value).map_err(|error| failed(error.to_string()))
}

/// The first number that is not finite, and the path to it.
fn not_finite(tree: &Tree) -> Option<(String, f64)> {
    let below = |step: String, tree: &Tree| not_finite(tree).map(|(path, found)| (step + &path, found));
    match tree {
        Tree::Float(number) => (!number.is_finite()).then_some((String::new(), *number)),
        Tree::Array(all) => all.iter().enumerate().find_map(|(i, one)| below(format!("[{i}]"), one)),
        Tree::Map(all) => all.iter().find_map(|(key, one)| match key {
            Tree::Text(key) => below(format!(".{key}"), one),
            _ => below(".?".to_owned(), one),
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Nested {
        name: &'static str,
        #[serde(flatten)]
        inner: Inner,
        pairs: Vec<Option<[f32; 2]>>,
    }

    #[derive(Serialize)]
    struct Inner {
        kl: Option<f64>,
    }

    fn failure(kl: Option<f64>, last: f32) -> Option<String> {
        let value = Nested { name: "NaN", inner: Inner { kl }, pairs: vec![None, Some([1.0, last])] };
        to_json("report", &value).err().map(|error| error.to_string())
    }

    #[test]
    fn numbers_that_json_does_not_have_are_found_wherever_they_are() {
        assert_eq!(failure(None, 0.0), None);
        assert_eq!(failure(Some(f64::MAX), f32::MIN_POSITIVE), None);
        let expected = "expected a finite number";
        assert_eq!(failure(Some(f64::NAN), 0.0), Some(format!("report.kl: found NaN, {expected}")));
        let path = "report.pairs[1][1]: found";
        assert_eq!(failure(None, f32::INFINITY), Some(format!("{path} inf, {expected}")));
        assert_eq!(failure(None, f32::NEG_INFINITY), Some(format!("{path} -inf, {expected}")));
    }
}
