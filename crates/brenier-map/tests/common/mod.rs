//! Random maps, and what they do by the definition, one number at a time.
#![allow(dead_code, clippy::unwrap_used)]

use brenier_map::{Affine, Dense, Diagonal, Gate, LowRank, Mixture, Piece, RowMap, Symmetric};
use faer::{Mat, MatRef};
use proptest::prelude::*;

pub fn vector(len: usize) -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(-2.0..2.0_f64, len)
}

pub fn matrix(rows: usize, cols: usize) -> impl Strategy<Value = Mat<f64>> {
    vector(rows * cols).prop_map(move |values| Mat::from_fn(rows, cols, |i, j| values[i * cols + j]))
}

pub fn low_rank(dim: usize, rank: usize) -> impl Strategy<Value = Affine> {
    (0.5..2.0_f64, vector(dim), vector(dim), matrix(dim, rank), matrix(dim, rank))
        .prop_map(|(scale, mean, offset, u, v)| Affine::LowRank(LowRank { scale, mean, offset, u, v }))
}

pub fn symmetric(dim: usize, rank: usize) -> impl Strategy<Value = Affine> {
    (0.5..2.0_f64, vector(dim), vector(dim), matrix(dim, rank), matrix(rank, rank)).prop_map(
        move |(scale, mean, offset, basis, half)| {
            let core = Mat::from_fn(rank, rank, |i, j| half[(i, j)] + half[(j, i)]);
            Affine::Symmetric(Symmetric { scale, mean, offset, basis, core })
        },
    )
}

pub fn diagonal(dim: usize) -> impl Strategy<Value = Affine> {
    let weight = prop::collection::vec(prop_oneof![-2.0..-0.5_f64, 0.5..2.0_f64], dim);
    (weight, vector(dim)).prop_map(|(weight, bias)| Affine::Diagonal(Diagonal { weight, bias, range: None }))
}

pub fn ranged(dim: usize) -> impl Strategy<Value = Affine> {
    (vector(dim), vector(dim), vector(dim), vector(dim)).prop_map(|(weight, bias, lo, width)| {
        let hi = lo.iter().zip(width).map(|(lo, width)| lo + width.abs()).collect();
        Affine::Diagonal(Diagonal { weight, bias, range: Some((lo, hi)) })
    })
}

pub fn dense(dim: usize) -> impl Strategy<Value = Affine> {
    (matrix(dim, dim), vector(dim)).prop_map(|(matrix, bias)| Affine::Dense(Dense { matrix, bias }))
}

pub fn gate(dim: usize, k: usize) -> impl Strategy<Value = Gate> {
    let threshold = prop::option::of(0.0..1.0_f64);
    (matrix(dim, k), vector(dim), -2.0..2.0_f64, vector(k), matrix(k, k), 0.5..2.0_f64, threshold).prop_map(
        |(basis, center, constant, linear, quadratic, temperature, threshold)| Gate {
            basis,
            center,
            constant,
            linear,
            quadratic,
            temperature,
            threshold,
        },
    )
}

fn piece(k: usize) -> impl Strategy<Value = Piece> {
    (-2.0..2.0_f64, vector(k), matrix(k, k), matrix(k, k), vector(k)).prop_map(
        |(constant, linear, quadratic, matrix, shift)| Piece { constant, linear, quadratic, matrix, shift },
    )
}

pub fn mixture(dim: usize, k: usize, pieces: usize) -> impl Strategy<Value = Affine> {
    let pieces = prop::collection::vec(piece(k), pieces);
    (vector(dim), vector(dim), matrix(dim, k), matrix(dim, k), pieces)
        .prop_map(|(center, offset, u, v, pieces)| Affine::Mixture(Mixture { center, offset, u, v, pieces }))
}

/// Maps without gate, range or a blend.
pub fn plain_map(dim: usize) -> impl Strategy<Value = RowMap> {
    let low = prop_oneof![low_rank(dim, 0), low_rank(dim, 1), low_rank(dim, 2)];
    let affine = prop_oneof![3 => low, 1 => symmetric(dim, 2), 1 => diagonal(dim), 1 => dense(dim), 1 => mixture(dim, 2, 1)];
    affine.prop_map(|affine| RowMap::new(affine).unwrap())
}

/// Maps of every kind, half of them gated.
pub fn any_map(dim: usize) -> impl Strategy<Value = RowMap> {
    let blend = prop_oneof![mixture(dim, 0, 2), mixture(dim, 1, 3), mixture(dim, 2, 1)];
    let low = prop_oneof![low_rank(dim, 0), low_rank(dim, 2), symmetric(dim, 0), symmetric(dim, 2)];
    let affine = prop_oneof![2 => low, 1 => diagonal(dim), 1 => ranged(dim), 1 => dense(dim), 1 => blend];
    let gate = prop::option::of(prop_oneof![gate(dim, 0), gate(dim, 1), gate(dim, 3)]);
    (affine, gate).prop_map(|(affine, gate)| {
        let map = RowMap::new(affine).unwrap();
        match gate {
            Some(gate) => map.with_gate(gate).unwrap(),
            None => map,
        }
    })
}

/// The gate by its definition.
pub fn share(gate: &Gate, x: &[f64]) -> f64 {
    let k = gate.linear.len();
    let z: Vec<f64> = (0..k)
        .map(|j| x.iter().enumerate().map(|(i, x)| gate.basis[(i, j)] * (x - gate.center[i])).sum())
        .collect();
    let mut odds = gate.constant;
    for i in 0..k {
        odds += gate.linear[i] * z[i];
        for j in 0..k {
            odds += z[i] * gate.quadratic[(i, j)] * z[j];
        }
    }
    let p = 1.0 / (1.0 + (-odds / gate.temperature).exp());
    if gate.threshold.is_some_and(|threshold| p < threshold) { 0.0 } else { p }
}

/// The affine map by its definition.
pub fn transported(affine: &Affine, x: &[f64]) -> Vec<f64> {
    let dim = x.len();
    match affine {
        Affine::LowRank(map) => (0..dim)
            .map(|i| {
                let mut y = map.scale * x[i] + map.offset[i];
                for r in 0..map.u.ncols() {
                    for (j, (x, mean)) in x.iter().zip(&map.mean).enumerate() {
                        y += map.u[(i, r)] * map.v[(j, r)] * (x - mean);
                    }
                }
                y
            })
            .collect(),
        Affine::Symmetric(map) => (0..dim)
            .map(|i| {
                let mut y = map.scale * x[i] + map.offset[i];
                for a in 0..map.core.nrows() {
                    for b in 0..map.core.ncols() {
                        for (j, (x, mean)) in x.iter().zip(&map.mean).enumerate() {
                            y += map.basis[(i, a)] * map.core[(a, b)] * map.basis[(j, b)] * (x - mean);
                        }
                    }
                }
                y
            })
            .collect(),
        Affine::Diagonal(map) => (0..dim)
            .map(|j| match &map.range {
                Some((lo, hi)) if x[j] <= lo[j] || x[j] >= hi[j] => x[j],
                _ => map.weight[j] * x[j] + map.bias[j],
            })
            .collect(),
        Affine::Mixture(map) => blended(map, x),
        Affine::Dense(map) => {
            (0..dim).map(|i| map.bias[i] + (0..dim).map(|j| map.matrix[(i, j)] * x[j]).sum::<f64>()).collect()
        }
    }
}

/// A mixture by its definition, with the forms taken against their largest.
fn blended(map: &Mixture, x: &[f64]) -> Vec<f64> {
    let k = map.v.ncols();
    let z: Vec<f64> =
        (0..k).map(|a| (0..x.len()).map(|i| map.v[(i, a)] * (x[i] - map.center[i])).sum()).collect();
    let form = |piece: &Piece| {
        let mut q = piece.constant;
        for a in 0..k {
            q += piece.linear[a] * z[a];
            for b in 0..k {
                q += z[a] * piece.quadratic[(a, b)] * z[b];
            }
        }
        q
    };
    let forms: Vec<f64> = map.pieces.iter().map(form).collect();
    let top = forms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = forms.iter().map(|q| (q - top).exp()).sum();
    let mut y: Vec<f64> = x.iter().zip(&map.offset).map(|(x, offset)| x + offset).collect();
    for (piece, q) in map.pieces.iter().zip(&forms) {
        let p = (q - top).exp() / sum;
        for (i, y) in y.iter_mut().enumerate() {
            for a in 0..k {
                let step = piece.shift[a] + (0..k).map(|b| piece.matrix[(a, b)] * z[b]).sum::<f64>();
                *y += p * map.u[(i, a)] * step;
            }
        }
    }
    y
}

/// The whole map by its definition.
pub fn mapped(map: &RowMap, x: &[f64], strength: f64) -> Vec<f64> {
    let p = map.gate().map_or(1.0, |gate| share(gate, x));
    x.iter().zip(transported(map.affine(), x)).map(|(x, t)| x + strength * p * (t - x)).collect()
}

pub fn apply(map: &RowMap, x: &Mat<f64>, strength: f64) -> Mat<f64> {
    let mut y = x.clone();
    map.apply_rows(y.as_mut(), strength).unwrap();
    y
}

/// Largest difference of two matrices.
pub fn distance(a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> f64 {
    assert_eq!(a.shape(), b.shape());
    (a - b).norm_max()
}
