//! Activations in memory.

use std::collections::BTreeMap;

use faer::{Mat, MatRef};

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

/// Which prompt and token each row is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowIndex {
    /// Index of the prompt, from 0.
    pub prompt: Vec<u32>,
    /// Index of the token in its prompt, from 0.
    pub position: Vec<u32>,
}

/// Rows of activations, `[n, d]`, in the precision they came in; half precision is widened to f32.
#[derive(Debug, Clone, PartialEq)]
pub enum Rows {
    /// Single precision.
    F32(Mat<f32>),
    /// Double precision.
    F64(Mat<f64>),
}

impl Rows {
    /// Number of rows, n.
    #[must_use]
    pub fn nrows(&self) -> usize {
        match self {
            Rows::F32(rows) => rows.nrows(),
            Rows::F64(rows) => rows.nrows(),
        }
    }

    /// Width of a row, d.
    #[must_use]
    pub fn ncols(&self) -> usize {
        match self {
            Rows::F32(rows) => rows.ncols(),
            Rows::F64(rows) => rows.ncols(),
        }
    }

    /// The rows in double precision, as fits take them.
    #[must_use]
    pub fn to_f64(&self) -> Mat<f64> {
        match self {
            Rows::F32(rows) => widen(rows.as_ref()),
            Rows::F64(rows) => rows.clone(),
        }
    }
}

fn widen(rows: MatRef<'_, f32>) -> Mat<f64> {
    Mat::from_fn(rows.nrows(), rows.ncols(), |i, j| f64::from(rows[(i, j)]))
}
