//! Shrinkage, probabilistic PCA and weighted rows against scikit-learn, POT and textbook formulas
//! (tests/golden/estimators/make.py).
#![allow(clippy::unwrap_used)]

mod common;

use brenier_transport::{FitOptions, GateOptions, Method, Shrinkage, fit};
use common::{Golden, rows};
use faer::Mat;

/// The references go through covariances of a condition of about 1e2 and explicit roots.
const DIGITS: f64 = 1e-9;

#[test]
fn scikit_learn_finds_the_same_oracle_approximating_shrinkage() {
    for name in ["tall", "wide"] {
        let golden = Golden::read(&format!("../estimators/{name}.safetensors"));
        let (source, target) = (golden.matrix("source"), golden.matrix("target"));
        let options = FitOptions { shrinkage: Shrinkage::Oas, ..FitOptions::default() };
        let found = fit(Method::Ot, source.as_ref(), target.as_ref(), &options, None).unwrap();
        let expected = golden.matrix("sklearn/oas");
        for (i, intensity) in found.certificate.shrinkage.unwrap().iter().enumerate() {
            assert!((intensity - expected[(0, i)]).abs() < 1e-13, "{name}: {intensity}");
            assert!(*intensity < 1.0, "else the test says nothing");
        }
    }
}

#[test]
fn every_shrunk_method_takes_oracle_approximating_shrinkage_as_its_own_intensity() {
    let (source, target) = (rows(20, 6, 1), rows(16, 6, 2));
    let oas = FitOptions { shrinkage: Shrinkage::Oas, ..FitOptions::default() };
    for method in [Method::PcaOt, Method::Ot, Method::Entropic, Method::Whitening, Method::Leace] {
        let found = fit(method, source.as_ref(), target.as_ref(), &oas, None).unwrap().certificate;
        let [a, b] = found.shrinkage.unwrap();
        assert!(0.0 < a && a <= 1.0 && 0.0 < b && b <= 1.0, "{method}");
        if method == Method::Leace {
            let fixed = FitOptions { shrinkage: Shrinkage::Fixed(a), ..oas };
            let by_hand = fit(method, source.as_ref(), target.as_ref(), &fixed, None).unwrap().certificate;
            assert_eq!(by_hand.train, found.train);
        }
    }
    // The gate by itself, and a grid of it alone.
    let gate = GateOptions { shrinkage: Shrinkage::Oas, ..GateOptions::default() };
    let found =
        fit(Method::Gated, source.as_ref(), target.as_ref(), &FitOptions { gate, ..oas }, None).unwrap();
    let auto = fit(Method::Gated, source.as_ref(), target.as_ref(), &oas, None).unwrap();
    assert_ne!(found.certificate.gate_shrinkage, auto.certificate.gate_shrinkage);
    let grid = brenier_transport::CalibrationOptions {
        shrinkages: vec![Shrinkage::Oas],
        ..brenier_transport::CalibrationOptions::default()
    };
    let chosen =
        brenier_transport::calibrate_gate(source.as_ref(), target.as_ref(), &FitOptions::default(), &grid)
            .unwrap();
    assert!(chosen.table.iter().all(|score| score.oas && score.shrinkage.is_none()));
}

#[test]
fn an_intensity_of_one_leaves_a_sphere() {
    // Four rows as far from each other: OAS says that all structure is noise.
    let source = Mat::from_fn(4, 9, |i, j| if i == j { 1.0 } else { 0.0 });
    let target = Mat::from_fn(4, 9, |i, j| if i + 3 == j { 2.0 } else { 1.0 });
    let options = FitOptions { shrinkage: Shrinkage::Oas, ..FitOptions::default() };
    let found = fit(Method::Ot, source.as_ref(), target.as_ref(), &options, None).unwrap();
    assert_eq!(found.certificate.shrinkage, Some([1.0, 1.0]));
    let (a, _) = common::linear_part(&found.map);
    let scale = a[(0, 0)];
    let off =
        common::relative(a.as_ref(), Mat::from_fn(9, 9, |i, j| if i == j { scale } else { 0.0 }).as_ref());
    assert!(scale > 0.0 && off < DIGITS, "{off:e}");
}
