use crate::certificate::effect::moved;
use crate::error::{Side, TransportError};
use crate::random::SplitMix;
use crate::samples::column::Column;
use crate::samples::{Samples, along};
use brenier_linalg::{Rows, product, squared_norm};
use brenier_map::RowMap;
use faer::{Mat, MatRef};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Rows that a thread maps at once where no more than their place along some directions is wanted.
const AT_ONCE: usize = 16;

/// Options of the sliced distance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlicedOptions {
    /// Number of random directions; 128 by default.
    pub directions: usize,
    /// Seed of the directions; 0 by default.
    pub seed: u64,
}

impl SlicedOptions {
    /// The most directions that a fit takes: each is as wide as a row.
    pub const MOST_DIRECTIONS: usize = 10_000;
}

impl Default for SlicedOptions {
    fn default() -> Self {
        Self { directions: 128, seed: 0 }
    }
}

/// The sliced distance from the target, of the rows themselves and not of their Gaussians.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sliced {
    /// Of the source rows.
    pub before: f64,
    /// Of the mapped source rows.
    pub after: f64,
    /// Number of directions.
    pub directions: usize,
}

/// The sliced 2-Wasserstein distance of two samples along given directions, in the units of the activations:
///
/// ```text
/// SW2^2 = mean_l W2^2( X u_l, Y u_l )
/// ```
///
/// each term exact ([`w2_1d`]). What is not Gaussian shows here and not in [`w2`](crate::gaussian::w2). Over directions uniform on the
/// sphere, `SW2 <= W2 / sqrt(d)`, equal for a mere shift on average.
///
/// # Shapes
/// `a`: `[n, d]`, `b`: `[m, d]`, with or without weights ([`Samples`]), `directions`: `[d, l]`, unit columns.
///
/// # Errors
/// [`TransportError::Linalg`] for rows that are empty or not finite, [`TransportError::Widths`].
///
/// Reference: J. Rabin, G. Peyré, J. Delon & M. Bernot, "Wasserstein barycenter and its application to texture mixing",
/// SSVM 2011; N. Bonneel et al., "Sliced and Radon Wasserstein barycenters of measures", J. Math. Imaging Vis. 51, 2015.
pub fn sliced_w2<'a>(
    a: impl Into<Samples<'a>>,
    b: impl Into<Samples<'a>>,
    directions: MatRef<'_, f64>,
) -> Result<f64, TransportError> {
    let (a, b, u) = (a.into().check()?, b.into().check()?, Rows::new(directions)?);
    for found in [b.width(), directions.nrows()] {
        if found != a.width() {
            return Err(TransportError::Widths { side: Side::Target, expected: a.width(), found });
        }
    }
    let (of_a, of_b) = (product(a.view(), u.view()), product(b.view(), u.view()));
    let weights = |rows: Rows<'a>| Samples::from(rows).weights();
    Ok(apart(along(&of_a, weights(a))?, along(&of_b, weights(b))?))
}

/// The sliced distance of samples that lie along the directions, `[n, l]` and `[m, l]`.
pub(crate) fn apart(a: Rows<'_>, b: Rows<'_>) -> f64 {
    let sum: f64 = (0..a.width())
        .map(|l| {
            if a.weights().is_some() || b.weights().is_some() {
                return Column::new(a, l).coupled(&Column::new(b, l), |x, y| (x - y) * (x - y));
            }
            let column = |rows: Rows<'_>| rows.view().col(l).iter().copied().collect::<Vec<f64>>();
            squared(column(a), column(b))
        })
        .sum();
    (sum / a.width() as f64).sqrt()
}

/// Directions uniform on the sphere: normals over their length. `[d, count]`, the same for the same seed.
pub fn directions(d: usize, count: usize, seed: u64) -> Mat<f64> {
    let mut random = SplitMix::new(seed);
    let mut out = Mat::zeros(d, count);
    for l in 0..count {
        (0..d).for_each(|j| out[(j, l)] = random.normal());
        let length = squared_norm(out.as_ref().subcols(l, 1)).sqrt();
        (0..d).for_each(|j| out[(j, l)] /= length);
    }
    out
}

/// The 2-Wasserstein distance of two samples of numbers, of any counts: the root of the integral of the squared
/// difference of their quantile functions, which are steps. None where either is empty.
pub fn w2_1d(a: &[f64], b: &[f64]) -> Option<f64> {
    (!a.is_empty() && !b.is_empty()).then(|| squared(a.to_vec(), b.to_vec()).sqrt())
}

/// Masses are counted in units of `1 / (n m)`, in which every step ends on a whole number.
fn squared(mut a: Vec<f64>, mut b: Vec<f64>) -> f64 {
    a.sort_by(f64::total_cmp);
    b.sort_by(f64::total_cmp);
    let (n, m) = (a.len(), b.len());
    let (mut i, mut j, mut sum) = (0, 0, 0.0);
    let (mut left_a, mut left_b) = (m, n);
    while i < n && j < m {
        let mass = left_a.min(left_b);
        sum += mass as f64 * (a[i] - b[j]) * (a[i] - b[j]);
        left_a -= mass;
        left_b -= mass;
        if left_a == 0 {
            i += 1;
            left_a = m;
        }
        if left_b == 0 {
            j += 1;
            left_b = n;
        }
    }
    sum / (n as f64 * m as f64)
}

/// The sliced distance from the target before and after a map.
pub(crate) fn measure_sliced<'a>(
    map: &RowMap,
    source: impl Into<Samples<'a>>,
    target: impl Into<Samples<'a>>,
    options: &SlicedOptions,
) -> Result<Sliced, TransportError> {
    let (source, target) = (source.into(), target.into());
    let u = directions(source.rows().ncols(), options.directions, options.seed);
    let goal = product(target.rows(), u.as_ref());
    let goal = along(&goal, target.weights())?;
    let distance = |z: Mat<f64>| Ok::<_, TransportError>(apart(along(&z, source.weights())?, goal));
    Ok(Sliced {
        before: distance(product(source.rows(), u.as_ref()))?,
        after: distance(moved_along(map, source.rows(), u.as_ref())?)?,
        directions: options.directions,
    })
}

/// Where rows lie along directions once they are mapped, a few rows at a time: a copy of all of them would be as large as
/// they are. `[n, l]`
fn moved_along(
    map: &RowMap,
    rows: MatRef<'_, f64>,
    directions: MatRef<'_, f64>,
) -> Result<Mat<f64>, TransportError> {
    let mut out = Mat::zeros(rows.nrows(), directions.ncols());
    let blocks = out.as_mut().par_row_chunks_mut(AT_ONCE).enumerate();
    blocks.try_for_each(|(index, mut out)| {
        let block = moved(map, rows.subrows(index * AT_ONCE, out.nrows()))?;
        out.copy_from(product(block.rows.transpose(), directions));
        Ok::<_, TransportError>(())
    })?;
    Ok(out)
}
