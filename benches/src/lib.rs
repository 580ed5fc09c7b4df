//! Benchmarks of the workspace; they live in `benches/benches/` and `benches/src/bin/`, their records in
//! `benches/record/`.

use faer::Mat;

/// Rows that the peers' script makes too, to the last bit: uniform numbers of unit variance from a hash (SplitMix64) of
/// their place, about `mean`. `[n, d]`.
pub fn rows(n: usize, d: usize, seed: u64, mean: f64) -> Mat<f64> {
    Mat::from_fn(n, d, |i, j| {
        let place = (seed << 40) + (i * d + j) as u64 + 1;
        let mut z = place.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        mean + ((z >> 11) as f64 / (1u64 << 53) as f64 - 0.5) * 12f64.sqrt()
    })
}
