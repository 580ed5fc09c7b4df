//! Gaussians: the distance of two, what lies between them, mixtures.

pub(crate) mod geodesic;
pub(crate) mod mixture;
pub(crate) mod ppca;

use crate::error::{Side, TransportError};
use crate::samples::Samples;
use brenier_linalg::{
    Covariance, JointBasis, LinalgError, Moments, Rows, factor, joint_basis, mean, nuclear_norm_of_product,
    product, reduce, squared_norm, symmetric_root,
};
use faer::{Mat, MatRef};

/// A Gaussian `N(m, F^T F + e I)` of dimension `d`, kept as a mean, a factor and an isotropic part, so that a singular
/// or a low-rank-plus-isotropic covariance needs no `d x d` matrix.
#[derive(Debug, Clone)]
pub struct Gaussian {
    pub(crate) mean: Vec<f64>,
    pub(crate) factor: Mat<f64>,
    pub(crate) isotropic: f64,
}

impl Gaussian {
    /// From a mean `[d]` and a covariance `[d, d]`.
    ///
    /// # Errors
    /// [`TransportError::NotGaussian`] if the covariance is not finite, of another size, not symmetric, or not
    /// positive semi-definite (both to `d * eps` of the largest entry or eigenvalue).
    pub fn new(mean: &[f64], covariance: MatRef<'_, f64>) -> Result<Self, TransportError> {
        let d = mean.len();
        let refuse = TransportError::NotGaussian;
        if covariance.shape() != (d, d) {
            return Err(refuse(LinalgError::Shape { expected: (d, d), found: covariance.shape() }));
        }
        Rows::new(covariance).map_err(refuse)?;
        if let Some(column) = mean.iter().position(|x| !x.is_finite()) {
            return Err(refuse(LinalgError::NonFinite { row: 0, column, value: mean[column] }));
        }
        symmetric_to_rounding(covariance).map_err(refuse)?;
        let root = symmetric_root(covariance).map_err(refuse)?;
        Ok(Self { mean: mean.to_vec(), factor: root.matrix, isotropic: 0.0 })
    }

    /// The empirical Gaussian of rows `[n, d]`, with or without weights ([`Samples`]).
    ///
    /// # Errors
    /// [`TransportError::Linalg`] if there are no rows, a value is not finite, or a weight is bad.
    pub fn from_rows<'a>(
        rows: impl Into<Samples<'a>>,
        covariance: Covariance,
    ) -> Result<Self, TransportError> {
        let rows = rows.into().check()?;
        let mean = mean(rows);
        let factor = reduce(factor(rows, &mean, covariance));
        Ok(Self { mean, factor, isotropic: 0.0 })
    }

    /// The Gaussian `N(m, S')` of moments, with `S'` the covariance of [`Moments::factor`]: that of the rows where
    /// nothing was lost, and below it by at most [`Moments::bound`] elsewhere.
    ///
    /// # Errors
    /// [`TransportError::Linalg`] if no row was taken in.
    pub fn from_moments(moments: &Moments, covariance: Covariance) -> Result<Self, TransportError> {
        if moments.count() == 0 {
            return Err(LinalgError::TooFewRows { needed: 1, found: 0 }.into());
        }
        let factor = reduce(moments.factor(covariance));
        Ok(Self { mean: moments.mean().to_vec(), factor, isotropic: 0.0 })
    }

    /// `N(m, (1 - a) S + (a tr S / d + reg) I)` for `N(m, S)`.
    pub(crate) fn regularised(self, intensity: f64, reg: f64) -> Self {
        let d = self.dim();
        self.regularised_in(intensity, reg, d)
    }

    /// [`Self::regularised`] in `dim` dimensions, of which those of this Gaussian may be coordinates of an orthonormal basis outside of
    /// which there is nothing (and then there is no isotropic part either).
    pub(crate) fn regularised_in(self, intensity: f64, reg: f64, dim: usize) -> Self {
        let Self { mean, factor, mut isotropic } = self;
        isotropic += reg;
        if intensity == 0.0 {
            return Self { mean, factor, isotropic };
        }
        isotropic += intensity * squared_norm(factor.as_ref()) / dim as f64;
        Self { mean, factor: scaled(factor, (1.0 - intensity).sqrt()), isotropic }
    }

    /// `N(m, tau^2 S)` for `N(m, S)`.
    pub(crate) fn narrowed(self, tau: f64) -> Self {
        let Self { mean, factor, isotropic } = self;
        let factor = if tau == 1.0 { factor } else { scaled(factor, tau) };
        Self { mean, factor, isotropic: tau * tau * isotropic }
    }

    /// Dimension, d.
    pub fn dim(&self) -> usize {
        self.mean.len()
    }

    /// The mean, `[d]`.
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// `F` in the covariance `F^T F + e I`. `[m, d]`, `m <= d` or the number of rows it came from.
    pub fn factor(&self) -> MatRef<'_, f64> {
        self.factor.as_ref()
    }

    /// `e` in the covariance `F^T F + e I`.
    pub fn isotropic(&self) -> f64 {
        self.isotropic
    }

    /// Trace of the covariance.
    pub fn trace(&self) -> f64 {
        squared_norm(self.factor()) + self.dim() as f64 * self.isotropic
    }

    pub(crate) fn same_width(&self, target: &Self) -> Result<(), TransportError> {
        if self.dim() == target.dim() {
            return Ok(());
        }
        Err(TransportError::Widths { side: Side::Target, expected: self.dim(), found: target.dim() })
    }

    /// The squared distance of the two means.
    pub(crate) fn apart(&self, other: &Self) -> f64 {
        self.mean.iter().zip(&other.mean).map(|(x, y)| (x - y) * (x - y)).sum()
    }

    /// A factor of the covariance in the coordinates of an orthonormal basis `[d, r]` (or of the identity):
    /// `[F Q; sqrt(e) I]`, `[m + r, r]`, or `[m, r]` for `e = 0`.
    pub(crate) fn factor_in(&self, basis: &JointBasis) -> Mat<f64> {
        let inside = self.plain_factor_in(basis);
        if self.isotropic == 0.0 { inside } else { self.with_isotropic(inside.as_ref()) }
    }

    /// `F Q`, `[m, r]`.
    pub(crate) fn plain_factor_in(&self, basis: &JointBasis) -> Mat<f64> {
        match &basis.vectors {
            Some(vectors) => product(self.factor(), vectors.as_ref()),
            None => self.factor.clone(),
        }
    }

    /// `[F; sqrt(e) I]` for `F`, `[m, r]`: `[m + r, r]`.
    pub(crate) fn with_isotropic(&self, factor: MatRef<'_, f64>) -> Mat<f64> {
        let ((m, r), root) = (factor.shape(), self.isotropic.sqrt());
        Mat::from_fn(m + r, r, |i, j| match i.checked_sub(m) {
            None => factor[(i, j)],
            Some(k) if k == j => root,
            Some(_) => 0.0,
        })
    }
}

/// The 2-Wasserstein distance of two Gaussians, in the units of the activations:
///
/// ```text
/// W2^2 = |m_a - m_b|^2 + tr S_a + tr S_b - 2 |F_a F_b^T|_*
/// ```
///
/// with the nuclear norm of the factors' product: exact for singular covariances, no regulariser, no `d x d` matrix.
/// Isotropic parts add `(d - r) (sqrt(e_a) - sqrt(e_b))^2` outside the joint span. Being a difference, `W2` of nearly
/// equal Gaussians is known to about `sqrt(eps tr S)`, not better.
///
/// # Errors
/// [`TransportError::Widths`], and failures of convergence.
///
/// References: D. C. Dowson & B. V. Landau, "The Fréchet distance between multivariate normal distributions",
/// J. Multivariate Anal. 12, 1982; A. Takatsu, "Wasserstein geometry of Gaussian measures", Osaka J. Math. 48, 2011.
pub fn w2(a: &Gaussian, b: &Gaussian) -> Result<f64, TransportError> {
    a.same_width(b)?;
    let d = a.dim();
    let spread = if a.isotropic == 0.0 && b.isotropic == 0.0 {
        bures_squared(a.factor(), b.factor())?
    } else {
        let basis = joint_basis(a.factor(), b.factor())?;
        let rest = (d - basis.rank) as f64 * (a.isotropic.sqrt() - b.isotropic.sqrt()).powi(2);
        rest + bures_squared(a.factor_in(&basis).as_ref(), b.factor_in(&basis).as_ref())?
    };
    Ok((a.apart(b) + spread).sqrt())
}

/// `tr S_a + tr S_b - 2 |F_a F_b^T|_*`, at least 0.
pub(crate) fn bures_squared(a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> Result<f64, LinalgError> {
    Ok((squared_norm(a) + squared_norm(b) - 2.0 * nuclear_norm_of_product(a, b)?).max(0.0))
}

pub(crate) fn scaled(mut matrix: Mat<f64>, by: f64) -> Mat<f64> {
    for column in matrix.as_mut().col_iter_mut() {
        column.iter_mut().for_each(|x| *x *= by);
    }
    matrix
}

fn symmetric_to_rounding(matrix: MatRef<'_, f64>) -> Result<(), LinalgError> {
    let (mut worst, mut largest) = ((0, 0, 0.0_f64), 0.0_f64);
    for column in 0..matrix.ncols() {
        for row in 0..matrix.nrows() {
            largest = largest.max(matrix[(row, column)].abs());
            let difference = (matrix[(row, column)] - matrix[(column, row)]).abs();
            if difference > worst.2 {
                worst = (row, column, difference);
            }
        }
    }
    let (row, column, difference) = worst;
    if difference > brenier_linalg::relative_floor(matrix.nrows()) * largest {
        return Err(LinalgError::NotSymmetric { row, column, difference });
    }
    Ok(())
}
