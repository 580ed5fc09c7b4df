//! Rows and references that several test files share.
#![allow(dead_code, clippy::unwrap_used)]

use brenier_linalg::squared_norm;
use brenier_map::{Affine, RowMap};
use faer::{Mat, MatRef};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use safetensors::{Dtype, SafeTensors};
use std::path::PathBuf;

/// Rows with correlated columns of differing variance about a mean of their own.
pub fn rows(n: usize, d: usize, seed: u64) -> Mat<f64> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mix = Mat::from_fn(d, d, |_, _| rng.random_range(-1.0..1.0));
    let mean: Vec<f64> = (0..d).map(|_| rng.random_range(-2.0..2.0)).collect();
    let raw = Mat::from_fn(n, d, |_, j| rng.random_range(-1.0..1.0) / (1.0 + j as f64).sqrt());
    let mixed = &raw * &mix;
    Mat::from_fn(n, d, |i, j| mixed[(i, j)] + mean[j])
}

pub fn map_rows(map: &RowMap, rows: MatRef<'_, f64>) -> Mat<f64> {
    let mut out = rows.to_owned();
    map.apply_rows(out.as_mut(), 1.0).unwrap();
    out
}

/// `|a - b|_F / |b|_F`.
pub fn relative(a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> f64 {
    (squared_norm((a - b).as_ref()) / squared_norm(b)).sqrt()
}

/// The linear part of a map as a dense matrix, and its value at the origin.
pub fn linear_part(map: &RowMap) -> (Mat<f64>, Vec<f64>) {
    let d = map.dim();
    assert!(!matches!(map.affine(), Affine::Diagonal(_)) && map.gate().is_none());
    let origin = map_rows(map, Mat::zeros(1, d).as_ref());
    let axes = map_rows(map, Mat::<f64>::identity(d, d).as_ref());
    // Row i of the images is column i of A.
    let matrix = Mat::from_fn(d, d, |i, j| axes[(j, i)] - origin[(0, i)]);
    (matrix, (0..d).map(|j| origin[(0, j)]).collect())
}

pub fn covariance(rows: MatRef<'_, f64>) -> (Vec<f64>, Mat<f64>) {
    let (n, d) = rows.shape();
    let mean: Vec<f64> = (0..d).map(|j| rows.col(j).iter().sum::<f64>() / n as f64).collect();
    let s = Mat::from_fn(d, d, |a, b| {
        (0..n).map(|i| (rows[(i, a)] - mean[a]) * (rows[(i, b)] - mean[b])).sum::<f64>() / (n - 1) as f64
    });
    (mean, s)
}

/// The tensors of a golden file, each as a matrix (vectors as one row).
pub struct Golden(Vec<u8>);

impl Golden {
    pub fn read(name: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/transport").join(name);
        Self(std::fs::read(path).unwrap())
    }

    pub fn has(&self, name: &str) -> bool {
        SafeTensors::deserialize(&self.0).unwrap().tensor(name).is_ok()
    }

    pub fn matrix(&self, name: &str) -> Mat<f64> {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let tensor = file.tensor(name).unwrap();
        let (n, d) = match *tensor.shape() {
            [n, d] => (n, d),
            [d] => (1, d),
            ref other => panic!("shape {other:?}"),
        };
        let bytes = tensor.data();
        Mat::from_fn(n, d, |i, j| {
            let at = i * d + j;
            match tensor.dtype() {
                Dtype::F64 => f64::from_le_bytes(bytes[8 * at..8 * at + 8].try_into().unwrap()),
                Dtype::F32 => f32::from_le_bytes(bytes[4 * at..4 * at + 4].try_into().unwrap()).into(),
                other => panic!("dtype {other:?}"),
            }
        })
    }

    pub fn number(&self, name: &str) -> f64 {
        self.matrix(name)[(0, 0)]
    }
}
