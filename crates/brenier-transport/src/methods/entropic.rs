use crate::error::TransportError;
use crate::gaussian::Gaussian;
use crate::methods::ot::{Pair, gaussians};
use crate::methods::{Estimate, Fitted};
use crate::options::FitOptions;
use crate::ot::{Between, SpanMap, TOLERANCE, asymmetry, extremes, ratio, refuse_beyond};
use crate::reduce::Reduced;
use brenier_linalg::{
    ThinSvd, gram, product, product_with_transpose, relative_floor, squared_norm, squared_norm_of_gram,
    symmetric_eigenvalues, symmetrize, thin_svd,
};
use brenier_map::Affine;
use faer::{Mat, MatRef};
use serde::{Deserialize, Serialize};

/// The blur of entropic transport, sigma.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Blur {
    /// A share of the spread: `sigma^2 = share^2 (tr S_s + tr S_t) / 2`, so that the map does not depend on the unit of
    /// the activations.
    Relative(f64),
    /// In the units of the activations.
    Absolute(f64),
}

impl Default for Blur {
    fn default() -> Self {
        Self::Relative(0.1)
    }
}

impl Blur {
    /// Sigma in the units of the activations, for these two Gaussians.
    pub fn sigma(self, source: &Gaussian, target: &Gaussian) -> f64 {
        self.between([source.trace(), target.trace()])
    }

    /// Sigma from the traces of the two covariances.
    pub(crate) fn between(self, [source, target]: [f64; 2]) -> f64 {
        match self {
            Self::Relative(share) => share * (0.5 * (source + target)).sqrt(),
            Self::Absolute(sigma) => sigma,
        }
    }
}

/// What an entropic map obeys, and how much it contracts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct EntropicLaws {
    /// The blur, in the units of the activations.
    pub sigma: f64,
    /// `|E S_s E + sigma^2 E - S_t|_F / |S_t|_F`: the condition that makes the plan the optimal one.
    pub optimality: f64,
    /// `|E - E^T|_F / |E|_F`.
    pub symmetry: f64,
    /// Smallest eigenvalue of E.
    pub min_eigenvalue: f64,
    /// Largest eigenvalue of E.
    pub max_eigenvalue: f64,
    /// `|E S_s E - S_t|_F / |S_t|_F`: how far the true push-forward covariance is from the target's. Not small.
    pub push_forward_covariance: f64,
    /// `tr(E S_s E) / tr S_t`: the share of the target's variance that the mapped rows keep; the rest, `sigma^2 tr E`,
    /// is the blur of the plan about its mean. None for a target without variance.
    pub variance_kept: Option<f64>,
    /// The entropic transport cost, [`Entropic::cost`].
    pub cost: f64,
    /// What rounding can explain in `optimality` and `symmetry`, relative.
    pub tolerance: f64,
}

/// The barycentric map of the entropic plan between two Gaussians, `T(x) = E[y | x] = m_t + E (x - m_s)`.
#[derive(Debug, Clone)]
pub struct Entropic {
    map: SpanMap,
    laws: EntropicLaws,
}

/// Entropic optimal transport between two Gaussians, for the cost `E|x - y|^2 + 2 sigma^2 KL(plan | source x target)`.
///
/// ```text
/// E = S_s^{-1/2} (S_s^{1/2} S_t S_s^{1/2} + sigma^4/4 I)^{1/2} S_s^{-1/2} - sigma^2/2 S_s^{-1}
///   = F_t^T k(F_t S_s F_t^T) F_t,      k(w) = 1 / ( sqrt(w + sigma^4/4) + sigma^2/2 ),   S_t = F_t^T F_t
/// ```
///
/// The first line is the published form; the second is the same matrix without an inverse (`X f(X^T X) X^T = f(X X^T) X
/// X^T` for `X = S_s^{1/2} F_t^T`), so that singular covariances need no floor: the map is defined everywhere, by the
/// plan itself, off the span of the source too. `E` is symmetric, positive semi-definite and solves
/// `E S_s E + sigma^2 E = S_t`.
///
/// **It contracts**: the mapped rows have covariance `S_t - sigma^2 E`, never more than the target's; between equal
/// Gaussians it is not the identity. With `sigma` to 0 it becomes the optimal map on the range of the source; with
/// `sigma` to infinity, the constant `m_t`. A target without an isotropic part takes what is orthogonal to its span to
/// nothing; shrink the covariances to keep a multiple of it.
///
/// # Errors
/// [`TransportError::Widths`]; [`TransportError::Option`] unless `sigma` is finite and above 0 (or 0 between two
/// points); [`TransportError::Certificate`] if the result is off by more than rounding explains.
///
/// References: H. Janati, B. Muzellec, G. Peyré & M. Cuturi, "Entropic optimal transport between unbalanced Gaussian
/// measures has a closed form", NeurIPS 2020, theorem 1; A. Mallasto, A. Gerolin & H. Q. Minh, "Entropy-regularized
/// 2-Wasserstein distance between Gaussian measures", Inf. Geom. 5, 2022; A.-A. Pooladian & J. Niles-Weed, "Entropic
/// estimation of optimal transport maps", 2021 (the barycentric map off the sample).
pub fn entropic(source: &Gaussian, target: &Gaussian, sigma: f64) -> Result<Entropic, TransportError> {
    let (between, basis) = Between::gaussians(source, target)?;
    let (scale, matrix, laws) = barycentric(&between, sigma)?;
    let means = [source.mean.clone(), target.mean.clone()];
    Ok(Entropic { map: SpanMap { basis: basis.vectors, means, scale, matrix }, laws })
}

/// The fit of [`Method::Entropic`](crate::options::Method::Entropic).
pub(crate) fn entropic_fit(
    reduced: &Reduced<'_>,
    options: &FitOptions,
    intensities: Option<[f64; 2]>,
) -> Result<Estimate, TransportError> {
    let Pair { between, shrinkage, inner } = gaussians(reduced, options, intensities)?;
    let (scale, matrix, laws) = barycentric(&between, options.entropic_sigma.between(between.traces()))?;
    let norm = laws.max_eigenvalue;
    Ok(Estimate {
        entropic: Some(laws),
        shrinkage: Some(shrinkage),
        ..Estimate::new(Fitted::Span { scale, matrix, inner }, norm)
    })
}

/// The factor of the identity outside the span, `E` inside it, and what it obeys.
fn barycentric(joint: &Between, sigma: f64) -> Result<(f64, Mat<f64>, EntropicLaws), TransportError> {
    let [trace_s, trace_t] = joint.traces();
    let points = trace_s == 0.0 && trace_t == 0.0;
    if !(sigma.is_finite() && (sigma > 0.0 || (sigma == 0.0 && points))) {
        return Err(TransportError::Option {
            name: "entropic sigma",
            found: sigma,
            expected: "a finite number above 0",
        });
    }
    let (of_source, of_target) = (joint.of_source.as_ref(), joint.of_target.as_ref());
    let square = sigma * sigma;
    // c^2 are the eigenvalues of F_t S_s F_t^T.
    let k = |c: f64| 1.0 / (c.hypot(0.5 * square) + 0.5 * square);

    // F_s F_t^T, whose right singular vectors are the eigenvectors of F_t S_s F_t^T; those that it leaves out have
    // c = 0, and k(0) = 1 / sigma^2.
    let ThinSvd { values, right } = thin_svd(product_with_transpose(of_source, of_target).as_ref())?;
    let all = of_target.nrows() == values.len();
    let rest = if all || square == 0.0 { 0.0 } else { k(0.0) };
    let weigh = |c: f64| if square == 0.0 && c == 0.0 { 0.0 } else { k(c) - rest };
    let mut matrix = {
        let turned = product(right.transpose(), of_target);
        drop(right);
        let weighed = Mat::from_fn(turned.nrows(), turned.ncols(), |i, j| weigh(values[i]) * turned[(i, j)]);
        product(turned.transpose(), weighed.as_ref())
    };
    if rest > 0.0 {
        matrix += rest * gram(of_target.transpose());
    }
    symmetrize(&mut matrix);

    let [e_s, e_t] = joint.isotropic;
    let scale = if e_t > 0.0 { e_t * k((e_s * e_t).sqrt()) } else { 0.0 };
    let largest = values.first().copied().unwrap_or(0.0);
    let smallest = if all { values.last().copied().unwrap_or(0.0) } else { 0.0 };
    let condition = if square > 0.0 { (largest + square) / (smallest + square) } else { 1.0 };
    let outside = joint.rest() * cost_of((e_s * e_t).sqrt(), square);
    let blurred: f64 = values.iter().map(|&c| cost_of(c, square)).sum();
    let mut laws = EntropicLaws {
        sigma,
        tolerance: TOLERANCE * relative_floor(joint.longest() + 16) * condition,
        cost: joint.apart + trace_s + trace_t - blurred - outside,
        ..EntropicLaws::default()
    };
    check(&mut laws, joint, scale, matrix.as_ref())?;
    Ok((scale, matrix, laws))
}

impl Entropic {
    /// What was measured of the map.
    pub fn laws(&self) -> &EntropicLaws {
        &self.laws
    }

    /// The least cost, in squared units of the activations:
    ///
    /// ```text
    /// |m_s - m_t|^2 + tr S_s + tr S_t - sum_i ( 2 h(c_i) - sigma^2 + sigma^2 log( sigma^2 / (h(c_i) + sigma^2/2) ) )
    /// h(c) = sqrt(c^2 + sigma^4/4),   c_i: the singular values of F_s F_t^T
    /// ```
    ///
    /// the published `tr D` and `log det` terms together, which vanish at `c = 0`. It tends to W2^2 as sigma to 0 and
    /// to `E|x - y|^2` of independent rows as sigma to infinity.
    pub fn cost(&self) -> f64 {
        self.laws.cost
    }

    /// The map as a row operator: a multiple of the identity (0 for a target without an isotropic part) plus rank `r`.
    pub fn affine(&self) -> Affine {
        self.map.clone().into_affine()
    }
}

/// Measures an entropic map, `e` in the joint span and `c` times the identity outside it, and refuses one that is off by
/// more than rounding explains.
fn check(laws: &mut EntropicLaws, joint: &Between, c: f64, e: MatRef<'_, f64>) -> Result<(), TransportError> {
    let (of_target, rest) = (joint.of_target.as_ref(), joint.rest());
    let [e_s, e_t] = joint.isotropic;
    let square = laws.sigma * laws.sigma;

    let pushed = product(joint.of_source.as_ref(), e);
    let kept = squared_norm(pushed.as_ref()) + rest * c * c * e_s;
    let mut off = gram(pushed.as_ref().transpose());
    drop(pushed);
    off -= gram(of_target.transpose());
    let short = (squared_norm(off.as_ref()) + rest * (c * c * e_s - e_t).powi(2)).sqrt();
    off += square * e;
    let broken = (squared_norm(off.as_ref()) + rest * (c * c * e_s + square * c - e_t).powi(2)).sqrt();
    drop(off);
    let size = (squared_norm_of_gram(of_target) + rest * e_t * e_t).sqrt();
    let mut eigenvalues = symmetric_eigenvalues(e)?;
    if rest > 0.0 {
        eigenvalues.push(c);
    }

    laws.optimality = ratio(broken, size);
    laws.push_forward_covariance = ratio(short, size);
    laws.symmetry = asymmetry(e);
    [laws.min_eigenvalue, laws.max_eigenvalue] = extremes(&eigenvalues);
    let [_, all] = joint.traces();
    laws.variance_kept = (all > 0.0).then(|| kept / all);
    let negative = ratio((-laws.min_eigenvalue).max(0.0), laws.max_eigenvalue.max(0.0));
    refuse_beyond(&[
        ("E S_s E + sigma^2 E = S_t", laws.optimality, laws.tolerance),
        ("E = E^T", laws.symmetry, laws.tolerance),
        ("E positive semi-definite", negative, laws.tolerance),
    ])
}

/// What one singular value `c` of `F_s F_t^T` takes off the cost: `2 c` at `sigma = 0`, and 0 at `c = 0`.
fn cost_of(c: f64, square: f64) -> f64 {
    if c == 0.0 {
        return 0.0;
    }
    let h = c.hypot(0.5 * square);
    // 2 h - sigma^2 = 2 c^2 / (h + sigma^2/2), without the cancellation; log(h / sigma^2 + 1/2) by log1p.
    let saved = c * c / (h + 0.5 * square);
    let entropy = if square > 0.0 { square * (saved / square).ln_1p() } else { 0.0 };
    2.0 * saved - entropy
}
