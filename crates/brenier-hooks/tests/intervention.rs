//! An intervention does on the device what its maps do in f64, to the chosen tokens and to no others.
#![allow(clippy::unwrap_used)]

use brenier_hooks::{Edit, HookError, Intervention};
use brenier_map::{Affine, Dense, Diagonal, Gate, LowRank, Mixture, Piece, RowMap, Symmetric};
use brenier_residual::{Batch, HookPoint, Row, Site, Spec, Tap, TokenSet};
use burn::tensor::{DType, Device, Tensor, TensorData};
use faer::Mat;

const HIDDEN: usize = 6;
const AT: HookPoint = HookPoint { layer: 1, site: Site::ResidPost };
const SETS: [TokenSet; 5] =
    [TokenSet::All, TokenSet::Prompt, TokenSet::Last, TokenSet::Generated, TokenSet::LastAndGenerated];

fn spec(dtype: DType) -> Spec {
    Spec {
        architecture: "none".into(),
        layers: 3,
        hidden: HIDDEN,
        vocab: 16,
        context: 64,
        device: Device::flex(),
        dtype,
        weights: dtype,
    }
}

/// Padding on the left of two rows, generated tokens at the end of one.
fn batch() -> Batch {
    let rows = [Row { ids: &[1, 2, 3, 4], prompt: 2 }, Row::prompt(&[7, 8]), Row::prompt(&[5, 6, 9])];
    Batch::new(&rows, &Device::flex()).unwrap()
}

/// Numbers between -1 and 1 without a pattern.
fn wave(seed: usize, i: usize, j: usize) -> f64 {
    (seed as f64 * 1.7 + i as f64 * 12.9898 + j as f64 * 78.233).sin()
}

fn vector(seed: usize) -> Vec<f64> {
    (0..HIDDEN).map(|j| wave(seed, 0, j)).collect()
}

fn matrix(seed: usize, rows: usize, cols: usize) -> Mat<f64> {
    Mat::from_fn(rows, cols, |i, j| wave(seed, i, j))
}

fn low_rank(seed: usize, scale: f64, rank: usize) -> Affine {
    Affine::LowRank(LowRank {
        scale,
        mean: vector(seed),
        offset: vector(seed + 1),
        u: matrix(seed + 2, HIDDEN, rank),
        v: matrix(seed + 3, HIDDEN, rank),
    })
}

fn symmetric(seed: usize, scale: f64, rank: usize) -> Affine {
    Affine::Symmetric(Symmetric {
        scale,
        mean: vector(seed),
        offset: vector(seed + 1),
        basis: matrix(seed + 2, HIDDEN, rank),
        core: Mat::from_fn(rank, rank, |i, j| wave(seed, i.max(j), i.min(j))),
    })
}

fn diagonal(seed: usize, range: Option<(Vec<f64>, Vec<f64>)>) -> Affine {
    Affine::Diagonal(Diagonal { weight: vector(seed), bias: vector(seed + 1), range })
}

fn gate(seed: usize, k: usize, threshold: Option<f64>) -> Gate {
    Gate {
        basis: matrix(seed, HIDDEN, k),
        center: vector(seed + 1),
        constant: wave(seed, 1, 1),
        linear: vector(seed + 2)[..k].to_vec(),
        quadratic: matrix(seed + 3, k, k),
        temperature: 1.3,
        threshold,
    }
}

fn mixture(seed: usize, k: usize, pieces: usize) -> Affine {
    let piece = |c: usize| Piece {
        constant: wave(seed, c, 3),
        linear: vector(seed + 5 * c)[..k].to_vec(),
        quadratic: matrix(seed + 5 * c + 1, k, k),
        matrix: matrix(seed + 5 * c + 2, k, k),
        shift: vector(seed + 5 * c + 3)[..k].to_vec(),
    };
    Affine::Mixture(Mixture {
        center: vector(seed),
        offset: vector(seed + 1),
        u: matrix(seed + 2, HIDDEN, k),
        v: matrix(seed + 3, HIDDEN, k),
        pieces: (0..pieces).map(piece).collect(),
    })
}

/// Maps of every kind, with and without gates.
fn maps(seed: usize) -> Vec<RowMap> {
    let affine = [
        low_rank(seed, 1.0, 0),
        low_rank(seed, 1.0, 2),
        low_rank(seed, 0.6, 0),
        low_rank(seed, 1.4, 2),
        diagonal(seed, None),
        diagonal(seed, Some((vec![-0.4; HIDDEN], vec![0.6; HIDDEN]))),
        Affine::Dense(Dense { matrix: matrix(seed, HIDDEN, HIDDEN), bias: vector(seed + 1) }),
        mixture(seed, 0, 2),
        mixture(seed, 2, 1),
        mixture(seed, 3, 4),
    ];
    let mut maps: Vec<_> = affine.into_iter().map(|affine| RowMap::new(affine).unwrap()).collect();
    for (at, gate) in
        [gate(seed, 0, None), gate(seed, 1, None), gate(seed, 3, Some(0.4))].into_iter().enumerate()
    {
        maps.push(maps[2 * at + 1].clone().with_gate(gate).unwrap());
    }
    maps.push(maps[9].clone().with_gate(gate(seed, 2, None)).unwrap());
    maps.push(RowMap::new(symmetric(seed, 1.2, 3)).unwrap());
    maps.push(RowMap::new(symmetric(seed, 1.0, 2)).unwrap().with_gate(gate(seed, 1, None)).unwrap());
    maps
}

/// Activations `[rows, tokens, HIDDEN]`, with a NaN and a -0 in every padding token.
fn activations(batch: &Batch, seed: usize) -> Vec<f32> {
    let mut values = Vec::new();
    for row in 0..batch.rows() {
        for token in 0..batch.tokens() {
            let padding = batch.kind(row, token) == brenier_residual::TokenKind::Padding;
            values.extend((0..HIDDEN).map(|j| match j {
                0 if padding => f32::NAN,
                1 if padding => -0.0,
                _ => wave(seed, row * 10 + token, j) as f32,
            }));
        }
    }
    values
}

fn tensor(batch: &Batch, values: &[f32], dtype: DType) -> Tensor<3> {
    let data = TensorData::new(values.to_vec(), [batch.rows(), batch.tokens(), HIDDEN]);
    Tensor::from_data(data, (batch.device(), dtype))
}

fn numbers(x: Tensor<3>) -> Vec<f64> {
    x.into_data().iter::<f64>().collect()
}

fn edit(map: &RowMap, strength: f64, tokens: TokenSet) -> Edit {
    Edit { at: AT, map: map.clone(), strength, tokens }
}

/// What a sum of products has for its terms, all taken positive: rounding is measured by that.
fn size(map: &RowMap, x: &[f64]) -> f64 {
    let sum = |values: &[f64]| values.iter().map(|value| value.abs()).sum::<f64>();
    let moved = match map.affine() {
        Affine::LowRank(map) => {
            let centred = sum(x) + sum(&map.mean);
            map.scale.abs() * centred + sum(&map.offset) + map.u.norm_max() * map.v.norm_max() * 2.0 * centred
        }
        Affine::Symmetric(map) => {
            // As one of low rank: entries of its core are of at most 1, like those of the basis.
            let centred = sum(x) + sum(&map.mean);
            let rank = map.core.ncols() as f64;
            map.scale.abs() * centred + sum(&map.offset) + rank * rank * 2.0 * centred
        }
        Affine::Diagonal(map) => 2.0 * sum(x) + sum(&map.bias),
        Affine::Dense(map) => 2.0 * sum(x) + sum(&map.bias),
        Affine::Mixture(map) => {
            // Entries of at most 1: a coordinate is below the sum, a form below three terms a pair of them.
            let k = map.u.ncols() as f64;
            let z = 1.0 + sum(x) + sum(&map.center);
            sum(&map.offset) + (k * k + k) * z * (1.0 + map.pieces.len() as f64 * (1.0 + k + k * k) * z * z)
        }
    };
    let odds = map.gate().map_or(0.0, |gate| {
        let z = (sum(x) + sum(&gate.center)) * gate.linear.len() as f64;
        (gate.constant.abs() + z + z * z) / gate.temperature
    });
    // A sigmoid is at most a quarter as steep as its argument.
    sum(x) + moved * (1.0 + 0.25 * odds)
}

/// Checks every token of `y` against `x`: chosen ones by the map in f64, others bit by bit.
fn check(map: &RowMap, strength: f64, tokens: TokenSet, batch: &Batch, x: &[f32], y: &[f64], eps: f64) {
    for row in 0..batch.rows() {
        for token in 0..batch.tokens() {
            let at = (row * batch.tokens() + token) * HIDDEN;
            let before: Vec<f64> = x[at..at + HIDDEN].iter().copied().map(f64::from).collect();
            let after = &y[at..at + HIDDEN];
            if tokens.contains(batch.kind(row, token)) {
                let mut expected = Mat::from_fn(1, HIDDEN, |_, j| before[j]);
                map.apply_rows(expected.as_mut(), strength).unwrap();
                let tolerance = 8.0 * HIDDEN as f64 * eps * size(map, &before);
                for j in 0..HIDDEN {
                    let (expected, found) = (expected[(0, j)], after[j]);
                    assert!((expected - found).abs() <= tolerance, "{found}, not {expected}, by {map:?}");
                }
            } else {
                let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(after), bits(&before), "row {row}, token {token} with {tokens:?}");
            }
        }
    }
}

#[test]
fn every_map_acts_as_in_f64_on_the_chosen_tokens_alone() {
    let (spec, batch) = (spec(DType::F32), batch());
    for seed in 0..4 {
        let x = activations(&batch, seed);
        for map in maps(seed) {
            for tokens in SETS {
                for strength in [1.0, 0.5, -1.0] {
                    let mut tap = Intervention::new(&spec, &[edit(&map, strength, tokens)]).unwrap();
                    let y = numbers(tap.visit(AT, &batch, tensor(&batch, &x, DType::F32)).unwrap());
                    check(&map, strength, tokens, &batch, &x, &y, f64::from(f32::EPSILON));
                }
            }
        }
    }
}

#[test]
fn a_decoded_token_is_edited_only_where_generated_ones_are() {
    let (spec, step) = (spec(DType::F32), batch().next(&[1, 2, 3]).unwrap());
    let x = activations(&step, 5);
    for map in maps(5) {
        for tokens in SETS {
            let mut tap = Intervention::new(&spec, &[edit(&map, 1.0, tokens)]).unwrap();
            let y = numbers(tap.visit(AT, &step, tensor(&step, &x, DType::F32)).unwrap());
            check(&map, 1.0, tokens, &step, &x, &y, f64::from(f32::EPSILON));
        }
    }
}

#[test]
fn an_f64_model_is_edited_in_f64() {
    let (spec, batch) = (spec(DType::F64), batch());
    let x = activations(&batch, 6);
    for map in maps(6) {
        let mut tap = Intervention::new(&spec, &[edit(&map, 1.0, TokenSet::Prompt)]).unwrap();
        let y = tap.visit(AT, &batch, tensor(&batch, &x, DType::F64)).unwrap();
        assert_eq!(y.dtype(), DType::F64);
        check(&map, 1.0, TokenSet::Prompt, &batch, &x, &numbers(y), f64::EPSILON);
    }
}

#[test]
fn a_narrow_model_is_edited_in_f32_and_rounded_once() {
    let batch = batch();
    for (dtype, eps) in [(DType::BF16, 1.0 / 128.0), (DType::F16, 1.0 / 1024.0)] {
        let narrow = tensor(&batch, &activations(&batch, 7), dtype);
        let x: Vec<f32> = narrow.clone().into_data().iter::<f32>().collect();
        for map in maps(7) {
            let mut tap = Intervention::new(&spec(dtype), &[edit(&map, 1.0, TokenSet::All)]).unwrap();
            let y = tap.visit(AT, &batch, narrow.clone()).unwrap();
            assert_eq!(y.dtype(), dtype);
            let mut wide = Intervention::new(&spec(DType::F32), &[edit(&map, 1.0, TokenSet::All)]).unwrap();
            let expected = numbers(wide.visit(AT, &batch, tensor(&batch, &x, DType::F32)).unwrap());
            for (found, expected) in numbers(y).into_iter().zip(expected) {
                // Half a unit in the last place of the narrow type, whose eps is a whole one.
                let held = found.is_nan() && expected.is_nan()
                    || (found - expected).abs() <= 0.5 * eps * expected.abs();
                assert!(held, "{found}, not {expected}");
            }
        }
    }
}

#[test]
fn off_is_bit_identical_and_costs_nothing() {
    let (spec, batch) = (spec(DType::F32), batch());
    let x = activations(&batch, 8);
    let bits = |x: Tensor<3>| x.into_data().iter::<f32>().map(f32::to_bits).collect::<Vec<_>>();
    let plain = bits(tensor(&batch, &x, DType::F32));
    for map in maps(8) {
        let mut off = Intervention::new(&spec, &[edit(&map, 0.0, TokenSet::All)]).unwrap();
        let mut none = Intervention::new(&spec, &[]).unwrap();
        assert!(!off.wants(AT) && !none.wants(AT));
        assert_eq!(bits(off.visit(AT, &batch, tensor(&batch, &x, DType::F32)).unwrap()), plain);
        assert_eq!(bits(none.visit(AT, &batch, tensor(&batch, &x, DType::F32)).unwrap()), plain);
    }
}

#[test]
fn a_strength_set_later_is_the_strength_from_the_start() {
    let (spec, batch) = (spec(DType::F32), batch());
    let x = activations(&batch, 9);
    let map = &maps(9)[3];
    let mut tap = Intervention::new(&spec, &[edit(map, 1.0, TokenSet::Last)]).unwrap();
    tap.set_strength(0.25).unwrap();
    let y = numbers(tap.visit(AT, &batch, tensor(&batch, &x, DType::F32)).unwrap());
    check(map, 0.25, TokenSet::Last, &batch, &x, &y, f64::from(f32::EPSILON));
    tap.set_strength(0.0).unwrap();
    assert!(!tap.wants(AT));
    assert!(tap.set_strength(f64::NAN).is_err());
}

#[test]
fn edits_act_at_their_own_place_and_in_their_own_order() {
    let (spec, batch) = (spec(DType::F32), batch());
    let constant = |weight: f64, bias: f64| {
        let (weight, bias) = (vec![weight; HIDDEN], vec![bias; HIDDEN]);
        RowMap::new(Affine::Diagonal(Diagonal { weight, bias, range: None })).unwrap()
    };
    let (twice, more) = (constant(2.0, 0.0), constant(1.0, 1.0));
    let elsewhere = HookPoint { layer: 2, site: Site::MlpOut };
    let edits = [
        edit(&twice, 1.0, TokenSet::All),
        Edit { at: elsewhere, ..edit(&more, 1.0, TokenSet::All) },
        edit(&more, 1.0, TokenSet::Last),
    ];
    let mut tap = Intervention::new(&spec, &edits).unwrap();
    assert!(tap.wants(AT) && tap.wants(elsewhere) && !tap.wants(HookPoint::resid_post(2)));
    assert_eq!(tap.last_layer(), None);
    let x = vec![3.0; batch.rows() * batch.tokens() * HIDDEN];
    let first = |x: Tensor<3>| numbers(x).into_iter().step_by(HIDDEN).collect::<Vec<_>>();
    let y = first(tap.visit(AT, &batch, tensor(&batch, &x, DType::F32)).unwrap());
    assert_eq!(y, [6.0, 7.0, 6.0, 6.0, 3.0, 3.0, 6.0, 7.0, 3.0, 6.0, 6.0, 7.0]);
    let y = first(tap.visit(elsewhere, &batch, tensor(&batch, &x, DType::F32)).unwrap());
    assert_eq!(y, [4.0, 4.0, 4.0, 4.0, 3.0, 3.0, 4.0, 4.0, 3.0, 4.0, 4.0, 4.0]);
    assert_eq!(
        first(tap.visit(HookPoint::resid_post(0), &batch, tensor(&batch, &x, DType::F32)).unwrap()),
        [3.0; 12]
    );
}

#[test]
fn bounds_that_f32_cannot_hold_still_part_the_f32_numbers_exactly() {
    let (spec, device) = (spec(DType::F32), Device::flex());
    let batch = Batch::new(&[Row::prompt(&[1])], &device).unwrap();
    for (lo, hi) in [(0.1, 0.3), (-0.3, -0.1), (0.25, 0.5), (-1e300, 1e300)] {
        let range = Some((vec![lo; HIDDEN], vec![hi; HIDDEN]));
        let map = Diagonal { weight: vec![0.0; HIDDEN], bias: vec![0.0; HIDDEN], range };
        let map = RowMap::new(Affine::Diagonal(map)).unwrap();
        let mut tap = Intervention::new(&spec, &[edit(&map, 1.0, TokenSet::All)]).unwrap();
        let (l, h) = (lo.max(-1e30) as f32, hi.min(1e30) as f32);
        let x = [l.next_down(), l, l.next_up(), h.next_down(), h, h.next_up()];
        let y = numbers(tap.visit(AT, &batch, tensor(&batch, &x, DType::F32)).unwrap());
        let expected = x.map(|x| if lo < f64::from(x) && f64::from(x) < hi { 0.0 } else { f64::from(x) });
        assert_eq!(y, expected, "{lo} {hi}");
    }
}

#[test]
fn a_shut_gate_keeps_every_bit_and_extreme_odds_are_sound() {
    let (spec, device) = (spec(DType::F32), Device::flex());
    let batch = Batch::new(&[Row::prompt(&[1, 2])], &device).unwrap();
    let mut first = Mat::zeros(HIDDEN, 1);
    first[(0, 0)] = 1.0;
    let gate = Gate {
        basis: first,
        center: vec![0.0; HIDDEN],
        constant: 0.0,
        linear: vec![1e4],
        quadratic: Mat::zeros(1, 1),
        temperature: 1.0,
        threshold: None,
    };
    let map = RowMap::new(low_rank(3, 1.0, 1)).unwrap();
    let mut x = vec![-0.0_f32; 2 * HIDDEN];
    (x[0], x[HIDDEN]) = (-1.0, 1.0);
    for threshold in [None, Some(0.5)] {
        let gated = map.clone().with_gate(Gate { threshold, ..gate.clone() }).unwrap();
        let mut tap = Intervention::new(&spec, &[edit(&gated, 1.0, TokenSet::All)]).unwrap();
        let mut open = Intervention::new(&spec, &[edit(&map, 1.0, TokenSet::All)]).unwrap();
        let y: Vec<f32> = tap
            .visit(AT, &batch, tensor(&batch, &x, DType::F32))
            .unwrap()
            .into_data()
            .iter::<f32>()
            .collect();
        let all: Vec<f32> = open
            .visit(AT, &batch, tensor(&batch, &x, DType::F32))
            .unwrap()
            .into_data()
            .iter::<f32>()
            .collect();
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&y[..HIDDEN]), bits(&x[..HIDDEN]));
        assert_eq!(bits(&y[HIDDEN..]), bits(&all[HIDDEN..]));
    }
}

#[test]
fn what_does_not_fit_the_model_is_refused_with_numbers() {
    let spec = spec(DType::F32);
    let refused = |edit: Edit| Intervention::new(&spec, &[edit]).unwrap_err();
    let map = |dim: usize, bias: f64| {
        RowMap::new(Affine::Diagonal(Diagonal { weight: vec![1.0; dim], bias: vec![bias; dim], range: None }))
            .unwrap()
    };
    let good = edit(&map(HIDDEN, 0.0), 1.0, TokenSet::All);
    let error = refused(Edit { map: map(4, 0.0), ..good.clone() });
    assert_eq!(
        error.to_string(),
        "blocks.1.hook_resid_post: the map is for a width of 4, but the model's hidden size is 6"
    );
    let error = refused(Edit { at: HookPoint::resid_post(3), ..good.clone() });
    assert_eq!(error.to_string(), "blocks.3.hook_resid_post: the model has 3 layers, counted from 0");
    let error = refused(Edit { strength: f64::NAN, ..good.clone() });
    assert_eq!(
        error.to_string(),
        "the strength is NaN, but a finite number was expected, at most 3.4028235e38"
    );
    let error = refused(Edit { map: map(HIDDEN, 1e39), ..good });
    assert!(matches!(error, HookError::BeyondF32 { part: "bias", value: 1e39, .. }), "{error}");
}

#[test]
fn a_strength_at_which_f32_cannot_hold_the_step_is_refused() {
    let (spec, f64_spec) = (spec(DType::F32), spec(DType::F64));
    let constant = |by: f64| vec![by; HIDDEN];
    let none = || Mat::zeros(HIDDEN, 1);
    let center = constant(0.0);
    // The same step of 2 everywhere, in every form of a map.
    let affine = [
        Affine::LowRank(LowRank {
            scale: 1.0,
            mean: center.clone(),
            offset: constant(2.0),
            u: none(),
            v: none(),
        }),
        // (1.5 - 1) 3 + 0.5
        Affine::Symmetric(Symmetric {
            scale: 1.5,
            mean: constant(3.0),
            offset: constant(0.5),
            basis: none(),
            core: Mat::zeros(1, 1),
        }),
        Affine::Diagonal(Diagonal { weight: constant(1.0), bias: constant(-2.0), range: None }),
        Affine::Dense(Dense { matrix: Mat::identity(HIDDEN, HIDDEN), bias: constant(2.0) }),
        Affine::Mixture(Mixture {
            center,
            offset: constant(2.0),
            u: none(),
            v: none(),
            pieces: vec![Piece {
                constant: 0.0,
                linear: vec![0.0],
                quadratic: Mat::zeros(1, 1),
                matrix: Mat::zeros(1, 1),
                shift: vec![0.0],
            }],
        }),
    ];
    for affine in affine {
        let map = RowMap::new(affine).unwrap();
        // 1.5e38 twice is within f32, 2e38 twice is not.
        let mut tap = Intervention::new(&spec, &[edit(&map, 1.5e38, TokenSet::All)]).unwrap();
        let strong = edit(&map, 2e38, TokenSet::All);
        let error = Intervention::new(&spec, std::slice::from_ref(&strong)).unwrap_err();
        let of = |error: &HookError| matches!(error, HookError::TooStrong { at: AT, strength: 2e38, step } if step.abs() == 4e38);
        assert!(of(&error), "{error}, {map:?}");
        assert!(of(&tap.set_strength(2e38).unwrap_err()));
        assert!(Intervention::new(&f64_spec, &[strong]).is_ok());
    }
}
