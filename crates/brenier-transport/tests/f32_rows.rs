//! Rows stored in f32 carry its rounding: what lies within that is no direction, and no reason to refuse a fit.
#![allow(clippy::unwrap_used)]

mod common;

use brenier_map::Affine;
use brenier_transport::{FitOptions, Method, Shrinkage, fit};
use faer::Mat;

/// `a_i v + m`, the two classes at different `a`, rounded to f32.
fn line(n: usize, d: usize, seed: usize, at: f64, mean: f64) -> Mat<f64> {
    let noise = |i: usize, j: usize| (((i * 7919 + j * 104_729 + 13) as f64).sin() * 43_758.545_3).fract();
    Mat::from_fn(n, d, |i, j| {
        let x = mean + (at + noise(i, seed)) * (0.3 + noise(1000, j));
        f64::from(x as f32)
    })
}

#[test]
fn leace_fits_rows_of_rank_one_rounded_to_f32() {
    for (n, d) in [(4, 3), (20, 8), (9, 40), (30, 200), (12, 600), (300, 16)] {
        for mean in [0.0, 1.0, 50.0] {
            for shrinkage in [Shrinkage::Fixed(0.0), Shrinkage::Fixed(0.1), Shrinkage::Auto] {
                let (source, target) = (line(n, d, 1, 0.0, mean), line(n + 3, d, 2, 2.0, mean));
                let options = FitOptions { shrinkage, ..FitOptions::default() };
                let found = fit(Method::Leace, source.as_ref(), target.as_ref(), &options, None)
                    .unwrap_or_else(|error| panic!("{n} x {d} about {mean}, {shrinkage:?}: {error}"));
                let laws = found.certificate.erasure.unwrap();
                assert_eq!(laws.rank, 1, "{n} x {d} about {mean}: the rounding of f32 is no direction");
                // The one direction there is goes, and nothing is stretched by what rounding left beside it.
                assert!(
                    found.certificate.norm < 1.0 + 1e-3,
                    "{n} x {d} about {mean}: {}",
                    found.certificate.norm
                );
                let Affine::LowRank(map) = found.map.affine() else { panic!() };
                assert_eq!(map.u.ncols(), 1);
            }
        }
    }
}
