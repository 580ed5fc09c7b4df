//! A map made by hand: a gated step along one direction; applied, undone, written and read.
//!
//! ```sh
//! cargo run -p brenier-map --example edit_rows
//! ```

use std::error::Error;
use std::path::Path;

use brenier_map::{Affine, Gate, LowRank, MapEntry, MapFile, RowMap};
use faer::{Mat, mat};

fn main() -> Result<(), Box<dyn Error>> {
    // T(x) = x + offset + u v^T (x - mean): twice the first coordinate about 1, and one step up the second.
    let double = LowRank {
        scale: 1.0,
        mean: vec![1.0, 0.0, 0.0],
        offset: vec![0.0, 1.0, 0.0],
        u: mat![[1.0], [0.0], [0.0]],
        v: mat![[1.0], [0.0], [0.0]],
    };
    let map = RowMap::new(Affine::LowRank(double))?;
    let rows = mat![[3.0, 0.0, 5.0], [1.0, 0.0, -5.0]];
    let mut moved = rows.clone();
    map.apply_rows(moved.as_mut(), 1.0)?;
    assert_eq!(moved, mat![[5.0, 1.0, 5.0], [1.0, 1.0, -5.0]]);
    map.inverse()?.apply_rows(moved.as_mut(), 1.0)?;
    assert_eq!(moved, rows);

    // The same, for rows with a positive third coordinate: log-odds 4 x_3, and nothing below one half.
    let gate = Gate {
        basis: mat![[0.0], [0.0], [1.0]],
        center: vec![0.0; 3],
        constant: 0.0,
        linear: vec![4.0],
        quadratic: Mat::zeros(1, 1),
        temperature: 1.0,
        threshold: Some(0.5),
    };
    let gated = map.with_gate(gate)?;
    let shares = gated.gate_rows(rows.as_ref())?;
    println!("shares of the map: {shares:?}");
    let mut moved = rows.clone();
    gated.apply_rows(moved.as_mut(), 1.0)?;
    assert_eq!(moved.row(1), rows.row(1));
    // Two gates in a row, or one undone, are no map of this family, and said to be none.
    if let Err(error) = gated.inverse() {
        println!("{error}");
    }

    let mut file = MapFile::default();
    let entry = MapEntry { map: gated, certificate: serde_json::Value::Null, method: "by hand".to_owned() };
    file.entries.insert("blocks.5.hook_resid_post".to_owned(), entry);
    let bytes = file.to_bytes()?;
    println!("{} bytes, SHA-256 {}", bytes.len(), file.sha256()?);
    assert_eq!(MapFile::from_bytes(&bytes, Path::new("a file in memory"))?, file);
    Ok(())
}
