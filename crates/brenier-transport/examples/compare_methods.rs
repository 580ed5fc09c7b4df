//! Every method on two clouds that are mixtures of Gaussians: how near it brings them, and how far it goes for that.
//!
//! ```sh
//! cargo run --release -p brenier-transport --example compare_methods
//! ```
//!
//! W2 is that of the two Gaussians of the rows: what a method cannot see (the classes are mixtures) it does not
//! show. The step is the root mean square length that a row moves, W2 itself for an optimal map; the last column is
//! the step of target rows, which should stay where they are.

use std::error::Error;

use brenier_transport::{FitOptions, Method, Shrinkage, fit};
use faer::Mat;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const D: usize = 24;

fn main() -> Result<(), Box<dyn Error>> {
    let (source, target) = (cloud(1, 300), cloud(2, 300));
    let (source_apart, target_apart) = (cloud(3, 300), cloud(4, 300));
    let options = FitOptions { components: 3, shrinkage: Shrinkage::Auto, ..FitOptions::default() };
    println!(
        "{:<14} {:>9} {:>9} {:>9} {:>7} {:>9} {:>9}",
        "method", "W2", "fitted", "held out", "|A|", "step", "target"
    );
    for method in Method::ALL {
        let held_out = Some((source_apart.as_ref(), target_apart.as_ref()));
        let found = fit(method, source.as_ref(), target.as_ref(), &options, held_out)?.certificate;
        let (train, apart) = (&found.train, found.held_out.as_ref());
        println!(
            "{:<14} {:>9.3} {:>9.3} {:>9.3} {:>7.2} {:>9.3} {:>9.3}",
            method.name(),
            train.w2_before,
            train.w2_after,
            apart.map_or(f64::NAN, |apart| apart.w2_after),
            found.norm,
            train.source_step,
            train.target_step,
        );
    }
    Ok(())
}

/// Rows of one of two classes (odd and even seeds): two heaps each, with means and spreads of their own.
fn cloud(seed: u64, n: usize) -> Mat<f64> {
    let mut rng = StdRng::seed_from_u64(seed);
    let odd = seed % 2 == 1;
    let mut rows = Mat::zeros(n, D);
    for mut row in rows.as_mut().row_iter_mut() {
        let heap = if rng.random_bool(0.3) { 1.0 } else { -1.0 };
        for (j, x) in row.as_mut().iter_mut().enumerate() {
            // A sum of uniforms is nearly normal.
            let normal: f64 = (0..6).map(|_| rng.random_range(-0.7..0.7)).sum();
            let place = j as f64;
            *x = if odd {
                heap * (0.9 * place).sin() + 0.8 * normal
            } else {
                0.5 + 0.5 * heap * (0.4 * place).cos() + normal / (1.0 + 0.2 * place)
            };
        }
    }
    rows
}
