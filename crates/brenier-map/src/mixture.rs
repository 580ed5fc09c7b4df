//! A blend of affine maps, each weighed by how much a row is its own.

use faer::{Mat, MatRef};

use crate::affine::{LowRank, check_matrix, check_number, check_vector};
use crate::coordinates::{Number, along, form, scaled};
use crate::error::MapError;

/// Affine maps in `K` coordinates, blended by a softmax of quadratic forms:
///
/// ```text
/// T(x) = x + offset + U sum_c p_c(z) (B_c z + b_c),   z = V^T (x - center)
/// p_c(z) = exp(q_c(z)) / sum_k exp(q_k(z)),           q_c(z) = constant_c + linear_c . z + z^T quadratic_c z
/// ```
///
/// With the logarithms of weighted Gaussian densities for `q_c`, `p_c` is the probability that a row is of
/// component `c`, and the map the barycentric map of a Gaussian mixture \[1\]. A [`Gate`](crate::Gate) is the case
/// of two pieces of which one has `B = 0, b = 0`. Only differences of the forms matter.
///
/// # Shapes
/// `center`, `offset`: `d`; `u`, `v`: `[d, K]`; one or more pieces. A row costs `O(d K + C K^2)` for `C` of them.
///
/// # References
/// 1. Delon & Desolneux, *A Wasserstein-type distance in the space of Gaussian mixture models*, 2020.
#[derive(Debug, Clone, PartialEq)]
pub struct Mixture {
    /// Origin of the coordinates; `d`.
    pub center: Vec<f64>,
    /// What is added to every row; `d`.
    pub offset: Vec<f64>,
    /// Directions of the result; `[d, K]`.
    pub u: Mat<f64>,
    /// Directions that are read; `[d, K]`.
    pub v: Mat<f64>,
    /// The maps that are blended.
    pub pieces: Vec<Piece>,
}

/// One of the maps of a [`Mixture`], in its `K` coordinates.
#[derive(Debug, Clone, PartialEq)]
pub struct Piece {
    /// The form at the origin, in nats.
    pub constant: f64,
    /// Linear part of the form; `K`.
    pub linear: Vec<f64>,
    /// Quadratic part of the form; `[K, K]`, only its symmetric part matters.
    pub quadratic: Mat<f64>,
    /// `B`, the linear part of the step; `[K, K]`.
    pub matrix: Mat<f64>,
    /// `b`, the step at the origin; `K`.
    pub shift: Vec<f64>,
}

impl Mixture {
    /// Width of the rows that the map takes.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.center.len()
    }

    /// How much each row is of each piece, `p_c`: every row of the result sums to 1.
    ///
    /// # Shapes
    /// `rows`: `[n, d]`; result: `[n, C]`.
    ///
    /// # Errors
    /// Rows of another width.
    pub fn shares(&self, rows: MatRef<'_, f64>) -> Result<Mat<f64>, MapError> {
        if rows.ncols() != self.dim() {
            return Err(MapError::Width { expected: self.dim(), found: rows.ncols() });
        }
        let each: Vec<Vec<f64>> = rows.row_iter().map(|row| row.iter().copied().collect()).collect();
        let z = along(self.v.as_ref(), &self.center, &each);
        let shares: Vec<Vec<f64>> = (0..rows.nrows()).map(|i| self.shares_at(z.col_as_slice(i))).collect();
        Ok(Mat::from_fn(rows.nrows(), self.pieces.len(), |i, c| shares[i][c]))
    }

    /// The steps of rows along `U`, as columns, `[K, n]`.
    pub(crate) fn steps<T: Number>(&self, rows: &[impl AsRef<[T]>]) -> Mat<f64> {
        let mut z = along(self.v.as_ref(), &self.center, rows);
        for i in 0..z.ncols() {
            let step = self.step_at(z.col_as_slice(i));
            z.col_as_slice_mut(i).copy_from_slice(&step);
        }
        z
    }

    fn step_at(&self, z: &[f64]) -> Vec<f64> {
        let mut step = vec![0.0; z.len()];
        // A piece without a share has no say, not even where its step overflows.
        for (piece, share) in self.pieces.iter().zip(self.shares_at(z)).filter(|&(_, share)| share != 0.0) {
            for (a, step) in step.iter_mut().enumerate() {
                let along = z.iter().enumerate().map(|(b, z)| piece.matrix[(a, b)] * z);
                *step += share * (piece.shift[a] + along.sum::<f64>());
            }
        }
        step
    }

    /// The shares at the coordinates of a row, by the differences of the forms from the largest: nothing overflows, and the
    /// sum is at least 1. Where forms overflow they are compared over the square of the row's magnitude.
    fn shares_at(&self, z: &[f64]) -> Vec<f64> {
        let forms = |z: &[f64], s: f64| -> Vec<f64> {
            let of = |piece: &Piece| form(piece.constant, &piece.linear, piece.quadratic.as_ref(), z, s);
            self.pieces.iter().map(of).collect()
        };
        let (mut q, mut s) = (forms(z, 1.0), 1.0);
        if !q.iter().all(|q| q.is_finite()) && z.iter().all(|z| z.is_finite()) {
            let (unit, magnitude) = scaled(z);
            (q, s) = (forms(&unit, magnitude), magnitude);
        }
        let top = q.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        // 0 times an infinite square is no number, and no difference.
        let below = |q: f64| if q == top { 0.0 } else { (q - top) * s * s };
        let weights: Vec<f64> = q.into_iter().map(|q| below(q).exp()).collect();
        let sum: f64 = weights.iter().sum();
        weights.into_iter().map(|weight| weight / sum).collect()
    }

    /// The same map as one low-rank map, where there is a single piece.
    pub(crate) fn single(&self) -> Option<LowRank> {
        let [piece] = self.pieces.as_slice() else { return None };
        let (dim, k) = self.u.shape();
        Some(LowRank {
            scale: 1.0,
            mean: self.center.clone(),
            offset: (0..dim)
                .map(|j| self.offset[j] + (0..k).map(|a| self.u[(j, a)] * piece.shift[a]).sum::<f64>())
                .collect(),
            u: Mat::from_fn(dim, k, |j, b| (0..k).map(|a| self.u[(j, a)] * piece.matrix[(a, b)]).sum()),
            v: self.v.clone(),
        })
    }

    /// Every step `strength` times as long; the shares stay.
    pub(crate) fn at_strength(&self, strength: f64) -> Self {
        let scaled = |values: &[f64]| values.iter().map(|value| strength * value).collect::<Vec<_>>();
        let piece = |piece: &Piece| Piece {
            matrix: Mat::from_fn(piece.matrix.nrows(), piece.matrix.ncols(), |i, j| {
                strength * piece.matrix[(i, j)]
            }),
            shift: scaled(&piece.shift),
            ..piece.clone()
        };
        let pieces = self.pieces.iter().map(piece).collect();
        Self { offset: scaled(&self.offset), pieces, ..self.clone() }
    }

    /// Checks that the parts fit each other and are finite.
    pub(crate) fn check(&self) -> Result<(), MapError> {
        let (dim, k) = (self.dim(), self.u.ncols());
        check_vector("center", &self.center, dim)?;
        check_vector("offset", &self.offset, dim)?;
        check_matrix("u", self.u.as_ref(), dim, k)?;
        check_matrix("v", self.v.as_ref(), dim, k)?;
        if self.pieces.is_empty() {
            return Err(MapError::Shape { part: "constant", expected: vec![1], found: vec![0] });
        }
        for piece in &self.pieces {
            check_number("constant", piece.constant)?;
            check_vector("linear", &piece.linear, k)?;
            check_matrix("quadratic", piece.quadratic.as_ref(), k, k)?;
            check_matrix("matrix", piece.matrix.as_ref(), k, k)?;
            check_vector("shift", &piece.shift, k)?;
        }
        Ok(())
    }
}
