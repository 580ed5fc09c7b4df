//! Calls: of macros, of the functions that every template has, and of methods.

use super::super::calls::{Call, required, string};
use super::super::clock;
use super::super::compare;
use super::super::fault::{Fault, Reason};
use super::super::methods;
use super::super::print;
use super::super::syntax::{Expr, ExprKind};
use super::super::value::{Closure, Function, Joiner, Missing, Range, Text, Value};
use super::Renderer;

/// Items of the longest range: the sandbox of jinja2 has the same limit.
const LONGEST_RANGE: usize = 100_000;

impl<'t> Renderer<'t, '_> {
    /// A call expression, with the `caller` that a `call` block passes.
    pub(super) fn call_with(&mut self, expr: &'t Expr, caller: Option<Value>) -> Result<Value, Fault> {
        self.deeper(|renderer| renderer.call(&expr.kind, caller)).map_err(|fault| fault.at(expr.line))
    }

    pub(super) fn call(&mut self, kind: &'t ExprKind, caller: Option<Value>) -> Result<Value, Fault> {
        let ExprKind::Call(callee, arguments) = kind else {
            return Err(Fault::new("`call` needs a call"));
        };
        let callee = self.eval(callee)?;
        let mut call = self.arguments(arguments)?;
        if let Some(caller) = caller {
            self.heap.push(&mut call.kwargs, (Text::from("caller"), caller))?;
        }
        match &callee {
            Value::Macro(closure) => self.call_macro(*closure, call),
            Value::Loop(serial) => self.call_loop(*serial, call),
            Value::Function(function) => self.function(*function, call),
            Value::Method(method) => match method.as_ref() {
                (Value::Loop(serial), name) => self.loop_method(*serial, name, call),
                (receiver, name) => methods::call(receiver, name, call, self.heap),
            },
            Value::Joiner(joiner) => {
                call.positional::<0>("joiner")?;
                if joiner.used.replace(true) { Ok(joiner.separator.clone()) } else { self.heap.text("") }
            }
            Value::Undefined(missing) => Err(missing.fault()),
            _ => Err(Fault::new(format!("`{}` object is not callable", callee.type_name()))),
        }
    }

    fn call_macro(&mut self, closure: Closure, call: Call) -> Result<Value, Fault> {
        let definition = self.definition(closure.number);
        let alive = self.frames.get(closure.frame).is_some_and(|frame| frame.serial == closure.serial);
        if !alive {
            return Err(Fault::unsupported("calling a macro outside of the scope of its definition"));
        }
        let name = definition.name.clone().unwrap_or_else(|| Text::from("caller"));
        let count = definition.parameters.len();
        let heap = self.heap;
        let mut positional = call.args;
        heap.step(positional.len())?;
        let extra = positional.split_off(positional.len().min(count));
        if !extra.is_empty() && !definition.varargs {
            return Err(Fault::new(format!("macro `{name}` takes at most {count} arguments")));
        }
        let mut kwargs = call.kwargs;
        let mut bound: Vec<Option<Value>> = positional.into_iter().map(Some).collect();
        for (parameter, _) in &definition.parameters[bound.len()..] {
            let text = self.program.names.text(*parameter);
            let at = heap.position(text, kwargs.iter().map(|(known, _)| Some(known)))?;
            bound.push(at.map(|at| kwargs.remove(at).1));
        }
        let caller = match kwargs.iter().position(|(known, _)| &**known == "caller") {
            Some(at) if definition.caller => Some(kwargs.remove(at).1),
            _ => None,
        };
        if let (false, Some((unknown, _))) = (definition.kwargs, kwargs.first()) {
            return Err(Fault::new(format!("macro `{name}` has no parameter `{unknown}`")));
        }
        let mut special = Vec::new();
        if definition.caller {
            let none = || Value::undefined(Missing::Other("no caller defined"));
            special.push((
                "caller",
                caller.filter(|caller| !matches!(caller, Value::None)).unwrap_or_else(none),
            ));
        }
        if definition.kwargs {
            let mut entries = Vec::new();
            for (name, value) in kwargs {
                compare::set(&mut entries, Value::Str(name), value, heap)?;
            }
            special.push(("kwargs", heap.dict(entries)?));
        }
        if definition.varargs {
            special.push(("varargs", heap.tuple(extra)?));
        }
        let written = self.scoped(&definition.body, Some(closure.frame), |renderer| {
            for (name, value) in special {
                if let Some(name) = renderer.program.names.find(name) {
                    renderer.declare(name, Some(value))?;
                }
            }
            // A parameter hides what has its name outside before its default is evaluated.
            for (parameter, _) in &definition.parameters {
                renderer.declare(*parameter, None)?;
            }
            for ((parameter, default), value) in definition.parameters.iter().zip(bound) {
                let value = match (value, default) {
                    (Some(value), _) => value,
                    (None, Some(default)) => renderer.eval(default)?,
                    (None, None) => {
                        let name = renderer.program.names.text(*parameter).clone();
                        Value::undefined(Missing::Parameter(name))
                    }
                };
                renderer.declare(*parameter, Some(value))?;
            }
            renderer.captured(|renderer| renderer.run(&definition.body.body))
        })?;
        written.or_else(|_| heap.text(""))
    }

    fn function(&mut self, function: Function, call: Call) -> Result<Value, Fault> {
        let heap = self.heap;
        match function {
            Function::Range => range(call),
            Function::Dict => heap.dict(self.entries("dict", call)?),
            Function::DictFromKeys => {
                let [keys, value] = call.positional("fromkeys")?;
                let value = value.unwrap_or(Value::None);
                let mut entries = Vec::new();
                let mut cursor = required("fromkeys", "iterable", keys)?.iter()?;
                while let Some(key) = cursor.next(heap)? {
                    compare::set(&mut entries, key, value.clone(), heap)?;
                }
                heap.dict(entries)
            }
            Function::Namespace => {
                let mut attributes = Vec::new();
                for (name, value) in self.entries("namespace", call)? {
                    match name {
                        Value::Str(name) if name.starts_with('_') => {
                            return Err(Fault::new(format!(
                                "a namespace takes no attribute that begins with `_`, as `{name}` does"
                            )));
                        }
                        Value::Str(name) => heap.push(&mut attributes, (name, value))?,
                        _ => return Err(Fault::unsupported("a namespace with keys that are no strings")),
                    }
                }
                heap.namespace(attributes)
            }
            Function::Cycler if call.args.is_empty() || !call.kwargs.is_empty() => {
                Err(Fault::new("cycler takes at least one item"))
            }
            Function::Cycler => Value::cycler(heap, call.args),
            Function::Joiner => {
                let [separator] = call.bind("joiner", ["sep"])?;
                let separator = separator.map_or_else(|| heap.text(", "), Ok)?;
                heap.descend(separator.level() + 1)?;
                Ok(Value::Joiner(Joiner { separator, used: false.into() }.into()))
            }
            Function::Lipsum => Err(Fault::unsupported("lipsum")),
            Function::RaiseException => {
                let [message] = call.bind("raise_exception", ["message"])?;
                let message = print::text(&required("raise_exception", "message", message)?, heap)?;
                Err(Fault { line: None, reason: Reason::Refused(message.to_string()) })
            }
            Function::StrftimeNow => {
                let [format] = call.bind("strftime_now", ["format"])?;
                let format = string("strftime_now", format)?;
                match self.now {
                    Some(now) => clock::strftime(now, &format, heap),
                    None => Err(Fault::new("asks for the date (strftime_now), and no date was given")),
                }
            }
        }
    }

    /// The entries of `dict(...)`: of a dictionary or of pairs, and those given by name.
    fn entries(&mut self, what: &str, call: Call) -> Result<Vec<(Value, Value)>, Fault> {
        let heap = self.heap;
        let mut entries = Vec::new();
        if call.args.len() > 1 {
            return Err(Fault::new(format!("{what} takes at most one argument by position")));
        }
        match call.args.into_iter().next() {
            None => {}
            Some(Value::Undefined(missing)) => return Err(missing.fault()),
            Some(Value::Dict(dict)) => {
                for (key, value) in &dict.entries {
                    heap.push(&mut entries, (key.clone(), value.clone()))?;
                }
            }
            Some(pairs) => {
                let mut cursor = pairs.iter()?;
                while let Some(pair) = cursor.next(heap)? {
                    let mut pair = pair.collect(heap)?;
                    match (pair.pop(), pair.pop(), pair.is_empty()) {
                        (Some(value), Some(key), true) => compare::set(&mut entries, key, value, heap)?,
                        _ => return Err(Fault::new(format!("{what} takes pairs"))),
                    }
                }
            }
        }
        for (name, value) in call.kwargs {
            compare::set(&mut entries, Value::Str(name), value, heap)?;
        }
        Ok(entries)
    }
}

fn range(call: Call) -> Result<Value, Fault> {
    let bounds = call.positional::<3>("range")?;
    let mut integers = [None; 3];
    for (integer, bound) in integers.iter_mut().zip(&bounds) {
        *integer = match bound {
            None => None,
            Some(Value::Undefined(missing)) => return Err(missing.fault()),
            Some(bound) => match bound.as_index() {
                Some(index) => Some(index),
                None => {
                    return Err(Fault::new(format!("range takes integers, found `{}`", bound.type_name())));
                }
            },
        };
    }
    let range = match integers {
        [Some(stop), None, None] => Range { start: 0, stop, step: 1 },
        [Some(start), Some(stop), step] => Range { start, stop, step: step.unwrap_or(1) },
        _ => return Err(Fault::new("range takes one to three integers")),
    };
    if range.step == 0 {
        return Err(Fault::new("the step of a range cannot be zero"));
    }
    if range.len() > LONGEST_RANGE {
        return Err(Fault::new(format!("a range has at most {LONGEST_RANGE} items, as in jinja2's sandbox")));
    }
    Ok(Value::Range(range.into()))
}
