//! A map of rows: an affine map and, where there is one, its gate.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatMut, MatRef, Par};
use rayon::prelude::*;

use crate::block::{Plan, constant};
use crate::lanes::Number;
use crate::{Affine, Gate, LowRank, MapError, Symmetric};

/// Rows mapped at once by a thread: what it holds beside the rows themselves is two blocks of so many at most.
pub(crate) const BLOCK: usize = 64;
/// The same, at most, for rows that are stored in columns.
const TALLEST: usize = 256;

/// A checked map of rows, `x + s p(x) (T(x) - x)`; the strength `s` is given at use.
///
/// There is no way to one whose parts do not fit each other or are not finite.
#[derive(Debug, Clone, PartialEq)]
pub struct RowMap {
    affine: Affine,
    gate: Option<Gate>,
}

impl RowMap {
    /// A map without a gate.
    ///
    /// # Errors
    /// Parts that do not fit each other, width 0, or numbers that are not finite.
    pub fn new(affine: Affine) -> Result<Self, MapError> {
        affine.check()?;
        Ok(Self { affine, gate: None })
    }

    /// The map `x + vector`: a plain steering vector.
    ///
    /// ```
    /// use brenier_map::RowMap;
    /// use faer::mat;
    ///
    /// let mut rows = mat![[1.0, 2.0], [3.0, 4.0]];
    /// RowMap::shift(vec![10.0, -1.0])?.apply_rows(rows.as_mut(), 0.5)?;
    /// assert_eq!(rows, mat![[6.0, 1.5], [8.0, 3.5]]);
    /// assert!(RowMap::shift(vec![]).is_err() && RowMap::shift(vec![f64::NAN]).is_err());
    /// # Ok::<(), brenier_map::MapError>(())
    /// ```
    ///
    /// # Errors
    /// A vector without entries, or with one that is not finite.
    pub fn shift(vector: Vec<f64>) -> Result<Self, MapError> {
        let d = vector.len();
        let (u, v) = (Mat::zeros(d, 0), Mat::zeros(d, 0));
        Self::new(Affine::LowRank(LowRank { scale: 1.0, mean: vec![0.0; d], offset: vector, u, v }))
    }

    /// The same map with this gate, which replaces any other.
    ///
    /// # Errors
    /// A gate of another width than the map, parts that do not fit each other, numbers that are not finite,
    /// a temperature of 0 or less, a threshold outside 0 to 1.
    pub fn with_gate(self, gate: Gate) -> Result<Self, MapError> {
        gate.check(self.dim())?;
        Ok(Self { gate: Some(gate), ..self })
    }

    /// Width of the rows that the map takes.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.affine.dim()
    }

    /// The map `T` without its gate.
    #[must_use]
    pub fn affine(&self) -> &Affine {
        &self.affine
    }

    /// The gate, where there is one.
    #[must_use]
    pub fn gate(&self) -> Option<&Gate> {
        self.gate.as_ref()
    }

    /// Maps rows in place at a strength. At strength 0, and where the gate is 0, rows keep every bit.
    ///
    /// A NaN in a row makes NaN of that row (of that coordinate, under a diagonal map), not of others.
    ///
    /// # Shapes
    /// `rows`: `[n, d]`, in any layout.
    ///
    /// # Errors
    /// Rows of another width, or a strength that is not finite.
    pub fn apply_rows(&self, rows: MatMut<'_, f64>, strength: f64) -> Result<(), MapError> {
        self.apply(rows, strength)
    }

    /// As [`apply_rows`](Self::apply_rows) for rows in f32: computed in f64 and rounded once.
    ///
    /// # Errors
    /// As [`apply_rows`](Self::apply_rows).
    pub fn apply_rows_f32(&self, rows: MatMut<'_, f32>, strength: f64) -> Result<(), MapError> {
        self.apply(rows, strength)
    }

    /// The share `p(x)` of the map that each row gets: 1 where the map has no gate.
    ///
    /// # Shapes
    /// `rows`: `[n, d]`; result: `n`.
    ///
    /// # Errors
    /// Rows of another width.
    pub fn gate_rows(&self, rows: MatRef<'_, f64>) -> Result<Vec<f64>, MapError> {
        self.check_width(rows.ncols())?;
        match &self.gate {
            Some(gate) => Ok(gate.log_odds(rows)?.into_iter().map(|odds| gate.probability(odds)).collect()),
            None => Ok(vec![1.0; rows.nrows()]),
        }
    }

    fn apply<T: Number>(&self, rows: MatMut<'_, T>, strength: f64) -> Result<(), MapError> {
        self.check_width(rows.ncols())?;
        check_strength(strength)?;
        if strength == 0.0 {
            return Ok(());
        }
        // A block's part of a column is in one piece, so columns want blocks as tall as leave work for all threads.
        let tall = rows.nrows().div_ceil(2 * rayon::current_num_threads()).clamp(BLOCK, TALLEST);
        let block = if rows.row_stride() == 1 && rows.col_stride() != 1 { tall } else { BLOCK };
        // Blocks of rows do not know of each other: which thread maps which changes no bit.
        let blocks = rows.par_row_chunks_mut(block);
        let constant = constant(&self.affine);
        match Plan::new(&self.affine, self.gate(), &constant, strength) {
            Some(plan) => {
                blocks.for_each(|block| plan.apply(block));
                Ok(())
            }
            None => blocks.try_for_each(|block| self.apply_whole(block, strength)),
        }
    }

    /// By way of the whole displacement.
    fn apply_whole<T: Number>(&self, mut block: MatMut<'_, T>, strength: f64) -> Result<(), MapError> {
        let x = Mat::from_fn(block.nrows(), block.ncols(), |i, j| block[(i, j)].widen());
        let share = self.gate_rows(x.as_ref())?;
        let moved = self.affine.displacement(x.as_ref());
        for j in 0..block.ncols() {
            for (i, &share) in share.iter().enumerate().filter(|&(_, &share)| share != 0.0) {
                block[(i, j)] = T::narrow(x[(i, j)] + strength * share * moved[(i, j)]);
            }
        }
        Ok(())
    }

    fn check_width(&self, found: usize) -> Result<(), MapError> {
        let expected = self.dim();
        if found == expected { Ok(()) } else { Err(MapError::Width { expected, found }) }
    }
}

pub(crate) fn check_strength(value: f64) -> Result<(), MapError> {
    let (part, expected) = ("strength", "a finite number");
    if value.is_finite() { Ok(()) } else { Err(MapError::OutOfRange { part, value, expected }) }
}

impl Affine {
    /// `T(x) - x` of rows of the right width.
    fn displacement(&self, x: MatRef<'_, f64>) -> Mat<f64> {
        // In turn: faer's threads would change the order of sums, and with it the bits.
        let par = Par::Seq;
        let (n, dim) = x.shape();
        match self {
            Affine::LowRank(LowRank { scale, mean, offset, u, v }) => {
                displaced(x, *scale, mean, offset, v.as_ref(), None, u.as_ref())
            }
            Affine::Symmetric(Symmetric { scale, mean, offset, basis, core }) => {
                displaced(x, *scale, mean, offset, basis.as_ref(), Some(core.as_ref()), basis.as_ref())
            }
            Affine::Diagonal(map) => Mat::from_fn(n, dim, |i, j| {
                let x = x[(i, j)];
                match &map.range {
                    // A NaN is in no range, and stays what it is.
                    Some((lo, hi)) if !(lo[j] < x && x < hi[j]) => 0.0,
                    _ => (map.weight[j] - 1.0) * x + map.bias[j],
                }
            }),
            Affine::Dense(map) => {
                let mut moved = Mat::from_fn(n, dim, |i, j| map.bias[j] - x[(i, j)]);
                matmul(moved.as_mut(), Accum::Add, x, map.matrix.transpose(), 1.0, par);
                moved
            }
            Affine::Mixture(map) => map.displacement(x),
        }
    }
}

/// `(a - 1) x + c + U C^T V^T (x - m)`, without a `C` where there is none. Around the mean,
/// `T(x) - x = (T(m) - m) + ((a - 1) I + U C^T V^T)(x - m)`: nothing large cancels.
fn displaced(
    x: MatRef<'_, f64>,
    scale: f64,
    mean: &[f64],
    offset: &[f64],
    v: MatRef<'_, f64>,
    core: Option<MatRef<'_, f64>>,
    u: MatRef<'_, f64>,
) -> Mat<f64> {
    let (n, dim) = x.shape();
    let times = |a: MatRef<'_, f64>, b: MatRef<'_, f64>| {
        let mut out = Mat::zeros(a.nrows(), b.ncols());
        matmul(out.as_mut(), Accum::Replace, a, b, 1.0, Par::Seq);
        out
    };
    let mut moved = Mat::from_fn(n, dim, |i, j| x[(i, j)] - mean[j]);
    let mut z = times(moved.as_ref(), v);
    if let Some(core) = core {
        z = times(z.as_ref(), core);
    }
    let grow = scale - 1.0;
    for (j, column) in moved.as_mut().col_iter_mut().enumerate() {
        column.iter_mut().for_each(|x| *x = grow * *x + (grow * mean[j] + offset[j]));
    }
    matmul(moved.as_mut(), Accum::Add, z.as_ref(), u.transpose(), 1.0, Par::Seq);
    moved
}
