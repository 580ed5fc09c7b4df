//! Streamed moments: exact while they may be, within their bound beyond, however a stream is cut or merged.
#![allow(clippy::unwrap_used)]

use brenier_linalg::*;
use faer::{Mat, MatRef, mat};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Relative error of a scatter that loses nothing.
const EXACT: f64 = 1e-12;

fn noise(n: usize, d: usize, seed: u64) -> Mat<f64> {
    let mut rng = StdRng::seed_from_u64(seed);
    Mat::from_fn(n, d, |_, _| rng.random_range(-1.0..1.0))
}

/// Rows about a mean that is not zero, whose axes (turned out of the coordinates) shrink by `decay` each, and whose
/// scale goes by the factor `growth` from the first row to the last.
fn stream(n: usize, d: usize, decay: f64, growth: f64, seed: u64) -> Mat<f64> {
    let axes = orthonormalize(noise(d, d, seed + 1)).unwrap();
    let plain = noise(n, d, seed);
    let scaled = Mat::from_fn(n, d, |i, j| {
        plain[(i, j)] * decay.powi(j as i32) * growth.powf(i as f64 / n.max(2) as f64)
    });
    let turned = product_with_transpose(scaled.as_ref(), axes.as_ref());
    Mat::from_fn(n, d, |i, j| turned[(i, j)] + 3.0 - j as f64)
}

fn checked(rows: MatRef<'_, f64>) -> Rows<'_> {
    Rows::new(rows).unwrap()
}

/// The moments of `rows`, taken in by batches of the sizes given, in turn and over again.
fn streamed(rows: MatRef<'_, f64>, cap: usize, batches: &[usize]) -> Moments {
    let mut moments = Moments::new(rows.ncols(), cap).unwrap();
    let (mut at, mut sizes) = (0, batches.iter().cycle());
    while at < rows.nrows() {
        let size = (*sizes.next().unwrap()).min(rows.nrows() - at);
        moments.push(checked(rows.subrows(at, size))).unwrap();
        at += size;
    }
    moments
}

fn scatter(factor: &Mat<f64>) -> Mat<f64> {
    gram(factor.as_ref().transpose())
}

fn direct(rows: MatRef<'_, f64>, covariance: Covariance) -> Mat<f64> {
    let rows = checked(rows);
    scatter(&factor(rows, &mean(rows), covariance))
}

fn trace(matrix: &Mat<f64>) -> f64 {
    (0..matrix.nrows()).map(|i| matrix[(i, i)]).sum()
}

fn distance(a: &Mat<f64>, b: &Mat<f64>) -> f64 {
    squared_norm((a - b).as_ref()).sqrt()
}

fn means_agree(moments: &Moments, rows: MatRef<'_, f64>) -> bool {
    let expected = mean(checked(rows));
    let size = expected.iter().fold(0.0_f64, |size, x| size.max(x.abs())) + squared_norm(rows).sqrt();
    moments.mean().iter().zip(&expected).all(|(a, b)| (a - b).abs() <= EXACT * size)
}

/// Nothing is lost: the direct numbers, and a bound of zero.
fn assert_exact(moments: &Moments, rows: MatRef<'_, f64>) {
    assert_eq!(moments.count(), rows.nrows());
    assert!(means_agree(moments, rows));
    for covariance in [Covariance::Sample, Covariance::Population] {
        let (held, expected) = (scatter(&moments.factor(covariance)), direct(rows, covariance));
        assert!(distance(&held, &expected) <= EXACT * trace(&expected), "{:e}", distance(&held, &expected));
        assert_eq!((moments.bound(covariance), moments.removed(covariance)), (0.0, 0.0));
    }
}

/// Something is lost, and every inequality of the documentation holds.
fn assert_bounded(moments: &Moments, rows: MatRef<'_, f64>) {
    assert_eq!(moments.count(), rows.nrows());
    assert!(means_agree(moments, rows));
    for covariance in [Covariance::Sample, Covariance::Population] {
        let (whole, held) = (direct(rows, covariance), moments.factor(covariance));
        assert!(held.nrows() <= 2 * moments.cap());
        let held = scatter(&held);
        let (bound, removed) = (moments.bound(covariance), moments.removed(covariance));
        let rounding = EXACT * trace(&whole);
        assert!(bound > 1e3 * rounding, "{bound:e} is no loss to speak of");

        let lost = symmetric_eigenvalues((&whole - &held).as_ref()).unwrap();
        assert!(lost[lost.len() - 1] >= -rounding, "{:e}", lost[lost.len() - 1]);
        assert!(lost[0] <= bound + rounding, "{:e} above {bound:e}", lost[0]);
        assert!((trace(&whole) - trace(&held) - removed).abs() <= rounding);
        let cap = moments.cap();
        assert!(bound <= removed / (cap + 1) as f64 + rounding);
        let spectrum = symmetric_eigenvalues(whole.as_ref()).unwrap();
        for k in 0..=cap {
            let tail: f64 = spectrum[k..].iter().sum();
            assert!(bound <= tail / (cap + 1 - k) as f64 + rounding, "k = {k}");
        }
    }
}

/// Merges neighbours until one is left.
fn as_a_tree(mut parts: Vec<Moments>) -> Moments {
    while parts.len() > 1 {
        parts = parts
            .chunks(2)
            .map(|pair| {
                let mut left = pair[0].clone();
                pair.iter().skip(1).for_each(|right| left.merge(right).unwrap());
                left
            })
            .collect();
    }
    parts.remove(0)
}

fn one_by_one<'a>(parts: impl Iterator<Item = &'a Moments>, width: usize, cap: usize) -> Moments {
    let mut all = Moments::new(width, cap).unwrap();
    parts.for_each(|part| all.merge(part).unwrap());
    all
}

#[test]
fn one_shrink_by_hand() {
    // Scatter rows by Welford: sqrt(8) e1, then sqrt(2/3) 3 e2 = sqrt(6) e2. The fourth row, sqrt(3/4) 2 e3, needs
    // room: 6 is taken from 8 and from 6.
    let rows = mat![[2.0, 0.0, 0.0], [-2.0, 0.0, 0.0], [0.0, 3.0, 0.0], [0.0, 1.0, 2.0]];
    let moments = streamed(rows.as_ref(), 1, &[4]);
    assert_eq!(moments.mean(), [0.0, 1.0, 0.5]);
    let held = scatter(&moments.factor(Covariance::Population));
    let expected = mat![[0.5, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.75]];
    assert!(distance(&held, &expected) < EXACT);
    assert!((moments.bound(Covariance::Population) - 1.5).abs() < EXACT);
    assert!((moments.removed(Covariance::Population) - 3.0).abs() < EXACT);
    assert!((moments.bound(Covariance::Sample) - 2.0).abs() < EXACT);
}

#[test]
fn what_is_lost_stays_within_the_bound() {
    // 2 cap < d, through the Gram matrix; cap < d <= 2 cap, through the singular values.
    for cap in [1, 6, 14, 15, 20, 29] {
        for (decay, growth) in [(0.8, 1.0), (0.8, 1e3), (0.8, 1e-3), (1.0, 1.0), (1.0, 1e4)] {
            let rows = stream(2000, 30, decay, growth, cap as u64);
            let moments = streamed(rows.as_ref(), cap, &[64]);
            assert_bounded(&moments, rows.as_ref());
        }
    }
}

#[test]
fn rows_that_switch_to_new_directions_stay_within_the_bound() {
    // Each stretch of the stream spans other coordinates.
    let plain = noise(1200, 30, 5);
    let rows =
        Mat::from_fn(1200, 30, |i, j| if j / 3 == i / 120 { plain[(i, j)] } else { 1e-3 * plain[(i, j)] });
    assert_bounded(&streamed(rows.as_ref(), 6, &[100]), rows.as_ref());
}

#[test]
fn a_rank_within_the_cap_is_exact_however_long_the_stream() {
    for (rank, cap, d) in [(1, 1, 40), (6, 6, 40), (3, 6, 40), (6, 25, 40), (25, 25, 40)] {
        let low = product(noise(3000, rank, 1).as_ref(), noise(rank, d, 2).as_ref());
        let rows = Mat::from_fn(3000, d, |i, j| low[(i, j)] + 2.0);
        assert_exact(&streamed(rows.as_ref(), cap, &[17, 230]), rows.as_ref());
    }
}

#[test]
fn little_beyond_the_rank_loses_little() {
    let low = product(noise(2000, 5, 3).as_ref(), noise(5, 60, 4).as_ref());
    let small = noise(2000, 60, 5);
    let rows = Mat::from_fn(2000, 60, |i, j| low[(i, j)] + 1e-3 * small[(i, j)]);
    let moments = streamed(rows.as_ref(), 10, &[50]);
    assert_bounded(&moments, rows.as_ref());
    // At k = 5 the tail is the noise: 60 variances of 1e-6 / 3, over cap + 1 - k = 6.
    assert!(moments.bound(Covariance::Sample) < 1.1 * 60.0 * 1e-6 / 3.0 / 6.0);
}

#[test]
fn no_wider_than_the_cap_is_exact_however_long_the_stream() {
    for (d, cap) in [(1, 1), (7, 7), (20, 25), (20, usize::MAX)] {
        let rows = stream(5000, d, 0.9, 10.0, 6);
        let moments = streamed(rows.as_ref(), cap, &[333]);
        assert_exact(&moments, rows.as_ref());
        assert!(moments.factor(Covariance::Sample).nrows() <= 2 * d);
    }
}

#[test]
fn the_cuts_of_a_stream_and_the_threads_change_no_bit() {
    let rows = stream(300, 700, 0.99, 5.0, 7);
    let run = |threads: usize, batches: &[usize]| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| streamed(rows.as_ref(), 20, batches))
    };
    let whole = run(1, &[300]);
    assert!(whole.bound(Covariance::Sample) > 0.0);
    assert_eq!(whole, run(4, &[300]));
    assert_eq!(whole, run(1, &[1]));
    assert_eq!(whole, run(4, &[39, 1, 2, 41]));
}

#[test]
fn the_unit_of_the_rows_changes_no_bit_of_the_factor() {
    for (d, cap) in [(30, 6), (30, 20), (5, 6)] {
        let rows = stream(200, d, 0.8, 1.0, 8);
        let plain = streamed(rows.as_ref(), cap, &[200]).factor(Covariance::Sample);
        for power in [-600, -3, 300] {
            let unit = 2.0_f64.powi(power);
            let scaled = Mat::from_fn(200, d, |i, j| unit * rows[(i, j)]);
            let found = streamed(scaled.as_ref(), cap, &[200]).factor(Covariance::Sample);
            assert_eq!(found, Mat::from_fn(plain.nrows(), d, |i, j| unit * plain[(i, j)]));
        }
    }
}

#[test]
fn merges_in_any_order_stay_within_the_bound() {
    for (cap, growth) in [(6, 1.0), (6, 1e3), (20, 1.0)] {
        let rows = stream(2000, 30, 0.85, growth, 9);
        let (mut parts, mut at) = (Vec::new(), 0);
        for size in [3, 400, 1, 97, 250, 11, 700, 538] {
            parts.push(streamed(rows.as_ref().subrows(at, size), cap, &[64]));
            at += size;
        }
        assert_eq!(at, 2000);
        assert_bounded(&one_by_one(parts.iter(), 30, cap), rows.as_ref());
        assert_bounded(&one_by_one(parts.iter().rev(), 30, cap), rows.as_ref());
        assert_bounded(&as_a_tree(parts.clone()), rows.as_ref());
        parts.rotate_left(3);
        assert_bounded(&as_a_tree(parts), rows.as_ref());
    }
}

#[test]
fn merged_moments_take_more_rows() {
    let rows = stream(900, 30, 0.85, 1.0, 10);
    let mut moments = streamed(rows.as_ref().subrows(0, 300), 8, &[64]);
    moments.merge(&streamed(rows.as_ref().subrows(300, 300), 8, &[64])).unwrap();
    moments.push(checked(rows.as_ref().subrows(600, 300))).unwrap();
    assert_bounded(&moments, rows.as_ref());
}

#[test]
fn merges_of_what_loses_nothing_lose_nothing() {
    // Low rank, and narrow: both far beyond the cap in number.
    let low = product(noise(1000, 4, 11).as_ref(), noise(4, 50, 12).as_ref());
    let narrow = stream(1000, 5, 0.9, 10.0, 13);
    for rows in [low, narrow] {
        let parts: Vec<_> =
            (0..10).map(|i| streamed(rows.as_ref().subrows(100 * i, 100), 5, &[30])).collect();
        assert_exact(&one_by_one(parts.iter().rev(), rows.ncols(), 5), rows.as_ref());
        assert_exact(&as_a_tree(parts), rows.as_ref());
    }
}

#[test]
fn two_far_means_are_spread() {
    // Equal rows on either side have no scatter of their own; all of it is the row between the means.
    let mut left = streamed(Mat::full(9, 3, -1.0).as_ref(), 2, &[4]);
    assert_eq!(left.factor(Covariance::Sample).nrows(), 0);
    left.merge(&streamed(Mat::full(3, 3, 7.0).as_ref(), 2, &[1])).unwrap();
    assert_eq!(left.mean(), [1.0; 3]);
    let held = scatter(&left.factor(Covariance::Population));
    // 9/12 * 2^2 + 3/12 * 6^2
    assert!(distance(&held, &Mat::full(3, 3, 12.0)) < 12.0 * EXACT);
}

#[test]
fn nothing_changes_nothing() {
    let rows = stream(100, 12, 0.8, 1.0, 14);
    let full = streamed(rows.as_ref(), 4, &[100]);
    let empty = Moments::new(12, 4).unwrap();
    let mut merged = full.clone();
    merged.merge(&empty).unwrap();
    assert_eq!(merged, full);
    let mut merged = empty.clone();
    merged.merge(&full).unwrap();
    assert_eq!(merged, full);
    let mut still = empty.clone();
    still.merge(&empty).unwrap();
    assert_eq!((still.count(), still.width(), still.mean()), (0, 12, [0.0; 12].as_slice()));
    assert_eq!(still.factor(Covariance::Sample).shape(), (0, 12));
    assert_eq!((still.bound(Covariance::Sample), still.removed(Covariance::Population)), (0.0, 0.0));
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    assert_eq!(Moments::new(0, 3).unwrap_err(), LinalgError::NoColumns);
    assert_eq!(Moments::new(3, 0).unwrap_err(), LinalgError::NoCap);

    let mut moments = streamed(noise(20, 5, 15).as_ref(), 2, &[20]);
    let before = moments.clone();
    let narrow = noise(4, 3, 16);
    assert_eq!(
        moments.push(checked(narrow.as_ref())).unwrap_err(),
        LinalgError::Widths { left: 5, right: 3 }
    );
    assert_eq!(
        moments.merge(&Moments::new(3, 2).unwrap()).unwrap_err(),
        LinalgError::Widths { left: 5, right: 3 }
    );
    let error = moments.merge(&Moments::new(5, 4).unwrap()).unwrap_err();
    assert_eq!(error, LinalgError::Caps { left: 2, right: 4 });
    assert_eq!(error.to_string(), "caps differ: 2 and 4 rows; only moments of one cap merge");
    let mut large = noise(4, 5, 17);
    large[(2, 1)] = -1e200;
    assert_eq!(
        moments.push(checked(large.as_ref())).unwrap_err(),
        LinalgError::Magnitude { row: 2, column: 1, value: -1e200, limit: 1e100 }
    );
    assert_eq!(moments, before);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn what_fits_is_exact_for_any_cut(
        cap in 1_usize..12, d in 1_usize..40, part in 0.0..1.0_f64, seed: u64, power in -100_i32..100,
        batches in prop::collection::vec(1_usize..9, 1..6), split in 0.0..1.0_f64,
    ) {
        // Up to 2 cap + 1 rows: each but the first takes up a row of the factor.
        let n = 2 + (part * 2.0 * cap as f64) as usize;
        let unit = 2.0_f64.powi(power);
        let plain = stream(n, d, 0.9, 1.0, seed >> 1);
        let rows = Mat::from_fn(n, d, |i, j| unit * plain[(i, j)]);
        assert_exact(&streamed(rows.as_ref(), cap, &batches), rows.as_ref());

        let (above, below) = rows.as_ref().split_at_row(1 + (split * (n - 1) as f64) as usize);
        let mut merged = streamed(above, cap, &batches);
        merged.merge(&streamed(below, cap, &batches)).unwrap();
        assert_exact(&merged, rows.as_ref());
    }
}
