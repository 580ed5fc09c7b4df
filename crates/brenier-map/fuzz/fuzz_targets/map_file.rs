//! Whatever the bytes: no panic, and a map that is read is written, read again and equal.
#![no_main]

use std::path::Path;

use brenier_map::{MapError, MapFile, RowMap};
use faer::Mat;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    check(bytes);
    if let Some(bytes) = repaired(bytes) {
        check(&bytes);
    }
});

fn check(bytes: &[u8]) {
    let path = Path::new("map.safetensors");
    match MapFile::from_bytes(bytes, path) {
        Err(error) => assert!(!error.to_string().chars().any(char::is_control)),
        Ok(file) => {
            let written = file.to_bytes().expect("what was read can be written");
            let again = MapFile::from_bytes(&written, path).expect("what was written can be read");
            assert_eq!(again, file);
            assert_eq!(again.to_bytes().expect("it is the same"), written);
            file.entries.values().for_each(|entry| use_up(&entry.map));
        }
    }
}

fn use_up(map: &RowMap) {
    let mut rows = Mat::from_fn(3, map.dim(), |i, j| [0.0, 1.0, -1e300][i] + j as f64);
    let applied = map.apply_rows(rows.as_mut(), 1.0);
    assert!(matches!(applied, Ok(()) | Err(MapError::Overflow { .. })), "{applied:?}");
    let _ = map.at_strength(-0.5);
    let _ = map.inverse();
    let _ = map.compose(map);
}

/// The same header and data with the header's length set to where the last `}}` ends, and as much data as the header
/// announces.
fn repaired(bytes: &[u8]) -> Option<Vec<u8>> {
    let body = bytes.get(8..)?;
    let end = 2 + body.windows(2).rposition(|pair| pair == b"}}")?;
    let header: serde_json::Value = serde_json::from_slice(&body[..end]).ok()?;
    let ends = header.as_object()?.values().filter_map(|tensor| tensor.get("data_offsets")?.get(1)?.as_u64());
    let announced = ends.max().unwrap_or(0);
    let mut repaired = (end as u64).to_le_bytes().to_vec();
    repaired.extend(body);
    if announced < 1 << 16 {
        repaired.resize(8 + end + announced as usize, 0);
    }
    Some(repaired)
}
