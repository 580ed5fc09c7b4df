//! Positive definite matrices by triangular factors.

use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::cholesky::llt::factor as llt;
use faer::linalg::triangular_inverse::invert_lower_triangular;
use faer::{Mat, Par};

/// The lower Cholesky factor `L` of a symmetric matrix, `M = L L^T`, of which only the lower triangle is read; none where
/// the matrix is not positive definite. `[n, n]` to `[n, n]`.
pub fn cholesky(matrix: Mat<f64>) -> Option<Mat<f64>> {
    let mut factor = matrix;
    let scratch = llt::cholesky_in_place_scratch::<f64>(factor.nrows(), Par::Seq, Default::default());
    let stack = &mut MemBuffer::new(scratch);
    let (regularisation, params) = (Default::default(), Default::default());
    llt::cholesky_in_place(factor.as_mut(), regularisation, Par::Seq, MemStack::new(stack), params).ok()?;
    for j in 0..factor.ncols() {
        factor.col_as_slice_mut(j)[..j].fill(0.0);
    }
    Some(factor)
}

/// The inverse of a lower triangular matrix `[n, n]` without a zero on its diagonal, lower triangular itself.
pub fn lower_inverse(lower: &Mat<f64>) -> Mat<f64> {
    let mut inverse = Mat::zeros(lower.nrows(), lower.ncols());
    invert_lower_triangular(inverse.as_mut(), lower.as_ref(), Par::Seq);
    inverse
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::norms::squared_norm;
    use crate::product::{gram, transpose_product};

    #[test]
    fn a_factor_is_of_what_is_positive_definite_alone() {
        let rows = Mat::from_fn(6, 9, |i, j| (((i * 7919 + j * 104_729) as f64).sin() * 43_758.5).fract());
        let good = gram(rows.as_ref());
        let l = cholesky(good.clone()).unwrap();
        assert!(squared_norm((gram(l.as_ref()) - &good).as_ref()) < 1e-28 * squared_norm(good.as_ref()));
        let one = transpose_product(lower_inverse(&l).transpose(), l.as_ref()) - Mat::<f64>::identity(6, 6);
        assert!(squared_norm(one.as_ref()).sqrt() < 1e-12);
        let with = |i: usize, value: f64| {
            let mut bad = good.clone();
            bad[(i, i)] = value;
            cholesky(bad)
        };
        assert!(with(3, -0.1).is_none() && with(5, 0.0).is_none() && with(4, f64::NAN).is_none());
    }
}
