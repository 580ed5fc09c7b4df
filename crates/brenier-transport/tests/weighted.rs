//! Weighted rows: against POT and textbook formulas (tests/golden/estimators/make.py); whole weights are repeated rows, no
//! weight is no row, equal weights are no weights, only ratios matter. Mixtures have more in `weighted_mixture.rs`.
#![allow(clippy::unwrap_used)]

mod common;

use brenier_linalg::{LinalgError, Rows, center, mean};
use brenier_transport::{
    BootstrapOptions, Certificate, Covariance, Fit, FitOptions, GateOptions, Gaussian, GaussianOtMap,
    HeldOut, Method, MixtureCount, MixtureOptions, Pooling, Quality, Samples, Shift, Shrinkage, Side,
    SlicedOptions, TransportError, Weighted, calibrate_gate, fit, select_components, select_latent,
    sliced_w2, w2,
};
use common::{Golden, map_rows, relative, rows};
use faer::{Mat, MatRef};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Maps of covariances of a condition of about 1e3, by different routes.
const DIGITS: f64 = 1e-9;
/// The same arithmetic in another order.
const CLOSE: f64 = 1e-11;

fn weights(n: usize, seed: u64) -> Vec<f64> {
    let mut rng = StdRng::seed_from_u64(seed);
    (0..n).map(|_| rng.random_range(0.2..3.0)).collect()
}

/// Each row as often as its weight says.
fn repeated(rows: MatRef<'_, f64>, counts: &[usize]) -> Mat<f64> {
    let which: Vec<usize> =
        counts.iter().enumerate().flat_map(|(i, &count)| std::iter::repeat_n(i, count)).collect();
    Mat::from_fn(which.len(), rows.ncols(), |i, j| rows[(which[i], j)])
}

fn without(rows: MatRef<'_, f64>, weights: &[f64]) -> (Mat<f64>, Vec<f64>) {
    let which: Vec<usize> = (0..rows.nrows()).filter(|&i| weights[i] > 0.0).collect();
    let kept = Mat::from_fn(which.len(), rows.ncols(), |i, j| rows[(which[i], j)]);
    (kept, which.iter().map(|&i| weights[i]).collect())
}

/// Everything that has a number of its own, over divisors that repetition does not change.
fn options() -> FitOptions {
    FitOptions {
        covariance: Covariance::Population,
        gate: GateOptions { shrinkage: Shrinkage::Fixed(0.05), ..GateOptions::default() },
        sliced: Some(SlicedOptions { directions: 7, seed: 1 }),
        act_quantiles: Some((0.0, 1.0)),
        ..FitOptions::default()
    }
}

fn near(a: f64, b: f64, within: f64, what: &str) {
    assert!((a - b).abs() <= within * b.abs().max(1.0), "{what}: {a} is not {b}");
}

fn same_quality(a: &Quality, b: &Quality, what: &str) {
    near(a.w2_before, b.w2_before, DIGITS, what);
    // A distance of nothing is a difference of traces, and known to the root of their rounding.
    near(a.w2_after, b.w2_after, 1e-6, what);
    near(a.source_step, b.source_step, DIGITS, what);
    near(a.target_step, b.target_step, DIGITS, what);
    assert_eq!(a.gate.is_some(), b.gate.is_some());
    for (a, b) in a.gate.iter().zip(&b.gate) {
        near(a.auc, b.auc, DIGITS, what);
        near(a.mean_source, b.mean_source, DIGITS, what);
        near(a.mean_target, b.mean_target, DIGITS, what);
    }
    for (a, b) in a.sliced.iter().zip(&b.sliced) {
        near(a.before, b.before, DIGITS, what);
        near(a.after, b.after, 1e-6, what);
    }
}

/// The maps on rows of their own, and the numbers of the certificates.
fn same_fit(a: &Fit, b: &Fit, probe: MatRef<'_, f64>, what: &str) {
    let off = relative(map_rows(&a.map, probe).as_ref(), map_rows(&b.map, probe).as_ref());
    assert!(off < DIGITS, "{what}: off by {off:e}");
    let (a, b): (&Certificate, &Certificate) = (&a.certificate, &b.certificate);
    near(a.norm, b.norm, DIGITS, what);
    near(a.effective_rank_source, b.effective_rank_source, DIGITS, what);
    near(a.effective_rank_target, b.effective_rank_target, DIGITS, what);
    assert_eq!(a.explained.is_some(), b.explained.is_some());
    for (a, b) in a.explained.iter().zip(&b.explained) {
        near(*a, *b, DIGITS, what);
    }
    for (a, b) in a.erasure.iter().zip(&b.erasure) {
        near(a.predictable, b.predictable, DIGITS, what);
        near(a.moved, b.moved, DIGITS, what);
    }
    for (a, b) in a.optimality.iter().zip(&b.optimality) {
        near(a.w2_squared, b.w2_squared, DIGITS, what);
    }
    same_quality(&a.train, &b.train, what);
    for (a, b) in a.held_out.iter().zip(&b.held_out) {
        same_quality(a, b, what);
    }
}

#[test]
fn pot_and_the_textbook_find_the_same_weighted_maps() {
    for name in ["tall", "wide"] {
        let golden = Golden::read(&format!("../estimators/{name}.safetensors"));
        let (source, target, probe) =
            (golden.matrix("source"), golden.matrix("target"), golden.matrix("probe"));
        let of = |key: &str| golden.matrix(key).row(0).iter().copied().collect::<Vec<f64>>();
        let (w_s, w_t) = (of("weights/source"), of("weights/target"));
        let sample = FitOptions {
            reg_abs: Some(golden.number("reg")),
            components: golden.number("components") as usize,
            ..FitOptions::default()
        };
        let population = FitOptions { covariance: Covariance::Population, ..sample };
        let latent =
            FitOptions { reg_abs: None, latent: Some(golden.number("latent") as usize), ..population };
        let plain = FitOptions { reg_abs: None, ..sample };
        for (key, method, options) in [
            ("pot/weights", Method::Ot, population),
            ("pot/hd-weights", Method::Ot, latent),
            ("plain/sample", Method::Ot, sample),
            ("plain/pca-ot", Method::PcaOt, plain),
            ("plain/leace", Method::Leace, plain),
            ("plain/act-gaussian", Method::ActGaussian, plain),
        ] {
            let (s, t) = (Samples::weighted(source.as_ref(), &w_s), Samples::weighted(target.as_ref(), &w_t));
            let found = fit(method, s, t, &options, None).unwrap();
            let off = relative(map_rows(&found.map, probe.as_ref()).as_ref(), golden.matrix(key).as_ref());
            assert!(off < 10.0 * DIGITS, "{name} {key}: off by {off:e}");
        }
    }
}

#[test]
fn whole_weights_are_repeated_rows() {
    let (c_s, c_t) = ([3, 1, 2, 1, 1, 4, 1, 2, 1], [1, 1, 2, 5, 1, 1, 2, 2]);
    // Equal counts in all, by which linear AcT pairs rows.
    assert_eq!(c_s.iter().sum::<usize>() - 1, c_t.iter().sum::<usize>());
    let c_t: Vec<usize> = c_t.iter().enumerate().map(|(i, &count)| count + usize::from(i == 0)).collect();
    let whole = |counts: &[usize]| counts.iter().map(|&count| count as f64).collect::<Vec<f64>>();
    let (w_s, w_t) = (whole(&c_s), whole(&c_t));
    for d in [3, 30] {
        let (source, target, probe) = (rows(9, d, 1), rows(8, d, 2), rows(5, d, 3));
        let (many_s, many_t) = (repeated(source.as_ref(), &c_s), repeated(target.as_ref(), &c_t));
        let (s, t) = (Samples::weighted(source.as_ref(), &w_s), Samples::weighted(target.as_ref(), &w_t));
        let held_out = (rows(6, d, 4), rows(7, d, 5));
        let (h_s, h_t) = ([1, 2, 1, 3, 1, 1], [2, 1, 1, 1, 4, 1, 1]);
        let (hw_s, hw_t) = (whole(&h_s), whole(&h_t));
        let out: HeldOut<'_> =
            (Samples::weighted(held_out.0.as_ref(), &hw_s), Samples::weighted(held_out.1.as_ref(), &hw_t))
                .into();
        let many_out = (repeated(held_out.0.as_ref(), &h_s), repeated(held_out.1.as_ref(), &h_t));
        // The prior of a mixture knows how many rows there are, but says nothing of one component without a floor.
        let counted = Method::ALL.into_iter().filter(|&method| method != Method::Mixture);
        let mut cases: Vec<(Method, FitOptions)> = counted.map(|method| (method, options())).collect();
        let with = |change: &dyn Fn(&mut FitOptions)| {
            let mut options = options();
            change(&mut options);
            options
        };
        cases.push((Method::PcaOt, with(&|o| o.pooling = Pooling::Classes)));
        cases.push((Method::PcaOt, with(&|o| (o.shift, o.shrinkage) = (Shift::Full, Shrinkage::Fixed(0.1)))));
        cases.push((Method::Ot, with(&|o| o.reg_abs = Some(0.1))));
        cases.push((Method::Ot, with(&|o| o.shrinkage = Shrinkage::Fixed(0.2))));
        cases.push((Method::Ot, with(&|o| o.latent = Some(2))));
        cases.push((Method::Leace, with(&|o| o.shrinkage = Shrinkage::Fixed(0.1))));
        let one = MixtureOptions { count: MixtureCount::Fixed(1), floor: 0.0, ..MixtureOptions::default() };
        cases.push((Method::Mixture, with(&|o| o.mixture = one)));
        for (method, options) in cases {
            let what = format!("{method} of {d}");
            let found = fit(method, s, t, &options, out).unwrap();
            let expected = fit(
                method,
                many_s.as_ref(),
                many_t.as_ref(),
                &options,
                Some((many_out.0.as_ref(), many_out.1.as_ref())),
            )
            .unwrap();
            same_fit(&found, &expected, probe.as_ref(), &what);
            // The kinds of numbers that do know how often a row was seen.
            assert_eq!((found.certificate.source_rows, expected.certificate.source_rows), (9, 16));
            let squares: f64 = w_s.iter().map(|w| w * w).sum();
            near(found.certificate.effective_rows.unwrap()[0], 256.0 / squares, CLOSE, &what);
            assert_eq!(expected.certificate.effective_rows, None);
        }
    }
}

/// Between these the maps of all directions are measured without moving a row. Rows held out are moved, the same ones too.
#[test]
fn what_is_measured_in_coordinates_is_what_moving_the_rows_gives() {
    for (n_s, n_t, d) in [(9, 8, 30), (12, 3, 16), (17, 14, 20), (40, 25, 5), (4, 40, 9)] {
        let (source, target) = (rows(n_s, d, 1), rows(n_t, d, 2));
        let (w_s, w_t) = (weights(n_s, 3), weights(n_t, 4));
        let plain: [Samples<'_>; 2] = [source.as_ref().into(), target.as_ref().into()];
        let weighed = [(source.as_ref(), &w_s), (target.as_ref(), &w_t)];
        for [s, t] in [plain, weighed.map(|(rows, weights)| Samples::weighted(rows, weights))] {
            for method in [Method::Ot, Method::Entropic, Method::Whitening] {
                for (shrinkage, reg, covariance) in [
                    (Shrinkage::Fixed(0.0), None, Covariance::Sample),
                    (Shrinkage::Fixed(0.0), Some(0.3), Covariance::Population),
                    (Shrinkage::Fixed(0.4), None, Covariance::Sample),
                    (Shrinkage::Oas, Some(0.1), Covariance::Population),
                    (Shrinkage::Fixed(1.0), None, Covariance::Sample),
                ] {
                    let options = FitOptions { shrinkage, reg_abs: reg, covariance, ..FitOptions::default() };
                    let found = fit(method, s, t, &options, (s, t)).unwrap().certificate;
                    let what = format!("{method} of {n_s} + {n_t} rows of {d}, {shrinkage:?}, {reg:?}");
                    same_quality(&found.train, &found.held_out.unwrap(), &what);
                }
            }
        }
    }
}

#[test]
fn every_weighted_method_minds_its_weights() {
    let (w_s, w_t) = (weights(20, 1), weights(16, 2));
    for d in [4, 50] {
        let (source, target, probe) = (rows(20, d, 1), rows(16, d, 2), rows(5, d, 3));
        for method in Method::ALL {
            let plain = fit(method, source.as_ref(), target.as_ref(), &options(), None).unwrap();
            for (s, t) in [
                (Samples::weighted(source.as_ref(), &w_s), target.as_ref().into()),
                (source.as_ref().into(), Samples::weighted(target.as_ref(), &w_t)),
            ] {
                let found = fit(method, s, t, &options(), None).unwrap();
                let off = relative(
                    map_rows(&found.map, probe.as_ref()).as_ref(),
                    map_rows(&plain.map, probe.as_ref()).as_ref(),
                );
                assert!(off > 1e-4, "{method} of {d}: weights changed nothing");
                let (a, b) = (&found.certificate.train, &plain.certificate.train);
                assert!((a.w2_before - b.w2_before).abs() > 1e-4 * b.w2_before, "{method}");
            }
        }
    }
}

#[test]
fn a_row_of_no_weight_is_no_row() {
    let (mut w_s, mut w_t) = (weights(16, 3), weights(14, 4));
    (w_s[0], w_s[5], w_t[3], w_t[13]) = (0.0, 0.0, 0.0, 0.0);
    // What is left may be equal too, and is then as if there had been no weights.
    let flat = |w: &[f64]| w.iter().map(|w| if *w > 0.0 { 1.0 } else { 0.0 }).collect::<Vec<f64>>();
    for (w_s, w_t) in [(w_s.clone(), w_t.clone()), (flat(&w_s), flat(&w_t))] {
        for d in [4, 60] {
            let (source, target) = (rows(16, d, 1), rows(14, d, 2));
            let (few_s, kept_s) = without(source.as_ref(), &w_s);
            let (few_t, kept_t) = without(target.as_ref(), &w_t);
            let equal = kept_s.iter().all(|&w| w == 1.0);
            let all = FitOptions {
                shrinkage: Shrinkage::Auto,
                bootstrap: Some(BootstrapOptions { resamples: 5, ..BootstrapOptions::default() }),
                gate: GateOptions { calibrate: Some(3), ..GateOptions::default() },
                ..options()
            };
            for method in Method::ALL {
                let found = fit(
                    method,
                    Samples::weighted(source.as_ref(), &w_s),
                    Samples::weighted(target.as_ref(), &w_t),
                    &all,
                    None,
                )
                .unwrap();
                let expected = if equal {
                    fit(method, few_s.as_ref(), few_t.as_ref(), &all, None)
                } else {
                    let of = (
                        Samples::weighted(few_s.as_ref(), &kept_s),
                        Samples::weighted(few_t.as_ref(), &kept_t),
                    );
                    fit(method, of.0, of.1, &all, None)
                }
                .unwrap();
                assert_eq!(found.certificate, expected.certificate, "{method} of {d}");
                assert_eq!(
                    map_rows(&found.map, source.as_ref()),
                    map_rows(&expected.map, source.as_ref()),
                    "{method}"
                );
            }
        }
    }
}

#[test]
fn equal_weights_are_no_weights_and_only_ratios_matter() {
    let (w_s, w_t) = (weights(16, 3), weights(14, 4));
    for d in [4, 60] {
        let (source, target, probe) = (rows(16, d, 1), rows(14, d, 2), rows(5, d, 3));
        for method in Method::ALL {
            for shrinkage in [Shrinkage::Fixed(0.0), Shrinkage::Auto, Shrinkage::Oas] {
                let options = FitOptions { shrinkage, covariance: Covariance::Sample, ..options() };
                let with = |w_s: &[f64], w_t: &[f64]| {
                    let (s, t) =
                        (Samples::weighted(source.as_ref(), w_s), Samples::weighted(target.as_ref(), w_t));
                    fit(method, s, t, &options, None).unwrap()
                };
                let plain = fit(method, source.as_ref(), target.as_ref(), &options, None).unwrap();
                assert_eq!(with(&[0.3; 16], &[0.3; 14]).certificate, plain.certificate, "{method}");
                let given = with(&w_s, &w_t);
                for by in [1e-200, 0.37, 1e200] {
                    let scaled = |w: &[f64]| w.iter().map(|w| by * w).collect::<Vec<f64>>();
                    let what = format!("{method} of {d} by {by}");
                    same_fit(&with(&scaled(&w_s), &scaled(&w_t)), &given, probe.as_ref(), &what);
                    // One class by itself, where nothing is pooled by rows.
                    let pools =
                        matches!(method, Method::PcaOt | Method::Gated | Method::Mixture | Method::Leace);
                    if !pools {
                        same_fit(&with(&scaled(&w_s), &w_t), &given, probe.as_ref(), &what);
                    }
                }
                // Nearly equal weights go the weighted way, and find what the plain way finds.
                let almost = |n: usize| (0..n).map(|i| 1.0 + 1e-14 * (i % 3) as f64).collect::<Vec<f64>>();
                // Linear AcT reads unequal counts by interpolation without weights.
                if method != Method::ActLinear {
                    let what = format!("{method} of {d} without weights");
                    same_fit(&with(&almost(16), &almost(14)), &plain, probe.as_ref(), &what);
                }
            }
        }
    }
}

#[test]
fn the_builder_the_gaussian_and_the_distances_take_weights() {
    let (source, target) = (rows(7, 4, 1), rows(9, 4, 2));
    let (c_s, c_t) = ([1, 2, 1, 1, 3, 1, 1], [2, 1, 1, 1, 1, 1, 5, 1, 1]);
    let (w_s, w_t) = (c_s.map(|c| c as f64), c_t.map(|c| c as f64));
    let (many_s, many_t) = (repeated(source.as_ref(), &c_s), repeated(target.as_ref(), &c_t));
    let (s, t) = (Samples::weighted(source.as_ref(), &w_s), Samples::weighted(target.as_ref(), &w_t));
    assert_eq!((s.rows().shape(), s.weights()), ((7, 4), Some(&w_s[..])));

    let gaussian = |samples: Samples<'_>| Gaussian::from_rows(samples, Covariance::Population).unwrap();
    let found = w2(&gaussian(s), &gaussian(t)).unwrap();
    near(
        found,
        w2(&gaussian(many_s.as_ref().into()), &gaussian(many_t.as_ref().into())).unwrap(),
        CLOSE,
        "W2",
    );
    let along = brenier_transport::directions(4, 5, 0);
    let found = sliced_w2(s, t, along.as_ref()).unwrap();
    near(found, sliced_w2(many_s.as_ref(), many_t.as_ref(), along.as_ref()).unwrap(), CLOSE, "sliced");

    // The rows that a test makes are no f32; those of a model are.
    let short = |rows: &Mat<f64>| Mat::from_fn(rows.nrows(), rows.ncols(), |i, j| rows[(i, j)] as f32);
    let builder = GaussianOtMap::builder().covariance(Covariance::Population);
    let found = builder
        .fit(
            Weighted { rows: short(&source), weights: &w_s },
            Weighted { rows: short(&target), weights: &w_t },
        )
        .unwrap();
    let expected = builder.fit(short(&many_s).as_ref(), short(&many_t).as_ref()).unwrap();
    same_fit(&found.into_fit(), &expected.into_fit(), source.as_ref(), "builder");
    let found = builder.fit(s, t).unwrap();
    same_fit(
        &found.into_fit(),
        &builder.fit(many_s.as_ref(), many_t.as_ref()).unwrap().into_fit(),
        source.as_ref(),
        "f64",
    );

    // Likelihood and choice of a probabilistic PCA; BIC knows how many rows there are.
    let (some, many) = (select_latent(s, &[1, 2]).unwrap(), select_latent(many_s.as_ref(), &[1, 2]).unwrap());
    let squares: f64 = w_s.iter().map(|w| w * w).sum();
    let (n, free) = (100.0 / squares, 4.0 + 4.0 + 1.0);
    near(some.table[0].log_likelihood, many.table[0].log_likelihood, CLOSE, "likelihood");
    near(some.table[0].score, 0.5 * free * f64::ln(n) / n - many.table[0].log_likelihood, CLOSE, "BIC");
    let model = Gaussian::probabilistic_pca(s, Covariance::Population, 1).unwrap();
    near(model.log_likelihood, many.table[0].log_likelihood, CLOSE, "likelihood");
    let sample = Gaussian::probabilistic_pca(s, Covariance::Sample, 1).unwrap();
    near(sample.noise, model.noise / (1.0 - squares / 100.0), CLOSE, "noise");
}

#[test]
fn shrinkage_and_resamples_are_those_of_the_weights() {
    let (w_s, w_t) = (weights(20, 1), weights(16, 2));
    for d in [4, 50] {
        let (source, target) = (rows(20, d, 1), rows(16, d, 2));
        let (s, t) = (Samples::weighted(source.as_ref(), &w_s), Samples::weighted(target.as_ref(), &w_t));
        for shrinkage in [Shrinkage::Auto, Shrinkage::Oas] {
            let options = FitOptions { shrinkage, ..options() };
            let intensity = |rows: &Mat<f64>, w: &[f64]| {
                let rows = Rows::new(rows.as_ref()).unwrap().with_weights(w).unwrap();
                let centred = center(rows, &mean(rows));
                let plain = shrinkage.intensity(centred.as_ref(), None, centred.ncols()).unwrap();
                let found = shrinkage.intensity(centred.as_ref(), rows.weights(), centred.ncols()).unwrap();
                assert!((found - plain).abs() > 1e-6, "else the test says nothing");
                found
            };
            let found = fit(Method::Ot, s, t, &options, None).unwrap().certificate.shrinkage.unwrap();
            near(found[0], intensity(&source, &w_s), CLOSE, "source");
            near(found[1], intensity(&target, &w_t), CLOSE, "target");
            let both = Mat::from_fn(36, d, |i, j| if i < 20 { source[(i, j)] } else { target[(i - 20, j)] });
            let all = [w_s.clone(), w_t.clone()].concat();
            let found = fit(Method::Leace, s, t, &options, None).unwrap().certificate.shrinkage.unwrap();
            near(found[0], intensity(&both, &all), CLOSE, "pooled");
        }
        let bootstrap = Some(BootstrapOptions { resamples: 20, ..BootstrapOptions::default() });
        let options = FitOptions { bootstrap, ..options() };
        for method in [Method::Ot, Method::PcaOt, Method::ActGaussian] {
            let found = fit(method, s, t, &options, None).unwrap().certificate.bootstrap.unwrap();
            let plain = fit(method, source.as_ref(), target.as_ref(), &options, None).unwrap();
            let plain = plain.certificate.bootstrap.unwrap();
            // The same rows are drawn. The norm of PCA-OT is often that of its identity.
            let (a, b) = (found.w2_before, plain.w2_before);
            assert!((0..2).all(|i| (a[i] - b[i]).abs() > 1e-4 * b[i]), "{method} of {d}: {a:?} {b:?}");
            let (a, b) = (found.norm.unwrap(), plain.norm.unwrap());
            let differs = (0..2).any(|i| (a[i] - b[i]).abs() > 1e-4 * b[i]);
            assert!(differs || method == Method::PcaOt, "{method} of {d}: {a:?} {b:?}");
        }
    }
}

#[test]
fn the_choice_of_components_weighs_rows_and_leaves_out_those_of_no_weight() {
    for d in [5, 70] {
        let (source, target) = (rows(24, d, 1), rows(20, d, 2));
        let (mut w_s, w_t) = (weights(24, 3), weights(20, 4));
        w_s[7] = 0.0;
        let (few, kept) = without(source.as_ref(), &w_s);
        let choose = |s: Samples<'_>, t: Samples<'_>| {
            select_components(s, t, &[1, 2, 3], &FitOptions::default(), 3).unwrap().table
        };
        let t = Samples::weighted(target.as_ref(), &w_t);
        let found = choose(Samples::weighted(source.as_ref(), &w_s), t);
        assert_eq!(found, choose(Samples::weighted(few.as_ref(), &kept), t));

        // By hand: the first fold of the first candidate.
        let part = |x: &Mat<f64>, w: &[f64], out: bool| {
            let which: Vec<usize> = (0..w.len()).filter(|i| (i % 3 == 0) == out).collect();
            let rows = Mat::from_fn(which.len(), d, |i, j| x[(which[i], j)]);
            (rows, which.iter().map(|&i| w[i]).collect::<Vec<f64>>())
        };
        let ((s, ws), (t, wt)) = (part(&few, &kept, false), part(&target, &w_t, false));
        let ((so, wso), (to, wto)) = (part(&few, &kept, true), part(&target, &w_t, true));
        let (s, t) = (Samples::weighted(s.as_ref(), &ws), Samples::weighted(t.as_ref(), &wt));
        let out = (Samples::weighted(so.as_ref(), &wso), Samples::weighted(to.as_ref(), &wto));
        let options = FitOptions { components: 1, ..FitOptions::default() };
        let by_hand = fit(Method::PcaOt, s, t, &options, out).unwrap().certificate.held_out.unwrap();
        near(found[0].folds[0], by_hand.w2_ratio.unwrap(), DIGITS, "ratio");
    }
}

#[test]
fn calibration_weighs_its_losses() {
    let (source, target) = (rows(24, 5, 1), rows(24, 5, 2));
    let options = FitOptions {
        covariance: Covariance::Population,
        gate: GateOptions { shrinkage: Shrinkage::Fixed(0.1), ..GateOptions::default() },
        ..FitOptions::default()
    };
    let grid = brenier_transport::CalibrationOptions {
        folds: 2,
        components: vec![1, 2],
        shrinkages: vec![Shrinkage::Fixed(0.1)],
        temperatures: vec![1.0],
    };
    // Every row twice, and every row of weight 2: fold by fold the same rows, if copies stay together.
    let places: Vec<usize> = (0..48).map(|i| 2 * (i / 4) + i % 2).collect();
    let twice = |rows: &Mat<f64>| Mat::from_fn(48, 5, |i, j| rows[(places[i], j)]);
    let (many_s, many_t) = (twice(&source), twice(&target));
    // Weights that differ, so that they are not taken for none: half the rows once and half of them twice.
    let w: Vec<f64> = (0..24).map(|i| if i < 12 { 1.0 } else { 2.0 }).collect();
    let some: Vec<usize> = (0..48).filter(|&i| i / 4 >= 6 || i % 4 < 2).collect();
    let pick = |rows: &Mat<f64>| Mat::from_fn(some.len(), 5, |i, j| rows[(some[i], j)]);
    let (many_s, many_t) = (pick(&many_s), pick(&many_t));
    let (s, t) = (Samples::weighted(source.as_ref(), &w), Samples::weighted(target.as_ref(), &w));
    let found = calibrate_gate(s, t, &options, &grid).unwrap();
    let expected = calibrate_gate(many_s.as_ref(), many_t.as_ref(), &options, &grid).unwrap();
    let plain = calibrate_gate(source.as_ref(), target.as_ref(), &options, &grid).unwrap();
    for ((a, b), c) in found.table.iter().zip(&expected.table).zip(&plain.table) {
        near(a.log_loss, b.log_loss, DIGITS, "log-loss");
        assert!((a.log_loss - c.log_loss).abs() > 1e-4, "else the test says nothing");
        // 36 rows were not seen, but 24 of differing weight.
        assert!(a.standard_error > 1.1 * b.standard_error);
    }
}

#[test]
fn what_cannot_be_weighed_is_refused() {
    let (source, target) = (rows(6, 4, 1), rows(7, 4, 2));
    let (s, t) = (source.as_ref(), target.as_ref());
    let refused = |method, w: &[f64]| {
        fit(method, Samples::weighted(s, w), t, &FitOptions::default(), None).unwrap_err()
    };
    let rows_error = |error| match error {
        TransportError::Rows { side: Side::Source, error } => error,
        other => panic!("{other}"),
    };
    assert_eq!(rows_error(refused(Method::Ot, &[1.0; 5])), LinalgError::WeightCount { rows: 6, weights: 5 });
    assert_eq!(
        rows_error(refused(Method::Ot, &[1.0, 1.0, 1.0, -0.5, 1.0, 1.0])),
        LinalgError::Weight { row: 3, weight: -0.5 }
    );
    assert_eq!(rows_error(refused(Method::Mean, &[0.0; 6])), LinalgError::NoWeight { rows: 6 });
    // One row left is too few for a covariance, and enough for a mean.
    let one = [0.0, 0.0, 1.0, 0.0, 0.0, 0.0];
    assert_eq!(rows_error(refused(Method::Ot, &one)), LinalgError::TooFewRows { needed: 2, found: 1 });
    assert!(fit(Method::Mean, Samples::weighted(s, &one), t, &FitOptions::default(), None).is_ok());
    // A bad value is named as it was given, in a row of no weight too.
    let mut bad = source.clone();
    bad[(4, 2)] = f64::NAN;
    for w in [[0.0, 1.0, 1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0, 0.0, 1.0]] {
        let found = fit(Method::Ot, Samples::weighted(bad.as_ref(), &w), t, &FitOptions::default(), None)
            .unwrap_err();
        assert!(matches!(rows_error(found), LinalgError::NonFinite { row: 4, column: 2, .. }));
    }
    // Held out.
    let out = (Samples::weighted(s, &[1.0]), Samples::from(t));
    let found = fit(Method::Mean, s, t, &FitOptions::default(), out).unwrap_err();
    assert!(matches!(
        found,
        TransportError::Rows { side: Side::HeldOutSource, error: LinalgError::WeightCount { .. } }
    ));
    assert!(Gaussian::from_rows(Samples::weighted(s, &[1.0]), Covariance::Sample).is_err());
    assert!(sliced_w2(Samples::weighted(s, &[1.0]), t, Mat::identity(4, 4).as_ref()).is_err());
}
