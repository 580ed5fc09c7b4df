use crate::certificate::Optimality;
use crate::gaussian::bures_squared;
use crate::{Gaussian, Side, TransportError};
use brenier_linalg::{
    gram, joint_basis, product, product_with_transpose, relative_floor, singular_values, squared_norm,
    squared_norm_of_gram, symmetric_eigen, thin_svd,
};
use brenier_map::{Affine, Dense, LowRank};
use faer::Mat;

/// How many times the rounding of one sum the push-forward may be off, at a condition number of 1.
const TOLERANCE: f64 = 100.0;

/// A whitening-colouring map and what was measured of it.
pub(crate) struct Whitening {
    pub affine: Affine,
    /// As of an optimal map, which this is not: `symmetry` and the gap between `transport_cost` and `w2_squared` show it.
    pub control: Optimality,
    pub norm: f64,
}

/// Whitening by the source, colouring by the target, with symmetric roots:
///
/// ```text
/// T(x) = m_t + S_t^{1/2} S_s^{-1/2} (x - m_s)
/// ```
///
/// It pushes `N(m_s, S_s)` to `N(m_t, S_t)` exactly as the optimal map does, and is not the optimal map unless the two
/// covariances commute: not symmetric, and dearer. Kept as the control which proves that the push-forward alone proves
/// nothing. On directions in which the source does not vary it is the identity, as [`crate::monge`] is, and the target
/// is taken on the source's range; outside the joint span it is `sqrt(e_t / e_s)`.
///
/// Reference: Y. Li et al., "Universal style transfer via feature transforms", NeurIPS 2017.
pub(crate) fn whitening(source: &Gaussian, target: &Gaussian) -> Result<Whitening, TransportError> {
    let d = source.dim();
    if d != target.dim() {
        return Err(TransportError::Widths { side: Side::Target, expected: d, found: target.dim() });
    }
    let basis = joint_basis(source.factor(), target.factor())?;
    let r = basis.rank;
    let (of_source, of_target) = (source.factor_in(&basis), target.factor_in(&basis));
    let (e_s, e_t, rest) = (source.isotropic(), target.isotropic(), (d - r) as f64);
    let scale = if e_s > 0.0 { (e_t / e_s).sqrt() } else { 1.0 };

    let svd = thin_svd(of_source.as_ref())?;
    let largest = svd.values.first().copied().unwrap_or(0.0);
    let floor = relative_floor(d.max(of_source.nrows()));
    let kept = svd.values.iter().take_while(|&&s| s > 0.0 && s * s > floor * largest * largest).count();
    let range = svd.right.as_ref().subcols(0, kept);
    let reached = product(of_target.as_ref(), range);
    let colour = thin_svd(reached.as_ref())?;
    // S_t^{1/2} S_s^{-1/2} on the range, where S_s is diag(s^2).
    let scaled = Mat::from_fn(kept, colour.values.len(), |i, j| colour.right[(i, j)] * colour.values[j]);
    let root = product_with_transpose(scaled.as_ref(), colour.right.as_ref());
    let mut inner = Mat::from_fn(kept, kept, |i, j| root[(i, j)] / svd.values[j]);
    let whole = kept == r;
    if !whole {
        (0..kept).for_each(|i| inner[(i, i)] -= 1.0);
    }
    let mut matrix = product_with_transpose(product(range, inner.as_ref()).as_ref(), range);
    if !whole {
        (0..r).for_each(|i| matrix[(i, i)] += 1.0);
    }

    let apart: f64 = source.mean().iter().zip(target.mean()).map(|(x, y)| (x - y) * (x - y)).sum();
    let outside = if e_s > 0.0 { rest * (e_s.sqrt() - e_t.sqrt()).powi(2) } else { 0.0 };
    let inside = squared_norm(reached.as_ref()) + if e_s > 0.0 { rest * e_t } else { 0.0 };
    let all = target.trace();
    let pushed = product(product_with_transpose(of_source.as_ref(), matrix.as_ref()).as_ref(), range);
    let off = gram(pushed.as_ref().transpose()) - gram(reached.as_ref().transpose());
    let size = squared_norm_of_gram(of_target.as_ref()).sqrt();
    let mut step = matrix.transpose().to_owned();
    (0..r).for_each(|i| step[(i, i)] -= 1.0);
    let middle = Mat::from_fn(r, r, |i, j| 0.5 * (matrix[(i, j)] + matrix[(j, i)]));
    let mut eigenvalues = symmetric_eigen(middle.as_ref())?.values;
    let mut norm = singular_values(matrix.as_ref())?.first().copied().unwrap_or(scale);
    if r < d {
        eigenvalues.push(scale);
        norm = norm.max(scale);
    }
    let condition = if kept > 0 { (largest / svd.values[kept - 1]).powi(2) } else { 1.0 };
    let dim = d.max(of_source.nrows()).max(of_target.nrows());
    let on_range = product_with_transpose(reached.as_ref(), range);
    let control = Optimality {
        rank: kept,
        floored: r - kept,
        floor,
        condition,
        push_forward_mean: 0.0,
        push_forward_covariance: ratio(squared_norm(off.as_ref()).sqrt(), size),
        unreachable: ratio((all - inside).max(0.0), all),
        symmetry: ratio(
            squared_norm((&matrix - matrix.transpose()).as_ref()).sqrt(),
            squared_norm(matrix.as_ref()).sqrt(),
        ),
        min_eigenvalue: eigenvalues.iter().copied().fold(f64::INFINITY, f64::min),
        max_eigenvalue: eigenvalues.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        transport_cost: squared_norm(product(of_source.as_ref(), step.as_ref()).as_ref()) + apart + outside,
        w2_squared: bures_squared(of_source.as_ref(), on_range.as_ref())? + apart + outside,
        tolerance: TOLERANCE * relative_floor(dim + 16) * condition.sqrt(),
    };
    // The one law that it has.
    let (found, allowed) = (control.push_forward_covariance, control.tolerance * norm.max(1.0));
    if found.is_nan() || found > allowed {
        return Err(TransportError::Certificate { law: "A S_s A^T = S_t", found, allowed });
    }

    let (from, to) = (source.mean(), target.mean());
    let affine = match &basis.vectors {
        None => {
            let moved = product(matrix.as_ref(), Mat::from_fn(d, 1, |j, _| from[j]).as_ref());
            let bias = to.iter().enumerate().map(|(i, m)| m - moved[(i, 0)]).collect();
            Affine::Dense(Dense { matrix, bias })
        }
        Some(vectors) => {
            (0..r).for_each(|i| matrix[(i, i)] -= scale);
            Affine::LowRank(LowRank {
                scale,
                mean: from.to_vec(),
                offset: to.iter().zip(from).map(|(t, s)| t - scale * s).collect(),
                u: product(vectors.as_ref(), matrix.as_ref()),
                v: vectors.clone(),
            })
        }
    };
    Ok(Whitening { affine, control, norm })
}

fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { part }
}
