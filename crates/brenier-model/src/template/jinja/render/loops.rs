//! `for`, and the `loop` that its body sees.

use super::super::calls::Call;
use super::super::compare;
use super::super::fault::Fault;
use super::super::syntax::For;
use super::super::value::{Cursor, Missing, Text, Value};
use super::{Flow, Renderer};

/// A `for` that runs.
pub(super) struct Loop<'t> {
    serial: u64,
    node: &'t For,
    /// The frame around the loop.
    outer: usize,
    depth: usize,
    items: Value,
    cursor: Cursor,
    /// Whether the rest of the items is known to meet the condition.
    filtered: bool,
    /// The item after the current one, where it was looked at: `Some(None)` after the last.
    after: Option<Option<Value>>,
    before: Option<Value>,
    current: Option<Value>,
    /// Items so far.
    index: usize,
    length: Option<usize>,
    changed: Option<Vec<Value>>,
}

impl<'t> Renderer<'t, '_> {
    pub(super) fn for_loop(&mut self, node: &'t For) -> Result<Flow, Fault> {
        let items = self.eval(&node.items)?;
        if !node.recursive {
            return self.run_loop(node, items, self.frame, 0);
        }
        let outer = self.frame;
        match self.captured(|renderer| renderer.run_loop(node, items, outer, 0))? {
            Ok(Value::Str(text)) => self.out.push(&text)?,
            Ok(_) => {}
            Err(flow) => return Ok(flow),
        }
        Ok(Flow::Next)
    }

    fn run_loop(&mut self, node: &'t For, items: Value, outer: usize, depth: usize) -> Result<Flow, Fault> {
        self.serial += 1;
        let serial = self.serial;
        let cursor = items.iter()?;
        self.loops.push(Loop {
            serial,
            node,
            outer,
            depth,
            items,
            cursor,
            filtered: false,
            after: None,
            before: None,
            current: None,
            index: 0,
            length: None,
            changed: None,
        });
        let flow = self.scoped(&node.body, Some(outer), |renderer| renderer.iterate(node, serial));
        self.loops.retain(|running| running.serial != serial);
        let otherwise = match (flow?, &node.otherwise) {
            // As in jinja2, `else` runs unless the body came to its end for some item.
            ((Flow::Next, false), Some(otherwise)) => otherwise,
            _ => return Ok(Flow::Next),
        };
        self.scoped(otherwise, Some(outer), |renderer| renderer.run(&otherwise.body))
    }

    /// Runs the body for each item; says also whether it came to its end for some item.
    fn iterate(&mut self, node: &'t For, serial: u64) -> Result<(Flow, bool), Fault> {
        let loop_name = self.program.names.find("loop");
        let mut ran = false;
        while let Some(item) = self.next_item(serial)? {
            self.heap.step(1)?;
            self.serial += 1;
            let fresh = self.serial;
            let frame = self.frame;
            self.frames[frame].serial = fresh;
            self.frames[frame].variables.clear();
            self.begin(&node.body)?;
            self.assign(&node.target, item)?;
            if let Some(name) = loop_name {
                self.declare(name, Some(Value::Loop(serial)))?;
            }
            match self.run(&node.body.body)? {
                Flow::Next => ran = true,
                Flow::Continue => {}
                Flow::Break => break,
            }
        }
        Ok((Flow::Next, ran))
    }

    /// The next item that meets the condition of the loop.
    fn next_item(&mut self, serial: u64) -> Result<Option<Value>, Fault> {
        let at = self.find(serial)?;
        let item = match self.loops[at].after.take() {
            Some(after) => after,
            None => self.fetch(serial)?,
        };
        let running = &mut self.loops[at];
        if let Some(item) = &item {
            running.index += 1;
            running.before = running.current.replace(item.clone());
        }
        Ok(item)
    }

    fn fetch(&mut self, serial: u64) -> Result<Option<Value>, Fault> {
        loop {
            let at = self.find(serial)?;
            let Some(item) = self.loops[at].cursor.next(self.heap)? else { return Ok(None) };
            let (node, outer) = (self.loops[at].node, self.loops[at].outer);
            let Some(condition) = node.condition.as_ref().filter(|_| !self.loops[at].filtered) else {
                return Ok(Some(item));
            };
            let holds = self.framed(Some(outer), |renderer| {
                renderer.assign(&node.target, item.clone())?;
                Ok(renderer.eval(condition)?.is_true())
            })?;
            if holds {
                return Ok(Some(item));
            }
        }
    }

    fn find(&self, serial: u64) -> Result<usize, Fault> {
        self.loops
            .iter()
            .rposition(|running| running.serial == serial)
            .ok_or_else(|| Fault::unsupported("the `loop` of a loop that is over"))
    }

    fn peek(&mut self, serial: u64) -> Result<Option<Value>, Fault> {
        let at = self.find(serial)?;
        if let Some(after) = &self.loops[at].after {
            return Ok(after.clone());
        }
        let after = self.fetch(serial)?;
        self.loops[at].after = Some(after.clone());
        Ok(after)
    }

    fn length(&mut self, serial: u64) -> Result<usize, Fault> {
        let at = self.find(serial)?;
        if let Some(length) = self.loops[at].length {
            return Ok(length);
        }
        let running = &self.loops[at];
        let length = if running.node.condition.is_none() && !matches!(running.items, Value::Generator(_)) {
            running.items.len(self.heap)?
        } else {
            let index = running.index;
            let looked_at = matches!(running.after, Some(Some(_)));
            let mut rest = Vec::new();
            while let Some(item) = self.fetch(serial)? {
                self.heap.push(&mut rest, item)?;
            }
            let count = rest.len();
            let list = self.heap.list(rest)?;
            let running = &mut self.loops[at];
            running.cursor = list.iter()?;
            running.filtered = true;
            count + index + usize::from(looked_at)
        };
        self.loops[at].length = Some(length);
        Ok(length)
    }

    pub(super) fn loop_attribute(&mut self, serial: u64, name: &Text) -> Result<Value, Fault> {
        let at = self.find(serial)?;
        let (index, depth) = (self.loops[at].index as i128, self.loops[at].depth as i128);
        Ok(match &**name {
            "index" => Value::Int(index),
            "index0" => Value::Int(index - 1),
            "first" => Value::Bool(index == 1),
            "depth" => Value::Int(depth + 1),
            "depth0" => Value::Int(depth),
            "length" => Value::Int(self.length(serial)? as i128),
            "revindex" => Value::Int(self.length(serial)? as i128 - index + 1),
            "revindex0" => Value::Int(self.length(serial)? as i128 - index),
            "last" => Value::Bool(self.peek(serial)?.is_none()),
            "previtem" if index == 1 => Value::undefined(Missing::Other("there is no previous item")),
            "previtem" => {
                let before = self.loops[at].before.clone();
                before.unwrap_or_else(|| Value::undefined(Missing::Other("there is no previous item")))
            }
            "nextitem" => {
                let after = self.peek(serial)?;
                after.unwrap_or_else(|| Value::undefined(Missing::Other("there is no next item")))
            }
            "cycle" => Value::method(&Value::Loop(serial), "cycle"),
            "changed" => Value::method(&Value::Loop(serial), "changed"),
            _ if name.starts_with('_') => return Err(Fault::unsupported(format_args!("`loop.{name}`"))),
            _ => Value::undefined(Missing::Attribute("loop", name.clone())),
        })
    }

    pub(super) fn loop_method(&mut self, serial: u64, name: &str, mut call: Call) -> Result<Value, Fault> {
        let at = self.find(serial)?;
        if !call.kwargs.is_empty() {
            return Err(Fault::new(format!("loop.{name} takes no named arguments")));
        }
        if name == "cycle" {
            if call.args.is_empty() {
                return Err(Fault::new("loop.cycle takes at least one item"));
            }
            let place = (self.loops[at].index.max(1) - 1) % call.args.len();
            return Ok(call.args.swap_remove(place));
        }
        let same = match &self.loops[at].changed {
            Some(before) if before.len() == call.args.len() => {
                let mut same = true;
                for (a, b) in before.iter().zip(&call.args) {
                    same = same && compare::equal(a, b, self.heap)?;
                }
                same
            }
            _ => false,
        };
        if !same {
            self.loops[at].changed = Some(call.args);
        }
        Ok(Value::Bool(!same))
    }

    /// `loop(items)` of a recursive loop: what the loop writes for other items.
    pub(super) fn call_loop(&mut self, serial: u64, call: Call) -> Result<Value, Fault> {
        let at = self.find(serial)?;
        let (node, outer, depth) = (self.loops[at].node, self.loops[at].outer, self.loops[at].depth);
        if !node.recursive {
            return Err(Fault::new("only a loop that is marked `recursive` can be called"));
        }
        let [items] = call.positional("loop")?;
        let items = items.ok_or_else(|| Fault::new("loop takes the items to go through"))?;
        let written = self.captured(|renderer| renderer.run_loop(node, items, outer, depth + 1))?;
        written.or_else(|_| self.heap.text(""))
    }
}
