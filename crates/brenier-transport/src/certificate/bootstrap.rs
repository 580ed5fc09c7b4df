use crate::error::TransportError;
use crate::methods::estimate;
use crate::options::{FitOptions, Method};
use crate::random::SplitMix;
use crate::reduce::Reduced;
use crate::samples::class::Class;
use crate::samples::column::quantile;
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
/// Resamples are taken of the reduced coordinates, which changes no distance and no map that does not know the axes; a
/// resample then costs no `O(d)`, but for AcT, which knows them.
pub(crate) fn bootstrap(
    method: Method,
    classes: &[Class<'_>; 2],
    reduced: &Reduced<'_>,
    options: &FitOptions,
    shrinkage: Option<[f64; 2]>,
    boot: &BootstrapOptions,
) -> Result<Bootstrap, TransportError> {
    let has_norm =
        !matches!(method, Method::Mean | Method::Rfa | Method::Ace | Method::ActMean | Method::Mixture);
    let knows_axes = matches!(method, Method::ActLinear | Method::ActGaussian);
    let found: Vec<(f64, Option<f64>)> = (0..boot.resamples)
        .into_par_iter()
        .map(|index| {
            let mut random = SplitMix::stream(boot.seed, index);
            let draw = |random: &mut SplitMix, n: usize| (0..n).map(|_| random.below(n)).collect::<Vec<_>>();
            let places = [draw(&mut random, classes[0].count()), draw(&mut random, classes[1].count())];
            let pick = |classes: &[Class<'_>; 2]| {
                Ok::<_, TransportError>([classes[0].pick(&places[0])?, classes[1].pick(&places[1])?])
            };
            let resample = Reduced {
                noise: reduced.noise,
                ..Reduced::of_coordinates(pick(&reduced.classes)?, reduced.rank, reduced.dim)
            };
            let distance = resample.w2(options.covariance)?;
            if !has_norm {
                return Ok((distance, None));
            }
            let rows = if knows_axes { pick(classes)? } else { pick(&resample.classes)? };
            let norm = estimate(method, &rows, &resample, options, shrinkage).ok();
            Ok((distance, norm.map(|estimate| estimate.norm)))
        })
        .collect::<Result<_, TransportError>>()?;
    let distances = found.iter().map(|&(distance, _)| distance).collect();
    let norms: Vec<f64> = found.iter().filter_map(|&(_, norm)| norm).collect();
    Ok(Bootstrap {
        resamples: boot.resamples,
        level: boot.level,
        w2_before: interval(distances, boot.level),
        refused: if has_norm { boot.resamples - norms.len() } else { 0 },
        norm: (!norms.is_empty()).then(|| interval(norms, boot.level)),
    })
}

fn interval(mut values: Vec<f64>, level: f64) -> [f64; 2] {
    values.sort_by(f64::total_cmp);
    let tail = 0.5 * (1.0 - level);
    [quantile(&values, tail), quantile(&values, 1.0 - tail)]
}
