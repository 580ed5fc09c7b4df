use crate::joint::{Range, TOLERANCE};
use crate::pair::Pair;
use crate::pca_ot::middle;
use crate::samples::along;
use crate::{FitOptions, Method, Shrinkage, TransportError};
use brenier_linalg::{
    f32_noise, joint_basis, product, reduce, relative_floor, squared_norm, transpose_product,
};
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

/// An erasing map, what it obeys, and the shrinkage intensity of the pooled covariance.
pub(crate) struct Leace {
    pub affine: Affine,
    pub laws: ErasureLaws,
    pub shrinkage: f64,
    pub norm: f64,
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
/// better than a constant, it is the one that moves the rows least. `S^+` through an orthonormal basis of the rows'
/// span (their Gram matrix where `n < d`) and the singular values of the rows in it, so that no covariance is squared
/// or inverted; with shrinkage, `S` is `(1 - a) S + a tr S / d I`.
///
/// Reference: N. Belrose et al., "LEACE: perfect linear concept erasure in closed form", NeurIPS 2023, theorem 4.3.
pub(crate) fn leace(pair: &Pair<'_>, options: &FitOptions) -> Result<Leace, TransportError> {
    let d = pair.dim();
    let (n_s, n_t) = (pair.source.count(), pair.target.count());
    let [source_mean, target_mean] = &pair.means;
    let share = pair.share();
    let about = middle(source_mean, target_mean, share);
    let (s, t) = (pair.source.view(), pair.target.view());
    let mut rows =
        Mat::from_fn(n_s + n_t, d, |i, j| (if i < n_s { s[(i, j)] } else { t[(i - n_s, j)] }) - about[j]);
    // Of the rows as they are: rounding is relative to a value, and not to its distance from the mean.
    let noise = f32_noise(s).max(f32_noise(t));
    let weights = pair.shares(share);
    let all = along(&rows, pair.weighted().then_some(weights.as_slice()))?;
    let intensity = match options.shrinkage {
        Shrinkage::Fixed(0.0) => 0.0,
        other => other.weighted_intensity(rows.as_ref(), all.weights())?,
    };
    let roots: Vec<f64> = all.covariance_weights(options.covariance).iter().map(|w| w.sqrt()).collect();
    let spread = all.spread(options.covariance);
    for column in rows.as_mut().col_iter_mut() {
        column.iter_mut().zip(&roots).for_each(|(x, root)| *x *= root);
    }
    erasure(Pooled { means: pair.means.clone(), share, rows, above: n_s, spread, intensity, noise })
}

/// All that an erasure is made from.
pub(crate) struct Pooled {
    /// Means of source and target, `[d]`.
    pub means: [Vec<f64>; 2],
    /// The source's share of all rows, by their weights.
    pub share: f64,
    /// A factor of the covariance of all rows of both classes together, `[m, d]`.
    pub rows: Mat<f64>,
    /// How many of its rows count as the source's where the two are weighed against each other.
    pub above: usize,
    /// The covariance divided by `n` over that of the factor.
    pub spread: f64,
    /// Shrinkage intensity.
    pub intensity: f64,
    /// What the rounding of f32 rows may have added to an eigenvalue of their covariance divided by `n`.
    pub noise: f64,
}

/// [`leace`] from a factor of the pooled covariance.
pub(crate) fn erasure(of: Pooled) -> Result<Leace, TransportError> {
    let Pooled { means: [source_mean, target_mean], share, rows: pooled, above, spread, intensity, noise } =
        of;
    let (d, m) = (source_mean.len(), pooled.nrows());
    let about = middle(&source_mean, &target_mean, share);
    let apart = Mat::from_fn(d, 1, |j, _| source_mean[j] - target_mean[j]);
    let distance = squared_norm(apart.as_ref()).sqrt();
    let size = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
    // The means themselves are known to eps; a difference of that size has no direction.
    if distance <= 8.0 * f64::EPSILON * size(&source_mean).max(size(&target_mean)) {
        return Err(TransportError::SameMean { method: Method::Leace, distance });
    }

    let (top, bottom) = pooled.as_ref().split_at_row(above);
    let basis = joint_basis(top, bottom)?;
    let inside = |columns: &Mat<f64>| match &basis.vectors {
        Some(vectors) => transpose_product(vectors.as_ref(), columns.as_ref()),
        None => columns.clone(),
    };
    // With as many rows as columns at most, of the same covariance.
    let pooled = reduce(pooled);
    let range = match &basis.vectors {
        Some(vectors) => Range::of(product(pooled.as_ref(), vectors.as_ref()).as_ref(), d, noise / spread)?,
        None => Range::of(pooled.as_ref(), d, noise / spread)?,
    };
    let (kept, axes, deviations) = (range.kept, range.axes(), range.deviations());
    let level = intensity * squared_norm(pooled.as_ref()) / d as f64;
    let variance = |i: usize| (1.0 - intensity) * deviations[i] * deviations[i] + level;

    // r and v = S^+ r along the axes; r lies in the span of the rows.
    let direction = transpose_product(axes, inside(&apart).as_ref());
    let reader = Mat::from_fn(kept, 1, |i, _| direction[(i, 0)] / variance(i));
    let metric: f64 = (0..kept).map(|i| direction[(i, 0)] * reader[(i, 0)]).sum();
    let mut lifted = product(axes, reader.as_ref());
    if let Some(vectors) = &basis.vectors {
        lifted = product(vectors.as_ref(), lifted.as_ref());
    }
    // Both factors of the size of one, whatever the unit.
    let unit = squared_norm(lifted.as_ref()).sqrt();
    let across: f64 = (0..d).map(|j| lifted[(j, 0)] / unit * apart[(j, 0)]).sum();
    let norm = if d > 1 { distance / across.abs() } else { 0.0 };
    let form = LowRank {
        scale: 1.0,
        mean: about,
        offset: vec![0.0; d],
        u: Mat::from_fn(d, 1, |j, _| -apart[(j, 0)] / across),
        v: Mat::from_fn(d, 1, |j, _| lifted[(j, 0)] / unit),
    };

    let condition = if kept > 0 { variance(0) / variance(kept - 1) } else { 1.0 };
    let weight = share * (1.0 - share) / spread;
    let mut laws = ErasureLaws {
        rank: kept,
        condition,
        predictable: weight * metric,
        tolerance: TOLERANCE * relative_floor(d.max(m) + 16) * condition.sqrt().max(norm),
        ..ErasureLaws::default()
    };
    // What is not in the range counts as zero: `weight (w . r)^2 <= w^T S w <= floor l_1` for every unit vector w outside.
    let along = product(axes, direction.as_ref());
    let along = match &basis.vectors {
        Some(vectors) => product(vectors.as_ref(), along.as_ref()),
        None => along,
    };
    let outside = squared_norm((&apart - along).as_ref()).sqrt() / distance;
    let largest = deviations.first().copied().unwrap_or(0.0).powi(2);
    let floored = (d.min(m) - kept) as f64 * range.floor * largest;
    let left_out = outside.min((floored / weight).sqrt() / distance);
    check(&mut laws, &form, &apart, &pooled, [intensity, level], left_out)?;
    Ok(Leace { affine: Affine::LowRank(form), laws, shrinkage: intensity, norm })
}

/// Measures an erasure and refuses one that is off by more than rounding explains. `P = -u v^T`,
/// `S = (1 - a) Z^T Z + level I`; `left_out` is the part of the difference of the means, relative, that lies in directions
/// whose variance counts as zero, where `P S` and `S P^T` differ by that.
fn check(
    laws: &mut ErasureLaws,
    form: &LowRank,
    apart: &Mat<f64>,
    pooled: &Mat<f64>,
    [intensity, level]: [f64; 2],
    left_out: f64,
) -> Result<(), TransportError> {
    let dot = |a: &Mat<f64>, b: &Mat<f64>| transpose_product(a.as_ref(), b.as_ref())[(0, 0)];
    let norm = |a: &Mat<f64>| squared_norm(a.as_ref()).sqrt();
    let read = dot(&form.v, apart);
    let left = Mat::from_fn(apart.nrows(), 1, |j, _| apart[(j, 0)] + form.u[(j, 0)] * read);
    laws.separation = norm(&left) / norm(apart);
    laws.idempotence = (dot(&form.v, &form.u) + 1.0).abs();

    // P S = -u w^T with w = S v; it is symmetric where u and w are parallel.
    let coordinates = product(pooled.as_ref(), form.v.as_ref());
    let spread = transpose_product(pooled.as_ref(), coordinates.as_ref());
    let w =
        Mat::from_fn(spread.nrows(), 1, |j, _| (1.0 - intensity) * spread[(j, 0)] + level * form.v[(j, 0)]);
    let (size_u, size_w) = (norm(&form.u), norm(&w));
    let sign = dot(&form.u, &w).signum();
    let twist = Mat::from_fn(w.nrows(), 1, |j, _| form.u[(j, 0)] / size_u - sign * w[(j, 0)] / size_w);
    laws.orthogonality = std::f64::consts::SQRT_2 * norm(&twist);
    laws.moved = squared_norm(coordinates.as_ref()) * size_u * size_u / squared_norm(pooled.as_ref());
    for (law, found, allowed) in [
        ("T(m_s) = T(m_t)", laws.separation, laws.tolerance),
        ("P^2 = P", laws.idempotence, laws.tolerance),
        ("P S = S P^T", laws.orthogonality, laws.tolerance + 2.0 * left_out),
    ] {
        if found.is_nan() || found > allowed {
            return Err(TransportError::Certificate { law, found, allowed });
        }
    }
    Ok(())
}
