//! The fits against POT and against textbook formulas in numpy (tests/golden/transport/make.py).
#![allow(clippy::unwrap_used)]

mod common;

use brenier_transport::{
    Covariance, FitOptions, GateOptions, Gaussian, Method, Pooling, Shift, Shrinkage, fit, w2,
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
