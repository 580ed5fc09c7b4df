//! Map files made without this crate, and rows edited by the PyTorch code of the guide to the format.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use brenier_map::MapFile;
use faer::{Mat, MatRef};
use safetensors::{Dtype, SafeTensors};

/// Entries near 1 in at most 8 x 8 terms of a sum.
const TOLERANCE: f64 = 256.0 * f64::EPSILON;
const TOLERANCE_F32: f64 = 256.0 * f32::EPSILON as f64;

fn golden(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/map-file").join(file)
}

fn matrix(file: &SafeTensors<'_>, name: &str) -> Mat<f64> {
    let tensor = file.tensor(name).unwrap();
    let values: Vec<f64> = match tensor.dtype() {
        Dtype::F64 => tensor.data().as_chunks::<8>().0.iter().copied().map(f64::from_le_bytes).collect(),
        _ => tensor.data().as_chunks::<4>().0.iter().map(|&x| f32::from_le_bytes(x).into()).collect(),
    };
    MatRef::from_row_major_slice(&values, tensor.shape()[0], tensor.shape()[1]).to_owned()
}

#[test]
fn rows_go_where_pytorch_takes_them() {
    let maps = MapFile::read(&golden("maps.safetensors")).unwrap();
    let bytes = std::fs::read(golden("rows.safetensors")).unwrap();
    let rows = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(maps.entries.len(), 13);
    for (name, entry) in &maps.entries {
        for (label, strength) in [("1", 1.0), ("-0.5", -0.5)] {
            let mut found = matrix(&rows, "x");
            entry.map.apply_rows(found.as_mut(), strength).unwrap();
            let expected = matrix(&rows, &format!("{name}.{label}"));
            let off = (&found - &expected).norm_max();
            assert!(off < TOLERANCE * (1.0 + expected.norm_max()), "{name} at {strength}: {off:e}");
        }
        // In f32 PyTorch rounds at every step, this crate once.
        let x = matrix(&rows, "x");
        let mut found = Mat::from_fn(x.nrows(), x.ncols(), |i, j| x[(i, j)] as f32);
        entry.map.apply_rows_f32(found.as_mut(), 1.0).unwrap();
        let expected = matrix(&rows, &format!("{name}.f32"));
        let found = Mat::from_fn(x.nrows(), x.ncols(), |i, j| f64::from(found[(i, j)]));
        let off = (&found - &expected).norm_max();
        assert!(off < TOLERANCE_F32 * (1.0 + expected.norm_max()), "{name} in f32: {off:e}");
    }
    // The threshold shuts the gate for some rows and not for others, or it is not tested here.
    let shares = maps.entries["shut"].map.gate_rows(matrix(&rows, "x").as_ref()).unwrap();
    assert!(shares.contains(&0.0) && shares.iter().any(|&share| share > 0.5), "{shares:?}");
}
