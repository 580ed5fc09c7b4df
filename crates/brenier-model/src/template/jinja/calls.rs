//! The arguments of a call, bound to parameters as Python binds them.

use super::fault::Fault;
use super::value::{Text, Value};

/// The arguments of a call.
#[derive(Default)]
pub(super) struct Call {
    pub(super) args: Vec<Value>,
    pub(super) kwargs: Vec<(Text, Value)>,
}

impl Call {
    /// The arguments by the parameters' names; `None` where one is not given.
    pub(super) fn bind<const N: usize>(
        self,
        what: &str,
        names: [&str; N],
    ) -> Result<[Option<Value>; N], Fault> {
        let given = self.args.len();
        if given > N {
            return Err(Fault::new(format!("{what} takes at most {N} arguments, found {given}")));
        }
        let mut bound = [const { None }; N];
        for (place, value) in bound.iter_mut().zip(self.args) {
            *place = Some(value);
        }
        for (name, value) in self.kwargs {
            match names.iter().position(|known| *known == &*name) {
                Some(at) if bound[at].is_none() => bound[at] = Some(value),
                Some(_) => return Err(Fault::new(format!("{what} has two values for `{name}`"))),
                None => return Err(Fault::new(format!("{what} has no parameter `{name}`"))),
            }
        }
        Ok(bound)
    }

    /// The arguments of a function that takes them by position alone.
    pub(super) fn positional<const N: usize>(self, what: &str) -> Result<[Option<Value>; N], Fault> {
        self.bind(what, [""; N])
    }
}

/// An argument that must be given.
pub(super) fn required(what: &str, name: &str, argument: Option<Value>) -> Result<Value, Fault> {
    argument.ok_or_else(|| Fault::new(format!("{what}: `{name}` is missing")))
}

/// A string that must be given.
pub(super) fn string(what: &str, argument: Option<Value>) -> Result<Text, Fault> {
    match argument {
        Some(Value::Str(text)) => Ok(text),
        Some(Value::Undefined(missing)) => Err(missing.fault()),
        Some(Value::Markup(_)) => Err(Fault::unsupported(format_args!("{what} of markup"))),
        Some(other) => Err(Fault::new(format!("{what} takes a string, found `{}`", other.type_name()))),
        None => Err(Fault::new(format!("{what} takes a string, found nothing"))),
    }
}

/// An integer, where given.
pub(super) fn integer(what: &str, argument: Option<Value>) -> Result<Option<i128>, Fault> {
    match argument {
        None => Ok(None),
        Some(value) => match value.as_index() {
            Some(index) => Ok(Some(index)),
            None => Err(Fault::new(format!("{what} takes an integer, found `{}`", value.type_name()))),
        },
    }
}

/// An argument for which none is as good as nothing.
pub(super) fn some(argument: Option<Value>) -> Option<Value> {
    argument.filter(|value| !matches!(value, Value::None))
}

/// A flag: any value, by its truth.
pub(super) fn flag(argument: Option<Value>, default: bool) -> bool {
    argument.map_or(default, |value| value.is_true())
}
