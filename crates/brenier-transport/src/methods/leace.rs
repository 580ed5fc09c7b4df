use crate::error::TransportError;
use crate::methods::{Estimate, Fitted};
use crate::options::{FitOptions, Method};
use crate::ot::{Range, TOLERANCE, refuse_beyond};
use crate::reduce::Reduced;
use crate::samples::class::{middle, pooled, share_of_source};
use brenier_linalg::{product, reduce, relative_floor, squared_norm, transpose_product};
use brenier_map::{Affine, LowRank};
use faer::Mat;
use serde::{Deserialize, Serialize};

/// What an erasure obeys.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ErasureLaws {
    /// Directions in which the pooled rows vary.
    pub rank: usize,
    /// Condition number of their covariance above the floor.
    pub condition: f64,
    /// Share of the label's variance that an affine predictor explains before the erasure, R^2.
    pub predictable: f64,
    /// `|T(m_s) - T(m_t)| / |m_s - m_t|`: what is left of the covariance with the label, which is all that a linear
    /// predictor can use.
    pub separation: f64,
    /// `|P^2 - P| / |P|` of the projection `P` that is taken away.
    pub idempotence: f64,
    /// `|P S - S P^T|_F / |P S|_F`: orthogonal in the metric of the covariance, hence the least change.
    pub orthogonality: f64,
    /// Mean squared length of a step over the trace of the covariance.
    pub moved: f64,
    /// What rounding can explain in any of these, relative.
    pub tolerance: f64,
}

/// Least-squares concept erasure of the label source / target:
///
/// ```text
/// T(x) = x - W^+ Pi W (x - m),   W = (S^{1/2})^+,   Pi the projector on W S_xz
///      = x - r v^T (x - m) / (v^T r),   r = m_s - m_t,   v = S^+ r
/// ```
///
/// with `m` and `S` the mean and the covariance of all rows of both classes together; for one binary label the
/// projection has rank 1, since `S_xz` is a multiple of `r`. Of all affine maps after which no affine predictor does
/// better than a constant, it is the one that moves the rows least. `S^+` through the singular values of the rows in reduced coordinates, so
/// that no covariance is squared or inverted; with shrinkage, `S` is `(1 - a) S + a tr S / d I`.
///
/// Reference: N. Belrose et al., "LEACE: perfect linear concept erasure in closed form", NeurIPS 2023, theorem 4.3.
pub(crate) fn leace(reduced: &Reduced<'_>, options: &FitOptions) -> Result<Estimate, TransportError> {
    let [source_mean, target_mean] = &reduced.means;
    let (d, share) = (source_mean.len(), share_of_source(&reduced.classes)?);
    let size = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
    let distance = reduced.apart().sqrt();
    // The means themselves are known to eps; a difference of that size has no direction.
    if distance <= 8.0 * f64::EPSILON * size(source_mean).max(size(target_mean)) {
        return Err(TransportError::SameMean { method: Method::Leace, distance });
    }
    let all = pooled(&reduced.classes)?;
    let intensity = all.intensity(options.shrinkage, reduced.dim)?;
    let (m, spread) = (all.count(), all.spread(options.covariance)?);
    let factor = all.factor(options.covariance)?;
    drop(all);
    let factor = reduce(factor);
    let range = Range::of(factor.as_ref(), reduced.dim, reduced.noise / spread)?;
    let (kept, axes, deviations) = (range.kept, range.axes(), range.deviations());
    let level = intensity * squared_norm(factor.as_ref()) / reduced.dim as f64;
    let variance = |i: usize| (1.0 - intensity) * deviations[i] * deviations[i] + level;

    // r and v = S^+ r along the axes, in reduced coordinates.
    let [source, target] = &reduced.classes;
    let apart = Mat::from_fn(source.width(), 1, |j, _| source.mean[j] - target.mean[j]);
    let direction = transpose_product(axes, apart.as_ref());
    let reader = Mat::from_fn(kept, 1, |i, _| direction[(i, 0)] / variance(i));
    let metric: f64 = (0..kept).map(|i| direction[(i, 0)] * reader[(i, 0)]).sum();
    let mut v = product(axes, reader.as_ref());
    // Both factors of the size of one, whatever the unit.
    let unit = squared_norm(v.as_ref()).sqrt();
    v.col_as_slice_mut(0).iter_mut().for_each(|x| *x /= unit);
    let across = transpose_product(v.as_ref(), apart.as_ref())[(0, 0)];
    let u = Mat::from_fn(apart.nrows(), 1, |j, _| -apart[(j, 0)] / across);
    let norm = if reduced.dim > 1 { distance / across.abs() } else { 0.0 };

    let condition = if kept > 0 { variance(0) / variance(kept - 1) } else { 1.0 };
    let weight = share * (1.0 - share) / spread;
    let mut laws = ErasureLaws {
        rank: kept,
        condition,
        predictable: weight * metric,
        tolerance: TOLERANCE * relative_floor(reduced.dim.max(m) + 16) * condition.sqrt().max(norm),
        ..ErasureLaws::default()
    };
    // What is not in the range counts as zero: `weight (w . r)^2 <= w^T S w <= floor l_1` for every unit vector w outside.
    let outside = squared_norm((&apart - product(axes, direction.as_ref())).as_ref()).sqrt() / distance;
    let largest = deviations.first().copied().unwrap_or(0.0).powi(2);
    let floored = (reduced.dim.min(m) - kept) as f64 * range.floor * largest;
    let left_out = outside.min((floored / weight).sqrt() / distance);
    check(&mut laws, [&u, &v], &apart, &factor, [intensity, level], left_out)?;
    let affine = Affine::LowRank(LowRank {
        scale: 1.0,
        mean: middle(source_mean, target_mean, share),
        offset: vec![0.0; d],
        u: Mat::from_fn(d, 1, |j, _| (target_mean[j] - source_mean[j]) / across),
        v: reduced.basis.lift(v.as_ref()),
    });
    Ok(Estimate {
        erasure: Some(laws),
        shrinkage: Some([intensity; 2]),
        ..Estimate::new(Fitted::Lifted(affine), norm)
    })
}

/// Measures an erasure and refuses one that is off by more than rounding explains. `P = -u v^T`,
/// `S = (1 - a) Z^T Z + level I`; `left_out` is the part of the difference of the means, relative, that lies in directions
/// whose variance counts as zero, where `P S` and `S P^T` differ by that.
fn check(
    laws: &mut ErasureLaws,
    [u, v]: [&Mat<f64>; 2],
    apart: &Mat<f64>,
    pooled: &Mat<f64>,
    [intensity, level]: [f64; 2],
    left_out: f64,
) -> Result<(), TransportError> {
    let dot = |a: &Mat<f64>, b: &Mat<f64>| transpose_product(a.as_ref(), b.as_ref())[(0, 0)];
    let norm = |a: &Mat<f64>| squared_norm(a.as_ref()).sqrt();
    let read = dot(v, apart);
    let left = Mat::from_fn(apart.nrows(), 1, |j, _| apart[(j, 0)] + u[(j, 0)] * read);
    laws.separation = norm(&left) / norm(apart);
    laws.idempotence = (dot(v, u) + 1.0).abs();

    // P S = -u w^T with w = S v; it is symmetric where u and w are parallel.
    let coordinates = product(pooled.as_ref(), v.as_ref());
    let spread = transpose_product(pooled.as_ref(), coordinates.as_ref());
    let w = Mat::from_fn(spread.nrows(), 1, |j, _| (1.0 - intensity) * spread[(j, 0)] + level * v[(j, 0)]);
    let (size_u, size_w) = (norm(u), norm(&w));
    let sign = dot(u, &w).signum();
    let twist = Mat::from_fn(w.nrows(), 1, |j, _| u[(j, 0)] / size_u - sign * w[(j, 0)] / size_w);
    laws.orthogonality = std::f64::consts::SQRT_2 * norm(&twist);
    laws.moved = squared_norm(coordinates.as_ref()) * size_u * size_u / squared_norm(pooled.as_ref());
    refuse_beyond(&[
        ("T(m_s) = T(m_t)", laws.separation, laws.tolerance),
        ("P^2 = P", laws.idempotence, laws.tolerance),
        ("P S = S P^T", laws.orthogonality, laws.tolerance + 2.0 * left_out),
    ])
}
