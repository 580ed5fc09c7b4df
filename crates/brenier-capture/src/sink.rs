//! Where captured rows go.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::{CaptureError, Fact, Position, RowIndex, RowMatrix, Share};

/// Bytes of rows that a part holds, where nobody says otherwise.
const PART: usize = 256 << 20;

/// Takes captured rows as they come, a part of the prompts after the other.
///
/// [`Activations`](crate::Activations) keep them in memory, [`ShardWriter`](crate::ShardWriter) writes them to files,
/// [`MomentsSink`](crate::MomentsSink) keeps means and covariances alone. What a sink has from a capture that was
/// interrupted is not computed again.
pub trait ActivationSink {
    /// Bytes of rows that a part may hold, where the capture does not say how many prompts; `None` takes all prompts as
    /// one part. A part holds one prompt at least.
    fn part_bytes(&self) -> Option<usize> {
        Some(PART)
    }

    /// Told before anything is computed what will come.
    ///
    /// # Errors
    /// Rows of an earlier capture that was another one; what cannot be read or written.
    fn begin(&mut self, plan: &Plan) -> Result<(), CaptureError>;

    /// Whether the rows of a part are here already, so that they need not come.
    ///
    /// # Errors
    /// What cannot be read.
    fn has(&self, part: usize) -> Result<bool, CaptureError> {
        let _ = part;
        Ok(false)
    }

    /// Takes the rows of a part that it does not have. Parts come in their order.
    ///
    /// # Errors
    /// What cannot be written, or cannot be taken in.
    fn put(&mut self, part: Part) -> Result<(), CaptureError>;
}

/// Rows of neighbouring prompts, in the order of the prompts.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Part {
    /// Which part of the plan, from 0.
    pub number: usize,
    /// The rows by tensor, each `[n, d]`.
    pub tensors: BTreeMap<String, RowMatrix<f32>>,
    /// Which prompt and token each row is. Prompts count in the whole list, not in a share of it.
    pub index: RowIndex,
}

/// What a capture is to give: the same for the same model, prompts and settings. It is what an interrupted capture is
/// compared with when it goes on, and the shares of one capture with each other.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Plan {
    /// The share of the prompts that is captured.
    pub share: Share,
    /// Number of prompts in all shares together.
    pub prompts: usize,
    /// SHA-256 of the token ids of all of them.
    pub ids: String,
    /// Tensors with their widths.
    pub tensors: BTreeMap<String, usize>,
    /// The parts of the share, in their order.
    pub parts: Vec<PartPlan>,
    /// How the rows are made ([`Provenance`](crate::Provenance)).
    pub metadata: BTreeMap<String, String>,
}

/// A part of a [`Plan`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct PartPlan {
    /// Its prompts, counted from 0 in the whole list.
    pub prompts: Range<usize>,
    /// Its rows.
    pub rows: usize,
}

impl Plan {
    /// Number of rows of the share.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.parts.iter().map(|part| part.rows).sum()
    }

    /// Whether row `i` is of prompt `i`, each by its last token: then nobody needs a row index.
    pub(crate) fn is_a_row_a_prompt(&self) -> bool {
        let last = Position::Last.to_string();
        self.share == Share::default() && self.metadata.get(Fact::Position.key()) == Some(&last)
    }

    /// In which ways another plan is of another capture, in words; nothing where both are shares of one. The version of
    /// the program does not count.
    pub(crate) fn other_capture(&self, other: &Self) -> Vec<String> {
        let mut found = Differences::default();
        found.compare("the number of prompts", self.prompts, other.prompts);
        found.compare("the hash of the token ids", &self.ids, &other.ids);
        let names = |plan: &Self| {
            plan.tensors
                .iter()
                .map(|(name, width)| format!("{name} of {width}"))
                .collect::<Vec<_>>()
                .join(", ")
        };
        found.compare("the list of tensors", names(self), names(other));
        let keys: BTreeSet<&String> = self.metadata.keys().chain(other.metadata.keys()).collect();
        for key in keys.into_iter().filter(|&key| key != Fact::Version.key()) {
            let value = |plan: &Self| plan.metadata.get(key).map_or("not stated", String::as_str).to_owned();
            found.compare(key, value(self), value(other));
        }
        found.0
    }

    /// In which ways another plan is not this one, in words.
    pub(crate) fn differences(&self, other: &Self) -> Vec<String> {
        let mut found = Differences(self.other_capture(other));
        found.compare("the share", self.share, other.share);
        if found.0.is_empty() && self.parts != other.parts {
            let sizes = |plan: &Self| {
                plan.parts
                    .iter()
                    .map(|part| part.prompts.len().to_string())
                    .take(3)
                    .collect::<Vec<_>>()
                    .join(", ")
            };
            let (was, is) = (sizes(self), sizes(other));
            found.0.push(format!("the numbers of prompts to a part were `{was}, ...` and are `{is}, ...`"));
        }
        found.0
    }
}

#[derive(Default)]
struct Differences(Vec<String>);

impl Differences {
    fn compare<T: std::fmt::Display + PartialEq>(&mut self, what: &str, was: T, is: T) {
        if was != is {
            let (was, is) = (was.to_string(), is.to_string());
            self.0.push(format!("{what} was `{}` and is `{}`", was.escape_debug(), is.escape_debug()));
        }
    }
}
