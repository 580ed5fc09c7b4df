//! Which variables of a scope are its own from the start, and what can be seen to be wrong before rendering.
//!
//! jinja2 decides for each scope (the template, the body of a loop, a macro, ...) where its variables come
//! from before anything runs: one that is set in a scope before it is read there is undefined until then, even
//! where the template was given a variable of that name.

mod special;

use std::collections::{HashMap, HashSet};

use super::fault::Fault;
use super::filters;
use super::predicates;
use super::syntax::{
    Applied, Arguments, Expr, ExprKind, For, Macro, Name, Names, Scope, Statement, StatementKind, Target,
};

/// The macros with the special variables that they read, and for each scope its variables that are undefined
/// until they are set.
pub(super) fn resolve(
    root: &Scope,
    mut macros: Vec<Macro>,
    names: &mut Names,
    scopes: usize,
) -> Result<(Vec<Macro>, Vec<Vec<Name>>), Fault> {
    let special = special::mark(&mut macros, names);
    let special = Special {
        read: special,
        loop_: names.number("loop"),
        forbidden: ["self", "super"].map(|name| names.number(name)),
    };
    let mut resolver = Resolver { macros: &macros, special, unset: vec![Vec::new(); scopes], loops: 0 };
    resolver.scope(root, None, &[], &[])?;
    let unset = resolver.unset;
    Ok((macros, unset))
}

struct Special {
    /// `caller`, `kwargs` and `varargs`, which a macro has where it reads them.
    read: [Name; 3],
    loop_: Name,
    /// References to blocks, which are not supported.
    forbidden: [Name; 2],
}

/// Where the value of a variable comes from when its scope begins.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Parameter,
    Outside,
    Unset,
}

/// What is known of the variables of a scope, or of one branch of an `if` in it.
struct Symbols<'p> {
    /// The scope around.
    outer: Option<&'p Symbols<'p>>,
    /// The same scope before the branch.
    before: Option<&'p Symbols<'p>>,
    found: Found,
}

#[derive(Default)]
struct Found {
    origins: HashMap<Name, Origin>,
    stored: HashSet<Name>,
}

impl<'p> Symbols<'p> {
    fn new(outer: Option<&'p Symbols<'p>>) -> Self {
        Self { outer, before: None, found: Found::default() }
    }

    fn branch(&'p self) -> Self {
        Self { outer: self.outer, before: Some(self), found: Found::default() }
    }

    fn known(&self, name: Name) -> bool {
        self.found.origins.contains_key(&name) || self.before.is_some_and(|before| before.known(name))
    }

    fn stores(&self, name: Name) -> bool {
        self.found.stored.contains(&name) || self.before.is_some_and(|before| before.stores(name))
    }

    fn known_outside(&self, name: Name) -> bool {
        self.outer.is_some_and(|outer| outer.known(name) || outer.known_outside(name))
    }

    fn load(&mut self, name: Name) {
        if !self.known(name) && !self.known_outside(name) {
            self.found.origins.insert(name, Origin::Outside);
        }
    }

    fn store(&mut self, name: Name) {
        if !self.known(name) {
            let origin = if self.known_outside(name) { Origin::Outside } else { Origin::Unset };
            self.found.origins.insert(name, origin);
        }
        self.found.stored.insert(name);
    }

    fn declare(&mut self, name: Name) {
        self.found.stored.insert(name);
        self.found.origins.insert(name, Origin::Parameter);
    }

    /// After the branches of an `if`: what is set in one of them comes from outside in the others.
    fn merge(&mut self, branches: impl IntoIterator<Item = Found>) {
        let mut new = Vec::new();
        let mut merged = Found::default();
        for branch in branches {
            new.extend(branch.stored.iter().copied().filter(|name| !self.stores(*name)));
            merged.origins.extend(branch.origins);
            merged.stored.extend(branch.stored);
        }
        self.found.origins.extend(merged.origins);
        self.found.stored.extend(merged.stored);
        for name in new {
            self.found.origins.insert(name, Origin::Outside);
        }
    }
}

struct Resolver<'t> {
    macros: &'t [Macro],
    special: Special,
    unset: Vec<Vec<Name>>,
    /// Loops around what is being looked at.
    loops: usize,
}

impl<'t> Resolver<'t> {
    /// A scope with parameters, and expressions that are read in it before its body.
    fn scope(
        &mut self,
        scope: &'t Scope,
        outer: Option<&Symbols<'_>>,
        parameters: &[Name],
        read: &[&'t Expr],
    ) -> Result<(), Fault> {
        let mut symbols = Symbols::new(outer);
        parameters.iter().for_each(|name| symbols.declare(*name));
        for expr in read {
            self.read(expr, false, &mut symbols)?;
        }
        self.direct(&scope.body, false, &mut symbols)?;
        let unset = symbols.found.origins.iter().filter(|(_, origin)| **origin == Origin::Unset);
        self.unset[scope.number] = unset.map(|(name, _)| *name).collect();
        self.nested(&scope.body, &symbols)
    }

    /// What the statements of a scope read and set themselves; `soft` within an `if`.
    fn direct(&self, body: &'t [Statement], soft: bool, symbols: &mut Symbols<'_>) -> Result<(), Fault> {
        for statement in body {
            match &statement.kind {
                StatementKind::Print(value) => self.read(value, soft, symbols)?,
                StatementKind::If { branches, otherwise } => self.branches(branches, otherwise, symbols)?,
                StatementKind::For(node) => self.read(&node.items, soft, symbols)?,
                StatementKind::Set { target, value } => {
                    self.read(value, soft, symbols)?;
                    self.write(target, statement.line, symbols)?;
                }
                StatementKind::SetBlock { target, filters, .. } => {
                    filters.iter().try_for_each(|filter| known_filter(filter, false))?;
                    self.write(target, statement.line, symbols)?;
                }
                StatementKind::With { values, .. } => {
                    for (_, value) in values {
                        self.read(value, soft, symbols)?;
                    }
                }
                StatementKind::Macro { name, .. } => symbols.store(*name),
                StatementKind::Call { call, .. } => self.read(call, soft, symbols)?,
                StatementKind::FilterBlock { filters, .. } => {
                    for filter in filters {
                        known_filter(filter, false)?;
                        self.read_arguments(&filter.arguments, soft, symbols)?;
                    }
                }
                StatementKind::Text(_)
                | StatementKind::Block { .. }
                | StatementKind::Autoescape { .. }
                | StatementKind::Generation { .. }
                | StatementKind::Break
                | StatementKind::Continue
                | StatementKind::Elsewhere(_) => {}
            }
        }
        Ok(())
    }

    fn branches(
        &self,
        branches: &'t [(Expr, Vec<Statement>)],
        otherwise: &'t [Statement],
        symbols: &mut Symbols<'_>,
    ) -> Result<(), Fault> {
        let Some(((test, body), rest)) = branches.split_first() else { return Ok(()) };
        self.read(test, true, symbols)?;
        let mut first = symbols.branch();
        self.direct(body, true, &mut first)?;
        let mut middle = symbols.branch();
        for (test, body) in rest {
            self.read(test, true, &mut middle)?;
            let mut branch = middle.branch();
            self.direct(body, true, &mut branch)?;
            let found = branch.found;
            middle.merge([found]);
        }
        let mut last = symbols.branch();
        self.direct(otherwise, true, &mut last)?;
        let found = [first.found, middle.found, last.found];
        symbols.merge(found);
        Ok(())
    }

    /// The scopes within a scope.
    fn nested(&mut self, body: &'t [Statement], symbols: &Symbols<'_>) -> Result<(), Fault> {
        let outer = Some(symbols);
        for statement in body {
            match &statement.kind {
                StatementKind::If { branches, otherwise } => {
                    for (_, body) in branches {
                        self.nested(body, symbols)?;
                    }
                    self.nested(otherwise, symbols)?;
                }
                StatementKind::For(node) => self.for_loop(node, statement.line, symbols)?,
                StatementKind::With { values, body } => {
                    let mut targets = Vec::new();
                    for (target, _) in values {
                        self.targets(target, statement.line, &mut targets)?;
                    }
                    self.scope(body, outer, &targets, &[])?;
                }
                StatementKind::Macro { number, .. } | StatementKind::Call { block: number, .. } => {
                    self.function(*number, symbols)?;
                }
                StatementKind::FilterBlock { body, .. } | StatementKind::SetBlock { body, .. } => {
                    self.scope(body, outer, &[], &[])?;
                }
                StatementKind::Generation { body } => self.scope(body, outer, &[], &[])?,
                StatementKind::Autoescape { enabled, body } => self.scope(body, outer, &[], &[enabled])?,
                StatementKind::Block { body, .. } => self.scope(body, None, &[], &[])?,
                _ => {}
            }
        }
        Ok(())
    }

    fn for_loop(&mut self, node: &'t For, line: u32, symbols: &Symbols<'_>) -> Result<(), Fault> {
        self.loops += 1;
        let mut targets = vec![self.special.loop_];
        self.targets(&node.target, line, &mut targets)?;
        if let Some(condition) = &node.condition {
            let mut inner = Symbols::new(Some(symbols));
            self.read(condition, false, &mut inner)?;
        }
        self.scope(&node.body, Some(symbols), &targets, &[])?;
        if let Some(otherwise) = &node.otherwise {
            self.scope(otherwise, Some(symbols), &[], &[])?;
        }
        self.loops -= 1;
        Ok(())
    }

    fn function(&mut self, number: usize, symbols: &Symbols<'_>) -> Result<(), Fault> {
        let definition = &self.macros[number];
        let mut parameters: Vec<Name> = definition.parameters.iter().map(|(name, _)| *name).collect();
        let reads = [definition.caller, definition.kwargs, definition.varargs];
        parameters
            .extend(self.special.read.iter().zip(reads).filter(|(_, reads)| *reads).map(|(name, _)| *name));
        let defaults: Vec<&Expr> = definition.parameters.iter().filter_map(|(_, d)| d.as_ref()).collect();
        self.scope(&definition.body, Some(symbols), &parameters, &defaults)
    }

    fn read(&self, expr: &'t Expr, soft: bool, symbols: &mut Symbols<'_>) -> Result<(), Fault> {
        let soft = soft || matches!(expr.kind, ExprKind::If { .. });
        match &expr.kind {
            ExprKind::Name(name) if self.special.forbidden.contains(name) => {
                return Err(Fault::unsupported("a reference to a block (`self`, `super`)").at(expr.line));
            }
            ExprKind::Name(name) => symbols.load(*name),
            ExprKind::Filter(_, filter) => known_filter(filter, soft)?,
            ExprKind::Test(_, test) if !soft && !predicates::exists(&test.name) => {
                return Err(Fault::new(format!("no test named `{}`", test.name)).at(test.line));
            }
            _ => {}
        }
        let mut result = Ok(());
        expr.kind.children(&mut |child| {
            if result.is_ok() {
                result = self.read(child, soft, symbols);
            }
        });
        result
    }

    fn read_arguments(
        &self,
        arguments: &'t Arguments,
        soft: bool,
        symbols: &mut Symbols<'_>,
    ) -> Result<(), Fault> {
        let mut result = Ok(());
        arguments.children(&mut |child| {
            if result.is_ok() {
                result = self.read(child, soft, symbols);
            }
        });
        result
    }

    fn write(&self, target: &Target, line: u32, symbols: &mut Symbols<'_>) -> Result<(), Fault> {
        match target {
            Target::Attribute(name, _) => symbols.load(*name),
            Target::Name(name) => {
                self.assignable(*name, line)?;
                symbols.store(*name);
            }
            Target::Tuple(targets) => {
                for target in targets {
                    self.write(target, line, symbols)?;
                }
            }
        }
        Ok(())
    }

    fn targets(&self, target: &Target, line: u32, names: &mut Vec<Name>) -> Result<(), Fault> {
        match target {
            Target::Name(name) => {
                self.assignable(*name, line)?;
                names.push(*name);
            }
            Target::Tuple(targets) => {
                for target in targets {
                    self.targets(target, line, names)?;
                }
            }
            Target::Attribute(..) => {}
        }
        Ok(())
    }

    fn assignable(&self, name: Name, line: u32) -> Result<(), Fault> {
        if self.loops > 0 && name == self.special.loop_ {
            return Err(Fault::syntax(line, "`loop` cannot be assigned to within a loop"));
        }
        Ok(())
    }
}

fn known_filter(filter: &Applied, soft: bool) -> Result<(), Fault> {
    if soft || filters::exists(&filter.name) {
        return Ok(());
    }
    Err(Fault::new(format!("no filter named `{}`", filter.name)).at(filter.line))
}
