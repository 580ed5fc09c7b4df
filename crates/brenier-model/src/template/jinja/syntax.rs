//! The syntax tree of a template.

use super::fault::Fault;
use super::value::Text;

/// Levels of expressions within expressions. Python stops at 200 brackets.
const EXPRESSION_LEVELS: u16 = 200;

/// A variable's name, by its number in [`Names`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Name(pub(super) u32);

/// Statements with variables of their own.
#[derive(Debug)]
pub(super) struct Scope {
    pub(super) body: Vec<Statement>,
    /// Its number in the program.
    pub(super) number: usize,
}

#[derive(Debug)]
pub(super) struct Statement {
    pub(super) line: u32,
    pub(super) kind: StatementKind,
}

#[derive(Debug)]
pub(super) enum StatementKind {
    Text(Text),
    Print(Expr),
    If {
        branches: Vec<(Expr, Vec<Statement>)>,
        otherwise: Vec<Statement>,
    },
    For(Box<For>),
    Set {
        target: Target,
        value: Expr,
    },
    SetBlock {
        target: Target,
        filters: Vec<Applied>,
        body: Scope,
    },
    With {
        values: Vec<(Target, Expr)>,
        body: Scope,
    },
    /// A macro, by its number.
    Macro {
        name: Name,
        number: usize,
    },
    /// `call`, with the macro that is its block.
    Call {
        call: Expr,
        block: usize,
    },
    FilterBlock {
        filters: Vec<Applied>,
        body: Scope,
    },
    Block {
        body: Scope,
        scoped: bool,
        required: bool,
    },
    Autoescape {
        enabled: Expr,
        body: Scope,
    },
    /// `generation`, whose block is a macro in jinja2.
    Generation {
        body: Scope,
    },
    Break,
    Continue,
    /// A tag that needs other templates, of which there are none.
    Elsewhere(&'static str),
}

#[derive(Debug)]
pub(super) struct For {
    pub(super) target: Target,
    pub(super) items: Expr,
    pub(super) condition: Option<Expr>,
    pub(super) recursive: bool,
    pub(super) body: Scope,
    pub(super) otherwise: Option<Scope>,
}

#[derive(Debug)]
pub(super) enum Target {
    Name(Name),
    Attribute(Name, Text),
    Tuple(Vec<Target>),
}

#[derive(Debug)]
pub(super) struct Macro {
    pub(super) name: Option<Text>,
    pub(super) parameters: Vec<(Name, Option<Expr>)>,
    pub(super) body: Scope,
    /// The special variables that the body reads.
    pub(super) caller: bool,
    pub(super) kwargs: bool,
    pub(super) varargs: bool,
}

/// A filter or a test, with its arguments.
#[derive(Debug)]
pub(super) struct Applied {
    pub(super) line: u32,
    pub(super) name: Text,
    pub(super) arguments: Arguments,
}

#[derive(Debug, Default)]
pub(super) struct Arguments {
    pub(super) positional: Vec<Expr>,
    pub(super) keyword: Vec<(Text, Expr)>,
    pub(super) more_positional: Option<Box<Expr>>,
    pub(super) more_keyword: Option<Box<Expr>>,
}

#[derive(Debug)]
pub(super) struct Expr {
    pub(super) line: u32,
    level: u16,
    pub(super) kind: ExprKind,
}

#[derive(Debug)]
pub(super) enum ExprKind {
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(Text),
    Name(Name),
    List(Vec<Expr>),
    Tuple(Vec<Expr>),
    Dict(Vec<(Expr, Expr)>),
    Attribute(Box<Expr>, Text),
    Item(Box<Expr>, Box<Expr>),
    Slice(Box<Expr>, [Option<Box<Expr>>; 3]),
    Call(Box<Expr>, Arguments),
    Filter(Box<Expr>, Box<Applied>),
    Test(Box<Expr>, Box<Applied>),
    Not(Box<Expr>),
    Negative(Box<Expr>),
    Positive(Box<Expr>),
    Binary(Operator, Box<Expr>, Box<Expr>),
    Concat(Vec<Expr>),
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    Compare(Box<Expr>, Vec<(Comparison, Expr)>),
    If { test: Box<Expr>, then: Box<Expr>, otherwise: Option<Box<Expr>> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    FloorDivide,
    Remainder,
    Power,
}

impl Operator {
    pub(super) fn sign(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::FloorDivide => "//",
            Self::Remainder => "%",
            Self::Power => "**",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    NotIn,
}

impl Expr {
    /// An expression, unless it is nested too deep.
    pub(super) fn new(line: u32, kind: ExprKind) -> Result<Self, Fault> {
        let mut level = 0;
        kind.children(&mut |child| level = level.max(child.level + 1));
        if level > EXPRESSION_LEVELS {
            return Err(Fault::syntax(line, too_deep()));
        }
        Ok(Self { line, level, kind })
    }
}

/// What is wrong with an expression that is nested too deep.
pub(super) fn too_deep() -> String {
    format!("an expression nested in more than {EXPRESSION_LEVELS} levels")
}

impl ExprKind {
    /// Calls a function with each part of an expression, in the order of evaluation.
    pub(super) fn children<'e>(&'e self, see: &mut dyn FnMut(&'e Expr)) {
        match self {
            Self::None | Self::Bool(_) | Self::Int(_) | Self::Float(_) | Self::Str(_) | Self::Name(_) => {}
            Self::List(items) | Self::Tuple(items) | Self::Concat(items) => items.iter().for_each(see),
            Self::Dict(entries) => entries.iter().for_each(|(key, value)| {
                see(key);
                see(value);
            }),
            Self::Attribute(of, _) | Self::Not(of) | Self::Negative(of) | Self::Positive(of) => see(of),
            Self::Item(a, b) | Self::Binary(_, a, b) | Self::And(a, b) | Self::Or(a, b) => {
                see(a);
                see(b);
            }
            Self::Slice(of, bounds) => {
                see(of);
                bounds.iter().flatten().for_each(|bound| see(bound));
            }
            Self::Call(of, arguments) => {
                see(of);
                arguments.children(see);
            }
            Self::Filter(of, applied) | Self::Test(of, applied) => {
                see(of);
                applied.arguments.children(see);
            }
            Self::Compare(first, rest) => {
                see(first);
                rest.iter().for_each(|(_, other)| see(other));
            }
            Self::If { test, then, otherwise } => {
                see(test);
                see(then);
                if let Some(otherwise) = otherwise {
                    see(otherwise);
                }
            }
        }
    }
}

impl Arguments {
    pub(super) fn children<'e>(&'e self, see: &mut dyn FnMut(&'e Expr)) {
        self.positional.iter().for_each(&mut *see);
        self.keyword.iter().for_each(|(_, value)| see(value));
        if let Some(more) = &self.more_positional {
            see(more);
        }
        if let Some(more) = &self.more_keyword {
            see(more);
        }
    }
}

/// The names of a template.
#[derive(Debug, Default)]
pub(super) struct Names {
    numbers: std::collections::HashMap<Text, u32>,
    names: Vec<Text>,
}

impl Names {
    pub(super) fn number(&mut self, name: &str) -> Name {
        if let Some(number) = self.numbers.get(name) {
            return Name(*number);
        }
        let number = self.names.len() as u32;
        let text = Text::from(name);
        self.numbers.insert(text.clone(), number);
        self.names.push(text);
        Name(number)
    }

    pub(super) fn find(&self, name: &str) -> Option<Name> {
        self.numbers.get(name).copied().map(Name)
    }

    pub(super) fn text(&self, name: Name) -> &Text {
        &self.names[name.0 as usize]
    }

    pub(super) fn all(&self) -> &[Text] {
        &self.names
    }
}
