//! Gaussian mixtures: their plan and map against POT, the laws of their fit, and the calibration of the gate.
#![allow(clippy::unwrap_used)]

mod common;

use brenier_linalg::LinalgError;
use brenier_transport::{
    CalibrationOptions, Covariance, FitOptions, GateOptions, Gaussian, GaussianMixture, Method, MixtureCount,
    MixtureError, MixtureOptions, Shift, Shrinkage, TransportError, calibrate_gate, fit, fit_mixture,
    mixture_map, mixture_plan, w2,
};
use common::{Golden, map_rows, relative, rows};
use faer::{Mat, mat};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// POT takes roots by `sqrtm` and inverts them, at condition numbers up to 30.
const DIGITS: f64 = 1e-9;

fn golden(name: &str) -> Golden {
    Golden::read(&format!("../mixture/{name}.safetensors"))
}

fn mixture_of(golden: &Golden, side: &str) -> GaussianMixture {
    let of = |part: &str| golden.matrix(&format!("{side}.{part}"));
    let (weights, means, covariances) = (of("weights"), of("means"), of("covariances"));
    let d = means.ncols();
    let one = |c: usize| {
        let mean: Vec<f64> = means.row(c).iter().copied().collect();
        Gaussian::new(&mean, covariances.as_ref().subrows(c * d, d)).unwrap()
    };
    let weights: Vec<f64> = weights.row(0).iter().copied().collect();
    GaussianMixture::new(&weights, (0..weights.len()).map(one).collect()).unwrap()
}

/// Rows about some centres, as many about each.
fn clusters(n: usize, centres: &[[f64; 3]], width: f64, seed: u64) -> Mat<f64> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut noise = || (0..4).map(|_| rng.random_range(-1.0..1.0)).sum::<f64>() * width;
    let mut out = Mat::zeros(n, 3);
    for i in 0..n {
        for j in 0..3 {
            out[(i, j)] = centres[i % centres.len()][j] + noise();
        }
    }
    out
}

#[test]
fn pot_finds_the_same_plan_distance_density_and_map() {
    for name in ["even", "more", "fewer", "line"] {
        let golden = golden(name);
        let (source, target) = (mixture_of(&golden, "source"), mixture_of(&golden, "target"));
        let plan = mixture_plan(&source, &target).unwrap();
        let loss = golden.number("loss");
        assert!((plan.cost - loss).abs() < DIGITS * loss, "{name}: {} {loss}", plan.cost);
        assert!(relative(plan.weights.as_ref(), golden.matrix("plan").as_ref()) < DIGITS, "{name}: plan");
        assert!(plan.gap.abs() < DIGITS * loss, "{name}: {:e}", plan.gap);
        let cost = golden.matrix("cost");
        for (i, from) in source.components().iter().enumerate() {
            for (j, to) in target.components().iter().enumerate() {
                assert!((w2(from, to).unwrap().powi(2) - cost[(i, j)]).abs() < DIGITS * cost[(i, j)]);
            }
        }
        let x = golden.matrix("x");
        let density = source.log_density(x.as_ref()).unwrap();
        let density = Mat::from_fn(1, density.len(), |_, i| density[i]);
        assert!(
            relative(density.as_ref(), golden.matrix("log-density").as_ref()) < DIGITS,
            "{name}: density"
        );
        let map = mixture_map(&source, &target).unwrap();
        let off = relative(map_rows(&map, x.as_ref()).as_ref(), golden.matrix("mapped").as_ref());
        assert!(off < DIGITS, "{name}: map off by {off:e}");
    }
}

#[test]
fn one_component_each_is_pca_ot() {
    let (source, target, probe) = (rows(40, 7, 1), rows(50, 7, 2), rows(9, 7, 3));
    // Maximum likelihood divides by n, and without a floor one component is the empirical Gaussian.
    let mixture = MixtureOptions { count: MixtureCount::Fixed(1), floor: 0.0, ..MixtureOptions::default() };
    for shift in [Shift::Subspace, Shift::Full] {
        let options = FitOptions {
            components: 3,
            covariance: Covariance::Population,
            shift,
            mixture,
            ..FitOptions::default()
        };
        let made = |method| fit(method, source.as_ref(), target.as_ref(), &options, None).unwrap();
        let (blend, plain) = (made(Method::Mixture), made(Method::PcaOt));
        let expected = map_rows(&plain.map, probe.as_ref());
        let off = relative(map_rows(&blend.map, probe.as_ref()).as_ref(), expected.as_ref());
        assert!(off < 1e-11, "{off:e}");
        let mw2 = blend.certificate.mixture.unwrap().mw2;
        let w2 = plain.certificate.optimality.unwrap().w2_squared.sqrt();
        assert!((mw2 - w2).abs() < 1e-11 * w2);
    }
}

#[test]
fn a_fit_to_itself_is_the_identity() {
    let x = clusters(60, &[[0.0; 3], [6.0, 0.0, 1.0], [0.0, 8.0, -3.0]], 0.5, 4);
    let mixture = MixtureOptions { count: MixtureCount::Fixed(3), ..MixtureOptions::default() };
    let options = FitOptions { components: 2, mixture, ..FitOptions::default() };
    let found = fit(Method::Mixture, x.as_ref(), x.as_ref(), &options, None).unwrap();
    assert!(relative(map_rows(&found.map, x.as_ref()).as_ref(), x.as_ref()) < 1e-12);
}

#[test]
fn clusters_go_to_their_nearest_where_one_gaussian_mixes_them() {
    let from = [[-5.0, 0.0, 0.0], [5.0, 0.0, 0.0]];
    let to = [[-5.0, 6.0, 0.0], [5.0, -6.0, 0.0]];
    let (source, target) = (clusters(80, &from, 0.3, 5), clusters(90, &to, 0.3, 6));
    let options = FitOptions { components: 2, ..FitOptions::default() };
    let found = fit(Method::Mixture, source.as_ref(), target.as_ref(), &options, None).unwrap();
    let moved = map_rows(&found.map, source.as_ref());
    // Each cluster's mean goes to that of its goal (the third axis, of noise alone, is left where it is), each row near it.
    let mean = |rows: &Mat<f64>, which: usize, j: usize| {
        let of: Vec<f64> = (which..rows.nrows()).step_by(2).map(|i| rows[(i, j)]).collect();
        of.iter().sum::<f64>() / of.len() as f64
    };
    for j in 0..2 {
        for which in 0..2 {
            let off = mean(&moved, which, j) - mean(&target, which, j);
            assert!(off.abs() < 0.02, "cluster {which}, axis {j}: {off}");
        }
        assert!((0..80).all(|i| (moved[(i, j)] - to[i % 2][j]).abs() < 2.5));
    }
    let laws = found.certificate.mixture.as_ref().unwrap();
    assert!((laws.mw2 - 6.0).abs() < 0.2, "{}", laws.mw2);
    assert_eq!(laws.plan.len(), 2);
}

#[test]
fn a_gated_mixture_leaves_the_target_where_it_is() {
    let source = clusters(80, &[[-5.0, 0.0, 0.0], [5.0, 0.0, 0.0]], 0.3, 7);
    let target = clusters(80, &[[-5.0, 9.0, 1.0], [5.0, 9.0, 1.0]], 0.3, 8);
    for shift in [Shift::Subspace, Shift::Full] {
        let step = |gated: bool| {
            let mixture = MixtureOptions { gated, ..MixtureOptions::default() };
            let options = FitOptions { components: 2, shift, mixture, ..FitOptions::default() };
            let found = fit(Method::Mixture, source.as_ref(), target.as_ref(), &options, None).unwrap();
            assert!(found.certificate.train.w2_ratio.unwrap() < 0.2);
            found.certificate.train.target_step
        };
        assert!(step(true) < 1e-6, "{:e}", step(true));
        assert!(step(false) > 5.0, "{}", step(false));
    }
}

#[test]
fn the_posterior_never_falls_and_likelihoods_are_the_densities() {
    for seed in 0..6 {
        let x = rows(60, 3, 30 + seed);
        for count in 1..5 {
            let options =
                MixtureOptions { count: MixtureCount::Fixed(count), seed, ..MixtureOptions::default() };
            let found = fit_mixture(x.as_ref(), &options).unwrap();
            for step in found.report.trace.windows(2) {
                assert!(step[1] >= step[0] - 1e-12, "{step:?}");
            }
            let density = found.mixture.log_density(x.as_ref()).unwrap().iter().sum::<f64>() / 60.0;
            assert!((density - found.report.log_likelihood).abs() < 1e-10 * density.abs().max(1.0));
            assert!(found.report.weights.windows(2).all(|pair| pair[0] >= pair[1]));
            assert_eq!(fit_mixture(x.as_ref(), &options).unwrap().report, found.report);
        }
    }
}

#[test]
fn clusters_are_counted_by_both_criteria() {
    let centres = [[0.0, 0.0, 0.0], [9.0, 0.0, 3.0], [0.0, 9.0, -4.0]];
    let x = clusters(150, &centres, 0.6, 9);
    for count in [MixtureCount::Bic(5), MixtureCount::HeldOut { most: 5, folds: 5 }] {
        let found = fit_mixture(x.as_ref(), &MixtureOptions { count, ..MixtureOptions::default() }).unwrap();
        assert_eq!(found.mixture.count(), 3, "{count:?}: {:?}", found.report.scores);
        assert_eq!(found.report.scores.len(), 5);
        for weight in found.mixture.weights() {
            assert!((weight - 1.0 / 3.0).abs() < 1e-6);
        }
        for one in found.mixture.components() {
            let near = |centre: &[f64; 3]| one.mean().iter().zip(centre).all(|(m, c)| (m - c).abs() < 0.5);
            assert_eq!(centres.iter().filter(|&centre| near(centre)).count(), 1, "{:?}", one.mean());
        }
    }
}

#[test]
fn no_component_collapses_onto_equal_rows() {
    // Eight rows on one point and eight about another: without a prior the first likelihood is infinite.
    let spread = clusters(8, &[[4.0, 4.0, 4.0]], 1.0, 10);
    let x = Mat::from_fn(16, 3, |i, j| if i < 8 { 0.0 } else { spread[(i - 8, j)] });
    let found = fit_mixture(x.as_ref(), &MixtureOptions::default()).unwrap();
    assert!(found.report.log_likelihood.is_finite() && found.mixture.count() == 2);
    let bare = MixtureOptions { prior_rows: 0.0, ..MixtureOptions::default() };
    let error = fit_mixture(x.as_ref(), &bare).unwrap_err();
    assert!(matches!(error, TransportError::Mixture(MixtureError::NoDensity { dim: 3, .. })), "{error}");
    let same = fit_mixture(Mat::<f64>::zeros(6, 3).as_ref(), &MixtureOptions::default()).unwrap_err();
    assert!(matches!(same, TransportError::Mixture(MixtureError::NoDensity { rank: 0, dim: 3, .. })));
}

#[test]
fn what_makes_no_mixture_is_refused_with_numbers() {
    let one = |x: f64| Gaussian::new(&[x], mat![[1.0]].as_ref()).unwrap();
    let refused = |weights: &[f64], parts| GaussianMixture::new(weights, parts).unwrap_err().to_string();
    assert!(refused(&[], vec![]).contains("0 weights for 0 components"));
    assert!(refused(&[0.5, 0.6], vec![one(0.0), one(1.0)]).contains("sum to 1.1"));
    assert!(refused(&[1.0, 0.0], vec![one(0.0), one(1.0)]).contains("weight 1 is 0"));
    let plane = Gaussian::new(&[0.0; 2], Mat::<f64>::identity(2, 2).as_ref()).unwrap();
    assert!(refused(&[0.5, 0.5], vec![one(0.0), plane]).contains("component 1 has dimension 2, but 1"));
    let many = MixtureOptions { count: MixtureCount::Fixed(4), ..MixtureOptions::default() };
    let error = fit_mixture(rows(7, 2, 11).as_ref(), &many).unwrap_err().to_string();
    assert!(error.contains("7 rows for 4 components; at least 8 are needed"), "{error}");
    for bad in [
        MixtureOptions { count: MixtureCount::Fixed(0), ..many },
        MixtureOptions { count: MixtureCount::HeldOut { most: 2, folds: 1 }, ..many },
        MixtureOptions { restarts: 0, ..many },
        MixtureOptions { prior_rows: f64::NAN, ..many },
    ] {
        let error = fit_mixture(rows(9, 2, 11).as_ref(), &bad).unwrap_err();
        assert!(matches!(error, TransportError::Option { .. }), "{error}");
    }
}

/// Two classes of wide rows whose difference lies in two directions.
fn classes(n: usize, gap: f64, seed: u64) -> [Mat<f64>; 2] {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut noise = |_: usize, _: usize| (0..6).map(|_| rng.random_range(-0.7..0.7)).sum::<f64>();
    let (a, b) = (Mat::from_fn(n, 30, &mut noise), Mat::from_fn(n, 30, &mut noise));
    let scale = |j: usize| if j < 2 { 3.0 } else { 1.0 };
    let of = |x: &Mat<f64>, sign: f64| {
        Mat::from_fn(n, 30, |i, j| scale(j) * x[(i, j)] + if j < 2 { sign * gap } else { 0.0 })
    };
    [of(&a, 1.0), of(&b, -1.0)]
}

fn log_loss(map: &brenier_map::RowMap, source: &Mat<f64>, target: &Mat<f64>) -> f64 {
    let gate = map.gate().unwrap();
    let loss = |odds: f64| (-odds / gate.temperature).exp().ln_1p();
    let mean = |rows: &Mat<f64>, sign: f64| {
        let odds = gate.log_odds(rows.as_ref()).unwrap();
        odds.iter().map(|odds| loss(sign * odds)).sum::<f64>() / odds.len() as f64
    };
    0.5 * mean(source, 1.0) + 0.5 * mean(target, -1.0)
}

#[test]
fn calibration_pays_on_rows_that_it_never_saw() {
    let [source, target] = classes(40, 2.0, 12);
    let [other_source, other_target] = classes(2000, 2.0, 13);
    let gate = GateOptions { shrinkage: Shrinkage::Fixed(0.01), ..GateOptions::default() };
    let plain = FitOptions { components: 16, gate, ..FitOptions::default() };
    let asked = FitOptions { gate: GateOptions { calibrate: Some(5), ..gate }, ..plain };
    let made =
        |options: &FitOptions| fit(Method::Gated, source.as_ref(), target.as_ref(), options, None).unwrap();
    let (before, after) = (made(&plain), made(&asked));
    let loss = |made: &brenier_transport::Fit| log_loss(&made.map, &other_source, &other_target);
    assert!(loss(&after) < 0.5 * loss(&before), "{} {}", loss(&after), loss(&before));
    let calibration = after.certificate.calibration.clone().unwrap();
    assert!(before.certificate.calibration.is_none());
    // The estimate holds on fresh rows, within its error and what chance makes of a choice.
    let off = (calibration.chosen.log_loss - loss(&after)).abs();
    assert!(off < 4.0 * calibration.chosen.standard_error, "{off} {:?}", calibration.chosen);
    assert!(calibration.chosen.log_loss < calibration.prior_log_loss);
    assert!(calibration.table.iter().all(|one| one.log_loss >= calibration.chosen.log_loss));
    assert_eq!(calibration.table.len(), 8 * 6 * 9);
    // The map keeps its own components.
    assert_eq!(before.map.affine(), after.map.affine());
    let own = calibrate_gate(source.as_ref(), target.as_ref(), &asked, &CalibrationOptions::default());
    assert_eq!(own.unwrap(), calibration);
}

#[test]
fn what_cannot_be_calibrated_is_refused() {
    let [source, target] = classes(5, 2.0, 14);
    let (options, grid) = (FitOptions::default(), CalibrationOptions::default());
    let refused = |grid: &CalibrationOptions| {
        calibrate_gate(source.as_ref(), target.as_ref(), &options, grid).unwrap_err()
    };
    assert!(matches!(
        refused(&grid),
        TransportError::Linalg(LinalgError::TooFewRows { needed: 6, found: 5 })
    ));
    let of = |change: &dyn Fn(&mut CalibrationOptions)| {
        let mut grid = CalibrationOptions { folds: 2, ..CalibrationOptions::default() };
        change(&mut grid);
        refused(&grid)
    };
    assert!(matches!(of(&|grid| grid.folds = 1), TransportError::Option { .. }));
    assert!(matches!(of(&|grid| grid.temperatures.clear()), TransportError::Option { .. }));
    assert!(matches!(of(&|grid| grid.temperatures = vec![0.0]), TransportError::Option { .. }));
    let error = of(&|grid| grid.components = vec![25]);
    assert!(matches!(error, TransportError::Linalg(LinalgError::ComponentsExceedRank { .. })), "{error}");
}
