use crate::decompose::fix_signs;
use crate::{LinalgError, product_with_transpose, symmetric_eigen};
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::cholesky::llt::factor as llt;
use faer::matrix_free::eigen::{
    PartialEigenParams, partial_self_adjoint_eigen, partial_self_adjoint_eigen_scratch,
};
use faer::{Col, Mat, MatRef, Par};

/// Residual of an eigenpair, relative to the largest eigenvalue.
const RESIDUAL: f64 = 1e-14;
/// Restarts after which a whole decomposition is the cheaper way.
const RESTARTS: usize = 4;
/// Krylov methods pay where few of many pairs are wanted.
const SMALLEST: usize = 160;

/// The `count` leading eigenpairs of a symmetric positive semi-definite matrix `[n, n]`: values `[count]`,
/// descending, and vectors `[n, count]` with signs fixed as in [`Eigen::vectors`](crate::Eigen::vectors).
///
/// Where few of many are wanted they come from a Krylov-Schur iteration with a fixed start, and are then proved to be
/// the leading ones: with the pairs found taken out of the matrix, `(1 + tol) l_count I - M` has a Cholesky
/// factorisation, so that no eigenvalue above the last is missing (a Krylov space can miss copies of a repeated one).
/// Without proof, or without convergence in a few restarts, the whole decomposition is made ([`symmetric_eigen`]).
///
/// # Errors
/// [`LinalgError::Shape`] if not square or `count > n`; [`LinalgError::NoConvergence`].
///
/// Reference: G. W. Stewart, "A Krylov-Schur algorithm for large eigenproblems", SIAM J. Matrix Anal. 23, 2001.
pub fn leading_eigen(matrix: MatRef<'_, f64>, count: usize) -> Result<(Vec<f64>, Mat<f64>), LinalgError> {
    let n = matrix.nrows();
    if n != matrix.ncols() || count > n {
        return Err(LinalgError::Shape { expected: (n.max(count), n.max(count)), found: matrix.shape() });
    }
    if n >= SMALLEST
        && 8 * count <= n
        && let Some(found) = krylov(matrix, count)
    {
        return Ok(found);
    }
    let eigen = symmetric_eigen(matrix)?;
    Ok((eigen.values[..count].to_vec(), eigen.vectors.as_ref().subcols(0, count).to_owned()))
}

fn krylov(matrix: MatRef<'_, f64>, count: usize) -> Option<(Vec<f64>, Mat<f64>)> {
    let n = matrix.nrows();
    let size = (0..n).map(|i| matrix[(i, i)]).sum::<f64>();
    if !(size.is_finite() && size > 0.0) || count == 0 {
        return None;
    }
    // The iteration's tolerance is absolute, and its breakdown test too: bring the matrix to a trace of one.
    let scaled = Mat::from_fn(n, n, |i, j| matrix[(i, j)] / size);
    let params = PartialEigenParams { max_restarts: RESTARTS, ..Default::default() };
    let mut values = vec![0.0_f64; count];
    let mut vectors = Mat::zeros(n, count);
    // Any fixed vector serves that is orthogonal to no eigenvector in practice; waves of irrational frequency are.
    let start = Col::from_fn(n, |i| 1.0 + 0.5 * (1.0 + i as f64 * 0.618_033_988_749_895).sin());
    let scratch = partial_self_adjoint_eigen_scratch::<f64>(&scaled, count, Par::Seq, params);
    let mut memory = MemBuffer::try_new(scratch).ok()?;
    let info = partial_self_adjoint_eigen(
        vectors.as_mut(),
        &mut values,
        &scaled,
        start.as_ref(),
        RESIDUAL,
        Par::Seq,
        MemStack::new(&mut memory),
        params,
    );
    if info.n_converged_eigen < count || values.iter().any(|value| !(*value > 0.0)) {
        return None;
    }
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
    let values: Vec<f64> = order.iter().map(|&k| values[k]).collect();
    let mut vectors = Mat::from_fn(n, count, |i, k| vectors[(i, order[k])]);
    if !are_leading(&scaled, &values, &vectors) {
        return None;
    }
    fix_signs(&mut vectors);
    Some((values.iter().map(|value| value * size).collect(), vectors))
}

/// Whether what is left without these pairs lies below the last of them.
fn are_leading(matrix: &Mat<f64>, values: &[f64], vectors: &Mat<f64>) -> bool {
    let (n, count) = (matrix.nrows(), values.len());
    let Some(&last) = values.last() else { return false };
    // Rounding of the factorisation; an eigenvalue so near the last is as good as the last.
    let top = last + 1e-10 * values[0];
    let weighted = Mat::from_fn(n, count, |i, k| vectors[(i, k)] * values[k]);
    let found = product_with_transpose(weighted.as_ref(), vectors.as_ref());
    let mut rest = Mat::from_fn(n, n, |i, j| {
        let left = found[(i, j)] - matrix[(i, j)];
        if i == j { left + top } else { left }
    });
    let Ok(mut memory) =
        MemBuffer::try_new(llt::cholesky_in_place_scratch::<f64>(n, Par::Seq, Default::default()))
    else {
        return false;
    };
    llt::cholesky_in_place(
        rest.as_mut(),
        Default::default(),
        Par::Seq,
        MemStack::new(&mut memory),
        Default::default(),
    )
    .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gram;

    /// Rows whose scatter has a known spectrum: `values[i]` along rotated axes.
    fn with_spectrum(values: &[f64]) -> Mat<f64> {
        let n = values.len();
        let wave = Mat::from_fn(n, n, |i, j| ((1 + i) as f64 * (2 + j) as f64 * 0.7).sin());
        let turn = crate::orthonormalize(wave).unwrap();
        let rows = Mat::from_fn(n, n, |i, j| turn[(i, j)] * values[j].sqrt());
        gram(rows.as_ref())
    }

    #[test]
    fn the_leading_pairs_are_those_of_the_whole_decomposition() {
        let values: Vec<f64> = (0..200).map(|i| 50.0 / (1.0 + i as f64).powf(1.3)).collect();
        let matrix = with_spectrum(&values);
        let whole = symmetric_eigen(matrix.as_ref()).unwrap();
        let (found, vectors) = krylov(matrix.as_ref(), 3).expect("a clear spectrum converges");
        for k in 0..3 {
            assert!((found[k] - whole.values[k]).abs() < 1e-12 * whole.values[0]);
            for i in 0..200 {
                assert!((vectors[(i, k)] - whole.vectors[(i, k)]).abs() < 1e-11);
            }
        }
    }

    #[test]
    fn a_missed_copy_of_an_eigenvalue_is_noticed() {
        let mut values = vec![1.0; 200];
        values[..4].copy_from_slice(&[9.0, 7.0, 7.0, 7.0]);
        let matrix = with_spectrum(&values);
        // Three of the four leading ones, as a Krylov space might give them.
        let whole = symmetric_eigen(matrix.as_ref()).unwrap();
        let three = whole.vectors.as_ref().subcols(0, 3).to_owned();
        assert!(are_leading(&matrix, &whole.values[..3], &three), "a tie may be cut anywhere");
        let skipped = Mat::from_fn(200, 2, |i, k| whole.vectors[(i, [0, 4][k])]);
        assert!(!are_leading(&matrix, &[9.0, 1.0], &skipped));
        let (found, _) = leading_eigen(matrix.as_ref(), 4).unwrap();
        for (found, expected) in found.iter().zip([9.0, 7.0, 7.0, 7.0]) {
            assert!((found - expected).abs() < 1e-12 * 9.0);
        }
    }
}
