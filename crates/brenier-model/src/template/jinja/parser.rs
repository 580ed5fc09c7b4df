//! The parser: jinja2's grammar, with the tags of its `loopcontrols` and transformers' `generation`.

mod expressions;
mod targets;

use super::fault::Fault;
use super::lexer::{Token, TokenKind, tokens};
use super::scopes;
use super::syntax::{Applied, Expr, For, Macro, Name, Names, Scope, Statement, StatementKind, too_deep};
use super::value::Text;

/// Bytes of the longest template that is taken; published ones stay below a tenth of this.
const LONGEST: usize = 1 << 18;
/// Blocks within blocks. Python stops at 100 levels of indentation.
const BLOCK_LEVELS: usize = 100;
/// Recursion of the parser within one expression: brackets, `not`, signs and `else`.
const BRACKETS: usize = 100;

/// A template, parsed.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) root: Scope,
    pub(super) macros: Vec<Macro>,
    pub(super) names: Names,
    /// For each scope the variables that count as undefined from its start, whatever has their names outside.
    pub(super) unset: Vec<Vec<Name>>,
}

/// Parses a template.
pub(super) fn parse(source: &str) -> Result<Program, Fault> {
    if source.len() > LONGEST {
        let found = source.len();
        return Err(Fault::syntax(1, format_args!("expected at most {LONGEST} bytes, found {found}")));
    }
    let mut parser = Parser {
        tokens: tokens(source)?,
        at: 0,
        names: Names::default(),
        macros: Vec::new(),
        blocks: Vec::new(),
        scopes: 0,
        levels: 0,
        brackets: 0,
        in_loop: false,
    };
    let body = parser.statements(&[])?;
    let root = parser.numbered(body);
    let Parser { macros, mut names, scopes, .. } = parser;
    let (macros, unset) = scopes::resolve(&root, macros, &mut names, scopes)?;
    Ok(Program { root, macros, names, unset })
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    names: Names,
    macros: Vec<Macro>,
    /// Names of the blocks so far.
    blocks: Vec<String>,
    scopes: usize,
    levels: usize,
    brackets: usize,
    in_loop: bool,
}

impl Parser {
    fn peek(&self) -> &TokenKind {
        &self.tokens[self.at.min(self.tokens.len() - 1)].kind
    }

    fn peek_second(&self) -> &TokenKind {
        &self.tokens[(self.at + 1).min(self.tokens.len() - 1)].kind
    }

    fn line(&self) -> u32 {
        self.tokens[self.at.min(self.tokens.len() - 1)].line
    }

    fn next(&mut self) -> TokenKind {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    fn fault(&self, message: impl std::fmt::Display) -> Fault {
        Fault::syntax(self.line(), message)
    }

    fn unexpected(&self, expected: &str) -> Fault {
        let found = match self.peek() {
            TokenKind::Name(name) => format!("`{name}`"),
            TokenKind::Sign(sign) => format!("`{sign}`"),
            TokenKind::Str(_) => "a string".to_owned(),
            TokenKind::Int(_) | TokenKind::Float(_) => "a number".to_owned(),
            TokenKind::Data(_) => "text".to_owned(),
            TokenKind::PrintStart => "`{{`".to_owned(),
            TokenKind::PrintEnd => "`}}`".to_owned(),
            TokenKind::BlockStart => "`{%`".to_owned(),
            TokenKind::BlockEnd => "`%}`".to_owned(),
            TokenKind::End => "the end of the template".to_owned(),
        };
        self.fault(format_args!("expected {expected}, found {found}"))
    }

    fn is_sign(&self, sign: &str) -> bool {
        matches!(self.peek(), TokenKind::Sign(found) if *found == sign)
    }

    fn is_name(&self, name: &str) -> bool {
        matches!(self.peek(), TokenKind::Name(found) if found == name)
    }

    fn skip_sign(&mut self, sign: &str) -> bool {
        let found = self.is_sign(sign);
        self.at += usize::from(found);
        found
    }

    fn skip_name(&mut self, name: &str) -> bool {
        let found = self.is_name(name);
        self.at += usize::from(found);
        found
    }

    fn expect_sign(&mut self, sign: &str) -> Result<(), Fault> {
        if self.skip_sign(sign) { Ok(()) } else { Err(self.unexpected(&format!("`{sign}`"))) }
    }

    fn expect_name(&mut self, name: &str) -> Result<(), Fault> {
        if self.skip_name(name) { Ok(()) } else { Err(self.unexpected(&format!("`{name}`"))) }
    }

    fn expect_block_end(&mut self) -> Result<(), Fault> {
        match self.peek() {
            TokenKind::BlockEnd => {
                self.at += 1;
                Ok(())
            }
            _ => Err(self.unexpected("`%}`")),
        }
    }

    fn any_name(&mut self, expected: &str) -> Result<String, Fault> {
        match self.peek() {
            TokenKind::Name(_) => match self.next() {
                TokenKind::Name(name) => Ok(name),
                _ => Err(self.unexpected(expected)),
            },
            _ => Err(self.unexpected(expected)),
        }
    }

    /// Statements up to one of the tags, whose name is the next token then; to the end where there is no tag.
    fn statements(&mut self, ends: &[&str]) -> Result<Vec<Statement>, Fault> {
        self.levels += 1;
        if self.levels > BLOCK_LEVELS {
            return Err(self.fault(format_args!("blocks nested in more than {BLOCK_LEVELS} levels")));
        }
        let mut body = Vec::new();
        loop {
            let line = self.line();
            match self.peek() {
                TokenKind::End if ends.is_empty() => break,
                TokenKind::Data(_) => {
                    if let TokenKind::Data(text) = self.next() {
                        body.push(Statement { line, kind: StatementKind::Text(text.into()) });
                    }
                }
                TokenKind::PrintStart => {
                    self.at += 1;
                    let value = self.tuple()?;
                    if *self.peek() != TokenKind::PrintEnd {
                        return Err(self.unexpected("`}}`"));
                    }
                    self.at += 1;
                    body.push(Statement { line, kind: StatementKind::Print(value) });
                }
                TokenKind::BlockStart => {
                    self.at += 1;
                    if ends.iter().any(|end| self.is_name(end)) {
                        break;
                    }
                    self.statement(&mut body)?;
                    self.expect_block_end()?;
                }
                _ => return Err(self.unexpected(&format!("`{}`", ends.join("` or `")))),
            }
        }
        self.levels -= 1;
        Ok(body)
    }

    /// The body of a block, up to one of the tags.
    fn body(&mut self, ends: &[&str]) -> Result<Vec<Statement>, Fault> {
        self.skip_sign(":");
        self.expect_block_end()?;
        self.statements(ends)
    }

    /// The body of a block that one tag alone can end, with variables of its own.
    fn scope(&mut self, end: &str) -> Result<Scope, Fault> {
        let body = self.body(&[end])?;
        self.at += 1;
        Ok(self.numbered(body))
    }

    fn numbered(&mut self, body: Vec<Statement>) -> Scope {
        self.scopes += 1;
        Scope { body, number: self.scopes - 1 }
    }

    /// A scope out of which no `break` leads.
    fn function(&mut self, end: &str) -> Result<Scope, Fault> {
        let outer = std::mem::replace(&mut self.in_loop, false);
        let scope = self.scope(end);
        self.in_loop = outer;
        scope
    }

    fn statement(&mut self, body: &mut Vec<Statement>) -> Result<(), Fault> {
        let line = self.line();
        let tag = self.any_name("the name of a tag")?;
        let kind = match tag.as_str() {
            "if" => self.if_statement()?,
            "for" => self.for_statement()?,
            "set" => self.set_statement()?,
            "with" => {
                let mut values = Vec::new();
                while *self.peek() != TokenKind::BlockEnd && !self.is_sign(":") {
                    if !values.is_empty() {
                        self.expect_sign(",")?;
                    }
                    let target = self.targets(false, "=")?;
                    self.expect_sign("=")?;
                    values.push((target, self.expression()?));
                }
                StatementKind::With { values, body: self.scope("endwith")? }
            }
            "macro" => {
                let text = self.any_name("the name of the macro")?;
                let name = self.names.number(&text);
                let parameters = self.parameters()?;
                let number = self.macro_body(Some(text.into()), parameters, "endmacro")?;
                StatementKind::Macro { name, number }
            }
            "call" => {
                let parameters = if self.is_sign("(") { self.parameters()? } else { Vec::new() };
                let call = self.expression()?;
                if !matches!(call.kind, super::syntax::ExprKind::Call(..)) {
                    return Err(Fault::syntax(line, "`call` needs a call"));
                }
                StatementKind::Call { call, block: self.macro_body(None, parameters, "endcall")? }
            }
            "filter" => {
                let filters = self.filters(true)?;
                StatementKind::FilterBlock { filters, body: self.scope("endfilter")? }
            }
            "block" => {
                let name = self.any_name("the name of the block")?;
                if self.blocks.contains(&name) {
                    return Err(Fault::syntax(line, format_args!("block `{name}` defined twice")));
                }
                let scoped = self.skip_name("scoped");
                let required = self.skip_name("required");
                self.blocks.push(name.clone());
                let body = self.function("endblock")?;
                self.skip_name(&name);
                StatementKind::Block { body, scoped, required }
            }
            "autoescape" => {
                let enabled = self.expression()?;
                StatementKind::Autoescape { enabled, body: self.scope("endautoescape")? }
            }
            "generation" => StatementKind::Generation { body: self.function("endgeneration")? },
            "break" | "continue" if !self.in_loop => {
                return Err(Fault::syntax(line, format_args!("`{tag}` outside of a loop")));
            }
            "break" => StatementKind::Break,
            "continue" => StatementKind::Continue,
            "print" => {
                let mut first = true;
                while *self.peek() != TokenKind::BlockEnd {
                    if !first {
                        self.expect_sign(",")?;
                    }
                    first = false;
                    body.push(Statement { line, kind: StatementKind::Print(self.expression()?) });
                }
                return Ok(());
            }
            "include" | "import" | "from" | "extends" => {
                while *self.peek() != TokenKind::BlockEnd && *self.peek() != TokenKind::End {
                    self.at += 1;
                }
                StatementKind::Elsewhere(match tag.as_str() {
                    "include" => "include",
                    "import" => "import",
                    "from" => "from",
                    _ => "extends",
                })
            }
            _ => return Err(Fault::syntax(line, format_args!("unknown tag `{tag}`"))),
        };
        body.push(Statement { line, kind });
        Ok(())
    }

    fn if_statement(&mut self) -> Result<StatementKind, Fault> {
        let mut branches = Vec::new();
        loop {
            let test = self.tuple_without_if(&[])?;
            branches.push((test, self.body(&["elif", "else", "endif"])?));
            if self.skip_name("elif") {
                continue;
            }
            let otherwise = if self.skip_name("else") { self.body(&["endif"])? } else { Vec::new() };
            self.at += 1;
            return Ok(StatementKind::If { branches, otherwise });
        }
    }

    fn for_statement(&mut self) -> Result<StatementKind, Fault> {
        let target = self.targets(false, "in")?;
        self.expect_name("in")?;
        let items = self.tuple_without_if(&["recursive"])?;
        let condition = if self.skip_name("if") { Some(self.expression()?) } else { None };
        let recursive = self.skip_name("recursive");
        let outer = std::mem::replace(&mut self.in_loop, true);
        let body = self.body(&["endfor", "else"])?;
        let body = self.numbered(body);
        self.in_loop = outer;
        let otherwise = if self.skip_name("else") {
            // A recursive loop is a function, out of which no `break` leads.
            Some(if recursive { self.function("endfor")? } else { self.scope("endfor")? })
        } else {
            self.at += 1;
            None
        };
        Ok(StatementKind::For(Box::new(For { target, items, condition, recursive, body, otherwise })))
    }

    fn set_statement(&mut self) -> Result<StatementKind, Fault> {
        let target = self.targets(true, "=")?;
        if self.skip_sign("=") {
            return Ok(StatementKind::Set { target, value: self.tuple()? });
        }
        let filters = self.filters(false)?;
        Ok(StatementKind::SetBlock { target, filters, body: self.scope("endset")? })
    }

    fn macro_body(
        &mut self,
        name: Option<Text>,
        parameters: Vec<(Name, Option<Expr>)>,
        end: &str,
    ) -> Result<usize, Fault> {
        let body = self.function(end)?;
        self.macros.push(Macro { name, parameters, body, caller: false, kwargs: false, varargs: false });
        Ok(self.macros.len() - 1)
    }

    /// Parses something that the parser calls itself for, unless it is nested too deep.
    fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T, Fault>) -> Result<T, Fault> {
        self.brackets += 1;
        if self.brackets > BRACKETS {
            return Err(self.fault(too_deep()));
        }
        let parsed = parse(self);
        self.brackets -= 1;
        parsed
    }

    /// `| a(1) | b`; without the first `|` where the filters come first.
    fn filters(&mut self, first: bool) -> Result<Vec<Applied>, Fault> {
        let mut filters = Vec::new();
        while filters.is_empty() && first || self.skip_sign("|") {
            filters.push(self.applied("the name of a filter")?);
        }
        Ok(filters)
    }
}
