//! Weighted rows: definitions, laws and refusals.
#![allow(clippy::unwrap_used)]

use brenier_linalg::*;
use faer::{Mat, MatRef, mat};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Rounding of sums over `size` terms, with room for the constants of the decompositions.
fn rounding(size: usize) -> f64 {
    100.0 * size as f64 * f64::EPSILON
}

fn noise(n: usize, d: usize, seed: u64) -> Mat<f64> {
    let mut rng = StdRng::seed_from_u64(seed);
    Mat::from_fn(n, d, |_, j| rng.random_range(-1.0..1.0) / (1.0 + j as f64))
}

fn weights(n: usize, seed: u64) -> Vec<f64> {
    let mut rng = StdRng::seed_from_u64(seed);
    (0..n).map(|_| rng.random_range(0.1..3.0)).collect()
}

fn distance(a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> f64 {
    squared_norm((a - b).as_ref()).sqrt()
}

/// Mean and covariance of rows.
fn moments(rows: Rows<'_>, covariance: Covariance) -> (Vec<f64>, Mat<f64>) {
    let mean = mean(rows);
    let factor = factor(rows, &mean, covariance);
    (mean, factor.transpose() * &factor)
}

fn weighted<'a>(rows: &'a Mat<f64>, weights: &'a [f64]) -> Rows<'a> {
    Rows::new(rows.as_ref()).unwrap().with_weights(weights).unwrap()
}

/// Each row as often as its weight says.
fn repeated(rows: &Mat<f64>, counts: &[usize]) -> Mat<f64> {
    let which: Vec<usize> =
        counts.iter().enumerate().flat_map(|(i, &count)| std::iter::repeat_n(i, count)).collect();
    Mat::from_fn(which.len(), rows.ncols(), |i, j| rows[(which[i], j)])
}

const SHRUNK: [Shrinkage; 2] = [Shrinkage::Auto, Shrinkage::Oas];

#[test]
fn mean_and_covariance_are_their_definitions() {
    let (n, d) = (9, 4);
    let (x, w) = (noise(n, d, 1), weights(n, 2));
    let total: f64 = w.iter().sum();
    let share: Vec<f64> = w.iter().map(|w| w / total).collect();
    let mean: Vec<f64> = (0..d).map(|j| (0..n).map(|i| share[i] * x[(i, j)]).sum()).collect();
    let squares: f64 = share.iter().map(|w| w * w).sum();
    for (covariance, divisor) in [(Covariance::Population, 1.0), (Covariance::Sample, 1.0 - squares)] {
        let expected = Mat::from_fn(d, d, |a, b| {
            (0..n).map(|i| share[i] * (x[(i, a)] - mean[a]) * (x[(i, b)] - mean[b])).sum::<f64>() / divisor
        });
        let rows = weighted(&x, &w);
        let (found_mean, found) = moments(rows, covariance);
        assert!(found_mean.iter().zip(&mean).all(|(a, b)| (a - b).abs() < rounding(n)));
        assert!(distance(found.as_ref(), expected.as_ref()) < rounding(n));
        assert!((rows.spread(covariance) - divisor).abs() < rounding(n));
        assert!((rows.effective_count() * squares - 1.0).abs() < rounding(n));
        assert!((rows.total_weight() - total).abs() < rounding(n) * total);
    }
    // Principal components take them where none are given.
    let (own, given) = (weighted(&x, &w), Rows::new(x.as_ref()).unwrap());
    let (own, given) = (pca(own, &mean, None, 2).unwrap(), pca(given, &mean, Some(&share), 2).unwrap());
    assert!(distance(own.basis.as_ref(), given.basis.as_ref()) < rounding(n));
    assert!((own.total - given.total).abs() < rounding(n));
}

#[test]
fn the_shrinkages_are_their_definitions() {
    for (n, d) in [(15, 4), (6, 12)] {
        let (x, w) = (noise(n, d, 3), weights(n, 4));
        let rows = weighted(&x, &w);
        let share = rows.weights().unwrap().shares();
        let (mean, s) = moments(rows, Covariance::Population);
        let z = center(rows, &mean);
        let m = (0..d).map(|i| s[(i, i)]).sum::<f64>() / d as f64;
        let e = squared_norm((&s - m * Mat::<f64>::identity(d, d)).as_ref()) / d as f64;
        let off = |k: usize| squared_norm((Mat::from_fn(d, d, |i, j| z[(k, i)] * z[(k, j)]) - &s).as_ref());
        let b = (0..n).map(|k| share[k].powi(2) * off(k)).sum::<f64>() / d as f64;
        let found = Shrinkage::Auto.intensity(z.as_ref(), rows.weights(), z.ncols()).unwrap();
        assert!((found - b.min(e) / e).abs() < rounding(n * d), "{found}");
        assert!(b < e, "else the test says nothing");

        let (trace, squares) = (m * d as f64, squared_norm(s.as_ref()));
        let count = 1.0 / share.iter().map(|w| w * w).sum::<f64>();
        let expected = (squares + trace * trace) / ((count + 1.0) * (squares - trace * trace / d as f64));
        let found = Shrinkage::Oas.intensity(z.as_ref(), rows.weights(), z.ncols()).unwrap();
        assert!((found - expected.min(1.0)).abs() < rounding(n * d), "{found}");
    }
}

#[test]
fn equal_weights_are_no_weights_whatever_their_size() {
    for (n, d) in [(12, 5), (5, 12)] {
        let x = noise(n, d, 5);
        let plain = Rows::new(x.as_ref()).unwrap();
        for size in [1.0, 7.3, 1e-300, 1e308] {
            let w = vec![size; n];
            let rows = weighted(&x, &w);
            for covariance in [Covariance::Sample, Covariance::Population] {
                let (mean, s) = moments(rows, covariance);
                let (plain_mean, plain_s) = moments(plain, covariance);
                assert!(mean.iter().zip(&plain_mean).all(|(a, b)| (a - b).abs() < rounding(n)));
                assert!(distance(s.as_ref(), plain_s.as_ref()) < rounding(n));
                assert!((rows.spread(covariance) - plain.spread(covariance)).abs() < rounding(n));
            }
            assert!((rows.effective_count() - n as f64).abs() < rounding(n * n));
            let z = center(plain, &mean(plain));
            for shrinkage in SHRUNK {
                let found = shrinkage.intensity(z.as_ref(), rows.weights(), z.ncols()).unwrap();
                assert!(
                    (found - shrinkage.intensity(z.as_ref(), None, z.ncols()).unwrap()).abs()
                        < rounding(n * d)
                );
            }
        }
    }
}

#[test]
fn whole_weights_are_repeated_rows_and_no_weight_is_no_row() {
    let x = noise(6, 4, 6);
    let counts = [2, 1, 0, 3, 1, 4];
    let w = counts.map(|count| 0.37 * count as f64);
    let many = repeated(&x, &counts);
    let (mean, s) = moments(weighted(&x, &w), Covariance::Population);
    let (expected_mean, expected) = moments(Rows::new(many.as_ref()).unwrap(), Covariance::Population);
    assert!(mean.iter().zip(&expected_mean).all(|(a, b)| (a - b).abs() < rounding(6)));
    assert!(distance(s.as_ref(), expected.as_ref()) < rounding(6));

    let without = Mat::from_fn(5, 4, |i, j| x[(if i < 2 { i } else { i + 1 }, j)]);
    let rest: Vec<f64> = w.iter().copied().filter(|w| *w > 0.0).collect();
    let (all, few) = (weighted(&x, &w), weighted(&without, &rest));
    assert_eq!(all.weights().unwrap().positive(), 5);
    for covariance in [Covariance::Sample, Covariance::Population] {
        let (mean, s) = moments(all, covariance);
        let (expected_mean, expected) = moments(few, covariance);
        assert!(mean.iter().zip(&expected_mean).all(|(a, b)| (a - b).abs() < rounding(6)));
        assert!(distance(s.as_ref(), expected.as_ref()) < rounding(6));
    }
    for shrinkage in SHRUNK {
        let intensity = |rows: Rows<'_>| {
            let z = center(rows, &brenier_linalg::mean(rows));
            shrinkage.intensity(z.as_ref(), rows.weights(), z.ncols()).unwrap()
        };
        assert!((intensity(all) - intensity(few)).abs() < rounding(24));
    }
}

#[test]
fn one_row_with_nearly_all_weight_keeps_its_digits() {
    // Two rows, shares 1 - w and w: the unbiased covariance is (x - y)(x - y)^T / 2 whatever the shares.
    let x = mat![[1.0, 2.0], [4.0, -2.0]];
    for w in [0.5, 1e-3, 1e-9, 1e-15, 1e-30, 1e-200] {
        for pair in [[1.0, w], [w, 1.0]] {
            let (mean, s) = moments(weighted(&x, &pair), Covariance::Sample);
            let expected = mat![[4.5, -6.0], [-6.0, 8.0]];
            // The heavier row lies within eps of the mean; its own part is w times that of the other.
            let heavy = if pair[0] == 1.0 { 0 } else { 1 };
            let near = (mean[0] - x[(heavy, 0)]).abs();
            assert!(near <= 3.0 * w + rounding(1));
            assert!(distance(s.as_ref(), expected.as_ref()) < rounding(2) * 10.0, "{w}: {s:?}");
        }
    }
    let alone = [0.0, 5.0];
    let (mean, s) = moments(weighted(&x, &alone), Covariance::Sample);
    assert_eq!((mean, squared_norm(s.as_ref())), (vec![4.0, -2.0], 0.0));
    // All rows equal: the mean is the row, to the bit.
    let same = Mat::from_fn(5, 3, |_, j| 0.1 + 1e7 * j as f64);
    let w = weights(5, 8);
    assert_eq!(brenier_linalg::mean(weighted(&same, &w)), [0.1, 0.1 + 1e7, 0.1 + 2e7]);
    // Far from zero: no digit of the spread is lost beyond those that the rows lack.
    let far = Mat::from_fn(6, 2, |i, j| 1e8 + (i * (j + 1)) as f64);
    let w = [1.0, 2.0, 0.0, 1.0, 3.0, 1.0];
    let (_, s) = moments(weighted(&far, &w), Covariance::Population);
    let near = Mat::from_fn(6, 2, |i, j| (i * (j + 1)) as f64);
    let (_, expected) = moments(weighted(&near, &w), Covariance::Population);
    assert!(distance(s.as_ref(), expected.as_ref()) < 1e-7);
}

#[test]
fn bad_weights_are_refused_by_name() {
    let x = noise(3, 2, 9);
    let rows = Rows::new(x.as_ref()).unwrap();
    let refused = |w: &[f64]| rows.with_weights(w).unwrap_err();
    assert_eq!(refused(&[1.0, 2.0]), LinalgError::WeightCount { rows: 3, weights: 2 });
    assert_eq!(refused(&[1.0, -2.0, 1.0]), LinalgError::Weight { row: 1, weight: -2.0 });
    assert!(matches!(refused(&[1.0, 2.0, f64::NAN]), LinalgError::Weight { row: 2, .. }));
    assert!(matches!(refused(&[f64::INFINITY, 2.0, 1.0]), LinalgError::Weight { row: 0, .. }));
    assert_eq!(refused(&[0.0; 3]), LinalgError::NoWeight { rows: 3 });
    assert_eq!(refused(&[0.0; 3]).to_string(), "the weights of all 3 rows are 0: nothing is left to fit");
    assert!(rows.with_weights(&[0.0, 1e-310, 0.0]).is_ok());
}

#[test]
fn rows_with_weights_are_not_taken_for_rows_without() {
    let rows = mat![[1.0, 2.0], [3.0, 5.0]];
    let weighed = Rows::new(rows.as_ref()).unwrap().with_weights(&[1.0, 2.0]).unwrap();
    let mut moments = Moments::new(2, 3).unwrap();
    assert!(matches!(moments.push(weighed), Err(LinalgError::WeightedMoments)));
    assert_eq!(moments, Moments::new(2, 3).unwrap());
}
