//! The values of a template: Python's, as far as templates can see them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use super::fault::Fault;
use super::heap::Heap;

/// Text that is shared, never copied.
pub(super) type Text = Arc<str>;

#[derive(Clone)]
pub(super) enum Value {
    Undefined(Rc<Missing>),
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(Text),
    /// A string that `safe` or `escape` marked as HTML (`Markup`).
    Markup(Text),
    List(Rc<Items>),
    Tuple(Rc<Items>),
    Dict(Rc<Dict>),
    Range(Rc<Range>),
    /// `keys()`, `values()` or `items()` of a dictionary.
    View(View, Rc<Dict>),
    /// A generator: it can be gone through once.
    Generator(Rc<Generator>),
    /// A namespace, by its number on the heap.
    Namespace(usize),
    Cycler(Rc<Cycler>),
    Joiner(Rc<Joiner>),
    /// The `loop` of a `for` that runs, by its serial number.
    Loop(u64),
    /// A macro, with the frame that it was defined in.
    Macro(Closure),
    Function(Function),
    /// A method of a value.
    Method(Rc<(Value, &'static str)>),
}

pub(super) struct Items {
    pub(super) values: Vec<Value>,
    pub(super) level: u16,
    /// Whether this is a group of `groupby`, a pair with the names `grouper` and `list`.
    pub(super) group: bool,
}

pub(super) struct Dict {
    pub(super) entries: Vec<(Value, Value)>,
    pub(super) level: u16,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) start: i128,
    pub(super) stop: i128,
    pub(super) step: i128,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    Keys,
    Values,
    Items,
}

pub(super) struct Generator {
    pub(super) cursor: RefCell<Cursor>,
    level: u16,
}

pub(super) struct Cycler {
    pub(super) items: Vec<Value>,
    pub(super) at: Cell<usize>,
    level: u16,
}

pub(super) struct Joiner {
    pub(super) separator: Value,
    pub(super) used: Cell<bool>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Closure {
    /// Number of the macro in the program.
    pub(super) number: usize,
    /// Index and serial number of the frame of its definition.
    pub(super) frame: usize,
    pub(super) serial: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Function {
    Range,
    Dict,
    DictFromKeys,
    Namespace,
    Cycler,
    Joiner,
    Lipsum,
    RaiseException,
    StrftimeNow,
}

/// What is not there.
pub(super) enum Missing {
    Name(Text),
    Attribute(&'static str, Text),
    Element(&'static str, Text),
    Parameter(Text),
    Unsafe(&'static str, Text),
    Other(&'static str),
}

impl Missing {
    /// The error of using it.
    pub(super) fn fault(&self) -> Fault {
        Fault::new(match self {
            Self::Name(name) => format!("`{name}` is undefined"),
            Self::Attribute(of, name) => format!("`{of}` object has no attribute `{name}`"),
            Self::Element(of, key) => format!("`{of}` object has no element {key}"),
            Self::Parameter(name) => format!("parameter `{name}` was not provided"),
            Self::Unsafe(of, name) => format!("access to attribute `{name}` of `{of}` object is unsafe"),
            Self::Other(what) => (*what).to_owned(),
        })
    }
}

impl Value {
    pub(super) fn undefined(missing: Missing) -> Self {
        Self::Undefined(Rc::new(missing))
    }

    pub(super) fn method(receiver: &Value, name: &'static str) -> Self {
        Self::Method(Rc::new((receiver.clone(), name)))
    }

    /// A generator of items that are known already.
    pub(super) fn generator(heap: &Heap, values: Vec<Value>) -> Result<Self, Fault> {
        let cursor = heap.list(values)?.iter()?;
        let level = cursor.level() + 1;
        heap.descend(level)?;
        Ok(Self::Generator(Rc::new(Generator { cursor: RefCell::new(cursor), level })))
    }

    pub(super) fn cycler(heap: &Heap, items: Vec<Value>) -> Result<Self, Fault> {
        let level = items.iter().map(Value::level).max().unwrap_or(0) + 1;
        heap.descend(level)?;
        Ok(Self::Cycler(Rc::new(Cycler { items, at: Cell::new(0), level })))
    }

    /// Python's name of the type.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Undefined(_) => "Undefined",
            Self::None => "NoneType",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float",
            Self::Str(_) => "str",
            Self::Markup(_) => "Markup",
            Self::List(_) => "list",
            Self::Tuple(_) => "tuple",
            Self::Dict(_) => "dict",
            Self::Range(_) => "range",
            Self::View(View::Keys, _) => "dict_keys",
            Self::View(View::Values, _) => "dict_values",
            Self::View(View::Items, _) => "dict_items",
            Self::Generator(_) => "generator",
            Self::Namespace(_) => "Namespace",
            Self::Cycler(_) => "Cycler",
            Self::Joiner(_) => "Joiner",
            Self::Loop(_) => "LoopContext",
            Self::Macro(_) => "Macro",
            Self::Function(_) => "function",
            Self::Method(_) => "method",
        }
    }

    /// Levels of lists within this value, itself included.
    pub(super) fn level(&self) -> u16 {
        match self {
            Self::List(items) | Self::Tuple(items) => items.level,
            Self::Dict(dict) | Self::View(_, dict) => dict.level,
            Self::Generator(generator) => generator.level,
            Self::Cycler(cycler) => cycler.level,
            Self::Joiner(joiner) => joiner.separator.level() + 1,
            Self::Method(method) => method.0.level() + 1,
            _ => 0,
        }
    }

    /// The text of a string, marked or not.
    pub(super) fn as_str(&self) -> Option<&Text> {
        match self {
            Self::Str(text) | Self::Markup(text) => Some(text),
            _ => None,
        }
    }

    /// The number that this is, where it is one.
    pub(super) fn as_number(&self) -> Option<Number> {
        match self {
            Self::Bool(value) => Some(Number::Int(i128::from(*value))),
            Self::Int(value) => Some(Number::Int(*value)),
            Self::Float(value) => Some(Number::Float(*value)),
            _ => None,
        }
    }

    /// An integer, as indices and counts must be.
    pub(super) fn as_index(&self) -> Option<i128> {
        match self.as_number() {
            Some(Number::Int(value)) => Some(value),
            _ => None,
        }
    }

    pub(super) fn is_true(&self) -> bool {
        match self {
            Self::Undefined(_) | Self::None => false,
            Self::Bool(value) => *value,
            Self::Int(value) => *value != 0,
            Self::Float(value) => *value != 0.0,
            Self::Str(text) | Self::Markup(text) => !text.is_empty(),
            Self::List(items) | Self::Tuple(items) => !items.values.is_empty(),
            Self::Dict(dict) | Self::View(_, dict) => !dict.entries.is_empty(),
            Self::Range(range) => range.len() > 0,
            _ => true,
        }
    }

    /// `len(value)`; undefined has none of anything. Loops are asked where they run.
    pub(super) fn len(&self, heap: &Heap) -> Result<usize, Fault> {
        Ok(match self {
            Self::Undefined(_) => 0,
            Self::Str(text) | Self::Markup(text) => {
                heap.read(text.len())?;
                text.chars().count()
            }
            Self::List(items) | Self::Tuple(items) => items.values.len(),
            Self::Dict(dict) | Self::View(_, dict) => dict.entries.len(),
            Self::Range(range) => range.len(),
            _ => return Err(Fault::new(format!("object of type `{}` has no length", self.type_name()))),
        })
    }

    /// `iter(value)`.
    pub(super) fn iter(&self) -> Result<Cursor, Fault> {
        Ok(match self {
            Self::Undefined(_) => Cursor::Empty,
            Self::Str(text) => Cursor::Chars(text.clone(), 0),
            Self::List(items) | Self::Tuple(items) => Cursor::Items(items.clone(), 0),
            Self::Dict(dict) => Cursor::Entries(View::Keys, dict.clone(), 0),
            Self::View(view, dict) => Cursor::Entries(*view, dict.clone(), 0),
            Self::Range(range) => Cursor::Range(**range),
            Self::Generator(generator) => Cursor::Shared(generator.clone()),
            Self::Markup(_) => return Err(Fault::unsupported("going through the characters of markup")),
            Self::Loop(_) => return Err(Fault::unsupported("going through `loop`")),
            _ => return Err(Fault::new(format!("`{}` object is not iterable", self.type_name()))),
        })
    }

    /// All items, in a new vector that is paid for.
    pub(super) fn collect(&self, heap: &Heap) -> Result<Vec<Value>, Fault> {
        let mut items = Vec::new();
        let mut cursor = self.iter()?;
        while let Some(item) = cursor.next(heap)? {
            heap.push(&mut items, item)?;
        }
        Ok(items)
    }
}

#[derive(Clone, Copy)]
pub(super) enum Number {
    Int(i128),
    Float(f64),
}

impl Number {
    pub(super) fn float(self) -> f64 {
        match self {
            Self::Int(value) => value as f64,
            Self::Float(value) => value,
        }
    }
}

impl Range {
    pub(super) fn len(&self) -> usize {
        let span = if self.step > 0 {
            self.stop.saturating_sub(self.start)
        } else {
            self.start.saturating_sub(self.stop)
        };
        let step = self.step.unsigned_abs();
        usize::try_from(u128::try_from(span).unwrap_or(0).div_ceil(step)).unwrap_or(usize::MAX)
    }

    pub(super) fn get(&self, index: usize) -> i128 {
        self.start + self.step * index as i128
    }
}

/// A place in what is gone through.
#[derive(Clone)]
pub(super) enum Cursor {
    Empty,
    Items(Rc<Items>, usize),
    Chars(Text, usize),
    Entries(View, Rc<Dict>, usize),
    Range(Range),
    Shared(Rc<Generator>),
}

impl Cursor {
    pub(super) fn next(&mut self, heap: &Heap) -> Result<Option<Value>, Fault> {
        heap.step(1)?;
        Ok(match self {
            Self::Empty => None,
            Self::Items(items, at) => {
                *at += 1;
                items.values.get(*at - 1).cloned()
            }
            Self::Chars(text, at) => match text[*at..].chars().next() {
                Some(c) => {
                    *at += c.len_utf8();
                    Some(heap.text(c.encode_utf8(&mut [0; 4]))?)
                }
                None => None,
            },
            Self::Entries(view, dict, at) => {
                *at += 1;
                match (dict.entries.get(*at - 1), view) {
                    (None, _) => None,
                    (Some((key, _)), View::Keys) => Some(key.clone()),
                    (Some((_, value)), View::Values) => Some(value.clone()),
                    (Some((key, value)), View::Items) => {
                        let mut pair = Vec::with_capacity(2);
                        heap.push(&mut pair, key.clone())?;
                        heap.push(&mut pair, value.clone())?;
                        Some(heap.tuple(pair)?)
                    }
                }
            }
            Self::Range(range) if range.len() == 0 => None,
            Self::Range(range) => {
                let item = range.start;
                range.start = range.start.saturating_add(range.step);
                Some(Value::Int(item))
            }
            Self::Shared(generator) => generator.cursor.borrow_mut().next(heap)?,
        })
    }

    fn level(&self) -> u16 {
        match self {
            Self::Items(items, _) => items.level,
            Self::Entries(_, dict, _) => dict.level,
            Self::Shared(generator) => generator.level,
            Self::Empty | Self::Chars(..) | Self::Range(_) => 0,
        }
    }
}

/// Lists of values are what templates fill memory with.
const _: () = assert!(size_of::<Value>() <= 32);
