//! A blend of affine maps, each weighed by how much a row is its own.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};

use crate::affine::{check_matrix, check_number, check_vector};
use crate::block::coordinates;
use crate::kernel::Projection;
use crate::{LowRank, MapError};

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
        Ok(self.shares_at(self.coordinates(rows).as_ref()))
    }

    /// `T(x) - x` of rows of the right width.
    pub(crate) fn displacement(&self, x: MatRef<'_, f64>) -> Mat<f64> {
        let step = self.steps(self.coordinates(x).as_ref());
        let mut moved = Mat::from_fn(x.nrows(), self.dim(), |_, j| self.offset[j]);
        matmul(moved.as_mut(), Accum::Add, step.as_ref(), self.u.transpose(), 1.0, Par::Seq);
        moved
    }

    /// Steps along `U` at coordinates `[n, K]`, both row after row.
    pub(crate) fn steps_at(&self, n: usize, z: &[f64]) -> Vec<f64> {
        let k = self.v.ncols();
        let step = self.steps(MatRef::from_row_major_slice(z, n, k));
        (0..n * k).map(|at| step[(at / k, at % k)]).collect()
    }

    fn steps(&self, z: MatRef<'_, f64>) -> Mat<f64> {
        let shares = self.shares_at(z);
        let (n, k) = z.shape();
        Mat::from_fn(n, k, |i, a| {
            let of = |piece: &Piece| {
                piece.shift[a] + (0..k).map(|b| piece.matrix[(a, b)] * z[(i, b)]).sum::<f64>()
            };
            // A piece without a share has no say, not even where its step overflows.
            let weighed = self.pieces.iter().enumerate().filter(|&(c, _)| shares[(i, c)] != 0.0);
            weighed.map(|(c, piece)| shares[(i, c)] * of(piece)).sum::<f64>()
        })
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

    fn coordinates(&self, x: MatRef<'_, f64>) -> Mat<f64> {
        let z = coordinates(x, &Projection::new(&self.center, &self.v));
        MatRef::from_row_major_slice(&z, x.nrows(), self.v.ncols()).to_owned()
    }

    fn shares_at(&self, z: MatRef<'_, f64>) -> Mat<f64> {
        let k = z.ncols();
        let forms = Mat::from_fn(z.nrows(), self.pieces.len(), |i, c| {
            let piece = &self.pieces[c];
            let slope =
                |a: usize| piece.linear[a] + (0..k).map(|b| piece.quadratic[(a, b)] * z[(i, b)]).sum::<f64>();
            piece.constant + (0..k).map(|a| z[(i, a)] * slope(a)).sum::<f64>()
        });
        // Against the largest: nothing overflows, and the sum is at least 1.
        let largest = |i: usize| forms.row(i).iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let tops: Vec<f64> = (0..z.nrows()).map(largest).collect();
        let weights = Mat::from_fn(z.nrows(), self.pieces.len(), |i, c| (forms[(i, c)] - tops[i]).exp());
        let sums: Vec<f64> = weights.row_iter().map(|row| row.iter().sum()).collect();
        Mat::from_fn(z.nrows(), self.pieces.len(), |i, c| weights[(i, c)] / sums[i])
    }
}
