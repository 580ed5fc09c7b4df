//! Bytes from outside: whatever they are, an error in one line or a map that is written and read again.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use brenier_map::{Affine, Dense, Diagonal, LowRank, MapEntry, MapError, MapFile, RowMap, Symmetric};
use common::any_map;
use faer::Mat;
use proptest::prelude::*;
use serde_json::{Value, json};

/// Numbers at which sizes, offsets and products of them go wrong.
const EDGES: [u64; 14] = [
    0,
    1,
    2,
    7,
    8,
    1 << 31,
    1 << 32,
    1 << 53,
    1 << 60,
    (1 << 61) - 1,
    1 << 61,
    i64::MAX as u64,
    u64::MAX - 7,
    u64::MAX,
];

fn read(bytes: &[u8]) -> Result<MapFile, MapError> {
    MapFile::from_bytes(bytes, Path::new("map.safetensors"))
}

fn file_of(maps: Vec<RowMap>) -> MapFile {
    let entry = |(i, map): (usize, RowMap)| {
        (format!("blocks.{i}"), MapEntry { map, certificate: json!({"n": i}), method: "ot".to_owned() })
    };
    MapFile { entries: maps.into_iter().enumerate().map(entry).collect(), metadata: BTreeMap::new() }
}

fn files() -> impl Strategy<Value = MapFile> {
    prop::collection::vec(any_map(3), 1..3).prop_map(file_of)
}

/// An error in one line, or maps that survive writing and reading and take rows without a panic.
fn is_sound(bytes: &[u8]) -> Result<bool, TestCaseError> {
    match read(bytes) {
        Err(error) => {
            let text = error.to_string();
            prop_assert!(!text.chars().any(char::is_control), "{:?}", text);
            Ok(false)
        }
        Ok(file) => {
            let written = file.to_bytes().unwrap();
            let again = read(&written).unwrap();
            prop_assert_eq!(&again, &file);
            prop_assert_eq!(again.to_bytes().unwrap(), written);
            file.entries.values().for_each(|entry| use_up(&entry.map));
            Ok(true)
        }
    }
}

/// Everything that a map offers; only that it comes back matters.
fn use_up(map: &RowMap) {
    let d = map.dim();
    let rows = Mat::from_fn(3, d, |i, j| [0.0, 1.0, -1e300][i] + j as f64);
    let mut moved = rows.clone();
    let applied = map.apply_rows(moved.as_mut(), 1.0);
    assert!(matches!(applied, Ok(()) | Err(MapError::Overflow { .. })), "{applied:?}");
    assert_eq!(map.gate_rows(rows.as_ref()).unwrap().len(), 3);
    assert!(map.apply_rows(Mat::zeros(1, d + 1).as_mut(), 1.0).is_err());
    let _ = map.at_strength(-0.5);
    let _ = map.inverse();
    let _ = map.compose(map);
}

/// A safetensors file of this header and these data, with the length it says.
fn assembled(header: &Value, data: &[u8]) -> Vec<u8> {
    let header = serde_json::to_vec(header).unwrap();
    [&(header.len() as u64).to_le_bytes(), header.as_slice(), data].concat()
}

fn taken_apart(bytes: &[u8]) -> (Value, Vec<u8>) {
    let end = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    (serde_json::from_slice(&bytes[8..end]).unwrap(), bytes[end..].to_vec())
}

/// What may stand where a header has something else.
fn wrong() -> impl Strategy<Value = Value> {
    let edge = || prop::sample::select(EDGES.to_vec());
    prop_oneof![
        4 => edge().prop_map(|x| json!(x)),
        2 => prop::collection::vec(edge(), 0..5).prop_map(|x| json!(x)),
        1 => prop::sample::select(vec!["F64", "F32", "F4", "F6_E2M3", "BOOL", "U8", "I64", "C64", "none", "a\nb"])
            .prop_map(|x| json!(x)),
        1 => prop::sample::select(vec![Value::Null, json!(true), json!(-1), json!(1.5), json!(1e300), json!({})]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn noise_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        prop_assert!(!is_sound(&bytes)?);
    }

    #[test]
    fn noise_behind_a_true_length_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..64), more in 0..64_u64) {
        let length = bytes.len() as u64;
        for length in [length, length.saturating_sub(more), length + more, u64::MAX - more] {
            prop_assert!(!is_sound(&[&length.to_le_bytes(), bytes.as_slice()].concat())?);
        }
    }

    #[test]
    fn an_untouched_file_is_sound(file in files()) {
        prop_assert!(is_sound(&file.to_bytes().unwrap())?);
    }

    #[test]
    fn changed_bytes_are_refused_or_another_map(
        file in files(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..9),
    ) {
        let mut bytes = file.to_bytes().unwrap();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        is_sound(&bytes)?;
    }

    #[test]
    fn changed_lengths_are_refused(file in files(), cut in any::<prop::sample::Index>(), more in 1..40_usize) {
        let bytes = file.to_bytes().unwrap();
        prop_assert!(!is_sound(&bytes[..cut.index(bytes.len())])?);
        prop_assert!(!is_sound(&[bytes.as_slice(), &vec![0; more]].concat())?);
        for length in EDGES {
            prop_assert!(!is_sound(&[&length.to_le_bytes(), &bytes[8..]].concat())?);
        }
    }

    #[test]
    fn changed_headers_are_refused_or_another_map(
        file in files(),
        which in any::<prop::sample::Index>(),
        field in prop::sample::select(vec!["dtype", "shape", "data_offsets"]),
        value in wrong(),
        at in prop::option::of(0..2_usize),
    ) {
        let (mut header, data) = taken_apart(&file.to_bytes().unwrap());
        let names: Vec<String> =
            header.as_object().unwrap().keys().filter(|name| *name != "__metadata__").cloned().collect();
        let place = &mut header[&names[which.index(names.len())]][field];
        // The whole field, or one number of it.
        match at.filter(|&at| place.get(at).is_some()) {
            Some(at) => place[at] = value,
            None => *place = value,
        }
        is_sound(&assembled(&header, &data))?;
    }

    #[test]
    fn changed_metadata_is_refused_or_another_map(
        file in files(),
        text in prop::sample::select(vec![
            "", "{}", "[]", "null", "{\"blocks.0\":{}}", "{\"blocks.0\":{\"kind\":\"dense\",\"method\":\"\",\"certificate\":1e999}}",
            "{\"blocks.0\":{\"kind\":\"low-rank\",\"method\":\"\",\"certificate\":null}}",
            "{\"blocks.0\":{\"kind\":\"diagonal\",\"method\":\"\u{1b}[2J\",\"certificate\":[]},\"blocks.0\":3}",
            "{\"blocks.0\":{\"kind\":\"low\\nrank\",\"method\":\"\",\"certificate\":null}}",
            "{\"a\\nb\":{\"kind\":\"diagonal\",\"method\":\"\",\"certificate\":null}}",
        ]),
        key in prop::sample::select(vec!["entries", "format"]),
    ) {
        let (mut header, data) = taken_apart(&file.to_bytes().unwrap());
        header["__metadata__"][key] = json!(text);
        is_sound(&assembled(&header, &data))?;
    }

    #[test]
    fn extreme_numbers_come_back(
        numbers in prop::collection::vec(
            prop::sample::select(vec![0.0, -0.0, 1.0, f64::MIN_POSITIVE / 4.0, 1e-300, -1e300, f64::MAX, f64::MIN]),
            36,
        ),
        kind in 0..4,
    ) {
        let matrix = |from: usize, cols| Mat::from_fn(3, cols, |i, j| numbers[from + cols * i + j]);
        let vector = |from: usize| numbers[from..from + 3].to_vec();
        let affine = match kind {
            0 => Affine::Dense(Dense { matrix: matrix(0, 3), bias: vector(9) }),
            1 => Affine::Diagonal(Diagonal { weight: vector(0), bias: vector(3), range: Some((vector(6), vector(9))) }),
            2 => Affine::Symmetric(Symmetric {
                scale: numbers[0],
                mean: vector(1),
                offset: vector(4),
                basis: matrix(7, 2),
                core: Mat::from_fn(2, 2, |i, j| numbers[13 + i + j]),
            }),
            _ => Affine::LowRank(LowRank {
                scale: numbers[0],
                mean: vector(1),
                offset: vector(4),
                u: matrix(7, 2),
                v: matrix(13, 2),
            }),
        };
        prop_assert!(is_sound(&file_of(vec![RowMap::new(affine).unwrap()]).to_bytes().unwrap())?);
    }
}

#[test]
fn sizes_that_add_up_past_the_largest_integer_are_refused() {
    // Eight tensors of 2^61 - 1 bytes each end at 2^64 - 8; the header's length takes the sum beyond.
    let size = (1_u64 << 61) - 1;
    let mut header = json!({"__metadata__": {"format": brenier_map::FORMAT, "entries": "{}"}});
    for i in 0..8 {
        header[format!("t{i}")] =
            json!({"dtype": "U8", "shape": [size], "data_offsets": [i * size, (i + 1) * size]});
    }
    let error = read(&assembled(&header, &[])).unwrap_err();
    assert!(error.to_string().contains("does not account for"), "{error}");
}

#[test]
fn a_nest_of_brackets_is_refused() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let entries = format!("{{\"a\":{{\"kind\":\"dense\",\"method\":\"\",\"certificate\":{deep}}}}}");
    let header = json!({"__metadata__": {"format": brenier_map::FORMAT, "entries": entries}});
    assert!(read(&assembled(&header, &[])).is_err());
    let raw = [&(deep.len() as u64).to_le_bytes(), deep.as_bytes()].concat();
    assert!(read(&raw).is_err());
}

#[test]
fn a_matrix_without_columns_asks_for_no_memory() {
    let file = file_of(vec![
        RowMap::new(Affine::LowRank(LowRank {
            scale: 1.0,
            mean: vec![0.0; 2],
            offset: vec![0.0; 2],
            u: Mat::zeros(2, 0),
            v: Mat::zeros(2, 0),
        }))
        .unwrap(),
    ]);
    let (mut header, data) = taken_apart(&file.to_bytes().unwrap());
    for part in ["u", "v"] {
        header[format!("blocks.0.{part}")]["shape"] = json!([1_u64 << 62, 0]);
    }
    let error = read(&assembled(&header, &data)).unwrap_err();
    assert!(error.to_string().contains("but 2 x 0 was expected"), "{error}");
}
