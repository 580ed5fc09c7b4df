//! Expectation maximisation of a Gaussian mixture with a given number of components; see
//! [`fit_mixture`](crate::fit_mixture).

use crate::error::{MixtureError, TransportError};
use crate::gaussian::Gaussian;
use crate::gaussian::mixture::fit::{MixtureFit, MixtureOptions, MixtureReport, Stop};
use crate::gaussian::mixture::{Density, GaussianMixture, log_sum_exp};
use crate::random::SplitMix;
use brenier_linalg::{Rows, center, gram, mean};
use faer::{Mat, MatRef};

/// What rounding may take from a count of rows.
const SLACK: f64 = 1e-9;

/// Fits so many components to rows that all weigh something.
pub(crate) fn fit_count(
    rows: Rows<'_>,
    count: usize,
    options: &MixtureOptions,
) -> Result<MixtureFit, TransportError> {
    let (n, components, needed) = (rows.count(), count, 2 * count);
    if n < needed {
        return Err(MixtureError::TooFewRows { rows: n, components, needed }.into());
    }
    if count > most_components(rows) {
        let effective = rows.effective_count();
        return Err(MixtureError::TooLittleWeight { rows: n, effective, components, needed }.into());
    }
    let origin = mean(rows);
    let data = Data { rows: center(rows, &origin), counts: row_counts(rows), total: rows.effective_count() };
    let prior = Prior::new(&data, count, options);
    let mut best: Option<Run> = None;
    for restart in 0..options.restarts {
        let mut random = SplitMix::stream(options.seed, restart);
        let run = run(&data, count, &prior, options, &mut random)?;
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
    finish(run, &data, &origin)
}

/// What is fitted.
struct Data {
    /// About their mean. `[n, d]`.
    rows: Mat<f64>,
    /// How many of the effective rows each stands for,
    counts: Vec<f64>,
    /// and how many they are: the sum of the counts.
    total: f64,
}

/// The prior of a component's covariance.
struct Prior {
    rows: f64,
    scatter: Mat<f64>,
}

impl Prior {
    fn new(data: &Data, count: usize, options: &MixtureOptions) -> Self {
        let d = data.rows.ncols();
        let mut scatter = scatter(data.rows.as_ref(), &vec![0.0; d], |i| data.counts[i]);
        let shrink = (count as f64).powf(2.0 / d as f64);
        let trace: f64 = (0..d).map(|j| scatter[(j, j)]).sum();
        scatter = Mat::from_fn(d, d, |a, b| {
            let floor = if a == b { options.floor * trace / d as f64 } else { 0.0 };
            (scatter[(a, b)] / shrink + floor) / data.total
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
    data: &Data,
    count: usize,
    prior: &Prior,
    options: &MixtureOptions,
    random: &mut SplitMix,
) -> Result<Run, TransportError> {
    let mut held = seeds(data, count, prior, random);
    let mut parts: Vec<Part> = Vec::new();
    let mut trace: Vec<f64> = Vec::new();
    let mut stop = Stop::Iterations;
    for _ in 0..options.iterations {
        parts = maximise(data, held.as_ref(), prior, &parts);
        let value = expect(data, &parts, prior, &mut held)?;
        let gained = trace.last().map_or(f64::INFINITY, |last| value - last);
        trace.push(value);
        if gained <= options.tolerance {
            stop = Stop::Converged;
            break;
        }
    }
    Ok(Run { parts, trace, stop })
}

/// Which part holds each row, whole, by k-means++ centres: each drawn in proportion to the row's count times its squared
/// distance from the nearest so far, in units of the prior's deviations. `[n, C]`, as [`expect`] gives it.
fn seeds(data: &Data, count: usize, prior: &Prior, random: &mut SplitMix) -> Mat<f64> {
    let rows = data.rows.as_ref();
    let (n, d) = rows.shape();
    let unit = |j: usize| prior.scatter[(j, j)].max(f64::MIN_POSITIVE);
    let apart =
        |a: usize, b: usize| (0..d).map(|j| (rows[(a, j)] - rows[(b, j)]).powi(2) / unit(j)).sum::<f64>();
    let mut nearest = vec![(f64::INFINITY, 0_usize); n];
    for c in 0..count {
        let masses: Vec<f64> =
            nearest.iter().zip(&data.counts).map(|((distance, _), count)| distance * count).collect();
        let total: f64 = masses.iter().sum();
        // The first centre has none to be far from.
        let far = total.is_finite() && total > 0.0;
        let center = draw(if far { &masses } else { &data.counts }, random);
        for (i, nearest) in nearest.iter_mut().enumerate() {
            let distance = apart(i, center);
            if distance < nearest.0 || c == 0 {
                *nearest = (distance, c);
            }
        }
    }
    Mat::from_fn(n, count, |i, c| if nearest[i].1 == c { data.counts[i] } else { 0.0 })
}

/// One of the places, each as likely as its mass says.
fn draw(masses: &[f64], random: &mut SplitMix) -> usize {
    let mut left = random.uniform() * masses.iter().sum::<f64>();
    let stop = masses.iter().position(|mass| {
        left -= mass;
        left < 0.0
    });
    stop.unwrap_or(masses.len() - 1)
}

fn maximise(data: &Data, held: MatRef<'_, f64>, prior: &Prior, before: &[Part]) -> Vec<Part> {
    let rows = data.rows.as_ref();
    let (n, d) = rows.shape();
    let part = |c: usize| {
        let size: f64 = held.col(c).iter().sum();
        let mean: Vec<f64> = match before.get(c) {
            // No rows say where it is: it stays.
            Some(before) if size <= 0.0 => before.mean.clone(),
            _ if size <= 0.0 => vec![0.0; d],
            _ => (0..d).map(|j| (0..n).map(|i| held[(i, c)] * rows[(i, j)]).sum::<f64>() / size).collect(),
        };
        let scatter = scatter(rows, &mean, |i| held[(i, c)]);
        let total = size + prior.rows;
        let covariance = if total > 0.0 {
            Mat::from_fn(d, d, |a, b| (scatter[(a, b)] + prior.rows * prior.scatter[(a, b)]) / total)
        } else {
            prior.scatter.clone()
        };
        Part { weight: size / data.total, mean, covariance }
    };
    (0..held.ncols()).map(part).collect()
}

/// `sum_i c_i (x_i - m)(x_i - m)^T` for rows that count so much each.
fn scatter(rows: MatRef<'_, f64>, mean: &[f64], count: impl Fn(usize) -> f64) -> Mat<f64> {
    let (n, d) = rows.shape();
    let weighed = Mat::from_fn(n, d, |i, j| count(i).sqrt() * (rows[(i, j)] - mean[j]));
    gram(weighed.as_ref().transpose())
}

/// How much of each row's count each part holds, `[n, C]`, and log-likelihood and prior together, a row.
fn expect(data: &Data, parts: &[Part], prior: &Prior, held: &mut Mat<f64>) -> Result<f64, TransportError> {
    let densities = parts
        .iter()
        .enumerate()
        .map(|(index, part)| Density::new(&part.mean, part.covariance.as_ref(), index))
        .collect::<Result<Vec<_>, _>>()?;
    let mut joint = vec![0.0; parts.len()];
    let mut value = 0.0;
    for (i, count) in data.counts.iter().enumerate() {
        for (c, density) in densities.iter().enumerate() {
            joint[c] = parts[c].weight.ln() + density.log(|j| data.rows[(i, j)]);
        }
        let all = log_sum_exp(&joint);
        value += count * all;
        for (c, joint) in joint.iter().enumerate() {
            held[(i, c)] = count * (joint - all).exp();
        }
    }
    value += densities.iter().map(|density| prior.log(density)).sum::<f64>();
    Ok(value / data.total)
}

/// Leaves out components of less than one effective row, puts the others in order, and goes back to the origin of the rows.
fn finish(run: Run, data: &Data, origin: &[f64]) -> Result<MixtureFit, TransportError> {
    let all = run.parts.len();
    let mut parts: Vec<Part> =
        run.parts.into_iter().filter(|part| part.weight * data.total >= 1.0 - SLACK).collect();
    parts.sort_by(|a, b| b.weight.total_cmp(&a.weight));
    let sum: f64 = parts.iter().map(|part| part.weight).sum();
    let weights: Vec<f64> = parts.iter().map(|part| part.weight / sum).collect();
    let gaussians = |about: &dyn Fn(usize) -> f64| {
        let one = |part: &Part| {
            let mean: Vec<f64> = part.mean.iter().enumerate().map(|(j, m)| m + about(j)).collect();
            Gaussian::new(&mean, part.covariance.as_ref())
        };
        parts.iter().map(one).collect::<Result<Vec<_>, _>>()
    };
    let here = GaussianMixture::new(&weights, gaussians(&|_| 0.0)?)?;
    let densities = here.log_density(data.rows.as_ref())?;
    let report = MixtureReport {
        log_likelihood: densities.iter().zip(&data.counts).map(|(log, count)| count * log).sum::<f64>()
            / data.total,
        weights: weights.clone(),
        trace: run.trace,
        stop: run.stop,
        dropped: all - parts.len(),
        scores: Vec::new(),
    };
    Ok(MixtureFit { mixture: GaussianMixture::new(&weights, gaussians(&|j| origin[j])?)?, report })
}

/// How many components these rows can carry: one for two rows, more if each has two effective ones.
pub(crate) fn most_components(rows: Rows<'_>) -> usize {
    let by_weight = ((rows.effective_count() + SLACK) / 2.0) as usize;
    by_weight.max(1).min(rows.count() / 2)
}

/// How many of the effective rows each row stands for; 1 without weights. `[n]`.
pub(crate) fn row_counts(rows: Rows<'_>) -> Vec<f64> {
    let effective = rows.effective_count();
    (0..rows.count()).map(|i| rows.weights().map_or(1.0, |weights| effective * weights.share(i))).collect()
}
