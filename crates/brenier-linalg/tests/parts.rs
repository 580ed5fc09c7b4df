//! Moments taken apart and put together again: the same bits, or one clear line.
#![allow(clippy::unwrap_used)]

use brenier_linalg::{Covariance, LinalgError, Moments, MomentsParts, Rows};
use faer::Mat;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

fn stream(n: usize, d: usize, seed: u64) -> Mat<f64> {
    let mut rng = StdRng::seed_from_u64(seed);
    Mat::from_fn(n, d, |_, j| rng.random_range(-1.0..1.0) * 0.9_f64.powi(j as i32) + 3.0)
}

fn of(rows: &Mat<f64>, cap: usize) -> Moments {
    let mut moments = Moments::new(rows.ncols(), cap).unwrap();
    if rows.nrows() > 0 {
        moments.push(Rows::new(rows.as_ref()).unwrap()).unwrap();
    }
    moments
}

/// Equal and equal bits: `==` takes 0 for -0.
fn same_bits(a: &Moments, b: &Moments) -> bool {
    let bits = |moments: &Moments| {
        let parts = moments.clone().into_parts();
        let all = [parts.mean, parts.rows, vec![parts.delta, parts.removed]].concat();
        (parts.cap, parts.count, all.iter().map(|x| x.to_bits()).collect::<Vec<_>>())
    };
    bits(a) == bits(b)
}

/// Moments of 100 rows of 12 that lost something.
fn lossy() -> MomentsParts {
    let parts = of(&stream(100, 12, 1), 4).into_parts();
    assert!(parts.delta > 0.0 && parts.removed > 0.0);
    parts
}

fn refused(change: impl FnOnce(&mut MomentsParts)) -> String {
    let mut parts = lossy();
    change(&mut parts);
    let error = Moments::from_parts(parts).unwrap_err();
    assert!(matches!(error, LinalgError::Moments { .. }), "{error}");
    error.to_string()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]

    #[test]
    fn what_was_apart_goes_on_as_if_it_never_were(
        n in 0_usize..120, more in 1_usize..60, d in 1_usize..20, cap in 1_usize..24, seed: u64, power in -180_i32..100,
    ) {
        let unit = 2.0_f64.powi(power);
        let scaled = |rows: Mat<f64>| Mat::from_fn(rows.nrows(), d, |i, j| unit * rows[(i, j)]);
        let whole = of(&scaled(stream(n, d, seed)), cap);
        let mut back = Moments::from_parts(whole.clone().into_parts()).unwrap();
        prop_assert!(same_bits(&back, &whole));
        let (mut whole, rows) = (whole, scaled(stream(more, d, seed ^ 1)));
        for moments in [&mut whole, &mut back] {
            moments.push(Rows::new(rows.as_ref()).unwrap()).unwrap();
        }
        prop_assert!(same_bits(&back, &whole));
    }

    #[test]
    fn merged_moments_come_apart_too(sizes in prop::collection::vec(1_usize..40, 1..6), d in 1_usize..20, cap in 1_usize..24, seed: u64) {
        let mut all = Moments::new(d, cap).unwrap();
        for (i, &size) in sizes.iter().enumerate() {
            all.merge(&of(&stream(size, d, seed ^ i as u64), cap)).unwrap();
        }
        prop_assert!(same_bits(&Moments::from_parts(all.clone().into_parts()).unwrap(), &all));
    }
}

#[test]
fn empty_moments_and_equal_rows_come_apart() {
    for moments in [of(&Mat::zeros(0, 3), usize::MAX), of(&Mat::full(9, 3, -7.0), 1)] {
        assert!(same_bits(&Moments::from_parts(moments.clone().into_parts()).unwrap(), &moments));
    }
}

#[test]
fn the_largest_rows_taken_are_taken_back() {
    let rows = Mat::from_fn(40, 3, |i, j| if (i + j) % 2 == 0 { 1e100 } else { -1e100 });
    for cap in [1, 2, 5] {
        let moments = of(&rows, cap);
        assert!(same_bits(&Moments::from_parts(moments.clone().into_parts()).unwrap(), &moments));
    }
}

#[test]
fn what_no_stream_leaves_behind_is_refused_in_one_line() {
    let none = |change: &dyn Fn(&mut MomentsParts)| {
        let mut parts = lossy();
        change(&mut parts);
        Moments::from_parts(parts).unwrap_err()
    };
    assert_eq!(none(&|parts| parts.mean.clear()), LinalgError::NoColumns);
    assert_eq!(none(&|parts| parts.cap = 0), LinalgError::NoCap);

    let text = refused(|parts| parts.mean[3] = f64::NAN);
    assert_eq!(
        text,
        "moments: mean, column 3 (counted from 0), is NaN, but at most 1.000000001e100 in magnitude was expected"
    );
    assert!(refused(|parts| parts.mean[0] = 1e101).contains("is 1e101"));
    assert!(
        refused(|parts| parts.rows[13] = f64::INFINITY)
            .contains("factor row 1, column 1 (counted from 0), is inf")
    );
    assert!(
        refused(|parts| parts.rows[13] = -1e105)
            .contains("factor row 1, column 1 (counted from 0), is -1e105")
    );
    let text = refused(|parts| parts.rows.truncate(13));
    assert_eq!(text, "moments: the factor's length is 13, but a multiple of the width 12 was expected");
    let text = refused(|parts| parts.rows.resize(9 * 12, 0.0));
    let what = "at most 8 (a cap of 4, a width of 12, a count of 100)";
    assert_eq!(text, format!("moments: the number of factor rows is 9, but {what} was expected"));
    assert!(refused(|parts| parts.mean = vec![0.0; 24]).contains("multiple of the width 24"));

    let held = lossy().rows.len() / 12;
    assert!(refused(|parts| parts.count = held).contains("the number of factor rows"));
    // Nothing can have been lost of nine rows, nor of narrow ones.
    assert!(refused(|parts| parts.count = 9).contains("delta is"));
    assert!(refused(|parts| parts.cap = 12).contains("delta is"));
    let text = refused(|parts| (parts.count, parts.delta) = (9, 0.0));
    assert!(text.contains("the trace removed is"), "{text}");

    assert!(refused(|parts| parts.delta = -1.0).contains("delta is -1, but a finite number"));
    assert!(refused(|parts| parts.delta = f64::NAN).contains("delta is NaN"));
    assert!(refused(|parts| parts.removed = f64::INFINITY).contains("the trace removed is inf"));
    assert!(refused(|parts| parts.removed = 4.9 * parts.delta).contains("for this delta and cap"));
    assert!(refused(|parts| parts.removed = 8.1 * parts.delta).contains("for this delta and cap"));
    assert!(refused(|parts| parts.delta = 0.0).contains("0e0 to 0e0"));
    let empty = refused(|parts| (parts.count, parts.rows) = (0, Vec::new()));
    assert!(empty.contains("mean, column 0 (counted from 0), is"), "{empty}");
}

#[test]
fn a_loss_is_kept_to_the_last_bit() {
    let parts = lossy();
    let back = Moments::from_parts(parts.clone()).unwrap();
    assert_eq!(back.bound(Covariance::Sample), parts.delta / 99.0);
    assert_eq!(back.removed(Covariance::Population), parts.removed / 100.0);
}
