use crate::error::TransportError;
use crate::gaussian::{Gaussian, w2};
use brenier_linalg::{
    JointBasis, LinalgError, joint_basis, product, product_with_transpose, reduce, squared_norm, thin_svd,
};
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::svd;
use faer::{Mat, MatRef, Par};

/// When [`barycenter`] stops.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BarycenterOptions {
    /// Residual at which the iteration has converged; 1e-12 by default.
    pub tolerance: f64,
    /// Most iterations; 1000 by default.
    pub iterations: usize,
}

impl Default for BarycenterOptions {
    fn default() -> Self {
        Self { tolerance: 1e-12, iterations: 1000 }
    }
}

/// A barycentre, and how far its iteration went.
#[derive(Debug, Clone)]
pub struct Barycenter {
    /// The barycentre.
    pub gaussian: Gaussian,
    /// `sum_i w_i W2^2(barycentre, i)`, the least value of the objective.
    pub objective: f64,
    /// `|F (sum_i w_i A_i - I)|_F / |F|_F`, the relative size of the gradient: 0 at the barycentre.
    pub residual: f64,
    /// Iterations made.
    pub iterations: usize,
    /// Whether the residual came down to the tolerance before the iterations ended.
    pub converged: bool,
}

/// The point at `t` of the Wasserstein geodesic from `a` to `b`: the displacement interpolation `((1 - t) I + t A)_# a`.
///
/// ```text
/// m = (1 - t) m_a + t m_b,   F = (1 - t) F_a + t R F_b,   F_a (R F_b)^T positive semi-definite
/// ```
///
/// with `R` the partial isometry that turns one factor onto the other (the polar factor of `F_a F_b^T`): exact for
/// singular covariances, where no map need exist, without an inverse or a `d x d` matrix. Between singular covariances
/// there may be several geodesics; this is one of them. The square roots of the isotropic parts are interpolated outside
/// the joint span.
///
/// # Errors
/// [`TransportError::Widths`]; [`TransportError::Option`] for `t` outside `0..=1`, where the line is no geodesic.
///
/// References: R. J. McCann, "A convexity principle for interacting gases", Adv. Math. 128, 1997; V. Masarotto, V. M.
/// Panaretos & Y. Zemel, "Procrustes metrics on covariance operators and optimal transportation of Gaussian
/// processes", Sankhya A 81, 2019 (the turned factors).
pub fn geodesic(a: &Gaussian, b: &Gaussian, t: f64) -> Result<Gaussian, TransportError> {
    a.same_width(b)?;
    if !(0.0..=1.0).contains(&t) {
        return Err(TransportError::Option { name: "t", found: t, expected: "a number in 0..=1" });
    }
    let mean = a.mean().iter().zip(b.mean()).map(|(x, y)| (1.0 - t) * x + t * y).collect();
    let between = |a: MatRef<'_, f64>, b: MatRef<'_, f64>| -> Result<Mat<f64>, LinalgError> {
        // The factor with fewer rows is turned, so that the isometry is one on all of it.
        if a.nrows() >= b.nrows() {
            let turned = product(isometry(a, b)?.as_ref(), b);
            Ok(blend(a, turned.as_ref(), 1.0 - t, t))
        } else {
            let turned = product(isometry(b, a)?.as_ref(), a);
            Ok(blend(turned.as_ref(), b, 1.0 - t, t))
        }
    };
    if a.isotropic() == 0.0 && b.isotropic() == 0.0 {
        let factor = between(a.factor(), b.factor())?;
        return Ok(Gaussian { mean, factor: reduce(factor), isotropic: 0.0 });
    }
    let basis = joint_basis(a.factor(), b.factor())?;
    let inside = between(a.factor_in(&basis).as_ref(), b.factor_in(&basis).as_ref())?;
    let root = (1.0 - t) * a.isotropic().sqrt() + t * b.isotropic().sqrt();
    lift(mean, inside.as_ref(), &basis, root)
}

/// The Wasserstein barycentre of weighted Gaussians, the one that minimises `sum_i w_i W2^2(., i)`. Weights are
/// normalised by their sum.
///
/// The fixed-point iteration of Álvarez-Esteban et al., `S <- S^{-1/2} (sum_i w_i (S^{1/2} S_i S^{1/2})^{1/2})^2 S^{-1/2}`,
/// on factors, where it needs no inverse:
///
/// ```text
/// F <- sum_i w_i R_i F_i,     R_i the polar factor of F F_i^T
/// ```
///
/// in an orthonormal basis of the joint span of all factors (`[r, r]`, never `[d, d]` where the ranks are small), from
/// `F^T F = sum_i w_i S_i`. Isotropic parts have the barycentre `sqrt(e) = sum_i w_i sqrt(e_i)` outside the span. The
/// objective falls at every step. If one covariance is regular on the joint span the barycentre is unique; else the
/// iteration finds one of several. It stops where the residual is at most the tolerance, or no longer falls because
/// only rounding is left, or at the cap: see [`Barycenter::converged`].
///
/// # Errors
/// [`TransportError::Option`] for no Gaussians, weights that are negative or sum to 0, or options outside their range;
/// [`TransportError::Widths`].
///
/// Reference: P. C. Álvarez-Esteban, E. del Barrio, J. A. Cuesta-Albertos & C. Matrán, "A fixed-point approach to
/// barycenters in Wasserstein space", J. Math. Anal. Appl. 441, 2016; M. Agueh & G. Carlier, "Barycenters in the
/// Wasserstein space", SIAM J. Math. Anal. 43, 2011.
pub fn barycenter(of: &[(f64, Gaussian)], options: &BarycenterOptions) -> Result<Barycenter, TransportError> {
    let refuse = |name, found, expected| Err(TransportError::Option { name, found, expected });
    let Some((_, first)) = of.first() else {
        return refuse("barycenter", 0.0, "one Gaussian or more");
    };
    let d = first.dim();
    of.iter().try_for_each(|(_, other)| first.same_width(other))?;
    if let Some((weight, _)) = of.iter().find(|(weight, _)| !(weight.is_finite() && *weight >= 0.0)) {
        return refuse("weight", *weight, "a finite number of 0 or more");
    }
    let sum: f64 = of.iter().map(|(weight, _)| weight).sum();
    if !(sum.is_finite() && sum > 0.0) {
        return refuse("sum of weights", sum, "a finite number above 0");
    }
    if options.tolerance.is_nan() || options.tolerance < 0.0 {
        return refuse("tolerance", options.tolerance, "a number of 0 or more");
    }
    let parts: Vec<(f64, &Gaussian)> = of
        .iter()
        .filter(|(weight, _)| *weight > 0.0)
        .map(|(weight, gaussian)| (weight / sum, gaussian))
        .collect();

    let mean: Vec<f64> = (0..d).map(|j| parts.iter().map(|(w, g)| w * g.mean()[j]).sum()).collect();
    let root: f64 = parts.iter().map(|(w, g)| w * g.isotropic().sqrt()).sum();
    let basis = span(&parts)?;
    let factors: Vec<Mat<f64>> = parts.iter().map(|(_, g)| reduce(g.factor_in(&basis))).collect();

    let stacked = stack(parts.iter().zip(&factors).map(|((w, _), f)| (w.sqrt(), f.as_ref())), basis.rank);
    let mut current = square(reduce(stacked));
    let (mut residual, mut iterations) = (f64::INFINITY, 0);
    // Rounding of the sums in a step; a residual under it that no longer falls says nothing more.
    let noise = brenier_linalg::relative_floor(100 * basis.rank.max(1));
    while iterations < options.iterations && basis.rank > 0 {
        let mut next = Mat::<f64>::zeros(current.nrows(), basis.rank);
        for ((weight, _), factor) in parts.iter().zip(&factors) {
            let turned = product(isometry(current.as_ref(), factor.as_ref())?.as_ref(), factor.as_ref());
            next = blend(next.as_ref(), turned.as_ref(), 1.0, *weight);
        }
        let size = squared_norm(current.as_ref()).sqrt();
        let step = squared_norm((&next - &current).as_ref()).sqrt();
        let found = if size > 0.0 { step / size } else { step };
        iterations += 1;
        let stuck = found <= noise && found >= residual;
        current = next;
        residual = found.min(residual);
        if found <= options.tolerance || stuck {
            break;
        }
    }
    if basis.rank == 0 {
        residual = 0.0;
    }
    let gaussian = lift(mean, current.as_ref(), &basis, root)?;
    let mut objective = 0.0;
    for (weight, other) in &parts {
        objective += weight * w2(&gaussian, other)?.powi(2);
    }
    let converged = residual <= options.tolerance.max(noise);
    Ok(Barycenter { gaussian, objective, residual, iterations, converged })
}

/// `R = U V^T` of the thin decomposition `A B^T = U C V^T`, for `A` with at least as many rows as `B`: `R^T R = I`, and
/// `A (R B)^T` turns into a positive semi-definite form `A^T R B`. `a`: `[m, d]`, `b`: `[n, d]`, result `[m, n]`.
fn isometry(a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> Result<Mat<f64>, LinalgError> {
    let (m, n) = (a.nrows(), b.nrows());
    if m.min(n) == 0 {
        return Ok(Mat::zeros(m, n));
    }
    let across = product_with_transpose(a, b);
    let size = m.min(n);
    let mut values = faer::diag::Diag::zeros(size);
    let (mut left, mut right) = (Mat::zeros(m, size), Mat::zeros(n, size));
    let thin = svd::ComputeSvdVectors::Thin;
    let scratch = svd::svd_scratch::<f64>(m, n, thin, thin, Par::Seq, Default::default());
    svd::svd(
        across.as_ref(),
        values.as_mut(),
        Some(left.as_mut()),
        Some(right.as_mut()),
        Par::Seq,
        MemStack::new(&mut MemBuffer::new(scratch)),
        Default::default(),
    )
    .map_err(|_| LinalgError::NoConvergence { what: "singular value decomposition", size })?;
    Ok(product_with_transpose(left.as_ref(), right.as_ref()))
}

/// An orthonormal basis of the span of all factors, each weighed by the inverse of its norm.
fn span(parts: &[(f64, &Gaussian)]) -> Result<JointBasis, LinalgError> {
    let d = parts.first().map_or(0, |(_, gaussian)| gaussian.dim());
    let weighed = parts.iter().map(|(_, gaussian)| {
        let norm = squared_norm(gaussian.factor()).sqrt();
        (if norm > 0.0 { 1.0 / norm } else { 0.0 }, gaussian.factor())
    });
    let stacked = stack(weighed, d);
    joint_basis(stacked.as_ref(), Mat::<f64>::zeros(0, d).as_ref())
}

/// The Gaussian of covariance `F^T F` inside the basis and `root^2` outside it.
///
/// `F^T F` has no eigenvalue under `root^2`: the least deviation is concave along geodesics and barycentres (J. M.
/// Altschuler et al., "Averaging on the Bures-Wasserstein manifold", NeurIPS 2021).
fn lift(
    mean: Vec<f64>,
    inside: MatRef<'_, f64>,
    basis: &JointBasis,
    root: f64,
) -> Result<Gaussian, TransportError> {
    let reduced = if root > 0.0 {
        let svd = thin_svd(inside)?;
        let excess = |s: f64| ((s - root) * (s + root)).max(0.0).sqrt();
        Mat::from_fn(svd.values.len(), basis.rank, |i, j| excess(svd.values[i]) * svd.right[(j, i)])
    } else {
        reduce(inside.to_owned())
    };
    let factor = match &basis.vectors {
        Some(vectors) => product_with_transpose(reduced.as_ref(), vectors.as_ref()),
        None => reduced,
    };
    Ok(Gaussian { mean, factor, isotropic: root * root })
}

fn blend(a: MatRef<'_, f64>, b: MatRef<'_, f64>, of_a: f64, of_b: f64) -> Mat<f64> {
    Mat::from_fn(a.nrows(), a.ncols(), |i, j| of_a * a[(i, j)] + of_b * b[(i, j)])
}

fn stack<'a>(parts: impl Iterator<Item = (f64, MatRef<'a, f64>)> + Clone, width: usize) -> Mat<f64> {
    let rows = parts.clone().map(|(_, part)| part.nrows()).sum();
    let mut out = Mat::zeros(rows, width);
    let mut at = 0;
    for (weight, part) in parts {
        for j in 0..width {
            for i in 0..part.nrows() {
                out[(at + i, j)] = weight * part[(i, j)];
            }
        }
        at += part.nrows();
    }
    out
}

/// The same factor with `r` rows for its `r` columns, so that every other can be turned onto it.
fn square(factor: Mat<f64>) -> Mat<f64> {
    let r = factor.ncols();
    Mat::from_fn(r, r, |i, j| if i < factor.nrows() { factor[(i, j)] } else { 0.0 })
}
