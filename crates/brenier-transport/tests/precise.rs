//! Ill-conditioned and singular Gaussians against the same formulas in 50 digits (tests/golden/precise/make.py).
#![allow(clippy::unwrap_used)]

mod common;

use brenier_map::{Affine, RowMap};
use brenier_transport::{Covariance, FitOptions, Gaussian, Method, fit, monge, w2};
use common::{Golden, map_rows, relative};
use faer::{Mat, Scale};

/// How many times `eps sqrt(condition)` (from rows) or `eps condition` (from covariance matrices) the matrix of a map
/// may be off, relative to its norm. Seen: at most 7, at a condition number near 1.
const MATRIX: f64 = 30.0;
/// How many times eps rows from the source's surroundings may be off, relative to where they go, when the map is
/// fitted to rows. Seen: at most 170, at a condition number of 1e12.
const MAPPED: f64 = 1000.0;
/// How many times eps W2 may be off. Seen: at most 5.
const DISTANCE: f64 = 20.0;

const CONDITIONS: [&str; 4] = ["1e0", "1e4", "1e8", "1e12"];

#[test]
fn a_fit_to_rows_loses_the_root_of_the_condition() {
    for form in ["shared", "crossed", "flat", "wide"] {
        for condition in CONDITIONS {
            let golden = golden("rows", form, condition);
            let expected = golden.number("condition");
            let allowed = MATRIX * f64::EPSILON * expected.sqrt();
            // 2^100 is about 1e30.
            for unit in [1.0, 2.0_f64.powi(100), 2.0_f64.powi(-100)] {
                let case = format!("{form} {condition} in units of {unit:e}");
                let rows = |name| times(&golden.matrix(name), unit);
                let (source, target) = (rows("source"), rows("target"));
                let options = FitOptions::default();
                let found = fit(Method::Ot, source.as_ref(), target.as_ref(), &options, None).unwrap();

                let off = relative(matrix(&found.map).as_ref(), golden.matrix("matrix").as_ref());
                assert!(off < allowed, "{case}: A is off by {off:e}, allowed {allowed:e}");
                let mapped = map_rows(&found.map, rows("probe").as_ref());
                let off = relative(mapped.as_ref(), rows("mapped").as_ref());
                assert!(off < MAPPED * f64::EPSILON, "{case}: rows are off by {off:e}");
                let gaussian =
                    |rows: &Mat<f64>| Gaussian::from_rows(rows.as_ref(), Covariance::Sample).unwrap();
                let distance = w2(&gaussian(&source), &gaussian(&target)).unwrap() / unit;
                let off = (distance / golden.number("w2") - 1.0).abs();
                assert!(off < DISTANCE * f64::EPSILON, "{case}: W2 is off by {off:e}");

                let laws = found.certificate.optimality.unwrap();
                let off = (laws.condition / expected - 1.0).abs();
                assert!(off < allowed, "{case}: the condition is said to be {:e}", laws.condition);
                let (rank, floored) = if form == "wide" { (2, 3) } else { (5, 0) };
                assert_eq!((laws.rank, laws.floored), (rank, floored), "{case}");
            }
        }
    }
}

#[test]
fn a_map_between_covariances_loses_the_condition() {
    for form in ["shared", "crossed"] {
        for condition in CONDITIONS {
            let golden = golden("covariance", form, condition);
            let lost = f64::EPSILON * golden.number("condition");
            let gaussian = |mean: &str, covariance: &str| {
                let mean: Vec<f64> = golden.matrix(mean).row(0).iter().copied().collect();
                Gaussian::new(&mean, golden.matrix(covariance).as_ref()).unwrap()
            };
            let (source, target) = (gaussian("mean_s", "covariance_s"), gaussian("mean_t", "covariance_t"));
            let map = RowMap::new(monge(&source, &target).unwrap().affine()).unwrap();

            let off = relative(matrix(&map).as_ref(), golden.matrix("matrix").as_ref());
            assert!(off < MATRIX * lost, "{form} {condition}: A is off by {off:e}");
            // A row of the source has little of the directions in which A is least known.
            let mapped = map_rows(&map, golden.matrix("probe").as_ref());
            let off = relative(mapped.as_ref(), golden.matrix("mapped").as_ref());
            assert!(
                off < MATRIX * (f64::EPSILON * lost).sqrt(),
                "{form} {condition}: rows are off by {off:e}"
            );
            let off = (w2(&source, &target).unwrap() / golden.number("w2") - 1.0).abs();
            assert!(off < DISTANCE * f64::EPSILON, "{form} {condition}: W2 is off by {off:e}");
        }
    }
}

fn golden(kind: &str, form: &str, condition: &str) -> Golden {
    Golden::read(&format!("../precise/{kind}-{form}-{condition}.safetensors"))
}

fn times(rows: &Mat<f64>, unit: f64) -> Mat<f64> {
    Mat::from_fn(rows.nrows(), rows.ncols(), |i, j| unit * rows[(i, j)])
}

/// The linear part, from the map's own numbers.
fn matrix(map: &RowMap) -> Mat<f64> {
    match map.affine() {
        Affine::Dense(map) => map.matrix.clone(),
        Affine::LowRank(map) => {
            let d = map.u.nrows();
            &map.u * map.v.transpose() + Scale(map.scale) * Mat::<f64>::identity(d, d)
        }
        Affine::Symmetric(map) => {
            let d = map.basis.nrows();
            &map.basis * &map.core * map.basis.transpose() + Scale(map.scale) * Mat::<f64>::identity(d, d)
        }
        other => panic!("{other:?}"),
    }
}
