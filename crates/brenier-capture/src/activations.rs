//! Activations in memory.

use std::collections::BTreeMap;

use crate::{ActivationSink, CaptureError, Fact, Part, Plan, Position, Rows};

/// Activation rows by name, e.g. `blocks.5.hook_resid_post`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Activations {
    /// Rows by tensor name, each `[n, d]`.
    pub tensors: BTreeMap<String, Rows>,
    /// Which prompt and token each row is; `None` where row `i` is the last token of prompt `i`.
    pub rows: Option<RowIndex>,
    /// What is known of them besides: how they were made ([`Provenance`](crate::Provenance)), and whatever a writer adds.
    pub metadata: BTreeMap<String, String>,
}

impl Activations {
    /// Drops a row index that says no more than its absence: row `i` is the last token of prompt `i`.
    pub fn drop_plain_index(&mut self) {
        let last = Position::Last.to_string();
        let plain = |rows: &RowIndex| (0..).zip(&rows.prompt).all(|(row, &prompt)| row == prompt);
        if self.metadata.get(Fact::Position.key()) == Some(&last) && self.rows.as_ref().is_some_and(plain) {
            self.rows = None;
        }
    }
}

/// Which prompt and token each row is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowIndex {
    /// Index of the prompt, from 0.
    pub prompt: Vec<u32>,
    /// Index of the token in its prompt, from 0.
    pub position: Vec<u32>,
}

impl RowIndex {
    /// Puts the rows of `other` under these.
    pub(crate) fn append(&mut self, mut other: Self) {
        self.prompt.append(&mut other.prompt);
        self.position.append(&mut other.position);
    }
}

/// Keeps all rows in memory. The metadata are those of the plan; the row index is kept for parts that need one.
impl ActivationSink for Activations {
    fn part_bytes(&self) -> Option<usize> {
        None
    }

    fn begin(&mut self, plan: &Plan) -> Result<(), CaptureError> {
        *self = Self { metadata: plan.metadata.clone(), ..Self::default() };
        self.rows = (!plan.is_a_row_a_prompt()).then(RowIndex::default);
        Ok(())
    }

    fn put(&mut self, part: Part) -> Result<(), CaptureError> {
        for (name, rows) in part.tensors {
            match self.tensors.get_mut(&name) {
                Some(Rows::F32(all)) => all.append(rows),
                _ => drop(self.tensors.insert(name, Rows::F32(rows))),
            }
        }
        if let Some(index) = &mut self.rows {
            index.append(part.index);
        }
        Ok(())
    }
}
