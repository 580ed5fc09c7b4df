//! What a fit holds beyond its input, its result included, is a small multiple of the input.
#![allow(clippy::unwrap_used)]

use brenier_linalg::product;
use brenier_map::Affine;
use brenier_transport::{FitOptions, Method, Shrinkage, SlicedOptions, fit};
use faer::Mat;
use peak_alloc::PeakAlloc;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Counts every byte asked for, on all threads.
#[global_allocator]
static HELD: PeakAlloc = PeakAlloc;

/// The most that a fit may hold, in multiples of its rows in f64. Measured where rows are few: 0.2 for maps in principal
/// components, 1.0 for the optimal map and 1.7 with a regulariser, 2.6 for others of as many directions as rows, which are
/// once or twice the input themselves; 2.9 for the worst, one of these with the sliced distance, whose directions are half
/// the input.
const LIMIT: f64 = 3.0;

/// The same where all rows together are hardly more than columns, so that a matrix `[d, d]` is nearly the input (0.85 of
/// it). A singular value decomposition with the right vectors holds six of these: the matrix, the vectors, and the room of
/// four that faer works in. Measured: 3.7 for the optimal map, 4.4 for maps in principal components, 5.3 for LEACE.
const NEAR_SQUARE: f64 = 5.6;

/// And where covariances are regularised there. They are of full rank then, so that beside that decomposition there are
/// the factors of both, `[d, d]`, with the smaller ones of the rows, and the axes of the source. Measured: 8.9.
const NEAR_SQUARE_REGULAR: f64 = 9.3;

fn rows(n: usize, d: usize, seed: u64, mean: f64) -> Mat<f64> {
    let mut rng = StdRng::seed_from_u64(seed);
    Mat::from_fn(n, d, |_, _| mean + rng.random_range(-1.0..1.0))
}

/// The only test here: the count is of the whole process.
#[test]
fn a_fit_holds_no_more_than_a_small_multiple_of_its_input() {
    // As many on every machine; each of them maps rows in blocks of its own.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    // On every thread that it first runs on, the kernel of a product reserves twice the processor's last cache for good.
    let small = rows(96, 96, 3, 0.0);
    pool.broadcast(|_| product(small.as_ref(), small.as_ref()));

    let plain = FitOptions::default();
    let regular = FitOptions { reg_abs: Some(1e-6), ..plain };
    let shrunk = FitOptions { shrinkage: Shrinkage::Auto, ..plain };
    let sliced = |options| FitOptions { sliced: Some(SlicedOptions::default()), ..options };
    let cases: Vec<_> = Method::ALL
        .into_iter()
        .map(|method| (method, "", plain))
        .chain([Method::Ot, Method::Entropic].map(|method| (method, " with reg_abs", regular)))
        .chain(
            [Method::Ot, Method::Entropic, Method::Leace].map(|method| (method, " with shrinkage", shrunk)),
        )
        .chain(
            [Method::Ot, Method::Entropic, Method::Whitening]
                .map(|method| (method, " with the sliced distance", sliced(plain))),
        )
        .chain([
            (Method::Ot, " with reg_abs and the sliced distance", sliced(regular)),
            (Method::Ot, " with shrinkage and the sliced distance", sliced(shrunk)),
        ])
        .collect();
    let mut over = Vec::new();
    for (n, d, limit, of_regular) in
        [(128, 4096, LIMIT, LIMIT), (2000, 512, LIMIT, LIMIT), (300, 512, NEAR_SQUARE, NEAR_SQUARE_REGULAR)]
    {
        let (source, target) = (rows(n, d, 1, 0.0), rows(n, d, 2, 1.0));
        let input = 2 * n * d * size_of::<f64>();
        for (method, how, options) in &cases {
            let before = HELD.current_usage();
            HELD.reset_peak_usage();
            let fitted =
                pool.install(|| fit(*method, source.as_ref(), target.as_ref(), options, None)).unwrap();
            let held = HELD.peak_usage() - before;
            let kept = match fitted.map.affine() {
                Affine::LowRank(map) => 2 * d * (1 + map.u.ncols()),
                Affine::Symmetric(map) => d * (2 + map.core.ncols()),
                Affine::Dense(_) => d * (d + 1),
                _ => 2 * d,
            };
            // A count that misses what comes back would prove nothing.
            assert!(held >= kept * size_of::<f64>(), "{method}{how}: only {held} bytes counted");
            let times = held as f64 / input as f64;
            println!("{method}{how}, {n} + {n} rows of {d}: {times:.2} times the input");
            let is_plain = options.reg_abs.is_none() && options.shrinkage == plain.shrinkage;
            let limit = if is_plain { limit } else { of_regular };
            if times > limit {
                over.push(format!("{method}{how}, {n} + {n} rows of {d}: {times:.2}, above {limit}"));
            }
        }
    }
    assert!(over.is_empty(), "times the input: {over:?}");
}
