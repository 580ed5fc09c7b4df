//! A row goes where its own numbers say, to the last bit: not its layout, nor its neighbours, nor the threads.
#![allow(clippy::unwrap_used)]

mod common;

use brenier_map::{Affine, Gate, LowRank, Mixture, Piece, RowMap};
use common::mapped;
use faer::{Mat, MatMut};

/// Shapes about the edges of lanes, tiles, groups and blocks.
const SHAPES: [(usize, usize, usize); 9] = [
    (1, 1, 1),
    (2, 5, 0),
    (5, 7, 3),
    (7, 8, 2),
    (9, 64, 1),
    (4, 256, 16),
    (66, 257, 2),
    (64, 264, 4),
    (131, 603, 5),
];

fn wave(i: usize, j: usize, by: f64) -> f64 {
    ((i * 31 + j * 17 + 1) as f64 * by).sin()
}

fn low_rank(d: usize, rank: usize, scale: f64, mean: f64) -> LowRank {
    LowRank {
        scale,
        mean: (0..d).map(|j| mean + wave(j, 0, 0.3)).collect(),
        offset: (0..d).map(|j| wave(j, 1, 0.4)).collect(),
        u: Mat::from_fn(d, rank, |i, j| wave(i, j, 0.5)),
        v: Mat::from_fn(d, rank, |i, j| wave(i, j, 0.6)),
    }
}

/// The map plain, grown, under gates, and as a blend.
fn maps(d: usize, rank: usize) -> Vec<RowMap> {
    let plain = || RowMap::new(Affine::LowRank(low_rank(d, rank, 1.0, 0.0))).unwrap();
    let gate = |k: usize, threshold| Gate {
        basis: Mat::from_fn(d, k, |i, j| wave(i, j, 0.8)),
        center: (0..d).map(|j| wave(j, 2, 0.9)).collect(),
        constant: 0.1,
        linear: vec![0.3; k],
        quadratic: Mat::from_fn(k, k, |i, j| -0.01 * (1 + i + j) as f64),
        temperature: 1.5,
        threshold,
    };
    let piece = |by: f64| Piece {
        constant: by,
        linear: vec![0.02 * by; rank],
        quadratic: Mat::from_fn(rank, rank, |_, _| -1e-3 * by),
        matrix: Mat::from_fn(rank, rank, |i, j| wave(i, j, by)),
        shift: vec![by; rank],
    };
    let low = low_rank(d, rank, 1.0, 0.0);
    let blend = Mixture {
        center: low.mean,
        offset: low.offset,
        u: low.u,
        v: low.v,
        pieces: vec![piece(0.4), piece(0.7)],
    };
    vec![
        plain(),
        RowMap::new(Affine::LowRank(low_rank(d, rank, 0.7, 0.0))).unwrap(),
        plain().with_gate(gate(3, None)).unwrap(),
        plain().with_gate(gate(2, Some(0.5))).unwrap(),
        RowMap::new(Affine::Mixture(blend)).unwrap(),
    ]
}

#[test]
fn bits_depend_neither_on_the_layout_nor_on_neighbours() {
    for (n, d, rank) in SHAPES {
        for (which, map) in maps(d, rank).iter().enumerate() {
            let x = Mat::from_fn(n, d, |i, j| wave(i, j, 0.7) as f32);
            // In columns, row after row, and from the last number to the first.
            let mut columns = x.clone();
            map.apply_rows_f32(columns.as_mut(), 0.8).unwrap();
            let mut rows = x.transpose().to_owned();
            map.apply_rows_f32(rows.as_mut().transpose_mut(), 0.8).unwrap();
            let mut turned = Mat::from_fn(d, n, |j, i| x[(i, d - 1 - j)]);
            map.apply_rows_f32(turned.as_mut().transpose_mut().reverse_cols_mut(), 0.8).unwrap();
            for i in 0..n {
                let mut alone: Vec<f32> = (0..d).map(|j| x[(i, j)]).collect();
                map.apply_rows_f32(MatMut::from_row_major_slice_mut(&mut alone, 1, d), 0.8).unwrap();
                for j in 0..d {
                    let bits = alone[j].to_bits();
                    let place = || format!("map {which}, {n} x {d} of rank {rank}, at {i}, {j}");
                    assert_eq!(rows[(j, i)].to_bits(), bits, "{}", place());
                    assert_eq!(columns[(i, j)].to_bits(), bits, "{}", place());
                    assert_eq!(turned[(d - 1 - j, i)].to_bits(), bits, "{}", place());
                }
            }
        }
    }
}

#[test]
fn rows_go_where_the_definition_says_at_any_shape() {
    for (n, d, rank) in SHAPES {
        for (which, map) in maps(d, rank).iter().enumerate() {
            let x = Mat::from_fn(n, d, |i, j| wave(i, j, 0.7));
            let mut found = x.clone();
            map.apply_rows(found.as_mut(), 0.8).unwrap();
            // The definition takes d^2 steps a row.
            for i in (0..n).step_by(1 + n / 8) {
                let row: Vec<f64> = (0..d).map(|j| x[(i, j)]).collect();
                for (j, expected) in mapped(map, &row, 0.8).into_iter().enumerate() {
                    let off = (found[(i, j)] - expected).abs();
                    assert!(
                        off <= 1e-12 * d as f64 * (1.0 + expected.abs()),
                        "map {which}, {n} x {d}: {off:e}"
                    );
                }
            }
        }
    }
}

#[test]
fn one_thread_or_three_the_bits_are_the_same() {
    let (n, d) = (300, 70);
    for map in maps(d, 2) {
        let with = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut x = Mat::from_fn(n, d, |i, j| wave(i, j, 0.7));
            pool.install(|| map.apply_rows(x.as_mut(), 0.8)).unwrap();
            x
        };
        assert_eq!(with(1), with(3));
    }
}

#[test]
fn a_nan_and_a_shut_row_stay_where_they_are_among_others() {
    let (n, d) = (11, 20);
    // Rows of large numbers shut the gate.
    let gate = Gate {
        basis: Mat::full(d, 1, 1.0),
        center: vec![0.0; d],
        constant: 0.0,
        linear: vec![-1.0],
        quadratic: Mat::zeros(1, 1),
        temperature: 1.0,
        threshold: Some(0.2),
    };
    let map = RowMap::new(Affine::LowRank(low_rank(d, 2, 0.7, 0.0))).unwrap().with_gate(gate).unwrap();
    let value = |i: usize, j: usize| match i {
        3 if j == 5 => f32::NAN,
        4 | 8 => 9.0 + j as f32,
        _ => -1.0,
    };
    let mut columns = Mat::from_fn(n, d, value);
    let mut rows = Mat::from_fn(d, n, |j, i| value(i, j));
    map.apply_rows_f32(columns.as_mut(), 1.0).unwrap();
    map.apply_rows_f32(rows.as_mut().transpose_mut(), 1.0).unwrap();
    for moved in [columns.as_ref(), rows.transpose()] {
        for i in 0..n {
            for j in 0..d {
                assert_eq!(moved[(i, j)].is_nan(), i == 3, "{i}, {j}");
                assert_eq!(moved[(i, j)] == value(i, j), i == 4 || i == 8, "{i}, {j}");
            }
        }
    }
}

#[test]
fn a_mean_of_a_million_spreads_costs_f32_rows_no_digit() {
    let (n, d, mean) = (5, 100, 1e6);
    let map = RowMap::new(Affine::LowRank(low_rank(d, 2, 1.0, mean))).unwrap();
    let x = Mat::from_fn(n, d, |i, j| (mean + wave(i, j, 0.7)) as f32);
    let mut found = x.clone();
    map.apply_rows_f32(found.as_mut(), 1.0).unwrap();
    for i in 0..n {
        let row: Vec<f64> = (0..d).map(|j| f64::from(x[(i, j)])).collect();
        for (j, expected) in mapped(&map, &row, 1.0).into_iter().enumerate() {
            // Rounded once: half a unit in the last place, and next to nothing beside.
            let unit = f64::from((expected as f32).abs().next_up()) - f64::from((expected as f32).abs());
            let off = (f64::from(found[(i, j)]) - expected).abs();
            assert!(off <= 0.5001 * unit, "{i}, {j}: {off:e} of {unit:e}");
        }
    }
}
