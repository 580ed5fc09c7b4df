use crate::error::LinalgError;
use crate::norms::squared_norm;
use faer::diag::Diag;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::evd;
use faer::linalg::svd;
use faer::{Mat, MatRef, Par};

/// Eigen-decomposition of a symmetric matrix, `M = V diag(values) V^T`.
#[derive(Debug, Clone)]
pub struct Eigen {
    /// Eigenvalues, descending. `[n]`.
    pub values: Vec<f64>,
    /// Orthonormal eigenvectors as columns, in the order of `values`; in each, the entry of largest magnitude (the
    /// first of them on a tie) is positive. Within an eigenspace of repeated eigenvalues the basis is whatever the
    /// decomposition gives: deterministic, not canonical. `[n, n]`.
    pub vectors: Mat<f64>,
}

/// Thin singular value decomposition, `M = U diag(values) V^T`, without `U`.
#[derive(Debug, Clone)]
pub struct ThinSvd {
    /// Singular values, descending. `[min(m, n)]`.
    pub values: Vec<f64>,
    /// Right singular vectors as columns, signs fixed as in [`Eigen::vectors`]. `[n, min(m, n)]`.
    pub right: Mat<f64>,
}

/// The relative floor of an eigenvalue: `dim * eps`. An eigenvalue at or under `dim * eps * largest` counts as zero.
///
/// Rows stored in f32 carry noise eigenvalues of about `eps_f32^2 = 1e-14` of the largest, which lie under it too.
pub fn relative_floor(dim: usize) -> f64 {
    dim.max(1) as f64 * f64::EPSILON
}

/// What rounding to f32 may have added to any eigenvalue of the covariance (divided by `n`) of rows `[n, d]`: 0 where
/// some value is no f32 number, and the rows were not stored so.
///
/// A rounding error is at most `eps_f32 |x| / 2`, of variance a third of its square; of `[n, d]` of these the largest
/// singular value is about `sqrt(n) + sqrt(d)` deviations \[1\]. Twice that is taken.
///
/// # References
/// 1. K. R. Davidson & S. J. Szarek, *Local operator theory, random matrices and Banach spaces*, 2001, theorem 2.13.
pub fn f32_noise(rows: MatRef<'_, f64>) -> f64 {
    let (n, d) = (rows.nrows() as f64, rows.ncols() as f64);
    let stored = |x: &f64| f64::from(*x as f32) == *x;
    if n == 0.0 || d == 0.0 || !rows.col_iter().all(|column| column.iter().all(stored)) {
        return 0.0;
    }
    let half = f64::from(f32::EPSILON) / 2.0;
    let variance = half * half / 3.0 * squared_norm(rows) / (n * d);
    4.0 * variance * (1.0 + (d / n).sqrt()).powi(2)
}

/// Eigen-decomposition of a symmetric matrix; only the lower triangle is read.
///
/// # Shapes
/// `[n, n]` to `n` values and `[n, n]` vectors.
///
/// # Errors
/// [`LinalgError::Shape`] if not square; [`LinalgError::NoConvergence`].
pub fn symmetric_eigen(matrix: MatRef<'_, f64>) -> Result<Eigen, LinalgError> {
    let n = matrix.nrows();
    if n != matrix.ncols() {
        return Err(LinalgError::Shape { expected: (n, n), found: (n, matrix.ncols()) });
    }
    // faer's own scratch computation underflows on an empty matrix (0.24.4).
    if n == 0 {
        return Ok(Eigen { values: Vec::new(), vectors: Mat::zeros(0, 0) });
    }
    let mut values = Diag::zeros(n);
    let mut vectors = Mat::zeros(n, n);
    let scratch =
        evd::self_adjoint_evd_scratch::<f64>(n, evd::ComputeEigenvectors::Yes, Par::Seq, Default::default());
    evd::self_adjoint_evd(
        matrix,
        values.as_mut(),
        Some(vectors.as_mut()),
        Par::Seq,
        MemStack::new(&mut MemBuffer::new(scratch)),
        Default::default(),
    )
    .map_err(|_| LinalgError::NoConvergence { what: "eigen-decomposition", size: n })?;
    // faer gives them ascending.
    let values: Vec<f64> = values.column_vector().iter().rev().copied().collect();
    let mut vectors = vectors.as_ref().reverse_cols().to_owned();
    fix_signs(&mut vectors);
    Ok(Eigen { values, vectors })
}

/// Eigenvalues alone of a symmetric matrix `[n, n]`, descending; only the lower triangle is read.
///
/// # Errors
/// As [`symmetric_eigen`].
pub fn symmetric_eigenvalues(matrix: MatRef<'_, f64>) -> Result<Vec<f64>, LinalgError> {
    let n = matrix.nrows();
    if n != matrix.ncols() {
        return Err(LinalgError::Shape { expected: (n, n), found: (n, matrix.ncols()) });
    }
    if n == 0 {
        return Ok(Vec::new());
    }
    let (none, mut values) = (evd::ComputeEigenvectors::No, Diag::zeros(n));
    let scratch = evd::self_adjoint_evd_scratch::<f64>(n, none, Par::Seq, Default::default());
    let stack = &mut MemBuffer::new(scratch);
    evd::self_adjoint_evd(matrix, values.as_mut(), None, Par::Seq, MemStack::new(stack), Default::default())
        .map_err(|_| LinalgError::NoConvergence { what: "eigen-decomposition", size: n })?;
    Ok(values.column_vector().iter().rev().copied().collect())
}

/// Singular values and right singular vectors of `[m, n]`, more accurate for the small ones than the eigenvalues of
/// `M^T M`: the relative error of a value `s` is about `eps * largest / s`, not its square.
///
/// # Errors
/// [`LinalgError::NoConvergence`].
pub fn thin_svd(matrix: MatRef<'_, f64>) -> Result<ThinSvd, LinalgError> {
    let (m, n) = (matrix.nrows(), matrix.ncols());
    let size = m.min(n);
    let mut values = Diag::zeros(size);
    let mut right = Mat::zeros(n, size);
    if size == 0 {
        return Ok(ThinSvd { values: Vec::new(), right });
    }
    let (left, both) = (svd::ComputeSvdVectors::No, svd::ComputeSvdVectors::Thin);
    let scratch = svd::svd_scratch::<f64>(m, n, left, both, Par::Seq, Default::default());
    svd::svd(
        matrix,
        values.as_mut(),
        None,
        Some(right.as_mut()),
        Par::Seq,
        MemStack::new(&mut MemBuffer::new(scratch)),
        Default::default(),
    )
    .map_err(|_| LinalgError::NoConvergence { what: "singular value decomposition", size })?;
    fix_signs(&mut right);
    Ok(ThinSvd { values: values.column_vector().iter().copied().collect(), right })
}

/// Singular values alone, descending. `[m, n]` to `min(m, n)` values.
///
/// # Errors
/// [`LinalgError::NoConvergence`].
pub fn singular_values(matrix: MatRef<'_, f64>) -> Result<Vec<f64>, LinalgError> {
    let (m, n) = (matrix.nrows(), matrix.ncols());
    if m.min(n) == 0 {
        return Ok(Vec::new());
    }
    let mut values = Diag::zeros(m.min(n));
    let none = svd::ComputeSvdVectors::No;
    let scratch = svd::svd_scratch::<f64>(m, n, none, none, Par::Seq, Default::default());
    svd::svd(
        matrix,
        values.as_mut(),
        None,
        None,
        Par::Seq,
        MemStack::new(&mut MemBuffer::new(scratch)),
        Default::default(),
    )
    .map_err(|_| LinalgError::NoConvergence { what: "singular value decomposition", size: m.min(n) })?;
    Ok(values.column_vector().iter().copied().collect())
}

/// Turns every column so that its entry of largest magnitude (the first of them on a tie) is positive.
pub(crate) fn fix_signs(columns: &mut Mat<f64>) {
    for (j, sign) in column_signs(columns.as_ref()).into_iter().enumerate() {
        columns.col_as_slice_mut(j).iter_mut().for_each(|x| *x *= sign);
    }
}

/// The sign of each column's entry of largest magnitude (the first of them on a tie), 1 for 0.
pub fn column_signs(columns: MatRef<'_, f64>) -> Vec<f64> {
    let largest = |column: faer::ColRef<'_, f64>| {
        column.iter().fold(0.0_f64, |largest, x| if x.abs() > largest.abs() { *x } else { largest })
    };
    columns.col_iter().map(|column| if largest(column) < 0.0 { -1.0 } else { 1.0 }).collect()
}
