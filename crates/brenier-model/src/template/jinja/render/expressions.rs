//! Expressions, evaluated.

use super::super::calls::Call;
use super::super::compare;
use super::super::fault::Fault;
use super::super::filters;
use super::super::items;
use super::super::operators;
use super::super::predicates;
use super::super::syntax::{Arguments, Expr, ExprKind};
use super::super::value::{Missing, Value};
use super::Renderer;

impl<'t> Renderer<'t, '_> {
    pub(super) fn eval(&mut self, expr: &'t Expr) -> Result<Value, Fault> {
        self.heap.step(1).map_err(|fault| fault.at(expr.line))?;
        self.deeper(|renderer| renderer.kind(&expr.kind)).map_err(|fault| fault.at(expr.line))
    }

    fn kind(&mut self, kind: &'t ExprKind) -> Result<Value, Fault> {
        let heap = self.heap;
        match kind {
            ExprKind::None => Ok(Value::None),
            ExprKind::Bool(value) => Ok(Value::Bool(*value)),
            ExprKind::Int(value) => Ok(Value::Int(*value)),
            ExprKind::Float(value) => Ok(Value::Float(*value)),
            ExprKind::Str(text) => Ok(Value::Str(text.clone())),
            ExprKind::Name(name) => self.look_up(*name),
            ExprKind::List(list) => {
                let list = self.all(list)?;
                heap.list(list)
            }
            ExprKind::Tuple(list) => {
                let list = self.all(list)?;
                heap.tuple(list)
            }
            ExprKind::Dict(pairs) => {
                let mut entries = Vec::new();
                for (key, value) in pairs {
                    let key = self.eval(key)?;
                    compare::set(&mut entries, key, self.eval(value)?, heap)?;
                }
                heap.dict(entries)
            }
            ExprKind::Concat(list) => {
                let list = self.all(list)?;
                operators::concat(&list, heap)
            }
            ExprKind::Attribute(of, name) => match self.eval(of)? {
                Value::Loop(serial) => self.loop_attribute(serial, name),
                of => items::attribute(&of, name, heap),
            },
            ExprKind::Item(of, key) => {
                let of = self.eval(of)?;
                match (of, self.eval(key)?) {
                    (Value::Loop(serial), Value::Str(name)) => self.loop_attribute(serial, &name),
                    (of, key) => items::item(&of, &key, heap),
                }
            }
            ExprKind::Slice(of, bounds) => self.slice(of, bounds),
            ExprKind::Call(..) => self.call(kind, None),
            ExprKind::Filter(of, filter) => {
                let value = self.eval(of)?;
                let call = self.arguments(&filter.arguments)?;
                filters::call(&filter.name, value, call, heap)
            }
            ExprKind::Test(of, test) => {
                let value = self.eval(of)?;
                let call = self.arguments(&test.arguments)?;
                predicates::call(&test.name, &value, call, heap).map(Value::Bool)
            }
            ExprKind::Not(of) => Ok(Value::Bool(!self.eval(of)?.is_true())),
            ExprKind::Negative(of) => operators::signed(true, &self.eval(of)?),
            ExprKind::Positive(of) => operators::signed(false, &self.eval(of)?),
            ExprKind::Binary(operator, left, right) => {
                let left = self.eval(left)?;
                operators::binary(*operator, &left, &self.eval(right)?, heap)
            }
            ExprKind::And(left, right) => {
                let left = self.eval(left)?;
                if left.is_true() { self.eval(right) } else { Ok(left) }
            }
            ExprKind::Or(left, right) => {
                let left = self.eval(left)?;
                if left.is_true() { Ok(left) } else { self.eval(right) }
            }
            ExprKind::Compare(first, rest) => {
                let mut left = self.eval(first)?;
                for (comparison, right) in rest {
                    let right = self.eval(right)?;
                    if !predicates::compares(*comparison, &left, &right, heap)? {
                        return Ok(Value::Bool(false));
                    }
                    left = right;
                }
                Ok(Value::Bool(true))
            }
            ExprKind::If { test, then, otherwise } => match (self.eval(test)?.is_true(), otherwise) {
                (true, _) => self.eval(then),
                (false, Some(otherwise)) => self.eval(otherwise),
                (false, None) => {
                    Ok(Value::undefined(Missing::Other("the inline if was false and has no else")))
                }
            },
        }
    }

    fn slice(&mut self, of: &'t Expr, bounds: &'t [Option<Box<Expr>>; 3]) -> Result<Value, Fault> {
        let of = self.eval(of)?;
        let mut values = [None, None, None];
        for (value, bound) in values.iter_mut().zip(bounds) {
            if let Some(bound) = bound {
                *value = Some(self.eval(bound)?);
            }
        }
        items::slice(&of, values, self.heap)
    }

    fn all(&mut self, list: &'t [Expr]) -> Result<Vec<Value>, Fault> {
        let mut values = Vec::new();
        for expr in list {
            let value = self.eval(expr)?;
            self.heap.push(&mut values, value)?;
        }
        Ok(values)
    }

    /// The arguments of a call, evaluated.
    pub(super) fn arguments(&mut self, arguments: &'t Arguments) -> Result<Call, Fault> {
        let mut call = Call { args: self.all(&arguments.positional)?, kwargs: Vec::new() };
        if let Some(more) = &arguments.more_positional {
            let mut cursor = self.eval(more)?.iter()?;
            while let Some(value) = cursor.next(self.heap)? {
                self.heap.push(&mut call.args, value)?;
            }
        }
        for (name, value) in &arguments.keyword {
            let value = self.eval(value)?;
            self.heap.push(&mut call.kwargs, (name.clone(), value))?;
        }
        if let Some(more) = &arguments.more_keyword {
            let Value::Dict(dict) = self.eval(more)? else {
                return Err(Fault::new("the argument after `**` must be a mapping"));
            };
            for (name, value) in &dict.entries {
                let Value::Str(name) = name else { return Err(Fault::new("keywords must be strings")) };
                let given = call.kwargs.iter().map(|(known, _)| Some(known));
                if self.heap.position(name, given)?.is_some() {
                    return Err(Fault::new(format!("the argument `{name}` is given twice")));
                }
                self.heap.push(&mut call.kwargs, (name.clone(), value.clone()))?;
            }
        }
        Ok(call)
    }
}
