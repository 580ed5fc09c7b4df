//! Rendering: a program runs over the variables that it is given.

mod expressions;
mod functions;
mod loops;

use chrono::NaiveDateTime;

use super::fault::Fault;
use super::filters;
use super::heap::{Heap, Writer};
use super::parser::Program;
use super::print;
use super::syntax::{Applied, Macro, Name, Scope, Statement, StatementKind, Target};
use super::value::{Closure, Function, Missing, Text, Value};
use loops::Loop;

/// Evaluations within evaluations: what bounds recursion, of macros above all.
const DEPTH: usize = 500;
/// Bytes that a variable takes in its frame.
const VARIABLE: usize = size_of::<(Name, Option<Value>)>();

/// Renders a program with variables.
pub(super) fn render(
    program: &Program,
    variables: Vec<(Text, Value)>,
    now: Option<NaiveDateTime>,
    heap: &Heap,
) -> Result<String, Fault> {
    let mut given: Vec<Option<Value>> = program.names.all().iter().map(|name| global(name)).collect();
    for (name, value) in variables {
        if let Some(Name(number)) = program.names.find(&name) {
            given[number as usize] = Some(value);
        }
    }
    let mut renderer = Renderer {
        program,
        heap,
        now,
        given,
        frames: Vec::new(),
        frame: 0,
        serial: 0,
        loops: Vec::new(),
        out: heap.writer(),
        depth: 0,
    };
    renderer.scoped(&program.root, None, |renderer| renderer.run(&program.root.body).map(drop))?;
    Ok(renderer.out.into_string())
}

fn global(name: &str) -> Option<Value> {
    Some(Value::Function(match name {
        "range" => Function::Range,
        "dict" => Function::Dict,
        "namespace" => Function::Namespace,
        "cycler" => Function::Cycler,
        "joiner" => Function::Joiner,
        "lipsum" => Function::Lipsum,
        "raise_exception" => Function::RaiseException,
        "strftime_now" => Function::StrftimeNow,
        _ => return None,
    }))
}

struct Renderer<'t, 'h> {
    program: &'t Program,
    heap: &'h Heap,
    now: Option<NaiveDateTime>,
    /// Variables from outside, by the number of their names.
    given: Vec<Option<Value>>,
    frames: Vec<Frame>,
    /// The innermost frame.
    frame: usize,
    /// Frames and loops so far.
    serial: u64,
    loops: Vec<Loop<'t>>,
    out: Writer<'h>,
    depth: usize,
}

/// The variables of one scope.
struct Frame {
    /// The frame of the scope around.
    outer: Option<usize>,
    serial: u64,
    /// Whether this is a block that sees of the template's own variables only those that are set.
    block: bool,
    /// `None` is a variable that is not set yet.
    variables: Vec<(Name, Option<Value>)>,
}

/// How statements end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    Next,
    Break,
    Continue,
}

impl<'t> Renderer<'t, '_> {
    fn deeper<T>(&mut self, run: impl FnOnce(&mut Self) -> Result<T, Fault>) -> Result<T, Fault> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(Fault::new(format!("nests calls and expressions in more than {DEPTH} levels")));
        }
        let result = run(self);
        self.depth -= 1;
        result
    }

    /// Runs something in a new frame.
    fn framed<T>(
        &mut self,
        outer: Option<usize>,
        run: impl FnOnce(&mut Self) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let before = (self.frame, self.frames.len());
        self.serial += 1;
        self.frames.push(Frame { outer, serial: self.serial, block: false, variables: Vec::new() });
        self.frame = before.1;
        let result = run(self);
        self.frames.truncate(before.1);
        self.frame = before.0;
        result
    }

    /// Runs something in a new frame for a scope.
    fn scoped<T>(
        &mut self,
        scope: &Scope,
        outer: Option<usize>,
        run: impl FnOnce(&mut Self) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        self.framed(outer, |renderer| {
            renderer.begin(scope)?;
            run(renderer)
        })
    }

    /// The variables of a scope as they are when it begins.
    fn begin(&mut self, scope: &Scope) -> Result<(), Fault> {
        for name in &self.program.unset[scope.number] {
            self.declare(*name, None)?;
        }
        Ok(())
    }

    fn declare(&mut self, name: Name, value: Option<Value>) -> Result<(), Fault> {
        let variables = &mut self.frames[self.frame].variables;
        self.heap.step(variables.len() / 16)?;
        match variables.iter_mut().find(|(known, _)| *known == name) {
            Some((_, place)) => {
                *place = value;
                Ok(())
            }
            None => {
                if variables.len() == variables.capacity() {
                    self.heap.allocate(VARIABLE * variables.len().max(4))?;
                }
                variables.push((name, value));
                Ok(())
            }
        }
    }

    fn look_up(&self, name: Name) -> Result<Value, Fault> {
        let mut at = (!self.frames.is_empty()).then_some(self.frame);
        let mut through_block = false;
        while let Some(frame) = at.map(|at| &self.frames[at]) {
            self.heap.step(frame.variables.len() / 16)?;
            match frame.variables.iter().find(|(known, _)| *known == name) {
                Some((_, Some(value))) => return Ok(value.clone()),
                Some((_, None)) if !through_block => return Ok(self.undefined(name)),
                _ => {}
            }
            through_block |= frame.block;
            at = frame.outer;
        }
        Ok(match &self.given[name.0 as usize] {
            Some(value) => value.clone(),
            None => self.undefined(name),
        })
    }

    fn undefined(&self, name: Name) -> Value {
        Value::undefined(Missing::Name(self.program.names.text(name).clone()))
    }

    /// What statements write, as a value.
    fn captured(
        &mut self,
        run: impl FnOnce(&mut Self) -> Result<Flow, Fault>,
    ) -> Result<Result<Value, Flow>, Fault> {
        let outer = std::mem::replace(&mut self.out, self.heap.writer());
        let flow = run(self);
        let text = std::mem::replace(&mut self.out, outer);
        match flow? {
            Flow::Next => Ok(Ok(text.finish()?)),
            left => Ok(Err(left)),
        }
    }

    fn run(&mut self, body: &'t [Statement]) -> Result<Flow, Fault> {
        for statement in body {
            self.heap.step(1).map_err(|fault| fault.at(statement.line))?;
            let flow = self
                .deeper(|renderer| renderer.statement(statement))
                .map_err(|fault| fault.at(statement.line))?;
            if flow != Flow::Next {
                return Ok(flow);
            }
        }
        Ok(Flow::Next)
    }

    fn statement(&mut self, statement: &'t Statement) -> Result<Flow, Fault> {
        match &statement.kind {
            StatementKind::Text(text) => self.out.push(text)?,
            StatementKind::Print(value) => {
                let value = self.eval(value)?;
                print::write(&value, &mut self.out)?;
            }
            StatementKind::If { branches, otherwise } => {
                for (test, body) in branches {
                    if self.eval(test)?.is_true() {
                        return self.run(body);
                    }
                }
                return self.run(otherwise);
            }
            StatementKind::For(node) => return self.for_loop(node),
            StatementKind::Set { target, value } => {
                self.check_namespaces(target)?;
                let value = self.eval(value)?;
                self.assign(target, value)?;
            }
            StatementKind::SetBlock { target, filters, body } => match self.filtered(filters, body)? {
                Ok(value) => self.assign(target, value)?,
                Err(flow) => return Ok(flow),
            },
            StatementKind::FilterBlock { filters, body } => match self.filtered(filters, body)? {
                Ok(value) => self.write_text(&value)?,
                Err(flow) => return Ok(flow),
            },
            StatementKind::With { values, body } => {
                let mut bound = Vec::with_capacity(values.len());
                for (target, value) in values {
                    bound.push((target, self.eval(value)?));
                }
                return self.scoped(body, Some(self.frame), |renderer| {
                    for (target, value) in bound {
                        renderer.assign(target, value)?;
                    }
                    renderer.run(&body.body)
                });
            }
            StatementKind::Macro { name, number } => {
                let closure = self.closure(*number);
                self.declare(*name, Some(closure))?;
            }
            StatementKind::Call { call, block } => {
                let caller = self.closure(*block);
                let written = self.call_with(call, Some(caller))?;
                self.write_text(&written)?;
            }
            StatementKind::Block { required: true, .. } => {
                return Err(Fault::new("a required block is not defined"));
            }
            StatementKind::Block { body, scoped, .. } => {
                let outer = if *scoped { self.frame } else { 0 };
                self.scoped(body, Some(outer), |renderer| {
                    renderer.frames[renderer.frame].block = true;
                    renderer.run(&body.body)
                })?;
            }
            StatementKind::Autoescape { enabled, body } => {
                return self.scoped(body, Some(self.frame), |renderer| {
                    if renderer.eval(enabled)?.is_true() {
                        return Err(Fault::unsupported("autoescape"));
                    }
                    renderer.run(&body.body)
                });
            }
            StatementKind::Generation { body } => {
                self.scoped(body, Some(self.frame), |renderer| renderer.run(&body.body))?;
            }
            StatementKind::Break => return Ok(Flow::Break),
            StatementKind::Continue => return Ok(Flow::Continue),
            StatementKind::Elsewhere(tag) => {
                return Err(Fault::new(format!("`{tag}` needs another template, and there is none")));
            }
        }
        Ok(Flow::Next)
    }

    /// Writes what a block or a call made, which must be a string.
    fn write_text(&mut self, value: &Value) -> Result<(), Fault> {
        match value.as_str() {
            Some(text) => self.out.push(text),
            None => Err(Fault::new(format!("expected a string to write, found `{}`", value.type_name()))),
        }
    }

    /// What the body of a block writes, through the filters.
    fn filtered(&mut self, filters: &'t [Applied], body: &'t Scope) -> Result<Result<Value, Flow>, Fault> {
        self.scoped(body, Some(self.frame), |renderer| {
            let mut value = match renderer.captured(|renderer| renderer.run(&body.body))? {
                Ok(value) => value,
                Err(flow) => return Ok(Err(flow)),
            };
            for filter in filters {
                let call = renderer.arguments(&filter.arguments)?;
                value = filters::call(&filter.name, value, call, renderer.heap)
                    .map_err(|fault| fault.at(filter.line))?;
            }
            Ok(Ok(value))
        })
    }

    fn closure(&self, number: usize) -> Value {
        let serial = self.frames[self.frame].serial;
        Value::Macro(Closure { number, frame: self.frame, serial })
    }

    /// What is assigned to an attribute must be a namespace, before anything is evaluated.
    fn check_namespaces(&self, target: &Target) -> Result<(), Fault> {
        match target {
            Target::Name(_) => Ok(()),
            Target::Tuple(targets) => targets.iter().try_for_each(|target| self.check_namespaces(target)),
            Target::Attribute(name, _) => match self.look_up(*name)? {
                Value::Namespace(_) => Ok(()),
                _ => Err(Fault::new("an attribute can be assigned on a namespace alone")),
            },
        }
    }

    fn assign(&mut self, target: &Target, value: Value) -> Result<(), Fault> {
        match target {
            Target::Name(name) => self.declare(*name, Some(value)),
            Target::Attribute(name, attribute) => match self.look_up(*name)? {
                Value::Namespace(number) => self.heap.set_attribute(number, attribute, value),
                _ => Err(Fault::new("an attribute can be assigned on a namespace alone")),
            },
            Target::Tuple(targets) => {
                let mut cursor =
                    value.iter().map_err(|_| Fault::new(format!("cannot unpack `{}`", value.type_name())))?;
                let mut values = Vec::with_capacity(targets.len());
                while values.len() <= targets.len()
                    && let Some(value) = cursor.next(self.heap)?
                {
                    values.push(value);
                }
                if values.len() != targets.len() {
                    let (expected, found) = (targets.len(), values.len());
                    let found = if found > expected { "more".to_owned() } else { found.to_string() };
                    return Err(Fault::new(format!("expected {expected} values to unpack, found {found}")));
                }
                for (target, value) in targets.iter().zip(values) {
                    self.assign(target, value)?;
                }
                Ok(())
            }
        }
    }

    fn definition(&self, number: usize) -> &'t Macro {
        &self.program.macros[number]
    }
}
