//! Files of moments: what is written is read to the last bit, and nothing else is.
#![allow(clippy::unwrap_used)]

mod common;

use brenier_files::WriteError;
use brenier_linalg::{Rows, squared_norm};
use brenier_map::{Affine, Diagonal, MapEntry, MapError, MapFile, RowMap};
use brenier_transport::{Covariance, MOMENTS_FORMAT, Moments, MomentsFile, TransportError};
use common::rows;
use faer::Mat;
use proptest::prelude::*;
use safetensors::SafeTensors;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

const NAME: &str = "blocks.5.hook_resid_post";

/// Numbers at which sizes, offsets and products of them go wrong.
const EDGES: [u64; 12] =
    [0, 1, 2, 7, 8, 1 << 31, 1 << 32, 1 << 53, 1 << 60, i64::MAX as u64, u64::MAX - 7, u64::MAX];

fn moments(n: usize, d: usize, cap: usize, seed: u64) -> Moments {
    let mut moments = Moments::new(d, cap).unwrap();
    if n > 0 {
        moments.push(Rows::new(rows(n, d, seed).as_ref()).unwrap()).unwrap();
    }
    moments
}

fn file_of(entries: Vec<Moments>) -> MomentsFile {
    let named = |(i, moments)| (format!("blocks.{i}"), moments);
    MomentsFile {
        entries: entries.into_iter().enumerate().map(named).collect(),
        metadata: BTreeMap::from([("model".to_owned(), "a \"b\"\n".to_owned())]),
    }
}

/// Moments of 40 rows of 6 that lost something.
fn small() -> MomentsFile {
    let moments = moments(40, 6, 2, 1);
    assert!(moments.bound(Covariance::Sample) > 0.0);
    MomentsFile { entries: BTreeMap::from([(NAME.to_owned(), moments)]), metadata: BTreeMap::new() }
}

fn read(bytes: &[u8]) -> Result<MomentsFile, TransportError> {
    MomentsFile::from_bytes(bytes, Path::new("source.moments"))
}

/// An error in one line, or moments that are written and read again and take rows.
fn is_sound(bytes: &[u8]) -> Result<bool, TestCaseError> {
    match read(bytes) {
        Err(error) => {
            let text = error.to_string();
            prop_assert!(!text.chars().any(char::is_control), "{:?}", text);
            prop_assert!(text.starts_with("source.moments: "), "{}", text);
            Ok(false)
        }
        Ok(file) => {
            let written = file.to_bytes().unwrap();
            let again = read(&written).unwrap();
            prop_assert_eq!(&again, &file);
            prop_assert_eq!(again.to_bytes().unwrap(), written);
            for moments in file.entries.values() {
                let mut more = moments.clone();
                more.push(Rows::new(Mat::full(3, more.width(), 1e50).as_ref()).unwrap()).unwrap();
                let _ = more.merge(moments);
                prop_assert!(squared_norm(more.factor(Covariance::Sample).as_ref()).is_finite());
            }
            Ok(true)
        }
    }
}

fn taken_apart(bytes: &[u8]) -> (Value, Vec<u8>) {
    let end = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    (serde_json::from_slice(&bytes[8..end]).unwrap(), bytes[end..].to_vec())
}

fn assembled(header: &Value, data: &[u8]) -> Vec<u8> {
    let header = serde_json::to_vec(header).unwrap();
    [&(header.len() as u64).to_le_bytes(), header.as_slice(), data].concat()
}

/// The file with a tensor's bytes changed.
fn with(part: &str, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let (header, mut data) = taken_apart(&small().to_bytes().unwrap());
    let place = &header[format!("{NAME}.{part}")]["data_offsets"];
    let at = |i: usize| place[i].as_u64().unwrap() as usize;
    change(&mut data[at(0)..at(1)]);
    assembled(&header, &data)
}

fn error(bytes: &[u8]) -> String {
    let error = read(bytes).unwrap_err();
    assert!(matches!(error, TransportError::Map(MapError::Unreadable { .. })), "{error}");
    let text = error.to_string();
    assert!(!text.contains('\n'), "{text}");
    text.strip_prefix("source.moments: not a readable moments file: ").unwrap().to_owned()
}

fn wrong() -> impl Strategy<Value = Value> {
    let edge = || prop::sample::select(EDGES.to_vec());
    prop_oneof![
        4 => edge().prop_map(|x| json!(x)),
        2 => prop::collection::vec(edge(), 0..4).prop_map(|x| json!(x)),
        1 => prop::sample::select(vec!["F64", "F32", "U64", "I64", "BOOL", "none", "a\nb"]).prop_map(|x| json!(x)),
        1 => prop::sample::select(vec![Value::Null, json!(true), json!(-1), json!(1.5), json!(1e300), json!({})]),
    ]
}

fn files() -> impl Strategy<Value = MomentsFile> {
    let one = (0_usize..30, 1_usize..7, 1_usize..9, any::<u64>());
    prop::collection::vec(one.prop_map(|(n, d, cap, seed)| moments(n, d, cap, seed)), 1..4).prop_map(file_of)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_is_written_is_read(file in files()) {
        let bytes = file.to_bytes().unwrap();
        let back = read(&bytes).unwrap();
        prop_assert_eq!(&back, &file);
        // Equal bits too: `==` takes 0 for -0.
        prop_assert_eq!(back.to_bytes().unwrap(), bytes.clone());
        prop_assert!(is_sound(&bytes)?);
    }

    #[test]
    fn noise_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        prop_assert!(!is_sound(&bytes)?);
        let framed = [&(bytes.len() as u64).to_le_bytes(), bytes.as_slice()].concat();
        prop_assert!(!is_sound(&framed)?);
    }

    #[test]
    fn changed_bytes_are_refused_or_other_moments(
        file in files(), changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..9),
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
    fn changed_headers_are_refused_or_other_moments(
        file in files(), which in any::<prop::sample::Index>(),
        field in prop::sample::select(vec!["dtype", "shape", "data_offsets"]),
        value in wrong(), at in prop::option::of(0..2_usize),
    ) {
        let (mut header, data) = taken_apart(&file.to_bytes().unwrap());
        let names: Vec<String> =
            header.as_object().unwrap().keys().filter(|name| *name != "__metadata__").cloned().collect();
        let place = &mut header[&names[which.index(names.len())]][field];
        match at.filter(|&at| place.get(at).is_some()) {
            Some(at) => place[at] = value,
            None => *place = value,
        }
        is_sound(&assembled(&header, &data))?;
    }

    #[test]
    fn numbers_of_any_size_are_refused_or_other_moments(
        part in prop::sample::select(vec!["cap", "count", "mean", "factor", "delta", "removed"]),
        at in any::<prop::sample::Index>(),
        bits in prop_oneof![
            prop::sample::select(EDGES.to_vec()),
            prop::sample::select(vec![-0.0, -1.0, 1e-320, 1e99, 1e101, -1e300, f64::MAX, f64::NAN, f64::INFINITY])
                .prop_map(f64::to_bits),
        ],
    ) {
        is_sound(&with(part, |bytes| {
            let at = at.index(bytes.len() / 8);
            bytes[8 * at..8 * at + 8].copy_from_slice(&bits.to_le_bytes());
        }))?;
    }
}

#[test]
fn a_stream_that_is_broken_off_goes_on_as_if_it_never_were() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("source.moments.safetensors");
    let all = rows(200, 20, 3);
    let (above, below) = all.as_ref().split_at_row(77);
    let mut whole = Moments::new(20, 5).unwrap();
    whole.push(Rows::new(above).unwrap()).unwrap();
    let mut file = small();
    file.entries.insert("other".to_owned(), whole.clone());
    file.metadata.insert("batches".to_owned(), "3".to_owned());
    file.write(&path, false).unwrap();

    let mut back = MomentsFile::read(&path).unwrap();
    assert_eq!(back, file);
    let part = back.entries.get_mut("other").unwrap();
    for moments in [&mut whole, part] {
        moments.push(Rows::new(below).unwrap()).unwrap();
    }
    assert_eq!(back.entries["other"], whole);
    back.write(&path, true).unwrap();
    assert_eq!(MomentsFile::read(&path).unwrap().entries["other"], whole);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "a temporary file is left behind");
}

#[test]
fn a_file_is_not_overwritten_unless_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m");
    std::fs::write(&path, b"precious").unwrap();
    let error = small().write(&path, false).unwrap_err();
    assert!(matches!(error, TransportError::Write(WriteError::Exists { .. })), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    let mut reserved = small();
    reserved.metadata.insert("entries".to_owned(), "x".to_owned());
    assert!(matches!(reserved.write(&path, true), Err(TransportError::Map(MapError::ReservedKey { .. }))));
    let none = MomentsFile::default().write(&path, true).unwrap_err();
    assert_eq!(none.to_string(), "cannot lay out the moments file: it holds no moments");
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
}

#[test]
fn the_layout_is_as_documented() {
    let bytes = small().to_bytes().unwrap();
    let (header, _) = taken_apart(&bytes);
    assert_eq!(header["__metadata__"], json!({"entries": format!("[\"{NAME}\"]"), "format": MOMENTS_FORMAT}));
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut found: Vec<_> = tensors
        .iter()
        .map(|(name, view)| {
            (
                name.strip_prefix(NAME).unwrap().to_owned(),
                format!("{:?}", view.dtype()),
                view.shape().to_vec(),
            )
        })
        .collect();
    found.sort();
    let r = small().entries[NAME].factor(Covariance::Sample).nrows();
    let expected: [(&str, &str, &[usize]); 6] = [
        (".cap", "U64", &[]),
        (".count", "U64", &[]),
        (".delta", "F64", &[]),
        (".factor", "F64", &[r, 6]),
        (".mean", "F64", &[6]),
        (".removed", "F64", &[]),
    ];
    assert_eq!(
        found,
        expected.map(|(name, dtype, shape)| (name.to_owned(), dtype.to_owned(), shape.to_vec()))
    );
    assert_eq!(tensors.tensor(&format!("{NAME}.count")).unwrap().data(), 40_u64.to_le_bytes());
    // Row after row.
    let factor = tensors.tensor(&format!("{NAME}.factor")).unwrap();
    let second = f64::from_le_bytes(factor.data()[8..16].try_into().unwrap());
    assert_eq!(second / 39_f64.sqrt(), small().entries[NAME].factor(Covariance::Sample)[(0, 1)]);
}

#[test]
fn what_no_stream_leaves_behind_is_named() {
    let count = |value: u64| move |bytes: &mut [u8]| bytes.copy_from_slice(&value.to_le_bytes());
    let number = |value: f64| move |bytes: &mut [u8]| bytes[..8].copy_from_slice(&value.to_le_bytes());
    for (bytes, what) in [
        (with("mean", number(f64::NAN)), "moments: mean, column 0 (counted from 0), is NaN"),
        (
            with("factor", number(f64::NEG_INFINITY)),
            "moments: factor row 0, column 0 (counted from 0), is -inf",
        ),
        (with("delta", number(-1.0)), "moments: delta is -1, but"),
        (with("removed", number(f64::NAN)), "moments: the trace removed is NaN"),
        (with("removed", number(0.0)), "moments: the trace removed is 0, but"),
        (with("count", count(2)), "moments: the number of factor rows is"),
        (with("count", count(5)), "moments: delta is"),
        (with("cap", count(0)), "a cap of 0 rows"),
        (with("cap", count(6)), "moments: delta is"),
    ] {
        let text = error(&bytes);
        assert!(text.starts_with(&format!("entry `{NAME}`: {what}")), "{text}");
    }
}

#[test]
fn tensors_that_make_no_moments_are_named() {
    let bytes = small().to_bytes().unwrap();
    let change = |change: &dyn Fn(&mut Value)| {
        let (mut header, data) = taken_apart(&bytes);
        change(&mut header);
        error(&assembled(&header, &data))
    };
    let part = |part: &str| format!("{NAME}.{part}");
    let (header, data) = taken_apart(&bytes);
    let r = header[part("factor")]["shape"][0].as_u64().unwrap();

    let text = change(&|h| h[part("count")]["dtype"] = json!("F64"));
    assert_eq!(text, format!("entry `{NAME}`: tensor `{NAME}.count` is F64, but U64 was expected"));
    let text = change(&|h| h[part("mean")]["dtype"] = json!("U64"));
    assert!(text.contains("mean` is U64, but F64 was expected"), "{text}");
    let text = change(&|h| h[part("factor")]["shape"] = json!([6, r]));
    assert!(r != 6 && text.contains(&format!("`factor` is 6 x {r}, but 6 x 6 was expected")), "{text}");
    let text = change(&|h| h[part("factor")]["shape"] = json!([6 * r]));
    assert!(text.contains("`factor` is of length"), "{text}");
    let text = change(&|h| h[part("mean")]["shape"] = json!([2, 3]));
    assert!(text.contains("`mean` has 2 axes"), "{text}");
    let text = change(&|h| h[part("delta")]["shape"] = json!([1]));
    assert!(text.contains("`delta` is of length 1, but a number was expected"), "{text}");
    let text = change(&|h| h["__metadata__"]["entries"] = json!("[]"));
    assert_eq!(text, "it holds no moments");
    let text = change(&|h| h["__metadata__"]["entries"] = json!("[\"blocks.6\"]"));
    assert!(text.contains("tensor `blocks.6.cap` is missing"), "{text}");
    let text = change(&|h| h["__metadata__"]["entries"] = json!("{}"));
    assert!(text.contains("`entries` of its metadata"), "{text}");
    for len in 0..bytes.len() {
        assert!(error(&bytes[..len]).contains("it is truncated"));
    }
    let more = {
        let mut header = header;
        header[part("more")] =
            json!({"dtype": "F64", "shape": [1], "data_offsets": [data.len(), data.len() + 8]});
        assembled(&header, &[data.as_slice(), &[0; 8]].concat())
    };
    assert_eq!(error(&more), format!("tensor `{NAME}.more` is no part of its moments entries"));
}

#[test]
fn other_versions_and_other_files_are_told_apart() {
    let (mut header, data) = taken_apart(&small().to_bytes().unwrap());
    header["__metadata__"]["format"] = json!("brenier.moments/2");
    let newer = read(&assembled(&header, &data)).unwrap_err();
    assert!(matches!(newer, TransportError::Map(MapError::Version { .. })));
    assert!(
        newer.to_string().contains(
            "the moments file has format `brenier.moments/2`, but this program reads `brenier.moments/1`"
        ),
        "{newer}"
    );

    let map = Diagonal { weight: vec![2.0], bias: vec![0.0], range: None };
    let map = RowMap::new(Affine::Diagonal(map)).unwrap();
    let entry = MapEntry { map, certificate: json!({}), method: "x".to_owned() };
    let maps = MapFile { entries: BTreeMap::from([(NAME.to_owned(), entry)]), metadata: BTreeMap::new() };
    assert_eq!(error(&maps.to_bytes().unwrap()), "its format is `brenier.map/1`, not `brenier.moments/1`");
    let moments = small().to_bytes().unwrap();
    let other = MapFile::from_bytes(&moments, Path::new("m")).unwrap_err().to_string();
    assert_eq!(other, "m: not a readable map file: its format is `brenier.moments/1`, not `brenier.map/1`");
}
