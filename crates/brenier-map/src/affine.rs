//! Maps of rows in their cheapest exact forms.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};

use crate::error::MapError;
use crate::mixture::Mixture;

/// A multiple of the identity plus low rank:
///
/// ```text
/// T(x) = scale x + offset + U (V^T (x - mean))
/// ```
///
/// # Shapes
/// `mean`, `offset`: `d`; `u`, `v`: `[d, r]`, `r >= 0`. A row costs `O(d r)`.
#[derive(Debug, Clone, PartialEq)]
pub struct LowRank {
    /// Factor of the identity: 1 leaves the complement of `v` where it is.
    pub scale: f64,
    /// What is subtracted before the projection on `v`; `d`.
    pub mean: Vec<f64>,
    /// What is added; `d`.
    pub offset: Vec<f64>,
    /// Directions of the result; `[d, r]`.
    pub u: Mat<f64>,
    /// Directions that are read; `[d, r]`.
    pub v: Mat<f64>,
}

impl LowRank {
    /// `T(m) - m`. Around the mean, `T(x) - x = (T(m) - m) + ((a - 1) I + U V^T)(x - m)`: nothing large cancels.
    pub(crate) fn constant(&self) -> Vec<f64> {
        let grow = self.scale - 1.0;
        self.mean.iter().zip(&self.offset).map(|(mean, offset)| grow * mean + offset).collect()
    }
}

/// A low-rank map with a symmetric matrix, such as an optimal one in all dimensions: the gradient of a quadratic function.
///
/// ```text
/// T(x) = scale x + offset + Q (C (Q^T (x - mean)))
/// ```
///
/// The same as [`LowRank`] with `u = Q C` and `v = Q` ([`Symmetric::to_low_rank`]) in half the memory. `Q` is orthonormal
/// where a fit made it; nothing here needs that.
///
/// # Shapes
/// `mean`, `offset`: `d`; `basis`: `[d, r]`, `core`: `[r, r]`, `r >= 0`. A row costs `O(d r)`.
#[derive(Debug, Clone, PartialEq)]
pub struct Symmetric {
    /// Factor of the identity: 1 leaves the complement of the basis where it is.
    pub scale: f64,
    /// What is subtracted before the projection on the basis; `d`.
    pub mean: Vec<f64>,
    /// What is added; `d`.
    pub offset: Vec<f64>,
    /// `Q`: directions that are read and written; `[d, r]`.
    pub basis: Mat<f64>,
    /// `C`, symmetric to the last bit; `[r, r]`.
    pub core: Mat<f64>,
}

impl Symmetric {
    /// The same map with its two factors apart.
    #[must_use]
    pub fn to_low_rank(&self) -> LowRank {
        let mut u = Mat::zeros(self.basis.nrows(), self.core.ncols());
        matmul(u.as_mut(), Accum::Replace, self.basis.as_ref(), self.core.as_ref(), 1.0, Par::Seq);
        LowRank {
            scale: self.scale,
            mean: self.mean.clone(),
            offset: self.offset.clone(),
            u,
            v: self.basis.clone(),
        }
    }
}

/// Every coordinate for itself:
///
/// ```text
/// T(x)_j = weight_j x_j + bias_j
/// ```
///
/// With `range = (lo, hi)` a coordinate moves only where `lo_j < x_j < hi_j`, and stays otherwise.
///
/// # Shapes
/// All vectors: `d`.
#[derive(Debug, Clone, PartialEq)]
pub struct Diagonal {
    /// Factors; `d`.
    pub weight: Vec<f64>,
    /// What is added; `d`.
    pub bias: Vec<f64>,
    /// Bounds `(lo, hi)`, each of length `d`, both exclusive.
    pub range: Option<(Vec<f64>, Vec<f64>)>,
}

/// Any matrix, for small widths:
///
/// ```text
/// T(x) = A x + b
/// ```
///
/// # Shapes
/// `matrix`: `[d, d]`; `bias`: `d`.
#[derive(Debug, Clone, PartialEq)]
pub struct Dense {
    /// `A`; `[d, d]`.
    pub matrix: Mat<f64>,
    /// `b`; `d`.
    pub bias: Vec<f64>,
}

/// An affine map of rows, or one made of affine pieces: a [`Diagonal`] map with a range, a [`Mixture`].
#[derive(Debug, Clone, PartialEq)]
pub enum Affine {
    /// A multiple of the identity plus low rank.
    LowRank(LowRank),
    /// The same with a symmetric matrix.
    Symmetric(Symmetric),
    /// Every coordinate for itself.
    Diagonal(Diagonal),
    /// Any matrix.
    Dense(Dense),
    /// Affine maps in few coordinates, blended.
    Mixture(Mixture),
}

impl Affine {
    /// Width of the rows that the map takes.
    #[must_use]
    pub fn dim(&self) -> usize {
        match self {
            Affine::LowRank(map) => map.mean.len(),
            Affine::Symmetric(map) => map.mean.len(),
            Affine::Diagonal(map) => map.weight.len(),
            Affine::Dense(map) => map.bias.len(),
            Affine::Mixture(map) => map.dim(),
        }
    }

    /// `T(x) - x` of many rows by matrix products. Rows are columns here: `x`: `[d, n]`, result: `[d, n]`.
    pub(crate) fn displacement(&self, mut x: Mat<f64>) -> Mat<f64> {
        // In turn: threads would change the order of sums, and with it the bits.
        let add = |out: &mut Mat<f64>, a: MatRef<'_, f64>, b: MatRef<'_, f64>| {
            matmul(out.as_mut(), Accum::Add, a, b, 1.0, Par::Seq);
        };
        let product = |a: MatRef<'_, f64>, b: MatRef<'_, f64>| {
            let mut out = Mat::zeros(a.nrows(), b.ncols());
            matmul(out.as_mut(), Accum::Replace, a, b, 1.0, Par::Seq);
            out
        };
        match self {
            Affine::LowRank(map) => {
                each(&mut x, |j, x| x - map.mean[j]);
                let z = product(map.v.transpose(), x.as_ref());
                let (grow, constant) = (map.scale - 1.0, map.constant());
                each(&mut x, |j, x| grow * x + constant[j]);
                add(&mut x, map.u.as_ref(), z.as_ref());
                x
            }
            Affine::Symmetric(map) => {
                each(&mut x, |j, x| x - map.mean[j]);
                let z = product(map.core.as_ref(), product(map.basis.transpose(), x.as_ref()).as_ref());
                let grow = map.scale - 1.0;
                each(&mut x, |j, x| grow * x + (grow * map.mean[j] + map.offset[j]));
                add(&mut x, map.basis.as_ref(), z.as_ref());
                x
            }
            Affine::Diagonal(map) => {
                each(&mut x, |j, x| match &map.range {
                    // A NaN is in no range, and stays what it is.
                    Some((lo, hi)) if !(lo[j] < x && x < hi[j]) => 0.0,
                    _ => (map.weight[j] - 1.0) * x + map.bias[j],
                });
                x
            }
            Affine::Dense(map) => {
                let mut moved = Mat::from_fn(x.nrows(), x.ncols(), |j, i| map.bias[j] - x[(j, i)]);
                add(&mut moved, map.matrix.as_ref(), x.as_ref());
                moved
            }
            Affine::Mixture(map) => {
                let columns: Vec<&[f64]> = (0..x.ncols()).map(|i| x.col_as_slice(i)).collect();
                let steps = map.steps(&columns);
                each(&mut x, |j, _| map.offset[j]);
                add(&mut x, map.u.as_ref(), steps.as_ref());
                x
            }
        }
    }

    /// Checks that the parts fit each other and are finite.
    pub(crate) fn check(&self) -> Result<(), MapError> {
        let dim = self.dim();
        if dim == 0 {
            return Err(MapError::ZeroWidth);
        }
        match self {
            Affine::LowRank(map) => {
                check_number("scale", map.scale)?;
                check_vector("mean", &map.mean, dim)?;
                check_vector("offset", &map.offset, dim)?;
                check_matrix("u", map.u.as_ref(), dim, map.u.ncols())?;
                check_matrix("v", map.v.as_ref(), dim, map.u.ncols())
            }
            Affine::Symmetric(map) => {
                let rank = map.basis.ncols();
                check_number("scale", map.scale)?;
                check_vector("mean", &map.mean, dim)?;
                check_vector("offset", &map.offset, dim)?;
                check_matrix("basis", map.basis.as_ref(), dim, rank)?;
                check_matrix("core", map.core.as_ref(), rank, rank)?;
                check_symmetry("core", map.core.as_ref())
            }
            Affine::Diagonal(map) => {
                check_vector("weight", &map.weight, dim)?;
                check_vector("bias", &map.bias, dim)?;
                if let Some((lo, hi)) = &map.range {
                    check_vector("range.lo", lo, dim)?;
                    check_vector("range.hi", hi, dim)?;
                }
                Ok(())
            }
            Affine::Dense(map) => {
                check_matrix("matrix", map.matrix.as_ref(), dim, dim)?;
                check_vector("bias", &map.bias, dim)
            }
            Affine::Mixture(map) => map.check(),
        }
    }
}

/// Replaces every value by what `f` makes of its row and itself.
fn each(x: &mut Mat<f64>, f: impl Fn(usize, f64) -> f64) {
    for i in 0..x.ncols() {
        x.col_as_slice_mut(i).iter_mut().enumerate().for_each(|(j, x)| *x = f(j, *x));
    }
}

pub(crate) fn check_number(part: &'static str, value: f64) -> Result<(), MapError> {
    if value.is_finite() { Ok(()) } else { Err(MapError::NonFinite { part, index: vec![], value }) }
}

pub(crate) fn check_vector(part: &'static str, values: &[f64], dim: usize) -> Result<(), MapError> {
    if values.len() != dim {
        return Err(MapError::Shape { part, expected: vec![dim], found: vec![values.len()] });
    }
    match values.iter().position(|value| !value.is_finite()) {
        Some(j) => Err(MapError::NonFinite { part, index: vec![j], value: values[j] }),
        None => Ok(()),
    }
}

pub(crate) fn check_matrix(
    part: &'static str,
    values: MatRef<'_, f64>,
    rows: usize,
    cols: usize,
) -> Result<(), MapError> {
    if values.shape() != (rows, cols) {
        let (r, c) = values.shape();
        return Err(MapError::Shape { part, expected: vec![rows, cols], found: vec![r, c] });
    }
    for (j, column) in values.col_iter().enumerate() {
        // Without a branch for each entry: large maps are checked whenever one is made.
        if !column.iter().fold(false, |bad, value| bad | !value.is_finite()) {
            continue;
        }
        if let Some((i, &value)) = column.iter().enumerate().find(|(_, value)| !value.is_finite()) {
            return Err(MapError::NonFinite { part, index: vec![i, j], value });
        }
    }
    Ok(())
}

fn check_symmetry(part: &'static str, values: MatRef<'_, f64>) -> Result<(), MapError> {
    for column in 0..values.ncols() {
        if let Some(row) = (0..column).find(|&row| values[(row, column)] != values[(column, row)]) {
            let values = [values[(row, column)], values[(column, row)]];
            return Err(MapError::Asymmetric { part, row, column, values });
        }
    }
    Ok(())
}
