use crate::decompose::{relative_floor, symmetric_eigen};
use crate::error::LinalgError;
use crate::norms::squared_norm;
use crate::positive::cholesky;
use crate::product::{gram, gram_of_stack, multiply_in_place, stack_transpose_product};
use crate::roots::symmetric_inverse_root;
use faer::{Mat, MatRef};

/// An orthonormal basis of the joint span of two factors.
#[derive(Debug, Clone)]
pub struct JointBasis {
    /// `[d, r]`, orthonormal columns; `None` where the span is everything (`r = d`), and the identity serves.
    pub vectors: Option<Mat<f64>>,
    /// Dimension of the span, r.
    pub rank: usize,
}

/// An orthonormal basis of the span of the rows of `a` and `b` together, from the Gram matrix of the stacked rows, or
/// from their `d x d` scatter matrix when `d` is the smaller side: never a decomposition larger than
/// `min(m + n, d)`.
///
/// Each factor is weighted by the inverse of its norm first, so that a small class is not lost beside a large one.
/// Directions whose share lies at or under `max(m + n, d) * eps` of the largest are left out.
///
/// # Shapes
/// `a`: `[m, d]`, `b`: `[n, d]`.
///
/// # Errors
/// [`LinalgError::Widths`], [`LinalgError::NoConvergence`].
pub fn joint_basis(a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> Result<JointBasis, LinalgError> {
    if a.ncols() != b.ncols() {
        return Err(LinalgError::Widths { left: a.ncols(), right: b.ncols() });
    }
    let (m, n, d) = (a.nrows(), b.nrows(), a.ncols());
    let weight = |x: MatRef<'_, f64>| {
        let norm = squared_norm(x).sqrt();
        if norm > 0.0 { 1.0 / norm } else { 0.0 }
    };
    let (of_a, of_b) = (weight(a), weight(b));
    let of_row = |i: usize| if i < m { of_a } else { of_b };
    let wide = m + n < d;
    // The weights are put in afterwards: factors can be large, and there is no copy of them here.
    let small = if wide {
        let mut of_both = gram_of_stack(a, b);
        for (j, column) in of_both.as_mut().col_iter_mut().enumerate() {
            column.iter_mut().enumerate().for_each(|(i, x)| *x = of_row(i) * *x * of_row(j));
        }
        of_both
    } else {
        let (mut of_both, other) = (gram(a.transpose()), gram(b.transpose()));
        for (column, other) in of_both.as_mut().col_iter_mut().zip(other.col_iter()) {
            column.iter_mut().zip(other.iter()).for_each(|(x, y)| *x = of_a * *x * of_a + of_b * y * of_b);
        }
        of_both
    };
    let floor = relative_floor(d.max(m + n));
    if !wide && is_above(&small, floor) {
        return Ok(JointBasis { vectors: None, rank: d });
    }
    let eigen = symmetric_eigen(small.as_ref())?;
    let floor = floor * eigen.values.first().copied().unwrap_or(0.0);
    let rank = eigen.values.iter().take_while(|&&value| value > floor).count();
    let vectors = eigen.vectors.as_ref().subcols(0, rank);
    let vectors = if rank == d {
        None
    } else if wide {
        let scaled = Mat::from_fn(m + n, rank, |i, j| of_row(i) * (vectors[(i, j)] / eigen.values[j].sqrt()));
        Some(orthonormalize(stack_transpose_product(a, b, scaled.as_ref()))?)
    } else {
        Some(vectors.to_owned())
    };
    Ok(JointBasis { vectors, rank })
}

/// The orthonormal columns nearest to nearly orthonormal ones, `Q (Q^T Q)^{-1/2}`: takes away the loss of
/// orthogonality that vectors lifted from a Gram matrix have. `[d, r]`, `r <= d`.
///
/// Reference: P.-O. Löwdin, "On the nonorthogonality problem", Adv. Quantum Chem. 5, 1970.
///
/// # Errors
/// [`LinalgError::NoConvergence`].
pub fn orthonormalize(mut columns: Mat<f64>) -> Result<Mat<f64>, LinalgError> {
    let root = symmetric_inverse_root(gram(columns.as_ref().transpose()).as_ref())?;
    multiply_in_place(&mut columns, root.matrix.as_ref());
    Ok(columns)
}

/// Whether every eigenvalue lies above this share of their sum, and so of the largest, as a Cholesky factor shows in less
/// time and room than a decomposition takes.
fn is_above(matrix: &Mat<f64>, share: f64) -> bool {
    let mut left = matrix.clone();
    let trace: f64 = (0..left.nrows()).map(|i| left[(i, i)]).sum();
    (0..left.nrows()).for_each(|i| left[(i, i)] -= share * trace);
    cholesky(left).is_some()
}
