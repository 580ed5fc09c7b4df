//! Which of the special variables (`caller`, `kwargs`, `varargs`) a macro reads: it has those and no others.

use std::collections::HashSet;

use super::super::syntax::{
    Applied, Expr, ExprKind, Macro, Name, Names, Scope, Statement, StatementKind, Target,
};

/// Marks each macro with the special variables that it reads, and gives the variables' names.
pub(super) fn mark(macros: &mut [Macro], names: &mut Names) -> [Name; 3] {
    let special = ["caller", "kwargs", "varargs"].map(|name| names.number(name));
    let flags: Vec<[bool; 3]> = macros
        .iter()
        .map(|definition| {
            let mut search = Search { macros, looked_for: HashSet::from(special), found: HashSet::new() };
            search.scope(&definition.body);
            // A parameter of that name is an ordinary one.
            let own = |name| definition.parameters.iter().any(|(parameter, _)| *parameter == name);
            special.map(|name| search.found.contains(&name) && !own(name))
        })
        .collect();
    for (definition, [caller, kwargs, varargs]) in macros.iter_mut().zip(flags) {
        (definition.caller, definition.kwargs, definition.varargs) = (caller, kwargs, varargs);
    }
    special
}

/// A search for names that are read before they are set, in a macro and everything in it.
struct Search<'t> {
    macros: &'t [Macro],
    looked_for: HashSet<Name>,
    found: HashSet<Name>,
}

impl Search<'_> {
    fn scope(&mut self, scope: &Scope) {
        self.statements(&scope.body);
    }

    fn statements(&mut self, body: &[Statement]) {
        for statement in body {
            match &statement.kind {
                StatementKind::Print(value) => self.expr(value),
                StatementKind::If { branches, otherwise } => {
                    for (test, body) in branches {
                        self.expr(test);
                        self.statements(body);
                    }
                    self.statements(otherwise);
                }
                StatementKind::For(node) => {
                    self.target(&node.target);
                    self.expr(&node.items);
                    self.scope(&node.body);
                    if let Some(otherwise) = &node.otherwise {
                        self.scope(otherwise);
                    }
                    if let Some(condition) = &node.condition {
                        self.expr(condition);
                    }
                }
                StatementKind::Set { target, value } => {
                    self.target(target);
                    self.expr(value);
                }
                StatementKind::SetBlock { target, filters, body } => {
                    self.target(target);
                    self.filters(filters);
                    self.scope(body);
                }
                StatementKind::With { values, body } => {
                    values.iter().for_each(|(target, _)| self.target(target));
                    values.iter().for_each(|(_, value)| self.expr(value));
                    self.scope(body);
                }
                StatementKind::Macro { number, .. } => self.function(*number),
                StatementKind::Call { call, block } => {
                    self.expr(call);
                    self.function(*block);
                }
                StatementKind::FilterBlock { filters, body } => {
                    self.scope(body);
                    self.filters(filters);
                }
                StatementKind::Autoescape { enabled, body } => {
                    self.expr(enabled);
                    self.scope(body);
                }
                StatementKind::Generation { body } => self.scope(body),
                StatementKind::Text(_)
                | StatementKind::Block { .. }
                | StatementKind::Break
                | StatementKind::Continue
                | StatementKind::Elsewhere(_) => {}
            }
        }
    }

    fn function(&mut self, number: usize) {
        let definition = &self.macros[number];
        for (name, _) in &definition.parameters {
            self.looked_for.remove(name);
        }
        definition.parameters.iter().filter_map(|(_, default)| default.as_ref()).for_each(|d| self.expr(d));
        self.scope(&definition.body);
    }

    fn filters(&mut self, filters: &[Applied]) {
        filters.iter().for_each(|filter| filter.arguments.children(&mut |child| self.expr(child)));
    }

    fn target(&mut self, target: &Target) {
        match target {
            Target::Name(name) => {
                self.looked_for.remove(name);
            }
            Target::Tuple(targets) => targets.iter().for_each(|target| self.target(target)),
            Target::Attribute(..) => {}
        }
    }

    fn expr(&mut self, expr: &Expr) {
        if let ExprKind::Name(name) = &expr.kind
            && self.looked_for.contains(name)
        {
            self.found.insert(*name);
        }
        expr.kind.children(&mut |child| self.expr(child));
    }
}
