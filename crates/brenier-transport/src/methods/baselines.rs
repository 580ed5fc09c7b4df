use crate::error::TransportError;
use crate::methods::{Estimate, Fitted};
use crate::options::{FitOptions, Method};
use crate::samples::class::{Class, Known};
use crate::samples::column::{Column, quantile};
use brenier_linalg::LinalgError;
use brenier_map::{Affine, Diagonal, LowRank};
use faer::Mat;

/// Standard deviations at or under this are taken for no variation by AcT, as published (an absolute number, in the
/// units of the activations).
const ACT_LEAST_DEVIATION: f64 = 1e-4;

/// `x + m_t - m_s`.
pub(crate) fn mean_shift([source, target]: &[Vec<f64>; 2]) -> Affine {
    let d = source.len();
    let offset = target.iter().zip(source).map(|(t, s)| t - s).collect();
    Affine::LowRank(LowRank {
        scale: 1.0,
        mean: source.to_vec(),
        offset,
        u: Mat::zeros(d, 0),
        v: Mat::zeros(d, 0),
    })
}

/// `x - r r^T (x - c)` with `r` the unit vector along `m_s - m_t`; `c = 0` for [`Method::Rfa`], `c = m_t` for
/// [`Method::Ace`].
///
/// References: A. Arditi et al., "Refusal in language models is mediated by a single direction", 2024; T. Marshall,
/// A. Scherlis & N. Belrose, "Refusal in LLMs is an affine function", 2024.
pub(crate) fn projection([source, target]: &[Vec<f64>; 2], method: Method) -> Result<Affine, TransportError> {
    let d = source.len();
    let mut direction: Vec<f64> = source.iter().zip(target).map(|(s, t)| s - t).collect();
    let norm = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
    let distance = norm(&direction);
    // The means themselves are known to eps; a difference of that size has no direction.
    if distance <= 8.0 * f64::EPSILON * norm(source).max(norm(target)) {
        return Err(TransportError::SameMean { method, distance });
    }
    direction.iter_mut().for_each(|x| *x /= distance);
    Ok(Affine::LowRank(LowRank {
        scale: 1.0,
        mean: if method == Method::Ace { target.to_vec() } else { vec![0.0; d] },
        offset: vec![0.0; d],
        u: Mat::from_fn(d, 1, |j, _| -direction[j]),
        v: Mat::from_fn(d, 1, |j, _| direction[j]),
    }))
}

/// One-dimensional transport of every coordinate; the map, and how many coordinates do not vary and so were not
/// scaled.
///
/// - Linear: both samples sorted and centred, `w = sum(a b) / sum(a^2)`, `b = m_t - w m_s`. For unequal counts the
///   target is read at the source's `n_s` quantile levels `0, 1/(n_s - 1), .., 1`, linearly between order statistics.
///   A constant source coordinate has `w = 1`: its mean moves.
/// - Mean: `w = 1`, `b = m_t - m_s`.
/// - Gaussian: `w = sd_t / sd_s`, `b = m_t - w m_s`; a coordinate where either deviation is at most 1e-4 is left as it
///   is (`w = 1`, `b = 0`).
///
/// Rows with weights: means and deviations are weighted, the slope is that of the optimal coupling, which takes both
/// samples in ascending order and splits what does not match (the same as above for equal counts of equal weights), and
/// quantiles are those of [`Column::quantile`].
///
/// Reference: P. Rodriguez et al., "Controlling language and diffusion models by transporting activations", ICLR 2025.
pub(crate) fn act(
    classes: &[Class<'_>; 2],
    method: Method,
    options: &FitOptions,
) -> Result<Estimate, TransportError> {
    let [source, target] = classes;
    let d = source.width();
    let mut map = Diagonal { weight: vec![1.0; d], bias: vec![0.0; d], range: None };
    let mut range = (vec![0.0; d], vec![0.0; d]);
    let mut skipped = 0;
    let spreads = [source.spread(options.covariance)?, target.spread(options.covariance)?];
    for j in 0..d {
        let (m_s, m_t) = (source.mean[j], target.mean[j]);
        let deviation =
            |side: usize| Ok::<_, LinalgError>((variance(&classes[side], j)? / spreads[side]).sqrt());
        let weight = match method {
            Method::ActMean => Some(1.0),
            Method::ActLinear => slope(&column(source, j)?, &column(target, j)?, m_s, m_t),
            _ => slope_between(deviation(0)?, deviation(1)?),
        };
        match weight {
            Some(weight) => {
                map.weight[j] = weight;
                map.bias[j] = m_t - weight * m_s;
            }
            None => {
                skipped += 1;
                if method == Method::ActLinear {
                    map.bias[j] = m_t - m_s;
                }
            }
        }
        if let Some((low, high)) = options.act_range() {
            let values = column(source, j)?;
            range.0[j] = values.quantile(low);
            range.1[j] = values.quantile(high);
        }
    }
    map.range = options.act_range().map(|_| range);
    let norm = map.weight.iter().fold(0.0_f64, |norm, w| norm.max(w.abs()));
    Ok(Estimate { skipped: Some(skipped), ..Estimate::new(Fitted::Lifted(Affine::Diagonal(map)), norm) })
}

fn column(class: &Class<'_>, j: usize) -> Result<Column, TransportError> {
    Ok(Column::new(class.needed_rows("AcT (sorted values)")?, j))
}

/// The variance of a coordinate, divided by `n`.
fn variance(class: &Class<'_>, j: usize) -> Result<f64, LinalgError> {
    if let Known::Factor { factor, .. } = &class.known {
        return Ok(factor.col(j).iter().map(|x| x * x).sum());
    }
    Ok(class.rows()?.map_or(0.0, |rows| Column::new(rows, j).square_about(class.mean[j])))
}

/// Least-squares slope of the sorted target on the sorted source; none for a constant source.
fn slope(of_a: &Column, of_b: &Column, mean_a: f64, mean_b: f64) -> Option<f64> {
    let (a, b) = (&of_a.values, &of_b.values);
    if a.first() == a.last() {
        return None;
    }
    if of_a.shares.is_some() || of_b.shares.is_some() {
        let square = of_a.square_about(mean_a);
        let across = of_a.coupled(of_b, |x, y| (x - mean_a) * (y - mean_b));
        return (square > 0.0).then(|| across / square);
    }
    let last = (a.len() - 1).max(1) as f64;
    let (mut across, mut square) = (0.0, 0.0);
    for (i, &x) in a.iter().enumerate() {
        let y = if a.len() == b.len() { b[i] } else { quantile(b, i as f64 / last) };
        across += (x - mean_a) * (y - mean_b);
        square += (x - mean_a) * (x - mean_a);
    }
    (square > 0.0).then(|| across / square)
}

/// The ratio of two deviations; none where either is too small for AcT.
fn slope_between(from: f64, to: f64) -> Option<f64> {
    (from > ACT_LEAST_DEVIATION && to > ACT_LEAST_DEVIATION).then(|| to / from)
}
