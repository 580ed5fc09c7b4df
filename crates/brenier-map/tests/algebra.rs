//! Laws of composition, inversion and strength.
#![allow(clippy::unwrap_used)]

mod common;

use brenier_map::{Affine, Dense, Diagonal, LowRank, MapError, RowMap, Symmetric};
use common::{any_map, apply, distance, gate, low_rank, matrix, mixture, plain_map, ranged, symmetric};
use faer::Mat;
use proptest::prelude::*;

const DIM: usize = 6;

/// Entries below 2: a map of rank 2 multiplies lengths by at most about `4 * 2 * DIM`, two of them by its square.
const TOLERANCE: f64 = 64.0 * 48.0 * 48.0 * f64::EPSILON;

/// How far an inverse may be from one, relative to what the map and its inverse multiply lengths by.
const INVERSE_TOLERANCE: f64 = 256.0 * f64::EPSILON;

fn low_rank_map(dim: usize, rank: usize) -> impl Strategy<Value = RowMap> {
    low_rank(dim, rank).prop_map(|affine| RowMap::new(affine).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_composition_is_one_after_the_other(a in plain_map(DIM), b in plain_map(DIM), x in matrix(4, DIM)) {
        let both = a.compose(&b).unwrap();
        let expected = apply(&a, &apply(&b, &x, 1.0), 1.0);
        prop_assert!(distance(apply(&both, &x, 1.0).as_ref(), expected.as_ref()) < TOLERANCE);
    }

    #[test]
    fn low_rank_maps_compose_to_one(a in low_rank_map(DIM, 2), b in low_rank_map(DIM, 1)) {
        let both = a.compose(&b).unwrap();
        let Affine::LowRank(both) = both.affine() else { panic!("not low rank") };
        prop_assert_eq!(both.u.ncols(), 3);
        let dense = matches!(a.compose(&a).unwrap().affine(), Affine::Dense(_));
        prop_assert!(dense);
    }

    #[test]
    fn an_inverse_undoes(map in plain_map(DIM), x in matrix(4, DIM)) {
        let Ok(inverse) = map.inverse() else { return Ok(()) };
        let origin = Mat::zeros(1, DIM);
        let size = |map: &RowMap| {
            let unit = Mat::from_fn(DIM, DIM, |i, j| if i == j { 1.0 } else { 0.0 });
            apply(map, &unit, 1.0).norm_l2() + apply(map, &origin, 1.0).norm_l2()
        };
        let tolerance = INVERSE_TOLERANCE * (1.0 + size(&map)) * (1.0 + size(&inverse)).powi(2);
        let there_and_back = apply(&inverse, &apply(&map, &x, 1.0), 1.0);
        prop_assert!(distance(there_and_back.as_ref(), x.as_ref()) < tolerance);
        let back_and_there = apply(&map, &apply(&inverse, &x, 1.0), 1.0);
        prop_assert!(distance(back_and_there.as_ref(), x.as_ref()) < tolerance * (1.0 + size(&map)));
    }

    #[test]
    fn an_inverse_keeps_the_form(map in low_rank_map(DIM, 2)) {
        if let Ok(inverse) = map.inverse() {
            let Affine::LowRank(inverse) = inverse.affine() else { panic!("not low rank") };
            prop_assert_eq!(inverse.u.ncols(), 2);
        }
    }

    #[test]
    fn a_symmetric_map_stays_one(affine in symmetric(DIM, 2), strength in -1.0..1.0_f64) {
        let map = RowMap::new(affine).unwrap();
        for other in [map.inverse().ok(), map.at_strength(strength).ok()].into_iter().flatten() {
            let Affine::Symmetric(other) = other.affine() else { panic!("not symmetric") };
            prop_assert_eq!(other.core.ncols(), 2);
        }
    }

    #[test]
    fn a_strength_built_in_is_the_strength_at_use(map in any_map(DIM), x in matrix(4, DIM), s in -1.5..1.5_f64) {
        let built_in = apply(&map.at_strength(s).unwrap(), &x, 1.0);
        prop_assert!(distance(built_in.as_ref(), apply(&map, &x, s).as_ref()) < TOLERANCE);
    }

    #[test]
    fn strengths_multiply(map in any_map(DIM), x in matrix(4, DIM)) {
        let half = map.at_strength(0.5).unwrap();
        prop_assert!(distance(apply(&half, &x, 0.5).as_ref(), apply(&map, &x, 0.25).as_ref()) < TOLERANCE);
        prop_assert_eq!(&map.at_strength(1.0).unwrap(), &map);
        prop_assert_eq!(apply(&map.at_strength(0.0).unwrap(), &x, 1.0), x);
    }

    #[test]
    fn what_is_not_affine_has_no_algebra(
        affine in ranged(DIM),
        gate in gate(DIM, 2),
        blend in mixture(DIM, 2, 3),
        plain in plain_map(DIM),
    ) {
        let ranged = RowMap::new(affine).unwrap();
        let blend = RowMap::new(blend).unwrap();
        let gated = plain.clone().with_gate(gate).unwrap();
        for (map, name) in [(ranged, "range"), (gated, "gate"), (blend, "mixture")] {
            for result in [map.compose(&plain), plain.compose(&map), map.inverse()] {
                let refused = matches!(result, Err(MapError::NotAffine { cause, .. }) if cause == name);
                prop_assert!(refused);
            }
        }
    }
}

#[test]
fn a_closed_form_inverse() {
    // x + u v^T x with v^T u = 1: the inverse is x - u v^T x / 2.
    let unit = |at: usize| Mat::from_fn(2, 1, |i, _| if i == at { 1.0 } else { 0.0 });
    let map = RowMap::new(Affine::LowRank(LowRank {
        scale: 1.0,
        mean: vec![0.0; 2],
        offset: vec![0.0; 2],
        u: Mat::from_fn(2, 1, |_, _| 1.0),
        v: unit(0),
    }))
    .unwrap();
    let Affine::LowRank(inverse) = map.inverse().unwrap().affine().clone() else { panic!("not low rank") };
    assert_eq!((inverse.scale, inverse.v), (1.0, unit(0)));
    assert_eq!(inverse.u, Mat::from_fn(2, 1, |_, _| -0.5));
}

#[test]
fn a_core_that_is_not_symmetric_makes_no_map() {
    let map = Symmetric {
        scale: 1.0,
        mean: vec![0.0; 3],
        offset: vec![0.0; 3],
        basis: Mat::zeros(3, 2),
        core: Mat::from_fn(2, 2, |i, j| (i + 2 * j) as f64),
    };
    let error = RowMap::new(Affine::Symmetric(map)).unwrap_err().to_string();
    assert_eq!(error, "map: `core` holds 2 at [0, 1] and 1 at [1, 0]: it has to be symmetric");
}

#[test]
fn maps_that_collapse_a_direction_have_no_inverse() {
    // A projection whose direction has unit length only up to rounding.
    let dim = 5;
    let direction = Mat::from_fn(dim, 1, |_, _| 1.0 / (dim as f64).sqrt());
    let projection = LowRank {
        scale: 1.0,
        mean: vec![0.0; dim],
        offset: vec![0.0; dim],
        u: -&direction,
        v: direction.clone(),
    };
    let flat = LowRank { scale: 0.0, ..projection.clone() };
    let rank_one = Dense { matrix: &direction * direction.transpose(), bias: vec![0.0; dim] };
    let zero = Diagonal { weight: vec![1.0, 0.0], bias: vec![0.0; 2], range: None };
    for affine in
        [Affine::LowRank(projection), Affine::LowRank(flat), Affine::Dense(rank_one), Affine::Diagonal(zero)]
    {
        let error = RowMap::new(affine).unwrap().inverse().unwrap_err();
        assert!(matches!(error, MapError::Singular { .. }), "{error}");
    }
}

#[test]
fn small_is_not_singular() {
    let dim = 3;
    let matrix = Mat::from_fn(dim, dim, |i, j| if i == j { 1e-150 } else { 0.0 });
    let map = RowMap::new(Affine::Dense(Dense { matrix, bias: vec![1.0; dim] })).unwrap();
    let Affine::Dense(inverse) = map.inverse().unwrap().affine().clone() else { panic!("not dense") };
    assert!((inverse.matrix[(1, 1)] / 1e150 - 1.0).abs() < 4.0 * f64::EPSILON);
}

#[test]
fn widths_and_strengths_are_checked() {
    let map = |dim| {
        RowMap::new(Affine::Diagonal(Diagonal { weight: vec![1.0; dim], bias: vec![0.0; dim], range: None }))
            .unwrap()
    };
    assert!(matches!(map(2).compose(&map(3)), Err(MapError::Width { expected: 2, found: 3 })));
    assert!(matches!(map(2).at_strength(f64::NAN), Err(MapError::OutOfRange { part: "strength", .. })));
}
