//! Fits from moments: those from the rows where nothing was lost, and within what the certificate allows elsewhere.
#![allow(clippy::unwrap_used)]

mod common;

use brenier_linalg::{LinalgError, Rows, squared_norm, symmetric_eigenvalues};
use brenier_transport::{
    BootstrapOptions, Certificate, Covariance, Fit, FitOptions, GateOptions, Gaussian, Method, Moments,
    Pooling, Shift, Shrinkage, Side, SlicedOptions, TransportError, fit, fit_moments, w2,
};
use common::{covariance, map_rows, relative, rows};
use faer::{Mat, MatRef};
use proptest::prelude::*;

/// Maps of covariances with a condition number of at most about 1e5, from sums over a few hundred terms.
const CLOSE: f64 = 1e-9;

const METHODS: [Method; 11] = [
    Method::PcaOt,
    Method::Gated,
    Method::Ot,
    Method::Entropic,
    Method::Whitening,
    Method::Mean,
    Method::Rfa,
    Method::Ace,
    Method::Leace,
    Method::ActMean,
    Method::ActGaussian,
];

fn streamed(rows: MatRef<'_, f64>, cap: usize) -> Moments {
    let mut moments = Moments::new(rows.ncols(), cap).unwrap();
    moments.push(Rows::new(rows).unwrap()).unwrap();
    moments
}

/// Shards of the rows, merged from the first to the last or from the last to the first.
fn merged(rows: MatRef<'_, f64>, cap: usize, shard: usize, backwards: bool) -> Moments {
    let mut parts: Vec<_> = (0..rows.nrows())
        .step_by(shard)
        .map(|at| streamed(rows.subrows(at, shard.min(rows.nrows() - at)), cap))
        .collect();
    if backwards {
        parts.reverse();
    }
    let mut all = Moments::new(rows.ncols(), cap).unwrap();
    parts.iter().for_each(|part| all.merge(part).unwrap());
    all
}

/// A number for both shrinkages, since moments have no fourth powers.
fn options() -> FitOptions {
    let gate = GateOptions { shrinkage: Shrinkage::Fixed(0.1), ..GateOptions::default() };
    FitOptions { components: 3, gate, ..FitOptions::default() }
}

fn near(a: f64, b: f64, size: f64) -> bool {
    (a - b).abs() <= CLOSE * size
}

/// The same map, and the same certificate as far as moments know it.
fn assert_same(found: &Fit, expected: &Fit, probe: MatRef<'_, f64>, what: &str) {
    let moved = map_rows(&found.map, probe);
    let off = relative(moved.as_ref(), map_rows(&expected.map, probe).as_ref());
    assert!(off < CLOSE, "{what}: off by {off:e}");
    let gates = [found, expected].map(|fit| fit.map.gate_rows(probe).unwrap());
    for (a, b) in gates[0].iter().zip(&gates[1]) {
        assert!((a - b).abs() < CLOSE, "{what}: gate {a} and {b}");
    }

    let (a, b) = (&found.certificate, &expected.certificate);
    assert_eq!(
        (a.method, a.dim, a.source_rows, a.target_rows),
        (b.method, b.dim, b.source_rows, b.target_rows)
    );
    assert_eq!((&a.covariance, a.components, a.shift), (&b.covariance, b.components, b.shift));
    assert_eq!(
        (a.reg_abs, a.skipped, a.latent, a.effective_rows),
        (b.reg_abs, b.skipped, b.latent, b.effective_rows)
    );
    for (a, b) in [(a.shrinkage, b.shrinkage), (a.gate_shrinkage, b.gate_shrinkage)] {
        let both = a.zip(b).unwrap_or_default();
        assert_eq!(a.is_some(), b.is_some(), "{what}");
        for (x, y) in both.0.into_iter().zip(both.1) {
            assert!(near(x, y, 1.0), "{what}: shrinkage {x} and {y}");
        }
    }
    assert!(near(a.norm, b.norm, b.norm), "{what}: norm {} and {}", a.norm, b.norm);
    for (x, y) in [
        (a.effective_rank_source, b.effective_rank_source),
        (a.effective_rank_target, b.effective_rank_target),
        (a.explained.unwrap_or(1.0), b.explained.unwrap_or(1.0)),
        (a.train.w2_before, b.train.w2_before),
    ] {
        assert!(near(x, y, y), "{what}: {x} and {y}");
    }
    let laws = [a, b].map(|c| c.optimality.clone().or(c.control.clone()));
    if let [Some(x), Some(y)] = laws {
        assert_eq!((x.rank, x.floored), (y.rank, y.floored), "{what}");
        let of = |o: &brenier_transport::Optimality| {
            [o.min_eigenvalue, o.max_eigenvalue, o.transport_cost, o.w2_squared, o.unreachable]
        };
        for (x, y) in of(&x).into_iter().zip(of(&y)) {
            assert!(near(x, y, y.abs().max(1.0)), "{what}: {x} and {y}");
        }
    }
    if let [Some(x), Some(y)] = [a, b].map(|c| c.entropic.clone()) {
        assert!(near(x.cost, y.cost, y.cost) && near(x.sigma, y.sigma, y.sigma), "{what}");
    }
    if let [Some(x), Some(y)] = [a, b].map(|c| c.erasure.clone()) {
        assert_eq!(x.rank, y.rank);
        assert!(near(x.predictable, y.predictable, 1.0) && near(x.moved, y.moved, y.moved), "{what}");
    }

    let sketch = a.sketch.unwrap();
    for side in [sketch.source, sketch.target] {
        assert_eq!([side.bound, side.removed, side.bound_relative, side.removed_relative], [0.0; 4]);
    }
    let at = [a.train.w2_before; 2];
    assert!(near(sketch.w2_before[0], at[0], at[0]) && near(sketch.w2_before[1], at[1], at[1]), "{what}");
    if a.method == Method::Gated {
        assert!(a.train.w2_after.is_nan() && a.train.source_step.is_nan() && a.train.target_step.is_nan());
        assert_eq!((a.train.w2_ratio, sketch.w2_after, a.train.gate.clone()), (None, None, None));
    } else {
        // A distance is known to the root of what cancels.
        let size = b.train.w2_before;
        let (x, y) = (a.train.w2_after, b.train.w2_after);
        assert!((x * x - y * y).abs() < CLOSE * size * size, "{what}: after, {x} and {y}");
        assert!(near(a.train.source_step, b.train.source_step, size), "{what}");
        assert!(near(a.train.target_step, b.train.target_step, size), "{what}");
    }
}

#[test]
fn a_fit_from_moments_is_the_fit_from_rows() {
    // Tall, exact for any cap of d or more; wide, exact while the rows fit.
    for (n_s, n_t, d, cap) in [(90, 70, 8, 8), (300, 200, 8, 50), (40, 30, 60, 20), (61, 35, 40, 30)] {
        let (source, target, probe) = (rows(n_s, d, 1), rows(n_t, d, 2), rows(9, d, 3));
        let (of_source, of_target) = (streamed(source.as_ref(), cap), streamed(target.as_ref(), cap));
        let regularised = FitOptions { shrinkage: Shrinkage::Fixed(0.2), reg_abs: Some(0.05), ..options() };
        let others = FitOptions {
            covariance: Covariance::Population,
            shift: Shift::Full,
            pooling: Pooling::Classes,
            ..options()
        };
        let oas = FitOptions {
            shrinkage: Shrinkage::Oas,
            gate: GateOptions { shrinkage: Shrinkage::Oas, ..options().gate },
            ..options()
        };
        let latent = FitOptions { latent: Some(4), reg_abs: Some(0.02), ..options() };
        for method in METHODS {
            for (which, options) in [options(), regularised, others, oas, latent].iter().enumerate() {
                let expected = fit(method, source.as_ref(), target.as_ref(), options, None).unwrap();
                let found = fit_moments(method, &of_source, &of_target, options).unwrap();
                assert_same(
                    &found,
                    &expected,
                    probe.as_ref(),
                    &format!("{method}, d = {d}, options {which}"),
                );
            }
        }
    }
}

#[test]
fn shards_merged_in_any_order_give_one_map() {
    let (source, target, probe) = (rows(60, 80, 4), rows(45, 80, 5), rows(7, 80, 6));
    for method in METHODS {
        let expected = fit(method, source.as_ref(), target.as_ref(), &options(), None).unwrap();
        for (shard, backwards) in [(7, false), (7, true), (23, true)] {
            let of = |rows: &Mat<f64>| merged(rows.as_ref(), 30, shard, backwards);
            let found = fit_moments(method, &of(&source), &of(&target), &options()).unwrap();
            assert_same(&found, &expected, probe.as_ref(), &format!("{method}, shards of {shard}"));
        }
    }
}

/// Many rows, whose variance along turned axes falls by `decay` each.
fn decaying(n: usize, d: usize, decay: f64, seed: u64) -> Mat<f64> {
    let plain = rows(n, d, seed);
    let turn = brenier_linalg::orthonormalize(rows(d, d, seed ^ 77)).unwrap();
    let scaled = Mat::from_fn(n, d, |i, j| plain[(i, j)] * decay.powi(j as i32));
    scaled * turn.transpose()
}

#[test]
fn what_was_lost_stays_within_the_certificate() {
    for (cap, decay) in [(4, 0.8), (10, 0.8), (10, 1.0), (20, 0.9)] {
        let (source, target) = (decaying(900, 30, decay, 7), decaying(700, 30, decay, 8));
        let (of_source, of_target) = (streamed(source.as_ref(), cap), streamed(target.as_ref(), cap));
        for divide in [Covariance::Sample, Covariance::Population] {
            let options = FitOptions { covariance: divide, ..options() };
            for method in METHODS {
                let found = fit_moments(method, &of_source, &of_target, &options).unwrap();
                let sketch = found.certificate.sketch.unwrap();
                let mut held = Vec::new();
                for (rows, moments, bound) in
                    [(&source, &of_source, sketch.source), (&target, &of_target, sketch.target)]
                {
                    let whole = Gaussian::from_rows(rows.as_ref(), divide).unwrap();
                    let part = Gaussian::from_moments(moments, divide).unwrap();
                    let scatter = |of: &Gaussian| of.factor().transpose() * of.factor();
                    let rounding = CLOSE * whole.trace();
                    let lost = symmetric_eigenvalues((scatter(&whole) - scatter(&part)).as_ref()).unwrap();
                    assert_eq!(bound.cap, cap);
                    assert!(bound.bound > 1e3 * rounding, "nothing to speak of was lost");
                    assert!(lost[0] <= bound.bound + rounding && lost[29] >= -rounding);
                    assert!((whole.trace() - part.trace() - bound.removed).abs() <= rounding);
                    let largest = symmetric_eigenvalues(scatter(&part).as_ref()).unwrap()[0];
                    assert!(near(bound.bound_relative, bound.bound / largest, bound.bound_relative));
                    assert!(near(bound.removed_relative, bound.removed / whole.trace(), 1.0));
                    // The claim behind the interval.
                    assert!(w2(&whole, &part).unwrap() <= bound.removed.sqrt() * (1.0 + CLOSE));
                    held.push(whole);
                }
                let before = w2(&held[0], &held[1]).unwrap();
                let [low, high] = sketch.w2_before;
                let stands = found.certificate.train.w2_before;
                assert!(low <= before && before <= high, "{low} {before} {high}");
                assert!(low <= stands && stands <= high && high - low > 1e-3 * before);
                if let Some([low, high]) = sketch.w2_after {
                    let moved = map_rows(&found.map, source.as_ref());
                    let after = w2(&Gaussian::from_rows(moved.as_ref(), divide).unwrap(), &held[1]).unwrap();
                    let rounding = 1e-6 * before;
                    assert!(
                        low - rounding <= after && after <= high + rounding,
                        "{method}: {low} {after} {high}"
                    );
                    let stands = found.certificate.train.w2_after;
                    assert!(low - rounding <= stands && stands <= high + rounding);
                }
            }
        }
    }
}

#[test]
fn the_interval_shrinks_with_the_cap() {
    let (source, target) = (decaying(900, 30, 0.7, 9), decaying(700, 30, 0.7, 10));
    let width = |cap: usize| {
        let (of_source, of_target) = (streamed(source.as_ref(), cap), streamed(target.as_ref(), cap));
        let sketch = fit_moments(Method::Ot, &of_source, &of_target, &options()).unwrap().certificate.sketch;
        let [low, high] = sketch.unwrap().w2_before;
        high - low
    };
    let widths = [3, 6, 12, 29].map(width);
    assert!(widths.is_sorted_by(|a, b| a > b), "{widths:?}");
    assert!(width(30) < 1e-9, "no wider than the cap");
}

#[test]
fn a_gaussian_from_moments_is_that_of_the_rows() {
    let x = rows(50, 6, 11);
    let (mean, s) = covariance(x.as_ref());
    let found = Gaussian::from_moments(&streamed(x.as_ref(), 9), Covariance::Sample).unwrap();
    assert!(found.factor().nrows() <= 6 && found.isotropic() == 0.0);
    assert!(found.mean().iter().zip(&mean).all(|(a, b)| (a - b).abs() < 1e-13));
    assert!(relative((found.factor().transpose() * found.factor()).as_ref(), s.as_ref()) < 1e-13);
    let empty = Gaussian::from_moments(&Moments::new(6, 9).unwrap(), Covariance::Sample).unwrap_err();
    assert!(matches!(empty, TransportError::Linalg(LinalgError::TooFewRows { needed: 1, found: 0 })));
}

#[test]
fn a_certificate_from_moments_survives_json() {
    let (source, target) = (streamed(rows(90, 12, 12).as_ref(), 4), streamed(rows(90, 12, 13).as_ref(), 4));
    for method in METHODS {
        let found = fit_moments(method, &source, &target, &options()).unwrap().certificate;
        let text = serde_json::to_string(&found).unwrap();
        assert_eq!(text.contains("\"w2_after\":null"), method == Method::Gated, "{text}");
        let back: Certificate = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&back).unwrap(), text);
        assert_eq!(back.sketch, found.sketch);
        assert_eq!(back.train.w2_after.is_nan(), method == Method::Gated);
    }
}

#[test]
fn what_needs_rows_is_refused_in_one_line() {
    let (source, target) = (streamed(rows(30, 5, 14).as_ref(), 5), streamed(rows(30, 5, 15).as_ref(), 5));
    let refused = |method, options: FitOptions| {
        let error = fit_moments(method, &source, &target, &options).unwrap_err();
        assert!(matches!(error, TransportError::NeedsRows { .. }), "{error}");
        error.to_string()
    };
    let text = refused(Method::Gated, FitOptions::default());
    let expected = "Ledoit and Wolf's gate shrinkage (fourth moments) needs the rows themselves, and moments keep none: take oas or a number in 0..=1";
    assert_eq!(text, expected);
    for method in [Method::ActLinear, Method::Mixture] {
        assert!(refused(method, options()).starts_with(&format!("method {method} ")));
    }
    let auto = FitOptions { shrinkage: Shrinkage::Auto, ..options() };
    for method in METHODS {
        let shrinks = !matches!(
            method,
            Method::Mean | Method::Rfa | Method::Ace | Method::ActMean | Method::ActGaussian
        );
        assert_eq!(fit_moments(method, &source, &target, &auto).is_err(), shrinks, "{method}");
    }
    let calibrated = GateOptions { calibrate: Some(3), ..options().gate };
    assert!(refused(Method::Gated, FitOptions { gate: calibrated, ..options() }).contains("calibration"));
    for (what, options) in [
        ("bootstrap", FitOptions { bootstrap: Some(BootstrapOptions::default()), ..options() }),
        ("sliced", FitOptions { sliced: Some(SlicedOptions::default()), ..options() }),
    ] {
        assert!(refused(Method::Mean, options).contains(what));
    }
    let inside = FitOptions { act_quantiles: Some((0.1, 0.9)), ..options() };
    assert!(refused(Method::ActGaussian, inside).contains("quantiles"));
    assert!(fit_moments(Method::Ot, &source, &target, &inside).is_ok());
}

#[test]
fn moments_that_cannot_be_fitted_are_refused() {
    let good = streamed(rows(30, 5, 16).as_ref(), 5);
    let one = streamed(rows(1, 5, 17).as_ref(), 5);
    let error = fit_moments(Method::Ot, &good, &one, &options()).unwrap_err();
    assert_eq!(error.to_string(), "target rows: 1 rows, but at least 2 are needed");
    assert!(fit_moments(Method::Mean, &good, &one, &options()).is_ok());
    let empty = Moments::new(5, 5).unwrap();
    let error = fit_moments(Method::Mean, &empty, &good, &options()).unwrap_err();
    assert_eq!(error.to_string(), "source rows: 0 rows, but at least 1 are needed");
    let error =
        fit_moments(Method::Ot, &good, &streamed(rows(9, 4, 18).as_ref(), 5), &options()).unwrap_err();
    assert!(matches!(error, TransportError::Widths { side: Side::Target, expected: 5, found: 4 }), "{error}");
    let large = Mat::from_fn(20, 5, |i, j| if j == 2 { 1e70 * i as f64 } else { 0.0 });
    let error = fit_moments(Method::Ot, &streamed(large.as_ref(), 5), &good, &options()).unwrap_err();
    assert!(error.to_string().starts_with("source rows: moments: a mean is 9.5"), "{error}");
    let low = Mat::from_fn(20, 5, |i, j| if j == 0 { i as f64 } else { 0.0 });
    let low = streamed(low.as_ref(), 5);
    let error = fit_moments(Method::PcaOt, &low, &low, &options()).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("3 components asked for, but the 40 pooled rows of width 5 have rank 1")
    );
    let latent = FitOptions { latent: Some(2), ..options() };
    let error = fit_moments(Method::Ot, &good, &low, &latent).unwrap_err();
    assert!(matches!(error, TransportError::LatentRank { latent: 2, rank: 1, rows: 20 }), "{error}");
    let error = fit_moments(Method::Leace, &good, &good, &options()).unwrap_err();
    assert!(matches!(error, TransportError::SameMean { method: Method::Leace, .. }), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Any shape, any scale, any cut into shards, exact or not: every certificate holds, or `fit_moments` is an error.
    #[test]
    fn every_certificate_holds(
        n_s in 2_usize..60, n_t in 2_usize..60, d in 1_usize..25, cap in 1_usize..12, shard in 1_usize..30,
        seed: u64, power in -60_i32..60,
    ) {
        let unit = 2.0_f64.powi(power);
        let of = |n, seed| {
            let plain = rows(n, d, seed);
            let scaled = Mat::from_fn(n, d, |i, j| unit * plain[(i, j)]);
            let whole = Gaussian::from_rows(scaled.as_ref(), Covariance::Sample).unwrap();
            (merged(scaled.as_ref(), cap, shard, false), whole)
        };
        let ((source, from), (target, to)) = (of(n_s, seed >> 1), of(n_t, !seed >> 1));
        let options = FitOptions { components: 1, ..options() };
        let before = w2(&from, &to).unwrap();
        for method in METHODS {
            let found = fit_moments(method, &source, &target, &options).unwrap().certificate;
            let [low, high] = found.sketch.unwrap().w2_before;
            let rounding = 1e-6 * before;
            prop_assert!(low - rounding <= before && before <= high + rounding, "{} {} {}", low, before, high);
            prop_assert!(squared_norm(Gaussian::from_moments(&source, Covariance::Sample).unwrap().factor()) <= from.trace() * (1.0 + CLOSE));
        }
    }
}
