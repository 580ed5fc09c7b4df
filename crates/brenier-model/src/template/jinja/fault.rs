//! Why a template failed.

/// A failure of a template, with the line of the source once it is known.
#[derive(Debug, Clone)]
pub(in crate::template) struct Fault {
    /// Line of the template, counted from 1.
    pub(in crate::template) line: Option<u32>,
    /// What happened.
    pub(in crate::template) reason: Reason,
}

/// What happened.
#[derive(Debug, Clone)]
pub(in crate::template) enum Reason {
    /// `raise_exception` was called: the template's own words.
    Refused(String),
    /// Anything else.
    Failed(String),
}

impl Fault {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { line: None, reason: Reason::Failed(message.into()) }
    }

    pub(super) fn syntax(line: u32, message: impl std::fmt::Display) -> Self {
        Self { line: Some(line), reason: Reason::Failed(format!("syntax error: {message}")) }
    }

    /// jinja2 has it, this engine does not: nothing is rendered rather than something else.
    pub(super) fn unsupported(what: impl std::fmt::Display) -> Self {
        Self::new(format!("{what} is not supported"))
    }

    /// The fault with the line where it happened; the first that is given stays.
    pub(super) fn at(mut self, line: u32) -> Self {
        self.line.get_or_insert(line);
        self
    }
}
