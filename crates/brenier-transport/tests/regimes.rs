//! Where fits fail, and the extremes where they must not.
#![allow(clippy::unwrap_used)]

mod common;

use brenier_linalg::LinalgError;
use brenier_map::RowMap;
use brenier_transport::{
    Covariance, FitOptions, GateOptions, Gaussian, Method, Shrinkage, Side, TransportError, fit, monge, w2,
};
use common::{linear_part, map_rows, relative, rows};
use faer::{Mat, mat};

fn refused(method: Method, source: &Mat<f64>, target: &Mat<f64>, options: &FitOptions) -> TransportError {
    fit(method, source.as_ref(), target.as_ref(), options, None).unwrap_err()
}

#[test]
fn a_bad_value_is_named_with_its_side_row_and_column() {
    let (source, mut target) = (rows(10, 4, 1), rows(10, 4, 2));
    target[(6, 3)] = f64::NAN;
    for method in Method::ALL {
        let error = refused(method, &source, &target, &FitOptions::default());
        assert_eq!(
            error.to_string(),
            "target rows: row 6, column 3 (counted from 0) is NaN; every value has to be finite"
        );
    }
    let held = Some((source.as_ref(), target.as_ref()));
    let error =
        fit(Method::Mean, source.as_ref(), source.as_ref(), &FitOptions::default(), held).unwrap_err();
    assert!(error.to_string().starts_with("held-out target rows: row 6, column 3"));
    target[(6, 3)] = 1e200;
    assert!(matches!(
        refused(Method::Ot, &source, &target, &FitOptions::default()),
        TransportError::Magnitude { side: Side::Target, row: 6, column: 3, .. }
    ));
}

#[test]
fn too_few_rows_and_unequal_widths_are_refused_with_numbers() {
    let (one, more, wider) = (rows(1, 4, 1), rows(8, 4, 2), rows(8, 5, 3));
    for method in Method::ALL {
        let found = fit(method, one.as_ref(), more.as_ref(), &FitOptions::default(), None);
        if method.least_rows() == 1 {
            assert!(found.is_ok(), "{method} needs no covariance");
        } else {
            assert!(matches!(
                found.unwrap_err(),
                TransportError::Rows {
                    side: Side::Source,
                    error: LinalgError::TooFewRows { needed: 2, found: 1 }
                }
            ));
        }
        assert!(matches!(
            refused(method, &more, &wider, &FitOptions::default()),
            TransportError::Widths { side: Side::Target, expected: 4, found: 5 }
        ));
    }
}

#[test]
fn more_components_than_the_rank_are_refused_with_numbers() {
    let (source, target) = (rows(3, 10, 4), rows(4, 10, 5));
    let options = FitOptions { components: 7, ..FitOptions::default() };
    for method in [Method::PcaOt, Method::Gated] {
        assert_eq!(
            refused(method, &source, &target, &options).to_string(),
            "7 components asked for, but the 7 pooled rows of width 10 have rank 6; ask for at most 6"
        );
    }
}

#[test]
fn options_outside_their_range_are_named() {
    let x = rows(5, 3, 6);
    let base = FitOptions::default();
    let gate = |gate| FitOptions { gate, ..base };
    for (options, name) in [
        (FitOptions { components: 0, ..base }, "components"),
        (FitOptions { shrinkage: Shrinkage::Fixed(1.5), ..base }, "shrinkage"),
        (FitOptions { shrinkage: Shrinkage::Fixed(f64::NAN), ..base }, "shrinkage"),
        (FitOptions { reg_abs: Some(-1.0), ..base }, "reg-abs"),
        (gate(GateOptions { temperature: 0.0, ..GateOptions::default() }), "gate temperature"),
        (gate(GateOptions { prior: 1.0, ..GateOptions::default() }), "gate prior"),
        (gate(GateOptions { threshold: Some(2.0), ..GateOptions::default() }), "gate threshold"),
        (FitOptions { act_quantiles: Some((0.5, 0.5)), ..base }, "act quantiles"),
    ] {
        match refused(Method::Mean, &x, &x, &options) {
            TransportError::Option { name: found, .. } => assert_eq!(found, name),
            other => panic!("{other}"),
        }
    }
    assert!("procrustes".parse::<Method>().unwrap_err().to_string().contains("pca-ot, gated, "));
}

#[test]
fn equal_means_have_no_direction() {
    let x = rows(9, 4, 7);
    for method in [Method::Rfa, Method::Ace] {
        assert!(matches!(refused(method, &x, &x, &FitOptions::default()), TransportError::SameMean { .. }));
    }
}

#[test]
fn a_class_without_a_density_cannot_be_gated() {
    // The source varies along one line only.
    let line = Mat::from_fn(12, 5, |i, j| i as f64 * (1.0 + j as f64));
    let gate = GateOptions { shrinkage: Shrinkage::Fixed(0.0), ..GateOptions::default() };
    let options = FitOptions { components: 3, gate, ..FitOptions::default() };
    assert!(matches!(
        refused(Method::Gated, &line, &rows(12, 5, 8), &options),
        TransportError::GateDegenerate { side: Side::Source, rank: 1, components: 3 }
    ));
    let shrunk = FitOptions { components: 3, ..FitOptions::default() };
    assert!(fit(Method::Gated, line.as_ref(), rows(12, 5, 8).as_ref(), &shrunk, None).is_ok());
}

#[test]
fn two_rows_are_a_line() {
    let (source, target) = (rows(2, 6, 9), rows(2, 6, 10));
    let found = fit(Method::Ot, source.as_ref(), target.as_ref(), &FitOptions::default(), None).unwrap();
    let laws = found.certificate.optimality.as_ref().unwrap();
    assert_eq!((laws.rank, laws.floored), (1, 1));
    let options = FitOptions { components: 1, ..FitOptions::default() };
    assert!(fit(Method::PcaOt, source.as_ref(), target.as_ref(), &options, None).is_ok());
}

#[test]
fn constant_columns_move_with_the_mean_and_stay_finite() {
    let (mut source, mut target) = (rows(30, 6, 11), rows(25, 6, 12));
    for i in 0..30 {
        source[(i, 2)] = 5.0;
    }
    for i in 0..25 {
        target[(i, 2)] = 7.0;
        target[(i, 4)] = -1.0;
    }
    for method in Method::ALL {
        let options = FitOptions { components: 3, ..FitOptions::default() };
        let found = fit(method, source.as_ref(), target.as_ref(), &options, None).unwrap();
        let moved = map_rows(&found.map, source.as_ref());
        assert!(moved.col_iter().all(|column| column.iter().all(|x| x.is_finite())));
        if matches!(method, Method::Ot | Method::Mean | Method::ActLinear) {
            assert!(moved.col(2).iter().all(|x| (x - 7.0).abs() < 1e-9), "{method}");
        }
        if method == Method::Ot {
            // The target does not vary here: the optimal map flattens.
            assert!(moved.col(4).iter().all(|x| (x + 1.0).abs() < 1e-9));
        }
        if method == Method::ActGaussian {
            assert_eq!(found.certificate.skipped, Some(2));
            assert!(moved.col(2).iter().all(|&x| x == 5.0), "left alone, as published");
        }
    }
}

#[test]
fn one_row_is_a_point() {
    let (one, other, many) = (mat![[1.0, 2.0, 3.0]], mat![[4.0, 6.0, 3.0]], rows(9, 3, 41));
    for covariance in [Covariance::Sample, Covariance::Population] {
        let gaussian = |rows: &Mat<f64>| Gaussian::from_rows(rows.as_ref(), covariance).unwrap();
        assert_eq!(w2(&gaussian(&one), &gaussian(&other)).unwrap(), 5.0);
        // A point can be carried to a mean, and not spread over what lies around it.
        let spread = gaussian(&many);
        let map = monge(&gaussian(&one), &spread).unwrap();
        assert_eq!(map.matrix(), Mat::<f64>::identity(3, 3));
        assert_eq!((map.optimality().rank, map.optimality().unreachable), (0, 1.0));
        // Everything can be carried to a point.
        let back = monge(&spread, &gaussian(&one)).unwrap();
        let moved = map_rows(&RowMap::new(back.affine()).unwrap(), many.as_ref());
        assert!((0..9).all(|i| (0..3).all(|j| (moved[(i, j)] - one[(0, j)]).abs() < 1e-13)));
        let distance = w2(&gaussian(&one), &spread).unwrap();
        let size = (back.optimality().transport_cost.sqrt() - distance).abs();
        assert!(size < 1e-14 * distance);
    }
}

#[test]
fn all_rows_equal_is_a_shift() {
    let (source, target) = (Mat::from_fn(5, 3, |_, j| j as f64), Mat::from_fn(4, 3, |_, j| 10.0 - j as f64));
    let found = fit(Method::Ot, source.as_ref(), target.as_ref(), &FitOptions::default(), None).unwrap();
    let expected = Mat::from_fn(5, 3, |_, j| 10.0 - j as f64);
    assert_eq!(map_rows(&found.map, source.as_ref()), expected);
    assert_eq!(found.certificate.train.w2_after, 0.0);
}

#[test]
fn units_of_1e_minus_30_and_1e30_are_only_units() {
    let (source, target, probe) = (rows(20, 8, 13), rows(16, 8, 14), rows(5, 8, 15));
    for method in Method::ALL {
        let options = FitOptions { components: 3, ..FitOptions::default() };
        let plain = fit(method, source.as_ref(), target.as_ref(), &options, None).unwrap();
        let expected = map_rows(&plain.map, probe.as_ref());
        for unit in [1e-30, 1e30] {
            // AcT's least deviation is an absolute number: at 1e-30 nothing varies.
            if method == Method::ActGaussian && unit < 1.0 {
                continue;
            }
            let scaled = |rows: &Mat<f64>| Mat::from_fn(rows.nrows(), 8, |i, j| unit * rows[(i, j)]);
            let found =
                fit(method, scaled(&source).as_ref(), scaled(&target).as_ref(), &options, None).unwrap();
            let moved = map_rows(&found.map, scaled(&probe).as_ref());
            let back = Mat::from_fn(5, 8, |i, j| moved[(i, j)] / unit);
            assert!(relative(back.as_ref(), expected.as_ref()) < 1e-9, "{method} at {unit:e}");
        }
    }
}

#[test]
fn a_small_source_beside_a_large_target_keeps_its_directions() {
    let small = rows(30, 5, 16);
    let source = Mat::from_fn(30, 5, |i, j| 1e-12 * small[(i, j)]);
    let target = rows(30, 5, 17);
    let found = fit(Method::Ot, source.as_ref(), target.as_ref(), &FitOptions::default(), None).unwrap();
    let laws = found.certificate.optimality.unwrap();
    assert_eq!((laws.rank, laws.floored), (5, 0));
    assert!(found.certificate.train.w2_after < 1e-6 * found.certificate.train.w2_before);
}

#[test]
fn a_flat_source_cannot_be_spread_over_an_isotropic_target() {
    // The source needs no shrinkage (its covariance is a multiple of the identity), the target gets some.
    let source = mat![[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]];
    let options = FitOptions { shrinkage: Shrinkage::Auto, ..FitOptions::default() };
    let found = fit(Method::Ot, source.as_ref(), rows(7, 2, 22).as_ref(), &options, None).unwrap();
    let laws = found.certificate.optimality.unwrap();
    assert_eq!(found.certificate.shrinkage.unwrap()[0], 0.0);
    assert!((laws.transport_cost - laws.w2_squared).abs() < 1e-12 * laws.w2_squared);
    assert!(laws.unreachable < 1e-12);
    // In three dimensions the source lies in a plane, and a third of the target's sphere is out of its reach.
    let flat = Gaussian::from_rows(
        Mat::from_fn(4, 3, |i, j| if j < 2 { source[(i, j)] } else { 0.0 }).as_ref(),
        Covariance::Sample,
    );
    let sphere = Gaussian::new(&[0.0; 3], Mat::<f64>::identity(3, 3).as_ref()).unwrap();
    let map = monge(&flat.unwrap(), &sphere).unwrap();
    assert!((map.optimality().unreachable - 1.0 / 3.0).abs() < 1e-12);
    assert_eq!(map.optimality().floored, 1);
}

#[test]
fn a_far_mean_does_not_cost_the_spread() {
    let (source, target) = (rows(30, 5, 18), rows(30, 5, 19));
    let far = |rows: &Mat<f64>| Mat::from_fn(30, 5, |i, j| rows[(i, j)] + 1e6);
    let options = FitOptions::default();
    let near = fit(Method::Ot, source.as_ref(), target.as_ref(), &options, None).unwrap();
    let found = fit(Method::Ot, far(&source).as_ref(), far(&target).as_ref(), &options, None).unwrap();
    // The rows themselves have lost eps * 1e6 / spread.
    let lost = 1e4 * 1e6 * f64::EPSILON;
    assert!(relative(linear_part(&found.map).0.as_ref(), linear_part(&near.map).0.as_ref()) < lost);
}

#[test]
fn act_sorts_resamples_and_keeps_to_its_range() {
    // Target = 3 source + 1 read at other quantiles of the same line: the slope is 3 whatever the counts.
    let source = Mat::from_fn(5, 1, |i, _| [4.0, 0.0, 2.0, 3.0, 1.0][i]);
    let target = Mat::from_fn(9, 1, |i, _| 1.0 + 3.0 * (8 - i) as f64 * 0.5);
    let moved = |range| {
        let options = FitOptions { act_quantiles: range, ..FitOptions::default() };
        options.check().unwrap();
        let found = fit(Method::ActLinear, source.as_ref(), target.as_ref(), &options, None).unwrap();
        map_rows(&found.map, mat![[1.0], [0.0], [2.0], [4.0], [9.0]].as_ref())
    };
    // Strictly inside (1, 3) alone.
    let inside = moved(Some((0.25, 0.75)));
    assert!(relative(inside.as_ref(), mat![[1.0], [0.0], [7.0], [4.0], [9.0]].as_ref()) < 1e-14);
    // All quantiles are no range, beyond the rows seen too.
    let everywhere = mat![[4.0], [1.0], [7.0], [13.0], [28.0]];
    assert!(relative(moved(Some((0.0, 1.0))).as_ref(), everywhere.as_ref()) < 1e-14);
    assert!(relative(moved(None).as_ref(), everywhere.as_ref()) < 1e-14);
}

#[test]
fn a_matrix_that_is_no_covariance_makes_no_gaussian() {
    for bad in [
        mat![[1.0, 0.5], [0.2, 1.0]],
        mat![[1.0, 2.0], [2.0, 1.0]],
        mat![[f64::NAN, 0.0], [0.0, 1.0]],
        mat![[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]],
    ] {
        assert!(matches!(Gaussian::new(&[0.0, 0.0], bad.as_ref()), Err(TransportError::NotGaussian(_))));
    }
    let (two, three) = (rows(4, 2, 20), rows(4, 3, 21));
    let gaussian = |rows: &Mat<f64>| Gaussian::from_rows(rows.as_ref(), Covariance::Population).unwrap();
    assert!(matches!(w2(&gaussian(&two), &gaussian(&three)), Err(TransportError::Widths { .. })));
    assert!(matches!(monge(&gaussian(&two), &gaussian(&three)), Err(TransportError::Widths { .. })));
}
