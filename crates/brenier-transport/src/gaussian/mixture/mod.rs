//! Mixtures of Gaussians and the map between two.

pub(crate) mod em;
pub(crate) mod fit;
pub(crate) mod plan;

use crate::error::{MixtureError, Side, TransportError};
use crate::gaussian::mixture::plan::{Plan, optimal_plan};
use crate::gaussian::{Gaussian, w2};
use crate::ot::monge;
use brenier_linalg::{JointBasis, gram, product, symmetric_inverse_root};
use brenier_map::{Affine, Mixture, Piece, RowMap};
use faer::{Mat, MatRef};

/// A mixture of Gaussians, `sum_c w_c N(m_c, S_c)`.
///
/// ```
/// use brenier_transport::{Gaussian, GaussianMixture, mixture_plan};
/// use faer::mat;
///
/// let at = |x: f64| Gaussian::new(&[x], mat![[0.25]].as_ref());
/// let two = GaussianMixture::new(&[0.5, 0.5], vec![at(-1.0)?, at(1.0)?])?;
/// let apart = GaussianMixture::new(&[0.5, 0.5], vec![at(3.0)?, at(-3.0)?])?;
/// // Each component goes to the nearer one.
/// assert!((mixture_plan(&two, &apart)?.cost.sqrt() - 2.0).abs() < 1e-12);
/// # Ok::<(), brenier_transport::TransportError>(())
/// ```
#[derive(Debug, Clone)]
pub struct GaussianMixture {
    weights: Vec<f64>,
    components: Vec<Gaussian>,
}

impl GaussianMixture {
    /// From weights and as many Gaussians.
    ///
    /// # Errors
    /// [`TransportError::Mixture`]: no components, weights that are not positive or do not sum to 1 (to
    /// `n * eps`), components of different dimensions.
    pub fn new(weights: &[f64], components: Vec<Gaussian>) -> Result<Self, TransportError> {
        if weights.is_empty() || weights.len() != components.len() {
            let (weights, components) = (weights.len(), components.len());
            return Err(MixtureError::Count { weights, components }.into());
        }
        if let Some(index) = weights.iter().position(|w| !(w.is_finite() && *w > 0.0)) {
            return Err(MixtureError::Weight { index, value: weights[index] }.into());
        }
        let found: f64 = weights.iter().sum();
        if (found - 1.0).abs() > 16.0 * weights.len() as f64 * f64::EPSILON {
            return Err(MixtureError::Sum { found }.into());
        }
        let expected = components[0].dim();
        if let Some(index) = components.iter().position(|one| one.dim() != expected) {
            let found = components[index].dim();
            return Err(MixtureError::Widths { index, expected, found }.into());
        }
        Ok(Self { weights: weights.to_vec(), components })
    }

    /// Dimension, d.
    pub fn dim(&self) -> usize {
        self.components[0].dim()
    }

    /// Number of components.
    pub fn count(&self) -> usize {
        self.weights.len()
    }

    /// The weights, all above 0, of sum 1.
    pub fn weights(&self) -> &[f64] {
        &self.weights
    }

    /// The components.
    pub fn components(&self) -> &[Gaussian] {
        &self.components
    }

    /// The mean of the whole, `[d]`.
    pub fn mean(&self) -> Vec<f64> {
        let part = |j: usize| self.weights.iter().zip(&self.components).map(move |(w, one)| w * one.mean[j]);
        (0..self.dim()).map(|j| part(j).sum()).collect()
    }

    /// `log sum_c w_c N(x; m_c, S_c)` of rows `[n, d]`, in nats, by log-sum-exp.
    ///
    /// # Errors
    /// [`MixtureError::NoDensity`]; rows of another width.
    pub fn log_density(&self, rows: MatRef<'_, f64>) -> Result<Vec<f64>, TransportError> {
        if rows.ncols() != self.dim() {
            let side = Side::Source;
            return Err(TransportError::Widths { side, expected: self.dim(), found: rows.ncols() });
        }
        let densities = self.densities()?;
        let mut joint = vec![0.0; self.count()];
        Ok((0..rows.nrows())
            .map(|i| {
                for (c, density) in densities.iter().enumerate() {
                    joint[c] = self.weights[c].ln() + density.log(|j| rows[(i, j)]);
                }
                log_sum_exp(&joint)
            })
            .collect())
    }

    pub(crate) fn densities(&self) -> Result<Vec<Density>, TransportError> {
        self.components.iter().enumerate().map(|(index, one)| Density::of(one, index)).collect()
    }

    /// The mixture in other units, coordinate by coordinate.
    pub(crate) fn scaled(&self, by: &[f64]) -> Self {
        let scale = |one: &Gaussian| {
            let all = JointBasis { vectors: None, rank: one.dim() };
            let factor = one.factor_in(&all);
            Gaussian {
                mean: one.mean.iter().zip(by).map(|(m, by)| m * by).collect(),
                factor: Mat::from_fn(factor.nrows(), factor.ncols(), |i, j| factor[(i, j)] * by[j]),
                isotropic: 0.0,
            }
        };
        Self { weights: self.weights.clone(), components: self.components.iter().map(scale).collect() }
    }
}

/// The optimal plan between the components of two mixtures, at the cost `W2^2` of each pair: `cost` is the square of
/// the mixture distance
///
/// ```text
/// MW2^2 = min_w sum_ij w_ij W2^2(N_i, N_j),   w with the weights of both mixtures for marginals
/// ```
///
/// a metric on mixtures, at least the W2 distance of the two.
///
/// # Errors
/// Mixtures of different dimensions; as [`w2`].
///
/// Reference: J. Delon & A. Desolneux, "A Wasserstein-type distance in the space of Gaussian mixture models",
/// SIAM J. Imaging Sci. 13, 2020, proposition 4 (POT's `ot.gmm.gmm_ot_plan`).
pub fn mixture_plan(source: &GaussianMixture, target: &GaussianMixture) -> Result<Plan, TransportError> {
    let mut cost = Mat::zeros(source.count(), target.count());
    for (i, from) in source.components.iter().enumerate() {
        for (j, to) in target.components.iter().enumerate() {
            cost[(i, j)] = w2(from, to)?.powi(2);
        }
    }
    optimal_plan(&source.weights, &target.weights, cost.as_ref())
}

/// The barycentric map of the optimal plan `w` between two mixtures, in all their dimensions:
///
/// ```text
/// T(x) = sum_ij w_ij g_i(x) T_ij(x) / sum_k pi_k g_k(x)
/// ```
///
/// with `g_i` the densities of the source's components, `pi_i` their weights, and `T_ij` the optimal map from component
/// `i` to component `j` ([`monge`]). What leaves component `i` is one affine map, `sum_j (w_ij / pi_i) T_ij`, so the
/// result has as many pieces as the source has components. It takes the mean of the source to that of the target,
/// `E[T(X)] = sum_ij w_ij m_j`, whatever the components. It is a push-forward where the plan takes every component of the
/// source to one of the target and components do not overlap; elsewhere it is none: a component that is split goes to the
/// average of its maps, which spreads less than the target does. For one component each it is the optimal map.
///
/// # Errors
/// [`MixtureError::NoDensity`] for a singular source component; as [`mixture_plan`] and [`monge`].
///
/// Reference: J. Delon & A. Desolneux, 2020, section 6.3 (`T_mean`; POT's `ot.gmm.gmm_ot_apply_map`).
pub fn mixture_map(source: &GaussianMixture, target: &GaussianMixture) -> Result<RowMap, TransportError> {
    let plan = mixture_plan(source, target)?;
    let d = source.dim();
    let center = source.mean();
    // In units of the spread, so that forms are of the order of one.
    let spread = source.components.iter().map(Gaussian::trace).fold(0.0, f64::max) / d as f64;
    let unit = if spread > 0.0 { spread.sqrt() } else { 1.0 };
    let pieces = pieces(source, target, &plan, &center, &vec![unit; d])?.0;
    Ok(RowMap::new(Affine::Mixture(Mixture {
        center,
        offset: vec![0.0; d],
        u: Mat::identity(d, d),
        v: Mat::from_fn(d, d, |i, j| if i == j { 1.0 / unit } else { 0.0 }),
        pieces,
    }))?)
}

/// The pieces of the barycentric map in the coordinates `z = (x - center) / units`, and the largest factor by which any
/// of them stretches.
pub(crate) fn pieces(
    source: &GaussianMixture,
    target: &GaussianMixture,
    plan: &Plan,
    center: &[f64],
    units: &[f64],
) -> Result<(Vec<Piece>, f64), TransportError> {
    let d = source.dim();
    let mut norm = 0.0_f64;
    let mut pieces = Vec::with_capacity(source.count());
    for (i, (density, from)) in source.densities()?.iter().zip(&source.components).enumerate() {
        // The plan's own row sum: the shares sum to 1 whatever rounding did.
        let mass: f64 = plan.weights.row(i).iter().sum();
        let mut matrix = Mat::<f64>::zeros(d, d);
        let mut goal = vec![0.0; d];
        for (j, to) in target.components.iter().enumerate() {
            let share = plan.weights[(i, j)] / mass;
            if share == 0.0 {
                continue;
            }
            let map = monge(from, to)?;
            let linear = map.matrix();
            matrix = Mat::from_fn(d, d, |a, b| matrix[(a, b)] + share * linear[(a, b)]);
            goal.iter_mut().zip(&to.mean).for_each(|(goal, m)| *goal += share * m);
        }
        norm = norm
            .max(brenier_linalg::symmetric_eigen(matrix.as_ref())?.values.first().copied().unwrap_or(0.0));
        let away: Vec<f64> = center.iter().zip(&from.mean).map(|(c, m)| c - m).collect();
        let step = |a: usize, b: usize| matrix[(a, b)] - if a == b { 1.0 } else { 0.0 };
        let form = density.form(source.weights[i].ln(), center, units);
        pieces.push(Piece {
            matrix: Mat::from_fn(d, d, |a, b| step(a, b) * units[b]),
            shift: (0..d)
                .map(|a| goal[a] - from.mean[a] + (0..d).map(|b| step(a, b) * away[b]).sum::<f64>())
                .collect(),
            ..form
        });
    }
    Ok((pieces, norm))
}

/// Pieces of the same coordinates that move nothing: what is of these components stays where it is.
pub(crate) fn resting(
    mixture: &GaussianMixture,
    log_share: f64,
    center: &[f64],
    units: &[f64],
) -> Result<Vec<Piece>, TransportError> {
    let densities = mixture.densities()?;
    let pieces = densities.iter().zip(&mixture.weights);
    Ok(pieces.map(|(density, w)| density.form(log_share + w.ln(), center, units)).collect())
}

/// `log N(x; m, S)` without `-(d/2) log 2 pi`.
pub(crate) struct Density {
    mean: Vec<f64>,
    /// `S^{-1/2}`.
    root: Mat<f64>,
    log_determinant: f64,
}

impl Density {
    pub(crate) fn new(
        mean: &[f64],
        covariance: MatRef<'_, f64>,
        index: usize,
    ) -> Result<Self, TransportError> {
        let root = symmetric_inverse_root(covariance)?;
        if root.floored > 0 {
            let dim = mean.len();
            return Err(MixtureError::NoDensity { index, rank: dim - root.floored, dim }.into());
        }
        Ok(Self { mean: mean.to_vec(), root: root.matrix, log_determinant: root.log_determinant })
    }

    fn of(gaussian: &Gaussian, index: usize) -> Result<Self, TransportError> {
        let all = JointBasis { vectors: None, rank: gaussian.dim() };
        let factor = gaussian.factor_in(&all);
        Self::new(&gaussian.mean, gram(factor.as_ref().transpose()).as_ref(), index)
    }

    /// With the constant, at the point of these coordinates.
    pub(crate) fn log(&self, x: impl Fn(usize) -> f64) -> f64 {
        let d = self.mean.len();
        let away: Vec<f64> = (0..d).map(|j| x(j) - self.mean[j]).collect();
        let square: f64 =
            (0..d).map(|a| (0..d).map(|b| self.root[(b, a)] * away[b]).sum::<f64>().powi(2)).sum();
        -0.5 * (d as f64 * std::f64::consts::TAU.ln() + self.log_determinant + square)
    }

    pub(crate) fn log_determinant(&self) -> f64 {
        self.log_determinant
    }

    /// `tr(S^{-1} M)` for a symmetric `M`.
    pub(crate) fn trace_with(&self, matrix: MatRef<'_, f64>) -> f64 {
        let turned = product(self.root.as_ref(), matrix);
        let d = self.mean.len();
        (0..d).map(|a| (0..d).map(|b| turned[(a, b)] * self.root[(b, a)]).sum::<f64>()).sum()
    }

    /// `log share + log N` as a form in `z = (x - center) / units`, and no step.
    fn form(&self, log_share: f64, center: &[f64], units: &[f64]) -> Piece {
        let d = self.mean.len();
        let scaled = Mat::from_fn(d, d, |a, b| self.root[(a, b)] * units[b]);
        let away = Mat::from_fn(d, 1, |j, _| center[j] - self.mean[j]);
        let at = product(self.root.as_ref(), away.as_ref());
        let square: f64 = (0..d).map(|j| at[(j, 0)] * at[(j, 0)]).sum();
        let linear = product(scaled.transpose(), at.as_ref());
        let quadratic = gram(scaled.as_ref().transpose());
        Piece {
            constant: log_share - 0.5 * (self.log_determinant + square),
            linear: (0..d).map(|j| -linear[(j, 0)]).collect(),
            quadratic: Mat::from_fn(d, d, |a, b| -0.5 * quadratic[(a, b)]),
            matrix: Mat::zeros(d, d),
            shift: vec![0.0; d],
        }
    }
}

/// `log sum exp`, against the largest.
pub(crate) fn log_sum_exp(values: &[f64]) -> f64 {
    let top = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if top == f64::NEG_INFINITY {
        top
    } else {
        top + values.iter().map(|x| (x - top).exp()).sum::<f64>().ln()
    }
}
