//! The product in every instruction set of this machine, against f64.

use half::bf16;
use proptest::prelude::*;

use super::{Weight, product};
use crate::lanes::InstructionSet;
use crate::lanes::Portable;
#[cfg(target_arch = "x86_64")]
use crate::lanes::{Avx2, Avx512};

fn sets() -> Vec<InstructionSet> {
    let mut sets = vec![InstructionSet::Portable(Portable)];
    #[cfg(target_arch = "x86_64")]
    {
        sets.extend(Avx2::detect().map(InstructionSet::Avx2));
        sets.extend(Avx512::detect().map(InstructionSet::Avx512));
    }
    sets
}

/// Numbers in [-0.5, 0.5) from a hash (SplitMix64) of their place.
fn numbers(len: usize, seed: u64) -> Vec<f32> {
    let number = |i: usize| {
        let mut z = ((seed << 40) + i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        ((z >> 11) as f64 / (1u64 << 53) as f64 - 0.5) as f32
    };
    (0..len).map(number).collect()
}

fn weights(len: usize, seed: u64) -> Vec<bf16> {
    numbers(len, seed).into_iter().map(bf16::from_f32).collect()
}

fn run(set: InstructionSet, x: &[f32], w: &[bf16], [m, n, k]: [usize; 3]) -> Vec<f32> {
    let mut out = vec![f32::NAN; m * n];
    product(set, x, &Weight { values: w, n, k, stride: k }, &mut out);
    out
}

/// `gamma_k = k u / (1 - k u)` times the sum of magnitudes: the bound of any order of summation, and half a subnormal
/// for every product that underflows.
fn tolerance(k: usize, magnitude: f64) -> f64 {
    let ku = k as f64 * f64::from(f32::EPSILON) / 2.0;
    ku / (1.0 - ku) * magnitude + k as f64 * f64::from(f32::from_bits(1))
}

fn check(shape: [usize; 3], seed: u64) {
    let [m, n, k] = shape;
    let (x, w) = (numbers(m * k, seed), weights(n * k, seed + 1));
    for set in sets() {
        let y = run(set, &x, &w, shape);
        for i in 0..m {
            for j in 0..n {
                let terms = (0..k).map(|p| f64::from(x[i * k + p]) * w[j * k + p].to_f64());
                let (exact, magnitude) = terms.fold((0.0, 0.0), |(s, a), t| (s + t, a + t.abs()));
                let error = (f64::from(y[i * n + j]) - exact).abs();
                assert!(error <= tolerance(k, magnitude), "{set:?} {shape:?} [{i}, {j}]: off by {error:e}");
            }
        }
    }
}

#[test]
fn products_are_those_of_f64_to_rounding() {
    // One more and one less than vectors, tiles, groups and depths; nothing at all.
    for k in [0, 1, 2, 7, 15, 16, 17, 31, 32, 33, 63, 65, 576, 4095, 4096, 4097, 8200] {
        for (m, n) in [(0, 3), (1, 1), (1, 7), (2, 0), (3, 4), (5, 5), (6, 9), (11, 2)] {
            check([m, n, k], 3);
        }
    }
    // More rows than are packed at once; more columns than a task has.
    check([258, 3, 40], 4);
    check([2, 70_001, 3], 5);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_shape(m in 0..14_usize, n in 0..40_usize, k in 0..150_usize, seed in 0..1000_u64) {
        check([m, n, k], seed);
    }
}

#[test]
fn one_thread_and_two_give_the_same_bits() {
    let shape @ [m, n, k] = [9, 301, 4500];
    let (x, w) = (numbers(m * k, 1), weights(n * k, 2));
    let on = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
    for set in sets() {
        let [one, two, five] = [1, 2, 5].map(|t| on(t).install(|| run(set, &x, &w, shape)));
        assert!(
            one.iter()
                .zip(&two)
                .zip(&five)
                .all(|((a, b), c)| a.to_bits() == b.to_bits() && b.to_bits() == c.to_bits())
        );
    }
}

#[test]
fn a_row_does_not_depend_on_the_rows_beside_it() {
    let [m, n, k] = [23, 19, 4500];
    let (x, w) = (numbers(m * k, 1), weights(n * k, 2));
    for set in sets() {
        let all = run(set, &x, &w, [m, n, k]);
        for (i, row) in x.chunks_exact(k).enumerate() {
            let alone = run(set, row, &w, [1, n, k]);
            assert!(
                alone.iter().zip(&all[i * n..]).all(|(a, b)| a.to_bits() == b.to_bits()),
                "{set:?}, x[{i}]"
            );
        }
    }
}

#[test]
fn infinities_and_nan_spread_to_their_row_and_column_alone() {
    // The last place is where a row is filled up.
    for k in [32, 33] {
        for at in [0, k - 1] {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                for set in sets() {
                    let (mut x, mut w) = (vec![1.0; 3 * k], vec![bf16::ONE; 5 * k]);
                    x[k + at] = bad;
                    let y = run(set, &x, &w, [3, 5, k]);
                    let same = |a: f32| a == bad || (a.is_nan() && bad.is_nan());
                    assert!((0..15).all(|i| if i / 5 == 1 { same(y[i]) } else { y[i] == k as f32 }));

                    x[k + at] = 1.0;
                    w[2 * k + at] = bf16::from_f32(bad);
                    let y = run(set, &x, &w, [3, 5, k]);
                    assert!((0..15).all(|i| if i % 5 == 2 { same(y[i]) } else { y[i] == k as f32 }));

                    // Infinity times zero.
                    x[at] = 0.0;
                    assert!(run(set, &x, &w, [3, 5, k])[2].is_nan());
                }
            }
        }
    }
}

#[test]
fn subnormal_weights_count_and_the_sign_of_zero_does_no_harm() {
    let least = bf16::from_bits(1);
    for set in sets() {
        // 2^-133 times 2^100, six times.
        let y = run(set, &[100f32.exp2(); 6], &[least; 6], [1, 1, 6]);
        assert_eq!(y, [6.0 * (-33f32).exp2()]);
        // A subnormal sum.
        assert_eq!(run(set, &[1.0; 6], &[least; 6], [1, 1, 6]), [6.0 * least.to_f32()]);
        assert_eq!(run(set, &[1.0, 2.0], &[bf16::NEG_ZERO, bf16::ONE], [1, 1, 2]), [2.0]);
    }
}

#[test]
fn rows_of_a_weight_may_lie_apart() {
    let (n, k, stride) = (7, 45, 50);
    let (x, w) = (numbers(2 * k, 1), weights(n * stride, 2));
    let dense: Vec<bf16> = w.chunks(stride).flat_map(|row| row[..k].to_vec()).collect();
    for set in sets() {
        let mut y = vec![0.0; 2 * n];
        product(set, &x, &Weight { values: &w, n, k, stride }, &mut y);
        assert_eq!(y, run(set, &x, &dense, [2, n, k]));
    }
}
