//! How much a row belongs to the source.

use faer::{Mat, MatRef};
use rayon::prelude::*;

use crate::affine::{check_matrix, check_number, check_vector};
use crate::coordinates::{Number, along, form, scaled};
use crate::error::MapError;

/// Rows that a thread reads at once.
const BLOCK: usize = 16;

/// The share of the map that a row gets:
///
/// ```text
/// p(x) = sigmoid( (constant + linear . z + z^T quadratic z) / temperature ),   z = basis^T (x - center)
/// ```
///
/// The argument is the posterior log-odds of two Gaussians in `K` coordinates, source against target: with
/// their natural parameters every such posterior has this form, so `p(x)` is the probability that `x`
/// is of the source. With a threshold, `p(x)` below it counts as 0.
///
/// # Shapes
/// `basis`: `[d, K]`; `center`: `d`; `linear`: `K`; `quadratic`: `[K, K]`, only its symmetric part matters.
#[derive(Debug, Clone, PartialEq)]
pub struct Gate {
    /// Directions of the coordinates; `[d, K]`.
    pub basis: Mat<f64>,
    /// Origin of the coordinates; `d`.
    pub center: Vec<f64>,
    /// Log-odds at the origin, in nats, the log-odds of the priors included.
    pub constant: f64,
    /// Linear part of the log-odds; `K`.
    pub linear: Vec<f64>,
    /// Quadratic part of the log-odds; `[K, K]`.
    pub quadratic: Mat<f64>,
    /// Divides the log-odds; above 0, and 1 for the posterior itself.
    pub temperature: f64,
    /// Least `p(x)` that is not taken for 0; from 0 to 1.
    pub threshold: Option<f64>,
}

impl Gate {
    /// Width of the rows that the gate takes.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.center.len()
    }

    /// Log-odds of rows before temperature and threshold, in nats.
    ///
    /// # Shapes
    /// `rows`: `[n, d]`; result: `n`.
    ///
    /// # Errors
    /// Rows of another width.
    pub fn log_odds(&self, rows: MatRef<'_, f64>) -> Result<Vec<f64>, MapError> {
        if rows.ncols() != self.dim() {
            return Err(MapError::Width { expected: self.dim(), found: rows.ncols() });
        }
        // Rows do not know of each other: which thread has which changes no bit.
        let of = |rows: MatRef<'_, f64>| {
            let rows: Vec<Vec<f64>> = rows.row_iter().map(|row| row.iter().copied().collect()).collect();
            self.log_odds_of(&rows)
        };
        Ok(rows.par_row_chunks(BLOCK).flat_map(of).collect())
    }

    /// Log-odds of rows of the right width.
    pub(crate) fn log_odds_of<T: Number>(&self, rows: &[impl AsRef<[T]>]) -> Vec<f64> {
        let z = along(self.basis.as_ref(), &self.center, rows);
        (0..z.ncols()).map(|i| self.log_odds_at(z.col_as_slice(i))).collect()
    }

    fn log_odds_at(&self, z: &[f64]) -> f64 {
        let odds = form(self.constant, &self.linear, self.quadratic.as_ref(), z, 1.0);
        if odds.is_finite() || !z.iter().all(|z| z.is_finite()) {
            return odds;
        }
        let (unit, s) = scaled(z);
        s * (s * form(self.constant, &self.linear, self.quadratic.as_ref(), &unit, s))
    }

    /// `p(x)` from log-odds: temperature, sigmoid, threshold.
    #[must_use]
    pub fn probability(&self, log_odds: f64) -> f64 {
        let p = sigmoid(log_odds / self.temperature);
        match self.threshold {
            Some(threshold) if p < threshold => 0.0,
            _ => p,
        }
    }

    /// Checks that the parts fit each other and are finite, and that temperature and threshold make sense.
    pub(crate) fn check(&self, dim: usize) -> Result<(), MapError> {
        let k = self.linear.len();
        check_matrix("gate.basis", self.basis.as_ref(), dim, k)?;
        check_vector("gate.center", &self.center, dim)?;
        check_number("gate.constant", self.constant)?;
        check_vector("gate.linear", &self.linear, k)?;
        check_matrix("gate.quadratic", self.quadratic.as_ref(), k, k)?;
        check_number("gate.temperature", self.temperature)?;
        if self.temperature <= 0.0 {
            let (part, expected) = ("gate.temperature", "a number above 0");
            return Err(MapError::OutOfRange { part, value: self.temperature, expected });
        }
        match self.threshold {
            Some(value) if !(0.0..=1.0).contains(&value) => {
                let (part, expected) = ("gate.threshold", "a number from 0 to 1");
                Err(MapError::OutOfRange { part, value, expected })
            }
            _ => Ok(()),
        }
    }
}

/// `1 / (1 + e^-t)` without overflow, and exact to rounding in both tails.
fn sigmoid(t: f64) -> f64 {
    if t >= 0.0 {
        1.0 / (1.0 + (-t).exp())
    } else {
        let e = t.exp();
        e / (1.0 + e)
    }
}
