//! Expressions, from the loosest operator to the tightest.

use super::super::fault::Fault;
use super::super::lexer::TokenKind;
use super::super::syntax::{Applied, Arguments, Comparison, Expr, ExprKind, Operator};
use super::super::value::Text;
use super::Parser;

impl Parser {
    /// An expression, or several with commas between them, which make a tuple.
    pub(super) fn tuple(&mut self) -> Result<Expr, Fault> {
        self.tuple_of(Self::expression, &[], false)
    }

    /// As [`tuple`](Self::tuple), where `a if b else c` needs brackets; up to one of the words.
    pub(super) fn tuple_without_if(&mut self, ends: &[&str]) -> Result<Expr, Fault> {
        self.tuple_of(Self::or, ends, false)
    }

    fn tuple_of(
        &mut self,
        parse: fn(&mut Self) -> Result<Expr, Fault>,
        ends: &[&str],
        bracketed: bool,
    ) -> Result<Expr, Fault> {
        let line = self.line();
        let mut items = Vec::new();
        let mut tuple = false;
        while !self.tuple_ends(ends) {
            items.push(parse(self)?);
            if !self.skip_sign(",") {
                break;
            }
            tuple = true;
        }
        if !tuple {
            if let Some(only) = items.pop() {
                return Ok(only);
            }
            if !bracketed {
                return Err(self.unexpected("an expression"));
            }
        }
        Expr::new(line, ExprKind::Tuple(items))
    }

    fn tuple_ends(&self, ends: &[&str]) -> bool {
        matches!(self.peek(), TokenKind::PrintEnd | TokenKind::BlockEnd | TokenKind::Sign(")"))
            || ends.iter().any(|end| self.is_name(end))
    }

    pub(super) fn expression(&mut self) -> Result<Expr, Fault> {
        let mut line = self.line();
        let mut value = self.or()?;
        while self.skip_name("if") {
            let test = Box::new(self.or()?);
            let otherwise =
                if self.skip_name("else") { Some(Box::new(self.nested(Self::expression)?)) } else { None };
            value = Expr::new(line, ExprKind::If { test, then: Box::new(value), otherwise })?;
            line = self.line();
        }
        Ok(value)
    }

    fn or(&mut self) -> Result<Expr, Fault> {
        let line = self.line();
        let mut left = self.and()?;
        while self.skip_name("or") {
            left = Expr::new(line, ExprKind::Or(Box::new(left), Box::new(self.and()?)))?;
        }
        Ok(left)
    }

    fn and(&mut self) -> Result<Expr, Fault> {
        let line = self.line();
        let mut left = self.not()?;
        while self.skip_name("and") {
            left = Expr::new(line, ExprKind::And(Box::new(left), Box::new(self.not()?)))?;
        }
        Ok(left)
    }

    fn not(&mut self) -> Result<Expr, Fault> {
        let line = self.line();
        if self.skip_name("not") {
            let value = self.nested(Self::not)?;
            return Expr::new(line, ExprKind::Not(Box::new(value)));
        }
        self.comparison()
    }

    fn comparison(&mut self) -> Result<Expr, Fault> {
        let line = self.line();
        let first = self.sum()?;
        let mut rest = Vec::new();
        loop {
            let comparison = match self.peek() {
                TokenKind::Sign("==") => Comparison::Equal,
                TokenKind::Sign("!=") => Comparison::NotEqual,
                TokenKind::Sign("<") => Comparison::Less,
                TokenKind::Sign("<=") => Comparison::LessOrEqual,
                TokenKind::Sign(">") => Comparison::Greater,
                TokenKind::Sign(">=") => Comparison::GreaterOrEqual,
                TokenKind::Name(name) if name == "in" => Comparison::In,
                TokenKind::Name(name) if name == "not" => match self.peek_second() {
                    TokenKind::Name(name) if name == "in" => {
                        self.at += 1;
                        Comparison::NotIn
                    }
                    _ => break,
                },
                _ => break,
            };
            self.at += 1;
            rest.push((comparison, self.sum()?));
        }
        if rest.is_empty() {
            return Ok(first);
        }
        Expr::new(line, ExprKind::Compare(Box::new(first), rest))
    }

    fn binary(
        &mut self,
        next: fn(&mut Self) -> Result<Expr, Fault>,
        operators: &[Operator],
    ) -> Result<Expr, Fault> {
        let line = self.line();
        let mut left = next(self)?;
        while let Some(operator) = operators.iter().find(|operator| self.is_sign(operator.sign())) {
            self.at += 1;
            left = Expr::new(line, ExprKind::Binary(*operator, Box::new(left), Box::new(next(self)?)))?;
        }
        Ok(left)
    }

    fn sum(&mut self) -> Result<Expr, Fault> {
        self.binary(Self::concat, &[Operator::Add, Operator::Subtract])
    }

    fn concat(&mut self) -> Result<Expr, Fault> {
        let line = self.line();
        let first = self.product()?;
        if !self.is_sign("~") {
            return Ok(first);
        }
        let mut items = vec![first];
        while self.skip_sign("~") {
            items.push(self.product()?);
        }
        Expr::new(line, ExprKind::Concat(items))
    }

    fn product(&mut self) -> Result<Expr, Fault> {
        use Operator::{Divide, FloorDivide, Multiply, Remainder};
        self.binary(Self::power, &[Multiply, Divide, FloorDivide, Remainder])
    }

    fn power(&mut self) -> Result<Expr, Fault> {
        self.binary(Self::filtered, &[Operator::Power])
    }

    /// A signed value with its filters and tests.
    fn filtered(&mut self) -> Result<Expr, Fault> {
        let mut value = self.signed()?;
        loop {
            let line = self.line();
            if self.skip_sign("|") {
                let filter = Box::new(self.applied("the name of a filter")?);
                value = Expr::new(line, ExprKind::Filter(Box::new(value), filter))?;
            } else if self.skip_name("is") {
                value = self.test(line, value)?;
            } else if self.is_sign("(") {
                let arguments = self.arguments()?;
                value = Expr::new(line, ExprKind::Call(Box::new(value), arguments))?;
            } else {
                return Ok(value);
            }
        }
    }

    fn test(&mut self, line: u32, value: Expr) -> Result<Expr, Fault> {
        let negated = self.skip_name("not");
        let mut test =
            Applied { line, name: self.dotted("the name of a test")?, arguments: Arguments::default() };
        match self.peek() {
            TokenKind::Sign("(") => test.arguments = self.arguments()?,
            TokenKind::Name(name) if matches!(name.as_str(), "else" | "or" | "and") => {}
            TokenKind::Name(name) if name == "is" => {
                return Err(self.fault("tests with `is` cannot be chained"));
            }
            TokenKind::Name(_)
            | TokenKind::Str(_)
            | TokenKind::Int(_)
            | TokenKind::Float(_)
            | TokenKind::Sign("[" | "{") => {
                let argument = self.primary()?;
                test.arguments.positional.push(self.postfix(argument)?);
            }
            _ => {}
        }
        let value = Expr::new(line, ExprKind::Test(Box::new(value), Box::new(test)))?;
        if negated { Expr::new(line, ExprKind::Not(Box::new(value))) } else { Ok(value) }
    }

    fn signed(&mut self) -> Result<Expr, Fault> {
        let line = self.line();
        let value = if self.skip_sign("-") {
            Expr::new(line, ExprKind::Negative(Box::new(self.nested(Self::signed)?)))?
        } else if self.skip_sign("+") {
            Expr::new(line, ExprKind::Positive(Box::new(self.nested(Self::signed)?)))?
        } else {
            self.primary()?
        };
        self.postfix(value)
    }

    fn primary(&mut self) -> Result<Expr, Fault> {
        let line = self.line();
        let kind = match self.peek() {
            TokenKind::Name(_) => match self.any_name("a name")?.as_str() {
                "true" | "True" => ExprKind::Bool(true),
                "false" | "False" => ExprKind::Bool(false),
                "none" | "None" => ExprKind::None,
                name => ExprKind::Name(self.names.number(name)),
            },
            TokenKind::Str(_) => {
                let mut text = String::new();
                while let TokenKind::Str(part) = self.peek() {
                    text.push_str(part);
                    self.at += 1;
                }
                ExprKind::Str(text.into())
            }
            TokenKind::Int(value) => {
                let kind = ExprKind::Int(*value);
                self.at += 1;
                kind
            }
            TokenKind::Float(value) => {
                let kind = ExprKind::Float(*value);
                self.at += 1;
                kind
            }
            TokenKind::Sign("(") => {
                return self.nested(|parser| {
                    parser.at += 1;
                    let value = parser.tuple_of(Self::expression, &[], true)?;
                    parser.expect_sign(")")?;
                    Ok(value)
                });
            }
            TokenKind::Sign("[") => ExprKind::List(self.nested(|parser| {
                parser.at += 1;
                parser.separated("]", Self::expression)
            })?),
            TokenKind::Sign("{") => ExprKind::Dict(self.nested(|parser| {
                parser.at += 1;
                parser.separated("}", |parser| {
                    let key = parser.expression()?;
                    parser.expect_sign(":")?;
                    Ok((key, parser.expression()?))
                })
            })?),
            _ => return Err(self.unexpected("an expression")),
        };
        Expr::new(line, kind)
    }

    /// Items with commas between them (and perhaps after the last), up to and with a sign.
    fn separated<T>(
        &mut self,
        end: &str,
        parse: impl Fn(&mut Self) -> Result<T, Fault>,
    ) -> Result<Vec<T>, Fault> {
        let mut items = Vec::new();
        while !self.is_sign(end) {
            items.push(parse(self)?);
            if !self.skip_sign(",") {
                break;
            }
        }
        self.expect_sign(end)?;
        Ok(items)
    }

    /// Attributes, items and calls of a value.
    fn postfix(&mut self, mut value: Expr) -> Result<Expr, Fault> {
        loop {
            let line = self.line();
            let kind = if self.skip_sign(".") {
                match self.next() {
                    TokenKind::Name(name) => ExprKind::Attribute(Box::new(value), name.into()),
                    TokenKind::Int(index) => {
                        let index = Expr::new(line, ExprKind::Int(index))?;
                        ExprKind::Item(Box::new(value), Box::new(index))
                    }
                    _ => {
                        self.at -= 1;
                        return Err(self.unexpected("a name or a number"));
                    }
                }
            } else if self.is_sign("[") {
                self.nested(|parser| {
                    parser.at += 1;
                    let kind = parser.subscript(value)?;
                    parser.expect_sign("]")?;
                    Ok(kind)
                })?
            } else if self.is_sign("(") {
                ExprKind::Call(Box::new(value), self.arguments()?)
            } else {
                return Ok(value);
            };
            value = Expr::new(line, kind)?;
        }
    }

    /// What stands in the brackets after a value.
    fn subscript(&mut self, value: Expr) -> Result<ExprKind, Fault> {
        let line = self.line();
        let first = if self.is_sign(":") { None } else { Some(Box::new(self.expression()?)) };
        if !self.skip_sign(":") {
            let Some(first) = first else { return Err(self.unexpected("an index")) };
            if !self.is_sign(",") {
                return Ok(ExprKind::Item(Box::new(value), first));
            }
            let mut items = vec![*first];
            while self.skip_sign(",") && !self.is_sign("]") {
                items.push(self.expression()?);
            }
            let index = Expr::new(line, ExprKind::Tuple(items))?;
            return Ok(ExprKind::Item(Box::new(value), Box::new(index)));
        }
        let bound = |parser: &mut Self| -> Result<Option<Box<Expr>>, Fault> {
            if parser.is_sign(":") || parser.is_sign("]") || parser.is_sign(",") {
                return Ok(None);
            }
            Ok(Some(Box::new(parser.expression()?)))
        };
        let last = bound(self)?;
        let step = if self.skip_sign(":") { bound(self)? } else { None };
        Ok(ExprKind::Slice(Box::new(value), [first, last, step]))
    }

    /// A filter or a test: its name, and its arguments where brackets follow.
    pub(super) fn applied(&mut self, expected: &str) -> Result<Applied, Fault> {
        let line = self.line();
        let name = self.dotted(expected)?;
        let arguments = if self.is_sign("(") { self.arguments()? } else { Arguments::default() };
        Ok(Applied { line, name, arguments })
    }

    fn dotted(&mut self, expected: &str) -> Result<Text, Fault> {
        let mut name = self.any_name(expected)?;
        while self.skip_sign(".") {
            name.push('.');
            name.push_str(&self.any_name(expected)?);
        }
        Ok(name.into())
    }

    /// `(a, *b, c=1, **d)` of a call.
    fn arguments(&mut self) -> Result<Arguments, Fault> {
        self.nested(|parser| {
            parser.at += 1;
            let mut arguments = Arguments::default();
            while !parser.is_sign(")") {
                parser.argument(&mut arguments)?;
                if !parser.skip_sign(",") {
                    break;
                }
            }
            parser.expect_sign(")")?;
            Ok(arguments)
        })
    }

    fn argument(&mut self, arguments: &mut Arguments) -> Result<(), Fault> {
        let keywords_only = arguments.more_positional.is_some();
        let closed = arguments.more_keyword.is_some();
        let out_of_place = |parser: &Self| Err(parser.fault("an argument out of place"));
        if self.skip_sign("*") {
            if keywords_only || closed {
                return out_of_place(self);
            }
            arguments.more_positional = Some(Box::new(self.expression()?));
        } else if self.skip_sign("**") {
            if closed {
                return out_of_place(self);
            }
            arguments.more_keyword = Some(Box::new(self.expression()?));
        } else if matches!(self.peek(), TokenKind::Name(_)) && *self.peek_second() == TokenKind::Sign("=") {
            if closed {
                return out_of_place(self);
            }
            let name: Text = self.any_name("a name")?.into();
            if arguments.keyword.iter().any(|(known, _)| *known == name) {
                return Err(self.fault(format_args!("the argument `{name}` is given twice")));
            }
            self.at += 1;
            arguments.keyword.push((name, self.expression()?));
        } else {
            if keywords_only || closed || !arguments.keyword.is_empty() {
                return out_of_place(self);
            }
            arguments.positional.push(self.expression()?);
        }
        Ok(())
    }
}
