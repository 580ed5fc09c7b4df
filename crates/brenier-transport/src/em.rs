use crate::mixture::{Density, log_sum_exp};
use crate::random::SplitMix;
use crate::{Gaussian, GaussianMixture, MixtureError, TransportError};
use brenier_linalg::{Rows, gram, mean};
use faer::{Mat, MatRef};
use serde::{Deserialize, Serialize};

/// How a [`GaussianMixture`] is fitted to rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MixtureOptions {
    /// Number of components, or how it is chosen; 2 by default.
    pub count: MixtureCount,
    /// How many rows the prior of a covariance weighs; 1 by default. See [`fit_mixture`].
    pub prior_rows: f64,
    /// Isotropic part of that prior, relative to the mean variance of a coordinate; 1e-6 by default.
    pub floor: f64,
    /// How often the fit starts anew; the best one stays. 5 by default.
    pub restarts: usize,
    /// Steps of a start at most; 500 by default.
    pub iterations: usize,
    /// A start ends when a step gains less than this, in nats a row; 1e-7 by default.
    pub tolerance: f64,
    /// Where the random starts begin; 0 by default.
    pub seed: u64,
    /// In a fit between two classes: the source is then the mixture of both, with the gate's prior, and what belongs to
    /// the target stays where it is. Off by default.
    pub gated: bool,
}

impl Default for MixtureOptions {
    fn default() -> Self {
        Self {
            count: MixtureCount::Fixed(2),
            prior_rows: 1.0,
            floor: 1e-6,
            restarts: 5,
            iterations: 500,
            tolerance: 1e-7,
            seed: 0,
            gated: false,
        }
    }
}

impl MixtureOptions {
    /// Checks the ranges of all options.
    ///
    /// # Errors
    /// [`TransportError::Option`].
    pub fn check(&self) -> Result<(), TransportError> {
        let refuse = |name, found, expected| Err(TransportError::Option { name, found, expected });
        let (most, folds) = match self.count {
            MixtureCount::Fixed(count) | MixtureCount::Bic(count) => (count, 2),
            MixtureCount::HeldOut { most, folds } => (most, folds),
        };
        let at_least_0 = |x: f64| x.is_finite() && x >= 0.0;
        match () {
            () if most == 0 => refuse("mixture components", 0.0, "1 or more"),
            () if folds < 2 => refuse("mixture folds", folds as f64, "2 or more"),
            () if !at_least_0(self.prior_rows) => {
                refuse("mixture prior rows", self.prior_rows, "a finite number of 0 or more")
            }
            () if !at_least_0(self.floor) => {
                refuse("mixture floor", self.floor, "a finite number of 0 or more")
            }
            () if self.restarts == 0 => refuse("mixture restarts", 0.0, "1 or more"),
            () if self.iterations == 0 => refuse("mixture iterations", 0.0, "1 or more"),
            () if !at_least_0(self.tolerance) => {
                refuse("mixture tolerance", self.tolerance, "a finite number of 0 or more")
            }
            () => Ok(()),
        }
    }
}

/// How many components a mixture has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MixtureCount {
    /// So many.
    Fixed(usize),
    /// From 1 to so many, the least of the Bayesian information criterion `-2 log L + p log n`.
    Bic(usize),
    /// From 1 to `most`, the highest log-likelihood of rows kept out: fold `f` keeps out the rows `f, f + folds, ..`.
    HeldOut {
        /// Components at most.
        most: usize,
        /// Number of folds.
        folds: usize,
    },
}

/// A fitted mixture, and how it came about.
#[derive(Debug, Clone)]
pub struct MixtureFit {
    /// The mixture, components by descending weight.
    pub mixture: GaussianMixture,
    /// What is known of the fit.
    pub report: MixtureReport,
}

/// How a mixture was fitted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MixtureReport {
    /// Weights of the components, descending.
    pub weights: Vec<f64>,
    /// Mean log-likelihood of a row, in nats, in the coordinates of the fit.
    pub log_likelihood: f64,
    /// Log-likelihood and prior together, a row, after each step of the best start: it never falls.
    pub trace: Vec<f64>,
    /// Why the best start ended.
    pub stop: Stop,
    /// Components that ended with less than one row, and were left out.
    pub dropped: usize,
    /// The scores that chose the number of components; empty where it was given.
    pub scores: Vec<CountScore>,
}

/// Why a fit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stop {
    /// A step gained less than the tolerance.
    Converged,
    /// The steps were used up.
    Iterations,
}

/// What a number of components scored; the lowest is chosen, on a tie the fewest components.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CountScore {
    /// Number of components.
    pub components: usize,
    /// BIC over `2 n`, or the mean negative log-likelihood of a row kept out, in nats a row.
    pub score: f64,
}

/// Fits a mixture to rows by expectation maximisation \[1\], from seeded k-means++ starts \[2\].
///
/// A covariance of a component with `N_c` rows, of scatter `W_c`, is the maximum a posteriori
///
/// ```text
/// S_c = (W_c + prior_rows S_0) / (N_c + prior_rows),   S_0 = S / C^(2/d) + floor (tr S / d) I
/// ```
///
/// with `S` the covariance of all rows (divided by n) and `C` components: no component can collapse onto a point, one
/// component alone is the empirical Gaussian but for the floor, and the posterior never falls from step to step \[3\].
/// Deterministic: the same rows in the same order, options and seed give the same bits.
///
/// # Shapes
/// `rows`: `[n, d]`, at least two a component.
///
/// # Errors
/// [`TransportError::Option`]; [`TransportError::Linalg`] for rows that are not finite;
/// [`MixtureError::TooFewRows`]; [`MixtureError::NoDensity`] for rows without a density and no floor.
///
/// # References
/// 1. A. P. Dempster, N. M. Laird & D. B. Rubin, *Maximum likelihood from incomplete data via the EM algorithm*, JRSS B
///    39, 1977.
/// 2. D. Arthur & S. Vassilvitskii, *k-means++: the advantages of careful seeding*, SODA 2007.
/// 3. C. Fraley & A. E. Raftery, *Bayesian regularization for normal mixture estimation and model-based clustering*,
///    J. Classification 24, 2007.
pub fn fit_mixture(rows: MatRef<'_, f64>, options: &MixtureOptions) -> Result<MixtureFit, TransportError> {
    options.check()?;
    let rows = Rows::new(rows)?;
    let (most, choose) = match options.count {
        MixtureCount::Fixed(count) => return fit_count(rows, count, options),
        MixtureCount::Bic(most) => (most, None),
        MixtureCount::HeldOut { most, folds } => (most, Some(folds)),
    };
    // What cannot be fitted is no candidate; one component has to be.
    let rows_of_fit = rows.count() - choose.map_or(0, |folds| rows.count().div_ceil(folds));
    let most = most.min(rows_of_fit / 2).max(1);
    let mut scores = Vec::new();
    let mut best: Option<(f64, usize)> = None;
    for components in 1..=most {
        let score = match choose {
            None => bic(rows, components, options)?,
            Some(folds) => held_out(rows, components, folds, options)?,
        };
        scores.push(CountScore { components, score });
        if best.is_none_or(|(least, _)| score < least) {
            best = Some((score, components));
        }
    }
    let mut fit = fit_count(rows, best.map_or(1, |(_, components)| components), options)?;
    fit.report.scores = scores;
    Ok(fit)
}

fn bic(rows: Rows<'_>, components: usize, options: &MixtureOptions) -> Result<f64, TransportError> {
    let (n, d) = (rows.count() as f64, rows.width());
    let fit = fit_count(rows, components, options)?;
    let c = fit.mixture.count();
    let free = (c - 1 + c * d + c * d * (d + 1) / 2) as f64;
    Ok(-fit.report.log_likelihood + 0.5 * free * n.ln() / n)
}

fn held_out(
    rows: Rows<'_>,
    components: usize,
    folds: usize,
    options: &MixtureOptions,
) -> Result<f64, TransportError> {
    let (n, view) = (rows.count(), rows.view());
    let mut loss = 0.0;
    for fold in 0..folds.min(n) {
        let (kept, out): (Vec<usize>, Vec<usize>) = (0..n).partition(|i| i % folds != fold);
        let of = |which: &[usize]| Mat::from_fn(which.len(), rows.width(), |i, j| view[(which[i], j)]);
        let fit = fit_count(Rows::new(of(&kept).as_ref())?, components, options)?;
        loss -= fit.mixture.log_density(of(&out).as_ref())?.iter().sum::<f64>();
    }
    Ok(loss / n as f64)
}

fn fit_count(rows: Rows<'_>, count: usize, options: &MixtureOptions) -> Result<MixtureFit, TransportError> {
    let (n, d) = (rows.count(), rows.width());
    let needed = 2 * count;
    if n < needed {
        return Err(MixtureError::TooFewRows { rows: n, components: count, needed }.into());
    }
    let center = mean(rows);
    let centred = Mat::from_fn(n, d, |i, j| rows.view()[(i, j)] - center[j]);
    let prior = Prior::new(centred.as_ref(), count, options);
    let mut best: Option<Run> = None;
    for restart in 0..options.restarts {
        let mut random = SplitMix::stream(options.seed, restart);
        let run = run(centred.as_ref(), count, &prior, options, &mut random)?;
        let value = |run: &Run| run.trace.last().copied().unwrap_or(f64::NEG_INFINITY);
        if best.as_ref().is_none_or(|best| value(&run) > value(best)) {
            best = Some(run);
        }
        // Every start of one component is the same.
        if count == 1 {
            break;
        }
    }
    let Some(run) = best else { return Err(MixtureError::Count { weights: 0, components: 0 }.into()) };
    finish(run, centred.as_ref(), &center)
}

/// The prior of a component's covariance.
struct Prior {
    rows: f64,
    scatter: Mat<f64>,
}

impl Prior {
    fn new(centred: MatRef<'_, f64>, count: usize, options: &MixtureOptions) -> Self {
        let (n, d) = centred.shape();
        let mut scatter = gram(centred.transpose());
        let shrink = (count as f64).powf(2.0 / d as f64);
        let trace: f64 = (0..d).map(|j| scatter[(j, j)]).sum();
        scatter = Mat::from_fn(d, d, |a, b| {
            let floor = if a == b { options.floor * trace / d as f64 } else { 0.0 };
            (scatter[(a, b)] / shrink + floor) / n as f64
        });
        Self { rows: options.prior_rows, scatter }
    }

    /// Its logarithm but for a constant.
    fn log(&self, density: &Density) -> f64 {
        if self.rows == 0.0 {
            return 0.0;
        }
        -0.5 * self.rows * (density.log_determinant() + density.trace_with(self.scatter.as_ref()))
    }
}

/// One start, to its end.
struct Run {
    parts: Vec<Part>,
    trace: Vec<f64>,
    stop: Stop,
}

/// A component on the way.
#[derive(Clone)]
struct Part {
    weight: f64,
    mean: Vec<f64>,
    covariance: Mat<f64>,
}

fn run(
    rows: MatRef<'_, f64>,
    count: usize,
    prior: &Prior,
    options: &MixtureOptions,
    random: &mut SplitMix,
) -> Result<Run, TransportError> {
    let mut shares = seeds(rows, count, prior, random);
    let mut parts: Vec<Part> = Vec::new();
    let mut trace: Vec<f64> = Vec::new();
    let mut stop = Stop::Iterations;
    for _ in 0..options.iterations {
        parts = maximise(rows, shares.as_ref(), prior, &parts);
        let value = expect(rows, &parts, prior, &mut shares)?;
        let gained = trace.last().map_or(f64::INFINITY, |last| value - last);
        trace.push(value);
        if gained <= options.tolerance {
            stop = Stop::Converged;
            break;
        }
    }
    Ok(Run { parts, trace, stop })
}

/// Hard shares from k-means++ centres: each drawn in proportion to the squared distance from the nearest so far, in
/// units of the prior's deviations.
fn seeds(rows: MatRef<'_, f64>, count: usize, prior: &Prior, random: &mut SplitMix) -> Mat<f64> {
    let (n, d) = rows.shape();
    let unit = |j: usize| prior.scatter[(j, j)].max(f64::MIN_POSITIVE);
    let apart =
        |a: usize, b: usize| (0..d).map(|j| (rows[(a, j)] - rows[(b, j)]).powi(2) / unit(j)).sum::<f64>();
    let mut nearest = vec![(f64::INFINITY, 0_usize); n];
    for c in 0..count {
        let total: f64 = nearest.iter().map(|(distance, _)| distance).sum();
        let center = if total.is_finite() && total > 0.0 {
            let mut left = random.uniform() * total;
            let stop = nearest.iter().position(|(distance, _)| {
                left -= distance;
                left < 0.0
            });
            stop.unwrap_or(n - 1)
        } else {
            random.below(n)
        };
        for (i, nearest) in nearest.iter_mut().enumerate() {
            let distance = apart(i, center);
            if distance < nearest.0 || c == 0 {
                *nearest = (distance, c);
            }
        }
    }
    Mat::from_fn(n, count, |i, c| if nearest[i].1 == c { 1.0 } else { 0.0 })
}

fn maximise(rows: MatRef<'_, f64>, shares: MatRef<'_, f64>, prior: &Prior, before: &[Part]) -> Vec<Part> {
    let (n, d) = rows.shape();
    let part = |c: usize| {
        let held: f64 = shares.col(c).iter().sum();
        let mean: Vec<f64> = match before.get(c) {
            // No rows say where it is: it stays.
            Some(before) if held <= 0.0 => before.mean.clone(),
            _ if held <= 0.0 => vec![0.0; d],
            _ => (0..d).map(|j| (0..n).map(|i| shares[(i, c)] * rows[(i, j)]).sum::<f64>() / held).collect(),
        };
        let weighed = Mat::from_fn(n, d, |i, j| shares[(i, c)].sqrt() * (rows[(i, j)] - mean[j]));
        let scatter = gram(weighed.as_ref().transpose());
        let total = held + prior.rows;
        let covariance = if total > 0.0 {
            Mat::from_fn(d, d, |a, b| (scatter[(a, b)] + prior.rows * prior.scatter[(a, b)]) / total)
        } else {
            prior.scatter.clone()
        };
        Part { weight: held / n as f64, mean, covariance }
    };
    (0..shares.ncols()).map(part).collect()
}

/// Shares of the parts in the rows, and log-likelihood and prior together, a row.
fn expect(
    rows: MatRef<'_, f64>,
    parts: &[Part],
    prior: &Prior,
    shares: &mut Mat<f64>,
) -> Result<f64, TransportError> {
    let n = rows.nrows();
    let densities = parts
        .iter()
        .enumerate()
        .map(|(index, part)| Density::new(&part.mean, part.covariance.as_ref(), index))
        .collect::<Result<Vec<_>, _>>()?;
    let mut joint = vec![0.0; parts.len()];
    let mut value = 0.0;
    for i in 0..n {
        for (c, density) in densities.iter().enumerate() {
            joint[c] = parts[c].weight.ln() + density.log(|j| rows[(i, j)]);
        }
        let all = log_sum_exp(&joint);
        value += all;
        for (c, joint) in joint.iter().enumerate() {
            shares[(i, c)] = (joint - all).exp();
        }
    }
    value += densities.iter().map(|density| prior.log(density)).sum::<f64>();
    Ok(value / n as f64)
}

/// Leaves out components of less than one row, puts the others in order, and goes back to the origin of the rows.
fn finish(run: Run, centred: MatRef<'_, f64>, center: &[f64]) -> Result<MixtureFit, TransportError> {
    let n = centred.nrows() as f64;
    let all = run.parts.len();
    let mut parts: Vec<Part> = run.parts.into_iter().filter(|part| part.weight * n >= 1.0 - 1e-9).collect();
    parts.sort_by(|a, b| b.weight.total_cmp(&a.weight));
    let sum: f64 = parts.iter().map(|part| part.weight).sum();
    let weights: Vec<f64> = parts.iter().map(|part| part.weight / sum).collect();
    let gaussians = |origin: &dyn Fn(usize) -> f64| {
        let one = |part: &Part| {
            let mean: Vec<f64> = part.mean.iter().enumerate().map(|(j, m)| m + origin(j)).collect();
            Gaussian::new(&mean, part.covariance.as_ref())
        };
        parts.iter().map(one).collect::<Result<Vec<_>, _>>()
    };
    let here = GaussianMixture::new(&weights, gaussians(&|_| 0.0)?)?;
    let report = MixtureReport {
        log_likelihood: here.log_density(centred)?.iter().sum::<f64>() / n,
        weights: weights.clone(),
        trace: run.trace,
        stop: run.stop,
        dropped: all - parts.len(),
        scores: Vec::new(),
    };
    Ok(MixtureFit { mixture: GaussianMixture::new(&weights, gaussians(&|j| center[j])?)?, report })
}
