//! From two sets of rows to a map in a file, and back: fit, read the certificate, apply, write, read.
//!
//! ```sh
//! cargo run --release -p brenier-transport --example fit_and_apply
//! ```

use std::collections::BTreeMap;
use std::error::Error;

use brenier_map::{MapEntry, MapFile};
use brenier_transport::{FitOptions, Method, Shrinkage, fit};
use faer::{Mat, MatRef};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const D: usize = 256;

fn main() -> Result<(), Box<dyn Error>> {
    // 128 rows a side of width 256, as activations come: fewer rows than columns, a few strong directions.
    let (source, target) = (rows(1, 128), rows(2, 128));
    let (source_apart, target_apart) = (rows(3, 64), rows(4, 64));
    let held_out = Some((source_apart.as_ref(), target_apart.as_ref()));

    // Full-dimensional transport. With fewer rows than columns the covariances are singular, and shrinkage makes the
    // map defined everywhere; nothing of size d x d is formed.
    let options = FitOptions { shrinkage: Shrinkage::Auto, ..FitOptions::default() };
    let fitted = fit(Method::Ot, source.as_ref(), target.as_ref(), &options, held_out)?;

    let certificate = &fitted.certificate;
    println!(
        "W2 between the rows fitted    {:8.3} -> {:.3}",
        certificate.train.w2_before, certificate.train.w2_after
    );
    if let Some(apart) = &certificate.held_out {
        println!("W2 between rows kept out      {:8.3} -> {:.3}", apart.w2_before, apart.w2_after);
    }
    if let Some(laws) = &certificate.optimality {
        println!("|A - A^T| / |A|               {:8.1e}", laws.symmetry);
        println!("smallest eigenvalue of A      {:8.3}", laws.min_eigenvalue);
        println!("|A S_s A - S_t| / |S_t|       {:8.1e}", laws.push_forward_covariance);
        println!("cost / W2^2 - 1               {:8.1e}", laws.transport_cost / laws.w2_squared - 1.0);
        println!("condition of the source       {:8.1e}", laws.condition);
    }

    // The map goes into a file with what was measured of it, and comes back with every bit.
    let certificate = serde_json::to_value(certificate)?;
    let entry = MapEntry { map: fitted.map.clone(), certificate, method: fitted.method.to_string() };
    let name = "blocks.5.hook_resid_post".to_owned();
    let file = MapFile { entries: BTreeMap::from([(name.clone(), entry)]), metadata: BTreeMap::new() };
    let path = std::env::temp_dir().join("brenier-example.safetensors");
    file.write(&path, true)?;
    let back = MapFile::read(&path)?;
    std::fs::remove_file(&path)?;
    let map = &back.entries[&name].map;
    assert_eq!(map, &fitted.map);

    // Strength 0.5 is half way along the geodesic; a negative strength goes the other way.
    for strength in [0.0, 0.5, 1.0] {
        let mut moved = source_apart.clone();
        map.apply_rows(moved.as_mut(), strength)?;
        println!(
            "mean step at strength {strength:3}     {:8.3}",
            mean_step(source_apart.as_ref(), moved.as_ref())
        );
    }
    Ok(())
}

/// Rows of one of two classes (odd and even seeds) that differ in mean and in covariance.
fn rows(seed: u64, n: usize) -> Mat<f64> {
    let mut rng = StdRng::seed_from_u64(seed);
    let class = (seed % 2) as f64;
    Mat::from_fn(n, D, |_, j| {
        // A sum of uniforms is nearly normal.
        let normal: f64 = (0..6).map(|_| rng.random_range(-0.7..0.7)).sum();
        let place = j as f64;
        class * (0.3 * place).sin()
            + normal * (1.0 + class * (0.7 * place).cos().powi(2)) / (1.0 + 0.1 * place)
    })
}

fn mean_step(before: MatRef<'_, f64>, after: MatRef<'_, f64>) -> f64 {
    let step = after - before;
    step.row_iter().map(|row| row.norm_l2()).sum::<f64>() / before.nrows() as f64
}
