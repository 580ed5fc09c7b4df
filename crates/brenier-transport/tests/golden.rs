//! The fits against POT and against textbook formulas in numpy (tests/golden/transport/make.py).
#![allow(clippy::unwrap_used)]

mod common;

use brenier_transport::{
    BarycenterOptions, Blur, Covariance, FitOptions, GateOptions, Gaussian, Method, Pooling, Shift,
    Shrinkage, barycenter, entropic, fit, geodesic, sliced_w2, w2, w2_1d,
};
use common::{Golden, linear_part, map_rows, relative};
use faer::Mat;

/// The references square their covariances (condition up to 1e3) and invert explicit roots; both sides together keep
/// ten digits.
const DIGITS: f64 = 1e-9;
/// POT takes its roots by `scipy.linalg.sqrtm` of a non-symmetric product.
const POT_DIGITS: f64 = 1e-8;

#[test]
fn pot_finds_the_same_map_and_distance() {
    for name in ["tall", "regular", "wide"] {
        let golden = Golden::read(&format!("peer-{name}.safetensors"));
        let (source, target) = (golden.matrix("source"), golden.matrix("target"));
        let options = FitOptions {
            covariance: Covariance::Population,
            reg_abs: Some(golden.number("reg")),
            ..FitOptions::default()
        };
        let found = fit(Method::Ot, source.as_ref(), target.as_ref(), &options, None).unwrap();
        let (matrix, bias) = linear_part(&found.map);
        assert!(relative(matrix.as_ref(), golden.matrix("matrix").as_ref()) < POT_DIGITS, "{name}: matrix");
        let bias = Mat::from_fn(1, bias.len(), |_, j| bias[j]);
        assert!(relative(bias.as_ref(), golden.matrix("bias").as_ref()) < POT_DIGITS, "{name}: bias");
        let laws = found.certificate.optimality.unwrap();
        let distance = golden.number("w2");
        assert!((laws.w2_squared.sqrt() - distance).abs() < POT_DIGITS * distance, "{name}: W2");
        assert_eq!(laws.floored, 0);
    }
}

#[test]
fn every_method_is_its_textbook_formula() {
    for name in ["tall", "even", "wide"] {
        let golden = Golden::read(&format!("plain-{name}.safetensors"));
        let (source, target, probe) =
            (golden.matrix("source"), golden.matrix("target"), golden.matrix("probe"));
        let components = golden.number("components") as usize;
        let plain = FitOptions { components, ..FitOptions::default() };
        let exact_gate = GateOptions { shrinkage: Shrinkage::Fixed(0.0), ..GateOptions::default() };
        let cases = [
            ("pca-ot/subspace", Method::PcaOt, plain),
            ("pca-ot/full", Method::PcaOt, FitOptions { shift: Shift::Full, ..plain }),
            ("pca-ot/classes", Method::PcaOt, FitOptions { pooling: Pooling::Classes, ..plain }),
            ("gated/mapped", Method::Gated, FitOptions { gate: exact_gate, ..plain }),
            ("ot", Method::Ot, plain),
            ("ot/shrunk-0.1", Method::Ot, FitOptions { shrinkage: Shrinkage::Fixed(0.1), ..plain }),
            ("ot/shrunk-auto", Method::Ot, FitOptions { shrinkage: Shrinkage::Auto, ..plain }),
            ("mean", Method::Mean, plain),
            ("rfa", Method::Rfa, plain),
            ("ace", Method::Ace, plain),
            ("act-linear", Method::ActLinear, plain),
            ("act-gaussian", Method::ActGaussian, plain),
        ];
        for (key, method, options) in cases {
            // Without a regulariser the full map has no reference where the covariances are singular.
            if !golden.has(key) {
                assert_eq!((name, key), ("wide", "ot"));
                continue;
            }
            let found = fit(method, source.as_ref(), target.as_ref(), &options, None).unwrap();
            let off = relative(map_rows(&found.map, probe.as_ref()).as_ref(), golden.matrix(key).as_ref());
            assert!(off < DIGITS, "{name} {key}: off by {off:e}");
        }
    }
}

#[test]
fn the_gate_is_the_ratio_of_two_densities() {
    for name in ["tall", "even", "wide"] {
        let golden = Golden::read(&format!("plain-{name}.safetensors"));
        let components = golden.number("components") as usize;
        let gate = GateOptions { shrinkage: Shrinkage::Fixed(0.0), ..GateOptions::default() };
        let options = FitOptions { components, gate, ..FitOptions::default() };
        let (source, target) = (golden.matrix("source"), golden.matrix("target"));
        let found = fit(Method::Gated, source.as_ref(), target.as_ref(), &options, None).unwrap();
        let odds = found.map.gate().unwrap().log_odds(golden.matrix("probe").as_ref()).unwrap();
        let odds = Mat::from_fn(1, odds.len(), |_, i| odds[i]);
        assert!(relative(odds.as_ref(), golden.matrix("gated/log-odds").as_ref()) < DIGITS, "{name}");
    }
}

#[test]
fn ledoit_wolf_and_the_distance_are_those_of_the_definitions() {
    for name in ["tall", "even", "wide"] {
        let golden = Golden::read(&format!("plain-{name}.safetensors"));
        let (source, target) = (golden.matrix("source"), golden.matrix("target"));
        let options = FitOptions { shrinkage: Shrinkage::Auto, ..FitOptions::default() };
        let found = fit(Method::Ot, source.as_ref(), target.as_ref(), &options, None).unwrap();
        let intensities = found.certificate.shrinkage.unwrap();
        let expected = golden.matrix("ledoit-wolf");
        for (i, intensity) in intensities.iter().enumerate() {
            assert!((intensity - expected[(0, i)]).abs() < DIGITS, "{name}");
        }
        if golden.has("w2") {
            let gaussian = |rows: &Mat<f64>| Gaussian::from_rows(rows.as_ref(), Covariance::Sample).unwrap();
            let found = w2(&gaussian(&source), &gaussian(&target)).unwrap();
            assert!((found - golden.number("w2")).abs() < DIGITS * found, "{name}");
        }
    }
}

#[test]
fn entropic_whitening_and_act_mean_are_their_textbook_formulas() {
    let golden = Golden::read("gaussians.safetensors");
    let (source, target, probe) = (golden.matrix("source"), golden.matrix("target"), golden.matrix("probe"));
    let plain = FitOptions::default();
    let blurred = |sigma| FitOptions { entropic_sigma: Blur::Absolute(sigma), ..plain };
    for (key, method, options) in [
        ("entropic/0.05", Method::Entropic, blurred(0.05)),
        ("entropic/0.7", Method::Entropic, blurred(0.7)),
        ("entropic/5.0", Method::Entropic, blurred(5.0)),
        ("whitening", Method::Whitening, plain),
        ("act-mean", Method::ActMean, plain),
        ("act-mean/quantiles", Method::ActMean, FitOptions { act_quantiles: Some((0.1, 0.9)), ..plain }),
    ] {
        let found = fit(method, source.as_ref(), target.as_ref(), &options, None).unwrap();
        let off = relative(map_rows(&found.map, probe.as_ref()).as_ref(), golden.matrix(key).as_ref());
        assert!(off < DIGITS, "{key}: off by {off:e}");
        if let Some(sigma) = key.strip_prefix("entropic/") {
            let (cost, expected) =
                (found.certificate.entropic.unwrap().cost, golden.number(&format!("entropic-cost/{sigma}")));
            assert!((cost - expected).abs() < DIGITS * expected, "{key}: cost");
        }
    }
}

#[test]
fn sinkhorn_on_a_grid_finds_the_same_entropic_map_and_cost() {
    let golden = Golden::read("gaussians.safetensors").matrix("sinkhorn");
    let [m_s, d_s, m_t, d_t, sigma, slope, at_mean, cost] = std::array::from_fn(|i| golden[(0, i)]);
    let gaussian = |m: f64, d: f64| Gaussian::new(&[m], faer::mat![[d * d]].as_ref()).unwrap();
    let found = entropic(&gaussian(m_s, d_s), &gaussian(m_t, d_t), sigma).unwrap();
    let brenier_map::Affine::Dense(map) = found.affine() else { panic!("one dimension") };
    // What a grid and an iteration leave.
    assert!((map.matrix[(0, 0)] - slope).abs() < 1e-8 * slope);
    assert!((map.matrix[(0, 0)] * m_s + map.bias[0] - at_mean).abs() < 1e-8);
    assert!((found.cost() - cost).abs() < 1e-8 * cost);
}

#[test]
fn concept_erasure_finds_the_same_erasure() {
    for name in ["tall", "even", "wide"] {
        let golden = Golden::read(&format!("../erasure/{name}.safetensors"));
        let (source, target, probe) =
            (golden.matrix("source"), golden.matrix("target"), golden.matrix("probe"));
        for (key, shrinkage) in [("peer", 0.0), ("plain/0.0", 0.0), ("plain/0.1", 0.1)] {
            let options = FitOptions { shrinkage: Shrinkage::Fixed(shrinkage), ..FitOptions::default() };
            let found = fit(Method::Leace, source.as_ref(), target.as_ref(), &options, None).unwrap();
            let off = relative(map_rows(&found.map, probe.as_ref()).as_ref(), golden.matrix(key).as_ref());
            assert!(off < DIGITS, "{name} {key}: off by {off:e}");
        }
    }
}

#[test]
fn pot_finds_the_same_barycenter_and_the_textbook_the_same_geodesic() {
    let golden = Golden::read("gaussians.safetensors");
    let (weights, means) = (golden.matrix("barycenter/weights"), golden.matrix("barycenter/means"));
    let of: Vec<(f64, Gaussian)> = (0..4)
        .map(|i| {
            let mean: Vec<f64> = means.row(i).iter().copied().collect();
            let covariance = golden.matrix(&format!("barycenter/covariance-{i}"));
            (weights[(0, i)], Gaussian::new(&mean, covariance.as_ref()).unwrap())
        })
        .collect();
    let found = barycenter(&of, &BarycenterOptions::default()).unwrap();
    assert!(found.converged && found.iterations < 100, "{} iterations", found.iterations);
    let covariance = |g: &Gaussian| g.factor().transpose() * g.factor();
    let expected = golden.matrix("barycenter/covariance");
    let off = relative(covariance(&found.gaussian).as_ref(), expected.as_ref());
    assert!(off < POT_DIGITS, "barycenter off by {off:e}");
    for (x, j) in found.gaussian.mean().iter().zip(0..) {
        assert!((x - golden.matrix("barycenter/mean")[(0, j)]).abs() < DIGITS);
    }

    let gaussian = |key| Gaussian::from_rows(golden.matrix(key).as_ref(), Covariance::Sample).unwrap();
    for (key, t) in [("geodesic/0.25", 0.25), ("geodesic/0.8", 0.8)] {
        let between = geodesic(&gaussian("source"), &gaussian("target"), t).unwrap();
        assert!(relative(covariance(&between).as_ref(), golden.matrix(key).as_ref()) < DIGITS, "{key}");
    }
}

#[test]
fn pot_finds_the_same_one_dimensional_and_sliced_distances() {
    let golden = Golden::read("gaussians.safetensors");
    for n in [7, 12] {
        let values =
            |side| golden.matrix(&format!("1d/{n}/{side}")).row(0).iter().copied().collect::<Vec<_>>();
        let expected = golden.number(&format!("1d/{n}"));
        assert!((w2_1d(&values("a"), &values("b")).unwrap() - expected).abs() < DIGITS * expected);
    }
    let (source, target) = (golden.matrix("source"), golden.matrix("target"));
    let along = golden.matrix("sliced/directions");
    let found = sliced_w2(source.as_ref(), target.as_ref(), along.as_ref()).unwrap();
    assert!((found - golden.number("sliced")).abs() < DIGITS * found);
}
