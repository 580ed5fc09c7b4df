//! What a map does to rows.
#![allow(clippy::unwrap_used)]

mod common;

use brenier_map::{Affine, Dense, Diagonal, Gate, LowRank, MapError, Mixture, Piece, RowMap};
use common::{any_map, apply, distance, mapped, matrix, share};
use faer::{Mat, MatMut, mat};
use proptest::prelude::*;

const DIM: usize = 6;

/// Entries below 2, at most `DIM^2` products of three of them in a sum, times a margin for the gate's slope.
const TOLERANCE: f64 = 4096.0 * f64::EPSILON;

/// Values of the gate closer than this to its threshold may fall on either side of it.
const EDGE: f64 = 1e-9;

fn identity(dim: usize) -> LowRank {
    LowRank {
        scale: 1.0,
        mean: vec![0.0; dim],
        offset: vec![0.0; dim],
        u: Mat::zeros(dim, 0),
        v: Mat::zeros(dim, 0),
    }
}

fn shift(offset: Vec<f64>) -> RowMap {
    RowMap::new(Affine::LowRank(LowRank { offset: offset.clone(), ..identity(offset.len()) })).unwrap()
}

/// The log-odds of N(mean_s, var_s) against N(mean_t, var_t), in one coordinate around 0.
fn posterior(mean_s: f64, var_s: f64, mean_t: f64, var_t: f64) -> Gate {
    let log = |mean: f64, var: f64| -0.5 * (mean * mean / var + var.ln());
    Gate {
        basis: Mat::from_fn(1, 1, |_, _| 1.0),
        center: vec![0.0],
        constant: log(mean_s, var_s) - log(mean_t, var_t),
        linear: vec![mean_s / var_s - mean_t / var_t],
        quadratic: Mat::from_fn(1, 1, |_, _| 0.5 / var_t - 0.5 / var_s),
        temperature: 1.0,
        threshold: None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn rows_go_where_the_definition_says(map in any_map(DIM), x in matrix(5, DIM), strength in -1.5..1.5_f64) {
        let y = apply(&map, &x, strength);
        let p = map.gate_rows(x.as_ref()).unwrap();
        for i in 0..x.nrows() {
            let row: Vec<f64> = (0..DIM).map(|j| x[(i, j)]).collect();
            if let Some(gate) = map.gate() {
                let open = Gate { threshold: None, ..gate.clone() };
                prop_assume!(gate.threshold.is_none_or(|edge| (share(&open, &row) - edge).abs() > EDGE));
                prop_assert!((p[i] - share(gate, &row)).abs() < TOLERANCE);
            } else {
                prop_assert_eq!(p[i], 1.0);
            }
            for (j, expected) in mapped(&map, &row, strength).into_iter().enumerate() {
                let scale = 1.0 + expected.abs();
                prop_assert!((y[(i, j)] - expected).abs() < TOLERANCE * scale, "{} {}", y[(i, j)], expected);
            }
        }
    }

    #[test]
    fn f32_rows_are_the_f64_result_rounded_once(map in any_map(DIM), x in matrix(5, DIM)) {
        let mut narrow = Mat::from_fn(5, DIM, |i, j| x[(i, j)] as f32);
        let wide = Mat::from_fn(5, DIM, |i, j| f64::from(narrow[(i, j)]));
        map.apply_rows_f32(narrow.as_mut(), 0.7).unwrap();
        let wide = apply(&map, &wide, 0.7);
        prop_assert_eq!(narrow, Mat::from_fn(5, DIM, |i, j| wide[(i, j)] as f32));
    }

    #[test]
    fn strength_nothing_keeps_every_bit(map in any_map(DIM)) {
        let mut x = Mat::from_fn(2, DIM, |i, j| if i == j { f64::NAN } else { -0.0 });
        map.apply_rows(x.as_mut(), 0.0).unwrap();
        for i in 0..2 {
            for j in 0..DIM {
                let before: f64 = if i == j { f64::NAN } else { -0.0 };
                prop_assert_eq!(x[(i, j)].to_bits(), before.to_bits());
            }
        }
    }
}

#[test]
fn many_rows_in_any_layout_are_mapped_like_each_alone() {
    let dim = 3;
    let map = RowMap::new(Affine::LowRank(LowRank {
        scale: 0.5,
        mean: vec![100.0, 0.0, -3.0],
        offset: vec![1.0, 2.0, 3.0],
        u: Mat::from_fn(dim, 1, |i, _| i as f64),
        v: Mat::from_fn(dim, 1, |i, _| 1.0 - i as f64),
    }))
    .unwrap();
    let rows = 1200;
    let value = |i: usize, j: usize| ((i * 7 + j * 13) % 101) as f64;
    let mut columns = Mat::from_fn(rows, dim, value);
    map.apply_rows(columns.as_mut(), 1.0).unwrap();
    let mut flat: Vec<f64> = (0..rows * dim).map(|at| value(at / dim, at % dim)).collect();
    map.apply_rows(MatMut::from_row_major_slice_mut(&mut flat, rows, dim), 1.0).unwrap();
    for i in 0..rows {
        let x: Vec<f64> = (0..dim).map(|j| value(i, j)).collect();
        for (j, expected) in mapped(&map, &x, 1.0).into_iter().enumerate() {
            assert_eq!(columns[(i, j)], expected, "row {i}");
            assert_eq!(flat[i * dim + j], expected, "row {i}");
        }
    }
}

#[test]
fn rank_nothing_is_a_shift_and_no_rows_are_no_work() {
    let map = shift(vec![1.0, -2.0]);
    let x = Mat::from_fn(2, 2, |i, j| (i + j) as f64);
    assert_eq!(apply(&map, &x, 0.5), Mat::from_fn(2, 2, |i, j| (i + j) as f64 + [0.5, -1.0][j]));
    assert_eq!(apply(&map, &Mat::zeros(0, 2), 1.0).nrows(), 0);
}

#[test]
fn a_range_has_exclusive_ends() {
    let map = RowMap::new(Affine::Diagonal(Diagonal {
        weight: vec![0.0],
        bias: vec![9.0],
        range: Some((vec![-1.0], vec![1.0])),
    }))
    .unwrap();
    let x = Mat::from_fn(5, 1, |i, _| [-1.0, (-1.0_f64).next_up(), 0.0, 1.0, 2.0][i]);
    let y = apply(&map, &x, 1.0);
    assert_eq!(y, Mat::from_fn(5, 1, |i, _| [-1.0, 9.0, 9.0, 1.0, 2.0][i]));
}

#[test]
fn the_gate_is_the_posterior_of_two_gaussians() {
    let density = |x: f64, mean: f64, var: f64| (-0.5 * (x - mean).powi(2) / var).exp() / var.sqrt();
    let map = shift(vec![1.0]).with_gate(posterior(1.0, 0.5, -2.0, 3.0)).unwrap();
    let x = Mat::from_fn(40, 1, |i, _| i as f64 / 4.0 - 5.0);
    for (i, p) in map.gate_rows(x.as_ref()).unwrap().into_iter().enumerate() {
        let (s, t) = (density(x[(i, 0)], 1.0, 0.5), density(x[(i, 0)], -2.0, 3.0));
        assert!((p - s / (s + t)).abs() < TOLERANCE, "{p} at {}", x[(i, 0)]);
    }
}

#[test]
fn the_gate_is_sound_at_any_log_odds() {
    let mut gate = posterior(0.0, 1.0, 0.0, 1.0);
    gate.linear = vec![1.0];
    let map = shift(vec![1.0]).with_gate(gate).unwrap();
    let x = Mat::from_fn(5, 1, |i, _| [-1e300, -1e4, -100.0, 100.0, 1e300][i]);
    let p = map.gate_rows(x.as_ref()).unwrap();
    assert_eq!((p[0], p[1], p[3], p[4]), (0.0, 0.0, 1.0, 1.0));
    let tail = (-100.0_f64).exp();
    assert!((p[2] - tail).abs() <= 4.0 * f64::EPSILON * tail, "{:e}", p[2]);
    assert_eq!(map.gate().unwrap().log_odds(x.as_ref()).unwrap()[1], -1e4);
}

#[test]
fn a_row_beyond_the_range_of_f32_is_an_error_and_not_an_infinity() {
    let map = shift(vec![0.0, 3e38, 0.0]);
    let place = |i: usize, j: usize| if (i, j) == (40, 1) { 1e38_f32 } else { 0.0 };
    let mut rows = Mat::from_fn(90, 3, place);
    let error = map.apply_rows_f32(rows.as_mut(), 1.0).unwrap_err();
    assert!(matches!(error, MapError::Overflow { row: 40, column: 1, number: "f32" }), "{error}");
    // In f64 it is in range, and what was no number before is no news.
    let mut rows = Mat::from_fn(90, 3, |i, j| f64::from(place(i, j)));
    map.apply_rows(rows.as_mut(), 1.0).unwrap();
    let mut rows = Mat::from_fn(2, 3, |i, _| [f32::INFINITY, f32::NAN][i]);
    map.apply_rows_f32(rows.as_mut(), 1.0).unwrap();
    assert!(rows[(0, 1)] == f32::INFINITY && rows[(1, 1)].is_nan());
}

#[test]
fn shares_of_a_row_so_far_that_every_form_overflows_are_those_of_the_widest() {
    let piece = |precision: f64, linear: f64| Piece {
        constant: 0.0,
        linear: vec![linear],
        quadratic: Mat::full(1, 1, -0.5 * precision),
        matrix: Mat::zeros(1, 1),
        shift: vec![1.0],
    };
    let mixture = Mixture {
        center: vec![0.0],
        offset: vec![0.0],
        u: Mat::full(1, 1, 1.0),
        v: Mat::full(1, 1, 1.0),
        pieces: vec![piece(2.0, 0.0), piece(1.0, 3.0), piece(4.0, 0.0)],
    };
    for far in [1e160, -1e200, 1e300] {
        let x = Mat::full(1, 1, far);
        assert_eq!(mixture.shares(x.as_ref()).unwrap(), mat![[0.0, 1.0, 0.0]], "{far:e}");
        let map = RowMap::new(Affine::Mixture(mixture.clone())).unwrap();
        let mut moved = x.clone();
        map.apply_rows(moved.as_mut(), 1.0).unwrap();
        assert!(moved[(0, 0)].is_finite());
    }
    // Log-odds of which both halves overflow have the sign of the wider class.
    let gate = Gate { quadratic: mat![[-1.0, 0.0], [0.0, 2.0]], ..wide_gate(2) };
    let odds = gate.log_odds(mat![[1e200, 1e200], [1e200, 1e199]].as_ref()).unwrap();
    assert_eq!(odds, [f64::INFINITY, f64::NEG_INFINITY]);
}

fn wide_gate(k: usize) -> Gate {
    Gate {
        basis: Mat::identity(k, k),
        center: vec![0.0; k],
        constant: 0.0,
        linear: vec![0.0; k],
        quadratic: Mat::zeros(k, k),
        temperature: 1.0,
        threshold: None,
    }
}

#[test]
fn a_shut_gate_keeps_every_bit_and_a_hot_one_halves() {
    let gate = posterior(1.0, 1.0, -1.0, 1.0);
    let shut = shift(vec![1.0]).with_gate(Gate { threshold: Some(0.5), ..gate.clone() }).unwrap();
    let x = Mat::from_fn(2, 1, |i, _| [-0.1, 0.1][i]);
    let y = apply(&shut, &x, 1.0);
    assert_eq!(y[(0, 0)].to_bits(), x[(0, 0)].to_bits());
    assert!(y[(1, 0)] > 0.5);
    let hot = shift(vec![1.0]).with_gate(Gate { temperature: 1e12, ..gate }).unwrap();
    assert!((hot.gate_rows(x.as_ref()).unwrap()[1] - 0.5).abs() < 1e-12);
}

#[test]
fn far_from_the_origin_the_coordinates_keep_their_digits() {
    // A projection read from x - mean: with the mean subtracted after the product, 1e8 would eat 8 digits.
    let dim = 64;
    let mean = vec![1e8; dim];
    let direction = 1.0 / (dim as f64).sqrt();
    let map = RowMap::new(Affine::LowRank(LowRank {
        mean: mean.clone(),
        u: Mat::from_fn(dim, 1, |_, _| direction),
        v: Mat::from_fn(dim, 1, |_, _| direction),
        ..identity(dim)
    }))
    .unwrap();
    let x = Mat::from_fn(1, dim, |_, j| mean[j] + 0.25 * j as f64);
    let y = apply(&map, &x, 1.0);
    let average = 0.25 * (dim - 1) as f64 / 2.0;
    let expected = Mat::from_fn(1, dim, |_, j| x[(0, j)] + average);
    // One rounding of a number near 1e8.
    assert!(distance(y.as_ref(), expected.as_ref()) <= 1e8 * f64::EPSILON);
}

#[test]
fn what_does_not_fit_is_refused_with_numbers() {
    let refused = |affine: Affine| RowMap::new(affine).unwrap_err().to_string();
    assert_eq!(
        refused(Affine::LowRank(LowRank { offset: vec![0.0; 2], ..identity(3) })),
        "map: `offset` is of length 2, but of length 3 was expected"
    );
    assert_eq!(
        refused(Affine::LowRank(LowRank { u: Mat::zeros(3, 2), ..identity(3) })),
        "map: `v` is 3 x 0, but 3 x 2 was expected"
    );
    assert_eq!(
        refused(Affine::Dense(Dense { matrix: Mat::zeros(2, 3), bias: vec![0.0; 2] })),
        "map: `matrix` is 2 x 3, but 2 x 2 was expected"
    );
    let range = Some((vec![0.0; 2], vec![0.0; 1]));
    assert_eq!(
        refused(Affine::Diagonal(Diagonal { weight: vec![1.0; 2], bias: vec![0.0; 2], range })),
        "map: `range.hi` is of length 1, but of length 2 was expected"
    );
    assert_eq!(
        refused(Affine::LowRank(LowRank { mean: vec![0.0, f64::NAN, 0.0], ..identity(3) })),
        "map: `mean` holds NaN at [1]: only finite numbers make a map"
    );
    assert!(matches!(RowMap::new(Affine::LowRank(identity(0))), Err(MapError::ZeroWidth)));
}

#[test]
fn gates_that_make_no_sense_are_refused() {
    let gate = posterior(1.0, 1.0, -1.0, 1.0);
    let refused = |gate: Gate| shift(vec![1.0]).with_gate(gate).unwrap_err().to_string();
    assert_eq!(
        refused(Gate { temperature: 0.0, ..gate.clone() }),
        "`gate.temperature` is 0, but a number above 0 was expected"
    );
    assert_eq!(
        refused(Gate { threshold: Some(1.5), ..gate.clone() }),
        "`gate.threshold` is 1.5, but a number from 0 to 1 was expected"
    );
    assert!(refused(Gate { threshold: Some(f64::NAN), ..gate.clone() }).contains("NaN"));
    assert_eq!(
        refused(Gate { basis: Mat::zeros(2, 1), ..gate.clone() }),
        "map: `gate.basis` is 2 x 1, but 1 x 1 was expected"
    );
    assert_eq!(
        refused(Gate { quadratic: Mat::zeros(1, 2), ..gate }),
        "map: `gate.quadratic` is 1 x 2, but 1 x 1 was expected"
    );
}

#[test]
fn rows_of_another_width_and_wild_strengths_are_refused() {
    let map = shift(vec![1.0; 4]);
    let mut x = Mat::<f64>::zeros(2, 3);
    let error = map.apply_rows(x.as_mut(), 1.0).unwrap_err().to_string();
    assert_eq!(error, "the rows are 3 wide, but the map is for a width of 4");
    assert!(map.gate_rows(x.as_ref()).is_err());
    let error = map.apply_rows(Mat::<f64>::zeros(2, 4).as_mut(), f64::INFINITY).unwrap_err().to_string();
    assert_eq!(error, "`strength` is inf, but a finite number was expected");
}
