//! Positive definite matrices by triangular factors.

use crate::dot;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::cholesky::llt::factor as llt;
use faer::linalg::matmul::triangular::{BlockStructure, matmul};
use faer::linalg::triangular_inverse::invert_lower_triangular;
use faer::{Accum, Mat, Par};

/// The lower Cholesky factor `L` of a symmetric matrix, `M = L L^T`, of which only the lower triangle is read; none where
/// the matrix is not positive definite. `[n, n]` to `[n, n]`.
pub fn cholesky(matrix: Mat<f64>) -> Option<Mat<f64>> {
    let mut factor = matrix;
    factor_in_place(&mut factor)?;
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

/// The positive definite solution `A` of `A S A = T`, which is the geometric mean `S^{-1} # T` and the linear part of the
/// optimal map from `N(0, S)` to `N(0, T)`.
///
/// By the averaging technique \[1\]: with `X = T` and `Y = S` to begin with,
///
/// ```text
/// X' = (c X + Y^{-1} / c) / 2,   Y' = (c Y + X^{-1} / c) / 2
/// ```
///
/// takes `X` to `A` and `Y` to its inverse. It is Newton's iteration for the singular values of `T^{1/2} S^{1/2}`, and `c`
/// is the scaling for it that bounds on these give \[2\]: seven steps or eight for the worst that is taken in. No root
/// and no decomposition but Cholesky factors; `A` is as good as `S` and `T` are given, and `A` positive definite.
///
/// # Shapes
/// `s`, `t`: `[n, n]`, of which the lower triangles are read; `least`: a lower bound above 0 on the eigenvalues of each.
/// Result: `[n, n]`, symmetric to the last bit.
///
/// None where a matrix is not positive definite to rounding.
///
/// # References
/// 1. B. Iannazzo, "The geometric mean of two matrices from a computational viewpoint", arXiv 1201.0101, section 5.
/// 2. R. Byers & H. Xu, "A new scaling for Newton's iteration for the polar decomposition and its backward stability",
///    SIAM J. Matrix Anal. Appl. 30, 2008.
pub fn geometric_mean(s: Mat<f64>, t: Mat<f64>, least: [f64; 2]) -> Option<Mat<f64>> {
    let n = s.nrows();
    // The singular values lie between these two; the sum of their squares is tr(S T).
    let below =
        |j: usize| 2.0 * dot(&s.col_as_slice(j)[j..], &t.col_as_slice(j)[j..]) - s[(j, j)] * t[(j, j)];
    let upper = (0..n).map(below).sum::<f64>().max(0.0).sqrt();
    let scales = scalings((least[0] * least[1]).sqrt(), upper)?;
    let (last, before) = scales.split_last()?;
    let (mut x, mut y) = (Iterate::new(t), Iterate::new(s));
    invert(&mut x, &mut y, before.is_empty())?;
    for (k, &scale) in before.iter().enumerate() {
        // Each stays with the thread that has it in its cache; the inverses alone change over.
        let (of_x, of_y) = (&mut x.matrix, &mut y.matrix);
        rayon::join(|| average(of_x, &y.inverse, scale), || average(of_y, &x.inverse, scale));
        invert(&mut x, &mut y, k + 1 == before.len())?;
    }
    let mut a = x.matrix;
    average(&mut a, &y.inverse, *last);
    for j in 0..n {
        for i in 0..j {
            a[(i, j)] = a[(j, i)];
        }
    }
    Some(a)
}

/// Both; the last step needs that of `Y` alone.
fn invert(x: &mut Iterate, y: &mut Iterate, is_last: bool) -> Option<()> {
    let (of_x, of_y) = rayon::join(|| if is_last { Some(()) } else { x.invert() }, || y.invert());
    of_x.and(of_y)
}

/// How far above 1 a singular value may end. Each step all but squares what is left of it, so that few end near this.
const CLOSE: f64 = 512.0 * f64::EPSILON;

/// The scaling of each step from bounds on the singular values; none where these span more than f64 holds.
fn scalings(lower: f64, upper: f64) -> Option<Vec<f64>> {
    // Scaled, they lie between 1 / spread and spread.
    let (mut spread, mut scales) = ((upper / lower).sqrt(), vec![(upper * lower).sqrt().recip()]);
    if !(spread.is_finite() && scales[0].is_finite() && scales[0] > 0.0) {
        return None;
    }
    loop {
        // After a step none is under 1.
        let largest = 0.5 * (spread + spread.recip());
        if largest <= 1.0 + CLOSE {
            return Some(scales);
        }
        spread = largest.sqrt();
        scales.push(spread.recip());
    }
}

/// A positive definite matrix on its way, and room for its inverse and a triangular factor: of this size a new matrix
/// costs as much as what is computed in it.
struct Iterate {
    matrix: Mat<f64>,
    inverse: Mat<f64>,
    factor: Mat<f64>,
}

impl Iterate {
    fn new(matrix: Mat<f64>) -> Self {
        let room = || Mat::zeros(matrix.nrows(), matrix.nrows());
        Self { inverse: room(), factor: room(), matrix }
    }

    /// Puts the lower triangle of the inverse in its place.
    fn invert(&mut self) -> Option<()> {
        for j in 0..self.matrix.ncols() {
            self.inverse.col_as_slice_mut(j)[j..].copy_from_slice(&self.matrix.col_as_slice(j)[j..]);
        }
        factor_in_place(&mut self.inverse)?;
        invert_lower_triangular(self.factor.as_mut(), self.inverse.as_ref(), Par::Seq);
        let (upper, lower, l) =
            (BlockStructure::TriangularUpper, BlockStructure::TriangularLower, self.factor.as_ref());
        matmul(self.inverse.as_mut(), lower, Accum::Replace, l.transpose(), upper, l, lower, 1.0, Par::Seq);
        Some(())
    }
}

/// `(c M + N / c) / 2` in place of `M`, in the lower triangle.
fn average(matrix: &mut Mat<f64>, inverse: &Mat<f64>, scale: f64) {
    let (own, other) = (0.5 * scale, 0.5 / scale);
    for j in 0..inverse.ncols() {
        let lower = matrix.col_as_slice_mut(j)[j..].iter_mut().zip(&inverse.col_as_slice(j)[j..]);
        lower.for_each(|(m, n)| *m = own * *m + other * n);
    }
}

/// The Cholesky factor in the lower triangle, in which the matrix lies.
fn factor_in_place(matrix: &mut Mat<f64>) -> Option<()> {
    let scratch = llt::cholesky_in_place_scratch::<f64>(matrix.nrows(), Par::Seq, Default::default());
    let stack = &mut MemBuffer::new(scratch);
    llt::cholesky_in_place(
        matrix.as_mut(),
        Default::default(),
        Par::Seq,
        MemStack::new(stack),
        Default::default(),
    )
    .is_ok()
    .then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Eigen, gram, product, squared_norm, symmetric_eigen, transpose_product};

    /// Orthonormal columns `[n, n]`, and others for another seed.
    fn turned(n: usize, seed: usize) -> Mat<f64> {
        let wave = |i: usize, j: usize| ((i * 7919 + j * 104_729 + seed * 1_299_709) as f64).sin();
        symmetric_eigen(Mat::from_fn(n, n, |i, j| wave(i.max(j), i.min(j))).as_ref()).unwrap().vectors
    }

    fn with_eigenvalues(vectors: &Mat<f64>, values: impl Fn(usize) -> f64) -> Mat<f64> {
        let n = vectors.ncols();
        let roots = Mat::from_fn(n, n, |i, j| vectors[(i, j)] * values(j).sqrt());
        gram(roots.as_ref())
    }

    fn off(a: &Mat<f64>, b: &Mat<f64>) -> f64 {
        (squared_norm((a - b).as_ref()) / squared_norm(b.as_ref())).sqrt()
    }

    #[test]
    fn the_geometric_mean_solves_its_equation() {
        for (n, least) in [(1, 1.0_f64), (2, 1e-3), (5, 1e-6), (40, 1e-6), (40, 1e-9), (150, 1.0)] {
            // From one down to `least`, in directions of their own.
            let values = |j: usize| least.powf(j as f64 / (n.max(2) - 1) as f64);
            let (s, t) = (with_eigenvalues(&turned(n, 1), values), with_eigenvalues(&turned(n, 2), values));
            let a = geometric_mean(s.clone(), t.clone(), [0.5 * least; 2]).unwrap();
            assert_eq!(a, a.transpose().to_owned(), "symmetric to the bit");
            let pushed = product(product(a.as_ref(), s.as_ref()).as_ref(), a.as_ref());
            let found = off(&pushed, &t);
            assert!(found < 1e-12, "n = {n}, least = {least:e}: A S A is off by {found:e}");
            assert!(cholesky(a).is_some(), "positive definite");
        }
    }

    #[test]
    fn the_geometric_mean_of_commuting_matrices_is_that_of_their_eigenvalues() {
        let v = turned(30, 3);
        let (s, t) = (|j: usize| 1.5f64.powi(-(j as i32)), |j: usize| 0.1 + (j as f64).sin().powi(2));
        for unit in [1e-100, 1.0, 1e100] {
            let of_s = with_eigenvalues(&v, |j| unit * s(j));
            let a = geometric_mean(of_s, with_eigenvalues(&v, |j| t(j) / unit), [4e-6 * unit, 0.05 / unit]);
            let expected = with_eigenvalues(&v, |j| (t(j) / s(j)).sqrt() / unit);
            let found = off(&a.unwrap(), &expected);
            assert!(found < 1e-11, "off by {found:e} at a unit of {unit:e}");
        }
    }

    #[test]
    fn small_eigenvalues_of_the_geometric_mean_are_known_too() {
        // The weak directions of one are the strong ones of the other: A spans the condition of both.
        let (n, weak) = (24, 1e-7);
        let v = turned(n, 4);
        let first = |j: usize| if j < n / 2 { 1.0 + j as f64 } else { weak };
        let second = |j: usize| if j < n / 2 { weak } else { 1.0 + j as f64 };
        let a = geometric_mean(with_eigenvalues(&v, first), with_eigenvalues(&v, second), [0.9 * weak; 2]);
        let Eigen { values, .. } = symmetric_eigen(a.unwrap().as_ref()).unwrap();
        let mut expected: Vec<f64> = (0..n).map(|j| (second(j) / first(j)).sqrt()).collect();
        expected.sort_by(|a, b| b.total_cmp(a));
        for (value, expected) in values.iter().zip(&expected) {
            // Both are given to rounding of their largest eigenvalues, 12.
            assert!(
                (value - expected).abs() < 100.0 * f64::EPSILON / weak * expected,
                "{value:e} is not {expected:e}"
            );
        }
    }

    #[test]
    fn what_is_not_positive_definite_has_neither_factor_nor_mean() {
        let v = turned(6, 5);
        let (good, bad) =
            (with_eigenvalues(&v, |_| 1.0), with_eigenvalues(&v, |j| if j == 2 { 0.0 } else { 1.0 }));
        let minus = |m: &Mat<f64>| Mat::from_fn(6, 6, |i, j| m[(i, j)] - if i == j { 0.1 } else { 0.0 });
        assert!(cholesky(minus(&bad)).is_none());
        assert!(geometric_mean(minus(&bad), good.clone(), [0.1; 2]).is_none());
        assert!(geometric_mean(good.clone(), minus(&bad), [0.1; 2]).is_none());
        assert!(geometric_mean(good.clone(), good.clone(), [0.0, 1.0]).is_none());
        let unknown = Mat::from_fn(6, 6, |i, j| if i == 4 && j == 3 { f64::NAN } else { good[(i, j)] });
        assert!(cholesky(unknown.clone()).is_none());
        assert!(geometric_mean(good.clone(), unknown, [0.5; 2]).is_none());
        let l = cholesky(good).unwrap();
        let one = transpose_product(lower_inverse(&l).transpose(), l.as_ref());
        assert!(off(&one, &Mat::identity(6, 6)) < 1e-14);
    }
}
