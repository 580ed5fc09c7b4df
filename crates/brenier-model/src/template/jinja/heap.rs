//! What one rendering may use: steps, bytes and depth, counted where they are used.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::fault::Fault;
use super::value::{Dict, Items, Text, Value};

/// Steps (expressions, statements, items, and 128 bytes read) of one rendering, before what the input adds.
const STEPS: u64 = 5_000_000;
/// Steps that each byte of the input adds.
const STEPS_PER_BYTE: u64 = 4;
/// Bytes of text and lists that one rendering may make, before what the input adds.
const BYTES: u64 = 1 << 27;
/// Bytes of text and lists that each byte of the input adds.
const BYTES_PER_BYTE: u64 = 32;
/// Levels of lists within lists. JSON files stop at 128.
const LEVELS: u16 = 200;
/// Bytes that one item of a list takes, with the room a growing list keeps.
const ITEM: usize = 2 * size_of::<Value>();
/// Bytes that a value on the heap takes beside its content.
const HEADER: usize = 32;

/// The account of one rendering. Every text, list and dictionary that a template makes is made here, and paid
/// for before the memory is taken. Nothing is given back but the buffers that texts are written in, so the sum
/// bounds what is alive.
pub(super) struct Heap {
    steps: u64,
    steps_left: Cell<u64>,
    bytes: u64,
    bytes_left: Cell<u64>,
    namespaces: RefCell<Vec<Vec<(Text, Value)>>>,
}

impl Heap {
    /// The account for an input (messages, variables and source) of so many bytes.
    pub(super) fn new(input: usize) -> Self {
        let input = input as u64;
        let steps = STEPS.saturating_add(input.saturating_mul(STEPS_PER_BYTE));
        let bytes = BYTES.saturating_add(input.saturating_mul(BYTES_PER_BYTE));
        Self {
            steps,
            steps_left: Cell::new(steps),
            bytes,
            bytes_left: Cell::new(bytes),
            namespaces: RefCell::default(),
        }
    }

    pub(super) fn step(&self, count: usize) -> Result<(), Fault> {
        match self.steps_left.get().checked_sub(count as u64) {
            Some(left) => {
                self.steps_left.set(left);
                Ok(())
            }
            None => {
                self.steps_left.set(0);
                Err(Fault::new(format!("takes more than {} steps, the limit for this input", self.steps)))
            }
        }
    }

    /// Pays for looking at so many bytes.
    pub(super) fn read(&self, bytes: usize) -> Result<(), Fault> {
        self.step(bytes / 128)
    }

    /// The place of a name among others.
    pub(super) fn position<'n>(
        &self,
        name: &str,
        names: impl ExactSizeIterator<Item = Option<&'n Text>>,
    ) -> Result<Option<usize>, Fault> {
        self.step(names.len() / 16)?;
        for (at, other) in names.enumerate() {
            let Some(other) = other.filter(|other| other.len() == name.len()) else { continue };
            self.read(name.len())?;
            if **other == *name {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    pub(super) fn allocate(&self, bytes: usize) -> Result<(), Fault> {
        match self.bytes_left.get().checked_sub(bytes as u64) {
            Some(left) => {
                self.bytes_left.set(left);
                Ok(())
            }
            None => {
                self.bytes_left.set(0);
                let limit = self.bytes >> 20;
                Err(Fault::new(format!(
                    "makes more than {limit} MiB of text and lists, the limit for this input"
                )))
            }
        }
    }

    pub(super) fn text(&self, text: &str) -> Result<Value, Fault> {
        self.allocate(text.len() + HEADER)?;
        Ok(Value::Str(text.into()))
    }

    /// A writer of text that pays as it grows.
    pub(super) fn writer(&self) -> Writer<'_> {
        Writer { heap: self, text: String::new() }
    }

    /// Adds to a list that is being made.
    pub(super) fn push<T>(&self, items: &mut Vec<T>, item: T) -> Result<(), Fault> {
        self.step(1)?;
        self.allocate(ITEM)?;
        items.push(item);
        Ok(())
    }

    pub(super) fn list(&self, items: Vec<Value>) -> Result<Value, Fault> {
        Ok(Value::List(self.items(items)?))
    }

    pub(super) fn tuple(&self, items: Vec<Value>) -> Result<Value, Fault> {
        Ok(Value::Tuple(self.items(items)?))
    }

    fn items(&self, values: Vec<Value>) -> Result<Rc<Items>, Fault> {
        self.allocate(HEADER)?;
        let level = self.level(values.iter())?;
        Ok(Rc::new(Items { values, level, group: false }))
    }

    /// A group of `groupby`: a pair with names.
    pub(super) fn group(&self, key: Value, items: Value) -> Result<Value, Fault> {
        self.allocate(HEADER + 2 * ITEM)?;
        let values = vec![key, items];
        let level = self.level(values.iter())?;
        Ok(Value::Tuple(Rc::new(Items { values, level, group: true })))
    }

    /// A dictionary of entries whose keys differ.
    pub(super) fn dict(&self, entries: Vec<(Value, Value)>) -> Result<Value, Fault> {
        self.allocate(HEADER)?;
        let level = self.level(entries.iter().flat_map(|(key, value)| [key, value]))?;
        Ok(Value::Dict(Rc::new(Dict { entries, level })))
    }

    fn level<'v>(&self, values: impl Iterator<Item = &'v Value>) -> Result<u16, Fault> {
        let level = values.map(Value::level).max().unwrap_or(0) + 1;
        self.descend(level).map(|()| level)
    }

    /// Checks a level of nested values, where they are made and (since namespaces can form circles) printed.
    pub(super) fn descend(&self, level: u16) -> Result<(), Fault> {
        if level > LEVELS {
            return Err(Fault::new(format!("nests values in more than {LEVELS} levels")));
        }
        Ok(())
    }

    /// A new namespace. Namespaces are kept here and named by number: they can refer to one another in circles.
    pub(super) fn namespace(&self, attributes: Vec<(Text, Value)>) -> Result<Value, Fault> {
        self.allocate(HEADER + ITEM * attributes.len())?;
        let mut all = self.namespaces.borrow_mut();
        all.push(attributes);
        Ok(Value::Namespace(all.len() - 1))
    }

    /// The attribute at a place of a namespace, in the order in which they were set.
    pub(super) fn attribute_at(&self, namespace: usize, place: usize) -> Option<(Text, Value)> {
        self.namespaces.borrow().get(namespace)?.get(place).cloned()
    }

    pub(super) fn attribute(&self, namespace: usize, name: &str) -> Result<Option<Value>, Fault> {
        let all = self.namespaces.borrow();
        let Some(attributes) = all.get(namespace) else { return Ok(None) };
        let place = self.position(name, attributes.iter().map(|(known, _)| Some(known)))?;
        Ok(place.map(|at| attributes[at].1.clone()))
    }

    pub(super) fn set_attribute(&self, namespace: usize, name: &Text, value: Value) -> Result<(), Fault> {
        if name.starts_with('_') {
            return Err(Fault::new(format!(
                "a namespace takes no attribute that begins with `_`, as `{name}` does"
            )));
        }
        let mut all = self.namespaces.borrow_mut();
        let Some(attributes) = all.get_mut(namespace) else { return Ok(()) };
        match self.position(name, attributes.iter().map(|(known, _)| Some(known)))? {
            Some(at) => attributes[at].1 = value,
            None => {
                self.allocate(ITEM)?;
                attributes.push((name.clone(), value));
            }
        }
        Ok(())
    }
}

/// Text that is being written.
pub(super) struct Writer<'h> {
    heap: &'h Heap,
    text: String,
}

impl<'h> Writer<'h> {
    pub(super) fn heap(&self) -> &'h Heap {
        self.heap
    }

    pub(super) fn push(&mut self, text: &str) -> Result<(), Fault> {
        self.grow(text.len())?;
        self.text.push_str(text);
        Ok(())
    }

    pub(super) fn push_char(&mut self, c: char) -> Result<(), Fault> {
        self.grow(c.len_utf8())?;
        self.text.push(c);
        Ok(())
    }

    pub(super) fn extend(&mut self, chars: impl Iterator<Item = char>) -> Result<(), Fault> {
        for c in chars {
            self.push_char(c)?;
        }
        Ok(())
    }

    pub(super) fn repeat(&mut self, text: &str, count: usize) -> Result<(), Fault> {
        self.grow(text.len().saturating_mul(count))?;
        self.heap.step(count / 16)?;
        for _ in 0..count {
            self.text.push_str(text);
        }
        Ok(())
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    pub(super) fn into_string(self) -> String {
        self.text
    }

    pub(super) fn finish(self) -> Result<Value, Fault> {
        let text = self.heap.text(&self.text)?;
        let left = self.heap.bytes_left.get();
        self.heap.bytes_left.set(left + self.text.capacity() as u64);
        Ok(text)
    }

    fn grow(&mut self, more: usize) -> Result<(), Fault> {
        let needed = self.text.len().saturating_add(more);
        if needed > self.text.capacity() {
            let capacity = needed.max(self.text.capacity() * 2).max(16);
            self.heap.allocate(capacity - self.text.capacity())?;
            self.text.reserve_exact(capacity - self.text.len());
        }
        Ok(())
    }
}
