use crate::baselines::{act, quantile};
use crate::entropic::entropic;
use crate::joint::Joint;
use crate::leace::leace;
use crate::made::norm_beside;
use crate::pair::Pair;
use crate::pca_ot::pca_ot;
use crate::ppca::latent_gaussian;
use crate::random::SplitMix;
use crate::samples::along;
use crate::whitening::whitening;
use crate::{FitOptions, Gaussian, Method, TransportError, monge, w2};
use brenier_linalg::{Rows, joint_basis, product};
use brenier_map::Affine;
use faer::{Mat, MatRef};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Options of the bootstrap.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BootstrapOptions {
    /// Number of resamples; 200 by default.
    pub resamples: usize,
    /// Share of the resamples inside an interval, strictly between 0 and 1; 0.95 by default.
    pub level: f64,
    /// Seed of the resamples; 0 by default.
    pub seed: u64,
}

impl BootstrapOptions {
    /// The most resamples that a fit takes: every one is a fit, and two numbers are kept of it.
    pub const MOST_RESAMPLES: usize = 100_000;
}

impl Default for BootstrapOptions {
    fn default() -> Self {
        Self { resamples: 200, level: 0.95, seed: 0 }
    }
}

/// Percentile intervals over resamples of the rows of each class with replacement; a row takes its weight along.
///
/// They say how much a number varies with the sample, not where the truth is: W2 of two samples is too large on
/// average (by about the distance of two samples of one class), and a resample, which holds about 0.63 n different rows,
/// adds to that once more. With few rows in many dimensions the interval lies above the number itself; then read its
/// width, and take more rows or fewer dimensions before the number is believed.
///
/// Reference: B. Efron & R. J. Tibshirani, "An introduction to the bootstrap", 1993, chapters 13 and 10.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bootstrap {
    /// Number of resamples.
    pub resamples: usize,
    /// Share of them inside each interval.
    pub level: f64,
    /// Of W2 before the map.
    pub w2_before: [f64; 2],
    /// Of the norm of the map's linear part, fitted anew on every resample at the fit's own shrinkage. None for methods
    /// whose norm does not depend on the sample, and where no resample could be fitted.
    pub norm: Option<[f64; 2]>,
    /// Resamples on which the map could not be fitted, such as for too low a rank.
    pub refused: usize,
}

/// Bootstraps a fit. `shrinkage`: the intensities that the fit used.
///
/// The rows are expressed once in an orthonormal basis of their span (one Gram matrix where they are fewer than `d`),
/// which changes no distance and no map that does not know the axes; a resample then costs no `O(d)`, but for AcT,
/// which knows them.
pub(crate) fn bootstrap(
    method: Method,
    pair: &Pair<'_>,
    options: &FitOptions,
    shrinkage: Option<[f64; 2]>,
    boot: &BootstrapOptions,
) -> Result<Bootstrap, TransportError> {
    let (source, target) = coordinates(pair)?;
    let knows_axes = matches!(method, Method::ActLinear | Method::ActGaussian);
    let found: Vec<(f64, Option<Result<f64, TransportError>>)> = (0..boot.resamples)
        .into_par_iter()
        .map(|index| {
            let mut random = SplitMix::stream(boot.seed, index);
            let draw = |random: &mut SplitMix, n: usize| (0..n).map(|_| random.below(n)).collect::<Vec<_>>();
            let of_source = draw(&mut random, source.nrows());
            let of_target = draw(&mut random, target.nrows());
            // A row takes its weight along.
            let weigh = |rows: Rows<'_>, places: &[usize]| {
                rows.weights().map(|weights| places.iter().map(|&i| weights.raw()[i]).collect::<Vec<_>>())
            };
            let (w_s, w_t) = (weigh(pair.source, &of_source), weigh(pair.target, &of_target));
            let (s, t) = (pick(source.as_ref(), &of_source), pick(target.as_ref(), &of_target));
            let (s, t) = (along(&s, w_s.as_deref())?, along(&t, w_t.as_deref())?);
            let distance = distance(s, t, options)?;
            let norm = if knows_axes {
                let (s, t) = (pick(pair.source.view(), &of_source), pick(pair.target.view(), &of_target));
                let (s, t) = (along(&s, w_s.as_deref())?, along(&t, w_t.as_deref())?);
                norm_of(method, s, t, options, shrinkage, pair.dim())
            } else {
                norm_of(method, s, t, options, shrinkage, pair.dim())
            };
            Ok((distance, norm))
        })
        .collect::<Result<_, TransportError>>()?;
    let mut distances = Vec::with_capacity(found.len());
    let (mut norms, mut refused) = (Vec::new(), 0);
    for (distance, norm) in found {
        distances.push(distance);
        match norm {
            Some(Ok(norm)) => norms.push(norm),
            Some(Err(_)) => refused += 1,
            None => {}
        }
    }
    Ok(Bootstrap {
        resamples: boot.resamples,
        level: boot.level,
        w2_before: interval(distances, boot.level),
        norm: (!norms.is_empty()).then(|| interval(norms, boot.level)),
        refused,
    })
}

/// Both classes about the mean of all rows, in an orthonormal basis of their joint span: `[n_s, r]` and `[n_t, r]` with
/// the same inner products, `r < n_s + n_t`; or as they are, centred, where `r` would be `d` or 0.
pub(crate) fn coordinates(pair: &Pair<'_>) -> Result<(Mat<f64>, Mat<f64>), TransportError> {
    let [source_mean, target_mean] = &pair.means;
    let (n_s, n_t) = (pair.source.count() as f64, pair.target.count() as f64);
    let middle: Vec<f64> =
        source_mean.iter().zip(target_mean).map(|(s, t)| (n_s * s + n_t * t) / (n_s + n_t)).collect();
    let about = |rows: Rows<'_>| brenier_linalg::center(rows, &middle);
    let (source, target) = (about(pair.source), about(pair.target));
    if pair.source.count() + pair.target.count() >= pair.dim() {
        return Ok((source, target));
    }
    let basis = joint_basis(source.as_ref(), target.as_ref())?;
    Ok(match &basis.vectors {
        Some(vectors) if basis.rank > 0 => {
            (product(source.as_ref(), vectors.as_ref()), product(target.as_ref(), vectors.as_ref()))
        }
        _ => (source, target),
    })
}

/// The rows at these places. `[k, d]`.
pub(crate) fn pick(rows: MatRef<'_, f64>, places: &[usize]) -> Mat<f64> {
    Mat::from_fn(places.len(), rows.ncols(), |i, j| rows[(places[i], j)])
}

fn distance(source: Rows<'_>, target: Rows<'_>, options: &FitOptions) -> Result<f64, TransportError> {
    let gaussian = |rows| Gaussian::from_rows(rows, options.covariance);
    w2(&gaussian(source)?, &gaussian(target)?)
}

/// The norm of the map between these rows; none where it is the same for any rows. `dim`: the width of the activations,
/// of which these rows may be coordinates.
fn norm_of(
    method: Method,
    source: Rows<'_>,
    target: Rows<'_>,
    options: &FitOptions,
    shrinkage: Option<[f64; 2]>,
    dim: usize,
) -> Option<Result<f64, TransportError>> {
    let [of_source, of_target] = shrinkage.unwrap_or_default();
    let norm = || -> Result<Option<f64>, TransportError> {
        let pair = Pair::new(source, target);
        let reg = options.reg_abs.unwrap_or(0.0);
        let gaussians = || {
            let one = |rows, intensity| match options.latent {
                None => Gaussian::from_rows(rows, options.covariance)
                    .map(|found| found.regularised_in(intensity, reg, dim)),
                Some(latent) => latent_gaussian(rows, options.covariance, latent, dim)
                    .map(|found| found.gaussian.regularised(0.0, reg)),
            };
            Ok::<_, TransportError>((one(pair.source, of_source)?, one(pair.target, of_target)?))
        };
        // What a map does outside the coordinates, it does outside the joint span in them too: resampled rows never
        // span them all unless they are all d.
        Ok(Some(match method {
            Method::Ot => {
                let (source, target) = gaussians()?;
                monge(&source, &target)?.optimality().max_eigenvalue
            }
            Method::Entropic => {
                let (source, target) = gaussians()?;
                entropic(&source, &target, options.entropic_sigma.sigma(&source, &target))?
                    .laws()
                    .max_eigenvalue
            }
            Method::Whitening => {
                let (source, target) = gaussians()?;
                whitening(Joint::of(&source, &target)?)?.norm
            }
            Method::PcaOt | Method::Gated => {
                let inside = pca_ot(&pair, None, options, false)?.optimality.max_eigenvalue;
                inside.max(norm_beside(options.components, dim))
            }
            Method::Leace => leace(&pair, options)?.norm,
            Method::ActLinear | Method::ActGaussian => match act(&pair, method, options).0 {
                Affine::Diagonal(map) => map.weight.iter().fold(0.0_f64, |norm, w| norm.max(w.abs())),
                _ => return Ok(None),
            },
            _ => return Ok(None),
        }))
    };
    norm().transpose()
}

fn interval(mut values: Vec<f64>, level: f64) -> [f64; 2] {
    values.sort_by(f64::total_cmp);
    let tail = 0.5 * (1.0 - level);
    [quantile(&values, tail), quantile(&values, 1.0 - tail)]
}
