use crate::decompose::{relative_floor, symmetric_eigen};
use crate::error::LinalgError;
use crate::product::product_with_transpose;
use faer::{Mat, MatRef};

/// A symmetric root, and what the floor did to make it.
#[derive(Debug, Clone)]
pub struct Root {
    /// The root, `[n, n]`, symmetric.
    pub matrix: Mat<f64>,
    /// How many eigenvalues lay at or under the floor.
    pub floored: usize,
    /// The floor, in the units of an eigenvalue.
    pub floor: f64,
    /// Sum of the logarithms of the eigenvalues above the floor.
    pub log_determinant: f64,
}

/// The symmetric root `M^{1/2} = V diag(sqrt(l)) V^T` of a positive semi-definite matrix `[n, n]`.
/// Eigenvalues at or under `n * eps * largest` count as zero.
///
/// # Errors
/// [`LinalgError::NotPositive`] where an eigenvalue is negative beyond rounding (`-n * eps * largest`).
pub fn symmetric_root(matrix: MatRef<'_, f64>) -> Result<Root, LinalgError> {
    power(matrix, 0.5)
}

/// The symmetric inverse root `M^{-1/2}` on the range of `M`; zero on its null space (eigenvalues at or under
/// `n * eps * largest`), never infinite. `floored` says how large that null space is.
///
/// # Errors
/// As [`symmetric_root`].
pub fn symmetric_inverse_root(matrix: MatRef<'_, f64>) -> Result<Root, LinalgError> {
    power(matrix, -0.5)
}

fn power(matrix: MatRef<'_, f64>, exponent: f64) -> Result<Root, LinalgError> {
    let n = matrix.nrows();
    let eigen = symmetric_eigen(matrix)?;
    let largest = eigen.values.first().copied().unwrap_or(0.0);
    let smallest = eigen.values.last().copied().unwrap_or(0.0);
    let floor = relative_floor(n) * largest.abs().max(smallest.abs());
    if smallest < -floor {
        return Err(LinalgError::NotPositive { smallest, largest });
    }
    let kept = eigen.values.iter().take_while(|&&value| value > floor).count();
    let vectors = eigen.vectors.as_ref().subcols(0, kept);
    let scaled = Mat::from_fn(n, kept, |i, j| vectors[(i, j)] * eigen.values[j].powf(exponent));
    let mut root = product_with_transpose(scaled.as_ref(), vectors);
    symmetrize(&mut root);
    let log_determinant = eigen.values[..kept].iter().map(|value| value.ln()).sum();
    Ok(Root { matrix: root, floored: n - kept, floor, log_determinant })
}

/// `(M + M^T) / 2` in place, for a square `M` that is symmetric but for rounding.
pub fn symmetrize(matrix: &mut Mat<f64>) {
    for j in 0..matrix.ncols() {
        for i in 0..j {
            let middle = 0.5 * (matrix[(i, j)] + matrix[(j, i)]);
            matrix[(i, j)] = middle;
            matrix[(j, i)] = middle;
        }
    }
}
