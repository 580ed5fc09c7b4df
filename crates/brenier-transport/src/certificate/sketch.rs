use crate::certificate::Quality;
use crate::error::TransportError;
use crate::gaussian::{Gaussian, bures_squared};
use brenier_linalg::{
    Covariance, Moments, gram, product, product_with_transpose, squared_norm, symmetric_eigenvalues,
};
use brenier_map::{Affine, RowMap};
use faer::{Mat, MatRef};
use serde::{Deserialize, Serialize};

/// What [`Moments`] may have lost of the rows of one class: they hold `S'`, the rows have `S`, and
/// `0 <= S - S' <= bound` in operator norm.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SketchBound {
    /// Number of rows to which the factor is shrunk.
    pub cap: usize,
    /// The largest eigenvalue that `S - S'` can have, in squared units of the activations; 0 where nothing was lost.
    pub bound: f64,
    /// `tr S - tr S'`, the variance lost over all directions, in squared units of the activations.
    pub removed: f64,
    /// `bound` over the largest eigenvalue of `S'`.
    pub bound_relative: f64,
    /// `removed / tr S`.
    pub removed_relative: f64,
}

/// What a fit to moments cannot know of the rows.
///
/// `S' <= S` and `tr S - tr S' = removed` give
///
/// ```text
/// W2^2(N(m, S), N(m, S')) = tr S + tr S' - 2 tr (S'^{1/2} S S'^{1/2})^{1/2} <= tr S - tr S' = removed
/// ```
///
/// since the square root is operator monotone: `(S'^{1/2} S S'^{1/2})^{1/2} >= (S'^{1/2} S' S'^{1/2})^{1/2} = S'`. With
/// the triangle inequality on the covariances' part `B` of the distance (the means are known), the rows' own distance
/// lies where
///
/// ```text
/// |m_s - m_t|^2 + max(B' - a - b, 0)^2 <= W2^2 <= |m_s - m_t|^2 + (B' + a + b)^2,   a, b: the roots of the two `removed`
/// ```
///
/// After an affine map `A x + b`, `a` is replaced by `|A| a`, as `tr A (S - S') A^T <= |A|^2 tr (S - S')`.
///
/// References: R. Bhatia, "Matrix Analysis", 1997, chapter V (operator monotone functions); R. Bhatia, T. Jain & Y. Lim,
/// "On the Bures-Wasserstein distance between positive definite matrices", Expo. Math. 37, 2019 (`B` is a metric).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sketch {
    /// Of the source.
    pub source: SketchBound,
    /// Of the target.
    pub target: SketchBound,
    /// Where the rows' `w2_before` lies, in the units of the activations.
    pub w2_before: [f64; 2],
    /// Where the rows' `w2_after` lies, for an ungated map.
    pub w2_after: Option<[f64; 2]>,
}

impl SketchBound {
    /// `held`: the Gaussian of the moments.
    fn of(moments: &Moments, held: &Gaussian, covariance: Covariance) -> Result<Self, TransportError> {
        let (bound, removed) = (moments.bound(covariance), moments.removed(covariance));
        let factor = held.factor();
        let small = if factor.nrows() < factor.ncols() { gram(factor) } else { gram(factor.transpose()) };
        let largest = symmetric_eigenvalues(small.as_ref())?.first().copied().unwrap_or(0.0);
        let ratio = |part: f64, whole: f64| if part > 0.0 { part / whole } else { 0.0 };
        Ok(Self {
            cap: moments.cap(),
            bound,
            removed,
            bound_relative: ratio(bound, largest),
            removed_relative: ratio(removed, removed + held.trace()),
        })
    }
}

/// Source and target as moments, and the Gaussians that they hold.
pub(crate) struct Streamed<'a> {
    pub moments: [&'a Moments; 2],
    pub gaussians: [Gaussian; 2],
    pub covariance: Covariance,
}

impl Streamed<'_> {
    /// What an ungated map, whose linear part has the norm `norm`, does to the Gaussians, and what is unknown of the
    /// rows. For a map that is not affine, only what concerns the classes themselves.
    pub(crate) fn measure(&self, map: &RowMap, norm: f64) -> Result<(Quality, Sketch), TransportError> {
        let [source, target] = &self.gaussians;
        let [of_source, of_target] = self.moments.map(|moments| moments.removed(self.covariance).sqrt());
        let before = Apart::of(source, target)?;
        let mut quality = Quality {
            w2_before: before.distance(),
            w2_after: f64::NAN,
            source_step: f64::NAN,
            target_step: f64::NAN,
            ..Quality::default()
        };
        let mut sketch = Sketch {
            source: SketchBound::of(self.moments[0], source, self.covariance)?,
            target: SketchBound::of(self.moments[1], target, self.covariance)?,
            w2_before: before.within(of_source + of_target),
            w2_after: None,
        };
        let displaced = |of: &Gaussian| displacement(map, of.factor());
        if let (Some(of_factor), Some(of_target_factor)) = (displaced(source), displaced(target)) {
            let (at_source, at_target) = (step_at(map, source.mean())?, step_at(map, target.mean())?);
            quality.source_step = self.step(0, &at_source, &of_factor);
            quality.target_step = self.step(1, &at_target, &of_target_factor);
            let pushed = Gaussian {
                mean: source.mean().iter().zip(&at_source).map(|(x, step)| x + step).collect(),
                factor: source.factor.as_ref() + of_factor,
                isotropic: 0.0,
            };
            let after = Apart::of(&pushed, target)?;
            quality.w2_after = after.distance();
            quality.w2_ratio = (quality.w2_before > 0.0).then(|| quality.w2_after / quality.w2_before);
            sketch.w2_after = Some(after.within(norm * of_source + of_target));
        }
        Ok((quality, sketch))
    }

    /// Root mean square step: that of the mean, and the trace of `(A - I) S (A - I)^T` with the divisor n.
    fn step(&self, side: usize, at_mean: &[f64], of_factor: &Mat<f64>) -> f64 {
        let n = self.moments[side].count();
        let share = self.covariance.divisor(n) / n as f64;
        let of_mean: f64 = at_mean.iter().map(|x| x * x).sum();
        (of_mean + share * squared_norm(of_factor.as_ref())).sqrt()
    }
}

/// `F (A - I)^T` for a factor `F`, `[r, d]`; none for a map that is not affine.
fn displacement(map: &RowMap, factor: MatRef<'_, f64>) -> Option<Mat<f64>> {
    if map.gate().is_some() {
        return None;
    }
    let (r, d) = factor.shape();
    let grown = |scale: f64| Mat::from_fn(r, d, |i, j| (scale - 1.0) * factor[(i, j)]);
    match map.affine() {
        Affine::LowRank(map) => {
            let along = product(factor, map.v.as_ref());
            Some(grown(map.scale) + product_with_transpose(along.as_ref(), map.u.as_ref()))
        }
        Affine::Symmetric(map) => {
            let along = product(product(factor, map.basis.as_ref()).as_ref(), map.core.as_ref());
            Some(grown(map.scale) + product_with_transpose(along.as_ref(), map.basis.as_ref()))
        }
        Affine::Diagonal(map) if map.range.is_none() => {
            Some(Mat::from_fn(r, d, |i, j| (map.weight[j] - 1.0) * factor[(i, j)]))
        }
        Affine::Dense(map) => Some(product_with_transpose(factor, map.matrix.as_ref()) - factor),
        _ => None,
    }
}

fn step_at(map: &RowMap, mean: &[f64]) -> Result<Vec<f64>, TransportError> {
    let mut moved = Mat::from_fn(1, mean.len(), |_, j| mean[j]);
    map.apply_rows(moved.as_mut(), 1.0)?;
    Ok(mean.iter().enumerate().map(|(j, x)| moved[(0, j)] - x).collect())
}

/// The two parts of a distance, squared.
struct Apart {
    means: f64,
    covariances: f64,
}

impl Apart {
    fn of(a: &Gaussian, b: &Gaussian) -> Result<Self, TransportError> {
        Ok(Self { means: a.apart(b), covariances: bures_squared(a.factor(), b.factor())? })
    }

    fn distance(&self) -> f64 {
        (self.means + self.covariances).sqrt()
    }

    /// The distances possible where the covariances' part is known to within `slack`.
    fn within(&self, slack: f64) -> [f64; 2] {
        let part = self.covariances.sqrt();
        [(part - slack).max(0.0), part + slack].map(|part| self.means.sqrt().hypot(part))
    }
}
