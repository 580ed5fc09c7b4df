//! What is assigned to: variables, attributes of namespaces, and the parameters of macros.

use super::super::fault::Fault;
use super::super::lexer::TokenKind;
use super::super::syntax::{Expr, Name, Target};
use super::Parser;

impl Parser {
    /// `(a, b=1)` of a macro.
    pub(super) fn parameters(&mut self) -> Result<Vec<(Name, Option<Expr>)>, Fault> {
        let mut parameters: Vec<(Name, Option<Expr>)> = Vec::new();
        self.expect_sign("(")?;
        while !self.is_sign(")") {
            if !parameters.is_empty() {
                self.expect_sign(",")?;
            }
            let text = self.any_name("a parameter")?;
            let name = self.variable(&text)?;
            if parameters.iter().any(|(known, _)| *known == name) {
                return Err(self.fault(format_args!("two parameters are named `{text}`")));
            }
            let default = if self.skip_sign("=") { Some(self.expression()?) } else { None };
            if default.is_none() && parameters.last().is_some_and(|(_, default)| default.is_some()) {
                return Err(self.fault("a parameter without a default follows one that has one"));
            }
            parameters.push((name, default));
        }
        self.expect_sign(")")?;
        Ok(parameters)
    }

    /// A name that can be assigned to.
    fn variable(&mut self, name: &str) -> Result<Name, Fault> {
        if matches!(name, "true" | "false" | "none" | "True" | "False" | "None") {
            return Err(self.fault(format_args!("`{name}` cannot be assigned to")));
        }
        Ok(self.names.number(name))
    }

    /// What `set`, `for` and `with` assign to; `end` is what comes after it. `set` alone takes attributes of
    /// namespaces (`ns.x`).
    pub(super) fn targets(&mut self, attributes: bool, end: &str) -> Result<Target, Fault> {
        let mut items = vec![self.target(attributes)?];
        let mut tuple = false;
        while self.skip_sign(",") {
            tuple = true;
            if self.is_name(end) || self.is_sign(end) || *self.peek() == TokenKind::BlockEnd {
                break;
            }
            items.push(self.target(attributes)?);
        }
        match items.pop() {
            Some(only) if !tuple => Ok(only),
            Some(last) => {
                items.push(last);
                Ok(Target::Tuple(items))
            }
            None => Err(self.unexpected("a variable")),
        }
    }

    fn target(&mut self, attributes: bool) -> Result<Target, Fault> {
        if self.is_sign("(") {
            return self.nested(|parser| {
                parser.at += 1;
                let target = parser.targets(attributes, ")")?;
                parser.expect_sign(")")?;
                Ok(target)
            });
        }
        let text = self.any_name("a variable")?;
        let name = self.variable(&text)?;
        if attributes && self.skip_sign(".") {
            return Ok(Target::Attribute(name, self.any_name("an attribute")?.into()));
        }
        Ok(Target::Name(name))
    }
}
