//! Gaussian mixtures of weighted rows: against an EM of its own in NumPy (tests/golden/mixture-weighted/make.py) and by
//! hand; the conditions of a maximum; whole weights are repeated rows, no weight is no row, equal weights are no weights,
//! only ratios matter.
#![allow(clippy::unwrap_used)]

mod common;

use brenier_linalg::LinalgError;
use brenier_transport::{
    Covariance, Fit, FitOptions, Gaussian, Method, MixtureCount, MixtureError, MixtureFit, MixtureOptions,
    Pooling, Samples, Shift, TransportError, fit, fit_mixture,
};
use common::{Golden, map_rows, relative, rows};
use faer::{Mat, MatRef};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// The same arithmetic in another order.
const CLOSE: f64 = 1e-12;
/// The same after all steps of EM.
const DIGITS: f64 = 1e-9;
/// Where nothing is gained to rounding, parameters are known to its root.
const STILL: f64 = 1e-6;

/// No start ends before nothing is gained.
fn patient(count: usize) -> MixtureOptions {
    MixtureOptions {
        count: MixtureCount::Fixed(count),
        restarts: 20,
        iterations: 5000,
        tolerance: 0.0,
        ..MixtureOptions::default()
    }
}

fn weights(n: usize, seed: u64) -> Vec<f64> {
    let mut rng = StdRng::seed_from_u64(seed);
    (0..n).map(|_| rng.random_range(0.2..3.0)).collect()
}

fn effective(weights: &[f64]) -> f64 {
    weights.iter().sum::<f64>().powi(2) / weights.iter().map(|w| w * w).sum::<f64>()
}

fn shares(weights: &[f64]) -> Vec<f64> {
    weights.iter().map(|w| w / weights.iter().sum::<f64>()).collect()
}

/// Weighted mean and covariance, divided by the sum of the weights.
fn moments(x: MatRef<'_, f64>, weights: &[f64]) -> (Vec<f64>, Mat<f64>) {
    let (d, shares) = (x.ncols(), shares(weights));
    let sum = |of: &dyn Fn(usize) -> f64| shares.iter().enumerate().map(|(i, w)| w * of(i)).sum::<f64>();
    let mean: Vec<f64> = (0..d).map(|j| sum(&|i| x[(i, j)])).collect();
    let s = Mat::from_fn(d, d, |a, b| sum(&|i| (x[(i, a)] - mean[a]) * (x[(i, b)] - mean[b])));
    (mean, s)
}

fn near(a: f64, b: f64, within: f64, what: &str) {
    assert!((a - b).abs() <= within * b.abs().max(1.0), "{what}: {a} is not {b}");
}

fn near_mat(a: MatRef<'_, f64>, b: MatRef<'_, f64>, within: f64, what: &str) {
    let off = relative(a, b);
    assert!(off <= within, "{what}: off by {off:e}");
}

fn row(values: &[f64]) -> Mat<f64> {
    Mat::from_fn(1, values.len(), |_, j| values[j])
}

fn covariance(of: &Gaussian) -> Mat<f64> {
    of.factor().transpose() * of.factor()
}

/// `log N(x_i; m, S)` of one Gaussian, by `S^{-1}` and `det S` of dimension 2 at most.
fn log_normal(x: MatRef<'_, f64>, i: usize, mean: &[f64], s: &Mat<f64>) -> f64 {
    let (a, b, c) = (s[(0, 0)], s[(0, 1)], s[(1, 1)]);
    let (determinant, y) = (a * c - b * b, [x[(i, 0)] - mean[0], x[(i, 1)] - mean[1]]);
    let square = (c * y[0] * y[0] - 2.0 * b * y[0] * y[1] + a * y[1] * y[1]) / determinant;
    -0.5 * (2.0 * std::f64::consts::TAU.ln() + determinant.ln() + square)
}

fn same_mixture(a: &MixtureFit, b: &MixtureFit, within: f64, what: &str) {
    assert_eq!(a.mixture.count(), b.mixture.count(), "{what}");
    assert_eq!((a.report.dropped, a.report.stop), (b.report.dropped, b.report.stop), "{what}");
    near_mat(row(a.mixture.weights()).as_ref(), row(b.mixture.weights()).as_ref(), within, what);
    near_mat(row(&a.report.trace).as_ref(), row(&b.report.trace).as_ref(), within, what);
    near(a.report.log_likelihood, b.report.log_likelihood, within, what);
    for (a, b) in a.mixture.components().iter().zip(b.mixture.components()) {
        near_mat(row(a.mean()).as_ref(), row(b.mean()).as_ref(), within, what);
        near_mat(covariance(a).as_ref(), covariance(b).as_ref(), within, what);
    }
    assert_eq!(a.report.scores.len(), b.report.scores.len());
    for (a, b) in a.report.scores.iter().zip(&b.report.scores) {
        near(a.score, b.score, within, what);
    }
}

#[test]
fn an_em_of_its_own_ends_at_the_same_mixtures_and_scores() {
    for name in ["plane", "space"] {
        let golden = Golden::read(&format!("../mixture-weighted/{name}.safetensors"));
        let (x, d) = (golden.matrix("rows"), golden.matrix("rows").ncols());
        let of = |key: &str| golden.matrix(key).row(0).iter().copied().collect::<Vec<f64>>();
        let weights = of("weights");
        let samples = Samples::weighted(x.as_ref(), &weights);
        let with = |count| MixtureOptions {
            count,
            prior_rows: golden.number("prior-rows"),
            floor: golden.number("floor"),
            ..patient(1)
        };
        for count in 1..=3 {
            let what = format!("{name} of {count}");
            let found = fit_mixture(samples, &with(MixtureCount::Fixed(count))).unwrap();
            near(*found.report.trace.last().unwrap(), of("objective")[count - 1], CLOSE, &what);
            near(found.report.log_likelihood, of("log-likelihood")[count - 1], DIGITS, &what);
            let weights = row(found.mixture.weights());
            near_mat(weights.as_ref(), golden.matrix(&format!("{count}.weights")).as_ref(), STILL, &what);
            let (means, covariances) =
                (golden.matrix(&format!("{count}.means")), golden.matrix(&format!("{count}.covariances")));
            for (c, one) in found.mixture.components().iter().enumerate() {
                near_mat(row(one.mean()).as_ref(), means.as_ref().subrows(c, 1), STILL, &what);
                near_mat(covariance(one).as_ref(), covariances.as_ref().subrows(c * d, d), STILL, &what);
            }
        }
        let folds = golden.number("folds") as usize;
        for (key, count) in
            [("bic", MixtureCount::Bic(3)), ("held-out", MixtureCount::HeldOut { most: 3, folds })]
        {
            let found = fit_mixture(samples, &with(count)).unwrap();
            let scores: Vec<f64> = found.report.scores.iter().map(|one| one.score).collect();
            // Rows kept out are at no maximum: what is not known of the parameters is not known of these either.
            near_mat(row(&scores).as_ref(), golden.matrix(key).as_ref(), STILL, &format!("{name} {key}"));
            assert_eq!(found.mixture.count(), 2, "{name} {key}: {scores:?}");
        }
    }
}

#[test]
fn one_component_and_its_scores_are_known_by_hand() {
    for (seed, prior_rows, floor) in [(1, 1.0, 0.0), (2, 3.5, 0.2), (3, 0.0, 0.0)] {
        let (n, x, w) = (15, rows(15, 2, seed), weights(15, seed));
        // Maximum a posteriori for any rows, as documented.
        let by_hand = |x: MatRef<'_, f64>, w: &[f64]| {
            let ((mean, s), n_eff) = (moments(x, w), effective(w));
            let trace = s[(0, 0)] + s[(1, 1)];
            let s = Mat::from_fn(2, 2, |a, b| {
                let prior = s[(a, b)] + if a == b { floor * trace / 2.0 } else { 0.0 };
                (n_eff * s[(a, b)] + prior_rows * prior) / (n_eff + prior_rows)
            });
            (mean, s)
        };
        let (mean, s) = by_hand(x.as_ref(), &w);
        let log = |i: usize| log_normal(x.as_ref(), i, &mean, &s);
        let likelihood: f64 = shares(&w).iter().enumerate().map(|(i, w)| w * log(i)).sum();
        let found = |count| {
            let options = MixtureOptions { count, prior_rows, floor, ..MixtureOptions::default() };
            fit_mixture(Samples::weighted(x.as_ref(), &w), &options).unwrap()
        };
        let fixed = found(MixtureCount::Fixed(1));
        let one = &fixed.mixture.components()[0];
        near_mat(row(one.mean()).as_ref(), row(&mean).as_ref(), CLOSE, "mean");
        near_mat(covariance(one).as_ref(), s.as_ref(), CLOSE, "covariance");
        near(fixed.report.log_likelihood, likelihood, CLOSE, "likelihood");

        let n_eff = effective(&w);
        let bic = 0.5 * 5.0 * n_eff.ln() / n_eff - likelihood;
        near(found(MixtureCount::Bic(1)).report.scores[0].score, bic, CLOSE, "BIC");

        let mut loss = 0.0;
        for fold in 0..4 {
            let kept: Vec<usize> = (0..n).filter(|i| i % 4 != fold).collect();
            let of_kept = Mat::from_fn(kept.len(), 2, |i, j| x[(kept[i], j)]);
            let (mean, s) = by_hand(of_kept.as_ref(), &kept.iter().map(|&i| w[i]).collect::<Vec<f64>>());
            let out = (0..n).filter(|i| i % 4 == fold);
            loss -= out.map(|i| shares(&w)[i] * log_normal(x.as_ref(), i, &mean, &s)).sum::<f64>();
        }
        let score = found(MixtureCount::HeldOut { most: 1, folds: 4 }).report.scores[0].score;
        near(score, loss, CLOSE, "held out");
    }
}

#[test]
fn the_posterior_never_falls_and_its_gradient_vanishes_at_the_end() {
    let mut seen = 0;
    for seed in 0..6 {
        let (x, w) = (rows(40, 2, 50 + seed), weights(40, seed));
        let (shares, n_eff) = (shares(&w), effective(&w));
        let s = moments(x.as_ref(), &w).1;
        for count in 1..4 {
            let options = MixtureOptions { prior_rows: 1.5, restarts: 3, seed, ..patient(count) };
            let found = fit_mixture(Samples::weighted(x.as_ref(), &w), &options).unwrap();
            for step in found.report.trace.windows(2) {
                assert!(step[1] >= step[0] - 1e-13, "{step:?}");
            }
            let logs = found.mixture.log_density(x.as_ref()).unwrap();
            let likelihood: f64 = shares.iter().zip(&logs).map(|(w, log)| w * log).sum();
            near(found.report.log_likelihood, likelihood, CLOSE, "likelihood");
            if found.report.dropped > 0 {
                continue;
            }
            // In shares: derivatives by weight, mean and covariance are 0 where the parameters are these averages.
            let a = 1.5 / n_eff;
            let trace = s[(0, 0)] + s[(1, 1)];
            for (c, one) in found.mixture.components().iter().enumerate() {
                let (weight, own) = (found.mixture.weights()[c], covariance(one));
                let held: Vec<f64> = (0..40)
                    .map(|i| {
                        let log = log_normal(x.as_ref(), i, one.mean(), &own);
                        shares[i] * weight * (log - logs[i]).exp()
                    })
                    .collect();
                let (mean, scatter) = moments(x.as_ref(), &held);
                near(held.iter().sum(), weight, STILL, "weight");
                near_mat(row(&mean).as_ref(), row(one.mean()).as_ref(), STILL, "mean");
                let expected = Mat::from_fn(2, 2, |i, j| {
                    let floor = if i == j { 1e-6 * trace / 2.0 } else { 0.0 };
                    (weight * scatter[(i, j)] + a * (s[(i, j)] / count as f64 + floor)) / (weight + a)
                });
                near_mat(own.as_ref(), expected.as_ref(), STILL, "covariance");
                seen += 1;
            }
        }
    }
    assert!(seen > 20, "else the test says little");
}

#[test]
fn whole_weights_are_repeated_rows_for_a_prior_of_the_same_share() {
    let counts: Vec<usize> = (0..30).map(|i| 1 + (i * i) % 4 * (i % 3)).collect();
    let w: Vec<f64> = counts.iter().map(|&count| count as f64).collect();
    let places: Vec<usize> = (0..30).flat_map(|i| std::iter::repeat_n(i, counts[i])).collect();
    let scale = places.len() as f64 / effective(&w);
    assert!(scale > 1.5, "else the test says little");
    for seed in 0..6 {
        let x = rows(30, 3, 70 + seed);
        let many = Mat::from_fn(places.len(), 3, |i, j| x[(places[i], j)]);
        for count in 1..4 {
            // One start each, so that a start of its own shows.
            let options = MixtureOptions {
                count: MixtureCount::Fixed(count),
                restarts: 1,
                seed,
                prior_rows: 1.5,
                ..MixtureOptions::default()
            };
            let found = fit_mixture(Samples::weighted(x.as_ref(), &w), &options).unwrap();
            let repeated = MixtureOptions { prior_rows: 1.5 * scale, ..options };
            let expected = fit_mixture(many.as_ref(), &repeated).unwrap();
            same_mixture(&found, &expected, DIGITS, &format!("{count} of {seed}"));
            // A prior of as many rows is another one.
            let other = fit_mixture(many.as_ref(), &options).unwrap();
            assert!((other.report.trace[0] - found.report.trace[0]).abs() > 1e-4);
        }
    }
}

#[test]
fn maps_of_whole_weights_are_those_of_repeated_rows() {
    // The same weights in another order, so that one prior serves both classes.
    let (c_s, c_t) = ([3, 1, 2, 1, 1, 4, 1, 2, 1, 2, 1, 1], [1, 1, 2, 1, 4, 1, 3, 1, 2, 1, 2, 1]);
    let whole = |counts: &[usize]| counts.iter().map(|&count| count as f64).collect::<Vec<f64>>();
    let (w_s, w_t) = (whole(&c_s), whole(&c_t));
    let scale = 20.0 / effective(&w_s);
    let many = |rows: &Mat<f64>, counts: &[usize]| {
        let places: Vec<usize> = (0..12).flat_map(|i| std::iter::repeat_n(i, counts[i])).collect();
        Mat::from_fn(places.len(), rows.ncols(), |i, j| rows[(places[i], j)])
    };
    for d in [3, 30] {
        let (source, target, probe) = (rows(12, d, 1), rows(12, d, 2), rows(5, d, 3));
        let (many_s, many_t) = (many(&source, &c_s), many(&target, &c_t));
        for (gated, shift, pooling) in [
            (false, Shift::Subspace, Pooling::Rows),
            (true, Shift::Full, Pooling::Rows),
            (true, Shift::Subspace, Pooling::Classes),
        ] {
            let with = |prior_rows: f64| FitOptions {
                covariance: Covariance::Population,
                mixture: MixtureOptions { gated, prior_rows, ..MixtureOptions::default() },
                shift,
                pooling,
                ..FitOptions::default()
            };
            let (s, t) = (Samples::weighted(source.as_ref(), &w_s), Samples::weighted(target.as_ref(), &w_t));
            let found = fit(Method::Mixture, s, t, &with(2.0), None).unwrap();
            let expected =
                fit(Method::Mixture, many_s.as_ref(), many_t.as_ref(), &with(2.0 * scale), None).unwrap();
            let what = format!("gated {gated}, {d}");
            let mapped = |fit: &Fit| map_rows(&fit.map, probe.as_ref());
            near_mat(mapped(&found).as_ref(), mapped(&expected).as_ref(), DIGITS, &what);
            let (a, b) = (&found.certificate, &expected.certificate);
            near(a.effective_rows.unwrap()[1], 20.0 / scale, CLOSE, &what);
            near(a.norm, b.norm, DIGITS, &what);
            near(a.train.w2_after, b.train.w2_after, DIGITS, &what);
            near(a.train.target_step, b.train.target_step, DIGITS, &what);
            let (a, b) = (a.mixture.as_ref().unwrap(), b.mixture.as_ref().unwrap());
            near(a.mw2, b.mw2, DIGITS, &what);
            for (a, b) in [(&a.source, &b.source), (&a.target, &b.target)] {
                near(a.log_likelihood, b.log_likelihood, DIGITS, &what);
                near_mat(row(&a.weights).as_ref(), row(&b.weights).as_ref(), DIGITS, &what);
            }
            for (a, b) in a.plan.iter().zip(&b.plan) {
                near_mat(row(a).as_ref(), row(b).as_ref(), DIGITS, &what);
            }
        }
    }
}

/// Every way to have a number of components.
fn every_count() -> [MixtureCount; 4] {
    [
        MixtureCount::Fixed(1),
        MixtureCount::Fixed(3),
        MixtureCount::Bic(3),
        MixtureCount::HeldOut { most: 3, folds: 4 },
    ]
}

#[test]
fn equal_weights_are_no_weights_and_a_row_of_no_weight_is_no_row() {
    let x = rows(40, 3, 5);
    let mut w = weights(40, 6);
    (w[0], w[7], w[39]) = (0.0, 0.0, 0.0);
    let places: Vec<usize> = (0..40).filter(|&i| w[i] > 0.0).collect();
    let few = Mat::from_fn(places.len(), 3, |i, j| x[(places[i], j)]);
    let kept: Vec<f64> = places.iter().map(|&i| w[i]).collect();
    let flat: Vec<f64> = w.iter().map(|w| if *w > 0.0 { 0.3 } else { 0.0 }).collect();
    for count in every_count() {
        let options = MixtureOptions { count, ..MixtureOptions::default() };
        let of = |samples: Samples<'_>| {
            let found = fit_mixture(samples, &options).unwrap();
            (found.report, found.mixture.log_density(x.as_ref()).unwrap())
        };
        let plain = of(x.as_ref().into());
        assert_eq!(of(Samples::weighted(x.as_ref(), &[0.3; 40])), plain);
        assert_eq!(
            of(Samples::weighted(x.as_ref(), &w)),
            of(Samples::weighted(few.as_ref(), &kept)),
            "{count:?}"
        );
        assert_eq!(of(Samples::weighted(x.as_ref(), &flat)), of(few.as_ref().into()), "{count:?}");
        // Nearly equal weights go the weighted way, and find what the plain way finds.
        let almost: Vec<f64> = (0..40).map(|i| 1.0 + 1e-15 * (i % 3) as f64).collect();
        let found = of(Samples::weighted(x.as_ref(), &almost)).0;
        near(found.log_likelihood, plain.0.log_likelihood, DIGITS, "nearly equal");
    }
}

#[test]
fn only_ratios_of_weights_matter() {
    let (x, w) = (rows(40, 3, 7), weights(40, 8));
    for count in every_count() {
        let options = MixtureOptions { count, ..MixtureOptions::default() };
        let by = |by: f64| {
            let scaled: Vec<f64> = w.iter().map(|w| by * w).collect();
            fit_mixture(Samples::weighted(x.as_ref(), &scaled), &options).unwrap()
        };
        for factor in [1e-200, 0.37, 1e200] {
            same_mixture(&by(factor), &by(1.0), 10.0 * CLOSE, &format!("{count:?} by {factor}"));
        }
    }
}

#[test]
fn a_component_of_less_than_one_effective_row_is_left_out() {
    // Two far rows beside eighteen, of which half count four times.
    let near = rows(20, 2, 10);
    let x = Mat::from_fn(20, 2, |i, j| near[(i, j)] + if i < 2 { 300.0 } else { 0.0 });
    for (far, dropped) in [(1.5, 1), (1.7, 0)] {
        let w: Vec<f64> = (0..20).map(|i| if i < 2 { far } else { [1.0, 4.0][i % 2] }).collect();
        let share = shares(&w)[0] + shares(&w)[1];
        // More than one of twenty rows in either case.
        assert!(share * 20.0 > 1.0 && (share * effective(&w) < 1.0) == (dropped == 1));
        let found = fit_mixture(Samples::weighted(x.as_ref(), &w), &MixtureOptions::default()).unwrap();
        assert_eq!((found.report.dropped, found.mixture.count()), (dropped, 2 - dropped));
    }
}

#[test]
fn what_weighs_too_little_is_refused() {
    let x = rows(12, 2, 9);
    let with = |count| MixtureOptions { count, ..MixtureOptions::default() };
    let found = |w: &[f64], count| fit_mixture(Samples::weighted(x.as_ref(), w), &with(count));
    let refused = |w: &[f64], count| found(w, MixtureCount::Fixed(count)).unwrap_err();

    // Two rows hold nearly all weight: one component can be had, two cannot.
    let mut heavy = [1e-3; 12];
    (heavy[2], heavy[5]) = (1.0, 2.0);
    let error = refused(&heavy, 2);
    assert!(matches!(error, TransportError::Mixture(MixtureError::TooLittleWeight { rows: 12, .. })));
    let text = error.to_string();
    assert!(text.contains("the weights of 12 rows leave 1.812 effective rows for 2 components; at least 4"));
    for count in [MixtureCount::Fixed(1), MixtureCount::Bic(4), MixtureCount::HeldOut { most: 4, folds: 3 }] {
        assert_eq!(found(&heavy, count).unwrap().mixture.count(), 1);
    }
    let options = FitOptions { components: 1, ..FitOptions::default() };
    let source = Samples::weighted(x.as_ref(), &heavy);
    let error = fit(Method::Mixture, source, x.as_ref(), &options, None).unwrap_err();
    assert!(matches!(error, TransportError::Mixture(MixtureError::TooLittleWeight { .. })), "{error}");

    let three: Vec<f64> = (0..12).map(|i| if i < 3 { 1.0 + i as f64 } else { 0.0 }).collect();
    let error = refused(&three, 2).to_string();
    assert!(error.contains("3 rows for 2 components; at least 4 are needed"), "{error}");
    let linalg = |error| match error {
        TransportError::Linalg(error) => error,
        other => panic!("{other}"),
    };
    assert_eq!(linalg(refused(&[1.0; 5], 1)), LinalgError::WeightCount { rows: 12, weights: 5 });
    assert_eq!(linalg(refused(&[0.0; 12], 1)), LinalgError::NoWeight { rows: 12 });
    heavy[3] = -1.0;
    assert_eq!(linalg(refused(&heavy, 1)), LinalgError::Weight { row: 3, weight: -1.0 });
}
